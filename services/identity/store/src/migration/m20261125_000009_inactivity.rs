//! Runs of deactivations for inactivity, and the indexes that find whom they are about (B10).
//!
//! Only adds a table and indexes: a version that does not know them is not disturbed. But it cannot read the timers of this
//! one, so no tenant may be given a policy while it still runs.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, INACTIVITY).await
    }
}

const INACTIVITY: &str = "
CREATE TABLE inactivity_runs (
    tenant_id {uuid} NOT NULL,
    run_id {uuid} NOT NULL,
    state {text} NOT NULL,
    created_at {time} NOT NULL,
    covers {time} NOT NULL,
    position_at {time},
    position_user {uuid},
    due {big} NOT NULL,
    active {big} NOT NULL,
    deactivated {big} NOT NULL,
    decided_at {time},
    decided_by {text} NOT NULL,
    ended_at {time},
    PRIMARY KEY (tenant_id, run_id)
) {table};
CREATE INDEX inactivity_runs_by_creation ON inactivity_runs (tenant_id, created_at, run_id);
-- One at a time: the last guard against a second one.
CREATE UNIQUE INDEX inactivity_runs_open ON inactivity_runs (tenant_id) WHERE state IN ('PARKED', 'RUNNING');
CREATE INDEX users_to_warn ON users (tenant_id, {greater}(last_login_at, status_since), user_id)
    WHERE status = 'ACTIVE' AND inactivity_warned_at IS NULL;
CREATE INDEX users_warned ON users (tenant_id, inactivity_warned_at, user_id)
    WHERE status = 'ACTIVE' AND inactivity_warned_at IS NOT NULL;
";
