//! `usher bounces`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use usher_proto::identity::v1::{BounceKind, BounceOutcome, BounceReport, BounceResult, ReportBounceRequest};

use super::{Change, Session};
use crate::bounces::source::each_message;
use crate::bounces::{Reading, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, short};

/// Reports of one call at most.
const BATCH: usize = 100;

/// Take in bounces and complaints: hard bounces and complaints stop mail to an address.
///
/// Reads delivery status notifications (RFC 3464) and feedback reports (RFC 5965), each a whole message. All else is told as
/// no report, and does nothing; so does a report about a mail that is none of the tenant's. The same message may be read
/// again: it changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Bounces {
    /// Messages: files, mbox files, Maildir folders, or - for one message or an mbox from standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    change: Change,
}

/// A report and the message that it stands in.
type Sourced = (String, BounceReport);

pub(super) async fn run(command: &Bounces, session: &Session) -> Result<Exit, Failure> {
    match take_in(command, session).await {
        Ok(()) => Ok(Exit::Done),
        // A mail server that pipes messages here keeps them and tries again.
        Err(failure) if failure.is_passing() => {
            // Without a standard error there is nobody to tell.
            let _ = failure.tell("", "the server", &mut std::io::stderr());
            Ok(Exit::Again)
        }
        Err(failure) => Err(failure),
    }
}

async fn take_in(command: &Bounces, session: &Session) -> Result<(), Failure> {
    let mut waiting: Vec<Sourced> = Vec::new();
    for path in &command.files {
        each_message(path, async |source, message| {
            match read(&message) {
                Reading::Nothing(why) => nothing(session, &source, why)?,
                Reading::Reports(reports) => {
                    waiting.extend(reports.into_iter().map(|report| (source.clone(), report)));
                }
            }
            while waiting.len() >= BATCH {
                let rest = waiting.split_off(BATCH);
                send(command, session, std::mem::replace(&mut waiting, rest)).await?;
            }
            Ok(())
        })
        .await?;
    }
    send(command, session, waiting).await
}

async fn send(command: &Bounces, session: &Session, batch: Vec<Sourced>) -> Result<(), Failure> {
    if batch.is_empty() {
        return Ok(());
    }
    let request = ReportBounceRequest {
        tenant_id: session.client.tenant.clone(),
        reports: batch.iter().map(|(_, report)| report.clone()).collect(),
        options: Some(command.change.options()),
    };
    let results = session
        .client
        .deliveries()
        .report_bounce(request)
        .await?
        .into_inner()
        .results;
    output::lines(
        batch
            .iter()
            .zip(&results)
            .map(|((source, report), result)| told(session, source, report, result)),
    )
}

fn told(session: &Session, source: &str, report: &BounceReport, result: &BounceResult) -> String {
    let kind = short(report.kind().as_str_name(), "BOUNCE_KIND_");
    let outcome = short(result.outcome().as_str_name(), "BOUNCE_OUTCOME_");
    if session.out.json {
        return json!({
            "source": source,
            "kind": kind,
            "recipient": report.recipient,
            "message_id": report.message_id,
            "status": report.status,
            "diagnostic": report.diagnostic,
            "outcome": outcome,
            "reason": result.reason,
            "delivery_id": result.delivery_id,
        })
        .to_string();
    }
    let kind = match report.kind() {
        BounceKind::Hard => "hard bounce",
        BounceKind::Soft => "soft bounce",
        BounceKind::Complaint => "complaint",
        BounceKind::Unspecified => "report",
    };
    let about = if report.recipient.is_empty() {
        &report.message_id
    } else {
        &report.recipient
    };
    let done = match result.outcome() {
        BounceOutcome::Suppressed => "suppressed",
        BounceOutcome::Recorded => "recorded",
        BounceOutcome::Repeated => "known",
        BounceOutcome::Unknown | BounceOutcome::Unspecified => "passed over",
    };
    output::printable(&format!("{source}: {kind} of {about}: {done}, {}", result.reason))
}

fn nothing(session: &Session, source: &str, why: &str) -> Result<(), Failure> {
    output::lines([if session.out.json {
        json!({ "source": source, "outcome": "NO_REPORT", "reason": why }).to_string()
    } else {
        output::printable(&format!("{source}: no report: {why}"))
    }])
}
