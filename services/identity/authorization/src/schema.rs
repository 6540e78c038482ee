//! The schema of policies that were replaced: it has to fit what Usher asks and tells.

use std::collections::BTreeMap;

use cedar_policy::{Entities, Entity, Request, Schema};
use usher_core::group::GroupTree;
use usher_core::ids::{GroupId, UserId};
use usher_core::role::{BuiltInRole, Permission, Scope};
use uuid::Uuid;

use crate::entities::{self, Asking, Failed, failed};
use crate::powers::PermissionSet;
use crate::question::{ActingUser, Grant, Intent, Principal, Resource};

/// Whether the schema has all that Usher asks, and promises no more than Usher tells.
pub(crate) fn fits(schema: &Schema) -> Result<(), String> {
    let missing = Permission::ALL
        .iter()
        .map(|permission| entities::action(*permission))
        .find(|action| !schema.actions().any(|known| known == action));
    if let Some(action) = missing {
        return Err(format!("{action} is missing"));
    }
    let not_ours = |error: Failed| format!("not what Usher tells of a question: {error}");
    let group = Scope::Group(GroupId(Uuid::nil()));
    let user = ActingUser {
        id: UserId(Uuid::nil()),
        active: true,
        grants: BuiltInRole::ALL
            .into_iter()
            .map(|role| Grant::BuiltIn {
                role,
                scope: group.clone(),
            })
            .chain([Grant::Custom {
                permissions: Permission::ALL.to_vec(),
                scope: group.clone(),
            }])
            .collect(),
    };
    let service = Principal::Service {
        name: "one".into(),
        permissions: ["*".to_owned()].into(),
    };
    let account = Resource::User {
        id: user.id,
        groups: vec![GroupId(Uuid::nil())],
        roles: Vec::new(),
    };
    let intent = Intent {
        roles: ["learner".to_owned()].into(),
        fields: ["language".to_owned()].into(),
        ..Intent::default()
    };
    let more: PermissionSet = Permission::ALL.iter().copied().collect();
    let tree = GroupTree::default();
    for principal in [Principal::User(user), service] {
        let asking = Asking::new(&principal).map_err(not_ours)?;
        for resource in [Resource::Scope(group.clone()), account.clone()] {
            let resource = entities::resource(&resource, asking.own, &tree, more).map_err(not_ours)?;
            let uid = resource.uid();
            let told = asking.entities.iter().cloned().chain([resource]);
            Entities::from_entities(told, Some(schema)).map_err(|error| not_ours(failed(error)))?;
            for permission in Permission::ALL {
                let context = entities::context(*permission, &intent, more).map_err(not_ours)?;
                let action = entities::action(*permission);
                Request::new(asking.uid.clone(), action, uid.clone(), context, Some(schema))
                    .map_err(|error| not_ours(failed(error)))?;
            }
        }
    }
    Ok(())
}

/// The actions that the schema puts into groups, with those.
pub(crate) fn grouped(schema: &Schema) -> Result<BTreeMap<Permission, Entity>, Failed> {
    let actions = schema.action_entities().map_err(failed)?;
    let with_groups = Permission::ALL.iter().filter_map(|permission| {
        let uid = entities::action(*permission);
        let groups: Vec<_> = actions.ancestors(&uid)?.cloned().collect();
        let in_groups = !groups.is_empty();
        in_groups.then(|| (*permission, Entity::new_no_attrs(uid, groups.into_iter().collect())))
    });
    Ok(with_groups.collect())
}
