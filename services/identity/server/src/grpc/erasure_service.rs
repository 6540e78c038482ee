//! Erasures (S12, U9): asked for, approved, cancelled, acknowledged and certified. How they go on by themselves is in
//! `operations::erasure`.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use usher_core::account::Account;
use usher_core::audit::hex;
use usher_core::change::{Act, Changeset};
use usher_core::erasure::{self, Erasure, ErasureState, MAX_SUBSCRIBERS};
use usher_core::ids::{ErasureId, TenantId, UserId};
use usher_core::ports::{After, ErasureQuery, Keys};
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_core::text;
use usher_proto::identity::v1::erasure_service_server::ErasureService;
use usher_proto::identity::v1::{
    self as proto, AcknowledgeErasureRequest, AcknowledgeErasureResponse, ApproveErasureRequest,
    ApproveErasureResponse, CancelErasureRequest, CancelErasureResponse, ErasureAcknowledgement, ErasureReason,
    GetErasureCertificateRequest, GetErasureCertificateResponse, GetErasureRequest, GetErasureResponse,
    ListErasureSubscribersRequest, ListErasureSubscribersResponse, ListErasuresRequest, ListErasuresResponse,
    RegisterErasureSubscriberRequest, RegisterErasureSubscriberResponse, RequestErasureRequest, RequestErasureResponse,
    UnregisterErasureSubscriberRequest, UnregisterErasureSubscriberResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{Mutation, finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::Failure;
use crate::operations::world::World;
use crate::page::{Question, instant_key};
use crate::parse::{Faults, MAX_IDS};
use crate::status::refused;

/// Characters of a service's name at most.
const MAX_SERVICE: usize = 100;
/// Characters of a note at most.
const MAX_NOTE: usize = 500;

#[tonic::async_trait]
impl ErasureService for App {
    async fn request_erasure(
        &self,
        request: Request<RequestErasureRequest>,
    ) -> Result<Response<RequestErasureResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("RequestErasure", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let mut users: Vec<UserId> = faults.ids("user_ids", &body.user_ids);
        let mut seen = BTreeSet::new();
        users.retain(|user| seen.insert(*user));
        let reason = reason(body.reason);
        if reason.is_none() {
            faults.add("reason", "is required: why they are to be erased");
        }
        let note = faults.take("note", text::line(&body.note, MAX_NOTE));
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresRequest).await?;
        let Some(reason) = reason else {
            return Err(Status::invalid_argument("reason is required"));
        };
        let keys = Keys {
            tenants: [tenant].into(),
            users: users.iter().map(|user| (tenant, *user)).collect(),
            with_erasures: true,
            ..Keys::default()
        };
        let weight = users.len();
        let mut command = mutation.clone().command(tenant, keys, move |world, changes| {
            world.tenant(tenant)?;
            let act = mutation.act(world.now);
            let mut erasures = Vec::with_capacity(users.len());
            for user in &users {
                if let Some(running) = world.erasure_of(tenant, *user)
                    && running.ended_at.is_none()
                {
                    return Err(Refusal::ErasureExists(user.to_string()));
                }
                let asked = erasure::Request {
                    reason,
                    note: note.clone(),
                };
                let account = world.account(tenant, *user)?;
                erasures.push(Erasure::request(account, asked, &act, changes)?);
            }
            Ok(RequestErasureResponse {
                erasures: taken(world, erasures),
            })
        });
        command.weight = weight;
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn approve_erasure(
        &self,
        request: Request<ApproveErasureRequest>,
    ) -> Result<Response<ApproveErasureResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("ApproveErasure", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let ids = faults.some_ids("erasure_ids", &body.erasure_ids, MAX_IDS);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresApprove).await?;
        let answer = |erasures| ApproveErasureResponse { erasures };
        self.change_erasures(mutation, tenant, ids, Erasure::approve, answer)
            .await
    }

    async fn cancel_erasure(
        &self,
        request: Request<CancelErasureRequest>,
    ) -> Result<Response<CancelErasureResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("CancelErasure", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let ids = faults.some_ids("erasure_ids", &body.erasure_ids, MAX_IDS);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresRequest).await?;
        let answer = |erasures| CancelErasureResponse { erasures };
        self.change_erasures(mutation, tenant, ids, Erasure::cancel, answer)
            .await
    }

    async fn get_erasure(&self, request: Request<GetErasureRequest>) -> Result<Response<GetErasureResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let found = self.readable(&caller, &body.tenant_id, &body.erasure_id).await?;
        Ok(Response::new(GetErasureResponse {
            erasure: Some(shown(&found)),
        }))
    }

    async fn list_erasures(
        &self,
        request: Request<ListErasuresRequest>,
    ) -> Result<Response<ListErasuresResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let user: Option<UserId> = faults.optional_id("user_id", &body.user_id);
        let mut states = Vec::new();
        for (index, given) in body.states.iter().enumerate() {
            match ErasureState::ALL.into_iter().find(|it| i32::from(state(*it)) == *given) {
                Some(state) => states.push(state),
                None => faults.add(format!("states[{index}]"), "is no state"),
            }
        }
        let limit = faults.page_size("page_size", body.page_size);
        let asked = ListErasuresRequest {
            page_size: 0,
            page_token: String::new(),
            ..body.clone()
        };
        let question = Question::new(&self.keys, "ListErasures", &asked);
        let after = question.after(&body.page_token, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresRead).await?;
        let query = ErasureQuery {
            tenant,
            states,
            user,
            after,
            limit,
        };
        let found = self.store.list_erasures(&query).await.map_err(Failure::from)?;
        let next_page_token = question.next(&found, limit, |row| After {
            key: instant_key(row.created_at),
            id: row.id.0,
        });
        Ok(Response::new(ListErasuresResponse {
            erasures: found.iter().map(shown).collect(),
            next_page_token,
        }))
    }

    async fn acknowledge_erasure(
        &self,
        request: Request<AcknowledgeErasureRequest>,
    ) -> Result<Response<AcknowledgeErasureResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("AcknowledgeErasure", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: ErasureId = faults.id("erasure_id", &body.erasure_id);
        let service = faults.service(&body.service);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresAcknowledge).await?;
        let seal = self.certify();
        let acknowledge = move |erasure: &mut Erasure, account: &Account, act: &Act, changes: &mut Changeset| {
            erasure.acknowledge(&service, account, &seal, act, changes)
        };
        let answer = |erasures: Vec<_>| AcknowledgeErasureResponse {
            erasure: erasures.into_iter().next(),
        };
        self.change_erasures(mutation, tenant, [id].into(), acknowledge, answer)
            .await
    }

    async fn register_erasure_subscriber(
        &self,
        request: Request<RegisterErasureSubscriberRequest>,
    ) -> Result<Response<RegisterErasureSubscriberResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) =
            self.begin("RegisterErasureSubscriber", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let service = faults.service(&body.service);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresSubscribe).await?;
        let command = mutation.command(tenant, subscriber_keys(tenant), move |world, changes| {
            world.tenant(tenant)?;
            let known = world.loaded.subscribers.entry(tenant).or_default();
            if known.len() >= MAX_SUBSCRIBERS && !known.contains(&service) {
                let fault = format!("is one too many: {MAX_SUBSCRIBERS} are registered; unregister another first");
                return Err(Refusal::field("service", fault));
            }
            known.insert(service.clone());
            changes.subscribers.insert((tenant, service.clone()), true);
            Ok(RegisterErasureSubscriberResponse {})
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn unregister_erasure_subscriber(
        &self,
        request: Request<UnregisterErasureSubscriberRequest>,
    ) -> Result<Response<UnregisterErasureSubscriberResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) =
            self.begin("UnregisterErasureSubscriber", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let service = faults.service(&body.service);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresSubscribe).await?;
        let command = mutation.command(tenant, subscriber_keys(tenant), move |world, changes| {
            world.tenant(tenant)?;
            let known = world.loaded.subscribers.entry(tenant).or_default();
            if !known.remove(&service) {
                return Err(Refusal::SubscriberNotFound(service.clone()));
            }
            changes.subscribers.insert((tenant, service.clone()), false);
            Ok(UnregisterErasureSubscriberResponse {})
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn list_erasure_subscribers(
        &self,
        request: Request<ListErasureSubscribersRequest>,
    ) -> Result<Response<ListErasureSubscribersResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let tenant = parse_tenant(&request.get_ref().tenant_id, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::ErasuresRead).await?;
        let services = self.store.erasure_subscribers(tenant).await.map_err(Failure::from)?;
        Ok(Response::new(ListErasureSubscribersResponse {
            services: services.into_iter().collect(),
        }))
    }

    async fn get_erasure_certificate(
        &self,
        request: Request<GetErasureCertificateRequest>,
    ) -> Result<Response<GetErasureCertificateResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.get_ref();
        let found = self.readable(&caller, &body.tenant_id, &body.erasure_id).await?;
        let certificate = found
            .certificate
            .ok_or_else(|| refused(&Refusal::ErasureNotComplete(found.id.to_string())))?;
        Ok(Response::new(GetErasureCertificateResponse {
            verified: self.is_certified(&certificate.text, &certificate.digest),
            digest: hex(&certificate.digest),
            issue_time: Some(convert::time(certificate.at)),
            text: certificate.text,
        }))
    }
}

impl App {
    /// Changes some erasures of a tenant: all of them, or none.
    async fn change_erasures<T: crate::operations::engine::Answer>(
        &self,
        mutation: Mutation,
        tenant: TenantId,
        ids: BTreeSet<ErasureId>,
        change: impl Fn(&mut Erasure, &Account, &Act, &mut Changeset) -> Result<(), Refusal> + Send + Sync + 'static,
        answer: impl Fn(Vec<proto::Erasure>) -> T + Send + Sync + 'static,
    ) -> Result<Response<T>, Status> {
        let keys = Keys {
            tenants: [tenant].into(),
            erasures: ids.iter().map(|id| (tenant, *id)).collect(),
            ..Keys::default()
        };
        let weight = ids.len();
        let mut command = mutation.clone().command(tenant, keys, move |world, changes| {
            world.tenant(tenant)?;
            let act = mutation.act(world.now);
            let mut changed = Vec::with_capacity(ids.len());
            for id in &ids {
                let (found, account) = world.erasure(tenant, *id)?;
                let mut erasure = found.clone();
                change(&mut erasure, account, &act, changes)?;
                changed.push(erasure);
            }
            Ok(answer(taken(world, changed)))
        });
        command.weight = weight;
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn readable(&self, caller: &Caller, tenant: &str, id: &str) -> Result<Erasure, Status> {
        let mut faults = Faults::default();
        let tenant = parse_tenant(tenant, &mut faults);
        let id: ErasureId = faults.id("erasure_id", id);
        finish(faults)?;
        self.permit(caller, tenant, Permission::ErasuresRead).await?;
        let found = self.store.erasure(tenant, id).await.map_err(Failure::from)?;
        found.ok_or_else(|| refused(&Refusal::ErasureNotFound(id.to_string())))
    }
}

impl Faults {
    /// The name of a service.
    fn service(&mut self, text: &str) -> String {
        let service = self.take("service", text::line(text, MAX_SERVICE));
        if text.trim().is_empty() {
            self.add("service", "is required: 1 to 100 characters that name the service");
        }
        service
    }
}

/// Who registers, or is registered, waits for others who do: a tenant's services are few.
fn subscriber_keys(tenant: TenantId) -> Keys {
    Keys {
        tenants: [tenant].into(),
        lock_tenants: true,
        subscribers: [tenant].into(),
        ..Keys::default()
    }
}

/// The world takes them in, once nothing is refused any more.
fn taken(world: &mut World, erasures: Vec<Erasure>) -> Vec<proto::Erasure> {
    let all = erasures.iter().map(shown).collect();
    for erasure in erasures {
        world.loaded.erasures.insert((erasure.tenant, erasure.id), erasure);
    }
    all
}

fn reason(given: i32) -> Option<erasure::ErasureReason> {
    match ErasureReason::try_from(given) {
        Ok(ErasureReason::PersonRequest) => Some(erasure::ErasureReason::PersonRequest),
        Ok(ErasureReason::RightToErasure) => Some(erasure::ErasureReason::RightToErasure),
        Ok(ErasureReason::EndOfRetention) => Some(erasure::ErasureReason::EndOfRetention),
        Ok(ErasureReason::Unspecified) | Err(_) => None,
    }
}

fn state(state: ErasureState) -> proto::ErasureState {
    match state {
        ErasureState::AwaitingApproval => proto::ErasureState::AwaitingApproval,
        ErasureState::CoolingOff => proto::ErasureState::CoolingOff,
        ErasureState::Erasing => proto::ErasureState::Erasing,
        ErasureState::Announced => proto::ErasureState::Announced,
        ErasureState::Erased => proto::ErasureState::Erased,
        ErasureState::Cancelled => proto::ErasureState::Cancelled,
    }
}

fn shown(erasure: &Erasure) -> proto::Erasure {
    proto::Erasure {
        tenant_id: erasure.tenant.to_string(),
        erasure_id: erasure.id.to_string(),
        user_id: erasure.user.to_string(),
        reason: match erasure.reason {
            erasure::ErasureReason::PersonRequest => ErasureReason::PersonRequest,
            erasure::ErasureReason::RightToErasure => ErasureReason::RightToErasure,
            erasure::ErasureReason::EndOfRetention => ErasureReason::EndOfRetention,
        }
        .into(),
        state: state(erasure.state).into(),
        requester_id: erasure.requester.clone(),
        approver_id: erasure.approver.clone(),
        canceller_id: erasure.canceller.clone(),
        note: erasure.note.clone(),
        create_time: Some(convert::time(erasure.created_at)),
        due_time: erasure.due_at.map(convert::time),
        erase_time: erasure.erased_at.map(convert::time),
        deadline_time: erasure.deadline.map(convert::time),
        end_time: erasure.ended_at.map(convert::time),
        acknowledgements: erasure
            .services
            .iter()
            .map(|(service, at)| ErasureAcknowledgement {
                service: service.clone(),
                acknowledge_time: at.map(convert::time),
            })
            .collect(),
    }
}
