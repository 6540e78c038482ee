//! Entries of the audit log, and events with somebody's words, that are about nobody in particular: an erasure looks whether their
//! texts name somebody (S12).
//!
//! Only adds indexes.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, INDEXES).await
    }
}

const INDEXES: &str = "
CREATE INDEX audit_of_nobody ON audit (tenant_id, audit_id) WHERE subject_id IS NULL AND redacted_by IS NULL;
CREATE INDEX outbox_of_nobody ON outbox (tenant_id, sequence) WHERE user_id IS NULL AND body LIKE '%\"reason\":%';
";
