//! An index for lists by name of those who have expired, who are few among many.
//!
//! Only adds an index: a version that does not know it is not disturbed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, INDEX).await
    }
}

const INDEX: &str = "
CREATE INDEX users_with_end_by_name ON users (tenant_id, name_key, user_id)
    WHERE status = 'EXPIRED' OR expires_at IS NOT NULL;
";
