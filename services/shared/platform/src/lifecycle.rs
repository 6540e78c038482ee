//! How a process stops: told once, it finishes what it has begun within a bound; told twice, it stops at once.
//!
//! On SIGTERM or SIGINT readiness goes off first, then `shutdown` fires: take no new work, finish what runs. When the
//! drain time is over `abort` fires: drop everything. A process that drained in time ends with 0.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// How long dropping everything may take after `abort`.
const ABORT_GRACE: Duration = Duration::from_secs(2);

/// The life of one process. Clones share it.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    shutdown: CancellationToken,
    abort: CancellationToken,
    readiness: Readiness,
    drain: Duration,
    killed: watch::Sender<Option<u8>>,
}

/// How supervised work came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum End<T> {
    /// By itself; after `abort` has fired, not in time.
    Done(T),
    /// It did not even heed `abort` and was dropped.
    Aborted,
    /// A second signal cut it off; the number is the exit code that shells expect, 128 and the signal's number.
    Killed(u8),
}

impl Lifecycle {
    /// A process that runs until it is told to stop, and then has `drain` to finish.
    pub fn new(readiness: Readiness, drain: Duration) -> Self {
        let (shutdown, abort) = (CancellationToken::new(), CancellationToken::new());
        Self {
            shutdown,
            abort,
            readiness,
            drain,
            killed: watch::Sender::new(None),
        }
    }

    /// Fires when the process is to take no new work.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Fires when whatever still runs is to be dropped.
    pub fn abort(&self) -> CancellationToken {
        self.abort.clone()
    }

    /// Begins to stop, as the first signal does: readiness off, then `shutdown`.
    pub fn stop(&self) {
        self.readiness.shut_down();
        self.shutdown.cancel();
    }

    /// Acts on SIGTERM and SIGINT from now on.
    pub fn listen(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let life = self.clone();
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    Some(()) = terminate.recv() => 128 + 15,
                    Some(()) = interrupt.recv() => 128 + 2,
                    else => return,
                };
                life.told_to_stop(code);
            }
        });
        Ok(())
    }

    fn told_to_stop(&self, code: u8) {
        if self.shutdown.is_cancelled() {
            tracing::warn!("second signal: stopping at once");
            self.abort.cancel();
            self.killed.send_replace(Some(code));
        } else {
            tracing::info!(drain_seconds = self.drain.as_secs(), "signal received: draining");
            self.stop();
        }
    }

    /// Drives `work` to its end under these rules.
    pub async fn supervise<T>(&self, work: impl Future<Output = T>) -> End<T> {
        let mut killed = self.killed.subscribe();
        let overdue = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(self.drain).await;
            tracing::warn!("drain time is over: dropping what still runs");
            self.abort.cancel();
            tokio::time::sleep(ABORT_GRACE).await;
        };
        let cut_off = async {
            match killed.wait_for(Option::is_some).await {
                Ok(code) => code.unwrap_or_default(),
                // The sender lives as long as `self`.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            code = cut_off => End::Killed(code),
            outcome = work => End::Done(outcome),
            () = overdue => End::Aborted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(drain: Duration) -> (Lifecycle, Readiness) {
        let readiness = Readiness::new();
        readiness.condition("database").set(true, "");
        (Lifecycle::new(readiness.clone(), drain), readiness)
    }

    #[tokio::test]
    async fn the_first_signal_turns_readiness_off_and_lets_work_finish() {
        let (life, readiness) = life(Duration::from_hours(1));
        life.told_to_stop(143);
        assert!(!readiness.is_ready());
        let work = async {
            life.shutdown().cancelled().await;
            "finished"
        };
        assert_eq!(life.supervise(work).await, End::Done("finished"));
        assert!(!life.abort().is_cancelled());
    }

    #[tokio::test]
    async fn work_that_outlasts_the_drain_time_is_told_to_abort() {
        let (life, _) = life(Duration::ZERO);
        life.stop();
        let work = async {
            life.abort().cancelled().await;
            "dropped"
        };
        assert_eq!(life.supervise(work).await, End::Done("dropped"));
    }

    #[tokio::test]
    async fn a_second_signal_stops_at_once() {
        let (life, _) = life(Duration::from_hours(1));
        life.told_to_stop(143);
        life.told_to_stop(130);
        assert_eq!(life.supervise(std::future::pending::<()>()).await, End::Killed(130));
    }
}
