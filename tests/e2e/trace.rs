//! K5: one trace from the caller's RPC through transaction, outbox, broker, worker and mail, and back.

mod collector;

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use tonic::Request;
use usher_proto::identity::v1::{CreateUserRequest, InviteUsersRequest, Tenant, User};
use usher_tests::environment::eventually;
use usher_tests::environment::smtp_sink::{Behaviour, SmtpSink};
use usher_tests::system::{Options, System, Worker, vars};

use self::collector::{Collector, Recorded, hex};

const SOON: Duration = Duration::from_secs(20);
const IDENTITY: &str = "usher-identity";
const WORKER: &str = "usher-worker-invitation";
/// The span of whoever calls Usher.
const CALLER: &str = "b7ad6b7169203331";

/// The trace of a call, by a number that no other call has.
fn trace(number: u32) -> String {
    format!("0af7651916cd43dd8448eb21{number:08x}")
}

/// A request that is part of a recorded trace.
fn traced<T>(trace: &str, body: T) -> Result<Request<T>> {
    let mut request = Request::new(body);
    let parent = format!("00-{trace}-{CALLER}-01").parse()?;
    request.metadata_mut().insert("traceparent", parent);
    Ok(request)
}

fn invite(tenant: &str, addresses: &str) -> InviteUsersRequest {
    InviteUsersRequest {
        tenant_id: tenant.into(),
        addresses: addresses.into(),
        ..InviteUsersRequest::default()
    }
}

/// The spans of a process with a name.
fn named<'a>(spans: &'a [Recorded], process: &str, name: &str) -> Vec<&'a Recorded> {
    let wanted = |it: &&Recorded| it.process == process && it.span.name == name;
    spans.iter().filter(wanted).collect()
}

/// The one span of a process with a name.
fn one<'a>(spans: &'a [Recorded], process: &str, name: &str) -> &'a Recorded {
    let found = named(spans, process, name);
    assert_eq!(found.len(), 1, "{process} {name}: {:#?}", names(spans));
    found[0]
}

fn names(spans: &[Recorded]) -> Vec<String> {
    spans
        .iter()
        .map(|it| format!("{} {}", it.process, it.span.name))
        .collect()
}

fn assert_parent(child: &Recorded, parent: &Recorded) {
    let names = (&child.span.name, &parent.span.name);
    assert_eq!(child.span.parent_span_id, parent.span.span_id, "{names:?}");
}

/// K5: with every process logging nothing but warnings, since what is logged is no matter to what is traced.
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_call_to_the_mail_and_back_and_log_lines_tell_it() -> Result<()> {
    let (collector, url) = Collector::start().await?;
    let sink = SmtpSink::start().await?;
    let telemetry = vars([
        ("USHER__TELEMETRY__OTLP_ENDPOINT", url),
        ("USHER__LOG__FORMAT", "json".into()),
        ("USHER__LOG__LEVEL", "warn".into()),
        // How often spans are sent: OpenTelemetry's own variable.
        ("OTEL_BSP_SCHEDULE_DELAY", "200".into()),
    ]);
    let mut system = System::start(Options {
        smtp_port: Some(sink.port()),
        identity: telemetry.clone(),
        workers: telemetry,
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(Tenant::default()).await?;

    through_to_the_mail(&system, &collector, &tenant).await?;
    log_lines(&system, &collector, &sink, &tenant).await?;
    gathered(&system, &collector, &tenant).await?;
    redelivered(&mut system, &collector, &sink, &tenant).await
}

async fn through_to_the_mail(system: &System, collector: &Collector, tenant: &str) -> Result<()> {
    let trace = trace(1);
    let request = traced(&trace, invite(tenant, "ana@example.org"))?;
    system.clients()?.invitations().invite_users(request).await?;

    let finish = "rpc.WorkService/FinishDelivery";
    let spans = eventually("the end of the trace", SOON, async || {
        let spans = collector.trace(&trace);
        let ended = !named(&spans, WORKER, "job.invitation").is_empty();
        // What the end of the mail brought about is published, too.
        let published = named(&spans, IDENTITY, "outbox.publish");
        let told = published.iter().any(|it| it.attribute("kind") == "invitation.sent");
        let finished = !named(&spans, IDENTITY, finish).is_empty();
        (ended && told && finished).then_some(spans)
    });
    let spans = spans
        .await
        .with_context(|| format!("{:#?}", names(&collector.trace(&trace))))?;

    let call = one(&spans, IDENTITY, "rpc.InvitationService/InviteUsers");
    assert_eq!(hex(&call.span.parent_span_id), CALLER);
    let transactions = named(&spans, IDENTITY, "db.transaction");
    let of_call = transactions
        .iter()
        .filter(|it| it.span.parent_span_id == call.span.span_id);
    assert_eq!(of_call.count(), 1);
    let due = named(&spans, IDENTITY, "outbox.publish");
    let due = due.into_iter().find(|it| it.attribute("kind") == "invitation.due");
    assert_parent(due.context("the publish of the call to work")?, call);

    let job = one(&spans, WORKER, "job.invitation");
    assert_parent(job, call);
    let send = one(&spans, WORKER, "mail.send");
    assert_parent(send, job);
    assert_eq!(send.attribute("outcome"), "sent");
    for (method, parent) in [
        ("BeginDelivery", job),
        ("ReportTransmitting", send),
        ("FinishDelivery", job),
    ] {
        let asked = one(&spans, WORKER, &format!("usher.identity.v1.WorkService/{method}"));
        assert_parent(asked, parent);
        let answered = one(&spans, IDENTITY, &format!("rpc.WorkService/{method}"));
        assert_parent(answered, asked);
        let written = transactions
            .iter()
            .filter(|it| it.span.parent_span_id == answered.span.span_id);
        assert_eq!(written.count(), 1, "{method}");
    }
    let quoted = spans
        .iter()
        .any(|it| format!("{:?}", it.span).contains("ana@example.org"));
    assert!(!quoted, "no span carries an address");
    Ok(())
}

async fn log_lines(system: &System, collector: &Collector, sink: &SmtpSink, tenant: &str) -> Result<()> {
    let trace = trace(2);
    let (code, text) = (450, "4.2.1 later".into());
    sink.script("ben@example.org", [Behaviour::RefuseRecipient { code, text }]);
    let request = traced(&trace, invite(tenant, "ben@example.org"))?;
    system.clients()?.invitations().invite_users(request).await?;

    let line = eventually("the line at the collector", SOON, async || {
        collector.lines(&trace).pop()
    })
    .await?;
    assert_eq!(
        (line.process.as_str(), line.text.as_str()),
        (WORKER, "the mail was not taken")
    );
    let output = system.workers[&Worker::Invitation].output();
    let lines = output.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines = lines
        .collect::<Result<Vec<_>, _>>()
        .context("each line is one JSON object")?;
    let line = lines.iter().find(|line| line["message"] == "the mail was not taken");
    let line = line.context("the line on standard error")?;
    assert_eq!(line["trace_id"], trace);
    assert!(line["span_id"].as_str().is_some_and(|id| id.len() == 16));
    Ok(())
}

/// Calls that share a transaction each show it in their own trace, and lead to the one that they shared.
async fn gathered(system: &System, collector: &Collector, tenant: &str) -> Result<()> {
    let numbers = 100..164;
    let users = system.clients()?.users();
    let create = |number: u32| {
        let mut users = users.clone();
        let user = Some(User {
            email: format!("person{number}@example.org"),
            ..User::default()
        });
        let body = CreateUserRequest {
            tenant_id: tenant.into(),
            user,
            ..CreateUserRequest::default()
        };
        async move { anyhow::Ok(users.create_user(traced(&trace(number), body)?).await?) }
    };
    try_join_all(numbers.clone().map(create)).await?;

    let traces = eventually("all transactions", SOON, async || {
        let traces: Vec<_> = numbers.clone().map(|number| collector.trace(&trace(number))).collect();
        let complete = |spans: &Vec<Recorded>| {
            !named(spans, IDENTITY, "rpc.UserService/CreateUser").is_empty()
                && !named(spans, IDENTITY, "outbox.publish").is_empty()
        };
        traces.iter().all(complete).then_some(traces)
    })
    .await?;
    let mut shared = 0;
    for spans in &traces {
        let call = one(spans, IDENTITY, "rpc.UserService/CreateUser");
        let transaction = one(spans, IDENTITY, "db.transaction");
        assert_parent(transaction, call);
        let calls: usize = transaction.attribute("calls").parse()?;
        assert_eq!(transaction.span.links.len(), usize::from(calls > 1));
        shared += usize::from(calls > 1);
        for link in &transaction.span.links {
            // Its parts end, and may come in, before it.
            let batch = eventually("the shared transaction", SOON, async || {
                let spans = collector.trace(&hex(&link.trace_id));
                spans.into_iter().find(|it| it.span.name == "db.transaction")
            })
            .await?;
            assert_eq!(
                (batch.span.links.len(), batch.attribute("calls")),
                (calls, calls.to_string())
            );
        }
    }
    assert!(shared > 0, "64 calls at once did not share a transaction");
    Ok(())
}

/// A message that a worker lost half-way is worked on in a trace of its own, which links to that of the call.
async fn redelivered(system: &mut System, collector: &Collector, sink: &SmtpSink, tenant: &str) -> Result<()> {
    let trace = trace(3);
    let address = "cleo@example.org";
    sink.script(address, [Behaviour::ConfirmAfter(Duration::from_mins(1))]);
    let request = traced(&trace, invite(tenant, address))?;
    system.clients()?.invitations().invite_users(request).await?;
    eventually("the mail in the middle of its way", SOON, async || {
        sink.received_by(address).pop()
    })
    .await?;
    let worker = system.workers.get_mut(&Worker::Invitation).context("a worker")?;
    worker.restart().await?;

    let job = eventually("the second run", SOON, async || {
        let linked = collector.linked_to(&trace);
        linked.into_iter().find(|it| it.span.name == "job.invitation")
    })
    .await?;
    assert_ne!(hex(&job.span.trace_id), trace);
    assert_eq!(job.attribute("result"), "done");
    let jobs = named(&collector.trace(&trace), WORKER, "job.invitation").len();
    assert_eq!(jobs, 0, "the first run was killed before it could tell");
    assert_eq!(sink.received_by(address).len(), 1, "B12");
    Ok(())
}
