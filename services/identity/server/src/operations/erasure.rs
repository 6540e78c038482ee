//! Erasures go on: the deed on the account, the traces, the announcement, the certificate. Each is a transaction of its own that
//! does nothing where it was done before, so whatever breaks off is taken up again by the timer (S12).

use std::collections::{BTreeMap, BTreeSet};

use usher_core::audit::Redaction;
use usher_core::change::{Act, Changeset};
use usher_core::email::EmailAddress;
use usher_core::erasure::{Erasure, ErasureState};
use usher_core::ids::{ErasureId, TenantId, UserId};
use usher_core::ports::Keys;
use usher_core::status::Status;
use usher_core::timer::{Timer, TimerKind};
use usher_core::token::LinkKeys;

use super::engine::{Answer, Command, Failure};
use super::world::World;
use crate::app::App;

/// What digests of addresses are made for.
const ADDRESS: &str = "erased-address";
/// What digests of certificates are made for.
const CERTIFICATE: &str = "erasure-certificate";

type Due = BTreeSet<(TenantId, ErasureId)>;

/// How far erasures got.
struct Advanced {
    count: usize,
    erasing: Due,
}

impl Answer for Advanced {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decode(_: &[u8]) -> Option<Self> {
        None
    }
}

impl App {
    /// Asks for the addresses of these keys whether somebody who had one was erased.
    pub(crate) fn warn_of_erased(&self, keys: &mut Keys) {
        for (tenant, email) in &keys.emails {
            for digest in self.keys.digests(ADDRESS, email.as_bytes()) {
                keys.erased.insert((*tenant, digest), email.clone());
            }
        }
    }

    /// The digest of a certificate.
    pub(crate) fn certify(&self) -> impl Fn(&str) -> Vec<u8> + Send + Sync + Clone + use<> {
        let keys = self.keys.clone();
        move |text: &str| keys.digest(CERTIFICATE, text.as_bytes())
    }

    /// Whether a digest is that of a certificate.
    pub(crate) fn is_certified(&self, text: &str, digest: &[u8]) -> bool {
        self.keys
            .digests(CERTIFICATE, text.as_bytes())
            .iter()
            .any(|known| known == digest)
    }
}

/// Takes erasures as far as they go now; answers how many went on.
pub(crate) async fn advance(app: &App, due: Due) -> Result<usize, Failure> {
    let done = begin(app, due).await?;
    let mut by_tenant: BTreeMap<TenantId, Vec<ErasureId>> = BTreeMap::new();
    for (tenant, id) in &done.erasing {
        by_tenant.entry(*tenant).or_default().push(*id);
    }
    for (tenant, ids) in by_tenant {
        app.store.erase_traces(tenant, &ids, &app.audit_keys).await?;
        for id in ids {
            redact(app, tenant, id).await?;
        }
    }
    if !done.erasing.is_empty() {
        announce(app, done.erasing).await?;
    }
    Ok(done.count)
}

/// What is personal in the audit log goes too; the log itself holds (B14).
async fn redact(app: &App, tenant: TenantId, id: ErasureId) -> Result<(), Failure> {
    let Some(erasure) = app.store.erasure(tenant, id).await? else {
        return Ok(());
    };
    let redaction = Redaction {
        erasure: id.0,
        proof: app.audit_keys.redaction(tenant, erasure.user, id.0),
    };
    app.store.redact_audit(tenant, erasure.user, &redaction).await?;
    Ok(())
}

fn keys(app: &App, due: &Due) -> Keys {
    Keys {
        erasures: due.clone(),
        subscribers: due.iter().map(|(tenant, _)| *tenant).collect(),
        with_mail: true,
        with_belonging: true,
        with_seats: Some(app.now()),
        ..Keys::default()
    }
}

/// The deed on the accounts; and the certificates of those that nobody is waited for any more.
async fn begin(app: &App, due: Due) -> Result<Advanced, Failure> {
    let (keys, weight, seal) = (keys(app, &due), due.len(), app.certify());
    let mut command = Command::new(keys, move |world, changes| {
        let act = by_usher(world);
        let mut done = Advanced {
            count: 0,
            erasing: Due::new(),
        };
        for (tenant, id) in &due {
            let Ok((erasure, account)) = world.erasure(*tenant, *id) else {
                continue;
            };
            let went_on = erasure.erase(account, &act, changes)
                || erasure.state == ErasureState::Erasing
                || erasure.complete(&account.user, &seal, &act, changes);
            done.count += usize::from(went_on);
            if erasure.state == ErasureState::Erasing {
                done.erasing.insert((*tenant, *id));
            }
        }
        Ok(done)
    });
    command.weight = weight;
    app.engine.run(command).await
}

/// Nothing is left here. Of the addresses a keyed hash is kept.
async fn announce(app: &App, due: Due) -> Result<(), Failure> {
    let (keys, weight, seal, hashing) = (keys(app, &due), due.len(), app.certify(), app.keys.clone());
    let mut command = Command::new(keys, move |world, changes| {
        let act = by_usher(world);
        for (tenant, id) in &due {
            let services = world.loaded.subscribers.get(tenant).cloned().unwrap_or_default();
            let Ok((erasure, account)) = world.erasure(*tenant, *id) else {
                continue;
            };
            if erasure.state == ErasureState::Erasing {
                remember(erasure, &hashing, &act, changes);
            }
            erasure.announce(&services, account, &seal, &act, changes);
        }
        Ok(())
    });
    command.weight = weight;
    app.engine.run(command).await
}

fn remember(erasure: &Erasure, hashing: &LinkKeys, act: &Act, changes: &mut Changeset) {
    for trace in &erasure.traces {
        // Of its forms the one that addresses are compared by.
        if EmailAddress::parse(trace).is_ok_and(|email| email.key() == trace) {
            let digest = hashing.digest(ADDRESS, trace.as_bytes());
            changes.erased_addresses.insert((erasure.tenant, digest), act.now);
        }
    }
}

fn by_usher(world: &World) -> Act {
    Act {
        trace_parent: usher_platform::trace::current_trace_parent(),
        ..Act::by_usher(world.now, "")
    }
}

/// A timer of an erasure, or of a deletion date, fired.
pub(crate) fn on_timer(timer: &Timer, world: &mut World, act: &Act, changes: &mut Changeset) {
    let (tenant, subject) = (timer.key.tenant, timer.key.subject);
    if timer.key.kind == TimerKind::Erasure {
        return match world.erasure(tenant, ErasureId(subject)) {
            Ok((erasure, account)) => erasure.on_timer(account, act, changes),
            Err(_) => changes.clear_timer(timer.key),
        };
    }
    let user = UserId(subject);
    let running = world.erasure_of(tenant, user).cloned();
    let account = world.loaded.accounts.get(&(tenant, user));
    let date = account.filter(|account| account.user.status != Status::Erased);
    let date = date.and_then(|account| Some((account, account.user.deletes_at?)));
    match date {
        None => changes.clear_timer(timer.key),
        Some((_, at)) if at > act.now => changes.set_timer(Timer {
            due_at: at,
            fired: 0,
            ..timer.clone()
        }),
        Some((account, _)) => {
            changes.clear_timer(timer.key);
            let erasure = Erasure::by_date(account, running, act, changes);
            world.loaded.erasures.insert((tenant, erasure.id), erasure);
        }
    }
}
