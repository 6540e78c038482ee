//! The ports of `usher-core` on PostgreSQL and SQLite.
//!
//! [`SeaStore`] is all that the rest sees. Rows are sea-orm entities (`entity`): each is one table, with what turns it
//! into a value of `usher-core` and back. Reads and lists are sea-orm queries. Statements over a *set* of keys or rows
//! (`load`, `write`, `timers`, `outbox`) are written out, since sea-orm has no `UNNEST` and no `SKIP LOCKED` with a
//! condition on a set: `sql` and `bulk` build them for both databases.
//!
//! A new table: a migration in [`migration`], an entity, then the place in `load` and `write` where it belongs, and
//! what an erasure does to it, in [`ERASED_TABLES`].

mod audit;
mod bulk;
mod config;
mod connect;
mod directory;
mod entity;
mod erasures;
mod error;
mod find_mails;
mod horizon;
mod housekeeping;
mod inactivity;
mod jobs;
mod lanes;
mod list;
mod list_people;
mod load;
pub mod migration;
mod outbox;
mod sql;
mod statistics;
mod timers;
mod transaction;
mod warned;
mod write;

pub use config::StoreConfig;
pub use connect::SeaStore;
pub use erasures::{Fate, TABLES as ERASED_TABLES};
pub use usher_core::ports::StoreError;
