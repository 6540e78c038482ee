//! An invitation: a person's way in. What can happen to it is in `account`.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::email::EmailAddress;
use crate::ids::{InvitationId, TenantId, UserId};

/// A customised text (L11). Plain text; empty parts mean the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Message {
    /// BCP 47; empty: of any language.
    pub language: String,
    /// One line, at most 200 characters.
    pub subject: String,
    /// At most 10,000 characters.
    pub text: String,
}

impl Message {
    /// The text for a recipient: their language, its base language, the tenant's default, the one without a language.
    pub fn choose<'a>(messages: &'a [Self], language: &str, default_language: &str) -> Option<&'a Self> {
        let base = |tag: &str| tag.split('-').next().unwrap_or_default().to_owned();
        let own = if language.is_empty() {
            default_language
        } else {
            language
        };
        [
            own.to_owned(),
            base(own),
            default_language.to_owned(),
            base(default_language),
            String::new(),
        ]
        .iter()
        .find_map(|wanted| messages.iter().find(|message| message.language == *wanted))
    }
}

/// How far an invitation is, as written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it; the .proto has a sentence on each")]
pub enum InvitationState {
    Queued,
    Sent,
    Accepted,
    Cancelled,
    Superseded,
    Lapsed,
    Undeliverable,
}

impl InvitationState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Sent,
        Self::Accepted,
        Self::Cancelled,
        Self::Superseded,
        Self::Lapsed,
        Self::Undeliverable,
    ];

    /// As in columns: `QUEUED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Sent => "SENT",
            Self::Accepted => "ACCEPTED",
            Self::Cancelled => "CANCELLED",
            Self::Superseded => "SUPERSEDED",
            Self::Lapsed => "LAPSED",
            Self::Undeliverable => "UNDELIVERABLE",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Its link may still be used, or come to be.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Sent)
    }
}

/// A person's way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: InvitationId,
    /// For whom.
    pub user: UserId,
    /// Where it goes to.
    pub email: EmailAddress,
    /// As written down; ask `effective_state` for the one that counts.
    pub state: InvitationState,
    /// 1, and one more with each resend: only the newest link works.
    pub generation: i32,
    /// The customised text.
    pub message: Option<Message>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When this generation was queued: what B11 counts its pause from.
    pub queued_at: Timestamp,
    /// When the mail of this generation was first handed to a mail server.
    pub sent_at: Option<Timestamp>,
    /// What the reminder ladder counts from: the moment the first mail ended, also if it may not have gone out.
    pub ladder_from: Option<Timestamp>,
    /// The last step of the ladder that was scheduled.
    pub last_step: i32,
    /// When the link dies.
    pub lapses_at: Timestamp,
    /// When it was accepted.
    pub accepted_at: Option<Timestamp>,
}

impl Invitation {
    /// The state that counts at `now`.
    pub fn effective_state(&self, now: Timestamp) -> InvitationState {
        if self.state.is_open() && self.lapses_at <= now {
            InvitationState::Lapsed
        } else {
            self.state
        }
    }

    /// Whether its link may be used at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.effective_state(now).is_open()
    }
}

/// The next step of the ladder after `last`, and when it is due (L14). Steps that were missed while nothing ran are not
/// sent one after the other: the last of them counts, and is due at once. Steps at or after `lapses_at` do not count.
pub fn next_reminder(
    ladder_seconds: &[i64],
    last: i32,
    from: Timestamp,
    lapses_at: Timestamp,
    now: Timestamp,
) -> Option<(i32, Timestamp)> {
    let steps = ladder_seconds
        .iter()
        .zip(1_i32..)
        .map(|(seconds, step)| (step, from + chrono::TimeDelta::seconds(*seconds)))
        .filter(|(step, due)| *step > last && *due < lapses_at);
    let mut missed = None;
    for (step, due) in steps {
        if due > now {
            return Some(missed.map_or((step, due), |step| (step, now)));
        }
        missed = Some(step);
    }
    missed.map(|step| (step, now))
}

#[cfg(test)]
mod tests;
