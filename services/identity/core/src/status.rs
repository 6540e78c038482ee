//! The status of an account: one value, with what each state has to remember. The table of changes is in `account`.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// How far registration is: what a deactivation restores (S11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Onboarding {
    /// No invitation was handed to a mail server (S1).
    Pending,
    /// One was (S2).
    Invited,
    /// Registration is completed (S3).
    Active,
}

/// What an expiry restores (S7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unexpired {
    /// As far as registration was.
    Onboarding(Onboarding),
    /// Deactivated, which itself remembers what it restores.
    Deactivated {
        /// Restored by reactivation.
        restores: Onboarding,
    },
}

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Neither shown out nor expired.
    Onboarding(Onboarding),
    /// Shown out by somebody (S4).
    Deactivated {
        /// Restored by reactivation (S11).
        restores: Onboarding,
    },
    /// The expiration was reached (S5).
    Expired {
        /// Restored by a later expiration (S7).
        restores: Unexpired,
    },
    /// Only a tombstone is left (S12).
    Erased,
}

/// A status without what it remembers: what callers filter by and events tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of Status")]
pub enum StatusName {
    Pending,
    Invited,
    Active,
    Deactivated,
    Expired,
    Erased,
}

impl Status {
    /// An account that was just created.
    pub const PENDING: Self = Self::Onboarding(Onboarding::Pending);
    /// An account whose registration is completed.
    pub const ACTIVE: Self = Self::Onboarding(Onboarding::Active);

    /// Its name.
    pub fn name(self) -> StatusName {
        match self {
            Self::Onboarding(onboarding) => onboarding.name(),
            Self::Deactivated { .. } => StatusName::Deactivated,
            Self::Expired { .. } => StatusName::Expired,
            Self::Erased => StatusName::Erased,
        }
    }

    /// What it would restore; `None` where nothing is to be restored.
    pub fn restores(self) -> Option<StatusName> {
        match self {
            Self::Onboarding(_) | Self::Erased => None,
            Self::Deactivated { restores } => Some(restores.name()),
            Self::Expired { restores } => Some(Self::from(restores).name()),
        }
    }

    /// How far registration is, also below a deactivation or an expiry; `None` when erased.
    pub fn onboarding(self) -> Option<Onboarding> {
        match self {
            Self::Onboarding(onboarding) | Self::Deactivated { restores: onboarding } => Some(onboarding),
            Self::Expired { restores } => Self::from(restores).onboarding(),
            Self::Erased => None,
        }
    }

    /// The same, with registration further on.
    pub fn with_onboarding(self, onboarding: Onboarding) -> Self {
        match self {
            Self::Onboarding(_) => Self::Onboarding(onboarding),
            Self::Deactivated { .. } => Self::Deactivated { restores: onboarding },
            Self::Expired {
                restores: Unexpired::Onboarding(_),
            } => Self::Expired {
                restores: Unexpired::Onboarding(onboarding),
            },
            Self::Expired {
                restores: Unexpired::Deactivated { .. },
            } => Self::Expired {
                restores: Unexpired::Deactivated { restores: onboarding },
            },
            Self::Erased => Self::Erased,
        }
    }

    /// This status once its expiration is reached; `None` if it cannot expire (any more).
    pub fn expired(self) -> Option<Self> {
        let restores = match self {
            Self::Onboarding(onboarding) => Unexpired::Onboarding(onboarding),
            Self::Deactivated { restores } => Unexpired::Deactivated { restores },
            Self::Expired { .. } | Self::Erased => return None,
        };
        Some(Self::Expired { restores })
    }

    /// The status that counts at `now` (S5): the clock decides, not the worker that will write it down.
    pub fn effective(self, expires_at: Option<Timestamp>, now: Timestamp) -> Self {
        match expires_at {
            Some(at) if at <= now => self.expired().unwrap_or(self),
            _ => self,
        }
    }
}

impl From<Unexpired> for Status {
    fn from(status: Unexpired) -> Self {
        match status {
            Unexpired::Onboarding(onboarding) => Self::Onboarding(onboarding),
            Unexpired::Deactivated { restores } => Self::Deactivated { restores },
        }
    }
}

impl Onboarding {
    /// Its name.
    pub fn name(self) -> StatusName {
        match self {
            Self::Pending => StatusName::Pending,
            Self::Invited => StatusName::Invited,
            Self::Active => StatusName::Active,
        }
    }
}

impl StatusName {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Invited,
        Self::Active,
        Self::Deactivated,
        Self::Expired,
        Self::Erased,
    ];

    /// As in columns and events: `INVITED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Invited => "INVITED",
            Self::Active => "ACTIVE",
            Self::Deactivated => "DEACTIVATED",
            Self::Expired => "EXPIRED",
            Self::Erased => "ERASED",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}
