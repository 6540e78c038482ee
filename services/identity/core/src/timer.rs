//! Timers: everything that waits is a row, swept by every replica.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::ids::{TenantId, UserId};

/// What a timer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TimerKind {
    /// A delivery is due, or the lease of its claim has lapsed. Subject: the delivery.
    Delivery,
    /// The lifetime of an invitation is over. Subject: the invitation.
    Lapse,
    /// The expiration of an account is reached. Subject: the user.
    Expiration,
    /// A seat is free, and somebody may wait for it (U8). Subject: the tenant.
    Seat,
    /// Accounts may be near their expiration (B9). Subject: the tenant.
    Warning,
    /// A pause of mail has ended: what it held goes out little by little (B15). Subject: the tenant.
    Mail,
    /// Somebody may have to be warned or deactivated for inactivity (B10). Subject: the tenant.
    Inactivity,
    /// An erasure goes on: its cool-off is over, services are to be reminded, or their deadline has passed. Subject: the
    /// erasure.
    Erasure,
    /// The deletion date of an account is reached (U10). Subject: the user.
    Deletion,
}

impl TimerKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Delivery,
        Self::Lapse,
        Self::Expiration,
        Self::Seat,
        Self::Warning,
        Self::Mail,
        Self::Inactivity,
        Self::Erasure,
        Self::Deletion,
    ];

    /// As in columns: `DELIVERY`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "DELIVERY",
            Self::Lapse => "LAPSE",
            Self::Expiration => "EXPIRATION",
            Self::Seat => "SEAT",
            Self::Warning => "WARNING",
            Self::Mail => "MAIL",
            Self::Inactivity => "INACTIVITY",
            Self::Erasure => "ERASURE",
            Self::Deletion => "DELETION",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Which timer: there is at most one per tenant, kind and subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey {
    /// Whose.
    pub tenant: TenantId,
    /// What for.
    pub kind: TimerKind,
    /// The delivery, the invitation, the user, the tenant or the erasure.
    pub subject: Uuid,
}

/// A timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Which.
    pub key: TimerKey,
    /// About whom; `None` for a test mail and for a tenant.
    pub user: Option<UserId>,
    /// When it fires.
    pub due_at: Timestamp,
    /// How often it fired without the work being done.
    pub fired: i32,
}

/// How long a timer that fired waits before it fires again, if nothing came of it: 1 min, doubling to 1 h. The event
/// that it wrote may have been lost with its consumer; a repeat does nothing where the work was done.
pub fn refire_pause(fired: i32) -> TimeDelta {
    let doublings = u32::try_from(fired.clamp(0, 6)).unwrap_or(0);
    TimeDelta::minutes((1_i64 << doublings).min(60))
}
