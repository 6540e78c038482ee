//! What people do on the platform, as its services report it (S8, U4).

use chrono::TimeDelta;
use tonic::{Request, Response, Status, Streaming};
use usher_core::account::{ActivityKind, Effect};
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_proto::identity::v1::activity_report::User;
use usher_proto::identity::v1::activity_result::Outcome;
use usher_proto::identity::v1::activity_service_server::ActivityService;
use usher_proto::identity::v1::{
    self as proto, ActivityReport, ActivityResult, RecordActivityRequest, RecordActivityResponse, RefusedReport,
    StreamActivityRequest, StreamActivityResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{actor, finish, tenant as parse_tenant};
use crate::operations::engine::Command;
use crate::operations::world::World;
use crate::parse::Faults;
use crate::status::item;

/// Reports of one batch at most.
const MAX_REPORTS: usize = 1_000;
/// Refusals that the answer to a stream tells at most.
const MAX_TOLD: usize = 100;
/// How far ahead of Usher's clock the clock of a service may be.
const SKEW: TimeDelta = TimeDelta::minutes(5);

#[tonic::async_trait]
impl ActivityService for App {
    async fn record_activity(
        &self,
        request: Request<RecordActivityRequest>,
    ) -> Result<Response<RecordActivityResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let actor = actor(request.metadata(), &mut faults);
        let body = request.into_inner();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        check_count(&body.reports, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ActivityRecord).await?;
        Ok(Response::new(self.record(actor, tenant, &body.reports).await?))
    }

    async fn stream_activity(
        &self,
        request: Request<Streaming<StreamActivityRequest>>,
    ) -> Result<Response<StreamActivityResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let actor = actor(request.metadata(), &mut faults);
        finish(faults)?;
        let mut batches = request.into_inner();
        let mut of = None;
        let mut sum = StreamActivityResponse::default();
        let mut place = 0;
        loop {
            let batch = tokio::select! {
                batch = batches.message() => batch?,
                () = self.shutdown.cancelled() => {
                    return Err(Status::unavailable("the service is stopping; send all of it again"));
                }
            };
            let Some(batch) = batch else { break };
            let mut faults = Faults::default();
            let tenant = match of {
                Some(tenant) if batch.tenant_id.is_empty() => tenant,
                _ => parse_tenant(&batch.tenant_id, &mut faults),
            };
            if of.is_some_and(|of| of != tenant) {
                faults.add("tenant_id", "is another than in the first message");
            }
            check_count(&batch.reports, &mut faults);
            finish(faults)?;
            if of.is_none() {
                self.permit(&caller, tenant, Permission::ActivityRecord).await?;
                of = Some(tenant);
            }
            let answer = self.record(actor.clone(), tenant, &batch.reports).await?;
            add(&mut sum, answer, &mut place);
        }
        Ok(Response::new(sum))
    }
}

/// A report that was understood.
#[derive(Debug, Clone)]
struct Report {
    who: Who,
    kind: ActivityKind,
    at: Timestamp,
}

#[derive(Debug, Clone)]
enum Who {
    Id(UserId),
    ExternalId(String),
    /// Folded.
    Email(String),
}

impl App {
    async fn record(
        &self,
        actor: String,
        tenant: TenantId,
        reports: &[ActivityReport],
    ) -> Result<RecordActivityResponse, Status> {
        let now = self.now();
        let reports: Vec<Result<Report, Refusal>> = reports.iter().map(|report| parse(report, now)).collect();
        let mut keys = Keys {
            tenants: [tenant].into(),
            external_accounts: true,
            ..Keys::default()
        };
        for report in reports.iter().flatten() {
            match &report.who {
                Who::Id(user) => drop(keys.users.insert((tenant, *user))),
                Who::ExternalId(id) => drop(keys.external_ids.insert((tenant, id.clone()))),
                Who::Email(key) => drop(keys.emails.insert((tenant, key.clone()))),
            }
        }
        let weight = reports.len();
        let trace_parent = usher_platform::trace::current_trace_parent();
        let mut command = Command::new(keys, move |world: &mut World, changes: &mut Changeset| {
            world.tenant(tenant)?;
            let act = Act {
                actor: actor.clone(),
                trace_parent: trace_parent.clone(),
                ..Act::by_usher(world.now, "")
            };
            let mut answer = RecordActivityResponse::default();
            for report in &reports {
                let effect = match report {
                    Ok(report) => report.record(tenant, world, &act, changes),
                    Err(refusal) => Err(refusal.clone()),
                };
                let (count, outcome) = match effect {
                    Ok(Effect::Changed) => (&mut answer.recorded_count, Outcome::Recorded(true)),
                    Ok(Effect::Unchanged) => (&mut answer.known_count, Outcome::Recorded(false)),
                    Err(refusal) => (&mut answer.refused_count, Outcome::Refused(item(&refusal))),
                };
                *count += 1;
                answer.results.push(ActivityResult { outcome: Some(outcome) });
            }
            Ok(answer)
        });
        command.weight = weight;
        Ok(self.engine.run(command).await?)
    }
}

impl Report {
    fn record(
        &self,
        tenant: TenantId,
        world: &mut World,
        act: &Act,
        changes: &mut Changeset,
    ) -> Result<Effect, Refusal> {
        let loaded = &world.loaded;
        let (user, name) = match &self.who {
            Who::Id(user) => (Some(*user), user.to_string()),
            Who::ExternalId(id) => (loaded.external_ids.get(&(tenant, id.clone())).copied(), id.clone()),
            Who::Email(key) => (loaded.emails.get(&(tenant, key.clone())).copied(), key.clone()),
        };
        let user = user.ok_or(Refusal::UserNotFound(name))?;
        world
            .account(tenant, user)?
            .record_activity(self.kind, self.at, act, changes)
    }
}

fn parse(report: &ActivityReport, now: Timestamp) -> Result<Report, Refusal> {
    let mut faults = Faults::default();
    let who = match &report.user {
        Some(User::UserId(id)) => Who::Id(faults.id("user_id", id)),
        Some(User::ExternalId(id)) => Who::ExternalId(faults.external_id("external_id", id).unwrap_or_default()),
        Some(User::Email(email)) => Who::Email(faults.email("email", email).key().to_owned()),
        None => {
            faults.add("user", "is required: user_id, external_id or email");
            Who::ExternalId(String::new())
        }
    };
    let kind = match proto::ActivityKind::try_from(report.kind) {
        Ok(proto::ActivityKind::SignIn) => Some(ActivityKind::SignIn),
        Ok(proto::ActivityKind::CourseOpened) => Some(ActivityKind::CourseOpened),
        Ok(proto::ActivityKind::Unspecified) | Err(_) => {
            faults.add("kind", "must be SIGN_IN or COURSE_OPENED");
            None
        }
    };
    let at = faults.instant("time", report.time);
    match at {
        None if report.time.is_none() => faults.add("time", "is required"),
        Some(at) if at <= Timestamp::UNIX_EPOCH => faults.add("time", "must be after 1970"),
        Some(at) if at > now + SKEW => {
            faults.add(
                "time",
                "is in the future by more than 5 minutes; check the clock of the sender",
            );
        }
        _ => {}
    }
    faults.finish()?;
    match (kind, at) {
        (Some(kind), Some(at)) => Ok(Report { who, kind, at }),
        _ => Err(Refusal::field("report", "is incomplete")),
    }
}

fn check_count(reports: &[ActivityReport], faults: &mut Faults) {
    if reports.is_empty() || reports.len() > MAX_REPORTS {
        faults.add("reports", format!("has {}; give 1 to {MAX_REPORTS}", reports.len()));
    }
}

/// Adds a batch to the sums of its stream.
fn add(sum: &mut StreamActivityResponse, batch: RecordActivityResponse, place: &mut i64) {
    sum.recorded_count += i64::from(batch.recorded_count);
    sum.known_count += i64::from(batch.known_count);
    sum.refused_count += i64::from(batch.refused_count);
    for result in batch.results {
        if let Some(Outcome::Refused(refusal)) = result.outcome
            && sum.refused.len() < MAX_TOLD
        {
            sum.refused.push(RefusedReport {
                index: *place,
                refusal: Some(refusal),
            });
        }
        *place += 1;
    }
}
