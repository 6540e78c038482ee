//! One transaction: what is loaded and locked, what commands decide about it, what that writes.

use std::sync::atomic::Ordering;

use usher_core::audit::{self, AuditKeys, Known, Origin};
use usher_core::change::Changeset;
use usher_core::clock::Timestamp;
use usher_core::ports::{Keys, Loaded, StoreError, Transaction};

use super::Shared;
use crate::operations::world::World;

/// What commands changed, for the audit log: no command has to think of it, so none can forget it.
pub(super) struct Ledger<'a> {
    /// How things stood before.
    known: Known,
    keys: &'a AuditKeys,
    /// Whether another command comes after this one.
    pub(super) goes_on: bool,
}

impl Ledger<'_> {
    pub(super) fn write(&mut self, own: &mut Changeset, origin: &Origin, now: Timestamp) {
        let entries = audit::changes(&self.known, own, origin, now, self.keys);
        own.refused.clear();
        if self.goes_on {
            self.known.learn(own);
        }
        own.audit.extend(entries.into_iter().map(|entry| self.keys.sign(entry)));
    }
}

/// A transaction that was decided.
pub(super) struct Decided {
    pub(super) transaction: Box<dyn Transaction>,
    pub(super) changes: Changeset,
}

/// Loads, locks and decides.
pub(super) async fn decide(
    shared: &Shared,
    keys: &Keys,
    suppose: impl FnOnce(&mut Loaded) + Send,
    decide: impl FnOnce(&mut World, &mut Changeset, &mut Ledger<'_>) + Send,
) -> Result<Decided, StoreError> {
    let begun = shared.store.begin().await;
    shared.unreachable.store(begun.is_err(), Ordering::Relaxed);
    let mut transaction = begun?;
    let mut loaded = transaction.load(keys).await?;
    suppose(&mut loaded);
    let mut ledger = Ledger {
        known: Known::of(&loaded),
        keys: &shared.audit_keys,
        goes_on: false,
    };
    let mut world = World::new(loaded, shared.clock.now());
    let mut changes = Changeset::default();
    decide(&mut world, &mut changes, &mut ledger);
    Ok(Decided { transaction, changes })
}

impl Decided {
    pub(super) async fn write(self, shared: &Shared) -> Result<(), StoreError> {
        let Self {
            mut transaction,
            changes,
        } = self;
        if changes.is_empty() {
            return Ok(());
        }
        transaction.apply(&changes).await?;
        transaction.commit().await?;
        shared.observer.committed(
            &mut changes
                .users
                .values()
                .map(|user| (user.tenant, user.id, user.standing())),
        );
        shared.commits.send_modify(|count| *count += 1);
        Ok(())
    }
}
