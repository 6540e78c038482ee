//! How a store is reached.

use std::time::Duration;

use secrecy::SecretString;

/// Where the database is and how long anything may take there.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `postgres://user:password@host/database` or `sqlite:path?mode=rwc`; `sqlite::memory:` for tests.
    ///
    /// Over TLS the driver leaves Nagle's algorithm on, and a large batch may wait 40 ms for an acknowledgement. On the
    /// loopback interface TLS is therefore off unless the URL asks for it by `sslmode`.
    pub url: SecretString,
    /// Connections to PostgreSQL, or readers of SQLite, which has one writer beside them.
    pub max_connections: u32,
    /// How long a call waits for a connection before it is told that the database does not answer.
    pub acquire_timeout: Duration,
    /// How long a statement may take (PostgreSQL).
    pub statement_timeout: Duration,
    /// How long a transaction may wait for its next statement before the server ends it (PostgreSQL): what a process
    /// holds that stopped in mid-air.
    pub idle_in_transaction_session_timeout: Duration,
}

impl StoreConfig {
    /// The defaults, for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            max_connections: 16,
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(10),
            idle_in_transaction_session_timeout: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_shows_in_debug() {
        let config = StoreConfig::new("postgres://usher:secret-word@db/usher");
        assert!(!format!("{config:?}").contains("secret-word"));
    }
}
