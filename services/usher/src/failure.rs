//! How a command ends: its exit code, and what a person reads when it could not do its work. A server's answer is shown
//! with every field at fault and with the command that leads on, never as a dump.

use std::io::{self, Write};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use usher_platform::ConfigError;
use usher_proto::identity::v1::ErrorReason;

use crate::output::printable;

/// What the exit codes mean, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    done in part: some rows, addresses or users were refused, or may not in
  2    wrong usage
  65   the request or the data was refused, or a file cannot be read
  69   the server cannot be reached, or has no time
  70   the server failed
  75   the server cannot be reached, or has no time: keep the message and try again (`usher bounces`)
  77   not permitted
  78   wrong configuration
  130  interrupted";

/// A process's exit code: those of sysexits.h where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All of it was done.
    Done = 0,
    /// Some of it was refused.
    Partly = 1,
    /// Wrong arguments.
    Usage = 2,
    /// EX_DATAERR.
    Data = 65,
    /// EX_UNAVAILABLE.
    Unavailable = 69,
    /// EX_SOFTWARE.
    Fault = 70,
    /// EX_TEMPFAIL: for mail servers that pipe messages.
    Again = 75,
    /// EX_NOPERM.
    Denied = 77,
    /// EX_CONFIG.
    Config = 78,
    /// Stopped by Ctrl-C, as shells have it.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Arguments that do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A file or a text that cannot be used.
    #[error("{0}")]
    Data(String),
    /// A file that cannot be read or written.
    #[error("{what}: {cause}")]
    Io { what: String, cause: io::Error },
    /// Standard output was closed by whoever read it.
    #[error("the output was closed")]
    OutputClosed,
    /// The server's answer.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// No answer from the server.
    #[error("{0}")]
    Unreachable(String),
    /// Something else that is needed is away.
    #[error("{0}")]
    Away(String),
    /// Ctrl-C, and what that means for what was under way.
    #[error("{0}")]
    Interrupted(String),
    /// Settings that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let answered = status.get_error_details().error_info().is_some();
        let reached = std::error::Error::source(&status).is_none();
        match status.code() {
            _ if answered => Self::Refused(Box::new(status)),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unreachable(cause(&status)),
            _ if reached => Self::Refused(Box::new(status)),
            _ => Self::Unreachable(cause(&status)),
        }
    }
}

impl Failure {
    /// For a file that was named.
    pub(crate) fn io(what: impl Into<String>, cause: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            cause,
        }
    }

    /// For standard output.
    pub(crate) fn output(cause: io::Error) -> Self {
        if cause.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::io("cannot write the output", cause)
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Data(_) | Self::Io { .. } => Exit::Data,
            Self::OutputClosed => Exit::Done,
            // No seat is left: unlike a server without time, that does not pass by itself.
            Self::Refused(status) if reason(status) == Some(ErrorReason::SeatLimit) => Exit::Data,
            Self::Refused(status) => exit_of(status.code()),
            Self::Unreachable(_) | Self::Away(_) => Exit::Unavailable,
            Self::Interrupted(_) => Exit::Interrupted,
            Self::Config(_) => Exit::Config,
        }
    }

    /// The reason that the server gave.
    pub(crate) fn reason(&self) -> Option<ErrorReason> {
        match self {
            Self::Refused(status) => reason(status),
            _ => None,
        }
    }

    /// Whether the same call may go through a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(_) => self.exit() == Exit::Unavailable,
            _ => false,
        }
    }

    /// The fields that the server found fault with: path and description.
    pub(crate) fn violations(&self) -> Vec<(String, String)> {
        let Self::Refused(status) = self else {
            return Vec::new();
        };
        let details = status.get_error_details();
        let violations = details.bad_request().map(|found| found.field_violations.as_slice());
        violations
            .unwrap_or_default()
            .iter()
            .map(|violation| (violation.field.clone(), violation.description.clone()))
            .collect()
    }

    /// Tells a person. `about` names the one of several things that it is about; it may be empty.
    pub(crate) fn tell(&self, about: &str, server: &str, to: &mut impl Write) -> io::Result<()> {
        let usher = if about.is_empty() {
            "usher:".to_owned()
        } else {
            format!("usher: {}:", printable(about))
        };
        match self {
            Self::OutputClosed => Ok(()),
            Self::Unreachable(cause) => {
                writeln!(to, "{usher} no answer from {server}: {}", printable(cause))?;
                writeln!(
                    to,
                    "  try: start it with `usher up`, or name another with --server or USHER_SERVER"
                )
            }
            Self::Refused(status) => {
                let violations = self.violations();
                match violations.as_slice() {
                    // A server that does not know a call says nothing about it.
                    [] if status.message().is_empty() => writeln!(to, "{usher} {}", status.code().description())?,
                    [] => writeln!(to, "{usher} {}", printable(status.message()))?,
                    [_] => writeln!(to, "{usher} one field is not valid")?,
                    several => writeln!(to, "{usher} {} fields are not valid", several.len())?,
                }
                for (field, description) in violations {
                    writeln!(to, "  {}: {}", printable(&field), printable(&description))?;
                }
                match self.reason().and_then(way_out) {
                    Some(hint) => writeln!(to, "  try: {hint}"),
                    None => Ok(()),
                }
            }
            _ => writeln!(to, "{usher} {}", printable(&self.to_string())),
        }
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Done,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange => Exit::Data,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => Exit::Unavailable,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
        Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Exit::Fault,
    }
}

/// The reason in an answer's details.
pub(crate) fn reason(status: &Status) -> Option<ErrorReason> {
    reason_named(&status.get_error_details().error_info()?.reason)
}

/// A reason from its name without the prefix, as in `ItemRefusal`.
pub(crate) fn reason_named(name: &str) -> Option<ErrorReason> {
    ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"))
}

/// The command that leads on.
fn way_out(reason: ErrorReason) -> Option<&'static str> {
    Some(match reason {
        ErrorReason::TenantNotFound => "`usher tenants create NAME`, then --tenant ID or USHER_TENANT",
        ErrorReason::UserNotFound => "`usher users list`",
        ErrorReason::InvitationNotFound => "`usher invitations list --all`",
        ErrorReason::InvitationClosed => "`usher invite ADDRESS`, which sends a new one",
        ErrorReason::DeliveryNotFound | ErrorReason::DeliveryNotUncertain => "`usher deliveries --state uncertain`",
        ErrorReason::SuppressionNotFound => "`usher suppressions list`",
        ErrorReason::UserAlreadyActive | ErrorReason::EmailTaken => "`usher explain ADDRESS`",
        ErrorReason::ExternalIdTaken => "`usher explain EXTERNAL_ID`",
        ErrorReason::UserExpired => "`usher users expire USER DATE` (or `never`)",
        ErrorReason::UserDeactivated => "`usher users reactivate USER`",
        ErrorReason::OwnStatus | ErrorReason::SameApprover => "another --actor",
        ErrorReason::AddressSuppressed => "`usher suppressions list`, then `usher suppressions remove ADDRESS`",
        ErrorReason::VersionMismatch => "`usher users show USER`, then again with its version",
        ErrorReason::InvitationNotUsable => "`usher invitations resend INVITATION`",
        ErrorReason::CursorTooOld => "`usher events --from-beginning`",
        ErrorReason::StoreUnavailable | ErrorReason::Overloaded => "again in a moment",
        ErrorReason::Internal => "the server's log, by the trace id",
        ErrorReason::GroupNotFound | ErrorReason::GroupTaken | ErrorReason::GroupCycle | ErrorReason::GroupTooDeep => {
            "`usher groups list --tree`"
        }
        ErrorReason::RoleNotFound | ErrorReason::RoleTaken => "`usher roles list`",
        ErrorReason::RoleInUse => "`usher roles holders --role ROLE`, then `usher roles revoke USER ROLE`",
        ErrorReason::PermissionDenied => "`usher roles holders --user ACTOR`, or another --actor",
        ErrorReason::ActorNotActive => "`usher explain ACTOR`, or another --actor",
        ErrorReason::SeatLimit => {
            "`usher seats`, then `usher tenants update --seat-limit NUMBER` (or --seat-policy wait)"
        }
        ErrorReason::WaitsForSeat => "`usher seats`, then `usher tenants update --seat-limit NUMBER`",
        ErrorReason::SelectionNotFound | ErrorReason::NoLongerMatches => {
            "the same `usher bulk` again, which looks anew whom it is about"
        }
        ErrorReason::TemplateNotFound => "`usher templates versions`",
        ErrorReason::InactivityRunNotFound | ErrorReason::InactivityRunNotParked => "`usher inactivity runs`",
        ErrorReason::JobNotFound => "`usher jobs list`",
        ErrorReason::JobRunning => "`usher jobs watch JOB`, or `usher jobs cancel JOB`",
        ErrorReason::NothingToRetry => "`usher jobs show JOB`",
        ErrorReason::CannotBeUndone => {
            "`usher invitations cancel INVITATION`, where a link went out that should not have"
        }
        ErrorReason::FileNotReadable => "--encoding NAME or --map HEAD=FIELD; see `usher import --help`",
        ErrorReason::ErasureNotFound | ErrorReason::ErasureExists => "`usher erasures list`",
        ErrorReason::ErasureNotAwaiting
        | ErrorReason::ErasureTooLate
        | ErrorReason::ErasureNotAnnounced
        | ErrorReason::ErasureNotComplete => "`usher erasures show ERASURE`",
        ErrorReason::SubscriberNotFound => "`usher erasures services list`",
        ErrorReason::SafetyStop => "--dry-run, then --max-deactivated-percent NUMBER",
        ErrorReason::Unspecified
        | ErrorReason::InvalidFields
        | ErrorReason::UserErased
        | ErrorReason::RequestIdReused
        | ErrorReason::WrongCredentials
        | ErrorReason::AccountDeactivated
        | ErrorReason::AccountExpired
        | ErrorReason::ClaimLost
        | ErrorReason::UserIdTaken
        | ErrorReason::TenantExists => return None,
    })
}

/// What broke the connection: the innermost cause says most.
fn cause(status: &Status) -> String {
    let mut error = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(inner) = error {
        text = inner.to_string();
        error = inner.source();
    }
    if text.is_empty() {
        status.code().description().to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, name: &str) -> Failure {
        let details = ErrorDetails::with_error_info(name, "usher", HashMap::new());
        Status::with_error_details(code, "no", details).into()
    }

    fn told(failure: &Failure) -> String {
        let mut text = Vec::new();
        failure.tell("", "http://127.0.0.1:1", &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn every_grpc_code_ends_with_the_exit_code_that_the_help_promises() {
        let codes = [
            (Code::InvalidArgument, 65),
            (Code::NotFound, 65),
            (Code::AlreadyExists, 65),
            (Code::FailedPrecondition, 65),
            (Code::Aborted, 65),
            (Code::OutOfRange, 65),
            (Code::Unavailable, 69),
            (Code::DeadlineExceeded, 69),
            (Code::ResourceExhausted, 69),
            (Code::Cancelled, 69),
            (Code::Internal, 70),
            (Code::Unknown, 70),
            (Code::Unimplemented, 70),
            (Code::DataLoss, 70),
            (Code::PermissionDenied, 77),
            (Code::Unauthenticated, 77),
        ];
        for (code, exit) in codes {
            assert_eq!(Failure::from(Status::new(code, "")).exit() as u8, exit, "{code:?}");
            assert!(EXIT_CODES.contains(&format!("\n  {exit} ")), "{exit} is documented");
        }
    }

    #[test]
    fn usage_and_configuration_have_exit_codes_of_their_own() {
        assert_eq!(Failure::Usage(String::new()).exit(), Exit::Usage);
        assert_eq!(Failure::Config(ConfigError::invalid("a", "b")).exit(), Exit::Config);
    }

    #[test]
    fn a_reader_that_closes_the_pipe_is_no_failure() {
        let failure = Failure::output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.exit(), told(&failure).as_str()), (Exit::Done, ""));
    }

    #[test]
    fn every_field_at_fault_is_shown_once() {
        let mut details = ErrorDetails::with_error_info("INVALID_FIELDS", "usher", HashMap::new());
        details.add_bad_request_violation("user.email", "must have exactly one @");
        details.add_bad_request_violation("user.labels[1]", "is empty; leave it out");
        let status = Status::with_error_details(Code::InvalidArgument, "2 fields: user.email: …", details);
        assert_eq!(
            told(&status.into()),
            "usher: 2 fields are not valid\n  user.email: must have exactly one @\n  user.labels[1]: is empty; leave it out\n"
        );
    }

    #[test]
    fn a_refusal_names_the_command_that_leads_on() {
        let failure = refused(Code::FailedPrecondition, "USER_EXPIRED");
        assert_eq!(
            told(&failure),
            "usher: no\n  try: `usher users expire USER DATE` (or `never`)\n"
        );
        assert_eq!(failure.reason(), Some(ErrorReason::UserExpired));
    }

    #[test]
    fn u8_a_limit_of_seats_is_a_refusal_that_waiting_does_not_lift() {
        let failure = refused(Code::ResourceExhausted, "SEAT_LIMIT");
        assert_eq!((failure.exit(), failure.is_passing()), (Exit::Data, false));
        assert!(told(&failure).contains("usher tenants update --seat-limit"));
        assert!(refused(Code::ResourceExhausted, "OVERLOADED").is_passing());
    }

    #[test]
    fn a_server_that_is_away_is_told_from_one_whose_database_is() {
        let away = Failure::from(Status::unavailable("tcp connect error"));
        assert!(told(&away).starts_with("usher: no answer from http://127.0.0.1:1: tcp connect error"));
        let database = refused(Code::Unavailable, "STORE_UNAVAILABLE");
        assert!(told(&database).contains("again in a moment"));
        assert!(away.is_passing() && database.is_passing());
        assert!(!refused(Code::NotFound, "TENANT_NOT_FOUND").is_passing());
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        let failure = Failure::from(Status::not_found("a\u{1b}[2Jb"));
        assert_eq!(told(&failure), "usher: a�[2Jb\n");
    }
}
