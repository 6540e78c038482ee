//! Tenants, users, the answers to repeated requests, and the history of accounts.
//!
//! The first step: there is no version before it.

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
CREATE TABLE tenants (
    tenant_id {uuid} NOT NULL PRIMARY KEY,
    version {big} NOT NULL,
    settings {json} NOT NULL,
    created_at {time} NOT NULL
) {table};

CREATE TABLE users (
    tenant_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    version {big} NOT NULL,
    email {text} NOT NULL,
    email_key {key} NOT NULL,
    external_id {key},
    first_name {text} NOT NULL,
    last_name {text} NOT NULL,
    language {text} NOT NULL,
    labels {json} NOT NULL,
    name_key {key} NOT NULL,
    search_key {text} NOT NULL,
    status {text} NOT NULL,
    restores {text},
    restores_then {text},
    status_since {time} NOT NULL,
    expires_at {time},
    credential {text} NOT NULL,
    password_hash {text},
    password_generation {int} NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    activated_at {time},
    PRIMARY KEY (tenant_id, user_id)
) {table};
CREATE UNIQUE INDEX users_email ON users (tenant_id, email_key) WHERE status <> 'ERASED';
CREATE UNIQUE INDEX users_external_id ON users (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX users_by_name ON users (tenant_id, name_key, user_id);
CREATE INDEX users_by_creation ON users (tenant_id, created_at, user_id);
CREATE INDEX users_by_status ON users (tenant_id, status);
CREATE INDEX users_by_expiration ON users (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX users_by_language ON users (tenant_id, language);

CREATE TABLE responses (
    tenant_id {uuid} NOT NULL,
    request_id {key} NOT NULL,
    fingerprint {bytes} NOT NULL,
    response {bytes} NOT NULL,
    created_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
) {table};
CREATE INDEX responses_by_creation ON responses (created_at);

CREATE TABLE history (
    sequence {sequence},
    tenant_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    event_type {text} NOT NULL,
    occurred_at {time} NOT NULL,
    body {text} NOT NULL
) {table};
CREATE INDEX history_of_user ON history (tenant_id, user_id, sequence);
";
