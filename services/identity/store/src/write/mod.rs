//! Writes a changeset: one multi-row statement a table, and on PostgreSQL all of them in one round trip.
//!
//! There the statements are joined as data-modifying `WITH` queries. They see one snapshot, which is fine, since no two of
//! them touch the same row. Their order matters for locks alone: a transaction that has seats locked may wait for a timer, so
//! nobody may wait for seats who holds one.

mod erasures;
mod jobs;
mod people;

use sea_orm::{ConnectionTrait, DbBackend, Value};
use usher_core::change::Changeset;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::StoreError;
use usher_core::timer::{TimerKey, TimerKind};
use usher_core::user::User;

use crate::bulk::{OnConflict, delete, insert, update};
use crate::entity::{
    attempt, delivery, history, invitation, outbox, response, suppression, template, tenant, timer, user,
};
use crate::error::store_error;
use crate::sql::Sql;

/// Writes everything or, by an error, nothing: the transaction is then of no further use.
pub(crate) async fn execute<C: ConnectionTrait>(db: &C, statements: Vec<Sql>) -> Result<(), StoreError> {
    for statement in statements {
        db.execute_raw(statement.into_statement()).await.map_err(store_error)?;
    }
    Ok(())
}

/// What writes a changeset, in order.
pub(crate) fn statements(backend: DbBackend, changes: &Changeset) -> Result<Vec<Sql>, StoreError> {
    let all = by_table(backend, changes)?;
    if all.len() > 1 && backend == DbBackend::Postgres {
        return Ok(vec![joined(all)]);
    }
    Ok(all)
}

/// All in one, for PostgreSQL: it runs what nobody reads from the last to the first, so the first to run comes last.
fn joined(statements: Vec<Sql>) -> Sql {
    let mut all = Sql::new(DbBackend::Postgres, "WITH ");
    for (index, statement) in statements.into_iter().rev().enumerate() {
        all.push(if index == 0 { "" } else { ", " })
            .push(&format!("w{index} AS ("))
            .append(statement)
            .push(")");
    }
    all.push(" SELECT 1");
    all
}

fn by_table(backend: DbBackend, changes: &Changeset) -> Result<Vec<Sql>, StoreError> {
    let mut all = Vec::new();
    tenants(backend, changes, &mut all);
    let templates: Vec<_> = changes.templates.iter().map(Into::into).collect();
    all.extend(insert::<template::Entity>(backend, &templates, &[], OnConflict::Fail));
    users(backend, changes, &mut all);
    people::write(backend, changes, &mut all);
    jobs::write(backend, changes, &mut all)?;
    erasures::write(backend, changes, &mut all)?;
    mail(backend, changes, &mut all);
    suppressions(backend, changes, &mut all);
    timers(backend, changes, &mut all);
    events(backend, changes, &mut all)?;
    all.extend(crate::audit::entries(backend, &changes.audit, false));
    let responses: Vec<_> = changes.responses.iter().map(Into::into).collect();
    all.extend(insert::<response::Entity>(backend, &responses, &[], OnConflict::Fail));
    Ok(all)
}

fn tenants(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let (new, old): (Vec<_>, Vec<_>) = changes
        .tenants
        .iter()
        .partition(|(id, _)| changes.created_tenants.contains(id));
    let rows = |tenants: Vec<(_, &std::sync::Arc<usher_core::tenant::Tenant>)>| {
        tenants
            .into_iter()
            .map(|(_, tenant)| tenant.as_ref().into())
            .collect::<Vec<_>>()
    };
    all.extend(insert::<tenant::Entity>(backend, &rows(new), &[], OnConflict::Fail));
    all.extend(insert::<tenant::Entity>(backend, &rows(old), &[], OnConflict::Replace));
}

fn users(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let (new, old): (Vec<_>, Vec<_>) = changes
        .users
        .iter()
        .partition(|(key, _)| changes.created_users.contains(key));
    // A row is written once in a statement: a sign-in goes with the rest.
    let row = |(key, user): (&(TenantId, UserId), &User)| {
        let mut row = user::Model::from(user);
        if let Some(login) = changes.logins.get(key) {
            row.last_login_at = row.last_login_at.max(*login);
            row.inactivity_warned_at = row.inactivity_warned_at.filter(|warned| warned > login);
        }
        row
    };
    let rows = |users: Vec<(&(TenantId, UserId), &User)>| users.into_iter().map(row).collect::<Vec<_>>();
    all.extend(insert::<user::Entity>(backend, &rows(new), &[], OnConflict::Fail));
    all.extend(update::<user::Entity>(backend, &rows(old)));
}

fn mail(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let invitations: Vec<_> = changes.invitations.values().map(Into::into).collect();
    all.extend(insert::<invitation::Entity>(
        backend,
        &invitations,
        &[],
        OnConflict::Replace,
    ));
    // Those that end first: another may take their place in the index that guards against a second mail.
    let (live, ended): (Vec<_>, Vec<_>) = changes
        .deliveries
        .values()
        .partition(|delivery| delivery.state.name().is_live());
    let deliveries: Vec<_> = ended.into_iter().chain(live).map(Into::into).collect();
    all.extend(insert::<delivery::Entity>(
        backend,
        &deliveries,
        &[],
        OnConflict::Replace,
    ));
    let attempts: Vec<_> = changes.attempts.values().map(Into::into).collect();
    let end = OnConflict::ReplaceOnly(&attempt::END);
    all.extend(insert::<attempt::Entity>(backend, &attempts, &[], end));
}

fn suppressions(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let rows: Vec<_> = changes
        .suppressed
        .iter()
        .map(|((tenant, email), (cause, at))| suppression::Model {
            tenant_id: tenant.0,
            email_key: email.clone(),
            cause: cause.clone(),
            created_at: *at,
        })
        .collect();
    all.extend(insert::<suppression::Entity>(backend, &rows, &[], OnConflict::Replace));
    // An address that bounced in the same instant in which it was freed stays suppressed.
    let freed = changes
        .unsuppressed
        .iter()
        .filter(|key| !changes.suppressed.contains_key(key))
        .map(|(tenant, email)| [tenant.0.into(), email.as_str().into()]);
    all.extend(delete(backend, ("suppressions", "tenant_id, email_key"), freed));
}

fn timers(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) {
    let set: Vec<_> = changes.timers.values().flatten().map(Into::into).collect();
    all.extend(insert::<timer::Entity>(backend, &set, &[], OnConflict::Replace));
    let cleared = changes
        .timers
        .iter()
        .filter(|(key, timer)| timer.is_none() && !is_new(key, changes))
        .map(|(key, _)| -> [Value; 3] { [key.tenant.0.into(), key.kind.as_str().into(), key.subject.into()] });
    all.extend(delete(backend, ("timers", "tenant_id, kind, subject"), cleared));
}

/// Whether the timer would be that of a user who is only now created: there is none to clear.
fn is_new(key: &TimerKey, changes: &Changeset) -> bool {
    matches!(key.kind, TimerKind::Expiration | TimerKind::Deletion)
        && changes.created_users.contains(&(key.tenant, key.subject.into()))
}

fn events(backend: DbBackend, changes: &Changeset, all: &mut Vec<Sql>) -> Result<(), StoreError> {
    let mut published = Vec::with_capacity(changes.events.len());
    let mut kept = Vec::with_capacity(changes.events.len());
    for event in &changes.events {
        published.push(outbox::Model::try_from(event)?);
        kept.extend(history::row_of(event)?);
    }
    all.extend(insert::<outbox::Entity>(
        backend,
        &published,
        &outbox::GENERATED,
        OnConflict::Fail,
    ));
    all.extend(insert::<history::Entity>(
        backend,
        &kept,
        &history::GENERATED,
        OnConflict::Fail,
    ));
    Ok(())
}
