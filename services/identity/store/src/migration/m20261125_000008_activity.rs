//! What accounts remember of the activity of their people (S8, B10).
//!
//! Adds columns that may be empty and indexes: the version before writes users without them, and they keep what they have.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, ACTIVITY).await
    }
}

const ACTIVITY: &str = "
ALTER TABLE users ADD COLUMN first_course_at {time};
ALTER TABLE users ADD COLUMN inactivity_warned_at {time};
CREATE INDEX users_activated ON users (tenant_id, created_at, user_id)
    WHERE status = 'ACTIVE' AND first_course_at IS NULL;
CREATE INDEX users_engaged ON users (tenant_id, created_at, user_id)
    WHERE status = 'ACTIVE' AND first_course_at IS NOT NULL;
";
