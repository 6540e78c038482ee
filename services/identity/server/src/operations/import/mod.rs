//! What an import does with one row of a file (L10), and how a row is kept until then.

mod judging;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use usher_authorization::{Intent, Resource};
use usher_core::account::{Account, Effect, NewUser, Placement, ProfileUpdate};
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::email::EmailAddress;
use usher_core::ids::{GroupId, TenantId, UserId};
use usher_core::invitation::Message;
use usher_core::job::{ImportHeads, ImportMode, ItemInput, ItemOutcome, ItemResult};
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::role::{BuiltInRole, Permission, RoleRef};
use usher_core::status::Status;
use usher_core::user::Profile;

pub(crate) use self::judging::{Names, judge};
use super::bulk;
use super::world::World;
use crate::grpc::role_service::{check_placement, placement_keys};
use crate::judge::Asking;
use crate::status::refused_item;

/// A row as it is kept until its turn comes: judged, with groups and roles found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::option_option, reason = "a date is left alone, cleared, or set")]
pub(crate) struct Kept {
    #[serde(skip_serializing_if = "String::is_empty")]
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    groups: BTreeSet<GroupId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    roles: BTreeSet<String>,
    /// `Some(None)`: cleared.
    #[serde(skip_serializing_if = "Option::is_none", with = "twice")]
    expires: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none", with = "twice")]
    deletes: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
    /// What is wrong with it: the column and the reason, of each fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<(String, String)>,
}

/// An optional value that may be cleared: `null` is cleared, a missing field is left alone.
mod twice {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use usher_core::clock::Timestamp;

    type Twice = Option<Option<Timestamp>>;

    pub(super) fn serialize<S: Serializer>(value: &Twice, serializer: S) -> Result<S::Ok, S::Error> {
        value.unwrap_or_default().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Twice, D::Error> {
        Option::<Timestamp>::deserialize(deserializer).map(Some)
    }
}

/// What an import does, beside the mode of its job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) mode: ImportMode,
    pub(crate) dry_run: bool,
    pub(crate) overwrite_edited: bool,
    pub(crate) messages: &'a [Message],
    pub(crate) heads: &'a ImportHeads,
}

impl Kept {
    fn read(item: &ItemInput) -> Option<Self> {
        serde_json::from_value(item.row.clone()?).ok()
    }

    fn placement(&self) -> Placement {
        Placement {
            groups: self.groups.clone(),
            roles: self.roles.iter().filter_map(|role| RoleRef::from_name(role)).collect(),
        }
    }
}

/// What the rows of a chunk need.
pub(crate) fn keys(tenant: TenantId, items: &[ItemInput]) -> Keys {
    let mut keys = Keys {
        tenants: [tenant].into(),
        with_mail: true,
        with_belonging: true,
        external_accounts: true,
        ..Keys::default()
    };
    for kept in items
        .iter()
        .filter_map(Kept::read)
        .filter(|kept| kept.faults.is_empty())
    {
        keys.extend(&placement_keys(tenant, &kept.placement()));
        if let Ok(email) = EmailAddress::parse(&kept.email) {
            keys.emails.insert((tenant, email.key().to_owned()));
        }
        keys.external_ids.extend(kept.external_id.map(|id| (tenant, id)));
    }
    keys
}

/// Deals with one row. Refused, it leaves no trace but its outcome.
pub(crate) fn deal(
    how: How<'_>,
    item: &ItemInput,
    world: &mut World,
    asking: &mut Asking<'_>,
    act: &Act,
    changes: &mut Changeset,
) -> ItemResult {
    if item.row.is_none() {
        return ItemResult {
            reason: "USER_ERASED".into(),
            message: "the person was erased meanwhile".into(),
            ..ItemResult::new(item, ItemOutcome::Skipped)
        };
    }
    let Some(mut kept) = Kept::read(item) else {
        return bulk::failed(item);
    };
    if !kept.faults.is_empty() {
        let mut faults = std::mem::take(&mut kept.faults).into_iter();
        let (column, message) = faults.next().unwrap_or_default();
        return ItemResult {
            reason: "INVALID_FIELDS".into(),
            column,
            message,
            further: faults.collect(),
            address: kept.email,
            ..ItemResult::new(item, ItemOutcome::Failed)
        };
    }
    let rowing = Rowing { how, kept: &kept, act };
    let done = rowing.row(world, asking, changes);
    if let Err(refusal) = &done {
        let refused = refused_item(how.tenant, rowing.found(world), refusal);
        changes.refused.extend(refused);
    }
    match done {
        Ok((user, detail)) if detail.is_empty() => ItemResult {
            user,
            detail: "already there".into(),
            ..ItemResult::new(item, ItemOutcome::Unchanged)
        },
        Ok((user, detail)) => ItemResult {
            user,
            detail: detail.join(", "),
            ..ItemResult::new(item, ItemOutcome::Changed)
        },
        Err(refusal) => ItemResult {
            column: match refusal {
                Refusal::EmailTaken(_) | Refusal::AddressSuppressed(_) => how.heads.email.clone(),
                Refusal::ExternalIdTaken(_) => how.heads.external_id.clone(),
                _ => String::new(),
            },
            address: kept.email,
            ..bulk::refused(item, &refusal)
        },
    }
}

type Done = (Option<UserId>, Vec<&'static str>);

struct Rowing<'a> {
    how: How<'a>,
    kept: &'a Kept,
    act: &'a Act,
}

impl Rowing<'_> {
    fn row(&self, world: &mut World, asking: &mut Asking<'_>, changes: &mut Changeset) -> Result<Done, Refusal> {
        let tenant = self.how.tenant;
        let email =
            EmailAddress::parse(&self.kept.email).map_err(|fault| Refusal::field("email", fault.to_string()))?;
        let placement = self.kept.placement();
        check_placement(world, tenant, &placement, asking)?;
        self.permit_placement(&placement, asking)?;
        let (by_id, by_email) = (self.by_id(world), self.by_email(world, &email));
        let seats = world.seats(tenant);
        let taken = seats.counts();
        let mut own = Changeset::default();
        let found = by_id.or(by_email);
        let done = match found {
            Some(user) => {
                if by_email.is_some_and(|other| other != user) {
                    return Err(Refusal::EmailTaken(email.as_str().to_owned()));
                }
                // Whoever has the id goes by another address: who of the two is meant, only an update says.
                let brings_in = matches!(self.how.mode, ImportMode::Create | ImportMode::Invite);
                if let (None, true, Some(id)) = (by_email, brings_in, &self.kept.external_id) {
                    return Err(Refusal::ExternalIdTaken(id.clone()));
                }
                let account = world.account(tenant, user)?;
                let before = self.how.dry_run.then(|| account.clone());
                let done = account.decide(&mut own, |account, own| {
                    self.existing(account, &email, &placement, asking, own)
                });
                if let Some(before) = before {
                    *account = before;
                }
                (Some(user), done?)
            }
            None => self.create(email, &placement, world, asking, &mut own)?,
        };
        if self.how.dry_run {
            seats.restore(taken);
        } else {
            changes.extend(own);
        }
        Ok(done)
    }

    fn by_id(&self, world: &World) -> Option<UserId> {
        let id = self.kept.external_id.clone()?;
        world.loaded.external_ids.get(&(self.how.tenant, id)).copied()
    }

    fn by_email(&self, world: &World, email: &EmailAddress) -> Option<UserId> {
        let key = (self.how.tenant, email.key().to_owned());
        world.loaded.emails.get(&key).copied()
    }

    /// Whom the row is about, as far as they are there.
    fn found(&self, world: &World) -> Option<UserId> {
        let email = EmailAddress::parse(&self.kept.email).ok();
        self.by_id(world).or_else(|| self.by_email(world, &email?))
    }

    /// Groups that they are put into, and roles that they are given, are asked about one by one (L6, L9).
    fn permit_placement(&self, placement: &Placement, asking: &mut Asking<'_>) -> Result<(), Refusal> {
        for scope in placement.scopes() {
            let resource = Resource::Scope(scope);
            if !placement.groups.is_empty() {
                asking.require(Permission::GroupsEditMembers, &resource, &Intent::default())?;
            }
            // Whoever may bring people in may bring learners in.
            let learner = RoleRef::BuiltIn(BuiltInRole::Learner);
            if placement.roles.iter().any(|role| *role != learner) {
                asking.require(Permission::RolesAssign, &resource, &self.intent(placement))?;
            }
        }
        Ok(())
    }

    fn intent(&self, placement: &Placement) -> Intent {
        Intent {
            sets_deletion_date: self.kept.deletes.is_some(),
            roles: placement.roles.iter().map(ToString::to_string).collect(),
            group_count: placement.groups.len(),
            ..Intent::default()
        }
    }

    fn create(
        &self,
        email: EmailAddress,
        placement: &Placement,
        world: &mut World,
        asking: &mut Asking<'_>,
        own: &mut Changeset,
    ) -> Result<Done, Refusal> {
        let tenant = self.how.tenant;
        if !matches!(self.how.mode, ImportMode::Create | ImportMode::Invite) {
            return Err(Refusal::UserNotFound(email.as_str().to_owned()));
        }
        let intent = self.intent(placement);
        for scope in placement.scopes() {
            asking.require(Permission::UsersCreate, &Resource::Scope(scope), &intent)?;
        }
        let new = NewUser {
            id: UserId::mint(self.act.now),
            profile: Profile {
                external_id: self.kept.external_id.clone(),
                first_name: self.kept.first_name.clone().unwrap_or_default(),
                last_name: self.kept.last_name.clone().unwrap_or_default(),
                language: self.kept.language.clone().unwrap_or_default(),
                time_zone: self.kept.time_zone.clone().unwrap_or_default(),
                labels: self.kept.labels.clone().unwrap_or_default(),
                ..Profile::of(email)
            },
            credential: None,
            expires_at: self.kept.expires.flatten(),
            deletes_at: self.kept.deletes.flatten(),
        };
        let key = new.profile.email.key().to_owned();
        let suppressed = world.is_suppressed(tenant, &key);
        let mut account = Account::create(
            world.tenant(tenant)?,
            world.seats(tenant),
            new,
            suppressed,
            self.act,
            own,
        )?;
        account.place(placement, self.act, own)?;
        let mut done = vec!["created"];
        if world.was_erased(tenant, &key) {
            done.push("was erased before");
        }
        if self.kept.active == Some(false) {
            account.deactivate(self.act, own)?;
            done.push("deactivated");
        } else if self.how.mode == ImportMode::Invite {
            for scope in placement.scopes() {
                asking.require(Permission::InvitationsSend, &Resource::Scope(scope), &intent)?;
            }
            let message = self.message(&account);
            account.invite(message, self.act, own)?;
            done.push("invited");
        }
        let user = account.user.id;
        if self.how.dry_run {
            return Ok((None, done));
        }
        world.insert(account);
        Ok((Some(user), done))
    }

    fn existing(
        &self,
        account: &mut Account,
        email: &EmailAddress,
        placement: &Placement,
        asking: &mut Asking<'_>,
        own: &mut Changeset,
    ) -> Result<Vec<&'static str>, Refusal> {
        let resource = asking.resource(account);
        let none = Intent::default();
        let mut done = Vec::new();
        match self.how.mode {
            ImportMode::Create => {}
            ImportMode::Invite => {
                let open = account.invitation.as_ref().is_some_and(|it| it.is_open(self.act.now));
                let waits = account.user.seat_waiting_since.is_some();
                let onboarding = matches!(account.user.effective_status(self.act.now), Status::Onboarding(_));
                if onboarding && !open && !waits && account.user.activated_at.is_none() {
                    asking.require(Permission::InvitationsSend, &resource, &none)?;
                    let message = self.message(account);
                    account.invite(message, self.act, own)?;
                    done.push("invited");
                }
            }
            ImportMode::Update => {
                let update = self.update(account, email);
                let intent = Intent {
                    sets_deletion_date: self.kept.deletes.is_some(),
                    ..Intent::default()
                };
                asking.require(Permission::UsersUpdate, &resource, &intent)?;
                let mut changed = account.update(update, self.act, own)? == Effect::Changed;
                if let Some(at) = self.kept.expires
                    && account.user.expires_at != at
                {
                    asking.require(Permission::UsersSetExpiration, &resource, &none)?;
                    changed |= account.set_expiration(at, self.act, own)? == Effect::Changed;
                }
                let before = account.belonging.clone();
                account.place(placement, self.act, own)?;
                changed |= account.belonging != before;
                if changed {
                    done.push("updated");
                }
                match self.kept.active {
                    Some(true) => self.switch(account, true, &resource, asking, own, &mut done)?,
                    Some(false) => self.switch(account, false, &resource, asking, own, &mut done)?,
                    None => {}
                }
            }
            ImportMode::Activate => self.switch(account, true, &resource, asking, own, &mut done)?,
            ImportMode::Deactivate => self.switch(account, false, &resource, asking, own, &mut done)?,
        }
        Ok(done)
    }

    fn switch(
        &self,
        account: &mut Account,
        on: bool,
        resource: &Resource,
        asking: &mut Asking<'_>,
        own: &mut Changeset,
        done: &mut Vec<&'static str>,
    ) -> Result<(), Refusal> {
        asking.require(Permission::UsersChangeStatus, resource, &Intent::default())?;
        let effect = if on {
            account.reactivate(self.act, own)?
        } else {
            account.deactivate(self.act, own)?
        };
        if effect == Effect::Changed {
            done.push(if on { "reactivated" } else { "deactivated" });
        }
        Ok(())
    }

    /// What the file changes: not what the person edited themselves, unless that is asked for.
    fn update(&self, account: &Account, email: &EmailAddress) -> ProfileUpdate {
        let edited = &account.user.edited_fields;
        let may = |field: &str| self.how.overwrite_edited || !edited.iter().any(|known| known == field);
        let kept = self.kept;
        let set = |field: &str, value: &Option<String>| value.clone().filter(|_| may(field));
        ProfileUpdate {
            email: (*email != account.user.profile.email && may("email")).then(|| email.clone()),
            external_id: kept.external_id.clone().map(Some),
            first_name: set("first_name", &kept.first_name),
            last_name: set("last_name", &kept.last_name),
            language: set("language", &kept.language),
            time_zone: set("time_zone", &kept.time_zone),
            labels: kept.labels.clone(),
            deletes_at: kept.deletes,
        }
    }

    fn message(&self, account: &Account) -> Option<Message> {
        let default = &account.tenant.settings.default_language;
        Message::choose(self.how.messages, &account.user.profile.language, default).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_kept_row_comes_back_and_tells_cleared_from_left_alone() {
        for expires in [None, Some(None), Some(Some(at(1_800_000_000)))] {
            let kept = Kept {
                email: "ana@example.org".into(),
                expires,
                ..Kept::default()
            };
            let value = serde_json::to_value(&kept).unwrap();
            assert_eq!(serde_json::from_value::<Kept>(value).unwrap(), kept);
        }
    }
}
