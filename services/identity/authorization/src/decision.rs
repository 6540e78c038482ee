//! What is answered, and how a refusal says it.

use usher_core::refusal::Refusal;
use usher_core::role::Scope;

use crate::question::{Principal, Question, Resource};

/// The reason of a refusal because the acting user is not active.
pub const ACTOR_NOT_ACTIVE: &str = "ACTOR_NOT_ACTIVE";
/// The reason of a refusal to change the status of one's own account (S9).
pub const OWN_STATUS: &str = "OWN_STATUS";
/// The reason of a refusal because a policy could not be evaluated, for example since a number overflowed.
pub const POLICY_FAILED: &str = "POLICY_FAILED";

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// A policy permits it and none forbids it.
    Allowed,
    /// No policy permits it, or one forbids it.
    Denied {
        /// The `@reason` of a policy that forbids it; of several, the first in the alphabet. `None`: nothing permits it,
        /// or what forbids it has no reason of its own.
        reason: Option<String>,
    },
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }

    /// The refusal that the answer means for the question that was asked: `OWN_STATUS` (S9), `ACTOR_NOT_ACTIVE`, or
    /// `PERMISSION_DENIED` with a sentence that says where, and whom to ask.
    pub fn into_result(self, question: &Question<'_>) -> Result<(), Refusal> {
        let Self::Denied { reason } = self else { return Ok(()) };
        Err(match (reason.as_deref(), question.principal) {
            (Some(OWN_STATUS), _) => Refusal::OwnStatus,
            (Some(ACTOR_NOT_ACTIVE), Principal::User(user)) => Refusal::ActorNotActive(user.id.to_string()),
            (reason, principal) => Refusal::PermissionDenied {
                permission: question.permission.as_str().to_owned(),
                scope: sentence(reason, principal, question.resource),
            },
        })
    }
}

/// Where the permission is missing, and the way out.
fn sentence(reason: Option<&str>, principal: &Principal, resource: &Resource) -> String {
    let (place, whom) = match resource {
        Resource::Scope(Scope::Platform) => ("on the platform".to_owned(), "the platform"),
        Resource::Scope(Scope::Group(id)) => (format!("in group {id}"), "that group"),
        Resource::Scope(Scope::Session(id)) => (format!("in session {id}"), "the platform"),
        Resource::User { id, groups } if groups.is_empty() => (format!("on user {id}"), "the platform"),
        Resource::User { id, .. } => (format!("on user {id}"), "one of their groups"),
    };
    match (reason, principal) {
        (Some(reason), _) => format!("{place}; a policy forbids it with the reason {reason}"),
        (None, Principal::User(_)) => format!("{place}; ask an administrator of {whom}"),
        (None, Principal::Service { name, .. }) => format!("{place}; add it to those of the service {name}"),
    }
}
