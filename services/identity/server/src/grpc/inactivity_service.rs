//! What the inactivity policy does (B10). It is carried out in `background::inactivity`.

use chrono::TimeDelta;
use tonic::{Request, Response, Status};
use usher_core::account::wake_inactivity;
use usher_core::clock::Timestamp;
use usher_core::event::EventType;
use usher_core::ids::{InactivityRunId, TenantId, UserId};
use usher_core::inactivity::{
    InactivityPolicy, InactivityRun, InactivityRunState, RECENT_RUNS, deactivation, spared_until,
};
use usher_core::ports::{After, InactivityQuery, InactivityStep, Keys};
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_core::user::User;
use usher_proto::identity::v1::inactivity_service_server::InactivityService;
use usher_proto::identity::v1::{
    self as proto, ApproveInactivityRunRequest, ApproveInactivityRunResponse, DismissInactivityRunRequest,
    DismissInactivityRunResponse, InactiveUser, ListInactivityRunsRequest, ListInactivityRunsResponse, MutationOptions,
    PreviewInactivityRequest, PreviewInactivityResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::Failure;
use crate::page::{Question, instant_key};
use crate::parse::Faults;
use crate::status::refused;

/// How far ahead a preview looks at most.
const HORIZON: TimeDelta = TimeDelta::days(3_650);

#[tonic::async_trait]
impl InactivityService for App {
    async fn preview_inactivity(
        &self,
        request: Request<PreviewInactivityRequest>,
    ) -> Result<Response<PreviewInactivityResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let now = self.now();
        let until = faults.instant("until", body.until).unwrap_or(now);
        if until > now + HORIZON {
            faults.add("until", "is more than 3,650 days ahead");
        }
        let asked_policy = body.policy.as_ref().map(policy);
        faults.extend(asked_policy.map_or_else(Vec::new, |policy| policy.violations("policy")));
        if proto::InactivityStep::try_from(body.step).is_err() {
            faults.add("step", "is unknown");
        }
        let limit = faults.page_size("page_size", body.page_size);
        let asked = PreviewInactivityRequest {
            page_size: 0,
            page_token: String::new(),
            ..body.clone()
        };
        let question = Question::new(&self.keys, "PreviewInactivity", &asked);
        let after = question.after(&body.page_token, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::InactivityRead).await?;
        let settings = self.tenant(tenant).await?.settings.clone();
        let policy = asked_policy.unwrap_or(settings.inactivity);
        // One that is to be considered would be switched on now, unless one is on.
        let on_since = if settings.inactivity.is_on() {
            settings.inactivity_since
        } else {
            Some(now)
        };
        let runs = self.store.inactivity_runs(tenant, None, RECENT_RUNS).await;
        let runs = runs.map_err(Failure::from)?;
        if !policy.is_on() {
            return Err(refused(&Refusal::field(
                "policy",
                "is required: the tenant has none; or set one (UpdateTenant)",
            )));
        }
        let mut query = preview_query(tenant, (policy, on_since), &runs, body.step(), until.max(now), now);
        let (mut total_count, mut active_count) = (0, 0);
        if after.is_none() {
            total_count = self.store.count_inactive(&query).await.map_err(Failure::from)?;
            let usage = self.store.seat_usage(tenant, now, now).await;
            active_count = usage.map_err(Failure::from)?.used;
        }
        query.limit = limit;
        query.position = after.as_ref().and_then(position);
        let found = self.store.inactive_users(&query).await.map_err(Failure::from)?;
        let next_page_token = question.next(&found, limit, |user| After {
            key: instant_key(match query.step {
                InactivityStep::Warn | InactivityStep::WarnAnew => user.inactive_since(),
                InactivityStep::TakeBack | InactivityStep::Deactivate { .. } => {
                    user.inactivity_warned_at.unwrap_or_default()
                }
            }),
            id: user.id.0,
        });
        let users = found.iter().map(|user| inactive(user, &query, &runs)).collect();
        Ok(Response::new(PreviewInactivityResponse {
            users,
            next_page_token,
            total_count,
            active_count,
        }))
    }

    async fn list_inactivity_runs(
        &self,
        request: Request<ListInactivityRunsRequest>,
    ) -> Result<Response<ListInactivityRunsResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let limit = faults.page_size("page_size", body.page_size);
        let asked = ListInactivityRunsRequest {
            page_size: 0,
            page_token: String::new(),
            ..body.clone()
        };
        let question = Question::new(&self.keys, "ListInactivityRuns", &asked);
        let after = question.after(&body.page_token, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::InactivityRead).await?;
        let found = self.store.inactivity_runs(tenant, after, limit).await;
        let found = found.map_err(Failure::from)?;
        let next_page_token = question.next(&found, limit, |run| After {
            key: instant_key(run.created_at),
            id: run.id.0,
        });
        Ok(Response::new(ListInactivityRunsResponse {
            runs: found.iter().map(message).collect(),
            next_page_token,
        }))
    }

    async fn approve_inactivity_run(
        &self,
        request: Request<ApproveInactivityRunRequest>,
    ) -> Result<Response<ApproveInactivityRunResponse>, Status> {
        let body = request.get_ref();
        let (tenant, run, options) = (body.tenant_id.clone(), body.run_id.clone(), body.options.clone());
        let run = self.decide(
            &request,
            "ApproveInactivityRun",
            (&tenant, &run),
            options.as_ref(),
            true,
        );
        Ok(Response::new(ApproveInactivityRunResponse { run: Some(run.await?) }))
    }

    async fn dismiss_inactivity_run(
        &self,
        request: Request<DismissInactivityRunRequest>,
    ) -> Result<Response<DismissInactivityRunResponse>, Status> {
        let body = request.get_ref();
        let (tenant, run, options) = (body.tenant_id.clone(), body.run_id.clone(), body.options.clone());
        let run = self.decide(
            &request,
            "DismissInactivityRun",
            (&tenant, &run),
            options.as_ref(),
            false,
        );
        Ok(Response::new(DismissInactivityRunResponse { run: Some(run.await?) }))
    }
}

impl App {
    async fn decide<T: prost::Message>(
        &self,
        request: &Request<T>,
        method: &str,
        (tenant, run): (&str, &str),
        options: Option<&MutationOptions>,
        approve: bool,
    ) -> Result<proto::InactivityRun, Status> {
        let (caller, mutation, mut faults) = self.begin(method, request, options)?;
        let tenant = parse_tenant(tenant, &mut faults);
        let id: InactivityRunId = faults.id("run_id", run);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::InactivityDecide).await?;
        let keys = Keys {
            tenants: [tenant].into(),
            inactivity: [tenant].into(),
            ..Keys::default()
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            let settings = world.tenant(tenant)?;
            let mut runs = world.loaded.inactivity.get_mut(&tenant).into_iter().flatten();
            let run = runs
                .find(|run| run.id == id)
                .ok_or_else(|| Refusal::InactivityRunNotFound(id.to_string()))?;
            let event = if approve {
                run.approve(&act.actor, act.now)?;
                EventType::InactivityApproved
            } else {
                run.dismiss(&act.actor, act.now)?;
                EventType::InactivityDismissed
            };
            changes.inactivity_runs.insert((tenant, id), run.clone());
            changes.events.push(act.event(event, tenant, None));
            wake_inactivity(&settings, act.now, changes);
            Ok(message(run))
        });
        Ok(self.engine.run(command).await?)
    }
}

/// A policy as it is set and asked about.
pub(crate) fn policy(policy: &proto::InactivityPolicy) -> InactivityPolicy {
    InactivityPolicy {
        warn_after_days: policy.warn_after_days.into(),
        deactivate_after_days: policy.deactivate_after_days.into(),
        exempt_administrators: !policy.include_administrators,
        max_share_percent: match policy.max_share_percent {
            0 => InactivityPolicy::default().max_share_percent,
            share => share.into(),
        },
    }
}

fn preview_query(
    tenant: TenantId,
    (policy, on_since): (InactivityPolicy, Option<Timestamp>),
    runs: &[InactivityRun],
    step: proto::InactivityStep,
    until: Timestamp,
    now: Timestamp,
) -> InactivityQuery {
    let (step, since) = match step {
        proto::InactivityStep::Deactivate => (
            InactivityStep::Deactivate {
                // Whom a dismissed run spares until then as well.
                after: spared_until(&policy, runs, until),
                until: until - policy.grace(),
            },
            until - policy.until_deactivation(),
        ),
        _ => (InactivityStep::WarnAnew, until - policy.until_warning()),
    };
    InactivityQuery {
        tenant,
        step,
        since,
        policy,
        on_since,
        exempt_administrators: policy.exempt_administrators,
        position: None,
        limit: 0,
        now,
    }
}

fn position(after: &After) -> Option<(Timestamp, UserId)> {
    let at = chrono::DateTime::parse_from_rfc3339(&after.key).ok()?;
    Some((at.to_utc(), UserId(after.id)))
}

/// When they are warned and deactivated, of those whom a query found.
fn inactive(user: &User, query: &InactivityQuery, runs: &[InactivityRun]) -> InactiveUser {
    let (policy, now, since) = (&query.policy, query.now, user.inactive_since());
    let warned = user.inactivity_warned_at;
    let warned = warned.filter(|warned| policy.holds(since, *warned, query.on_since));
    let schedule = policy.schedule(since, warned, now);
    let (deactivate_at, parked) = match warned {
        Some(warned) => deactivation(policy, runs, warned, schedule.deactivate_at, now),
        None => (schedule.deactivate_at.max(now), None),
    };
    InactiveUser {
        user: Some(convert::user(user, now)),
        warn_time: Some(convert::time(schedule.warn_at)),
        deactivate_time: Some(convert::time(deactivate_at)),
        parked_run_id: parked.map_or_else(String::new, |run| run.id.to_string()),
    }
}

fn message(run: &InactivityRun) -> proto::InactivityRun {
    proto::InactivityRun {
        tenant_id: run.tenant.to_string(),
        run_id: run.id.to_string(),
        state: match run.state {
            InactivityRunState::Parked => proto::InactivityRunState::Parked,
            InactivityRunState::Running => proto::InactivityRunState::Running,
            InactivityRunState::Done => proto::InactivityRunState::Done,
            InactivityRunState::Dismissed => proto::InactivityRunState::Dismissed,
        }
        .into(),
        create_time: Some(convert::time(run.created_at)),
        due_count: run.due,
        active_count: run.active,
        deactivated_count: run.deactivated,
        decide_time: run.decided_at.map(convert::time),
        decided_by: run.decided_by.clone(),
        end_time: run.ended_at.map(convert::time),
    }
}
