//! Bulk jobs: selections in chunks, jobs, and the outcomes of the chunks that were dealt with.
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
CREATE TABLE selections (
    tenant_id {uuid} NOT NULL,
    selection_id {uuid} NOT NULL,
    digest {bytes} NOT NULL,
    item_count {big} NOT NULL,
    usable_until {time} NOT NULL,
    PRIMARY KEY (tenant_id, selection_id)
) {table};
CREATE INDEX selections_by_end ON selections (usable_until);

CREATE TABLE selection_chunks (
    tenant_id {uuid} NOT NULL,
    selection_id {uuid} NOT NULL,
    number {int} NOT NULL,
    items {text} NOT NULL,
    PRIMARY KEY (tenant_id, selection_id, number)
) {table};

CREATE TABLE jobs (
    tenant_id {uuid} NOT NULL,
    job_id {uuid} NOT NULL,
    action {text} NOT NULL,
    state {text} NOT NULL,
    selection_id {uuid} NOT NULL,
    total {big} NOT NULL,
    next_chunk {int} NOT NULL,
    changed {big} NOT NULL,
    unchanged {big} NOT NULL,
    skipped {big} NOT NULL,
    failed {big} NOT NULL,
    origin_id {uuid},
    actor {text} NOT NULL,
    reason {text} NOT NULL,
    request_id {text} NOT NULL,
    created_at {time} NOT NULL,
    ended_at {time},
    lease_owner {text},
    lease_until {time},
    served_at {time},
    PRIMARY KEY (tenant_id, job_id)
) {table};
CREATE INDEX jobs_by_creation ON jobs (tenant_id, created_at, job_id);
CREATE INDEX jobs_of_selection ON jobs (tenant_id, selection_id);
CREATE INDEX jobs_that_work ON jobs (served_at) WHERE state = 'RUNNING';
CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE job_chunks (
    tenant_id {uuid} NOT NULL,
    job_id {uuid} NOT NULL,
    number {int} NOT NULL,
    outcomes {text} NOT NULL,
    PRIMARY KEY (tenant_id, job_id, number)
) {table};
";
