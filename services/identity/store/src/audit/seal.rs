//! Rows get their places in the chain, and old ones go. One replica at a time has a tenant: it holds the row of the head.
//! Writers never touch that row, so none of them waits.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, EntityTrait as _, FromQueryResult, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use usher_core::audit::{AuditHead, AuditKeys, Link, hex};
use usher_core::change::Act;
use usher_core::clock::Timestamp;
use usher_core::event::{Event, EventType, Sealed};
use usher_core::ids::{AuditId, TenantId};
use usher_core::ports::{Sealing, StoreError};
use uuid::Uuid;

use super::{TenantRow, first_id};
use crate::SeaStore;
use crate::bulk::{OnConflict, insert};
use crate::entity::{audit, audit_head, audit_link, outbox};
use crate::error::store_error;
use crate::sql::{Sql, columns_of};

/// Tenants whose old rows go at a time.
const PRUNED_TENANTS: i64 = 10;

#[derive(FromQueryResult)]
struct Unsealed {
    audit_id: Uuid,
    code: Vec<u8>,
}

/// Seals what waits.
pub(super) async fn seal(
    store: &SeaStore,
    tenant: TenantId,
    keys: &AuditKeys,
    now: Timestamp,
    announced_before: Timestamp,
    limit: u32,
) -> Result<Sealing, StoreError> {
    let txn = store.transaction().await?;
    let row = match lock_head(store, &txn, tenant).await? {
        Some(row) => row,
        None if exists(store, tenant).await? => return Ok(Sealing::Busy),
        None => match begin_chain(store, &txn, tenant, keys, now).await? {
            Some(row) => row,
            // Sealed rows came with their head: another replica may have begun the chain since.
            None if exists(store, tenant).await? => return Ok(Sealing::Busy),
            None => return Ok(Sealing::Broken),
        },
    };
    let head = AuditHead::from(&row);
    let mut waiting = Sql::new(
        store.backend,
        "SELECT audit_id, code FROM audit_links WHERE sequence IS NULL AND tenant_id = ",
    );
    waiting
        .bind(tenant.0)
        .push(" ORDER BY audit_id LIMIT ")
        .bind(i64::from(limit));
    let rows = Unsealed::find_by_statement(waiting.into_statement())
        .all(&txn)
        .await
        .map_err(store_error)?;
    let codes: Vec<(AuditId, Vec<u8>)> = rows.into_iter().map(|row| (AuditId(row.audit_id), row.code)).collect();
    let Ok((links, head)) = keys.extend(tenant, Some(&head), &codes) else {
        return Ok(Sealing::Broken);
    };
    if !links.is_empty() {
        put_links(store, &txn, tenant, &codes, links).await?;
    }
    let is_new = head.sequence > row.announced_sequence && row.announced_at < announced_before;
    let announced = if is_new {
        announce(store, &txn, &head, now).await?;
        (head.sequence, now)
    } else {
        (row.announced_sequence, row.announced_at)
    };
    put_head(store, &txn, &head, announced).await?;
    txn.commit().await.map_err(store_error)?;
    store.has_written(usize::from(is_new));
    Ok(Sealing::Sealed(u32::try_from(codes.len()).unwrap_or(u32::MAX)))
}

/// Deletes what is older than an instant.
pub(super) async fn prune(
    store: &SeaStore,
    keys: &AuditKeys,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let mut old = Sql::new(
        store.backend,
        "SELECT h.tenant_id FROM audit_heads h WHERE EXISTS (SELECT 1 FROM audit_links l \
         WHERE l.tenant_id = h.tenant_id AND l.sequence IS NOT NULL AND l.audit_id < ",
    );
    old.bind(first_id(before)).push(") LIMIT ").bind(PRUNED_TENANTS);
    let tenants = TenantRow::find_by_statement(old.into_statement())
        .all(&store.reader)
        .await
        .map_err(store_error)?;
    let mut gone = 0;
    for TenantRow { tenant_id } in tenants {
        gone += prune_tenant(store, TenantId(tenant_id), keys, before, limit).await?;
    }
    Ok(gone)
}

async fn prune_tenant(
    store: &SeaStore,
    tenant: TenantId,
    keys: &AuditKeys,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    use audit_link::Column;
    let txn = store.transaction().await?;
    let Some(row) = lock_head(store, &txn, tenant).await? else {
        return Ok(0);
    };
    let mut head = AuditHead::from(&row);
    if keys.examine_head(&head).is_some() {
        return Ok(0);
    }
    let oldest: Vec<(i64, Vec<u8>, Timestamp)> = audit::Entity::find()
        .inner_join(audit_link::Entity)
        .select_only()
        .columns([Column::Sequence, Column::Chain])
        .column(audit::Column::OccurredAt)
        .filter(Column::TenantId.eq(tenant.0))
        .filter(Column::Sequence.gt(head.kept_after))
        .order_by_asc(Column::Sequence)
        .limit(u64::from(limit))
        .into_tuple()
        .all(&txn)
        .await
        .map_err(store_error)?;
    // Only whole stretches go: a gap stays where it is, and is found.
    let mut next = head.kept_after + 1;
    let follows = |(sequence, _, at): &(i64, Vec<u8>, Timestamp)| {
        let follows = *sequence == next && *at < before;
        next += 1;
        follows
    };
    let Some((sequence, chain, _)) = oldest.into_iter().take_while(follows).last() else {
        return Ok(0);
    };
    let places = |mut sql: Sql| {
        sql.bind(tenant.0).push(" AND sequence > ").bind(head.kept_after);
        sql.push(" AND sequence <= ").bind(sequence);
        sql
    };
    let mut rows = Sql::new(store.backend, "DELETE FROM audit WHERE tenant_id = ");
    rows.bind(tenant.0).push(" AND audit_id IN (");
    rows.append(places(Sql::new(
        store.backend,
        "SELECT audit_id FROM audit_links WHERE tenant_id = ",
    )));
    rows.push(")");
    let deleted = txn.execute_raw(rows.into_statement()).await.map_err(store_error)?;
    let links = places(Sql::new(store.backend, "DELETE FROM audit_links WHERE tenant_id = "));
    store.execute_in(&txn, links).await?;
    head.kept_after = sequence;
    head.kept_chain = chain;
    keys.sign_head(&mut head);
    put_head(store, &txn, &head, (row.announced_sequence, row.announced_at)).await?;
    txn.commit().await.map_err(store_error)?;
    Ok(deleted.rows_affected())
}

/// The head, if it is there and nobody else holds it.
async fn lock_head(
    store: &SeaStore,
    txn: &DatabaseTransaction,
    tenant: TenantId,
) -> Result<Option<audit_head::Model>, StoreError> {
    let columns = columns_of::<audit_head::Entity>("h");
    let mut sql = Sql::new(
        store.backend,
        format!("SELECT {columns} FROM audit_heads h WHERE h.tenant_id = "),
    );
    sql.bind(tenant.0);
    if sql.is_postgres() {
        sql.push(" FOR UPDATE SKIP LOCKED");
    }
    let row = audit_head::Entity::find()
        .from_raw_sql(sql.into_statement())
        .one(txn)
        .await;
    row.map_err(store_error)
}

async fn exists(store: &SeaStore, tenant: TenantId) -> Result<bool, StoreError> {
    let row = audit_head::Entity::find_by_id(tenant.0).one(&store.reader).await;
    Ok(row.map_err(store_error)?.is_some())
}

/// The head of a chain that begins. None where there are sealed rows: then there is one by now, or somebody took it away.
async fn begin_chain(
    store: &SeaStore,
    txn: &DatabaseTransaction,
    tenant: TenantId,
    keys: &AuditKeys,
    now: Timestamp,
) -> Result<Option<audit_head::Model>, StoreError> {
    let mut sealed = Sql::new(
        store.backend,
        "SELECT tenant_id FROM audit_links WHERE sequence IS NOT NULL AND tenant_id = ",
    );
    sealed.bind(tenant.0).push(" LIMIT 1");
    let sealed = TenantRow::find_by_statement(sealed.into_statement()).one(txn).await;
    if sealed.map_err(store_error)?.is_some() {
        return Ok(None);
    }
    let Ok((_, head)) = keys.extend(tenant, None, &[]) else {
        return Ok(None);
    };
    let row = audit_head::Model {
        tenant_id: tenant.0,
        sequence: head.sequence,
        chain: head.chain,
        kept_after: head.kept_after,
        kept_chain: head.kept_chain,
        code: head.code,
        announced_sequence: 0,
        announced_at: now,
    };
    // Another replica that begins it at the same time is met here: one of both fails, and comes again.
    let rows = [row.clone()];
    for sql in insert::<audit_head::Entity>(store.backend, &rows, &[], OnConflict::Fail) {
        store.execute_in(txn, sql).await?;
    }
    Ok(Some(row))
}

async fn put_links(
    store: &SeaStore,
    txn: &DatabaseTransaction,
    tenant: TenantId,
    codes: &[(AuditId, Vec<u8>)],
    links: Vec<Link>,
) -> Result<(), StoreError> {
    let expected = links.len() as u64;
    let mut sql = Sql::new(store.backend, "WITH sealed (tenant_id, id, sequence, chain) AS (");
    let rows = codes.iter().zip(links);
    // By the whole key: how many rows a tenant has is unknown to the plan where it is new.
    sql.set(rows.map(|((id, _), link)| [tenant.0.into(), id.0.into(), link.sequence.into(), link.chain.into()]));
    sql.push(
        ") UPDATE audit_links SET sequence = sealed.sequence, chain = sealed.chain FROM sealed \
         WHERE audit_links.tenant_id = sealed.tenant_id AND audit_links.audit_id = sealed.id",
    );
    let done = txn.execute_raw(sql.into_statement()).await.map_err(store_error)?;
    if done.rows_affected() == expected {
        Ok(())
    } else {
        Err(StoreError::Conflict(
            "rows of the audit log went while they were sealed".into(),
        ))
    }
}

async fn announce(
    store: &SeaStore,
    txn: &DatabaseTransaction,
    head: &AuditHead,
    now: Timestamp,
) -> Result<(), StoreError> {
    let event = Event {
        sealed: Some(Sealed {
            sequence: head.sequence,
            chain: hex(&head.chain),
        }),
        ..Act::by_usher(now, "").event(EventType::AuditSealed, head.tenant, None)
    };
    let rows = [outbox::Model::try_from(&event)?];
    for sql in insert::<outbox::Entity>(store.backend, &rows, &outbox::GENERATED, OnConflict::Fail) {
        store.execute_in(txn, sql).await?;
    }
    Ok(())
}

async fn put_head(
    store: &SeaStore,
    txn: &DatabaseTransaction,
    head: &AuditHead,
    (announced_sequence, announced_at): (i64, Timestamp),
) -> Result<(), StoreError> {
    let mut sql = Sql::new(store.backend, "UPDATE audit_heads SET sequence = ");
    sql.bind(head.sequence).push(", chain = ").bind(head.chain.clone());
    sql.push(", kept_after = ")
        .bind(head.kept_after)
        .push(", kept_chain = ")
        .bind(head.kept_chain.clone());
    sql.push(", code = ").bind(head.code.clone());
    sql.push(", announced_sequence = ")
        .bind(announced_sequence)
        .push(", announced_at = ")
        .bind(announced_at);
    sql.push(" WHERE tenant_id = ").bind(head.tenant.0);
    store.execute_in(txn, sql).await
}
