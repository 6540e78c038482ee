//! Lets the storm pass: the clock is moved from one timer to the next until nothing is left to be done.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;
use usher_tests::system::System;

/// How long that may take.
const WITHIN: Duration = Duration::from_mins(3);
/// When what is due has not become less for so long, the clock is moved past the leases and pauses that it waits for.
const STILL: Duration = Duration::from_secs(2);
/// How far the clock is moved at a time beyond the next timer: others follow it closely.
const STEP: u64 = 60;

/// What is left to be done at all, how much of it is due, and when the next timer is due that will do something (seconds
/// since the epoch), by the database.
type Left = (i64, i64, Option<i64>);

const LEFT: &str = "SELECT \
    (SELECT COUNT(*) FROM outbox WHERE published_at IS NULL) \
    + (SELECT COUNT(*) FROM deliveries WHERE state IN ('QUEUED', 'CLAIMED', 'TRANSMITTING', 'DEFERRED')) \
    + (SELECT COUNT(*) FROM users WHERE expires_at IS NOT NULL AND status <> 'EXPIRED'), \
    (SELECT COUNT(*) FROM outbox WHERE published_at IS NULL) \
    + (SELECT COUNT(*) FROM deliveries WHERE state IN ('CLAIMED', 'TRANSMITTING') \
       OR state IN ('QUEUED', 'DEFERRED') AND due_at <= to_timestamp($1)) \
    + (SELECT COUNT(*) FROM users WHERE expires_at <= to_timestamp($1) AND status <> 'EXPIRED'), \
    (SELECT EXTRACT(EPOCH FROM MIN(due_at))::bigint FROM timers WHERE kind <> 'LAPSE')";

/// Waits until nothing is left to be done.
pub(crate) async fn settle(system: &mut System) -> Result<()> {
    system.identity.ready().await?;
    for worker in system.workers.values_mut() {
        worker.ready().await?;
    }
    let mut database = PgConnection::connect(&system.database_url).await?;
    let began = Instant::now();
    let (mut least, mut moved) = (i64::MAX, Instant::now());
    loop {
        let now = i64::try_from(system.now().as_secs())?;
        let left: Left = sqlx::query_as(LEFT)
            .bind(f64::from(u32::try_from(now)?))
            .fetch_one(&mut database)
            .await?;
        let (left, due, next_timer) = left;
        if left == 0 {
            return Ok(());
        }
        if began.elapsed() > WITHIN {
            let held = held(&mut database).await?;
            bail!("not settled within {WITHIN:?}: {left} left, {due} of them due; it is {now}; {held:?}");
        }
        if due < least {
            (least, moved) = (due, Instant::now());
        }
        if due == 0 || moved.elapsed() >= STILL {
            let ahead = u64::try_from(next_timer.unwrap_or(now) - now).unwrap_or(0);
            system.advance(Duration::from_secs(ahead + STEP)).await?;
            (least, moved) = (i64::MAX, Instant::now());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What mails and timers there are, when it is to be told why it does not settle.
async fn held(database: &mut PgConnection) -> Result<Vec<(String, i64)>> {
    let text = "SELECT kind || ' ' || state, COUNT(*) FROM deliveries GROUP BY 1 \
                UNION ALL SELECT 'timer ' || kind || ' fired ' || fired, COUNT(*) FROM timers GROUP BY 1";
    Ok(sqlx::query_as(text).fetch_all(database).await?)
}
