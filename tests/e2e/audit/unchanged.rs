//! What changed nothing and yet leaves entries: changes that only answered somebody's data, and items that were refused among others.

use futures::stream;
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::import_users_request::Part;

use super::*;

/// B14
#[test]
fn b14_changes_that_change_nothing_are_reads_and_refused_items_are_refusals() -> Result<()> {
    apart(async {
        for sqlite in [false, true] {
            let office = Office::open(sqlite).await?;
            reads_of_other_names(&office).await?;
            items_of_jobs(&office).await?;
            addresses(&office).await?;
        }
        Ok(())
    })
}

impl Office {
    async fn of_method(&self, method: &str) -> Result<Vec<api::AuditEntry>> {
        let filter = api::AuditFilter {
            method: method.into(),
            ..api::AuditFilter::default()
        };
        self.entries(filter).await
    }

    /// Waits for the refusals of a method, each with whom it is about.
    async fn refusals(&self, method: &str, count: usize) -> Result<Vec<(String, String)>> {
        eventually(&format!("{count} refusals of {method}"), PATIENCE, async || {
            let entries = self.of_method(method).await.ok()?;
            let refused = entries.into_iter().filter(|entry| entry.outcome != "OK");
            let told: Vec<_> = refused.map(|entry| (entry.outcome, entry.user_id)).collect();
            (told.len() == count).then_some(told)
        })
        .await
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the requests have it")]
fn trial() -> Option<api::MutationOptions> {
    Some(api::MutationOptions {
        validate_only: true,
        ..api::MutationOptions::default()
    })
}

/// `users.change_status` is no way to read accounts without a trace.
async fn reads_of_other_names(office: &Office) -> Result<()> {
    let active = api::ReactivateUserRequest {
        tenant_id: office.tenant.clone(),
        user_id: office.ana.clone(),
        ..api::ReactivateUserRequest::default()
    };
    // A service in its own name is no person who reads.
    let by_service = office.system.clients()?.users().reactivate_user(active.clone()).await?;
    ensure!(by_service.into_inner().user.context("a user")?.email == "ana@example.org");
    let mut users = office.admin()?.users();
    users.reactivate_user(active).await?;
    let leaving = api::DeactivateUserRequest {
        options: trial(),
        ..office.leaving(&office.ana)
    };
    users.deactivate_user(leaving).await?;
    let inviting = api::InviteUsersRequest {
        tenant_id: office.tenant.clone(),
        addresses: "pending@example.org".into(),
        ..api::InviteUsersRequest::default()
    };
    let mut invitations = office.admin()?.invitations();
    let invited = invitations.invite_users(inviting.clone()).await?.into_inner();
    let Some(api::invite_result::Outcome::Invited(invited)) = &invited.results[0].outcome else {
        anyhow::bail!("{invited:?}");
    };
    let pending = invited.user.clone().context("a user")?.user_id;
    let inviting = api::InviteUsersRequest {
        options: trial(),
        ..inviting
    };
    invitations.invite_users(inviting).await?;
    for (method, user, entries) in [
        ("UserService/ReactivateUser", &office.ana, 1),
        ("UserService/DeactivateUser", &office.ana, 1),
        ("InvitationService/InviteUsers", &pending, 2),
    ] {
        let found = eventually(method, PATIENCE, async || {
            let found = office.of_method(method).await.ok()?;
            (found.len() == entries).then_some(found)
        })
        .await?;
        assert_eq!(
            (&found[0].actor_id, &found[0].user_id, found[0].outcome.as_str()),
            (&office.admin, user, "OK")
        );
        assert_eq!(fields(&found[0]), [("count".into(), change("", "1"))].into());
    }
    Ok(())
}

/// Nobody changes their own status: not by a job, and not by a file.
async fn items_of_jobs(office: &Office) -> Result<()> {
    let request = api::PreviewSelectionRequest {
        tenant_id: office.tenant.clone(),
        selection: Some(api::Selection {
            by: Some(api::selection::By::UserIds(api::UserIds {
                user_ids: vec![office.ana.clone(), office.admin.clone()],
            })),
        }),
    };
    let preview = office.admin()?.bulk().preview_selection(request).await?.into_inner();
    let request = api::StartBulkRequest {
        tenant_id: office.tenant.clone(),
        digest: preview.digest,
        action: Some(api::BulkAction {
            action: Some(Action::Deactivate(api::BulkDeactivate {})),
        }),
        options: Some(api::MutationOptions {
            reason: "end of year".into(),
            ..api::MutationOptions::default()
        }),
    };
    let started = office.admin()?.bulk().start_bulk(request).await?.into_inner();
    let own = ("OWN_STATUS".to_owned(), office.admin.clone());
    assert_eq!(office.refusals("Job/deactivate", 1).await?, std::slice::from_ref(&own));
    let entries = office.of_method("Job/deactivate").await?;
    let refused = entries
        .iter()
        .find(|entry| entry.outcome != "OK")
        .context("a refusal")?;
    assert_eq!(
        (
            refused.actor_id.as_str(),
            refused.permission.as_str(),
            refused.reason.as_str(),
            refused.job_id.as_str()
        ),
        (
            office.admin.as_str(),
            "users.change_status",
            "end of year",
            started.job.context("a job")?.job_id.as_str()
        )
    );
    ensure!(
        entries
            .iter()
            .any(|entry| entry.outcome == "OK" && entry.user_id == office.ana)
    );

    let settings = api::ImportSettings {
        tenant_id: office.tenant.clone(),
        mode: api::ImportMode::Deactivate.into(),
        max_deactivated_percent: 100,
        ..api::ImportSettings::default()
    };
    let file = b"email\nadmin@example.org\n".to_vec();
    let parts = [Part::Settings(settings), Part::Data(file)];
    let parts = parts.map(|part| api::ImportUsersRequest { part: Some(part) });
    office.admin()?.transfer().import_users(stream::iter(parts)).await?;
    assert_eq!(office.refusals("Job/import", 1).await?, [own]);
    Ok(())
}

/// Whoever is there already is not drawn into a group by somebody who has no say about them (L6); nor is it tried unnoticed.
async fn addresses(office: &Office) -> Result<()> {
    let group = api::CreateGroupRequest {
        group: Some(api::Group {
            tenant_id: office.tenant.clone(),
            name: "Choir".into(),
            ..api::Group::default()
        }),
        ..api::CreateGroupRequest::default()
    };
    let created = office
        .system
        .clients()?
        .groups()
        .create_group(group)
        .await?
        .into_inner();
    let group = created.group.context("a group")?.group_id;
    let request = api::CreateUserRequest {
        tenant_id: office.tenant.clone(),
        user: Some(api::User {
            email: "hal@example.org".into(),
            ..api::User::default()
        }),
        initial_state: api::InitialState::ActiveWithPassword.into(),
        password: PASSWORD.into(),
        roles: vec!["administrator".into()],
        group_ids: vec![group.clone()],
        ..api::CreateUserRequest::default()
    };
    let created = office
        .system
        .clients()?
        .users()
        .create_user(request)
        .await?
        .into_inner();
    let hal = created.user.context("a user")?.user_id;
    let mut invitations = office.system.clients_as(&hal)?.invitations();
    let denied = ("PERMISSION_DENIED".to_owned(), office.admin.clone());
    for (options, refusals) in [(trial(), 1), (None, 2)] {
        let inviting = api::InviteUsersRequest {
            tenant_id: office.tenant.clone(),
            addresses: "admin@example.org; new@example.org".into(),
            group_ids: vec![group.clone()],
            options,
            ..api::InviteUsersRequest::default()
        };
        let answer = invitations.invite_users(inviting).await?.into_inner();
        ensure!((answer.invited_count, answer.refused_count) == (1, 1), "{answer:?}");
        let told = office.refusals("InvitationService/InviteUsers", refusals).await?;
        assert_eq!(told, vec![denied.clone(); refusals]);
    }
    let joining = api::AddGroupMembersRequest {
        tenant_id: office.tenant.clone(),
        group_id: group,
        user_ids: vec![office.admin.clone()],
        ..api::AddGroupMembersRequest::default()
    };
    let answer = office
        .system
        .clients_as(&hal)?
        .groups()
        .add_group_members(joining)
        .await?;
    ensure!(answer.into_inner().results[0].refused.is_some());
    assert_eq!(office.refusals("GroupService/AddGroupMembers", 1).await?, [denied]);
    office.sealed().await?;
    let (holds, text) = office.verify(&[]).await?;
    ensure!(holds, "{text}");
    Ok(())
}
