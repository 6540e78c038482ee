//! Commands that are decided before it is their turn: while one transaction is written, the next one loads, locks and
//! decides beside it.

use std::sync::Arc;

use tracing::Instrument as _;
use usher_core::change::Changeset;
use usher_core::ports::{Keys, Loaded, StoreError};
use usher_core::refusal::Refusal;

use super::transaction::{Decided, decide};
use super::{Answer, Command, Engine, Failure, Job as _, Shared, TypedJob};
use crate::operations::world::World;

/// A command that is decided and not yet written. What it loaded is locked. Dropped, nothing has happened.
pub struct Prepared {
    shared: Arc<Shared>,
    decided: Decided,
    span: tracing::Span,
}

impl Engine {
    /// Loads, locks and decides, as [`Self::run_apart`] does, and writes nothing yet. What is loaded is first put as it is
    /// supposed to stand once it is this command's turn.
    pub async fn prepare<T, D>(
        &self,
        command: Command<D>,
        suppose: impl FnOnce(&mut Loaded) + Send,
    ) -> Result<Prepared, Failure>
    where
        T: Answer,
        D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal> + Send + Sync + 'static,
    {
        let span = tracing::info_span!("db.transaction", calls = 1);
        let mut job = TypedJob {
            command,
            outcome: None,
            reply: None,
            span: span.clone(),
        };
        let keys = job.keys().clone();
        let decided = decide(&self.shared, &keys, suppose, |world, changes, ledger| {
            job.decide(world, changes, ledger);
        });
        let mut decided = decided.instrument(span.clone()).await?;
        match job.outcome {
            Some(Ok(_)) => {}
            Some(Err(failure)) => return Err(failure),
            None => return Err(Failure::Internal("nothing was decided".into())),
        }
        decided.transaction.stage(&decided.changes)?;
        Ok(Prepared {
            shared: Arc::clone(&self.shared),
            decided,
            span,
        })
    }
}

impl Prepared {
    /// What it writes.
    pub fn changes(&self) -> &Changeset {
        &self.decided.changes
    }

    /// Locks what these keys name and looks whether it stands as it was supposed to; if so, writes and answers `true`.
    pub async fn carry_out(self, keys: &Keys, holds: impl Fn(&Loaded) -> bool + Send) -> Result<bool, StoreError> {
        let Self {
            shared,
            mut decided,
            span,
        } = self;
        let written = async {
            if !holds(&decided.transaction.load(keys).await?) {
                return Ok(false);
            }
            decided.write(&shared).await?;
            Ok(true)
        };
        written.instrument(span).await
    }
}
