//! A delivery: one mail, from the moment it is wanted to the mail server's answer.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::bounce::BounceKind;
use crate::clock::{Timestamp, to_micros};
use crate::email::EmailAddress;
use crate::ids::{ClaimId, DeliveryId, InvitationId, TenantId, UserId};
use crate::invitation::Message;
use crate::template::TemplateKind;

/// Which mail it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it; the .proto has a sentence on each")]
pub enum DeliveryKind {
    Invitation,
    Reminder,
    AccountCreated,
    ExpiryWarning,
    ExpiryWarningToAdministrators,
    FreshLink,
    InactivityWarning,
    Test,
}

impl DeliveryKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Invitation,
        Self::Reminder,
        Self::AccountCreated,
        Self::ExpiryWarning,
        Self::ExpiryWarningToAdministrators,
        Self::FreshLink,
        Self::InactivityWarning,
        Self::Test,
    ];

    /// As in columns: `INVITATION`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "INVITATION",
            Self::Reminder => "REMINDER",
            Self::AccountCreated => "ACCOUNT_CREATED",
            Self::ExpiryWarning => "EXPIRY_WARNING",
            Self::ExpiryWarningToAdministrators => "EXPIRY_WARNING_TO_ADMINISTRATORS",
            Self::FreshLink => "FRESH_LINK",
            Self::InactivityWarning => "INACTIVITY_WARNING",
            Self::Test => "TEST",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether it brings the link of an invitation.
    pub fn has_link(self) -> bool {
        matches!(self, Self::Invitation | Self::Reminder | Self::FreshLink)
    }

    /// The template that it is made with; a test shows the invitation (L12).
    pub fn template(self) -> TemplateKind {
        match self {
            Self::Invitation | Self::Test => TemplateKind::Invitation,
            Self::Reminder => TemplateKind::Reminder,
            Self::AccountCreated => TemplateKind::AccountCreated,
            Self::FreshLink => TemplateKind::FreshLink,
            Self::ExpiryWarning => TemplateKind::ExpiryWarning,
            Self::ExpiryWarningToAdministrators => TemplateKind::ExpiryWarningToAdministrators,
            Self::InactivityWarning => TemplateKind::InactivityWarning,
        }
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The mail server took it.
    Sent,
    /// The mail server said not now.
    Deferred,
    /// The mail server said never.
    Failed,
    /// The mail server could not be reached: uses up no attempt.
    Unreachable,
    /// The connection broke after the content was begun (B12).
    Uncertain,
    /// It came back as undeliverable after a mail server took it (L13). This and what follows end no try: they are
    /// written down beside the tries.
    Bounced,
    /// It came back, or was delayed, for a reason that may pass.
    SoftBounced,
    /// Its recipient called it unwanted.
    Complained,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Sent,
        Self::Deferred,
        Self::Failed,
        Self::Unreachable,
        Self::Uncertain,
        Self::Bounced,
        Self::SoftBounced,
        Self::Complained,
    ];

    /// Whether a worker can report it as the end of a try.
    pub fn ends_a_try(self) -> bool {
        !matches!(self, Self::Bounced | Self::SoftBounced | Self::Complained)
    }

    /// As in columns: `SENT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Deferred => "DEFERRED",
            Self::Failed => "FAILED",
            Self::Unreachable => "UNREACHABLE",
            Self::Uncertain => "UNCERTAIN",
            Self::Bounced => "BOUNCED",
            Self::SoftBounced => "SOFT_BOUNCED",
            Self::Complained => "COMPLAINED",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// The phase of the SMTP dialogue that ended a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of the dialogue's phases")]
pub enum Phase {
    #[default]
    Unknown,
    Connect,
    Mail,
    Recipient,
    Data,
    Content,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Connect,
        Self::Mail,
        Self::Recipient,
        Self::Data,
        Self::Content,
    ];

    /// As in columns: `RECIPIENT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Connect => "CONNECT",
            Self::Mail => "MAIL",
            Self::Recipient => "RECIPIENT",
            Self::Data => "DATA",
            Self::Content => "CONTENT",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }
}

/// What a worker reports at the end of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The server's answer, on one line, at most 500 characters.
    pub response: String,
    /// The server's reply code; 0: none.
    pub smtp_code: i32,
    /// Where in the dialogue.
    pub phase: Phase,
}

impl Report {
    /// Whether it says that the address itself is dead: a 5xx to the recipient that is no matter of policy (L13).
    /// Enhanced codes (RFC 3463) decide where there is one: 5.1.x is the address, but 5.1.7 and 5.1.8 are the sender's,
    /// which many servers judge only at RCPT; 5.7.x is policy.
    pub fn is_hard_bounce(&self) -> bool {
        if self.outcome != Outcome::Failed || self.phase != Phase::Recipient {
            return false;
        }
        let enhanced = self
            .response
            .split_whitespace()
            .find(|word| word.starts_with("5.") && word.matches('.').count() == 2);
        let enhanced = enhanced.map(|code| code.trim_end_matches(|c: char| !c.is_ascii_digit()));
        is_dead_by(enhanced.unwrap_or_default(), self.smtp_code)
    }
}

/// Whether a final refusal says that the address itself is dead: by its enhanced status code (RFC 3463), or, where there is
/// none or it says no more than that it failed (5.0.0), by the reply code (RFC 5321). The same for an answer in the dialogue and
/// for one that is told of later.
pub fn is_dead_by(enhanced: &str, reply: i32) -> bool {
    match enhanced {
        "" | "5.0.0" => matches!(reply, 550 | 551 | 553),
        status => is_dead_address(status),
    }
}

/// Whether an enhanced status code (RFC 3463) says that the address itself is dead: 5.1.x, but for 5.1.7 and 5.1.8, which
/// are about the sender's, and 5.2.1, a mailbox that was closed.
pub fn is_dead_address(status: &str) -> bool {
    match status.strip_prefix("5.1.") {
        Some(detail) => !matches!(detail, "7" | "8"),
        None => status == "5.2.1",
    }
}

/// How far a mail is, with what each state has to remember.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Waits for a worker, or for its time.
    Queued,
    /// A worker has it.
    Claimed(Claim),
    /// The mail server took DATA; the end is not known yet.
    Transmitting(Claim),
    /// The mail server said not now.
    Deferred,
    /// The mail server took it.
    Sent,
    /// It will not be sent any more.
    Failed,
    /// May or may not have gone out (B12).
    Uncertain,
    /// The address is suppressed (L13).
    Suppressed,
    /// No longer wanted.
    Cancelled,
}

/// A worker's claim on a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Proves it.
    pub id: ClaimId,
    /// Until when it holds.
    pub lease_until: Timestamp,
}

/// The name of a delivery's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of DeliveryState")]
pub enum DeliveryStateName {
    Queued,
    Claimed,
    Transmitting,
    Deferred,
    Sent,
    Failed,
    Uncertain,
    Suppressed,
    Cancelled,
}

impl DeliveryStateName {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Claimed,
        Self::Transmitting,
        Self::Deferred,
        Self::Sent,
        Self::Failed,
        Self::Uncertain,
        Self::Suppressed,
        Self::Cancelled,
    ];

    /// As in columns: `QUEUED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Claimed => "CLAIMED",
            Self::Transmitting => "TRANSMITTING",
            Self::Deferred => "DEFERRED",
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::Uncertain => "UNCERTAIN",
            Self::Suppressed => "SUPPRESSED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether something will still happen to it by itself.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Queued | Self::Claimed | Self::Transmitting | Self::Deferred)
    }
}

impl DeliveryState {
    /// Its name.
    pub fn name(&self) -> DeliveryStateName {
        match self {
            Self::Queued => DeliveryStateName::Queued,
            Self::Claimed(_) => DeliveryStateName::Claimed,
            Self::Transmitting(_) => DeliveryStateName::Transmitting,
            Self::Deferred => DeliveryStateName::Deferred,
            Self::Sent => DeliveryStateName::Sent,
            Self::Failed => DeliveryStateName::Failed,
            Self::Uncertain => DeliveryStateName::Uncertain,
            Self::Suppressed => DeliveryStateName::Suppressed,
            Self::Cancelled => DeliveryStateName::Cancelled,
        }
    }

    /// The claim, while there is one.
    pub fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Claimed(claim) | Self::Transmitting(claim) => Some(claim),
            _ => None,
        }
    }
}

/// One mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: DeliveryId,
    /// To whom; `None` for a test mail.
    pub user: Option<UserId>,
    /// With whose link.
    pub invitation: Option<InvitationId>,
    /// Which mail it is.
    pub kind: DeliveryKind,
    /// Of the invitation, or of the one-time password.
    pub generation: i32,
    /// Of the reminder ladder, from 1; otherwise 0.
    pub reminder_step: i32,
    /// Where to.
    pub email: EmailAddress,
    /// How far it is.
    pub state: DeliveryState,
    /// Tries that count, so far.
    pub attempts: i32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it is due.
    pub due_at: Timestamp,
    /// Until when it is worth trying.
    pub give_up_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The newest claim, also after the end: tells a repeated report from a late one.
    pub last_claim: Option<ClaimId>,
    /// What came back, and counts: a hard bounce or a complaint (L13).
    pub bounce: Option<BounceKind>,
    /// What only a test mail has to remember.
    pub test: Option<TestContent>,
}

/// What a test mail shows (L12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestContent {
    /// BCP 47.
    pub language: String,
    /// For the salutation.
    pub first_name: String,
    /// The customised text.
    pub message: Option<Message>,
}

/// One try, or what came back later, as it is kept (L16). Rows with the same delivery and number are the same try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Whose.
    pub tenant: TenantId,
    /// Of which mail.
    pub delivery: DeliveryId,
    /// The claim that it was made under; for what came back, an id that follows from its content.
    pub claim: ClaimId,
    /// Who tried, or who reported what came back.
    pub worker: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs, or if the worker died.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The server's answer.
    pub response: String,
    /// The server's reply code; 0: none.
    pub smtp_code: i32,
    /// Where in the dialogue.
    pub phase: Phase,
}

/// The pause after the `attempt`th try (from 1): full jitter below 5 s, doubling to 1 h. The jitter comes from the
/// delivery's id, so that a repeat decides the same and a batch does not come back at once.
pub fn retry_pause(delivery: DeliveryId, attempt: i32) -> TimeDelta {
    let doublings = u32::try_from(attempt.clamp(1, 11) - 1).unwrap_or(0);
    let ceiling_ms = (5_000_u64 << doublings).min(3_600_000);
    let digest = Sha256::new()
        .chain_update(delivery.0.as_bytes())
        .chain_update(attempt.to_be_bytes())
        .finalize();
    let mut head = [0_u8; 8];
    head.copy_from_slice(&digest[..8]);
    let pause = u64::from_be_bytes(head) % ceiling_ms;
    TimeDelta::milliseconds(i64::try_from(pause.max(200)).unwrap_or(3_600_000))
}

impl Delivery {
    /// When the next try is due after one that did not go through; `None`: give up.
    pub fn next_try(&self, now: Timestamp) -> Option<Timestamp> {
        let due = to_micros(now + retry_pause(self.id, self.attempts));
        (due < self.give_up_at).then_some(due)
    }

    /// The Message-ID without angle brackets: the same for every try, so that a repeat is the same message.
    pub fn message_id(&self, domain: &str) -> String {
        format!("{}@{domain}", self.id.0.simple())
    }
}

#[cfg(test)]
mod tests;
