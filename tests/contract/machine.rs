//! The status machine as a whole: 10,000 arbitrary sequences of commands, and every law after every step; and the same
//! over real databases.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;
use usher_core::ports::Store;
use usher_store::{SeaStore, StoreConfig};
use usher_tests::environment::postgres::Postgres;
use usher_tests::machine::Pure;
use usher_tests::machine::command::sequences;
use usher_tests::machine::laws::{DELIVERIES, INVITATIONS, Laws, USERS};
use usher_tests::machine::lockstep::Lockstep;

/// Sequences of one run, and runs at most until every row of the tables was reached: some are rare.
const SEQUENCES: u32 = 10_000;
const RUNS: usize = 5;
/// A step there takes as many round trips as a call to the server.
const SEQUENCES_ON_BOTH: u32 = 200;
const TIME_ON_SQLITE: Duration = Duration::from_secs(45);

/// S1 to S7, S9, S11, L1, L8, L13, L14, B11, B12: no sequence reaches a state or an event outside the tables, and nothing
/// that waits is ever forgotten. All together reach every row, so that none stands there for nothing.
#[test]
fn no_sequence_of_commands_breaks_a_law_and_all_of_them_together_reach_every_row_of_the_tables() {
    let seen = RefCell::new(Seen::default());
    for _ in 0..RUNS {
        let mut runner = TestRunner::new(config(SEQUENCES));
        let held = runner.run(&sequences(30), |commands| {
            let laws = Pure::new().run(&commands).map_err(TestCaseError::fail)?;
            seen.borrow_mut().add(laws);
            Ok(())
        });
        held.unwrap_or_else(|fault| panic!("{fault}"));
        if seen.borrow().missed().is_empty() {
            break;
        }
    }
    assert_eq!(seen.into_inner().missed(), [""; 0], "rows that no sequence reached");
}

/// K1: the databases and the plain maps come to the same statuses, versions, mails, timers and events.
#[test]
fn the_same_sequences_give_the_same_result_on_sqlite_and_on_postgresql() {
    let runtime = Runtime::new().unwrap();
    let (sqlite, postgres) = runtime.block_on(async {
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        (store("sqlite::memory:").await, store(&url).await)
    });
    let stores: [(&str, &dyn Store); 2] = [("SQLite", &sqlite), ("PostgreSQL", &postgres)];
    let held = TestRunner::new(config(SEQUENCES_ON_BOTH)).run(&sequences(30), |commands| {
        let run = runtime.block_on(Lockstep::run(&stores, &commands));
        run.map_err(TestCaseError::fail)
    });
    held.unwrap_or_else(|fault| panic!("{fault}"));
}

/// As many more on SQLite alone as fit in the time.
#[test]
fn many_more_sequences_give_the_same_result_on_sqlite() {
    let runtime = Runtime::new().unwrap();
    let sqlite = runtime.block_on(store("sqlite::memory:"));
    let stores: [(&str, &dyn Store); 1] = [("SQLite", &sqlite)];
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < TIME_ON_SQLITE {
        let held = TestRunner::new(config(100)).run(&sequences(30), |commands| {
            let run = runtime.block_on(Lockstep::run(&stores, &commands));
            run.map_err(TestCaseError::fail)
        });
        held.unwrap_or_else(|fault| panic!("{fault}"));
        done += 100;
    }
    println!("{done} sequences in {:?}", start.elapsed());
}

async fn store(url: &str) -> SeaStore {
    let store = SeaStore::connect(&StoreConfig::new(url)).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

/// The rows of the tables that were reached.
#[derive(Default)]
struct Seen {
    users: BTreeSet<usize>,
    deliveries: BTreeSet<usize>,
    invitations: BTreeSet<usize>,
}

impl Seen {
    fn add(&mut self, laws: Laws) {
        self.users.extend(laws.users_seen);
        self.deliveries.extend(laws.deliveries_seen);
        self.invitations.extend(laws.invitations_seen);
    }

    fn missed(&self) -> Vec<String> {
        [
            missed(USERS, &self.users),
            missed(DELIVERIES, &self.deliveries),
            missed(INVITATIONS, &self.invitations),
        ]
        .concat()
    }
}

fn missed<T: Debug>(table: &[T], seen: &BTreeSet<usize>) -> Vec<String> {
    let rows = table.iter().enumerate();
    rows.filter(|(index, _)| !seen.contains(index))
        .map(|(_, row)| format!("{row:?}"))
        .collect()
}
