//! Gathered reads: point reads that wait for the database anyway become one statement.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{Directory, StoreError};
use usher_core::user::User;

/// Reads in one statement at most.
const MAX_BATCH: usize = 512;
/// Reads that wait at most; further ones wait to get in.
const MAX_WAITING: usize = 8_192;
/// A read that waited for a connection for so long has waited for all: the database is away.
const PATIENCE: Duration = Duration::from_secs(1);

type Key = (TenantId, UserId);
type Waiting = (Key, oneshot::Sender<Result<Option<Arc<User>>, String>>);

/// Reads users by id.
#[derive(Clone)]
pub struct UserReader {
    queue: mpsc::Sender<Waiting>,
}

impl UserReader {
    /// Starts a reader with so many statements under way at a time.
    pub fn start<S: Directory + ?Sized + 'static>(store: &Arc<S>, lanes: usize) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _ in 0..lanes.max(1) {
            tokio::spawn(read(Arc::clone(store), Arc::clone(&waiting)));
        }
        Self { queue }
    }

    /// One user; `None` if there is none.
    pub async fn user(&self, tenant: TenantId, user: UserId) -> Result<Option<Arc<User>>, StoreError> {
        let stopped = || StoreError::Internal("the reader has stopped".into());
        let (sender, receiver) = oneshot::channel();
        self.queue.send(((tenant, user), sender)).await.map_err(|_| stopped())?;
        receiver.await.map_err(|_| stopped())?.map_err(StoreError::Unavailable)
    }
}

async fn read<S: Directory + ?Sized>(store: Arc<S>, waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Waiting>>>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        {
            let mut waiting = waiting.lock().await;
            if waiting.recv_many(&mut batch, MAX_BATCH).await == 0 {
                return;
            }
        }
        let keys: Vec<Key> = batch
            .iter()
            .map(|(key, _)| *key)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let began = Instant::now();
        match store.users(&keys).await {
            Ok(users) => {
                let users: HashMap<Key, Arc<User>> = users
                    .into_iter()
                    .map(|user| ((user.tenant, user.id), Arc::new(user)))
                    .collect();
                for (key, sender) in batch.drain(..) {
                    // A caller that hung up does not want to know.
                    let _ = sender.send(Ok(users.get(&key).cloned()));
                }
            }
            Err(error) => {
                // Whoever has waited behind these is told too, instead of waiting for a connection once more. Where another
                // lane listens to the queue, nobody waits in it.
                if began.elapsed() >= PATIENCE
                    && let Ok(mut waiting) = waiting.try_lock()
                {
                    batch.extend(std::iter::from_fn(|| waiting.try_recv().ok()));
                }
                for (_, sender) in batch.drain(..) {
                    let _ = sender.send(Err(error.to_string()));
                }
            }
        }
    }
}
