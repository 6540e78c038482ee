//! The work of those that pass on what is due. Many things are often due at the same instant, so messages are gathered into few
//! calls of the identity service, which does the work.

use async_trait::async_trait;
use tonic::{Code, Status};

use crate::{BatchHandler, Work, WorkError};

/// Tells the identity service what is due.
#[async_trait]
pub trait PassOn: Send + Sync + 'static {
    /// One thing that is due.
    type Item: Clone + Send + Sync + 'static;

    /// What these messages call for: each thing once.
    fn due(batch: &[Work]) -> Vec<Self::Item>;

    /// The id of a thing, for the log.
    fn id(item: &Self::Item) -> &str;

    /// Passes them on in one call. `INVALID_ARGUMENT` means that one of them cannot be understood.
    async fn pass_on(&self, items: Vec<Self::Item>) -> Result<(), Status>;
}

/// The handler of a worker that passes on what is due.
pub struct PassingOn<P>(pub P);

#[async_trait]
impl<P: PassOn> BatchHandler for PassingOn<P> {
    async fn handle_batch(&self, batch: &[Work]) -> Result<(), WorkError> {
        let items = P::due(batch);
        if items.is_empty() {
            return Ok(());
        }
        match self.0.pass_on(items.clone()).await {
            Err(status) if status.code() == Code::InvalidArgument => {}
            other => return other.map_err(|status| retry(&status)),
        }
        // One that cannot be understood must not hold up its neighbours.
        for item in items {
            match self.0.pass_on(vec![item.clone()]).await {
                Err(status) if status.code() == Code::InvalidArgument => {
                    let id = P::id(&item);
                    tracing::error!(id, error = status.message(), "what is due was refused; left out");
                }
                other => other.map_err(|status| retry(&status))?,
            }
        }
        Ok(())
    }
}

fn retry(status: &Status) -> WorkError {
    WorkError::Retry(format!("{:?}: {}", status.code(), status.message()))
}
