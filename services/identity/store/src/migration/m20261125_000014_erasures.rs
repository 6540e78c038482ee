//! Erasures (S12, U9, U10). Beside the version before: it leaves the new tables alone, and writes jobs without a revision. The
//! timers of deletion dates are set here for the accounts that have one; the version before does not know them, so it is to
//! be replaced before the first of them is due.

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
CREATE TABLE erasures (
    tenant_id {uuid} NOT NULL,
    erasure_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    state {text} NOT NULL,
    created_at {time} NOT NULL,
    body {text} NOT NULL,
    PRIMARY KEY (tenant_id, erasure_id)
) {table};
-- One that runs, or was carried out, for each account.
CREATE UNIQUE INDEX erasures_of_user ON erasures (tenant_id, user_id) WHERE state <> 'CANCELLED';
CREATE INDEX erasures_by_user ON erasures (tenant_id, user_id, created_at DESC, erasure_id DESC);
CREATE INDEX erasures_by_creation ON erasures (tenant_id, created_at DESC, erasure_id DESC);
CREATE INDEX erasures_by_state ON erasures (tenant_id, state, created_at DESC, erasure_id DESC);

CREATE TABLE erasure_subscribers (
    tenant_id {uuid} NOT NULL,
    service {key} NOT NULL,
    PRIMARY KEY (tenant_id, service)
) {table};

CREATE TABLE erased_addresses (
    tenant_id {uuid} NOT NULL,
    digest {bytes} NOT NULL,
    erased_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, digest)
) {table};

ALTER TABLE jobs ADD COLUMN revision {int} NOT NULL DEFAULT 0;
CREATE INDEX deliveries_of_nobody ON deliveries (tenant_id, email_key) WHERE user_id IS NULL;

INSERT INTO timers (tenant_id, kind, subject, user_id, due_at, fired)
    SELECT tenant_id, 'DELETION', user_id, user_id, deletes_at, 0 FROM users WHERE deletes_at IS NOT NULL;
";
