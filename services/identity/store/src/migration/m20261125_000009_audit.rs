//! The audit log, and the end of each tenant's chain (B14).
//!
//! Only adds tables: a version that does not know them is not disturbed, but what it does meanwhile is not in the log.

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
-- Ids rise with the time, so that each index also serves a range of time, the newest first.
CREATE TABLE audit (
    tenant_id {uuid} NOT NULL,
    audit_id {uuid} NOT NULL,
    occurred_at {time} NOT NULL,
    actor {text} NOT NULL,
    caller {text} NOT NULL,
    method {text} NOT NULL,
    permission {text} NOT NULL,
    outcome {text} NOT NULL,
    subject_id {uuid},
    job_id {uuid},
    reason {text} NOT NULL,
    request_id {text} NOT NULL,
    details {text},
    salt {bytes},
    digest {bytes} NOT NULL,
    code {bytes} NOT NULL,
    redacted_by {uuid},
    redaction {bytes},
    sequence {big},
    chain {bytes},
    PRIMARY KEY (tenant_id, audit_id)
) {table};
CREATE INDEX audit_unsealed ON audit (tenant_id, audit_id) WHERE sequence IS NULL;
CREATE UNIQUE INDEX audit_chain ON audit (tenant_id, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX audit_by_actor ON audit (tenant_id, actor, audit_id);
CREATE INDEX audit_by_method ON audit (tenant_id, method, audit_id);
CREATE INDEX audit_of_subject ON audit (tenant_id, subject_id, audit_id) WHERE subject_id IS NOT NULL;
CREATE INDEX audit_of_job ON audit (tenant_id, job_id, audit_id) WHERE job_id IS NOT NULL;
CREATE INDEX audit_refused ON audit (tenant_id, audit_id) WHERE outcome <> 'OK';
CREATE INDEX audit_by_refusal ON audit (tenant_id, outcome, audit_id) WHERE outcome <> 'OK';

CREATE TABLE audit_heads (
    tenant_id {uuid} NOT NULL PRIMARY KEY,
    sequence {big} NOT NULL,
    chain {bytes} NOT NULL,
    kept_after {big} NOT NULL,
    kept_chain {bytes} NOT NULL,
    code {bytes} NOT NULL,
    announced_sequence {big} NOT NULL,
    announced_at {time} NOT NULL
) {table};
CREATE INDEX audit_heads_to_announce ON audit_heads (tenant_id, announced_at) WHERE announced_sequence < sequence;
";
