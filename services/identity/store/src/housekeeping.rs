//! What operators watch, what is thrown away, and the database's clock.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, DbBackend, EntityTrait as _, FromQueryResult,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Statement,
};
use usher_core::delivery::DeliveryStateName;
use usher_core::ports::{Backlog, StoreError};

use crate::SeaStore;
use crate::entity::{outbox, timer};
use crate::error::{store_error, unreadable};
use crate::load::UNSETTLED;
use crate::sql::Sql;

#[derive(FromQueryResult)]
struct StateCount {
    state: String,
    count: i64,
}

/// How much waits.
pub(crate) async fn backlog(store: &SeaStore, now: DateTime<Utc>) -> Result<Backlog, StoreError> {
    let unpublished = outbox::Entity::find().filter(outbox::Column::PublishedAt.is_null());
    let depth = unpublished.clone().count(&store.reader).await.map_err(store_error)?;
    let oldest: Option<DateTime<Utc>> = unpublished
        .select_only()
        .column(outbox::Column::OccurredAt)
        .order_by_asc(outbox::Column::Sequence)
        .into_tuple()
        .one(&store.reader)
        .await
        .map_err(store_error)?;
    let overdue = timer::Entity::find()
        .filter(timer::Column::DueAt.lte(now))
        .count(&store.reader)
        .await
        .map_err(store_error)?;
    let text = format!("SELECT state, COUNT(*) AS count FROM deliveries WHERE {UNSETTLED} GROUP BY state");
    let states = StateCount::find_by_statement(Statement::from_string(store.backend, text))
        .all(&store.reader)
        .await
        .map_err(store_error)?;
    let deliveries = states
        .into_iter()
        .map(|row| match DeliveryStateName::from_name(&row.state) {
            Some(state) => Ok((state, row.count)),
            None => Err(unreadable("the delivery's state", row.state)),
        })
        .collect::<Result<_, StoreError>>()?;
    let age = oldest.map_or(0.0, |oldest| (now - oldest).as_seconds_f64().max(0.0));
    Ok(Backlog {
        outbox_depth: i64::try_from(depth).unwrap_or(i64::MAX),
        outbox_age_seconds: age,
        timers_overdue: i64::try_from(overdue).unwrap_or(i64::MAX),
        deliveries,
    })
}

/// Deletes from the beginning of the outbox, up to the first event that is to be kept: so one number tells a follower
/// whether it missed something.
pub(crate) async fn prune_events(store: &SeaStore, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
    let oldest: Vec<(i64, DateTime<Utc>, Option<DateTime<Utc>>)> = outbox::Entity::find()
        .select_only()
        .columns([
            outbox::Column::Sequence,
            outbox::Column::OccurredAt,
            outbox::Column::PublishedAt,
        ])
        .order_by_asc(outbox::Column::Sequence)
        .limit(u64::from(limit))
        .into_tuple()
        .all(&store.reader)
        .await
        .map_err(store_error)?;
    let last = oldest
        .into_iter()
        .take_while(|(_, at, published)| *at < before && published.is_some())
        .last();
    let Some((last, ..)) = last else { return Ok(0) };
    let txn = store.transaction().await?;
    let deleted = outbox::Entity::delete_many()
        .filter(outbox::Column::Sequence.lte(last))
        .filter(outbox::Column::PublishedAt.is_not_null())
        .exec(&txn)
        .await
        .map_err(store_error)?;
    let mut sql = Sql::new(store.backend, "UPDATE outbox_pruned SET sequence = ");
    sql.bind(last).push(" WHERE sequence < ").bind(last);
    store.execute_in(&txn, sql).await?;
    txn.commit().await.map_err(store_error)?;
    Ok(deleted.rows_affected)
}

/// Deletes stored answers.
pub(crate) async fn prune_responses(store: &SeaStore, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
    let mut sql = Sql::new(
        store.backend,
        "DELETE FROM responses WHERE (tenant_id, request_id) IN \
         (SELECT tenant_id, request_id FROM responses WHERE created_at < ",
    );
    sql.bind(before)
        .push(" ORDER BY created_at LIMIT ")
        .bind(i64::from(limit))
        .push(")");
    let deleted = store.writer.execute_raw(sql.into_statement()).await;
    Ok(deleted.map_err(store_error)?.rows_affected())
}

#[derive(FromQueryResult)]
struct Now {
    now: DateTime<Utc>,
}

/// The database's clock. SQLite's is the host's, in milliseconds.
pub(crate) async fn now(store: &SeaStore) -> Result<DateTime<Utc>, StoreError> {
    let text = match store.backend {
        DbBackend::Postgres => "SELECT clock_timestamp() AS now",
        _ => "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now') AS now",
    };
    let row = Now::find_by_statement(Statement::from_string(store.backend, text))
        .one(&store.reader)
        .await
        .map_err(store_error)?;
    row.map(|row| row.now)
        .ok_or_else(|| StoreError::Internal("a SELECT without FROM has no row".into()))
}

impl SeaStore {
    /// Runs a statement by itself.
    pub(crate) async fn execute(&self, sql: Sql) -> Result<(), StoreError> {
        self.writer
            .execute_raw(sql.into_statement())
            .await
            .map_err(store_error)?;
        Ok(())
    }

    /// Runs a statement within a transaction.
    pub(crate) async fn execute_in(&self, txn: &DatabaseTransaction, sql: Sql) -> Result<(), StoreError> {
        txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
        Ok(())
    }
}
