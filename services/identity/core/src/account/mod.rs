//! The aggregate that every command decides on: a user, their newest invitation and their mails that have not ended.
//!
//! A command takes the account, the act (who, when, why) and a changeset. It answers what it did or a typed refusal; what
//! is to be written stands in the changeset. It is never half done: see [`Account::decide`].
//!
//! ```text
//! PENDING ──mail handed over──▶ INVITED ──link used──▶ ACTIVE
//!    └────────────────link used────────────────────────▲
//! any of these ──deactivate──▶ DEACTIVATED ──reactivate──▶ what it was
//! any of these, DEACTIVATED included ──date reached──▶ EXPIRED ──later date──▶ what it was
//! ```

mod activity;
mod belonging;
mod bounce;
mod deliver;
mod erase;
mod explain;
mod inactivity;
mod invite;
mod mail;
mod pace;
mod profile;
mod seat;
mod standing;
#[cfg(test)]
mod tests;
mod warn;

use std::sync::Arc;

pub use activity::ActivityKind;
pub use belonging::{Belonging, MAX_GROUPS, Placement};
pub use bounce::Heard;
pub use deliver::{Begin, NotNeeded, Resolution};
pub use explain::{NextAction, NextStep};
pub use inactivity::{inactivity_timer, wake_inactivity};
pub use invite::Registration;
pub use mail::Detached;
pub use pace::{mailed_since, set_mail_timer};
pub use profile::ProfileUpdate;
pub use seat::{seat_timer, wake_waiting};
pub use warn::{WARNING_PERIOD, set_warning_timer};

use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::delivery::{Delivery, DeliveryKind, DeliveryState};
use crate::event::EventType;
use crate::ids::{InvitationId, UserId};
use crate::invitation::{Invitation, InvitationState};
use crate::refusal::Refusal;
use crate::seats::{SeatPolicy, Seats};
use crate::status::{Onboarding, Status};
use crate::tenant::Tenant;
use crate::timer::{Timer, TimerKey, TimerKind};
use crate::user::{Credential, Profile, User};

/// A user with what hangs on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Their organisation.
    pub tenant: Arc<Tenant>,
    /// The user.
    pub user: User,
    /// Their newest invitation; all older ones are closed.
    pub invitation: Option<Invitation>,
    /// Their mails that have not ended, and the one that the command is about.
    pub deliveries: Vec<Delivery>,
    /// Their address gets no mail (L13).
    pub suppressed: bool,
    /// The seats of their organisation. Right only where a command asked for them to be loaded.
    pub seats: Seats,
    /// Their groups and roles.
    pub belonging: Belonging,
    /// The mails that were sent to them within the last [`crate::pacing::LONGEST_DAY`]: when, and which. Loaded only where the
    /// command asked for it, and the tenant has a cap or an [`DeliveryKind::ExpiryWarningToAdministrators`] waits.
    pub mailed_at: Vec<(Timestamp, DeliveryKind)>,
}

/// What is needed to create an account.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Which.
    pub id: UserId,
    /// Their data.
    pub profile: Profile,
    /// `Some` creates the account active (L2); `None` pending (S1).
    pub credential: Option<Credential>,
    /// When access ends by itself (S13).
    pub expires_at: Option<Timestamp>,
    /// When the account is to be erased (U10).
    pub deletes_at: Option<Timestamp>,
}

/// Whether a command changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Something changed.
    Changed,
    /// It was so before.
    Unchanged,
}

impl Account {
    /// Creates an account (S1, L2). Where it would be active and every seat is taken, it is refused, or waits (U8).
    pub fn create(
        tenant: Arc<Tenant>,
        seats: Seats,
        new: NewUser,
        suppressed: bool,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Self, Refusal> {
        let registered = new.credential.is_some();
        let active = registered && seats.has_room_for_newcomers(&tenant.settings);
        let waits = registered && !active;
        if waits && tenant.settings.seat_policy == SeatPolicy::Refuse {
            return Err(seats.refusal(&tenant.settings));
        }
        let user = User {
            tenant: tenant.id,
            id: new.id,
            version: 1,
            profile: new.profile,
            status: if active { Status::ACTIVE } else { Status::PENDING },
            status_since: act.now,
            expires_at: new.expires_at,
            credential: new.credential.unwrap_or(Credential::None),
            created_at: act.now,
            updated_at: act.now,
            activated_at: active.then_some(act.now),
            deletes_at: new.deletes_at,
            expiry_warnings: 0,
            last_login_at: None,
            first_course_at: None,
            inactivity_warned_at: None,
            seat_waiting_since: waits.then_some(act.now),
            edited_fields: Vec::new(),
        };
        let mut account = Self {
            tenant,
            user,
            invitation: None,
            deliveries: Vec::new(),
            suppressed,
            seats,
            belonging: Belonging::default(),
            mailed_at: Vec::new(),
        };
        changes.created_users.insert((account.user.tenant, account.user.id));
        changes
            .users
            .insert((account.user.tenant, account.user.id), account.user.clone());
        let mut created = account.event(act, EventType::UserCreated);
        created.to = Some(account.user.status.name());
        changes.events.push(created);
        account.set_expiration_timer(changes);
        if account.user.deletes_at.is_some() {
            account.set_deletion_timer(changes);
        }
        if waits {
            account.begin_to_wait(act, changes);
        }
        if active {
            account.count_seat(Status::PENDING, EventType::UserActivated, act, changes);
            let mut activated = account.event(act, EventType::UserActivated);
            activated.to = Some(account.user.status.name());
            changes.events.push(activated);
        }
        if registered {
            account.notify_created(act, changes);
        }
        Ok(account)
    }

    /// Carries out a command that may be refused: refused, it leaves no trace in the account and none in the changeset.
    pub fn decide<T>(
        &mut self,
        changes: &mut Changeset,
        command: impl FnOnce(&mut Self, &mut Changeset) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let before = self.clone();
        let seats = self.seats.counts();
        let mut own = Changeset::default();
        match command(self, &mut own) {
            Ok(value) => {
                changes.extend(own);
                Ok(value)
            }
            Err(refusal) => {
                *self = before;
                self.seats.restore(seats);
                Err(refusal)
            }
        }
    }

    /// Refuses if the caller read another version (B2); 0: no check.
    pub fn check_version(&self, expected: i64) -> Result<(), Refusal> {
        if expected == 0 || expected == self.user.version {
            Ok(())
        } else {
            Err(Refusal::VersionMismatch {
                expected,
                actual: self.user.version,
            })
        }
    }

    /// Refuses to take the change of a status back that was changed again.
    pub fn check_standing_since(&self, since: Timestamp) -> Result<(), Refusal> {
        self.check_unchanged(self.user.status_since == since)
    }

    /// Refuses to take an expiration back that was changed again.
    pub fn check_expiration(&self, set: Option<Timestamp>) -> Result<(), Refusal> {
        self.check_unchanged(self.user.expires_at == set)
    }

    fn check_unchanged(&self, is_unchanged: bool) -> Result<(), Refusal> {
        if is_unchanged {
            Ok(())
        } else {
            Err(Refusal::ChangedSince(self.name()))
        }
    }

    /// Writes down what the clock did since the last change: the expiry (S5), the lapse of the invitation.
    pub(crate) fn settle(&mut self, act: &Act, changes: &mut Changeset) {
        let by_clock = |reason: &str| Act {
            actor: crate::change::USHER.into(),
            reason: reason.into(),
            ..act.clone()
        };
        let effective = self.user.effective_status(act.now);
        if effective != self.user.status {
            let act = by_clock("the expiration was reached");
            self.change_status(effective, EventType::UserExpired, &act, changes);
            self.user.status_since = self.user.expires_at.unwrap_or(act.now);
            self.save_user(changes);
            self.clear_timer(TimerKind::Expiration, self.user.id.0, changes);
        }
        if self
            .invitation
            .as_ref()
            .is_some_and(|i| i.effective_state(act.now) != i.state)
            && !self.prolong_held(act, changes)
        {
            let act = by_clock("the lifetime of the link is over");
            self.close_invitation(InvitationState::Lapsed, EventType::InvitationLapsed, &act, changes);
        }
    }

    /// Who they are in refusals: the id, never the address.
    fn name(&self) -> String {
        self.user.id.to_string()
    }

    fn event(&self, act: &Act, kind: EventType) -> crate::event::Event {
        act.event(kind, self.user.tenant, Some(&self.user))
    }

    fn change_status(&mut self, to: Status, kind: EventType, act: &Act, changes: &mut Changeset) {
        let from = self.user.status;
        self.user.status = to;
        self.user.status_since = act.now;
        // Whoever comes back begins anew (B10).
        self.user.inactivity_warned_at = None;
        self.touch(act, changes);
        self.count_seat(from, kind, act, changes);
        let mut event = self.event(act, kind);
        event.from = Some(from.name());
        event.to = Some(to.name());
        changes.events.push(event);
    }

    fn touch(&mut self, act: &Act, changes: &mut Changeset) {
        self.user.version += 1;
        self.user.updated_at = act.now;
        self.save_user(changes);
    }

    fn save_user(&self, changes: &mut Changeset) {
        changes
            .users
            .insert((self.user.tenant, self.user.id), self.user.clone());
    }

    fn save_invitation(&self, changes: &mut Changeset) {
        if let Some(invitation) = &self.invitation {
            changes
                .invitations
                .insert((invitation.tenant, invitation.id), invitation.clone());
        }
    }

    /// Closes the newest invitation, and cancels its mails that have not begun to go out.
    fn close_invitation(&mut self, state: InvitationState, kind: EventType, act: &Act, changes: &mut Changeset) {
        let Some(invitation) = &mut self.invitation else { return };
        invitation.state = state;
        let id = invitation.id;
        self.save_invitation(changes);
        self.clear_timer(TimerKind::Lapse, id.0, changes);
        let mut event = self.event(act, kind);
        event.invitation = Some(id);
        changes.events.push(event);
        self.cancel_deliveries(id, act, changes);
    }

    fn cancel_deliveries(&mut self, invitation: InvitationId, act: &Act, changes: &mut Changeset) {
        for index in 0..self.deliveries.len() {
            let delivery = &self.deliveries[index];
            let begun = matches!(delivery.state, DeliveryState::Transmitting(_));
            if delivery.invitation == Some(invitation) && delivery.state.name().is_live() && !begun {
                self.cancel_delivery(index, act, changes);
            }
        }
    }

    /// How far registration is, if mails about it are wanted now.
    fn onboarding_now(&self, now: Timestamp) -> Option<Onboarding> {
        match self.user.effective_status(now) {
            Status::Onboarding(onboarding) => Some(onboarding),
            Status::Deactivated { .. } | Status::Expired { .. } | Status::Erased => None,
        }
    }

    fn notify_created(&mut self, act: &Act, changes: &mut Changeset) {
        let generation = match self.user.credential {
            Credential::OneTime { generation } => generation,
            Credential::None | Credential::Password(_) => 0,
        };
        let give_up_at = act.now + chrono::TimeDelta::days(5);
        self.queue_delivery(
            DeliveryKind::AccountCreated,
            None,
            generation,
            0,
            act.now,
            give_up_at,
            act,
            changes,
        );
    }

    fn set_expiration_timer(&self, changes: &mut Changeset) {
        match self.user.expires_at {
            Some(at) => self.set_timer(TimerKind::Expiration, self.user.id.0, at, changes),
            None => self.clear_timer(TimerKind::Expiration, self.user.id.0, changes),
        }
    }

    fn set_timer(&self, kind: TimerKind, subject: uuid::Uuid, due_at: Timestamp, changes: &mut Changeset) {
        let key = TimerKey {
            tenant: self.user.tenant,
            kind,
            subject,
        };
        changes.set_timer(Timer {
            key,
            user: Some(self.user.id),
            due_at,
            fired: 0,
        });
    }

    fn clear_timer(&self, kind: TimerKind, subject: uuid::Uuid, changes: &mut Changeset) {
        changes.clear_timer(TimerKey {
            tenant: self.user.tenant,
            kind,
            subject,
        });
    }
}
