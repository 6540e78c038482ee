//! The mail server cannot be reached for a while (L16).

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::{Connection as _, PgConnection};
use usher_proto::identity::v1::{
    Delivery, DeliveryAttempt, DeliveryOutcome, DeliveryState, InviteUsersRequest, ListDeliveriesRequest, Tenant,
};
use usher_tests::environment::eventually;
use usher_tests::environment::smtp_sink::SmtpSink;
use usher_tests::system::{Clients, Options, System, Worker};

use crate::servers::{Servers, servers};

const PEOPLE: usize = 60;
const WITHIN: Duration = Duration::from_secs(40);

/// L16: the tries while it is away can be seen, but none of them counts.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_mail_server_costs_no_attempt_and_gets_every_mail_once_when_it_is_back() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let sink = SmtpSink::start().await?;
    let system = System::start(Options {
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

    sink.refuse_connections(Some("4.3.2 closing down"));
    let addresses: Vec<_> = (0..PEOPLE)
        .map(|number| format!("person{number}@example.org"))
        .collect();
    let request = InviteUsersRequest {
        tenant_id: tenant.clone(),
        addresses: addresses.join(" "),
        ..InviteUsersRequest::default()
    };
    clients.invitations().invite_users(request).await?;
    let worker = &system.workers[&Worker::Invitation];
    eventually("the breaker opens", WITHIN, async || {
        let metrics = worker.metrics().await.ok()?;
        metrics
            .lines()
            .any(|line| line == "usher_mail_breaker_open 1")
            .then_some(())
    })
    .await?;
    let mut database = PgConnection::connect(&system.database_url).await?;
    let states = "SELECT COUNT(*) FILTER (WHERE state = 'QUEUED' AND attempts = 0), COUNT(*) FROM deliveries";
    eventually("no attempt counts", WITHIN, async || {
        let (fresh, all): (i64, i64) = sqlx::query_as(states).fetch_one(&mut database).await.ok()?;
        (fresh == all).then_some(())
    })
    .await?;
    let (away, connections) = (deliveries(&clients, &tenant).await?, sink.counts().connections);
    let tries: usize = away.iter().map(|mail| mail.attempts.len()).sum();
    ensure!((3..PEOPLE).contains(&tries), "the breaker let {tries} tries through");
    let outcomes = away
        .iter()
        .flat_map(|mail| &mail.attempts)
        .map(DeliveryAttempt::outcome);
    ensure!(
        outcomes.clone().all(|outcome| outcome == DeliveryOutcome::Unreachable),
        "{away:?}"
    );
    ensure!(
        connections < PEOPLE,
        "{connections} connections to a server that is away"
    );

    sink.refuse_connections(None);
    eventually("every mail", WITHIN, async || {
        // Past the pauses of those that were tried; the breaker looks by itself.
        system.advance(Duration::from_secs(10)).await.ok()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let all = deliveries(&clients, &tenant).await.ok()?;
        all.iter().all(|mail| mail.state() == DeliveryState::Sent).then_some(())
    })
    .await?;
    let sent = deliveries(&clients, &tenant).await?;
    ensure!(
        sent.len() == PEOPLE && sink.counts().received == PEOPLE,
        "{:?}",
        sink.counts()
    );
    for mail in sent {
        let (last, before) = mail
            .attempts
            .split_last()
            .map(|(last, before)| (last.clone(), before.to_vec()))
            .unwrap_or_default();
        ensure!(
            last.outcome() == DeliveryOutcome::Sent && last.smtp_code == 250,
            "{last:?}"
        );
        ensure!(
            before.iter().all(|it| it.outcome() == DeliveryOutcome::Unreachable),
            "{before:?}"
        );
    }
    let counted: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE attempts <> 1")
        .fetch_one(&mut database)
        .await?;
    ensure!(
        counted == 0,
        "{counted} mails used up more than the one attempt that went through"
    );
    Ok(())
}

async fn deliveries(clients: &Clients, tenant: &str) -> Result<Vec<Delivery>> {
    let request = ListDeliveriesRequest {
        tenant_id: tenant.to_owned(),
        page_size: 1_000,
        ..ListDeliveriesRequest::default()
    };
    Ok(clients
        .deliveries()
        .list_deliveries(request)
        .await?
        .into_inner()
        .deliveries)
}
