//! Roles, the scopes that they are held in, and the permissions that they are made of (U1, U2). What a role may do is
//! decided by the policies beside the identity service, not here: here are only the words.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::ids::{GroupId, RoleId, TenantId, UserId};

/// Characters of a programme session's id at most.
pub const MAX_SESSION_ID: usize = 200;
/// Assignments that one user can have.
pub const MAX_ASSIGNMENTS: usize = 200;

macro_rules! permissions {
    ($($variant:ident = $name:literal: $description:literal,)*) => {
        /// What somebody may be allowed to do. Every RPC asks for one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Permission {
            $(#[doc = $description] #[serde(rename = $name)] $variant,)*
        }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As in policies, roles and refusals: `users.read`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for whoever chooses the permissions of a role.
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }
        }
    };
}

permissions! {
    TenantsCreate = "tenants.create": "Create a tenant.",
    TenantsRead = "tenants.read": "Read a tenant's settings.",
    TenantsUpdate = "tenants.update": "Change a tenant's settings.",
    UsersCreate = "users.create": "Create accounts.",
    UsersRead = "users.read": "Read accounts and list them.",
    UsersUpdate = "users.update": "Change the fields of accounts.",
    UsersChangeStatus = "users.change_status": "Deactivate and reactivate accounts.",
    UsersSetExpiration = "users.set_expiration": "Set, move and clear expirations.",
    UsersExplain = "users.explain": "Ask why an account stands where it stands.",
    UsersImport = "users.import": "Import accounts from files.",
    UsersExport = "users.export": "Export accounts to files.",
    InvitationsSend = "invitations.send": "Send, resend and cancel invitations.",
    InvitationsRead = "invitations.read": "Read invitations.",
    InvitationsPreview = "invitations.preview": "Preview the invitation mail and send a test of it to oneself.",
    InvitationsAccept = "invitations.accept": "Look at a link and complete the registration that it is for.",
    AccessCheck = "access.check": "Ask whether people may in.",
    AccessSignIn = "access.sign_in": "Sign in with a password and change it.",
    ActivityRecord = "activity.record": "Report what people do on the platform.",
    InactivityRead = "inactivity.read": "See who is inactive, and what the inactivity policy does.",
    InactivityDecide = "inactivity.decide": "Approve and dismiss deactivations for inactivity.",
    DeliveriesRead = "deliveries.read": "Look up mails with their attempts.",
    DeliveriesResolve = "deliveries.resolve": "Settle a mail of which nobody knows whether it went out.",
    DeliveriesReport = "deliveries.report": "Report bounces and complaints, which stop mail to an address.",
    SuppressionsRead = "suppressions.read": "List the addresses that get no mail.",
    SuppressionsRemove = "suppressions.remove": "Let an address get mail again.",
    EventsWatch = "events.watch": "Follow the events of the tenant.",
    WorkPerform = "work.perform": "Do the work of Usher's own workers.",
    GroupsRead = "groups.read": "Read groups and their members.",
    GroupsCreate = "groups.create": "Create groups.",
    GroupsUpdate = "groups.update": "Rename and move groups.",
    GroupsDelete = "groups.delete": "Delete groups; their people stay.",
    GroupsEditMembers = "groups.edit_members": "Add people to groups and take them out.",
    RolesRead = "roles.read": "Read roles and who holds them.",
    RolesAssign = "roles.assign": "Give roles and take them away.",
    RolesDefine = "roles.define": "Make roles of chosen permissions.",
    JobsRun = "jobs.run": "Preview selections, and start, cancel, repeat and undo bulk jobs; each item needs the permission of its action too.",
    JobsRead = "jobs.read": "Read bulk jobs and their reports.",
    TemplatesRead = "templates.read": "Read mail templates and preview them.",
    TemplatesUpdate = "templates.update": "Change mail templates and reset them.",
    ErasuresRequest = "erasures.request": "Ask for the erasure of accounts, and cancel it.",
    ErasuresApprove = "erasures.approve": "Approve erasures that others asked for.",
    ErasuresRead = "erasures.read": "Read erasures, their certificates, and which services are asked.",
    ErasuresAcknowledge = "erasures.acknowledge": "Say that a service has erased its part.",
    ErasuresSubscribe = "erasures.subscribe": "Register services that are asked to erase their part.",
    SeatsRead = "seats.read": "Read the usage, the ledger and the forecast of seats.",
    AuditRead = "audit.read": "Read the audit log.",
    AuditExport = "audit.export": "Export the audit log to files.",
    AuditVerify = "audit.verify": "Verify that nobody tampered with the audit log.",
}

impl Permission {
    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == name)
    }
}

/// A role that every tenant has (U1). What each may do stands in the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuiltInRole {
    /// Everything in its scope.
    Administrator,
    /// Projects, publications, programmes.
    Author,
    /// Enrolments and progress of the learners in its scope.
    Coach,
    /// Leads a programme session.
    Instructor,
    /// Their own space.
    Learner,
}

impl BuiltInRole {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Administrator,
        Self::Author,
        Self::Coach,
        Self::Instructor,
        Self::Learner,
    ];

    /// As in the API, policies and columns: `administrator`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Author => "author",
            Self::Coach => "coach",
            Self::Instructor => "instructor",
            Self::Learner => "learner",
        }
    }

    /// The reverse of `as_str`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// Which role: one of all tenants, or one of the tenant's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RoleRef {
    /// By its name.
    BuiltIn(BuiltInRole),
    /// By its id.
    Custom(RoleId),
}

impl RoleRef {
    /// The reverse of `to_string`: the name of a built-in role or the UUID of a custom one.
    pub fn from_name(name: &str) -> Option<Self> {
        BuiltInRole::from_name(name)
            .map(Self::BuiltIn)
            .or_else(|| name.parse::<Uuid>().ok().map(|id| Self::Custom(RoleId(id))))
    }
}

impl fmt::Display for RoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(role) => f.write_str(role.as_str()),
            Self::Custom(id) => id.fmt(f),
        }
    }
}

/// Where a role is held (U2). A group includes the groups below it; the platform includes everything of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The whole tenant.
    Platform,
    /// A group and those below it.
    Group(GroupId),
    /// A programme session, by the id that its own service gave it: 1 to 200 characters.
    Session(String),
}

impl Scope {
    /// The kind and the id, as columns have them.
    pub fn parts(&self) -> (&'static str, String) {
        match self {
            Self::Platform => ("PLATFORM", String::new()),
            Self::Group(id) => ("GROUP", id.to_string()),
            Self::Session(id) => ("SESSION", id.clone()),
        }
    }

    /// The reverse of `parts`.
    pub fn from_parts(kind: &str, id: &str) -> Option<Self> {
        match kind {
            "PLATFORM" if id.is_empty() => Some(Self::Platform),
            "GROUP" => id.parse().ok().map(Self::Group),
            "SESSION" if !id.is_empty() => Some(Self::Session(id.to_owned())),
            _ => None,
        }
    }
}

/// A role that somebody holds somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    /// Whose.
    pub tenant: TenantId,
    /// Who holds it.
    pub user: UserId,
    /// What.
    pub role: RoleRef,
    /// Where.
    pub scope: Scope,
}

/// A role of a tenant's own making: chosen permissions under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomRole {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: RoleId,
    /// Counts the changes, from 1.
    pub version: i64,
    /// 1 to 100 characters; unique in the tenant, whatever its case.
    pub name: String,
    /// Sorted, without duplicates.
    pub permissions: Vec<Permission>,
    /// When it was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_comes_back_from_its_parts() {
        let group = GroupId(Uuid::from_u128(7));
        for scope in [
            Scope::Platform,
            Scope::Group(group),
            Scope::Session("2027-spring".into()),
        ] {
            let (kind, id) = scope.parts();
            assert_eq!(Scope::from_parts(kind, &id), Some(scope));
        }
        for (kind, id) in [("PLATFORM", "x"), ("GROUP", "x"), ("SESSION", ""), ("CITY", "x")] {
            assert_eq!(Scope::from_parts(kind, id), None, "{kind} {id}");
        }
    }

    #[test]
    fn names_of_roles_and_permissions_come_back() {
        for role in BuiltInRole::ALL {
            assert_eq!(
                RoleRef::from_name(role.as_str()),
                Some(RoleRef::BuiltIn(role)),
                "{role:?}"
            );
        }
        let custom = RoleRef::Custom(RoleId(Uuid::from_u128(9)));
        assert_eq!(RoleRef::from_name(&custom.to_string()), Some(custom));
        assert_eq!(RoleRef::from_name("janitor"), None);
        for permission in Permission::ALL {
            assert_eq!(Permission::from_name(permission.as_str()), Some(*permission));
            assert!(permission.description().ends_with('.'), "{permission:?}");
        }
    }
}
