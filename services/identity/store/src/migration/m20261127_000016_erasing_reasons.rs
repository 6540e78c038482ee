//! Events that carry somebody's words about a person, found by that person: an erasure takes the words out (S12). And the runs
//! for inactivity that were carried out, found by when they ended: they are not kept for good.
//!
//! Only adds indexes.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        super::run(manager, INDEXES).await
    }
}

const INDEXES: &str = "
CREATE INDEX outbox_with_reasons ON outbox (tenant_id, user_id) WHERE body LIKE '%\"reason\":%';
CREATE INDEX inactivity_runs_done ON inactivity_runs (ended_at) WHERE state = 'DONE';
";
