//! The audit log (B14): who did what to whom, through which program and why; what was refused; and who read whose data.
//!
//! An entry is written together with the change it tells of. It bears a code ([`AuditKeys::sign`]) over everything in it,
//! made with a key that is not in the database, so that from its first moment no byte of it can be changed unnoticed. A
//! background task later gives the rows of a tenant their places in a chain ([`AuditKeys::extend`]), so that none can be
//! taken out, put in or moved. [`Verifier`] finds what was done to a log, and where.
//!
//! What may be personal (the reason, the request id, the details) is covered by a salted digest instead of the code itself:
//! it can be erased with its salt, and the log still holds.

mod changes;
mod keys;
#[cfg(test)]
mod tests;
mod verify;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use changes::{Known, Origin, Who, changes, refusal};
pub use keys::{AuditKey, AuditKeys, MIN_KEY, hex};
pub use verify::{Anchor, Fault, FaultKind, Verdict, Verifier};

use crate::clock::Timestamp;
use crate::ids::{AuditId, JobId, TenantId, UserId};

/// The outcome of what was done.
pub const DONE: &str = "OK";

/// One field, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its name, as in the API. Of a password only this is told.
    pub field: String,
    /// `None`: it had no value, or none that is told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<String>,
    /// `None`: it has no value, or none that is told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
}

impl FieldChange {
    /// Names a field and its values.
    pub fn new(field: impl Into<String>, before: Option<String>, after: Option<String>) -> Self {
        Self {
            field: field.into(),
            before,
            after,
        }
    }
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Whose.
    pub tenant: TenantId,
    /// When.
    pub at: Timestamp,
    /// Who: the id of a user or the name of a service; `usher` for the service itself.
    pub actor: String,
    /// The program that called, as it names itself; empty for the service itself.
    pub caller: String,
    /// What was called: `UserService/UpdateUser`, `Job/deactivate`, `Timer/expiration`.
    pub method: String,
    /// The permission that it asks for; may be empty.
    pub permission: String,
    /// `OK`, or why it was refused: a reason of the API's errors.
    pub outcome: String,
    /// To whom, or whose data.
    pub subject: Option<UserId>,
    /// As part of which job.
    pub job: Option<JobId>,
    /// In the caller's words; may be empty.
    pub reason: String,
    /// The caller's; may be empty.
    pub request_id: String,
    /// What changed, or what was read.
    pub details: Vec<FieldChange>,
}

/// What of a row can be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasable {
    /// See [`AuditEntry::details`]; JSON.
    pub details: String,
    /// Keeps the digest from telling what was erased: 16 random octets. Empty where somebody else's words were erased.
    pub salt: Vec<u8>,
}

/// That a person's data was erased from a row: all that can be, or the reason alone where the row is about somebody else, whom the
/// rest tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// By which erasure.
    pub erasure: Uuid,
    /// Shows that Usher did it: see [`AuditKeys::redaction`] and [`AuditKeys::redaction_of_words`].
    pub proof: Vec<u8>,
}

/// A row's place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// From 1, without gaps, for each tenant.
    pub sequence: i64,
    /// Over the link before and this row.
    pub chain: Vec<u8>,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Whose.
    pub tenant: TenantId,
    /// Which; rises with `at`.
    pub id: AuditId,
    /// See [`AuditEntry::at`], and so on.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Through which program.
    pub caller: String,
    /// What.
    pub method: String,
    /// With which permission.
    pub permission: String,
    /// How it ended.
    pub outcome: String,
    /// To whom.
    pub subject: Option<UserId>,
    /// As part of which job.
    pub job: Option<JobId>,
    /// Empty where it was erased.
    pub reason: String,
    /// Empty where it was erased.
    pub request_id: String,
    /// `None` where it was erased.
    pub erasable: Option<Erasable>,
    /// Of the salt and what can be erased: SHA-256.
    pub digest: Vec<u8>,
    /// The code over the row.
    pub code: Vec<u8>,
    /// Where it was erased.
    pub redaction: Option<Redaction>,
    /// Once it is sealed.
    pub link: Option<Link>,
}

impl AuditRow {
    /// What changed or was read; nothing where it was erased or cannot be read.
    pub fn details(&self) -> Vec<FieldChange> {
        let kept = self.erasable.as_ref();
        kept.and_then(|kept| serde_json::from_str(&kept.details).ok())
            .unwrap_or_default()
    }
}

/// The end of a tenant's chain, and its beginning where older rows are no longer kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// Whose.
    pub tenant: TenantId,
    /// Of the last row that was sealed; 0: none.
    pub sequence: i64,
    /// Its link; empty: none.
    pub chain: Vec<u8>,
    /// Of the last row that is no longer kept; 0: all are.
    pub kept_after: i64,
    /// Its link; empty: none.
    pub kept_chain: Vec<u8>,
    /// The code over the head.
    pub code: Vec<u8>,
}
