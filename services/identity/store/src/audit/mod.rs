//! The audit log: written, listed, read for verification, erased from. Sealing and pruning are in `seal`.

mod seal;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, FromQueryResult, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};
use usher_core::audit::{AuditHead, AuditKeys, AuditRow, Link, Redaction};
use usher_core::clock::Timestamp;
use usher_core::ids::{AuditId, TenantId, UserId};
use usher_core::ports::{AuditLog, AuditQuery, Sealing, StoreError};
use uuid::Uuid;

use crate::SeaStore;
use crate::bulk::{OnConflict, insert};
use crate::entity::audit::{Column, Entity, LATER};
use crate::entity::audit_link::Column as Place;
use crate::entity::{audit_head, audit_link};
use crate::error::store_error;
use crate::sql::Sql;

#[derive(FromQueryResult)]
struct TenantRow {
    tenant_id: Uuid,
}

#[async_trait]
impl AuditLog for SeaStore {
    #[tracing::instrument(name = "db.append_audit", skip_all, fields(count = rows.len()), err(level = "debug"))]
    async fn append_audit(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        let txn = self.transaction().await?;
        // A batch that is repeated after a commit whose answer was lost is there already.
        for sql in entries(self.backend, rows, true) {
            self.execute_in(&txn, sql).await?;
        }
        txn.commit().await.map_err(store_error)
    }

    #[tracing::instrument(name = "db.list_audit", skip_all, err(level = "debug"))]
    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        read(self, matching(query)).await
    }

    async fn unsealed_tenants(
        &self,
        announced_before: Timestamp,
        after: Option<TenantId>,
        limit: u32,
    ) -> Result<Vec<TenantId>, StoreError> {
        let after = after.map_or(Uuid::nil(), |tenant| tenant.0);
        // From one tenant to the next, however many rows each has.
        let mut sql = Sql::new(
            self.backend,
            "WITH RECURSIVE t (tenant_id) AS (SELECT * FROM (SELECT a.tenant_id FROM audit_links a \
             WHERE a.sequence IS NULL AND a.tenant_id > ",
        );
        sql.bind(after).push(
            " ORDER BY a.tenant_id LIMIT 1) one UNION ALL SELECT (SELECT a.tenant_id FROM audit_links a \
             WHERE a.sequence IS NULL AND a.tenant_id > t.tenant_id ORDER BY a.tenant_id LIMIT 1) \
             FROM t WHERE t.tenant_id IS NOT NULL) SELECT * FROM (SELECT tenant_id FROM t WHERE tenant_id IS NOT NULL LIMIT ",
        );
        sql.bind(i64::from(limit)).push(
            ") waiting UNION SELECT h.tenant_id FROM audit_heads h WHERE h.announced_sequence < h.sequence AND h.tenant_id > ",
        );
        sql.bind(after).push(" AND h.announced_at < ").bind(announced_before);
        sql.push(" ORDER BY tenant_id LIMIT ").bind(i64::from(limit));
        let rows = TenantRow::find_by_statement(sql.into_statement())
            .all(&self.reader)
            .await;
        Ok(rows
            .map_err(store_error)?
            .into_iter()
            .map(|row| TenantId(row.tenant_id))
            .collect())
    }

    #[tracing::instrument(name = "db.seal_audit", level = "debug", skip_all, err(level = "debug"))]
    async fn seal_audit(
        &self,
        tenant: TenantId,
        keys: &AuditKeys,
        now: Timestamp,
        announced_before: Timestamp,
        limit: u32,
    ) -> Result<Sealing, StoreError> {
        seal::seal(self, tenant, keys, now, announced_before, limit).await
    }

    async fn audit_head(&self, tenant: TenantId) -> Result<Option<AuditHead>, StoreError> {
        let row = audit_head::Entity::find_by_id(tenant.0).one(&self.reader).await;
        Ok(row.map_err(store_error)?.as_ref().map(Into::into))
    }

    async fn sealed_audit(
        &self,
        tenant: TenantId,
        after: (i64, AuditId),
        up_to: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let page = sealed(tenant)
            .filter(Place::Sequence.lte(up_to))
            .filter(beyond(after))
            .order_by_asc(Place::Sequence)
            .order_by_asc(Place::AuditId)
            .limit(u64::from(limit));
        match read(self, page.clone()).await {
            Err(StoreError::Internal(_)) => {}
            done => return done,
        }
        // Something in it is no value of its column any more: found out row by row.
        let sequences: Vec<i64> = page
            .select_only()
            .column(Place::Sequence)
            .into_tuple()
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        let mut rows = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            match read(self, sealed(tenant).filter(Place::Sequence.eq(sequence))).await {
                Err(StoreError::Internal(_)) => rows.push(unreadable(tenant, sequence)),
                done => rows.extend(done?),
            }
        }
        Ok(rows)
    }

    async fn unsealed_audit(
        &self,
        tenant: TenantId,
        after: Option<AuditId>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut page = of(tenant).filter(Place::Sequence.is_null());
        if let Some(after) = after {
            page = page.filter(Column::AuditId.gt(after.0));
        }
        read(self, page.order_by_asc(Column::AuditId).limit(u64::from(limit))).await
    }

    async fn audit_beyond_head(&self, tenant: TenantId, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let end =
            "audit_links.sequence > (SELECT h.sequence FROM audit_heads h WHERE h.tenant_id = audit_links.tenant_id)";
        let page = sealed(tenant)
            .filter(Expr::cust(end))
            .order_by_asc(Place::Sequence)
            .limit(u64::from(limit));
        read(self, page).await
    }

    async fn redact_audit(&self, tenant: TenantId, user: UserId, redaction: &Redaction) -> Result<u64, StoreError> {
        let mut sql = Sql::new(
            self.backend,
            "UPDATE audit SET reason = '', request_id = '', details = NULL, salt = NULL, redacted_by = ",
        );
        sql.bind(redaction.erasure)
            .push(", redaction = ")
            .bind(redaction.proof.clone())
            .push(" WHERE tenant_id = ")
            .bind(tenant.0)
            .push(" AND subject_id = ")
            .bind(user.0)
            // Of some only the words about somebody else went before.
            .push(" AND (redacted_by IS NULL OR details IS NOT NULL)");
        let done = self.writer.execute_raw(sql.into_statement()).await;
        Ok(done.map_err(store_error)?.rows_affected())
    }

    async fn prune_audit(&self, keys: &AuditKeys, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        seal::prune(self, keys, before, limit).await
    }
}

/// What writes new rows, and that their places are to come. `again`: they may be there.
pub(crate) fn entries(backend: DbBackend, rows: &[AuditRow], again: bool) -> Vec<Sql> {
    let links: Vec<_> = rows.iter().map(Into::into).collect();
    let rows: Vec<_> = rows.iter().map(Into::into).collect();
    let (row, link) = if again {
        (OnConflict::Keep, OnConflict::Keep)
    } else {
        (OnConflict::Fail, OnConflict::Fail)
    };
    let mut all = insert::<Entity>(backend, &rows, &LATER, row);
    all.extend(insert::<audit_link::Entity>(backend, &links, &audit_link::LATER, link));
    all
}

async fn read(store: &SeaStore, page: Select<Entity>) -> Result<Vec<AuditRow>, StoreError> {
    let rows = page.select_also(audit_link::Entity).all(&store.reader).await;
    let rows = rows.map_err(store_error)?;
    Ok(rows.into_iter().map(|(row, link)| row.with(link)).collect())
}

/// Rows with this reason. It is asked for in the words of its index.
pub(crate) async fn with_reason(
    store: &SeaStore,
    tenant: TenantId,
    reason: &str,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let page = of(tenant)
        .filter(Expr::cust("reason <> ''"))
        .filter(Column::Reason.eq(reason))
        .order_by_asc(Column::AuditId)
        .limit(u64::from(limit));
    read(store, page).await
}

/// Rows with their places, if they have them.
fn of(tenant: TenantId) -> Select<Entity> {
    Entity::find()
        .left_join(audit_link::Entity)
        .filter(Column::TenantId.eq(tenant.0))
}

/// Rows that have places. The tenant is asked for in the words of the index of places, too.
fn sealed(tenant: TenantId) -> Select<Entity> {
    Entity::find()
        .inner_join(audit_link::Entity)
        .filter(Place::TenantId.eq(tenant.0))
        .filter(Expr::cust("audit_links.sequence IS NOT NULL"))
}

fn beyond((sequence, id): (i64, AuditId)) -> Expr {
    let here = Expr::tuple([Place::Sequence.into_expr(), Place::AuditId.into_expr()]);
    here.gt(Expr::tuple([Expr::val(sequence), Expr::val(id.0)]))
}

/// The newest first. Refusals are asked for in the words of their index, which SQLite takes only then.
fn matching(query: &AuditQuery) -> Select<Entity> {
    let mut select = of(query.tenant);
    if let Some(actor) = &query.actor {
        select = select.filter(Column::Actor.eq(actor));
    }
    if let Some(user) = query.user {
        select = select.filter(Column::SubjectId.eq(user.0));
    }
    if let Some(method) = &query.method {
        select = select.filter(Column::Method.eq(method));
    }
    if let Some(outcome) = &query.outcome {
        select = select.filter(Column::Outcome.eq(outcome));
    }
    if query.refused
        || query
            .outcome
            .as_ref()
            .is_some_and(|outcome| outcome != usher_core::audit::DONE)
    {
        select = select.filter(Expr::cust("outcome <> 'OK'"));
    }
    if let Some(job) = query.job {
        select = select.filter(Column::JobId.eq(job.0));
    }
    if let Some(from) = query.from {
        select = select
            .filter(Column::AuditId.gte(first_id(from)))
            .filter(Column::OccurredAt.gte(from));
    }
    if let Some(to) = query.to {
        let next = first_id(to + chrono::TimeDelta::milliseconds(1));
        select = select
            .filter(Column::AuditId.lt(next))
            .filter(Column::OccurredAt.lt(to));
    }
    if let Some(after) = query.after {
        select = select.filter(Column::AuditId.lt(after.0));
    }
    select.order_by_desc(Column::AuditId).limit(u64::from(query.limit))
}

/// Not above any id that is minted in the same millisecond.
fn first_id(at: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

/// Stands for a row that holds something else than its columns can: it is the last of its sequence, and not genuine.
fn unreadable(tenant: TenantId, sequence: i64) -> AuditRow {
    AuditRow {
        tenant,
        id: AuditId(Uuid::max()),
        at: DateTime::UNIX_EPOCH,
        actor: String::new(),
        caller: String::new(),
        method: String::new(),
        permission: String::new(),
        outcome: String::new(),
        subject: None,
        job: None,
        reason: String::new(),
        request_id: String::new(),
        erasable: None,
        digest: Vec::new(),
        code: Vec::new(),
        redaction: None,
        link: Some(Link {
            sequence,
            chain: Vec::new(),
        }),
    }
}
