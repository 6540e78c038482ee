//! K4: what stands around the API: health, reflection, gRPC-Web, limits, deadlines, metrics.

mod web;

use std::time::Duration;

use anyhow::{Context as _, Result};
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use url::Url;
use usher_proto::identity::v1::{
    CreateUserRequest, GetTenantRequest, GetTenantResponse, InviteUsersRequest, MutationOptions, Tenant, User,
};
use usher_tests::environment::postgres::Postgres;
use usher_tests::environment::processes::Process;
use usher_tests::environment::rabbitmq::Broker;
use usher_tests::environment::smtp_sink::SmtpSink;
use usher_tests::environment::{eventually, free_port};
use usher_tests::system::{AUDIT_KEY, Clients, LINK_KEY, Options, System, Worker, vars};

use self::web::Web;

const SOON: Duration = Duration::from_secs(20);
/// The one site that may call from a browser.
const ORIGIN: &str = "https://admin.example.org";
/// All services, and the server as a whole.
const SERVICES: [&str; 18] = [
    "",
    "usher.identity.v1.AccessService",
    "usher.identity.v1.ActivityService",
    "usher.identity.v1.AuditService",
    "usher.identity.v1.BulkService",
    "usher.identity.v1.DeliveryService",
    "usher.identity.v1.ErasureService",
    "usher.identity.v1.EventService",
    "usher.identity.v1.GroupService",
    "usher.identity.v1.InactivityService",
    "usher.identity.v1.InvitationService",
    "usher.identity.v1.RoleService",
    "usher.identity.v1.SeatService",
    "usher.identity.v1.TemplateService",
    "usher.identity.v1.TenantService",
    "usher.identity.v1.TransferService",
    "usher.identity.v1.UserService",
    "usher.identity.v1.WorkService",
];

fn channel(port: u16) -> Result<Channel> {
    Ok(Channel::from_shared(format!("http://127.0.0.1:{port}"))?.connect_lazy())
}

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

/// What each service says of itself; `None` until all say something.
async fn health(port: u16) -> Option<Vec<ServingStatus>> {
    let mut client = HealthClient::new(channel(port).ok()?);
    let mut all = Vec::new();
    for service in SERVICES {
        all.push(client.check(health_of(service)).await.ok()?.into_inner().status());
    }
    Some(all)
}

/// Passes connections on from a port where nobody listens yet.
async fn forward(from: u16, to: String) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", from)).await?;
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    Ok(())
}

/// K4: from the first moment on there is an answer, whatever is missing; and the last answer before the end is no.
#[tokio::test(flavor = "multi_thread")]
async fn health_says_no_until_the_database_answers_and_again_from_sigterm_on() -> Result<()> {
    let mut database = Url::parse(&Postgres::shared().await?.database().await?)?;
    let real = database
        .socket_addrs(|| None)?
        .first()
        .context("an address")?
        .to_string();
    let (missing, port) = (free_port()?, free_port()?);
    database.set_port(Some(missing)).ok().context("a URL with a port")?;
    let environment = vars([
        ("USHER__GRPC__LISTEN", format!("127.0.0.1:{port}")),
        ("USHER__DATABASE__URL", database.to_string()),
        ("USHER__BUS__URL", Broker::shared().await?.vhost().await?),
        ("USHER__LINKS__KEY", LINK_KEY.into()),
        ("USHER__AUDIT__KEY", AUDIT_KEY.into()),
    ]);
    let mut identity = Process::new("usher-identity", &[], environment)?;
    identity.spawn()?;
    let first = eventually("an answer without a database", SOON, async || health(port).await).await?;
    assert_eq!(first, [ServingStatus::NotServing; SERVICES.len()]);
    let refused = Clients::new(channel(port)?, "")
        .tenants()
        .get_tenant(GetTenantRequest::default())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.get_details_retry_info().is_some(), "{refused}");

    forward(missing, real).await?;
    identity.ready().await?;
    let ready = eventually("SERVING", SOON, async || {
        health(port).await.filter(|all| all[0] == ServingStatus::Serving)
    });
    assert_eq!(ready.await?, [ServingStatus::Serving; SERVICES.len()]);
    let mut client = HealthClient::new(channel(port)?);
    let unknown = client
        .check(health_of("usher.identity.v1.NoService"))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let mut watched = Vec::new();
    for service in SERVICES {
        let mut watch = client.watch(health_of(service)).await?.into_inner();
        let now = watch.message().await?.context("a first answer")?;
        assert_eq!(now.status(), ServingStatus::Serving, "{service}");
        watched.push(watch);
    }
    let told = async {
        for mut watch in watched {
            let last = tokio::time::timeout(SOON, watch.message())
                .await??
                .context("one more answer")?;
            assert_eq!(last.status(), ServingStatus::NotServing);
        }
        anyhow::Ok(())
    };
    let (ended, told) = tokio::join!(identity.terminate(SOON), told);
    told?;
    assert_eq!(ended?.code(), Some(0), "{}", identity.output());
    Ok(())
}

/// K4: one deployment for all that does not disturb each other.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_can_be_explored_called_from_browsers_bounded_and_measured() -> Result<()> {
    let sink = SmtpSink::start().await?;
    let system = System::start(Options {
        smtp_port: Some(sink.port()),
        identity: vars([("USHER__GRPC__ALLOWED_ORIGINS", ORIGIN.into())]),
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(Tenant::default()).await?;
    reflection(&system).await?;
    browsers(&system, &tenant).await?;
    limits(&system, &tenant).await?;
    deadlines(&system, &tenant).await?;
    metrics(&system, &tenant, &sink).await
}

/// Both versions, since older tools speak only v1alpha.
async fn reflection(system: &System) -> Result<()> {
    macro_rules! listed {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let asked = [
                MessageRequest::ListServices(String::new()),
                MessageRequest::FileContainingSymbol("usher.identity.v1.UserService.CreateUser".into()),
            ];
            let asked = asked.map(|question| ServerReflectionRequest {
                message_request: Some(question),
                ..ServerReflectionRequest::default()
            });
            let mut client = ServerReflectionClient::new(channel(system.port)?);
            let answers = client.server_reflection_info(tokio_stream::iter(asked)).await?;
            let mut answers = answers.into_inner();
            let first = answers.message().await?.and_then(|it| it.message_response);
            let Some(MessageResponse::ListServicesResponse(list)) = first else {
                anyhow::bail!("no list: {first:?}");
            };
            let second = answers.message().await?.and_then(|it| it.message_response);
            let Some(MessageResponse::FileDescriptorResponse(files)) = second else {
                anyhow::bail!("no file: {second:?}");
            };
            assert!(!files.file_descriptor_proto.is_empty());
            list.service.into_iter().map(|it| it.name).collect::<Vec<_>>()
        }};
    }
    for names in [listed!(v1), listed!(v1alpha)] {
        for service in SERVICES.iter().skip(1).chain(&["grpc.health.v1.Health"]) {
            assert!(
                names.iter().any(|name| name == service),
                "{service} is not in {names:?}"
            );
        }
    }
    Ok(())
}

async fn browsers(system: &System, tenant: &str) -> Result<()> {
    let web = Web::new(system.port);
    let method = "usher.identity.v1.TenantService/GetTenant";
    let question = GetTenantRequest {
        tenant_id: tenant.into(),
    };
    let answer = web.call(method, &question, &[("Origin", ORIGIN)]).await?;
    assert_eq!(
        (answer.http_status, answer.grpc_status()),
        (200, Some("0")),
        "{answer:?}"
    );
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
    assert!(exposed.contains("grpc-status-details-bin"), "{exposed}");
    let got = GetTenantResponse::decode(answer.message.context("a message")?.as_slice())?;
    assert_eq!(got.tenant.map(|it| it.tenant_id).as_deref(), Some(tenant));

    let refused = web
        .call(method, &GetTenantRequest::default(), &[("Origin", ORIGIN)])
        .await?;
    assert_eq!(
        (refused.http_status, refused.grpc_status()),
        (200, Some("3")),
        "{refused:?}"
    );
    assert!(refused.trailer("grpc-status-details-bin").is_some(), "{refused:?}");

    let foreign = web
        .call(method, &question, &[("Origin", "https://evil.example")])
        .await?;
    assert_eq!(foreign.header("access-control-allow-origin"), None);

    let allowed = web.preflight(method, ORIGIN).await?;
    assert_eq!(allowed.header("access-control-allow-origin"), Some(ORIGIN));
    assert!(
        allowed
            .header("access-control-allow-methods")
            .is_some_and(|it| it.contains("POST"))
    );
    let headers = allowed.header("access-control-allow-headers").unwrap_or_default();
    for header in ["content-type", "x-grpc-web", "usher-actor-id", "grpc-timeout"] {
        assert!(headers.contains(header), "{header} is not in {headers}");
    }
    let refused = web.preflight(method, "https://evil.example").await?;
    assert_eq!(refused.header("access-control-allow-origin"), None);
    Ok(())
}

/// A request that is too large is refused, and the connection goes on.
async fn limits(system: &System, tenant: &str) -> Result<()> {
    let mut invitations = system.clients()?.invitations();
    let huge = InviteUsersRequest {
        tenant_id: tenant.into(),
        addresses: "x".repeat(5 << 20),
        ..InviteUsersRequest::default()
    };
    let refused = invitations.invite_users(huge).await.unwrap_err();
    assert!(
        matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{refused:?}"
    );
    assert!(refused.message().contains("4194304"), "it names the limit: {refused:?}");
    let small = InviteUsersRequest {
        tenant_id: tenant.into(),
        addresses: "after@example.org".into(),
        options: Some(MutationOptions {
            validate_only: true,
            ..MutationOptions::default()
        }),
        ..InviteUsersRequest::default()
    };
    assert_eq!(invitations.invite_users(small).await?.into_inner().invited_count, 1);
    Ok(())
}

/// The server itself answers in time, and what it had begun is whole, done or not done.
async fn deadlines(system: &System, tenant: &str) -> Result<()> {
    let create = CreateUserRequest {
        tenant_id: tenant.into(),
        user: Some(User {
            email: "late@example.org".into(),
            ..User::default()
        }),
        options: Some(MutationOptions {
            request_id: "late".into(),
            ..MutationOptions::default()
        }),
        ..CreateUserRequest::default()
    };
    let method = "usher.identity.v1.UserService/CreateUser";
    let late = Web::new(system.port)
        .call(method, &create, &[("grpc-timeout", "1m")])
        .await?;
    assert_eq!(late.grpc_status(), Some("4"), "DEADLINE_EXCEEDED: {late:?}");
    assert!(
        late.grpc_message().unwrap_or_default().contains("request_id"),
        "{late:?}"
    );
    let mut request = Request::new(create);
    request.set_timeout(SOON);
    let user = system.clients()?.users().create_user(request).await?.into_inner().user;
    assert_eq!(user.context("a user")?.version, 1);
    Ok(())
}

/// Every figure that operators were promised.
async fn metrics(system: &System, tenant: &str, sink: &SmtpSink) -> Result<()> {
    let invite = InviteUsersRequest {
        tenant_id: tenant.into(),
        addresses: "ana@example.org".into(),
        ..InviteUsersRequest::default()
    };
    system.clients()?.invitations().invite_users(invite).await?;
    eventually("a mail", SOON, async || sink.received_by("ana@example.org").pop()).await?;
    let promised = [
        r#"usher_rpc_total{method="InvitationService/InviteUsers",code="0"}"#,
        r#"usher_rpc_total{method="UserService/CreateUser",code="4"}"#,
        r#"usher_rpc_total{method="TenantService/GetTenant",code="3"}"#,
        r#"usher_rpc_seconds_bucket{method="InvitationService/InviteUsers""#,
        "usher_outbox_depth ",
        "usher_outbox_age_seconds ",
        "usher_outbox_published_total ",
        "usher_timers_overdue ",
        r#"usher_deliveries{state="QUEUED"}"#,
        r#"usher_deliveries{state="TRANSMITTING"}"#,
        r#"usher_deliveries{state="UNCERTAIN"}"#,
        r#"usher_ready{condition="database"} 1"#,
        r#"usher_ready{condition="bus"} 1"#,
    ];
    assert_shown(&system.identity.metrics().await?, &promised);
    let worker = &system.workers[&Worker::Invitation];
    let idle = r#"usher_worker_in_flight{worker="invitation"} 0"#;
    let shown = eventually("no work left", SOON, async || {
        let shown = worker.metrics().await.ok()?;
        shown.contains(idle).then_some(shown)
    });
    let promised = [
        r#"usher_worker_messages_total{worker="invitation",result="done"} 1"#,
        r#"usher_mail_sends_total{outcome="sent"} 1"#,
    ];
    assert_shown(&shown.await?, &promised);
    Ok(())
}

fn assert_shown(metrics: &str, promised: &[&str]) {
    for line in promised {
        assert!(
            metrics.lines().any(|it| it.starts_with(line)),
            "no {line} in\n{metrics}"
        );
    }
}
