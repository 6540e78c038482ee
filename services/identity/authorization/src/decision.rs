//! What is answered, and how a refusal says it.

use usher_core::refusal::Refusal;
use usher_core::role::{Permission, Scope};

use crate::powers::PermissionSet;
use crate::question::{Principal, Question, Resource};

/// The reason of a refusal to give more than whoever acts holds there themselves (U1).
pub const GIVES_MORE: &str = "GIVES_MORE";
/// The reason of a refusal to change somebody who may more, somewhere, than whoever acts (U2).
pub const HOLDS_MORE: &str = "HOLDS_MORE";
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
        /// With the reasons `GIVES_MORE` and `HOLDS_MORE`: what whoever acts would have to hold. Else empty.
        lacking: PermissionSet,
    },
}

/// Permissions that a refusal names at most.
const NAMED: usize = 3;

impl Decision {
    /// Denied, for this reason.
    pub(crate) fn denied(reason: Option<&str>) -> Self {
        Self::Denied {
            reason: reason.map(str::to_owned),
            lacking: PermissionSet::EMPTY,
        }
    }

    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }

    /// The refusal that the answer means for the question that was asked: `OWN_STATUS` (S9), `ACTOR_NOT_ACTIVE`, or
    /// `PERMISSION_DENIED` with a sentence that says where, and whom to ask.
    pub fn into_result(self, question: &Question<'_>) -> Result<(), Refusal> {
        let Self::Denied { reason, lacking } = self else {
            return Ok(());
        };
        let permission = match reason.as_deref() {
            Some(GIVES_MORE) => lacking.iter().next().unwrap_or(question.permission),
            _ => question.permission,
        };
        Err(match (reason.as_deref(), question.principal) {
            (Some(OWN_STATUS), _) => Refusal::OwnStatus,
            (Some(ACTOR_NOT_ACTIVE), Principal::User(user)) => Refusal::ActorNotActive(user.id.to_string()),
            (reason, principal) => Refusal::PermissionDenied {
                permission: permission.as_str().to_owned(),
                scope: sentence(reason, lacking, principal, question.resource),
            },
        })
    }
}

/// Where the permission is missing, and the way out.
fn sentence(reason: Option<&str>, lacking: PermissionSet, principal: &Principal, resource: &Resource) -> String {
    let (place, whom) = match resource {
        Resource::Scope(Scope::Platform) => ("on the platform".to_owned(), "the platform"),
        Resource::Scope(Scope::Group(id)) => (format!("in group {id}"), "that group"),
        Resource::Scope(Scope::Session(id)) => (format!("in session {id}"), "the platform"),
        Resource::User { id, groups, .. } if groups.is_empty() => (format!("on user {id}"), "the platform"),
        Resource::User { id, .. } => (format!("on user {id}"), "one of their groups"),
    };
    match (reason, principal) {
        (Some(GIVES_MORE), _) if !lacking.is_empty() => format!(
            "{place}; nobody gives more than they hold there themselves, and what is given has {}",
            list(lacking)
        ),
        (Some(HOLDS_MORE), _) if !lacking.is_empty() => format!(
            "{place}; nobody changes whoever may more than they do, and this user holds {}; ask an administrator of the platform",
            list(lacking)
        ),
        (Some(reason), _) => format!("{place}; a policy forbids it with the reason {reason}"),
        (None, Principal::User(_)) => format!("{place}; ask an administrator of {whom}"),
        (None, Principal::Service { name, .. }) => format!("{place}; add it to those of the service {name}"),
    }
}

/// The first of them, and how many more there are.
fn list(permissions: PermissionSet) -> String {
    let named: Vec<_> = permissions.iter().take(NAMED).map(Permission::as_str).collect();
    match permissions.iter().count() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
