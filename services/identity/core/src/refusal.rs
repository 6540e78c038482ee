//! Why a command is not carried out. The server maps each to a gRPC code in one exhaustive match.

use serde::{Deserialize, Serialize};

/// One fault in one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldViolation {
    /// The path of the field as in the .proto, for example `user.email` or `messages[1].text`.
    pub field: String,
    /// The fault and the way out.
    pub description: String,
}

impl FieldViolation {
    /// Names a field and its fault.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// A typed refusal. Its text names the fault and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum Refusal {
    #[error("{} field(s) of the request are not valid: {}", .0.len(), summary(.0))]
    InvalidFields(Vec<FieldViolation>),
    #[error("there is no tenant {0}; create it with TenantService.CreateTenant")]
    TenantNotFound(String),
    #[error("there is already a tenant {0}; leave tenant_id empty to have one made")]
    TenantExists(String),
    #[error("there is no user {0} in this tenant")]
    UserNotFound(String),
    #[error("there is no invitation {0} in this tenant")]
    InvitationNotFound(String),
    #[error("there is no delivery {0} in this tenant")]
    DeliveryNotFound(String),
    #[error("the address {0} is not suppressed")]
    SuppressionNotFound(String),
    #[error("{0} belongs to an account that is active already; there is nothing to invite to")]
    UserAlreadyActive(String),
    #[error("{0} belongs to another account of this tenant; look it up with UserService.LookupUser")]
    EmailTaken(String),
    #[error("the external id {0} belongs to another account of this tenant")]
    ExternalIdTaken(String),
    #[error("there is already a user {0}; leave user_id empty to have one made")]
    UserIdTaken(String),
    #[error("the account {0} has expired; move or clear its expiration first (SetUserExpiration)")]
    UserExpired(String),
    #[error("the account {0} is deactivated; reactivate it first (ReactivateUser)")]
    UserDeactivated(String),
    #[error("the account {0} was erased, for good")]
    UserErased(String),
    #[error("nobody changes the status of the account that they act as; ask another administrator")]
    OwnStatus,
    #[error("mail to {0} is suppressed, since it bounced or its owner complained; lift that first (RemoveSuppression)")]
    AddressSuppressed(String),
    #[error("its version is {actual}, not {expected}: it was changed meanwhile; read it again and decide anew")]
    VersionMismatch { expected: i64, actual: i64 },
    #[error("the request_id was used with another request before; use a new one")]
    RequestIdReused,
    #[error("this link cannot be used; ask for a fresh one or ask your administrator")]
    InvitationNotUsable,
    #[error("the invitation was accepted, cancelled or superseded; send a new one (SendInvitation)")]
    InvitationClosed,
    #[error("the address or the password is wrong")]
    WrongCredentials,
    #[error("the account is deactivated; contact an administrator of your organisation")]
    AccountDeactivated,
    #[error("the account has expired; contact an administrator of your organisation")]
    AccountExpired,
    #[error("the claim on this delivery has lapsed or was given to another worker; do not send it")]
    ClaimLost,
    #[error("only an uncertain delivery can be resolved; this one is {0}")]
    DeliveryNotUncertain(String),
    #[error("events after this cursor are no longer kept; begin again with from_beginning and reconcile by ListUsers")]
    CursorTooOld,
    #[error("too many sign-ins at once; try again in a moment")]
    Overloaded,
    #[error("there is no group {0} in this tenant")]
    GroupNotFound(String),
    #[error("there is already a group {0} there; choose another name, or use the one there is")]
    GroupTaken(String),
    #[error("the group {0} cannot be below itself; choose another parent")]
    GroupCycle(String),
    #[error(
        "groups nest at most {} levels deep; choose a parent further up",
        crate::group::MAX_DEPTH
    )]
    GroupTooDeep,
    #[error("there is no role {0} in this tenant")]
    RoleNotFound(String),
    #[error("there is already a role {0}; choose another name, or change the one there is")]
    RoleTaken(String),
    #[error("somebody holds the role {0}; take it from them first (RevokeRoles)")]
    RoleInUse(String),
    #[error("the permission {permission} is missing: {scope}")]
    PermissionDenied { permission: String, scope: String },
    #[error("whoever acts needs an account of this tenant that is active; {0} is none")]
    ActorNotActive(String),
    #[error("the account {0} has registered and waits for a seat; there is nothing to invite to")]
    WaitsForSeat(String),
    #[error("there is no such selection any more: previews are kept for an hour; preview it again (PreviewSelection)")]
    SelectionNotFound,
    #[error("there is no such version of this template; list them with ListTemplateVersions")]
    TemplateNotFound,
    #[error("there is no run {0} among the newest of this tenant; see ListInactivityRuns")]
    InactivityRunNotFound(String),
    #[error("the run is {0}, not PARKED: there is nothing to decide")]
    InactivityRunNotParked(String),
    #[error("there is no job {0} in this tenant")]
    JobNotFound(String),
    #[error("the job {0} has not ended; wait for it (WatchJob), or stop it (CancelJob)")]
    JobRunning(String),
    #[error("nothing in this job failed or was skipped")]
    NothingToRetry,
    #[error("what a job does that is called {0} cannot be taken back")]
    CannotBeUndone(String),
    #[error("user {0} no longer matches the filter that was previewed; preview again")]
    NoLongerMatches(String),
    #[error("the job was taken back already, by the job {0}")]
    UndoneBefore(String),
    #[error("user {0} was changed since by others; nothing is taken back")]
    ChangedSince(String),
    #[error("the file cannot be read: {0}")]
    FileNotReadable(String),
    #[error(
        "the file would deactivate {share} % of the active users, more than the {limit} % that are allowed; check it, or allow more (max_deactivated_percent)"
    )]
    SafetyStop { share: i64, limit: i64 },
    #[error("there is no erasure {0} in this tenant")]
    ErasureNotFound(String),
    #[error("an erasure of the account {0} runs already; look it up with ListErasures")]
    ErasureExists(String),
    #[error("the erasure {0} awaits no approval")]
    ErasureNotAwaiting(String),
    #[error("whoever asked for an erasure cannot approve it; ask another administrator")]
    SameApprover,
    #[error("the erasure {0} was carried out; it cannot be cancelled any more")]
    ErasureTooLate(String),
    #[error("the erasure {0} was not announced yet; wait for erasure.announced")]
    ErasureNotAnnounced(String),
    #[error("the erasure {0} is not complete; its certificate follows erasure.completed")]
    ErasureNotComplete(String),
    #[error("no service {0} is asked to erase its part; register it first (RegisterErasureSubscriber)")]
    SubscriberNotFound(String),
    #[error("{}", no_seat(*limit, *waiting))]
    SeatLimit { limit: i64, waiting: i64 },
}

impl Refusal {
    /// Whether it is whoever acts who may not: said of an item among others, the audit log is told (B14).
    pub fn is_of_the_actor(&self) -> bool {
        matches!(
            self,
            Self::PermissionDenied { .. } | Self::ActorNotActive(_) | Self::OwnStatus | Self::SameApprover
        )
    }

    /// A refusal for one fault.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidFields(vec![FieldViolation::new(field, description)])
    }
}

fn summary(violations: &[FieldViolation]) -> String {
    let mut text = violations
        .iter()
        .take(3)
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect::<Vec<_>>()
        .join("; ");
    if violations.len() > 3 {
        text.push_str("; …");
    }
    text
}

fn no_seat(limit: i64, waiting: i64) -> String {
    let fault = match waiting {
        0 => format!("all {limit} seats are taken"),
        1 => format!("of {limit} seats none is left: 1 person waits for one, and comes first"),
        _ => format!("of {limit} seats none is left: {waiting} people wait for one, and come first"),
    };
    format!("{fault}; deactivate somebody, or raise the limit (UpdateTenant)")
}
