//! Lifecycle events: what happened, and what is due now. They name ids and statuses, never a person's data.

use std::str::FromStr as _;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{DeliveryId, ErasureId, EventId, GroupId, InvitationId, JobId, RoleId, TenantId, UserId};
use crate::status::StatusName;

/// Lanes of the outbox: order holds within one.
pub const LANES: i16 = 64;

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What an event says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum EventType {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl EventType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The routing key: `user.activated`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

event_types! {
    /// An account was created.
    UserCreated = "user.created",
    /// An invitation to it was handed to a mail server for the first time (S2).
    UserInvited = "user.invited",
    /// Its registration was completed (S3).
    UserActivated = "user.activated",
    /// It was shown out (S4).
    UserDeactivated = "user.deactivated",
    /// It was let in again (S11).
    UserReactivated = "user.reactivated",
    /// Its expiration was reached (S5).
    UserExpired = "user.expired",
    /// A later expiration gave it its earlier status back (S7).
    UserRestored = "user.restored",
    /// It opened a course for the first time (S8).
    UserEngaged = "user.engaged",
    /// It was not used for long: a warning waits to be sent (B10).
    UserInactivityWarned = "user.inactivity_warned",
    /// Fields changed, the expiration included.
    UserUpdated = "user.updated",
    /// It was erased, for good (S12).
    UserErased = "user.erased",
    /// Registration was completed while every seat was taken: they wait for one (U8).
    SeatWaiting = "seat.waiting",
    /// A tenant was created.
    TenantCreated = "tenant.created",
    /// Its settings were changed.
    TenantUpdated = "tenant.updated",
    /// Mail of the tenant was paused (B15).
    MailPaused = "mail.paused",
    /// It goes on.
    MailResumed = "mail.resumed",
    /// They became a member of a group.
    MembershipAdded = "membership.added",
    /// They are a member of a group no more.
    MembershipRemoved = "membership.removed",
    /// They were given a role.
    RoleAssigned = "role.assigned",
    /// A role was taken away from them.
    RoleRevoked = "role.revoked",
    /// A group was created.
    GroupCreated = "group.created",
    /// A group was renamed or moved.
    GroupUpdated = "group.updated",
    /// A group was deleted.
    GroupDeleted = "group.deleted",
    /// A role of the tenant's own was made.
    RoleCreated = "role.created",
    /// It was changed.
    RoleUpdated = "role.updated",
    /// It was deleted.
    RoleDeleted = "role.deleted",
    /// A mail template of the tenant's own was saved or reset.
    TemplateUpdated = "template.updated",
    /// A bulk job began.
    JobStarted = "job.started",
    /// It ended.
    JobEnded = "job.ended",
    /// The audit log was sealed up to here (B14).
    AuditSealed = "audit.sealed",
    /// Deactivations for inactivity would touch too many: somebody has to decide (B10).
    InactivityParked = "inactivity.parked",
    /// Somebody let them go on.
    InactivityApproved = "inactivity.approved",
    /// Somebody decided against them.
    InactivityDismissed = "inactivity.dismissed",
    /// Somebody asked for the erasure of an account, or its deletion date was reached (U9, U10).
    ErasureRequested = "erasure.requested",
    /// A second person agreed.
    ErasureApproved = "erasure.approved",
    /// It was cancelled before the deed.
    ErasureCancelled = "erasure.cancelled",
    /// Nothing is left here: other services are to erase their part.
    ErasureAnnounced = "erasure.announced",
    /// Half of the time that they have is over, and some have not acknowledged.
    ErasureReminded = "erasure.reminded",
    /// The deadline has passed, and some have not acknowledged.
    ErasureOverdue = "erasure.overdue",
    /// The certificate was issued.
    ErasureCompleted = "erasure.completed",
    /// An invitation waits to be sent.
    InvitationQueued = "invitation.queued",
    /// Its mail was handed to a mail server.
    InvitationSent = "invitation.sent",
    /// The person used it.
    InvitationAccepted = "invitation.accepted",
    /// Somebody cancelled it.
    InvitationCancelled = "invitation.cancelled",
    /// Another took its place.
    InvitationSuperseded = "invitation.superseded",
    /// Its lifetime is over.
    InvitationLapsed = "invitation.lapsed",
    /// The mail server refused it for good.
    InvitationUndeliverable = "invitation.undeliverable",
    /// A mail was handed to a mail server.
    DeliverySent = "delivery.sent",
    /// A mail will not be sent any more.
    DeliveryFailed = "delivery.failed",
    /// A mail may or may not have gone out (B12).
    DeliveryUncertain = "delivery.uncertain",
    /// A mail is no longer wanted.
    DeliveryCancelled = "delivery.cancelled",
    /// A mail was held back, since its address is suppressed (L13).
    DeliverySuppressed = "delivery.suppressed",
    /// A mail came back after a mail server took it: its address is dead (L13).
    DeliveryBounced = "delivery.bounced",
    /// A mail was called unwanted by its recipient (L13).
    DeliveryComplained = "delivery.complained",
    /// Call to work: an invitation, an account notification or a test mail is to be sent now.
    InvitationDue = "invitation.due",
    /// Call to work: a reminder is to be sent now.
    ReminderDue = "reminder.due",
    /// Call to work: a user's expiration is reached.
    ExpirationDue = "expiration.due",
    /// Call to work: an erasure is to go on.
    ErasureDue = "erasure.due",
}

impl EventType {
    /// The CloudEvents `type`: `usher.user.activated.v1`.
    pub fn cloud_events_type(self) -> String {
        format!("usher.{}.v1", self.as_str())
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether it calls to work, rather than telling what happened.
    pub fn is_call_to_work(self) -> bool {
        matches!(
            self,
            Self::InvitationDue | Self::ReminderDue | Self::ExpirationDue | Self::ErasureDue
        )
    }
}

/// How far the audit log of a tenant is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Of the last entry.
    pub sequence: i64,
    /// Its link, in lower-case hexadecimal.
    pub chain: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The CloudEvents `id`.
    pub id: EventId,
    /// What it says.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Whose.
    pub tenant: TenantId,
    /// About whom; `None` for a test mail and for what concerns the tenant.
    pub user: Option<UserId>,
    /// Of the account, after the change.
    pub user_version: i64,
    /// When.
    pub at: Timestamp,
    /// The status before, where it changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<StatusName>,
    /// The status after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<StatusName>,
    /// As the caller gave it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
    /// Who: the id of a user or a service, or `usher`.
    pub actor: String,
    /// The caller's.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub request_id: String,
    /// About which invitation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub invitation: Option<InvitationId>,
    /// About which mail.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delivery: Option<DeliveryId>,
    /// The account's expiration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
    /// Of the ladder; 0: no reminder.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub reminder_step: i32,
    /// On `user.updated`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changed_fields: Vec<String>,
    /// On `group.*`, `membership.*`, and a role in a group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<GroupId>,
    /// On `role.*`: a built-in role's name or a custom role's id.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub role: String,
    /// On a role in a programme session.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub session: String,
    /// On `template.updated`: kind, step and language, as `REMINDER/2/fr`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub template: String,
    /// On `job.*`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub job: Option<JobId>,
    /// On `audit.sealed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sealed: Option<Sealed>,
    /// On `erasure.*`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub erasure: Option<ErasureId>,
    /// W3C Trace Context of the call that caused it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub trace_parent: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(step: &i32) -> bool {
    *step == 0
}

impl Event {
    /// Where it goes in the outbox, 0 to 63: the same lane for all events of one user; of those about nobody, for all of one
    /// group, role or job, and for all others of one tenant.
    pub fn lane(&self) -> i16 {
        let role = || RoleId::from_str(&self.role).ok().map(|role| role.0);
        let group = self.group.map(|group| group.0);
        let id = self
            .user
            .map(|user| user.0)
            .or_else(|| group.or_else(|| self.job.map(|job| job.0)))
            .or_else(role)
            .unwrap_or(self.tenant.0);
        i16::from(id.as_bytes()[15]) % LANES
    }
}
