//! `usher tenants`

use clap::{Args, Subcommand};
use prost_types::{Duration, FieldMask};
use usher_proto::identity::v1::{
    CreateTenantRequest, GetTenantRequest, PauseMailRequest, QuietHours, ResumeMailRequest, SeatPolicy, Tenant,
    UpdateTenantRequest,
};

use super::{Change, Session, choice, inactivity};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::Show;
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Tenants {
    /// Create a tenant, and print its id for --tenant or USHER_TENANT.
    Create {
        /// The organisation's name.
        name: String,
        /// A UUID of your choice; one is made if left out.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        id: String,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        change: Change,
    },
    /// Show a tenant and its settings.
    Show {
        /// Which; that of --tenant if left out.
        tenant_id: Option<String>,
    },
    /// Change the settings of the tenant that --tenant names.
    Update {
        /// The organisation's name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        change: Change,
    },
    /// Stop all mail to people; everything else goes on.
    PauseMail {
        #[command(flatten)]
        change: Change,
    },
    /// Let mail go on: what was held goes out little by little.
    ResumeMail {
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// The language of mails to users without one, for example fr or pt-BR.
    #[arg(long, value_name = "TAG")]
    language: Option<String>,
    /// How long an invitation's link lives, for example 30d.
    #[arg(long, value_name = "SPAN", value_parser = time::parse_span)]
    invitation_lifetime: Option<Duration>,
    /// When reminders follow the invitation, for example 3d,7d,14d.
    #[arg(long, value_name = "SPAN,…", value_delimiter = ',', value_parser = time::parse_span)]
    reminders: Vec<Duration>,
    /// Send no reminders.
    #[arg(long, conflicts_with = "reminders")]
    no_reminders: bool,
    /// Upper limit of active users; 0: none.
    #[arg(long, value_name = "NUMBER")]
    seat_limit: Option<i64>,
    /// Registrations while every seat is taken: refuse them, or let them wait for a seat.
    #[arg(long, value_name = "POLICY", value_parser = choice!(SeatPolicy, "SEAT_POLICY_", ["refuse", "wait"]))]
    seat_policy: Option<SeatPolicy>,
    #[command(flatten)]
    inactivity: inactivity::Policy,
    /// How long an erasure can be cancelled, for example 7d.
    #[arg(long, value_name = "SPAN", value_parser = time::parse_span)]
    erasure_cool_off: Option<Duration>,
    /// Whether an erasure has to be approved by somebody else.
    #[arg(long, value_name = "BOOL")]
    erasure_second_approver: Option<bool>,
    /// How long other services may take to erase their part, for example 30d.
    #[arg(long, value_name = "SPAN", value_parser = time::parse_span)]
    erasure_deadline: Option<Duration>,
    /// The name that mails come from.
    #[arg(long, value_name = "NAME")]
    sender_name: Option<String>,
    /// Where recipients of reminders and warnings say that they want no more: https: or mailto:, with {user_id} for theirs.
    #[arg(long, value_name = "URL")]
    unsubscribe_url: Option<String>,
    /// Where answers to mails go.
    #[arg(long, value_name = "ADDRESS")]
    reply_to: Option<String>,
    /// The time zone of users without one, for example Europe/Paris.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// When no reminders go out, in the recipient's time zone: for example 20:00-08:00; "" for never.
    #[arg(long, value_name = "FROM-TO", value_parser = quiet_hours)]
    quiet_hours: Option<Quiet>,
    /// Mails to a person and day before reminders wait for the next day; 0: no cap.
    #[arg(long, value_name = "NUMBER")]
    daily_mail_cap: Option<i32>,
    /// How long before an account expires its owner is warned, for example 30d,7d.
    #[arg(long, value_name = "SPAN,…", value_delimiter = ',', value_parser = time::parse_span)]
    expiry_warnings: Vec<Duration>,
    /// Warn nobody.
    #[arg(long, conflicts_with = "expiry_warnings")]
    no_expiry_warnings: bool,
    /// Whether administrators are told, once a day at most, of the people in their care who are warned.
    #[arg(long, value_name = "BOOL")]
    expiry_warnings_to_administrators: Option<bool>,
}

/// Quiet hours, or none.
#[derive(Debug, Clone)]
struct Quiet(Option<QuietHours>);

fn quiet_hours(text: &str) -> Result<Quiet, String> {
    if text.is_empty() {
        return Ok(Quiet(None));
    }
    let (start, end) = text.split_once('-').ok_or("write for example 20:00-08:00")?;
    let (start, end) = (start.trim().to_owned(), end.trim().to_owned());
    Ok(Quiet(Some(QuietHours { start, end })))
}

impl Settings {
    /// Puts what was given into a tenant, and answers the paths of it.
    fn apply(&self, tenant: &mut Tenant) -> Vec<&'static str> {
        let mut paths = Vec::new();
        let mut set = |path, given| {
            if given {
                paths.push(path);
            }
        };
        set("default_language", self.language.is_some());
        set("invitation_lifetime", self.invitation_lifetime.is_some());
        set("reminder_ladder", !self.reminders.is_empty());
        set("no_reminders", self.no_reminders || !self.reminders.is_empty());
        set("seat_limit", self.seat_limit.is_some());
        set("seat_policy", self.seat_policy.is_some());
        set("inactivity_policy", self.inactivity.get().is_some());
        set("erasure_cool_off", self.erasure_cool_off.is_some());
        set("erasure_second_approver", self.erasure_second_approver.is_some());
        set("erasure_deadline", self.erasure_deadline.is_some());
        set("sender_name", self.sender_name.is_some());
        set("reply_to", self.reply_to.is_some());
        set("time_zone", self.time_zone.is_some());
        set("quiet_hours", self.quiet_hours.is_some());
        set("daily_mail_cap", self.daily_mail_cap.is_some());
        let warnings = self.no_expiry_warnings || !self.expiry_warnings.is_empty();
        set("expiry_warnings", warnings);
        set(
            "no_expiry_warnings_to_administrators",
            self.expiry_warnings_to_administrators.is_some(),
        );
        set("unsubscribe_url", self.unsubscribe_url.is_some());
        tenant.default_language = self.language.clone().unwrap_or_default();
        tenant.invitation_lifetime = self.invitation_lifetime;
        tenant.reminder_ladder.clone_from(&self.reminders);
        tenant.no_reminders = self.no_reminders;
        tenant.seat_limit = self.seat_limit.unwrap_or_default();
        tenant.seat_policy = self.seat_policy.unwrap_or_default().into();
        tenant.inactivity_policy = self.inactivity.get();
        tenant.erasure_cool_off = self.erasure_cool_off;
        tenant.erasure_second_approver = self.erasure_second_approver.unwrap_or_default();
        tenant.erasure_deadline = self.erasure_deadline;
        tenant.sender_name = self.sender_name.clone().unwrap_or_default();
        tenant.reply_to = self.reply_to.clone().unwrap_or_default();
        tenant.time_zone = self.time_zone.clone().unwrap_or_default();
        tenant.quiet_hours = self.quiet_hours.clone().and_then(|quiet| quiet.0);
        tenant.expiry_warnings.clone_from(&self.expiry_warnings);
        tenant.no_expiry_warnings_to_administrators = self.expiry_warnings_to_administrators == Some(false);
        tenant.daily_mail_cap = self.daily_mail_cap.unwrap_or_default();
        tenant.unsubscribe_url = self.unsubscribe_url.clone().unwrap_or_default();
        paths
    }
}

pub(super) async fn run(command: &Tenants, session: &Session) -> Result<Exit, Failure> {
    let mut client = session.client.tenants();
    let tenant = match command {
        Tenants::Create {
            name,
            id,
            settings,
            change,
        } => {
            let mut tenant = Tenant {
                tenant_id: id.clone(),
                display_name: name.clone(),
                ..Tenant::default()
            };
            settings.apply(&mut tenant);
            let request = CreateTenantRequest {
                tenant: Some(tenant),
                options: Some(change.options()),
            };
            client.create_tenant(request).await?.into_inner().tenant
        }
        Tenants::Show { tenant_id } => {
            let tenant_id = tenant_id.clone().unwrap_or_else(|| session.client.tenant.clone());
            client
                .get_tenant(GetTenantRequest { tenant_id })
                .await?
                .into_inner()
                .tenant
        }
        Tenants::Update { name, settings, change } => {
            let mut tenant = Tenant {
                tenant_id: session.client.tenant.clone(),
                ..Tenant::default()
            };
            let mut paths = settings.apply(&mut tenant);
            if let Some(name) = name {
                paths.push("display_name");
                tenant.display_name.clone_from(name);
            }
            if paths.is_empty() {
                return Err(Failure::Usage(
                    "nothing to change; see `usher tenants update --help`".into(),
                ));
            }
            let request = UpdateTenantRequest {
                tenant: Some(tenant),
                update_mask: Some(FieldMask {
                    paths: paths.into_iter().map(str::to_owned).collect(),
                }),
                options: Some(change.options()),
            };
            client.update_tenant(request).await?.into_inner().tenant
        }
        Tenants::PauseMail { change } => {
            let request = PauseMailRequest {
                tenant_id: session.client.tenant.clone(),
                options: Some(change.options()),
            };
            client.pause_mail(request).await?.into_inner().tenant
        }
        Tenants::ResumeMail { change } => {
            let request = ResumeMailRequest {
                tenant_id: session.client.tenant.clone(),
                options: Some(change.options()),
            };
            client.resume_mail(request).await?.into_inner().tenant
        }
    };
    show(session, &tenant.ok_or_else(|| incomplete("tenant"))?)
}

impl Show for Tenant {
    const NAME: &'static str = "usher.identity.v1.Tenant";
    const COLUMNS: &'static [&'static str] = &["TENANT ID", "NAME"];

    fn cells(&self) -> Vec<String> {
        vec![self.tenant_id.clone(), self.display_name.clone()]
    }
}

fn show(session: &Session, tenant: &Tenant) -> Result<Exit, Failure> {
    let ladder: Vec<String> = tenant.reminder_ladder.iter().map(time::show_span).collect();
    session.out.one(
        tenant,
        &[
            ("Tenant", tenant.tenant_id.clone()),
            ("Name", tenant.display_name.clone()),
            ("Language", tenant.default_language.clone()),
            (
                "Links live",
                tenant
                    .invitation_lifetime
                    .as_ref()
                    .map(time::show_span)
                    .unwrap_or_default(),
            ),
            (
                "Reminders after",
                if ladder.is_empty() {
                    "none".into()
                } else {
                    ladder.join(", ")
                },
            ),
            (
                "Seat limit",
                if tenant.seat_limit == 0 {
                    "none".into()
                } else {
                    tenant.seat_limit.to_string()
                },
            ),
            (
                "When none is left",
                match tenant.seat_policy() {
                    SeatPolicy::Wait => "people wait for a seat",
                    SeatPolicy::Refuse | SeatPolicy::Unspecified => "registrations are refused",
                }
                .into(),
            ),
            (
                "Without a sign-in",
                tenant.inactivity_policy.as_ref().map_or_else(String::new, |policy| {
                    format!(
                        "warned after {} days, deactivated after {}",
                        policy.warn_after_days, policy.deactivate_after_days
                    )
                }),
            ),
            ("Mails come from", tenant.sender_name.clone()),
            ("Answers go to", tenant.reply_to.clone()),
            ("Time zone", or(&tenant.time_zone, "UTC")),
            (
                "Quiet hours",
                tenant
                    .quiet_hours
                    .as_ref()
                    .map_or("none".into(), |quiet| format!("{} to {}", quiet.start, quiet.end)),
            ),
            (
                "Mails a day",
                if tenant.daily_mail_cap == 0 {
                    "no cap".into()
                } else {
                    format!("at most {}, then reminders wait", tenant.daily_mail_cap)
                },
            ),
            (
                "Warned of expiry",
                match tenant.expiry_warnings.iter().map(time::show_span).collect::<Vec<_>>() {
                    spans if spans.is_empty() => "no".into(),
                    spans => format!("{} ahead", spans.join(", ")),
                },
            ),
            (
                "Administrators",
                if tenant.no_expiry_warnings_to_administrators || tenant.expiry_warnings.is_empty() {
                    "not told of expiries".into()
                } else {
                    "told of them, once a day at most".into()
                },
            ),
            (
                "Mail",
                match tenant.mail_pause_time.as_ref() {
                    Some(since) => format!("paused since {}", time::show(Some(since))),
                    None => "goes out".into(),
                },
            ),
            ("No more mails", tenant.unsubscribe_url.clone()),
            ("Created", time::show(tenant.create_time.as_ref())),
        ],
    )?;
    Ok(Exit::Done)
}

fn or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}
