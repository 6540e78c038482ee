//! Acts on many users at once (U5, U6, B7). The work itself is done by `background::jobs`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use usher_authorization::{Intent, Resource};
use usher_core::event::{Event, EventType};
use usher_core::ids::{JobId, SelectionId, TenantId};
use usher_core::job::{Counts, ItemInput, ItemOutcome, ItemResult, Job, JobAction, JobState, Selection};
use usher_core::ports::{After, JobQuery, Keys};
use usher_core::refusal::Refusal;
use usher_core::role::{Permission, RoleRef};
use usher_proto::identity::v1::bulk_service_server::BulkService;
use usher_proto::identity::v1::{
    self as proto, CancelJobRequest, CancelJobResponse, DownloadJobReportRequest, DownloadJobReportResponse,
    GetJobRequest, GetJobResponse, ListJobItemsRequest, ListJobItemsResponse, ListJobsRequest, ListJobsResponse,
    PreviewSelectionRequest, PreviewSelectionResponse, RetryFailedRequest, RetryFailedResponse, StartBulkRequest,
    StartBulkResponse, UndoJobRequest, UndoJobResponse, WatchJobRequest, WatchJobResponse,
};
use uuid::Uuid;

use super::job_items::{Place, user_item};
use super::selecting::SelectionWriter;
use crate::app::App;
use crate::audit::{note_detail, note_hidden_refusal, note_read};
use crate::authorize::Caller;
use crate::call::{Mutation, finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::bulk;
use crate::operations::engine::{Answer, Failure};
use crate::page::{Question, instant_key};
use crate::parse::Faults;
use crate::status::refused;

/// How often a job is looked at while it is watched, if nothing wakes the stream.
const PERIOD: Duration = Duration::from_millis(500);

#[tonic::async_trait]
impl BulkService for App {
    type WatchJobStream = ReceiverStream<Result<WatchJobResponse, Status>>;
    type DownloadJobReportStream = ReceiverStream<Result<DownloadJobReportResponse, Status>>;

    async fn preview_selection(
        &self,
        request: Request<PreviewSelectionRequest>,
    ) -> Result<Response<PreviewSelectionResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let chosen = self.chosen(body.selection.as_ref(), tenant, &mut faults);
        finish(faults)?;
        self.tenant(tenant).await?;
        let judge = self.judge(&caller, tenant).await?;
        let mut writer = SelectionWriter::new(self, tenant, SelectionId(Uuid::new_v4()));
        let mut missing = Vec::new();
        self.each_chosen(&judge, chosen, Permission::JobsRun, &mut writer, &mut missing)
            .await?;
        // Whoever may run jobs is shown those of them whom they may read.
        let sample = std::mem::take(&mut writer.sample);
        let sample = self.reached(&judge, tenant, Permission::UsersRead, sample).await?;
        let sample: Vec<_> = sample.into_iter().map(|user| (tenant, user)).collect();
        let (selection, digest) = writer.finish().await?;
        note_detail("count", selection.count.to_string());
        let now = self.now();
        let mut sample = self.store.users(&sample).await.map_err(Failure::from)?;
        sample.sort_by_key(|user| user.id);
        Ok(Response::new(PreviewSelectionResponse {
            digest,
            user_count: selection.count,
            sample: sample.iter().map(|user| convert::user(user, now)).collect(),
            missing_user_ids: missing,
            expire_time: Some(convert::time(selection.until)),
        }))
    }

    async fn start_bulk(&self, request: Request<StartBulkRequest>) -> Result<Response<StartBulkResponse>, Status> {
        let mut faults = Faults::default();
        let body = request.get_ref();
        let mutation = Mutation::parse("StartBulk", &request, body.options.as_ref(), &self.keys, &mut faults);
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let digest = body.digest.clone();
        let action = faults.bulk_action("action", body.action.as_ref(), self.now());
        finish(faults)?;
        let caller = Caller::of(request.metadata())?;
        self.permit_somewhere(&caller, tenant, Permission::JobsRun).await?;
        self.permit_action(&caller, tenant, &action).await?;
        let selection = match self.selection(tenant, &digest).await {
            Ok(selection) => selection,
            Err(refusal) => return self.started_before(&mutation, tenant, refusal).await,
        };
        let items = Items::of(&selection);
        let job = self.start(mutation, tenant, action, items, None, |job| StartBulkResponse { job });
        Ok(Response::new(job.await?))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let body = request.get_ref();
        let (tenant, id) = job_ids(&body.tenant_id, &body.job_id)?;
        let job = self
            .permitted_job(&Caller::of(request.metadata())?, tenant, Permission::JobsRead, id)
            .await?;
        Ok(Response::new(GetJobResponse {
            job: Some(convert::job(&job)),
        }))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let metadata = request.metadata().clone();
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let mut states = Vec::new();
        for (index, state) in body.states.iter().enumerate() {
            match proto::JobState::try_from(*state) {
                Ok(proto::JobState::Running) => states.push(JobState::Running),
                Ok(proto::JobState::Done) => states.push(JobState::Done),
                Ok(proto::JobState::Cancelled) => states.push(JobState::Cancelled),
                Ok(proto::JobState::Unspecified) | Err(_) => faults.add(format!("states[{index}]"), "is no state"),
            }
        }
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListJobs", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        let caller = Caller::of(&metadata)?;
        let reach = self.permit_reach(&caller, tenant, Permission::JobsRead).await?;
        let query = JobQuery {
            tenant,
            actor: caller.only_own(&reach),
            states,
            origin: None,
            after,
            limit,
        };
        let found = self.store.list_jobs(&query).await.map_err(Failure::from)?;
        let next_page_token = question.next(&found, limit, |job| After {
            key: instant_key(job.created_at),
            id: job.id.0,
        });
        Ok(Response::new(ListJobsResponse {
            jobs: found.iter().map(convert::job).collect(),
            next_page_token,
        }))
    }

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let body = request.get_ref();
        let (tenant, id) = job_ids(&body.tenant_id, &body.job_id)?;
        let first = self
            .permitted_job(&Caller::of(request.metadata())?, tenant, Permission::JobsRead, id)
            .await?;
        let (sender, receiver) = mpsc::channel(4);
        let (app, mut commits) = (self.clone(), self.engine.commits());
        tokio::spawn(async move {
            let mut told: Option<Job> = None;
            let mut found = Ok(first);
            loop {
                match found {
                    Ok(job) if told.as_ref() != Some(&job) => {
                        let ended = job.state.has_ended();
                        let answer = WatchJobResponse {
                            job: Some(convert::job(&job)),
                        };
                        told = Some(job);
                        if sender.send(Ok(answer)).await.is_err() || ended {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(status) => {
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                }
                tokio::select! {
                    () = app.shutdown.cancelled() => {
                        let _ = sender.try_send(Err(Status::unavailable("the service is stopping; watch again")));
                        return;
                    }
                    () = sender.closed() => return,
                    () = async { let _ = commits.changed().await; tokio::time::sleep(PERIOD / 10).await } => {}
                    () = tokio::time::sleep(PERIOD) => {}
                }
                found = app.job(tenant, id).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_job_items(
        &self,
        request: Request<ListJobItemsRequest>,
    ) -> Result<Response<ListJobItemsResponse>, Status> {
        let metadata = request.metadata().clone();
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: JobId = faults.id("job_id", &body.job_id);
        let mut outcomes = Vec::new();
        for (index, outcome) in body.outcomes.iter().enumerate() {
            match convert::item_outcome_named(*outcome) {
                Some(outcome) => outcomes.push(outcome),
                None => faults.add(format!("outcomes[{index}]"), "is no outcome"),
            }
        }
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListJobItems", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        self.permitted_job(&Caller::of(&metadata)?, tenant, Permission::JobsRead, id)
            .await?;
        let place = after.and_then(|after| Place::read(&after.key)).unwrap_or_default();
        let (items, next) = self.items(tenant, id, place, &outcomes, limit).await?;
        note_read(items.len(), &body, &self.keys);
        Ok(Response::new(ListJobItemsResponse {
            next_page_token: next.map_or_else(String::new, |place| question.token(&place.after())),
            items,
        }))
    }

    async fn download_job_report(
        &self,
        request: Request<DownloadJobReportRequest>,
    ) -> Result<Response<Self::DownloadJobReportStream>, Status> {
        let body = request.get_ref();
        let (tenant, id) = job_ids(&body.tenant_id, &body.job_id)?;
        self.permitted_job(&Caller::of(request.metadata())?, tenant, Permission::JobsRead, id)
            .await?;
        note_detail("job_id", id.to_string());
        Ok(Response::new(self.report(tenant, id)))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        let mut faults = Faults::default();
        let body = request.get_ref();
        let mutation = Mutation::parse("CancelJob", &request, body.options.as_ref(), &self.keys, &mut faults);
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: JobId = faults.id("job_id", &body.job_id);
        finish(faults)?;
        self.permitted_job(&Caller::of(request.metadata())?, tenant, Permission::JobsRun, id)
            .await?;
        let keys = Keys {
            tenants: [tenant].into(),
            jobs: [(tenant, id)].into(),
            ..Keys::default()
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let found = world.loaded.jobs.get(&(tenant, id)).cloned();
            let mut job = found.ok_or_else(|| Refusal::JobNotFound(id.to_string()))?;
            if !job.state.has_ended() {
                job.state = JobState::Cancelled;
                job.ended_at = Some(world.now);
                let act = mutation.act(world.now);
                changes.events.push(Event {
                    job: Some(id),
                    ..act.event(EventType::JobEnded, tenant, None)
                });
                changes.jobs.insert((tenant, id), job.clone());
                world.loaded.jobs.insert((tenant, id), job.clone());
            }
            Ok(CancelJobResponse {
                job: Some(convert::job(&job)),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn retry_failed(
        &self,
        request: Request<RetryFailedRequest>,
    ) -> Result<Response<RetryFailedResponse>, Status> {
        let mut faults = Faults::default();
        let body = request.get_ref();
        let mutation = Mutation::parse("RetryFailed", &request, body.options.as_ref(), &self.keys, &mut faults);
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: JobId = faults.id("job_id", &body.job_id);
        finish(faults)?;
        let origin = self.ended_job(&Caller::of(request.metadata())?, tenant, id).await?;
        let again = |item: &ItemResult| matches!(item.outcome, ItemOutcome::Failed | ItemOutcome::Skipped);
        let from_input = matches!(origin.action, JobAction::Import { .. } | JobAction::Undo);
        let items = if from_input {
            self.inputs_of(&origin, again).await?
        } else {
            self.outcomes_of(&origin, |item| again(item).then(|| user_item(item)))
                .await?
        };
        let items = Items {
            filter: origin.filter,
            ..items
        };
        if items.count == 0 {
            return Err(refused(&Refusal::NothingToRetry));
        }
        let job = self.start(mutation, tenant, origin.action, items, Some(id), |job| {
            RetryFailedResponse { job }
        });
        Ok(Response::new(job.await?))
    }

    async fn undo_job(&self, request: Request<UndoJobRequest>) -> Result<Response<UndoJobResponse>, Status> {
        let mut faults = Faults::default();
        let body = request.get_ref();
        let mutation = Mutation::parse("UndoJob", &request, body.options.as_ref(), &self.keys, &mut faults);
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: JobId = faults.id("job_id", &body.job_id);
        finish(faults)?;
        let origin = self.ended_job(&Caller::of(request.metadata())?, tenant, id).await?;
        if !origin.action.can_be_undone() {
            return Err(refused(&Refusal::CannotBeUndone(origin.action.name().into())));
        }
        if let Some(before) = self.undone_by(tenant, id).await? {
            let refusal = refused(&Refusal::UndoneBefore(before.to_string()));
            return self.started_before(&mutation, tenant, refusal).await;
        }
        let back = |item: &ItemResult| {
            item.undo.is_some().then(|| ItemInput {
                undo: item.undo.clone(),
                ..user_item(item)
            })
        };
        let items = self.outcomes_of(&origin, back).await?;
        let job = self.start(mutation, tenant, JobAction::Undo, items, Some(id), |job| {
            UndoJobResponse { job }
        });
        Ok(Response::new(job.await?))
    }
}

impl App {
    /// Refuses a job that reaches into places which are not for whoever acts, or gives more than they hold: each item would
    /// be refused for the same reason (L6, U1). Each is asked about again when its turn comes.
    async fn permit_action(&self, caller: &Caller, tenant: TenantId, action: &JobAction) -> Result<(), Status> {
        let (places, given) = (bulk::places(action, None), bulk::given(action, None));
        if places.is_empty() {
            return Ok(());
        }
        let judge = self.judge(caller, tenant).await?;
        let roles = if given.iter().any(|(role, _)| matches!(role, RoleRef::Custom(_))) {
            self.store.roles(tenant).await.map_err(Failure::from)?
        } else {
            Vec::new()
        };
        let mut asking = judge.asker();
        let each = places.into_iter().try_for_each(|(permission, scope)| {
            asking.require(permission, &Resource::Scope(scope), &Intent::default())
        });
        each.and_then(|()| asking.require_given_of(&given, |id| roles.iter().find(|role| role.id == id)))
            .map_err(|refusal| refused(&refusal))
    }

    async fn selection(&self, tenant: TenantId, digest: &str) -> Result<Selection, Status> {
        let unknown = || refused(&Refusal::SelectionNotFound);
        let named = URL_SAFE_NO_PAD.decode(digest).map_err(|_| unknown())?;
        let (id, digest) = named.split_at_checked(16).ok_or_else(unknown)?;
        let id = SelectionId(Uuid::from_slice(id).map_err(|_| unknown())?);
        let found = self.store.selection(tenant, id).await.map_err(Failure::from)?;
        let usable = found.filter(|found| found.digest == digest && found.until > self.now());
        usable.ok_or_else(unknown)
    }

    /// A start that is repeated may be refused by now, since the selection is gone, or since it did what it was to do: it is
    /// answered as the first was (B1).
    pub(super) async fn started_before<T: Answer>(
        &self,
        mutation: &Mutation,
        tenant: TenantId,
        refusal: Status,
    ) -> Result<Response<T>, Status> {
        let never = Refusal::SelectionNotFound;
        let refuse = never.clone();
        let command = mutation.command::<T, _>(tenant, Keys::default(), move |_, _| Err(refuse.clone()));
        if command.repeatable.is_none() {
            return Err(refusal);
        }
        match self.engine.run(command).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(Failure::Refused(refused)) if refused == never => Err(refusal),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The job that took this one back already: a second time, it would take back what others did since.
    async fn undone_by(&self, tenant: TenantId, id: JobId) -> Result<Option<JobId>, Status> {
        let query = JobQuery {
            tenant,
            actor: None,
            states: vec![JobState::Running, JobState::Done],
            origin: Some(id),
            after: None,
            limit: 1_000,
        };
        let found = self.store.list_jobs(&query).await.map_err(Failure::from)?;
        let undo = found.into_iter().find(|job| job.action == JobAction::Undo);
        Ok(undo.map(|job| job.id))
    }

    /// Starts a job.
    pub(crate) async fn start<T: Answer>(
        &self,
        mutation: Mutation,
        tenant: TenantId,
        action: JobAction,
        items: Items,
        origin: Option<JobId>,
        answer: impl Fn(Option<proto::Job>) -> T + Send + Sync + 'static,
    ) -> Result<T, Status> {
        let id = JobId::mint(self.now());
        let keys = Keys {
            tenants: [tenant].into(),
            ..Keys::default()
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            world.tenant(tenant)?;
            let act = mutation.act(world.now);
            let state = if items.count == 0 {
                JobState::Done
            } else {
                JobState::Running
            };
            let job = Job {
                tenant,
                id,
                action: action.clone(),
                state,
                selection: items.selection,
                filter: items.filter.clone(),
                total: items.count,
                next_chunk: 0,
                counts: Counts::default(),
                origin,
                actor: act.actor.clone(),
                reason: act.reason.clone(),
                request_id: act.request_id.clone(),
                revision: 0,
                created_at: act.now,
                ended_at: state.has_ended().then_some(act.now),
            };
            changes.events.push(Event {
                job: Some(id),
                ..act.event(EventType::JobStarted, tenant, None)
            });
            if state.has_ended() {
                changes.events.push(Event {
                    job: Some(id),
                    ..act.event(EventType::JobEnded, tenant, None)
                });
            }
            changes.jobs.insert((tenant, id), job.clone());
            Ok(answer(Some(convert::job(&job))))
        });
        let answer = self.engine.run(command).await?;
        self.job_started.notify_one();
        Ok(answer)
    }

    pub(super) async fn job(&self, tenant: TenantId, id: JobId) -> Result<Job, Status> {
        let found = self.store.job(tenant, id).await.map_err(Failure::from)?;
        found.ok_or_else(|| refused(&Refusal::JobNotFound(id.to_string())))
    }

    /// A job that whoever acts may know of: of those who reach into some groups only, their own (U2).
    async fn permitted_job(
        &self,
        caller: &Caller,
        tenant: TenantId,
        permission: Permission,
        id: JobId,
    ) -> Result<Job, Status> {
        let reach = self.permit_reach(caller, tenant, permission).await?;
        let job = self.job(tenant, id).await?;
        match caller.only_own(&reach) {
            Some(actor) if actor != job.actor => {
                note_hidden_refusal();
                Err(refused(&Refusal::JobNotFound(id.to_string())))
            }
            _ => Ok(job),
        }
    }

    /// The same of a job that others are made from: one that has ended.
    async fn ended_job(&self, caller: &Caller, tenant: TenantId, id: JobId) -> Result<Job, Status> {
        let job = self.permitted_job(caller, tenant, Permission::JobsRun, id).await?;
        if job.state.has_ended() {
            Ok(job)
        } else {
            Err(refused(&Refusal::JobRunning(id.to_string())))
        }
    }
}

/// What a job works on.
#[derive(Debug, Clone)]
pub(crate) struct Items {
    pub(crate) selection: SelectionId,
    pub(crate) count: i64,
    /// As `Selection::filter`.
    pub(crate) filter: String,
}

impl Items {
    pub(crate) fn of(selection: &Selection) -> Self {
        Self {
            selection: selection.id,
            count: selection.count,
            filter: selection.filter.clone(),
        }
    }
}

fn job_ids(tenant: &str, job: &str) -> Result<(TenantId, JobId), Status> {
    let mut faults = Faults::default();
    let parsed = (parse_tenant(tenant, &mut faults), faults.id("job_id", job));
    finish(faults)?;
    Ok(parsed)
}
