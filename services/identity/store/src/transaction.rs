//! One transaction: what it loads is locked, what it applies becomes visible with its commit.

use async_trait::async_trait;
use sea_orm::DatabaseTransaction;
use usher_core::change::Changeset;
use usher_core::ports::{Keys, Loaded, StoreError, Transaction};

use crate::SeaStore;
use crate::error::store_error;
use crate::load::{Locking, load};
use crate::sql::Sql;
use crate::write::{execute, statements};

/// A transaction on either database. Dropped, it is rolled back before its connection serves anybody else.
#[derive(Debug)]
pub(crate) struct SeaTransaction {
    store: SeaStore,
    txn: DatabaseTransaction,
    staged: Option<Vec<Sql>>,
    events: usize,
}

impl SeaTransaction {
    pub(crate) async fn begin(store: &SeaStore) -> Result<Self, StoreError> {
        Ok(Self {
            store: store.clone(),
            txn: store.transaction().await?,
            staged: None,
            events: 0,
        })
    }
}

#[async_trait]
impl Transaction for SeaTransaction {
    #[tracing::instrument(name = "db.load", skip_all, err(level = "debug"))]
    async fn load(&mut self, keys: &Keys) -> Result<Loaded, StoreError> {
        load(&self.txn, keys, Locking::ForUpdate).await
    }

    fn stage(&mut self, changes: &Changeset) -> Result<(), StoreError> {
        self.staged = Some(statements(self.store.backend, changes)?);
        Ok(())
    }

    #[tracing::instrument(name = "db.apply", skip_all, err(level = "debug"))]
    async fn apply(&mut self, changes: &Changeset) -> Result<(), StoreError> {
        self.events += changes.events.len();
        let statements = match self.staged.take() {
            Some(staged) => staged,
            None => statements(self.store.backend, changes)?,
        };
        execute(&self.txn, statements).await
    }

    #[tracing::instrument(name = "db.commit", skip_all, err(level = "debug"))]
    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { store, txn, events, .. } = *self;
        txn.commit().await.map_err(store_error)?;
        store.has_written(events);
        Ok(())
    }
}
