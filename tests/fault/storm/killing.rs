//! Kills the processes and restarts the broker, as the plan says.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::time::{sleep, timeout};
use usher_tests::environment::processes::Process;
use usher_tests::environment::rabbitmq::Broker;
use usher_tests::environment::smtp_sink::SmtpSink;
use usher_tests::system::System;

use super::plan::{BROKER_RESTARTS, Plan, Stop, Target};

/// How long the next kill of a process waits for it to be ready.
const COME_UP: Duration = Duration::from_millis(1_500);

/// Kills while the broker is away at one time; little is under way then, so more of them would be wasted.
const KILLS_WITHOUT_BROKER: usize = 2;

/// How far it has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) kills: AtomicUsize,
    /// By how many seconds the service's clock is ahead.
    pub(crate) ahead: AtomicU64,
    broker_away: AtomicBool,
}

/// Does everything that the plan says, and ends with all processes started.
pub(crate) async fn kill(
    system: &mut System,
    broker: &mut Broker,
    plan: &Plan,
    sink: &SmtpSink,
    progress: &Progress,
) -> Result<()> {
    tokio::try_join!(
        processes(system, plan, sink, progress),
        restarts(broker, plan, progress)
    )?;
    Ok(())
}

async fn processes(system: &mut System, plan: &Plan, sink: &SmtpSink, progress: &Progress) -> Result<()> {
    let mut without_broker = 0;
    for kill in &plan.kills {
        let (mails, since) = (sink.counts().received, Instant::now());
        while sink.counts().received < mails + kill.after_mails && since.elapsed() < kill.at_most {
            sleep(Duration::from_millis(5)).await;
        }
        if progress.broker_away.load(Ordering::SeqCst) {
            without_broker += 1;
        } else {
            without_broker = 0;
        }
        while without_broker > KILLS_WITHOUT_BROKER && progress.broker_away.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(20)).await;
        }
        // One that has not come up yet would hardly feel it; while the broker is away, none does.
        if let Ok(failed @ Err(_)) = timeout(COME_UP, process(system, kill.target)?.ready()).await {
            return failed;
        }
        progress.kills.fetch_add(1, Ordering::SeqCst);
        process(system, kill.target)?.kill();
        system.set_ahead(kill.ahead)?;
        progress.ahead.fetch_add(kill.ahead.as_secs(), Ordering::SeqCst);
        sleep(kill.dead_for).await;
        process(system, kill.target)?.spawn()?;
    }
    Ok(())
}

/// The restarts lie evenly between the kills.
async fn restarts(broker: &mut Broker, plan: &Plan, progress: &Progress) -> Result<()> {
    for (number, stop) in BROKER_RESTARTS.into_iter().enumerate() {
        while progress.kills.load(Ordering::SeqCst) < plan.kills.len() * (number + 1) / (BROKER_RESTARTS.len() + 1) {
            sleep(Duration::from_millis(20)).await;
        }
        progress.broker_away.store(true, Ordering::SeqCst);
        match stop {
            Stop::InOrder => broker.stop().await?,
            Stop::Killed => broker.kill()?,
        }
        broker.start_again().await?;
        progress.broker_away.store(false, Ordering::SeqCst);
    }
    Ok(())
}

fn process(system: &mut System, target: Target) -> Result<&mut Process> {
    match target {
        Target::Identity => Ok(&mut system.identity),
        Target::Worker(worker) => system.workers.get_mut(&worker).context("a worker that was not started"),
    }
}
