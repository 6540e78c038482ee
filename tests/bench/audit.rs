//! How long a write takes while the audit log is sealed into chains in the background, and while it is not (B14).

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context as _, Result};
use usher_proto::identity::v1::{CreateUserRequest, Tenant, UpdateUserRequest, User};
use usher_tests::environment::postgres::Postgres;
use usher_tests::system::{Clients, Options, System, vars};
use uuid::Uuid;

use crate::report::{Report, median};
use crate::writes::create;
use crate::{Effort, load};

/// Calls in flight: a service at work, with room left.
const IN_FLIGHT: usize = 16;
/// How much longer the 99th percentile may be with the chain.
const WANTED: f64 = 1.10;

/// The two sides take turns, so that a drift of the machine hits both.
pub(crate) async fn run(postgres: &Postgres, effort: Effort, report: &mut Report) -> Result<()> {
    let sides = [Side::start(postgres, false).await?, Side::start(postgres, true).await?];
    for (name, updates) in [("CreateUser", false), ("UpdateUser", true)] {
        let mut figures = [Percentiles::default(), Percentiles::default()];
        for _ in 0..effort.rounds {
            for (side, figures) in sides.iter().zip(&mut figures) {
                let (half, tail) = side.measure(updates, effort).await?;
                figures.half.push(half);
                figures.tail.push(tail);
            }
        }
        let [without, with] = figures.map(|it| (median(&it.half), median(&it.tail)));
        let ratio = with.1 / without.1;
        let verdict = if ratio <= WANTED { "reached" } else { "falls short" };
        report.note(format!(
            "{name}, {IN_FLIGHT} in flight: p50 {:.1} ms, p99 {:.1} ms while the audit log is sealed; \
             p50 {:.1} ms, p99 {:.1} ms without; p99 {ratio:.2} × (wanted ≤ {WANTED} ×: {verdict})",
            with.0, with.1, without.0, without.1,
        ));
    }
    Ok(())
}

/// Of each round, in milliseconds.
#[derive(Default)]
struct Percentiles {
    half: Vec<f64>,
    tail: Vec<f64>,
}

/// A service on a database of its own.
struct Side {
    clients: Clients,
    tenant: String,
    users: Arc<Vec<String>>,
    _system: System,
}

impl Side {
    async fn start(postgres: &Postgres, seal: bool) -> Result<Self> {
        let system = System::start(Options {
            database_url: Some(postgres.database().await?),
            without_workers: true,
            identity: vars([("USHER__AUDIT__SEAL", seal.to_string())]),
            ..Options::default()
        })
        .await?;
        let (clients, tenant) = (system.clients()?, system.tenant(Tenant::default()).await?);
        let mut users = Vec::new();
        for _ in 0..IN_FLIGHT * 16 {
            let request = CreateUserRequest {
                tenant_id: tenant.clone(),
                user: Some(User {
                    email: format!("{}@example.org", Uuid::new_v4().simple()),
                    ..User::default()
                }),
                ..CreateUserRequest::default()
            };
            let created = clients.users().create_user(request).await?.into_inner().user;
            users.push(created.context("no user in the answer")?.user_id);
        }
        Ok(Self {
            clients,
            tenant,
            users: Arc::new(users),
            _system: system,
        })
    }

    /// The median and the 99th percentile, in milliseconds.
    async fn measure(&self, updates: bool, effort: Effort) -> Result<(f64, f64)> {
        let taken: Arc<Mutex<Vec<f64>>> = Arc::default();
        let all = Arc::clone(&taken);
        let (clients, tenant, users) = (self.clients.clone(), self.tenant.clone(), Arc::clone(&self.users));
        let call = move |number: u64| {
            let (clients, tenant, users) = (clients.clone(), tenant.clone(), Arc::clone(&users));
            let all = Arc::clone(&all);
            async move {
                let began = Instant::now();
                if updates {
                    let user = usize::try_from(number)? % users.len();
                    rename(&clients, &tenant, &users[user], number).await?;
                } else {
                    create(clients, tenant).await?;
                }
                let milliseconds = began.elapsed().as_secs_f64() * 1_000.0;
                all.lock()
                    .map_err(|_| anyhow::anyhow!("a call panicked"))?
                    .push(milliseconds);
                Ok(())
            }
        };
        load::closed_loop(IN_FLIGHT, effort.time, call).await?;
        let mut taken = std::mem::take(&mut *taken.lock().map_err(|_| anyhow::anyhow!("a call panicked"))?);
        taken.sort_by(f64::total_cmp);
        let at = |percent: usize| taken.get((taken.len() * percent / 100).min(taken.len().saturating_sub(1)));
        Ok((at(50).copied().unwrap_or(f64::NAN), at(99).copied().unwrap_or(f64::NAN)))
    }
}

async fn rename(clients: &Clients, tenant: &str, user: &str, number: u64) -> Result<()> {
    let request = UpdateUserRequest {
        user: Some(User {
            tenant_id: tenant.to_owned(),
            user_id: user.to_owned(),
            first_name: format!("Some {number}"),
            ..User::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["first_name".into()],
        }),
        ..UpdateUserRequest::default()
    };
    clients.users().update_user(request).await?;
    Ok(())
}
