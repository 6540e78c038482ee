//! One mail by itself: what a claim, a report and the clock do to it, whoever it is for.

use super::deliver::{Begin, NotNeeded};
use crate::change::{Act, Changeset, Leases};
use crate::clock::Timestamp;
use crate::delivery::{Attempt, Claim, Delivery, DeliveryKind, DeliveryState, Outcome, Phase, Report, TestContent};
use crate::email::EmailAddress;
use crate::event::{Event, EventType};
use crate::ids::{ClaimId, DeliveryId, TenantId};
use crate::refusal::Refusal;
use crate::timer::{Timer, TimerKey, TimerKind};
use crate::user::User;

/// A test mail (L12): it belongs to nobody, so only the mail itself changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached(pub Delivery);

impl Detached {
    /// A new one, worth trying for a day.
    pub fn new(tenant: TenantId, email: &EmailAddress, content: TestContent, act: &Act) -> Self {
        Self(Delivery {
            tenant,
            id: DeliveryId::mint(act.now),
            user: None,
            invitation: None,
            kind: DeliveryKind::Test,
            generation: 1,
            reminder_step: 0,
            email: email.clone(),
            state: DeliveryState::Queued,
            attempts: 0,
            created_at: act.now,
            due_at: act.now,
            give_up_at: act.now + chrono::TimeDelta::days(1),
            ended_at: None,
            last_claim: None,
            bounce: None,
            test: Some(content),
        })
    }

    /// As [`super::Account::begin_delivery`].
    pub fn begin(&mut self, worker: &str, leases: Leases, act: &Act, changes: &mut Changeset) -> Begin {
        if let Some(lapsed) = lapsed_transmission(&self.0, act.now) {
            self.report(&lapsed, act, changes);
        }
        match is_free(&self.0, act.now) {
            Err(why) => Begin::NotNeeded(why),
            Ok(()) => Begin::Claimed(claim(&mut self.0, worker, leases, act, changes)),
        }
    }

    /// As [`super::Account::report_transmitting`].
    pub fn transmitting(
        &mut self,
        id: ClaimId,
        leases: Leases,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Timestamp, Refusal> {
        transmit(&mut self.0, id, leases, act, changes)
    }

    /// As [`super::Account::finish_delivery`].
    pub fn finish(&mut self, id: ClaimId, report: &Report, act: &Act, changes: &mut Changeset) -> Result<(), Refusal> {
        if may_report(&self.0, id, report)? {
            end_attempt(&self.0, id, report, act, changes);
            self.report(report, act, changes);
        }
        Ok(())
    }

    /// As [`super::Account::on_delivery_timer`].
    pub fn on_timer(&mut self, act: &Act, changes: &mut Changeset) {
        if let Some(lapsed) = lapsed_transmission(&self.0, act.now) {
            return self.report(&lapsed, act, changes);
        }
        match is_free(&self.0, act.now) {
            Ok(()) => {
                free(&mut self.0, changes);
                changes.events.push(due_event(&self.0, None, act));
            }
            Err(_) => wait_on(&self.0, changes),
        }
    }

    /// Queues it.
    pub fn queue(self, act: &Act, changes: &mut Changeset) -> Self {
        let Self(mut delivery) = self;
        requeue(&mut delivery, act.now, changes);
        changes.events.push(due_event(&delivery, None, act));
        Self(delivery)
    }

    fn report(&mut self, report: &Report, act: &Act, changes: &mut Changeset) {
        let (state, kind) = match end_of_try(&mut self.0, report, act, changes) {
            None => return,
            Some(Outcome::Sent) => (DeliveryState::Sent, EventType::DeliverySent),
            Some(Outcome::Uncertain) => (DeliveryState::Uncertain, EventType::DeliveryUncertain),
            Some(_) => (DeliveryState::Failed, EventType::DeliveryFailed),
        };
        end(&mut self.0, state, changes, act.now);
        changes.events.push(delivery_event(&self.0, None, kind, act));
    }
}

/// The call to work for a mail: the reminder worker's queue for reminders, the invitation worker's for all others.
pub(super) fn due_event(delivery: &Delivery, user: Option<&User>, act: &Act) -> Event {
    let kind = match delivery.kind {
        DeliveryKind::Reminder
        | DeliveryKind::ExpiryWarning
        | DeliveryKind::ExpiryWarningToAdministrators
        | DeliveryKind::InactivityWarning => EventType::ReminderDue,
        DeliveryKind::Invitation | DeliveryKind::AccountCreated | DeliveryKind::FreshLink | DeliveryKind::Test => {
            EventType::InvitationDue
        }
    };
    delivery_event(delivery, user, kind, act)
}

pub(super) fn delivery_event(delivery: &Delivery, user: Option<&User>, kind: EventType, act: &Act) -> Event {
    let mut event = act.event(kind, delivery.tenant, user);
    event.invitation = delivery.invitation;
    event.delivery = Some(delivery.id);
    event.reminder_step = delivery.reminder_step;
    event
}

pub(super) fn save(delivery: &Delivery, changes: &mut Changeset) {
    changes
        .deliveries
        .insert((delivery.tenant, delivery.id), delivery.clone());
}

pub(super) fn timer_key(delivery: &Delivery) -> TimerKey {
    TimerKey {
        tenant: delivery.tenant,
        kind: TimerKind::Delivery,
        subject: delivery.id.0,
    }
}

pub(super) fn set_timer(delivery: &Delivery, due_at: Timestamp, changes: &mut Changeset) {
    changes.set_timer(Timer {
        key: timer_key(delivery),
        user: delivery.user,
        due_at,
        fired: 0,
    });
}

pub(super) fn end(delivery: &mut Delivery, state: DeliveryState, changes: &mut Changeset, now: Timestamp) {
    delivery.state = state;
    delivery.ended_at = Some(now);
    save(delivery, changes);
    changes.clear_timer(timer_key(delivery));
}

/// Whether a worker may claim it now.
pub(super) fn is_free(delivery: &Delivery, now: Timestamp) -> Result<(), NotNeeded> {
    match &delivery.state {
        DeliveryState::Queued | DeliveryState::Deferred if delivery.due_at <= now => Ok(()),
        DeliveryState::Queued | DeliveryState::Deferred => Err(NotNeeded::NotDue),
        DeliveryState::Claimed(claim) if claim.lease_until <= now => Ok(()),
        DeliveryState::Claimed(_) | DeliveryState::Transmitting(_) => Err(NotNeeded::Claimed),
        _ => Err(NotNeeded::Ended),
    }
}

pub(super) fn claim(
    delivery: &mut Delivery,
    worker: &str,
    leases: Leases,
    act: &Act,
    changes: &mut Changeset,
) -> Claim {
    let claim = Claim {
        id: ClaimId::mint(act.now),
        lease_until: act.now + leases.claim,
    };
    delivery.attempts += 1;
    delivery.last_claim = Some(claim.id);
    delivery.state = DeliveryState::Claimed(claim.clone());
    save(delivery, changes);
    set_timer(delivery, claim.lease_until, changes);
    let attempt = Attempt {
        tenant: delivery.tenant,
        delivery: delivery.id,
        claim: claim.id,
        worker: worker.to_owned(),
        started_at: act.now,
        ended_at: None,
        outcome: None,
        response: String::new(),
        smtp_code: 0,
        phase: Phase::Unknown,
    };
    changes.put_attempt(attempt);
    claim
}

pub(super) fn transmit(
    delivery: &mut Delivery,
    id: ClaimId,
    leases: Leases,
    act: &Act,
    changes: &mut Changeset,
) -> Result<Timestamp, Refusal> {
    match &delivery.state {
        DeliveryState::Transmitting(claim) if claim.id == id => Ok(claim.lease_until),
        DeliveryState::Claimed(claim) if claim.id == id && claim.lease_until > act.now => {
            let lease_until = act.now + leases.transmit;
            delivery.state = DeliveryState::Transmitting(Claim { id, lease_until });
            save(delivery, changes);
            set_timer(delivery, lease_until, changes);
            Ok(lease_until)
        }
        _ => Err(Refusal::ClaimLost),
    }
}

/// A transmission whose lease lapsed ended nobody knows how (B12).
pub(super) fn lapsed_transmission(delivery: &Delivery, now: Timestamp) -> Option<Report> {
    match &delivery.state {
        DeliveryState::Transmitting(claim) if claim.lease_until <= now => Some(Report {
            outcome: Outcome::Uncertain,
            response: "the worker did not report the end".into(),
            smtp_code: 0,
            phase: Phase::Content,
        }),
        _ => None,
    }
}

/// Whether a report is to be written down: `Ok(false)` for a repeated one, an error for one without a claim.
pub(super) fn may_report(delivery: &Delivery, claim: ClaimId, report: &Report) -> Result<bool, Refusal> {
    if delivery.last_claim != Some(claim) {
        return Err(Refusal::ClaimLost);
    }
    Ok(match delivery.state {
        DeliveryState::Claimed(_) | DeliveryState::Transmitting(_) => true,
        DeliveryState::Uncertain | DeliveryState::Queued | DeliveryState::Deferred => report.outcome == Outcome::Sent,
        _ => false,
    })
}

/// Writes the attempt down as it ended. Its beginning stands in the row already and is kept by the store.
pub(super) fn end_attempt(delivery: &Delivery, claim: ClaimId, report: &Report, act: &Act, changes: &mut Changeset) {
    let attempt = Attempt {
        tenant: delivery.tenant,
        delivery: delivery.id,
        claim,
        worker: String::new(),
        started_at: act.now,
        ended_at: Some(act.now),
        outcome: Some(report.outcome),
        response: report.response.clone(),
        smtp_code: report.smtp_code,
        phase: report.phase,
    };
    changes.put_attempt(attempt);
}

/// What the end of a try means for the mail: `None` if another try follows, otherwise how the mail ended. `Deferred` and
/// `Unreachable` as an answer mean that its time is up.
pub(super) fn end_of_try(
    delivery: &mut Delivery,
    report: &Report,
    act: &Act,
    changes: &mut Changeset,
) -> Option<Outcome> {
    let retry = match report.outcome {
        Outcome::Deferred => DeliveryState::Deferred,
        Outcome::Unreachable => DeliveryState::Queued,
        _ => return Some(report.outcome),
    };
    let due_at = delivery.next_try(act.now);
    if report.outcome == Outcome::Unreachable {
        delivery.attempts = (delivery.attempts - 1).max(0);
    }
    let Some(due_at) = due_at else {
        return Some(report.outcome);
    };
    delivery.state = retry;
    delivery.due_at = due_at;
    save(delivery, changes);
    set_timer(delivery, due_at, changes);
    None
}

pub(super) fn requeue(delivery: &mut Delivery, now: Timestamp, changes: &mut Changeset) {
    delivery.state = DeliveryState::Queued;
    delivery.due_at = now;
    delivery.ended_at = None;
    save(delivery, changes);
    set_timer(delivery, now + crate::timer::refire_pause(0), changes);
}

/// A claim whose worker died goes back into the queue.
pub(super) fn free(delivery: &mut Delivery, changes: &mut Changeset) {
    if matches!(delivery.state, DeliveryState::Claimed(_)) {
        delivery.state = DeliveryState::Queued;
        save(delivery, changes);
    }
}

/// Sets the timer to what the delivery waits for.
pub(super) fn wait_on(delivery: &Delivery, changes: &mut Changeset) {
    match &delivery.state {
        DeliveryState::Queued | DeliveryState::Deferred => set_timer(delivery, delivery.due_at, changes),
        DeliveryState::Claimed(claim) | DeliveryState::Transmitting(claim) => {
            set_timer(delivery, claim.lease_until, changes);
        }
        _ => changes.clear_timer(timer_key(delivery)),
    }
}
