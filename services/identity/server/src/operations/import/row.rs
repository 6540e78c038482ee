//! What is done with one row when its turn comes.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use usher_authorization::{Intent, Resource};
use usher_core::account::{Account, Belonging, Effect, NewUser, Placement, ProfileUpdate};
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::email::EmailAddress;
use usher_core::ids::{GroupId, UserId};
use usher_core::invitation::Message;
use usher_core::job::ImportMode;
use usher_core::refusal::Refusal;
use usher_core::role::{BuiltInRole, Permission, RoleRef, Scope};
use usher_core::status::{Onboarding, Status};
use usher_core::user::{Profile, User};

use super::{How, Kept};
use crate::grpc::role_service::check_exists;
use crate::judge::Asking;
use crate::operations::world::World;

pub(super) type Done = (Option<UserId>, Vec<&'static str>);
/// A date that is left alone, cleared, or set.
type Dated = Option<Option<Timestamp>>;

pub(super) const EXPIRES: &str = "expires";
pub(super) const DELETES: &str = "deletes";

/// One row, whose turn it is.
pub(super) struct Rowing<'a> {
    pub(super) how: How<'a>,
    pub(super) kept: &'a Kept,
    pub(super) act: &'a Act,
}

impl Rowing<'_> {
    /// Does what the mode says; answers the account and what was done.
    pub(super) fn row(
        &self,
        world: &mut World,
        asking: &mut Asking<'_>,
        changes: &mut Changeset,
    ) -> Result<Done, Refusal> {
        let tenant = self.how.tenant;
        let email =
            EmailAddress::parse(&self.kept.email).map_err(|fault| Refusal::field("email", fault.to_string()))?;
        let placement = self.kept.placement();
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
                if matches!(self.how.mode, ImportMode::Invite | ImportMode::Update) {
                    let lacks = world.account(tenant, user)?.belonging.lacks(&placement);
                    self.permit_placement(&placement, &lacks, world, asking)?;
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
    pub(super) fn found(&self, world: &World) -> Option<UserId> {
        let email = EmailAddress::parse(&self.kept.email).ok();
        self.by_id(world).or_else(|| self.by_email(world, &email?))
    }

    /// Groups that they are put into, and roles that they are given, are asked about one by one (L6, L9); not those that they
    /// have already.
    fn permit_placement(
        &self,
        placement: &Placement,
        (groups, grants): &(Vec<GroupId>, Vec<(RoleRef, Scope)>),
        world: &World,
        asking: &mut Asking<'_>,
    ) -> Result<(), Refusal> {
        let tenant = self.how.tenant;
        let learner = RoleRef::BuiltIn(BuiltInRole::Learner);
        for group in groups {
            let scope = Scope::Group(*group);
            check_exists(world, tenant, learner, &scope)?;
            asking.require(
                Permission::GroupsEditMembers,
                &Resource::Scope(scope),
                &Intent::default(),
            )?;
        }
        for (role, scope) in grants {
            check_exists(world, tenant, *role, scope)?;
        }
        asking.require_given(tenant, grants, world)?;
        // Whoever may bring people in may bring learners in.
        let brought_in = placement.scopes();
        let asked = grants
            .iter()
            .filter(|(role, scope)| *role != learner || !brought_in.contains(scope));
        let scopes: BTreeSet<&Scope> = asked.map(|(_, scope)| scope).collect();
        for scope in scopes {
            asking.require(
                Permission::RolesAssign,
                &Resource::Scope(scope.clone()),
                &self.intent(placement),
            )?;
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
        let (expires_at, deletes_at) = self.dates(None)?;
        let lacks = Belonging::default().lacks(placement);
        self.permit_placement(placement, &lacks, world, asking)?;
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
            expires_at: expires_at.flatten(),
            deletes_at: deletes_at.flatten(),
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
            ImportMode::Invite => self.invite(account, placement, &resource, asking, own, &mut done)?,
            ImportMode::Update => {
                let (expires, deletes) = self.dates(Some(&account.user))?;
                let update = ProfileUpdate {
                    deletes_at: deletes,
                    ..self.update(account, email)
                };
                let intent = Intent {
                    sets_deletion_date: deletes.is_some(),
                    ..Intent::default()
                };
                asking.require(Permission::UsersUpdate, &resource, &intent)?;
                let mut changed = account.update(update, self.act, own)? == Effect::Changed;
                if let Some(at) = expires
                    && account.user.expires_at != at
                {
                    asking.require(Permission::UsersSetExpiration, &resource, &none)?;
                    changed |= account.set_expiration(at, self.act, own)? == Effect::Changed;
                }
                changed |= account.place(placement, self.act, own)? == Effect::Changed;
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

    /// Whoever has not registered is invited, unless an invitation is open, and is given what an invitation brings (L5). Who
    /// is in already stays as they are; who was shut out is not let in by this.
    fn invite(
        &self,
        account: &mut Account,
        placement: &Placement,
        resource: &Resource,
        asking: &mut Asking<'_>,
        own: &mut Changeset,
        done: &mut Vec<&'static str>,
    ) -> Result<(), Refusal> {
        let standing = account.user.effective_status(self.act.now);
        if standing == Status::Onboarding(Onboarding::Active) {
            return Ok(());
        }
        let (expires, deletes) = self.dates(Some(&account.user))?;
        let intent = Intent {
            sets_deletion_date: deletes.is_some(),
            ..Intent::default()
        };
        asking.require(Permission::InvitationsSend, resource, &intent)?;
        let is_onboarding = matches!(standing, Status::Onboarding(_));
        let open = account.invitation.as_ref().is_some_and(|it| it.is_open(self.act.now));
        let waits = account.user.seat_waiting_since.is_some();
        if !is_onboarding || (!open && !waits) {
            let message = self.message(account);
            account.invite(message, self.act, own)?;
            done.push("invited");
        }
        let labels = self.kept.labels.as_deref().unwrap_or_default();
        let mut changed = account.add_labels(labels, self.act, own)? == Effect::Changed;
        if let Some(at) = expires {
            changed |= account.set_expiration(at, self.act, own)? == Effect::Changed;
        }
        let dates = ProfileUpdate {
            deletes_at: deletes,
            ..ProfileUpdate::default()
        };
        changed |= account.update(dates, self.act, own)? == Effect::Changed;
        changed |= account.place(placement, self.act, own)? == Effect::Changed;
        if changed {
            done.push("updated");
        }
        Ok(())
    }

    /// The end of access and the deletion date that the row sets: not in the past, unless it is what they have, as in the
    /// export of somebody who has expired. Files are exact to the second.
    fn dates(&self, user: Option<&User>) -> Result<(Dated, Dated), Refusal> {
        let date = |field: &str, wanted: Dated, known: Option<Timestamp>| match (wanted, known) {
            (Some(Some(at)), Some(known)) if (at - known).abs() < TimeDelta::seconds(1) => Ok(None),
            (Some(Some(at)), _) if at <= self.act.now => Err(Refusal::field(field, "is not in the future")),
            _ => Ok(wanted),
        };
        Ok((
            date(EXPIRES, self.kept.expires, user.and_then(|user| user.expires_at))?,
            date(DELETES, self.kept.deletes, user.and_then(|user| user.deletes_at))?,
        ))
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
            deletes_at: None,
        }
    }

    fn message(&self, account: &Account) -> Option<Message> {
        let default = &account.tenant.settings.default_language;
        Message::choose(self.how.messages, &account.user.profile.language, default).cloned()
    }
}
