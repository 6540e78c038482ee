//! Callers' words in events and in the audit log, found by whom they are about, and from one reason to the next: an erasure takes
//! out those about a person, wherever they stand (S12).
//!
//! Beside the version before: two of its indexes are replaced by ones that hold request ids too, so that its erasures read more
//! of the outbox than they need.

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
CREATE INDEX outbox_with_words ON outbox (tenant_id, user_id)
    WHERE (body LIKE '%\"reason\":%' OR body LIKE '%\"request_id\":%');
CREATE INDEX outbox_of_nobody_with_words ON outbox (tenant_id, sequence)
    WHERE user_id IS NULL AND (body LIKE '%\"reason\":%' OR body LIKE '%\"request_id\":%');
DROP INDEX outbox_with_reasons;
DROP INDEX outbox_of_nobody;
CREATE INDEX outbox_reasons ON outbox (tenant_id, {reason}) WHERE body LIKE '%\"reason\":%';
CREATE INDEX history_reasons ON history (tenant_id, {reason}) WHERE body LIKE '%\"reason\":%';
CREATE INDEX audit_reasons ON audit (tenant_id, reason, audit_id) WHERE reason <> '';
";
