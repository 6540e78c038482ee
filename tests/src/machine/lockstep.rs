//! A run over real databases, side by side with the maps. Before each decision every store must load what the maps load,
//! and at the end it must tell the same of everything that happened. So the databases and the maps come to the same
//! statuses, versions, mails, timers and events, in the same order.

use std::collections::BTreeSet;
use std::fmt::Debug;

use usher_core::account::Account;
use usher_core::change::Changeset;
use usher_core::clock::Timestamp;
use usher_core::event::Event;
use usher_core::ids::{TenantId, UserId};
use usher_core::invitation::InvitationState;
use usher_core::ports::{Cursor, DeliveryQuery, InvitationQuery, Loaded, Store, StoreError, Transaction, UserQuery};
use usher_core::status::{Status, StatusName};
use usher_core::timer::{Timer, TimerKey};

use super::command::Command;
use super::laws::Laws;
use super::memory::Memory;
use super::script::{Script, Task};

/// More than a sequence ever makes of anything.
const ALL: u32 = 1_000;

/// Databases under the same commands.
pub struct Lockstep<'a> {
    script: Script,
    memory: Memory,
    laws: Laws,
    stores: Vec<Follower<'a>>,
}

struct Follower<'a> {
    name: &'a str,
    store: &'a dyn Store,
    start: Cursor,
}

impl<'a> Lockstep<'a> {
    /// Carries a sequence out in a tenant of its own. Answers the first difference.
    pub async fn run(stores: &[(&'a str, &'a dyn Store)], commands: &[Command]) -> Result<(), String> {
        let mut lockstep = Self::begin(stores).await.map_err(|fault| fault.to_string())?;
        let held = lockstep.carry_out(commands).await;
        // Sweeps see the timers of all tenants.
        lockstep.clear_timers().await.map_err(|fault| fault.to_string())?;
        held
    }

    async fn begin(stores: &[(&'a str, &'a dyn Store)]) -> Result<Self, StoreError> {
        let script = Script::new();
        let founding = script.founding();
        let mut memory = Memory::default();
        memory.apply(&founding);
        let mut followers = Vec::new();
        for (name, store) in stores {
            let start = store.end().await?;
            let mut transaction = store.begin().await?;
            transaction.apply(&founding).await?;
            transaction.commit().await?;
            followers.push(Follower {
                name,
                store: *store,
                start,
            });
        }
        Ok(Self {
            script,
            memory,
            laws: Laws::default(),
            stores: followers,
        })
    }

    async fn carry_out(&mut self, commands: &[Command]) -> Result<(), String> {
        for command in commands.iter().flat_map(Command::steps) {
            match command {
                Command::Advance(span) => self.script.now += span.delta(),
                Command::Fire => {
                    for timer in self.take_due().await? {
                        self.step(&Task::Timer(timer)).await?;
                    }
                }
                _ => {
                    if let Some(task) = self.script.task(&command) {
                        self.step(&task)
                            .await
                            .map_err(|fault| format!("{command:?}: {fault}"))?;
                    }
                }
            }
        }
        let now = self.script.now;
        for follower in &self.stores {
            follower
                .check(&self.memory, &self.script, now)
                .await
                .map_err(|fault| format!("{}: {fault}", follower.name))?;
        }
        Ok(())
    }

    async fn take_due(&mut self) -> Result<Vec<Timer>, String> {
        let expected = self.memory.take_due(self.script.now);
        for follower in &self.stores {
            let due = follower.store.take_due(self.script.now, ALL).await;
            let mut due = due.map_err(|fault| fault.to_string())?;
            due.retain(|timer| timer.key.tenant == self.script.tenant.id);
            due.sort_by_key(|timer| (timer.due_at, timer.key));
            same("the timers that are due", &due, &expected).map_err(|fault| format!("{}: {fault}", follower.name))?;
        }
        Ok(expected)
    }

    /// Load, decide, apply, commit, as the server does, on what the first store loaded.
    async fn step(&mut self, task: &Task) -> Result<(), String> {
        let keys = self.script.keys(task);
        let expected = self.memory.load(&keys);
        let mut decided: Option<Loaded> = None;
        let mut open: Vec<(&str, Box<dyn Transaction>)> = Vec::new();
        for follower in &self.stores {
            let name = follower.name;
            let fault = |fault: StoreError| format!("{name}: {fault}");
            let mut transaction = follower.store.begin().await.map_err(fault)?;
            let loaded = transaction.load(&keys).await.map_err(fault)?;
            same_world(&loaded, &expected).map_err(|fault| format!("{name}: {fault}"))?;
            decided.get_or_insert(loaded);
            open.push((name, transaction));
        }
        let mut loaded = decided.ok_or("no store")?;
        let (answer, changes) = self.script.decide(task, &mut loaded);
        for (name, mut transaction) in open {
            let fault = |fault: StoreError| format!("{name}: {fault}");
            if !changes.is_empty() {
                transaction.apply(&changes).await.map_err(fault)?;
            }
            transaction.commit().await.map_err(fault)?;
        }
        self.memory.apply(&changes);
        self.script.learn(&changes);
        self.laws
            .check_step(&self.memory, self.script.now, task, &answer, &changes)
    }

    async fn clear_timers(&self) -> Result<(), StoreError> {
        let mut changes = Changeset::default();
        let keys: BTreeSet<TimerKey> = self.memory.timers.keys().copied().collect();
        for key in keys {
            changes.clear_timer(key);
        }
        if changes.is_empty() {
            return Ok(());
        }
        for follower in &self.stores {
            let mut transaction = follower.store.begin().await?;
            transaction.apply(&changes).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

impl Follower<'_> {
    /// Everything that the store tells outside of transactions.
    async fn check(&self, memory: &Memory, script: &Script, now: Timestamp) -> Result<(), String> {
        let tenant = script.tenant.id;
        let keys: Vec<(TenantId, UserId)> = memory.users.keys().copied().collect();
        let users = self.store.users(&keys).await.map_err(text)?;
        same_set("the users", &users, memory.users.values(), |user| user.id)?;
        for key in &keys {
            let account = self.store.account(key.0, key.1).await.map_err(text)?;
            let expected = memory.account(*key, &BTreeSet::new());
            same("the account", &account.map(sorted), &expected.map(sorted))?;
            let mut history = self.store.history(tenant, key.1, ALL).await.map_err(text)?;
            history.reverse();
            let of_account: Vec<&Event> = memory.events.iter().filter(|event| event.user == Some(key.1)).collect();
            let kept: Vec<Event> = of_account.into_iter().filter(|event| is_kept(event)).cloned().collect();
            same("the history", &history, &kept)?;
        }
        self.check_lists(memory, tenant, now).await?;
        self.check_seats(memory, tenant, now).await?;

        let mut events = Vec::new();
        let mut cursor = self.start.clone();
        loop {
            let page = self.store.follow(&cursor, Some(tenant), 7).await.map_err(text)?;
            let page = page.ok_or("the beginning of the sequence is no longer kept")?;
            events.extend(page.events.into_iter().map(|(_, event)| event));
            cursor = page.cursor;
            if !page.more {
                break;
            }
        }
        same("the events", &events, &memory.events)
    }

    async fn check_seats(&self, memory: &Memory, tenant: TenantId, now: Timestamp) -> Result<(), String> {
        let mut ledger = self.store.seat_ledger(tenant, None, None, ALL).await.map_err(text)?;
        ledger.reverse();
        let entries: Vec<_> = ledger.into_iter().map(|(_, entry)| entry).collect();
        same("the ledger of seats", &entries, &memory.seats)?;
        let active = memory.users.values();
        let active = active.filter(|user| user.effective_status(now) == Status::ACTIVE);
        let usage = self.store.seat_usage(tenant, now, now).await.map_err(text)?;
        same(
            "the seats used",
            &usage.used,
            &i64::try_from(active.count()).unwrap_or(i64::MAX),
        )
    }

    async fn check_lists(&self, memory: &Memory, tenant: TenantId, now: Timestamp) -> Result<(), String> {
        for status in StatusName::ALL {
            let query = UserQuery {
                statuses: vec![status],
                limit: ALL,
                ..UserQuery::all(tenant, now)
            };
            let listed = self.store.list_users(&query).await.map_err(text)?;
            let expected = memory.users.values();
            let expected = expected.filter(|user| user.effective_status(now).name() == status);
            same_set(&format!("the users that are {status:?}"), &listed, expected, |user| {
                user.id
            })?;
        }
        for state in InvitationState::ALL {
            let query = InvitationQuery {
                groups: Vec::new(),
                tenant,
                states: vec![state],
                user: None,
                sent_before: None,
                after: None,
                limit: ALL,
                now,
            };
            let listed = self.store.list_invitations(&query).await.map_err(text)?;
            let expected = memory.invitations.iter();
            let expected = expected.filter(|invitation| invitation.effective_state(now) == state);
            let what = format!("the invitations that are {state:?}");
            same_set(&what, &listed, expected, |invitation| invitation.id)?;
        }
        let query = DeliveryQuery {
            groups: Vec::new(),
            tenant,
            user: None,
            delivery: None,
            states: Vec::new(),
            after: None,
            limit: ALL,
        };
        let records = self.store.list_deliveries(&query).await.map_err(text)?;
        let deliveries: Vec<_> = records.iter().map(|record| record.delivery.clone()).collect();
        same_set("the mails", &deliveries, memory.deliveries.iter(), |mail| mail.id)?;
        let attempts: Vec<_> = records.into_iter().flat_map(|record| record.attempts).collect();
        same_set("the attempts", &attempts, memory.attempts.values(), |attempt| {
            attempt.claim
        })?;
        let suppressed = self.store.list_suppressions(tenant, None, ALL).await.map_err(text)?;
        let suppressed: BTreeSet<_> = suppressed.into_iter().map(|it| (it.email, it.cause, it.at)).collect();
        let expected = memory.suppressed.iter();
        let expected = expected.map(|((_, email), (cause, at))| (email.clone(), cause.clone(), *at));
        same("the suppressions", &suppressed, &expected.collect())
    }
}

/// Whether an event tells of the account or of its invitations, which is kept for good.
fn is_kept(event: &Event) -> bool {
    let name = event.kind.as_str();
    (name.starts_with("user.") || name.starts_with("invitation.")) && !event.kind.is_call_to_work()
}

fn same_world(loaded: &Loaded, expected: &Loaded) -> Result<(), String> {
    same("the tenants", &loaded.tenants, &expected.tenants)?;
    same("the addresses", &loaded.emails, &expected.emails)?;
    same("the owners of links", &loaded.invitations, &expected.invitations)?;
    same("the owners of mails", &loaded.deliveries, &expected.deliveries)?;
    same("the suppressions", &loaded.suppressed, &expected.suppressed)?;
    same("the test mails", &loaded.detached, &expected.detached)?;
    let accounts = |loaded: &Loaded| {
        let mut accounts: Vec<Account> = loaded.accounts.values().cloned().map(sorted).collect();
        accounts.sort_by_key(|account| account.user.id);
        accounts
    };
    let (loaded, expected) = (accounts(loaded), accounts(expected));
    same("the accounts", &loaded, &expected)?;
    // Addresses are equal when their folded forms are; here the form in which they were given counts as well.
    let given = |accounts: &[Account]| {
        let mut given = Vec::new();
        for account in accounts {
            given.push(account.user.profile.email.as_str().to_owned());
            given.extend(account.deliveries.iter().map(|mail| mail.email.as_str().to_owned()));
        }
        given
    };
    same("the addresses as given", &given(&loaded), &given(&expected))
}

fn sorted(mut account: Account) -> Account {
    account.deliveries.sort_by_key(|delivery| delivery.id);
    account
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} differ:\n found    {found:?}\n expected {expected:?}"))
    }
}

fn same_set<'a, T: PartialEq + Debug + Clone + 'a, K: Ord>(
    what: &str,
    found: &[T],
    expected: impl Iterator<Item = &'a T>,
    key: impl Fn(&T) -> K + Copy,
) -> Result<(), String> {
    let mut found = found.to_vec();
    let mut expected: Vec<T> = expected.cloned().collect();
    found.sort_by_key(key);
    expected.sort_by_key(key);
    same(what, &found, &expected)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err asks for")]
fn text(fault: StoreError) -> String {
    fault.to_string()
}
