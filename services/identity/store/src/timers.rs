//! Taking what is due. Replicas sweep at the same time: on PostgreSQL each skips the rows that another one is taking
//! (`SKIP LOCKED`, which sea-orm cannot put below an `UPDATE`); on SQLite they take turns.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use usher_core::ports::{Backlog, StoreError, Timers};
use usher_core::timer::{Timer, refire_pause};

use crate::bulk::{OnConflict, insert};
use crate::entity::timer;
use crate::error::store_error;
use crate::sql::Sql;
use crate::{SeaStore, housekeeping};

#[async_trait]
impl Timers for SeaStore {
    #[tracing::instrument(name = "db.take_due", level = "debug", skip_all, err(level = "debug"))]
    async fn take_due(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<Timer>, StoreError> {
        let rows = match self.backend {
            DbBackend::Postgres => self.take_skipping_locked(now, limit).await?,
            _ => self.take_in_turn(now, limit).await?,
        };
        let mut timers = rows
            .into_iter()
            .map(Timer::try_from)
            .collect::<Result<Vec<_>, StoreError>>()?;
        timers.sort_by_key(|timer| timer.due_at);
        Ok(timers)
    }

    async fn next_due(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let next: Option<DateTime<Utc>> = timer::Entity::find()
            .select_only()
            .column(timer::Column::DueAt)
            .order_by_asc(timer::Column::DueAt)
            .into_tuple()
            .one(&self.reader)
            .await
            .map_err(store_error)?;
        Ok(next)
    }

    async fn backlog(&self, now: DateTime<Utc>) -> Result<Backlog, StoreError> {
        housekeeping::backlog(self, now).await
    }

    async fn prune(
        &self,
        events_before: DateTime<Utc>,
        responses_before: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let events = housekeeping::prune_events(self, events_before, limit).await?;
        Ok(events + housekeeping::prune_responses(self, responses_before, limit).await?)
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        housekeeping::now(self).await
    }
}

impl SeaStore {
    async fn take_skipping_locked(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<timer::Model>, StoreError> {
        // The pause is `refire_pause`: 1 minute, doubling to 1 hour.
        let mut sql = Sql::new(
            self.backend,
            "UPDATE timers t SET fired = t.fired + 1, \
             due_at = d.now + make_interval(mins => LEAST(60, 1 << LEAST(GREATEST(t.fired, 0), 6))) \
             FROM (SELECT tenant_id, kind, subject, due_at, fired, ",
        );
        sql.bind(now)
            .push("::timestamptz AS now FROM timers WHERE due_at <= ")
            .bind(now)
            .push(" ORDER BY due_at LIMIT ")
            .bind(i64::from(limit))
            .push(
                " FOR UPDATE SKIP LOCKED) d \
                 WHERE t.tenant_id = d.tenant_id AND t.kind = d.kind AND t.subject = d.subject \
                 RETURNING t.tenant_id, t.kind, t.subject, t.user_id, d.due_at, d.fired",
            );
        let rows = timer::Entity::find()
            .from_raw_sql(sql.into_statement())
            .all(&self.writer)
            .await;
        rows.map_err(store_error)
    }

    async fn take_in_turn(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<timer::Model>, StoreError> {
        let txn = self.transaction().await?;
        let due = timer::Entity::find()
            .filter(timer::Column::DueAt.lte(now))
            .order_by_asc(timer::Column::DueAt)
            .limit(u64::from(limit))
            .all(&txn)
            .await
            .map_err(store_error)?;
        let put_off: Vec<timer::Model> = due
            .iter()
            .map(|timer| timer::Model {
                due_at: now + refire_pause(timer.fired),
                fired: timer.fired + 1,
                ..timer.clone()
            })
            .collect();
        for sql in insert::<timer::Entity>(self.backend, &put_off, &[], OnConflict::Replace) {
            txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
        }
        txn.commit().await.map_err(store_error)?;
        Ok(due)
    }
}
