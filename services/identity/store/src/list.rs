//! Lists: filters and keyset pages. A page goes on after the sort key and the id of the last row, never after a number of
//! rows, so that nothing is skipped or shown twice while rows come and go (U3).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait as _, LikeExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, JoinType, Order, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select, Statement, Value,
};
use usher_core::clock::Timestamp;
use usher_core::delivery::Attempt;
use usher_core::ids::{GroupId, TenantId};
use usher_core::invitation::InvitationState;
use usher_core::ports::{Activity, After, DeliveryQuery, InvitationQuery, StoreError, UserOrder, UserQuery};
use usher_core::status::StatusName;
use usher_core::user::Engagement;
use uuid::Uuid;

use crate::entity::{attempt, delivery, invitation, member, suppression, user};
use crate::error::{store_error, unreadable};
use crate::sql::{Sql, columns_of};

/// In the words of the index over addresses: SQLite takes a partial index only for the same ones.
pub(crate) fn not_erased() -> Expr {
    Expr::cust("status <> 'ERASED'")
}

/// One page of users.
pub(crate) fn users(backend: DbBackend, query: &UserQuery) -> Result<Select<user::Entity>, StoreError> {
    let (column, is_instant) = match query.order {
        UserOrder::Name => (user::Column::NameKey, false),
        UserOrder::Email => (user::Column::EmailKey, false),
        UserOrder::Created => (user::Column::CreatedAt, true),
        UserOrder::LastLogin => (user::Column::LastLoginAt, true),
    };
    let order = if query.descending { Order::Desc } else { Order::Asc };
    let key = |after: &After| {
        if is_instant {
            instant(&after.key)
        } else {
            Ok(after.key.as_str().into())
        }
    };
    let after = query.after.as_ref().map(|after| Ok((key(after)?, after.id.into())));
    let after = after.transpose()?;
    if let ([group], UserOrder::Created) = (query.groups.as_slice(), query.order) {
        let columns = (member::Column::UserCreatedAt, member::Column::UserId);
        return Ok(page(
            members(backend, query, *group),
            columns,
            &order,
            after,
            query.limit,
        ));
    }
    let columns = (column, user::Column::UserId);
    Ok(page(matching(backend, query), columns, &order, after, query.limit))
}

/// Whom a query for one group matches, joined with the memberships, which an index has in the order of creation.
fn members(backend: DbBackend, query: &UserQuery, group: GroupId) -> Select<user::Entity> {
    use member::Column;
    let membership = user::Entity::belongs_to(member::Entity)
        .from((user::Column::TenantId, user::Column::UserId))
        .to((Column::TenantId, Column::UserId));
    matching_anywhere(backend, query)
        .join(JoinType::InnerJoin, membership.into())
        .filter(Column::TenantId.eq(query.tenant.0))
        .filter(Column::GroupId.eq(group.0))
}

/// Whom a query matches, in no order.
pub(crate) fn matching(backend: DbBackend, query: &UserQuery) -> Select<user::Entity> {
    let select = matching_anywhere(backend, query);
    if query.groups.is_empty() {
        return select;
    }
    select.filter(in_any_group(backend, "users", &query.groups))
}

/// Whom it matches if its groups do not count.
fn matching_anywhere(backend: DbBackend, query: &UserQuery) -> Select<user::Entity> {
    let mut select = user::Entity::find().filter(user::Column::TenantId.eq(query.tenant.0));
    if query.statuses.is_empty() {
        select = select.filter(not_erased());
    } else {
        let statuses = query.statuses.iter().map(|status| has_status(*status, query.now));
        select = select.filter(any(statuses));
    }
    for label in &query.labels {
        select = select.filter(has_label(backend, label));
    }
    if !query.languages.is_empty() {
        select = select.filter(user::Column::Language.is_in(&query.languages));
    }
    if !query.text.is_empty() {
        let pattern = LikeExpr::new(format!("%{}%", escaped(&query.text))).escape('\\');
        select = select.filter(user::Column::SearchKey.like(pattern));
    }
    if !query.roles.is_empty() {
        select = select.filter(holds_any_role(backend, query));
    }
    match query.activity {
        Activity::Any => {}
        Activity::NeverLoggedIn => select = select.filter(user::Column::LastLoginAt.eq(DateTime::<Utc>::UNIX_EPOCH)),
        Activity::InactiveSince(at) => {
            select = select
                .filter(user::Column::LastLoginAt.gt(DateTime::<Utc>::UNIX_EPOCH))
                .filter(user::Column::LastLoginAt.lt(at));
        }
    }
    if let Some(engagement) = query.engagement {
        // In the words of the indexes.
        let words = match engagement {
            Engagement::Activated => "status = 'ACTIVE' AND first_course_at IS NULL",
            Engagement::Engaged => "status = 'ACTIVE' AND first_course_at IS NOT NULL",
        };
        select = select
            .filter(Expr::cust(words))
            .filter(has_status(StatusName::Active, query.now));
    }
    if let Some(before) = query.invited_before {
        select = select.filter(was_invited_before(backend, before, query.now));
    }
    if query.waiting_for_seat {
        // Those who could take one.
        let open = [StatusName::Pending, StatusName::Invited];
        select = select
            .filter(user::Column::SeatWaitingSince.is_not_null())
            .filter(any(open.into_iter().map(|status| has_status(status, query.now))));
    }
    select
}

/// A condition that is written out.
pub(crate) fn condition(sql: Sql) -> Expr {
    let Statement { sql, values, .. } = sql.into_statement();
    Expr::cust_with_values(sql, values.map(|values| values.0).unwrap_or_default())
}

fn in_any_group(backend: DbBackend, table: &str, groups: &[GroupId]) -> Expr {
    let mut sql = Sql::new(
        backend,
        format!(
            "EXISTS (SELECT 1 FROM group_members m WHERE m.tenant_id = {table}.tenant_id \
             AND m.user_id = {table}.user_id AND "
        ),
    );
    sql.is_any("m.group_id", groups.iter().map(|group| group.0.into()))
        .push(")");
    condition(sql)
}

fn holds_any_role(backend: DbBackend, query: &UserQuery) -> Expr {
    let mut sql = Sql::new(
        backend,
        "EXISTS (SELECT 1 FROM role_assignments a WHERE a.tenant_id = users.tenant_id AND a.user_id = users.user_id AND ",
    );
    sql.is_any("a.role", query.roles.iter().map(|role| role.to_string().into()))
        .push(")");
    condition(sql)
}

fn was_invited_before(backend: DbBackend, before: DateTime<Utc>, now: DateTime<Utc>) -> Expr {
    let mut sql = Sql::new(
        backend,
        "EXISTS (SELECT 1 FROM invitations i WHERE i.tenant_id = users.tenant_id AND i.user_id = users.user_id \
         AND i.state = 'SENT' AND i.sent_at < ",
    );
    sql.bind(before).push(" AND i.lapses_at > ").bind(now).push(")");
    condition(sql)
}

/// One page of invitations, the newest first.
pub(crate) fn invitations(
    backend: DbBackend,
    query: &InvitationQuery,
) -> Result<Select<invitation::Entity>, StoreError> {
    use invitation::Column;
    let mut select = invitation::Entity::find().filter(Column::TenantId.eq(query.tenant.0));
    if !query.states.is_empty() {
        let states = query.states.iter().map(|state| is_in_state(*state, query.now));
        select = select.filter(any(states));
    }
    if let Some(user) = query.user {
        select = select.filter(Column::UserId.eq(user.0));
    }
    if let Some(before) = query.sent_before {
        select = select.filter(Column::SentAt.lt(before));
    }
    if !query.groups.is_empty() {
        select = select.filter(in_any_group(backend, "invitations", &query.groups));
    }
    let after = newest_first(query.after.as_ref())?;
    Ok(page(
        select,
        (Column::CreatedAt, Column::InvitationId),
        &Order::Desc,
        after,
        query.limit,
    ))
}

/// One page of deliveries, the newest first.
pub(crate) fn deliveries(backend: DbBackend, query: &DeliveryQuery) -> Result<Select<delivery::Entity>, StoreError> {
    use delivery::Column;
    let mut select = delivery::Entity::find().filter(Column::TenantId.eq(query.tenant.0));
    if let Some(user) = query.user {
        select = select.filter(Column::UserId.eq(user.0));
    }
    if let Some(delivery) = query.delivery {
        select = select.filter(Column::DeliveryId.eq(delivery.0));
    }
    if !query.groups.is_empty() {
        select = select.filter(in_any_group(backend, "deliveries", &query.groups));
    }
    if !query.states.is_empty() {
        select = select.filter(Column::State.is_in(query.states.iter().map(|state| state.as_str())));
    }
    let after = newest_first(query.after.as_ref())?;
    Ok(page(
        select,
        (Column::CreatedAt, Column::DeliveryId),
        &Order::Desc,
        after,
        query.limit,
    ))
}

/// The attempts of these deliveries, the oldest first.
pub(crate) async fn attempts<C: ConnectionTrait>(
    db: &C,
    tenant: TenantId,
    deliveries: Vec<Uuid>,
) -> Result<HashMap<Uuid, Vec<Attempt>>, StoreError> {
    let mut attempts: HashMap<Uuid, Vec<Attempt>> = HashMap::new();
    if deliveries.is_empty() {
        return Ok(attempts);
    }
    let columns = columns_of::<attempt::Entity>("a");
    let mut sql = Sql::new(
        db.get_database_backend(),
        format!("SELECT {columns} FROM delivery_attempts a WHERE a.tenant_id = "),
    );
    sql.bind(tenant.0)
        .push(" AND ")
        .is_any("a.delivery_id", deliveries.into_iter().map(Value::from))
        .push(" ORDER BY a.started_at, a.claim_id");
    let rows = attempt::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
    for row in rows.map_err(store_error)? {
        attempts.entry(row.delivery_id).or_default().push(row.try_into()?);
    }
    Ok(attempts)
}

/// One page of suppressions, the newest first. Addresses are their ids: the key of a page is the instant, a space and the
/// address.
pub(crate) fn suppressions(
    tenant: TenantId,
    after: Option<&After>,
    limit: u32,
) -> Result<Select<suppression::Entity>, StoreError> {
    use suppression::Column;
    let select = suppression::Entity::find().filter(Column::TenantId.eq(tenant.0));
    let after = match after {
        Some(after) => {
            let (at, email) = after
                .key
                .split_once(' ')
                .ok_or_else(|| unreadable("the page key", &after.key))?;
            Some((instant(at)?, email.into()))
        }
        None => None,
    };
    Ok(page(
        select,
        (Column::CreatedAt, Column::EmailKey),
        &Order::Desc,
        after,
        limit,
    ))
}

pub(crate) fn page<E: EntityTrait, C: ColumnTrait>(
    mut select: Select<E>,
    (key, id): (C, C),
    order: &Order,
    after: Option<(Value, Value)>,
    limit: u32,
) -> Select<E> {
    if let Some((last_key, last_id)) = after {
        let here = Expr::tuple([key.into_expr(), id.into_expr()]);
        let last = Expr::tuple([Expr::val(last_key), Expr::val(last_id)]);
        select = select.filter(if *order == Order::Desc {
            here.lt(last)
        } else {
            here.gt(last)
        });
    }
    select
        .order_by(key, order.clone())
        .order_by(id, order.clone())
        .limit(u64::from(limit))
}

pub(crate) fn newest_first(after: Option<&After>) -> Result<Option<(Value, Value)>, StoreError> {
    after
        .map(|after| Ok((instant(&after.key)?, after.id.into())))
        .transpose()
}

fn instant(key: &str) -> Result<Value, StoreError> {
    let at = DateTime::parse_from_rfc3339(key).map_err(|_| unreadable("the page key", key))?;
    Ok(at.with_timezone(&Utc).into())
}

fn any(conditions: impl Iterator<Item = Condition>) -> Condition {
    conditions.fold(Condition::any(), Condition::add)
}

/// The status that counts at `now` (S5), in SQL: see `Status::effective`.
fn has_status(status: StatusName, now: DateTime<Utc>) -> Condition {
    use user::Column;
    let written = Column::Status.eq(status.as_str());
    match status {
        StatusName::Erased => Condition::all().add(written),
        StatusName::Expired => Condition::all()
            // In the words of an index: those who could have expired.
            .add(Expr::cust("(status = 'EXPIRED' OR expires_at IS NOT NULL)"))
            .add(
                Condition::any()
                    .add(written)
                    .add(Column::ExpiresAt.lte(now).and(not_erased())),
            ),
        StatusName::Pending | StatusName::Invited | StatusName::Active | StatusName::Deactivated => Condition::all()
            .add(written)
            .add(Column::ExpiresAt.is_null().or(Column::ExpiresAt.gt(now))),
    }
}

/// The state that counts at `now`, in SQL: see `Invitation::effective_state`.
fn is_in_state(state: InvitationState, now: DateTime<Utc>) -> Condition {
    use invitation::Column;
    let written = Column::State.eq(state.as_str());
    if state.is_open() {
        return Condition::all().add(written).add(Column::LapsesAt.gt(now));
    }
    if state != InvitationState::Lapsed {
        return Condition::all().add(written);
    }
    let open = InvitationState::ALL.into_iter().filter(|state| state.is_open());
    let lapsed = Column::State
        .is_in(open.map(InvitationState::as_str))
        .and(Column::LapsesAt.lte(now));
    Condition::any().add(written).add(lapsed)
}

fn has_label(backend: DbBackend, label: &str) -> Expr {
    if backend == DbBackend::Postgres {
        Expr::cust_with_values("labels @> $1", [Value::from(serde_json::json!([label]))])
    } else {
        Expr::cust_with_values(
            "EXISTS (SELECT 1 FROM json_each(users.labels) WHERE value = ?)",
            [Value::from(label)],
        )
    }
}

/// A text in which nothing stands for anything else.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Mails to people that were due before an instant and wait still, the longest waiting first.
pub(crate) fn waiting_mails(tenant: TenantId, before: Timestamp, limit: u32) -> Select<delivery::Entity> {
    use delivery::Column;
    delivery::Entity::find()
        .select_only()
        .columns([Column::UserId, Column::DeliveryId])
        .filter(Column::TenantId.eq(tenant.0))
        // Word for word as in the index.
        .filter(Expr::cust("state IN ('QUEUED', 'DEFERRED')"))
        .filter(Column::DueAt.lte(before))
        .filter(Column::UserId.is_not_null())
        .order_by_asc(Column::DueAt)
        .limit(u64::from(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_that_were_typed_are_letters() {
        assert_eq!(escaped("50%_a\\b"), "50\\%\\_a\\\\b");
    }

    #[test]
    fn a_page_key_that_is_no_instant_is_refused() {
        assert!(instant("yesterday").is_err());
        assert!(instant("2026-01-02T03:04:05.000006Z").is_ok());
    }
}
