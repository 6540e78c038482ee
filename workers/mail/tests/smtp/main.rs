//! The SMTP dialogue, against a server that does what a test tells it to. What counts: an outcome never says that a mail
//! did not go out when it may have, and never the reverse (B12).

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use usher_mail::{
    Mail, Phase, Progress, Refused, SendOutcome, SmtpConfig, SmtpTransport, StartTls, Timeouts, Transport,
};

use self::server::{Act, At, Server};

/// Answers, and counts how often it was asked.
struct Told {
    answer: Result<(), Refused>,
    asked: AtomicU32,
}

impl Told {
    fn new(answer: Result<(), Refused>) -> Self {
        Self {
            answer,
            asked: AtomicU32::new(0),
        }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Progress for Told {
    async fn transmitting(&self) -> Result<(), Refused> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answer
    }
}

fn transport(server: &Server, connections: usize) -> SmtpTransport {
    let config = SmtpConfig {
        url: server.url.clone().try_into().unwrap(),
        starttls: StartTls::Auto,
        hello_name: "worker.example".into(),
        connections,
    };
    SmtpTransport::try_new(&config).unwrap()
}

fn mail() -> Mail {
    Mail {
        from_address: "no-reply@school.example".into(),
        from_name: "School".into(),
        reply_to: String::new(),
        unsubscribe_url: String::new(),
        to_address: "ana@example.org".into(),
        to_name: "Ana".into(),
        message_id: "0192ab@usher.example".into(),
        subject: "Hello".into(),
        text: "Hello\n.\n.a line that begins with a dot\n".into(),
        html: "<p>Hello</p>\n".into(),
        language: "en".into(),
        date: SystemTime::UNIX_EPOCH,
    }
}

/// Sends one mail to a server that acts so, and answers the outcome, what was asked, and the server.
async fn send_when(at: At, act: Act) -> (SendOutcome, u32, Server) {
    let server = Server::start().await.when(at, act);
    let progress = Told::new(Ok(()));
    let outcome = transport(&server, 1).send(&mail(), &progress).await;
    (outcome, progress.asked(), server)
}

#[tokio::test]
async fn a_mail_is_sent_with_its_dots_and_the_answer_is_kept() {
    let server = Server::start().await;
    let progress = Told::new(Ok(()));
    let outcome = transport(&server, 1).send(&mail(), &progress).await;
    assert_eq!(
        outcome,
        SendOutcome::Sent {
            code: 250,
            response: "250 2.0.0 Ok: queued as 7".into()
        }
    );
    assert_eq!(progress.asked(), 1);
    server.seen(|seen| {
        assert_eq!(
            seen.commands,
            [
                "EHLO worker.example",
                "MAIL FROM:<no-reply@school.example>",
                "RCPT TO:<ana@example.org>",
                "DATA",
            ]
        );
        assert!(
            seen.mails[0].contains("\r\n..\r\n..a line that begins with a dot\r\n"),
            "{}",
            seen.mails[0]
        );
    });
}

#[tokio::test]
async fn a_refusal_says_in_which_phase_it_came_and_whether_for_good() {
    let refusals = [
        (At::Mail, "451 4.3.0 later", Phase::Mail),
        (At::Mail, "550 5.7.1 not you", Phase::Mail),
        (At::Rcpt, "450 4.2.1 busy", Phase::Recipient),
        (At::Rcpt, "550 5.1.1 unknown", Phase::Recipient),
        (At::Data, "451 4.3.0 later", Phase::Data),
        (At::Data, "554 5.5.1 no", Phase::Data),
        (At::Dot, "452 4.3.1 full", Phase::Content),
        (At::Dot, "554 5.7.1 spam", Phase::Content),
    ];
    for (at, answer, phase) in refusals {
        let (outcome, asked, server) = send_when(at, Act::Say(answer)).await;
        let (code, response) = (answer[..3].parse().unwrap(), answer.to_owned());
        let expected = if code < 500 {
            SendOutcome::Deferred { phase, code, response }
        } else {
            SendOutcome::Failed { phase, code, response }
        };
        assert_eq!(outcome, expected);
        assert_eq!(asked, u32::from(at == At::Dot), "{answer}");
        assert!(server.seen(|seen| seen.mails.is_empty()));
    }
}

/// B12: before the content nothing can have gone out, so it is tried again.
#[tokio::test]
async fn a_connection_that_breaks_before_the_content_defers_the_mail() {
    for (at, phase) in [
        (At::Mail, Phase::Mail),
        (At::Rcpt, Phase::Recipient),
        (At::Data, Phase::Data),
    ] {
        let (outcome, asked, _) = send_when(at, Act::HangUp).await;
        assert!(
            matches!(outcome, SendOutcome::Deferred { phase: told, code: 0, .. } if told == phase),
            "{outcome:?}"
        );
        assert_eq!(asked, 0);
    }
}

/// B12: from the first octet of the content on, nobody can know.
#[tokio::test]
async fn a_connection_that_breaks_after_the_354_or_after_the_dot_leaves_it_uncertain() {
    for at in [At::Content, At::Dot] {
        let (outcome, asked, _) = send_when(at, Act::HangUp).await;
        assert!(matches!(outcome, SendOutcome::Uncertain { .. }), "{outcome:?}");
        assert_eq!(asked, 1);
    }
}

#[tokio::test]
async fn an_answer_to_the_dot_that_makes_no_sense_leaves_it_uncertain() {
    for answer in ["354 go on", "what?"] {
        let (outcome, ..) = send_when(At::Dot, Act::Say(answer)).await;
        assert!(matches!(outcome, SendOutcome::Uncertain { .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_data_that_is_not_answered_by_354_sends_no_content() {
    let (outcome, asked, server) = send_when(At::Data, Act::Say("250 Ok")).await;
    assert!(
        matches!(outcome, SendOutcome::Deferred { phase: Phase::Data, .. }),
        "{outcome:?}"
    );
    assert_eq!(asked, 0);
    assert_eq!(server.seen(|seen| seen.content_octets), 0);
}

#[tokio::test]
async fn a_mail_that_must_not_be_sent_sends_no_octet_after_the_354() {
    let server = Server::start().await;
    let outcome = transport(&server, 1).send(&mail(), &Told::new(Err(Refused))).await;
    assert_eq!(outcome, SendOutcome::Withheld);
    while server.seen(|seen| seen.open) > 0 {
        tokio::task::yield_now().await;
    }
    server.seen(|seen| {
        assert_eq!(seen.content_octets, 0);
        assert!(seen.mails.is_empty());
        assert!(
            !seen.commands.iter().any(|command| command == "QUIT"),
            "{:?}",
            seen.commands
        );
    });
}

#[tokio::test]
async fn a_server_that_does_not_greet_or_refuses_at_once_is_unreachable() {
    for (at, act) in [
        (At::Greeting, Act::HangUp),
        (At::Greeting, Act::Say("421 4.3.2 closing")),
        (At::Greeting, Act::Say("554 5.3.2 no service")),
        (At::Ehlo, Act::Say("421 4.3.2 closing")),
        (At::Mail, Act::Say("530 5.7.0 sign in first")),
    ] {
        let (outcome, asked, _) = send_when(at, act).await;
        assert!(matches!(outcome, SendOutcome::Unreachable { .. }), "{outcome:?}");
        assert_eq!(asked, 0);
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable_and_does_not_tell_the_password() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let config = SmtpConfig {
        url: format!("smtp://user:hunter2@127.0.0.1:{port}").try_into().unwrap(),
        starttls: StartTls::Auto,
        hello_name: String::new(),
        connections: 1,
    };
    let transport = SmtpTransport::try_new(&config).unwrap();
    let SendOutcome::Unreachable { response } = transport.send(&mail(), &Told::new(Ok(()))).await else {
        panic!("reached nobody");
    };
    assert!(
        response.contains(&port.to_string()) && !response.contains("hunter2"),
        "{response}"
    );
}

#[tokio::test]
async fn each_step_has_a_limit_of_time() {
    let short = Timeouts {
        wait: Duration::from_millis(50),
        connect: Duration::from_millis(50),
        command: Duration::from_millis(50),
        data: Duration::from_millis(50),
        content: Duration::from_millis(50),
    };
    for (at, expected) in [
        (At::Greeting, "unreachable"),
        (At::Mail, "deferred"),
        (At::Rcpt, "deferred"),
        (At::Data, "deferred"),
        (At::Dot, "uncertain"),
    ] {
        let server = Server::start().await.when(at, Act::FallSilent);
        let transport = transport(&server, 1).with_timeouts(short);
        assert_eq!(
            transport.send(&mail(), &Told::new(Ok(()))).await.name(),
            expected,
            "{at:?}"
        );
    }
}

#[tokio::test]
async fn mails_share_a_connection_and_after_a_refusal_the_server_is_told_to_forget() {
    let server = Server::start().await.when(At::Rcpt, Act::Say("550 5.1.1 unknown"));
    let transport = transport(&server, 4);
    for expected in ["failed", "sent", "sent"] {
        assert_eq!(transport.send(&mail(), &Told::new(Ok(()))).await.name(), expected);
    }
    server.seen(|seen| {
        assert_eq!(seen.connections, 1);
        let resets: Vec<_> = seen
            .commands
            .iter()
            .enumerate()
            .filter(|(_, command)| *command == "RSET")
            .collect();
        assert_eq!(resets, [(3, &"RSET".to_owned())]);
    });
    transport.close().await;
    assert_eq!(
        server.seen(|seen| seen.commands.last().cloned()),
        Some("QUIT".to_owned())
    );
}

#[tokio::test]
async fn an_idle_connection_that_died_is_replaced_without_a_word_about_the_mail() {
    for act in [Act::HangUp, Act::Say("421 4.4.2 idle for too long")] {
        let server = Server::start().await;
        let transport = transport(&server, 1);
        assert_eq!(transport.send(&mail(), &Told::new(Ok(()))).await.name(), "sent");
        let server = server.when(At::Mail, act);
        assert_eq!(transport.send(&mail(), &Told::new(Ok(()))).await.name(), "sent");
        server.seen(|seen| assert_eq!((seen.connections, seen.mails.len()), (2, 2)));
    }
}

#[tokio::test]
async fn there_are_never_more_connections_than_allowed_and_each_carries_at_most_100_mails() {
    let server = Server::start().await;
    let transport = Arc::new(transport(&server, 3));
    let sending: Vec<_> = (0..450)
        .map(|_| {
            let transport = transport.clone();
            tokio::spawn(async move { transport.send(&mail(), &Told::new(Ok(()))).await.name() })
        })
        .collect();
    for sending in sending {
        assert_eq!(sending.await.unwrap(), "sent");
    }
    server.seen(|seen| {
        assert_eq!(seen.mails.len(), 450);
        assert!((5..=8).contains(&seen.connections), "{} connections", seen.connections);
        // One that takes leave may overlap with its successor.
        assert!(seen.most_open <= 3 + 3, "{} at a time", seen.most_open);
    });
}

#[tokio::test]
async fn a_mail_that_waits_too_long_for_a_connection_costs_no_attempt() {
    let server = Server::start().await.when(At::Dot, Act::FallSilent);
    let timeouts = Timeouts {
        wait: Duration::from_millis(20),
        ..Timeouts::default()
    };
    let transport = Arc::new(transport(&server, 1).with_timeouts(timeouts));
    let first = tokio::spawn({
        let transport = transport.clone();
        async move { transport.send(&mail(), &Told::new(Ok(()))).await }
    });
    while server.seen(|seen| seen.content_octets) == 0 {
        tokio::task::yield_now().await;
    }
    let second = transport.send(&mail(), &Told::new(Ok(()))).await;
    assert_eq!(
        second,
        SendOutcome::Unreachable {
            response: "no connection became free within 0 s".into()
        }
    );
    first.abort();
}

#[tokio::test]
async fn after_three_failures_to_reach_the_server_mails_have_to_wait() {
    let server = (0..3).fold(Server::start().await, |server, _| {
        server.when(At::Greeting, Act::HangUp)
    });
    let transport = transport(&server, 1);
    transport.ready().await;
    for _ in 0..3 {
        assert_eq!(transport.send(&mail(), &Told::new(Ok(()))).await.name(), "unreachable");
    }
    // When it looks again is tested with the breaker, on a clock that can be moved.
    assert!(tokio::time::timeout(Duration::ZERO, transport.ready()).await.is_err());
}
