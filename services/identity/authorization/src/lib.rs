//! Who may do what. The rules are Cedar policies, files that a platform team reads and replaces: `policies/` beside this
//! crate, with a README. The code here only puts questions to them: it says who asks, for which permission, about what, and
//! where that lies (U1, U2). It reads no database: whoever asks brings the roles of the acting user and the tree of groups.
//!
//! ```
//! use usher_authorization::{ActingUser, Authorizer, Grant, Intent, Principal, Question, Resource};
//! use usher_core::group::GroupTree;
//! use usher_core::ids::{GroupId, UserId};
//! use usher_core::role::{BuiltInRole, Permission, Scope};
//! use uuid::Uuid;
//!
//! let sales = GroupId(Uuid::from_u128(1));
//! let tree = GroupTree::new([(sales, None)]);
//! let coach = Principal::User(ActingUser {
//!     id: UserId(Uuid::from_u128(2)),
//!     active: true,
//!     grants: vec![Grant::BuiltIn { role: BuiltInRole::Coach, scope: Scope::Group(sales) }],
//! });
//! let question = Question {
//!     principal: &coach,
//!     permission: Permission::UsersRead,
//!     resource: &Resource::User { id: UserId(Uuid::from_u128(3)), groups: vec![sales], roles: vec![] },
//!     intent: &Intent::default(),
//!     tree: &tree,
//! };
//! assert!(Authorizer::embedded().decide(&question).is_allowed());
//! ```

mod asker;
mod authorizer;
mod decision;
mod entities;
mod error;
mod methods;
mod policies;
mod powers;
mod question;
mod schema;
mod source;

pub use self::asker::Asker;
pub use self::authorizer::{Authorizer, Reach};
pub use self::decision::{ACTOR_NOT_ACTIVE, Decision, GIVES_MORE, HOLDS_MORE, OWN_STATUS, POLICY_FAILED};
pub use self::error::PolicyError;
pub use self::methods::{METHODS, permission_of};
pub use self::powers::PermissionSet;
pub use self::question::{ActingUser, Grant, Intent, Principal, Question, Resource};
