//! What lists are asked.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::delivery::Attempt;
use crate::delivery::Delivery;
use crate::delivery::DeliveryStateName;
use crate::ids::DeliveryId;
use crate::ids::GroupId;
use crate::ids::JobId;
use crate::ids::TenantId;
use crate::ids::UserId;
use crate::inactivity::InactivityPolicy;
use crate::invitation::InvitationState;
use crate::job::JobState;
use crate::role::Assignment;
use crate::role::RoleRef;
use crate::role::Scope;
use crate::status::StatusName;
use crate::user::Engagement;
use std::collections::BTreeSet;

/// Where the last page ended, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The sort key of the last row, as text: a folded name, a folded address, or an instant in RFC 3339 with microseconds.
    pub key: String,
    /// Its id, for rows with the same key.
    pub id: uuid::Uuid,
}

impl UserQuery {
    /// All users but the erased, the oldest first: a first page of 1,000.
    pub fn all(tenant: TenantId, now: Timestamp) -> Self {
        Self {
            tenant,
            statuses: Vec::new(),
            labels: Vec::new(),
            languages: Vec::new(),
            text: String::new(),
            groups: Vec::new(),
            roles: Vec::new(),
            activity: Activity::Any,
            engagement: None,
            invited_before: None,
            waiting_for_seat: false,
            order: UserOrder::Created,
            descending: false,
            after: None,
            limit: 1_000,
            now,
        }
    }
}

/// How users are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns' names")]
pub enum UserOrder {
    Name,
    Email,
    Created,
    LastLogin,
}

/// How active somebody is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// In any way.
    #[default]
    Any,
    /// Never signed in.
    NeverLoggedIn,
    /// Signed in, but not since.
    InactiveSince(Timestamp),
}

/// Which users (U3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Any of these effective statuses at `now`; empty: all but erased.
    pub statuses: Vec<StatusName>,
    /// All of these.
    pub labels: Vec<String>,
    /// Any of these.
    pub languages: Vec<String>,
    /// Part of the name or the address, folded; empty: any.
    pub text: String,
    /// Members of any of these groups; empty: any. Groups below are listed too by whoever asks.
    pub groups: Vec<GroupId>,
    /// Holders of any of these roles, in any scope; empty: any.
    pub roles: Vec<RoleRef>,
    /// How active.
    pub activity: Activity,
    /// Only those who are active and came so far (S8).
    pub engagement: Option<Engagement>,
    /// Only those whose open invitation was sent before (L15).
    pub invited_before: Option<Timestamp>,
    /// Only those who wait for a seat (U8).
    pub waiting_for_seat: bool,
    /// By what.
    pub order: UserOrder,
    /// The other way round.
    pub descending: bool,
    /// Where to go on.
    pub after: Option<After>,
    /// At most so many.
    pub limit: u32,
    /// For effective statuses.
    pub now: Timestamp,
}

/// Which invitations (L8), the newest first.
#[derive(Debug, Clone)]
pub struct InvitationQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Any of these effective states at `now`.
    pub states: Vec<InvitationState>,
    /// Only of this user.
    pub user: Option<UserId>,
    /// Only of members of any of these groups; empty: of all.
    pub groups: Vec<GroupId>,
    /// Only those sent before.
    pub sent_before: Option<Timestamp>,
    /// Where to go on.
    pub after: Option<After>,
    /// At most so many.
    pub limit: u32,
    /// For effective states.
    pub now: Timestamp,
}

/// Which deliveries (L16), the newest first.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only of this user.
    pub user: Option<UserId>,
    /// Only this one.
    pub delivery: Option<DeliveryId>,
    /// Only to members of any of these groups; empty: to all.
    pub groups: Vec<GroupId>,
    /// Any of these; empty: all.
    pub states: Vec<DeliveryStateName>,
    /// Where to go on.
    pub after: Option<After>,
    /// At most so many.
    pub limit: u32,
}

/// A delivery with its attempts, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// The mail.
    pub delivery: Delivery,
    /// Its tries.
    pub attempts: Vec<Attempt>,
}

/// A mail, as a report of what came back names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailRef {
    /// By its id.
    Id(DeliveryId),
    /// The newest that ended as sent, or as uncertain, in this span.
    To {
        /// The folded address.
        email: String,
        /// From here on.
        since: Timestamp,
        /// To here, inclusively.
        until: Timestamp,
    },
}

/// A mail that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMail {
    /// Which.
    pub id: DeliveryId,
    /// Whose; `None` for a test mail.
    pub user: Option<UserId>,
    /// The folded address that it went to.
    pub email: String,
}

/// An address that gets no mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Its folded form.
    pub email: String,
    /// The server's answer that caused it.
    pub cause: String,
    /// Since when.
    pub at: Timestamp,
}

/// What somebody inactive is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InactivityStep {
    /// The warning: who was not warned yet, in the order of their last sign-in.
    Warn,
    /// As `Warn`, and who was warned by a warning that does not hold. No index finds these together.
    WarnAnew,
    /// The taking back: who was warned by a warning that does not hold, in the order of the warning.
    TakeBack,
    /// The deactivation: who was warned between two instants, the first excluded, by a warning that holds, in the order of the
    /// warning. Who has a warning under way is left out.
    Deactivate {
        /// Not until then.
        after: Option<Timestamp>,
        /// Until then.
        until: Timestamp,
    },
}

/// Which active users are inactive (B10).
#[derive(Debug, Clone)]
pub struct InactivityQuery {
    /// Whose.
    pub tenant: TenantId,
    /// What they wait for.
    pub step: InactivityStep,
    /// Inactive since then, or for longer: see [`crate::user::User::inactive_since`].
    pub since: Timestamp,
    /// By which warnings are looked at: see [`InactivityPolicy::holds`]. A store may take one that came less than a second too
    /// soon for one that holds.
    pub policy: InactivityPolicy,
    /// Since when that policy is on, if that is known.
    pub on_since: Option<Timestamp>,
    /// Leave holders of the role administrator out.
    pub exempt_administrators: bool,
    /// Where to go on: what they are ordered by, and who.
    pub position: Option<(Timestamp, UserId)>,
    /// At most so many.
    pub limit: u32,
    /// For effective statuses.
    pub now: Timestamp,
}

/// Which people an administrator's mail is about (B9): who was warned from its creation on, until the next mail of its kind to
/// the same administrator was created; who is still active, and expires at the instant that they were warned of.
#[derive(Debug, Clone)]
pub struct WarnedQuery {
    /// Whose.
    pub tenant: TenantId,
    /// To whom the mail goes.
    pub administrator: UserId,
    /// When it was created.
    pub since: Timestamp,
    /// Only members of any of these groups; `None`: all.
    pub groups: Option<BTreeSet<GroupId>>,
    /// Where to go on: whom the last page ended with.
    pub after: Option<(Timestamp, UserId)>,
    /// At most so many.
    pub limit: u32,
    /// Whoever expires later is active.
    pub now: Timestamp,
}

/// Which groups, by name.
#[derive(Debug, Clone)]
pub struct GroupQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only those directly below this one.
    pub parent: Option<GroupId>,
    /// Only those that this user is a member of.
    pub member: Option<UserId>,
    /// Only these.
    pub among: Option<BTreeSet<GroupId>>,
    /// Part of the name, folded; empty: any.
    pub text: String,
    /// Where to go on; the key is the folded name.
    pub after: Option<After>,
    /// At most so many.
    pub limit: u32,
}

/// Which assignments of roles.
#[derive(Debug, Clone)]
pub struct AssignmentQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only those of this user.
    pub user: Option<UserId>,
    /// Only those in exactly this scope.
    pub scope: Option<Scope>,
    /// Only of this role.
    pub role: Option<RoleRef>,
    /// Where to go on: the last one.
    pub after: Option<Assignment>,
    /// At most so many.
    pub limit: u32,
}

/// Which jobs, the newest first.
#[derive(Debug, Clone)]
pub struct JobQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only those started by this actor.
    pub actor: Option<String>,
    /// Any of these; empty: all.
    pub states: Vec<JobState>,
    /// Only those that repeat or undo this one.
    pub origin: Option<JobId>,
    /// Where to go on.
    pub after: Option<After>,
    /// At most so many.
    pub limit: u32,
}
