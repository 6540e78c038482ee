//! What every gRPC service works with.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use usher_core::audit::AuditKeys;
use usher_core::change::Leases;
use usher_core::clock::{Clock, Timestamp};
use usher_core::ids::TenantId;
use usher_core::ports::Store;
use usher_core::refusal::Refusal;
use usher_core::tenant::Tenant;
use usher_core::token::{InvitationToken, LinkKeys};

use crate::audit::Recorder;
use crate::authorize::Permissions;
use crate::operations::access::AccessCache;
use crate::operations::engine::{Engine, Failure};
use crate::operations::gather::UserReader;
use crate::operations::passwords::Passwords;
use crate::operations::templates::Templates;
use crate::status::refused;

/// The parts of the service, shared.
#[derive(Clone)]
pub(crate) struct App {
    /// For every change.
    pub engine: Engine,
    /// For point reads.
    pub reader: UserReader,
    /// For access.
    pub access: Arc<AccessCache>,
    /// For sign-ins.
    pub passwords: Passwords,
    /// For all other reads.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For links, one-time passwords and page tokens.
    pub keys: Arc<LinkKeys>,
    /// What the audit log is sealed with.
    pub audit_keys: Arc<AuditKeys>,
    /// For the audit log, beside changes.
    pub recorder: Recorder,
    /// For mails.
    pub templates: Arc<Templates>,
    /// Who may do what.
    pub permissions: Permissions,
    /// Wakes the work on jobs.
    pub job_started: Arc<Notify>,
    /// Ends streams, and work that goes on by itself.
    pub shutdown: CancellationToken,
    /// How long claims hold.
    pub leases: Leases,
    /// What stands on mails.
    pub sender: Arc<Sender>,
}

/// What stands on mails, and where their links lead.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    /// Whom they come from.
    pub from_address: String,
    /// The right-hand side of Message-IDs.
    pub message_id_domain: String,
    /// With places for `{tenant}` and `{token}`.
    pub accept_url: String,
    /// Empty: none.
    pub sign_in_url: String,
}

impl Sender {
    /// The link of an invitation.
    pub(crate) fn link(&self, keys: &LinkKeys, tenant: TenantId, token: InvitationToken) -> String {
        self.link_with(tenant, &keys.sign(tenant, token))
    }

    /// A link that leads nowhere, for previews and tests (L12).
    pub(crate) fn sample_link(&self, tenant: TenantId) -> String {
        self.link_with(tenant, "sample")
    }

    fn link_with(&self, tenant: TenantId, token: &str) -> String {
        self.accept_url
            .replace("{tenant}", &tenant.to_string())
            .replace("{token}", token)
    }
}

impl App {
    /// The present instant.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A tenant, or the refusal.
    pub(crate) async fn tenant(&self, id: TenantId) -> Result<Tenant, Status> {
        let tenant = self.store.tenant(id).await.map_err(Failure::from)?;
        tenant.ok_or_else(|| refused(&Refusal::TenantNotFound(id.to_string())))
    }
}
