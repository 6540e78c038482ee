//! May this person in? Answered from memory (B4).
//!
//! An entry holds what access is decided by: status, expiration, version. It is filled on demand and dropped when the
//! outbox says that the user changed. Entries count only while the follower of the outbox is at most 1 s behind; otherwise
//! the database is asked. So an answer may refuse too long, never admit too long. An expiry needs no event: the entry
//! has the date, and the clock decides at each read (S5).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use usher_core::clock::Clock;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{Cursor, Store, StoreError};
use usher_core::user::{Access, Standing};

use super::engine::Committed;

/// How far the follower may be behind for an entry to count.
const MAX_BEHIND: Duration = Duration::from_secs(1);
/// How often the follower looks, if nothing wakes it.
const PERIOD: Duration = Duration::from_millis(200);
/// Entries at most: about 120 bytes each.
const CAPACITY: u64 = 1_000_000;
/// Shards of change counters.
const SHARDS: usize = 1_024;

type Key = (TenantId, UserId);

/// Decides access from memory.
pub struct AccessCache {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entries: Cache<Key, Option<Standing>>,
    /// Counts the changes seen per shard of users: a fill that began before one is not kept.
    changes: Box<[AtomicU64]>,
    started: Instant,
    /// When the last look at the outbox that succeeded began: milliseconds since `started`, plus 1; 0: never.
    caught_up: AtomicU64,
}

impl AccessCache {
    /// An empty cache.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            entries: Cache::builder().max_capacity(CAPACITY).build(),
            changes: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            started: Instant::now(),
            caught_up: AtomicU64::new(0),
        }
    }

    /// Whether each of these users may in, in the order asked.
    pub async fn check(&self, tenant: TenantId, users: &[UserId]) -> Result<Vec<Access>, StoreError> {
        let fresh = self.is_fresh();
        let mut standings: Vec<Option<Option<Standing>>> = users
            .iter()
            .map(|user| {
                if fresh {
                    self.entries.get(&(tenant, *user))
                } else {
                    None
                }
            })
            .collect();
        let missing: BTreeSet<Key> = users
            .iter()
            .zip(&standings)
            .filter(|(_, standing)| standing.is_none())
            .map(|(user, _)| (tenant, *user))
            .collect();
        if !missing.is_empty() {
            let read = self.fill(missing.into_iter().collect()).await?;
            for (user, standing) in users.iter().zip(&mut standings) {
                if standing.is_none() {
                    *standing = read.get(&(tenant, *user)).copied();
                }
            }
        }
        let now = self.clock.now();
        Ok(standings
            .into_iter()
            .map(|standing| {
                standing
                    .flatten()
                    .map_or(Access::NotFound, |standing| standing.access(now))
            })
            .collect())
    }

    async fn fill(&self, keys: Vec<Key>) -> Result<HashMap<Key, Option<Standing>>, StoreError> {
        let before: Vec<u64> = keys.iter().map(|key| self.shard(key).load(Ordering::SeqCst)).collect();
        let mut read: HashMap<Key, Option<Standing>> = keys.iter().map(|key| (*key, None)).collect();
        for user in self.store.users(&keys).await? {
            read.insert((user.tenant, user.id), Some(user.standing()));
        }
        for (key, before) in keys.iter().zip(before) {
            self.entries.insert(*key, read.get(key).copied().flatten());
            if self.shard(key).load(Ordering::SeqCst) != before {
                self.entries.invalidate(key);
            }
        }
        Ok(read)
    }

    /// Follows the outbox until told to stop.
    pub async fn follow(&self, mut commits: watch::Receiver<u64>, shutdown: CancellationToken) {
        let mut cursor: Option<Cursor> = None;
        loop {
            let began = Instant::now();
            match self.look(cursor.as_ref()).await {
                Ok(next) => {
                    cursor = Some(next);
                    let milliseconds = began.duration_since(self.started).as_millis();
                    self.caught_up.store(
                        u64::try_from(milliseconds).unwrap_or(u64::MAX - 1) + 1,
                        Ordering::SeqCst,
                    );
                }
                Err(error) => {
                    // Its cursor may no longer be kept: begin again at the end, with nothing remembered.
                    cursor = None;
                    tracing::warn!(%error, "the access cache cannot follow the outbox; the database is asked instead");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = commits.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    async fn look(&self, cursor: Option<&Cursor>) -> Result<Cursor, StoreError> {
        let Some(cursor) = cursor else {
            let end = self.store.end().await?;
            self.entries.invalidate_all();
            for shard in &self.changes {
                shard.fetch_add(1, Ordering::SeqCst);
            }
            return Ok(end);
        };
        let (users, next) = self.store.touched(cursor).await?;
        for key in users {
            self.shard(&key).fetch_add(1, Ordering::SeqCst);
            self.entries.invalidate(&key);
        }
        Ok(next)
    }

    fn is_fresh(&self) -> bool {
        let caught_up = self.caught_up.load(Ordering::SeqCst);
        caught_up > 0 && self.started.elapsed() <= Duration::from_millis(caught_up - 1) + MAX_BEHIND
    }

    fn shard(&self, key: &Key) -> &AtomicU64 {
        let bytes = key.1.0.as_bytes();
        let index = (usize::from(bytes[14]) << 8 | usize::from(bytes[15])) % SHARDS;
        &self.changes[index]
    }
}

impl Committed for AccessCache {
    /// What this process commits counts at once, not only when the follower sees it.
    fn committed(&self, users: &mut dyn Iterator<Item = (TenantId, UserId, Standing)>) {
        for (tenant, user, _) in users {
            let key = (tenant, user);
            self.shard(&key).fetch_add(1, Ordering::SeqCst);
            self.entries.invalidate(&key);
        }
    }
}
