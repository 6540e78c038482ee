//! The inactivity policy, carried out (B10): each time that a tenant's timer fires, warnings that do not hold any more are taken
//! back, a page of them; once there are none, one page of people is warned and one page of a run is deactivated. Where more are
//! left, the timer is due again at once, so that no tenant holds up another.
//!
//! Candidates are read without a lock. The transaction that follows locks the accounts and the newest runs, and looks at all
//! of them again.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use usher_core::account::{Account, Effect, inactivity_timer, wake_inactivity};
use usher_core::change::{Act, Changeset, USHER};
use usher_core::clock::Timestamp;
use usher_core::event::EventType;
use usher_core::ids::{InactivityRunId, TenantId, UserId};
use usher_core::inactivity::{InactivityRun, InactivityRunState, RECENT_RUNS, next_run, spared_until};
use usher_core::ports::{InactivityQuery, InactivityStep, Keys};
use usher_core::tenant::Tenant;
use usher_core::timer::Timer;
use usher_core::user::User;

use super::sweep::Sweep;
use crate::operations::engine::{Command, Failure};
use crate::operations::world::World;

/// People in one transaction at most.
const PAGE: u32 = 500;
/// How often a tenant is looked at.
const PERIOD: TimeDelta = TimeDelta::hours(1);

/// What one firing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// There is more to do at once.
    More,
    /// Nothing before the next period.
    Nothing,
}

impl Sweep {
    /// What is due in a tenant now: a page of it.
    pub(super) async fn look_for_inactive(&self, timer: &Timer) -> Result<(), Failure> {
        let (tenant, looked_at) = (timer.key.tenant, self.clock.now());
        let found = self.store.tenant(tenant).await?;
        let Some(tenant_now) = found.filter(|tenant| tenant.settings.inactivity.is_on()) else {
            return self.stop_inactivity(tenant).await;
        };
        let more = match self.take_some_back(&tenant_now).await? {
            Rest::More => true,
            Rest::Nothing => {
                let warned = self.warn_some(&tenant_now).await?;
                let deactivated = self.deactivate_some(&tenant_now).await?;
                warned == Rest::More || deactivated == Rest::More
            }
        };
        let command = Command::new(keys(tenant, &[]), move |world: &mut World, changes: &mut Changeset| {
            let settings = world.tenant(tenant)?;
            // Counted from the instant that was asked about: the clock may have gone on since.
            let due_at = if more { world.now } else { looked_at + PERIOD };
            wake_inactivity(&settings, due_at, changes);
            Ok(())
        });
        self.engine.run_apart(command).await
    }

    /// Takes back what was given by another policy, or too early for what is known by now.
    async fn take_some_back(&self, tenant: &Tenant) -> Result<Rest, Failure> {
        let now = self.clock.now();
        let query = InactivityQuery {
            exempt_administrators: false,
            ..query(tenant, InactivityStep::TakeBack, now, now)
        };
        self.each_of_page(&query, |account, _, changes| account.take_warning_back(changes))
            .await
    }

    async fn warn_some(&self, tenant: &Tenant) -> Result<Rest, Failure> {
        let now = self.clock.now();
        let since = now - tenant.settings.inactivity.until_warning();
        self.each_of_page(&query(tenant, InactivityStep::Warn, since, now), Account::warn_inactive)
            .await
    }

    /// Does something to everybody on a page.
    async fn each_of_page(
        &self,
        query: &InactivityQuery,
        deed: fn(&mut Account, &Act, &mut Changeset) -> Effect,
    ) -> Result<Rest, Failure> {
        let tenant = query.tenant;
        let users = ids(&self.store.inactive_users(query).await?);
        if users.is_empty() {
            return Ok(Rest::Nothing);
        }
        let full = users.len() >= PAGE as usize;
        let command = Command::new(
            keys(tenant, &users),
            move |world: &mut World, changes: &mut Changeset| {
                let act = act(world.now);
                let mut done = 0;
                for user in &users {
                    if let Ok(account) = world.account(tenant, *user) {
                        done += i64::from(deed(account, &act, changes) == Effect::Changed);
                    }
                }
                Ok(done)
            },
        );
        let done = self.engine.run_apart(command).await?;
        // A page of which nothing came would come again and again.
        Ok(if full && done > 0 { Rest::More } else { Rest::Nothing })
    }

    async fn deactivate_some(&self, tenant: &Tenant) -> Result<Rest, Failure> {
        let runs = self.store.inactivity_runs(tenant.id, None, RECENT_RUNS).await?;
        match runs.iter().find(|run| run.is_open()) {
            None => self.begin_run(tenant, &runs).await,
            Some(run) if run.state == InactivityRunState::Running => self.carry_on(run, tenant, &runs).await,
            Some(_) => Ok(Rest::Nothing),
        }
    }

    /// Gathers those who are due into a run.
    async fn begin_run(&self, of: &Tenant, runs: &[InactivityRun]) -> Result<Rest, Failure> {
        let (now, tenant, policy) = (self.clock.now(), of.id, of.settings.inactivity);
        let step = InactivityStep::Deactivate {
            after: spared_until(&policy, runs, now),
            until: now - policy.grace(),
        };
        let query = query(of, step, now - policy.until_deactivation(), now);
        let due = self.store.count_inactive(&query).await?;
        if due == 0 {
            return Ok(Rest::Nothing);
        }
        let active = self.store.seat_usage(tenant, now, now).await?.used;
        let command = Command::new(keys(tenant, &[]), move |world: &mut World, changes: &mut Changeset| {
            let runs = world.loaded.inactivity.entry(tenant).or_default();
            let Some(run) = next_run(tenant, &policy, runs, (due, active), world.now) else {
                return Ok(false);
            };
            let is_parked = run.state == InactivityRunState::Parked;
            if is_parked {
                let mut act = act(world.now);
                act.reason = format!(
                    "{due} of {active} active users are due; {}% are allowed",
                    policy.max_share_percent
                );
                changes
                    .events
                    .push(act.event(EventType::InactivityParked, tenant, None));
            }
            changes.inactivity_runs.insert((tenant, run.id), run);
            Ok(!is_parked)
        });
        let begun = self.engine.run_apart(command).await?;
        Ok(if begun { Rest::More } else { Rest::Nothing })
    }

    /// Deactivates a page of a run.
    async fn carry_on(&self, run: &InactivityRun, of: &Tenant, runs: &[InactivityRun]) -> Result<Rest, Failure> {
        let (tenant, id, from) = (run.tenant, run.id, run.position);
        let (now, policy) = (self.clock.now(), &of.settings.inactivity);
        let step = InactivityStep::Deactivate {
            after: spared_until(policy, runs, now),
            until: run.covers,
        };
        let mut query = query(of, step, now - policy.until_deactivation(), now);
        query.position = from;
        let page = self.store.inactive_users(&query).await?;
        let last = page.last().and_then(|user| Some((user.inactivity_warned_at?, user.id)));
        let users = ids(&page);
        let is_last = users.len() < PAGE as usize;
        let command = Command::new(
            keys(tenant, &users),
            move |world: &mut World, changes: &mut Changeset| {
                let Some(mut run) = running(world, tenant, id).filter(|run| run.position == from) else {
                    // Another replica was faster.
                    return Ok(true);
                };
                let act = act(world.now);
                for user in &users {
                    if let Ok(account) = world.account(tenant, *user) {
                        run.deactivated += i64::from(account.deactivate_inactive(&act, changes) == Effect::Changed);
                    }
                }
                run.position = last.or(run.position);
                if is_last {
                    run.state = InactivityRunState::Done;
                    run.ended_at = Some(world.now);
                }
                changes.inactivity_runs.insert((tenant, id), run);
                Ok(!is_last)
            },
        );
        let more = self.engine.run_apart(command).await?;
        Ok(if more { Rest::More } else { Rest::Nothing })
    }

    /// The policy was switched off: nothing is left to do, and nothing to decide.
    async fn stop_inactivity(&self, tenant: TenantId) -> Result<(), Failure> {
        // Locked, so that a policy that is set meanwhile does not lose its timer.
        let keys = Keys {
            lock_tenants: true,
            ..keys(tenant, &[])
        };
        let command = Command::new(keys, move |world: &mut World, changes: &mut Changeset| {
            let Ok(settings) = world.tenant(tenant) else {
                return Ok(());
            };
            if settings.settings.inactivity.is_on() {
                // Switched on again meanwhile.
                wake_inactivity(&settings, world.now, changes);
                return Ok(());
            }
            for run in world.loaded.inactivity.entry(tenant).or_default() {
                if run.is_open() {
                    run.state = InactivityRunState::Dismissed;
                    run.decided_by = USHER.into();
                    run.ended_at = Some(world.now);
                    changes.inactivity_runs.insert((tenant, run.id), run.clone());
                }
            }
            changes.clear_timer(inactivity_timer(&settings));
            Ok(())
        });
        self.engine.run_apart(command).await
    }
}

fn running(world: &World, tenant: TenantId, id: InactivityRunId) -> Option<InactivityRun> {
    let mut runs = world.loaded.inactivity.get(&tenant).into_iter().flatten();
    runs.find(|run| run.id == id && run.state == InactivityRunState::Running)
        .cloned()
}

fn ids(users: &[User]) -> Vec<UserId> {
    users.iter().map(|user| user.id).collect()
}

fn act(now: Timestamp) -> Act {
    let mut act = Act::by_usher(now, "");
    act.trace_parent = usher_platform::trace::current_trace_parent();
    act
}

fn query(of: &Tenant, step: InactivityStep, since: Timestamp, now: Timestamp) -> InactivityQuery {
    let policy = of.settings.inactivity;
    InactivityQuery {
        tenant: of.id,
        step,
        since,
        policy,
        on_since: of.settings.inactivity_since,
        exempt_administrators: policy.exempt_administrators,
        position: None,
        limit: PAGE,
        now,
    }
}

/// Accounts with what decides about them, and the newest runs.
fn keys(tenant: TenantId, users: &[UserId]) -> Keys {
    let users: BTreeSet<_> = users.iter().map(|user| (tenant, *user)).collect();
    Keys {
        tenants: [tenant].into(),
        users,
        with_mail: true,
        with_belonging: true,
        inactivity: [tenant].into(),
        ..Keys::default()
    }
}
