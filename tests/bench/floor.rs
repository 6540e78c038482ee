//! The floors: pgbench, a bare tonic echo, a bare lapin publisher, a bare SMTP client.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use usher_proto::identity::v1::tenant_service_server::{TenantService, TenantServiceServer};
use usher_proto::identity::v1::{
    CreateTenantRequest, CreateTenantResponse, GetTenantRequest, GetTenantResponse, PauseMailRequest,
    PauseMailResponse, ResumeMailRequest, ResumeMailResponse, Tenant, UpdateTenantRequest, UpdateTenantResponse,
};

/// The transaction of a CreateUser, statement by statement, for one user: what the service sends, without gathering.
const CREATE_USER: &str = "
\\set n random(1, 1000000000)
BEGIN;
SELECT t.tenant_id, t.version, t.settings, t.created_at FROM tenants t WHERE t.tenant_id = ':tenant';
SELECT u.tenant_id, u.user_id FROM users u WHERE u.tenant_id = ':tenant' AND u.email_key = md5(:n::text) || '@example.org' AND u.status <> 'ERASED' FOR UPDATE;
SELECT s.email_key FROM suppressions s WHERE s.tenant_id = ':tenant' AND s.email_key = md5(:n::text) || '@example.org';
INSERT INTO users (tenant_id, user_id, version, email, email_key, external_id, first_name, last_name, language, labels, name_key, search_key, status, restores, restores_then, status_since, expires_at, credential, password_hash, password_generation, created_at, updated_at, activated_at)
  VALUES (':tenant', gen_random_uuid(), 1, 'Someone@example.org', gen_random_uuid() || '@example.org', NULL, 'Some', 'One', '', '[]', md5(:n::text), md5(:n::text), 'PENDING', NULL, NULL, now(), NULL, 'NONE', NULL, 0, now(), now(), NULL);
INSERT INTO history (tenant_id, user_id, event_type, occurred_at, body) VALUES (':tenant', gen_random_uuid(), 'user.created', now(), ':body');
INSERT INTO outbox (tenant_id, user_id, event_id, event_type, lane, body, occurred_at) VALUES (':tenant', gen_random_uuid(), gen_random_uuid(), 'user.created', 1, ':body', now());
INSERT INTO audit (tenant_id, audit_id, occurred_at, actor, caller, method, permission, outcome, subject_id, reason, request_id, details, salt, digest)
  VALUES (':tenant', gen_random_uuid(), now(), 'anonymous', 'usher-bench', 'UserService/CreateUser', 'users.create', 'OK', gen_random_uuid(), '', '', ':body', decode(md5(:n::text), 'hex'), decode(md5(:n::text) || md5(:n::text), 'hex'));
INSERT INTO audit_links (tenant_id, audit_id, code) VALUES (':tenant', gen_random_uuid(), decode('01' || md5(:n::text) || md5(:n::text), 'hex'));
COMMIT;
";

/// Transactions a second of the same statements by pgbench, which prepares them once, in a database of its own.
pub(crate) fn pgbench(database_url: &str, tenant: &str, clients: usize, time: Duration) -> Result<f64> {
    // As long as an event's; a colon before a digit would be taken for a variable.
    let body = r#"{"id": "0197b6a0-0000-7000-8000-000000000000", "type": "user.created", "tenant": "0197b6a0-0000-7000-8000-000000000000", "user": "0197b6a0-0000-7000-8000-000000000000", "user_version": 1, "at": "2026-01-01T00-00-00.000000Z", "to": "pending", "actor": "anonymous"}"#;
    let script = CREATE_USER.replace(":tenant", tenant).replace(":body", body);
    let path = std::env::temp_dir().join(format!("usher-bench-{}.sql", std::process::id()));
    std::fs::write(&path, script)?;
    let output = Command::new(program("pgbench")?)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", time.as_secs().max(1)))
        .arg(format!("--file={}", path.display()))
        .arg(database_url)
        .stdin(Stdio::null())
        .output()
        .context("pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("tps = "));
    let Some(line) = line.filter(|_| output.status.success()) else {
        bail!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    Ok(line.split_whitespace().nth(2).context("a figure")?.parse()?)
}

fn program(name: &str) -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path)
        .chain(folders)
        .map(|folder| folder.join(name));
    candidates
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is missing: apt-get install postgresql-contrib"))
}

/// A service that answers what it was given.
struct Echo;

#[tonic::async_trait]
impl TenantService for Echo {
    async fn create_tenant(&self, _: Request<CreateTenantRequest>) -> Result<Response<CreateTenantResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<GetTenantResponse>, Status> {
        let tenant = Tenant {
            tenant_id: request.into_inner().tenant_id,
            ..Tenant::default()
        };
        Ok(Response::new(GetTenantResponse { tenant: Some(tenant) }))
    }

    async fn update_tenant(&self, _: Request<UpdateTenantRequest>) -> Result<Response<UpdateTenantResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn pause_mail(&self, _: Request<PauseMailRequest>) -> Result<Response<PauseMailResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn resume_mail(&self, _: Request<ResumeMailRequest>) -> Result<Response<ResumeMailResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Serves the echo, in a process of its own like the service.
pub(crate) async fn echo_server(port: u16) -> Result<()> {
    let incoming = TcpIncoming::from(TcpListener::bind(("127.0.0.1", port)).await?).with_nodelay(Some(true));
    Ok(Server::builder()
        .add_service(TenantServiceServer::new(Echo))
        .serve_with_incoming(incoming)
        .await?)
}

/// Events a second that a bare publisher gets confirmed by a quorum queue, with so many unconfirmed at a time.
pub(crate) async fn publish(amqp_url: &str, events: usize, window: usize, body: &[u8]) -> Result<f64> {
    let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let queue = "usher.bench.floor";
    channel
        .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
        .await?;
    let began = std::time::Instant::now();
    let mut left = events;
    while left > 0 {
        let batch = left.min(window);
        let mut confirms = Vec::with_capacity(batch);
        for _ in 0..batch {
            let properties = BasicProperties::default().with_delivery_mode(2);
            confirms.push(
                channel
                    .basic_publish(
                        "".into(),
                        queue.into(),
                        BasicPublishOptions::default(),
                        body,
                        properties,
                    )
                    .await?,
            );
        }
        for confirm in confirms {
            if !confirm.await?.is_ack() {
                bail!("the broker did not take an event");
            }
        }
        left -= batch;
    }
    let time = began.elapsed();
    channel
        .queue_delete(queue.into(), lapin::options::QueueDeleteOptions::default())
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of events fit")]
    Ok(events as f64 / time.as_secs_f64())
}
