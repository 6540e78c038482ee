//! Tenants and their settings.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use usher_core::account::wake_waiting;
use usher_core::ids::TenantId;
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_core::seats;
use usher_core::tenant::{Settings, Tenant};
use usher_core::text;
use usher_proto::identity::v1::tenant_service_server::TenantService;
use usher_proto::identity::v1::{
    CreateTenantRequest, CreateTenantResponse, GetTenantRequest, GetTenantResponse, SeatPolicy, Tenant as ProtoTenant,
    UpdateTenantRequest, UpdateTenantResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{Mutation, finish};
use crate::convert;
use crate::parse::Faults;

const PATHS: &[&str] = &[
    "display_name",
    "default_language",
    "invitation_lifetime",
    "reminder_ladder",
    "no_reminders",
    "seat_limit",
    "sender_name",
    "reply_to",
    "seat_policy",
    "erasure_cool_off",
    "erasure_second_approver",
    "erasure_deadline",
];

#[tonic::async_trait]
impl TenantService for App {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let body = request.get_ref();
        let mutation = Mutation::parse("CreateTenant", &request, body.options.as_ref(), &self.keys, &mut faults);
        let given = body.tenant.clone().unwrap_or_default();
        let wanted: Option<TenantId> = faults.optional_id("tenant.tenant_id", &given.tenant_id);
        let mut settings = Settings::new("");
        set(&mut settings, &given, "display_name", &mut faults);
        for path in &PATHS[1..] {
            if is_given(&given, path) {
                set(&mut settings, &given, path, &mut faults);
            }
        }
        faults.extend(settings.violations());
        finish(faults)?;
        self.permit(
            &caller,
            wanted.unwrap_or(TenantId(uuid::Uuid::nil())),
            Permission::TenantsCreate,
        )
        .await?;
        // A repeat without an id of its own must find the same tenant: the id then comes from the request id.
        let id = wanted.unwrap_or_else(|| TenantId::mint(self.now()));
        let scope = wanted.unwrap_or(TenantId(uuid::Uuid::nil()));
        let keys = Keys {
            tenants: [id].into(),
            lock_tenants: true,
            ..Keys::default()
        };
        let command = mutation.command(scope, keys, move |world, changes| {
            if world.loaded.tenants.contains_key(&id) {
                return Err(Refusal::TenantExists(id.to_string()));
            }
            let tenant = Arc::new(Tenant {
                id,
                version: 1,
                settings: settings.clone(),
                created_at: world.now,
            });
            world.loaded.tenants.insert(id, Arc::clone(&tenant));
            changes.created_tenants.insert(id);
            changes.tenants.insert(id, Arc::clone(&tenant));
            Ok(CreateTenantResponse {
                tenant: Some(convert::tenant(&tenant)),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<GetTenantResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let id: TenantId = faults.id("tenant_id", &request.get_ref().tenant_id);
        finish(faults)?;
        self.permit(&caller, id, Permission::TenantsRead).await?;
        let tenant = self.tenant(id).await?;
        Ok(Response::new(GetTenantResponse {
            tenant: Some(convert::tenant(&tenant)),
        }))
    }

    async fn update_tenant(
        &self,
        request: Request<UpdateTenantRequest>,
    ) -> Result<Response<UpdateTenantResponse>, Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let body = request.get_ref();
        let mutation = Mutation::parse("UpdateTenant", &request, body.options.as_ref(), &self.keys, &mut faults);
        let given = body.tenant.clone().unwrap_or_default();
        let id: TenantId = faults.id("tenant.tenant_id", &given.tenant_id);
        let paths = faults.mask("update_mask", body.update_mask.as_ref(), PATHS);
        // Parsed here once, so that faults are told before anything is loaded.
        let mut probe = Settings::new("probe");
        for path in &paths {
            set(&mut probe, &given, path, &mut faults);
        }
        faults.extend(probe.violations());
        finish(faults)?;
        self.permit(&caller, id, Permission::TenantsUpdate).await?;
        let keys = Keys {
            tenants: [id].into(),
            lock_tenants: true,
            ..Keys::default()
        };
        let command = mutation.clone().command(id, keys, move |world, changes| {
            let tenant = world.tenant(id)?;
            let mut settings = tenant.settings.clone();
            for path in &paths {
                set(&mut settings, &given, path, &mut Faults::default());
            }
            if settings == tenant.settings {
                return Ok(UpdateTenantResponse {
                    tenant: Some(convert::tenant(&tenant)),
                });
            }
            let tenant = Arc::new(Tenant {
                version: tenant.version + 1,
                settings,
                ..(*tenant).clone()
            });
            world.loaded.tenants.insert(id, Arc::clone(&tenant));
            changes.tenants.insert(id, Arc::clone(&tenant));
            // There may be seats now for whoever waits.
            wake_waiting(&tenant, &mutation.act(world.now), changes);
            Ok(UpdateTenantResponse {
                tenant: Some(convert::tenant(&tenant)),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }
}

fn is_given(tenant: &ProtoTenant, path: &str) -> bool {
    match path {
        "default_language" => !tenant.default_language.is_empty(),
        "invitation_lifetime" => tenant.invitation_lifetime.is_some(),
        "reminder_ladder" => !tenant.reminder_ladder.is_empty() && !tenant.no_reminders,
        "no_reminders" => tenant.no_reminders,
        "seat_limit" => tenant.seat_limit != 0,
        "sender_name" => !tenant.sender_name.is_empty(),
        "reply_to" => !tenant.reply_to.is_empty(),
        "seat_policy" => tenant.seat_policy != 0,
        "erasure_cool_off" => tenant.erasure_cool_off.is_some(),
        "erasure_second_approver" => tenant.erasure_second_approver,
        "erasure_deadline" => tenant.erasure_deadline.is_some(),
        _ => true,
    }
}

fn set(settings: &mut Settings, given: &ProtoTenant, path: &str, faults: &mut Faults) {
    match path {
        "display_name" => {
            settings.display_name = faults.take("tenant.display_name", text::name(&given.display_name, 200));
            if given.display_name.trim().is_empty() {
                faults.add("tenant.display_name", "is required: the name that people see in mails");
            }
        }
        "default_language" => {
            let language = faults.take("tenant.default_language", text::language(&given.default_language));
            settings.default_language = if language.is_empty() { "en".into() } else { language };
        }
        "invitation_lifetime" => {
            let default = Settings::new("").invitation_lifetime_seconds;
            settings.invitation_lifetime_seconds =
                given.invitation_lifetime.map_or(default, |lifetime| lifetime.seconds);
        }
        "reminder_ladder" => {
            settings.reminder_ladder_seconds = given.reminder_ladder.iter().map(|step| step.seconds).collect();
        }
        "no_reminders" if given.no_reminders => settings.reminder_ladder_seconds.clear(),
        "erasure_cool_off" => {
            let default = Settings::new("").erasure_cool_off_seconds;
            settings.erasure_cool_off_seconds = given.erasure_cool_off.map_or(default, |time| time.seconds);
        }
        "erasure_second_approver" => settings.erasure_second_approver = given.erasure_second_approver,
        "erasure_deadline" => {
            let default = Settings::new("").erasure_deadline_seconds;
            settings.erasure_deadline_seconds = given.erasure_deadline.map_or(default, |time| time.seconds);
        }
        "seat_limit" => settings.seat_limit = given.seat_limit,
        "sender_name" => settings.sender_name = faults.take("tenant.sender_name", text::name(&given.sender_name, 100)),
        "seat_policy" => match SeatPolicy::try_from(given.seat_policy) {
            Ok(SeatPolicy::Unspecified | SeatPolicy::Refuse) => settings.seat_policy = seats::SeatPolicy::Refuse,
            Ok(SeatPolicy::Wait) => settings.seat_policy = seats::SeatPolicy::Wait,
            Err(_) => faults.add("tenant.seat_policy", "is unknown"),
        },
        "reply_to" => {
            settings.reply_to = if given.reply_to.is_empty() {
                String::new()
            } else {
                faults.email("tenant.reply_to", &given.reply_to).as_str().to_owned()
            };
        }
        _ => {}
    }
}
