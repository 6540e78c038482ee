//! Work, for workers: begun and ended by conditional updates.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use usher_core::account::{Begin, Effect, NotNeeded, mailed_since};
use usher_core::clock::Timestamp;
use usher_core::delivery::{Claim, Report};
use usher_core::ids::{ClaimId, DeliveryId, ErasureId, TenantId, UserId};
use usher_core::ports::Keys;
use usher_core::text;
use usher_proto::identity::v1::work_service_server::WorkService;
use usher_proto::identity::v1::{
    BeginDeliveryRequest, BeginDeliveryResponse, ClaimedMail, EraseUsersRequest, EraseUsersResponse,
    ExpireUsersRequest, ExpireUsersResponse, FinishDeliveryRequest, FinishDeliveryResponse,
    NotNeeded as ProtoNotNeeded, NotNeededReason, OutgoingMail, ReportTransmittingRequest, ReportTransmittingResponse,
    begin_delivery_response,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{by_worker, finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::{Answer, Command, Failure};
use crate::operations::erasure;
use crate::parse::{Faults, MAX_IDS};
use crate::render::Letter;

/// Characters of a server's answer that are kept.
const MAX_RESPONSE: usize = 500;
/// Erasures of one call at most.
const MAX_ERASURES: usize = 100;

#[tonic::async_trait]
impl WorkService for App {
    async fn begin_delivery(
        &self,
        request: Request<BeginDeliveryRequest>,
    ) -> Result<Response<BeginDeliveryResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let work = Work::parse(&body.tenant_id, &body.user_id, &body.delivery_id, &mut faults);
        let worker = faults.take("worker_id", text::line(&body.worker_id, 100));
        if worker.is_empty() {
            faults.add("worker_id", "is required: 1 to 100 characters that name the worker");
        }
        finish(faults)?;
        self.permit_worker(&caller)?;
        let (leases, act) = (self.leases, by_worker());
        let keys = Keys {
            with_mailed_since: Some(mailed_since(self.now())),
            ..work.keys()
        };
        let command = Command::new(keys, move |world, changes| {
            let act = act(world.now);
            let Some(user) = work.user else {
                let tenant = world.tenant(work.tenant)?;
                let test = world.detached(work.tenant, work.delivery)?;
                let begun = test.begin(&worker, leases, &act, changes);
                let delivery = Box::new(test.0.clone());
                return Ok(Begun(begun, Some(Letter::Test(tenant, delivery))));
            };
            let account = world.account(work.tenant, user)?;
            let begun = account.begin_delivery(work.delivery, &worker, leases, &act, changes);
            let delivery = account.deliveries.iter().find(|delivery| delivery.id == work.delivery);
            let letter = delivery
                .filter(|_| matches!(begun, Begin::Claimed(_)))
                .map(|delivery| Letter::Personal(Box::new(account.clone()), Box::new(delivery.clone())));
            Ok(Begun(begun, letter))
        });
        // Written after the transaction, so that no other call waits for it.
        let outcome = match self.engine.run(command).await? {
            Begun(Begin::Claimed(claim), letter) => {
                let mail = match letter {
                    Some(letter) => letter.write(self).await?,
                    None => Some(OutgoingMail::default()),
                };
                if let Some(mail) = mail {
                    begin_delivery_response::Outcome::Mail(self.claimed(&claim, mail))
                } else {
                    self.withdraw(work, claim.id).await?;
                    begin_delivery_response::Outcome::NotNeeded(not_needed(NotNeeded::Cancelled))
                }
            }
            Begun(Begin::NotNeeded(why), _) => begin_delivery_response::Outcome::NotNeeded(not_needed(why)),
        };
        Ok(Response::new(BeginDeliveryResponse { outcome: Some(outcome) }))
    }

    async fn report_transmitting(
        &self,
        request: Request<ReportTransmittingRequest>,
    ) -> Result<Response<ReportTransmittingResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let work = Work::parse(&body.tenant_id, &body.user_id, &body.delivery_id, &mut faults);
        let claim: ClaimId = faults.id("claim_id", &body.claim_id);
        finish(faults)?;
        self.permit_worker(&caller)?;
        let (leases, act) = (self.leases, by_worker());
        let command = Command::new(work.keys(), move |world, changes| {
            let act = act(world.now);
            let lease_until = match work.user {
                None => world
                    .detached(work.tenant, work.delivery)?
                    .transmitting(claim, leases, &act, changes)?,
                Some(user) => world.account(work.tenant, user)?.decide(changes, |account, changes| {
                    account.report_transmitting(work.delivery, claim, leases, &act, changes)
                })?,
            };
            Ok(ReportTransmittingResponse {
                lease_end_time: Some(convert::time(lease_until)),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn finish_delivery(
        &self,
        request: Request<FinishDeliveryRequest>,
    ) -> Result<Response<FinishDeliveryResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let work = Work::parse(&body.tenant_id, &body.user_id, &body.delivery_id, &mut faults);
        let claim: ClaimId = faults.id("claim_id", &body.claim_id);
        let outcome = convert::outcome_of(body.outcome);
        if outcome.is_none() {
            faults.add("outcome", "is required");
        }
        finish(faults)?;
        self.permit_worker(&caller)?;
        let Some(outcome) = outcome else {
            return Err(Status::invalid_argument("outcome is required"));
        };
        let report = Report {
            outcome,
            response: one_line(&body.response),
            smtp_code: body.smtp_code,
            phase: convert::phase_of(body.phase),
        };
        let act = by_worker();
        let command = Command::new(work.keys(), move |world, changes| {
            let act = act(world.now);
            match work.user {
                None => world
                    .detached(work.tenant, work.delivery)?
                    .finish(claim, &report, &act, changes)?,
                Some(user) => world.account(work.tenant, user)?.decide(changes, |account, changes| {
                    account.finish_delivery(work.delivery, claim, &report, &act, changes)
                })?,
            }
            Ok(FinishDeliveryResponse {})
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn expire_users(
        &self,
        request: Request<ExpireUsersRequest>,
    ) -> Result<Response<ExpireUsersResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        if body.items.is_empty() || body.items.len() > MAX_IDS {
            faults.add("items", format!("has {} items; give 1 to {MAX_IDS}", body.items.len()));
        }
        let mut items: Vec<(TenantId, UserId, Timestamp)> = Vec::with_capacity(body.items.len());
        for (index, item) in body.items.iter().take(MAX_IDS).enumerate() {
            let at = |field: &str| format!("items[{index}].{field}");
            let tenant = faults.id(&at("tenant_id"), &item.tenant_id);
            let user = faults.id(&at("user_id"), &item.user_id);
            let due = faults.instant(&at("expire_time"), item.expire_time);
            if due.is_none() {
                faults.add(at("expire_time"), "is required: the expiration that was due");
            }
            items.extend(due.map(|due| (tenant, user, due)));
        }
        finish(faults)?;
        self.permit_worker(&caller)?;
        let keys = Keys {
            users: items.iter().map(|(tenant, user, _)| (*tenant, *user)).collect(),
            with_mail: true,
            ..Keys::default()
        };
        let (weight, act) = (items.len(), by_worker());
        let mut command = Command::new(keys, move |world, changes| {
            let act = act(world.now);
            let mut answer = ExpireUsersResponse::default();
            for (tenant, user, due) in &items {
                let account = world.loaded.accounts.get_mut(&(*tenant, *user));
                match account.map(|account| account.expire(*due, &act, changes)) {
                    Some(Effect::Changed) => answer.expired_count += 1,
                    Some(Effect::Unchanged) | None => answer.unchanged_count += 1,
                }
            }
            Ok(answer)
        });
        command.weight = weight;
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn erase_users(&self, request: Request<EraseUsersRequest>) -> Result<Response<EraseUsersResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        if body.items.is_empty() || body.items.len() > MAX_ERASURES {
            faults.add(
                "items",
                format!("has {} items; give 1 to {MAX_ERASURES}", body.items.len()),
            );
        }
        let items: BTreeSet<(TenantId, ErasureId)> = body
            .items
            .iter()
            .take(MAX_ERASURES)
            .enumerate()
            .map(|(index, item)| {
                let at = |field: &str| format!("items[{index}].{field}");
                let tenant = faults.id(&at("tenant_id"), &item.tenant_id);
                (tenant, faults.id(&at("erasure_id"), &item.erasure_id))
            })
            .collect();
        finish(faults)?;
        self.permit_worker(&caller)?;
        // In a task of its own: a caller that hangs up does not break it off.
        let (app, asked) = (self.clone(), items.len());
        let advanced = tokio::spawn(async move { erasure::advance(&app, items).await }.in_current_span());
        let advanced = advanced.await.map_err(|error| Failure::Internal(error.to_string()))??;
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Response::new(EraseUsersResponse {
            advanced_count: count(advanced),
            unchanged_count: count(asked.saturating_sub(advanced)),
        }))
    }
}

/// What beginning a delivery came to, and the mail that is to be written.
struct Begun(Begin, Option<Letter>);

// Never kept: workers' calls are not repeatable.
impl Answer for Begun {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decode(_: &[u8]) -> Option<Self> {
        None
    }
}

fn not_needed(why: NotNeeded) -> ProtoNotNeeded {
    let reason = match why {
        NotNeeded::Ended => NotNeededReason::Ended,
        NotNeeded::Claimed => NotNeededReason::Claimed,
        NotNeeded::NotDue => NotNeededReason::NotDue,
        NotNeeded::Cancelled => NotNeededReason::Cancelled,
        NotNeeded::Suppressed => NotNeededReason::Suppressed,
    };
    ProtoNotNeeded { reason: reason.into() }
}

impl App {
    /// A mail that was claimed has nothing to say any more.
    async fn withdraw(&self, work: Work, claim: ClaimId) -> Result<(), Failure> {
        let act = by_worker();
        let command = Command::new(work.keys(), move |world, changes| {
            let act = act(world.now);
            if let Some(user) = work.user {
                let account = world.account(work.tenant, user)?;
                account.withdraw_delivery(work.delivery, claim, &act, changes);
            }
            Ok(())
        });
        self.engine.run(command).await
    }

    fn claimed(&self, claim: &Claim, mail: OutgoingMail) -> ClaimedMail {
        ClaimedMail {
            claim_id: claim.id.to_string(),
            lease_end_time: Some(convert::time(claim.lease_until)),
            transmit_lease_seconds: i32::try_from(self.leases.transmit.num_seconds()).unwrap_or(i32::MAX),
            mail: Some(mail),
        }
    }
}

/// Which mail a call is about.
#[derive(Debug, Clone, Copy)]
struct Work {
    tenant: TenantId,
    user: Option<UserId>,
    delivery: DeliveryId,
}

impl Work {
    fn parse(tenant: &str, user: &str, delivery: &str, faults: &mut Faults) -> Self {
        Self {
            tenant: parse_tenant(tenant, faults),
            user: faults.optional_id("user_id", user),
            delivery: faults.id("delivery_id", delivery),
        }
    }

    fn keys(&self) -> Keys {
        Keys {
            tenants: [self.tenant].into(),
            users: self.user.map(|user| (self.tenant, user)).into_iter().collect(),
            deliveries: [(self.tenant, self.delivery)].into(),
            with_mail: true,
            ..Keys::default()
        }
    }
}

/// A server's words, cut at 500 characters.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_RESPONSE)
        .collect();
    line.trim().to_owned()
}
