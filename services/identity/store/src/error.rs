//! What a failure of the database means to a caller: by SQLSTATE and by the driver's kinds, never by the text.

use sea_orm::sqlx::error::ErrorKind;
use sea_orm::{DbErr, RuntimeErr, sqlx};
use usher_core::ports::StoreError;

/// The meaning of a sea-orm error.
#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err asks for")]
pub(crate) fn store_error(error: DbErr) -> StoreError {
    match &error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => driver_error(cause),
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Internal(error.to_string()),
    }
}

/// The meaning of an error of the driver.
pub(crate) fn driver_error(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(answer) => {
            let code = answer.code().unwrap_or_default();
            let postgres = answer.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some();
            if matches!(answer.kind(), ErrorKind::UniqueViolation) {
                StoreError::Conflict(text)
            } else if postgres {
                by_sqlstate(&code, text)
            } else {
                by_sqlite_code(&code, text)
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => StoreError::Unavailable(text),
        _ => StoreError::Internal(text),
    }
}

/// A row that this program cannot understand.
pub(crate) fn unreadable(what: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Internal(format!("{what} {value} is not known to this version"))
}

fn by_sqlstate(code: &str, text: String) -> StoreError {
    match code {
        // Serialization failure, deadlock.
        "40001" | "40P01" => StoreError::Conflict(text),
        // Lock timeout, statement timeout, idle transaction ended, a standby that takes no writes.
        "55P03" | "57014" | "25P03" | "25006" => StoreError::Unavailable(text),
        // Connection, resources, operator intervention, system.
        _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => StoreError::Unavailable(text),
        _ => StoreError::Internal(text),
    }
}

fn by_sqlite_code(code: &str, text: String) -> StoreError {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const IO: i32 = 10;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    // The lower byte of an extended code is the primary one.
    match code.parse::<i32>().map(|code| code & 0xff) {
        Ok(BUSY | LOCKED) => StoreError::Conflict(text),
        Ok(IO | FULL | CANNOT_OPEN) => StoreError::Unavailable(text),
        _ => StoreError::Internal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_are_told_apart() {
        for (code, expected) in [
            ("40001", "conflict"),
            ("40P01", "conflict"),
            ("57P01", "unavailable"),
            ("57014", "unavailable"),
            ("53300", "unavailable"),
            ("42P01", "internal"),
            ("22001", "internal"),
        ] {
            assert_eq!(name(&by_sqlstate(code, String::new())), expected, "{code}");
        }
    }

    #[test]
    fn extended_codes_of_sqlite_count_as_their_primary_one() {
        for (code, expected) in [
            ("5", "conflict"),
            ("517", "conflict"),
            ("262", "conflict"),
            ("13", "unavailable"),
            ("1", "internal"),
        ] {
            assert_eq!(name(&by_sqlite_code(code, String::new())), expected, "{code}");
        }
    }

    fn name(error: &StoreError) -> &'static str {
        match error {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Conflict(_) => "conflict",
            StoreError::Internal(_) => "internal",
        }
    }
}
