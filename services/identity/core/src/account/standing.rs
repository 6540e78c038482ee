//! In and out: deactivation, reactivation, expiration.

use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::event::EventType;
use crate::refusal::Refusal;
use crate::status::Status;
use crate::timer::TimerKind;

impl Account {
    /// Ends access at once; everything else stays (S4).
    pub fn deactivate(&mut self, act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        self.settle(act, changes);
        self.check_own_status(act)?;
        match self.user.status {
            Status::Onboarding(restores) => {
                self.change_status(
                    Status::Deactivated { restores },
                    EventType::UserDeactivated,
                    act,
                    changes,
                );
                Ok(Effect::Changed)
            }
            Status::Deactivated { .. } => Ok(Effect::Unchanged),
            Status::Expired { .. } => Err(Refusal::UserExpired(self.name())),
            Status::Erased => Err(Refusal::UserErased(self.name())),
        }
    }

    /// Restores the status before the deactivation (S11). Mails about the registration go on where they were.
    pub fn reactivate(&mut self, act: &Act, changes: &mut Changeset) -> Result<Effect, Refusal> {
        self.settle(act, changes);
        self.check_own_status(act)?;
        match self.user.status {
            Status::Deactivated { restores } => {
                self.check_seat(Status::Onboarding(restores))?;
                self.change_status(Status::Onboarding(restores), EventType::UserReactivated, act, changes);
                self.resume_mail(act, changes);
                self.ask_for_seat(act, changes);
                Ok(Effect::Changed)
            }
            Status::Onboarding(_) => Ok(Effect::Unchanged),
            Status::Expired { .. } => Err(Refusal::UserExpired(self.name())),
            Status::Erased => Err(Refusal::UserErased(self.name())),
        }
    }

    /// Sets, moves or clears the expiration (S13). On an expired user it restores exactly the status before (S7). That
    /// the instant is in the future is checked where it is parsed.
    pub fn set_expiration(
        &mut self,
        at: Option<Timestamp>,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Effect, Refusal> {
        self.settle(act, changes);
        self.check_own_status(act)?;
        match self.user.status {
            Status::Erased => return Err(Refusal::UserErased(self.name())),
            Status::Expired { restores } => {
                self.check_seat(restores.into())?;
                self.user.expires_at = at;
                self.user.expiry_warnings = 0;
                self.change_status(restores.into(), EventType::UserRestored, act, changes);
                self.set_expiration_timer(changes);
                self.resume_mail(act, changes);
                self.ask_for_seat(act, changes);
            }
            Status::Onboarding(_) | Status::Deactivated { .. } if self.user.expires_at == at => {
                return Ok(Effect::Unchanged);
            }
            Status::Onboarding(_) | Status::Deactivated { .. } => {
                self.user.expires_at = at;
                self.user.expiry_warnings = 0;
                self.touch(act, changes);
                self.set_expiration_timer(changes);
                let mut event = self.event(act, EventType::UserUpdated);
                event.changed_fields = vec!["expire_time".into()];
                changes.events.push(event);
            }
        }
        Ok(Effect::Changed)
    }

    /// Writes the expiry down, if the expiration still is the one that was due (S5).
    pub fn expire(&mut self, due: Timestamp, act: &Act, changes: &mut Changeset) -> Effect {
        if self.user.expires_at != Some(due) || self.user.effective_status(act.now) == self.user.status {
            return Effect::Unchanged;
        }
        self.settle(act, changes);
        Effect::Changed
    }

    /// The timer of the expiration fired: calls the expiration worker.
    pub fn on_expiration_timer(&self, act: &Act, changes: &mut Changeset) {
        if self.user.effective_status(act.now) != self.user.status {
            changes.events.push(self.event(act, EventType::ExpirationDue));
            // The seat is free from that instant on, whenever a worker writes it down.
            if self.user.status == Status::ACTIVE && self.tenant.settings.seat_limit > 0 {
                super::wake_waiting(&self.tenant, act, changes);
            }
        } else if matches!(self.user.status, Status::Expired { .. } | Status::Erased) {
            self.clear_timer(TimerKind::Expiration, self.user.id.0, changes);
        } else {
            self.set_expiration_timer(changes);
        }
    }

    /// Nobody changes the status of the account that they act as (S9).
    fn check_own_status(&self, act: &Act) -> Result<(), Refusal> {
        if act.is_by(self.user.id) {
            Err(Refusal::OwnStatus)
        } else {
            Ok(())
        }
    }
}
