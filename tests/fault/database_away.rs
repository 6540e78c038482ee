//! The database goes away under load and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::{Connection as _, PgConnection};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use usher_proto::identity::v1::{CheckAccessRequest, CreateUserRequest, GetUserRequest, MutationOptions, Tenant, User};
use usher_tests::environment::processes::Process;
use usher_tests::environment::{eventually, http};
use usher_tests::system::{Clients, Options, System};

use crate::servers::{Servers, servers, tell};

/// A caller knows within about 3 s; the machine that tests run on may be busy.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
const BACK_WITHIN: Duration = Duration::from_secs(20);
const CALLERS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_service_says_so_soon_and_goes_on_when_it_is_back() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let mut system = System::start(Options {
        without_workers: true,
        database_url: Some(postgres.database().await?),
        amqp_url: Some(broker.vhost().await?),
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(Tenant::default()).await?;
    let clients = system.clients()?;
    let known = create(&clients, &tenant, "known").await?;
    let process = system.identity.id();

    // Callers who never stop asking for somebody new; what is refused is repeated with its request_id until it is done.
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (clients, tenant) = (clients.clone(), tenant.clone());
            tokio::spawn(async move { keep_creating(&clients, &tenant, caller).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    postgres.kill()?;

    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        for refused in [
            told(create(&clients, &tenant, "nobody")).await?,
            told(get(&clients, &tenant, &known.user_id)).await?,
        ] {
            slowest = slowest.max(refused);
        }
    }
    // By now no entry in memory counts any more: unknown is not admitted.
    slowest = slowest.max(told(check(&clients, &tenant, &known.user_id)).await?);
    ready_is(&system.identity, false).await?;
    ensure!(
        health(system.port).await? == ServingStatus::NotServing,
        "health does not follow readiness"
    );

    postgres.start_again().await?;
    let back = Instant::now();
    ready_is(&system.identity, true).await?;
    let back = back.elapsed();
    eventually("health is back", BACK_WITHIN, async || {
        (health(system.port).await.ok()? == ServingStatus::Serving).then_some(())
    })
    .await?;
    ensure!(
        system.identity.id() == process && system.identity.exit_status().is_none(),
        "it was restarted"
    );

    let mut created = 0;
    for caller in callers {
        created += tokio::time::timeout(BACK_WITHIN, caller)
            .await
            .context("a caller was never answered")???;
    }
    whole(&system.database_url, &tenant, created + 1).await?;
    tell(&format!(
        "database away: told within {slowest:.1?}, ready {back:.1?} after its return, {created} users created across it"
    ));
    Ok(())
}

/// Creates until it was refused at least once and has succeeded 10 times since; how many it created.
async fn keep_creating(clients: &Clients, tenant: &str, caller: usize) -> Result<usize> {
    let (mut created, mut since) = (0, None);
    while since.is_none_or(|since| created < since + 10) {
        let name = format!("{caller}-{created}");
        match create(clients, tenant, &name).await {
            Ok(_) => created += 1,
            Err(status) if status.code() == Code::Unavailable => {
                since = Some(created);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) => return Err(status).context(name),
        }
    }
    Ok(created)
}

/// How long it took to be told that the database is away, with the time to try again.
async fn told<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Status>>) -> Result<Duration> {
    let asked = Instant::now();
    let status = call.await.err().context("answered without a database")?;
    let waited = asked.elapsed();
    ensure!(status.code() == Code::Unavailable, "{status:?}");
    ensure!(waited < TOLD_WITHIN, "told only after {waited:?}");
    let details = status.get_error_details();
    ensure!(
        details.retry_info().is_some_and(|it| it.retry_delay.is_some()),
        "nothing about when to try again"
    );
    ensure!(
        details.error_info().is_some_and(|it| it.reason == "STORE_UNAVAILABLE"),
        "{details:?}"
    );
    Ok(waited)
}

/// Every account that was answered is there, once, with its event.
async fn whole(database_url: &str, tenant: &str, created: usize) -> Result<()> {
    let mut database = PgConnection::connect(database_url).await?;
    let (users, events, torn): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM users WHERE tenant_id = $1::uuid), \
         (SELECT COUNT(*) FROM outbox WHERE tenant_id = $1::uuid AND event_type = 'user.created'), \
         (SELECT COUNT(*) FROM users u WHERE u.tenant_id = $1::uuid AND 1 <> (SELECT COUNT(*) FROM outbox o \
          WHERE o.user_id = u.user_id AND o.event_type = 'user.created'))",
    )
    .bind(tenant)
    .fetch_one(&mut database)
    .await?;
    let created = i64::try_from(created)?;
    ensure!(
        (users, events, torn) == (created, created, 0),
        "{users} users, {events} events, {torn} torn of {created}"
    );
    Ok(())
}

async fn ready_is(identity: &Process, ready: bool) -> Result<()> {
    let status = if ready { 200 } else { 503 };
    eventually("readiness", NOTICED_WITHIN, async || {
        (http::get(identity.admin_port(), "/readyz").await.ok()?.status == status).then_some(())
    })
    .await
}

async fn health(port: u16) -> Result<ServingStatus> {
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))?
        .connect()
        .await?;
    let mut client = HealthClient::new(channel);
    let answer = client.check(HealthCheckRequest { service: String::new() }).await?;
    Ok(answer.into_inner().status())
}

/// With a request_id of its name.
async fn create(clients: &Clients, tenant: &str, name: &str) -> Result<User, Status> {
    let user = User {
        email: format!("{name}@example.org"),
        ..User::default()
    };
    let request = CreateUserRequest {
        tenant_id: tenant.to_owned(),
        user: Some(user),
        options: Some(MutationOptions {
            request_id: name.to_owned(),
            ..MutationOptions::default()
        }),
        ..CreateUserRequest::default()
    };
    let answer = clients.users().create_user(request).await?.into_inner();
    answer.user.ok_or_else(|| Status::internal("no user in the answer"))
}

async fn get(clients: &Clients, tenant: &str, user: &str) -> Result<(), Status> {
    let request = GetUserRequest {
        tenant_id: tenant.to_owned(),
        user_id: user.to_owned(),
    };
    clients.users().get_user(request).await.map(drop)
}

async fn check(clients: &Clients, tenant: &str, user: &str) -> Result<(), Status> {
    let request = CheckAccessRequest {
        tenant_id: tenant.to_owned(),
        user_ids: vec![user.to_owned()],
    };
    clients.access().check_access(request).await.map(drop)
}
