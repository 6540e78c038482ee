//! Lists of a group's members, and of those who wait for a seat, are read in their order: the cost of a page does not grow
//! with the tenant (U3).
//!
//! Not beside the version before, which would add members without the instant that orders them: its replicas are stopped
//! first. No version was released with them.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, ORDER).await
    }
}

const ORDER: &str = "
ALTER TABLE group_members ADD COLUMN user_created_at {time} NOT NULL DEFAULT '1970-01-01T00:00:00+00:00';
UPDATE group_members SET user_created_at = u.created_at FROM users u
    WHERE u.tenant_id = group_members.tenant_id AND u.user_id = group_members.user_id;
CREATE INDEX group_members_by_creation ON group_members (tenant_id, group_id, user_created_at, user_id);
CREATE INDEX users_waiting_by_creation ON users (tenant_id, created_at, user_id) WHERE seat_waiting_since IS NOT NULL;
";
