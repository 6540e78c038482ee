//! Invitations: sent, sent again, cancelled, accepted.

use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::delivery::{Delivery, DeliveryKind, DeliveryState};
use crate::event::EventType;
use crate::ids::{DeliveryId, InvitationId};
use crate::invitation::{Invitation, InvitationState, Message, next_reminder};
use crate::refusal::Refusal;
use crate::status::{Onboarding, Status};
use crate::timer::{TimerKind, refire_pause};
use crate::token::InvitationToken;
use crate::user::Credential;

/// What a person gives when they accept (L1).
#[derive(Debug, Clone)]
pub struct Registration {
    /// 1 to 100 characters.
    pub first_name: String,
    /// 1 to 100 characters.
    pub last_name: String,
    /// The Argon2id hash of their password, in PHC form.
    pub password_hash: String,
}

impl Account {
    /// Invites the person. An open invitation of theirs is superseded: its link is dead at once (L8).
    pub fn invite(&mut self, message: Option<Message>, act: &Act, changes: &mut Changeset) -> Result<(), Refusal> {
        self.settle(act, changes);
        self.check_invitable()?;
        if self.invitation.as_ref().is_some_and(|i| i.is_open(act.now)) {
            self.close_invitation(
                InvitationState::Superseded,
                EventType::InvitationSuperseded,
                act,
                changes,
            );
        }
        self.open_invitation(message, act, changes);
        Ok(())
    }

    /// Sends the newest invitation again, with a new link and a new lifetime (L8). `message` replaces the text.
    pub fn resend(
        &mut self,
        id: InvitationId,
        message: Option<Message>,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<(), Refusal> {
        self.settle(act, changes);
        let state = self.newest(id)?.state;
        if matches!(
            state,
            InvitationState::Accepted | InvitationState::Cancelled | InvitationState::Superseded
        ) {
            return Err(Refusal::InvitationClosed);
        }
        self.check_invitable()?;
        self.cancel_deliveries(id, act, changes);
        self.renew(DeliveryKind::Invitation, message, act, changes);
        Ok(())
    }

    /// Sends a fresh link for a lapsed one (B11). Does nothing for any other link, so it cannot be used to flood: a
    /// fresh link lives at least an hour before it can lapse.
    pub fn refresh(&mut self, token: InvitationToken, act: &Act, changes: &mut Changeset) -> Effect {
        self.settle(act, changes);
        let lapsed = self.invitation.as_ref().is_some_and(|invitation| {
            invitation.id == token.invitation
                && token.generation <= invitation.generation
                && invitation.state == InvitationState::Lapsed
        });
        if !lapsed || self.check_invitable().is_err() {
            return Effect::Unchanged;
        }
        self.renew(DeliveryKind::FreshLink, None, act, changes);
        Effect::Changed
    }

    /// Cancels an open invitation: its link is dead at once (L8).
    pub fn cancel_invitation(
        &mut self,
        id: InvitationId,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Effect, Refusal> {
        self.settle(act, changes);
        match self.newest(id)?.state {
            InvitationState::Cancelled => Ok(Effect::Unchanged),
            InvitationState::Queued | InvitationState::Sent => {
                self.close_invitation(InvitationState::Cancelled, EventType::InvitationCancelled, act, changes);
                Ok(Effect::Changed)
            }
            _ => Err(Refusal::InvitationClosed),
        }
    }

    /// Whether a link can be used now. Unknown, used and dead links get one answer; whoever holds a living link may know
    /// that the account is shut.
    pub fn check_link(&self, token: InvitationToken, now: Timestamp) -> Result<&Invitation, Refusal> {
        let invitation = self
            .invitation
            .as_ref()
            .filter(|i| i.id == token.invitation && i.generation == token.generation && i.is_open(now))
            .ok_or(Refusal::InvitationNotUsable)?;
        match self.user.effective_status(now) {
            Status::Onboarding(Onboarding::Pending | Onboarding::Invited) => Ok(invitation),
            Status::Deactivated { .. } => Err(Refusal::UserDeactivated(self.name())),
            Status::Expired { .. } => Err(Refusal::UserExpired(self.name())),
            Status::Onboarding(Onboarding::Active) | Status::Erased => Err(Refusal::InvitationNotUsable),
        }
    }

    /// Completes the registration (L1, S3). Where every seat is taken it is refused, and the link stays usable; or it
    /// counts, and the person waits for a seat (U8).
    pub fn accept(
        &mut self,
        token: InvitationToken,
        registration: Registration,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<(), Refusal> {
        self.settle(act, changes);
        self.check_link(token, act.now)?;
        self.user.profile.first_name = registration.first_name;
        self.user.profile.last_name = registration.last_name;
        self.user.credential = Credential::Password(registration.password_hash);
        self.mark_edited(["first_name", "last_name"]);
        self.activate_or_wait(act, changes)?;
        if let Some(invitation) = &mut self.invitation {
            invitation.accepted_at = Some(act.now);
        }
        self.close_invitation(InvitationState::Accepted, EventType::InvitationAccepted, act, changes);
        Ok(())
    }

    /// The timer of the invitation's lifetime fired.
    pub fn on_lapse_timer(&mut self, id: InvitationId, act: &Act, changes: &mut Changeset) {
        self.settle(act, changes);
        match &self.invitation {
            Some(invitation) if invitation.id == id && invitation.state.is_open() => {
                self.set_timer(TimerKind::Lapse, id.0, invitation.lapses_at, changes);
            }
            _ => self.clear_timer(TimerKind::Lapse, id.0, changes),
        }
    }

    pub(super) fn open_invitation(&mut self, message: Option<Message>, act: &Act, changes: &mut Changeset) {
        let lapses_at = act.now + self.tenant.settings.invitation_lifetime();
        // Two commands of one instant: which invitation is the newest must show in the rows.
        let created_at = self.invitation.as_ref().map_or(act.now, |former| {
            act.now.max(former.created_at + chrono::TimeDelta::microseconds(1))
        });
        self.invitation = Some(Invitation {
            tenant: self.user.tenant,
            id: InvitationId::mint(act.now),
            user: self.user.id,
            email: self.user.profile.email.clone(),
            state: InvitationState::Queued,
            generation: 1,
            message,
            created_at,
            queued_at: act.now,
            sent_at: None,
            ladder_from: None,
            last_step: 0,
            lapses_at,
            accepted_at: None,
        });
        self.queue_invitation(DeliveryKind::Invitation, act, changes);
    }

    fn renew(&mut self, kind: DeliveryKind, message: Option<Message>, act: &Act, changes: &mut Changeset) {
        let lapses_at = act.now + self.tenant.settings.invitation_lifetime();
        if let Some(invitation) = &mut self.invitation {
            invitation.generation += 1;
            invitation.state = InvitationState::Queued;
            invitation.email = self.user.profile.email.clone();
            invitation.message = message.or(invitation.message.take());
            invitation.queued_at = act.now;
            invitation.sent_at = None;
            invitation.ladder_from = None;
            invitation.last_step = 0;
            invitation.lapses_at = lapses_at;
        }
        self.queue_invitation(kind, act, changes);
    }

    fn queue_invitation(&mut self, kind: DeliveryKind, act: &Act, changes: &mut Changeset) {
        let Some(invitation) = &self.invitation else { return };
        let (id, lapses_at) = (invitation.id, invitation.lapses_at);
        self.save_invitation(changes);
        self.set_timer(TimerKind::Lapse, id.0, lapses_at, changes);
        let mut queued = self.event(act, EventType::InvitationQueued);
        queued.invitation = Some(id);
        changes.events.push(queued);
        self.queue_invitation_mail(kind, act, changes);
    }

    fn queue_invitation_mail(&mut self, kind: DeliveryKind, act: &Act, changes: &mut Changeset) {
        let Some(invitation) = &self.invitation else { return };
        let (id, generation, lapses_at) = (invitation.id, invitation.generation, invitation.lapses_at);
        self.queue_delivery(kind, Some(id), generation, 0, act.now, lapses_at, act, changes);
    }

    /// Schedules the next step of the ladder, if the invitation is open, its first mail has ended, and no mail with its
    /// newest link is under way (L14).
    pub(super) fn schedule_reminder(&mut self, act: &Act, changes: &mut Changeset) {
        let Some(invitation) = &self.invitation else { return };
        let Some(from) = invitation.ladder_from else { return };
        if !invitation.is_open(act.now) || self.has_live_mail(invitation) {
            return;
        }
        let ladder = &self.tenant.settings.reminder_ladder_seconds;
        let Some((step, due_at)) = next_reminder(ladder, invitation.last_step, from, invitation.lapses_at, act.now)
        else {
            return;
        };
        let (id, generation, lapses_at) = (invitation.id, invitation.generation, invitation.lapses_at);
        if let Some(invitation) = &mut self.invitation {
            invitation.last_step = step;
        }
        self.save_invitation(changes);
        self.queue_delivery(
            DeliveryKind::Reminder,
            Some(id),
            generation,
            step,
            due_at,
            lapses_at,
            act,
            changes,
        );
    }

    /// After a deactivation or an expiry was taken back: what was dropped meanwhile is queued anew, what was held goes on.
    pub(super) fn resume_mail(&mut self, act: &Act, changes: &mut Changeset) {
        self.release_held(act, changes);
        let waiting = matches!(
            self.onboarding_now(act.now),
            Some(Onboarding::Pending | Onboarding::Invited)
        );
        let Some(invitation) = self.invitation.as_ref().filter(|i| waiting && i.is_open(act.now)) else {
            return;
        };
        if invitation.ladder_from.is_some() {
            self.schedule_reminder(act, changes);
        } else if !self.has_live_mail(invitation) {
            self.queue_invitation_mail(DeliveryKind::Invitation, act, changes);
        }
    }

    /// Whether a mail with its newest link is under way; one with a former link may be transmitting still.
    fn has_live_mail(&self, invitation: &Invitation) -> bool {
        self.deliveries.iter().any(|delivery| {
            delivery.invitation == Some(invitation.id)
                && delivery.generation == invitation.generation
                && delivery.state.name().is_live()
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the columns of a delivery, each given once per kind of mail"
    )]
    pub(super) fn queue_delivery(
        &mut self,
        kind: DeliveryKind,
        invitation: Option<InvitationId>,
        generation: i32,
        reminder_step: i32,
        due_at: Timestamp,
        give_up_at: Timestamp,
        act: &Act,
        changes: &mut Changeset,
    ) {
        let delivery = Delivery {
            tenant: self.user.tenant,
            id: DeliveryId::mint(act.now),
            user: Some(self.user.id),
            invitation,
            kind,
            generation,
            reminder_step,
            email: self.user.profile.email.clone(),
            state: DeliveryState::Queued,
            attempts: 0,
            created_at: act.now,
            due_at,
            give_up_at,
            ended_at: None,
            last_claim: None,
            bounce: None,
            test: None,
        };
        changes
            .deliveries
            .insert((delivery.tenant, delivery.id), delivery.clone());
        if due_at <= act.now {
            changes
                .events
                .push(super::mail::due_event(&delivery, Some(&self.user), act));
            self.set_timer(TimerKind::Delivery, delivery.id.0, act.now + refire_pause(0), changes);
        } else {
            self.set_timer(TimerKind::Delivery, delivery.id.0, due_at, changes);
        }
        self.deliveries.push(delivery);
    }

    fn newest(&self, id: InvitationId) -> Result<&Invitation, Refusal> {
        self.invitation
            .as_ref()
            .filter(|i| i.id == id)
            .ok_or(Refusal::InvitationClosed)
    }

    /// Whether an invitation may go to them at all.
    fn check_invitable(&self) -> Result<(), Refusal> {
        let address = self.user.profile.email.as_str().to_owned();
        match self.user.status {
            Status::Onboarding(Onboarding::Active) => Err(Refusal::UserAlreadyActive(address)),
            Status::Deactivated { .. } => Err(Refusal::UserDeactivated(self.name())),
            Status::Expired { .. } => Err(Refusal::UserExpired(self.name())),
            Status::Erased => Err(Refusal::UserErased(self.name())),
            Status::Onboarding(_) if self.user.seat_waiting_since.is_some() => Err(Refusal::WaitsForSeat(self.name())),
            Status::Onboarding(_) if self.suppressed => Err(Refusal::AddressSuppressed(address)),
            Status::Onboarding(_) => Ok(()),
        }
    }
}
