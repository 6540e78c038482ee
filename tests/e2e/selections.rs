//! What was previewed and what runs, where people change in between; and who is shown to whom (U2, U6).

use anyhow::Result;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::{Activity, JobOutcome, UserStatus};

use crate::bulk::{labelled, pupils, selected};
use crate::stage::{in_group, platform, together};

/// U6: whoever no longer matches the filter that was previewed is skipped, with the reason.
#[test]
fn whoever_no_longer_matches_is_skipped() -> Result<()> {
    together(async |stage| {
        let users = pupils(&stage, 3, "Leavers").await?;
        let by_label = stage.preview(labelled("Leavers")).await?;
        let never_came = stage
            .preview(selected(api::UserFilter {
                activity: Activity::NeverLoggedIn.into(),
                ..api::UserFilter::default()
            }))
            .await?;
        assert_eq!((by_label.user_count, never_came.user_count), (3, 3));

        let stays = api::UpdateUserRequest {
            user: Some(api::User {
                tenant_id: stage.tenant.clone(),
                user_id: users[0].user_id.clone(),
                ..api::User::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["labels".into()],
            }),
            ..api::UpdateUserRequest::default()
        };
        stage.clients.users().update_user(stays).await?;
        let came = api::RecordActivityRequest {
            tenant_id: stage.tenant.clone(),
            reports: vec![api::ActivityReport {
                user: Some(api::activity_report::User::UserId(users[1].user_id.clone())),
                kind: api::ActivityKind::SignIn.into(),
                time: Some(stage.after(std::time::Duration::ZERO)),
            }],
        };
        stage.clients.activity().record_activity(came).await?;

        let deactivate = || Action::Deactivate(api::BulkDeactivate {});
        let job = stage.ended(&stage.start(&by_label.digest, deactivate()).await?).await?;
        assert_eq!((job.changed_count, job.skipped_count), (2, 1));
        let skipped = stage.items(&job, &[JobOutcome::Skipped]).await?;
        assert_eq!(
            (skipped[0].user_id.as_str(), skipped[0].reason.as_str()),
            (users[0].user_id.as_str(), "NO_LONGER_MATCHES")
        );
        assert_eq!(stage.user(&users[0].user_id).await?.status(), UserStatus::Active);

        assert_eq!(stage.undo(&job).await?.changed_count, 2);
        let job = stage
            .ended(&stage.start(&never_came.digest, deactivate()).await?)
            .await?;
        assert_eq!((job.changed_count, job.skipped_count), (2, 1));
        let skipped = stage.items(&job, &[JobOutcome::Skipped]).await?;
        assert_eq!(skipped[0].user_id, users[1].user_id);

        // Nor are they touched when what was left is tried again.
        let retried = stage.retry(&job).await?;
        assert_eq!((retried.total_count, retried.skipped_count), (1, 1));
        assert_eq!(stage.user(&users[1].user_id).await?.status(), UserStatus::Active);
        Ok(())
    })
}

/// U2, U6: a preview counts whom somebody may act on, and shows those of them whom they may read.
#[test]
fn a_preview_shows_nobody_whom_its_caller_may_not_read() -> Result<()> {
    together(async |stage| {
        pupils(&stage, 3, "Year 7").await?;
        let runner = stage.role("Runner", &["jobs.run"]).await?;
        let clerk = stage.active("clerk").await?.user_id;
        stage.give(&clerk, &runner.role, platform()).await?;
        let request = api::PreviewSelectionRequest {
            tenant_id: stage.tenant.clone(),
            selection: Some(labelled("Year 7")),
        };
        let clients = stage.acting(&clerk)?;
        let preview = clients.bulk().preview_selection(request.clone()).await?.into_inner();
        assert_eq!((preview.user_count, preview.sample.len()), (3, 0));

        let group = stage.group("Year 7", "").await?;
        let reader = stage.role("Reader", &["users.read"]).await?;
        stage.give(&clerk, &reader.role, in_group(&group)).await?;
        let seen = stage.looked_up("pupil1").await?.user_id;
        stage.join(&group, &[&seen]).await?;
        let preview = clients.bulk().preview_selection(request).await?.into_inner();
        let sample: Vec<_> = preview.sample.iter().map(|user| user.user_id.as_str()).collect();
        assert_eq!((preview.user_count, sample), (3, vec![seen.as_str()]));
        Ok(())
    })
}
