//! Mails: claimed, transmitted, ended. Every step is conditional on the one before, so that a duplicate, a late or a
//! reordered report does nothing.

use super::Account;
use super::mail::{
    claim, delivery_event, due_event, end, end_attempt, end_of_try, free, is_free, lapsed_transmission, may_report,
    requeue, set_timer, transmit, wait_on,
};
use crate::change::{Act, Changeset, Leases};
use crate::clock::Timestamp;
use crate::delivery::{Claim, Delivery, DeliveryKind, DeliveryState, DeliveryStateName, Outcome, Phase, Report};
use crate::event::EventType;
use crate::ids::{ClaimId, DeliveryId};
use crate::invitation::InvitationState;
use crate::refusal::Refusal;
use crate::status::{Onboarding, Status};
use crate::timer::TimerKind;
use crate::user::Credential;

/// What a worker is answered that asks to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// It is the worker's until the lease ends.
    Claimed(Claim),
    /// There is nothing to do now.
    NotNeeded(NotNeeded),
}

/// Why there is nothing to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNeeded {
    /// It ended before.
    Ended,
    /// Another worker has it.
    Claimed,
    /// It waits for a later moment.
    NotDue,
    /// It is no longer wanted, and is cancelled now.
    Cancelled,
    /// The address is suppressed (L13).
    Suppressed,
}

/// How an operator settles an uncertain mail (B12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It went out.
    Sent,
    /// It did not: send it again.
    SendAgain,
}

impl Account {
    /// Claims a mail for a worker, if it is still wanted.
    pub fn begin_delivery(
        &mut self,
        id: DeliveryId,
        worker: &str,
        leases: Leases,
        act: &Act,
        changes: &mut Changeset,
    ) -> Begin {
        self.settle(act, changes);
        let Some(index) = self.index(id) else {
            return Begin::NotNeeded(NotNeeded::Ended);
        };
        if let Some(lapsed) = lapsed_transmission(&self.deliveries[index], act.now) {
            self.report(index, &lapsed, act, changes);
        }
        if let Err(why) = is_free(&self.deliveries[index], act.now) {
            return Begin::NotNeeded(why);
        }
        if !self.is_wanted(&self.deliveries[index], act.now) {
            return Begin::NotNeeded(self.set_aside(index, act, changes));
        }
        if self.suppressed {
            self.end_delivery(
                index,
                DeliveryState::Suppressed,
                EventType::DeliverySuppressed,
                act,
                changes,
            );
            self.mark_undeliverable(index, act, changes);
            return Begin::NotNeeded(NotNeeded::Suppressed);
        }
        if self.hold_back(index, act, changes) {
            return Begin::NotNeeded(NotNeeded::NotDue);
        }
        Begin::Claimed(claim(&mut self.deliveries[index], worker, leases, act, changes))
    }

    /// The mail server took DATA: from here on the mail may have gone out (B12). Refused if the claim was lost or the
    /// mail is no longer wanted; the worker then sends no content.
    pub fn report_transmitting(
        &mut self,
        id: DeliveryId,
        claim: ClaimId,
        leases: Leases,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Timestamp, Refusal> {
        let index = self.index(id).ok_or(Refusal::ClaimLost)?;
        if !self.is_wanted(&self.deliveries[index], act.now) || self.is_mail_paused() {
            return Err(Refusal::ClaimLost);
        }
        transmit(&mut self.deliveries[index], claim, leases, act, changes)
    }

    /// How a try ended. A repeated report changes nothing; a late `Sent` settles an uncertain mail, also one that an
    /// operator asked to send again, until somebody begins it.
    pub fn finish_delivery(
        &mut self,
        id: DeliveryId,
        claim: ClaimId,
        report: &Report,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<(), Refusal> {
        self.settle(act, changes);
        // What the server answered would be about them.
        if self.user.status == Status::Erased {
            return Err(Refusal::ClaimLost);
        }
        let index = self.index(id).ok_or(Refusal::ClaimLost)?;
        if !may_report(&self.deliveries[index], claim, report)? {
            return Ok(());
        }
        end_attempt(&self.deliveries[index], claim, report, act, changes);
        self.report(index, report, act, changes);
        Ok(())
    }

    /// A mail that a worker has claimed has nothing to say any more: it ends, unless the claim was lost.
    pub fn withdraw_delivery(&mut self, id: DeliveryId, claim: ClaimId, act: &Act, changes: &mut Changeset) {
        let Some(index) = self.index(id) else { return };
        if !matches!(&self.deliveries[index].state, DeliveryState::Claimed(held) if held.id == claim) {
            return;
        }
        let (state, kind) = (DeliveryState::Cancelled, EventType::DeliveryCancelled);
        self.end_delivery(index, state, kind, act, changes);
    }

    /// An operator settles an uncertain mail (B12).
    pub fn resolve_delivery(
        &mut self,
        id: DeliveryId,
        resolution: Resolution,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<(), Refusal> {
        self.settle(act, changes);
        let index = self
            .index(id)
            .ok_or_else(|| Refusal::DeliveryNotFound(id.to_string()))?;
        let state = self.deliveries[index].state.name();
        if state != DeliveryStateName::Uncertain {
            return Err(Refusal::DeliveryNotUncertain(state.as_str().into()));
        }
        match resolution {
            Resolution::Sent => {
                let report = Report {
                    outcome: Outcome::Sent,
                    response: String::new(),
                    smtp_code: 0,
                    phase: Phase::Unknown,
                };
                self.report(index, &report, act, changes);
            }
            Resolution::SendAgain => {
                requeue(&mut self.deliveries[index], act.now, changes);
                let due = due_event(&self.deliveries[index], Some(&self.user), act);
                changes.events.push(due);
            }
        }
        Ok(())
    }

    /// The timer of a mail fired: it is due, or the lease of its claim lapsed.
    pub fn on_delivery_timer(&mut self, id: DeliveryId, act: &Act, changes: &mut Changeset) {
        self.settle(act, changes);
        let Some(index) = self.index(id) else {
            return self.clear_timer(TimerKind::Delivery, id.0, changes);
        };
        if let Some(lapsed) = lapsed_transmission(&self.deliveries[index], act.now) {
            return self.report(index, &lapsed, act, changes);
        }
        let wanted = self.is_wanted(&self.deliveries[index], act.now);
        match is_free(&self.deliveries[index], act.now) {
            Ok(()) if wanted && self.hold_back(index, act, changes) => {}
            Ok(()) if wanted => {
                if matches!(self.deliveries[index].state, DeliveryState::Claimed(_)) {
                    // It had its turn: it is none of those that wait since before the end of a pause.
                    self.deliveries[index].due_at = act.now;
                }
                free(&mut self.deliveries[index], changes);
                let due = due_event(&self.deliveries[index], Some(&self.user), act);
                changes.events.push(due);
            }
            Ok(()) => {
                self.set_aside(index, act, changes);
            }
            Err(_) => wait_on(&self.deliveries[index], changes),
        }
    }

    pub(super) fn index(&self, id: DeliveryId) -> Option<usize> {
        self.deliveries.iter().position(|delivery| delivery.id == id)
    }

    /// Whether somebody waits for this mail now.
    fn is_wanted(&self, delivery: &Delivery, now: Timestamp) -> bool {
        let onboarding = self.onboarding_now(now);
        let expected = match delivery.kind {
            DeliveryKind::Invitation | DeliveryKind::Reminder | DeliveryKind::FreshLink => {
                matches!(onboarding, Some(Onboarding::Pending | Onboarding::Invited))
            }
            DeliveryKind::AccountCreated
            | DeliveryKind::ExpiryWarning
            | DeliveryKind::ExpiryWarningToAdministrators
            | DeliveryKind::InactivityWarning => onboarding == Some(Onboarding::Active),
            DeliveryKind::Test => true,
        };
        expected && self.is_current(delivery, now)
    }

    /// Whether what the mail says still holds: its link is the newest and lives, its password and its address are theirs.
    pub(super) fn is_current(&self, delivery: &Delivery, now: Timestamp) -> bool {
        match delivery.kind {
            DeliveryKind::Invitation | DeliveryKind::Reminder | DeliveryKind::FreshLink => {
                self.invitation.as_ref().is_some_and(|invitation| {
                    Some(invitation.id) == delivery.invitation
                        && invitation.generation == delivery.generation
                        && invitation.is_open(now)
                })
            }
            DeliveryKind::AccountCreated => {
                let password_lives = match self.user.credential {
                    Credential::OneTime { generation } => generation == delivery.generation,
                    Credential::None | Credential::Password(_) => delivery.generation == 0,
                };
                password_lives && delivery.email == self.user.profile.email
            }
            DeliveryKind::ExpiryWarning => {
                self.user.expires_at == Some(delivery.give_up_at) && delivery.email == self.user.profile.email
            }
            DeliveryKind::ExpiryWarningToAdministrators => {
                self.tenant.settings.tells_administrators() && delivery.email == self.user.profile.email
            }
            DeliveryKind::InactivityWarning => {
                let is_of_now = self.warning_holds() && self.holds(delivery.created_at);
                is_of_now && delivery.email == self.user.profile.email
            }
            DeliveryKind::Test => true,
        }
    }

    /// A mail is due that nobody waits for now. If only because the account is shut, it must not be forgotten: a reminder
    /// gives its step back to the ladder, a notification is held, since nothing else would ever queue it again.
    fn set_aside(&mut self, index: usize, act: &Act, changes: &mut Changeset) -> NotNeeded {
        let delivery = &self.deliveries[index];
        let shut = self.onboarding_now(act.now).is_none() && self.is_current(delivery, act.now);
        if shut && delivery.kind == DeliveryKind::AccountCreated && act.now < delivery.give_up_at {
            let give_up_at = delivery.give_up_at;
            free(&mut self.deliveries[index], changes);
            set_timer(&self.deliveries[index], give_up_at, changes);
            return NotNeeded::NotDue;
        }
        let is_of_former = self.warning_holds() && !self.holds(delivery.created_at);
        if delivery.kind == DeliveryKind::InactivityWarning && !is_of_former {
            // Nobody is taken for warned by a mail that was dropped (B10).
            self.withdraw_warning(changes);
        }
        let step = self.deliveries[index].reminder_step;
        if let Some(invitation) = &mut self.invitation
            && shut
            && step > 0
            && invitation.last_step == step
        {
            invitation.last_step = step - 1;
            self.save_invitation(changes);
        }
        self.cancel_delivery(index, act, changes);
        NotNeeded::Cancelled
    }

    /// Calls for the notifications that were held while the account was shut.
    pub(super) fn release_held(&mut self, act: &Act, changes: &mut Changeset) {
        for delivery in &self.deliveries {
            let held = delivery.kind == DeliveryKind::AccountCreated && is_free(delivery, act.now).is_ok();
            if held && self.is_wanted(delivery, act.now) {
                changes.events.push(due_event(delivery, Some(&self.user), act));
                set_timer(delivery, act.now + crate::timer::refire_pause(0), changes);
            }
        }
    }

    pub(super) fn report(&mut self, index: usize, report: &Report, act: &Act, changes: &mut Changeset) {
        let was_uncertain = self.deliveries[index].state.name() == DeliveryStateName::Uncertain;
        match end_of_try(&mut self.deliveries[index], report, act, changes) {
            None | Some(Outcome::Bounced | Outcome::SoftBounced | Outcome::Complained) => {}
            Some(Outcome::Sent) => {
                self.end_delivery(index, DeliveryState::Sent, EventType::DeliverySent, act, changes);
                self.on_handed_over(index, act, changes);
                if !was_uncertain {
                    self.warning_was_given(index, act, changes);
                }
                self.climb_ladder(index, act, changes);
            }
            Some(Outcome::Uncertain) => {
                self.warning_was_given(index, act, changes);
                self.end_delivery(
                    index,
                    DeliveryState::Uncertain,
                    EventType::DeliveryUncertain,
                    act,
                    changes,
                );
                self.climb_ladder(index, act, changes);
            }
            Some(Outcome::Failed) => {
                self.end_delivery(index, DeliveryState::Failed, EventType::DeliveryFailed, act, changes);
                if report.is_hard_bounce() {
                    self.suppressed = true;
                    let delivery = &self.deliveries[index];
                    changes.suppress(delivery.tenant, &delivery.email, &report.response, act.now);
                }
                self.mark_undeliverable(index, act, changes);
            }
            Some(Outcome::Deferred | Outcome::Unreachable) => {
                self.end_delivery(index, DeliveryState::Failed, EventType::DeliveryFailed, act, changes);
                self.climb_ladder(index, act, changes);
            }
        }
    }

    /// S2: the mail was really handed to a mail server.
    fn on_handed_over(&mut self, index: usize, act: &Act, changes: &mut Changeset) {
        let delivery = self.deliveries[index].clone();
        if !delivery.kind.has_link() {
            return;
        }
        if self.user.status.onboarding() == Some(Onboarding::Pending) {
            let to = self.user.status.with_onboarding(Onboarding::Invited);
            let since = self.user.status_since;
            let shown = to.name() == self.user.status.name();
            self.change_status(to, EventType::UserInvited, act, changes);
            if shown {
                // Below a deactivation or an expiry: the status that people see did not change.
                self.user.status_since = since;
                self.save_user(changes);
            }
        }
        let Some(invitation) = self.invitation.as_mut().filter(|i| {
            Some(i.id) == delivery.invitation
                && i.generation == delivery.generation
                && i.state == InvitationState::Queued
        }) else {
            return;
        };
        invitation.state = InvitationState::Sent;
        invitation.sent_at = Some(act.now);
        self.save_invitation(changes);
        let mut sent = self.event(act, EventType::InvitationSent);
        sent.invitation = delivery.invitation;
        changes.events.push(sent);
    }

    /// The next reminder follows the end of the mail before it, however it ended.
    fn climb_ladder(&mut self, index: usize, act: &Act, changes: &mut Changeset) {
        let delivery = &self.deliveries[index];
        let Some(invitation) = self
            .invitation
            .as_mut()
            .filter(|i| Some(i.id) == delivery.invitation && i.generation == delivery.generation)
        else {
            return;
        };
        if invitation.ladder_from.is_none() {
            invitation.ladder_from = Some(act.now);
            self.save_invitation(changes);
        }
        self.schedule_reminder(act, changes);
    }

    pub(super) fn mark_undeliverable(&mut self, index: usize, act: &Act, changes: &mut Changeset) {
        let delivery = &self.deliveries[index];
        let open = self.invitation.as_ref().is_some_and(|i| {
            Some(i.id) == delivery.invitation && i.generation == delivery.generation && i.state.is_open()
        });
        if open {
            self.close_invitation(
                InvitationState::Undeliverable,
                EventType::InvitationUndeliverable,
                act,
                changes,
            );
        }
    }

    /// Ends a mail that is no longer wanted.
    pub(super) fn cancel_delivery(&mut self, index: usize, act: &Act, changes: &mut Changeset) {
        self.end_delivery(
            index,
            DeliveryState::Cancelled,
            EventType::DeliveryCancelled,
            act,
            changes,
        );
    }

    pub(super) fn end_delivery(
        &mut self,
        index: usize,
        state: DeliveryState,
        kind: EventType,
        act: &Act,
        changes: &mut Changeset,
    ) {
        end(&mut self.deliveries[index], state, changes, act.now);
        let event = delivery_event(&self.deliveries[index], Some(&self.user), kind, act);
        changes.events.push(event);
    }
}
