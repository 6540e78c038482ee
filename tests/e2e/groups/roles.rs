//! Roles and who holds them (U1, U2).

use super::*;

/// U1, U2
#[test]
fn a_role_is_made_of_chosen_permissions_and_kept_while_somebody_holds_it() -> Result<()> {
    together(async |stage| {
        let mut roles = stage.clients.roles();
        let helper = stage
            .role("Hélper", &["users.read", "groups.read", "users.read"])
            .await?;
        let permissions = |role: &api::Role| -> Vec<String> {
            let mut names: Vec<_> = role.permissions.iter().map(|it| it.name.clone()).collect();
            names.sort();
            names
        };
        assert_eq!(permissions(&helper), ["groups.read", "users.read"]);
        assert_eq!((helper.version, helper.built_in), (1, false));
        let make = |name: &str, permissions: &[&str]| api::CreateRoleRequest {
            tenant_id: stage.tenant.clone(),
            display_name: name.into(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            options: None,
        };
        for taken in ["Hélper", "HÉLPER", "Administrator", "coach"] {
            let answer = roles.create_role(make(taken, &["users.read"])).await;
            assert_refused(answer, Code::AlreadyExists, "ROLE_TAKEN");
        }
        for (name, permissions, field) in [
            ("x", &[][..], "permissions"),
            ("x", &["users.fly"][..], "permissions[0]"),
            ("", &["users.read"][..], "display_name"),
        ] {
            let told = refused(roles.create_role(make(name, permissions)).await);
            assert_eq!(
                (told.code, told.fields),
                (Code::InvalidArgument, vec![field.to_owned()])
            );
        }

        let change = |expected_version, permissions: &[&str]| api::UpdateRoleRequest {
            tenant_id: stage.tenant.clone(),
            role: helper.role.clone(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            update_mask: Some(FieldMask {
                paths: vec!["permissions".into()],
            }),
            expected_version,
            ..api::UpdateRoleRequest::default()
        };
        let changed = roles.update_role(change(1, &["users.read"])).await?.into_inner().role;
        let changed = changed.context("a role")?;
        assert_eq!(
            (permissions(&changed), changed.version),
            (vec!["users.read".to_owned()], 2)
        );
        let late = roles.update_role(change(1, &["users.update"])).await;
        assert_refused(late, Code::Aborted, "VERSION_MISMATCH");
        let same = roles.update_role(change(2, &["users.read"])).await?.into_inner().role;
        assert_eq!(same, Some(changed.clone()));
        let built_in = api::UpdateRoleRequest {
            role: "coach".into(),
            ..change(0, &["users.read"])
        };
        assert_eq!(refused(roles.update_role(built_in).await).code, Code::InvalidArgument);

        let list = api::ListRolesRequest {
            tenant_id: stage.tenant.clone(),
        };
        let listed = roles.list_roles(list.clone()).await?.into_inner();
        let names: Vec<_> = listed.roles.iter().map(|it| it.role.as_str()).collect();
        let built_in = ["administrator", "author", "coach", "instructor", "learner"];
        assert_eq!(names[..5], built_in);
        assert_eq!(listed.roles[5..], [changed]);
        assert!(listed.roles[..5].iter().all(|it| it.built_in && it.version == 0));
        let all: Vec<_> = listed.permissions.iter().map(|it| it.name.as_str()).collect();
        assert!(all.contains(&"users.read") && all.contains(&"seats.read"), "{all:?}");
        let coach = permissions(&listed.roles[2]);
        assert!(coach.contains(&"users.read".to_owned()) && !coach.contains(&"users.update".to_owned()));

        let ana = stage.active("ana").await?.user_id;
        stage.give(&ana, &helper.role, platform()).await?;
        let delete = api::DeleteRoleRequest {
            tenant_id: stage.tenant.clone(),
            role: helper.role.clone(),
            options: None,
        };
        let answer = roles.delete_role(delete.clone()).await;
        assert_refused(answer, Code::FailedPrecondition, "ROLE_IN_USE");
        stage.take(&ana, &helper.role, platform()).await?;
        roles.delete_role(delete.clone()).await?;
        assert_refused(roles.delete_role(delete).await, Code::NotFound, "ROLE_NOT_FOUND");
        assert_eq!(roles.list_roles(list).await?.into_inner().roles.len(), 5);
        let answer = roles.assign_roles(stage.giving(&ana, &helper.role, platform())).await;
        assert_refused(answer, Code::NotFound, "ROLE_NOT_FOUND");
        let answer = roles.assign_roles(stage.giving(&ana, "coach", in_group(NOBODY))).await;
        assert_refused(answer, Code::NotFound, "GROUP_NOT_FOUND");
        Ok(())
    })
}

/// U2
#[test]
fn who_holds_what_and_where_is_listed_by_user_scope_and_role() -> Result<()> {
    together(async |stage| {
        let class = stage.group("7a", "").await?;
        let ana = stage.active("ana").await?.user_id;
        let bo = stage.active("bo").await?.user_id;
        let mut roles = stage.clients.roles();
        let several = |user: &str, list: &[(&str, api::Scope)]| api::AssignRolesRequest {
            tenant_id: stage.tenant.clone(),
            user_id: user.into(),
            roles: list
                .iter()
                .map(|(role, scope)| api::RoleInScope {
                    role: (*role).into(),
                    scope: Some(scope.clone()),
                })
                .collect(),
            options: None,
        };
        let spaced = "spring term 2027";
        let three = [
            ("coach", platform()),
            ("coach", in_group(&class)),
            ("instructor", in_session(spaced)),
        ];
        let given = roles.assign_roles(several(&ana, &three)).await?.into_inner();
        assert_eq!((given.assignments.len(), given.changed_count), (3, 3));
        let given = roles.assign_roles(several(&ana, &three[1..])).await?.into_inner();
        assert_eq!((given.assignments.len(), given.changed_count), (3, 0));
        stage.give(&bo, "learner", in_group(&class)).await?;
        let list = async |user: &str, scope: Option<api::Scope>, role: &str, page_size| -> Result<BTreeSet<_>> {
            let mut found = BTreeSet::new();
            let mut page_token = String::new();
            loop {
                let request = api::ListRoleAssignmentsRequest {
                    tenant_id: stage.tenant.clone(),
                    user_id: user.into(),
                    scope: scope.clone(),
                    role: role.into(),
                    page_size,
                    page_token,
                };
                let page = stage.clients.roles().list_role_assignments(request).await?.into_inner();
                for it in page.assignments {
                    let scope = it.scope.unwrap_or_default();
                    assert!(
                        found.insert((it.user_id, it.role, scope.kind, scope.id)),
                        "listed twice"
                    );
                }
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return Ok(found);
                }
            }
        };
        let all = list("", None, "", 0).await?;
        assert_eq!(all.len(), 4);
        for size in [1, 2, 3] {
            assert_eq!(list("", None, "", size).await?, all, "pages of {size}");
        }
        assert_eq!(list(&ana, None, "", 0).await?.len(), 3);
        assert_eq!(list("", Some(in_group(&class)), "", 0).await?.len(), 2);
        assert_eq!(list("", Some(in_session(spaced)), "", 0).await?.len(), 1);
        assert_eq!(list("", None, "coach", 0).await?.len(), 2);
        assert_eq!(list("", Some(platform()), "coach", 0).await?.len(), 1);
        assert!(list("", None, "author", 0).await?.is_empty());
        Ok(())
    })
}
