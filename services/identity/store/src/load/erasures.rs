//! Erasures, and whether addresses were erased, for the world that a transaction sees.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, Value};
use usher_core::erasure::Erasure;
use usher_core::ids::{ErasureId, TenantId};
use usher_core::ports::{Keys, StoreError};
use usher_core::user::User;

use super::Locking;
use crate::entity::{erased_address, erasure, erasure_subscriber};
use crate::error::store_error;
use crate::sql::{Sql, columns_of};

/// Hashes of one statement.
const CHUNK: usize = 10_000;

pub(super) fn keys(erasures: &BTreeSet<(TenantId, ErasureId)>) -> impl Iterator<Item = [Value; 2]> {
    erasures.iter().map(|(tenant, id)| [tenant.0.into(), id.0.into()])
}

/// The erasures asked for, and those that run for the users, locked. The users are locked before.
pub(super) async fn erasures<C: ConnectionTrait>(
    db: &C,
    asked: &Keys,
    users: &[User],
    locking: Locking,
) -> Result<HashMap<(TenantId, ErasureId), Erasure>, StoreError> {
    let backend = db.get_database_backend();
    let of_users = asked.with_erasures && !users.is_empty();
    let mut found = HashMap::new();
    if asked.erasures.is_empty() && !of_users {
        return Ok(found);
    }
    let columns = columns_of::<erasure::Entity>("r");
    let mut sql = Sql::new(
        backend,
        format!("SELECT {columns} FROM erasures r WHERE (r.tenant_id, r.erasure_id) IN ("),
    );
    if of_users {
        sql.push("SELECT tenant_id, erasure_id FROM erasures WHERE state <> 'CANCELLED' AND (tenant_id, user_id) IN (")
            .set(super::user_keys(users))
            .push(")");
    }
    if !asked.erasures.is_empty() {
        sql.push(if of_users { " UNION " } else { "" })
            .set(keys(&asked.erasures));
    }
    sql.push(") ORDER BY r.tenant_id, r.erasure_id");
    if locking == Locking::ForUpdate {
        sql.for_update("r");
    }
    let rows = erasure::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
    for row in rows.map_err(store_error)? {
        let erasure = Erasure::try_from(row)?;
        found.insert((erasure.tenant, erasure.id), erasure);
    }
    Ok(found)
}

/// The services that are asked, of the tenants asked for.
pub(super) async fn subscribers<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
) -> Result<HashMap<TenantId, BTreeSet<String>>, StoreError> {
    let mut found = HashMap::new();
    for tenant in &keys.subscribers {
        let rows = erasure_subscriber::Entity::find()
            .filter(erasure_subscriber::Column::TenantId.eq(tenant.0))
            .all(db)
            .await;
        let services = rows.map_err(store_error)?.into_iter().map(|row| row.service);
        found.insert(*tenant, services.collect());
    }
    Ok(found)
}

/// Of the hashes asked for: the addresses that were erased.
pub(super) async fn erased<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
) -> Result<BTreeSet<(TenantId, String)>, StoreError> {
    let mut found = BTreeSet::new();
    let asked: Vec<_> = keys.erased.iter().collect();
    let tenants: BTreeSet<TenantId> = asked.iter().map(|((tenant, _), _)| *tenant).collect();
    for tenant in tenants {
        let of_tenant: Vec<_> = asked.iter().filter(|((owner, _), _)| *owner == tenant).collect();
        for chunk in of_tenant.chunks(CHUNK) {
            let digests = chunk.iter().map(|((_, digest), _)| digest.clone());
            let rows = erased_address::Entity::find()
                .filter(erased_address::Column::TenantId.eq(tenant.0))
                .filter(erased_address::Column::Digest.is_in(digests))
                .all(db)
                .await;
            for row in rows.map_err(store_error)? {
                if let Some(email) = keys.erased.get(&(tenant, row.digest)) {
                    found.insert((tenant, email.clone()));
                }
            }
        }
    }
    Ok(found)
}
