//! Groups, roles, seats and sign-ins.

use std::collections::BTreeMap;

use sea_orm::{DbBackend, Value};
use usher_core::change::Changeset;
use usher_core::ids::TenantId;
use usher_core::role::Assignment;

use crate::bulk::{OnConflict, delete, insert};
use crate::entity::{assignment, group, inactivity_run, member, role, seat_entry};
use crate::sql::Sql;

/// Sign-ins in one statement at most: each binds three values on SQLite, whose limit is 32,766.
const LOGINS: usize = 10_000;

pub(super) fn write(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    groups(backend, changes, all);
    memberships(backend, changes, all);
    roles(backend, changes, all);
    assignments(backend, changes, all);
    seats(backend, changes, all);
    logins(backend, changes, all);
    let runs: Vec<_> = changes.inactivity_runs.values().map(Into::into).collect();
    all.extend(insert::<inactivity_run::Entity>(
        backend,
        &runs,
        &[],
        OnConflict::Replace,
    ));
}

fn groups(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let rows: Vec<_> = changes.groups.values().map(Into::into).collect();
    all.extend(insert::<group::Entity>(backend, &rows, &[], OnConflict::Replace));
    if changes.deleted_groups.is_empty() {
        return;
    }
    for table in ["user_groups", "group_members"] {
        let mut sql = Sql::new(backend, format!("DELETE FROM {table} WHERE (tenant_id, group_id) IN ("));
        sql.set(
            changes
                .deleted_groups
                .iter()
                .map(|(tenant, group)| [tenant.0.into(), group.0.into()]),
        )
        .push(")");
        all.push(sql);
    }
    let mut sql = Sql::new(
        backend,
        "DELETE FROM role_assignments WHERE scope_kind = 'GROUP' AND (tenant_id, scope_id) IN (",
    );
    sql.set(
        changes
            .deleted_groups
            .iter()
            .map(|(tenant, group)| [tenant.0.into(), group.to_string().into()]),
    )
    .push(")");
    all.push(sql);
}

fn memberships(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let rows: Vec<_> = changes
        .memberships
        .iter()
        .filter_map(|((tenant, group, user), created)| {
            created.map(|user_created_at| member::Model {
                tenant_id: tenant.0,
                group_id: group.0,
                user_id: user.0,
                user_created_at,
            })
        })
        .collect();
    all.extend(insert::<member::Entity>(backend, &rows, &[], OnConflict::Keep));
    let removed = changes
        .memberships
        .iter()
        .filter(|(_, created)| created.is_none())
        .map(|((tenant, group, user), _)| -> [Value; 3] { [tenant.0.into(), group.0.into(), user.0.into()] });
    all.extend(delete(
        backend,
        ("group_members", "tenant_id, group_id, user_id"),
        removed,
    ));
}

fn roles(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let rows: Vec<_> = changes.roles.values().map(Into::into).collect();
    all.extend(insert::<role::Entity>(backend, &rows, &[], OnConflict::Replace));
    if !changes.deleted_roles.is_empty() {
        let mut sql = Sql::new(backend, "DELETE FROM custom_roles WHERE (tenant_id, role_id) IN (");
        sql.set(
            changes
                .deleted_roles
                .iter()
                .map(|(tenant, role)| [tenant.0.into(), role.0.into()]),
        )
        .push(")");
        all.push(sql);
    }
}

fn assignments(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let of = |wanted: bool| {
        changes
            .assignments
            .iter()
            .filter(move |(_, assigned)| **assigned == wanted)
            .map(|(assignment, _)| assignment)
    };
    let rows: Vec<_> = of(true).map(Into::into).collect();
    all.extend(insert::<assignment::Entity>(backend, &rows, &[], OnConflict::Keep));
    let revoked = of(false).map(|held: &Assignment| -> [Value; 5] {
        let (kind, id) = held.scope.parts();
        [
            held.tenant.0.into(),
            held.user.0.into(),
            held.role.to_string().into(),
            kind.into(),
            id.into(),
        ]
    });
    let key = "tenant_id, user_id, role, scope_kind, scope_id";
    all.extend(delete(backend, ("role_assignments", key), revoked));
}

/// The ledger, and what it adds up to. Nothing else writes the count, and every transaction locks users before seats, seats
/// before timers.
fn seats(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let rows: Vec<_> = changes.seats.iter().map(Into::into).collect();
    all.extend(insert::<seat_entry::Entity>(
        backend,
        &rows,
        &seat_entry::GENERATED,
        OnConflict::Fail,
    ));
    let mut sums: BTreeMap<TenantId, i64> = BTreeMap::new();
    for entry in &changes.seats {
        *sums.entry(entry.tenant).or_default() += entry.change;
    }
    sums.retain(|_, sum| *sum != 0);
    if sums.is_empty() {
        return;
    }
    let mut sql = Sql::new(backend, "INSERT INTO seats (tenant_id, used) ");
    let keys = sums.iter().map(|(tenant, sum)| [tenant.0.into(), (*sum).into()]);
    sql.set(keys);
    sql.push(" ON CONFLICT (tenant_id) DO UPDATE SET used = seats.used + excluded.used");
    all.push(sql);
}

/// All in one statement; a row that has a later sign-in stays as it is. Whoever signs in after a warning is no longer
/// inactive (B10).
fn logins(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let rows: Vec<[Value; 3]> = changes
        .logins
        .iter()
        .filter(|(key, _)| !changes.users.contains_key(key))
        .map(|((tenant, user), at)| [tenant.0.into(), user.0.into(), (*at).into()])
        .collect();
    for rows in rows.chunks(LOGINS) {
        let mut sql = Sql::new(backend, "WITH new (tenant_id, user_id, at) AS (");
        sql.set(rows.iter().cloned()).push(
            ") UPDATE users SET last_login_at = new.at, inactivity_warned_at = \
             CASE WHEN users.inactivity_warned_at > new.at THEN users.inactivity_warned_at END \
             FROM new WHERE users.tenant_id = new.tenant_id AND users.user_id = new.user_id \
             AND users.last_login_at < new.at",
        );
        all.push(sql);
    }
}
