//! An account: its data. What can happen to it is in `account`.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::email::EmailAddress;
use crate::ids::{TenantId, UserId};
use crate::status::{Onboarding, Status};

/// How a person proves who they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// Not at all yet.
    None,
    /// By a password that they chose; its Argon2id hash in PHC form.
    Password(String),
    /// By a one-time password, which is derived from a key and this generation and rests nowhere (L2).
    OneTime {
        /// Counts the one-time passwords of this account, from 1.
        generation: i32,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password(…)",
            Self::OneTime { .. } => "OneTime",
        })
    }
}

/// The data of a person that callers set and change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Unique in the tenant by its folded form.
    pub email: EmailAddress,
    /// The id in the caller's system; unique in the tenant.
    pub external_id: Option<String>,
    /// May be empty before registration.
    pub first_name: String,
    /// May be empty before registration.
    pub last_name: String,
    /// BCP 47; empty: the tenant's default.
    pub language: String,
    /// IANA name; empty: the tenant's.
    #[serde(default)]
    pub time_zone: String,
    /// Sorted, without duplicates.
    pub labels: Vec<String>,
}

impl Profile {
    /// Only an address.
    pub fn of(email: EmailAddress) -> Self {
        Self {
            email,
            external_id: None,
            first_name: String::new(),
            last_name: String::new(),
            language: String::new(),
            time_zone: String::new(),
            labels: Vec::new(),
        }
    }
}

/// What users are sorted by when the order is by name: last name, first name, address; folded.
pub fn name_key(profile: &Profile) -> String {
    let parts = [
        profile.last_name.as_str(),
        profile.first_name.as_str(),
        profile.email.key(),
    ];
    crate::text::fold(&parts.join("\u{1}"))
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: UserId,
    /// Counts the changes, from 1 (B2).
    pub version: i64,
    /// What callers set.
    pub profile: Profile,
    /// As written down; ask `effective_status` for the one that counts.
    pub status: Status,
    /// Since when it is written down.
    pub status_since: Timestamp,
    /// When access ends by itself (S5).
    pub expires_at: Option<Timestamp>,
    /// How they sign in.
    pub credential: Credential,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// When registration was completed.
    pub activated_at: Option<Timestamp>,
    /// When the account is to be erased (U10).
    pub deletes_at: Option<Timestamp>,
    /// How many steps of the warnings ahead of `expires_at` are behind them (B9).
    #[serde(default)]
    pub expiry_warnings: i32,
    /// The last sign-in with the right password. Written beside the account: it is no change of it.
    pub last_login_at: Option<Timestamp>,
    /// The first course that they opened (S8): the earliest that was reported.
    pub first_course_at: Option<Timestamp>,
    /// When they were warned of their inactivity, unless they signed in since (B10): when the mail went out; until then, and if
    /// it never did, when it was queued.
    pub inactivity_warned_at: Option<Timestamp>,
    /// Registered, and waiting for a seat since then (U8).
    pub seat_waiting_since: Option<Timestamp>,
    /// The fields that the person edited themselves, sorted: imports leave them alone unless told otherwise.
    pub edited_fields: Vec<String>,
}

/// How far somebody who is active came (S8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engagement {
    /// Never opened a course.
    Activated,
    /// Opened at least one.
    Engaged,
}

impl User {
    /// How far they came; `None` for whoever is not active at `now` (S8).
    pub fn engagement(&self, now: Timestamp) -> Option<Engagement> {
        (self.effective_status(now) == Status::ACTIVE).then_some(match self.first_course_at {
            None => Engagement::Activated,
            Some(_) => Engagement::Engaged,
        })
    }

    /// Since when they did not sign in; from the activation, or the return to being active, if that is later (B10).
    pub fn inactive_since(&self) -> Timestamp {
        self.last_login_at.unwrap_or_default().max(self.status_since)
    }

    /// The status that counts at `now` (S5).
    pub fn effective_status(&self, now: Timestamp) -> Status {
        self.status.effective(self.expires_at, now)
    }

    /// Since when the effective status holds.
    pub fn effective_since(&self, now: Timestamp) -> Timestamp {
        if self.effective_status(now) == self.status {
            self.status_since
        } else {
            self.expires_at.unwrap_or(self.status_since)
        }
    }

    /// What access is decided by.
    pub fn standing(&self) -> Standing {
        Standing {
            status: self.status,
            expires_at: self.expires_at,
            version: self.version,
        }
    }
}

/// What access is decided by (B4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// As written down.
    pub status: Status,
    /// When access ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Of the account.
    pub version: i64,
}

/// Whether somebody may in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Yes.
    Allowed {
        /// Until when; `None`: without an end.
        until: Option<Timestamp>,
    },
    /// Not before registration is completed.
    NotRegistered,
    /// Shown out.
    Deactivated,
    /// The expiration was reached.
    Expired,
    /// No such account, or an erased one.
    NotFound,
}

impl Standing {
    /// Whether they may in at `now`.
    pub fn access(&self, now: Timestamp) -> Access {
        match self.status.effective(self.expires_at, now) {
            Status::Onboarding(Onboarding::Active) => Access::Allowed { until: self.expires_at },
            Status::Onboarding(_) => Access::NotRegistered,
            Status::Deactivated { .. } => Access::Deactivated,
            Status::Expired { .. } => Access::Expired,
            Status::Erased => Access::NotFound,
        }
    }
}
