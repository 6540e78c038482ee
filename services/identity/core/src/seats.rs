//! Seats: every `ACTIVE` account takes one (U8). Each seat taken and each given back leaves a line in the ledger; the lines
//! add up to the usage (B13).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::event::EventType;
use crate::ids::{TenantId, UserId};
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

/// How many seats a tenant's users take, as one transaction sees it: the accounts that it loaded share the count, so that
/// what one command takes is gone for the next.
#[derive(Debug, Clone, Default)]
pub struct Seats(Arc<AtomicI64>);

impl Seats {
    /// So many are taken.
    pub fn new(used: i64) -> Self {
        Self(Arc::new(AtomicI64::new(used)))
    }

    /// How many are taken.
    pub fn used(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the count: a command that was refused takes nothing.
    pub fn set(&self, used: i64) {
        self.0.store(used, Ordering::Relaxed);
    }

    /// Whether one is left.
    pub fn has_room(&self, settings: &Settings) -> bool {
        settings.seat_limit == 0 || self.used() < settings.seat_limit
    }

    pub(crate) fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }
}

impl PartialEq for Seats {
    fn eq(&self, other: &Self) -> bool {
        self.used() == other.used()
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
