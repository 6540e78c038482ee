//! CreateUser against pgbench with the same statements in one transaction at the same concurrency.

use anyhow::{Context as _, Result};
use usher_proto::identity::v1::{CreateUserRequest, Tenant, User};
use usher_store::{SeaStore, StoreConfig};
use usher_tests::environment::postgres::Postgres;
use usher_tests::system::{Clients, System};
use uuid::Uuid;

use crate::report::Report;
use crate::{Effort, floor, load};

/// Measures 64 and 128 in flight.
pub(crate) async fn run(postgres: &Postgres, system: &System, effort: Effort, report: &mut Report) -> Result<()> {
    // The floor's rows stay out of the service's sight: its relay would publish them.
    let floor_url = postgres.database().await?;
    SeaStore::connect(&StoreConfig::new(&floor_url))
        .await?
        .migrate()
        .await?;
    let tenant = system.tenant(Tenant::default()).await?;
    for (in_flight, wanted) in [(64, 1.3), (128, 1.7)] {
        let (mut below, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let (url, id) = (floor_url.clone(), tenant.clone());
            let floor = move || floor::pgbench(&url, &id, in_flight, effort.time);
            below.push(tokio::task::spawn_blocking(floor).await??);
            let clients = system.clients()?;
            let tenant = tenant.clone();
            ours.push(
                load::closed_loop(in_flight, effort.time, move |_| create(clients.clone(), tenant.clone())).await?,
            );
        }
        report.ratio(
            &format!("CreateUser, {in_flight} in flight, against pgbench"),
            &below,
            &ours,
            wanted,
        );
    }
    Ok(())
}

/// Creates somebody.
pub(crate) async fn create(clients: Clients, tenant: String) -> Result<()> {
    let user = User {
        email: format!("{}@example.org", Uuid::new_v4().simple()),
        first_name: "Some".into(),
        last_name: "One".into(),
        ..User::default()
    };
    let request = CreateUserRequest {
        tenant_id: tenant,
        user: Some(user),
        ..CreateUserRequest::default()
    };
    clients
        .users()
        .create_user(request)
        .await?
        .into_inner()
        .user
        .context("no user in the answer")?;
    Ok(())
}
