//! Holding mail back: over night, for the next day (B8), and while the tenant's mail is paused (B15).

use chrono::TimeDelta;
use chrono_tz::Tz;

use super::Account;
use super::mail::{free, save, set_timer};
use crate::change::{Act, Changeset};
use crate::clock::Timestamp;
use crate::delivery::{Delivery, DeliveryKind, DeliveryState};
use crate::event::EventType;
use crate::ids::DeliveryId;
use crate::invitation::InvitationState;
use crate::pacing::{LONGEST_DAY, day_of, next_day, zone};
use crate::tenant::Tenant;
use crate::timer::{Timer, TimerKey, TimerKind};

/// For how long a mail that a pause held is worth trying once the pause is over, at least.
const SECOND_CHANCE: TimeDelta = TimeDelta::days(5);
/// How often a mail that is held by a pause is looked at: the end of the pause sets it free. Also for how long a mail waits for
/// its turn after the end at most, should none ever come.
const LOOK: TimeDelta = TimeDelta::days(1);
/// Who has their turn in the night gets it in the morning, and in this first part of it.
const MORNING: TimeDelta = TimeDelta::hours(1);

impl Account {
    /// The time zone that the person lives by.
    pub fn time_zone(&self) -> Tz {
        let own = Some(self.user.profile.time_zone.as_str()).filter(|name| !name.is_empty());
        zone(own.unwrap_or(&self.tenant.settings.time_zone)).unwrap_or(Tz::UTC)
    }

    /// When a mail that is due may go: automatic ones outside of the quiet hours only, and on a day on which the person has
    /// not had as many as the cap allows (B8). The cap counts every mail. An administrator is told of people in their care
    /// once a day at most (B9).
    pub(super) fn may_go_at(&self, delivery: &Delivery, due: Timestamp) -> Timestamp {
        if !delivery.kind.is_automatic() {
            return due;
        }
        let zone = self.time_zone();
        let at = self.may_go_from(delivery.kind, due);
        let cap = usize::try_from(self.tenant.settings.daily_mail_cap).unwrap_or(0);
        let is_full = cap > 0 && self.mails_of_day(delivery, at, zone, |_| true) >= cap;
        let told = || self.mails_of_day(delivery, at, zone, |kind| kind == delivery.kind) > 0;
        if is_full || (delivery.kind == DeliveryKind::ExpiryWarningToAdministrators && told()) {
            return self.may_go_from(delivery.kind, next_day(at, zone));
        }
        at
    }

    /// When a mail of a kind may be queued for, as far as the hour decides.
    pub(super) fn may_go_from(&self, kind: DeliveryKind, at: Timestamp) -> Timestamp {
        match self.tenant.settings.quiet_hours {
            Some(quiet) if kind.is_automatic() => quiet.end_after(at, self.time_zone()),
            _ => at,
        }
    }

    /// Mails of some kinds of the day of an instant: those that were sent, and others that may be going out just now.
    fn mails_of_day(&self, but: &Delivery, at: Timestamp, zone: Tz, counts: impl Fn(DeliveryKind) -> bool) -> usize {
        let day = day_of(at, zone);
        let sent = self
            .mailed_at
            .iter()
            .filter(|(sent, kind)| *sent >= day && counts(*kind));
        let going = self.deliveries.iter().filter(|other| {
            let under_way = matches!(other.state, DeliveryState::Claimed(_) | DeliveryState::Transmitting(_));
            under_way && other.id != but.id && counts(other.kind)
        });
        sent.count() + going.count()
    }

    /// Puts a mail off that is due and must not go yet; answers whether it did.
    pub(super) fn hold_back(&mut self, index: usize, act: &Act, changes: &mut Changeset) -> bool {
        let paused = self.is_mail_paused();
        let at = self.may_go_at(&self.deliveries[index], act.now);
        let turn = self.turn_by(&self.deliveries[index], act.now);
        if !paused && turn.is_none() && at <= act.now {
            return false;
        }
        free(&mut self.deliveries[index], changes);
        let delivery = &mut self.deliveries[index];
        if let Some(look) = paused.then(|| act.now + LOOK).or(turn) {
            set_timer(delivery, look, changes);
            return true;
        }
        delivery.due_at = at;
        save(delivery, changes);
        set_timer(delivery, at, changes);
        true
    }

    /// By when a mail has its turn that a pause held, and that was not released yet; `None`: it waits for none. Whatever calls
    /// for it before, nothing floods (B15).
    fn turn_by(&self, delivery: &Delivery, now: Timestamp) -> Option<Timestamp> {
        let resumed = self.tenant.settings.mail_resumed_at?;
        let was_held = delivery.due_at < resumed && delivery.created_at < resumed && waits(delivery);
        Some(resumed + LOOK).filter(|by| was_held && now < *by)
    }

    /// The pause is over: a mail that it held has its turn at an instant, and is worth trying as if it were new.
    pub fn release(&mut self, id: DeliveryId, turn: Timestamp, changes: &mut Changeset) {
        let Some(index) = self.index(id).filter(|index| waits(&self.deliveries[*index])) else {
            return;
        };
        let at = self.by_day(self.deliveries[index].kind, turn);
        let delivery = &mut self.deliveries[index];
        delivery.due_at = at;
        if delivery.invitation.is_none() && delivery.kind != DeliveryKind::ExpiryWarning {
            delivery.give_up_at = delivery.give_up_at.max(at + SECOND_CHANCE);
        }
        save(delivery, changes);
        set_timer(delivery, at, changes);
    }

    /// A turn that an automatic mail has in the quiet hours of its recipient, put off to the end of these: its place in the line
    /// stays, so that the morning of a time zone is no flood either.
    fn by_day(&self, kind: DeliveryKind, turn: Timestamp) -> Timestamp {
        let morning = self.may_go_from(kind, turn);
        let resumed = self.tenant.settings.mail_resumed_at.unwrap_or(turn);
        if morning == turn {
            return turn;
        }
        let place = (turn - resumed)
            .num_milliseconds()
            .rem_euclid(MORNING.num_milliseconds());
        let at = morning + TimeDelta::milliseconds(place);
        let is_day = self.may_go_from(kind, at) == at && at < next_day(morning, self.time_zone());
        if is_day { at } else { morning }
    }

    /// A link that a pause kept from being sent does not die of it (B15): it lives for as long as one that is new.
    pub(super) fn prolong_held(&mut self, act: &Act, changes: &mut Changeset) -> bool {
        let lapses_at = act.now + self.tenant.settings.invitation_lifetime();
        let (paused, resumed) = (self.is_mail_paused(), self.tenant.settings.mail_resumed_at);
        let Some(invitation) = &mut self.invitation else {
            return false;
        };
        // Also where its time ran out during the pause, and nobody came to write it down before the pause was over.
        let held = paused || resumed.is_some_and(|resumed| invitation.lapses_at <= resumed);
        if !held || invitation.state != InvitationState::Queued {
            return false;
        }
        invitation.lapses_at = lapses_at;
        let (id, generation) = (invitation.id, invitation.generation);
        self.save_invitation(changes);
        self.set_timer(TimerKind::Lapse, id.0, lapses_at, changes);
        for delivery in &mut self.deliveries {
            let brings_it = delivery.invitation == Some(id) && delivery.generation == generation;
            if brings_it && delivery.state.name().is_live() {
                delivery.give_up_at = lapses_at;
                save(delivery, changes);
            }
        }
        true
    }

    pub(super) fn is_mail_paused(&self) -> bool {
        self.tenant.settings.mail_paused_at.is_some()
    }
}

/// Whether nobody has begun with a mail.
fn waits(delivery: &Delivery) -> bool {
    matches!(delivery.state, DeliveryState::Queued | DeliveryState::Deferred)
}

/// Mails sent since then count for the day of an instant, wherever the recipient is.
pub fn mailed_since(now: Timestamp) -> Timestamp {
    now - LONGEST_DAY
}

impl Tenant {
    /// Stops all mail to people (B15); everything else goes on. Answers whether it went until now.
    pub fn pause_mail(&mut self, act: &Act, changes: &mut Changeset) -> bool {
        if self.settings.mail_paused_at.is_some() {
            return false;
        }
        self.settings.mail_paused_at = Some(act.now);
        self.settings.mail_resumed_at = None;
        self.version += 1;
        changes.events.push(act.event(EventType::MailPaused, self.id, None));
        changes.clear_timer(mail_timer(self));
        true
    }

    /// Mail goes on: what was held goes out little by little. Answers whether it was paused.
    pub fn resume_mail(&mut self, act: &Act, changes: &mut Changeset) -> bool {
        if self.settings.mail_paused_at.take().is_none() {
            return false;
        }
        self.settings.mail_resumed_at = Some(act.now);
        self.version += 1;
        changes.events.push(act.event(EventType::MailResumed, self.id, None));
        set_mail_timer(self, act.now, changes);
        true
    }
}

/// Looks for mails that a pause held.
pub fn set_mail_timer(tenant: &Tenant, due_at: Timestamp, changes: &mut Changeset) {
    changes.set_timer(Timer {
        key: mail_timer(tenant),
        user: None,
        due_at,
        fired: 0,
    });
}

fn mail_timer(tenant: &Tenant) -> TimerKey {
    TimerKey {
        tenant: tenant.id,
        kind: TimerKind::Mail,
        subject: tenant.id.0,
    }
}
