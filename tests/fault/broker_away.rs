//! The broker goes away and comes back.

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::{Connection as _, PgConnection};
use usher_proto::identity::v1::{InviteUsersRequest, Tenant};
use usher_tests::environment::smtp_sink::SmtpSink;
use usher_tests::environment::{eventually, http};
use usher_tests::system::{Options, System, Worker};

use crate::observer::{Witness, depth};
use crate::servers::{Servers, servers};

const PEOPLE: usize = 30;
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
const BACK_WITHIN: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn without_the_broker_calls_still_succeed_and_their_events_and_mails_go_out_when_it_is_back() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let sink = SmtpSink::start().await?;
    let vhost = broker.vhost().await?;
    let listener = Witness::of_broker(&vhost).await?;
    let mut system = System::start(Options {
        smtp_port: Some(sink.port()),
        database_url: Some(postgres.database().await?),
        amqp_url: Some(vhost),
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(Tenant::default()).await?;
    let clients = system.clients()?;
    let before = [system.identity.id(), system.workers[&Worker::Invitation].id()];
    let ports = [
        system.identity.admin_port(),
        system.workers[&Worker::Invitation].admin_port(),
    ];

    broker.stop().await?;
    // Noticed without anything to be published.
    for port in ports {
        readiness(port, 503, NOTICED_WITHIN).await?;
    }
    let addresses: Vec<_> = (0..PEOPLE)
        .map(|number| format!("person{number}@example.org"))
        .collect();
    let request = InviteUsersRequest {
        tenant_id: tenant.clone(),
        addresses: addresses.join(" "),
        ..InviteUsersRequest::default()
    };
    let answer = tokio::time::timeout(ANSWERED_WITHIN, clients.invitations().invite_users(request)).await??;
    ensure!(usize::try_from(answer.get_ref().invited_count)? == PEOPLE, "{answer:?}");
    // Not once does it pretend to have a broker meanwhile.
    for _ in 0..20 {
        ensure!(
            http::get(ports[0], "/readyz").await?.status == 503,
            "ready without a broker"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(sink.counts().received == 0, "a mail without a message");

    broker.start_again().await?;
    for port in ports {
        readiness(port, 200, BACK_WITHIN).await?;
    }
    eventually("every mail", BACK_WITHIN, async || {
        (sink.counts().confirmed >= PEOPLE).then_some(())
    })
    .await?;
    let mut database = PgConnection::connect(&system.database_url).await?;
    let events = eventually("every event", BACK_WITHIN, async || {
        let (all, unpublished): (i64, i64) =
            sqlx::query_as("SELECT COUNT(*), COUNT(*) FILTER (WHERE published_at IS NULL) FROM outbox")
                .fetch_one(&mut database)
                .await
                .ok()?;
        let seen = i64::try_from(listener.seen().order.len()).ok()?;
        (unpublished == 0 && seen == all).then_some(all)
    })
    .await?;
    ensure!(events > i64::try_from(PEOPLE * 5)?, "only {events} events");
    ensure!(sink.counts().received == PEOPLE, "{:?}", sink.counts());
    ensure!(depth(&system.amqp_url, "usher.dead-letter").await? == 0, "dead letters");
    let after = [system.identity.id(), system.workers[&Worker::Invitation].id()];
    let ended = system.identity.exit_status();
    ensure!(before == after && ended.is_none(), "something was restarted");
    Ok(())
}

async fn readiness(port: u16, status: u16, within: Duration) -> Result<()> {
    eventually("readiness", within, async || {
        (http::get(port, "/readyz").await.ok()?.status == status).then_some(())
    })
    .await
}
