//! The time zones that people live by (B8), how many warnings of their expiration they had (B9), and an index over mails that
//! wait (B15).
//!
//! Adds columns with defaults: the version before writes users without them.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, COLUMN).await
    }
}

const COLUMN: &str = "
ALTER TABLE users ADD COLUMN time_zone {text} NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN expiry_warnings {int} NOT NULL DEFAULT 0;
CREATE INDEX deliveries_waiting ON deliveries (tenant_id, due_at) WHERE state IN ('QUEUED', 'DEFERRED');
";
