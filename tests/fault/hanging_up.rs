//! Callers that hang up in mid-call: what they asked for is done whole or not at all, and nobody after them is harmed.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection};
use usher_proto::identity::v1::{CreateUserRequest, GetUserRequest, ListUsersRequest, MutationOptions, Tenant, User};
use usher_tests::system::{Clients, Options, System};

use crate::servers::{Servers, servers, tell};

const CALLS: u64 = 500;
const AT_ONCE: usize = 16;

/// A row, its event, its history and its timer belong together.
const TORN: &str = "SELECT COUNT(*) FROM users u WHERE u.tenant_id = $1::uuid AND NOT ( \
    1 = (SELECT COUNT(*) FROM outbox o WHERE o.user_id = u.user_id AND o.event_type = 'user.created') \
    AND 1 = (SELECT COUNT(*) FROM history h WHERE h.user_id = u.user_id AND h.event_type = 'user.created') \
    AND 1 = (SELECT COUNT(*) FROM timers t WHERE t.subject = u.user_id AND t.kind = 'EXPIRATION'))";
const ORPHANED: &str = "SELECT COUNT(*) FROM outbox o WHERE o.tenant_id = $1::uuid AND o.user_id IS NOT NULL \
    AND NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = o.user_id)";
const OPEN: &str = "SELECT COUNT(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '1 s'";

/// B1: repeated with its `request_id`, each call is carried out once, whether or not it was the first time.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_leaves_everything_or_nothing_and_harms_nobody() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let system = System::start(Options {
        without_workers: true,
        database_url: Some(postgres.database().await?),
        amqp_url: Some(broker.vhost().await?),
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(Tenant::default()).await?;
    let clients = system.clients()?;
    let expires = i64::try_from(system.now().as_secs())? + 86_400;

    let answered: Vec<bool> = stream::iter(0..CALLS)
        .map(async |number| {
            let mut chance = StdRng::seed_from_u64(number);
            let patience = Duration::from_micros(chance.random_range(0..150_000));
            let call = async {
                match number % 5 {
                    // Reads that open transactions or wait for connections, among the writes.
                    4 => drop(list(&clients, &tenant).await),
                    _ => drop(create(&clients, request(&tenant, number, expires)).await),
                }
            };
            tokio::time::timeout(patience, call).await.is_ok()
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let hung_up = answered.iter().filter(|answered| !**answered).count();
    ensure!(
        (50..450).contains(&hung_up),
        "{hung_up} hung up: too few or too many to tell anything"
    );

    let mut database = PgConnection::connect(&system.database_url).await?;
    let users = "SELECT COUNT(*) FROM users WHERE tenant_id = $1::uuid";
    let before: i64 = sqlx::query_scalar(users).bind(&tenant).fetch_one(&mut database).await?;
    // Later calls are committed, whichever connection they get.
    let later: Vec<Result<User>> = stream::iter((0..CALLS).filter(|number| number % 5 != 4))
        .map(async |number| create(&clients, request(&tenant, number, expires)).await)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for created in later {
        let user = created?;
        let name: String = sqlx::query_scalar("SELECT first_name FROM users WHERE user_id = $1::uuid")
            .bind(&user.user_id)
            .fetch_one(&mut database)
            .await?;
        ensure!(name == user.first_name, "{user:?} was answered but not committed");
        let read = GetUserRequest {
            tenant_id: tenant.clone(),
            user_id: user.user_id.clone(),
        };
        clients.users().get_user(read).await?;
    }
    for (what, query) in [("torn", TORN), ("orphaned", ORPHANED)] {
        let count: i64 = sqlx::query_scalar(query).bind(&tenant).fetch_one(&mut database).await?;
        ensure!(count == 0, "{count} {what}");
    }
    let all: i64 = sqlx::query_scalar(users).bind(&tenant).fetch_one(&mut database).await?;
    ensure!(all == i64::try_from(CALLS / 5 * 4)?, "{all} users");
    let open: i64 = sqlx::query_scalar(OPEN).fetch_one(&mut database).await?;
    ensure!(open == 0, "{open} transactions were left open");
    tell(&format!(
        "hanging up: {hung_up} of {CALLS} callers hung up; {before} users were there, {all} after the repeats"
    ));
    Ok(())
}

fn request(tenant: &str, number: u64, expires: i64) -> CreateUserRequest {
    let user = User {
        email: format!("caller{number}@example.org"),
        first_name: format!("Caller {number}"),
        expire_time: Some(prost_types::Timestamp {
            seconds: expires,
            nanos: 0,
        }),
        ..User::default()
    };
    CreateUserRequest {
        tenant_id: tenant.to_owned(),
        user: Some(user),
        options: Some(MutationOptions {
            request_id: format!("call-{number}"),
            ..MutationOptions::default()
        }),
        ..CreateUserRequest::default()
    }
}

async fn create(clients: &Clients, request: CreateUserRequest) -> Result<User> {
    let answer = clients.users().create_user(request).await?.into_inner();
    answer.user.ok_or_else(|| anyhow::anyhow!("no user in the answer"))
}

async fn list(clients: &Clients, tenant: &str) -> Result<()> {
    let request = ListUsersRequest {
        tenant_id: tenant.to_owned(),
        ..ListUsersRequest::default()
    };
    clients.users().list_users(request).await?;
    Ok(())
}
