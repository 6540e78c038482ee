//! Administrators, and the people whom they are told of before these expire (B9).

use std::collections::BTreeSet;

use sea_orm::FromQueryResult;
use usher_core::clock::Timestamp;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{StoreError, WarnedQuery};
use usher_core::role::Scope;
use uuid::Uuid;

use crate::SeaStore;
use crate::error::{store_error, unreadable};
use crate::sql::Sql;

#[derive(FromQueryResult)]
struct Holder {
    user_id: Uuid,
    scope_kind: String,
    scope_id: String,
}

/// See [`usher_core::ports::Directory::administrators`].
pub(crate) async fn administrators(
    store: &SeaStore,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Vec<(UserId, Scope)>, StoreError> {
    let mut sql = Sql::new(
        store.backend,
        "SELECT a.user_id, a.scope_kind, a.scope_id FROM role_assignments a \
         JOIN users u ON u.tenant_id = a.tenant_id AND u.user_id = a.user_id \
         WHERE a.role = 'administrator' AND u.status = 'ACTIVE' AND a.tenant_id = ",
    );
    sql.bind(tenant.0)
        .push(" AND (u.expires_at IS NULL OR u.expires_at > ")
        .bind(now)
        .push(
            ") AND NOT EXISTS (SELECT 1 FROM suppressions s WHERE s.tenant_id = u.tenant_id AND s.email_key = u.email_key)",
        );
    let rows = Holder::find_by_statement(sql.into_statement()).all(&store.reader).await;
    let rows = rows.map_err(store_error)?.into_iter();
    rows.map(|row| {
        let scope = Scope::from_parts(&row.scope_kind, &row.scope_id);
        let scope = scope.ok_or_else(|| unreadable("the scope of a role", &row.scope_id))?;
        Ok((UserId(row.user_id), scope))
    })
    .collect()
}

#[derive(FromQueryResult)]
struct Warned {
    user_id: Uuid,
    give_up_at: Timestamp,
}

/// See [`usher_core::ports::Directory::people_warned`]. The warnings themselves are what is asked: nothing more is kept.
pub(crate) async fn people(store: &SeaStore, query: &WarnedQuery) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
    if query.groups.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Vec::new());
    }
    let tenant = query.tenant.0;
    // In the words of the index.
    let mut sql = Sql::new(
        store.backend,
        "SELECT DISTINCT d.give_up_at, d.user_id FROM deliveries d \
         JOIN users u ON u.tenant_id = d.tenant_id AND u.user_id = d.user_id AND u.expires_at = d.give_up_at \
         WHERE d.kind = 'EXPIRY_WARNING' AND u.status = 'ACTIVE' AND d.tenant_id = ",
    );
    sql.bind(tenant).push(" AND d.created_at >= ").bind(query.since);
    sql.push(
        " AND NOT EXISTS (SELECT 1 FROM deliveries n WHERE n.tenant_id = d.tenant_id \
         AND n.kind = 'EXPIRY_WARNING_TO_ADMINISTRATORS' AND n.created_at <= d.created_at AND n.created_at > ",
    );
    sql.bind(query.since)
        .push(" AND n.user_id = ")
        .bind(query.administrator.0)
        .push(")");
    if let Some(groups) = &query.groups {
        sql.push(
            " AND EXISTS (SELECT 1 FROM group_members m WHERE m.tenant_id = d.tenant_id AND m.user_id = d.user_id AND ",
        )
        .is_any("m.group_id", groups.iter().map(|group| group.0.into()))
        .push(")");
    }
    sql.push(" AND d.give_up_at > ").bind(query.now);
    if let Some((at, user)) = query.after {
        sql.push(" AND (d.give_up_at, d.user_id) > (")
            .bind(at)
            .push(", ")
            .bind(user.0)
            .push(")");
    }
    sql.push(" ORDER BY d.give_up_at, d.user_id LIMIT ")
        .bind(i64::from(query.limit));
    let rows = Warned::find_by_statement(sql.into_statement()).all(&store.reader).await;
    let rows = rows.map_err(store_error)?.into_iter();
    Ok(rows.map(|row| (UserId(row.user_id), row.give_up_at)).collect())
}
