//! Mail out of the door: a [`Mail`] becomes a MIME message ([`compose()`]), and a [`Transport`] hands it over.
//!
//! What matters here is to know at each moment whether a mail may have gone out (B12). So the SMTP dialogue is driven
//! step by step: after the server's 354 the sender is asked, through [`Progress`], whether the content may follow, and
//! not one octet of it is sent before the answer. A dialogue that breaks before that moment certainly sent nothing; one
//! that breaks after it is [`SendOutcome::Uncertain`].
//!
//! Addresses are personal data and never reach a log line whole: see [`mask()`].

mod breaker;
mod compose;
mod folder;
mod mask;
mod smtp;

use std::time::SystemTime;

use async_trait::async_trait;

pub use self::breaker::Breaker;
pub use self::compose::{ComposeError, Composed, compose};
pub use self::folder::FolderTransport;
pub use self::mask::mask;
pub use self::smtp::{InvalidSmtp, SmtpConfig, SmtpTransport, SmtpUrl, StartTls, Timeouts};

/// A mail, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Envelope and header From.
    pub from_address: String,
    /// Empty: none.
    pub from_name: String,
    /// Empty: none.
    pub reply_to: String,
    /// Where to say that one wants no more such mails, in ASCII; empty: nowhere.
    pub unsubscribe_url: String,
    /// The recipient, with the domain in its ASCII form.
    pub to_address: String,
    /// Empty: none.
    pub to_name: String,
    /// Without angle brackets; the same for every attempt.
    pub message_id: String,
    /// One line.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// BCP 47, for Content-Language; empty: none.
    pub language: String,
    /// For the header Date.
    pub date: SystemTime,
}

/// The part of the SMTP dialogue that something happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Connection, greeting, EHLO, STARTTLS and AUTH.
    Connect,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA, up to the 354.
    Data,
    /// The content, up to the answer to the final dot.
    Content,
}

/// How the sending of one mail ended. A `response` is the server's answer, or the fault, on one line of at most 500
/// characters; a `code` is the server's reply code, or 0 if it gave none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The mail server took it.
    Sent {
        /// The reply code.
        code: u16,
        /// The answer, which often names the server's id of the mail.
        response: String,
    },
    /// Not now: a 4xx, or the connection broke before any content was sent.
    Deferred {
        /// Where.
        phase: Phase,
        /// The reply code.
        code: u16,
        /// The answer or the fault.
        response: String,
    },
    /// Never: a 5xx.
    Failed {
        /// Where.
        phase: Phase,
        /// The reply code.
        code: u16,
        /// The answer or the fault.
        response: String,
    },
    /// No mail server to talk to. It says nothing about this mail.
    Unreachable {
        /// The fault.
        response: String,
    },
    /// It may or may not have gone out: the connection broke after the content was begun.
    Uncertain {
        /// The fault.
        response: String,
    },
    /// [`Progress::transmitting`] refused: the content was not sent.
    Withheld,
}

impl SendOutcome {
    /// Its name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Deferred { .. } => "deferred",
            Self::Failed { .. } => "failed",
            Self::Unreachable { .. } => "unreachable",
            Self::Uncertain { .. } => "uncertain",
            Self::Withheld => "withheld",
        }
    }
}

/// The content must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content must not be sent")]
pub struct Refused;

/// Is told when a mail reaches the point of no return.
#[async_trait]
pub trait Progress: Send + Sync {
    /// The server is ready for the content. Unless this answers `Ok`, nothing of it is sent and the connection is dropped.
    async fn transmitting(&self) -> Result<(), Refused>;
}

/// Hands mails over.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Waits until there is somebody to hand a mail to. To be awaited before a mail is claimed, so that a mail server that
    /// is away costs no mail an attempt.
    async fn ready(&self) {}

    /// Hands one mail over, and answers how that ended. Never sends it twice.
    async fn send(&self, mail: &Mail, progress: &dyn Progress) -> SendOutcome;

    /// Takes leave of the mail server, when no more mails will follow.
    async fn close(&self) {}
}

/// A server's answer or a fault, on one line of at most 500 characters.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(500));
    for word in text
        .split(|c: char| c.is_control() || c == ' ')
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line.chars().take(500).collect()
}
