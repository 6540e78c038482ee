//! What Usher's mails say. Each mail is a folder of small texts per language (`templates/invitation/fr/`), and one layout
//! for each part of the mail puts them together: so a text is written once, and the text part and the HTML part cannot
//! differ. How to add a mail or a language is in the README beside this crate.
//!
//! What people typed (names, a customised text: L11) is only ever a *value* of a template, never a part of one. It
//! arrives as the characters that it is.

mod date;
mod inactivity;
mod language;
mod renderer;
mod templates;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};

pub use self::inactivity::inactivity_warning;
pub use self::renderer::Renderer;

/// The languages that every mail is written in.
pub const LANGUAGES: [&str; 5] = ["ar", "de", "en", "es", "fr"];

/// Which mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// You are invited (L1).
    Invitation,
    /// You have not accepted yet (L14).
    Reminder,
    /// An account was created for you (L2).
    AccountCreated,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Invitation, Self::Reminder, Self::AccountCreated];

    /// The folder of its templates.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::Reminder => "reminder",
            Self::AccountCreated => "account_created",
        }
    }
}

/// What a mail tells.
#[derive(Debug, Clone)]
pub struct MailContext<'a> {
    /// The recipient's language (BCP 47); empty: not known.
    pub language: &'a str,
    /// The tenant's language, for recipients whose own is not known or not written yet.
    pub default_language: &'a str,
    /// Who invites.
    pub tenant_name: &'a str,
    /// For the salutation; empty: none.
    pub first_name: &'a str,
    /// The link of an invitation, token included.
    pub link: Option<&'a str>,
    /// A generated password, which has to be changed at the first sign-in.
    pub one_time_password: Option<&'a str>,
    /// Where to sign in, on mails without an invitation's link.
    pub sign_in_url: Option<&'a str>,
    /// When the link dies; shown as a date.
    pub lapses_at: Option<DateTime<Utc>>,
    /// The step of the reminder ladder, from 1; on other mails 0.
    pub reminder_step: i32,
    /// A customised subject and text, each in place of the default one unless it is empty (L11).
    pub message: Option<&'a usher_core::invitation::Message>,
    /// It is a test (L12), and says so.
    pub test: bool,
}

/// A mail, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// The text part. Lines end with `\n`; each link has a line of its own.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// The language that it was written in (BCP 47), for Content-Language.
    pub language: String,
}
