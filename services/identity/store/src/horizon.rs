//! Up to which sequence the outbox is settled: nothing at or below it can still appear.
//!
//! Sequence numbers are handed out when an event is inserted, and become visible when its transaction commits; a lower
//! number may become visible after a higher one. A follower that goes on "after the highest that it has seen" would skip
//! it. Whoever inserts holds a lock on the table (`ROW EXCLUSIVE`, which hinders nobody) from before it gets a number
//! until after its commit is visible. So a sample is taken: first the last number handed out, then who holds such locks;
//! once all of those have ended, everything up to that number is settled. No other transaction of the server delays it.
//!
//! The order of sequences is also the order of one user's changes, since each holds that user's row lock when it inserts.
//! The order of transaction ids would not be: a transaction can get its id, then wait for a lock.
//!
//! On SQLite, whose writers take turns, what is visible is settled.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement};
use usher_core::ports::StoreError;

use crate::error::store_error;

/// Transactions take milliseconds; a reader that finds some under way looks again this soon,
const PAUSE: Duration = Duration::from_millis(2);
/// and this often.
const LOOKS: u32 = 5;

/// What is known about the outbox.
#[derive(Debug, Clone, Copy, FromQueryResult)]
pub(crate) struct Marks {
    /// The last number that was handed out.
    pub(crate) issued: i64,
    /// The highest that was pruned.
    pub(crate) pruned: i64,
}

/// Remembers what was found out, for all followers of this process.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    settled: i64,
    sample: Option<Sample>,
    /// Orders the looks of concurrent followers.
    ticks: u64,
}

#[derive(Debug)]
struct Sample {
    issued: i64,
    /// Who may still insert numbers up to `issued`.
    writers: HashSet<String>,
    /// After it was taken: a look that began before says nothing about its writers.
    tick: u64,
}

impl Horizon {
    /// What is settled now, without waiting for anybody.
    pub(crate) async fn look<C: ConnectionTrait>(&self, db: &C) -> Result<(Marks, i64), StoreError> {
        let marks = marks(db).await?;
        if db.get_database_backend() == DbBackend::Sqlite {
            return Ok((marks, marks.issued));
        }
        if self.state().knows(marks.issued) {
            return Ok((marks, marks.issued));
        }
        let began = self.state().tick();
        let writers = writers(db).await?;
        Ok((marks, self.state().learn(began, marks.issued, writers)))
    }

    /// What is settled, after a few looks if transactions are under way.
    pub(crate) async fn wait<C: ConnectionTrait>(&self, db: &C) -> Result<(Marks, i64), StoreError> {
        let (marks, mut settled) = self.look(db).await?;
        for _ in 0..LOOKS {
            if settled >= marks.issued {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            (_, settled) = self.look(db).await?;
        }
        Ok((marks, settled))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether everything that was handed out is settled. A number below what was settled once is that of a database
    /// which lost its latest commits in a failover: what was learnt of the former one does not count.
    fn knows(&mut self, issued: i64) -> bool {
        if issued < self.settled {
            self.settled = issued;
            self.sample = None;
        }
        issued == self.settled
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// Takes in that `writers` were at work after `issued` was read, by a look that began at `began`. Answers what is
    /// settled.
    fn learn(&mut self, began: u64, issued: i64, writers: HashSet<String>) -> i64 {
        let ended = |sample: &mut Sample| began > sample.tick && sample.writers.is_disjoint(&writers);
        if let Some(sample) = self.sample.take_if(ended) {
            self.settled = self.settled.max(sample.issued);
        }
        if writers.is_empty() {
            self.settled = self.settled.max(issued);
        } else if self.sample.is_none() && issued > self.settled {
            let tick = self.tick();
            self.sample = Some(Sample { issued, writers, tick });
        }
        self.settled
    }
}

async fn marks<C: ConnectionTrait>(db: &C) -> Result<Marks, StoreError> {
    let issued = match db.get_database_backend() {
        DbBackend::Postgres => "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_sequence_seq",
        _ => "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)",
    };
    let text = format!("SELECT ({issued}) AS issued, (SELECT sequence FROM outbox_pruned) AS pruned");
    let marks = Marks::find_by_statement(Statement::from_string(db.get_database_backend(), text))
        .one(db)
        .await
        .map_err(store_error)?;
    marks.ok_or_else(|| StoreError::Internal("a SELECT without FROM has no row".into()))
}

#[derive(FromQueryResult)]
struct Writer {
    virtualtransaction: String,
}

async fn writers<C: ConnectionTrait>(db: &C) -> Result<HashSet<String>, StoreError> {
    let statement = Statement::from_string(
        DbBackend::Postgres,
        "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' \
         AND relation = 'outbox'::regclass \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    );
    let rows = Writer::find_by_statement(statement)
        .all(db)
        .await
        .map_err(store_error)?;
    Ok(rows.into_iter().map(|row| row.virtualtransaction).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(names: &[&str]) -> HashSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A look by one follower at a time.
    fn look(state: &mut State, issued: i64, names: &[&str]) -> i64 {
        let began = state.tick();
        state.learn(began, issued, writers(names))
    }

    #[test]
    fn nothing_is_settled_while_a_writer_of_the_sample_is_at_work() {
        let mut state = State::default();
        assert_eq!(look(&mut state, 5, &["slow", "quick"]), 0);
        assert_eq!(look(&mut state, 9, &["slow", "next"]), 0);
        // Of the first sample all have ended: 5, and not 9, is settled.
        assert_eq!(look(&mut state, 9, &["next"]), 5);
        assert_eq!(look(&mut state, 9, &["later"]), 9);
    }

    #[test]
    fn a_look_that_began_before_the_sample_says_nothing_about_its_writers() {
        let mut state = State::default();
        let early = state.tick();
        assert_eq!(look(&mut state, 9, &["writer"]), 0);
        assert_eq!(
            state.learn(early, 5, writers(&[])),
            5,
            "nobody wrote up to 5, but somebody up to 9"
        );
        assert_eq!(look(&mut state, 9, &["writer"]), 5);
    }

    #[test]
    fn what_was_learnt_of_a_database_that_lost_commits_is_forgotten() {
        let mut state = State::default();
        look(&mut state, 9, &[]);
        assert!(state.knows(7), "nothing above 7 is left");
        assert!(!state.knows(8), "a new 8 has yet to be settled");
        assert_eq!(look(&mut state, 8, &["busy"]), 7);
    }

    #[test]
    fn everything_is_settled_while_nobody_writes() {
        let mut state = State::default();
        assert_eq!(look(&mut state, 7, &[]), 7);
        assert_eq!(look(&mut state, 3, &["other"]), 7);
    }
}
