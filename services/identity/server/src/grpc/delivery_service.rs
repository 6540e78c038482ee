//! What became of each mail, and the addresses that get none.

use tonic::{Request, Response, Status};
use usher_core::account::Resolution;
use usher_core::ids::{DeliveryId, UserId};
use usher_core::ports::{After, DeliveryQuery, Keys};
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_proto::identity::v1::delivery_service_server::DeliveryService;
use usher_proto::identity::v1::{
    DeliveryResolution, ListDeliveriesRequest, ListDeliveriesResponse, ListSuppressionsRequest,
    ListSuppressionsResponse, RemoveSuppressionRequest, RemoveSuppressionResponse, ReportBounceRequest,
    ReportBounceResponse, ResolveDeliveryRequest, ResolveDeliveryResponse,
};

use crate::app::App;
use crate::audit::note_read;
use crate::authorize::Caller;
use crate::call::{finish, tenant as parse_tenant};
use crate::convert;
use crate::grpc::bounces;
use crate::operations::engine::Failure;
use crate::page::{Question, instant_key};
use crate::parse::Faults;

#[tonic::async_trait]
impl DeliveryService for App {
    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let user: Option<UserId> = faults.optional_id("user_id", &body.user_id);
        let mut states = Vec::new();
        for (index, state) in body.states.iter().enumerate() {
            match convert::delivery_state_name(*state) {
                Some(state) => states.push(state),
                None => faults.add(format!("states[{index}]"), "is no state"),
            }
        }
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListDeliveries", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        let groups = self
            .permit_list(&caller, tenant, Permission::DeliveriesRead, user)
            .await?;
        let query = DeliveryQuery {
            tenant,
            groups,
            user,
            delivery: None,
            states,
            after,
            limit,
        };
        let found = self.store.list_deliveries(&query).await.map_err(Failure::from)?;
        let next_page_token = question.next(&found, limit, |row| After {
            key: instant_key(row.delivery.created_at),
            id: row.delivery.id.0,
        });
        note_read(found.len(), &body, &self.keys);
        let domain = &self.sender.message_id_domain;
        let deliveries = found.iter().map(|row| convert::delivery(row, domain)).collect();
        Ok(Response::new(ListDeliveriesResponse {
            deliveries,
            next_page_token,
        }))
    }

    async fn resolve_delivery(
        &self,
        request: Request<ResolveDeliveryRequest>,
    ) -> Result<Response<ResolveDeliveryResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("ResolveDelivery", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let id: DeliveryId = faults.id("delivery_id", &body.delivery_id);
        let resolution = match DeliveryResolution::try_from(body.resolution) {
            Ok(DeliveryResolution::Sent) => Some(Resolution::Sent),
            Ok(DeliveryResolution::SendAgain) => Some(Resolution::SendAgain),
            Ok(DeliveryResolution::Unspecified) | Err(_) => {
                faults.add("resolution", "is required: SENT or SEND_AGAIN");
                None
            }
        };
        finish(faults)?;
        self.permit_on_delivery(&caller, tenant, Permission::DeliveriesResolve, id)
            .await?;
        let Some(resolution) = resolution else {
            return Err(Status::invalid_argument("resolution is required"));
        };
        let domain = self.sender.message_id_domain.clone();
        let keys = Keys {
            deliveries: [(tenant, id)].into(),
            with_mail: true,
            ..Keys::default()
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            world
                .account_by_delivery(tenant, id)?
                .decide(changes, |account, changes| {
                    account.resolve_delivery(id, resolution, &act, changes)?;
                    let delivery = account.deliveries.iter().find(|delivery| delivery.id == id);
                    Ok(ResolveDeliveryResponse {
                        delivery: delivery.map(|d| convert::delivery_alone(d, &domain)),
                    })
                })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn report_bounce(
        &self,
        request: Request<ReportBounceRequest>,
    ) -> Result<Response<ReportBounceResponse>, Status> {
        bounces::report(self, request).await.map(Response::new)
    }

    async fn list_suppressions(
        &self,
        request: Request<ListSuppressionsRequest>,
    ) -> Result<Response<ListSuppressionsResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let limit = faults.page_size("page_size", std::mem::take(&mut body.page_size));
        let token = std::mem::take(&mut body.page_token);
        let question = Question::new(&self.keys, "ListSuppressions", &body);
        let after = question.after(&token, &mut faults);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::SuppressionsRead).await?;
        let found = self
            .store
            .list_suppressions(tenant, after, limit)
            .await
            .map_err(Failure::from)?;
        // Addresses are the ids of suppressions: the key is the instant and the address.
        let next_page_token = question.next(&found, limit, |row| After {
            key: format!("{} {}", instant_key(row.at), row.email),
            id: uuid::Uuid::nil(),
        });
        note_read(found.len(), &body, &self.keys);
        let suppressions = found.iter().map(|row| convert::suppression(tenant, row)).collect();
        Ok(Response::new(ListSuppressionsResponse {
            suppressions,
            next_page_token,
        }))
    }

    async fn remove_suppression(
        &self,
        request: Request<RemoveSuppressionRequest>,
    ) -> Result<Response<RemoveSuppressionResponse>, Status> {
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("RemoveSuppression", &request, body.options.as_ref())?;
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        let email = faults.email("email", &body.email);
        finish(faults)?;
        self.permit(&caller, tenant, Permission::SuppressionsRemove).await?;
        let key = (tenant, email.key().to_owned());
        let keys = Keys {
            tenants: [tenant].into(),
            emails: [key.clone()].into(),
            with_mail: true,
            ..Keys::default()
        };
        let command = mutation.clone().command(tenant, keys, move |world, changes| {
            let act = mutation.act(world.now);
            world.tenant(tenant)?;
            if !world.loaded.suppressed.remove(&key) {
                return Err(Refusal::SuppressionNotFound(email.as_str().to_owned()));
            }
            changes.unsuppressed.insert(key.clone());
            if let Some(account) = world.account_by_email(tenant, &key.1) {
                account.lift_suppression(&act, changes);
            }
            Ok(RemoveSuppressionResponse {})
        });
        Ok(Response::new(self.engine.run(command).await?))
    }
}
