//! Seats (U8): whoever becomes active takes one, whoever ceases to be gives it back. The status decides, so that no
//! command can forget to count.

use super::{Account, Effect};
use crate::change::{Act, Changeset};
use crate::event::EventType;
use crate::refusal::Refusal;
use crate::seats::{SeatEntry, SeatPolicy};
use crate::status::{Onboarding, Status};
use crate::tenant::Tenant;
use crate::timer::{Timer, TimerKey, TimerKind};

impl Account {
    /// Registration is complete: active if a seat is left and nobody waits for it; otherwise refused, or on the waiting list.
    pub(super) fn activate_or_wait(&mut self, act: &Act, changes: &mut Changeset) -> Result<(), Refusal> {
        let settings = &self.tenant.settings;
        if self.seats.has_room_for_newcomers(settings) {
            self.activate(act, changes);
        } else if settings.seat_policy == SeatPolicy::Refuse {
            return Err(self.seats.refusal(settings));
        } else {
            self.user.seat_waiting_since = Some(act.now);
            self.touch(act, changes);
            self.begin_to_wait(act, changes);
        }
        Ok(())
    }

    /// They are on the waiting list. Where a seat is left it is for whoever came before.
    pub(super) fn begin_to_wait(&mut self, act: &Act, changes: &mut Changeset) {
        self.seats.wait(1);
        changes.events.push(self.event(act, EventType::SeatWaiting));
        if self.seats.has_room(&self.tenant.settings) {
            wake_waiting(&self.tenant, act, changes);
        }
    }

    /// A seat is free, and it is this person's turn. Does nothing for whoever does not wait, or waits in vain: shut
    /// accounts keep their place until they are opened again.
    pub fn take_free_seat(&mut self, act: &Act, changes: &mut Changeset) -> Effect {
        self.settle(act, changes);
        let waits = self.user.seat_waiting_since.is_some();
        let open = matches!(
            self.user.status,
            Status::Onboarding(Onboarding::Pending | Onboarding::Invited)
        );
        if !waits || !open || !self.seats.has_room(&self.tenant.settings) {
            return Effect::Unchanged;
        }
        self.activate(act, changes);
        Effect::Changed
    }

    /// Refuses if the status would take a seat and none is left for whoever comes now. Also who had one before comes after
    /// those who wait: their seat was freed when they left, and the first who waits may be taking it at this moment (S7,
    /// S11, U8).
    pub(super) fn check_seat(&self, to: Status) -> Result<(), Refusal> {
        let settings = &self.tenant.settings;
        if to == Status::ACTIVE && !self.seats.has_room_for_newcomers(settings) {
            return Err(self.seats.refusal(settings));
        }
        Ok(())
    }

    /// After an account was opened again: who waited for a seat goes on waiting, and may find one free.
    pub(super) fn ask_for_seat(&self, act: &Act, changes: &mut Changeset) {
        if self.user.seat_waiting_since.is_some() {
            wake_waiting(&self.tenant, act, changes);
        }
    }

    /// Writes down what a change of status means for the seats.
    pub(super) fn count_seat(&self, from: Status, cause: EventType, act: &Act, changes: &mut Changeset) {
        let takes = |status| i64::from(status == Status::ACTIVE);
        let change = takes(self.user.status) - takes(from);
        if change == 0 {
            return;
        }
        // Who has expired was not counted among those taken.
        if cause != EventType::UserExpired {
            self.seats.take(change);
        }
        changes.seats.push(SeatEntry {
            tenant: self.user.tenant,
            user: self.user.id,
            at: act.now,
            change,
            cause,
            actor: act.actor.clone(),
        });
        if change < 0 && self.tenant.settings.seat_limit > 0 {
            wake_waiting(&self.tenant, act, changes);
        }
    }

    fn activate(&mut self, act: &Act, changes: &mut Changeset) {
        if self.user.seat_waiting_since.take().is_some() {
            self.seats.wait(-1);
        }
        self.user.activated_at = Some(act.now);
        self.change_status(Status::ACTIVE, EventType::UserActivated, act, changes);
    }
}

/// Seats may be free: whoever waits is to be looked for.
pub fn wake_waiting(tenant: &Tenant, act: &Act, changes: &mut Changeset) {
    changes.set_timer(Timer {
        key: seat_timer(tenant),
        user: None,
        due_at: act.now,
        fired: 0,
    });
}

/// The timer that looks for whoever waits for a seat.
pub fn seat_timer(tenant: &Tenant) -> TimerKey {
    TimerKey {
        tenant: tenant.id,
        kind: TimerKind::Seat,
        subject: tenant.id.0,
    }
}
