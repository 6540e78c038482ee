//! Many users at once: an import against `COPY` into the same tables, a bulk job against the bare SQL, and exports.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta};
use futures::stream;
use sqlx::{Connection as _, PgConnection};
use usher_core::ids::{EventId, UserId};
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::{
    self as api, BulkAction, BulkDeactivate, BulkReactivate, ExportUsersRequest, FileFormat, ImportMode, Job, JobState,
};
use usher_store::{SeaStore, StoreConfig};
use usher_tests::environment::eventually;
use usher_tests::environment::postgres::Postgres;
use usher_tests::system::{Options, System};
use uuid::Uuid;

use crate::Effort;
use crate::report::Report;

/// How long any of it may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// What an import writes for one row, as `COPY` has it.
const COPIES: [&str; 5] = [
    "COPY users (tenant_id, user_id, version, email, email_key, first_name, last_name, language, labels, name_key, \
     search_key, status, status_since, credential, password_generation, created_at, updated_at) FROM STDIN (FORMAT csv)",
    "COPY history (tenant_id, user_id, event_type, occurred_at, body) FROM STDIN (FORMAT csv)",
    "COPY outbox (tenant_id, user_id, event_id, event_type, lane, body, occurred_at) FROM STDIN (FORMAT csv)",
    "COPY audit (tenant_id, audit_id, occurred_at, actor, caller, method, permission, outcome, subject_id, job_id, reason, \
     request_id, details, salt, digest) FROM STDIN (FORMAT csv)",
    "COPY audit_links (tenant_id, audit_id, code) FROM STDIN (FORMAT csv)",
];

/// What a deactivation writes for everybody, in one transaction.
const BARE: [&str; 5] = [
    "UPDATE users SET status = 'DEACTIVATED', restores = 'PENDING', version = version + 1, status_since = now(), \
     updated_at = now() WHERE tenant_id = $1 AND status = 'PENDING'",
    "INSERT INTO outbox (tenant_id, user_id, event_id, event_type, lane, body, occurred_at) SELECT tenant_id, user_id, \
     gen_random_uuid(), 'user.deactivated', 1, repeat('x', 300), now() FROM users WHERE tenant_id = $1",
    "INSERT INTO history (tenant_id, user_id, event_type, occurred_at, body) SELECT tenant_id, user_id, \
     'user.deactivated', now(), repeat('x', 300) FROM users WHERE tenant_id = $1",
    "INSERT INTO audit (tenant_id, audit_id, occurred_at, actor, caller, method, permission, outcome, subject_id, job_id, \
     reason, request_id, details, salt, digest) SELECT tenant_id, gen_random_uuid(), now(), 'bench', '', \
     'BulkService/StartBulk', '', 'OK', user_id, tenant_id, '', '', repeat('x', 60), decode(repeat('00', 16), \
     'hex'), decode(repeat('00', 32), 'hex') FROM users WHERE tenant_id = $1",
    "INSERT INTO audit_links (tenant_id, audit_id, code) SELECT tenant_id, audit_id, decode(repeat('00', 33), 'hex') FROM audit \
     WHERE tenant_id = $1 AND method = 'BulkService/StartBulk'",
];

/// Measures with as many people as the effort says.
pub(crate) async fn run(postgres: &Postgres, effort: Effort, report: &mut Report) -> Result<()> {
    let people = effort.people;
    let floor_url = postgres.database().await?;
    SeaStore::connect(&StoreConfig::new(&floor_url))
        .await?
        .migrate()
        .await?;
    let mut floor = PgConnection::connect(&floor_url).await?;
    let system = System::start(Options {
        database_url: Some(postgres.database().await?),
        without_workers: true,
        ..Options::default()
    })
    .await?;
    let (mut copied, mut imported, mut bare, mut bulk) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut tenant = String::new();
    for _ in 0..effort.rounds.min(3) {
        let id = Uuid::new_v4();
        copied.push(copy(&mut floor, id, people).await?);
        bare.push(deactivate(&mut floor, id, people).await?);
        tenant = system.tenant(api::Tenant::default()).await?;
        imported.push(import(&system, &tenant, people).await?);
        bulk.push(run_bulk(&system, &tenant, Action::Deactivate(BulkDeactivate {}), people).await?);
    }
    report.ratio(
        &format!("import of {people} rows, against COPY"),
        &copied,
        &imported,
        0.3,
    );
    report.ratio(
        &format!("bulk deactivation of {people}, against bare SQL"),
        &bare,
        &bulk,
        0.5,
    );
    report.peak("identity, after imports and bulk jobs", system.identity.id())?;
    run_bulk(&system, &tenant, Action::Reactivate(BulkReactivate {}), people).await?;
    for (name, format) in [("CSV", FileFormat::Csv), (".xlsx", FileFormat::Xlsx)] {
        let (rate, size) = export(&system, &tenant, format, people).await?;
        report.note(format!(
            "export of {people} users to {name}: {rate:.0}/s, {} KiB",
            size >> 10
        ));
    }
    report.peak("identity, after exports", system.identity.id())?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts of people fit")]
fn rate(people: usize, began: Instant) -> f64 {
    people as f64 / began.elapsed().as_secs_f64()
}

async fn copy(floor: &mut PgConnection, tenant: Uuid, people: usize) -> Result<f64> {
    let mut files: [String; COPIES.len()] = Default::default();
    let (at, body, details) = ("2026-01-01T00:00:00Z", "x".repeat(300), "x".repeat(150));
    let octets = |count: usize| format!("\\x{}", "00".repeat(count));
    let (salt, digest, code) = (octets(16), octets(32), octets(33));
    for number in 0..people {
        // Ids rise, as ours do.
        let minted = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(i64::try_from(number)?);
        let (user, event) = (UserId::mint(minted), EventId::mint(minted));
        let address = format!("person{number}@example.org");
        // Writing to a String cannot fail.
        let _ = writeln!(
            files[0],
            "{tenant},{user},1,{address},{address},Ana,Silva {number},en,\"[\"\"Year 7\"\"]\",silva {number},ana silva \
             {number} {address},PENDING,{at},NONE,0,{at},{at}"
        );
        let _ = writeln!(files[1], "{tenant},{user},user.created,{at},{body}");
        let _ = writeln!(files[2], "{tenant},{user},{event},user.created,1,{body},{at}");
        let _ = writeln!(
            files[3],
            "{tenant},{event},{at},bench,\"\",TransferService/ImportUsers,\"\",OK,{user},{tenant},\"\",\"\",{details},{salt},{digest}"
        );
        let _ = writeln!(files[4], "{tenant},{event},{code}");
    }
    let began = Instant::now();
    let mut transaction = floor.begin().await?;
    for (statement, file) in COPIES.iter().zip(&files) {
        let mut copy = transaction.copy_in_raw(statement).await?;
        copy.send(file.as_bytes()).await?;
        copy.finish().await?;
    }
    transaction.commit().await?;
    Ok(rate(people, began))
}

async fn deactivate(floor: &mut PgConnection, tenant: Uuid, people: usize) -> Result<f64> {
    let began = Instant::now();
    let mut transaction = floor.begin().await?;
    for statement in BARE {
        sqlx::query(statement).bind(tenant).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(rate(people, began))
}

async fn import(system: &System, tenant: &str, people: usize) -> Result<f64> {
    let mut file = String::from("email,first_name,last_name,labels\n");
    for number in 0..people {
        let _ = writeln!(file, "person{number}@example.org,Ana,Silva {number},Year 7");
    }
    let settings = api::ImportSettings {
        tenant_id: tenant.to_owned(),
        mode: ImportMode::Create.into(),
        ..api::ImportSettings::default()
    };
    let pieces = file
        .as_bytes()
        .chunks(256 << 10)
        .map(|piece| Part::Data(piece.to_vec()));
    let parts: Vec<_> = std::iter::once(Part::Settings(settings))
        .chain(pieces)
        .map(|part| api::ImportUsersRequest { part: Some(part) })
        .collect();
    let began = Instant::now();
    let answer = system.clients()?.transfer().import_users(stream::iter(parts)).await?;
    ended(system, answer.into_inner().job, people).await?;
    Ok(rate(people, began))
}

async fn run_bulk(system: &System, tenant: &str, action: Action, people: usize) -> Result<f64> {
    let preview = api::PreviewSelectionRequest {
        tenant_id: tenant.to_owned(),
        selection: Some(everybody()),
    };
    let preview = system.clients()?.bulk().preview_selection(preview).await?.into_inner();
    let start = api::StartBulkRequest {
        tenant_id: tenant.to_owned(),
        digest: preview.digest,
        action: Some(BulkAction { action: Some(action) }),
        options: None,
    };
    let began = Instant::now();
    let answer = system.clients()?.bulk().start_bulk(start).await?;
    ended(system, answer.into_inner().job, people).await?;
    Ok(rate(people, began))
}

fn everybody() -> api::Selection {
    api::Selection {
        by: Some(api::selection::By::Filter(api::UserFilter::default())),
    }
}

async fn ended(system: &System, job: Option<Job>, people: usize) -> Result<()> {
    let job = job.context("no job")?;
    let clients = system.clients()?;
    let ended = eventually("the end of the job", PATIENCE, async || {
        let request = api::GetJobRequest {
            tenant_id: job.tenant_id.clone(),
            job_id: job.job_id.clone(),
        };
        let job = clients.bulk().get_job(request).await.ok()?.into_inner().job?;
        (job.state() != JobState::Running).then_some(job)
    })
    .await?;
    ensure!(usize::try_from(ended.changed_count)? == people, "{ended:?}");
    Ok(())
}

async fn export(system: &System, tenant: &str, format: FileFormat, people: usize) -> Result<(f64, usize)> {
    let request = ExportUsersRequest {
        tenant_id: tenant.to_owned(),
        selection: Some(everybody()),
        format: format.into(),
        ..ExportUsersRequest::default()
    };
    let began = Instant::now();
    let mut stream = system.clients()?.transfer().export_users(request).await?.into_inner();
    let (mut size, mut rows) = (0, 0);
    while let Some(piece) = stream.message().await? {
        size += piece.data.len();
        rows = piece.done_count;
    }
    ensure!(usize::try_from(rows)? == people, "{rows} of {people} rows");
    Ok((rate(people, began), size))
}
