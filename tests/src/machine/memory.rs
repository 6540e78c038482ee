//! A store that is plain maps: what the port's documentation says, in its shortest form.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use usher_core::account::{Account, Belonging};
use usher_core::change::Changeset;
use usher_core::clock::Timestamp;
use usher_core::delivery::{Attempt, Delivery};
use usher_core::event::Event;
use usher_core::ids::{ClaimId, DeliveryId, InvitationId, TenantId, UserId};
use usher_core::invitation::Invitation;
use usher_core::ports::{Keys, Loaded};
use usher_core::seats::{SeatEntry, Seats};
use usher_core::tenant::Tenant;
use usher_core::timer::{Timer, TimerKey, refire_pause};
use usher_core::user::User;

/// Everything that was written.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the tables")]
pub struct Memory {
    pub tenants: HashMap<TenantId, Arc<Tenant>>,
    pub users: BTreeMap<(TenantId, UserId), User>,
    /// In order of creation.
    pub invitations: Vec<Invitation>,
    /// In order of creation.
    pub deliveries: Vec<Delivery>,
    pub attempts: BTreeMap<(TenantId, DeliveryId, ClaimId), Attempt>,
    pub timers: BTreeMap<TimerKey, Timer>,
    pub suppressed: BTreeMap<(TenantId, String), (String, Timestamp)>,
    /// In order.
    pub events: Vec<Event>,
    /// The ledger, in order.
    pub seats: Vec<SeatEntry>,
}

impl Memory {
    /// As [`usher_core::ports::Transaction::load`].
    pub fn load(&self, keys: &Keys) -> Loaded {
        let mut loaded = Loaded::default();
        let mut wanted = keys.users.clone();
        for (tenant, key) in &keys.emails {
            if let Some(user) = self.user_by_email(*tenant, key) {
                loaded.emails.insert((*tenant, key.clone()), user.id);
                wanted.insert((*tenant, user.id));
            }
            if self.suppressed.contains_key(&(*tenant, key.clone())) {
                loaded.suppressed.insert((*tenant, key.clone()));
            }
        }
        for invitation in &self.invitations {
            if keys.invitations.contains(&(invitation.tenant, invitation.id)) {
                let key = (invitation.tenant, invitation.id);
                loaded.invitations.insert(key, invitation.user);
                wanted.insert((invitation.tenant, invitation.user));
            }
        }
        for delivery in &self.deliveries {
            let key = (delivery.tenant, delivery.id);
            if let (true, Some(user)) = (keys.deliveries.contains(&key), delivery.user) {
                loaded.deliveries.insert(key, user);
                wanted.insert((delivery.tenant, user));
            }
        }
        for tenant in &keys.tenants {
            if let Some(found) = self.tenants.get(tenant) {
                loaded.tenants.insert(*tenant, found.clone());
            }
        }
        for key in wanted {
            if let Some(account) = self.account(key, &keys.deliveries) {
                loaded.tenants.insert(key.0, account.tenant.clone());
                loaded.accounts.insert(key, account);
            }
        }
        loaded
    }

    /// A user with their newest invitation, and their mails that have not ended or that the command is about.
    pub fn account(&self, key: (TenantId, UserId), about: &BTreeSet<(TenantId, DeliveryId)>) -> Option<Account> {
        let user = self.users.get(&key)?.clone();
        let invitation = self.invitations_of(user.id).last().cloned();
        let mails = self.deliveries.iter().filter(|mail| mail.user == Some(user.id));
        let deliveries = mails
            .filter(|mail| mail.state.name().is_live() || about.contains(&(mail.tenant, mail.id)))
            .cloned()
            .collect();
        let address = (user.tenant, user.profile.email.key().to_owned());
        Some(Account {
            tenant: self.tenants.get(&key.0)?.clone(),
            suppressed: self.suppressed.contains_key(&address),
            seats: Seats::default(),
            belonging: Belonging::default(),
            mailed_at: Vec::new(),
            user,
            invitation,
            deliveries,
        })
    }

    /// A person's invitations, the oldest first.
    pub fn invitations_of(&self, user: UserId) -> impl Iterator<Item = &Invitation> {
        self.invitations
            .iter()
            .filter(move |invitation| invitation.user == user)
    }

    /// One invitation.
    pub fn invitation(&self, id: InvitationId) -> Option<&Invitation> {
        self.invitations.iter().find(|invitation| invitation.id == id)
    }

    /// One mail.
    pub fn delivery(&self, id: DeliveryId) -> Option<&Delivery> {
        self.deliveries.iter().find(|delivery| delivery.id == id)
    }

    fn user_by_email(&self, tenant: TenantId, key: &str) -> Option<&User> {
        self.users
            .values()
            .find(|user| user.tenant == tenant && user.profile.email.key() == key)
    }

    /// As [`usher_core::ports::Transaction::apply`] and a commit.
    pub fn apply(&mut self, changes: &Changeset) {
        for (id, tenant) in &changes.tenants {
            self.tenants.insert(*id, tenant.clone());
        }
        for (key, user) in &changes.users {
            let known = self.users.insert(*key, user.clone()).is_some();
            assert_ne!(known, changes.created_users.contains(key), "created once");
        }
        for invitation in changes.invitations.values() {
            match self.invitations.iter_mut().find(|known| known.id == invitation.id) {
                Some(known) => *known = invitation.clone(),
                None => self.invitations.push(invitation.clone()),
            }
        }
        for delivery in changes.deliveries.values() {
            match self.deliveries.iter_mut().find(|known| known.id == delivery.id) {
                Some(known) => *known = delivery.clone(),
                None => self.deliveries.push(delivery.clone()),
            }
        }
        for (key, attempt) in &changes.attempts {
            let mut attempt = attempt.clone();
            if let Some(begun) = self.attempts.get(key) {
                attempt.worker.clone_from(&begun.worker);
                attempt.started_at = begun.started_at;
            }
            self.attempts.insert(*key, attempt);
        }
        for (key, timer) in &changes.timers {
            match timer {
                Some(timer) => _ = self.timers.insert(*key, timer.clone()),
                None => _ = self.timers.remove(key),
            }
        }
        for key in &changes.unsuppressed {
            self.suppressed.remove(key);
        }
        for (key, cause) in &changes.suppressed {
            self.suppressed.insert(key.clone(), cause.clone());
        }
        self.events.extend(changes.events.iter().cloned());
        self.seats.extend(changes.seats.iter().cloned());
    }

    /// As [`usher_core::ports::Timers::take_due`], without a limit: the timers as they were, in order of their time.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Timer> {
        let mut due: Vec<Timer> = self
            .timers
            .values()
            .filter(|timer| timer.due_at <= now)
            .cloned()
            .collect();
        due.sort_by_key(|timer| (timer.due_at, timer.key));
        for timer in &due {
            if let Some(timer) = self.timers.get_mut(&timer.key) {
                timer.due_at = now + refire_pause(timer.fired);
                timer.fired += 1;
            }
        }
        due
    }
}
