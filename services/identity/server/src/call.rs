//! What every call brings beside its own fields: who acts, in which trace, and the options of a mutation.

use tonic::Request;
use tonic::metadata::MetadataMap;
use usher_core::audit::{Origin, Who};
use usher_core::change::{Act, Changeset};
use usher_core::clock::Timestamp;
use usher_core::ids::TenantId;
use usher_core::ports::Keys;
use usher_core::refusal::Refusal;
use usher_core::text;
use usher_core::token::LinkKeys;
use usher_proto::identity::v1::MutationOptions;

use crate::app::App;
use crate::authorize::Caller;
use crate::operations::engine::{Command, Repeatable};
use crate::operations::world::World;
use crate::parse::{Faults, request_id};

/// The metadata key that names who acts.
pub(crate) const ACTOR: &str = "usher-actor-id";
/// Who acts if nobody is named.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// What fingerprints of requests are sealed for.
const FINGERPRINT: &str = "request";

/// A mutation that was parsed as far as all mutations go.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    actor: String,
    reason: String,
    request_id: String,
    trace_parent: String,
    validate_only: bool,
    fingerprint: Vec<u8>,
    by_subject: bool,
}

/// Who acts, as the caller says.
pub(crate) fn actor(metadata: &MetadataMap, faults: &mut Faults) -> String {
    let Some(value) = metadata.get(ACTOR) else {
        return ANONYMOUS.into();
    };
    let actor = value
        .to_str()
        .map_err(|_| "is not ASCII".to_owned())
        .and_then(|actor| text::line(actor, 200));
    match actor {
        Ok(actor) if actor.is_empty() => ANONYMOUS.into(),
        // One id is one actor, however it was spelled.
        Ok(actor) => actor.parse::<uuid::Uuid>().map_or(actor, |id| id.to_string()),
        Err(fault) => {
            faults.add(format!("metadata.{ACTOR}"), fault);
            ANONYMOUS.into()
        }
    }
}

impl Mutation {
    /// Reads actor, trace and options of a request.
    pub(crate) fn parse<T: prost::Message>(
        method: &str,
        request: &Request<T>,
        options: Option<&MutationOptions>,
        keys: &LinkKeys,
        faults: &mut Faults,
    ) -> Self {
        let options = options.cloned().unwrap_or_default();
        if let Err(fault) = request_id(&options.request_id) {
            faults.add("options.request_id", fault);
        }
        let reason = faults.take("options.reason", text::line(&options.reason, text::MAX_REASON));
        let fingerprint = if options.request_id.is_empty() {
            Vec::new()
        } else {
            let mut body = request.get_ref().encode_to_vec();
            body.extend_from_slice(method.as_bytes());
            keys.seal(FINGERPRINT, &body).to_vec()
        };
        crate::audit::note_options(&reason, &options.request_id);
        Self {
            actor: actor(request.metadata(), faults),
            reason,
            request_id: options.request_id,
            trace_parent: usher_platform::trace::current_trace_parent(),
            validate_only: options.validate_only,
            fingerprint,
            by_subject: false,
        }
    }

    /// The same, carried out: where `validate_only` has become part of what is done.
    pub(crate) fn in_earnest(self) -> Self {
        Self {
            validate_only: false,
            ..self
        }
    }

    /// The same, by the person whom it is about, who proved that by a link or a password.
    pub(crate) fn by_subject(self) -> Self {
        Self {
            by_subject: true,
            ..self
        }
    }

    /// Who, when and why.
    pub(crate) fn act(&self, now: Timestamp) -> Act {
        Act {
            actor: self.actor.clone(),
            now,
            reason: self.reason.clone(),
            request_id: self.request_id.clone(),
            trace_parent: self.trace_parent.clone(),
        }
    }

    fn origin(&self) -> Origin {
        Origin {
            who: if self.by_subject {
                Who::Subject
            } else {
                Who::Named(self.actor.clone())
            },
            reason: self.reason.clone(),
            request_id: self.request_id.clone(),
            ..crate::audit::origin()
        }
    }

    /// The command that carries it out.
    pub(crate) fn command<T, D>(&self, tenant: TenantId, keys: Keys, decide: D) -> Command<D>
    where
        D: Fn(&mut World, &mut Changeset) -> Result<T, Refusal>,
    {
        crate::audit::note_tenant(tenant);
        let repeatable = (!self.request_id.is_empty()).then(|| Repeatable {
            tenant,
            request_id: self.request_id.clone(),
            fingerprint: self.fingerprint.clone(),
        });
        Command {
            keys,
            weight: 1,
            repeatable,
            validate_only: self.validate_only,
            origin: self.origin(),
            decide,
        }
    }
}

impl App {
    /// What every change begins with: who calls, the mutation, and the faults so far.
    pub(crate) fn begin<T: prost::Message>(
        &self,
        method: &str,
        request: &Request<T>,
        options: Option<&MutationOptions>,
    ) -> Result<(Caller, Mutation, Faults), tonic::Status> {
        let caller = Caller::of(request.metadata())?;
        let mut faults = Faults::default();
        let mutation = Mutation::parse(method, request, options, &self.keys, &mut faults);
        Ok((caller, mutation, faults))
    }
}

/// The acts of a worker, in the trace of its call: reports have no options.
pub(crate) fn by_worker() -> impl Fn(Timestamp) -> Act + Clone + Send + Sync {
    let trace_parent = usher_platform::trace::current_trace_parent();
    move |now| Act {
        trace_parent: trace_parent.clone(),
        ..Act::by_usher(now, "")
    }
}

/// Refuses without a tenant, in the same words everywhere.
pub(crate) fn tenant(text: &str, faults: &mut Faults) -> TenantId {
    faults.id("tenant_id", text)
}

/// The keys of one account of a tenant.
pub(crate) fn account_keys(tenant: TenantId, user: usher_core::ids::UserId) -> Keys {
    Keys {
        users: [(tenant, user)].into(),
        tenants: [tenant].into(),
        with_mail: true,
        ..Keys::default()
    }
}

/// Ends parsing: all faults, or none.
pub(crate) fn finish(faults: Faults) -> Result<(), tonic::Status> {
    faults
        .finish()
        .map_err(|refusal: Refusal| crate::status::refused(&refusal))
}
