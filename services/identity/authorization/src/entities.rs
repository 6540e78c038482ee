//! Questions in Cedar's words. Only what a question needs is told: whoever asks, what it is about, and the names of all
//! places that this lies in. Policies are validated to look no further (level 1 of Cedar's RFC 76).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::LazyLock;

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{BuiltInRole, Permission, Scope};

use crate::powers::PermissionSet;
use crate::question::{ActingUser, Grant, Intent, Principal, Resource};

/// A value that Cedar does not take. Ours are all literals of its own types, so it is not expected.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failed(String);

/// Keeps what Cedar says, causes included.
pub(crate) fn failed(error: impl Error) -> Failed {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Failed(text)
}

/// The types of the schema.
pub(crate) struct Types {
    user: EntityTypeName,
    service: EntityTypeName,
    scope: EntityTypeName,
    /// Of the resource that is a user.
    pub(crate) account: EntityTypeName,
    action: EntityTypeName,
}

pub(crate) static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let name = |name: &str| name.parse().expect("a plain identifier is a type's name");
    Types {
        user: name("User"),
        service: name("Service"),
        scope: name("Scope"),
        account: name("Account"),
        action: name("Action"),
    }
});

static PLATFORM: LazyLock<EntityUid> = LazyLock::new(|| uid(&TYPES.scope, "platform"));

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

pub(crate) fn action(permission: Permission) -> EntityUid {
    uid(&TYPES.action, permission.as_str())
}

fn group(id: GroupId) -> EntityUid {
    uid(&TYPES.scope, &format!("group:{id}"))
}

fn place(scope: &Scope) -> EntityUid {
    match scope {
        Scope::Platform => PLATFORM.clone(),
        Scope::Group(id) => group(*id),
        Scope::Session(id) => uid(&TYPES.scope, &format!("session:{id}")),
    }
}

fn places<'a>(scopes: impl IntoIterator<Item = &'a Scope>) -> RestrictedExpression {
    RestrictedExpression::new_set(
        scopes
            .into_iter()
            .map(|scope| RestrictedExpression::new_entity_uid(place(scope))),
    )
}

fn strings(values: &BTreeSet<String>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.iter().cloned().map(RestrictedExpression::new_string))
}

fn names(permissions: PermissionSet) -> RestrictedExpression {
    let names = permissions.iter().map(|permission| permission.as_str().to_owned());
    RestrictedExpression::new_set(names.map(RestrictedExpression::new_string))
}

/// Whoever asks, ready for many questions.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) uid: EntityUid,
    pub(crate) entities: Entities,
    /// The account that is the own one.
    pub(crate) own: Option<UserId>,
}

impl Asking {
    pub(crate) fn new(principal: &Principal) -> Result<Self, Failed> {
        let (entity, own) = match principal {
            Principal::User(user) => (self::user(user)?, Some(user.id)),
            Principal::Service { name, permissions } => {
                let attributes = [("permissions".to_owned(), strings(permissions))];
                let uid = uid(&TYPES.service, name);
                let entity = Entity::new_with_tags(uid, attributes, [], []).map_err(failed)?;
                (entity, None)
            }
        };
        Ok(Self {
            uid: entity.uid(),
            entities: Entities::from_entities([entity], None).map_err(failed)?,
            own,
        })
    }
}

fn user(user: &ActingUser) -> Result<Entity, Failed> {
    let mut roles: BTreeMap<BuiltInRole, BTreeSet<&Scope>> = BuiltInRole::ALL
        .into_iter()
        .map(|role| (role, BTreeSet::new()))
        .collect();
    let mut permissions: BTreeMap<Permission, BTreeSet<&Scope>> = BTreeMap::new();
    for grant in &user.grants {
        match grant {
            Grant::BuiltIn { role, scope } => {
                roles.entry(*role).or_default().insert(scope);
            }
            Grant::Custom {
                permissions: all,
                scope,
            } => {
                for permission in all {
                    permissions.entry(*permission).or_default().insert(scope);
                }
            }
        }
    }
    let roles = roles
        .into_iter()
        .map(|(role, scopes)| (role.as_str().to_owned(), places(scopes)));
    let attributes = [
        ("active".to_owned(), RestrictedExpression::new_bool(user.active)),
        (
            "roles".to_owned(),
            RestrictedExpression::new_record(roles).map_err(failed)?,
        ),
    ];
    let tags = permissions
        .into_iter()
        .map(|(permission, scopes)| (permission.as_str().to_owned(), places(scopes)));
    Entity::new_with_tags(uid(&TYPES.user, &user.id.to_string()), attributes, [], tags).map_err(failed)
}

/// What it is about, with all places that this lies in, and what the user holds more than whoever asks.
pub(crate) fn resource(
    resource: &Resource,
    own: Option<UserId>,
    tree: &GroupTree,
    holds_more: PermissionSet,
) -> Result<Entity, Failed> {
    let (uid, attributes, parents) = match resource {
        Resource::Scope(scope) => {
            let (kind, above) = match scope {
                Scope::Platform => ("platform", vec![]),
                Scope::Session(_) => ("session", vec![PLATFORM.clone()]),
                Scope::Group(id) => {
                    let above = tree.with_ancestors(*id).into_iter().skip(1).map(group);
                    ("group", above.chain([PLATFORM.clone()]).collect())
                }
            };
            let kind = RestrictedExpression::new_string(kind.to_owned());
            (place(scope), vec![("kind", kind)], above)
        }
        Resource::User { id, groups, .. } => {
            let above = groups.iter().flat_map(|id| tree.with_ancestors(*id));
            let all: BTreeSet<GroupId> = above.chain(groups.iter().copied()).collect();
            let own = RestrictedExpression::new_bool(own == Some(*id));
            let above = all.into_iter().map(group).chain([PLATFORM.clone()]).collect();
            let attributes = vec![("own", own), ("holds_more", names(holds_more))];
            (uid(&TYPES.account, &id.to_string()), attributes, above)
        }
    };
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value));
    Entity::new_with_tags(uid, attributes, parents, []).map_err(failed)
}

/// What the call would do, and what it gives more than whoever asks holds.
pub(crate) fn context(permission: Permission, intent: &Intent, gives_more: PermissionSet) -> Result<Context, Failed> {
    let group_count = i64::try_from(intent.group_count).unwrap_or(i64::MAX);
    let pairs = [
        (
            "permission",
            RestrictedExpression::new_string(permission.as_str().to_owned()),
        ),
        (
            "sets_deletion_date",
            RestrictedExpression::new_bool(intent.sets_deletion_date),
        ),
        ("roles", strings(&intent.roles)),
        ("gives_more", names(gives_more)),
        ("group_count", RestrictedExpression::new_long(group_count)),
        ("fields", strings(&intent.fields)),
    ];
    Context::from_pairs(pairs.map(|(name, value)| (name.to_owned(), value))).map_err(failed)
}
