//! Errors as callers see them: one exhaustive match from refusals to gRPC codes, with google.rpc details. What is internal
//! is logged and not told.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use usher_core::change::{Changeset, Refused};
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::StoreError;
use usher_core::refusal::Refusal;
use usher_proto::identity::v1::{ErrorReason, ItemRefusal};

use crate::operations::engine::Failure;

/// The domain of `ErrorInfo`.
pub const DOMAIN: &str = "usher";

/// A reason as it stands in `ErrorInfo`: without the prefix.
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The code and reason of a refusal.
pub fn classify(refusal: &Refusal) -> (Code, ErrorReason) {
    match refusal {
        Refusal::InvalidFields(_) => (Code::InvalidArgument, ErrorReason::InvalidFields),
        Refusal::TenantNotFound(_) => (Code::NotFound, ErrorReason::TenantNotFound),
        Refusal::TenantExists(_) => (Code::AlreadyExists, ErrorReason::TenantExists),
        Refusal::UserNotFound(_) => (Code::NotFound, ErrorReason::UserNotFound),
        Refusal::InvitationNotFound(_) => (Code::NotFound, ErrorReason::InvitationNotFound),
        Refusal::DeliveryNotFound(_) => (Code::NotFound, ErrorReason::DeliveryNotFound),
        Refusal::SuppressionNotFound(_) => (Code::NotFound, ErrorReason::SuppressionNotFound),
        Refusal::UserAlreadyActive(_) => (Code::AlreadyExists, ErrorReason::UserAlreadyActive),
        Refusal::EmailTaken(_) => (Code::AlreadyExists, ErrorReason::EmailTaken),
        Refusal::ExternalIdTaken(_) => (Code::AlreadyExists, ErrorReason::ExternalIdTaken),
        Refusal::UserIdTaken(_) => (Code::AlreadyExists, ErrorReason::UserIdTaken),
        Refusal::UserExpired(_) => (Code::FailedPrecondition, ErrorReason::UserExpired),
        Refusal::UserDeactivated(_) => (Code::FailedPrecondition, ErrorReason::UserDeactivated),
        Refusal::UserErased(_) => (Code::FailedPrecondition, ErrorReason::UserErased),
        Refusal::OwnStatus => (Code::FailedPrecondition, ErrorReason::OwnStatus),
        Refusal::AddressSuppressed(_) => (Code::FailedPrecondition, ErrorReason::AddressSuppressed),
        Refusal::VersionMismatch { .. } | Refusal::ChangedSince(_) => (Code::Aborted, ErrorReason::VersionMismatch),
        Refusal::RequestIdReused => (Code::InvalidArgument, ErrorReason::RequestIdReused),
        Refusal::InvitationNotUsable => (Code::FailedPrecondition, ErrorReason::InvitationNotUsable),
        Refusal::InvitationClosed => (Code::FailedPrecondition, ErrorReason::InvitationClosed),
        Refusal::WrongCredentials => (Code::Unauthenticated, ErrorReason::WrongCredentials),
        Refusal::AccountDeactivated => (Code::PermissionDenied, ErrorReason::AccountDeactivated),
        Refusal::AccountExpired => (Code::PermissionDenied, ErrorReason::AccountExpired),
        Refusal::ClaimLost => (Code::FailedPrecondition, ErrorReason::ClaimLost),
        Refusal::DeliveryNotUncertain(_) => (Code::FailedPrecondition, ErrorReason::DeliveryNotUncertain),
        Refusal::CursorTooOld => (Code::OutOfRange, ErrorReason::CursorTooOld),
        Refusal::Overloaded => (Code::ResourceExhausted, ErrorReason::Overloaded),
        Refusal::GroupNotFound(_) => (Code::NotFound, ErrorReason::GroupNotFound),
        Refusal::GroupTaken(_) => (Code::AlreadyExists, ErrorReason::GroupTaken),
        Refusal::GroupCycle(_) => (Code::FailedPrecondition, ErrorReason::GroupCycle),
        Refusal::GroupTooDeep => (Code::FailedPrecondition, ErrorReason::GroupTooDeep),
        Refusal::RoleNotFound(_) => (Code::NotFound, ErrorReason::RoleNotFound),
        Refusal::RoleTaken(_) => (Code::AlreadyExists, ErrorReason::RoleTaken),
        Refusal::RoleInUse(_) => (Code::FailedPrecondition, ErrorReason::RoleInUse),
        Refusal::PermissionDenied { .. } => (Code::PermissionDenied, ErrorReason::PermissionDenied),
        Refusal::ActorNotActive(_) => (Code::PermissionDenied, ErrorReason::ActorNotActive),
        Refusal::SelectionNotFound => (Code::NotFound, ErrorReason::SelectionNotFound),
        Refusal::TemplateNotFound => (Code::NotFound, ErrorReason::TemplateNotFound),
        Refusal::InactivityRunNotFound(_) => (Code::NotFound, ErrorReason::InactivityRunNotFound),
        Refusal::InactivityRunNotParked(_) => (Code::FailedPrecondition, ErrorReason::InactivityRunNotParked),
        Refusal::JobNotFound(_) => (Code::NotFound, ErrorReason::JobNotFound),
        Refusal::JobRunning(_) => (Code::FailedPrecondition, ErrorReason::JobRunning),
        Refusal::NothingToRetry => (Code::FailedPrecondition, ErrorReason::NothingToRetry),
        Refusal::CannotBeUndone(_) | Refusal::UndoneBefore(_) => {
            (Code::FailedPrecondition, ErrorReason::CannotBeUndone)
        }
        Refusal::NoLongerMatches(_) => (Code::FailedPrecondition, ErrorReason::NoLongerMatches),
        Refusal::FileNotReadable(_) => (Code::InvalidArgument, ErrorReason::FileNotReadable),
        Refusal::SafetyStop { .. } => (Code::FailedPrecondition, ErrorReason::SafetyStop),
        Refusal::WaitsForSeat(_) => (Code::FailedPrecondition, ErrorReason::WaitsForSeat),
        Refusal::ErasureNotFound(_) => (Code::NotFound, ErrorReason::ErasureNotFound),
        Refusal::ErasureExists(_) => (Code::FailedPrecondition, ErrorReason::ErasureExists),
        Refusal::ErasureNotAwaiting(_) => (Code::FailedPrecondition, ErrorReason::ErasureNotAwaiting),
        Refusal::SameApprover => (Code::FailedPrecondition, ErrorReason::SameApprover),
        Refusal::ErasureTooLate(_) => (Code::FailedPrecondition, ErrorReason::ErasureTooLate),
        Refusal::ErasureNotAnnounced(_) => (Code::FailedPrecondition, ErrorReason::ErasureNotAnnounced),
        Refusal::ErasureNotComplete(_) => (Code::FailedPrecondition, ErrorReason::ErasureNotComplete),
        Refusal::SubscriberNotFound(_) => (Code::NotFound, ErrorReason::SubscriberNotFound),
        Refusal::SeatLimit { .. } => (Code::ResourceExhausted, ErrorReason::SeatLimit),
    }
}

/// Tells the audit log how an item among others ended, if it was refused for a reason that belongs there (B14).
pub(crate) fn tell_of_item<T>(
    changes: &mut Changeset,
    (tenant, user): (TenantId, Option<UserId>),
    outcome: &Result<T, Refusal>,
) {
    let refusal = outcome.as_ref().err().filter(|refusal| refusal.is_of_the_actor());
    changes.refused.extend(refusal.map(|refusal| Refused {
        tenant,
        user,
        outcome: reason_name(classify(refusal).1),
    }));
}

/// A refusal as a status.
pub fn refused(refusal: &Refusal) -> Status {
    let (code, reason) = classify(refusal);
    let metadata = match refusal {
        Refusal::PermissionDenied { permission, .. } => HashMap::from([("permission".to_owned(), permission.clone())]),
        _ => HashMap::new(),
    };
    let mut details = ErrorDetails::with_error_info(reason_name(reason), DOMAIN, metadata);
    match refusal {
        Refusal::InvalidFields(violations) => {
            for violation in violations {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
        }
        Refusal::RequestIdReused => {
            details.add_bad_request_violation("options.request_id", refusal.to_string());
        }
        Refusal::Overloaded => {
            details.set_retry_info(Some(Duration::from_secs(1)));
        }
        _ if code == Code::FailedPrecondition => {
            details.add_precondition_failure_violation(reason_name(reason), "", refusal.to_string());
        }
        _ => {}
    }
    Status::with_error_details(code, refusal.to_string(), details)
}

/// A refusal of one item among several.
pub fn item(refusal: &Refusal) -> ItemRefusal {
    ItemRefusal {
        reason: reason_name(classify(refusal).1).to_owned(),
        message: refusal.to_string(),
    }
}

/// A failure as a status.
pub fn failed(failure: Failure) -> Status {
    match failure {
        Failure::Refused(refusal) => refused(&refusal),
        Failure::Store(StoreError::Unavailable(cause)) => {
            tracing::warn!(cause, "the database does not answer");
            let mut details =
                ErrorDetails::with_error_info(reason_name(ErrorReason::StoreUnavailable), DOMAIN, HashMap::new());
            details.set_retry_info(Some(Duration::from_secs(1)));
            Status::with_error_details(
                Code::Unavailable,
                "the database does not answer; try again in a moment",
                details,
            )
        }
        Failure::Store(StoreError::Conflict(cause)) => {
            let mut details =
                ErrorDetails::with_error_info(reason_name(ErrorReason::StoreUnavailable), DOMAIN, HashMap::new());
            details.set_retry_info(Some(Duration::from_millis(200)));
            tracing::warn!(cause, "a transaction met others again and again");
            Status::with_error_details(
                Code::Unavailable,
                "many changes to the same account at once; try again",
                details,
            )
        }
        Failure::Late => Status::deadline_exceeded(Failure::Late.to_string()),
        Failure::Store(StoreError::Internal(cause)) | Failure::Internal(cause) => {
            tracing::error!(cause, "internal fault");
            let details = ErrorDetails::with_error_info(reason_name(ErrorReason::Internal), DOMAIN, HashMap::new());
            Status::with_error_details(
                Code::Internal,
                "internal fault; it was logged with the id of this trace",
                details,
            )
        }
    }
}

/// The service waits for its database for the first time.
pub fn starting() -> Status {
    let mut details = ErrorDetails::with_error_info(reason_name(ErrorReason::StoreUnavailable), DOMAIN, HashMap::new());
    details.set_retry_info(Some(Duration::from_secs(1)));
    let text = "the service is starting and waits for the database; try again in a moment";
    Status::with_error_details(Code::Unavailable, text, details)
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        failed(failure)
    }
}
