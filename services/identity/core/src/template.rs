//! Mail templates: which there are, and which one a mail is made with. What stands in one is the content crate's matter.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::TenantId;
use crate::tenant::MAX_REMINDERS;
use crate::text;

/// Templates of a tenant's own, those that were reset included.
pub const MAX_TEMPLATES: usize = 200;

/// What a mail is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TemplateKind {
    /// You are invited (L1).
    Invitation,
    /// You have not accepted yet (L14). A template of a step of the ladder holds for the steps above too, up to the next.
    Reminder,
    /// An account was created for you (L2).
    AccountCreated,
    /// The fresh link that you asked for (B11).
    FreshLink,
    /// Your account expires soon (B9).
    ExpiryWarning,
    /// Accounts in your care expire soon (B9).
    ExpiryWarningToAdministrators,
    /// You were away for long; your account will be deactivated (B10).
    InactivityWarning,
}

impl TemplateKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Invitation,
        Self::Reminder,
        Self::AccountCreated,
        Self::FreshLink,
        Self::ExpiryWarning,
        Self::ExpiryWarningToAdministrators,
        Self::InactivityWarning,
    ];

    /// As in columns and events: `INVITATION`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "INVITATION",
            Self::Reminder => "REMINDER",
            Self::AccountCreated => "ACCOUNT_CREATED",
            Self::FreshLink => "FRESH_LINK",
            Self::ExpiryWarning => "EXPIRY_WARNING",
            Self::ExpiryWarningToAdministrators => "EXPIRY_WARNING_TO_ADMINISTRATORS",
            Self::InactivityWarning => "INACTIVITY_WARNING",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The steps that it can have templates for: of the ladder for reminders, none (0) for all others.
    pub fn steps(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Self::Reminder => 1..=i32::try_from(MAX_REMINDERS).unwrap_or(10),
            _ => 0..=0,
        }
    }

    /// Whether its mails can be done without, so that a recipient may be offered to get no more of them (RFC 2369).
    pub fn is_optional(self) -> bool {
        !matches!(self, Self::Invitation | Self::AccountCreated | Self::FreshLink)
    }
}

/// Which template of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateKey {
    /// What for.
    pub kind: TemplateKind,
    /// From which step of the reminder ladder on; 0 for all but reminders.
    pub step: i32,
    /// In which language: BCP 47, in its usual casing.
    pub language: String,
}

impl fmt::Display for TemplateKey {
    /// `REMINDER/2/fr`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.step, self.language)
    }
}

/// A text that names no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this names no template; write for example REMINDER/2/fr")]
pub struct NoTemplateKey;

impl FromStr for TemplateKey {
    type Err = NoTemplateKey;

    fn from_str(text: &str) -> Result<Self, NoTemplateKey> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().ok_or(NoTemplateKey);
        let kind = TemplateKind::from_name(next()?).ok_or(NoTemplateKey)?;
        let step = next()?.parse().map_err(|_| NoTemplateKey)?;
        let language = text::language(next()?).map_err(|_| NoTemplateKey)?;
        if language.is_empty() || !kind.steps().contains(&step) {
            return Err(NoTemplateKey);
        }
        Ok(Self { kind, step, language })
    }
}

/// The three texts of a template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateText {
    /// One line.
    pub subject: String,
    /// The part for programs that show plain text.
    pub text: String,
    /// The part for all others, in MJML.
    pub mjml: String,
}

/// A template as it was saved. Never changed: what is changed is saved as the next version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateVersion {
    /// Whose.
    pub tenant: TenantId,
    /// Which template.
    pub key: TemplateKey,
    /// Counts from 1.
    pub version: i64,
    /// What it says; `None`: it was reset, so Usher's default holds again.
    pub content: Option<TemplateText>,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// By whom: the id of a user or a service.
    pub saved_by: String,
    /// Why, in their words; may be empty.
    pub reason: String,
}

/// The newest version of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Its number.
    pub version: i64,
    /// Whether it says something; if not, it was reset.
    pub own: bool,
}

/// The newest versions of all templates that a tenant ever saved. They stand in the tenant's row, which every mail is
/// begun with: so each replica uses a new version from the next mail on, and none has to look for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<String, Newest>", try_from = "BTreeMap<String, Newest>")]
pub struct OwnTemplates(pub BTreeMap<TemplateKey, Newest>);

impl From<OwnTemplates> for BTreeMap<String, Newest> {
    fn from(own: OwnTemplates) -> Self {
        own.0
            .into_iter()
            .map(|(key, newest)| (key.to_string(), newest))
            .collect()
    }
}

impl TryFrom<BTreeMap<String, Newest>> for OwnTemplates {
    type Error = NoTemplateKey;

    fn try_from(rows: BTreeMap<String, Newest>) -> Result<Self, NoTemplateKey> {
        let rows = rows.into_iter().map(|(key, newest)| Ok((key.parse()?, newest)));
        rows.collect::<Result<_, _>>().map(Self)
    }
}

/// The template that a mail is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effective {
    /// One of the tenant's own.
    Own {
        /// Which.
        key: TemplateKey,
        /// In which version.
        version: i64,
    },
    /// Usher's own, in this language.
    Default(&'static str),
}

impl Effective {
    /// The language that it is written in.
    pub fn language(&self) -> &str {
        match self {
            Self::Own { key, .. } => &key.language,
            Self::Default(language) => language,
        }
    }
}

impl OwnTemplates {
    /// The number of the newest version; 0: never saved.
    pub fn version(&self, key: &TemplateKey) -> i64 {
        self.0.get(key).map_or(0, |newest| newest.version)
    }

    /// The template of a mail. Being understood comes first: the recipient's language (`fr-CA`, then `fr`), then the
    /// tenant's, then English. Within each the tenant's own comes before Usher's, of a reminder that of the nearest step
    /// below. `defaults` are the languages that Usher's own are written in; English is one of them.
    pub fn effective(
        &self,
        kind: TemplateKind,
        step: i32,
        language: &str,
        default_language: &str,
        defaults: &[&'static str],
    ) -> Effective {
        let base = |tag: &str| tag.split('-').next().unwrap_or_default().to_owned();
        let wanted = [
            language.to_owned(),
            base(language),
            default_language.to_owned(),
            base(default_language),
        ];
        for language in wanted.into_iter().filter(|tag| !tag.is_empty()) {
            if let Some((key, version)) = self.nearest(kind, step, &language) {
                return Effective::Own { key, version };
            }
            if let Some(default) = defaults.iter().find(|default| **default == language) {
                return Effective::Default(default);
            }
        }
        match self.nearest(kind, step, "en") {
            Some((key, version)) => Effective::Own { key, version },
            None => Effective::Default("en"),
        }
    }

    /// The tenant's own in exactly this language, of the nearest step that is not above.
    fn nearest(&self, kind: TemplateKind, step: i32, language: &str) -> Option<(TemplateKey, i64)> {
        (*kind.steps().start()..=step).rev().find_map(|step| {
            let key = TemplateKey {
                kind,
                step,
                language: language.to_owned(),
            };
            let newest = self.0.get(&key).filter(|newest| newest.own)?;
            Some((key, newest.version))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: [&str; 3] = ["de", "en", "fr"];

    fn own(keys: &[&str]) -> OwnTemplates {
        let newest = Newest { version: 3, own: true };
        OwnTemplates(keys.iter().map(|key| (key.parse().unwrap(), newest)).collect())
    }

    fn chosen(own: &OwnTemplates, kind: TemplateKind, step: i32, language: &str, default_language: &str) -> String {
        match own.effective(kind, step, language, default_language, &DEFAULTS) {
            Effective::Own { key, .. } => key.to_string(),
            Effective::Default(language) => language.into(),
        }
    }

    #[test]
    fn being_understood_comes_before_the_tenants_own_words() {
        let own = own(&["INVITATION/0/de", "INVITATION/0/pt-BR", "INVITATION/0/fr-CA"]);
        let invitation = |language, default| chosen(&own, TemplateKind::Invitation, 0, language, default);
        for (language, default, expected) in [
            ("de", "en", "INVITATION/0/de"),
            ("de-AT", "en", "INVITATION/0/de"),
            ("fr-CA", "de", "INVITATION/0/fr-CA"),
            ("fr", "de", "fr"),
            ("fr-BE", "de", "fr"),
            ("pt-BR", "de", "INVITATION/0/pt-BR"),
            ("pt", "de-CH", "INVITATION/0/de"),
            ("ja", "ko", "en"),
            ("", "", "en"),
            ("", "fr", "fr"),
        ] {
            assert_eq!(invitation(language, default), expected, "{language:?}, {default:?}");
        }
    }

    #[test]
    fn a_reminder_falls_back_to_the_nearest_step_below_then_to_the_default() {
        let own = own(&["REMINDER/2/en", "REMINDER/4/en"]);
        for (step, expected) in [
            (1, "en"),
            (2, "REMINDER/2/en"),
            (3, "REMINDER/2/en"),
            (9, "REMINDER/4/en"),
        ] {
            assert_eq!(
                chosen(&own, TemplateKind::Reminder, step, "en", "en"),
                expected,
                "{step}"
            );
        }
        assert_eq!(chosen(&own, TemplateKind::Invitation, 0, "en", "en"), "en");
    }

    #[test]
    fn what_was_reset_is_the_default_again_and_goes_on_counting() {
        let key: TemplateKey = "INVITATION/0/fr".parse().unwrap();
        let newest = Newest { version: 2, own: false };
        let own = OwnTemplates([(key.clone(), newest)].into());
        assert_eq!(chosen(&own, TemplateKind::Invitation, 0, "fr", "en"), "fr");
        assert_eq!(own.version(&key), 2);
    }

    #[test]
    fn names_of_templates_come_back() {
        for kind in TemplateKind::ALL {
            assert_eq!(TemplateKind::from_name(kind.as_str()), Some(kind));
        }
        for name in ["REMINDER/10/zh-Hant", "INVITATION/0/fr"] {
            assert_eq!(name.parse::<TemplateKey>().unwrap().to_string(), name);
        }
        for name in [
            "REMINDER/0/fr",
            "REMINDER/11/fr",
            "INVITATION/1/fr",
            "INVITATION/0/",
            "PARTY/0/fr",
            "",
        ] {
            assert_eq!(name.parse::<TemplateKey>(), Err(NoTemplateKey), "{name}");
        }
    }
}
