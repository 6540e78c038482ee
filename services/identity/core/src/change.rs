//! What a decision writes, collected: one transaction writes all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;

use crate::audit::AuditRow;
use crate::clock::Timestamp;
use crate::delivery::{Attempt, Delivery};
use crate::email::EmailAddress;
use crate::erasure::Erasure;
use crate::event::{Event, EventType};
use crate::group::Group;
use crate::ids::{
    ClaimId, DeliveryId, ErasureId, EventId, GroupId, InactivityRunId, InvitationId, JobId, RoleId, TenantId, UserId,
};
use crate::inactivity::InactivityRun;
use crate::invitation::Invitation;
use crate::job::{ChunkKey, ItemResult, Job};
use crate::role::{Assignment, CustomRole, Scope};
use crate::seats::SeatEntry;
use crate::template::TemplateVersion;
use crate::tenant::Tenant;
use crate::timer::{Timer, TimerKey};
use crate::user::User;

/// Who acts, when and why: what every command is given beside its own values.
#[derive(Debug, Clone)]
pub struct Act {
    /// The id of a user or a service; `usher` for the service itself.
    pub actor: String,
    /// The present instant.
    pub now: Timestamp,
    /// In the caller's words; may be empty.
    pub reason: String,
    /// The caller's; may be empty.
    pub request_id: String,
    /// W3C `traceparent` of the call; may be empty.
    pub trace_parent: String,
}

/// The actor of what Usher does by itself.
pub const USHER: &str = "usher";

impl Act {
    /// What Usher does by itself at an instant.
    pub fn by_usher(now: Timestamp, reason: impl Into<String>) -> Self {
        Self {
            actor: USHER.into(),
            now,
            reason: reason.into(),
            request_id: String::new(),
            trace_parent: String::new(),
        }
    }

    /// Whether somebody acts as this user (S9).
    pub fn is_by(&self, user: UserId) -> bool {
        self.actor == user.to_string()
    }

    /// An event of this act about a user.
    pub fn event(&self, kind: EventType, tenant: TenantId, user: Option<&User>) -> Event {
        Event {
            id: EventId::mint(self.now),
            kind,
            tenant,
            user: user.map(|user| user.id),
            user_version: user.map_or(0, |user| user.version),
            at: self.now,
            from: None,
            to: None,
            reason: self.reason.clone(),
            actor: self.actor.clone(),
            request_id: self.request_id.clone(),
            invitation: None,
            delivery: None,
            expires_at: user.and_then(|user| user.expires_at),
            reminder_step: 0,
            changed_fields: Vec::new(),
            group: None,
            role: String::new(),
            session: String::new(),
            template: String::new(),
            job: None,
            sealed: None,
            erasure: None,
            trace_parent: self.trace_parent.clone(),
        }
    }
}

/// How long claims hold.
#[derive(Debug, Clone, Copy)]
pub struct Leases {
    /// From the claim to the report that the mail server took DATA.
    pub claim: TimeDelta,
    /// From that report to the end: longer than the 10 minutes that RFC 5321 section 4.5.3.2.6 gives a server.
    pub transmit: TimeDelta,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            claim: TimeDelta::minutes(2),
            transmit: TimeDelta::minutes(11),
        }
    }
}

/// An answer to keep for a repeated request (B1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// Whose.
    pub tenant: TenantId,
    /// The caller's id.
    pub request_id: String,
    /// Of the method and the body: tells a repeat from a reuse.
    pub fingerprint: Vec<u8>,
    /// The answer, encoded.
    pub response: Vec<u8>,
    /// When it was given.
    pub at: Timestamp,
}

/// An item of a call or a job that was refused among others, for a reason that the audit log is told of (B14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose.
    pub tenant: TenantId,
    /// About whom, where they have an account.
    pub user: Option<UserId>,
    /// A reason of the API's errors.
    pub outcome: &'static str,
}

/// Everything that a transaction is to write. Later values of the same row replace earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Changeset {
    /// Tenants, whole.
    pub tenants: BTreeMap<TenantId, Arc<Tenant>>,
    /// Those of `tenants` that must not exist yet.
    pub created_tenants: BTreeSet<TenantId>,
    /// Users, whole.
    pub users: BTreeMap<(TenantId, UserId), User>,
    /// Those of `users` that must not exist yet.
    pub created_users: BTreeSet<(TenantId, UserId)>,
    /// Invitations, whole.
    pub invitations: BTreeMap<(TenantId, InvitationId), Invitation>,
    /// Deliveries, whole.
    pub deliveries: BTreeMap<(TenantId, DeliveryId), Delivery>,
    /// Attempts, whole, by the claim they were made under.
    pub attempts: BTreeMap<(TenantId, DeliveryId, ClaimId), Attempt>,
    /// Timers that are set (`Some`) or cleared (`None`).
    pub timers: BTreeMap<TimerKey, Option<Timer>>,
    /// Sign-ins: beside the account, so that they are no change of it. The latest counts, here as in the store.
    pub logins: BTreeMap<(TenantId, UserId), Timestamp>,
    /// Versions of mail templates, each new.
    pub templates: Vec<TemplateVersion>,
    /// Memberships of groups: added, with the instant at which the user was created, which orders a group's list; or removed.
    pub memberships: BTreeMap<(TenantId, GroupId, UserId), Option<Timestamp>>,
    /// Roles of users: given (`true`) or taken away.
    pub assignments: BTreeMap<Assignment, bool>,
    /// Groups, whole.
    pub groups: BTreeMap<(TenantId, GroupId), Group>,
    /// Groups that are deleted, with the memberships and the roles in them.
    pub deleted_groups: BTreeSet<(TenantId, GroupId)>,
    /// Roles of tenants' own, whole.
    pub roles: BTreeMap<(TenantId, RoleId), CustomRole>,
    /// Those that are deleted.
    pub deleted_roles: BTreeSet<(TenantId, RoleId)>,
    /// Jobs, whole.
    pub jobs: BTreeMap<(TenantId, JobId), Job>,
    /// Chunks of jobs that were dealt with: the outcomes of their items.
    pub chunks: BTreeMap<ChunkKey, Vec<ItemResult>>,
    /// Runs of deactivations for inactivity, whole.
    pub inactivity_runs: BTreeMap<(TenantId, InactivityRunId), InactivityRun>,
    /// Seats that were taken and given back, in order.
    pub seats: Vec<SeatEntry>,
    /// Addresses that get no mail any more, with the cause.
    pub suppressed: BTreeMap<(TenantId, String), (String, Timestamp)>,
    /// Addresses that get mail again.
    pub unsuppressed: BTreeSet<(TenantId, String)>,
    /// Erasures, whole.
    pub erasures: BTreeMap<(TenantId, ErasureId), Erasure>,
    /// Services that are asked to erase their part: registered (`true`) or not any more.
    pub subscribers: BTreeMap<(TenantId, String), bool>,
    /// Addresses of people who were erased, as keyed hashes.
    pub erased_addresses: BTreeMap<(TenantId, Vec<u8>), Timestamp>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// Items that were refused: become entries of the audit log.
    pub refused: Vec<Refused>,
    /// What is written into the audit log (B14).
    pub audit: Vec<AuditRow>,
    /// Answers to keep.
    pub responses: Vec<StoredResponse>,
}

impl Changeset {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
            && self.users.is_empty()
            && self.invitations.is_empty()
            && self.deliveries.is_empty()
            && self.attempts.is_empty()
            && self.timers.is_empty()
            && self.logins.is_empty()
            && self.templates.is_empty()
            && self.seats.is_empty()
            && self.memberships.is_empty()
            && self.assignments.is_empty()
            && self.groups.is_empty()
            && self.deleted_groups.is_empty()
            && self.roles.is_empty()
            && self.deleted_roles.is_empty()
            && self.jobs.is_empty()
            && self.chunks.is_empty()
            && self.inactivity_runs.is_empty()
            && self.suppressed.is_empty()
            && self.unsuppressed.is_empty()
            && self.erasures.is_empty()
            && self.subscribers.is_empty()
            && self.erased_addresses.is_empty()
            && self.events.is_empty()
            && self.refused.is_empty()
            && self.audit.is_empty()
            && self.responses.is_empty()
    }

    /// Sets a timer.
    pub fn set_timer(&mut self, timer: Timer) {
        self.timers.insert(timer.key, Some(timer));
    }

    /// Clears a timer, whether it is set or not.
    pub fn clear_timer(&mut self, key: TimerKey) {
        self.timers.insert(key, None);
    }

    /// Writes a sign-in down, if it is later than those that are known.
    pub fn put_login(&mut self, tenant: TenantId, user: UserId, at: Timestamp) {
        let latest = self.logins.entry((tenant, user)).or_insert(at);
        *latest = at.max(*latest);
    }

    /// Stops mail to an address.
    pub fn suppress(&mut self, tenant: TenantId, email: &EmailAddress, cause: &str, at: Timestamp) {
        self.suppressed
            .insert((tenant, email.key().to_owned()), (cause.to_owned(), at));
    }

    /// Writes an attempt down. The end of one keeps the beginning that stands here, as the store keeps the one there.
    pub fn put_attempt(&mut self, attempt: Attempt) {
        let key = (attempt.tenant, attempt.delivery, attempt.claim);
        match self.attempts.get_mut(&key) {
            Some(begun) => {
                *begun = Attempt {
                    worker: std::mem::take(&mut begun.worker),
                    started_at: begun.started_at,
                    ..attempt
                };
            }
            None => {
                self.attempts.insert(key, attempt);
            }
        }
    }

    /// Takes in what came later.
    pub fn extend(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.tenants.extend(later.tenants);
        self.created_tenants.extend(later.created_tenants);
        self.users.extend(later.users);
        self.created_users.extend(later.created_users);
        self.invitations.extend(later.invitations);
        self.deliveries.extend(later.deliveries);
        for attempt in later.attempts.into_values() {
            self.put_attempt(attempt);
        }
        self.timers.extend(later.timers);
        self.templates.extend(later.templates);
        for ((tenant, user), at) in later.logins {
            self.put_login(tenant, user, at);
        }
        self.seats.extend(later.seats);
        // What was said of a group before it was deleted went with it.
        let gone = |tenant: &TenantId, group: &GroupId| later.deleted_groups.contains(&(*tenant, *group));
        self.memberships.retain(|(tenant, group, _), _| !gone(tenant, group));
        self.assignments
            .retain(|held, _| !matches!(&held.scope, Scope::Group(group) if gone(&held.tenant, group)));
        self.memberships.extend(later.memberships);
        self.assignments.extend(later.assignments);
        self.groups.retain(|key, _| !later.deleted_groups.contains(key));
        self.groups.extend(later.groups);
        self.deleted_groups.extend(later.deleted_groups);
        self.roles.retain(|key, _| !later.deleted_roles.contains(key));
        self.roles.extend(later.roles);
        self.deleted_roles.extend(later.deleted_roles);
        self.jobs.extend(later.jobs);
        self.chunks.extend(later.chunks);
        self.inactivity_runs.extend(later.inactivity_runs);
        self.unsuppressed.retain(|key| !later.suppressed.contains_key(key));
        self.suppressed.retain(|key, _| !later.unsuppressed.contains(key));
        self.suppressed.extend(later.suppressed);
        self.unsuppressed.extend(later.unsuppressed);
        self.erasures.extend(later.erasures);
        self.subscribers.extend(later.subscribers);
        self.erased_addresses.extend(later.erased_addresses);
        self.events.extend(later.events);
        self.refused.extend(later.refused);
        self.audit.extend(later.audit);
        self.responses.extend(later.responses);
    }
}
