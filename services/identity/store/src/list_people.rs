//! Lists of groups and roles, and the seats.

use sea_orm::sea_query::{Expr, ExprTrait as _, LikeExpr};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, FromQueryResult, Order, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Select,
};
use usher_core::clock::Timestamp;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{AssignmentQuery, GroupQuery, StoreError};
use usher_core::seats::SeatUsage;

use crate::SeaStore;
use crate::entity::{assignment, group, member, seat_entry, user};
use crate::error::store_error;
use crate::list::{escaped, page};
use crate::sql::Sql;

/// One page of groups, by name.
pub(crate) fn groups(query: &GroupQuery) -> Select<group::Entity> {
    use group::Column;
    let mut select = group::Entity::find().filter(Column::TenantId.eq(query.tenant.0));
    if let Some(parent) = query.parent {
        select = select.filter(Column::ParentId.eq(parent.0));
    }
    if let Some(user) = query.member {
        let of_user = member::Entity::find()
            .select_only()
            .column(member::Column::GroupId)
            .filter(member::Column::TenantId.eq(query.tenant.0))
            .filter(member::Column::UserId.eq(user.0));
        select = select.filter(Column::GroupId.in_subquery(sea_orm::QueryTrait::into_query(of_user)));
    }
    if let Some(among) = &query.among {
        select = select.filter(Column::GroupId.is_in(among.iter().map(|group| group.0)));
    }
    if !query.text.is_empty() {
        let pattern = LikeExpr::new(format!("%{}%", escaped(&query.text))).escape('\\');
        select = select.filter(Column::NameKey.like(pattern));
    }
    let after = query.after.as_ref();
    let after = after.map(|after| (after.key.as_str().into(), after.id.into()));
    page(
        select,
        (Column::NameKey, Column::GroupId),
        &Order::Asc,
        after,
        query.limit,
    )
}

/// One page of assignments, by user.
pub(crate) fn assignments(query: &AssignmentQuery) -> Select<assignment::Entity> {
    use assignment::Column;
    let mut select = assignment::Entity::find().filter(Column::TenantId.eq(query.tenant.0));
    if let Some(user) = query.user {
        select = select.filter(Column::UserId.eq(user.0));
    }
    if let Some(scope) = &query.scope {
        let (kind, id) = scope.parts();
        select = select.filter(Column::ScopeKind.eq(kind)).filter(Column::ScopeId.eq(id));
    }
    if let Some(role) = query.role {
        select = select.filter(Column::Role.eq(role.to_string()));
    }
    let columns = [Column::UserId, Column::Role, Column::ScopeKind, Column::ScopeId];
    if let Some(after) = &query.after {
        let last = assignment::Model::from(after);
        let last = [
            Expr::val(last.user_id),
            Expr::val(last.role),
            Expr::val(last.scope_kind),
            Expr::val(last.scope_id),
        ];
        select = select.filter(Expr::tuple(columns.map(Expr::col)).gt(Expr::tuple(last)));
    }
    for column in columns {
        select = select.order_by_asc(column);
    }
    select.limit(u64::from(query.limit))
}

/// One page of the ledger, the newest first.
pub(crate) fn seat_ledger(
    tenant: TenantId,
    of: Option<UserId>,
    before: Option<i64>,
    limit: u32,
) -> Select<seat_entry::Entity> {
    use seat_entry::Column;
    let mut select = seat_entry::Entity::find().filter(Column::TenantId.eq(tenant.0));
    if let Some(user) = of {
        select = select.filter(Column::UserId.eq(user.0));
    }
    if let Some(before) = before {
        select = select.filter(Column::Sequence.lt(before));
    }
    select.order_by_desc(Column::Sequence).limit(u64::from(limit))
}

/// Whoever waits for a seat and could take one, the longest waiting first.
pub(crate) fn seat_queue(tenant: TenantId, now: Timestamp, limit: u32) -> Select<user::Entity> {
    use user::Column;
    user::Entity::find()
        .select_only()
        .column(Column::UserId)
        .filter(Column::TenantId.eq(tenant.0))
        .filter(Column::SeatWaitingSince.is_not_null())
        .filter(Column::Status.is_in(["PENDING", "INVITED"]))
        .filter(Column::ExpiresAt.is_null().or(Column::ExpiresAt.gt(now)))
        .order_by_asc(Column::SeatWaitingSince)
        .order_by_asc(Column::UserId)
        .limit(u64::from(limit))
}

/// Active users near their expiration who have not had the warning of a horizon, the soonest first.
pub(crate) fn to_be_warned(
    tenant: TenantId,
    now: Timestamp,
    horizons: &[Timestamp],
    limit: u32,
) -> Select<user::Entity> {
    use user::Column;
    let mut missed = Condition::any();
    for (had, horizon) in (0_i32..).zip(horizons) {
        missed = missed.add(Column::ExpiresAt.lte(*horizon).and(Column::ExpiryWarnings.lte(had)));
    }
    user::Entity::find()
        .select_only()
        .column(Column::UserId)
        .filter(Column::TenantId.eq(tenant.0))
        .filter(Column::Status.eq("ACTIVE"))
        .filter(Column::ExpiresAt.gt(now))
        // What the index is asked: the longest horizon is the first.
        .filter(Column::ExpiresAt.lte(horizons.first().copied().unwrap_or(now)))
        .filter(missed)
        .order_by_asc(Column::ExpiresAt)
        .order_by_asc(Column::UserId)
        .limit(u64::from(limit))
}

#[derive(FromQueryResult)]
struct Usage {
    used: i64,
    overdue: i64,
    waiting: i64,
    open_invitations: i64,
    expiring: i64,
}

/// How the seats stand, in one statement. Who expired and is not written down yet takes none (S5).
pub(crate) async fn seat_usage(
    store: &SeaStore,
    tenant: TenantId,
    now: Timestamp,
    horizon: Timestamp,
) -> Result<SeatUsage, StoreError> {
    let mut sql = Sql::new(
        store.backend,
        "SELECT COALESCE((SELECT used FROM seats WHERE tenant_id = ",
    );
    sql.bind(tenant.0)
        .push("), 0) AS used, (SELECT COUNT(*) FROM users WHERE status = 'ACTIVE' AND expires_at <= ")
        .bind(now)
        .push(" AND tenant_id = ")
        .bind(tenant.0)
        .push(") AS overdue, (SELECT COUNT(*) FROM users WHERE seat_waiting_since IS NOT NULL ")
        .push("AND status IN ('PENDING', 'INVITED') AND (expires_at IS NULL OR expires_at > ")
        .bind(now)
        .push(") AND tenant_id = ")
        .bind(tenant.0)
        .push(") AS waiting, (SELECT COUNT(*) FROM invitations WHERE state IN ('QUEUED', 'SENT') AND lapses_at > ")
        .bind(now)
        .push(" AND tenant_id = ")
        .bind(tenant.0)
        .push(") AS open_invitations, (SELECT COUNT(*) FROM users WHERE status = 'ACTIVE' AND expires_at > ")
        .bind(now)
        .push(" AND expires_at <= ")
        .bind(horizon)
        .push(" AND tenant_id = ")
        .bind(tenant.0)
        .push(") AS expiring");
    let row = Usage::find_by_statement(sql.into_statement())
        .one(&store.reader)
        .await
        .map_err(store_error)?;
    Ok(row.map_or_else(SeatUsage::default, |row| SeatUsage {
        used: row.used - row.overdue,
        waiting: row.waiting,
        open_invitations: row.open_invitations,
        expiring: row.expiring,
    }))
}
