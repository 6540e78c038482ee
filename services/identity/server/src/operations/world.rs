//! What the commands of one transaction see: the accounts that were loaded and locked, and what the ones before decided.

use std::sync::Arc;

use usher_core::account::{Account, Detached};
use usher_core::clock::Timestamp;
use usher_core::erasure::{Erasure, ErasureState};
use usher_core::ids::{DeliveryId, ErasureId, InvitationId, TenantId, UserId};
use usher_core::ports::Loaded;
use usher_core::refusal::Refusal;
use usher_core::seats::Seats;
use usher_core::tenant::Tenant;

/// The accounts of a transaction and its instant.
pub struct World {
    /// What was loaded, and what was decided since.
    pub loaded: Loaded,
    /// The instant at which all of its commands are decided; taken after the locks were.
    pub now: Timestamp,
}

impl World {
    /// A world at an instant.
    pub fn new(loaded: Loaded, now: Timestamp) -> Self {
        Self { loaded, now }
    }

    /// A tenant.
    pub fn tenant(&self, id: TenantId) -> Result<Arc<Tenant>, Refusal> {
        self.loaded
            .tenants
            .get(&id)
            .cloned()
            .ok_or_else(|| Refusal::TenantNotFound(id.to_string()))
    }

    /// The seats of a tenant: of no meaning unless they were asked for.
    pub fn seats(&self, tenant: TenantId) -> Seats {
        self.loaded.seats.get(&tenant).cloned().unwrap_or_default()
    }

    /// An account. A foreign tenant's is not found.
    pub fn account(&mut self, tenant: TenantId, user: UserId) -> Result<&mut Account, Refusal> {
        self.loaded
            .accounts
            .get_mut(&(tenant, user))
            .ok_or_else(|| Refusal::UserNotFound(user.to_string()))
    }

    /// The account that an address belongs to.
    pub fn account_by_email(&mut self, tenant: TenantId, key: &str) -> Option<&mut Account> {
        let user = *self.loaded.emails.get(&(tenant, key.to_owned()))?;
        self.loaded.accounts.get_mut(&(tenant, user))
    }

    /// The account that an invitation belongs to.
    pub fn account_by_invitation(&mut self, tenant: TenantId, id: InvitationId) -> Result<&mut Account, Refusal> {
        let not_found = || Refusal::InvitationNotFound(id.to_string());
        let user = *self.loaded.invitations.get(&(tenant, id)).ok_or_else(not_found)?;
        self.loaded.accounts.get_mut(&(tenant, user)).ok_or_else(not_found)
    }

    /// The account that a delivery belongs to.
    pub fn account_by_delivery(&mut self, tenant: TenantId, id: DeliveryId) -> Result<&mut Account, Refusal> {
        let not_found = || Refusal::DeliveryNotFound(id.to_string());
        let user = *self.loaded.deliveries.get(&(tenant, id)).ok_or_else(not_found)?;
        self.loaded.accounts.get_mut(&(tenant, user)).ok_or_else(not_found)
    }

    /// A test mail.
    pub fn detached(&mut self, tenant: TenantId, id: DeliveryId) -> Result<&mut Detached, Refusal> {
        self.loaded
            .detached
            .get_mut(&(tenant, id))
            .ok_or_else(|| Refusal::DeliveryNotFound(id.to_string()))
    }

    /// Whether an address gets no mail.
    pub fn is_suppressed(&self, tenant: TenantId, key: &str) -> bool {
        self.loaded.suppressed.contains(&(tenant, key.to_owned()))
    }

    /// Whether somebody with this address was erased: of no meaning unless it was asked for.
    pub fn was_erased(&self, tenant: TenantId, key: &str) -> bool {
        self.loaded.erased.contains(&(tenant, key.to_owned()))
    }

    /// An erasure with its account. A foreign tenant's is not found.
    pub fn erasure(&mut self, tenant: TenantId, id: ErasureId) -> Result<(&mut Erasure, &mut Account), Refusal> {
        let not_found = || Refusal::ErasureNotFound(id.to_string());
        let erasure = self.loaded.erasures.get_mut(&(tenant, id)).ok_or_else(not_found)?;
        let account = self.loaded.accounts.get_mut(&(tenant, erasure.user));
        Ok((erasure, account.ok_or_else(not_found)?))
    }

    /// The erasure of an account that runs, or was carried out: of no meaning unless it was asked for.
    pub fn erasure_of(&self, tenant: TenantId, user: UserId) -> Option<&Erasure> {
        let mut all = self.loaded.erasures.values();
        all.find(|it| it.tenant == tenant && it.user == user && it.state != ErasureState::Cancelled)
    }

    /// Takes in an account that was just created.
    pub fn insert(&mut self, account: Account) {
        let (tenant, user) = (account.user.tenant, account.user.id);
        self.loaded
            .emails
            .insert((tenant, account.user.profile.email.key().to_owned()), user);
        if let Some(external_id) = &account.user.profile.external_id {
            self.loaded.external_ids.insert((tenant, external_id.clone()), user);
        }
        self.loaded.accounts.insert((tenant, user), account);
    }
}
