//! Erasures while their worker and the service are killed again and again: each ends complete, with its certificate once (S12, U9).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection};
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::ErasureState;
use usher_tests::environment::eventually;
use usher_tests::system::{Options, System, Worker};

use crate::servers::{Servers, servers, tell};

const KILLS: usize = 20;
const PEOPLE: usize = 100;
const PATIENCE: Duration = Duration::from_mins(5);

/// S12, U9
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_erasures_end_complete_while_worker_and_service_are_killed() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let mut system = System::start(Options {
        database_url: Some(postgres.database().await?),
        amqp_url: Some(broker.vhost().await?),
        ..Options::default()
    })
    .await?;
    let tenant = system
        .tenant(api::Tenant {
            erasure_cool_off: Some(prost_types::Duration {
                seconds: 86_400,
                nanos: 0,
            }),
            ..api::Tenant::default()
        })
        .await?;
    let clients = system.clients()?;
    let mut user_ids = Vec::with_capacity(PEOPLE);
    for number in 0..PEOPLE {
        let request = api::CreateUserRequest {
            tenant_id: tenant.clone(),
            user: Some(api::User {
                email: format!("person{number}@example.org"),
                first_name: "Ana".into(),
                ..api::User::default()
            }),
            options: Some(api::MutationOptions {
                request_id: format!("create-{number}"),
                ..api::MutationOptions::default()
            }),
            ..api::CreateUserRequest::default()
        };
        let created = clients.users().create_user(request).await?.into_inner();
        user_ids.push(created.user.context("no user")?.user_id);
    }
    let request = api::RequestErasureRequest {
        tenant_id: tenant.clone(),
        user_ids,
        reason: api::ErasureReason::EndOfRetention.into(),
        ..api::RequestErasureRequest::default()
    };
    let asked = clients.erasures().request_erasure(request).await?.into_inner();
    ensure!(asked.erasures.len() == PEOPLE);

    system.advance(Duration::from_hours(25)).await?;
    let mut chance = StdRng::seed_from_u64(20_261_125);
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(chance.random_range(5..150))).await;
        if kill % 2 == 0 {
            system.identity.kill();
            system.identity.restart().await?;
        } else {
            let worker = system.workers.get_mut(&Worker::Erasure).context("no worker")?;
            worker.kill();
            worker.restart().await?;
        }
    }
    let erased = eventually("the end of all", PATIENCE, async || {
        // What a killed process held fires again within minutes of the service's clock.
        system.set_ahead(Duration::from_mins(1)).ok()?;
        let request = api::ListErasuresRequest {
            tenant_id: tenant.clone(),
            states: vec![ErasureState::Erased.into()],
            page_size: 1_000,
            ..api::ListErasuresRequest::default()
        };
        let listed = system
            .clients()
            .ok()?
            .erasures()
            .list_erasures(request)
            .await
            .ok()?
            .into_inner();
        (listed.erasures.len() == PEOPLE).then_some(listed.erasures)
    })
    .await?;

    for erasure in &erased {
        let request = api::GetErasureCertificateRequest {
            tenant_id: tenant.clone(),
            erasure_id: erasure.erasure_id.clone(),
        };
        let certificate = system
            .clients()?
            .erasures()
            .get_erasure_certificate(request)
            .await?
            .into_inner();
        ensure!(certificate.verified);
        for fact in ["erased from users: 1\n", "erased from responses: 1\n"] {
            ensure!(certificate.text.contains(fact), "{}", certificate.text);
        }
    }
    let mut database = PgConnection::connect(&system.database_url).await?;
    for kind in ["user.erased", "erasure.announced", "erasure.completed"] {
        let told = events(&mut database, kind).await?;
        ensure!(told.len() == PEOPLE, "{kind}: {} of {PEOPLE}", told.len());
        ensure!(told.values().all(|count| *count == 1), "{kind} was told twice");
    }
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users WHERE email <> '' OR status <> 'ERASED'")
        .fetch_one(&mut database)
        .await?;
    ensure!(left == 0, "{left} accounts are left");
    tell(&format!(
        "erasures: {PEOPLE}, {KILLS} kills of the service and the worker"
    ));
    Ok(())
}

async fn events(database: &mut PgConnection, kind: &str) -> Result<HashMap<uuid::Uuid, i64>> {
    let rows: Vec<(uuid::Uuid, i64)> = sqlx::query_as(
        "SELECT user_id, COUNT(*) FROM outbox WHERE event_type = $1 AND user_id IS NOT NULL GROUP BY user_id",
    )
    .bind(kind)
    .fetch_all(database)
    .await?;
    Ok(rows.into_iter().collect())
}
