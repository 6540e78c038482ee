//! The store itself: its connections, its schema, its transactions' beginning.
//!
//! SQLite has one writer, on a connection of its own, and as many readers as are asked for. Its commits wait for the disk
//! (`synchronous = FULL`), as those of PostgreSQL do: a mail that went out must not be forgotten with the power.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{Connection as _, PgConnection};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, EntityTrait as _, SqliteTransactionMode,
    SqlxPostgresConnector, SqlxSqliteConnector, TransactionOptions, TransactionTrait as _, sqlx,
};
use sea_orm_migration::{MigratorTrait as _, SchemaManager, seaql_migrations};
use secrecy::ExposeSecret as _;
use usher_core::ports::{Store, StoreError, Transaction};

use crate::StoreConfig;
use crate::error::{driver_error, store_error};
use crate::horizon::Horizon;
use crate::migration::Migrator;
use crate::statistics::Written;
use crate::transaction::SeaTransaction;

/// Another process that writes to the same SQLite file is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Connections that are enough for two transactions that stay open, and for those who only come by.
const ROOM: u32 = 4;
/// Names the lock under which the schema is changed.
const MIGRATION_LOCK: i64 = 0x7573_6865_7200;

/// The ports of `usher-core` on one database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct SeaStore {
    /// Writes, and reads inside transactions.
    pub(crate) writer: DatabaseConnection,
    /// Reads.
    pub(crate) reader: DatabaseConnection,
    pub(crate) backend: DbBackend,
    pub(crate) horizon: Arc<Horizon>,
    pub(crate) written: Arc<Written>,
    has_room_for_two: bool,
}

impl SeaStore {
    /// Connects. `Unavailable` if the database does not answer, `Internal` if the URL or the credentials are wrong.
    pub async fn connect(config: &StoreConfig) -> Result<Self, StoreError> {
        let url = config.url.expose_secret();
        let (writer, reader, backend) = if url.starts_with("sqlite:") {
            let (writer, reader) = sqlite(config, url).await?;
            (writer, reader, DbBackend::Sqlite)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool = postgres(config, url).await?;
            (pool.clone(), pool, DbBackend::Postgres)
        } else {
            let wanted = "the database URL must begin with postgres: or sqlite:";
            return Err(StoreError::Internal(wanted.into()));
        };
        Ok(Self {
            writer,
            reader,
            backend,
            horizon: Arc::new(Horizon::default()),
            written: Arc::new(Written::default()),
            has_room_for_two: backend == DbBackend::Postgres && config.max_connections >= ROOM,
        })
    }

    /// Brings the schema up to date. Several processes may call it at the same time: one does the work.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let txn = self.transaction().await?;
        if self.backend == DbBackend::Postgres {
            txn.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                .await
                .map_err(store_error)?;
            // An index over a large table takes longer than a call may.
            txn.execute_unprepared("SET LOCAL statement_timeout = 0")
                .await
                .map_err(store_error)?;
        }
        if !missing_migrations(&txn).await?.is_empty() {
            Migrator::up(&txn, None).await.map_err(store_error)?;
        }
        txn.commit().await.map_err(store_error)
    }

    /// Begins a transaction that may write.
    ///
    /// In a task of its own: a `begin` that is dropped halfway would hand its connection back with a transaction open on
    /// the server, and what the next caller writes there would never be committed (sqlx #4393). So it always comes to its
    /// end, and a transaction that nobody waits for any more is rolled back.
    pub(crate) async fn transaction(&self) -> Result<DatabaseTransaction, StoreError> {
        let writer = self.writer.clone();
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        tokio::spawn(async move { writer.begin_with_options(options).await })
            .await
            .map_err(|error| StoreError::Internal(error.to_string()))?
            .map_err(store_error)
    }

    /// Closes the connections.
    pub async fn close(self) -> Result<(), StoreError> {
        self.reader.close().await.map_err(store_error)?;
        self.writer.close().await.map_err(store_error)
    }
}

#[async_trait]
impl Store for SeaStore {
    #[tracing::instrument(name = "db.begin", skip_all, err(level = "debug"))]
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        Ok(Box::new(SeaTransaction::begin(self).await?))
    }

    fn has_room_for_two(&self) -> bool {
        self.has_room_for_two
    }

    async fn check(&self) -> Result<(), StoreError> {
        let missing = missing_migrations(&self.reader).await?;
        if missing.is_empty() {
            Ok(())
        } else {
            let missing = missing.join(", ");
            Err(StoreError::Unavailable(format!(
                "its schema lacks {missing}; run `usher migrate`"
            )))
        }
    }
}

/// The steps of ours that were not applied. Steps that only a later version knows are none of our business: it runs
/// beside this one during an upgrade.
async fn missing_migrations<C: sea_orm::ConnectionTrait>(db: &C) -> Result<Vec<String>, StoreError>
where
    for<'c> &'c C: sea_orm_migration::IntoSchemaManagerConnection<'c>,
{
    let known = Migrator::migrations().into_iter().map(|step| step.name().to_owned());
    let has_table = SchemaManager::new(db)
        .has_table("seaql_migrations")
        .await
        .map_err(store_error)?;
    if !has_table {
        return Ok(known.collect());
    }
    let applied: Vec<String> = seaql_migrations::Entity::find()
        .all(db)
        .await
        .map_err(store_error)?
        .into_iter()
        .map(|row| row.version)
        .collect();
    Ok(known.filter(|name| !applied.contains(name)).collect())
}

fn pool_options<DB: sqlx::Database>(config: &StoreConfig) -> PoolOptions<DB> {
    PoolOptions::new()
        .acquire_timeout(config.acquire_timeout)
        // A round trip before every use; a connection that broke meanwhile fails its first statement instead.
        .test_before_acquire(false)
}

async fn postgres(config: &StoreConfig, url: &str) -> Result<DatabaseConnection, StoreError> {
    let mut options = PgConnectOptions::from_str(url).map_err(|error| StoreError::Internal(error.to_string()))?;
    if !url.contains("sslmode") && is_loopback(options.get_host()) {
        options = options.ssl_mode(PgSslMode::Disable);
    }
    let options = options.application_name("usher").options([
        ("statement_timeout", config.statement_timeout.as_millis().to_string()),
        (
            "idle_in_transaction_session_timeout",
            config.idle_in_transaction_session_timeout.as_millis().to_string(),
        ),
        // Compiling a statement that takes a millisecond takes longer.
        ("jit", "off".to_owned()),
    ]);
    let pool: PgPoolOptions = pool_options(config)
        .max_connections(config.max_connections)
        // A statement that wrote hundreds of accounts leaves a buffer of its size in every connection that it came by.
        .after_release(|connection: &mut PgConnection, _| {
            connection.shrink_buffers();
            Box::pin(async { Ok(true) })
        });
    let pool = pool.connect_with(options).await.map_err(|error| driver_error(&error))?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

async fn sqlite(config: &StoreConfig, url: &str) -> Result<(DatabaseConnection, DatabaseConnection), StoreError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| StoreError::Internal(error.to_string()))?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY);
    // An in-memory database lives as long as its connection.
    let writer: SqlitePoolOptions = pool_options(config)
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None);
    let writer = writer
        .connect_with(options.clone())
        .await
        .map_err(|error| driver_error(&error))?;
    let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(writer);
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Ok((writer.clone(), writer));
    }
    let readers: SqlitePoolOptions = pool_options(config).max_connections(config.max_connections);
    let readers = readers
        .connect_with(options.pragma("query_only", "ON"))
        .await
        .map_err(|error| driver_error(&error))?;
    Ok((writer, SqlxSqliteConnector::from_sqlx_sqlite_pool(readers)))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
