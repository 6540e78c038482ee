//! `usher config`: settings, before a process is started with them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use usher_platform::config::{COMMON_DEFAULTS, ConfigError, Settings, load_with_common};

use crate::failure::{Exit, Failure};
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Read a program's settings as it would, and say what is wrong with them. Exits with 78 if something is.
    Check(Check),
    /// Print a program's settings with their meaning and their defaults, as a TOML file to begin with.
    Defaults {
        /// Which program.
        program: Program,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Which program.
    program: Program,
    /// Its file. The environment counts as well.
    #[arg(long, env = "USHER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Program {
    /// The identity service.
    #[value(name = "usher-identity")]
    Identity,
    /// The worker for invitations, notifications and test mails.
    #[value(name = "usher-worker-invitation")]
    WorkerInvitation,
    /// The worker for reminders.
    #[value(name = "usher-worker-reminder")]
    WorkerReminder,
    /// The worker for expirations.
    #[value(name = "usher-worker-expiration")]
    WorkerExpiration,
    /// The worker for erasures.
    #[value(name = "usher-worker-erasure")]
    WorkerErasure,
}

impl Program {
    fn defaults(self) -> &'static str {
        match self {
            Self::Identity => usher_identity::config::DEFAULTS,
            Self::WorkerInvitation => usher_worker_invitation::DEFAULTS,
            Self::WorkerReminder => usher_worker_reminder::DEFAULTS,
            Self::WorkerExpiration => usher_worker_expiration::DEFAULTS,
            Self::WorkerErasure => usher_worker_erasure::DEFAULTS,
        }
    }
}

pub(super) fn run(command: &Config) -> Result<Exit, Failure> {
    match command {
        Config::Check(check) => {
            self::check(check)?;
            output::lines(["The settings can be used."])?;
        }
        Config::Defaults { program } => output::lines([COMMON_DEFAULTS, program.defaults()])?,
    }
    Ok(Exit::Done)
}

fn check(check: &Check) -> Result<(), ConfigError> {
    match check.program {
        Program::Identity => settings::<usher_identity::config::Config>(check),
        Program::WorkerInvitation => settings::<usher_worker_invitation::Config>(check),
        Program::WorkerReminder => settings::<usher_worker_reminder::Config>(check),
        Program::WorkerExpiration => settings::<usher_worker_expiration::Config>(check),
        Program::WorkerErasure => settings::<usher_worker_erasure::Config>(check),
    }
}

/// What the program itself does before it listens.
fn settings<T: Settings>(check: &Check) -> Result<(), ConfigError> {
    let (_, own) = load_with_common::<T>(check.program.defaults(), check.config.as_deref())?;
    own.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_secret_is_named_by_its_key_and_ends_with_78() {
        let command = Config::Check(Check {
            program: Program::WorkerExpiration,
            config: None,
        });
        let failure = run(&command).unwrap_err();
        assert!(failure.to_string().contains("bus.url"), "{failure}");
        assert_eq!(failure.exit(), Exit::Config);
    }
}
