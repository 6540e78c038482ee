//! The timer sweep: fires what is due. Every replica sweeps; a timer that one took is put off for the others, and fires
//! again if nothing came of it.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;
use usher_core::account::{Effect, wake_waiting};
use usher_core::change::{Act, Changeset};
use usher_core::clock::Clock;
use usher_core::ids::{DeliveryId, ErasureId, InvitationId};
use usher_core::ports::{Keys, Store, StoreError};
use usher_core::timer::{Timer, TimerKind};

use crate::operations::engine::{Command, Engine, Failure};
use crate::operations::erasure;
use crate::operations::world::World;

/// Timers taken at a time.
const BATCH: u32 = 500;
/// How often the timers are looked at: the delay that a due timer has at most, while nothing else is due.
const PERIOD: Duration = Duration::from_millis(250);
/// The pause after a fault.
const PAUSE: Duration = Duration::from_secs(1);

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
        let span = tracing::info_span!("job.timer", kind = timer.key.kind.as_str(), subject = %timer.key.subject);
        let fired = timer.clone();
        let command = Command::new(keys(&timer), move |world, changes| {
            fire(&fired, world, changes);
            Ok(())
        });
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
        self.engine.run(command).await
    }
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
        (TimerKind::Seat | TimerKind::Erasure | TimerKind::Deletion, Some(_)) => {}
    }
}
