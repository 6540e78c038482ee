//! What the templates of each kind may use.

use usher_core::template::TemplateKind;

/// A placeholder's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// As between the braces.
    pub name: &'static str,
    /// What it stands for, in English.
    pub description: &'static str,
    /// Whether a subject may use it.
    pub in_subject: bool,
}

const fn of(name: &'static str, description: &'static str) -> Variable {
    Variable {
        name,
        description,
        in_subject: true,
    }
}

const fn of_body(name: &'static str, description: &'static str) -> Variable {
    Variable {
        name,
        description,
        in_subject: false,
    }
}

const COMMON: &[Variable] = &[
    of("tenant_name", "the organisation"),
    of("first_name", "the recipient's; may be empty"),
    of("last_name", "the recipient's; may be empty"),
    of("language", "of the mail, for the attribute lang"),
    of_body("direction", "of the language, for the attribute dir: ltr or rtl"),
    of_body("start", "where its lines begin, for the attribute align: left or right"),
    of_body("subject", "the subject as it is sent"),
];
const INVITING: &[Variable] = &[
    of_body("link", "where the invitation is accepted"),
    of("lapse_date", "until when the link works"),
    of_body(
        "message",
        "the text that was written for this invitation (L11); may be empty",
    ),
];
const STEP: &[Variable] = &[of("step", "of the reminder ladder, from 1")];
const ACCOUNT: &[Variable] = &[
    of_body("link", "where to sign in; may be empty"),
    of_body("one_time_password", "to sign in with once; may be empty"),
];
const EXPIRY: &[Variable] = &[
    of_body("link", "where to sign in; may be empty"),
    of("expire_date", "from when on the account is shut"),
    of("days_left", "until then"),
    of("in_days", "the same in words: \"tomorrow\", \"in 3 days\""),
];
const EXPIRIES: &[Variable] = &[
    of_body("link", "where to sign in; may be empty"),
    of("count", "how many accounts"),
    of_body("people", "some of them, each with name and expire_date"),
    of("more", "how many are not among people; 0: none"),
    of("expire_date", "of the first that expires"),
    of("days_left", "until then"),
    of("in_days", "the same in words"),
];
const INACTIVITY: &[Variable] = &[
    of_body("link", "where to sign in; may be empty"),
    of("last_login_date", "the last sign-in; empty: never"),
    of("deactivation_date", "when the account is deactivated"),
    of("days_left", "until then"),
    of("in_days", "the same in words"),
];
const OPTIONAL: &[Variable] = &[of_body(
    "unsubscribe_url",
    "where to say that one wants no more such mails; may be empty",
)];

/// What the templates of a kind may use.
pub fn variables(kind: TemplateKind) -> impl Iterator<Item = &'static Variable> {
    let own: &[&[Variable]] = match kind {
        TemplateKind::Invitation | TemplateKind::FreshLink => &[COMMON, INVITING],
        TemplateKind::Reminder => &[COMMON, INVITING, STEP, OPTIONAL],
        TemplateKind::AccountCreated => &[COMMON, ACCOUNT],
        TemplateKind::ExpiryWarning => &[COMMON, EXPIRY, OPTIONAL],
        TemplateKind::ExpiryWarningToAdministrators => &[COMMON, EXPIRIES, OPTIONAL],
        TemplateKind::InactivityWarning => &[COMMON, INACTIVITY, OPTIONAL],
    };
    own.iter().copied().flatten()
}

/// What each of `people` has.
pub(crate) const OF_PERSON: [&str; 2] = ["name", "expire_date"];
