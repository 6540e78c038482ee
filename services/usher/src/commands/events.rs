//! `usher events`: the events that RabbitMQ carries, from a cursor on (B5).

use std::time::Duration;

use clap::Args;
use tokio::time::sleep;
use usher_proto::identity::v1::{WatchEventsRequest, WatchEventsResponse};

use super::Session;
use super::explain::transition;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show, json, printable};
use crate::time;

/// How long a stream may say nothing before all that there was counts as printed.
const QUIET: Duration = Duration::from_secs(1);
/// How long to wait before a lost stream is opened again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Stay and print what happens from now on; a lost connection is taken up again where it broke off.
    #[arg(long, short)]
    follow: bool,
    /// Go on after this cursor, which --json prints with each event.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CURSOR")]
    after: String,
    /// With --follow: begin with the oldest event that is kept.
    #[arg(long, conflicts_with = "after")]
    from_beginning: bool,
    /// Only types that begin so, for example user. or user.activated; repeat it for several.
    #[arg(long = "type", value_name = "PREFIX")]
    types: Vec<String>,
}

pub(super) async fn run(command: &Events, session: &Session) -> Result<Exit, Failure> {
    let mut cursor = command.after.clone();
    let mut opened = false;
    loop {
        let request = WatchEventsRequest {
            tenant_id: session.client.tenant.clone(),
            after: cursor.clone(),
            from_beginning: command.from_beginning || !command.follow,
            type_prefixes: command.types.clone(),
        };
        match watch(command, request, session, &mut cursor, &mut opened).await {
            Ok(()) if !command.follow => return Ok(Exit::Done),
            Ok(()) => {}
            Err(failure) if command.follow && opened && failure.is_passing() => {
                output::note("The stream broke off; it is taken up where it was.");
            }
            Err(failure) => return Err(failure),
        }
        sleep(PAUSE).await;
    }
}

/// Prints one stream until it ends, or, without --follow, until there is nothing more for now.
async fn watch(
    command: &Events,
    request: WatchEventsRequest,
    session: &Session,
    cursor: &mut String,
    opened: &mut bool,
) -> Result<(), Failure> {
    let mut stream = session.client.events().watch_events(request).await?.into_inner();
    *opened = true;
    loop {
        let next = if command.follow {
            stream.message().await
        } else {
            match tokio::time::timeout(QUIET, stream.message()).await {
                Ok(next) => next,
                Err(_quiet) => return Ok(()),
            }
        };
        let Some(answer) = next? else { return Ok(()) };
        cursor.clone_from(&answer.cursor);
        match &answer.event {
            Some(_) if session.out.json => output::lines([json(&answer)])?,
            Some(_) => output::lines([line(&answer)])?,
            // Only says how far the stream is.
            None => {}
        }
    }
}

/// One line for people.
fn line(answer: &WatchEventsResponse) -> String {
    printable(answer.cells().join("  ").trim_end())
}

impl Show for WatchEventsResponse {
    const NAME: &'static str = "usher.identity.v1.WatchEventsResponse";
    const COLUMNS: &'static [&'static str] = &["WHEN", "EVENT", "USER ID", "STATUS", "BY", "MORE"];

    fn cells(&self) -> Vec<String> {
        let event = self.event.clone().unwrap_or_default();
        let mut more = event.changed_fields.clone();
        if event.reminder_step > 0 {
            more.push(format!("step {}", event.reminder_step));
        }
        if !event.reason.is_empty() {
            more.push(event.reason.clone());
        }
        vec![
            time::show(self.time.as_ref()),
            format!("{:24}", self.event_type),
            event.user_id.clone(),
            transition(&event.from_status, &event.to_status),
            event.actor_id.clone(),
            more.join(", "),
        ]
    }
}
