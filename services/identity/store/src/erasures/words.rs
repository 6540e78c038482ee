//! Somebody's words about a person in rows about others: the reason with which one account was deactivated may name another. Of
//! all such rows the reasons are read, each once: an index leads from one to the next, however many rows share it. A row that has
//! one keeps the rest: it is about somebody else.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait as _, DbBackend, FromQueryResult, Value};
use usher_core::audit::{AuditKeys, AuditRow};
use usher_core::ports::StoreError;
use uuid::Uuid;

use super::events;
use super::traces::{Counts, Sweep};
use crate::audit;
use crate::error::store_error;
use crate::sql::Sql;

/// Reasons that are read at a time.
const REASONS: i64 = 500;
/// Rows that are rewritten in one transaction.
const ROWS: u32 = 500;

#[derive(FromQueryResult)]
struct Found {
    reason: String,
}

/// Where reasons stand, in the words of the indexes `audit_reasons`, `history_reasons` and `outbox_reasons`.
struct Place {
    table: &'static str,
    reason: &'static str,
    has_one: &'static str,
}

impl Place {
    fn events(table: &'static str, backend: DbBackend) -> Self {
        Self {
            table,
            reason: if backend == DbBackend::Postgres {
                "(body::jsonb ->> 'reason')"
            } else {
                "json_extract(body, '$.reason')"
            },
            has_one: "body LIKE '%\"reason\":%'",
        }
    }

    const AUDIT: Self = Self {
        table: "audit",
        reason: "reason",
        has_one: "reason <> ''",
    };
}

pub(super) async fn redact(sweep: &Sweep<'_>, keys: &AuditKeys) -> Result<(), StoreError> {
    for table in ["history", "outbox"] {
        let place = Place::events(table, sweep.store.backend);
        for (reason, whom) in naming(sweep, &place).await? {
            while in_events(sweep, &place, &reason, &whom).await? {}
        }
    }
    for (reason, whom) in naming(sweep, &Place::AUDIT).await? {
        while in_entries(sweep, &reason, &whom, keys).await? {}
    }
    Ok(())
}

/// The reasons that name somebody, and whom.
async fn naming(sweep: &Sweep<'_>, place: &Place) -> Result<Vec<(String, BTreeSet<usize>)>, StoreError> {
    let mut naming = Vec::new();
    let mut after = String::new();
    loop {
        let reasons = after_that(sweep, place, &after).await?;
        let Some(last) = reasons.last() else { return Ok(naming) };
        after.clone_from(&last.reason);
        for Found { reason } in reasons {
            let whom = sweep.finder.in_words(&reason);
            if !whom.is_empty() {
                naming.push((reason, whom));
            }
        }
    }
}

/// The next reasons: from one to the next, however many rows each has.
async fn after_that(sweep: &Sweep<'_>, place: &Place, after: &str) -> Result<Vec<Found>, StoreError> {
    let Place { table, reason, has_one } = place;
    let next = format!("SELECT {reason} AS reason FROM {table} WHERE {has_one} AND {reason} > ");
    let mut sql = Sql::new(sweep.store.backend, "WITH RECURSIVE found (reason) AS (SELECT * FROM (");
    sql.push(&next)
        .bind(after)
        .push(" AND tenant_id = ")
        .bind(sweep.tenant.0);
    sql.push(&format!(" ORDER BY {reason} LIMIT 1) one UNION ALL SELECT ({next}"));
    sql.push("found.reason AND tenant_id = ").bind(sweep.tenant.0);
    sql.push(&format!(
        " ORDER BY {reason} LIMIT 1) FROM found WHERE found.reason IS NOT NULL) \
         SELECT reason FROM found WHERE reason IS NOT NULL LIMIT "
    ));
    sql.bind(REASONS);
    Found::find_by_statement(sql.into_statement())
        .all(&sweep.store.reader)
        .await
        .map_err(store_error)
}

/// Takes a reason out of some events; answers whether there may be more.
async fn in_events(sweep: &Sweep<'_>, place: &Place, words: &str, whom: &BTreeSet<usize>) -> Result<bool, StoreError> {
    let Place { table, reason, has_one } = place;
    let backend = sweep.store.backend;
    let without = events::without(backend, &["reason"]);
    let mut sql = Sql::new(backend, format!("UPDATE {table} SET {without} WHERE sequence IN "));
    sql.push(&format!(
        "(SELECT sequence FROM {table} WHERE {has_one} AND {reason} = "
    ))
    .bind(words)
    .push(" AND tenant_id = ")
    .bind(sweep.tenant.0)
    .push(" LIMIT ")
    .bind(i64::from(ROWS))
    .push(")");
    let txn = sweep.store.transaction().await?;
    let done = txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
    let rows = done.rows_affected();
    sweep.count(&txn, table, &counts(whom, rows)).await?;
    txn.commit().await.map_err(store_error)?;
    Ok(rows >= u64::from(ROWS))
}

/// Takes a reason out of some entries of the audit log; answers whether there may be more.
async fn in_entries(
    sweep: &Sweep<'_>,
    words: &str,
    whom: &BTreeSet<usize>,
    keys: &AuditKeys,
) -> Result<bool, StoreError> {
    let Some(first) = whom.first() else { return Ok(false) };
    let erasure = sweep.erasures[*first].id.0;
    let rows = audit::with_reason(sweep.store, sweep.tenant, words, ROWS).await?;
    let txn = sweep.store.transaction().await?;
    let mut done = 0;
    for row in &rows {
        let taken = txn
            .execute_raw(without_words(sweep, row, erasure, keys).into_statement())
            .await;
        done += taken.map_err(store_error)?.rows_affected();
    }
    sweep.count(&txn, "audit", &counts(whom, done)).await?;
    txn.commit().await.map_err(store_error)?;
    Ok(rows.len() >= usize::try_from(ROWS).unwrap_or(usize::MAX) && done > 0)
}

/// A row that was tampered with gets no proof: it is found as before.
fn without_words(sweep: &Sweep<'_>, row: &AuditRow, erasure: Uuid, keys: &AuditKeys) -> Sql {
    let proof = keys.redaction_of_words(row, erasure).unwrap_or_default();
    let mut sql = Sql::new(
        sweep.store.backend,
        "UPDATE audit SET reason = '', salt = NULL, redacted_by = ",
    );
    sql.bind(erasure).push(", redaction = ").bind(proof);
    sql.push(" WHERE reason = ").bind(Value::from(row.reason.as_str()));
    sql.push(" AND tenant_id = ").bind(sweep.tenant.0);
    sql.push(" AND audit_id = ").bind(row.id.0);
    sql
}

fn counts(whom: &BTreeSet<usize>, rows: u64) -> Counts {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let whom = whom.iter().filter(|_| rows > 0);
    whom.map(|whose| (*whose, rows)).collect()
}
