//! Mails through the whole system against a bare SMTP client with as many connections, both to a mail server that takes
//! some milliseconds to answer the final dot, as one that writes to a disk does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lettre::transport::smtp::PoolConfig;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use usher_proto::identity::v1::{InviteUsersRequest, Tenant};
use usher_tests::environment::eventually;
use usher_tests::environment::postgres::Postgres;
use usher_tests::environment::smtp_sink::{Behaviour, SmtpSink};
use usher_tests::system::{Options, System, Worker, vars};

use crate::report::Report;
use crate::{Effort, load};

/// Connections of both.
const CONNECTIONS: usize = 8;
/// What the mail server takes for the final answer.
const ANSWER: Duration = Duration::from_millis(10);
/// Addresses of one call.
const CALL: usize = 500;

/// Measures mails a second.
pub(crate) async fn run(postgres: &Postgres, effort: Effort, report: &mut Report) -> Result<()> {
    let mails = (effort.items / 10).max(CALL);
    let sink = SmtpSink::start().await?;
    sink.by_default(Behaviour::ConfirmAfter(ANSWER));
    let options = Options {
        database_url: Some(postgres.database().await?),
        smtp_port: Some(sink.port()),
        workers: vars([
            ("USHER__SMTP__CONNECTIONS", CONNECTIONS.to_string()),
            ("USHER__WORKER__CONCURRENCY", (CONNECTIONS * 6).to_string()),
        ]),
        ..Options::default()
    };
    let system = System::start(options).await?;
    let (mut below, mut ours) = (Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        below.push(bare(sink.port(), effort.time).await?);
        ours.push(invite(&system, &sink, round, mails).await?);
    }
    report.ratio("mails, 8 connections, against a bare SMTP client", &below, &ours, 0.7);
    report.memory("identity, after the mails", system.identity.id())?;
    let worker = system
        .workers
        .get(&Worker::Invitation)
        .context("the invitation worker")?;
    report.memory("invitation worker, after the mails", worker.id())
}

/// Mails a second of a client that does nothing else.
async fn bare(port: u16, time: Duration) -> Result<f64> {
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(port)
        .pool_config(PoolConfig::new().max_size(u32::try_from(CONNECTIONS)?))
        .build();
    let transport = Arc::new(transport);
    load::closed_loop(CONNECTIONS, time, move |number| {
        let transport = Arc::clone(&transport);
        async move {
            let message = Message::builder()
                .from("no-reply@usher.example".parse()?)
                .to(format!("floor-{number}@example.org").parse()?)
                .subject("You are invited")
                .body("A text of about the length of an invitation. ".repeat(40))?;
            transport.send(message).await?;
            Ok(())
        }
    })
    .await
}

/// Mails a second from the first to the last at the mail server.
async fn invite(system: &System, sink: &SmtpSink, round: usize, mails: usize) -> Result<f64> {
    let tenant = system
        .tenant(Tenant {
            no_reminders: true,
            ..Tenant::default()
        })
        .await?;
    let before = sink.counts().confirmed;
    let began = Instant::now();
    let clients = system.clients()?;
    for call in 0..mails.div_ceil(CALL) {
        let addresses: Vec<String> = (0..CALL)
            .map(|number| format!("r{round}-c{call}-{number}@example.org"))
            .collect();
        let request = InviteUsersRequest {
            tenant_id: tenant.clone(),
            addresses: addresses.join("\n"),
            ..InviteUsersRequest::default()
        };
        clients.invitations().invite_users(request).await?;
    }
    let sent = mails.div_ceil(CALL) * CALL;
    eventually("all mails", Duration::from_mins(3), async || {
        (sink.counts().confirmed >= before + sent).then_some(())
    })
    .await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of mails fit")]
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}
