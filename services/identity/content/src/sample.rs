//! A mail with made-up contents, to try a template with.

use chrono::{DateTime, TimeDelta, Utc};
use usher_core::invitation::Message;
use usher_core::template::TemplateKind;

use crate::mail::{Expiring, Facts, Mail};

/// Contents that a preview shows, each of which may be replaced.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What for.
    pub kind: TemplateKind,
    /// Who writes.
    pub tenant_name: String,
    /// Where the link leads.
    pub link: String,
    /// Where to say that one wants no more such mails; empty: nowhere.
    pub unsubscribe_url: String,
    /// Of the reminder ladder.
    pub step: i32,
    now: DateTime<Utc>,
    first_name: String,
    last_name: String,
    message: Message,
    one_time_password: String,
    days: i64,
    last_login: bool,
    people: Vec<Expiring>,
    count: usize,
}

/// A value that a preview cannot show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleFault {
    /// There is no such thing.
    #[error("is none that a preview can show; there are {}", SETTABLE.join(", "))]
    Unknown,
    /// It is no number.
    #[error("must be a number from 0 to 1000")]
    Number,
}

/// What may be replaced.
const SETTABLE: [&str; 8] = [
    "first_name",
    "last_name",
    "tenant_name",
    "link",
    "message",
    "one_time_password",
    "days_left",
    "count",
];

/// The last day of a month that has people in it: dates that every language can show.
const NAMES: [&str; 3] = ["Ana Ruiz", "Jonas Weber", "Salma Haddad"];

impl Sample {
    /// A person who has everything, at an instant.
    pub fn new(kind: TemplateKind, tenant_name: &str, link: &str, unsubscribe_url: &str, now: DateTime<Utc>) -> Self {
        let people = NAMES.iter().zip(7..).map(|(name, days)| Expiring {
            name: (*name).to_owned(),
            expires_at: now + TimeDelta::days(days),
        });
        Self {
            kind,
            tenant_name: tenant_name.to_owned(),
            link: link.to_owned(),
            unsubscribe_url: unsubscribe_url.to_owned(),
            step: *kind.steps().start(),
            now,
            first_name: "Ana".into(),
            last_name: "Ruiz".into(),
            message: Message::default(),
            one_time_password: "maple-river-7".into(),
            days: 7,
            last_login: true,
            people: people.collect(),
            count: NAMES.len() + 2,
        }
    }

    /// Replaces a value, named as the variable.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SampleFault> {
        let number = || {
            value
                .parse()
                .ok()
                .filter(|n| (0..=1_000).contains(n))
                .ok_or(SampleFault::Number)
        };
        let text = value.to_owned();
        match name {
            "first_name" => self.first_name = text,
            "last_name" => self.last_name = text,
            "tenant_name" => self.tenant_name = text,
            "link" => self.link = text,
            "message" => self.message.text = text,
            "one_time_password" => self.one_time_password = text,
            "days_left" => self.days = number()?,
            "count" => {
                self.count = usize::try_from(number()?).unwrap_or(0);
                self.people.truncate(self.count);
            }
            _ => return Err(SampleFault::Unknown),
        }
        Ok(())
    }

    /// A person of whom as little as possible is known.
    pub(crate) fn bare(mut self) -> Self {
        self.first_name.clear();
        self.last_name.clear();
        self.unsubscribe_url.clear();
        self.last_login = false;
        self.one_time_password.clear();
        self.count = 1;
        self.people.truncate(1);
        self
    }

    /// The names that people typed.
    pub(crate) fn typed(mut self, mark: &str) -> Self {
        self.tenant_name = format!("{mark}T");
        self.first_name = format!("{mark}F");
        self.last_name = format!("{mark}L");
        for person in &mut self.people {
            person.name = format!("{mark}P");
        }
        self
    }

    /// A customised text.
    pub(crate) fn with_message(mut self, text: &str) -> Self {
        text.clone_into(&mut self.message.text);
        self
    }

    /// The mail, in the language of the template that it is made with.
    pub fn mail<'a>(&'a self, language: &'a str) -> Mail<'a> {
        let (now, later) = (self.now, self.now + TimeDelta::days(self.days));
        let facts = match self.kind {
            TemplateKind::Invitation => Facts::Invitation { lapses_at: later },
            TemplateKind::Reminder => Facts::Reminder {
                step: self.step,
                lapses_at: later,
            },
            TemplateKind::FreshLink => Facts::FreshLink { lapses_at: later },
            TemplateKind::AccountCreated => Facts::AccountCreated {
                one_time_password: &self.one_time_password,
            },
            TemplateKind::ExpiryWarning => Facts::ExpiryWarning { expires_at: later, now },
            TemplateKind::ExpiryWarningToAdministrators => Facts::ExpiryWarningToAdministrators {
                people: &self.people,
                count: self.count,
                now,
            },
            TemplateKind::InactivityWarning => Facts::InactivityWarning {
                last_login_at: self.last_login.then(|| now - TimeDelta::days(180)),
                deactivates_at: later,
                now,
            },
        };
        Mail {
            language,
            tenant_name: &self.tenant_name,
            first_name: &self.first_name,
            last_name: &self.last_name,
            link: &self.link,
            unsubscribe_url: if self.kind.is_optional() {
                &self.unsubscribe_url
            } else {
                ""
            },
            message: Some(&self.message),
            test: false,
            facts,
        }
    }
}
