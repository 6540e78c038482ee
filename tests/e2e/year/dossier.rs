//! All that a year left of one person: what was done to them, what was told of them, and every mail.

use chrono::TimeDelta;
use usher_core::clock::Timestamp;
use usher_core::event::{Event, EventType};
use usher_core::status::StatusName;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::DeliveryKind;

use super::people::{Order, Person};
use super::plan::Rules;
use super::post::Posted;

/// Actor of what happens by itself.
const USHER: &str = "usher";

/// A mail as the ledger of deliveries has it.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) kind: DeliveryKind,
    pub(super) state: api::DeliveryState,
    pub(super) step: i32,
    /// What it brings, if it has a link: invitation and generation.
    pub(super) link: (String, i32),
    pub(super) message_id: String,
    pub(super) created: Timestamp,
    pub(super) ended: Option<Timestamp>,
}

/// One person's year.
pub(super) struct Dossier<'a> {
    pub(super) rules: &'a Rules,
    /// Every instant at which anything could happen, in order.
    pub(super) ticks: &'a [Timestamp],
    pub(super) person: &'a Person,
    /// In order.
    pub(super) events: Vec<&'a Event>,
    pub(super) mails: Vec<Mail>,
    /// With the mail that each was, in the order in which they were handed over.
    pub(super) posted: Vec<(&'a Posted, usize)>,
}

impl Dossier<'_> {
    /// When the year ended.
    pub(super) fn end(&self) -> Timestamp {
        self.ticks.last().copied().unwrap_or_default()
    }

    /// The first instant from this one on at which anything could happen.
    pub(super) fn tick(&self, at: Timestamp) -> Option<Timestamp> {
        self.ticks.get(self.ticks.partition_point(|tick| *tick < at)).copied()
    }

    /// By when whoever looks at a tenant every so often has noticed what was so at an instant.
    pub(super) fn noticed(&self, at: Timestamp, period: TimeDelta) -> Option<Timestamp> {
        self.tick(self.tick(at)? + period)
    }

    pub(super) fn of(&self, kind: EventType) -> impl Iterator<Item = &Event> {
        self.events.iter().copied().filter(move |event| event.kind == kind)
    }

    /// The status before an instant, and the instant since when.
    pub(super) fn status_before(&self, at: Timestamp) -> Option<(StatusName, Timestamp)> {
        let before = self.events.iter().filter(|event| event.at < at);
        before.filter_map(|event| Some((event.to?, event.at))).next_back()
    }

    /// What their status may have been when something happened by itself at an instant. Orders are carried out before.
    pub(super) fn statuses_at(&self, at: Timestamp) -> Vec<StatusName> {
        let ordered = |event: &&&Event| event.at < at || (event.at == at && event.actor != USHER);
        let first = self
            .events
            .iter()
            .filter(ordered)
            .filter_map(|event| event.to)
            .next_back();
        let later = self
            .events
            .iter()
            .filter(|event| event.at == at && event.actor == USHER);
        first.into_iter().chain(later.filter_map(|event| event.to)).collect()
    }

    /// Whether they were active from an instant through another, and had been before.
    pub(super) fn is_active_through(&self, from: Timestamp, to: Timestamp) -> bool {
        let before = self
            .status_before(from)
            .is_some_and(|(status, _)| status == StatusName::Active);
        let mut during = self.events.iter().filter(|event| (from..=to).contains(&event.at));
        before && during.all(|event| event.to.is_none_or(|status| status == StatusName::Active))
    }

    /// The expiration that was in force after the orders of an instant, and since when it was.
    pub(super) fn expiration_at(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let orders = self.person.orders.iter().filter(|(given, _)| *given <= at);
        let mut set = orders.filter_map(|(given, order)| match order {
            Order::Expires(at) => Some((*at, *given)),
            _ => None,
        });
        set.next_back().and_then(|(at, given)| Some((at?, given)))
    }

    /// Every expiration that was set, with the instants between which it was in force.
    pub(super) fn expirations(&self) -> Vec<(Timestamp, Timestamp, Timestamp)> {
        let orders = self.person.orders.iter();
        let set: Vec<(Timestamp, Option<Timestamp>)> = orders
            .filter_map(|(given, order)| match order {
                Order::Expires(at) => Some((*given, *at)),
                _ => None,
            })
            .collect();
        let until = |index: usize| set.get(index + 1).map_or(Timestamp::MAX_UTC, |(given, _)| *given);
        let set_at = set.iter().enumerate();
        set_at
            .filter_map(|(index, (given, at))| Some(((*at)?, *given, until(index))))
            .collect()
    }

    /// The last sign-in that was known at an instant.
    pub(super) fn signed_in(&self, at: Timestamp) -> Option<Timestamp> {
        let orders = self.person.orders.iter().filter(|(given, _)| *given <= at);
        let sign_ins = orders.filter_map(|(_, order)| match order {
            Order::SignedIn(at) => Some(*at),
            _ => None,
        });
        sign_ins.max()
    }

    /// Since when they were inactive, as far as it was known at an instant (B10).
    pub(super) fn inactive_since(&self, at: Timestamp) -> Option<Timestamp> {
        let (_, since) = self.status_before(at)?;
        Some(self.signed_in(at).unwrap_or(since).max(since))
    }

    /// When they were erased.
    pub(super) fn erased(&self) -> Option<Timestamp> {
        self.of(EventType::UserErased).next().map(|event| event.at)
    }
}
