//! What a bulk job does to one item (U5, B7), and how that is taken back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::TimeDelta;
use usher_authorization::{Intent, Resource};
use usher_core::account::{Account, Effect};
use usher_core::change::{Act, Changeset};
use usher_core::ids::{GroupId, TenantId, UserId};
use usher_core::invitation::Message;
use usher_core::job::{HeldRole, ItemInput, ItemOutcome, ItemResult, Job, JobAction, Undo};
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::role::{Permission, RoleRef, Scope};
use usher_core::status::Status;

use super::import;
use super::world::World;
use crate::grpc::role_service::check_exists;
use crate::judge::Asking;
use crate::status::{classify, item as told, tell_of_item};

/// What the items of a chunk need: their accounts, and whatever the action puts them into.
pub(crate) fn keys(tenant: TenantId, action: &JobAction, items: &[ItemInput]) -> Keys {
    if matches!(action, JobAction::Import { .. }) {
        return import::keys(tenant, items);
    }
    let mut keys = Keys {
        tenants: [tenant].into(),
        users: items
            .iter()
            .filter_map(|item| item.user)
            .map(|user| (tenant, user))
            .collect(),
        with_mail: true,
        with_belonging: true,
        ..Keys::default()
    };
    let undone = items.iter().filter_map(|item| item.undo.as_ref());
    let (groups, roles): (Vec<GroupId>, Vec<HeldRole>) = match action {
        JobAction::EditGroups { add, .. } => (add.clone(), Vec::new()),
        JobAction::EditRoles { assign, .. } => (Vec::new(), assign.clone()),
        JobAction::Undo => (
            undone.clone().flat_map(Undo::groups_back).collect(),
            undone.flat_map(Undo::roles_back).collect(),
        ),
        _ => (Vec::new(), Vec::new()),
    };
    keys.groups.extend(groups.into_iter().map(|group| (tenant, group)));
    for (role, scope) in roles.iter().filter_map(HeldRole::read) {
        if let Scope::Group(group) = scope {
            keys.groups.insert((tenant, group));
        }
        if matches!(role, RoleRef::Custom(_)) {
            keys.roles.insert(tenant);
        }
    }
    keys
}

/// Whether the chunk after these items can be decided as if they were dealt with: what it sees and what its actor may do is
/// not changed by them. Imports look for rows of the same address, and seats are counted.
pub(crate) fn is_independent(job: &Job, items: &[ItemInput]) -> bool {
    let alone = matches!(
        job.action,
        JobAction::Invite { .. } | JobAction::Resend { .. } | JobAction::Deactivate | JobAction::EditLabels { .. }
    );
    alone
        && !items
            .iter()
            .any(|item| item.user.is_some_and(|user| user.to_string() == job.actor))
}

/// What each item asks for (U2): whoever started the job may do to a user what they could do one by one.
pub(crate) fn permission(action: &JobAction) -> Permission {
    match action {
        JobAction::Invite { .. } | JobAction::Resend { .. } => Permission::InvitationsSend,
        JobAction::Deactivate | JobAction::Reactivate => Permission::UsersChangeStatus,
        JobAction::SetExpiration { .. } => Permission::UsersSetExpiration,
        JobAction::EditGroups { .. } => Permission::GroupsEditMembers,
        JobAction::EditRoles { .. } => Permission::RolesAssign,
        JobAction::EditLabels { .. } => Permission::UsersUpdate,
        JobAction::Import { .. } => Permission::UsersImport,
        JobAction::Undo => Permission::JobsRun,
    }
}

/// What taking it back asks for.
fn undo_permission(undo: &Undo) -> Permission {
    match undo {
        Undo::Reactivate { .. } | Undo::Deactivate { .. } => Permission::UsersChangeStatus,
        Undo::SetExpiration { .. } => Permission::UsersSetExpiration,
        Undo::EditGroups { .. } => Permission::GroupsEditMembers,
        Undo::EditRoles { .. } => Permission::RolesAssign,
        Undo::EditLabels { .. } => Permission::UsersUpdate,
    }
}

/// Deals with one item. `fits`: the user still matches what was previewed. Refused, it leaves no trace but its outcome; so does a rule that panics.
pub(crate) fn deal(
    tenant: TenantId,
    action: &JobAction,
    (item, fits): (&ItemInput, bool),
    world: &mut World,
    asker: &mut Asking<'_>,
    act: &Act,
    changes: &mut Changeset,
) -> ItemResult {
    let done = catch_unwind(AssertUnwindSafe(|| match (action, item.user) {
        (
            JobAction::Import {
                mode,
                dry_run,
                overwrite_edited,
                messages,
                heads,
            },
            _,
        ) => {
            let how = import::How {
                tenant,
                mode: *mode,
                dry_run: *dry_run,
                overwrite_edited: *overwrite_edited,
                messages,
                heads,
            };
            import::deal(how, item, world, asker, act, changes)
        }
        (_, Some(user)) => {
            let done = one(action, (item, fits), (tenant, user), world, asker, act, changes);
            tell_of_item(changes, (tenant, Some(user)), &done);
            told_of(item, done)
        }
        (_, None) => refused(item, &Refusal::UserNotFound(String::new())),
    }));
    done.unwrap_or_else(|_panic| {
        tracing::error!(
            position = item.position,
            action = action.name(),
            "a rule panicked on an item of a job"
        );
        failed(item)
    })
}

/// The outcome of what was done to a user.
fn told_of(item: &ItemInput, done: Result<Done, Refusal>) -> ItemResult {
    match done {
        Ok((effect, undo)) => {
            let outcome = match effect {
                Effect::Changed => ItemOutcome::Changed,
                Effect::Unchanged => ItemOutcome::Unchanged,
            };
            ItemResult {
                undo: undo.filter(|_| effect == Effect::Changed),
                ..ItemResult::new(item, outcome)
            }
        }
        Err(refusal) => refused(item, &refusal),
    }
}

/// An item that could not be dealt with for a fault of ours.
pub(crate) fn failed(item: &ItemInput) -> ItemResult {
    ItemResult {
        reason: "INTERNAL".into(),
        message: "internal fault; it was logged; repeat it (RetryFailed)".into(),
        ..ItemResult::new(item, ItemOutcome::Failed)
    }
}

/// An item that was refused: what may go another way a second time failed, whatever no longer fits is skipped (U6).
pub(crate) fn refused(item: &ItemInput, refusal: &Refusal) -> ItemResult {
    let outcome = match refusal {
        Refusal::SeatLimit { .. }
        | Refusal::PermissionDenied { .. }
        | Refusal::ActorNotActive(_)
        | Refusal::GroupNotFound(_)
        | Refusal::RoleNotFound(_)
        | Refusal::AddressSuppressed(_)
        | Refusal::EmailTaken(_)
        | Refusal::ExternalIdTaken(_)
        | Refusal::InvalidFields(_) => ItemOutcome::Failed,
        _ => ItemOutcome::Skipped,
    };
    debug_assert!(!matches!(classify(refusal).0, tonic::Code::Internal));
    let told = told(refusal);
    ItemResult {
        reason: told.reason,
        message: told.message,
        ..ItemResult::new(item, outcome)
    }
}

type Done = (Effect, Option<Undo>);

fn one(
    action: &JobAction,
    (item, fits): (&ItemInput, bool),
    (tenant, user): (TenantId, UserId),
    world: &mut World,
    asker: &mut Asking<'_>,
    act: &Act,
    changes: &mut Changeset,
) -> Result<Done, Refusal> {
    let account = world.account(tenant, user)?;
    let resource = asker.resource(account);
    let wanted = item.undo.as_ref().map_or_else(|| permission(action), undo_permission);
    asker.require(wanted, &resource, &Intent::default())?;
    if !fits && account.user.status != Status::Erased {
        return Err(Refusal::NoLongerMatches(user.to_string()));
    }
    for (permission, scope) in places(action, item.undo.as_ref()) {
        if let Scope::Group(group) = &scope {
            check_exists(
                world,
                tenant,
                RoleRef::BuiltIn(usher_core::role::BuiltInRole::Learner),
                &scope,
            )
            .or_else(|missing| {
                if leaves(action, item.undo.as_ref(), *group) {
                    Ok(())
                } else {
                    Err(missing)
                }
            })?;
        }
        asker.require(permission, &Resource::Scope(scope), &Intent::default())?;
    }
    let given = given(action, item.undo.as_ref());
    for (role, scope) in &given {
        check_exists(world, tenant, *role, scope)?;
    }
    asker.require_given(tenant, &given, world)?;
    let account = world.account(tenant, user)?;
    account.decide(changes, |account, changes| match &item.undo {
        Some(undo) => take_back(undo, account, act, changes).map(|effect| (effect, None)),
        None => carry_out(action, account, act, changes),
    })
}

/// The groups and scopes that an action touches beside the user: each is asked about, so that nobody reaches into a group
/// that is not theirs (L6).
pub(crate) fn places(action: &JobAction, undo: Option<&Undo>) -> Vec<(Permission, Scope)> {
    let groups = |groups: &[GroupId]| -> Vec<_> {
        let scopes = groups.iter().copied().map(Scope::Group);
        scopes.map(|scope| (Permission::GroupsEditMembers, scope)).collect()
    };
    let roles = |roles: &[HeldRole]| -> Vec<_> {
        let held = roles.iter().filter_map(HeldRole::read);
        held.map(|(_, scope)| (Permission::RolesAssign, scope)).collect()
    };
    match (undo, action) {
        (Some(Undo::EditGroups { added, removed }), _)
        | (
            None,
            JobAction::EditGroups {
                add: added,
                remove: removed,
            },
        ) => [groups(added), groups(removed)].concat(),
        (Some(Undo::EditRoles { assigned, revoked }), _)
        | (
            None,
            JobAction::EditRoles {
                assign: assigned,
                revoke: revoked,
            },
        ) => [roles(assigned), roles(revoked)].concat(),
        _ => Vec::new(),
    }
}

/// The roles that an action gives, or gives back.
pub(crate) fn given(action: &JobAction, undo: Option<&Undo>) -> Vec<(RoleRef, Scope)> {
    let given = match (undo, action) {
        (Some(undo), _) => undo.roles_back(),
        (None, JobAction::EditRoles { assign, .. }) => assign.clone(),
        (None, _) => Vec::new(),
    };
    given.iter().filter_map(HeldRole::read).collect()
}

/// Whether the user only leaves this group: then it need not exist any more.
fn leaves(action: &JobAction, undo: Option<&Undo>, group: GroupId) -> bool {
    match (undo, action) {
        (Some(Undo::EditGroups { added, .. }), _) => added.contains(&group),
        (None, JobAction::EditGroups { remove, .. }) => remove.contains(&group),
        _ => true,
    }
}

fn carry_out(action: &JobAction, account: &mut Account, act: &Act, changes: &mut Changeset) -> Result<Done, Refusal> {
    match action {
        JobAction::Deactivate => {
            let effect = account.deactivate(act, changes)?;
            let since = account.user.status_since;
            Ok((effect, Some(Undo::Reactivate { since })))
        }
        JobAction::Reactivate => {
            let effect = account.reactivate(act, changes)?;
            let since = account.user.status_since;
            Ok((effect, Some(Undo::Deactivate { since })))
        }
        JobAction::SetExpiration { at } => {
            if at.is_some_and(|at| at <= act.now) {
                return Err(Refusal::field("expire_time", "has passed since the job was started"));
            }
            let before = account.user.expires_at;
            let effect = account.set_expiration(*at, act, changes)?;
            Ok((
                effect,
                Some(Undo::SetExpiration {
                    at: before,
                    set: account.user.expires_at,
                }),
            ))
        }
        JobAction::Invite { messages } => {
            let message = choose(messages, account);
            account.invite(message, act, changes)?;
            Ok((Effect::Changed, None))
        }
        JobAction::Resend {
            sent_days_ago,
            messages,
        } => resend(*sent_days_ago, messages, account, act, changes),
        JobAction::EditGroups { add, remove } => edit_groups(add, remove, account, act, changes),
        JobAction::EditRoles { assign, revoke } => edit_roles(assign, revoke, account, act, changes),
        JobAction::EditLabels { add, remove } => edit_labels(add, remove, account, act, changes),
        JobAction::Import { .. } | JobAction::Undo => Err(Refusal::field("action", "has nothing to do with this item")),
    }
}

fn resend(
    sent_days_ago: i32,
    messages: &[Message],
    account: &mut Account,
    act: &Act,
    changes: &mut Changeset,
) -> Result<Done, Refusal> {
    let Some(invitation) = &account.invitation else {
        return Err(Refusal::InvitationNotFound(format!("of user {}", account.user.id)));
    };
    let before = act.now - TimeDelta::days(sent_days_ago.into());
    let (id, sent_at) = (invitation.id, invitation.sent_at);
    if sent_days_ago > 0 && sent_at.is_none_or(|at| at > before) {
        return Ok((Effect::Unchanged, None));
    }
    let message = choose(messages, account);
    account.resend(id, message, act, changes)?;
    Ok((Effect::Changed, None))
}

fn edit_groups(
    add: &[GroupId],
    remove: &[GroupId],
    account: &mut Account,
    act: &Act,
    changes: &mut Changeset,
) -> Result<Done, Refusal> {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for group in remove {
        if account.leave(*group, act, changes) == Effect::Changed {
            removed.push(*group);
        }
    }
    for group in add {
        if account.join(*group, act, changes)? == Effect::Changed {
            added.push(*group);
        }
    }
    let effect = effect(added.is_empty() && removed.is_empty());
    Ok((effect, Some(Undo::EditGroups { added, removed })))
}

fn edit_roles(
    assign: &[HeldRole],
    revoke: &[HeldRole],
    account: &mut Account,
    act: &Act,
    changes: &mut Changeset,
) -> Result<Done, Refusal> {
    let (mut assigned, mut revoked) = (Vec::new(), Vec::new());
    for held in revoke {
        if let Some((role, scope)) = held.read()
            && account.revoke(role, scope, act, changes) == Effect::Changed
        {
            revoked.push(held.clone());
        }
    }
    for held in assign {
        if let Some((role, scope)) = held.read()
            && account.assign(role, scope, act, changes)? == Effect::Changed
        {
            assigned.push(held.clone());
        }
    }
    let effect = effect(assigned.is_empty() && revoked.is_empty());
    Ok((effect, Some(Undo::EditRoles { assigned, revoked })))
}

fn edit_labels(
    add: &[String],
    remove: &[String],
    account: &mut Account,
    act: &Act,
    changes: &mut Changeset,
) -> Result<Done, Refusal> {
    let before = account.user.profile.labels.clone();
    let effect = account.edit_labels(add, remove, act, changes)?;
    let after = &account.user.profile.labels;
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|label| !those.contains(label)).cloned().collect()
    };
    let undo = Undo::EditLabels {
        added: only(after, &before),
        removed: only(&before, after),
    };
    Ok((effect, Some(undo)))
}

fn take_back(undo: &Undo, account: &mut Account, act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
    match undo {
        Undo::Reactivate { since } => {
            account.check_standing_since(*since)?;
            account.reactivate(act, changes)
        }
        Undo::Deactivate { since } => {
            account.check_standing_since(*since)?;
            account.deactivate(act, changes)
        }
        Undo::SetExpiration { at, set } => {
            account.check_expiration(*set)?;
            if at.is_some_and(|at| at <= act.now) {
                return Err(Refusal::field(
                    "expire_time",
                    "was to be before now; it would end access at once",
                ));
            }
            account.set_expiration(*at, act, changes)
        }
        Undo::EditGroups { added, removed } => {
            edit_groups(removed, added, account, act, changes).map(|(effect, _)| effect)
        }
        Undo::EditRoles { assigned, revoked } => {
            edit_roles(revoked, assigned, account, act, changes).map(|(effect, _)| effect)
        }
        Undo::EditLabels { added, removed } => account.edit_labels(removed, added, act, changes),
    }
}

fn choose(messages: &[Message], account: &Account) -> Option<Message> {
    let default = &account.tenant.settings.default_language;
    Message::choose(messages, &account.user.profile.language, default).cloned()
}

fn effect(nothing: bool) -> Effect {
    if nothing { Effect::Unchanged } else { Effect::Changed }
}
