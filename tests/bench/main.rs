//! `make bench`: ours beside the floor below it, in one run on one machine, so that the ratios hold where the figures do
//! not. Each figure is the median of five; floor and ours take turns, so that a drift of the machine hits both.
//!
//! `--quick` runs everything once and briefly: to see that it works, not to quote. `--only` and the name of a step (calls, relay, mail,
//! latency, audit, many) runs that one.

mod audit;
mod floor;
mod latency;
mod load;
mod mail;
mod many;
mod pages;
mod reads;
mod relay;
mod report;
mod writes;

use std::time::Duration;

use anyhow::Result;
use usher_tests::environment::postgres::{Fsync, Postgres};
use usher_tests::system::{Options, System};

use crate::report::Report;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds; the median counts.
    rounds: usize,
    /// Of each measurement.
    time: Duration,
    /// Events of the relay, mails of the mail step.
    items: usize,
    /// Rows of an import, users of a bulk job.
    people: usize,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(position) = arguments.iter().position(|argument| argument == "--echo") {
        let port = arguments
            .get(position + 1)
            .map(|port| port.parse())
            .transpose()?
            .unwrap_or(0);
        return runtime()?.block_on(floor::echo_server(port));
    }
    let effort = if arguments.iter().any(|argument| argument == "--quick") {
        Effort {
            rounds: 1,
            time: Duration::from_secs(1),
            items: 500,
            people: 2_000,
        }
    } else {
        Effort {
            rounds: 5,
            time: Duration::from_secs(5),
            items: 20_000,
            people: 100_000,
        }
    };
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|position| arguments.get(position + 1)).cloned();
    runtime()?.block_on(run(effort, only.as_deref()))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Every step, or the one that is named. What was measured is told, whatever becomes of a step.
async fn run(effort: Effort, only: Option<&str>) -> Result<()> {
    let postgres = Postgres::start(Fsync::On).await?;
    let mut report = Report::default();
    let done = steps(&postgres, effort, only, &mut report).await;
    report.print();
    done
}

async fn steps(postgres: &Postgres, effort: Effort, only: Option<&str>, report: &mut Report) -> Result<()> {
    let wanted = |step: &str| only.is_none_or(|only| only == step);
    if wanted("calls") {
        calls(postgres, effort, report).await?;
    }
    if wanted("relay") {
        relay::run(postgres, effort, report).await?;
    }
    if wanted("mail") {
        mail::run(postgres, effort, report).await?;
    }
    if wanted("latency") {
        latency::run(postgres, effort, report).await?;
    }
    if wanted("audit") {
        audit::run(postgres, effort, report).await?;
    }
    if wanted("many") {
        many::run(postgres, effort, report).await?;
    }
    if wanted("pages") {
        pages::run(postgres, report).await?;
    }
    Ok(())
}

async fn calls(postgres: &Postgres, effort: Effort, report: &mut Report) -> Result<()> {
    let database_url = Some(postgres.database().await?);
    let system = System::start(Options {
        database_url,
        without_workers: true,
        ..Options::default()
    })
    .await?;
    report.memory("identity, idle", system.identity.id())?;
    writes::run(postgres, &system, effort, report).await?;
    report.memory("identity, after CreateUser", system.identity.id())?;
    reads::run(&system, effort, report).await?;
    report.memory("identity, after GetUser and CheckAccess", system.identity.id())?;
    Ok(())
}
