//! Erasures while their worker and the service are killed again and again, each time in the middle of one: each ends complete, with
//! its certificate once (S12, U9).

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
/// So many are asked for at a time, before each kill.
const BATCH: usize = PEOPLE / KILLS;
const PATIENCE: Duration = Duration::from_mins(5);
/// Where an erasure is held while something is killed: it is about to write there. The deed on the account; its traces, by the
/// user's id; what is known of the address; the kept answers.
const HELD_AT: [&str; 4] = ["users", "invitations", "suppressions", "responses"];

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
            erasure_cool_off: Some(prost_types::Duration::default()),
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
    let mut database = PgConnection::connect(&system.database_url).await?;
    let mut chance = StdRng::seed_from_u64(20_261_125);
    let mut under_way = Vec::with_capacity(KILLS);
    for (kill, batch) in user_ids.chunks(BATCH).enumerate() {
        let mut holder = PgConnection::connect(&system.database_url).await?;
        let table = HELD_AT[kill / 2 % HELD_AT.len()];
        let hold = format!("BEGIN; LOCK TABLE {table} IN SHARE MODE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut holder).await?;
        let request = api::RequestErasureRequest {
            tenant_id: tenant.clone(),
            user_ids: batch.to_vec(),
            reason: api::ErasureReason::EndOfRetention.into(),
            ..api::RequestErasureRequest::default()
        };
        let asked = system
            .clients()?
            .erasures()
            .request_erasure(request)
            .await?
            .into_inner();
        ensure!(asked.erasures.len() == BATCH);
        held_up(&mut database, table).await?;
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..50))).await;
        if kill % 2 == 0 {
            system.identity.kill();
        } else {
            system.workers.get_mut(&Worker::Erasure).context("no worker")?.kill();
        }
        under_way.push(unfinished(&mut database).await?);
        // What was begun and not committed is undone, or goes on where the service lives; only then is there another.
        holder.close().await?;
        if kill % 2 == 0 {
            system.identity.restart().await?;
        } else {
            let worker = system.workers.get_mut(&Worker::Erasure).context("no worker")?;
            worker.restart().await?;
        }
    }
    ensure!(
        under_way.len() == KILLS && under_way.iter().all(|unfinished| *unfinished > 0),
        "a kill hit nothing: {under_way:?}"
    );
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
        "erasures: {PEOPLE}, {KILLS} kills of the service and the worker, with so many unfinished: {under_way:?}"
    ));
    Ok(())
}

/// Waits until somebody waits for this table: an erasure that has come so far.
async fn held_up(database: &mut PgConnection, table: &str) -> Result<()> {
    eventually(&format!("an erasure at {table}"), PATIENCE, async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass($1) \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(table)
        .fetch_one(&mut *database)
        .await
        .ok()?;
        (waiting > 0).then_some(())
    })
    .await
}

/// How many were asked for and are not complete.
async fn unfinished(database: &mut PgConnection) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM erasures WHERE state <> 'ERASED'";
    Ok(sqlx::query_scalar(sql).fetch_one(database).await?)
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
