//! Timers, the outbox, its lanes and who owns them, and where the queues of the in-process bus are.
//!
//! Only adds tables: a version that does not know them is not disturbed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, TABLES).await
    }
}

const TABLES: &str = "
CREATE TABLE timers (
    tenant_id {uuid} NOT NULL,
    kind {text} NOT NULL,
    subject {uuid} NOT NULL,
    user_id {uuid},
    due_at {time} NOT NULL,
    fired {int} NOT NULL,
    PRIMARY KEY (tenant_id, kind, subject)
) {table};
CREATE INDEX timers_due ON timers (due_at);

CREATE TABLE outbox (
    sequence {sequence},
    tenant_id {uuid} NOT NULL,
    user_id {uuid},
    event_id {uuid} NOT NULL,
    event_type {text} NOT NULL,
    lane {small} NOT NULL,
    body {text} NOT NULL,
    occurred_at {time} NOT NULL,
    published_at {time}
) {table};
CREATE INDEX outbox_unpublished ON outbox (sequence) WHERE published_at IS NULL;

-- One row: the highest sequence that was pruned.
CREATE TABLE outbox_pruned (
    sequence {big} NOT NULL
) {table};
INSERT INTO outbox_pruned (sequence) VALUES (0);

CREATE TABLE outbox_lanes (
    lane {small} NOT NULL PRIMARY KEY,
    owner {text},
    epoch {big} NOT NULL,
    lease_until {time}
) {table};
WITH RECURSIVE lanes (lane) AS (SELECT 0 UNION ALL SELECT lane + 1 FROM lanes WHERE lane < 63)
INSERT INTO outbox_lanes (lane, epoch) SELECT lane, 0 FROM lanes;

-- Who would like to have lanes: an owner that has none yet counts too.
CREATE TABLE outbox_owners (
    owner {text} NOT NULL PRIMARY KEY,
    seen_until {time} NOT NULL
) {table};

CREATE TABLE bus_positions (
    queue {text} NOT NULL PRIMARY KEY,
    position {text} NOT NULL
) {table};
";
