//! From requests to core's types, gathering every fault instead of the first.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use prost_types::FieldMask;
use usher_core::account::Placement;
use usher_core::clock::{Timestamp, to_micros, too_late};
use usher_core::email::EmailAddress;
use usher_core::ids::{GroupId, TenantId};
use usher_core::invitation::Message;
use usher_core::job::{HeldRole, JobAction};
use usher_core::ports::{Activity, UserQuery};
use usher_core::refusal::{FieldViolation, Refusal};
use usher_core::role::{BuiltInRole, MAX_SESSION_ID, RoleRef, Scope};
use usher_core::text;
use usher_core::user::Engagement;
use usher_proto::identity::v1 as proto;
use uuid::Uuid;

use crate::convert;

/// Faults of one request that are told.
const MAX_TOLD: usize = 50;
/// Ids in one request at most.
pub(crate) const MAX_IDS: usize = 1_000;
/// Customised texts in one request at most.
const MAX_MESSAGES: usize = 50;
/// Rows of a page at most, and by default.
const MAX_PAGE: u32 = 1_000;
const DEFAULT_PAGE: u32 = 100;

/// What is wrong with an expiration that has passed.
const NOT_AHEAD: &str = "is not in the future; to end access now, deactivate the user";

/// The faults found so far. Parsers answer a stand-in for a faulty field; `finish` decides.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    found: Vec<FieldViolation>,
    /// What only became a fault as time went by: told beside others. By itself it is judged when the call is carried out,
    /// since a repeated call is answered as the first was, however late it comes (B1).
    late: Vec<FieldViolation>,
}

impl Faults {
    /// Notes a fault.
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.found.push(FieldViolation::new(field, description));
    }

    /// Notes faults that were found elsewhere.
    pub(crate) fn extend(&mut self, violations: Vec<FieldViolation>) {
        self.found.extend(violations);
    }

    /// Refuses if there is any fault.
    pub(crate) fn finish(mut self) -> Result<(), Refusal> {
        if self.found.is_empty() {
            Ok(())
        } else {
            self.found.append(&mut self.late);
            let more = self.found.len().saturating_sub(MAX_TOLD);
            if more > 0 {
                // They travel in a header, whose size is bounded.
                self.found.truncate(MAX_TOLD);
                let told = format!("{more} more faults are not listed; mend these first");
                self.found.push(FieldViolation::new("", told));
            }
            Err(Refusal::InvalidFields(self.found))
        }
    }

    /// A value, or its stand-in and the fault.
    pub(crate) fn take<T: Default, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|fault| {
            self.add(field, fault.to_string());
            T::default()
        })
    }

    /// A required id.
    pub(crate) fn id<T: From<Uuid>>(&mut self, field: &str, text: &str) -> T {
        if let Ok(id) = text.parse::<Uuid>() {
            id.into()
        } else {
            let fault = if text.is_empty() {
                "is required: a UUID"
            } else {
                "is not a UUID"
            };
            self.add(field, fault);
            Uuid::nil().into()
        }
    }

    /// An id that may be left out.
    pub(crate) fn optional_id<T: From<Uuid>>(&mut self, field: &str, text: &str) -> Option<T> {
        if text.is_empty() {
            None
        } else {
            Some(self.id(field, text))
        }
    }

    /// 1 to 1,000 ids.
    pub(crate) fn ids<T: From<Uuid>>(&mut self, field: &str, texts: &[String]) -> Vec<T> {
        if texts.is_empty() || texts.len() > MAX_IDS {
            self.add(field, format!("has {} ids; give 1 to {MAX_IDS}", texts.len()));
            return Vec::new();
        }
        texts
            .iter()
            .enumerate()
            .map(|(index, text)| self.id(&format!("{field}[{index}]"), text))
            .collect()
    }

    /// Some ids, or none: each stands once.
    pub(crate) fn some_ids<T: From<Uuid> + Ord>(&mut self, field: &str, texts: &[String], most: usize) -> BTreeSet<T> {
        if texts.len() > most {
            self.add(field, format!("has {} ids; give at most {most}", texts.len()));
            return BTreeSet::new();
        }
        let texts = texts.iter().enumerate();
        texts
            .map(|(index, text)| self.id(&format!("{field}[{index}]"), text))
            .collect()
    }

    /// A role: the name of a built-in one, or the UUID of one of the tenant's own.
    pub(crate) fn role(&mut self, field: &str, text: &str) -> RoleRef {
        RoleRef::from_name(text).unwrap_or_else(|| {
            let names: Vec<&str> = BuiltInRole::ALL.iter().map(|role| role.as_str()).collect();
            let fault = format!(
                "is no role; give {}, or the UUID of a role of the tenant's own",
                names.join(", ")
            );
            self.add(field, fault);
            RoleRef::BuiltIn(BuiltInRole::Learner)
        })
    }

    /// Some roles, or none.
    pub(crate) fn roles(&mut self, field: &str, texts: &[String], most: usize) -> BTreeSet<RoleRef> {
        if texts.len() > most {
            self.add(field, format!("has {} roles; give at most {most}", texts.len()));
            return BTreeSet::new();
        }
        let texts = texts.iter().enumerate();
        texts
            .map(|(index, text)| self.role(&format!("{field}[{index}]"), text))
            .collect()
    }

    /// Where an account is put (L5).
    pub(crate) fn placement(&mut self, groups: &[String], roles: &[String]) -> Placement {
        Placement {
            groups: self.some_ids("group_ids", groups, 50),
            roles: self.roles("roles", roles, 10),
            ..Placement::default()
        }
    }

    /// Where a role is held.
    pub(crate) fn scope(&mut self, field: &str, scope: &proto::Scope) -> Scope {
        let id = format!("{field}.id");
        match proto::ScopeKind::try_from(scope.kind) {
            Ok(proto::ScopeKind::Platform) => {
                if !scope.id.is_empty() {
                    self.add(id, "must be empty: there is one platform");
                }
                Scope::Platform
            }
            Ok(proto::ScopeKind::Group) => Scope::Group(self.id(&id, &scope.id)),
            Ok(proto::ScopeKind::Session) => Scope::Session(self.session(&id, &scope.id)),
            Ok(proto::ScopeKind::Unspecified) | Err(_) => {
                self.add(format!("{field}.kind"), "is required: PLATFORM, GROUP or SESSION");
                Scope::Platform
            }
        }
    }

    /// The id of a programme session.
    pub(crate) fn session(&mut self, field: &str, text: &str) -> String {
        let session = self.take(field, text::line(text, MAX_SESSION_ID));
        if session.is_empty() {
            self.add(field, "is required: the id of the programme session");
        }
        session
    }

    /// Roles with where they are held.
    pub(crate) fn roles_in_scopes(&mut self, field: &str, roles: &[proto::RoleInScope]) -> Vec<(RoleRef, Scope)> {
        let roles = roles.iter().enumerate();
        roles
            .map(|(index, given)| {
                let role = self.role(&format!("{field}[{index}].role"), &given.role);
                let scope = given.scope.clone().unwrap_or_default();
                (role, self.scope(&format!("{field}[{index}].scope"), &scope))
            })
            .collect()
    }

    /// A required address.
    pub(crate) fn email(&mut self, field: &str, text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap_or_else(|fault| {
            self.add(field, fault.to_string());
            EmailAddress::from_stored(String::new(), String::new())
        })
    }

    /// An expiration: before the year 10000, and in the future (S13), which [`check_ahead`] refuses it for if it is not.
    pub(crate) fn expiration(
        &mut self,
        field: &str,
        at: Option<prost_types::Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let at = self.instant(field, at)?;
        if at >= too_late() {
            self.add(field, "is beyond the year 9999; leave it out for no expiration");
        } else if at <= now {
            self.late.push(FieldViolation::new(field, NOT_AHEAD));
        }
        Some(at)
    }

    /// An instant that may be left out.
    pub(crate) fn instant(&mut self, field: &str, at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
        let at = at?;
        let parsed = u32::try_from(at.nanos)
            .ok()
            .and_then(|nanos| DateTime::<Utc>::from_timestamp(at.seconds, nanos));
        if parsed.is_none() {
            self.add(field, "is not an instant: seconds or nanos are out of range");
        }
        parsed.map(to_micros)
    }

    /// Labels.
    pub(crate) fn labels(&mut self, field: &str, texts: &[String]) -> Vec<String> {
        text::labels(texts).unwrap_or_else(|faults| {
            for (index, fault) in faults {
                self.add(format!("{field}[{index}]"), fault);
            }
            Vec::new()
        })
    }

    /// An external id; empty: none.
    pub(crate) fn external_id(&mut self, field: &str, text: &str) -> Option<String> {
        let id = self.take(field, text::line(text, text::MAX_EXTERNAL_ID));
        (!id.is_empty()).then_some(id)
    }

    /// A new password.
    pub(crate) fn password(&mut self, field: &str, text: &str) {
        let length = text.chars().count();
        let bounds = crate::operations::passwords::LENGTH;
        if !bounds.contains(&length) {
            self.add(
                field,
                format!("must have {} to {} characters", bounds.start(), bounds.end()),
            );
        }
    }

    /// Which users (U3): in no order, the first page.
    pub(crate) fn user_filter(
        &mut self,
        field: &str,
        filter: Option<&proto::UserFilter>,
        tenant: TenantId,
        now: Timestamp,
    ) -> UserQuery {
        let mut query = UserQuery::all(tenant, now);
        let Some(filter) = filter else { return query };
        for (index, status) in filter.statuses.iter().enumerate() {
            match convert::status_name(*status) {
                Some(status) => query.statuses.push(status),
                None => self.add(format!("{field}.statuses[{index}]"), "is no status"),
            }
        }
        query.labels = self.labels(&format!("{field}.labels"), &filter.labels);
        for (index, language) in filter.languages.iter().enumerate() {
            let at = format!("{field}.languages[{index}]");
            query.languages.push(self.take(&at, text::language(language)));
        }
        query.text = text::fold(&self.take(&format!("{field}.text"), text::line(&filter.text, 200)));
        let groups: BTreeSet<GroupId> = self.some_ids(&format!("{field}.group_ids"), &filter.group_ids, 100);
        query.groups = groups.into_iter().collect();
        let roles = self.roles(&format!("{field}.roles"), &filter.roles, 20);
        query.roles = roles.into_iter().collect();
        let before = self.instant(&format!("{field}.last_login_before"), filter.last_login_before);
        query.activity = match (proto::Activity::try_from(filter.activity), before) {
            (Ok(proto::Activity::Inactive), Some(before)) => Activity::InactiveSince(before),
            (Ok(proto::Activity::Inactive), None) => {
                self.add(
                    format!("{field}.last_login_before"),
                    "is required with ACTIVITY_INACTIVE",
                );
                Activity::Any
            }
            (Ok(_), Some(_)) => {
                self.add(
                    format!("{field}.last_login_before"),
                    "has a meaning with ACTIVITY_INACTIVE only",
                );
                Activity::Any
            }
            (Ok(proto::Activity::Unspecified), None) => Activity::Any,
            (Ok(proto::Activity::NeverLoggedIn), None) => Activity::NeverLoggedIn,
            (Err(_), _) => {
                self.add(format!("{field}.activity"), "is unknown");
                Activity::Any
            }
        };
        query.invited_before = self.instant(&format!("{field}.invited_before"), filter.invited_before);
        query.waiting_for_seat = filter.waiting_for_seat;
        query.engagement = match proto::Engagement::try_from(filter.engagement) {
            Ok(proto::Engagement::Unspecified) => None,
            Ok(proto::Engagement::Activated) => Some(Engagement::Activated),
            Ok(proto::Engagement::Engaged) => Some(Engagement::Engaged),
            Err(_) => {
                self.add(format!("{field}.engagement"), "is unknown");
                None
            }
        };
        query
    }

    /// What a bulk job does.
    pub(crate) fn bulk_action(&mut self, field: &str, action: Option<&proto::BulkAction>, now: Timestamp) -> JobAction {
        use proto::bulk_action::Action;
        let at = |part: &str| format!("{field}.{part}");
        match action.and_then(|action| action.action.as_ref()) {
            Some(Action::Invite(invite)) => JobAction::Invite {
                messages: self.messages(&at("invite.messages"), &invite.messages),
            },
            Some(Action::Deactivate(_)) => JobAction::Deactivate,
            Some(Action::Reactivate(_)) => JobAction::Reactivate,
            Some(Action::SetExpiration(set)) => JobAction::SetExpiration {
                at: self.expiration(&at("set_expiration.expire_time"), set.expire_time, now),
            },
            Some(Action::EditGroups(edit)) => {
                let add: BTreeSet<GroupId> = self.some_ids(&at("edit_groups.add_group_ids"), &edit.add_group_ids, 50);
                let remove: BTreeSet<GroupId> =
                    self.some_ids(&at("edit_groups.remove_group_ids"), &edit.remove_group_ids, 50);
                self.check_edit(
                    field,
                    add.is_empty() && remove.is_empty(),
                    add.intersection(&remove).next().is_some(),
                );
                JobAction::EditGroups {
                    add: add.into_iter().collect(),
                    remove: remove.into_iter().collect(),
                }
            }
            Some(Action::EditRoles(edit)) => {
                let held = |roles: Vec<(RoleRef, Scope)>| -> BTreeSet<HeldRole> {
                    roles.iter().map(|(role, scope)| HeldRole::of(*role, scope)).collect()
                };
                let assign = held(self.roles_in_scopes(&at("edit_roles.assign"), &edit.assign));
                let revoke = held(self.roles_in_scopes(&at("edit_roles.revoke"), &edit.revoke));
                if assign.len() > 50 || revoke.len() > 50 {
                    self.add(at("edit_roles"), "has too many roles; give at most 50 of each");
                }
                self.check_edit(
                    field,
                    assign.is_empty() && revoke.is_empty(),
                    assign.intersection(&revoke).next().is_some(),
                );
                JobAction::EditRoles {
                    assign: assign.into_iter().collect(),
                    revoke: revoke.into_iter().collect(),
                }
            }
            Some(Action::EditLabels(edit)) => {
                let add = self.labels(&at("edit_labels.add"), &edit.add);
                let remove = self.labels(&at("edit_labels.remove"), &edit.remove);
                self.check_edit(
                    field,
                    add.is_empty() && remove.is_empty(),
                    add.iter().any(|label| remove.contains(label)),
                );
                JobAction::EditLabels { add, remove }
            }
            Some(Action::Resend(resend)) => {
                if !(0..=365).contains(&resend.sent_days_ago) {
                    self.add(at("resend.sent_days_ago"), "must be from 0 to 365");
                }
                JobAction::Resend {
                    sent_days_ago: resend.sent_days_ago,
                    messages: self.messages(&at("resend.messages"), &resend.messages),
                }
            }
            None => {
                self.add(field, "is required: what is to be done to each user");
                JobAction::Deactivate
            }
        }
    }

    fn check_edit(&mut self, field: &str, nothing: bool, both: bool) {
        if nothing {
            self.add(field, "names nothing to add and nothing to take away");
        }
        if both {
            self.add(field, "adds and takes away the same; name it once");
        }
    }

    /// Customised texts (L11), at most one a language.
    pub(crate) fn messages(&mut self, field: &str, messages: &[proto::Message]) -> Vec<Message> {
        if messages.len() > MAX_MESSAGES {
            self.add(
                field,
                format!("has {} texts; at most {MAX_MESSAGES} are allowed", messages.len()),
            );
            return Vec::new();
        }
        let mut parsed: Vec<Message> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let at = |part: &str| format!("{field}[{index}].{part}");
            let message = Message {
                language: self.take(&at("language"), text::language(&message.language)),
                subject: self.take(&at("subject"), text::line(&message.subject, text::MAX_SUBJECT)),
                text: self.take(&at("text"), text::message(&message.text, text::MAX_MESSAGE)),
            };
            if parsed.iter().any(|other| other.language == message.language) {
                self.add(at("language"), "stands in the list twice; give one text a language");
            }
            parsed.push(message);
        }
        parsed
    }

    /// The paths of a mask: at least one, all of them known.
    pub(crate) fn mask(&mut self, field: &str, mask: Option<&FieldMask>, known: &[&str]) -> Vec<String> {
        let paths = mask.map(|mask| mask.paths.clone()).unwrap_or_default();
        if paths.is_empty() {
            self.add(
                field,
                format!("is required; name the fields to change: {}", known.join(", ")),
            );
        }
        for path in &paths {
            if !known.contains(&path.as_str()) {
                self.add(
                    field,
                    format!("has the unknown path {path:?}; known are {}", known.join(", ")),
                );
            }
        }
        paths
    }

    /// The size of a page.
    pub(crate) fn page_size(&mut self, field: &str, size: i32) -> u32 {
        match u32::try_from(size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) if size <= MAX_PAGE => size,
            _ => {
                self.add(
                    field,
                    format!("is {size}; give 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"),
                );
                DEFAULT_PAGE
            }
        }
    }
}

/// Refuses an expiration that is not in the future, when the call is carried out.
pub(crate) fn check_ahead(field: &str, at: Option<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    match at {
        Some(at) if at <= now => Err(Refusal::field(field, NOT_AHEAD)),
        _ => Ok(()),
    }
}

/// A request id: 1 to 64 characters of a plain alphabet.
pub(crate) fn request_id(text: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if text.len() <= 64 && text.bytes().all(plain) {
        Ok(())
    } else {
        Err("must have at most 64 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'".into())
    }
}
