//! A fresh database, an instant to count from, and people to put into it.

use std::sync::Arc;

use anyhow::Result;
use chrono::{DateTime, TimeDelta};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::delivery::{Delivery, DeliveryKind, DeliveryState};
use usher_core::email::EmailAddress;
use usher_core::event::{Event, EventType};
use usher_core::ids::{DeliveryId, InvitationId, TenantId, UserId};
use usher_core::invitation::{Invitation, InvitationState};
use usher_core::ports::{Directory as _, Keys, Loaded, Outbox as _, Store as _, StoreError};
use usher_core::status::Status;
use usher_core::template::OwnTemplates;
use usher_core::tenant::{Settings, Tenant};
use usher_core::user::{Credential, Profile, User};
use usher_store::{SeaStore, StoreConfig};
use usher_tests::environment::by_hand;
use usher_tests::environment::postgres::Postgres;
use usher_tests::ledger;

/// A database of its own.
pub(crate) struct Stage {
    pub(crate) store: SeaStore,
    pub(crate) config: StoreConfig,
    pub(crate) now: Timestamp,
    /// Exists in the database.
    pub(crate) tenant: TenantId,
    _folder: Option<TempDir>,
}

/// B13, after every promise: what the store counts is what its ledger adds up to.
impl Drop for Stage {
    fn drop(&mut self) {
        let url = self.config.url.expose_secret();
        ledger::check_at_end(url, async || ledger::check_count(url).await);
    }
}

impl Stage {
    pub(crate) async fn postgres() -> Result<Self> {
        Self::open(Postgres::shared().await?.database().await?, None).await
    }

    pub(crate) async fn sqlite() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("usher.db");
        Self::open(format!("sqlite:{}?mode=rwc", path.display()), Some(folder)).await
    }

    async fn open(url: String, folder: Option<TempDir>) -> Result<Self> {
        let config = StoreConfig::new(url);
        let store = SeaStore::connect(&config).await?;
        store.migrate().await?;
        let now = DateTime::from_timestamp_micros(1_772_442_000_000_001).expect("in range");
        let tenant = TenantId::mint(now);
        let stage = Self {
            store,
            config,
            now,
            tenant,
            _folder: folder,
        };
        stage.write(stage.new_tenant(tenant)).await?;
        Ok(stage)
    }

    /// Another process at the same database.
    pub(crate) async fn replica(&self) -> Result<SeaStore> {
        Ok(SeaStore::connect(&self.config).await?)
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.config.url.expose_secret().starts_with("sqlite")
    }

    /// What somebody does to the database itself.
    pub(crate) async fn by_hand(&self, statements: &str) -> Result<()> {
        by_hand(self.config.url.expose_secret(), statements).await
    }

    pub(crate) fn after(&self, seconds: i64) -> Timestamp {
        self.now + TimeDelta::seconds(seconds)
    }

    /// Writes and commits.
    pub(crate) async fn write(&self, changes: Changeset) -> Result<(), StoreError> {
        let mut transaction = self.store.begin().await?;
        transaction.apply(&changes).await?;
        transaction.commit().await
    }

    /// Loads and rolls back.
    pub(crate) async fn load(&self, keys: &Keys) -> Result<Loaded, StoreError> {
        self.store.begin().await?.load(keys).await
    }

    pub(crate) async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.store.users(&[(self.tenant, id)]).await?.into_iter().next())
    }

    /// All events after a cursor, each with its own.
    pub(crate) async fn follow(&self, cursor: &mut usher_core::ports::Cursor) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            let followed = self
                .store
                .follow(cursor, None, 100)
                .await?
                .expect("the cursor is known");
            events.extend(followed.events.into_iter().map(|(_, event)| event));
            *cursor = followed.cursor;
            if !followed.more {
                return Ok(events);
            }
        }
    }

    pub(crate) fn new_tenant(&self, id: TenantId) -> Changeset {
        let tenant = Tenant {
            templates: OwnTemplates::default(),
            id,
            version: 1,
            settings: Settings::new("Lycée Voltaire"),
            created_at: self.now,
        };
        let mut changes = Changeset::default();
        changes.created_tenants.insert(id);
        changes.tenants.insert(id, Arc::new(tenant));
        changes
    }

    /// A pending user with the address `<name>@example.org`.
    pub(crate) fn person(&self, name: &str) -> User {
        User {
            tenant: self.tenant,
            id: UserId::mint(self.now),
            version: 1,
            profile: Profile::of(address(name)),
            status: Status::PENDING,
            status_since: self.now,
            expires_at: None,
            credential: Credential::None,
            created_at: self.now,
            updated_at: self.now,
            activated_at: None,
            deletes_at: None,
            expiry_warnings: 0,
            last_login_at: None,
            first_course_at: None,
            inactivity_warned_at: None,
            seat_waiting_since: None,
            edited_fields: Vec::new(),
        }
    }

    pub(crate) fn invitation(&self, user: &User) -> Invitation {
        Invitation {
            tenant: user.tenant,
            id: InvitationId::mint(self.now),
            user: user.id,
            email: user.profile.email.clone(),
            state: InvitationState::Queued,
            generation: 1,
            message: None,
            created_at: self.now,
            queued_at: self.now,
            sent_at: None,
            ladder_from: None,
            last_step: 0,
            lapses_at: self.after(3_600),
            accepted_at: None,
        }
    }

    /// The invitation's mail, queued.
    pub(crate) fn mail(&self, invitation: &Invitation) -> Delivery {
        Delivery {
            tenant: invitation.tenant,
            id: DeliveryId::mint(self.now),
            user: Some(invitation.user),
            invitation: Some(invitation.id),
            kind: DeliveryKind::Invitation,
            generation: invitation.generation,
            reminder_step: 0,
            email: invitation.email.clone(),
            state: DeliveryState::Queued,
            attempts: 0,
            created_at: self.now,
            due_at: self.now,
            give_up_at: invitation.lapses_at,
            ended_at: None,
            last_claim: None,
            bounce: None,
            test: None,
        }
    }

    pub(crate) fn event(&self, kind: EventType, user: &User) -> Event {
        Act::by_usher(self.now, "").event(kind, user.tenant, Some(user))
    }
}

pub(crate) fn address(name: &str) -> EmailAddress {
    EmailAddress::parse(&format!("{name}@example.org")).expect("an address")
}

/// Creates users.
pub(crate) fn creating<'a>(users: impl IntoIterator<Item = &'a User>) -> Changeset {
    let mut changes = Changeset::default();
    for user in users {
        changes.created_users.insert((user.tenant, user.id));
        changes.users.insert((user.tenant, user.id), user.clone());
    }
    changes
}

/// Writes events.
pub(crate) fn telling(events: impl IntoIterator<Item = Event>) -> Changeset {
    Changeset {
        events: events.into_iter().collect(),
        ..Changeset::default()
    }
}

/// Writes invitations.
pub(crate) fn inviting<'a>(invitations: impl IntoIterator<Item = &'a Invitation>) -> Changeset {
    let mut changes = Changeset::default();
    for invitation in invitations {
        changes
            .invitations
            .insert((invitation.tenant, invitation.id), invitation.clone());
    }
    changes
}

/// Writes mails.
pub(crate) fn mailing<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> Changeset {
    let mut changes = Changeset::default();
    for delivery in deliveries {
        changes
            .deliveries
            .insert((delivery.tenant, delivery.id), delivery.clone());
    }
    changes
}
