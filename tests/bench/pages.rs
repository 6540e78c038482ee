//! Pages of lists among a million users, against the same pages among a thousand.

use anyhow::{Context as _, Result};
use chrono::DateTime;
use sqlx::{Connection as _, PgConnection};
use usher_core::ports::UserQuery;
use usher_store::{SeaStore, StoreConfig};
use usher_tests::environment::postgres::Postgres;
use usher_tests::million::{Asked, GROWTH, LARGE, SMALL, asked, fill, pages};

use crate::report::Report;

/// Measures the first and a deep page of each list.
pub(crate) async fn run(postgres: &Postgres, report: &mut Report) -> Result<()> {
    let url = postgres.database().await?;
    let store = SeaStore::connect(&StoreConfig::new(url.clone())).await?;
    store.migrate().await?;
    let now = DateTime::from_timestamp(1_772_442_000, 0).context("an instant")?;
    fill(&mut PgConnection::connect(&url).await?, now).await?;
    // Where a thousand have no full page of such people, a page of everybody is the measure.
    let full = pages(&store, UserQuery::all(SMALL, now)).await?;
    for Asked { name, query } in asked() {
        let large = pages(&store, query(LARGE, now)).await?;
        let small = pages(&store, query(SMALL, now)).await?;
        report.growth(&format!("{name}, first page"), small.0.max(full.0), large.0, GROWTH);
        report.growth(&format!("{name}, deep page"), small.1.max(full.1), large.1, GROWTH);
    }
    Ok(())
}
