//! The schema, step by step. Steps are only added, never edited.
//!
//! A new step: a file beside these, named by day and subject, whose header says how it runs beside the version before it
//! (first what both understand, and only in a later release what takes something away); then its line in
//! [`Migrator::migrations`].
//!
//! Both databases get the same tables from one text, in which `{time}` and its like stand for what each of them calls it.

mod m20261121_000001_accounts;
mod m20261121_000002_mail;
mod m20261121_000003_events_and_timers;
mod m20261121_000004_search;
mod m20261124_000005_people;
mod m20261124_000006_jobs;
mod m20261124_000007_lists;
mod m20261125_000008_templates;
mod m20261125_000009_audit;
mod m20261125_000010_time_zones;
mod m20261125_000011_activity;
mod m20261125_000012_inactivity;
mod m20261125_000013_bounces;
mod m20261125_000014_erasures;
mod m20261126_000015_warned;
mod m20261127_000016_erasing_reasons;
mod m20261127_000017_entries_about_nobody;
mod m20261127_000018_audit_links;
mod m20261201_000019_members_in_order;
mod m20261201_000020_words;
mod m20261202_000021_filters_of_jobs;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// All steps.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_accounts::Migration),
            Box::new(m20261121_000002_mail::Migration),
            Box::new(m20261121_000003_events_and_timers::Migration),
            Box::new(m20261121_000004_search::Migration),
            Box::new(m20261124_000005_people::Migration),
            Box::new(m20261124_000006_jobs::Migration),
            Box::new(m20261124_000007_lists::Migration),
            Box::new(m20261125_000008_templates::Migration),
            Box::new(m20261125_000009_audit::Migration),
            Box::new(m20261125_000010_time_zones::Migration),
            Box::new(m20261125_000011_activity::Migration),
            Box::new(m20261125_000012_inactivity::Migration),
            Box::new(m20261125_000013_bounces::Migration),
            Box::new(m20261125_000014_erasures::Migration),
            Box::new(m20261126_000015_warned::Migration),
            Box::new(m20261127_000016_erasing_reasons::Migration),
            Box::new(m20261127_000017_entries_about_nobody::Migration),
            Box::new(m20261127_000018_audit_links::Migration),
            Box::new(m20261201_000019_members_in_order::Migration),
            Box::new(m20261201_000020_words::Migration),
            Box::new(m20261202_000021_filters_of_jobs::Migration),
        ]
    }
}

/// Runs statements of one text on either database.
async fn run(manager: &SchemaManager<'_>, text: &str) -> Result<(), DbErr> {
    let text = dialect(manager.get_database_backend(), text);
    manager.get_connection().execute_unprepared(&text).await?;
    Ok(())
}

fn dialect(backend: DbBackend, text: &str) -> String {
    let words: [(&str, &str, &str); 13] = [
        ("{uuid}", "uuid", "BLOB"),
        // Compared byte by byte, so that both databases sort the same.
        ("{key}", "text COLLATE \"C\"", "TEXT"),
        ("{text}", "text", "TEXT"),
        ("{json}", "jsonb", "TEXT"),
        ("{bytes}", "bytea", "BLOB"),
        ("{time}", "timestamptz", "TEXT"),
        ("{small}", "smallint", "INTEGER"),
        ("{int}", "integer", "INTEGER"),
        ("{big}", "bigint", "INTEGER"),
        (
            "{sequence}",
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            "INTEGER PRIMARY KEY AUTOINCREMENT",
        ),
        // The greater of two values in one row.
        ("{greater}", "GREATEST", "MAX"),
        // Of an event, as it is kept.
        (
            "{reason}",
            "(body::jsonb ->> 'reason')",
            "json_extract(body, '$.reason')",
        ),
        ("{table}", "", "STRICT"),
    ];
    let postgres = backend == DbBackend::Postgres;
    words
        .iter()
        .fold(text.to_owned(), |text, (word, in_postgres, in_sqlite)| {
            text.replace(word, if postgres { in_postgres } else { in_sqlite })
        })
}
