//! Bulk jobs: chunk by chunk, each in one transaction together with its outcomes, so that a job goes on where it was after
//! whatever ended it, and deals with no item twice (B7).
//!
//! Every replica works; one at a time has a job, for a turn. Jobs take turns, so that a large one keeps no other tenant
//! waiting; a chunk locks some hundred accounts for one short transaction, so that calls get in between.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use usher_core::audit::{Origin, Who};
use usher_core::change::{Act, Changeset};
use usher_core::event::{Event, EventType};
use usher_core::ids::JobId;
use usher_core::job::{ChunkKey, ItemInput, Job, JobState};
use usher_core::ports::StoreError;

use crate::app::App;
use crate::authorize::Caller;
use crate::judge::Judge;
use crate::operations::bulk;
use crate::operations::engine::{Command, Failure};
use crate::operations::world::World;

/// How often jobs are looked for: those that another replica started, or left.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a job is lent out: longer than any chunk takes. It only keeps replicas from doing work in vain.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// How long a job's turn is, while others may wait: it ends with the chunk that is dealt with then.
const TURN: Duration = Duration::from_millis(250);
/// The pause after a fault.
const PAUSE: Duration = Duration::from_secs(1);
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
        while !shutdown.is_cancelled() {
            let failed = match self.step(&mut tries).await {
                Ok(true) => continue,
                Ok(false) => false,
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

    /// Gives one job its turn; answers whether there was any.
    async fn step(&self, tries: &mut Tries) -> Result<bool, Failure> {
        let store = &self.app.store;
        let now = self.app.clock.now();
        let Some(job) = store.claim_job(&self.owner, now, now + LEASE).await? else {
            return Ok(false);
        };
        let (tenant, id) = (job.tenant, job.id);
        let done = self.turn(job, tries).await;
        store.release_job(tenant, id, &self.owner).await?;
        done.map(|()| true)
    }

    /// Deals with chunk after chunk, until the turn is over.
    async fn turn(&self, mut job: Job, tries: &mut Tries) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let span =
                tracing::info_span!("job.chunk", job = %job.id, action = job.action.name(), number = job.next_chunk);
            let before = tries.get(&job.id).copied().unwrap_or(0);
            let done = tracing::Instrument::instrument(self.chunk(&job, before), span).await;
            match &done {
                // A fault of ours; a database that is away is waited for as long as it takes.
                Err(Failure::Internal(_) | Failure::Store(StoreError::Internal(_))) => {
                    tries.insert(job.id, before + 1);
                }
                Err(_) => {}
                Ok(()) => {
                    tries.remove(&job.id);
                }
            }
            done?;
            if began.elapsed() >= TURN {
                return Ok(());
            }
            match self.app.store.job(job.tenant, job.id).await? {
                Some(next) if next.state == JobState::Running => job = next,
                _ => return Ok(()),
            }
        }
    }

    async fn chunk(&self, job: &Job, tries: u32) -> Result<(), Failure> {
        let number = job.next_chunk;
        let items = self.app.store.chunk(job.tenant, job.selection, number).await?;
        let Some(items) = items else {
            return Err(Failure::Internal(format!("job {} lacks its chunk {number}", job.id)));
        };
        let judge = self.app.judge(&Caller::named(&job.actor), job.tenant).await;
        let judge = judge.map_err(|status| StoreError::Unavailable(status.message().to_owned()))?;
        let mut keys = bulk::keys(job.tenant, &job.action, &items);
        self.app.warn_of_erased(&mut keys);
        keys.jobs.insert((job.tenant, job.id));
        if needs_seats(&items, job) {
            keys.with_seats = Some(self.app.clock.now());
        }
        let weight = items.len();
        let key = ChunkKey {
            tenant: job.tenant,
            job: job.id,
            number,
        };
        let revision = job.revision;
        let mut command = Command::new(keys, move |world, changes| {
            // What was read before somebody was erased is read again.
            let found = world.loaded.jobs.get(&(key.tenant, key.job));
            if found.is_some_and(|found| found.revision != revision) {
                return Ok(());
            }
            deal(key, &items, tries >= TRIES, &judge, world, changes);
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
        self.app.engine.run_apart(command).await
    }
}

fn needs_seats(items: &[ItemInput], job: &Job) -> bool {
    use usher_core::job::{JobAction, Undo};
    let back = |undo: &Undo| matches!(undo, Undo::Reactivate { .. } | Undo::SetExpiration { .. });
    matches!(
        job.action,
        JobAction::Reactivate | JobAction::SetExpiration { .. } | JobAction::Import { .. }
    ) || items.iter().any(|item| item.undo.as_ref().is_some_and(back))
}

/// Deals with a chunk, unless that was done already or the job has ended.
fn deal(key: ChunkKey, items: &[ItemInput], give_up: bool, judge: &Judge, world: &mut World, changes: &mut Changeset) {
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
                bulk::deal(key.tenant, &job.action, item, world, &mut asker, &act, changes)
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
