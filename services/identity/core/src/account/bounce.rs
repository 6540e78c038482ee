//! A mail that came back after a mail server took it (L13).

use super::mail::{delivery_event, save};
use super::{Account, Detached};
use crate::bounce::{Bounce, BounceKind};
use crate::change::{Act, Changeset};
use crate::delivery::{Delivery, DeliveryStateName, Outcome, Phase, Report};
use crate::event::EventType;
use crate::ids::DeliveryId;

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The address that the mail went to gets no mail any more.
    Suppressed,
    /// Written down, nothing else.
    Recorded,
    /// The same, or graver, was reported of this mail before: nothing is done.
    Repeated,
    /// The mail was never tried, or there is none: nothing is done.
    NeverSent,
}

impl Account {
    /// Takes in what came back of a mail. A hard bounce and a complaint suppress the address that it went to, which need
    /// not be the account's any more; after a hard bounce its open invitation is undeliverable, so that no reminder
    /// follows (L14). The person's status stays.
    pub fn bounce(&mut self, id: DeliveryId, bounce: &Bounce, act: &Act, changes: &mut Changeset) -> Heard {
        let Some(index) = self.index(id) else {
            return Heard::NeverSent;
        };
        let heard = hear(&mut self.deliveries[index], bounce, act, changes);
        if heard != Heard::Suppressed {
            return heard;
        }
        self.settle(act, changes);
        if self.deliveries[index].state.name() == DeliveryStateName::Uncertain {
            // What comes back went out (B12).
            let sent = Report {
                outcome: Outcome::Sent,
                response: String::new(),
                smtp_code: 0,
                phase: Phase::Unknown,
            };
            self.report(index, &sent, act, changes);
        }
        let delivery = &self.deliveries[index];
        self.suppressed |= delivery.email == self.user.profile.email;
        changes
            .events
            .push(delivery_event(delivery, Some(&self.user), told(bounce.kind), act));
        if bounce.kind == BounceKind::Hard {
            self.mark_undeliverable(index, act, changes);
        }
        heard
    }
}

impl Detached {
    /// As [`Account::bounce`].
    pub fn bounce(&mut self, bounce: &Bounce, act: &Act, changes: &mut Changeset) -> Heard {
        let heard = hear(&mut self.0, bounce, act, changes);
        if heard == Heard::Suppressed {
            changes
                .events
                .push(delivery_event(&self.0, None, told(bounce.kind), act));
        }
        heard
    }
}

/// What it means for the mail by itself.
fn hear(delivery: &mut Delivery, bounce: &Bounce, act: &Act, changes: &mut Changeset) -> Heard {
    if delivery.attempts == 0 {
        return Heard::NeverSent;
    }
    let counts = bounce.kind > BounceKind::Soft;
    if counts && delivery.bounce >= Some(bounce.kind) {
        return Heard::Repeated;
    }
    changes.put_attempt(bounce.entry(delivery, act));
    if !counts {
        return Heard::Recorded;
    }
    delivery.bounce = Some(bounce.kind);
    save(delivery, changes);
    changes.suppress(delivery.tenant, &delivery.email, &bounce.words(), act.now);
    Heard::Suppressed
}

fn told(kind: BounceKind) -> EventType {
    match kind {
        BounceKind::Complaint => EventType::DeliveryComplained,
        BounceKind::Hard | BounceKind::Soft => EventType::DeliveryBounced,
    }
}
