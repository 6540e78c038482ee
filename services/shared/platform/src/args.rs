//! The few arguments that a server process takes.

use std::ffi::OsString;
use std::path::PathBuf;

/// What the process is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Serve { config: Option<PathBuf> },
    Healthcheck { config: Option<PathBuf> },
    Help,
    Version,
}

/// An argument that this process does not take.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ArgumentError {
    #[error("unknown argument {0}; --help lists those there are")]
    Unknown(String),
    #[error("--config needs a path; write --config PATH")]
    NoPath,
}

/// Reads the arguments that follow the program's name; `fallback` is the file that the environment names.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    fallback: Option<OsString>,
) -> Result<Command, ArgumentError> {
    let mut config = fallback.filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut healthcheck = false;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_string_lossy().as_ref() {
            "--help" | "-h" => return Ok(Command::Help),
            "--version" | "-V" => return Ok(Command::Version),
            "--config" | "-c" => config = Some(arguments.next().ok_or(ArgumentError::NoPath)?.into()),
            "healthcheck" => healthcheck = true,
            other => match other.strip_prefix("--config=") {
                Some(path) if !path.is_empty() => config = Some(path.into()),
                Some(_) => return Err(ArgumentError::NoPath),
                None => return Err(ArgumentError::Unknown(other.to_owned())),
            },
        }
    }
    Ok(if healthcheck {
        Command::Healthcheck { config }
    } else {
        Command::Serve { config }
    })
}

/// What `--help` prints.
pub(crate) fn help(name: &str) -> String {
    format!(
        "Usage: {name} [--config PATH]\n\
         \x20      {name} healthcheck [--config PATH]\n\n\
         --config PATH   read settings from this file (or name it in USHER_CONFIG)\n\
         --version       print the version\n\
         --help          print this\n\
         healthcheck     ask the running process whether it is ready; exits 0 or 1\n\n\
         Each setting is also read from USHER__SECTION__KEY, for example USHER__LOG__LEVEL=debug.\n\
         Exits 0 after a clean stop, 1 on failure, 64 on wrong arguments, 78 on wrong configuration,\n\
         130 or 143 when a second signal cut it off."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, ArgumentError> {
        parse(arguments.iter().map(OsString::from), Some("/from/environment".into()))
    }

    #[test]
    fn the_argument_wins_over_the_environment_as_the_source_of_the_file() {
        assert_eq!(
            parsed(&[]),
            Ok(Command::Serve {
                config: Some("/from/environment".into())
            })
        );
        assert_eq!(
            parsed(&["--config", "/a"]),
            Ok(Command::Serve {
                config: Some("/a".into())
            })
        );
        assert_eq!(
            parsed(&["healthcheck", "--config=/b"]),
            Ok(Command::Healthcheck {
                config: Some("/b".into())
            })
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(parsed(&["--prot"]), Err(ArgumentError::Unknown("--prot".into())));
        assert_eq!(parsed(&["--config"]), Err(ArgumentError::NoPath));
    }
}
