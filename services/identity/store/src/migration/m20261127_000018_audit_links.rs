//! The places of rows in the chain of the audit log get a table of their own, with the codes that they are made of (B14): sealing a
//! row wrote it anew, with all its indexes.
//!
//! Not beside the version before, which seals in the columns that go: its replicas are stopped first. No version was
//! released with them.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, LINKS).await
    }
}

const LINKS: &str = "
CREATE TABLE audit_links (
    tenant_id {uuid} NOT NULL,
    audit_id {uuid} NOT NULL,
    code {bytes} NOT NULL,
    sequence {big},
    chain {bytes},
    PRIMARY KEY (tenant_id, audit_id)
) {table};
INSERT INTO audit_links (tenant_id, audit_id, code, sequence, chain)
    SELECT tenant_id, audit_id, code, sequence, chain FROM audit;
DROP INDEX audit_unsealed;
DROP INDEX audit_chain;
ALTER TABLE audit DROP COLUMN code;
ALTER TABLE audit DROP COLUMN sequence;
ALTER TABLE audit DROP COLUMN chain;
CREATE INDEX audit_unsealed ON audit_links (tenant_id, audit_id) WHERE sequence IS NULL;
CREATE UNIQUE INDEX audit_chain ON audit_links (tenant_id, sequence) WHERE sequence IS NOT NULL;
";
