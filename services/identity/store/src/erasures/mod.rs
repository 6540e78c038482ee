//! Erasures: read, listed, and carried out on all that hangs on an account (S12).
//!
//! # What is erased, table by table
//!
//! [`TABLES`] is that list. A test fails where the schema has a column that can hold a text and that stands in no line of it: a
//! new table is not done before it was decided what an erasure does to it.

mod entries;
mod events;
mod finder;
mod traces;
mod words;

use std::collections::BTreeSet;

use async_trait::async_trait;
use sea_orm::{ColumnTrait as _, EntityTrait as _, Order, QueryFilter as _, QueryOrder as _};
use usher_core::audit::AuditKeys;
use usher_core::erasure::Erasure;
use usher_core::ids::{ErasureId, TenantId};
use usher_core::ports::{ErasureQuery, Erasures, StoreError};

use crate::entity::{erasure, erasure_subscriber};
use crate::error::store_error;
use crate::{SeaStore, list};

/// What becomes of a table's texts as somebody is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Emptied with the account, by `Account::erase`.
    WithAccount,
    /// Emptied, rewritten or deleted by [`Erasures::erase_traces`].
    Traces,
    /// Emptied by `AuditLog::redact_audit`, and of entries about nobody in particular by [`Erasures::erase_traces`], as are reasons
    /// in entries about others.
    Redacted,
    /// It stays, for this reason.
    Stays(&'static str),
}

const NO_PERSON: Fate = Fate::Stays("of the tenant, and of no person");
const IDS: Fate = Fate::Stays("ids, statuses and numbers");

/// Every column that can hold a text, a document or octets: the table, its columns, and what becomes of them.
pub const TABLES: &[(&str, &[&str], Fate)] = &[
    (
        "users",
        &[
            "email",
            "email_key",
            "external_id",
            "first_name",
            "last_name",
            "language",
            "time_zone",
            "labels",
            "name_key",
            "search_key",
            "password_hash",
            "edited_fields",
            "credential",
        ],
        Fate::WithAccount,
    ),
    ("users", &["status", "restores", "restores_then"], IDS),
    ("group_members", &[], Fate::WithAccount),
    (
        "role_assignments",
        &["role", "scope_kind", "scope_id"],
        Fate::WithAccount,
    ),
    ("invitations", &["email", "email_key", "message"], Fate::Traces),
    ("invitations", &["state"], IDS),
    ("deliveries", &["email", "email_key", "test", "bounce"], Fate::Traces),
    ("deliveries", &["kind", "state"], IDS),
    ("delivery_attempts", &["response"], Fate::Traces),
    ("delivery_attempts", &["worker", "outcome", "phase"], IDS),
    ("suppressions", &["email_key", "cause"], Fate::Traces),
    ("responses", &["request_id", "fingerprint", "response"], Fate::Traces),
    ("history", &["body"], Fate::Traces),
    ("history", &["event_type"], IDS),
    ("selection_chunks", &["items"], Fate::Traces),
    ("job_chunks", &["outcomes"], Fate::Traces),
    ("jobs", &["action", "reason", "request_id", "filter"], Fate::Traces),
    ("jobs", &["state", "actor", "lease_owner"], IDS),
    (
        "erasures",
        &["body"],
        Fate::Stays("without addresses, names and notes once the traces are gone; what remains proves the erasure"),
    ),
    ("erasures", &["state"], IDS),
    ("erasure_subscribers", &["service"], NO_PERSON),
    (
        "erased_addresses",
        &["digest"],
        Fate::Stays("a keyed hash, so that whoever comes back is known"),
    ),
    ("outbox", &["body"], Fate::Traces),
    ("outbox", &["event_type"], IDS),
    ("audit", &["reason", "request_id", "details", "salt"], Fate::Redacted),
    (
        "audit",
        &[
            "actor",
            "caller",
            "method",
            "permission",
            "outcome",
            "digest",
            "redaction",
        ],
        Fate::Stays("ids, names of RPCs, and digests over a salt that goes"),
    ),
    ("audit_links", &["code", "chain"], Fate::Stays("digests")),
    ("audit_heads", &["chain", "kept_chain", "code"], Fate::Stays("digests")),
    (
        "mail_templates",
        &["kind", "language", "subject", "body", "mjml", "saved_by", "reason"],
        NO_PERSON,
    ),
    ("inactivity_runs", &["state", "decided_by"], IDS),
    ("seat_ledger", &["cause", "actor"], IDS),
    ("selections", &["digest"], Fate::Stays("SHA-256 over ids")),
    (
        "selections",
        &["filter"],
        Fate::Stays("without its text: labels, groups and statuses, for an hour"),
    ),
    ("tenants", &["settings", "templates"], NO_PERSON),
    ("user_groups", &["name", "name_key", "external_id"], NO_PERSON),
    ("custom_roles", &["name", "name_key", "permissions"], NO_PERSON),
    ("timers", &["kind"], IDS),
    ("outbox_lanes", &["owner"], NO_PERSON),
    ("outbox_owners", &["owner"], NO_PERSON),
    ("bus_positions", &["queue", "position"], NO_PERSON),
    ("seaql_migrations", &["version"], NO_PERSON),
];

#[async_trait]
impl Erasures for SeaStore {
    async fn erasure(&self, tenant: TenantId, id: ErasureId) -> Result<Option<Erasure>, StoreError> {
        let row = erasure::Entity::find_by_id((tenant.0, id.0)).one(&self.reader).await;
        row.map_err(store_error)?.map(Erasure::try_from).transpose()
    }

    async fn list_erasures(&self, query: &ErasureQuery) -> Result<Vec<Erasure>, StoreError> {
        use erasure::Column;
        let mut select = erasure::Entity::find().filter(Column::TenantId.eq(query.tenant.0));
        if !query.states.is_empty() {
            select = select.filter(Column::State.is_in(query.states.iter().map(|state| state.as_str())));
        }
        if let Some(user) = query.user {
            select = select.filter(Column::UserId.eq(user.0));
        }
        let after = list::newest_first(query.after.as_ref())?;
        let columns = (Column::CreatedAt, Column::ErasureId);
        let rows = list::page(select, columns, &Order::Desc, after, query.limit);
        let rows = rows.all(&self.reader).await.map_err(store_error)?;
        rows.into_iter().map(Erasure::try_from).collect()
    }

    async fn erasure_subscribers(&self, tenant: TenantId) -> Result<BTreeSet<String>, StoreError> {
        let rows = erasure_subscriber::Entity::find()
            .filter(erasure_subscriber::Column::TenantId.eq(tenant.0))
            .order_by_asc(erasure_subscriber::Column::Service)
            .all(&self.reader)
            .await;
        Ok(rows.map_err(store_error)?.into_iter().map(|row| row.service).collect())
    }

    #[tracing::instrument(name = "db.erase_traces", skip_all, err(level = "debug"))]
    async fn erase_traces(&self, tenant: TenantId, erasures: &[ErasureId], keys: &AuditKeys) -> Result<(), StoreError> {
        traces::erase(self, tenant, erasures, keys).await
    }
}
