//! The timer sweep: fires what is due. Every replica sweeps; a timer that one took is put off for the others, and fires
//! again if nothing came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;
use usher_core::account::{Effect, WARNING_PERIOD, mailed_since, set_mail_timer, set_warning_timer, wake_waiting};
use usher_core::audit::Origin;
use usher_core::change::{Act, Changeset};
use usher_core::clock::Clock;
use usher_core::ids::{DeliveryId, ErasureId, InvitationId, TenantId, UserId};
use usher_core::pacing::RESUMED_PER_SECOND;
use usher_core::ports::{Keys, Store, StoreError};
use usher_core::tenant::Settings;
use usher_core::timer::{Timer, TimerKind};

use crate::operations::digest::{administrators, with_groups};
use crate::operations::engine::{Command, Engine, Failure};
use crate::operations::erasure;
use crate::operations::world::World;

/// Timers taken at a time.
const BATCH: u32 = 500;
/// Administrators who are told in one transaction at most.
const TOLD: usize = 1_000;
/// For how long after the end of a pause mails may still be written that were queued before it.
const SETTLED: TimeDelta = TimeDelta::minutes(10);
/// How often the timers are looked at: the delay that a due timer has at most, while nothing else is due.
const PERIOD: Duration = Duration::from_millis(250);
/// The pause after a fault.
const PAUSE: Duration = Duration::from_secs(1);

/// How many people are covered, and who is told of which.
type Told = (usize, BTreeMap<UserId, BTreeSet<UserId>>);

/// Fires timers.
pub struct Sweep {
    /// The timers.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For what they do.
    pub engine: Engine,
}

impl Sweep {
    /// Fires until told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let pause = match self.fire_due().await {
                Ok(fired) if fired >= BATCH as usize => Duration::ZERO,
                Ok(_) => PERIOD,
                Err(error) => {
                    tracing::warn!(%error, "timers cannot be taken; they are tried again");
                    PAUSE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Fires what is due now; answers how many fired.
    pub async fn fire_due(&self) -> Result<usize, StoreError> {
        let timers = self.store.take_due(self.clock.now(), BATCH).await?;
        let count = timers.len();
        let mut firing: FuturesUnordered<_> = timers.into_iter().map(|timer| self.fire(timer)).collect();
        while let Some((timer, result)) = firing.next().await {
            metrics::counter!("usher_timers_fired_total", "kind" => timer.key.kind.as_str()).increment(1);
            if let Err(error) = result {
                tracing::warn!(%error, kind = timer.key.kind.as_str(), subject = %timer.key.subject, "a timer failed; it fires again");
            }
        }
        Ok(count)
    }

    async fn fire(&self, timer: Timer) -> (Timer, Result<(), Failure>) {
        if timer.key.kind == TimerKind::Seat {
            let result = self.fill_seats(&timer).await;
            return (timer, result);
        }
        if timer.key.kind == TimerKind::Inactivity {
            let result = self.look_for_inactive(&timer).await;
            return (timer, result);
        }
        if timer.key.kind == TimerKind::Warning {
            let result = self.warn_of_expiry(&timer).await;
            return (timer, result);
        }
        if timer.key.kind == TimerKind::Mail {
            let result = self.release_mail(&timer).await;
            return (timer, result);
        }
        let span = tracing::info_span!("job.timer", kind = timer.key.kind.as_str(), subject = %timer.key.subject);
        let fired = timer.clone();
        let mut keys = keys(&timer);
        keys.with_mailed_since = Some(mailed_since(self.clock.now()));
        let command = Command::new(keys, move |world, changes| {
            fire(&fired, world, changes);
            Ok(())
        })
        .from(origin(&timer));
        let result = tracing::Instrument::instrument(self.engine.run(command), span).await;
        (timer, result)
    }
}

impl Sweep {
    /// Gives free seats to those who wait for one, in their order (U8).
    async fn fill_seats(&self, timer: &Timer) -> Result<(), Failure> {
        let tenant = timer.key.tenant;
        let queue = self.store.seat_queue(tenant, self.clock.now(), BATCH).await?;
        let keys = Keys {
            tenants: [tenant].into(),
            // Whoever raises the limit meanwhile sets the timer after it was cleared, not before.
            lock_tenants: true,
            users: queue.iter().map(|user| (tenant, *user)).collect(),
            with_mail: true,
            with_seats: Some(self.clock.now()),
            ..Keys::default()
        };
        let key = timer.key;
        let command = Command::new(keys, move |world, changes| {
            let mut act = Act::by_usher(world.now, "a seat was free");
            act.trace_parent = usher_platform::trace::current_trace_parent();
            let mut all = true;
            for user in &queue {
                if let Ok(account) = world.account(tenant, *user) {
                    all &= account.take_free_seat(&act, changes) == Effect::Changed;
                }
            }
            // Somebody may have begun to wait since the queue was read; the counts are those under the lock. Else the next
            // seat that is freed sets the timer anew.
            let tenant_now = world.tenant(tenant)?;
            let seats = world.seats(tenant);
            let more = seats.has_room(&tenant_now.settings) && seats.counts().waiting > 0;
            if more || (all && queue.len() >= BATCH as usize) {
                wake_waiting(&*world.tenant(tenant)?, &act, changes);
            } else {
                changes.clear_timer(key);
            }
            Ok(())
        });
        self.engine.run(command.from(origin(timer))).await
    }
}

impl Sweep {
    /// Warns those whose expiration is near (B9).
    async fn warn_of_expiry(&self, timer: &Timer) -> Result<(), Failure> {
        let (tenant, now) = (timer.key.tenant, self.clock.now());
        let settings = self.store.tenant(tenant).await?.map(|tenant| tenant.settings);
        let tells = settings.as_ref().is_some_and(Settings::tells_administrators);
        let horizons = settings.map_or_else(Vec::new, |settings| settings.warning_horizons(now));
        let mut near = if horizons.is_empty() {
            Vec::new()
        } else {
            self.store.to_be_warned(tenant, now, &horizons, BATCH).await?
        };
        let (covered, told) = self.administrators_of(tenant, &near, tells).await?;
        let more = covered < near.len() || near.len() >= BATCH as usize;
        near.truncate(covered);
        let keys = Keys {
            tenants: [tenant].into(),
            users: near.iter().chain(told.keys()).map(|user| (tenant, *user)).collect(),
            with_mail: true,
            ..Keys::default()
        };
        let command = Command::new(keys, move |world, changes| {
            let mut act = Act::by_usher(world.now, "the expiration is near");
            act.trace_parent = usher_platform::trace::current_trace_parent();
            let mut warned = BTreeSet::new();
            for user in &near {
                if let Ok(account) = world.account(tenant, *user)
                    && account.warn_of_expiry(&act, changes) == Effect::Changed
                {
                    warned.insert(*user);
                }
            }
            // In the same transaction, so that none of those who were warned is forgotten.
            for (administrator, people) in &told {
                if let (false, Ok(account)) = (warned.is_disjoint(people), world.account(tenant, *administrator)) {
                    account.tell_of_expiries(&act, changes);
                }
            }
            let pause = if more { TimeDelta::zero() } else { WARNING_PERIOD };
            // Counted from the instant that was asked about: the clock may have gone on since.
            set_warning_timer(&*world.tenant(tenant)?, now + pause, changes);
            Ok(())
        });
        self.engine.run_apart(command).await
    }

    /// Who is to be told of which of these people; answers of how many of them that is.
    async fn administrators_of(&self, tenant: TenantId, people: &[UserId], tells: bool) -> Result<Told, StoreError> {
        if !tells || people.is_empty() {
            return Ok((people.len(), BTreeMap::new()));
        }
        let administrators = administrators(&*self.store, tenant, self.clock.now()).await?;
        let people = with_groups(&*self.store, tenant, people).await?;
        Ok(administrators.share(&people, TOLD))
    }

    /// Lets mails go that a pause held, some hundreds at a time and evenly spread (B15).
    async fn release_mail(&self, timer: &Timer) -> Result<(), Failure> {
        let (key, tenant) = (timer.key, timer.key.tenant);
        let found = self.store.tenant(tenant).await?;
        let resumed = found.and_then(|tenant| tenant.settings.mail_resumed_at);
        let held = match resumed {
            Some(at) => self.store.waiting_mails(tenant, at, BATCH).await?,
            None => Vec::new(),
        };
        let keys = Keys {
            tenants: [tenant].into(),
            lock_tenants: true,
            users: held.iter().map(|(user, _)| (tenant, *user)).collect(),
            with_mail: true,
            ..Keys::default()
        };
        let command = Command::new(keys, move |world, changes| {
            let settings = &world.tenant(tenant)?.settings;
            if settings.mail_paused_at.is_none() && settings.mail_resumed_at != resumed {
                // Paused and resumed since it was asked who waits: the timer was set anew.
                return Ok(());
            }
            let settled = resumed.map(|at| at + SETTLED);
            if let Some(settled) = settled.filter(|at| held.is_empty() && *at > world.now) {
                set_mail_timer(&*world.tenant(tenant)?, settled, changes);
                return Ok(());
            }
            if settings.mail_paused_at.is_some() || held.is_empty() {
                changes.clear_timer(key);
                return Ok(());
            }
            let gap = TimeDelta::milliseconds(1_000 / RESUMED_PER_SECOND);
            let mut at = world.now;
            for (user, delivery) in &held {
                at += gap;
                if let Ok(account) = world.account(tenant, *user) {
                    account.release(*delivery, at, changes);
                }
            }
            set_mail_timer(&*world.tenant(tenant)?, at, changes);
            Ok(())
        });
        self.engine.run(command).await
    }
}

/// For the audit log: Usher did it, since it was due.
fn origin(timer: &Timer) -> Origin {
    Origin::usher(format!("Timer/{}", timer.key.kind.as_str().to_lowercase()))
}

fn keys(timer: &Timer) -> Keys {
    let tenant = timer.key.tenant;
    Keys {
        tenants: [tenant].into(),
        users: timer.user.map(|user| (tenant, user)).into_iter().collect(),
        deliveries: match timer.key.kind {
            TimerKind::Delivery => [(tenant, DeliveryId(timer.key.subject))].into(),
            _ => std::collections::BTreeSet::new(),
        },
        erasures: match timer.key.kind {
            TimerKind::Erasure => [(tenant, ErasureId(timer.key.subject))].into(),
            _ => std::collections::BTreeSet::new(),
        },
        with_erasures: timer.key.kind == TimerKind::Deletion,
        with_mail: true,
        ..Keys::default()
    }
}

fn fire(timer: &Timer, world: &mut World, changes: &mut Changeset) {
    let mut act = Act::by_usher(world.now, "");
    act.trace_parent = usher_platform::trace::current_trace_parent();
    let tenant = timer.key.tenant;
    let subject = timer.key.subject;
    if matches!(timer.key.kind, TimerKind::Erasure | TimerKind::Deletion) {
        return erasure::on_timer(timer, world, &act, changes);
    }
    let account = timer
        .user
        .and_then(|user| world.loaded.accounts.get_mut(&(tenant, user)));
    match (timer.key.kind, account) {
        (TimerKind::Delivery, Some(account)) => account.on_delivery_timer(DeliveryId(subject), &act, changes),
        (TimerKind::Lapse, Some(account)) => account.on_lapse_timer(InvitationId(subject), &act, changes),
        (TimerKind::Expiration, Some(account)) => account.on_expiration_timer(&act, changes),
        (TimerKind::Delivery, None) => match world.loaded.detached.get_mut(&(tenant, DeliveryId(subject))) {
            Some(test) => test.on_timer(&act, changes),
            None => changes.clear_timer(timer.key),
        },
        (_, None) => changes.clear_timer(timer.key),
        (_, Some(_)) => {}
    }
}
