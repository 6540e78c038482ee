//! Whether this process should be given work, and if not, why.
//!
//! A component names what it depends on (`database`, `broker`, …) and reports each as it comes and goes. The process is
//! ready while every condition holds and it is not shutting down. With no condition at all it is not ready, since
//! nothing has started yet: name all of them before setting the first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// The conditions of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    conditions: Mutex<BTreeMap<String, State>>,
    overall: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
struct State {
    holds: bool,
    why: String,
}

/// One condition, as `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What it is about, such as `database`.
    pub condition: String,
    /// Whether it holds.
    pub ready: bool,
    /// Why not, or what there is to say.
    pub why: String,
}

/// Reports on one thing that the process depends on. Clones report on the same thing.
#[derive(Debug, Clone)]
pub struct Condition {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// Not ready, with no condition yet.
    pub fn new() -> Self {
        let shared = Shared {
            conditions: Mutex::default(),
            overall: watch::Sender::new(false),
        };
        Self(Arc::new(shared))
    }

    /// Adds a condition, which does not hold until it is set. Asking for a name again answers the same condition.
    pub fn condition(&self, name: &str) -> Condition {
        metrics::describe_gauge!("usher_ready", "Whether a condition of readiness holds");
        self.change(|conditions| {
            conditions.entry(name.to_owned()).or_insert_with(|| {
                metrics::gauge!("usher_ready", "condition" => name.to_owned()).set(0.0);
                State {
                    holds: false,
                    why: "starting".into(),
                }
            });
        });
        Condition {
            name: name.to_owned(),
            readiness: self.clone(),
        }
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        *self.0.overall.borrow()
    }

    /// All conditions, by name.
    pub fn report(&self) -> Vec<Report> {
        let line = |(name, state): (&String, &State)| Report {
            condition: name.clone(),
            ready: state.holds,
            why: state.why.clone(),
        };
        self.lock().iter().map(line).collect()
    }

    /// Follows [`Self::is_ready`].
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.overall.subscribe()
    }

    /// Turns readiness off for good: a process that shuts down does not become ready again.
    pub fn shut_down(&self) {
        let stopping = State {
            holds: false,
            why: "shutting down".into(),
        };
        self.change(|conditions| {
            conditions.insert("process".into(), stopping);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, State>)) {
        let mut conditions = self.lock();
        change(&mut conditions);
        let ready = !conditions.is_empty() && conditions.values().all(|state| state.holds);
        // Still under the lock, so that two changes cannot be announced in the wrong order.
        self.0
            .overall
            .send_if_modified(|overall| std::mem::replace(overall, ready) != ready);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Condition {
    /// Says whether the condition holds, and why. Repeating what was said costs little.
    pub fn set(&self, holds: bool, why: impl Into<String>) {
        let state = State { holds, why: why.into() };
        let mut before = None;
        self.readiness
            .change(|conditions| before = conditions.insert(self.name.clone(), state));
        if before.is_none_or(|before| before.holds != holds) {
            metrics::gauge!("usher_ready", "condition" => self.name.clone()).set(if holds { 1.0 } else { 0.0 });
            tracing::info!(condition = %self.name, ready = holds, "readiness changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_conditions_is_not_ready() {
        assert!(!Readiness::new().is_ready());
    }

    #[test]
    fn readiness_needs_every_condition_and_follows_each_loss_and_return() {
        let readiness = Readiness::new();
        let (database, broker) = (readiness.condition("database"), readiness.condition("broker"));
        let watch = readiness.watch();
        database.set(true, "");
        assert!(!readiness.is_ready());
        broker.set(true, "");
        assert!(*watch.borrow());
        broker.set(false, "connection refused");
        assert!(!*watch.borrow());
        let down: Vec<_> = readiness.report().into_iter().filter(|line| !line.ready).collect();
        assert_eq!(
            down,
            [Report {
                condition: "broker".into(),
                ready: false,
                why: "connection refused".into()
            }]
        );
        broker.set(true, "");
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_process_that_shuts_down_does_not_become_ready_again() {
        let readiness = Readiness::new();
        let database = readiness.condition("database");
        database.set(true, "");
        readiness.shut_down();
        database.set(true, "");
        assert!(!readiness.is_ready());
    }
}
