//! A job keeps the filter that its users were previewed by: whoever no longer matches is skipped (U6).
//!
//! Beside the version before, whose jobs have none.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, FILTERS).await
    }
}

const FILTERS: &str = "
ALTER TABLE selections ADD COLUMN filter {text} NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN filter {text} NOT NULL DEFAULT '';
";
