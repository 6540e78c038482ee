//! Inactivity (B10): the warning, and the end of access if it changes nothing. Each looks at the account again right before.

use chrono::TimeDelta;

use super::{Account, Effect, NextAction};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::delivery::{Delivery, DeliveryKind};
use crate::event::EventType;
use crate::inactivity::{InactivityPolicy, InactivityRun, Schedule, deactivation};
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
        if !is_due || self.warning_holds() {
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
        let schedule = policy.schedule(self.user.inactive_since(), Some(warned), act.now);
        if schedule.deactivate_at > act.now || self.warning_under_way().is_some() {
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

    /// Takes a warning back that does not hold any more, so that the next one comes on its day.
    pub fn take_warning_back(&mut self, changes: &mut Changeset) -> Effect {
        if self.user.inactivity_warned_at.is_none() || self.warning_holds() {
            return Effect::Unchanged;
        }
        self.withdraw_warning(changes);
        Effect::Changed
    }

    /// The mail of a warning was handed over, or may have been: its time begins then, however long it had to wait. One that
    /// was not known to have gone out until now keeps the instant of its try.
    pub(super) fn warning_was_given(&mut self, index: usize, act: &Act, changes: &mut Changeset) {
        let mail = &self.deliveries[index];
        if mail.kind != DeliveryKind::InactivityWarning || !self.warning_holds() || !self.holds(mail.created_at) {
            return;
        }
        if self.user.inactivity_warned_at < Some(act.now) {
            self.user.inactivity_warned_at = Some(act.now);
            self.save_user(changes);
        }
    }

    /// When they are warned and deactivated at the earliest, if the policy is about them.
    pub(super) fn inactivity_schedule(&self, now: Timestamp) -> Option<Schedule> {
        let policy = self.inactivity_policy(now)?;
        let warned = self.user.inactivity_warned_at.filter(|_| self.warning_holds());
        let warned = warned.map(|warned| match self.warning_under_way() {
            // The time that it leaves begins when it goes out.
            Some(mail) if !self.suppressed => warned.max(self.may_go_at(mail, mail.due_at.max(now))),
            _ => warned,
        });
        Some(policy.schedule(self.user.inactive_since(), warned, now))
    }

    /// What comes of their inactivity, among the tenant's newest runs.
    pub(super) fn inactivity_steps(&self, runs: &[InactivityRun], now: Timestamp) -> Vec<(Timestamp, NextAction)> {
        let Some(schedule) = self.inactivity_schedule(now) else {
            return Vec::new();
        };
        let Some(warned) = self.user.inactivity_warned_at.filter(|_| self.warning_holds()) else {
            return vec![
                (schedule.warn_at, NextAction::WarnInactive),
                (schedule.deactivate_at, NextAction::DeactivateInactive),
            ];
        };
        let policy = &self.tenant.settings.inactivity;
        let (at, parked) = deactivation(policy, runs, warned, schedule.deactivate_at, now);
        let action = match parked {
            Some(_) => NextAction::DeactivateInactiveOnceDecided,
            None => NextAction::DeactivateInactive,
        };
        vec![(at, action)]
    }

    /// The mail of a warning that has neither gone out nor failed.
    fn warning_under_way(&self) -> Option<&Delivery> {
        let is_it = |mail: &&Delivery| mail.kind == DeliveryKind::InactivityWarning && mail.state.name().is_live();
        self.deliveries.iter().find(is_it)
    }

    /// Whether they are warned, of the inactivity that is now and by the policy that is in force.
    pub(super) fn warning_holds(&self) -> bool {
        self.user.inactivity_warned_at.is_some_and(|warned| self.holds(warned))
    }

    /// Whether a warning of an instant counts: an earlier sign-in that was reported late, or a policy with more days, make it
    /// one that came too early.
    pub(super) fn holds(&self, warned: Timestamp) -> bool {
        let settings = &self.tenant.settings;
        let inactive_since = self.user.inactive_since();
        settings
            .inactivity
            .holds(inactive_since, warned, settings.inactivity_since)
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
