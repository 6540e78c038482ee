//! Inactivity (B10): the warning, and the end of access if it changes nothing. Each looks at the account again right before.

use chrono::TimeDelta;

use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::delivery::{Delivery, DeliveryKind};
use crate::event::EventType;
use crate::inactivity::{InactivityPolicy, Schedule};
use crate::role::{BuiltInRole, RoleRef};
use crate::status::{Onboarding, Status};
use crate::tenant::Tenant;
use crate::timer::{Timer, TimerKey, TimerKind};

/// For how long the mail of a warning is tried at most.
const PATIENCE: TimeDelta = TimeDelta::days(5);
/// Why, in the history of an account.
const REASON: &str = "inactivity";

impl Account {
    /// Warns somebody who has not signed in for long. Does nothing if that is not so any more.
    pub fn warn_inactive(&mut self, act: &Act, changes: &mut Changeset) -> Effect {
        let Some(policy) = self.inactivity_policy(act.now) else {
            return Effect::Unchanged;
        };
        let is_due = self.user.inactive_since() + policy.until_warning() <= act.now;
        if !is_due || self.user.inactivity_warned_at.is_some() {
            return Effect::Unchanged;
        }
        self.user.inactivity_warned_at = Some(act.now);
        self.save_user(changes);
        changes.events.push(self.event(act, EventType::UserInactivityWarned));
        self.queue_delivery(
            DeliveryKind::InactivityWarning,
            None,
            0,
            0,
            act.now,
            act.now + policy.grace().min(PATIENCE),
            act,
            changes,
        );
        Effect::Changed
    }

    /// Ends the access of somebody whom the warning did not bring back. Does nothing if they signed in, became exempt, or the
    /// mail is still under way. A warning that does not fit the sign-ins or the policy any more is taken back.
    pub fn deactivate_inactive(&mut self, act: &Act, changes: &mut Changeset) -> Effect {
        let (Some(policy), Some(warned)) = (self.inactivity_policy(act.now), self.user.inactivity_warned_at) else {
            return Effect::Unchanged;
        };
        if !self.warning_holds() {
            self.withdraw_warning(changes);
            return Effect::Unchanged;
        }
        let is_warning = |mail: &Delivery| mail.kind == DeliveryKind::InactivityWarning && mail.state.name().is_live();
        let schedule = policy.schedule(self.user.inactive_since(), Some(warned), act.now);
        if schedule.deactivate_at > act.now || self.deliveries.iter().any(is_warning) {
            return Effect::Unchanged;
        }
        let act = Act {
            reason: REASON.into(),
            ..act.clone()
        };
        let restores = Onboarding::Active;
        self.change_status(
            Status::Deactivated { restores },
            EventType::UserDeactivated,
            &act,
            changes,
        );
        Effect::Changed
    }

    /// When they are warned and deactivated, if the policy is about them.
    pub(super) fn inactivity_schedule(&self, now: Timestamp) -> Option<Schedule> {
        let policy = self.inactivity_policy(now)?;
        let warned = self.user.inactivity_warned_at.filter(|_| self.warning_holds());
        Some(policy.schedule(self.user.inactive_since(), warned, now))
    }

    /// Whether the warning was given for the inactivity that is now: an earlier sign-in that was reported late, or a policy
    /// with more days, make it one that came too early.
    pub(super) fn warning_holds(&self) -> bool {
        let wait = self.tenant.settings.inactivity.until_warning();
        let warned = self.user.inactivity_warned_at;
        warned.is_some_and(|warned| self.user.inactive_since() + wait <= warned)
    }

    /// Takes the warning back: the next one is a new one.
    pub(super) fn withdraw_warning(&mut self, changes: &mut Changeset) {
        if self.user.inactivity_warned_at.take().is_some() {
            self.save_user(changes);
        }
    }

    /// The policy, if it is about them now.
    fn inactivity_policy(&self, now: Timestamp) -> Option<InactivityPolicy> {
        let policy = self.tenant.settings.inactivity;
        let administrator = RoleRef::BuiltIn(BuiltInRole::Administrator);
        let is_administrator = self.belonging.roles.iter().any(|(role, _)| *role == administrator);
        let is_exempt = policy.exempt_administrators && is_administrator;
        let is_active = self.user.effective_status(now) == Status::ACTIVE;
        (policy.is_on() && is_active && !is_exempt).then_some(policy)
    }
}

/// The timer that looks for whoever is to be warned or deactivated, set to an instant.
pub fn wake_inactivity(tenant: &Tenant, due_at: Timestamp, changes: &mut Changeset) {
    changes.set_timer(Timer {
        key: inactivity_timer(tenant),
        user: None,
        due_at,
        fired: 0,
    });
}

/// Which timer that is.
pub fn inactivity_timer(tenant: &Tenant) -> TimerKey {
    TimerKey {
        tenant: tenant.id,
        kind: TimerKind::Inactivity,
        subject: tenant.id.0,
    }
}
