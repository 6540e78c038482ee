//! A million users: lists and previews use indexes, and a page costs about what it costs among a thousand (U3, U6).
//!
//! It is here since it keeps the database busy, and the tests here take turns.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use sqlx::{Connection as _, PgConnection};
use usher_core::ports::{Jobs as _, UserQuery};
use usher_store::{SeaStore, StoreConfig};
use usher_tests::million::{Asked, GROWTH, LARGE, SMALL, asked, fill, pages};

use crate::servers::{Servers, servers, tell};

/// Pages of a millisecond are measured no finer than that, in a build that is not optimised; `make bench` allows for none.
const NOISE: Duration = Duration::from_millis(2);

/// Tables that no list may read as a whole.
const SCANS: &str = "SELECT COALESCE(SUM(seq_scan), 0)::bigint FROM pg_stat_user_tables \
    WHERE relname IN ('users', 'group_members', 'role_assignments', 'invitations')";

/// U3, U6
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_previews_among_a_million_users_use_indexes() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, .. } = &mut *turn;
    let url = postgres.database().await?;
    let store = SeaStore::connect(&StoreConfig::new(url.clone())).await?;
    store.migrate().await?;
    let now = DateTime::from_timestamp(1_772_442_000, 0).context("an instant")?;
    let mut database = PgConnection::connect(&url).await?;
    let began = Instant::now();
    fill(&mut database, now).await?;
    tell(&format!("million: filled after {} s", began.elapsed().as_secs()));

    let mut slow = Vec::new();
    // Where a thousand have no full page of such people, a page of everybody is the measure.
    let (full, _) = pages(&store, UserQuery::all(SMALL, now)).await?;
    for Asked { name, query } in asked() {
        settle(&mut database).await?;
        let before = scans(&mut database).await?;
        let (first, deep) = pages(&store, query(LARGE, now)).await?;
        // A preview reads the same people, by id.
        let preview = store.matching_users(&query(LARGE, now), None, 1_000).await?;
        ensure!(!preview.is_empty(), "{name}: nobody is previewed");
        store
            .matching_users(&query(LARGE, now), preview.last().copied(), 1_000)
            .await?;
        settle(&mut database).await?;
        let scanned = scans(&mut database).await? - before;
        ensure!(scanned == 0, "{name}: a table was read as a whole {scanned} times");
        let (small_first, small_deep) = pages(&store, query(SMALL, now)).await?;
        tell(&format!(
            "million: {name}: first page {first:?}, deep page {deep:?}; among a thousand {small_first:?}, {small_deep:?}"
        ));
        for (what, cost, among_thousand) in [("first", first, small_first), ("deep", deep, small_deep)] {
            let measure = among_thousand.max(full);
            if cost > measure * GROWTH + NOISE {
                slow.push(format!("{name}, {what} page: {cost:?} against {measure:?}"));
            }
        }
    }
    tell(&format!(
        "million: pages that cost more than {GROWTH} times as much: {slow:?}"
    ));
    ensure!(slow.is_empty(), "{slow:?}");
    Ok(())
}

/// How often one of the tables was read as a whole so far.
async fn scans(database: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar(SCANS).fetch_one(database).await?)
}

/// Makes what connections counted visible to others.
async fn settle(database: &mut PgConnection) -> Result<()> {
    // Each connection reports at most once a second, when it is idle.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    sqlx::query("SELECT pg_stat_clear_snapshot()").execute(database).await?;
    Ok(())
}
