//! What a command changed, by comparing what it writes with how things stood before: so that no command can forget it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{AuditEntry, AuditKeys, DONE, FieldChange};
use crate::change::{Changeset, Refused, USHER};
use crate::clock::Timestamp;
use crate::delivery::DeliveryStateName;
use crate::erasure::ErasureState;
use crate::group::Group;
use crate::ids::{DeliveryId, ErasureId, GroupId, InactivityRunId, InvitationId, JobId, RoleId, TenantId, UserId};
use crate::inactivity::InactivityRunState;
use crate::invitation::InvitationState;
use crate::job::JobState;
use crate::ports::Loaded;
use crate::role::CustomRole;
use crate::template::{Newest, TemplateKey};
use crate::tenant::Tenant;
use crate::user::User;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A user by their id, or a service by its name.
    Named(String),
    /// The person whom it is about: they proved by a link or a password who they are.
    Subject,
}

/// Where a command comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who acts.
    pub who: Who,
    /// See [`AuditEntry::caller`].
    pub caller: String,
    /// See [`AuditEntry::method`].
    pub method: String,
    /// See [`AuditEntry::permission`].
    pub permission: String,
    /// See [`AuditEntry::reason`].
    pub reason: String,
    /// See [`AuditEntry::request_id`].
    pub request_id: String,
    /// See [`AuditEntry::job`].
    pub job: Option<JobId>,
}

impl Origin {
    /// Of what Usher does by itself.
    pub fn usher(method: impl Into<String>) -> Self {
        Self {
            who: Who::Named(USHER.into()),
            caller: String::new(),
            method: method.into(),
            permission: String::new(),
            reason: String::new(),
            request_id: String::new(),
            job: None,
        }
    }

    fn is_usher(&self) -> bool {
        self.who == Who::Named(USHER.into())
    }
}

/// How things stand before a command.
#[derive(Debug, Default)]
pub struct Known {
    users: HashMap<(TenantId, UserId), User>,
    emails: HashMap<(TenantId, String), UserId>,
    invitations: HashMap<(TenantId, InvitationId), InvitationState>,
    deliveries: HashMap<(TenantId, DeliveryId), DeliveryStateName>,
    tenants: HashMap<TenantId, Arc<Tenant>>,
    groups: HashMap<(TenantId, GroupId), Group>,
    roles: HashMap<(TenantId, RoleId), CustomRole>,
    jobs: HashMap<(TenantId, JobId), JobState>,
    inactivity_runs: HashMap<(TenantId, InactivityRunId), InactivityRunState>,
    erasures: HashMap<(TenantId, ErasureId), ErasureState>,
    subscribers: HashMap<TenantId, BTreeSet<String>>,
}

impl Known {
    /// As it was loaded.
    pub fn of(loaded: &Loaded) -> Self {
        let mut known = Self {
            emails: loaded.emails.clone(),
            tenants: loaded.tenants.clone(),
            groups: loaded.groups.clone(),
            roles: loaded.roles.clone(),
            jobs: loaded.jobs.iter().map(|(key, job)| (*key, job.state)).collect(),
            erasures: loaded.erasures.iter().map(|(key, it)| (*key, it.state)).collect(),
            subscribers: loaded.subscribers.clone(),
            ..Self::default()
        };
        for (key, account) in &loaded.accounts {
            let tenant = key.0;
            known
                .emails
                .insert((tenant, account.user.profile.email.key().to_owned()), key.1);
            known.users.insert(*key, account.user.clone());
            if let Some(invitation) = &account.invitation {
                known.invitations.insert((tenant, invitation.id), invitation.state);
            }
            for delivery in &account.deliveries {
                known.deliveries.insert((tenant, delivery.id), delivery.state.name());
            }
        }
        for run in loaded.inactivity.values().flatten() {
            known.inactivity_runs.insert((run.tenant, run.id), run.state);
        }
        for (key, test) in &loaded.detached {
            known.deliveries.insert(*key, test.0.state.name());
        }
        known
    }

    /// Takes in what a command wrote, for the next one.
    pub fn learn(&mut self, written: &Changeset) {
        for (key, user) in &written.users {
            self.emails.insert((key.0, user.profile.email.key().to_owned()), key.1);
            self.users.insert(*key, user.clone());
        }
        let invitations = written.invitations.iter();
        self.invitations
            .extend(invitations.map(|(key, invitation)| (*key, invitation.state)));
        let deliveries = written.deliveries.iter();
        self.deliveries
            .extend(deliveries.map(|(key, delivery)| (*key, delivery.state.name())));
        let tenants = written.tenants.iter();
        self.tenants
            .extend(tenants.map(|(id, tenant)| (*id, Arc::clone(tenant))));
        let groups = written.groups.iter();
        self.groups.extend(groups.map(|(key, group)| (*key, group.clone())));
        let roles = written.roles.iter();
        self.roles.extend(roles.map(|(key, role)| (*key, role.clone())));
        let jobs = written.jobs.iter();
        self.jobs.extend(jobs.map(|(key, job)| (*key, job.state)));
        let runs = written.inactivity_runs.iter();
        self.inactivity_runs.extend(runs.map(|(key, run)| (*key, run.state)));
        let erasures = written.erasures.iter();
        self.erasures
            .extend(erasures.map(|(key, erasure)| (*key, erasure.state)));
        for ((tenant, service), is_asked) in &written.subscribers {
            let services = self.subscribers.entry(*tenant).or_default();
            if *is_asked {
                services.insert(service.clone());
            } else {
                services.remove(service);
            }
        }
        self.groups.retain(|key, _| !written.deleted_groups.contains(key));
        self.roles.retain(|key, _| !written.deleted_roles.contains(key));
    }
}

/// What an entry is about: one for each of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Tenant,
    User(UserId),
    Group(GroupId),
    Role(RoleId),
    Job(JobId),
    InactivityRun(InactivityRunId),
    Template(TemplateKey),
    /// A service that is asked to erase its part.
    Subscriber(String),
    Address(String),
    /// A mail to nobody in particular: a test.
    Mail(DeliveryId),
}

type Collected = BTreeMap<(TenantId, About), Vec<FieldChange>>;

/// The entries of a command: one for each account, and for each other thing, that it changed. Sign-ins, the progress of
/// mails that Usher sends by itself, and the progress of jobs are no entries: they have records of their own.
pub fn changes(
    known: &Known,
    written: &Changeset,
    origin: &Origin,
    at: Timestamp,
    keys: &AuditKeys,
) -> Vec<AuditEntry> {
    let mut found = Collected::new();
    users(known, written, &mut found);
    belonging(written, &mut found);
    mails(known, written, origin, &mut found);
    tenants(known, written, &mut found);
    places(known, written, &mut found);
    suppressions(known, written, keys, &mut found);
    templates(known, written, &mut found);
    over_time(known, written, &mut found);
    for (key, job) in &written.jobs {
        let before = known.jobs.get(key).map(|state| state.as_str().to_owned());
        let fields = found.entry((key.0, About::Job(key.1))).or_default();
        push(fields, "state", before.clone(), Some(job.state.as_str().to_owned()));
        if before.is_none() {
            push(fields, "action", None, Some(job.action.name().to_owned()));
            push(fields, "total", None, Some(job.total.to_string()));
        }
    }
    let done = found
        .into_iter()
        .filter(|(_, details)| !details.is_empty())
        .map(|((tenant, about), details)| entry(tenant, &about, details, origin, at));
    done.chain(written.refused.iter().map(|refused| refusal(refused, origin, at)))
        .collect()
}

/// One item among others, which was refused.
pub fn refusal(refused: &Refused, origin: &Origin, at: Timestamp) -> AuditEntry {
    let actor = match &origin.who {
        Who::Named(name) => name.clone(),
        Who::Subject => refused.user.map_or_else(|| USHER.into(), |user| user.to_string()),
    };
    AuditEntry {
        tenant: refused.tenant,
        at,
        actor,
        caller: origin.caller.clone(),
        method: origin.method.clone(),
        permission: origin.permission.clone(),
        outcome: refused.outcome.into(),
        subject: refused.user,
        job: origin.job,
        reason: origin.reason.clone(),
        request_id: origin.request_id.clone(),
        details: Vec::new(),
    }
}

fn entry(tenant: TenantId, about: &About, details: Vec<FieldChange>, origin: &Origin, at: Timestamp) -> AuditEntry {
    let subject = match about {
        About::User(user) => Some(*user),
        _ => None,
    };
    let actor = match (&origin.who, subject) {
        (Who::Named(name), _) => name.clone(),
        (Who::Subject, Some(user)) => user.to_string(),
        (Who::Subject, None) => USHER.into(),
    };
    AuditEntry {
        tenant,
        at,
        actor,
        caller: origin.caller.clone(),
        method: origin.method.clone(),
        permission: origin.permission.clone(),
        outcome: DONE.into(),
        subject,
        job: match about {
            About::Job(job) => Some(*job),
            _ => origin.job,
        },
        reason: origin.reason.clone(),
        request_id: origin.request_id.clone(),
        details,
    }
}

fn users(known: &Known, written: &Changeset, found: &mut Collected) {
    for (key, after) in &written.users {
        let before = known.users.get(key);
        let fields = found.entry((key.0, About::User(key.1))).or_default();
        for (name, value) in USER_FIELDS {
            push(fields, name, before.and_then(value), value(after));
        }
        let has_password = |user: &User| user.credential != crate::user::Credential::None;
        let same = before.map_or_else(|| !has_password(after), |before| before.credential == after.credential);
        if !same {
            fields.push(FieldChange::new("password", None, None));
        }
    }
}

type Value = fn(&User) -> Option<String>;

const USER_FIELDS: [(&str, Value); 11] = [
    ("email", |user| Some(user.profile.email.as_str().to_owned())),
    ("external_id", |user| user.profile.external_id.clone()),
    ("first_name", |user| some(&user.profile.first_name)),
    ("last_name", |user| some(&user.profile.last_name)),
    ("language", |user| some(&user.profile.language)),
    ("time_zone", |user| some(&user.profile.time_zone)),
    ("labels", |user| list(&user.profile.labels)),
    ("status", |user| Some(user.status.name().as_str().to_owned())),
    ("expire_time", |user| user.expires_at.map(time)),
    ("delete_time", |user| user.deletes_at.map(time)),
    ("seat_waiting_time", |user| user.seat_waiting_since.map(time)),
];

fn belonging(written: &Changeset, found: &mut Collected) {
    for ((tenant, group, user), membership) in &written.memberships {
        let fields = found.entry((*tenant, About::User(*user))).or_default();
        fields.push(gained("group", group.to_string(), membership.is_some()));
    }
    for (held, is_held) in &written.assignments {
        let fields = found.entry((held.tenant, About::User(held.user))).or_default();
        let (kind, id) = held.scope.parts();
        let place = format!("{} {kind} {id}", held.role);
        fields.push(gained("role", place.trim_end().to_owned(), *is_held));
    }
}

fn mails(known: &Known, written: &Changeset, origin: &Origin, found: &mut Collected) {
    for (key, invitation) in &written.invitations {
        let name = |state: InvitationState| format!("{} {}", state.as_str(), invitation.id);
        let before = known.invitations.get(key).copied().map(name);
        let fields = found.entry((key.0, About::User(invitation.user))).or_default();
        push(fields, "invitation", before, Some(name(invitation.state)));
    }
    if origin.is_usher() {
        return;
    }
    for (key, delivery) in &written.deliveries {
        let name = |state: DeliveryStateName| format!("{} {}", state.as_str(), delivery.id);
        let before = known.deliveries.get(key).copied().map(name);
        let about = delivery.user.map_or(About::Mail(delivery.id), About::User);
        let fields = found.entry((key.0, about)).or_default();
        push(fields, "delivery", before, Some(name(delivery.state.name())));
    }
}

/// Every setting, whatever it is called.
fn tenants(known: &Known, written: &Changeset, found: &mut Collected) {
    let settings = |tenant: &Tenant| match serde_json::to_value(&tenant.settings) {
        Ok(serde_json::Value::Object(settings)) => settings,
        _ => serde_json::Map::new(),
    };
    for (id, after) in &written.tenants {
        let before = known.tenants.get(id).map(|tenant| settings(tenant)).unwrap_or_default();
        let fields = found.entry((*id, About::Tenant)).or_default();
        for (name, value) in settings(after) {
            push(fields, &name, before.get(&name).and_then(plain), plain(&value));
        }
    }
}

/// Groups and roles of the tenant's own. Their names are told beside their ids, which outlive them.
fn places(known: &Known, written: &Changeset, found: &mut Collected) {
    for (key, after) in &written.groups {
        let before = known.groups.get(key);
        let fields = found.entry((key.0, About::Group(key.1))).or_default();
        let parent = |group: &Group| group.parent.map(|id| id.to_string());
        push(
            fields,
            "name",
            before.map(|it| it.name.clone()),
            Some(after.name.clone()),
        );
        push(
            fields,
            "external_id",
            before.and_then(|it| it.external_id.clone()),
            after.external_id.clone(),
        );
        push(fields, "parent_group_id", before.and_then(parent), parent(after));
        name_it(fields, "group_id", key.1.to_string());
    }
    for key in &written.deleted_groups {
        let fields = found.entry((key.0, About::Group(key.1))).or_default();
        push(fields, "name", known.groups.get(key).map(|it| it.name.clone()), None);
        fields.push(FieldChange::new("group_id", Some(key.1.to_string()), None));
    }
    for (key, after) in &written.roles {
        let before = known.roles.get(key);
        let fields = found.entry((key.0, About::Role(key.1))).or_default();
        let permissions = |role: &CustomRole| {
            let names: Vec<&str> = role.permissions.iter().map(|it| it.as_str()).collect();
            list(&names)
        };
        push(
            fields,
            "name",
            before.map(|it| it.name.clone()),
            Some(after.name.clone()),
        );
        push(fields, "permissions", before.and_then(permissions), permissions(after));
        name_it(fields, "role_id", key.1.to_string());
    }
    for key in &written.deleted_roles {
        let fields = found.entry((key.0, About::Role(key.1))).or_default();
        push(fields, "name", known.roles.get(key).map(|it| it.name.clone()), None);
        fields.push(FieldChange::new("role_id", Some(key.1.to_string()), None));
    }
}

/// Which version of a template holds; what it says is kept with the version.
fn templates(known: &Known, written: &Changeset, found: &mut Collected) {
    for saved in &written.templates {
        let tenant = known.tenants.get(&saved.tenant);
        let before = tenant.and_then(|tenant| tenant.templates.0.get(&saved.key)).copied();
        let fields = found
            .entry((saved.tenant, About::Template(saved.key.clone())))
            .or_default();
        let version = before.map(|newest| newest.version.to_string());
        push(fields, "version", version, Some(saved.version.to_string()));
        let words = |is_own: bool| Some(if is_own { "own" } else { "default" }.to_owned());
        let was_own = before.is_some_and(|Newest { own, .. }| own);
        push(fields, "content", words(was_own), words(saved.content.is_some()));
        name_it(fields, "template", saved.key.to_string());
    }
}

/// Runs of deactivations for inactivity, erasures, and who is asked to erase their part.
fn over_time(known: &Known, written: &Changeset, found: &mut Collected) {
    for (key, after) in &written.inactivity_runs {
        let before = known.inactivity_runs.get(key).map(|state| state.as_str().to_owned());
        let fields = found.entry((key.0, About::InactivityRun(key.1))).or_default();
        let is_new = before.is_none();
        push(fields, "state", before, Some(after.state.as_str().to_owned()));
        if is_new {
            push(fields, "due", None, Some(after.due.to_string()));
            push(fields, "active", None, Some(after.active.to_string()));
        }
        name_it(fields, "run_id", key.1.to_string());
    }
    for (key, after) in &written.erasures {
        let name = |state: ErasureState| format!("{} {}", state.as_str(), after.id);
        let before = known.erasures.get(key).copied().map(name);
        let fields = found.entry((key.0, About::User(after.user))).or_default();
        push(fields, "erasure", before, Some(name(after.state)));
    }
    for ((tenant, service), is_asked) in &written.subscribers {
        let was_asked = known.subscribers.get(tenant).is_some_and(|it| it.contains(service));
        if was_asked != *is_asked {
            let fields = found.entry((*tenant, About::Subscriber(service.clone()))).or_default();
            fields.push(gained("erasure_subscriber", service.clone(), *is_asked));
        }
    }
}

/// The address is told by a keyed digest only, and by its account where there is one.
fn suppressions(known: &Known, written: &Changeset, keys: &AuditKeys, found: &mut Collected) {
    let stopped = written.suppressed.keys().map(|key| (key, true));
    for ((tenant, email), is_suppressed) in stopped.chain(written.unsuppressed.iter().map(|key| (key, false))) {
        let address = keys.pseudonym(*tenant, email);
        let user = known.emails.get(&(*tenant, email.clone()));
        let about = user.map_or_else(|| About::Address(address.clone()), |user| About::User(*user));
        let fields = found.entry((*tenant, about)).or_default();
        fields.push(gained("suppressed_address", address, is_suppressed));
    }
}

fn push(fields: &mut Vec<FieldChange>, name: &str, before: Option<String>, after: Option<String>) {
    if before != after {
        fields.push(FieldChange::new(name, before, after));
    }
}

/// Which one it is, where anything of it changed.
fn name_it(fields: &mut Vec<FieldChange>, name: &str, id: String) {
    if !fields.is_empty() {
        fields.push(FieldChange::new(name, Some(id.clone()), Some(id)));
    }
}

fn gained(field: &str, value: String, has_it: bool) -> FieldChange {
    if has_it {
        FieldChange::new(field, None, Some(value))
    } else {
        FieldChange::new(field, Some(value), None)
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn list<T: AsRef<str> + serde::Serialize>(items: &[T]) -> Option<String> {
    let text = serde_json::to_string(items).ok();
    text.filter(|_| !items.is_empty())
}

fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn plain(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => some(text),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use uuid::Uuid;

    use super::super::{AuditKey, MIN_KEY};
    use super::*;
    use crate::email::EmailAddress;
    use crate::status::Status;
    use crate::user::{Credential, Profile};

    fn person() -> User {
        let mut profile = Profile::of(EmailAddress::parse("ana@example.org").unwrap());
        profile.external_id = Some("E-1".into());
        User {
            tenant: TenantId(Uuid::nil()),
            id: UserId(Uuid::nil()),
            version: 1,
            profile,
            status: Status::PENDING,
            status_since: Timestamp::UNIX_EPOCH,
            expires_at: None,
            credential: Credential::None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            activated_at: None,
            deletes_at: None,
            expiry_warnings: 0,
            last_login_at: None,
            first_course_at: None,
            inactivity_warned_at: None,
            seat_waiting_since: None,
            edited_fields: Vec::new(),
        }
    }

    fn told(before: Option<User>, written: &Changeset) -> Vec<AuditEntry> {
        let mut known = Known::default();
        if let Some(user) = before {
            known.users.insert((user.tenant, user.id), user);
        }
        let key = AuditKey::try_new(1, &[1; MIN_KEY]).unwrap();
        let keys = AuditKeys::try_new(key, Vec::new()).unwrap();
        let origin = Origin::usher("UserService/UpdateUser");
        changes(&known, written, &origin, Timestamp::UNIX_EPOCH, &keys)
    }

    fn writing(user: User) -> Changeset {
        let mut written = Changeset::default();
        written.users.insert((user.tenant, user.id), user);
        written
    }

    /// B14: a field that is added to the profile is told too, or this fails.
    #[test]
    fn b14_every_field_of_a_profile_is_told_when_it_changes_and_when_it_is_set_at_first() {
        let before = person();
        let Json::Object(fields) = serde_json::to_value(&before.profile).unwrap() else {
            panic!("a profile is no object");
        };
        assert!(fields.contains_key("time_zone"), "{fields:?}");
        for (name, value) in &fields {
            let mut changed = fields.clone();
            let other = match value {
                Json::String(_) => json!("Asia/Tokyo"),
                Json::Array(_) => json!(["Year 12"]),
                _ => serde_json::to_value(EmailAddress::parse("bo@example.org").unwrap()).unwrap(),
            };
            changed.insert(name.clone(), other);
            let after = User {
                profile: serde_json::from_value(Json::Object(changed)).unwrap(),
                ..before.clone()
            };
            let entries = told(Some(before.clone()), &writing(after.clone()));
            let names: Vec<&str> = entries
                .iter()
                .flat_map(|it| &it.details)
                .map(|it| it.field.as_str())
                .collect();
            assert_eq!(names, [name.as_str()]);
            let created = told(None, &writing(after));
            let of_it = created[0].details.iter().find(|it| it.field == *name);
            assert!(
                of_it.is_some_and(|it| it.after.is_some()),
                "{name} is not told of who is new"
            );
        }
    }

    /// B14: an item that is refused among others is told beside what was done to the others.
    #[test]
    fn b14_items_that_are_refused_are_entries_beside_what_was_done() {
        let mut written = writing(person());
        written.refused.push(Refused {
            tenant: TenantId(Uuid::nil()),
            user: Some(UserId(Uuid::max())),
            outcome: "OWN_STATUS",
        });
        let entries = told(None, &written);
        let outcomes: Vec<_> = entries.iter().map(|it| (it.outcome.as_str(), it.subject)).collect();
        let expected = [
            (DONE, Some(UserId(Uuid::nil()))),
            ("OWN_STATUS", Some(UserId(Uuid::max()))),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(entries[1].method, "UserService/UpdateUser");
    }
}
