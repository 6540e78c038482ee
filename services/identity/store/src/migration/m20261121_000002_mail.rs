//! Invitations, mails with their attempts, and the addresses that get none.
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
CREATE TABLE invitations (
    tenant_id {uuid} NOT NULL,
    invitation_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    email {text} NOT NULL,
    email_key {key} NOT NULL,
    state {text} NOT NULL,
    generation {int} NOT NULL,
    message {json},
    created_at {time} NOT NULL,
    queued_at {time} NOT NULL,
    sent_at {time},
    ladder_from {time},
    last_step {int} NOT NULL,
    lapses_at {time} NOT NULL,
    accepted_at {time},
    PRIMARY KEY (tenant_id, invitation_id)
) {table};
CREATE INDEX invitations_of_user ON invitations (tenant_id, user_id, created_at DESC, invitation_id DESC);
CREATE INDEX invitations_by_creation ON invitations (tenant_id, created_at DESC, invitation_id DESC);
CREATE INDEX invitations_by_state ON invitations (tenant_id, state, created_at DESC, invitation_id DESC);

CREATE TABLE deliveries (
    tenant_id {uuid} NOT NULL,
    delivery_id {uuid} NOT NULL,
    user_id {uuid},
    invitation_id {uuid},
    kind {text} NOT NULL,
    generation {int} NOT NULL,
    reminder_step {int} NOT NULL,
    email {text} NOT NULL,
    email_key {key} NOT NULL,
    state {text} NOT NULL,
    claim_id {uuid},
    lease_until {time},
    attempts {int} NOT NULL,
    created_at {time} NOT NULL,
    due_at {time} NOT NULL,
    give_up_at {time} NOT NULL,
    ended_at {time},
    last_claim {uuid},
    test {json},
    PRIMARY KEY (tenant_id, delivery_id)
) {table};
-- One mail of a kind and step for each generation of an invitation: the last guard against a second one.
CREATE UNIQUE INDEX deliveries_once ON deliveries (tenant_id, invitation_id, generation, kind, reminder_step)
    WHERE invitation_id IS NOT NULL AND state NOT IN ('CANCELLED', 'SUPPRESSED');
CREATE INDEX deliveries_of_user ON deliveries (tenant_id, user_id, created_at DESC, delivery_id DESC);
CREATE INDEX deliveries_by_creation ON deliveries (tenant_id, created_at DESC, delivery_id DESC);
CREATE INDEX deliveries_unsettled ON deliveries (tenant_id, user_id, state)
    WHERE state IN ('QUEUED', 'CLAIMED', 'TRANSMITTING', 'DEFERRED', 'UNCERTAIN');

CREATE TABLE delivery_attempts (
    tenant_id {uuid} NOT NULL,
    delivery_id {uuid} NOT NULL,
    claim_id {uuid} NOT NULL,
    worker {text} NOT NULL,
    started_at {time} NOT NULL,
    ended_at {time},
    outcome {text},
    response {text} NOT NULL,
    smtp_code {int} NOT NULL,
    phase {text} NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id, claim_id)
) {table};

CREATE TABLE suppressions (
    tenant_id {uuid} NOT NULL,
    email_key {key} NOT NULL,
    cause {text} NOT NULL,
    created_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, email_key)
) {table};
CREATE INDEX suppressions_by_creation ON suppressions (tenant_id, created_at DESC, email_key DESC);
";
