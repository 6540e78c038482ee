//! Groups, roles, seats and jobs of the world that a transaction sees.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, FromQueryResult, QueryFilter as _};
use usher_core::account::Belonging;
use usher_core::clock::Timestamp;
use usher_core::group::Group;
use usher_core::ids::{GroupId, JobId, RoleId, TenantId, UserId};
use usher_core::job::Job;
use usher_core::ports::{Keys, StoreError};
use usher_core::role::{Assignment, CustomRole, RoleRef};
use usher_core::seats::Seats;
use uuid::Uuid;

use super::Locking;
use crate::entity::{assignment, group, job, member, role};
use crate::error::store_error;
use crate::sql::{Sql, columns_of};

/// Users of one statement: twice as many values are bound on SQLite, whose limit is 32,766.
const CHUNK: usize = 10_000;

/// The groups asked for, which do not vanish until the transaction ends, and those of the trees asked for.
pub(super) async fn groups<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
    locking: Locking,
) -> Result<HashMap<(TenantId, GroupId), Group>, StoreError> {
    let backend = db.get_database_backend();
    let columns = columns_of::<group::Entity>("g");
    let mut found = HashMap::new();
    let mut statements = Vec::new();
    if !keys.groups.is_empty() {
        let mut sql = Sql::new(
            backend,
            format!("SELECT {columns} FROM user_groups g WHERE (g.tenant_id, g.group_id) IN ("),
        );
        sql.set(
            keys.groups
                .iter()
                .map(|(tenant, group)| [tenant.0.into(), group.0.into()]),
        )
        .push(") ORDER BY g.tenant_id, g.group_id");
        if locking == Locking::ForUpdate {
            sql.for_share("g");
        }
        statements.push(sql);
    }
    if !keys.trees.is_empty() {
        let mut sql = Sql::new(
            backend,
            format!("SELECT {columns} FROM user_groups g WHERE g.tenant_id IN ("),
        );
        sql.set(keys.trees.iter().map(|tenant| [tenant.0.into()])).push(")");
        statements.push(sql);
    }
    for sql in statements {
        let rows = group::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
        for group in rows.map_err(store_error)?.into_iter().map(Group::from) {
            found.insert((group.tenant, group.id), group);
        }
    }
    Ok(found)
}

/// All roles of the tenants asked for, which do not vanish until the transaction ends.
pub(super) async fn roles<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
    locking: Locking,
) -> Result<HashMap<(TenantId, RoleId), CustomRole>, StoreError> {
    if keys.roles.is_empty() {
        return Ok(HashMap::new());
    }
    let columns = columns_of::<role::Entity>("r");
    let mut sql = Sql::new(
        db.get_database_backend(),
        format!("SELECT {columns} FROM custom_roles r WHERE r.tenant_id IN ("),
    );
    sql.set(keys.roles.iter().map(|tenant| [tenant.0.into()]))
        .push(") ORDER BY r.tenant_id, r.role_id");
    match locking {
        Locking::ForUpdate if keys.lock_tenants => drop(sql.for_update("r")),
        Locking::ForUpdate => drop(sql.for_share("r")),
        Locking::None => {}
    }
    let rows = role::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
    rows.map_err(store_error)?
        .into_iter()
        .map(|row| CustomRole::try_from(row).map(|role| ((role.tenant, role.id), role)))
        .collect()
}

/// Of the roles asked about: those that somebody holds. Asked after the roles were locked.
pub(super) async fn held_roles<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
) -> Result<BTreeSet<(TenantId, RoleRef)>, StoreError> {
    let mut held = BTreeSet::new();
    for (tenant, role) in &keys.role_holders {
        let holder = assignment::Entity::find()
            .filter(assignment::Column::TenantId.eq(tenant.0))
            .filter(assignment::Column::Role.eq(role.to_string()))
            .one(db)
            .await;
        if holder.map_err(store_error)?.is_some() {
            held.insert((*tenant, *role));
        }
    }
    Ok(held)
}

/// The jobs asked for, locked.
pub(super) async fn jobs<C: ConnectionTrait>(
    db: &C,
    keys: &Keys,
    locking: Locking,
) -> Result<HashMap<(TenantId, JobId), Job>, StoreError> {
    if keys.jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let columns = columns_of::<job::Entity>("j");
    let mut sql = Sql::new(
        db.get_database_backend(),
        format!("SELECT {columns} FROM jobs j WHERE (j.tenant_id, j.job_id) IN ("),
    );
    sql.set(keys.jobs.iter().map(|(tenant, job)| [tenant.0.into(), job.0.into()]))
        .push(") ORDER BY j.tenant_id, j.job_id");
    if locking == Locking::ForUpdate {
        sql.for_update("j");
    }
    let rows = job::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
    rows.map_err(store_error)?
        .into_iter()
        .map(|row| Job::try_from(row).map(|job| ((job.tenant, job.id), job)))
        .collect()
}

#[derive(FromQueryResult)]
struct Counted {
    tenant_id: Uuid,
    used: i64,
    waiting: i64,
}

/// The seats of these tenants, locked: the last lock that a transaction takes before it writes. A tenant that has no row yet
/// gets one first, so that there is something to lock.
pub(super) async fn seats<C: ConnectionTrait>(
    db: &C,
    tenants: &BTreeSet<TenantId>,
    now: Timestamp,
    locking: Locking,
) -> Result<HashMap<TenantId, Seats>, StoreError> {
    if tenants.is_empty() {
        return Ok(HashMap::new());
    }
    let backend = db.get_database_backend();
    if locking == Locking::ForUpdate {
        let mut sql = Sql::new(backend, "INSERT INTO seats (tenant_id, used) ");
        sql.set(tenants.iter().map(|tenant| [tenant.0.into(), 0_i64.into()]))
            .push(" ON CONFLICT (tenant_id) DO NOTHING");
        db.execute_raw(sql.into_statement()).await.map_err(store_error)?;
    }
    if locking == Locking::ForUpdate {
        // In a statement of its own: the count below must see what was committed before the lock was given.
        let mut sql = Sql::new(backend, "SELECT s.tenant_id FROM seats s WHERE s.tenant_id IN (");
        sql.set(tenants.iter().map(|tenant| [tenant.0.into()]))
            .push(") ORDER BY s.tenant_id")
            .for_update("s");
        db.query_all_raw(sql.into_statement()).await.map_err(store_error)?;
    }
    let mut sql = Sql::new(
        backend,
        "SELECT s.tenant_id, s.used - (SELECT COUNT(*) FROM users u WHERE u.tenant_id = s.tenant_id \
         AND u.status = 'ACTIVE' AND u.expires_at <= ",
    );
    sql.bind(now).push(
        ") AS used, (SELECT COUNT(*) FROM users w WHERE w.tenant_id = s.tenant_id AND w.seat_waiting_since IS NOT NULL \
         AND w.status IN ('PENDING', 'INVITED') AND (w.expires_at IS NULL OR w.expires_at > ",
    );
    sql.bind(now).push(")) AS waiting FROM seats s WHERE s.tenant_id IN (");
    sql.set(tenants.iter().map(|tenant| [tenant.0.into()])).push(")");
    let rows = Counted::find_by_statement(sql.into_statement()).all(db).await;
    Ok(rows
        .map_err(store_error)?
        .into_iter()
        .map(|row| (TenantId(row.tenant_id), Seats::new(row.used, row.waiting)))
        .collect())
}

/// The groups and roles of these users: of those who have any.
pub(crate) async fn belongings<C: ConnectionTrait>(
    db: &C,
    users: &[(TenantId, UserId)],
) -> Result<HashMap<(TenantId, UserId), Belonging>, StoreError> {
    let backend = db.get_database_backend();
    let mut found: HashMap<(TenantId, UserId), Belonging> = HashMap::new();
    for chunk in users.chunks(CHUNK) {
        let keys = || chunk.iter().map(|(tenant, user)| [tenant.0.into(), user.0.into()]);
        let columns = columns_of::<member::Entity>("m");
        let mut sql = Sql::new(
            backend,
            format!("SELECT {columns} FROM group_members m WHERE (m.tenant_id, m.user_id) IN ("),
        );
        sql.set(keys()).push(")");
        let rows = member::Entity::find().from_raw_sql(sql.into_statement()).all(db).await;
        for row in rows.map_err(store_error)? {
            let key = (TenantId(row.tenant_id), UserId(row.user_id));
            found.entry(key).or_default().groups.insert(GroupId(row.group_id));
        }
        let columns = columns_of::<assignment::Entity>("a");
        let mut sql = Sql::new(
            backend,
            format!("SELECT {columns} FROM role_assignments a WHERE (a.tenant_id, a.user_id) IN ("),
        );
        sql.set(keys()).push(")");
        let rows = assignment::Entity::find()
            .from_raw_sql(sql.into_statement())
            .all(db)
            .await;
        for row in rows.map_err(store_error)? {
            let held = Assignment::try_from(row)?;
            let key = (held.tenant, held.user);
            found.entry(key).or_default().roles.insert((held.role, held.scope));
        }
    }
    Ok(found)
}
