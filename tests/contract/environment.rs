//! The throwaway servers answer.

use anyhow::Result;
use lettre::message::MultiPart;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use usher_tests::environment::eventually;
use usher_tests::environment::mta::Mta;
use usher_tests::environment::postgres::Postgres;
use usher_tests::environment::rabbitmq::Broker;
use usher_tests::environment::smtp_sink::{Behaviour, Counts, SmtpSink};

#[tokio::test]
async fn a_fresh_database_answers_and_differs_from_the_next() -> Result<()> {
    let server = Postgres::shared().await?;
    let (first, second) = (server.database().await?, server.database().await?);
    assert_ne!(first, second);
    let mut connection = PgConnection::connect(&first).await?;
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut connection)
        .await?;
    assert!(version >= 150_000, "PostgreSQL 15 or newer, not {version}");
    Ok(())
}

#[tokio::test]
async fn a_fresh_virtual_host_answers() -> Result<()> {
    let url = Broker::shared().await?.vhost().await?;
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await?;
    connection.create_channel().await?;
    Ok(())
}

fn mail(to: &str, text: &str) -> Result<Message> {
    let mail = Message::builder()
        .from("Usher <usher@example.test>".parse()?)
        .to(to.parse()?)
        .message_id(Some(format!("<{to}.1>")))
        .subject("Welcome, Zoë")
        .multipart(MultiPart::alternative_plain_html(
            text.to_owned(),
            "<p>Ça va?</p>".to_owned(),
        ))?;
    Ok(mail)
}

fn sender(port: u16) -> AsyncSmtpTransport<Tokio1Executor> {
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(port)
        .build()
}

#[tokio::test]
async fn the_mail_server_delivers_into_a_mailbox_on_disk() -> Result<()> {
    let mta = Mta::start().await?;
    let sender = sender(mta.port());
    for number in 0..20 {
        sender
            .send(mail(&format!("person{number}@school.test"), "Hello.\n.\nA dot alone.")?)
            .await?;
    }
    let mails = eventually("20 mails", Duration::from_secs(20), async || {
        let all = mta.all().ok()?;
        (all.len() == 20).then_some(all)
    })
    .await?;
    assert!(mails.iter().all(|mail| mail.subject == "Welcome, Zoë"));
    let one = mta.mailbox("person7@school.test")?;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].message_id, "person7@school.test.1");
    assert_eq!(one[0].to, "person7@school.test");
    assert!(one[0].text.contains("Hello.\n.\nA dot alone."), "{:?}", one[0].text);
    assert!(one[0].html.contains("Ça va?"), "{:?}", one[0].html);
    let refused = sender.send(mail("unknown@school.test", "Hello.")?).await.unwrap_err();
    assert!(refused.is_permanent());
    Ok(())
}

#[tokio::test]
async fn the_smtp_sink_does_what_it_is_told() -> Result<()> {
    let sink = SmtpSink::start().await?;
    let to = "anna@school.test";
    let text = || "busy".to_owned();
    sink.script(
        to,
        [
            Behaviour::RefuseRecipient {
                code: 450,
                text: text(),
            },
            Behaviour::RefuseData {
                code: 451,
                text: text(),
            },
            Behaviour::RefuseContent {
                code: 554,
                text: text(),
            },
            Behaviour::HangUpBeforeGoAhead,
            Behaviour::HangUpAfterGoAhead,
            Behaviour::HangUpAfterDot,
            Behaviour::ConfirmAfter(Duration::from_millis(1)),
        ],
    );
    let mut outcomes = Vec::new();
    for _ in 0..8 {
        // A connection of its own for each, as one that was hung up is of no use to the next.
        let sent = sender(sink.port()).send(mail(to, ".start\n.")?).await;
        outcomes.push(match sent {
            Ok(_) => "sent",
            Err(error) if error.is_transient() => "transient",
            Err(error) if error.is_permanent() => "permanent",
            Err(_) => "broken",
        });
    }
    assert_eq!(
        outcomes,
        [
            "transient",
            "transient",
            "permanent",
            "broken",
            "broken",
            "broken",
            "sent",
            "sent"
        ]
    );
    assert_eq!(
        sink.counts(),
        Counts {
            connections: 8,
            recipients: 8,
            received: 4,
            confirmed: 2
        }
    );
    let received = sink.received_by(to);
    assert_eq!(
        received.iter().map(|mail| mail.confirmed).collect::<Vec<_>>(),
        [false, false, true, true]
    );
    assert!(received.iter().all(|mail| mail.message_id == "anna@school.test.1"));
    assert!(received[0].parsed().is_some_and(|mail| mail.text.contains(".start\n.")));

    sink.refuse_connections(Some("4.3.2 closed for today"));
    assert!(
        sender(sink.port())
            .send(mail(to, "x")?)
            .await
            .unwrap_err()
            .is_transient()
    );
    Ok(())
}
