//! Seats: every `ACTIVE` account takes one (U8). Each seat taken and each given back leaves a line in the ledger; the lines
//! add up to the usage (B13).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::event::EventType;
use crate::ids::{TenantId, UserId};
use crate::refusal::Refusal;
use crate::tenant::Settings;

/// What becomes of registrations while every seat is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatPolicy {
    /// They are refused; the link stays usable.
    #[default]
    Refuse,
    /// They wait, and become active in their order as seats free up.
    Wait,
}

/// How many seats a tenant's users take and how many people wait for one, as one transaction sees it: the accounts that it
/// loaded share the counts, so that what one command takes is gone for the next.
#[derive(Debug, Clone, Default)]
pub struct Seats(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    used: AtomicI64,
    waiting: AtomicI64,
}

/// What [`Seats`] counted at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatCounts {
    /// Taken.
    pub used: i64,
    /// Waited for.
    pub waiting: i64,
}

impl Seats {
    /// So many are taken, and so many people wait.
    pub fn new(used: i64, waiting: i64) -> Self {
        let seats = Self::default();
        seats.restore(SeatCounts { used, waiting });
        seats
    }

    /// The counts at the moment.
    pub fn counts(&self) -> SeatCounts {
        SeatCounts {
            used: self.0.used.load(Ordering::Relaxed),
            waiting: self.0.waiting.load(Ordering::Relaxed),
        }
    }

    /// Goes back to former counts: a command that was refused takes nothing.
    pub fn restore(&self, counts: SeatCounts) {
        self.0.used.store(counts.used, Ordering::Relaxed);
        self.0.waiting.store(counts.waiting, Ordering::Relaxed);
    }

    /// Whether a seat is left.
    pub fn has_room(&self, settings: &Settings) -> bool {
        settings.seat_limit == 0 || self.counts().used < settings.seat_limit
    }

    /// Whether a newcomer may take a seat: one is left, and nobody was there before.
    pub fn has_room_for_newcomers(&self, settings: &Settings) -> bool {
        self.has_room(settings) && (settings.seat_policy == SeatPolicy::Refuse || self.counts().waiting == 0)
    }

    /// Why a newcomer may not take one.
    pub(crate) fn refusal(&self, settings: &Settings) -> Refusal {
        Refusal::SeatLimit {
            limit: settings.seat_limit,
            waiting: match settings.seat_policy {
                SeatPolicy::Refuse => 0,
                SeatPolicy::Wait => self.counts().waiting,
            },
        }
    }

    pub(crate) fn take(&self, change: i64) {
        self.0.used.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn wait(&self, change: i64) {
        self.0.waiting.fetch_add(change, Ordering::Relaxed);
    }
}

impl PartialEq for Seats {
    fn eq(&self, other: &Self) -> bool {
        self.counts() == other.counts()
    }
}

impl Eq for Seats {}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatEntry {
    /// Whose.
    pub tenant: TenantId,
    /// Whose account.
    pub user: UserId,
    /// When.
    pub at: Timestamp,
    /// 1: a seat was taken; -1: given back.
    pub change: i64,
    /// What caused it.
    pub cause: EventType,
    /// Who.
    pub actor: String,
}

/// How the seats of a tenant stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeatUsage {
    /// Active users at the moment.
    pub used: i64,
    /// Registered people who wait for a seat.
    pub waiting: i64,
    /// Invitations that are queued or sent and have not lapsed.
    pub open_invitations: i64,
    /// Active users whose expiration is reached before the horizon that was asked about.
    pub expiring: i64,
}
