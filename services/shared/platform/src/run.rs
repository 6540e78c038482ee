//! From `main` to the exit code.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{self, Command};
use crate::config::{self, Common, ConfigError, Settings};
use crate::lifecycle::{End, Lifecycle};
use crate::readiness::Readiness;
use crate::{admin, metrics, telemetry};

/// sysexits.h: the command was used incorrectly.
const EX_USAGE: u8 = 64;
/// sysexits.h: something is wrong with the configuration.
const EX_CONFIG: u8 = 78;

/// How long tasks that nobody waits for may hold up the end of the process.
const RUNTIME_STOP: Duration = Duration::from_secs(1);

/// Why a component ended. Any error will do; a [`ConfigError`] among its causes makes the process end with 78.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What a component is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The process's name, such as `usher-identity`.
    pub name: String,
    /// Fires when the component is to take no new work and finish what runs.
    pub shutdown: CancellationToken,
    /// Fires when whatever still runs is to be dropped.
    pub abort: CancellationToken,
    /// Where the component says what it depends on.
    pub readiness: Readiness,
    /// The time from `shutdown` to `abort`.
    pub drain: Duration,
}

/// The whole of a server's `main`: arguments, configuration, telemetry, metrics, admin pages, signals, and `component`.
///
/// `defaults_toml` names every key of the component's own sections; `C` is those sections. Nothing listens before they were
/// read and checked.
pub fn run_main<C, F, W>(name: &str, defaults_toml: &str, component: F) -> ExitCode
where
    C: Settings,
    F: FnOnce(C, Context) -> W,
    W: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let command = match args::parse(std::env::args_os().skip(1), std::env::var_os("USHER_CONFIG")) {
        Ok(command) => command,
        Err(error) => {
            tell(name, &error);
            return ExitCode::from(EX_USAGE);
        }
    };
    match command {
        Command::Help => {
            println!("{}", args::help(name));
            ExitCode::SUCCESS
        }
        Command::Version => {
            println!("{name} {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Healthcheck { config } => healthcheck(name, defaults_toml, config.as_deref()),
        Command::Serve { config } => {
            let read = config::load_with_common::<C>(defaults_toml, config.as_deref());
            match read.and_then(|(common, own)| own.check().map(|()| (common, own))) {
                Ok((common, own)) => run(name, &common, |context| component(own, context)),
                Err(error) => exit_with(name, &error),
            }
        }
    }
}

/// Runs one component with everything around it, until it ends or the process is told to stop.
///
/// For binaries that parse their own arguments; [`run_main`] is for the others.
pub fn run<F, W>(name: &str, common: &Common, component: F) -> ExitCode
where
    F: FnOnce(Context) -> W,
    W: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit_with(name, &error),
    };
    let code = runtime.block_on(around(name, common, component));
    runtime.shutdown_timeout(RUNTIME_STOP);
    code
}

/// Tells the error on standard error and answers its exit code: 78 if the configuration is at fault, 1 otherwise.
pub fn exit_with(name: &str, error: &(dyn Error + 'static)) -> ExitCode {
    tell(name, &causes(error));
    if is_config(error) {
        ExitCode::from(EX_CONFIG)
    } else {
        ExitCode::FAILURE
    }
}

async fn around<F, W>(name: &str, common: &Common, component: F) -> ExitCode
where
    F: FnOnce(Context) -> W,
    W: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let telemetry = match telemetry::init(name, &common.log, &common.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            return exit_with(
                name,
                &ConfigError::invalid("telemetry.otlp_endpoint", error.to_string()),
            );
        }
    };
    let code = supervised(name, common, component).await;
    telemetry.flush().await;
    code
}

async fn supervised<F, W>(name: &str, common: &Common, component: F) -> ExitCode
where
    F: FnOnce(Context) -> W,
    W: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let readiness = Readiness::new();
    let drain = common.shutdown.drain();
    let life = Lifecycle::new(readiness.clone(), drain);
    if let Err(error) = life.listen() {
        return exit_with(name, &error);
    }
    let handle = metrics::install();
    let listener = match TcpListener::bind(common.admin.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tell(
                name,
                &format!(
                    "admin.listen: cannot listen on {}: {error}; choose a free port",
                    common.admin.listen
                ),
            );
            return ExitCode::FAILURE;
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "admin pages listen");
    }
    let pages = tokio::spawn(admin::serve(listener, readiness.clone(), handle.clone()));
    let upkeep = tokio::spawn(handle.upkeep());

    let context = Context {
        name: name.to_owned(),
        shutdown: life.shutdown(),
        abort: life.abort(),
        readiness,
        drain,
    };
    let mut work = tokio::spawn(component(context));
    let end = life.supervise(&mut work).await;
    work.abort();
    pages.abort();
    upkeep.abort();
    match end {
        End::Done(Ok(Ok(()))) if !life.abort().is_cancelled() => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        End::Done(Ok(Err(error))) => exit_with(name, error.as_ref()),
        End::Done(Err(panic)) => exit_with(name, &panic),
        End::Done(Ok(Ok(()))) | End::Aborted => {
            tell(
                name,
                &format!(
                    "work under way did not finish within {} s and was dropped",
                    drain.as_secs()
                ),
            );
            ExitCode::FAILURE
        }
        End::Killed(code) => ExitCode::from(code),
    }
}

fn healthcheck(name: &str, defaults_toml: &str, file: Option<&Path>) -> ExitCode {
    let common = match config::load_with_common::<serde::de::IgnoredAny>(defaults_toml, file) {
        Ok((common, _)) => common,
        Err(error) => return exit_with(name, &error),
    };
    match admin::healthcheck(common.admin.listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_with(name, &error),
    }
}

/// Before telemetry is open, and for the one line that has to be seen whatever the log level is.
fn tell(name: &str, what: &dyn Display) {
    eprintln!("{name}: {what}");
}

/// An error with what caused it, on one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    for cause in chain(error).skip(1) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

fn is_config(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(<dyn Error>::is::<ConfigError>)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}
