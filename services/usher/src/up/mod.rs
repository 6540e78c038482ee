//! `usher up`: the identity service, the four workers and the bus in one process, on a folder of its own. For trying,
//! developing and small installations; the code is that of the processes, only the ports differ.

mod administration;
mod demo;
mod folder;
mod settings;
mod welcome;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio_util::task::TaskTracker;
use usher_mail::{FolderTransport, SmtpTransport, Transport};
use usher_platform::config::ConfigError;
use usher_platform::grpc::{self, ClientOptions};
use usher_platform::{Context, Readiness};
use usher_worker_runtime::Parts;

pub(crate) use self::folder::{DEFAULT_FOLDER, Folder, FolderError};
use self::settings::{Mails, Settings};

/// Mails that each worker has under way at a time, and calls of the expiration worker.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");

/// Run everything in one process: service, workers, database and a folder for mails.
///
/// It listens on the loopback interface only. The folder keeps the database, the key that links are made with, and the
/// mails; the next `usher up` goes on from there. Ctrl-C ends it in order.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The folder that everything is kept in.
    #[arg(long, env = "USHER_DATA", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    data: PathBuf,
    /// Hand mails to this server instead of writing them into the folder: smtp://user:password@host:port.
    #[arg(long, value_name = "URL")]
    smtp: Option<String>,
    /// Let `usher clock advance` move the time, to see reminders and expirations without waiting for them.
    #[arg(long)]
    rehearse: bool,
    /// Import this CSV file, show what happens, and say what to try next. Implies --rehearse.
    #[arg(long, value_name = "FILE")]
    demo: Option<PathBuf>,
    /// Settings of the identity service and `[smtp]`, as a TOML file.
    #[arg(long, env = "USHER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The whole of the process.
pub(crate) fn main(up: &Up) -> ExitCode {
    match prepare(up) {
        Ok((folder, settings)) => {
            let demo = up.demo.clone();
            let common = settings.common.clone();
            usher_platform::run("usher", &common, |context| run(folder, settings, demo, context))
        }
        Err(error) => usher_platform::exit_with("usher", error.as_ref()),
    }
}

fn prepare(up: &Up) -> Result<(Folder, Settings), usher_platform::Failure> {
    let folder = Folder::open(&up.data)?;
    if up.rehearse || up.demo.is_some() {
        folder.allow_rehearsal()?;
    }
    let settings = settings::load(&folder, up.smtp.as_deref(), up.config.as_deref())?;
    Ok((folder, settings))
}

async fn run(
    folder: Folder,
    settings: Settings,
    demo: Option<PathBuf>,
    context: Context,
) -> Result<(), usher_platform::Failure> {
    let mut service = usher_identity::start(settings.identity, context.clone()).await?;
    let bus = service
        .bus
        .take()
        .ok_or_else(|| ConfigError::invalid("bus.url", "is of no use here: `usher up` carries events by itself"))?;
    let server = format!("http://{}", service.address);
    let parts = Parts {
        subscriber: Arc::new(bus),
        identity: grpc::channel(&server, &ClientOptions::default())?,
    };
    let transport = transport(&settings.mails, &folder)?;
    let tasks = start_workers(&parts, &transport, &context);

    let guide = welcome::Guide {
        server,
        folder,
        mails: settings.mails.to_string(),
    };
    let shutdown = context.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            done = guide.show(demo.as_deref()) => {
                if let Err(failure) = done {
                    // What was to be shown failed; the service itself goes on.
                    let _ = failure.tell("", &guide.server, &mut std::io::stderr());
                }
            }
        }
    });
    let ended = service.wait().await;
    tasks.wait().await;
    ended
}

/// Starts the workers. Their readiness is their own: they are ready when the service is, so it must not wait for them.
fn start_workers(parts: &Parts, transport: &Arc<dyn Transport>, context: &Context) -> TaskTracker {
    let tasks = TaskTracker::new();
    let context = || Context {
        readiness: Readiness::new(),
        ..context.clone()
    };
    let (own, mine, worker) = (parts.clone(), Arc::clone(transport), context());
    tasks.spawn(async move { usher_worker_invitation::run(own, mine, CONCURRENCY, &worker).await });
    let (own, mine, worker) = (parts.clone(), Arc::clone(transport), context());
    tasks.spawn(async move { usher_worker_reminder::run(own, mine, CONCURRENCY, &worker).await });
    let (own, worker) = (parts.clone(), context());
    tasks.spawn(async move { usher_worker_expiration::run(own, CONCURRENCY, &worker).await });
    let (own, worker) = (parts.clone(), context());
    tasks.spawn(async move { usher_worker_erasure::run(own, CONCURRENCY, &worker).await });
    tasks.close();
    tasks
}

fn transport(mails: &Mails, folder: &Folder) -> Result<Arc<dyn Transport>, usher_platform::Failure> {
    Ok(match mails {
        Mails::Folder => Arc::new(FolderTransport::new(folder.mails())?),
        Mails::Smtp(config) => {
            let transport =
                SmtpTransport::try_new(config).map_err(|error| ConfigError::invalid("smtp.url", error.0))?;
            Arc::new(transport)
        }
    })
}
