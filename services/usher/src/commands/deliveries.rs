//! `usher deliveries`: "I received nothing" (L16), and mails that may or may not have gone out (B12).

use clap::{Args, Subcommand};
use usher_proto::identity::v1::{
    Delivery, DeliveryAttempt, DeliveryKind, DeliveryOutcome, DeliveryResolution, DeliveryState, ListDeliveriesRequest,
    ResolveDeliveryRequest, SmtpPhase,
};

use super::{Change, Limit, Session, choice};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, short};
use crate::time;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Deliveries {
    #[command(subcommand)]
    command: Option<DeliveryCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum DeliveryCommand {
    /// List mails with every attempt, the newest first. The same as `usher deliveries`.
    List(List),
    /// Settle an uncertain mail, after a look into the mail server's log.
    Resolve {
        /// The delivery's id.
        delivery_id: String,
        /// It went out.
        #[arg(long, conflicts_with = "send_again", required_unless_present = "send_again")]
        sent: bool,
        /// It did not: send it again, under the same Message-ID.
        #[arg(long)]
        send_again: bool,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Args)]
struct List {
    /// Only mails to this user: id, address or external id.
    #[arg(long)]
    user: Option<String>,
    /// Only this state; repeat it for several.
    #[arg(long, value_parser = choice!(DeliveryState, "DELIVERY_STATE_", ["queued", "claimed", "transmitting", "sent", "deferred", "failed", "uncertain", "suppressed", "cancelled"]))]
    state: Vec<DeliveryState>,
    /// Show every attempt with the mail server's answer.
    #[arg(long)]
    attempts: bool,
    #[command(flatten)]
    limit: Limit,
}

pub(super) async fn run(command: &Deliveries, session: &Session) -> Result<Exit, Failure> {
    match &command.command {
        None => list(&command.list, session).await?,
        Some(DeliveryCommand::List(options)) => list(options, session).await?,
        Some(DeliveryCommand::Resolve {
            delivery_id,
            sent,
            send_again: _,
            change,
        }) => {
            let resolution = if *sent {
                DeliveryResolution::Sent
            } else {
                DeliveryResolution::SendAgain
            };
            let request = ResolveDeliveryRequest {
                tenant_id: session.client.tenant.clone(),
                delivery_id: delivery_id.clone(),
                resolution: resolution.into(),
                options: Some(change.options()),
            };
            let delivery = session
                .client
                .deliveries()
                .resolve_delivery(request)
                .await?
                .into_inner()
                .delivery;
            session.out.list(&[delivery.ok_or_else(|| incomplete("delivery"))?])?;
        }
    }
    Ok(Exit::Done)
}

async fn list(options: &List, session: &Session) -> Result<(), Failure> {
    let user_id = match &options.user {
        Some(user) => session.client.user_id(user).await?,
        None => String::new(),
    };
    let page = |page_size, page_token| {
        let request = ListDeliveriesRequest {
            tenant_id: session.client.tenant.clone(),
            user_id: user_id.clone(),
            states: options.state.iter().map(|state| *state as i32).collect(),
            page_size,
            page_token,
        };
        async move {
            let answer = session.client.deliveries().list_deliveries(request).await?.into_inner();
            Ok((answer.deliveries, answer.next_page_token))
        }
    };
    if options.attempts && !session.out.json {
        return attempts(&options.limit.gather(page).await?);
    }
    options.limit.show(session.out, page).await
}

/// A table with a row for each attempt.
fn attempts(deliveries: &[Delivery]) -> Result<(), Failure> {
    let rows = deliveries.iter().flat_map(|delivery| {
        delivery.attempts.iter().map(|attempt| {
            vec![
                delivery.delivery_id.clone(),
                delivery.email.clone(),
                attempt.number.to_string(),
                time::show(attempt.start_time.as_ref()),
                outcome(attempt),
                attempt.response.clone(),
                attempt.worker_id.clone(),
            ]
        })
    });
    let columns = ["DELIVERY ID", "ADDRESS", "TRY", "BEGUN", "OUTCOME", "ANSWER", "WORKER"];
    output::table(&columns, rows)
}

fn outcome(attempt: &DeliveryAttempt) -> String {
    let outcome = short(attempt.outcome().as_str_name(), "DELIVERY_OUTCOME_");
    match (attempt.outcome(), attempt.phase()) {
        (DeliveryOutcome::Unspecified, _) => "not known".into(),
        (DeliveryOutcome::Sent, _) | (_, SmtpPhase::Unspecified) => outcome.to_owned(),
        (_, phase) => format!("{outcome} at {}", short(phase.as_str_name(), "SMTP_PHASE_")),
    }
}

fn kind(delivery: &Delivery) -> String {
    let kind = short(delivery.kind().as_str_name(), "DELIVERY_KIND_");
    match delivery.kind() {
        DeliveryKind::Reminder => format!("{kind} {}", delivery.reminder_step),
        _ => kind.to_owned(),
    }
}

impl Show for Delivery {
    const NAME: &'static str = "usher.identity.v1.Delivery";
    const COLUMNS: &'static [&'static str] = &[
        "DELIVERY ID",
        "KIND",
        "STATE",
        "ADDRESS",
        "DUE",
        "ENDED",
        "TRIES",
        "LAST ANSWER",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.delivery_id.clone(),
            kind(self),
            short(self.state().as_str_name(), "DELIVERY_STATE_").to_owned(),
            self.email.clone(),
            time::show(self.due_time.as_ref()),
            time::show(self.end_time.as_ref()),
            self.attempts.len().to_string(),
            self.attempts
                .last()
                .map(|attempt| attempt.response.clone())
                .unwrap_or_default(),
        ]
    }
}
