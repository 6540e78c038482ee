//! Stops trying when the mail server cannot be reached at all, and looks from time to time whether it is back. So a
//! server that is away for an hour costs no mail an attempt, and is not stormed when it returns.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So many failures in a row open it.
const FAILURES: u32 = 3;
/// The pause before the first look; it doubles with each look in vain.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Opens after three failures to reach the server, and closes when a probe reaches it.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<State>,
    /// Held by the one who probes.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    pause: Duration,
    next_probe: Instant,
}

impl Breaker {
    /// The server was reached.
    pub fn reached(&self) {
        let mut state = self.lock();
        state.failures = 0;
        if state.open.take().is_some() {
            metrics::gauge!("usher_mail_breaker_open").set(0.0);
            tracing::info!("the mail server is back");
        }
    }

    /// The server could not be reached.
    pub fn failed(&self) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES && state.open.is_none() {
            state.open = Some(Open {
                pause: FIRST_PAUSE,
                next_probe: Instant::now() + FIRST_PAUSE,
            });
            metrics::gauge!("usher_mail_breaker_open").set(1.0);
            tracing::error!("the mail server cannot be reached: mails wait until it is back");
        }
    }

    /// Whether mails have to wait.
    pub fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    /// Waits until it is closed. Of all who wait one probes at a time; `probe` answers whether it reached the server.
    pub async fn ready<P, F>(&self, probe: P)
    where
        P: Fn() -> F,
        F: Future<Output = bool>,
    {
        while self.is_open() {
            let _turn = self.turn.lock().await;
            let Some(open) = self.lock().open else { return };
            sleep_until(open.next_probe).await;
            if probe().await {
                self.reached();
            } else if let Some(open) = &mut self.lock().open {
                open.pause = (open.pause * 2).min(LONGEST_PAUSE);
                open.next_probe = Instant::now() + open.pause;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn opened() -> Arc<Breaker> {
        let breaker = Arc::new(Breaker::default());
        for _ in 0..FAILURES {
            breaker.failed();
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn two_failures_leave_it_closed_and_a_success_starts_the_count_anew() {
        let breaker = Breaker::default();
        breaker.failed();
        breaker.failed();
        breaker.reached();
        breaker.failed();
        breaker.failed();
        assert!(!breaker.is_open());
        breaker
            .ready(|| async { unreachable!("a closed breaker probes nothing") })
            .await;
        breaker.failed();
        assert!(breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_probes_after_5_s_and_then_ever_more_seldom_up_to_60_s() {
        let (breaker, begin) = (opened(), Instant::now());
        let probes = Mutex::new(Vec::new());
        breaker
            .ready(|| async {
                let mut probes = probes.lock().unwrap();
                probes.push(begin.elapsed().as_secs());
                probes.len() == 7
            })
            .await;
        assert_eq!(*probes.lock().unwrap(), [5, 15, 35, 75, 135, 195, 255]);
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_who_wait_one_probes_for_all() {
        let (breaker, probes) = (opened(), Arc::new(AtomicU32::new(0)));
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                let (breaker, probes) = (breaker.clone(), probes.clone());
                tokio::spawn(async move {
                    breaker
                        .ready(|| async { probes.fetch_add(1, Ordering::SeqCst) == 1 })
                        .await;
                })
            })
            .collect();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(probes.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_stops_waiting_in_the_middle_of_a_probe_does_not_keep_the_others_waiting() {
        let breaker = opened();
        let stuck = breaker.ready(std::future::pending::<bool>);
        assert!(tokio::time::timeout(Duration::from_secs(10), stuck).await.is_err());
        breaker.ready(|| async { true }).await;
        assert!(!breaker.is_open());
    }
}
