//! What came back after a mail server took a mail (L13), and the mails to an address.
//!
//! Only adds a column that may be empty, which a version that does not know it leaves alone, and an index.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, STEPS).await
    }
}

const STEPS: &str = "
ALTER TABLE deliveries ADD COLUMN bounce {text};
CREATE INDEX deliveries_to_address ON deliveries (tenant_id, email_key, ended_at DESC, delivery_id DESC)
    WHERE ended_at IS NOT NULL;
";
