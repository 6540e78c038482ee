//! The traces that somebody left outside of the account. Whatever holds one is rewritten in a short transaction of its own, which
//! counts it in the erasure: broken off, the next try goes on where this one was.
//!
//! Order matters. What waits in a job is rewritten before reports are looked at, and the job's revision rises with it: a chunk
//! that was read before is not dealt with any more, so that no report of it comes later.

use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbBackend, EntityTrait, FromQueryResult, Value};
use usher_core::audit::AuditKeys;
use usher_core::email::EmailAddress;
use usher_core::erasure::{Erasure, ErasureState};
use usher_core::ids::{ErasureId, TenantId};
use usher_core::job::{ItemInput, ItemResult, JobAction};
use usher_core::ports::StoreError;
use uuid::Uuid;

use super::finder::Finder;
use super::{entries, events, words};
use crate::SeaStore;
use crate::entity::{erasure, job, job_chunk, response, selection_chunk};
use crate::error::{store_error, unreadable};
use crate::sql::{Sql, columns_of};

/// Chunks of jobs that are read at a time: some hundred kilobytes each.
const CHUNKS: i64 = 16;
/// Answers that are read at a time.
const ANSWERS: i64 = 500;

type Positions = BTreeMap<(Uuid, i32), BTreeMap<i64, usize>>;

pub(super) async fn erase(
    store: &SeaStore,
    tenant: TenantId,
    ids: &[ErasureId],
    keys: &AuditKeys,
) -> Result<(), StoreError> {
    let mut erasures = Vec::with_capacity(ids.len());
    for id in ids {
        erasures.extend(of_account(store, tenant, *id).await?);
    }
    if erasures.is_empty() {
        return Ok(());
    }
    let sweep = Sweep {
        store,
        tenant,
        finder: Finder::new(&erasures)?,
        erasures: &erasures,
    };
    sweep.selections().await?;
    let reported = sweep.reports().await?;
    sweep.rows_of_reports(&reported).await?;
    let mut jobs = sweep.texts_of_jobs(&reported).await?;
    entries::add_jobs(&sweep, &mut jobs).await?;
    sweep.answers(&jobs).await?;
    events::redact(&sweep, &jobs).await?;
    entries::redact(&sweep, &jobs, keys).await?;
    words::redact(&sweep, keys).await
}

/// What is found by the user's id, in one transaction; answers the erasure with all its traces, unless it is over.
async fn of_account(store: &SeaStore, tenant: TenantId, id: ErasureId) -> Result<Option<Erasure>, StoreError> {
    let txn = store.transaction().await?;
    let Some(found) = locked(&txn, tenant, id).await? else {
        return Ok(None);
    };
    let mut erasure = found;
    let backend = store.backend;
    let user = erasure.user.0;
    let of_user = |text: &str| {
        let mut sql = Sql::new(backend, text);
        sql.push(" WHERE tenant_id = ").bind(tenant.0);
        sql.push(" AND user_id = ").bind(user);
        sql
    };
    for table in ["invitations", "deliveries"] {
        let mut sql = of_user(&format!("SELECT DISTINCT email, email_key FROM {table}"));
        sql.push(" AND email <> ''");
        let rows = Address::find_by_statement(sql.into_statement()).all(&txn).await;
        for row in rows.map_err(store_error)? {
            let address = EmailAddress::from_stored(row.email, row.email_key);
            erasure.traces.extend(address.forms());
        }
    }
    let mut count = Counting {
        txn: &txn,
        erasure: &mut erasure,
    };
    let mut sql = of_user("UPDATE invitations SET email = '', email_key = '', message = NULL");
    sql.push(" AND (email <> '' OR message IS NOT NULL)");
    count.run("invitations", sql).await?;
    let mut sql = Sql::new(backend, "UPDATE delivery_attempts SET response = '' WHERE tenant_id = ");
    sql.bind(tenant.0)
        .push(" AND response <> '' AND delivery_id IN (SELECT delivery_id FROM deliveries WHERE tenant_id = ")
        .bind(tenant.0)
        .push(" AND user_id = ")
        .bind(user)
        .push(")");
    count.run("delivery_attempts", sql).await?;
    let mut sql = of_user("UPDATE deliveries SET email = '', email_key = '', test = NULL, bounce = NULL");
    sql.push(" AND (email <> '' OR test IS NOT NULL OR bounce IS NOT NULL)");
    count.run("deliveries", sql).await?;
    for table in ["history", "outbox"] {
        let mut sql = of_user(&format!(
            "UPDATE {table} SET {}",
            events::without(backend, events::WORDS)
        ));
        sql.push(" AND ").push(events::WITH_WORDS);
        count.run(table, sql).await?;
    }
    // Earlier ones, which were cancelled.
    let (empty, note) = notes(backend);
    let mut sql = of_user(&format!("UPDATE erasures SET body = {empty}"));
    sql.push(&format!(" AND {note} <> '' AND erasure_id <> ")).bind(id.0);
    count.run("erasures", sql).await?;
    by_address(&mut count, store, tenant).await?;
    save(store, &txn, &erasure).await?;
    txn.commit().await.map_err(store_error)?;
    Ok(Some(erasure))
}

/// The body of an erasure without its note, and the note.
fn notes(backend: DbBackend) -> (&'static str, &'static str) {
    if backend == DbBackend::Postgres {
        (
            "jsonb_set(body::jsonb, '{note}', '\"\"')::text",
            "(body::jsonb ->> 'note')",
        )
    } else {
        ("json_set(body, '$.note', '')", "json_extract(body, '$.note')")
    }
}

/// Mails to these addresses that belong to no account, and what is known of the mailboxes, unless somebody else has one.
async fn by_address(count: &mut Counting<'_>, store: &SeaStore, tenant: TenantId) -> Result<(), StoreError> {
    let keys: Vec<String> = count.erasure.traces.iter().cloned().collect();
    if keys.is_empty() {
        return Ok(());
    }
    let values = || keys.iter().map(|key| Value::from(key.as_str()));
    let mut sql = Sql::new(store.backend, "DELETE FROM delivery_attempts WHERE tenant_id = ");
    sql.bind(tenant.0)
        .push(" AND delivery_id IN (SELECT delivery_id FROM deliveries WHERE user_id IS NULL AND tenant_id = ")
        .bind(tenant.0)
        .push(" AND ")
        .is_any("email_key", values())
        .push(")");
    count.run("delivery_attempts", sql).await?;
    let mut sql = Sql::new(
        store.backend,
        "DELETE FROM deliveries WHERE user_id IS NULL AND tenant_id = ",
    );
    sql.bind(tenant.0).push(" AND ").is_any("email_key", values());
    count.run("deliveries", sql).await?;
    let mut sql = Sql::new(store.backend, "DELETE FROM suppressions WHERE tenant_id = ");
    sql.bind(tenant.0).push(" AND ").is_any("email_key", values()).push(
        " AND NOT EXISTS (SELECT 1 FROM users u WHERE u.tenant_id = suppressions.tenant_id \
         AND u.email_key = suppressions.email_key AND u.status <> 'ERASED')",
    );
    count.run("suppressions", sql).await
}

#[derive(FromQueryResult)]
struct Address {
    email: String,
    email_key: String,
}

/// Counts what a statement changes.
struct Counting<'a> {
    txn: &'a DatabaseTransaction,
    erasure: &'a mut Erasure,
}

impl Counting<'_> {
    async fn run(&mut self, table: &str, sql: Sql) -> Result<(), StoreError> {
        let done = self.txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
        let rows = i64::try_from(done.rows_affected()).unwrap_or(i64::MAX);
        add(self.erasure, table, rows);
        Ok(())
    }
}

fn add(erasure: &mut Erasure, table: &str, rows: i64) {
    if rows > 0 {
        *erasure.counts.entry(table.to_owned()).or_default() += rows;
    }
}

/// An erasure whose traces are looked for, with its account: both locked, the account first, as everywhere.
async fn locked(txn: &DatabaseTransaction, tenant: TenantId, id: ErasureId) -> Result<Option<Erasure>, StoreError> {
    let mut sql = Sql::new(
        txn.get_database_backend(),
        "SELECT u.user_id FROM users u WHERE u.tenant_id = ",
    );
    sql.bind(tenant.0)
        .push(" AND u.user_id IN (SELECT user_id FROM erasures WHERE tenant_id = ")
        .bind(tenant.0)
        .push(" AND erasure_id = ")
        .bind(id.0)
        .push(")")
        .for_update("u");
    txn.query_all_raw(sql.into_statement()).await.map_err(store_error)?;
    let key = [("tenant_id", tenant.0.into()), ("erasure_id", id.0.into())];
    let row = lock::<erasure::Entity>(txn, "erasures", &key).await?;
    let erasure = row.map(Erasure::try_from).transpose()?;
    Ok(erasure.filter(|erasure| erasure.state == ErasureState::Erasing))
}

async fn lock<E: EntityTrait>(
    txn: &DatabaseTransaction,
    table: &str,
    key: &[(&str, Value)],
) -> Result<Option<E::Model>, StoreError> {
    let columns = columns_of::<E>("r");
    let mut sql = Sql::new(
        txn.get_database_backend(),
        format!("SELECT {columns} FROM {table} r WHERE "),
    );
    for (index, (column, value)) in key.iter().enumerate() {
        sql.push(if index == 0 { "r." } else { " AND r." });
        sql.push(column).push(" = ").bind(value.clone());
    }
    sql.for_update("r");
    E::find()
        .from_raw_sql(sql.into_statement())
        .one(txn)
        .await
        .map_err(store_error)
}

async fn save(store: &SeaStore, txn: &DatabaseTransaction, erasure: &Erasure) -> Result<(), StoreError> {
    let row = erasure::Model::try_from(erasure)?;
    let mut sql = Sql::new(store.backend, "UPDATE erasures SET body = ");
    sql.bind(row.body).push(" WHERE tenant_id = ").bind(row.tenant_id);
    sql.push(" AND erasure_id = ").bind(row.erasure_id);
    store.execute_in(txn, sql).await
}

/// Several people are looked for at a time.
pub(super) struct Sweep<'a> {
    pub(super) store: &'a SeaStore,
    pub(super) tenant: TenantId,
    pub(super) finder: Finder,
    pub(super) erasures: &'a [Erasure],
}

impl Sweep<'_> {
    /// Rows of files that wait, or waited, for their turn.
    async fn selections(&self) -> Result<(), StoreError> {
        let mut after = (Uuid::nil(), -1);
        loop {
            let rows: Vec<selection_chunk::Model> = self
                .page::<selection_chunk::Entity>(
                    "selection_chunks",
                    "selection_id, number",
                    [after.0.into(), after.1.into()],
                    CHUNKS,
                )
                .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (last.selection_id, last.number);
            for row in &rows {
                if !self.finder.in_row(&row.items).is_empty() {
                    self.rewrite_selection(row.selection_id, row.number, &BTreeMap::new())
                        .await?;
                }
            }
        }
    }

    /// The rows at these places, and those that name somebody.
    async fn rewrite_selection(
        &self,
        selection: Uuid,
        number: i32,
        places: &BTreeMap<i64, usize>,
    ) -> Result<(), StoreError> {
        let txn = self.store.transaction().await?;
        let key = [
            ("tenant_id", self.tenant.0.into()),
            ("selection_id", selection.into()),
            ("number", number.into()),
        ];
        // The job before its chunk: whoever deals with one holds the job.
        let mut sql = Sql::new(
            self.store.backend,
            "UPDATE jobs SET revision = revision + 1 WHERE state = 'RUNNING' AND tenant_id = ",
        );
        sql.bind(self.tenant.0).push(" AND selection_id = ").bind(selection);
        self.store.execute_in(&txn, sql).await?;
        let Some(row) = lock::<selection_chunk::Entity>(&txn, "selection_chunks", &key).await? else {
            return Ok(());
        };
        let mut items: Vec<ItemInput> =
            serde_json::from_str(&row.items).map_err(|error| unreadable("an item", error))?;
        let mut counts = Counts::new();
        for item in &mut items {
            let text = serde_json::to_string(item).map_err(|error| unreadable("an item", error))?;
            let mut whom = self.finder.in_row(&text);
            whom.extend(places.get(&item.position));
            if !whom.is_empty() && (item.row.is_some() || item.undo.is_some()) {
                item.row = None;
                item.undo = None;
                count(&mut counts, whom);
            }
        }
        if counts.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_string(&items).map_err(|error| unreadable("an item", error))?;
        self.put(&txn, ("selection_chunks", "items"), text, &key).await?;
        self.count(&txn, "selection_chunks", &counts).await?;
        txn.commit().await.map_err(store_error)
    }

    /// Reports of jobs; answers at which places of which chunks these people stand.
    async fn reports(&self) -> Result<Positions, StoreError> {
        let mut places = Positions::new();
        let mut after = (Uuid::nil(), -1);
        loop {
            let rows: Vec<job_chunk::Model> = self
                .page::<job_chunk::Entity>("job_chunks", "job_id, number", [after.0.into(), after.1.into()], CHUNKS)
                .await?;
            let Some(last) = rows.last() else { return Ok(places) };
            after = (last.job_id, last.number);
            for row in &rows {
                if self.finder.in_report(&row.outcomes).is_empty() {
                    continue;
                }
                let found = self.rewrite_report(row.job_id, row.number).await?;
                if !found.is_empty() {
                    places.insert((row.job_id, row.number), found);
                }
            }
        }
    }

    async fn rewrite_report(&self, job: Uuid, number: i32) -> Result<BTreeMap<i64, usize>, StoreError> {
        let txn = self.store.transaction().await?;
        let key = [
            ("tenant_id", self.tenant.0.into()),
            ("job_id", job.into()),
            ("number", number.into()),
        ];
        let mut places = BTreeMap::new();
        let Some(row) = lock::<job_chunk::Entity>(&txn, "job_chunks", &key).await? else {
            return Ok(places);
        };
        let mut outcomes: Vec<ItemResult> =
            serde_json::from_str(&row.outcomes).map_err(|error| unreadable("an outcome", error))?;
        let mut counts = Counts::new();
        for outcome in &mut outcomes {
            let text = serde_json::to_string(outcome).map_err(|error| unreadable("an outcome", error))?;
            let whom = self.finder.in_report(&text);
            if let Some(whose) = self.erasures.iter().position(|it| outcome.user == Some(it.user)) {
                places.insert(outcome.position, whose);
            }
            let bare = ItemResult {
                message: String::new(),
                column: String::new(),
                address: String::new(),
                further: Vec::new(),
                undo: None,
                ..outcome.clone()
            };
            if !whom.is_empty() && *outcome != bare {
                *outcome = bare;
                count(&mut counts, whom);
            }
        }
        if !counts.is_empty() {
            let text = serde_json::to_string(&outcomes).map_err(|error| unreadable("an outcome", error))?;
            self.put(&txn, ("job_chunks", "outcomes"), text, &key).await?;
            self.count(&txn, "job_chunks", &counts).await?;
            txn.commit().await.map_err(store_error)?;
        }
        Ok(places)
    }

    /// The rows of the files that these reports tell of: they may have a former address.
    async fn rows_of_reports(&self, reported: &Positions) -> Result<(), StoreError> {
        for ((job, number), places) in reported {
            let row = job::Entity::find_by_id((self.tenant.0, *job))
                .one(&self.store.reader)
                .await;
            if let Some(job) = row.map_err(store_error)? {
                self.rewrite_selection(job.selection_id, *number, places).await?;
            }
        }
        Ok(())
    }

    /// The free texts of jobs: of those that name somebody, and of those about nobody else. Answers which, and whom they tell of.
    async fn texts_of_jobs(&self, reported: &Positions) -> Result<BTreeMap<Uuid, BTreeSet<usize>>, StoreError> {
        let about: BTreeMap<Uuid, usize> = reported
            .iter()
            .filter_map(|((job, _), places)| Some((*job, *places.values().next()?)))
            .collect();
        let mut told = BTreeMap::new();
        let mut after = Uuid::nil();
        loop {
            let rows: Vec<job::Model> = self
                .page::<job::Entity>("jobs", "job_id", [after.into()], ANSWERS)
                .await?;
            let Some(last) = rows.last() else { return Ok(told) };
            after = last.job_id;
            for row in &rows {
                let mut whom = self.finder.in_report(&row.action);
                whom.extend(self.finder.in_words(&row.reason));
                whom.extend(self.finder.in_report(&row.request_id));
                whom.extend(self.finder.in_report(&row.filter));
                whom.extend(about.get(&row.job_id).filter(|_| row.total == 1));
                if whom.is_empty() {
                    continue;
                }
                told.insert(row.job_id, whom.clone());
                let action: JobAction =
                    serde_json::from_str(&row.action).map_err(|error| unreadable("the action", error))?;
                let has_words = [&row.reason, &row.request_id, &row.filter]
                    .iter()
                    .any(|text| !text.is_empty());
                self.rewrite_texts(row.job_id, action, has_words, whom).await?;
            }
        }
    }

    async fn rewrite_texts(
        &self,
        job: Uuid,
        mut action: JobAction,
        has_words: bool,
        whom: BTreeSet<usize>,
    ) -> Result<(), StoreError> {
        if !action.drop_texts() && !has_words {
            return Ok(());
        }
        let key = [("tenant_id", self.tenant.0.into()), ("job_id", job.into())];
        let txn = self.store.transaction().await?;
        lock::<job::Entity>(&txn, "jobs", &key).await?;
        let text = serde_json::to_string(&action).map_err(|error| unreadable("the action", error))?;
        // One that runs reads it again: what it does from here on has no such words.
        let mut sql = Sql::new(
            self.store.backend,
            "UPDATE jobs SET reason = '', request_id = '', filter = '', \
             revision = revision + CASE state WHEN 'RUNNING' THEN 1 ELSE 0 END, action = ",
        );
        sql.bind(text).push(" WHERE tenant_id = ").bind(self.tenant.0);
        sql.push(" AND job_id = ").bind(job);
        self.store.execute_in(&txn, sql).await?;
        let mut counts = Counts::new();
        count(&mut counts, whom);
        self.count(&txn, "jobs", &counts).await?;
        txn.commit().await.map_err(store_error)
    }

    /// Answers that are kept for repeats: one that named somebody, or a job that is about somebody, is given no more.
    async fn answers(&self, jobs: &BTreeMap<Uuid, BTreeSet<usize>>) -> Result<(), StoreError> {
        let about: Vec<&BTreeSet<usize>> = jobs.values().collect();
        let job_ids = AhoCorasick::new(jobs.keys().map(Uuid::to_string));
        let job_ids = job_ids.map_err(|error| StoreError::Internal(error.to_string()))?;
        let mut after = String::new();
        loop {
            let rows: Vec<response::Model> = self
                .page::<response::Entity>("responses", "request_id", [after.as_str().into()], ANSWERS)
                .await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after.clone_from(&last.request_id);
            for row in &rows {
                let mut whom = self.finder.in_octets(&row.response);
                whom.extend(self.finder.in_report(&row.request_id));
                let named = job_ids.find_iter(&row.response);
                whom.extend(named.flat_map(|job| about[job.pattern().as_usize()]));
                if whom.is_empty() {
                    continue;
                }
                let txn = self.store.transaction().await?;
                let mut sql = Sql::new(self.store.backend, "DELETE FROM responses WHERE tenant_id = ");
                sql.bind(self.tenant.0).push(" AND request_id = ");
                sql.bind(row.request_id.as_str());
                let gone = txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
                if gone.rows_affected() > 0 {
                    let mut counts = Counts::new();
                    count(&mut counts, whom);
                    self.count(&txn, "responses", &counts).await?;
                }
                txn.commit().await.map_err(store_error)?;
            }
        }
    }

    /// The next rows of a table of this tenant, in the order of its key.
    async fn page<E: EntityTrait>(
        &self,
        table: &str,
        key: &str,
        after: impl IntoIterator<Item = Value>,
        limit: i64,
    ) -> Result<Vec<E::Model>, StoreError> {
        let columns = columns_of::<E>("r");
        let mut sql = Sql::new(
            self.store.backend,
            format!("SELECT {columns} FROM {table} r WHERE r.tenant_id = "),
        );
        sql.bind(self.tenant.0).push(&format!(" AND ({key}) > ("));
        for (index, value) in after.into_iter().enumerate() {
            sql.push(if index == 0 { "" } else { ", " }).bind(value);
        }
        sql.push(&format!(") ORDER BY {key} LIMIT ")).bind(limit);
        E::find()
            .from_raw_sql(sql.into_statement())
            .all(&self.store.reader)
            .await
            .map_err(store_error)
    }

    async fn put(
        &self,
        txn: &DatabaseTransaction,
        (table, column): (&str, &str),
        text: String,
        key: &[(&str, Value)],
    ) -> Result<(), StoreError> {
        let mut sql = Sql::new(self.store.backend, format!("UPDATE {table} SET {column} = "));
        sql.bind(text);
        for (index, (name, value)) in key.iter().enumerate() {
            sql.push(if index == 0 { " WHERE " } else { " AND " });
            sql.push(name).push(" = ").bind(value.clone());
        }
        self.store.execute_in(txn, sql).await
    }

    /// Writes down what went, with what made it go.
    pub(super) async fn count(
        &self,
        txn: &DatabaseTransaction,
        table: &str,
        counts: &Counts,
    ) -> Result<(), StoreError> {
        for (whose, rows) in counts {
            let id = self.erasures[*whose].id;
            let key = [("tenant_id", self.tenant.0.into()), ("erasure_id", id.0.into())];
            if let Some(row) = lock::<erasure::Entity>(txn, "erasures", &key).await? {
                let mut erasure = Erasure::try_from(row)?;
                add(&mut erasure, table, *rows);
                save(self.store, txn, &erasure).await?;
            }
        }
        Ok(())
    }
}

pub(super) type Counts = BTreeMap<usize, i64>;

pub(super) fn count(counts: &mut Counts, whom: BTreeSet<usize>) {
    for whose in whom {
        *counts.entry(whose).or_default() += 1;
    }
}
