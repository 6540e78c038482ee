//! Who does not sign in for long: warned, then deactivated, with approval where it would touch many (B10).

use std::time::Duration;

use anyhow::{Context as _, Result};
use prost_types::FieldMask;
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::{ActivityKind, InactivityRunState, InactivityStep, UserStatus};
use usher_tests::environment::eventually;

use crate::stage::{Alone, DAY, HOUR, PASSWORD, PATIENCE, alone, assert_refused, platform, refused};

fn policy(max_share_percent: i32) -> api::InactivityPolicy {
    api::InactivityPolicy {
        warn_after_days: 90,
        deactivate_after_days: 120,
        include_administrators: false,
        max_share_percent,
    }
}

/// The request that gives a tenant a policy, or takes it away.
pub(crate) fn setting(tenant: &str, policy: Option<api::InactivityPolicy>) -> api::UpdateTenantRequest {
    api::UpdateTenantRequest {
        tenant: Some(api::Tenant {
            tenant_id: tenant.into(),
            inactivity_policy: policy,
            ..api::Tenant::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["inactivity_policy".into()],
        }),
        options: None,
    }
}

impl Alone {
    async fn set_policy(&self, policy: Option<api::InactivityPolicy>) -> Result<api::Tenant, tonic::Status> {
        let request = setting(&self.tenant, policy);
        let answer = self.clients.tenants().update_tenant(request).await?;
        Ok(answer.into_inner().tenant.unwrap_or_default())
    }

    async fn waiting_for(
        &self,
        step: InactivityStep,
        in_days: u32,
        policy: Option<api::InactivityPolicy>,
    ) -> Result<(Vec<String>, i64), tonic::Status> {
        let mut request = api::PreviewInactivityRequest {
            tenant_id: self.tenant.clone(),
            step: step.into(),
            policy,
            until: Some(self.after(in_days * DAY)),
            page_size: 1,
            page_token: String::new(),
        };
        let (mut names, mut total) = (Vec::new(), 0);
        loop {
            let answer = self.clients.inactivity().preview_inactivity(request.clone()).await?;
            let answer = answer.into_inner();
            total += answer.total_count;
            let users = answer.users.into_iter().filter_map(|it| it.user);
            names.extend(users.map(|user| user.email.split('@').next().unwrap_or_default().to_owned()));
            if answer.next_page_token.is_empty() {
                return Ok((names, total));
            }
            request.page_token = answer.next_page_token;
        }
    }

    async fn runs(&self) -> Result<Vec<api::InactivityRun>> {
        let request = api::ListInactivityRunsRequest {
            tenant_id: self.tenant.clone(),
            ..api::ListInactivityRunsRequest::default()
        };
        let answer = self.clients.inactivity().list_inactivity_runs(request).await?;
        Ok(answer.into_inner().runs)
    }

    async fn has_run(&self, state: InactivityRunState) -> Result<api::InactivityRun> {
        eventually(&format!("a run is {}", state.as_str_name()), PATIENCE, async || {
            let runs = self.runs().await.ok()?;
            runs.into_iter().next().filter(|run| run.state() == state)
        })
        .await
    }

    async fn report_sign_in(&self, user: &str) -> Result<()> {
        let request = api::RecordActivityRequest {
            tenant_id: self.tenant.clone(),
            reports: vec![api::ActivityReport {
                user: Some(api::activity_report::User::UserId(user.into())),
                kind: ActivityKind::SignIn.into(),
                time: Some(self.after(Duration::ZERO)),
            }],
        };
        let answer = self.clients.activity().record_activity(request).await?.into_inner();
        anyhow::ensure!(answer.recorded_count == 1, "{answer:?}");
        Ok(())
    }

    async fn next_steps(&self, user: &str) -> Result<Vec<String>> {
        let request = api::ExplainUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
        };
        let answer = self.clients.users().explain_user(request).await?.into_inner();
        Ok(answer.next_steps.into_iter().map(|step| step.action).collect())
    }

    /// How often somebody was deactivated, and why.
    async fn ends(&self, user: &str) -> Result<Vec<String>> {
        let request = api::ExplainUserRequest {
            tenant_id: self.tenant.clone(),
            user_id: user.into(),
        };
        let answer = self.clients.users().explain_user(request).await?.into_inner();
        let ends = answer
            .history
            .into_iter()
            .filter(|it| it.event_type == "user.deactivated");
        Ok(ends.map(|it| it.reason).collect())
    }
}

/// B10, B6: who never signed in counts from the activation; one of three is warned, comes back, and stays; administrators are
/// exempt.
#[test]
fn the_inactive_are_warned_then_deactivated_once_unless_they_sign_in() -> Result<()> {
    alone(async |stage| {
        let ana = stage.active("ana").await?;
        let bo = stage.active("bo").await?;
        let root = stage.active("root").await?;
        stage.give(&root.user_id, "administrator", platform()).await?;
        for name in ["ana", "bo", "root"] {
            stage.mail(name, 1).await?;
        }
        // A preview of a policy that is not set.
        assert_refused(
            stage.waiting_for(InactivityStep::Warn, 91, None).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
        );
        let (mut who, total) = stage.waiting_for(InactivityStep::Warn, 91, Some(policy(100))).await?;
        who.sort();
        assert_eq!((who, total), (vec!["ana".to_owned(), "bo".into()], 2));
        assert!(
            stage
                .waiting_for(InactivityStep::Warn, 89, Some(policy(100)))
                .await?
                .0
                .is_empty()
        );
        let bad = api::InactivityPolicy {
            deactivate_after_days: 90,
            ..policy(100)
        };
        let told = refused(stage.set_policy(Some(bad)).await);
        assert_eq!(told.fields, ["tenant.inactivity_policy.deactivate_after_days"]);
        let tenant = stage.set_policy(Some(policy(100))).await?;
        assert_eq!(tenant.inactivity_policy, Some(policy(100)));
        assert_eq!(
            stage.next_steps(&ana.user_id).await?,
            ["warn_inactive", "deactivate_inactive"]
        );
        assert!(stage.next_steps(&root.user_id).await?.is_empty(), "exempt");

        stage.system.advance(89 * DAY).await?;
        stage.settled().await?;
        assert_eq!(stage.mails("ana").len(), 1);
        stage.system.advance(DAY + HOUR).await?;
        for name in ["ana", "bo"] {
            assert!(stage.mail(name, 2).await?.text.contains("deactivated"), "{name}");
        }
        stage.settled().await?;
        assert_eq!(stage.next_steps(&ana.user_id).await?, ["deactivate_inactive"]);
        stage.report_sign_in(&bo.user_id).await?;
        assert_eq!(
            stage.next_steps(&bo.user_id).await?,
            ["warn_inactive", "deactivate_inactive"]
        );

        stage.system.advance(29 * DAY).await?;
        assert_eq!(stage.user(&ana.user_id).await?.status(), UserStatus::Active);
        let (who, _) = stage.waiting_for(InactivityStep::Deactivate, 3, None).await?;
        assert_eq!(who, ["ana"]);
        stage.system.advance(DAY + HOUR).await?;
        stage.becomes(&ana.user_id, UserStatus::Deactivated).await?;
        let run = stage.has_run(InactivityRunState::Done).await?;
        assert_eq!((run.due_count, run.active_count, run.deactivated_count), (1, 3, 1));
        assert_eq!(stage.user(&bo.user_id).await?.status(), UserStatus::Active);
        stage.system.advance(2 * DAY).await?;
        stage.settled().await?;
        assert_eq!(stage.ends(&ana.user_id).await?, ["inactivity"], "once");
        assert_eq!(stage.runs().await?.len(), 1);
        for (name, mails) in [("ana", 2), ("bo", 2), ("root", 1)] {
            assert_eq!(stage.mails(name).len(), mails, "{name}");
        }
        assert_eq!(stage.user(&root.user_id).await?.status(), UserStatus::Active);
        Ok(())
    })
}

/// B10: above the stated share nothing is done before somebody decides; who signs in meanwhile is spared.
#[test]
fn what_would_touch_too_many_is_parked_until_it_is_approved_and_rechecked() -> Result<()> {
    alone(async |stage| {
        let mut people = Vec::new();
        for name in ["ana", "bo", "cy", "dee"] {
            people.push(stage.active(name).await?);
            stage.mail(name, 1).await?;
        }
        stage.set_policy(Some(policy(0))).await?;
        stage.system.advance(90 * DAY + HOUR).await?;
        for name in ["ana", "bo", "cy", "dee"] {
            stage.mail(name, 2).await?;
        }
        stage.settled().await?;
        stage.sign_in("dee", PASSWORD).await?;
        stage.system.advance(30 * DAY + HOUR).await?;
        let parked = stage.has_run(InactivityRunState::Parked).await?;
        assert_eq!((parked.due_count, parked.active_count), (3, 4));
        stage.system.advance(3 * HOUR).await?;
        stage.settled().await?;
        assert_eq!(stage.runs().await?.len(), 1, "nothing else is begun meanwhile");
        for user in &people {
            assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Active);
        }

        // Right before the deed.
        stage.sign_in("bo", PASSWORD).await?;
        eventually("the sign-in is seen", PATIENCE, async || {
            let bo = stage.user(&people[1].user_id).await.ok()?;
            bo.last_login_time.map(drop)
        })
        .await?;
        let mut request = api::ApproveInactivityRunRequest {
            tenant_id: stage.tenant.clone(),
            run_id: parked.run_id.clone(),
            options: Some(api::MutationOptions {
                validate_only: true,
                ..api::MutationOptions::default()
            }),
        };
        let approve = async |request: &api::ApproveInactivityRunRequest| {
            let answer = stage.clients.inactivity().approve_inactivity_run(request.clone()).await;
            answer.map(|answer| answer.into_inner().run.unwrap_or_default())
        };
        assert_eq!(approve(&request).await?.state(), InactivityRunState::Running);
        assert_eq!(stage.runs().await?[0].state(), InactivityRunState::Parked, "only asked");
        request.options = Some(api::MutationOptions {
            request_id: "approve-1".into(),
            ..api::MutationOptions::default()
        });
        let approved = approve(&request).await?;
        assert_eq!(approve(&request).await?, approved, "repeated");
        request.options = None;
        assert_refused(
            approve(&request).await,
            Code::FailedPrecondition,
            "INACTIVITY_RUN_NOT_PARKED",
        );
        let done = stage.has_run(InactivityRunState::Done).await?;
        assert_eq!(done.deactivated_count, 2);
        let statuses = [
            UserStatus::Deactivated,
            UserStatus::Active,
            UserStatus::Deactivated,
            UserStatus::Active,
        ];
        for (user, status) in people.iter().zip(statuses) {
            assert_eq!(stage.user(&user.user_id).await?.status(), status, "{}", user.email);
        }
        Ok(())
    })
}

/// B10: whom a dismissed run was about is left alone for the time between warning and deactivation.
#[test]
fn a_dismissed_run_spares_its_people_for_a_while() -> Result<()> {
    alone(async |stage| {
        let ana = stage.active("ana").await?;
        stage.mail("ana", 1).await?;
        stage.set_policy(Some(policy(0))).await?;
        stage.system.advance(90 * DAY + HOUR).await?;
        stage.mail("ana", 2).await?;
        stage.settled().await?;
        stage.system.advance(30 * DAY + HOUR).await?;
        let parked = stage.has_run(InactivityRunState::Parked).await?;
        let request = api::DismissInactivityRunRequest {
            tenant_id: stage.tenant.clone(),
            run_id: parked.run_id,
            options: None,
        };
        let answer = stage.clients.inactivity().dismiss_inactivity_run(request).await?;
        let run = answer.into_inner().run.context("no run")?;
        assert_eq!(run.state(), InactivityRunState::Dismissed);
        stage.system.advance(29 * DAY).await?;
        stage.settled().await?;
        assert_eq!(stage.runs().await?.len(), 1);
        assert_eq!(stage.user(&ana.user_id).await?.status(), UserStatus::Active);
        stage.system.advance(2 * DAY).await?;
        stage.has_run(InactivityRunState::Parked).await?;
        stage.set_policy(None).await?;
        let ended = stage.has_run(InactivityRunState::Dismissed).await?;
        assert_eq!(ended.decided_by, "usher", "the policy was switched off");
        Ok(())
    })
}
