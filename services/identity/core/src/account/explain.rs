//! Why an account stands where it stands, and what comes next by itself (B6).

use super::Account;
use crate::clock::Timestamp;
use crate::delivery::{Delivery, DeliveryKind, DeliveryState};
use crate::erasure::{Erasure, ErasureState};
use crate::inactivity::InactivityRun;
use crate::status::{Onboarding, Status};

/// What Usher will do by itself, if nothing happens before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: NextAction,
    /// Of the reminder ladder; 0: no reminder.
    pub reminder_step: i32,
}

/// What comes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names of the steps")]
pub enum NextAction {
    SendInvitation,
    SendReminder,
    SendAccountCreated,
    SendExpiryWarning,
    SendExpiryWarningToAdministrators,
    LapseInvitation,
    WarnInactive,
    DeactivateInactive,
    /// It is due, and somebody has to decide about the run that is parked.
    DeactivateInactiveOnceDecided,
    Expire,
    Erase,
}

impl Account {
    /// What comes by itself, the soonest first. `runs` are the tenant's newest for inactivity.
    pub fn next_steps(&self, runs: &[InactivityRun], now: Timestamp) -> Vec<NextStep> {
        let mut steps = Vec::new();
        let waiting = matches!(
            self.onboarding_now(now),
            Some(Onboarding::Pending | Onboarding::Invited)
        );
        for delivery in &self.deliveries {
            let (action, wanted) = match delivery.kind {
                DeliveryKind::Invitation | DeliveryKind::FreshLink => (NextAction::SendInvitation, waiting),
                DeliveryKind::Reminder => (NextAction::SendReminder, waiting),
                DeliveryKind::ExpiryWarning => (NextAction::SendExpiryWarning, true),
                DeliveryKind::ExpiryWarningToAdministrators => (NextAction::SendExpiryWarningToAdministrators, true),
                DeliveryKind::AccountCreated | DeliveryKind::Test => (NextAction::SendAccountCreated, true),
                DeliveryKind::InactivityWarning => (NextAction::WarnInactive, self.warning_holds()),
            };
            let pending = matches!(
                delivery.state,
                DeliveryState::Queued | DeliveryState::Deferred | DeliveryState::Claimed(_)
            );
            // One that may go now shows since when it waits.
            let allowed = self.may_go_at(delivery, delivery.due_at.max(now));
            let at = if allowed > now { allowed } else { delivery.due_at };
            let held = self.is_mail_paused() || self.suppressed;
            if wanted && pending && !held && self.user.expires_at.is_none_or(|end| at < end) {
                steps.push(NextStep {
                    at,
                    action,
                    reminder_step: delivery.reminder_step,
                });
            }
        }
        steps.extend(self.next_warning(now));
        if let Some(invitation) = self.invitation.as_ref().filter(|i| i.is_open(now)) {
            steps.push(NextStep {
                at: invitation.lapses_at,
                action: NextAction::LapseInvitation,
                reminder_step: 0,
            });
        }
        if let (Some(at), Some(_)) = (self.user.expires_at, self.user.effective_status(now).expired()) {
            steps.push(NextStep {
                at,
                action: NextAction::Expire,
                reminder_step: 0,
            });
        }
        let inactivity = self.inactivity_steps(runs, now).into_iter();
        steps.extend(inactivity.map(|(at, action)| NextStep {
            at,
            action,
            reminder_step: 0,
        }));
        steps.sort_by_key(|step| (step.at, step.action));
        steps
    }

    /// When the account is erased: by the erasure that runs, at its deletion date (U10), or whichever is first.
    pub fn erasure_step(&self, running: Option<&Erasure>, now: Timestamp) -> Option<NextStep> {
        if self.user.effective_status(now) == Status::Erased {
            return None;
        }
        let cooling = running.filter(|erasure| erasure.state == ErasureState::CoolingOff);
        let at = cooling.and_then(|erasure| erasure.due_at).into_iter();
        Some(NextStep {
            at: at.chain(self.user.deletes_at).min()?,
            action: NextAction::Erase,
            reminder_step: 0,
        })
    }

    /// That an erasure waits for somebody; empty: none does.
    pub fn erasure_summary(&self, running: Option<&Erasure>) -> String {
        let waiting = running.filter(|erasure| erasure.state == ErasureState::AwaitingApproval);
        let told = |erasure: &Erasure| {
            let asked = seconds(erasure.created_at);
            format!(" Their erasure was asked for on {asked}; somebody else has to approve it.")
        };
        waiting.map(told).unwrap_or_default()
    }

    /// Why this status, in a sentence; others if their address gets no mail (L13) or mail is paused (B15).
    pub fn summary(&self, now: Timestamp) -> String {
        let mut told = self.why(now);
        if self.suppressed {
            told += " Their address gets no mail.";
        }
        if let Some(since) = self.tenant.settings.mail_paused_at {
            let since = seconds(since);
            let waits = |mail: &&Delivery| matches!(mail.state, DeliveryState::Queued | DeliveryState::Deferred);
            let held = match self.deliveries.iter().filter(waits).count() {
                0 => String::new(),
                1 => "; one mail to them waits".to_owned(),
                count => format!("; {count} mails to them wait"),
            };
            told = format!("{told} Mail is paused since {since}{held}.");
        }
        told
    }

    fn why(&self, now: Timestamp) -> String {
        let since = seconds(self.user.effective_since(now));
        match self.user.effective_status(now) {
            Status::Onboarding(Onboarding::Pending) => match self.invitation.as_ref().filter(|i| i.is_open(now)) {
                Some(_) => "An invitation is queued; it was not handed to a mail server yet.".into(),
                None => format!("The account exists since {since}; no invitation is under way."),
            },
            Status::Onboarding(Onboarding::Invited) => match self.invitation.as_ref().filter(|i| i.is_open(now)) {
                Some(_) => {
                    format!("An invitation was handed to a mail server on {since}; the person has not accepted it yet.")
                }
                None => {
                    format!("An invitation was handed to a mail server on {since}; its link can no longer be used.")
                }
            },
            Status::Onboarding(Onboarding::Active) => format!("Registration is complete since {since}."),
            Status::Deactivated { restores } => {
                format!(
                    "Deactivated since {since}; reactivating restores {}.",
                    restores.name().as_str()
                )
            }
            Status::Expired { restores } => format!(
                "The expiration was reached on {since}; a later expiration restores {}.",
                Status::from(restores).name().as_str()
            ),
            Status::Erased => format!("Erased on {since}."),
        }
    }
}

fn seconds(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
