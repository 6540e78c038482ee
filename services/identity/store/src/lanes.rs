//! Who publishes which lane of the outbox.
//!
//! Each owner renews its lanes and takes as many free ones as make its fair share, counting every owner that was seen
//! lately, also one that has none yet; what it has beyond its share it gives back. All owners go through the 64 rows one
//! after the other, so no lane has two.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, FromQueryResult, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use usher_core::ports::{LaneLease, StoreError};

use crate::SeaStore;
use crate::entity::lane;
use crate::error::store_error;
use crate::sql::Sql;

/// Renews, takes and gives back.
pub(crate) async fn lease(
    store: &SeaStore,
    owner: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<LaneLease, StoreError> {
    use sea_orm::sea_query::ExprTrait as _;

    let txn = store.transaction().await?;
    let lanes = lane::Entity::find()
        .order_by_asc(lane::Column::Lane)
        .lock_exclusive()
        .all(&txn)
        .await
        .map_err(store_error)?;
    let plan = Plan::new(&lanes, owner, now, live_owners(store, &txn, owner, now, until).await?);
    for (lanes, new_owner, step) in [
        (&plan.kept, Some(owner), 0),
        (&plan.taken, Some(owner), 1),
        (&plan.given, None, 0),
    ] {
        if lanes.is_empty() {
            continue;
        }
        lane::Entity::update_many()
            .col_expr(lane::Column::Owner, Expr::val(new_owner))
            .col_expr(lane::Column::Epoch, Expr::col(lane::Column::Epoch).add(i64::from(step)))
            .col_expr(lane::Column::LeaseUntil, Expr::val(new_owner.map(|_| until)))
            .filter(lane::Column::Lane.is_in(lanes.iter().copied()))
            .exec(&txn)
            .await
            .map_err(store_error)?;
    }
    txn.commit().await.map_err(store_error)?;
    Ok(plan.into_lease(&lanes, until))
}

/// Gives everything back, and counts no more.
pub(crate) async fn release(store: &SeaStore, owner: &str) -> Result<(), StoreError> {
    let txn = store.transaction().await?;
    lane::Entity::update_many()
        .col_expr(lane::Column::Owner, Expr::val(None::<String>))
        .col_expr(lane::Column::LeaseUntil, Expr::val(None::<DateTime<Utc>>))
        .filter(lane::Column::Owner.eq(owner))
        .exec(&txn)
        .await
        .map_err(store_error)?;
    let mut sql = Sql::new(store.backend, "DELETE FROM outbox_owners WHERE owner = ");
    sql.bind(owner);
    store.execute_in(&txn, sql).await?;
    txn.commit().await.map_err(store_error)
}

#[derive(FromQueryResult)]
struct Count {
    count: i64,
}

async fn live_owners(
    store: &SeaStore,
    txn: &DatabaseTransaction,
    owner: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let mut seen = Sql::new(store.backend, "INSERT INTO outbox_owners (owner, seen_until) VALUES (");
    seen.bind(owner)
        .push(", ")
        .bind(until)
        .push(") ON CONFLICT (owner) DO UPDATE SET seen_until = excluded.seen_until");
    store.execute_in(txn, seen).await?;
    let mut gone = Sql::new(store.backend, "DELETE FROM outbox_owners WHERE seen_until <= ");
    gone.bind(now);
    store.execute_in(txn, gone).await?;
    let live = Sql::new(store.backend, "SELECT COUNT(*) AS count FROM outbox_owners");
    let count = Count::find_by_statement(live.into_statement()).one(txn).await;
    Ok(count.map_err(store_error)?.map_or(1, |row| row.count))
}

/// What an owner keeps, takes and gives back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    kept: Vec<i16>,
    taken: Vec<i16>,
    given: Vec<i16>,
}

impl Plan {
    fn new(lanes: &[lane::Model], owner: &str, now: DateTime<Utc>, live_owners: i64) -> Self {
        let live_owners = usize::try_from(live_owners).unwrap_or(1).max(1);
        let share = lanes.len().div_ceil(live_owners);
        let is_mine = |lane: &&lane::Model| lane.owner.as_deref() == Some(owner);
        let mut kept: Vec<i16> = lanes.iter().filter(is_mine).map(|lane| lane.lane).collect();
        let given = kept.split_off(kept.len().min(share));
        let taken = lanes
            .iter()
            .filter(|lane| !is_mine(lane) && lane.lease_until.is_none_or(|until| until <= now))
            .take(share - kept.len())
            .map(|lane| lane.lane)
            .collect();
        Self { kept, taken, given }
    }

    fn into_lease(self, before: &[lane::Model], until: DateTime<Utc>) -> LaneLease {
        let mut epochs: BTreeMap<i16, i64> = BTreeMap::new();
        for lane in before {
            if self.kept.contains(&lane.lane) {
                epochs.insert(lane.lane, lane.epoch);
            } else if self.taken.contains(&lane.lane) {
                epochs.insert(lane.lane, lane.epoch + 1);
            }
        }
        LaneLease {
            lanes: epochs.keys().copied().collect(),
            epochs,
            until,
        }
    }
}

#[cfg(test)]
mod tests {
    use usher_core::event::LANES;

    use super::*;

    fn lanes(owner_of: impl Fn(i16) -> Option<&'static str>) -> Vec<lane::Model> {
        (0..LANES)
            .map(|lane| lane::Model {
                lane,
                owner: owner_of(lane).map(str::to_owned),
                epoch: 3,
                lease_until: owner_of(lane).map(|_| DateTime::from_timestamp(100, 0).unwrap()),
            })
            .collect()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn an_owner_alone_takes_all_and_one_of_three_takes_its_share() {
        assert_eq!(Plan::new(&lanes(|_| None), "a", at(50), 1).taken.len(), 64);
        assert_eq!(Plan::new(&lanes(|_| None), "a", at(50), 3).taken.len(), 22);
    }

    #[test]
    fn what_is_beyond_the_share_is_given_back() {
        let plan = Plan::new(&lanes(|_| Some("a")), "a", at(50), 2);
        assert_eq!((plan.kept.len(), plan.given.len(), plan.taken.len()), (32, 32, 0));
    }

    #[test]
    fn a_lane_of_another_is_taken_only_when_its_lease_has_ended() {
        assert_eq!(Plan::new(&lanes(|_| Some("b")), "a", at(99), 1).taken.len(), 0);
        let plan = Plan::new(&lanes(|_| Some("b")), "a", at(100), 1);
        assert_eq!(plan.taken.len(), 64);
        assert_eq!(plan.into_lease(&lanes(|_| Some("b")), at(200)).epochs[&0], 4);
    }
}
