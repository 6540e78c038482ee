//! The way in for every change: gathered writes.
//!
//! Calls that wait for the database anyway are drained together, without any added delay, and carried out in one
//! transaction: one load that locks, then each call decides in turn, then one write per table. Each caller gets its own
//! outcome. What goes wrong for the transaction as a whole is repeated call by call, so that a bad one never fails its
//! neighbours. The work runs in tasks of its own: a caller that hangs up cannot cut it in half.

mod ahead;
mod transaction;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument as _;
use usher_core::audit::{AuditKeys, Origin};
use usher_core::change::{Changeset, Refused, StoredResponse};
use usher_core::clock::Clock;
use usher_core::ids::{TenantId, UserId};
use usher_core::ports::{Keys, Store, StoreError};
use usher_core::refusal::Refusal;
use usher_core::seats::{SeatCounts, Seats};
use usher_core::user::Standing;
use usher_platform::trace;

pub use self::ahead::Prepared;
use self::transaction::{Ledger, decide};
use super::world::World;

/// Calls in one transaction at most.
const MAX_BATCH: usize = 256;
/// Items (accounts) in one transaction at most, unless one call alone has more.
const MAX_WEIGHT: usize = 1_000;
/// Calls that wait for a writer at most; further ones wait to get in.
const MAX_WAITING: usize = 4_096;
/// How often a transaction that met another is tried again.
const MAX_CONFLICTS: usize = 8;
/// How long a caller waits for the outcome.
const DEADLINE: Duration = Duration::from_secs(20);
/// A transaction that waited for a connection for so long has waited for all: the database is away. One that failed
/// sooner met a connection that had broken.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No outcome in time: it may or may not be carried out.
    #[error("no outcome within {} s; it may still be carried out: repeat it with the same request_id", DEADLINE.as_secs())]
    Late,
    /// A fault of ours.
    #[error("internal fault: {0}")]
    Internal(String),
}

/// A repeatable request (B1).
#[derive(Debug, Clone)]
pub struct Repeatable {
    /// Whose.
    pub tenant: TenantId,
    /// The caller's id.
    pub request_id: String,
    /// Keyed digest of the method and the body.
    pub fingerprint: Vec<u8>,
}

/// An answer that can be kept for a repeat.
pub trait Answer: Send + Sized + 'static {
    /// For keeping.
    fn encode(&self) -> Vec<u8>;
    /// From what was kept.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

// The unit type is a message too: the empty one.
impl<T: prost::Message + Default + 'static> Answer for T {
    fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        T::decode(bytes).ok()
    }
}

/// One call.
pub struct Command<D> {
    /// What to load and lock.
    pub keys: Keys,
    /// How many accounts it is about.
    pub weight: usize,
    /// Set if it can be repeated.
    pub repeatable: Option<Repeatable>,
    /// Answer, but write nothing (B3).
    pub validate_only: bool,
    /// For the audit log: who, through what and why (B14).
    pub origin: Origin,
    /// Decides. May run more than once, each time in a fresh world. Refused, it must leave the world as it was.
    pub decide: D,
}

impl<D> Command<D> {
    /// About one account, not repeatable.
    pub fn new<T>(keys: Keys, decide: D) -> Self
    where
        D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal>,
    {
        Self {
            keys,
            weight: 1,
            repeatable: None,
            validate_only: false,
            origin: crate::audit::origin(),
            decide,
        }
    }

    /// The same, of another origin.
    #[must_use]
    pub fn from(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }
}

/// Told what was committed, before the callers are.
pub trait Committed: Send + Sync {
    /// The users that changed, as they stand now.
    fn committed(&self, users: &mut dyn Iterator<Item = (TenantId, UserId, Standing)>);
}

/// Carries out commands.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    writers: Arc<[mpsc::Sender<Box<dyn Job>>]>,
}

struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Committed>,
    audit_keys: Arc<AuditKeys>,
    commits: watch::Sender<u64>,
    /// The last transaction got no connection.
    unreachable: AtomicBool,
}

impl Engine {
    /// Starts `writers` writers; more than one lets a transaction be prepared while another is committed.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Committed>,
        audit_keys: Arc<AuditKeys>,
        writers: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            store,
            clock,
            observer,
            audit_keys,
            commits: watch::Sender::new(0),
            unreachable: AtomicBool::new(false),
        });
        let writers = (0..writers.max(1))
            .map(|_| {
                let (sender, receiver) = mpsc::channel(MAX_WAITING);
                tokio::spawn(write(Arc::clone(&shared), receiver));
                sender
            })
            .collect();
        Self { shared, writers }
    }

    /// Counts commits: changes with each one of this process.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.subscribe()
    }

    /// Carries out a command and answers once it is committed.
    pub async fn run<T, D>(&self, mut command: Command<D>) -> Result<T, Failure>
    where
        T: Answer,
        D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal> + Send + Sync + 'static,
    {
        if let Some(repeatable) = &command.repeatable {
            command
                .keys
                .requests
                .insert((repeatable.tenant, repeatable.request_id.clone()));
        }
        let writer = self.writer(&command.keys);
        let (sender, receiver) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(TypedJob {
            command,
            outcome: None,
            reply: Some(sender),
            span: tracing::Span::current(),
        });
        if job.is_dry() {
            tokio::spawn(one(Arc::clone(&self.shared), job).in_current_span());
        } else {
            let sent = tokio::time::timeout(DEADLINE, self.writers[writer].send(job)).await;
            sent.map_err(|_| Failure::Store(StoreError::Unavailable("too many writes wait".into())))?
                .map_err(|_| Failure::Internal("the writer has stopped".into()))?;
        }
        match tokio::time::timeout(DEADLINE, receiver).await {
            Ok(Ok(outcome)) => {
                let (answer, trail) = outcome?;
                crate::audit::note_trail(trail);
                Ok(answer)
            }
            Ok(Err(_)) => Err(Failure::Internal("the writer dropped the call".into())),
            Err(_) => Err(Failure::Late),
        }
    }

    /// Refuses what a command would be refused if it were carried out now: a cheap look, without a lock and without a
    /// deed, before something dear is prepared for it. Only [`Self::run`] decides: what was let through may be refused
    /// there, since others may come in between.
    pub async fn foresee<T, D>(&self, command: &Command<D>) -> Result<(), Failure>
    where
        D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal>,
    {
        let Shared { store, clock, .. } = &*self.shared;
        let mut world = World::new(store.look(&command.keys).await?, clock.now());
        let decided = catch_unwind(AssertUnwindSafe(|| {
            (command.decide)(&mut world, &mut Changeset::default())
        }));
        // A rule that panics is told by the transaction.
        let Ok(Err(refusal)) = decided else {
            return Ok(());
        };
        // A repeat is answered what the first call was, which may be what it is refused for. Asked last, so that what shows
        // in the rows of the first call shows in its answer.
        if let Some(Repeatable { tenant, request_id, .. }) = &command.repeatable {
            let keys = Keys {
                requests: [(*tenant, request_id.clone())].into(),
                ..Keys::default()
            };
            if !store.look(&keys).await?.responses.is_empty() {
                return Ok(());
            }
        }
        Err(refusal.into())
    }

    /// Carries out a command in a transaction of its own, beside the writers: for work that would keep calls waiting.
    pub async fn run_apart<T, D>(&self, command: Command<D>) -> Result<T, Failure>
    where
        T: Answer,
        D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal> + Send + Sync + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(TypedJob {
            command,
            outcome: None,
            reply: Some(sender),
            span: tracing::Span::current(),
        });
        tokio::spawn(one(Arc::clone(&self.shared), job).in_current_span());
        let outcome = receiver.await;
        let (answer, _) = outcome.map_err(|_| Failure::Internal("the transaction was dropped".into()))??;
        Ok(answer)
    }

    /// The same account always goes to the same writer, so that writers rarely wait for each other's locks.
    fn writer(&self, keys: &Keys) -> usize {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        if let Some(user) = keys.users.first() {
            user.hash(&mut hasher);
        } else if let Some(email) = keys.emails.first() {
            email.hash(&mut hasher);
        } else {
            keys.invitations.first().hash(&mut hasher);
            keys.deliveries.first().hash(&mut hasher);
        }
        usize::try_from(hasher.finish() % self.writers.len() as u64).unwrap_or(0)
    }
}

/// A call whose answer's type is hidden, so that calls of all kinds go into one transaction.
trait Job: Send {
    fn keys(&self) -> &Keys;
    fn weight(&self) -> usize;
    fn is_dry(&self) -> bool;
    /// Decides; keeps the outcome.
    fn decide(&mut self, world: &mut World, changes: &mut Changeset, ledger: &mut Ledger<'_>);
    /// Gives the outcome to the caller.
    fn finish(self: Box<Self>);
    fn fail(self: Box<Self>, failure: Failure);
    fn span(&self) -> &tracing::Span;
}

/// What a command that was answered leaves in the audit log.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// There are entries of it.
    pub(crate) written: bool,
    /// Items that were refused, of a command that writes nothing.
    pub(crate) refused: Vec<Refused>,
}

type Outcome<T> = Result<(T, Trail), Failure>;

struct TypedJob<T, D> {
    command: Command<D>,
    outcome: Option<Outcome<T>>,
    reply: Option<oneshot::Sender<Outcome<T>>>,
    span: tracing::Span,
}

impl<T, D> TypedJob<T, D>
where
    T: Answer,
    D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal> + Send + Sync + 'static,
{
    fn outcome(&self, world: &mut World, changes: &mut Changeset, ledger: &mut Ledger<'_>) -> Outcome<T> {
        if let Some(answer) = self.earlier(world)? {
            return Ok((answer, Trail::default()));
        }
        let mut own = Changeset::default();
        let seats: Vec<(Seats, SeatCounts)> = world
            .loaded
            .seats
            .values()
            .map(|seats| (seats.clone(), seats.counts()))
            .collect();
        let decided = catch_unwind(AssertUnwindSafe(|| (self.command.decide)(world, &mut own)));
        let answer = decided
            .map_err(|panic| Failure::Internal(panic_text(panic.as_ref())))
            .and_then(|decided| Ok(decided?));
        if answer.is_err() {
            // Whatever it took before it was refused, others may have.
            for (seats, counts) in &seats {
                seats.restore(*counts);
            }
        }
        let answer = answer?;
        if !self.command.validate_only {
            ledger.write(&mut own, &self.command.origin, world.now);
        }
        let trail = Trail {
            written: !own.audit.is_empty(),
            refused: std::mem::take(&mut own.refused),
        };
        if let Some(repeatable) = &self.command.repeatable {
            let stored = StoredResponse {
                tenant: repeatable.tenant,
                request_id: repeatable.request_id.clone(),
                fingerprint: repeatable.fingerprint.clone(),
                response: answer.encode(),
                at: world.now,
            };
            world
                .loaded
                .responses
                .insert((stored.tenant, stored.request_id.clone()), stored.clone());
            own.responses.push(stored);
        }
        changes.extend(own);
        Ok((answer, trail))
    }

    /// What the first call with this id was answered (B1).
    fn earlier(&self, world: &World) -> Result<Option<T>, Failure> {
        let Some(repeatable) = &self.command.repeatable else {
            return Ok(None);
        };
        let key = (repeatable.tenant, repeatable.request_id.clone());
        let Some(stored) = world.loaded.responses.get(&key) else {
            return Ok(None);
        };
        if stored.fingerprint != repeatable.fingerprint {
            return Err(Refusal::RequestIdReused.into());
        }
        let answer =
            T::decode(&stored.response).ok_or_else(|| Failure::Internal("a stored answer cannot be read".into()))?;
        Ok(Some(answer))
    }
}

impl<T, D> Job for TypedJob<T, D>
where
    T: Answer,
    D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal> + Send + Sync + 'static,
{
    fn keys(&self) -> &Keys {
        &self.command.keys
    }

    fn weight(&self) -> usize {
        self.command.weight
    }

    fn is_dry(&self) -> bool {
        self.command.validate_only
    }

    fn decide(&mut self, world: &mut World, changes: &mut Changeset, ledger: &mut Ledger<'_>) {
        self.outcome = Some(self.outcome(world, changes, ledger));
    }

    fn finish(mut self: Box<Self>) {
        let outcome = self
            .outcome
            .take()
            .unwrap_or_else(|| Err(Failure::Internal("nothing was decided".into())));
        if let Some(reply) = self.reply.take() {
            // A caller that hung up does not want to know.
            let _ = reply.send(outcome);
        }
    }

    fn fail(mut self: Box<Self>, failure: Failure) {
        self.outcome = Some(Err(failure));
        self.finish();
    }

    fn span(&self) -> &tracing::Span {
        &self.span
    }
}

async fn write(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
    let mut held: Option<Box<dyn Job>> = None;
    loop {
        let mut jobs = Vec::new();
        let mut weight = 0;
        let first = match held.take() {
            Some(job) => Some(job),
            None => waiting.recv().await,
        };
        let Some(first) = first else { return };
        weight += first.weight();
        jobs.push(first);
        while jobs.len() < MAX_BATCH && weight < MAX_WEIGHT {
            let Ok(job) = waiting.try_recv() else { break };
            if weight + job.weight() > MAX_WEIGHT {
                held = Some(job);
                break;
            }
            weight += job.weight();
            jobs.push(job);
        }
        metrics::histogram!("usher_write_batch_size").record(u32::try_from(jobs.len()).map_or(0.0, f64::from));
        let began = Instant::now();
        batch(&shared, jobs).await;
        if shared.unreachable.load(Ordering::Relaxed) && began.elapsed() >= PATIENCE {
            // Whoever has waited behind these is told too, instead of waiting for a connection once more.
            while let Some(job) = held.take().or_else(|| waiting.try_recv().ok()) {
                job.fail(StoreError::Unavailable("no connection for the calls before".into()).into());
            }
        }
    }
}

async fn batch(shared: &Arc<Shared>, mut jobs: Vec<Box<dyn Job>>) {
    if jobs.len() == 1 {
        for job in jobs {
            one(Arc::clone(shared), job).await;
        }
        return;
    }
    let span = tracing::info_span!("db.transaction", calls = jobs.len());
    // Each call's own trace shows the transaction too, and leads to the one that it shared.
    let recorded = jobs.iter().filter(|job| trace::is_span_recorded(job.span()));
    let parts: Vec<_> = recorded
        .map(|job| {
            span.follows_from(job.span());
            let part = tracing::info_span!(parent: job.span(), "db.transaction", calls = jobs.len());
            part.follows_from(&span);
            part
        })
        .collect();
    let result = transact(shared, &mut jobs).instrument(span).await;
    drop(parts);
    match result {
        Ok(()) => jobs.into_iter().for_each(Job::finish),
        Err(StoreError::Unavailable(why)) => {
            for job in jobs {
                job.fail(StoreError::Unavailable(why.clone()).into());
            }
        }
        Err(StoreError::Conflict(why) | StoreError::Internal(why)) => {
            tracing::debug!(why, "a gathered transaction is repeated call by call");
            for job in jobs {
                one(Arc::clone(shared), job).await;
            }
        }
    }
}

async fn one(shared: Arc<Shared>, job: Box<dyn Job>) {
    let span = tracing::info_span!(parent: job.span(), "db.transaction", calls = 1);
    let mut jobs = vec![job];
    let mut conflicts = 0;
    let result = loop {
        match transact(&shared, &mut jobs).instrument(span.clone()).await {
            Err(StoreError::Conflict(why)) if conflicts < MAX_CONFLICTS => {
                conflicts += 1;
                tracing::debug!(why, conflicts, "the transaction met another and is repeated");
            }
            result => break result,
        }
    };
    let Some(job) = jobs.pop() else { return };
    match result {
        Ok(()) => job.finish(),
        Err(error) => job.fail(error.into()),
    }
}

async fn transact(shared: &Shared, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let mut keys = Keys::default();
    for job in jobs.iter() {
        keys.extend(job.keys());
    }
    let mut dry = false;
    let decided = decide(
        shared,
        &keys,
        |_| {},
        |world, changes, ledger| {
            let last = jobs.len().saturating_sub(1);
            for (index, job) in jobs.iter_mut().enumerate() {
                ledger.goes_on = index < last;
                dry |= job.is_dry();
                job.decide(world, changes, ledger);
            }
        },
    )
    .await?;
    if dry {
        return Ok(());
    }
    decided.write(shared).await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a rule panicked: {}", text.unwrap_or_default())
}
