//! Bulk jobs: chunk by chunk, each in one transaction together with its outcomes, so that a job goes on where it was after
//! whatever ended it, and deals with no item twice (B7).
//!
//! Every replica works; one at a time has a job, for a turn. Jobs take turns, so that a large one keeps no other tenant
//! waiting; a chunk locks some hundred accounts for one short transaction, so that calls get in between.
//!
//! While a chunk is written, the one after it is loaded and decided, as if the first were there already. Before it is
//! written, the job is locked and must stand as it was supposed to; if not, what was decided is dropped.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use usher_core::audit::{Origin, Who};
use usher_core::change::{Act, Changeset};
use usher_core::event::{Event, EventType};
use usher_core::ids::{JobId, UserId};
use usher_core::job::{ChunkKey, ItemInput, Job, JobState};
use usher_core::ports::{Keys, Loaded, StoreError, UserQuery};

use crate::app::App;
use crate::authorize::Caller;
use crate::judge::Judge;
use crate::operations::bulk;
use crate::operations::engine::{Command, Failure, Prepared};
use crate::operations::world::World;

/// How often jobs are looked for: those that another replica started, or left.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a job is lent out: longer than any chunk takes. It only keeps replicas from doing work in vain.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// How long a job's turn is, while others may wait: it ends with the chunk that is dealt with then.
const TURN: Duration = Duration::from_millis(500);
/// The pause after a fault.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a chunk that met another transaction is tried again at once.
const MAX_CONFLICTS: u32 = 8;
/// How often a chunk is tried that fails for a fault of ours, before its items are given up as failed.
const TRIES: u32 = 5;

/// How often the chunk that is next in a job failed for a fault of ours.
type Tries = HashMap<JobId, u32>;

/// Works on jobs.
pub(crate) struct JobRunner {
    /// The service.
    pub app: App,
    /// Names this process.
    pub owner: String,
}

impl JobRunner {
    /// Works until told to stop. A chunk that was begun is finished first.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut tries = Tries::new();
        let mut ahead = None;
        while !shutdown.is_cancelled() {
            let failed = match Box::pin(self.step(&mut tries, ahead.take())).await {
                Ok(Some(turn)) => {
                    ahead = turn.ahead;
                    continue;
                }
                Ok(None) => false,
                Err(failure) => {
                    tracing::warn!(%failure, "a chunk of a job cannot be dealt with now; it is tried again");
                    true
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.app.job_started.notified(), if !failed => {}
                () = tokio::time::sleep(if failed { PAUSE } else { PERIOD }) => {}
            }
        }
    }

    /// Gives one job its turn, which may be the one of before: then the chunk that was decided is still of use.
    async fn step(&self, tries: &mut Tries, ahead: Option<Chunk>) -> Result<Option<Turn>, Failure> {
        let store = &self.app.store;
        let now = self.app.clock.now();
        let Some(job) = store.claim_job(&self.owner, now, now + LEASE).await? else {
            return Ok(None);
        };
        let (tenant, id) = (job.tenant, job.id);
        let ahead = ahead.filter(|ahead| ahead.job == job);
        let done = Box::pin(self.turn(job, ahead, tries)).await;
        store.release_job(tenant, id, &self.owner).await?;
        done.map(Some)
    }

    /// Deals with chunk after chunk, until the turn is over.
    async fn turn(&self, mut job: Job, mut decided: Option<Chunk>, tries: &mut Tries) -> Result<Turn, Failure> {
        let began = Instant::now();
        loop {
            let before = tries.get(&job.id).copied().unwrap_or(0);
            let done = self.next(&job, before, decided.take()).await;
            match &done {
                // A fault of ours; a database that is away is waited for as long as it takes.
                Err(Failure::Internal(_) | Failure::Store(StoreError::Internal(_))) => {
                    tries.insert(job.id, before + 1);
                }
                Err(_) => {}
                Ok(_) => {
                    tries.remove(&job.id);
                }
            }
            decided = done?;
            if began.elapsed() >= TURN {
                return Ok(Turn { ahead: decided });
            }
            job = if let Some(ahead) = &decided {
                ahead.job.clone()
            } else {
                match self.app.store.job(job.tenant, job.id).await? {
                    Some(next) if next.state == JobState::Running => next,
                    _ => return Ok(Turn { ahead: None }),
                }
            };
        }
    }

    /// Deals with the chunk that is next, which may be decided already. While it is written, the one after it is decided:
    /// answers that one.
    async fn next(&self, job: &Job, tries: u32, mut decided: Option<Chunk>) -> Result<Option<Chunk>, Failure> {
        let mut conflicts = 0;
        loop {
            let chunk = match decided.take() {
                Some(chunk) => chunk,
                None => Chunk::decide(self.app.clone(), job.clone(), tries).await?,
            };
            let ahead = chunk
                .after()
                .map(|after| tokio::spawn(Chunk::decide(self.app.clone(), after, 0)));
            let written = chunk.write().await;
            // Whatever became of this one: what the other locked is free before the next step.
            let ahead = match ahead {
                Some(ahead) => ahead.await.ok().and_then(Result::ok),
                None => None,
            };
            match written {
                Ok(written) => return Ok(ahead.filter(|_| written)),
                Err(StoreError::Conflict(why)) if conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                    tracing::debug!(why, conflicts, "a chunk met another transaction and is repeated");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A turn that is over.
struct Turn {
    /// The next chunk of the same job.
    ahead: Option<Chunk>,
}

/// A chunk that is decided and not yet written.
struct Chunk {
    /// The job as it is supposed to stand before it.
    job: Job,
    /// Whether the chunk after it can be decided before this one is written.
    is_independent: bool,
    prepared: Prepared,
    span: tracing::Span,
}

impl Chunk {
    /// Decides the chunk that is next in a job that stands so.
    async fn decide(app: App, job: Job, tries: u32) -> Result<Self, Failure> {
        let span = tracing::info_span!("job.chunk", job = %job.id, action = job.action.name(), number = job.next_chunk);
        Self::decided(app, job, tries, span.clone()).instrument(span).await
    }

    async fn decided(app: App, job: Job, tries: u32, span: tracing::Span) -> Result<Self, Failure> {
        let number = job.next_chunk;
        let items = app.store.chunk(job.tenant, job.selection, number).await?;
        let Some(items) = items else {
            return Err(Failure::Internal(format!("job {} lacks its chunk {number}", job.id)));
        };
        let judge = app.judge(&Caller::named(&job.actor), job.tenant).await;
        let judge = judge.map_err(|status| StoreError::Unavailable(status.message().to_owned()))?;
        let fitting = fitting(&app, &job, &items).await?;
        let mut keys = bulk::keys(job.tenant, &job.action, &items);
        app.warn_of_erased(&mut keys);
        if needs_seats(&items, &job) {
            keys.with_seats = Some(app.clock.now());
            // Seats are locked after jobs.
            keys.jobs.insert((job.tenant, job.id));
        }
        let is_independent = app.store.has_room_for_two() && bulk::is_independent(&job, &items);
        let weight = items.len();
        let key = ChunkKey {
            tenant: job.tenant,
            job: job.id,
            number,
        };
        let mut command = Command::new(keys, move |world, changes| {
            let fitting = fitting.as_ref();
            deal(key, (&items, fitting), tries >= TRIES, &judge, world, changes);
            Ok(())
        });
        command.weight = weight;
        let command = command.from(Origin {
            who: Who::Named(job.actor.clone()),
            permission: bulk::permission(&job.action).as_str().to_owned(),
            reason: job.reason.clone(),
            request_id: job.request_id.clone(),
            job: Some(job.id),
            ..Origin::usher(format!("Job/{}", job.action.name()))
        });
        let supposed = job.clone();
        let suppose = move |loaded: &mut Loaded| drop(loaded.jobs.insert((key.tenant, key.job), supposed));
        let prepared = app.engine.prepare(command, suppose).await?;
        Ok(Self {
            job,
            is_independent,
            prepared,
            span,
        })
    }

    /// How the job stands once this is written, if that is enough to decide the chunk after it.
    fn after(&self) -> Option<Job> {
        let job = self.prepared.changes().jobs.get(&(self.job.tenant, self.job.id));
        job.filter(|job| self.is_independent && job.state == JobState::Running)
            .cloned()
    }

    /// Writes it, if the job stands as it was supposed to; answers whether. It does not if somebody cancelled it, if another
    /// replica was faster, or if items that wait were rewritten since somebody was erased.
    async fn write(self) -> Result<bool, StoreError> {
        let Self {
            job, prepared, span, ..
        } = self;
        let key = (job.tenant, job.id);
        let keys = Keys {
            jobs: [key].into(),
            ..Keys::default()
        };
        let place = |job: &Job| (job.state, job.next_chunk, job.revision, job.counts);
        let holds = move |loaded: &Loaded| loaded.jobs.get(&key).is_some_and(|now| place(now) == place(&job));
        prepared.carry_out(&keys, holds).instrument(span).await
    }
}

/// Of the users of a chunk, those who still match the filter that was previewed; `None`: there was none (U6).
async fn fitting(app: &App, job: &Job, items: &[ItemInput]) -> Result<Option<HashSet<UserId>>, Failure> {
    if job.filter.is_empty() {
        return Ok(None);
    }
    let query: UserQuery =
        serde_json::from_str(&job.filter).map_err(|error| Failure::Internal(format!("a filter: {error}")))?;
    let query = UserQuery {
        now: app.clock.now(),
        ..query
    };
    let users: Vec<UserId> = items.iter().filter_map(|item| item.user).collect();
    Ok(Some(app.store.among(&query, &users).await?))
}

fn needs_seats(items: &[ItemInput], job: &Job) -> bool {
    use usher_core::job::{JobAction, Undo};
    let back = |undo: &Undo| matches!(undo, Undo::Reactivate { .. } | Undo::SetExpiration { .. });
    matches!(
        job.action,
        JobAction::Reactivate | JobAction::SetExpiration { .. } | JobAction::Import { .. }
    ) || items.iter().any(|item| item.undo.as_ref().is_some_and(back))
}

/// Deals with a chunk of a job that runs.
fn deal(
    key: ChunkKey,
    (items, fitting): (&[ItemInput], Option<&HashSet<UserId>>),
    give_up: bool,
    judge: &Judge,
    world: &mut World,
    changes: &mut Changeset,
) {
    let found = world.loaded.jobs.get(&(key.tenant, key.job)).cloned();
    let Some(mut job) = found.filter(|job| job.state == JobState::Running && job.next_chunk == key.number) else {
        return;
    };
    let act = Act {
        actor: job.actor.clone(),
        now: world.now,
        reason: job.reason.clone(),
        request_id: job.request_id.clone(),
        trace_parent: usher_platform::trace::current_trace_parent(),
    };
    let mut asker = judge.asker();
    let outcomes: Vec<_> = items
        .iter()
        .map(|item| {
            if give_up {
                bulk::failed(item)
            } else {
                let fits = fitting.is_none_or(|users| item.user.is_some_and(|user| users.contains(&user)));
                bulk::deal(key.tenant, &job.action, (item, fits), world, &mut asker, &act, changes)
            }
        })
        .collect();
    job.advance(&outcomes, act.now);
    if job.state.has_ended() {
        changes.events.push(Event {
            job: Some(job.id),
            ..act.event(EventType::JobEnded, job.tenant, None)
        });
    }
    changes.chunks.insert(key, outcomes);
    changes.jobs.insert((key.tenant, key.job), job.clone());
    world.loaded.jobs.insert((key.tenant, key.job), job);
}
