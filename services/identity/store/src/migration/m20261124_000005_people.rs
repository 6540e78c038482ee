//! Groups, roles, seats, and what accounts remember for them.
//!
//! Adds columns with defaults and tables. The version before writes users without the new columns, which then keep what they
//! have; but it does not count seats, so it must not activate anybody while this one runs.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, COLUMNS).await?;
        super::run(manager, TABLES).await
    }
}

// Who never signed in has the first instant of 1970: so that a list by last sign-in needs no NULLs.
const COLUMNS: &str = "
ALTER TABLE users ADD COLUMN deletes_at {time};
ALTER TABLE users ADD COLUMN last_login_at {time} NOT NULL DEFAULT '1970-01-01T00:00:00+00:00';
ALTER TABLE users ADD COLUMN seat_waiting_since {time};
ALTER TABLE users ADD COLUMN edited_fields {json} NOT NULL DEFAULT '[]';
CREATE INDEX users_by_last_login ON users (tenant_id, last_login_at, user_id);
CREATE INDEX users_waiting_for_seat ON users (tenant_id, seat_waiting_since) WHERE seat_waiting_since IS NOT NULL;
";

const TABLES: &str = "
CREATE TABLE user_groups (
    tenant_id {uuid} NOT NULL,
    group_id {uuid} NOT NULL,
    version {big} NOT NULL,
    name {text} NOT NULL,
    name_key {key} NOT NULL,
    external_id {key},
    parent_id {uuid},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, group_id)
) {table};
CREATE INDEX user_groups_by_name ON user_groups (tenant_id, name_key, group_id);
CREATE UNIQUE INDEX user_groups_external_id ON user_groups (tenant_id, external_id) WHERE external_id IS NOT NULL;

CREATE TABLE group_members (
    tenant_id {uuid} NOT NULL,
    group_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    PRIMARY KEY (tenant_id, group_id, user_id)
) {table};
CREATE INDEX group_members_by_user ON group_members (tenant_id, user_id, group_id);

CREATE TABLE custom_roles (
    tenant_id {uuid} NOT NULL,
    role_id {uuid} NOT NULL,
    version {big} NOT NULL,
    name {text} NOT NULL,
    name_key {key} NOT NULL,
    permissions {json} NOT NULL,
    created_at {time} NOT NULL,
    PRIMARY KEY (tenant_id, role_id)
) {table};
CREATE UNIQUE INDEX custom_roles_by_name ON custom_roles (tenant_id, name_key);

CREATE TABLE role_assignments (
    tenant_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    role {key} NOT NULL,
    scope_kind {key} NOT NULL,
    scope_id {key} NOT NULL,
    PRIMARY KEY (tenant_id, user_id, role, scope_kind, scope_id)
) {table};
CREATE INDEX role_assignments_by_scope ON role_assignments (tenant_id, scope_kind, scope_id, user_id);
CREATE INDEX role_assignments_by_role ON role_assignments (tenant_id, role, user_id);

CREATE TABLE seats (
    tenant_id {uuid} NOT NULL PRIMARY KEY,
    used {big} NOT NULL
) {table};
INSERT INTO seats (tenant_id, used) SELECT tenant_id, COUNT(*) FROM users WHERE status = 'ACTIVE' GROUP BY tenant_id;

CREATE TABLE seat_ledger (
    sequence {sequence},
    tenant_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL,
    occurred_at {time} NOT NULL,
    change {small} NOT NULL,
    cause {text} NOT NULL,
    actor {text} NOT NULL
) {table};
CREATE INDEX seat_ledger_of_tenant ON seat_ledger (tenant_id, sequence);
CREATE INDEX seat_ledger_of_user ON seat_ledger (tenant_id, user_id, sequence);
INSERT INTO seat_ledger (tenant_id, user_id, occurred_at, change, cause, actor)
    SELECT tenant_id, user_id, status_since, 1, 'user.activated', 'usher' FROM users WHERE status = 'ACTIVE'
    ORDER BY status_since;
";
