//! Warnings ahead of the expiration (B9).
//!
//! Who is near it is looked for by tenant, every [`WARNING_PERIOD`]: so a tenant that changes its settings changes them for
//! everybody, and an account needs no timer of its own.
//!
//! With the person, those who administer them are told. Their mail names nobody before it is written: it is about the people
//! who were warned from its creation on, until the next of its kind was created. As a mail that waits is joined and one that a
//! worker has is not, whoever is warned is in exactly one of them.

use chrono::TimeDelta;

use super::explain::{NextAction, NextStep};
use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::delivery::{DeliveryKind, DeliveryState};
use crate::invitation::next_reminder;
use crate::status::Status;
use crate::tenant::{Settings, Tenant};
use crate::timer::{Timer, TimerKey, TimerKind};

/// How often accounts near their expiration are looked for: a warning is at most so late.
pub const WARNING_PERIOD: TimeDelta = TimeDelta::minutes(15);
/// For how long an administrator's mail is worth trying.
const WORTH_TELLING: TimeDelta = TimeDelta::days(5);

impl Account {
    /// Queues the warning that is due, if one is. Those that were missed are not sent one after the other.
    pub fn warn_of_expiry(&mut self, act: &Act, changes: &mut Changeset) -> Effect {
        self.settle(act, changes);
        let (Some((step, due)), Some(expires_at)) = (self.warning_after_last(act.now), self.user.expires_at) else {
            return Effect::Unchanged;
        };
        if due > act.now || self.user.status != Status::ACTIVE {
            return Effect::Unchanged;
        }
        // No change of the account: the version stays.
        self.user.expiry_warnings = step;
        self.save_user(changes);
        self.queue_delivery(
            DeliveryKind::ExpiryWarning,
            None,
            0,
            step,
            self.may_go_from(DeliveryKind::ExpiryWarning, act.now),
            expires_at,
            act,
            changes,
        );
        Effect::Changed
    }

    /// The warning that will be queued next, unless one waits to be sent.
    pub(super) fn next_warning(&self, now: Timestamp) -> Option<NextStep> {
        let waits = self.deliveries.iter().any(|delivery| {
            delivery.kind == DeliveryKind::ExpiryWarning
                && matches!(delivery.state, DeliveryState::Queued | DeliveryState::Deferred)
        });
        if waits || self.suppressed || self.user.effective_status(now) != Status::ACTIVE {
            return None;
        }
        let (step, due) = self.warning_after_last(now)?;
        Some(NextStep {
            at: self.may_go_from(DeliveryKind::ExpiryWarning, due),
            action: NextAction::SendExpiryWarning,
            reminder_step: step,
        })
    }

    fn warning_after_last(&self, now: Timestamp) -> Option<(i32, Timestamp)> {
        let expires_at = self.user.expires_at?;
        let before = self.tenant.settings.expiry_warning_seconds.iter();
        let ladder: Vec<i64> = before.map(|seconds| -seconds).collect();
        next_reminder(&ladder, self.user.expiry_warnings, expires_at, expires_at, now)
    }
}

impl Account {
    /// Queues the mail that tells an administrator of people in their care, unless one waits that will. It gathers for a while:
    /// there may be more of them.
    pub fn tell_of_expiries(&mut self, act: &Act, changes: &mut Changeset) -> Effect {
        const KIND: DeliveryKind = DeliveryKind::ExpiryWarningToAdministrators;
        self.settle(act, changes);
        let waits = self.deliveries.iter().any(|delivery| {
            delivery.kind == KIND && matches!(delivery.state, DeliveryState::Queued | DeliveryState::Deferred)
        });
        let is_able = self.user.status == Status::ACTIVE && !self.suppressed;
        if waits || !is_able || !self.tenant.settings.tells_administrators() {
            return Effect::Unchanged;
        }
        let due_at = self.may_go_from(KIND, act.now + WARNING_PERIOD);
        self.queue_delivery(KIND, None, 0, 0, due_at, due_at + WORTH_TELLING, act, changes);
        Effect::Changed
    }
}

impl Settings {
    /// Whether administrators are told of people whose expiration is near.
    pub fn tells_administrators(&self) -> bool {
        self.expiry_warnings_to_administrators && !self.expiry_warning_seconds.is_empty()
    }

    /// For each step of the warnings: until when an account expires that is to be warned by now.
    pub fn warning_horizons(&self, now: Timestamp) -> Vec<Timestamp> {
        let ahead = self.expiry_warning_seconds.iter();
        ahead.map(|seconds| now + TimeDelta::seconds(*seconds)).collect()
    }
}

/// Looks for accounts near their expiration, or never again where nobody is warned.
pub fn set_warning_timer(tenant: &Tenant, due_at: Timestamp, changes: &mut Changeset) {
    let key = TimerKey {
        tenant: tenant.id,
        kind: TimerKind::Warning,
        subject: tenant.id.0,
    };
    if tenant.settings.expiry_warning_seconds.is_empty() {
        changes.clear_timer(key);
    } else {
        changes.set_timer(Timer {
            key,
            user: None,
            due_at,
            fired: 0,
        });
    }
}
