//! Acts on many users at once: previews, jobs, their reports, undo (U5, U6, B7, L15).

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::{InitialState, JobOutcome, JobState, UserStatus};

use crate::stage::{DAY, PATIENCE, Stage, Together, alone, assert_refused, together};
use usher_tests::environment::eventually;
use usher_tests::system::System;

/// Everybody with a label.
pub(crate) fn labelled(label: &str) -> api::Selection {
    selected(api::UserFilter {
        labels: vec![label.into()],
        ..api::UserFilter::default()
    })
}

pub(crate) fn selected(filter: api::UserFilter) -> api::Selection {
    api::Selection {
        by: Some(api::selection::By::Filter(filter)),
    }
}

pub(crate) fn ids<'a>(users: impl IntoIterator<Item = &'a api::User>) -> api::Selection {
    let user_ids = users.into_iter().map(|user| user.user_id.clone()).collect();
    api::Selection {
        by: Some(api::selection::By::UserIds(api::UserIds { user_ids })),
    }
}

/// Some active accounts with a label.
pub(crate) async fn pupils(stage: &Together, count: usize, label: &str) -> Result<Vec<api::User>> {
    let mut users = Vec::new();
    for number in 0..count {
        let user = api::User {
            email: stage.address(&format!("pupil{number}")),
            labels: vec![label.into()],
            ..api::User::default()
        };
        users.push(stage.create_as(user, InitialState::ActiveWithGeneratedPassword).await?);
    }
    Ok(users)
}

impl<G: std::ops::Deref<Target = System>> Stage<G> {
    pub(crate) async fn preview(&self, selection: api::Selection) -> Result<api::PreviewSelectionResponse> {
        let request = api::PreviewSelectionRequest {
            tenant_id: self.tenant.clone(),
            selection: Some(selection),
        };
        Ok(self.clients.bulk().preview_selection(request).await?.into_inner())
    }

    pub(crate) fn starting(&self, digest: &str, action: Action) -> api::StartBulkRequest {
        api::StartBulkRequest {
            tenant_id: self.tenant.clone(),
            digest: digest.into(),
            action: Some(api::BulkAction { action: Some(action) }),
            options: None,
        }
    }

    pub(crate) async fn start(&self, digest: &str, action: Action) -> Result<api::Job> {
        let started = self.clients.bulk().start_bulk(self.starting(digest, action)).await?;
        started.into_inner().job.context("no job")
    }

    /// Follows a job to its end; progress must never run backwards.
    pub(crate) async fn ended(&self, job: &api::Job) -> Result<api::Job> {
        let request = api::WatchJobRequest {
            tenant_id: self.tenant.clone(),
            job_id: job.job_id.clone(),
        };
        let mut stream = self.clients.bulk().watch_job(request).await?.into_inner();
        let mut last = job.clone();
        while let Some(answer) = stream.message().await? {
            let now = answer.job.context("no job")?;
            assert!(now.done_count >= last.done_count, "{now:?} after {last:?}");
            last = now;
        }
        assert_ne!(last.state(), JobState::Running);
        Ok(last)
    }

    pub(crate) async fn run(&self, selection: api::Selection, action: Action) -> Result<api::Job> {
        let preview = self.preview(selection).await?;
        let job = self.start(&preview.digest, action).await?;
        self.ended(&job).await
    }

    /// The items of a job that ended in one of these ways.
    pub(crate) async fn items(&self, job: &api::Job, outcomes: &[JobOutcome]) -> Result<Vec<api::JobItem>> {
        let mut items = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = api::ListJobItemsRequest {
                tenant_id: self.tenant.clone(),
                job_id: job.job_id.clone(),
                outcomes: outcomes.iter().map(|outcome| (*outcome).into()).collect(),
                page_size: 7,
                page_token,
            };
            let page = self.clients.bulk().list_job_items(request).await?.into_inner();
            items.extend(page.items);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(items);
            }
        }
    }

    pub(crate) async fn undo(&self, job: &api::Job) -> Result<api::Job> {
        let request = api::UndoJobRequest {
            tenant_id: self.tenant.clone(),
            job_id: job.job_id.clone(),
            options: None,
        };
        let undo = self.clients.bulk().undo_job(request).await?.into_inner().job;
        self.ended(&undo.context("no job")?).await
    }

    /// Tries again what failed or was skipped, to the end.
    pub(crate) async fn retry(&self, job: &api::Job) -> Result<api::Job> {
        let request = api::RetryFailedRequest {
            tenant_id: self.tenant.clone(),
            job_id: job.job_id.clone(),
            options: None,
        };
        let retried = self.clients.bulk().retry_failed(request).await?.into_inner().job;
        self.ended(&retried.context("no job")?).await
    }

    /// The report of a job as a file.
    pub(crate) async fn report(&self, job: &api::Job) -> Result<String> {
        let request = api::DownloadJobReportRequest {
            tenant_id: self.tenant.clone(),
            job_id: job.job_id.clone(),
        };
        let mut stream = self.clients.bulk().download_job_report(request).await?.into_inner();
        let mut file = Vec::new();
        while let Some(piece) = stream.message().await? {
            file.extend(piece.data);
        }
        Ok(String::from_utf8(file)?)
    }
}

/// U6: what runs is what was previewed; who no longer fits is skipped with the reason, and who came later is not touched.
#[test]
fn what_runs_is_exactly_what_was_previewed() -> Result<()> {
    together(async |stage| {
        let users = pupils(&stage, 5, "Year 7").await?;
        let preview = stage.preview(labelled("Year 7")).await?;
        assert_eq!(preview.user_count, 5);
        assert_eq!(preview.sample.len(), 5);

        // Meanwhile: one expires by hand of somebody, one more comes in.
        let expiring = api::SetUserExpirationRequest {
            tenant_id: stage.tenant.clone(),
            user_id: users[0].user_id.clone(),
            expire_time: Some(stage.after(std::time::Duration::from_millis(300))),
            ..api::SetUserExpirationRequest::default()
        };
        stage.clients.users().set_user_expiration(expiring).await?;
        stage.becomes(&users[0].user_id, UserStatus::Expired).await?;
        let late = api::User {
            email: stage.address("late"),
            labels: vec!["Year 7".into()],
            ..api::User::default()
        };
        let late = stage.create_as(late, InitialState::ActiveWithGeneratedPassword).await?;

        let job = stage
            .start(&preview.digest, Action::Deactivate(api::BulkDeactivate {}))
            .await?;
        let job = stage.ended(&job).await?;
        assert_eq!(job.state(), JobState::Done);
        assert_eq!((job.total_count, job.changed_count, job.skipped_count), (5, 4, 1));
        let skipped = stage.items(&job, &[JobOutcome::Skipped]).await?;
        assert_eq!(skipped.len(), 1);
        assert_eq!(skipped[0].user_id, users[0].user_id);
        assert_eq!(skipped[0].reason, "USER_EXPIRED");
        assert_eq!(stage.user(&late.user_id).await?.status(), UserStatus::Active);
        for user in &users[1..] {
            assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Deactivated);
        }
        Ok(())
    })
}

/// B7: a deactivation is taken back for everybody who was not changed since; mails do not come back.
#[test]
fn a_job_is_undone_but_for_whoever_was_changed_since() -> Result<()> {
    together(async |stage| {
        let users = pupils(&stage, 4, "Choir").await?;
        let job = stage
            .run(labelled("Choir"), Action::Deactivate(api::BulkDeactivate {}))
            .await?;
        assert!(job.can_be_undone);
        let again = api::ReactivateUserRequest {
            tenant_id: stage.tenant.clone(),
            user_id: users[0].user_id.clone(),
            ..api::ReactivateUserRequest::default()
        };
        stage.clients.users().reactivate_user(again).await?;

        let undone = stage.undo(&job).await?;
        assert_eq!((undone.changed_count, undone.skipped_count), (3, 1));
        assert_eq!(undone.origin_job_id, job.job_id);
        let skipped = stage.items(&undone, &[JobOutcome::Skipped]).await?;
        assert_eq!(skipped[0].reason, "VERSION_MISMATCH");
        for user in &users {
            assert_eq!(stage.user(&user.user_id).await?.status(), UserStatus::Active);
        }
        let request = api::UndoJobRequest {
            tenant_id: stage.tenant.clone(),
            job_id: undone.job_id,
            options: None,
        };
        assert_refused(
            stage.clients.bulk().undo_job(request).await,
            Code::FailedPrecondition,
            "CANNOT_BE_UNDONE",
        );
        Ok(())
    })
}

/// U5, B7: groups, roles, labels and expirations in bulk, each taken back as it was.
#[test]
fn groups_roles_labels_and_expirations_are_edited_in_bulk_and_undone() -> Result<()> {
    together(async |stage| {
        let users = pupils(&stage, 3, "Year 8").await?;
        let group = api::CreateGroupRequest {
            group: Some(api::Group {
                tenant_id: stage.tenant.clone(),
                name: "Year 8".into(),
                ..api::Group::default()
            }),
            options: None,
        };
        let group = stage
            .clients
            .groups()
            .create_group(group)
            .await?
            .into_inner()
            .group
            .context("no group")?;
        let held = api::RoleInScope {
            role: "coach".into(),
            scope: Some(api::Scope {
                kind: api::ScopeKind::Group.into(),
                id: group.group_id.clone(),
            }),
        };
        let day = stage.after(30 * DAY);
        let actions = [
            Action::EditGroups(api::BulkEditGroups {
                add_group_ids: vec![group.group_id.clone()],
                remove_group_ids: vec![],
            }),
            Action::EditRoles(api::BulkEditRoles {
                assign: vec![held],
                revoke: vec![],
            }),
            Action::EditLabels(api::BulkEditLabels {
                add: vec!["Choir".into()],
                remove: vec!["Year 8".into()],
            }),
            Action::SetExpiration(api::BulkSetExpiration { expire_time: Some(day) }),
        ];
        let mut jobs = Vec::new();
        for action in actions {
            let job = stage.run(ids(&users), action).await?;
            assert_eq!(job.changed_count, 3, "{job:?}");
            jobs.push(job);
        }
        let in_group = api::UserFilter {
            group_ids: vec![group.group_id.clone()],
            roles: vec!["coach".into()],
            labels: vec!["Choir".into()],
            ..api::UserFilter::default()
        };
        assert_eq!(stage.preview(selected(in_group.clone())).await?.user_count, 3);
        assert_eq!(stage.user(&users[1].user_id).await?.expire_time, Some(day));
        for job in jobs.iter().rev() {
            assert_eq!(stage.undo(job).await?.changed_count, 3);
        }
        assert_eq!(stage.preview(selected(in_group)).await?.user_count, 0);
        for user in &users {
            let now = stage.user(&user.user_id).await?;
            assert_eq!(
                (now.labels.as_slice(), now.expire_time),
                (["Year 8".to_owned()].as_slice(), None)
            );
        }
        Ok(())
    })
}

/// B1, U6: a start that is repeated starts nothing; an unknown digest is refused.
#[test]
fn a_job_is_started_once_and_only_from_a_preview() -> Result<()> {
    together(async |stage| {
        pupils(&stage, 2, "Band").await?;
        let preview = stage.preview(labelled("Band")).await?;
        let start = api::StartBulkRequest {
            options: Some(api::MutationOptions {
                request_id: "band-out".into(),
                ..api::MutationOptions::default()
            }),
            ..stage.starting(&preview.digest, Action::Deactivate(api::BulkDeactivate {}))
        };
        let first = stage
            .clients
            .bulk()
            .start_bulk(start.clone())
            .await?
            .into_inner()
            .job
            .context("no job")?;
        let second = stage
            .clients
            .bulk()
            .start_bulk(start)
            .await?
            .into_inner()
            .job
            .context("no job")?;
        assert_eq!(first.job_id, second.job_id);
        stage.ended(&first).await?;

        let forged = stage.starting(
            "bm90IGEgZGlnZXN0IG9mIG91cnM",
            Action::Deactivate(api::BulkDeactivate {}),
        );
        assert_refused(
            stage.clients.bulk().start_bulk(forged).await,
            Code::NotFound,
            "SELECTION_NOT_FOUND",
        );
        let nothing = stage.starting(&preview.digest, Action::EditGroups(api::BulkEditGroups::default()));
        assert_refused(
            stage.clients.bulk().start_bulk(nothing).await,
            Code::InvalidArgument,
            "INVALID_FIELDS",
        );
        Ok(())
    })
}

/// B7: the report names each item; what failed can be repeated alone.
#[test]
fn what_failed_is_reported_and_repeated_alone() -> Result<()> {
    together(async |mut stage| {
        stage
            .settings(api::Tenant {
                seat_limit: 2,
                ..api::Tenant::default()
            })
            .await?;
        let users = pupils(&stage, 2, "Seats").await?;
        let out = stage
            .run(ids(&users), Action::Deactivate(api::BulkDeactivate {}))
            .await?;
        assert_eq!(out.changed_count, 2);
        stage.active("taker").await?;
        let back = stage
            .run(ids(&users), Action::Reactivate(api::BulkReactivate {}))
            .await?;
        assert_eq!((back.changed_count, back.failed_count), (1, 1), "one seat is left");
        let failed = stage.items(&back, &[JobOutcome::Failed]).await?;
        assert_eq!(failed[0].reason, "SEAT_LIMIT");
        let report = stage.report(&back).await?;
        assert_eq!(report.lines().count(), 3, "{report}");
        assert!(
            report.contains("FAILED") && report.contains(&stage.address("pupil")[5..]),
            "{report}"
        );

        let more = api::UpdateTenantRequest {
            tenant: Some(api::Tenant {
                tenant_id: stage.tenant.clone(),
                seat_limit: 3,
                ..api::Tenant::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["seat_limit".into()],
            }),
            options: None,
        };
        stage.clients.tenants().update_tenant(more).await?;
        let retried = stage.retry(&back).await?;
        assert_eq!((retried.total_count, retried.changed_count), (1, 1));
        Ok(())
    })
}

/// L15: invitations that were sent too long ago are found and sent again in one action.
#[test]
fn invitations_sent_too_long_ago_are_sent_again_in_one_action() -> Result<()> {
    alone(async |mut stage| {
        stage
            .settings(api::Tenant {
                no_reminders: true,
                ..api::Tenant::default()
            })
            .await?;
        let (old, _) = stage.invited("old").await?;
        stage.system.advance(10 * DAY).await?;
        stage.invited("new").await?;
        let preview = stage
            .preview(selected(api::UserFilter {
                invited_before: Some(stage.after(std::time::Duration::ZERO)),
                statuses: vec![UserStatus::Invited.into()],
                ..api::UserFilter::default()
            }))
            .await?;
        assert_eq!(preview.user_count, 2);
        let resend = Action::Resend(api::BulkResend {
            sent_days_ago: 7,
            messages: vec![],
        });
        let job = stage.start(&preview.digest, resend).await?;
        let job = stage.ended(&job).await?;
        assert_eq!((job.changed_count, job.unchanged_count), (1, 1));
        let changed = stage.items(&job, &[JobOutcome::Changed]).await?;
        assert_eq!(changed[0].user_id, old.user_id);
        eventually("the second mail", PATIENCE, async || {
            (stage.mails("old").len() == 2).then_some(())
        })
        .await?;
        assert_eq!(stage.mails("new").len(), 1);
        Ok(())
    })
}

/// B7: a job that was stopped leaves what was done, and says what was not.
#[test]
fn a_job_can_be_cancelled() -> Result<()> {
    together(async |stage| {
        pupils(&stage, 3, "Stop").await?;
        let preview = stage.preview(labelled("Stop")).await?;
        let job = stage
            .start(&preview.digest, Action::Deactivate(api::BulkDeactivate {}))
            .await?;
        let cancel = api::CancelJobRequest {
            tenant_id: stage.tenant.clone(),
            job_id: job.job_id.clone(),
            options: None,
        };
        stage.clients.bulk().cancel_job(cancel.clone()).await?;
        let ended = stage.ended(&job).await?;
        assert!([JobState::Cancelled, JobState::Done].contains(&ended.state()));
        let again = stage
            .clients
            .bulk()
            .cancel_job(cancel)
            .await?
            .into_inner()
            .job
            .context("no job")?;
        assert_eq!((again.state, again.end_time), (ended.state, ended.end_time));
        Ok(())
    })
}

/// Whether rows can be had at once: nobody holds them.
async fn are_free(database: &mut PgConnection, users: &[String]) -> bool {
    let lock = "SELECT 1 FROM users WHERE user_id = ANY($1::uuid[]) FOR UPDATE NOWAIT";
    sqlx::query(lock).bind(users).execute(database).await.is_ok()
}

/// B7, U6: the chunk after the one that is being written is decided already. Whoever cancels the job meanwhile finds that
/// nothing came of it.
#[test]
fn what_was_decided_ahead_is_dropped_when_the_job_is_cancelled() -> Result<()> {
    together(async |stage| {
        let mut file = String::from("email,labels\n");
        for number in 0..600 {
            writeln!(file, "{},Ahead", stage.address(&format!("ahead{number}")))?;
        }
        let imported = stage.import(stage.importing(api::ImportMode::Create), &file).await?;
        assert_eq!(imported.changed_count, 600);
        let mut database = PgConnection::connect(&stage.system.database_url).await?;
        let users: Vec<String> =
            sqlx::query_scalar("SELECT user_id::text FROM users WHERE tenant_id = $1::uuid ORDER BY user_id")
                .bind(&stage.tenant)
                .fetch_all(&mut database)
                .await?;
        let (first, second) = users.split_at(500);

        // The first chunk cannot begin, and once it has begun it cannot be written.
        let mut beginning = PgConnection::connect(&stage.system.database_url).await?;
        beginning.execute("BEGIN").await?;
        assert!(are_free(&mut beginning, first).await);
        let preview = stage.preview(labelled("Ahead")).await?;
        let job = stage
            .start(&preview.digest, Action::Deactivate(api::BulkDeactivate {}))
            .await?;
        let mut in_the_way = PgConnection::connect(&stage.system.database_url).await?;
        in_the_way.execute("BEGIN").await?;
        sqlx::query(
            "INSERT INTO job_chunks (tenant_id, job_id, number, outcomes) VALUES ($1::uuid, $2::uuid, 0, '[]')",
        )
        .bind(&stage.tenant)
        .bind(&job.job_id)
        .execute(&mut in_the_way)
        .await?;
        beginning.execute("ROLLBACK").await?;
        eventually("the second chunk is decided", PATIENCE, async || {
            (!are_free(&mut database, second).await).then_some(())
        })
        .await?;
        let request = api::CancelJobRequest {
            tenant_id: stage.tenant.clone(),
            job_id: job.job_id.clone(),
            options: None,
        };
        let mut bulk = stage.clients.bulk();
        let cancelling = tokio::spawn(async move { bulk.cancel_job(request).await });
        eventually("the cancellation waits for the first chunk", PATIENCE, async || {
            let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock' AND query LIKE '%jobs%FOR UPDATE%'";
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut database).await.ok()?;
            (waiting > 0).then_some(())
        })
        .await?;
        in_the_way.execute("ROLLBACK").await?;
        cancelling.await??;

        let ended = stage.ended(&job).await?;
        assert_eq!((ended.state(), ended.changed_count), (JobState::Cancelled, 500));
        eventually("nobody holds the second chunk", PATIENCE, async || {
            are_free(&mut database, second).await.then_some(())
        })
        .await?;
        let deactivated: Vec<String> = sqlx::query_scalar(
            "SELECT user_id::text FROM users WHERE tenant_id = $1::uuid AND status = 'DEACTIVATED' ORDER BY user_id",
        )
        .bind(&stage.tenant)
        .fetch_all(&mut database)
        .await?;
        assert!(deactivated == first, "{} were deactivated", deactivated.len());
        Ok(())
    })
}
