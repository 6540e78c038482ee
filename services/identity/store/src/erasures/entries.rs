//! Entries of the audit log that are about nobody in particular, and yet tell of somebody: of jobs about nobody else, and those whose
//! texts name them (B14). Those about the person themselves are found by their id: see `AuditLog::redact_audit`.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait as _, FromQueryResult};
use usher_core::audit::AuditKeys;
use usher_core::ids::AuditId;
use usher_core::ports::StoreError;
use uuid::Uuid;

use super::traces::{Counts, Sweep, count};
use crate::error::store_error;
use crate::sql::Sql;

/// Entries that are read at a time.
const ENTRIES: i64 = 1_000;

#[derive(FromQueryResult)]
struct Entry {
    audit_id: Uuid,
    job_id: Option<Uuid>,
    reason: String,
    request_id: String,
    details: Option<String>,
}

#[derive(FromQueryResult)]
struct OfJob {
    job_id: Uuid,
}

/// Adds the jobs that were about one of these people only, as the log has it: it is kept for longer than jobs are.
pub(super) async fn add_jobs(sweep: &Sweep<'_>, jobs: &mut BTreeMap<Uuid, BTreeSet<usize>>) -> Result<(), StoreError> {
    for whose in 0..sweep.erasures.len() {
        for job in about_nobody_else(sweep, whose).await? {
            jobs.entry(job).or_default().insert(whose);
        }
    }
    Ok(())
}

/// `jobs`: about whom they are.
pub(super) async fn redact(
    sweep: &Sweep<'_>,
    jobs: &BTreeMap<Uuid, BTreeSet<usize>>,
    keys: &AuditKeys,
) -> Result<(), StoreError> {
    let mut after = Uuid::nil();
    loop {
        // The index `audit_of_nobody` is in these words.
        let mut sql = Sql::new(
            sweep.store.backend,
            "SELECT audit_id, job_id, reason, request_id, details FROM audit \
             WHERE subject_id IS NULL AND redacted_by IS NULL AND tenant_id = ",
        );
        sql.bind(sweep.tenant.0).push(" AND audit_id > ").bind(after);
        sql.push(" ORDER BY audit_id LIMIT ").bind(ENTRIES);
        let rows = Entry::find_by_statement(sql.into_statement())
            .all(&sweep.store.reader)
            .await
            .map_err(store_error)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.audit_id;
        for row in &rows {
            let mut whom = row.job_id.and_then(|job| jobs.get(&job)).cloned().unwrap_or_default();
            whom.extend(sweep.finder.in_words(&row.reason));
            for text in [Some(&row.request_id), row.details.as_ref()].into_iter().flatten() {
                whom.extend(sweep.finder.in_report(text));
            }
            redact_one(sweep, row.audit_id, whom, keys).await?;
        }
    }
}

/// The jobs that changed this account and no other.
async fn about_nobody_else(sweep: &Sweep<'_>, whose: usize) -> Result<Vec<Uuid>, StoreError> {
    let user = sweep.erasures[whose].user.0;
    let mut sql = Sql::new(
        sweep.store.backend,
        "SELECT DISTINCT a.job_id FROM audit a WHERE a.job_id IS NOT NULL AND a.tenant_id = ",
    );
    sql.bind(sweep.tenant.0).push(" AND a.subject_id = ").bind(user).push(
        " AND NOT EXISTS (SELECT 1 FROM audit o WHERE o.tenant_id = a.tenant_id AND o.job_id = a.job_id \
         AND o.subject_id IS NOT NULL AND o.subject_id <> a.subject_id)",
    );
    let rows = OfJob::find_by_statement(sql.into_statement())
        .all(&sweep.store.reader)
        .await;
    Ok(rows.map_err(store_error)?.into_iter().map(|row| row.job_id).collect())
}

async fn redact_one(sweep: &Sweep<'_>, entry: Uuid, whom: BTreeSet<usize>, keys: &AuditKeys) -> Result<(), StoreError> {
    let Some(first) = whom.first() else { return Ok(()) };
    let erasure = sweep.erasures[*first].id.0;
    let mut sql = Sql::new(
        sweep.store.backend,
        "UPDATE audit SET reason = '', request_id = '', details = NULL, salt = NULL, redacted_by = ",
    );
    sql.bind(erasure)
        .push(", redaction = ")
        .bind(keys.redaction_of_entry(sweep.tenant, AuditId(entry), erasure))
        .push(" WHERE redacted_by IS NULL AND tenant_id = ")
        .bind(sweep.tenant.0)
        .push(" AND audit_id = ")
        .bind(entry);
    let txn = sweep.store.transaction().await?;
    let done = txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
    if done.rows_affected() > 0 {
        let mut counts = Counts::new();
        count(&mut counts, whom);
        sweep.count(&txn, "audit", &counts).await?;
    }
    txn.commit().await.map_err(store_error)
}
