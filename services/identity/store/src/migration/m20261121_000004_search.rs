//! Indexes for labels and for parts of names and addresses (PostgreSQL; SQLite scans the tenant's users).
//!
//! Only adds indexes, while the table is small. `pg_trgm` is a trusted extension: the owner of the database may create
//! it. Where that is not allowed, the search works without, and slower.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Postgres {
            super::run(manager, INDEXES).await?;
        }
        Ok(())
    }
}

const INDEXES: &str = "
CREATE INDEX users_by_label ON users USING gin (labels jsonb_path_ops);

DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX users_by_text ON users USING gin (search_key gin_trgm_ops);
EXCEPTION
    -- Not allowed, not installed, or its operator class lies in a schema that is not searched.
    WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR undefined_object THEN
        RAISE NOTICE 'pg_trgm is not available: searching for parts of names will scan';
END
$$;
";
