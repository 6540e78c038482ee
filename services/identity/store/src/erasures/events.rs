//! Events about nobody in particular that carry somebody's words about a person: of jobs about that person only, and those whose
//! words name them. Events about the person themselves are found by their id.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait as _, DbBackend, FromQueryResult};
use usher_core::ports::StoreError;
use uuid::Uuid;

use super::traces::{Counts, Sweep, count};
use crate::entity::outbox;
use crate::error::store_error;
use crate::sql::Sql;

/// Events that are read at a time.
const EVENTS: i64 = 1_000;

#[derive(FromQueryResult)]
struct Row {
    sequence: i64,
    body: String,
}

/// Whether an event has a caller's words: as the partial indexes on the outbox have it.
pub(super) const WITH_WORDS: &str = "(body LIKE '%\"reason\":%' OR body LIKE '%\"request_id\":%')";

/// What a caller says in an event.
pub(super) const WORDS: &[&str] = &["reason", "request_id"];

/// Takes fields out of the body of an event.
pub(super) fn without(backend: DbBackend, fields: &[&str]) -> String {
    if backend == DbBackend::Postgres {
        format!("body = (body::jsonb - '{{{}}}'::text[])::text", fields.join(","))
    } else {
        format!("body = json_remove(body, '$.{}')", fields.join("', '$."))
    }
}

/// `jobs`: about whom they are.
pub(super) async fn redact(sweep: &Sweep<'_>, jobs: &BTreeMap<Uuid, BTreeSet<usize>>) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        // The index `outbox_of_nobody_with_words` is in these words.
        let mut sql = Sql::new(
            sweep.store.backend,
            "SELECT sequence, body FROM outbox WHERE user_id IS NULL AND ",
        );
        sql.push(WITH_WORDS)
            .push(" AND tenant_id = ")
            .bind(sweep.tenant.0)
            .push(" AND sequence > ")
            .bind(after);
        sql.push(" ORDER BY sequence LIMIT ").bind(EVENTS);
        let rows = Row::find_by_statement(sql.into_statement())
            .all(&sweep.store.reader)
            .await
            .map_err(store_error)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.sequence;
        for row in &rows {
            let event = outbox::decode(&row.body)?;
            let mut whom = event.job.and_then(|job| jobs.get(&job.0)).cloned().unwrap_or_default();
            whom.extend(sweep.finder.in_words(&event.reason));
            whom.extend(sweep.finder.in_report(&event.request_id));
            if !whom.is_empty() {
                redact_one(sweep, row.sequence, whom).await?;
            }
        }
    }
}

async fn redact_one(sweep: &Sweep<'_>, sequence: i64, whom: BTreeSet<usize>) -> Result<(), StoreError> {
    let backend = sweep.store.backend;
    let mut sql = Sql::new(backend, format!("UPDATE outbox SET {}", without(backend, WORDS)));
    sql.push(" WHERE ")
        .push(WITH_WORDS)
        .push(" AND sequence = ")
        .bind(sequence);
    let txn = sweep.store.transaction().await?;
    let done = txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
    if done.rows_affected() > 0 {
        let mut counts = Counts::new();
        count(&mut counts, whom);
        sweep.count(&txn, "outbox", &counts).await?;
    }
    txn.commit().await.map_err(store_error)
}
