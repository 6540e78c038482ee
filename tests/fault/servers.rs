//! The servers that these tests stop, kill and start again: one of each, for one test at a time.

use std::io::Write as _;

use anyhow::Result;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use usher_tests::environment::postgres::{Fsync, Postgres};
use usher_tests::environment::rabbitmq::Broker;

/// A PostgreSQL and a broker.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) broker: Broker,
}

/// Waits for its turn and answers the servers, up and running whatever the test before has done to them.
///
/// Without fsync: processes are killed here, not machines.
pub(crate) async fn servers() -> Result<MappedMutexGuard<'static, Servers>> {
    static SERVERS: Mutex<Option<Servers>> = Mutex::const_new(None);
    let mut turn = SERVERS.lock().await;
    if let Some(servers) = &*turn
        && (servers.postgres.database().await.is_err() || servers.broker.vhost().await.is_err())
    {
        *turn = None;
    }
    if turn.is_none() {
        let (postgres, broker) = tokio::try_join!(Postgres::start(Fsync::Off), Broker::start())?;
        *turn = Some(Servers { postgres, broker });
    }
    Ok(MutexGuard::map(turn, |servers| {
        servers.as_mut().expect("filled just above")
    }))
}

/// Says something that is seen also when the test passes.
pub(crate) fn tell(text: &str) {
    // The macros' output is kept back by the test harness; what is written here is not.
    let _ = writeln!(std::io::stderr(), "{text}");
}
