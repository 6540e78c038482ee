//! `usher migrate`: brings the database's schema up to date, before the programs that need it are rolled out.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use usher_core::ports::Store as _;
use usher_identity::config::{DEFAULTS, Database};
use usher_platform::config::load_with_common;
use usher_store::{SeaStore, StoreConfig, StoreError};

use crate::failure::{Exit, Failure};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// The file of usher-identity, for its section `[database]`. USHER__DATABASE__URL does as well.
    #[arg(long, env = "USHER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The one section that is needed: a migration has no use for keys and brokers.
#[derive(Debug, Deserialize)]
struct Settings {
    database: Database,
}

pub(super) async fn run(command: &Migrate) -> Result<Exit, Failure> {
    let (_, settings) = load_with_common::<Settings>(DEFAULTS, command.config.as_deref())?;
    let url = settings.database.url;
    migrate(url.expose()).await.map_err(|error| match error {
        StoreError::Unavailable(cause) => Failure::Away(format!("the database {url} does not answer: {cause}")),
        other => Failure::Data(format!("the database {url}: {other}")),
    })?;
    output::lines([format!("The schema of {url} is up to date.")])?;
    Ok(Exit::Done)
}

async fn migrate(url: &str) -> Result<(), StoreError> {
    let store = SeaStore::connect(&StoreConfig::new(url)).await?;
    store.migrate().await?;
    store.check().await?;
    store.close().await
}
