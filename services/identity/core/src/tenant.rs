//! An organisation and its settings.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::TenantId;
use crate::inactivity::InactivityPolicy;
use crate::pacing::{self, QuietHours};
use crate::refusal::FieldViolation;
use crate::seats::SeatPolicy;
use crate::template::OwnTemplates;

/// Steps of a reminder ladder.
pub const MAX_REMINDERS: usize = 10;

/// The highest cap on mails to a person and day.
pub const MAX_DAILY_MAILS: i32 = 100;

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Counts the changes, from 1.
    pub version: i64,
    /// What may be changed.
    pub settings: Settings,
    /// When it was created.
    pub created_at: Timestamp,
    /// The mail templates of its own. They are no settings: saving one leaves `version` as it is.
    #[serde(default)]
    pub templates: OwnTemplates,
}

/// What may be changed of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The name that people see.
    pub display_name: String,
    /// Of mails to users without a language: BCP 47.
    pub default_language: String,
    /// How long a link lives, in seconds.
    pub invitation_lifetime_seconds: i64,
    /// When reminders follow the invitation, in seconds from the moment it was handed to a mail server; rising (L14).
    pub reminder_ladder_seconds: Vec<i64>,
    /// Upper limit of active users; 0: none.
    pub seat_limit: i64,
    /// What becomes of registrations at the limit.
    #[serde(default)]
    pub seat_policy: SeatPolicy,
    /// What becomes of people who do not sign in for long (B10).
    #[serde(default)]
    pub inactivity: InactivityPolicy,
    /// Since when that policy is on: warnings of before do not count. `None`: it is off, or was switched on before this was
    /// noted.
    #[serde(default)]
    pub inactivity_since: Option<Timestamp>,
    /// The name that mails come from; empty: `display_name`.
    pub sender_name: String,
    /// Where answers go; empty: to the sender.
    pub reply_to: String,
    /// Of users without one: IANA name; empty: UTC.
    #[serde(default)]
    pub time_zone: String,
    /// When no automatic mail goes out, in the recipient's time zone (B8).
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// How long before the expiration of an account its owner is warned, in seconds; falling (B9).
    #[serde(default)]
    pub expiry_warning_seconds: Vec<i64>,
    /// Whether administrators are told of the people in their care who are warned (B9).
    #[serde(default = "tell_administrators")]
    pub expiry_warnings_to_administrators: bool,
    /// How many mails of all kinds a person gets a day before automatic ones wait for the next; 0: no cap (B8).
    #[serde(default)]
    pub daily_mail_cap: i32,
    /// Since when no mail goes out (B15).
    #[serde(default)]
    pub mail_paused_at: Option<Timestamp>,
    /// When the last pause ended: mails that were due before wait for their turn.
    #[serde(default)]
    pub mail_resumed_at: Option<Timestamp>,
    /// Where recipients of reminders and warnings say that they want no more of them: `https:` or `mailto:`, with
    /// `{user_id}` for theirs; empty: nowhere.
    #[serde(default)]
    pub unsubscribe_url: String,
    /// How long an erasure can be cancelled, in seconds (U9).
    #[serde(default = "erasure_cool_off_seconds")]
    pub erasure_cool_off_seconds: i64,
    /// An erasure has to be approved by somebody else.
    #[serde(default)]
    pub erasure_second_approver: bool,
    /// How long other services may take to erase their part, in seconds.
    #[serde(default = "erasure_deadline_seconds")]
    pub erasure_deadline_seconds: i64,
}

/// For tenants that were made before there was such a setting.
fn erasure_cool_off_seconds() -> i64 {
    7 * DAY
}

fn erasure_deadline_seconds() -> i64 {
    30 * DAY
}

fn tell_administrators() -> bool {
    true
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

impl Settings {
    /// The defaults, for a name.
    pub fn new(display_name: impl Into<String>) -> Self {
        Self {
            display_name: display_name.into(),
            default_language: "en".into(),
            invitation_lifetime_seconds: 30 * DAY,
            reminder_ladder_seconds: vec![3 * DAY, 7 * DAY, 14 * DAY],
            seat_limit: 0,
            seat_policy: SeatPolicy::Refuse,
            inactivity: InactivityPolicy::default(),
            inactivity_since: None,
            sender_name: String::new(),
            reply_to: String::new(),
            time_zone: String::new(),
            quiet_hours: None,
            expiry_warning_seconds: Vec::new(),
            expiry_warnings_to_administrators: tell_administrators(),
            daily_mail_cap: 0,
            mail_paused_at: None,
            mail_resumed_at: None,
            unsubscribe_url: String::new(),
            erasure_cool_off_seconds: erasure_cool_off_seconds(),
            erasure_second_approver: false,
            erasure_deadline_seconds: erasure_deadline_seconds(),
        }
    }

    /// Notes since when the inactivity policy is on, after it was changed from another.
    pub fn note_inactivity(&mut self, before: InactivityPolicy, now: Timestamp) {
        if self.inactivity.is_on() != before.is_on() {
            self.inactivity_since = self.inactivity.is_on().then_some(now);
        }
    }

    /// How long a link lives.
    pub fn invitation_lifetime(&self) -> TimeDelta {
        TimeDelta::seconds(self.invitation_lifetime_seconds)
    }

    /// How long an erasure can be cancelled.
    pub fn erasure_cool_off(&self) -> TimeDelta {
        TimeDelta::seconds(self.erasure_cool_off_seconds)
    }

    /// How long other services may take to erase their part.
    pub fn erasure_deadline(&self) -> TimeDelta {
        TimeDelta::seconds(self.erasure_deadline_seconds)
    }

    /// Every fault of the numbers; texts are checked where they are parsed.
    pub fn violations(&self) -> Vec<FieldViolation> {
        let mut violations = Vec::new();
        if !(HOUR..=365 * DAY).contains(&self.invitation_lifetime_seconds) {
            violations.push(FieldViolation::new(
                "tenant.invitation_lifetime",
                "must be from 1 hour to 365 days",
            ));
        }
        let ladder = &self.reminder_ladder_seconds;
        if ladder.len() > MAX_REMINDERS {
            violations.push(FieldViolation::new("tenant.reminder_ladder", "has more than 10 steps"));
        }
        if ladder.iter().any(|step| !(MINUTE..=365 * DAY).contains(step)) {
            violations.push(FieldViolation::new(
                "tenant.reminder_ladder",
                "has a step that is not from 1 minute to 365 days",
            ));
        }
        if ladder.windows(2).any(|pair| pair[0] >= pair[1]) {
            violations.push(FieldViolation::new(
                "tenant.reminder_ladder",
                "must rise strictly: each step is counted from the invitation",
            ));
        }
        violations.extend(self.inactivity.violations("tenant.inactivity_policy"));
        if pacing::zone(&self.time_zone).is_none() {
            violations.push(FieldViolation::new(
                "tenant.time_zone",
                "is no IANA time zone; give a name such as Europe/Paris",
            ));
        }
        let warnings = &self.expiry_warning_seconds;
        if warnings.len() > MAX_REMINDERS || warnings.iter().any(|ahead| !(HOUR..=365 * DAY).contains(ahead)) {
            violations.push(FieldViolation::new(
                "tenant.expiry_warnings",
                "must be at most 10 times, each from 1 hour to 365 days",
            ));
        }
        if warnings.windows(2).any(|pair| pair[0] <= pair[1]) {
            violations.push(FieldViolation::new(
                "tenant.expiry_warnings",
                "must fall strictly: each is counted back from the expiration",
            ));
        }
        if !(0..=MAX_DAILY_MAILS).contains(&self.daily_mail_cap) {
            violations.push(FieldViolation::new(
                "tenant.daily_mail_cap",
                "must be from 0 (no cap) to 100",
            ));
        }
        if !(0..=365 * DAY).contains(&self.erasure_cool_off_seconds) {
            violations.push(FieldViolation::new(
                "tenant.erasure_cool_off",
                "must be from 0 to 365 days",
            ));
        }
        if !(HOUR..=365 * DAY).contains(&self.erasure_deadline_seconds) {
            violations.push(FieldViolation::new(
                "tenant.erasure_deadline",
                "must be from 1 hour to 365 days",
            ));
        }
        if self.seat_limit < 0 {
            violations.push(FieldViolation::new("tenant.seat_limit", "must be 0 (none) or more"));
        }
        violations
    }
}
