//! Tenants and their settings.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use usher_core::account::{set_warning_timer, wake_inactivity, wake_waiting};
use usher_core::change::{Act, Changeset};
use usher_core::event::{Event, EventType};
use usher_core::ids::TenantId;
use usher_core::inactivity::InactivityPolicy;
use usher_core::pacing::QuietHours;
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_core::seats;
use usher_core::template::OwnTemplates;
use usher_core::tenant::{Settings, Tenant};
use usher_core::text;
use usher_proto::identity::v1::tenant_service_server::TenantService;
use usher_proto::identity::v1::{
    CreateTenantRequest, CreateTenantResponse, GetTenantRequest, GetTenantResponse, MutationOptions, PauseMailRequest,
    PauseMailResponse, ResumeMailRequest, ResumeMailResponse, SeatPolicy, Tenant as ProtoTenant, UpdateTenantRequest,
    UpdateTenantResponse,
};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::finish;
use crate::convert;
use crate::grpc::inactivity_service;
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
    "time_zone",
    "quiet_hours",
    "daily_mail_cap",
    "expiry_warnings",
    "no_expiry_warnings_to_administrators",
    "unsubscribe_url",
    "inactivity_policy",
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
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("CreateTenant", &request, body.options.as_ref())?;
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
        settings.note_inactivity(InactivityPolicy::default(), self.now());
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
        let command = mutation.clone().command(scope, keys, move |world, changes| {
            if world.loaded.tenants.contains_key(&id) {
                return Err(Refusal::TenantExists(id.to_string()));
            }
            let tenant = Arc::new(Tenant {
                templates: OwnTemplates::default(),
                id,
                version: 1,
                settings: settings.clone(),
                created_at: world.now,
            });
            world.loaded.tenants.insert(id, Arc::clone(&tenant));
            changes.created_tenants.insert(id);
            let act = mutation.act(world.now);
            changes.events.push(act.event(EventType::TenantCreated, id, None));
            set_warning_timer(&tenant, world.now, changes);
            changes.tenants.insert(id, Arc::clone(&tenant));
            if tenant.settings.inactivity.is_on() {
                wake_inactivity(&tenant, world.now, changes);
            }
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
        let body = request.get_ref();
        let (caller, mutation, mut faults) = self.begin("UpdateTenant", &request, body.options.as_ref())?;
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
            let inactivity = tenant.settings.inactivity;
            settings.note_inactivity(inactivity, world.now);
            let tenant = Arc::new(Tenant {
                version: tenant.version + 1,
                settings,
                ..(*tenant).clone()
            });
            world.loaded.tenants.insert(id, Arc::clone(&tenant));
            changes.tenants.insert(id, Arc::clone(&tenant));
            let act = mutation.act(world.now);
            changes.events.push(Event {
                changed_fields: paths.clone(),
                ..act.event(EventType::TenantUpdated, id, None)
            });
            // There may be seats now for whoever waits.
            wake_waiting(&tenant, &act, changes);
            set_warning_timer(&tenant, world.now, changes);
            if tenant.settings.inactivity != inactivity {
                wake_inactivity(&tenant, world.now, changes);
            }
            Ok(UpdateTenantResponse {
                tenant: Some(convert::tenant(&tenant)),
            })
        });
        Ok(Response::new(self.engine.run(command).await?))
    }

    async fn pause_mail(&self, request: Request<PauseMailRequest>) -> Result<Response<PauseMailResponse>, Status> {
        let (id, options) = (request.get_ref().tenant_id.clone(), request.get_ref().options.clone());
        let tenant = switch_mail(self, "PauseMail", &request, &id, options, Tenant::pause_mail).await?;
        Ok(Response::new(PauseMailResponse { tenant: Some(tenant) }))
    }

    async fn resume_mail(&self, request: Request<ResumeMailRequest>) -> Result<Response<ResumeMailResponse>, Status> {
        let (id, options) = (request.get_ref().tenant_id.clone(), request.get_ref().options.clone());
        let tenant = switch_mail(self, "ResumeMail", &request, &id, options, Tenant::resume_mail).await?;
        Ok(Response::new(ResumeMailResponse { tenant: Some(tenant) }))
    }
}

/// Pauses mail, or lets it go on (B15).
async fn switch_mail<M: prost::Message>(
    app: &App,
    method: &'static str,
    request: &Request<M>,
    id: &str,
    options: Option<MutationOptions>,
    switch: fn(&mut Tenant, &Act, &mut Changeset) -> bool,
) -> Result<ProtoTenant, Status> {
    let (caller, mutation, mut faults) = app.begin(method, request, options.as_ref())?;
    let id: TenantId = faults.id("tenant_id", id);
    finish(faults)?;
    app.permit(&caller, id, Permission::TenantsUpdate).await?;
    let keys = Keys {
        tenants: [id].into(),
        lock_tenants: true,
        ..Keys::default()
    };
    let command = mutation.clone().command(id, keys, move |world, changes| {
        let mut tenant = (*world.tenant(id)?).clone();
        if switch(&mut tenant, &mutation.act(world.now), changes) {
            let tenant = Arc::new(tenant.clone());
            world.loaded.tenants.insert(id, Arc::clone(&tenant));
            changes.tenants.insert(id, tenant);
        }
        Ok(convert::tenant(&tenant))
    });
    Ok(app.engine.run(command).await?)
}

/// Characters of the address for those who want no more mails.
const MAX_URL: usize = 500;

/// An address for List-Unsubscribe: in ASCII, since it stands in a header.
fn unsubscribe_url(text: &str) -> Result<String, String> {
    let text = text::line(text, MAX_URL)?;
    if text.is_empty() {
        return Ok(text);
    }
    let fault =
        || "is no address; write for example https://school.example/stop?user={user_id}, or mailto:…".to_owned();
    let url = url::Url::parse(&text.replace("{user_id}", "0")).map_err(|_| fault())?;
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\".contains(&b));
    match url.scheme() {
        "https" | "mailto" if plain => Ok(text),
        _ => Err(fault()),
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
        "time_zone" => !tenant.time_zone.is_empty(),
        "quiet_hours" => tenant.quiet_hours.is_some(),
        "daily_mail_cap" => tenant.daily_mail_cap != 0,
        "expiry_warnings" => !tenant.expiry_warnings.is_empty(),
        "no_expiry_warnings_to_administrators" => tenant.no_expiry_warnings_to_administrators,
        "unsubscribe_url" => !tenant.unsubscribe_url.is_empty(),
        "inactivity_policy" => tenant.inactivity_policy.is_some(),
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
        "unsubscribe_url" => {
            settings.unsubscribe_url = faults.take("tenant.unsubscribe_url", unsubscribe_url(&given.unsubscribe_url));
        }
        "seat_policy" => match SeatPolicy::try_from(given.seat_policy) {
            Ok(SeatPolicy::Unspecified | SeatPolicy::Refuse) => settings.seat_policy = seats::SeatPolicy::Refuse,
            Ok(SeatPolicy::Wait) => settings.seat_policy = seats::SeatPolicy::Wait,
            Err(_) => faults.add("tenant.seat_policy", "is unknown"),
        },
        "time_zone" => {
            settings.time_zone = faults.take("tenant.time_zone", text::time_zone(&given.time_zone));
        }
        "quiet_hours" => {
            settings.quiet_hours = given.quiet_hours.as_ref().and_then(|given| {
                let parsed = QuietHours::parse(&given.start, &given.end);
                if parsed.is_none() {
                    let way_out = "needs two different times from 00:00 to 23:59, for example 20:00 and 08:00";
                    faults.add("tenant.quiet_hours", way_out);
                }
                parsed
            });
        }
        "expiry_warnings" => {
            settings.expiry_warning_seconds = given.expiry_warnings.iter().map(|ahead| ahead.seconds).collect();
        }
        "no_expiry_warnings_to_administrators" => {
            settings.expiry_warnings_to_administrators = !given.no_expiry_warnings_to_administrators;
        }
        "daily_mail_cap" => settings.daily_mail_cap = given.daily_mail_cap,
        "inactivity_policy" => {
            let given = given.inactivity_policy.unwrap_or_default();
            settings.inactivity = inactivity_service::policy(&given);
        }
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
