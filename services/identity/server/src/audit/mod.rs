//! What the audit log (B14) is told beside changes, which the engine tells it: refusals, and who read whose data. A call that could
//! have changed something and did not, but was answered somebody's data, is a read of them.
//!
//! A layer around every call knows the method, who calls and how it ended; what it cannot see (the tenant, the subject, what
//! was read) handlers note on the way. So an RPC can forget the detail, but not the entry.

mod layer;
pub(crate) mod methods;
mod recorder;

use std::sync::{Arc, Mutex, PoisonError};

use usher_authorization::permission_of;
use usher_core::audit::{AuditEntry, FieldChange, Origin, Who, hex, refusal};
use usher_core::change::Refused;
use usher_core::clock::Timestamp;
use usher_core::ids::{TenantId, UserId};
use usher_core::token::LinkKeys;

pub(crate) use self::layer::AuditLayer;
pub(crate) use self::recorder::Recorder;
use crate::operations::engine::Trail;

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// What filters of reads are digested for.
const FILTER: &str = "audit-filter";

/// A call, and what its handler noted.
#[derive(Debug)]
pub(crate) struct Call {
    method: String,
    actor: String,
    caller: String,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    tenant: Option<TenantId>,
    subject: Option<UserId>,
    reason: String,
    request_id: String,
    hidden_refusal: bool,
    /// The engine wrote entries of it.
    written: bool,
    refused: Vec<Refused>,
    details: Vec<FieldChange>,
}

impl Call {
    /// Whether it was carried out and changed nothing, while it was answered what there is: a read of that.
    fn only_reads(&self) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.details.is_empty() && noted.subject.is_some() {
            noted.details.push(FieldChange::new("count", None, Some("1".into())));
        }
        !noted.written && !noted.details.is_empty()
    }

    /// What is written down about the items that were refused while nothing was to be changed.
    fn refused(&self, at: Timestamp) -> Vec<AuditEntry> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = std::mem::take(&mut noted.refused);
        let origin = Origin {
            who: Who::Named(self.actor.clone()),
            caller: self.caller.clone(),
            permission: permission_name(&self.method),
            reason: noted.reason.clone(),
            request_id: noted.request_id.clone(),
            ..Origin::usher(self.method.clone())
        };
        refused.iter().map(|refused| refusal(refused, &origin, at)).collect()
    }

    /// What is written down about it, if it is known whose it is.
    fn entry(&self, outcome: &str, at: Timestamp) -> Option<AuditEntry> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        Some(AuditEntry {
            tenant: noted.tenant?,
            at,
            actor: self.actor.clone(),
            caller: self.caller.clone(),
            method: self.method.clone(),
            permission: permission_name(&self.method),
            outcome: outcome.to_owned(),
            subject: noted.subject,
            job: None,
            reason: std::mem::take(&mut noted.reason),
            request_id: std::mem::take(&mut noted.request_id),
            details: std::mem::take(&mut noted.details),
        })
    }
}

fn permission_name(method: &str) -> String {
    permission_of(method).map_or_else(String::new, |permission| permission.as_str().to_owned())
}

fn note(noting: impl FnOnce(&mut Noted)) {
    // Outside of a call there is nothing to note: jobs and timers tell the engine where they come from.
    let _ = CALL.try_with(|call| noting(&mut call.noted.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// Whose call it is.
pub(crate) fn note_tenant(tenant: TenantId) {
    note(|noted| noted.tenant = Some(tenant));
}

/// Whom it is about.
pub(crate) fn note_user(tenant: TenantId, user: UserId) {
    note(|noted| {
        noted.tenant = Some(tenant);
        noted.subject = Some(user);
    });
}

/// Why, and under which id.
pub(crate) fn note_options(reason: &str, request_id: &str) {
    note(|noted| {
        reason.clone_into(&mut noted.reason);
        request_id.clone_into(&mut noted.request_id);
    });
}

/// What the engine wrote of it, and did not write.
pub(crate) fn note_trail(trail: Trail) {
    note(|noted| {
        noted.written |= trail.written;
        noted.refused.extend(trail.refused);
    });
}

/// It was refused, although the answer does not say so.
pub(crate) fn note_hidden_refusal() {
    note(|noted| noted.hidden_refusal = true);
}

/// What was read: how many, and a keyed digest of what was asked, by which equal questions are told.
pub(crate) fn note_read(count: usize, asked: &impl prost::Message, keys: &LinkKeys) {
    note_detail("count", count.to_string());
    note_filter(asked, keys);
}

/// Only what was asked.
pub(crate) fn note_filter(asked: &impl prost::Message, keys: &LinkKeys) {
    note_detail("filter", hex(&keys.seal(FILTER, &asked.encode_to_vec())));
}

/// One more detail of what was read.
pub(crate) fn note_detail(field: &str, value: impl Into<String>) {
    note(|noted| noted.details.push(FieldChange::new(field, None, Some(value.into()))));
}

/// Where a command of this call comes from: as far as is known, Usher itself does it, for whoever calls.
pub(crate) fn origin() -> Origin {
    let of_call = |call: &Arc<Call>| Origin {
        caller: call.caller.clone(),
        permission: permission_name(&call.method),
        ..Origin::usher(call.method.clone())
    };
    CALL.try_with(of_call).unwrap_or_else(|_| Origin::usher("Usher"))
}
