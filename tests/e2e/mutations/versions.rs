//! Old versions, and plans that would be refused (B2, B3).

use super::*;

/// B2
#[test]
fn a_change_that_expects_another_version_is_refused() -> Result<()> {
    together(async |stage| {
        let user = stage.active("ana").await?;
        let (tenant_id, user_id, wrong) = (stage.tenant.clone(), user.user_id.clone(), user.version + 1);
        let mut users = stage.clients.users();
        let renamed = |name: &str, expected_version| api::UpdateUserRequest {
            user: Some(api::User {
                first_name: name.into(),
                ..user.clone()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["first_name".into()],
            }),
            expected_version,
            options: None,
        };
        let deactivation = |expected_version| api::DeactivateUserRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            expected_version,
            options: None,
        };
        let reactivation = |expected_version| api::ReactivateUserRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            expected_version,
            options: None,
        };
        let expiration = |expected_version| api::SetUserExpirationRequest {
            tenant_id: tenant_id.clone(),
            user_id: user_id.clone(),
            expire_time: Some(stage.after(DAY)),
            expected_version,
            options: None,
        };
        let mismatch = "VERSION_MISMATCH";
        assert_refused(users.update_user(renamed("Zoë", wrong)).await, Code::Aborted, mismatch);
        assert_refused(
            users.deactivate_user(deactivation(wrong)).await,
            Code::Aborted,
            mismatch,
        );
        assert_refused(
            users.reactivate_user(reactivation(wrong)).await,
            Code::Aborted,
            mismatch,
        );
        assert_refused(
            users.set_user_expiration(expiration(wrong)).await,
            Code::Aborted,
            mismatch,
        );
        assert_eq!(stage.user(&user_id).await?, user);

        // Of many who read the same version, one writes.
        let writers = (0..20).map(|index| {
            let mut users = stage.clients.users();
            let request = renamed(&format!("Ana {index}"), user.version);
            async move { users.update_user(request).await }
        });
        let (good, lost): (Vec<_>, Vec<_>) = join_all(writers).await.into_iter().partition(Result::is_ok);
        assert_eq!((good.len(), lost.len()), (1, 19));
        for answer in lost {
            assert_refused(answer, Code::Aborted, mismatch);
        }
        let mut version = stage.user(&user_id).await?.version;
        assert_eq!(version, user.version + 1);
        users.set_user_expiration(expiration(version)).await?;
        version += 1;
        users.deactivate_user(deactivation(version)).await?;
        version += 1;
        let back = users
            .reactivate_user(reactivation(version))
            .await?
            .into_inner()
            .user
            .context("a user")?;
        assert_eq!((back.version, back.status()), (version + 1, UserStatus::Active));
        Ok(())
    })
}

/// B3
#[test]
fn a_plan_answers_what_the_deed_would_answer_refusals_included() -> Result<()> {
    together(async |stage| {
        let plan = Some(MutationOptions {
            validate_only: true,
            ..MutationOptions::default()
        });
        let active = stage.active("ana").await?;
        let request = api::InviteUsersRequest {
            options: plan.clone(),
            ..stage.inviting(format!("{} {} no-address", stage.address("ana"), stage.address("bo")))
        };
        let planned = stage
            .clients
            .invitations()
            .invite_users(request.clone())
            .await?
            .into_inner();
        assert_eq!((planned.invited_count, planned.refused_count), (1, 2));
        let deed = api::InviteUsersRequest {
            options: None,
            ..request
        };
        let done = stage.clients.invitations().invite_users(deed).await?.into_inner();
        let told = |answer: &api::InviteUsersResponse| -> Vec<(String, Option<String>)> {
            let reason = |result: &api::InviteResult| match &result.outcome {
                Some(api::invite_result::Outcome::Refused(refusal)) => Some(refusal.reason.clone()),
                _ => None,
            };
            answer
                .results
                .iter()
                .map(|result| (result.address.clone(), reason(result)))
                .collect()
        };
        assert_eq!(told(&planned), told(&done));

        let deactivation = api::DeactivateUserRequest {
            tenant_id: stage.tenant.clone(),
            user_id: active.user_id.clone(),
            expected_version: 0,
            options: plan,
        };
        let planned = stage
            .clients
            .users()
            .deactivate_user(deactivation.clone())
            .await?
            .into_inner()
            .user;
        assert_eq!(planned.context("a user")?.status(), UserStatus::Deactivated);
        assert_eq!(stage.user(&active.user_id).await?, active);
        assert!(stage.access(&active.user_id).await?.allowed);
        let own = stage.system.clients_as(&active.user_id)?;
        assert_refused(
            own.users().deactivate_user(deactivation).await,
            Code::FailedPrecondition,
            "OWN_STATUS",
        );
        Ok(())
    })
}
