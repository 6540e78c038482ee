//! How to reach the mail server.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::extension::ClientId;
use serde::{Deserialize, Deserializer};
use url::Url;

/// The section `[smtp]` of a worker's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// Where it is.
    pub url: SmtpUrl,
    /// Whether to turn on TLS on an `smtp://` connection.
    pub starttls: StartTls,
    /// The name given in EHLO; empty: this host's.
    pub hello_name: String,
    /// At most so many connections at a time: 1 to 100.
    #[serde(deserialize_with = "connections")]
    pub connections: usize,
}

impl SmtpConfig {
    /// Finds what keeps a transport from being made of it, without making one.
    pub fn check(&self) -> Result<(), InvalidSmtp> {
        Server::try_new(self).map(drop)
    }
}

fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        connections @ 1..=100 => Ok(connections),
        _ => Err(serde::de::Error::custom("out of range; expected 1 to 100")),
    }
}

/// `smtp://[user:password@]host[:25]`, or `smtps://…[:465]` for TLS from the first octet on. Characters of user and password
/// that mean something in a URL are written as `%40` and so on. Shown without both.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct SmtpUrl {
    implicit_tls: bool,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TryFrom<String> for SmtpUrl {
    type Error = InvalidSmtp;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let invalid = |problem: &str| {
            let form = "expected smtp://user:password@host:port or smtps://host";
            Err(InvalidSmtp(format!("{problem}; {form}")))
        };
        if text.is_empty() {
            return invalid("a value is required");
        }
        let url = match Url::parse(&text) {
            Ok(url) => url,
            Err(error) => return invalid(&error.to_string()),
        };
        let implicit_tls = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            _ => return invalid("the scheme is neither smtp nor smtps"),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return invalid("there is no host");
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return invalid("there is something after the port");
        }
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) | (_, None) => return invalid("a user needs a password, and a password a user"),
            (user, Some(password)) => match (percent_decode(user), percent_decode(password)) {
                (Some(user), Some(password)) => Some(Credentials::new(user, password)),
                _ => return invalid("the user or the password is not UTF-8"),
            },
        };
        Ok(Self {
            implicit_tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(if implicit_tls { 465 } else { 25 }),
            credentials,
        })
    }
}

/// When STARTTLS is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartTls {
    /// If the server offers it, whoever it is (RFC 7435). With a password in the URL: the server has to prove who it is, and
    /// has to offer it unless it is on this host.
    Auto,
    /// Always, and the server has to prove who it is.
    Required,
    /// Never.
    Never,
}

/// How long each step may take. The defaults follow RFC 5321 section 4.5.3.2: above all ten minutes for the answer to the
/// final dot, since giving up there earlier is how duplicates are made.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection to become free.
    pub wait: Duration,
    /// Connection, TLS, greeting, EHLO and AUTH, each.
    pub connect: Duration,
    /// MAIL, RCPT and RSET.
    pub command: Duration,
    /// DATA.
    pub data: Duration,
    /// The content and the answer to the final dot.
    pub content: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            wait: Duration::from_mins(1),
            connect: Duration::from_secs(10),
            command: Duration::from_mins(1),
            data: Duration::from_mins(2),
            content: Duration::from_mins(10),
        }
    }
}

/// A setting that cannot be used: what is wrong with it, and what to write. Never holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSmtp(pub String);

/// The settings, checked.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) encryption: Encryption,
    pub(super) credentials: Option<Credentials>,
    pub(super) hello_name: ClientId,
}

pub(super) enum Encryption {
    Never,
    /// STARTTLS if it is offered.
    Offered(TlsParameters),
    /// STARTTLS.
    Required(TlsParameters),
    /// From the first octet on.
    Implicit(TlsParameters),
}

impl Server {
    pub(super) fn try_new(config: &SmtpConfig) -> Result<Self, InvalidSmtp> {
        let SmtpUrl {
            implicit_tls,
            host,
            port,
            credentials,
        } = config.url.clone();
        let tls = |proven: bool| {
            TlsParameters::builder(host.clone())
                .dangerous_accept_invalid_certs(!proven)
                .dangerous_accept_invalid_hostnames(!proven)
                .build()
                .map_err(|error| InvalidSmtp(format!("TLS cannot be set up: {error}")))
        };
        let nothing_to_hide = credentials.is_none() || is_loopback(&host);
        let encryption = match config.starttls {
            _ if implicit_tls => Encryption::Implicit(tls(true)?),
            StartTls::Never => Encryption::Never,
            StartTls::Auto if nothing_to_hide => Encryption::Offered(tls(false)?),
            StartTls::Auto | StartTls::Required => Encryption::Required(tls(true)?),
        };
        let hello_name = match config.hello_name.as_str() {
            "" => ClientId::default(),
            name => ClientId::Domain(name.to_owned()),
        };
        Ok(Self {
            host,
            port,
            encryption,
            credentials,
            hello_name,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Undoes RFC 3986's percent-encoding; `None` if what comes out is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| first == b'%');
        let value = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if value.is_some() { &tail[2..] } else { tail };
        octets.push(value.unwrap_or(first));
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str, starttls: StartTls) -> SmtpConfig {
        let url = url.to_owned().try_into().unwrap();
        SmtpConfig {
            url,
            starttls,
            hello_name: String::new(),
            connections: 4,
        }
    }

    #[test]
    fn a_url_gives_host_port_user_and_password() {
        let server = Server::try_new(&config(
            "smtp://ana%40school:p%40ss%2Fword@relay.example",
            StartTls::Auto,
        ))
        .unwrap();
        assert_eq!((server.host.as_str(), server.port), ("relay.example", 25));
        assert_eq!(
            server.credentials,
            Some(Credentials::new("ana@school".into(), "p@ss/word".into()))
        );
        assert!(matches!(server.encryption, Encryption::Required(_)));
        let server = Server::try_new(&config("smtps://[::1]:4650", StartTls::Never)).unwrap();
        assert_eq!((server.host.as_str(), server.port), ("::1", 4650));
        assert!(matches!(server.encryption, Encryption::Implicit(_)));
    }

    #[test]
    fn a_password_travels_in_clear_text_only_on_this_host_or_if_told_to() {
        for url in [
            "smtp://u:p@127.0.0.1:25",
            "smtp://u:p@localhost",
            "smtp://relay.example",
        ] {
            let server = Server::try_new(&config(url, StartTls::Auto)).unwrap();
            assert!(matches!(server.encryption, Encryption::Offered(_)), "{url}");
        }
        let server = Server::try_new(&config("smtp://u:p@relay.example", StartTls::Never)).unwrap();
        assert!(matches!(server.encryption, Encryption::Never));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_its_password() {
        for url in [
            "smtp://user:hunter2@",
            "http://u:hunter2@host",
            "smtp://u:hunter2@host/path",
            "smtp://:hunter2@host",
            "u:hunter2@host",
        ] {
            let problem = SmtpUrl::try_from(url.to_owned()).err().unwrap().to_string();
            assert!(
                !problem.contains("hunter2") && problem.contains("expected smtp://"),
                "{problem}"
            );
        }
    }
}
