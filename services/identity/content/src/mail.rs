//! A mail's contents, before and after they were put into a template.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use minijinja::Value;
use usher_core::invitation::Message;
use usher_core::template::TemplateKind;

use crate::date;
use crate::escape::{one_line, paragraphs};
use crate::fault::Part;
use crate::language::{direction, in_days, start};

/// What a mail tells.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    /// The language of the template that it is made with (BCP 47).
    pub language: &'a str,
    /// Who writes.
    pub tenant_name: &'a str,
    /// Of the recipient; empty: not known.
    pub first_name: &'a str,
    /// Of the recipient; empty: not known.
    pub last_name: &'a str,
    /// Where to go: the link of an invitation, token included; otherwise where to sign in. Empty: nowhere.
    pub link: &'a str,
    /// Where to say that one wants no more such mails; empty: nowhere.
    pub unsubscribe_url: &'a str,
    /// A customised subject and text, each in place of the template's unless it is empty (L11).
    pub message: Option<&'a Message>,
    /// It is a test (L12), and says so.
    pub test: bool,
    /// What only mails of its kind tell.
    pub facts: Facts<'a>,
}

/// What only mails of one kind tell.
#[derive(Debug, Clone, Copy)]
pub enum Facts<'a> {
    /// You are invited (L1).
    Invitation {
        /// When the link dies.
        lapses_at: DateTime<Utc>,
    },
    /// You have not accepted yet (L14).
    Reminder {
        /// Of the ladder, from 1.
        step: i32,
        /// When the link dies.
        lapses_at: DateTime<Utc>,
    },
    /// The fresh link that you asked for (B11).
    FreshLink {
        /// When the link dies.
        lapses_at: DateTime<Utc>,
    },
    /// An account was created for you (L2).
    AccountCreated {
        /// A generated password, which has to be changed at the first sign-in; empty: none.
        one_time_password: &'a str,
    },
    /// Your account expires soon (B9).
    ExpiryWarning {
        /// When.
        expires_at: DateTime<Utc>,
        /// Today, for counting the days.
        now: DateTime<Utc>,
    },
    /// Accounts in your care expire soon (B9).
    ExpiryWarningToAdministrators {
        /// Some of them, the first to expire first: at most 20.
        people: &'a [Expiring],
        /// How many there are in all.
        count: usize,
        /// Today, for counting the days.
        now: DateTime<Utc>,
    },
    /// You were away for long (B10).
    InactivityWarning {
        /// The last sign-in; `None`: never.
        last_login_at: Option<DateTime<Utc>>,
        /// When the account is deactivated.
        deactivates_at: DateTime<Utc>,
        /// Today, for counting the days.
        now: DateTime<Utc>,
    },
}

/// Somebody whose account expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// Their name, or their address.
    pub name: String,
    /// When.
    pub expires_at: DateTime<Utc>,
}

/// A mail, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// The text part. Lines end with `\n`.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// The language that it is written in (BCP 47), for Content-Language.
    pub language: String,
}

impl Facts<'_> {
    /// The kind of mail that tells this.
    pub fn kind(&self) -> TemplateKind {
        match self {
            Self::Invitation { .. } => TemplateKind::Invitation,
            Self::Reminder { .. } => TemplateKind::Reminder,
            Self::FreshLink { .. } => TemplateKind::FreshLink,
            Self::AccountCreated { .. } => TemplateKind::AccountCreated,
            Self::ExpiryWarning { .. } => TemplateKind::ExpiryWarning,
            Self::ExpiryWarningToAdministrators { .. } => TemplateKind::ExpiryWarningToAdministrators,
            Self::InactivityWarning { .. } => TemplateKind::InactivityWarning,
        }
    }
}

/// Whole days from today to the day of an instant.
fn days_until(at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (at.date_naive() - now.date_naive()).num_days().max(0)
}

impl Mail<'_> {
    /// Everything that a template of its kind may use, for one of its parts.
    pub(crate) fn values(&self, subject: &str, part: Part) -> Value {
        let language = self.language;
        let on = |at| Value::from(date::format(at, language));
        let until = |at, now| {
            let days = days_until(at, now);
            let words = in_days(days, language).unwrap_or_else(|| date::format(at, language));
            [
                ("expire_date", on(at)),
                ("days_left", days.into()),
                ("in_days", words.into()),
            ]
        };
        let mut values: Vec<(&str, Value)> = vec![
            ("tenant_name", one_line(self.tenant_name).into()),
            ("first_name", one_line(self.first_name).into()),
            ("last_name", one_line(self.last_name).into()),
            ("language", language.into()),
            ("direction", direction(language).into()),
            ("start", start(language).into()),
            ("subject", subject.into()),
            ("link", self.link.into()),
            ("unsubscribe_url", self.unsubscribe_url.into()),
        ];
        match self.facts {
            Facts::Invitation { lapses_at } | Facts::FreshLink { lapses_at } => {
                values.push(("lapse_date", on(lapses_at)));
                values.push(("message", self.message_value(part)));
            }
            Facts::Reminder { step, lapses_at } => {
                values.push(("step", step.into()));
                values.push(("lapse_date", on(lapses_at)));
                values.push(("message", self.message_value(part)));
            }
            Facts::AccountCreated { one_time_password } => {
                values.push(("one_time_password", one_time_password.into()));
            }
            Facts::ExpiryWarning { expires_at, now } => values.extend(until(expires_at, now)),
            Facts::ExpiryWarningToAdministrators { people, count, now } => {
                values.extend(until(people.first().map_or(now, |first| first.expires_at), now));
                let listed = people.iter().map(|person| {
                    Value::from(BTreeMap::from([
                        ("name", Value::from(one_line(&person.name))),
                        ("expire_date", on(person.expires_at)),
                    ]))
                });
                values.push(("count", count.into()));
                values.push(("more", count.saturating_sub(people.len()).into()));
                values.push(("people", listed.collect()));
            }
            Facts::InactivityWarning {
                last_login_at,
                deactivates_at,
                now,
            } => {
                let [_, days, words] = until(deactivates_at, now);
                values.extend([("deactivation_date", on(deactivates_at)), days, words]);
                values.push(("last_login_date", last_login_at.map_or_else(|| "".into(), on)));
            }
        }
        values.into_iter().collect::<BTreeMap<_, _>>().into()
    }

    /// The customised text; empty: none.
    fn message_value(&self, part: Part) -> Value {
        let text = self.message.map_or("", |message| message.text.as_str());
        match part {
            Part::Mjml if !text.is_empty() => Value::from_safe_string(paragraphs(text)),
            _ => text.into(),
        }
    }

    /// The customised subject.
    pub(crate) fn custom_subject(&self) -> Option<&str> {
        self.message
            .map(|message| message.subject.as_str())
            .filter(|subject| !subject.is_empty())
    }
}
