//! SIGTERM: what was begun is finished, what waits is left to others, and the process ends by itself.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use usher_proto::identity::v1::{
    CreateUserRequest, DeliveryState, InviteUsersRequest, ListDeliveriesRequest, SetUserExpirationRequest, Tenant,
    User, WatchEventsRequest,
};
use usher_tests::environment::eventually;
use usher_tests::environment::smtp_sink::{Behaviour, SmtpSink};
use usher_tests::system::{Options, System, Worker};

use crate::servers::{Servers, servers, tell};

/// The time to drain is 20 s; nothing here needs more than a part of it.
const ENDED_WITHIN: Duration = Duration::from_secs(12);
const PEOPLE: usize = 40;

/// K4: health says NOT_SERVING first; a call under way is answered; open streams are ended and hold nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_the_service_answer_what_it_has_begun_and_ends_open_streams() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    // Its workers watch the service's health as well.
    let sink = SmtpSink::start().await?;
    let mut system = System::start(Options {
        smtp_port: Some(sink.port()),
        database_url: Some(postgres.database().await?),
        amqp_url: Some(broker.vhost().await?),
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(Tenant::default()).await?;
    let clients = system.clients()?;
    let user = User {
        email: "ana@example.org".to_owned(),
        ..User::default()
    };
    let request = CreateUserRequest {
        tenant_id: tenant.clone(),
        user: Some(user),
        ..CreateUserRequest::default()
    };
    let user = clients
        .users()
        .create_user(request)
        .await?
        .into_inner()
        .user
        .context("no user")?;

    let channel = Channel::from_shared(format!("http://127.0.0.1:{}", system.port))?
        .connect()
        .await?;
    let mut health = HealthClient::new(channel);
    let mut statuses = health
        .watch(HealthCheckRequest { service: String::new() })
        .await?
        .into_inner();
    let first = statuses.message().await?.context("no status")?;
    ensure!(first.status() == ServingStatus::Serving, "{first:?}");
    let request = WatchEventsRequest {
        tenant_id: tenant.clone(),
        from_beginning: true,
        ..WatchEventsRequest::default()
    };
    let mut events = clients.events().watch_events(request).await?.into_inner();
    events.message().await?.context("no event")?;

    // Somebody else holds the row, so the call waits.
    let mut holder = PgConnection::connect(&system.database_url).await?;
    holder.execute("BEGIN").await?;
    sqlx::query("SELECT 1 FROM users WHERE user_id = $1::uuid FOR UPDATE")
        .bind(&user.user_id)
        .execute(&mut holder)
        .await?;
    let request = SetUserExpirationRequest {
        tenant_id: tenant.clone(),
        user_id: user.user_id.clone(),
        expire_time: Some(prost_types::Timestamp {
            seconds: 4_000_000_000,
            nanos: 0,
        }),
        ..SetUserExpirationRequest::default()
    };
    let mut users = clients.users();
    let call = tokio::spawn(async move { users.set_user_expiration(request).await });
    let mut looking = PgConnection::connect(&system.database_url).await?;
    eventually("the call waits for the row", ENDED_WITHIN, async || {
        let waiting =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut looking).await.ok()?;
        (waiting > 0).then_some(())
    })
    .await?;

    let told = Instant::now();
    let ended = system.identity.terminate(ENDED_WITHIN);
    let meanwhile = async {
        let next = statuses.message().await?.context("the watch ended before it said so")?;
        ensure!(next.status() == ServingStatus::NotServing, "{next:?}");
        ensure!(!call.is_finished(), "answered before the row was free");
        ensure!(statuses.message().await?.is_none(), "the watch of health goes on");
        while let Ok(Some(_)) = events.message().await {}
        holder.execute("COMMIT").await?;
        let answer = call.await??.into_inner().user.context("no user")?;
        ensure!(answer.expire_time.is_some(), "{answer:?}");
        Ok(())
    };
    let (status, ()) = tokio::try_join!(ended, meanwhile)?;
    ensure!(status.success(), "{status}: {}", system.identity.output());
    tell(&format!(
        "draining: the service ended {:.1?} after SIGTERM",
        told.elapsed()
    ));

    let kept: bool = sqlx::query_scalar("SELECT expires_at IS NOT NULL FROM users WHERE user_id = $1::uuid")
        .bind(&user.user_id)
        .fetch_one(&mut looking)
        .await?;
    ensure!(kept, "answered but not kept");
    // The workers end too, though there is nobody left to ask.
    for worker in system.workers.values_mut() {
        let status = worker.terminate(ENDED_WITHIN).await?;
        ensure!(status.success(), "{status}: {}", worker.output());
    }
    Ok(())
}

/// B12: an orderly stop leaves no mail of which nobody knows whether it went out.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_worker_finish_its_mails_and_leaves_the_others_in_the_queue() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let sink = SmtpSink::start().await?;
    sink.by_default(Behaviour::ConfirmAfter(Duration::from_millis(400)));
    let mut system = System::start(Options {
        smtp_port: Some(sink.port()),
        database_url: Some(postgres.database().await?),
        amqp_url: Some(broker.vhost().await?),
        ..Options::default()
    })
    .await?;
    let tenant = system
        .tenant(Tenant {
            no_reminders: true,
            ..Tenant::default()
        })
        .await?;
    let clients = system.clients()?;
    let addresses: Vec<_> = (0..PEOPLE)
        .map(|number| format!("person{number}@example.org"))
        .collect();
    let request = InviteUsersRequest {
        tenant_id: tenant.clone(),
        addresses: addresses.join(" "),
        ..InviteUsersRequest::default()
    };
    clients.invitations().invite_users(request).await?;
    eventually("mails under way", ENDED_WITHIN, async || {
        (sink.counts().received >= 4).then_some(())
    })
    .await?;

    let worker = system.workers.get_mut(&Worker::Invitation).context("no worker")?;
    let status = worker.terminate(ENDED_WITHIN).await?;
    ensure!(status.success(), "{status}: {}", worker.output());
    let counts = sink.counts();
    ensure!(
        counts.received == counts.confirmed && counts.received < PEOPLE,
        "{counts:?}"
    );
    let count_in = async |state: DeliveryState| {
        let request = ListDeliveriesRequest {
            tenant_id: tenant.clone(),
            states: vec![state.into()],
            page_size: 1_000,
            ..ListDeliveriesRequest::default()
        };
        let page = clients.deliveries().list_deliveries(request).await?.into_inner();
        anyhow::Ok(page.deliveries.len())
    };
    ensure!(
        count_in(DeliveryState::Sent).await? == counts.confirmed,
        "not everything was reported"
    );
    ensure!(
        count_in(DeliveryState::Queued).await? == PEOPLE - counts.confirmed,
        "something was left half-way"
    );

    sink.by_default(Behaviour::Accept);
    worker.restart().await?;
    eventually("every mail", ENDED_WITHIN, async || {
        (count_in(DeliveryState::Sent).await.ok()? == PEOPLE).then_some(())
    })
    .await?;
    ensure!(sink.counts().received == PEOPLE, "{:?}", sink.counts());
    Ok(())
}
