//! Who was warned of an expiration that lies ahead (B9): what the mails to administrators are about.
//!
//! Only adds an index.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, INDEX).await
    }
}

// A warning is worth trying until the expiration that it is about.
const INDEX: &str = "
CREATE INDEX deliveries_of_warnings ON deliveries (tenant_id, give_up_at, user_id, created_at) WHERE kind = 'EXPIRY_WARNING';
";
