//! Lists of users by group, role, sign-in and invitation (U3, L15).

use super::*;

/// U3, U2: a group stands for those below it too.
#[test]
fn users_are_found_by_group_and_by_role() -> Result<()> {
    together(async |stage| {
        let school = stage.group("School", "").await?;
        let year = stage.group("Year 7", &school).await?;
        let club = stage.group("Club", "").await?;
        let mut ids = Vec::new();
        for name in ["ana", "bo", "cy", "dee"] {
            ids.push(stage.active(name).await?.user_id);
        }
        let [ana, bo, cy, dee] = <[String; 4]>::try_from(ids).ok().context("four")?;
        stage.join(&school, &[&ana]).await?;
        stage.join(&year, &[&bo, &cy]).await?;
        stage.join(&club, &[&cy]).await?;
        stage.deactivate(&bo).await?;
        let own = stage.role("Helper", &["users.read"]).await?.role;
        stage.give(&ana, "coach", platform()).await?;
        stage.give(&cy, "coach", in_group(&year)).await?;
        stage.give(&dee, "coach", in_session("spring")).await?;
        stage.give(&dee, &own, in_group(&club)).await?;
        let groups = |ids: &[&str]| api::UserFilter {
            group_ids: ids.iter().map(ToString::to_string).collect(),
            ..api::UserFilter::default()
        };
        let roles = |names: &[&str]| api::UserFilter {
            roles: names.iter().map(ToString::to_string).collect(),
            ..api::UserFilter::default()
        };
        let cases: [(api::UserFilter, &[&str]); 9] = [
            (groups(&[&school]), &["ana", "bo", "cy"]),
            (groups(&[&year]), &["bo", "cy"]),
            (groups(&[&club]), &["cy"]),
            (groups(&[&club, &year, &school]), &["ana", "bo", "cy"]),
            (
                api::UserFilter {
                    statuses: vec![UserStatus::Active.into()],
                    ..groups(&[&year])
                },
                &["cy"],
            ),
            (roles(&["coach"]), &["ana", "cy", "dee"]),
            (roles(&["coach", &own]), &["ana", "cy", "dee"]),
            (roles(&[&own]), &["dee"]),
            (
                api::UserFilter {
                    roles: vec!["coach".into()],
                    ..groups(&[&school])
                },
                &["ana", "cy"],
            ),
        ];
        for (filter, expected) in cases {
            let found = stage.found(&stage.clients, filter.clone(), "email").await?;
            assert_eq!(found, expected, "{filter:?}");
        }
        assert!(stage.found(&stage.clients, roles(&["author"]), "").await?.is_empty());
        let answer = stage.found(&stage.clients, groups(&[NOBODY]), "").await;
        assert_refused(answer, Code::NotFound, "GROUP_NOT_FOUND");
        let told = refused(stage.found(&stage.clients, roles(&["janitor"]), "").await);
        assert_eq!(
            (told.code, told.fields),
            (Code::InvalidArgument, vec!["filter.roles[0]".to_owned()])
        );
        Ok(())
    })
}

/// U3, U4
#[test]
fn users_are_found_and_ordered_by_their_last_sign_in() -> Result<()> {
    alone(async |stage| {
        for name in ["ana", "bo", "cy", "dee"] {
            stage.active(name).await?;
        }
        // The sign-in is written down beside the answer.
        let signs_in = async |name: &str, before: usize| -> Result<()> {
            stage.sign_in(name, PASSWORD).await?;
            let never = api::UserFilter {
                activity: api::Activity::NeverLoggedIn.into(),
                ..api::UserFilter::default()
            };
            eventually("the sign-in is seen", PATIENCE, async || {
                let never = stage.found(&stage.clients, never.clone(), "email").await.ok()?;
                (never.len() == before - 1).then_some(())
            })
            .await
        };
        assert!(stage.sign_in("dee", "not the password").await.is_err());
        signs_in("bo", 4).await?;
        stage.system.advance(2 * DAY).await?;
        let between = stage.after(std::time::Duration::ZERO);
        stage.system.advance(HOUR).await?;
        signs_in("ana", 3).await?;

        let filter = |activity: api::Activity, before| api::UserFilter {
            activity: activity.into(),
            last_login_before: before,
            ..api::UserFilter::default()
        };
        let found = async |filter, order: &str| stage.found(&stage.clients, filter, order).await;
        let never = filter(api::Activity::NeverLoggedIn, None);
        assert_eq!(
            found(never, "email").await?,
            ["cy", "dee"],
            "a wrong password is no sign-in"
        );
        let inactive = filter(api::Activity::Inactive, Some(between));
        assert_eq!(found(inactive.clone(), "email").await?, ["bo"]);
        let everybody = api::UserFilter::default;
        let ascending = found(everybody(), "last_login_time").await?;
        assert_eq!(ascending[2..], ["bo", "ana"]);
        assert_eq!(
            ascending[..2].iter().collect::<BTreeSet<_>>(),
            ["cy".to_owned(), "dee".to_owned()].iter().collect()
        );
        let descending = found(everybody(), "last_login_time desc").await?;
        assert_eq!(descending, ascending.iter().rev().cloned().collect::<Vec<_>>());
        signs_in("cy", 2).await?;
        stage.sign_in("bo", PASSWORD).await?;
        eventually("bo is active again", PATIENCE, async || {
            let inactive = found(inactive.clone(), "email").await.ok()?;
            inactive.is_empty().then_some(())
        })
        .await?;
        for (filter, field) in [
            (filter(api::Activity::Inactive, None), "filter.last_login_before"),
            (
                filter(api::Activity::NeverLoggedIn, Some(between)),
                "filter.last_login_before",
            ),
        ] {
            let told = refused(found(filter, "").await);
            assert_eq!(
                (told.code, told.fields),
                (Code::InvalidArgument, vec![field.to_owned()])
            );
        }
        Ok(())
    })
}

/// L15: the filter; a resend makes an invitation young again.
#[test]
fn invitations_that_were_sent_too_long_ago_are_found() -> Result<()> {
    alone(async |stage| {
        let (_, old) = stage.invited("old").await?;
        stage.invited("accepts").await?;
        stage.accept(&stage.link("accepts", 1).await?).await?;
        stage.create("pending", InitialState::Pending).await?;
        stage.system.advance(DAY).await?;
        let limit = stage.after(std::time::Duration::ZERO);
        stage.system.advance(HOUR).await?;
        let (young, _) = stage.invited("young").await?;
        let filter = |before| api::UserFilter {
            invited_before: Some(before),
            ..api::UserFilter::default()
        };
        let found = async |before| stage.found(&stage.clients, filter(before), "email").await;
        assert_eq!(found(limit).await?, ["old"]);
        assert_eq!(found(stage.after(DAY)).await?, ["old", "young"]);

        let resend = api::ResendInvitationRequest {
            tenant_id: stage.tenant.clone(),
            invitation_id: old.invitation_id,
            ..api::ResendInvitationRequest::default()
        };
        stage.clients.invitations().resend_invitation(resend).await?;
        stage.mail("old", 2).await?;
        stage.settled().await?;
        assert!(found(limit).await?.is_empty());
        assert_eq!(found(stage.after(DAY)).await?, ["old", "young"]);
        stage.deactivate(&young.user_id).await?;
        stage.system.advance(31 * DAY).await?;
        assert!(found(stage.after(DAY)).await?.is_empty(), "their links have lapsed");
        Ok(())
    })
}
