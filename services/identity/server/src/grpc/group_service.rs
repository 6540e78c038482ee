//! Groups and their members (U2).

use tonic::{Request, Response, Status};
use usher_authorization::{Intent, Reach};
use usher_core::account::Effect;
use usher_core::event::{Event, EventType};
use usher_core::group::{Group, GroupTree};
use usher_core::ids::{GroupId, TenantId, UserId};
use usher_core::ports::{After, GroupQuery, Keys};
use usher_core::refusal::Refusal;
use usher_core::role::{Permission, Scope};
use usher_core::text;
use usher_proto::identity::v1::group_service_server::GroupService;
use usher_proto::identity::v1::{
    AddGroupMembersRequest, AddGroupMembersResponse, CreateGroupRequest, CreateGroupResponse, DeleteGroupRequest,
    DeleteGroupResponse, GetGroupRequest, GetGroupResponse, ListGroupsRequest, ListGroupsResponse, MemberResult,
    RemoveGroupMembersRequest, RemoveGroupMembersResponse, UpdateGroupRequest, UpdateGroupResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{Mutation, finish, tenant as parse_tenant};
use crate::convert;
use crate::judge::Judge;
use crate::operations::engine::Failure;
use crate::operations::world::World;
use crate::page::Question;
use crate::parse::Faults;
use crate::status::{item, refused, tell_of_item};

const PATHS: &[&str] = &["name", "external_id", "parent_group_id"];

#[tonic::async_trait]
impl GroupService for App {
    async fn create_group(
        &self,
        request: Request<CreateGroupRequest>,
    ) -> Result<Response<CreateGroupResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("CreateGroup", &request, body.options.as_ref())?;
        let given = body.group.clone().unwrap_or_default();
        let tenant: TenantId = faults.id("group.tenant_id", &given.tenant_id);
        let wanted: Option<GroupId> = faults.optional_id("group.group_id", &given.group_id);
        let name = name(&given.name, &mut faults);
        let external_id = faults.external_id("group.external_id", &given.external_id);
        let parent: Option<GroupId> = faults.optional_id("group.parent_group_id", &given.parent_group_id);
        finish(faults)?;
        self.permit_in(&caller, tenant, Permission::GroupsCreate, &[below(parent)])
            .await?;
        let id = wanted.unwrap_or_else(|| GroupId::mint(self.now()));
        let command = mutation
            .clone()
            .command(tenant, tree_keys(tenant), move |world, changes| {
                world.tenant(tenant)?;
                if world.loaded.groups.contains_key(&(tenant, id)) {
                    return Err(Refusal::GroupTaken(id.to_string()));
                }
                let group = Group {
                    tenant,
                    id,
                    version: 1,
                    name: name.clone(),
                    external_id: external_id.clone(),
                    parent,
                    created_at: world.now,
                    updated_at: world.now,
                };
                check_place(world, &group)?;
                let act = mutation.act(world.now);
                changes.events.push(Event {
                    group: Some(id),
                    ..act.event(EventType::GroupCreated, tenant, None)
                });
                changes.groups.insert((tenant, id), group.clone());
                let answer = convert::group(&group);
                world.loaded.groups.insert((tenant, id), group);
                Ok(CreateGroupResponse { group: Some(answer) })
            });
        let answer = self.engine.run(command).await?;
        self.groups_changed(tenant);
        Ok(Response::new(answer))
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Result<Response<GetGroupResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: GroupId = faults.id("group_id", &body.group_id);
        finish(faults)?;
        self.permit_in(&caller, tenant, Permission::GroupsRead, &[Scope::Group(id)])
            .await?;
        let query = GroupQuery {
            among: Some([id].into()),
            ..every_group(tenant, 1)
        };
        let found = self.store.list_groups(&query).await.map_err(Failure::from)?;
        let group = found.first().ok_or_else(|| refused(&not_found(id)))?;
        Ok(Response::new(GetGroupResponse {
            group: Some(convert::group(group)),
        }))
    }

    async fn list_groups(&self, request: Request<ListGroupsRequest>) -> Result<Response<ListGroupsResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let parent: Option<GroupId> = faults.optional_id("parent_group_id", &body.parent_group_id);
        let member: Option<UserId> = faults.optional_id("user_id", &body.user_id);
        let text = text::fold(&faults.take("text", text::line(&body.text, 200)));
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListGroups", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        let reach = self.permit_reach(&caller, tenant, Permission::GroupsRead).await?;
        let query = GroupQuery {
            parent,
            member,
            among: match reach {
                Reach::Groups(groups) => Some(groups),
                Reach::Everything | Reach::Nothing => None,
            },
            text,
            after,
            ..every_group(tenant, limit)
        };
        let found = self.store.list_groups(&query).await.map_err(Failure::from)?;
        let next_page_token = question.next(&found, limit, |group| After {
            key: text::fold(&group.name),
            id: group.id.0,
        });
        Ok(Response::new(ListGroupsResponse {
            groups: found.iter().map(convert::group).collect(),
            next_page_token,
        }))
    }

    async fn update_group(
        &self,
        request: Request<UpdateGroupRequest>,
    ) -> Result<Response<UpdateGroupResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("UpdateGroup", &request, body.options.as_ref())?;
        let given = body.group.clone().unwrap_or_default();
        let tenant: TenantId = faults.id("group.tenant_id", &given.tenant_id);
        let id: GroupId = faults.id("group.group_id", &given.group_id);
        let paths = faults.mask("update_mask", body.update_mask.as_ref(), PATHS);
        let has = |path: &str| paths.iter().any(|given| given == path);
        let name = has("name").then(|| name(&given.name, &mut faults));
        let external_id = has("external_id").then(|| faults.external_id("group.external_id", &given.external_id));
        let parent = has("parent_group_id")
            .then(|| faults.optional_id::<GroupId>("group.parent_group_id", &given.parent_group_id));
        let expected = body.expected_version;
        finish(faults)?;
        self.permit_in(&caller, tenant, Permission::GroupsUpdate, &[Scope::Group(id)])
            .await?;
        if let Some(parent) = parent {
            self.permit_in(&caller, tenant, Permission::GroupsCreate, &[below(parent)])
                .await?;
        }
        let command = mutation
            .clone()
            .command(tenant, tree_keys(tenant), move |world, changes| {
                let before = group(world, tenant, id)?;
                check_version(&before, expected)?;
                let mut after = Group {
                    name: name.clone().unwrap_or_else(|| before.name.clone()),
                    external_id: external_id.clone().unwrap_or_else(|| before.external_id.clone()),
                    parent: parent.unwrap_or(before.parent),
                    ..before.clone()
                };
                if after != before {
                    after.version += 1;
                    after.updated_at = world.now;
                    check_place(world, &after)?;
                    let act = mutation.act(world.now);
                    changes.events.push(Event {
                        group: Some(id),
                        ..act.event(EventType::GroupUpdated, tenant, None)
                    });
                    changes.groups.insert((tenant, id), after.clone());
                    world.loaded.groups.insert((tenant, id), after.clone());
                }
                Ok(UpdateGroupResponse {
                    group: Some(convert::group(&after)),
                })
            });
        let answer = self.engine.run(command).await?;
        self.groups_changed(tenant);
        Ok(Response::new(answer))
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("DeleteGroup", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: GroupId = faults.id("group_id", &body.group_id);
        let expected = body.expected_version;
        finish(faults)?;
        self.permit_in(&caller, tenant, Permission::GroupsDelete, &[Scope::Group(id)])
            .await?;
        let command = mutation
            .clone()
            .command(tenant, tree_keys(tenant), move |world, changes| {
                let gone = group(world, tenant, id)?;
                check_version(&gone, expected)?;
                let act = mutation.act(world.now);
                let below = world.loaded.groups.values().filter(|group| group.tenant == tenant);
                let below: Vec<Group> = below.filter(|group| group.parent == Some(id)).cloned().collect();
                for child in below {
                    let moved = Group {
                        parent: gone.parent,
                        version: child.version + 1,
                        updated_at: world.now,
                        ..child
                    };
                    check_name(world, &moved)?;
                    changes.events.push(Event {
                        group: Some(moved.id),
                        ..act.event(EventType::GroupUpdated, tenant, None)
                    });
                    changes.groups.insert((tenant, moved.id), moved.clone());
                    world.loaded.groups.insert((tenant, moved.id), moved);
                }
                changes.events.push(Event {
                    group: Some(id),
                    ..act.event(EventType::GroupDeleted, tenant, None)
                });
                changes.deleted_groups.insert((tenant, id));
                world.loaded.groups.remove(&(tenant, id));
                Ok(DeleteGroupResponse {})
            });
        let answer = self.engine.run(command).await?;
        self.groups_changed(tenant);
        Ok(Response::new(answer))
    }

    async fn add_group_members(
        &self,
        request: Request<AddGroupMembersRequest>,
    ) -> Result<Response<AddGroupMembersResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("AddGroupMembers", &request, body.options.as_ref())?;
        let target = Members::parse(&body.tenant_id, &body.group_id, &body.user_ids, &mut faults);
        finish(faults)?;
        let (results, changed_count) = self.edit_members(&caller, mutation, target, true).await?;
        Ok(Response::new(AddGroupMembersResponse { results, changed_count }))
    }

    async fn remove_group_members(
        &self,
        request: Request<RemoveGroupMembersRequest>,
    ) -> Result<Response<RemoveGroupMembersResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("RemoveGroupMembers", &request, body.options.as_ref())?;
        let target = Members::parse(&body.tenant_id, &body.group_id, &body.user_ids, &mut faults);
        finish(faults)?;
        let (results, changed_count) = self.edit_members(&caller, mutation, target, false).await?;
        Ok(Response::new(RemoveGroupMembersResponse { results, changed_count }))
    }
}

/// Whose membership of which group.
struct Members {
    tenant: TenantId,
    group: GroupId,
    users: Vec<UserId>,
}

impl Members {
    fn parse(tenant: &str, group: &str, users: &[String], faults: &mut Faults) -> Self {
        Self {
            tenant: parse_tenant(tenant, faults),
            group: faults.id("group_id", group),
            users: faults.ids("user_ids", users),
        }
    }
}

impl App {
    async fn edit_members(
        &self,
        caller: &Caller,
        mutation: Mutation,
        target: Members,
        add: bool,
    ) -> Result<(Vec<MemberResult>, i32), Status> {
        let Members {
            tenant,
            group: id,
            users,
        } = target;
        let judge = self
            .permit_in(caller, tenant, Permission::GroupsEditMembers, &[Scope::Group(id)])
            .await?;
        let add_as = add.then_some(judge);
        let keys = Keys {
            tenants: [tenant].into(),
            users: users.iter().map(|user| (tenant, *user)).collect(),
            groups: [(tenant, id)].into(),
            with_belonging: true,
            ..Keys::default()
        };
        let weight = users.len();
        let mut command = mutation.clone().command(tenant, keys, move |world, changes| {
            world.tenant(tenant)?;
            group(world, tenant, id)?;
            let act = mutation.act(world.now);
            let mut asking = add_as.as_ref().map(Judge::asker);
            let mut changed_count = 0;
            let mut results = Vec::with_capacity(users.len());
            for user in &users {
                let outcome = world.account(tenant, *user).and_then(|account| {
                    account.decide(changes, |account, changes| match &mut asking {
                        // Whoever puts people into their group could rule them there: they must have a say already.
                        Some(asking) => {
                            asking.require(
                                Permission::GroupsEditMembers,
                                &asking.resource(account),
                                &Intent::default(),
                            )?;
                            account.join(id, &act, changes)
                        }
                        None => Ok(account.leave(id, &act, changes)),
                    })
                });
                tell_of_item(changes, (tenant, Some(*user)), &outcome);
                let changed = outcome == Ok(Effect::Changed);
                changed_count += i32::from(changed);
                results.push(MemberResult {
                    user_id: user.to_string(),
                    changed,
                    refused: outcome.err().map(|refusal| item(&refusal)),
                });
            }
            // Both answers are the same message on the wire.
            Ok(AddGroupMembersResponse { results, changed_count })
        });
        command.weight = weight;
        let answer = self.engine.run(command).await?;
        Ok((answer.results, answer.changed_count))
    }
}

/// All groups of a tenant, which do not change meanwhile.
fn tree_keys(tenant: TenantId) -> Keys {
    Keys {
        tenants: [tenant].into(),
        lock_tenants: true,
        trees: [tenant].into(),
        ..Keys::default()
    }
}

fn every_group(tenant: TenantId, limit: u32) -> GroupQuery {
    GroupQuery {
        tenant,
        parent: None,
        member: None,
        among: None,
        text: String::new(),
        after: None,
        limit,
    }
}

/// Where a group stands below a parent: what it takes to put one there.
fn below(parent: Option<GroupId>) -> Scope {
    parent.map_or(Scope::Platform, Scope::Group)
}

fn not_found(id: GroupId) -> Refusal {
    Refusal::GroupNotFound(id.to_string())
}

fn group(world: &World, tenant: TenantId, id: GroupId) -> Result<Group, Refusal> {
    let found = world.loaded.groups.get(&(tenant, id)).cloned();
    found.ok_or_else(|| not_found(id))
}

fn name(given: &str, faults: &mut Faults) -> String {
    let name = faults.take("group.name", text::name(given, 200));
    if given.trim().is_empty() {
        faults.add("group.name", "is required");
    }
    name
}

fn check_version(group: &Group, expected: i64) -> Result<(), Refusal> {
    if expected == 0 || expected == group.version {
        Ok(())
    } else {
        Err(Refusal::VersionMismatch {
            expected,
            actual: group.version,
        })
    }
}

/// Whether a group can stand where it is to stand, under its name and external id.
fn check_place(world: &World, group: &Group) -> Result<(), Refusal> {
    let tree = GroupTree::new(
        world
            .loaded
            .groups
            .values()
            .filter(|other| other.tenant == group.tenant)
            .map(|other| (other.id, other.parent)),
    );
    tree.check_move(group.id, group.parent)?;
    check_name(world, group)
}

fn check_name(world: &World, group: &Group) -> Result<(), Refusal> {
    let name = text::fold(&group.name);
    let others = world.loaded.groups.values();
    let mut others = others.filter(|other| other.tenant == group.tenant && other.id != group.id);
    let taken = others.find(|other| {
        let named = other.parent == group.parent && text::fold(&other.name) == name;
        named || (group.external_id.is_some() && other.external_id == group.external_id)
    });
    match taken {
        Some(other) if other.external_id.is_some() && other.external_id == group.external_id => {
            Err(Refusal::GroupTaken(other.external_id.clone().unwrap_or_default()))
        }
        Some(other) => Err(Refusal::GroupTaken(other.name.clone())),
        None => Ok(()),
    }
}
