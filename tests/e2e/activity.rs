//! What people do on the platform, as its services report it (S8, U4).

use std::time::Duration;

use anyhow::{Context as _, Result};
use tonic::Code;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::activity_report::User;
use usher_proto::identity::v1::activity_result::Outcome;
use usher_proto::identity::v1::{ActivityKind, Engagement, InitialState};

use crate::stage::{DAY, HOUR, MINUTE, Together, assert_refused, refused, together};

/// Nobody's id.
const NOBODY: &str = "0197a2f0-0000-7000-8000-00000000dead";

fn report(user: User, kind: ActivityKind, at: prost_types::Timestamp) -> api::ActivityReport {
    api::ActivityReport {
        user: Some(user),
        kind: kind.into(),
        time: Some(at),
    }
}

fn ago(now: prost_types::Timestamp, by: Duration) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: now.seconds - i64::try_from(by.as_secs()).unwrap_or(0),
        nanos: 0,
    }
}

async fn record(
    stage: &Together,
    reports: Vec<api::ActivityReport>,
) -> Result<api::RecordActivityResponse, tonic::Status> {
    let request = api::RecordActivityRequest {
        tenant_id: stage.tenant.clone(),
        reports,
    };
    Ok(stage.clients.activity().record_activity(request).await?.into_inner())
}

async fn engaged(stage: &Together, engagement: Engagement) -> Result<Vec<String>> {
    let filter = api::UserFilter {
        engagement: engagement.into(),
        ..api::UserFilter::default()
    };
    Ok(stage.found(&stage.clients, filter, "email").await?)
}

/// S8: of the active, one filter finds who never opened a course and the other who did.
#[test]
fn whoever_opened_a_course_is_engaged_and_both_are_filters() -> Result<()> {
    together(async |stage| {
        let now = stage.after(Duration::ZERO);
        let ana = stage.active("ana").await?;
        let user = api::User {
            email: stage.address("bo"),
            external_id: "S-bo".into(),
            ..api::User::default()
        };
        stage.create_as(user, InitialState::ActiveWithPassword).await?;
        stage.active("cy").await?;
        stage.create("dee", InitialState::Pending).await?;
        assert_eq!(ana.engagement(), Engagement::Activated);
        assert_eq!(engaged(&stage, Engagement::Activated).await?, ["ana", "bo", "cy"]);

        let course = ActivityKind::CourseOpened;
        let answer = record(
            &stage,
            vec![
                report(User::UserId(ana.user_id.clone()), course, ago(now, HOUR)),
                report(User::ExternalId("S-bo".into()), course, ago(now, DAY)),
                report(User::Email(stage.address("CY")), ActivityKind::SignIn, ago(now, DAY)),
                report(User::UserId(ana.user_id.clone()), course, ago(now, MINUTE)),
            ],
        )
        .await?;
        assert_eq!(
            (answer.recorded_count, answer.known_count, answer.refused_count),
            (3, 1, 0)
        );
        assert_eq!(engaged(&stage, Engagement::Activated).await?, ["cy"]);
        assert_eq!(engaged(&stage, Engagement::Engaged).await?, ["ana", "bo"]);
        let after = stage.user(&ana.user_id).await?;
        assert_eq!(after.engagement(), Engagement::Engaged);
        assert_eq!(after.version, ana.version + 1);
        assert_eq!(
            after.first_course_time.context("no time")?.seconds,
            ago(now, HOUR).seconds
        );

        stage.deactivate(&ana.user_id).await?;
        assert_eq!(
            engaged(&stage, Engagement::Engaged).await?,
            ["bo"],
            "only the active are"
        );
        assert_eq!(stage.user(&ana.user_id).await?.engagement(), Engagement::Unspecified);
        Ok(())
    })
}

/// U4: repeated, late and out-of-order reports are harmless; one that is refused holds up nobody.
#[test]
fn reports_may_repeat_and_come_in_any_order_and_bad_ones_hold_up_nobody() -> Result<()> {
    together(async |stage| {
        let now = stage.after(Duration::ZERO);
        let ana = stage.active("ana").await?;
        let bo = stage.active("bo").await?;
        let id = |user: &api::User| User::UserId(user.user_id.clone());
        let sign_in = ActivityKind::SignIn;
        let latest = ago(now, HOUR);
        let reports = vec![
            report(id(&ana), sign_in, latest),
            report(User::UserId(NOBODY.into()), sign_in, latest),
            report(id(&bo), sign_in, stage.after(HOUR)),
            report(id(&bo), ActivityKind::Unspecified, latest),
            report(User::UserId("x".into()), sign_in, latest),
            report(id(&ana), sign_in, ago(now, DAY)),
        ];
        let answer = record(&stage, reports.clone()).await?;
        assert_eq!(
            (answer.recorded_count, answer.known_count, answer.refused_count),
            (1, 1, 4)
        );
        let reasons: Vec<_> = answer
            .results
            .iter()
            .map(|result| match &result.outcome {
                Some(Outcome::Refused(refusal)) => refusal.reason.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(
            reasons,
            [
                "",
                "USER_NOT_FOUND",
                "INVALID_FIELDS",
                "INVALID_FIELDS",
                "INVALID_FIELDS",
                ""
            ]
        );
        let after = stage.user(&ana.user_id).await?;
        assert_eq!(after.last_login_time, Some(latest));
        assert_eq!(after.version, ana.version, "a sign-in is no change of the account");
        assert!(stage.user(&bo.user_id).await?.last_login_time.is_none());

        let again = record(&stage, reports).await?;
        assert_eq!((again.recorded_count, again.known_count), (0, 2));
        assert_eq!(stage.user(&ana.user_id).await?, after);

        for count in [0, 1_001] {
            let told = refused(record(&stage, vec![report(id(&ana), sign_in, latest); count]).await);
            assert_eq!(
                (told.code, told.fields),
                (Code::InvalidArgument, vec!["reports".to_owned()])
            );
        }
        let request = api::RecordActivityRequest {
            tenant_id: stage.tenant.clone(),
            reports: vec![report(id(&ana), sign_in, latest)],
        };
        let as_ana = stage.acting(&ana.user_id)?;
        assert_refused(
            as_ana.activity().record_activity(request).await,
            Code::PermissionDenied,
            "PERMISSION_DENIED",
        );
        Ok(())
    })
}

/// U4: a stream of batches is summed up, and tells the places of what it refused.
#[test]
fn a_stream_of_batches_is_summed_up() -> Result<()> {
    together(async |stage| {
        let now = stage.after(Duration::ZERO);
        let ana = stage.active("ana").await?;
        let at = |minutes: u32| ago(now, minutes * MINUTE);
        let of = |name: &str, minutes| report(User::Email(stage.address(name)), ActivityKind::SignIn, at(minutes));
        let batch = |tenant: &str, reports| api::StreamActivityRequest {
            tenant_id: tenant.into(),
            reports,
        };
        let full: Vec<_> = (0..1_000).map(|number| of("ana", 2_000 - number)).collect();
        let batches = vec![
            batch(&stage.tenant, full),
            batch("", vec![of("nobody", 5), of("ana", 5)]),
            batch(&stage.tenant, vec![of("ana", 10)]),
        ];
        let sum = stage
            .clients
            .activity()
            .stream_activity(futures::stream::iter(batches))
            .await?;
        let sum = sum.into_inner();
        assert_eq!((sum.recorded_count, sum.known_count, sum.refused_count), (1_001, 1, 1));
        assert_eq!(sum.refused[0].index, 1_000);
        assert_eq!(stage.user(&ana.user_id).await?.last_login_time, Some(at(5)));

        let two = vec![
            batch(&stage.tenant, vec![of("ana", 1)]),
            batch(NOBODY, vec![of("ana", 1)]),
        ];
        let told = refused(
            stage
                .clients
                .activity()
                .stream_activity(futures::stream::iter(two))
                .await,
        );
        assert_eq!(
            (told.code, told.fields),
            (Code::InvalidArgument, vec!["tenant_id".to_owned()])
        );
        Ok(())
    })
}
