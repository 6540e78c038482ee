//! Mail templates of tenants' own: every version that was saved, and in the tenant's row the newest of each.
//!
//! Adds a column with a default and a table. The version before writes tenants without the column, which then keep what
//! they have, and sends its own mails meanwhile.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, TABLES).await
    }
}

// A version without content is a reset. `subject`, `body` and `mjml` are empty then.
const TABLES: &str = "
ALTER TABLE tenants ADD COLUMN templates {json} NOT NULL DEFAULT '{}';

CREATE TABLE mail_templates (
    tenant_id {uuid} NOT NULL,
    kind {key} NOT NULL,
    step {int} NOT NULL,
    language {key} NOT NULL,
    version {big} NOT NULL,
    has_content {small} NOT NULL,
    subject {text} NOT NULL,
    body {text} NOT NULL,
    mjml {text} NOT NULL,
    saved_at {time} NOT NULL,
    saved_by {text} NOT NULL,
    reason {text} NOT NULL,
    PRIMARY KEY (tenant_id, kind, step, language, version)
) {table};
";
