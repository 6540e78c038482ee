//! Groups, their people, and the roles held in them; how people are found by those. That each of these mutations can be
//! planned and repeated is shown with all others, in `mutations`.

mod lists;
mod roles;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use prost_types::FieldMask;
use tonic::{Code, Status};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{InitialState, UserStatus};
use usher_tests::environment::eventually;

use crate::stage::{
    DAY, HOUR, PASSWORD, PATIENCE, Together, alone, assert_refused, in_group, in_session, platform, refused, together,
};

/// An id that nothing has.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

async fn get(stage: &Together, id: &str) -> Result<api::Group, Status> {
    let request = api::GetGroupRequest {
        tenant_id: stage.tenant.clone(),
        group_id: id.into(),
    };
    let group = stage.clients.groups().get_group(request).await?.into_inner().group;
    Ok(group.unwrap_or_default())
}

fn creating(stage: &Together, group: api::Group) -> api::CreateGroupRequest {
    api::CreateGroupRequest {
        group: Some(api::Group {
            tenant_id: stage.tenant.clone(),
            ..group
        }),
        options: None,
    }
}

async fn create(stage: &Together, group: api::Group) -> Result<api::Group, Status> {
    let created = stage.clients.groups().create_group(creating(stage, group)).await?;
    Ok(created.into_inner().group.unwrap_or_default())
}

fn named(name: &str, parent: &str) -> api::Group {
    api::Group {
        name: name.into(),
        parent_group_id: parent.into(),
        ..api::Group::default()
    }
}

async fn update(stage: &Together, group: api::Group, path: &str, expected_version: i64) -> Result<api::Group, Status> {
    let request = api::UpdateGroupRequest {
        group: Some(api::Group {
            tenant_id: stage.tenant.clone(),
            ..group
        }),
        update_mask: Some(FieldMask {
            paths: vec![path.into()],
        }),
        expected_version,
        options: None,
    };
    let updated = stage.clients.groups().update_group(request).await?.into_inner().group;
    Ok(updated.unwrap_or_default())
}

async fn rename(stage: &Together, id: &str, name: &str, expected_version: i64) -> Result<api::Group, Status> {
    let group = api::Group {
        group_id: id.into(),
        ..named(name, "")
    };
    update(stage, group, "name", expected_version).await
}

async fn move_below(stage: &Together, id: &str, parent: &str) -> Result<api::Group, Status> {
    let group = api::Group {
        group_id: id.into(),
        ..named("", parent)
    };
    update(stage, group, "parent_group_id", 0).await
}

async fn delete(stage: &Together, id: &str, expected_version: i64) -> Result<(), Status> {
    let request = api::DeleteGroupRequest {
        tenant_id: stage.tenant.clone(),
        group_id: id.into(),
        expected_version,
        options: None,
    };
    stage.clients.groups().delete_group(request).await.map(drop)
}

/// The names of groups, in pages of two.
async fn names(stage: &Together, asked: api::ListGroupsRequest) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = api::ListGroupsRequest {
            tenant_id: stage.tenant.clone(),
            page_size: 2,
            page_token,
            ..asked.clone()
        };
        let page = stage.clients.groups().list_groups(request).await?.into_inner();
        names.extend(page.groups.into_iter().map(|group| group.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(names);
        }
    }
}

async fn people(stage: &Together, group: &str) -> Result<Vec<String>> {
    let filter = api::UserFilter {
        group_ids: vec![group.into()],
        ..api::UserFilter::default()
    };
    Ok(stage.found(&stage.clients, filter, "email").await?)
}

/// U2
#[test]
fn groups_nest_and_are_moved_and_no_move_ties_a_knot() -> Result<()> {
    together(async |stage| {
        let school = create(&stage, named("School", "")).await?;
        assert_eq!((school.version, school.parent_group_id.as_str()), (1, ""));
        assert!(school.create_time.is_some() && school.create_time == school.update_time);
        assert_eq!(get(&stage, &school.group_id).await?, school);
        let year = stage.group("Year 7", &school.group_id).await?;
        let class = stage.group("7a", &year).await?;
        for below in [&school.group_id, &year, &class] {
            let knot = move_below(&stage, &school.group_id, below).await;
            assert_refused(knot, Code::FailedPrecondition, "GROUP_CYCLE");
        }
        assert_eq!(get(&stage, &school.group_id).await?, school);
        let moved = move_below(&stage, &class, &school.group_id).await?;
        assert_eq!(
            (moved.parent_group_id.as_str(), moved.version),
            (school.group_id.as_str(), 2)
        );
        let top = move_below(&stage, &class, "").await?;
        assert_eq!((top.parent_group_id.as_str(), top.version), ("", 3));
        // Where it is already: nothing changes.
        assert_eq!(move_below(&stage, &class, "").await?, top);

        for parent in [NOBODY, school.tenant_id.as_str()] {
            let answer = create(&stage, named("Choir", parent)).await;
            assert_refused(answer, Code::NotFound, "GROUP_NOT_FOUND");
            let answer = move_below(&stage, &class, parent).await;
            assert_refused(answer, Code::NotFound, "GROUP_NOT_FOUND");
        }
        assert_refused(get(&stage, NOBODY).await, Code::NotFound, "GROUP_NOT_FOUND");
        Ok(())
    })
}

/// U2: 20 levels, however a group gets there.
#[test]
fn groups_nest_twenty_levels_deep_and_not_deeper() -> Result<()> {
    together(async |stage| {
        let mut levels = vec![stage.group("Level 1", "").await?];
        for level in 2..=20 {
            let above = levels.last().context("a level")?.clone();
            levels.push(stage.group(&format!("Level {level}"), &above).await?);
        }
        let deeper = create(&stage, named("Level 21", &levels[19])).await;
        assert_refused(deeper, Code::FailedPrecondition, "GROUP_TOO_DEEP");
        // A group comes with what is below it.
        let two = stage.group("Two", "").await?;
        stage.group("Levels", &two).await?;
        let answer = move_below(&stage, &two, &levels[18]).await;
        assert_refused(answer, Code::FailedPrecondition, "GROUP_TOO_DEEP");
        move_below(&stage, &two, &levels[17]).await?;
        Ok(())
    })
}

/// U2
#[test]
fn a_name_stands_once_below_a_parent_and_an_external_id_once_in_a_tenant() -> Result<()> {
    together(async |stage| {
        let choir = api::Group {
            external_id: "G-1".into(),
            ..named("Zoë’s Choir", "")
        };
        let choir = create(&stage, choir).await?;
        let year = stage.group("Year 7", "").await?;
        for taken in ["Zoë’s Choir", "ZOË’S CHOIR"] {
            let answer = create(&stage, named(taken, "")).await;
            assert_refused(answer, Code::AlreadyExists, "GROUP_TAKEN");
            let answer = rename(&stage, &year, taken, 0).await;
            assert_refused(answer, Code::AlreadyExists, "GROUP_TAKEN");
        }
        let below = create(&stage, named("Zoë’s Choir", &year)).await?;
        let answer = move_below(&stage, &below.group_id, "").await;
        assert_refused(answer, Code::AlreadyExists, "GROUP_TAKEN");
        let same = api::Group {
            external_id: "G-1".into(),
            ..named("Other", &year)
        };
        let told = refused(create(&stage, same).await);
        assert_eq!((told.code, told.reason.as_str()), (Code::AlreadyExists, "GROUP_TAKEN"));
        assert!(told.message.contains("G-1"), "{}", told.message);
        let same = api::Group {
            group_id: choir.group_id.clone(),
            ..named("Third", "")
        };
        assert_refused(create(&stage, same).await, Code::AlreadyExists, "GROUP_TAKEN");
        // Its own name, otherwise spelled, is free for a group.
        rename(&stage, &choir.group_id, "zoë’s choir", 0).await?;
        rename(&stage, &choir.group_id, "Orchestra", 0).await?;
        create(&stage, named("Zoë’s Choir", "")).await?;

        let at_top = api::ListGroupsRequest::default();
        assert_eq!(
            names(&stage, at_top).await?,
            ["Orchestra", "Year 7", "Zoë’s Choir", "Zoë’s Choir"]
        );
        let below = api::ListGroupsRequest {
            parent_group_id: year.clone(),
            ..api::ListGroupsRequest::default()
        };
        assert_eq!(names(&stage, below).await?, ["Zoë’s Choir"]);
        for (text, expected) in [("zoe", 2), ("CHOIR", 2), ("ear", 1), ("%", 0)] {
            let asked = api::ListGroupsRequest {
                text: text.into(),
                ..api::ListGroupsRequest::default()
            };
            assert_eq!(names(&stage, asked).await?.len(), expected, "{text}");
        }
        let long = "x".repeat(201);
        for name in ["", " ", "a\nb", "<b>x</b>", long.as_str()] {
            let told = refused(create(&stage, named(name, "")).await);
            assert_eq!(
                (told.code, told.fields.first().map(String::as_str)),
                (Code::InvalidArgument, Some("group.name")),
                "{name:?}"
            );
        }
        Ok(())
    })
}

/// U2
#[test]
fn people_are_added_and_taken_out_with_an_answer_for_each() -> Result<()> {
    together(async |stage| {
        let choir = stage.group("Choir", "").await?;
        let ana = stage.create("ana", InitialState::Pending).await?;
        let bo = stage.create("bo", InitialState::Pending).await?.user_id;
        let ana_id = ana.user_id.as_str();
        let mut groups = stage.clients.groups();
        let add = stage.joining(&choir, &[ana_id, NOBODY, &bo, ana_id]);
        let added = groups.add_group_members(add.clone()).await?.into_inner();
        let told: Vec<_> = added
            .results
            .iter()
            .map(|it| {
                (
                    it.user_id.as_str(),
                    it.changed,
                    it.refused.as_ref().map(|it| it.reason.as_str()),
                )
            })
            .collect();
        let expected = [
            (ana_id, true, None),
            (NOBODY, false, Some("USER_NOT_FOUND")),
            (bo.as_str(), true, None),
            (ana_id, false, None),
        ];
        assert_eq!(told, expected);
        assert_eq!(added.changed_count, 2);
        let again = groups.add_group_members(add).await?.into_inner();
        assert_eq!(again.changed_count, 0);
        assert_eq!(people(&stage, &choir).await?, ["ana", "bo"]);
        // Joining is no change of the account, nor of the group.
        assert_eq!(stage.user(ana_id).await?, ana);
        assert_eq!(get(&stage, &choir).await?.version, 1);
        let mine = api::ListGroupsRequest {
            user_id: bo.clone(),
            ..api::ListGroupsRequest::default()
        };
        assert_eq!(names(&stage, mine.clone()).await?, ["Choir"]);

        let remove = |users: Vec<String>| api::RemoveGroupMembersRequest {
            tenant_id: stage.tenant.clone(),
            group_id: choir.clone(),
            user_ids: users,
            options: None,
        };
        let both = vec![bo.clone(), NOBODY.to_owned()];
        let removed = groups.remove_group_members(remove(both)).await?.into_inner();
        assert_eq!((removed.results[0].changed, removed.changed_count), (true, 1));
        let reason = removed.results[1].refused.as_ref().map(|it| it.reason.as_str());
        assert_eq!(reason, Some("USER_NOT_FOUND"));
        let again = groups
            .remove_group_members(remove(vec![bo.clone()]))
            .await?
            .into_inner();
        assert_eq!((again.results[0].changed, again.changed_count), (false, 0));
        assert_eq!(people(&stage, &choir).await?, ["ana"]);
        assert!(names(&stage, mine).await?.is_empty());

        for users in [Vec::new(), vec![NOBODY; 1_001], vec!["no id"]] {
            let told = refused(groups.add_group_members(stage.joining(&choir, &users)).await);
            assert_eq!(told.code, Code::InvalidArgument);
            assert!(told.fields[0].starts_with("user_ids"), "{:?}", told.fields);
        }
        let answer = groups.add_group_members(stage.joining(NOBODY, &[ana_id])).await;
        assert_refused(answer, Code::NotFound, "GROUP_NOT_FOUND");
        Ok(())
    })
}

/// U2
#[test]
fn a_deleted_group_leaves_its_people_and_those_below_it_move_up() -> Result<()> {
    together(async |stage| {
        let school = stage.group("School", "").await?;
        let year = stage.group("Year 7", &school).await?;
        let class = stage.group("7a", &year).await?;
        let ana = stage.active("ana").await?.user_id;
        let bo = stage.active("bo").await?.user_id;
        stage.join(&year, &[&ana]).await?;
        stage.join(&class, &[&bo]).await?;
        stage.give(&ana, "coach", in_group(&year)).await?;
        stage.give(&ana, "learner", in_group(&class)).await?;

        let answer = delete(&stage, &year, 7).await;
        assert_refused(answer, Code::Aborted, "VERSION_MISMATCH");
        // Two of one name below one parent: that would happen, so nothing does.
        let other = stage.group("7A", &school).await?;
        assert_refused(delete(&stage, &year, 0).await, Code::AlreadyExists, "GROUP_TAKEN");
        assert_eq!(get(&stage, &class).await?.parent_group_id, year);
        delete(&stage, &other, 1).await?;

        delete(&stage, &year, 1).await?;
        assert_refused(get(&stage, &year).await, Code::NotFound, "GROUP_NOT_FOUND");
        assert_refused(delete(&stage, &year, 0).await, Code::NotFound, "GROUP_NOT_FOUND");
        let class = get(&stage, &class).await?;
        assert_eq!((class.parent_group_id.as_str(), class.version), (school.as_str(), 2));
        assert_eq!(stage.user(&ana).await?.status(), UserStatus::Active);
        assert_eq!(people(&stage, &school).await?, ["bo"]);
        let held = stage.held(&ana).await?;
        assert_eq!(held.len(), 1, "roles held in it are gone: {held:?}");
        assert_eq!(held[0].scope, Some(in_group(&class.group_id)));
        let mine = api::ListGroupsRequest {
            user_id: ana,
            ..api::ListGroupsRequest::default()
        };
        assert!(names(&stage, mine).await?.is_empty());
        Ok(())
    })
}

/// B2: the versions of groups and roles.
#[test]
fn a_group_that_was_changed_meanwhile_is_neither_changed_nor_deleted() -> Result<()> {
    together(async |stage| {
        let group = stage.group("7a", "").await?;
        rename(&stage, &group, "7b", 1).await?;
        for late in [1, 3, -1] {
            let answer = rename(&stage, &group, "7c", late).await;
            assert_refused(answer, Code::Aborted, "VERSION_MISMATCH");
            let answer = delete(&stage, &group, late).await;
            assert_refused(answer, Code::Aborted, "VERSION_MISMATCH");
        }
        let now = get(&stage, &group).await?;
        assert_eq!((now.name.as_str(), now.version), ("7b", 2));
        delete(&stage, &group, 2).await?;
        Ok(())
    })
}

/// U2, B5: ids, and no name of anybody or anything.
#[test]
fn what_becomes_of_groups_members_and_roles_is_told_as_events_with_ids_only() -> Result<()> {
    together(async |stage| {
        let ana = stage.active("ana-quite-unique").await?.user_id;
        let group = stage.group("Unmistakable", "").await?;
        let child = stage.group("Likewise", &group).await?;
        rename(&stage, &group, "Unmistakable too", 0).await?;
        stage.join(&group, &[&ana]).await?;
        let remove = api::RemoveGroupMembersRequest {
            tenant_id: stage.tenant.clone(),
            group_id: group.clone(),
            user_ids: vec![ana.clone()],
            options: Some(api::MutationOptions {
                reason: "left".into(),
                request_id: "hr:7".into(),
                ..api::MutationOptions::default()
            }),
        };
        stage
            .system
            .clients_as("hr")?
            .groups()
            .remove_group_members(remove)
            .await?;
        let role = stage.role("Unheard of", &["users.read"]).await?.role;
        let change = api::UpdateRoleRequest {
            tenant_id: stage.tenant.clone(),
            role: role.clone(),
            display_name: "Unheard of still".into(),
            update_mask: Some(FieldMask {
                paths: vec!["display_name".into()],
            }),
            ..api::UpdateRoleRequest::default()
        };
        stage.clients.roles().update_role(change).await?;
        stage.give(&ana, &role, in_group(&group)).await?;
        stage.give(&ana, "instructor", in_session("spring")).await?;
        stage.take(&ana, &role, in_group(&group)).await?;
        let gone = api::DeleteRoleRequest {
            tenant_id: stage.tenant.clone(),
            role: role.clone(),
            options: None,
        };
        stage.clients.roles().delete_role(gone).await?;
        delete(&stage, &group, 0).await?;

        let watch = api::WatchEventsRequest {
            tenant_id: stage.tenant.clone(),
            from_beginning: true,
            type_prefixes: vec!["group.".into(), "membership.".into(), "role.".into()],
            ..api::WatchEventsRequest::default()
        };
        let mut stream = stage.clients.events().watch_events(watch).await?.into_inner();
        let mut told: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut count = 0;
        while count < 13 {
            let answer = tokio::time::timeout(PATIENCE, stream.message())
                .await
                .with_context(|| format!("no more events after {told:#?}"))??
                .context("the stream ended")?;
            if let Some(event) = answer.event {
                let text = format!("{event:?}");
                for name in ["unique", "Unmistakable", "Likewise", "Unheard"] {
                    assert!(!text.contains(name), "{text}");
                }
                assert_eq!(event.tenant_id, stage.tenant);
                told.entry(answer.event_type).or_default().push(event);
                count += 1;
            }
        }
        let ids = |kind: &str| -> BTreeSet<_> {
            let events = told.get(kind).into_iter().flatten();
            events
                .map(|it| {
                    (
                        it.user_id.as_str(),
                        it.group_id.as_str(),
                        it.role.as_str(),
                        it.session_id.as_str(),
                    )
                })
                .collect()
        };
        let (ana, group, child, role) = (ana.as_str(), group.as_str(), child.as_str(), role.as_str());
        assert_eq!(ids("group.created"), [("", group, "", ""), ("", child, "", "")].into());
        // Renamed; and the other one moved up as its parent went.
        assert_eq!(ids("group.updated"), [("", group, "", ""), ("", child, "", "")].into());
        assert_eq!(ids("group.deleted"), [("", group, "", "")].into());
        assert_eq!(ids("membership.added"), [(ana, group, "", "")].into());
        assert_eq!(ids("membership.removed"), [(ana, group, "", "")].into());
        for kind in ["role.created", "role.updated", "role.deleted"] {
            assert_eq!(ids(kind), [("", "", role, "")].into(), "{kind}");
        }
        assert_eq!(
            ids("role.assigned"),
            [(ana, group, role, ""), (ana, "", "instructor", "spring")].into()
        );
        assert_eq!(ids("role.revoked"), [(ana, group, role, "")].into());
        let removed = &told["membership.removed"][0];
        assert_eq!(
            (
                removed.actor_id.as_str(),
                removed.reason.as_str(),
                removed.request_id.as_str()
            ),
            ("hr", "left", "hr:7")
        );
        Ok(())
    })
}
