//! Bulk jobs, imports and exports while the service is killed again and again: each ends complete, each item was dealt with
//! once, and progress never runs backwards (B7, L10).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection};
use tonic::Status;
use usher_proto::identity::v1 as api;
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::import_users_request::Part;
use usher_proto::identity::v1::{ImportMode, JobState};
use usher_tests::environment::eventually;
use usher_tests::system::{Options, System};

use crate::servers::{Servers, servers, tell};

/// Kills of each kind of work.
const KILLS: usize = 20;
/// Rows of the file: so many that no run is over before the kills are.
const ROWS: u32 = 30_000;
/// How long one kind of work may take in all.
const PATIENCE: Duration = Duration::from_mins(5);

/// B7, L10
#[tokio::test(flavor = "multi_thread")]
async fn imports_bulk_jobs_and_exports_end_complete_while_the_service_is_killed_again_and_again() -> Result<()> {
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let mut system = System::start(Options {
        without_workers: true,
        database_url: Some(postgres.database().await?),
        amqp_url: Some(broker.vhost().await?),
        ..Options::default()
    })
    .await?;
    let tenant = system.tenant(api::Tenant::default()).await?;
    let mut chance = StdRng::seed_from_u64(20_261_124);

    let settings = api::ImportSettings {
        tenant_id: tenant.clone(),
        mode: ImportMode::Create.into(),
        options: Some(options("import")),
        ..api::ImportSettings::default()
    };
    let import = start(&mut system, &mut chance, async |system| upload(system, &settings).await).await?;
    let import = killed(&mut system, &tenant, import, &mut chance).await?;
    ensure!(import.changed_count == i64::from(ROWS), "{import:?}");

    let mut database = PgConnection::connect(&system.database_url).await?;
    let created = events(&mut database, "user.created").await?;
    ensure!(
        created.len() == ROWS as usize && created.values().all(|count| *count == 1),
        "each was created once"
    );

    let preview = api::PreviewSelectionRequest {
        tenant_id: tenant.clone(),
        selection: Some(everybody()),
    };
    let preview = system.clients()?.bulk().preview_selection(preview).await?.into_inner();
    ensure!(preview.user_count == i64::from(ROWS));
    let bulk = api::StartBulkRequest {
        tenant_id: tenant.clone(),
        digest: preview.digest,
        action: Some(api::BulkAction {
            action: Some(Action::Deactivate(api::BulkDeactivate {})),
        }),
        options: Some(options("out")),
    };
    let job = start(&mut system, &mut chance, async |system| {
        let started = system
            .clients()
            .map_err(internal)?
            .bulk()
            .start_bulk(bulk.clone())
            .await?;
        started.into_inner().job.ok_or_else(|| Status::internal("no job"))
    })
    .await?;
    let job = killed(&mut system, &tenant, job, &mut chance).await?;
    ensure!(job.changed_count == i64::from(ROWS), "{job:?}");
    let out = events(&mut database, "user.deactivated").await?;
    ensure!(
        out.len() == ROWS as usize && out.values().all(|count| *count == 1),
        "each was shown out once"
    );
    let ended = events_of_jobs(&mut database, "job.ended").await?;
    ensure!(ended == 2, "each job ended once, not {ended} times in all");

    let cut = exported(&mut system, &tenant, &mut chance).await?;
    tell(&format!(
        "jobs: {ROWS} rows each; {KILLS} kills of the import, {KILLS} of the bulk job, {cut} of exports"
    ));
    Ok(())
}

fn options(request_id: &str) -> api::MutationOptions {
    api::MutationOptions {
        request_id: request_id.into(),
        ..api::MutationOptions::default()
    }
}

fn everybody() -> api::Selection {
    api::Selection {
        by: Some(api::selection::By::Filter(api::UserFilter::default())),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err asks for")]
fn internal(error: anyhow::Error) -> Status {
    Status::internal(error.to_string())
}

/// Starts work, killing the service in the middle of the first try.
async fn start(
    system: &mut System,
    chance: &mut StdRng,
    call: impl AsyncFn(&System) -> Result<api::Job, Status>,
) -> Result<api::Job> {
    let patience = Duration::from_millis(chance.random_range(10..200));
    let _ = tokio::time::timeout(patience, call(system)).await;
    system.identity.kill();
    system.identity.restart().await?;
    Ok(call(system).await?)
}

async fn upload(system: &System, settings: &api::ImportSettings) -> Result<api::Job, Status> {
    let mut file = String::from("email,first_name,last_name,labels\n");
    for row in 0..ROWS {
        // Writing to a String cannot fail.
        let _ = writeln!(file, "person{row}@example.org,Ana,Núñez {row},Year {}", row % 13);
    }
    let pieces = file.as_bytes().chunks(64 << 10).map(|piece| Part::Data(piece.to_vec()));
    let parts: Vec<_> = std::iter::once(Part::Settings(settings.clone()))
        .chain(pieces)
        .map(|part| api::ImportUsersRequest { part: Some(part) })
        .collect();
    let clients = system.clients().map_err(internal)?;
    let answer = clients.transfer().import_users(stream::iter(parts)).await?;
    answer.into_inner().job.ok_or_else(|| Status::internal("no job"))
}

/// Kills the service while a job works, and follows it to its end.
async fn killed(system: &mut System, tenant: &str, job: api::Job, chance: &mut StdRng) -> Result<api::Job> {
    let mut last = job;
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(chance.random_range(5..120))).await;
        system.identity.kill();
        system.identity.restart().await?;
        last = further(system, tenant, &last).await?;
    }
    eventually("the end of the job", PATIENCE, async || {
        let now = further(system, tenant, &last).await.ok()?;
        (now.state() != JobState::Running).then_some(now)
    })
    .await
}

/// How far a job is: never less far than before.
async fn further(system: &System, tenant: &str, last: &api::Job) -> Result<api::Job> {
    let request = api::GetJobRequest {
        tenant_id: tenant.to_owned(),
        job_id: last.job_id.clone(),
    };
    let now = system
        .clients()?
        .bulk()
        .get_job(request)
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(now.done_count >= last.done_count, "{now:?} after {last:?}");
    Ok(now)
}

/// Exports everybody, killing the service under it, and begins again each time; answers how often it was cut.
async fn exported(system: &mut System, tenant: &str, chance: &mut StdRng) -> Result<usize> {
    let mut cut = 0;
    for kill in 0..=KILLS {
        let request = api::ExportUsersRequest {
            tenant_id: tenant.to_owned(),
            selection: Some(everybody()),
            columns: vec!["email".into(), "status".into()],
            ..api::ExportUsersRequest::default()
        };
        let clients = system.clients()?;
        let export = tokio::spawn(async move {
            let mut stream = clients.transfer().export_users(request).await?.into_inner();
            let mut file = Vec::new();
            while let Some(piece) = stream.message().await? {
                file.extend(piece.data);
            }
            Ok::<_, Status>(file)
        });
        if kill < KILLS {
            tokio::time::sleep(Duration::from_millis(chance.random_range(5..150))).await;
            system.identity.kill();
            cut += usize::from(export.await?.is_err());
            system.identity.restart().await?;
            continue;
        }
        let file = String::from_utf8(export.await??)?;
        let mut addresses: Vec<&str> = file.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        ensure!(
            addresses.len() == ROWS as usize,
            "{} of {ROWS} people are in the export",
            addresses.len()
        );
        ensure!(file.lines().count() == ROWS as usize + 1, "nobody is in it twice");
    }
    ensure!(cut > 0, "no export was cut");
    Ok(cut)
}

async fn events(database: &mut PgConnection, kind: &str) -> Result<HashMap<uuid::Uuid, i64>> {
    let rows: Vec<(uuid::Uuid, i64)> = sqlx::query_as(
        "SELECT user_id, COUNT(*) FROM outbox WHERE event_type = $1 AND user_id IS NOT NULL GROUP BY user_id",
    )
    .bind(kind)
    .fetch_all(database)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn events_of_jobs(database: &mut PgConnection, kind: &str) -> Result<i64> {
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM outbox WHERE event_type = $1");
    Ok(count.bind(kind).fetch_one(database).await?)
}
