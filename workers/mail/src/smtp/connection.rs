//! One connection to the mail server, a step of the dialogue at a time, each within its own time.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use lettre::address::Address;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt, Rset};
use lettre::transport::smtp::response::{Response, Severity};
use tokio::net::TcpStream;

use super::config::{Encryption, Server, Timeouts};
use crate::one_line;

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server answered, and the answer was no.
    No(Reply),
    /// No answer, or none that makes sense: nothing more can be said on this connection.
    Broken(String),
}

/// A server's answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The whole answer, the code included, on one line.
    pub(super) text: String,
}

impl Reply {
    fn new(code: u16, text: &str) -> Self {
        Self {
            code,
            text: one_line(&format!("{code} {text}")),
        }
    }

    pub(super) fn is_permanent(&self) -> bool {
        self.code >= 500
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No(reply) => f.write_str(&reply.text),
            Self::Broken(fault) => f.write_str(fault),
        }
    }
}

pub(super) struct Connection {
    inner: AsyncSmtpConnection,
    timeouts: Timeouts,
    /// How many mails were begun on it.
    pub(super) mails: u32,
    /// A mail was begun and not brought to its end: the server has to be told before the next.
    unfinished: bool,
}

impl Connection {
    /// Connects, greets, turns on TLS and signs in.
    pub(super) async fn open(server: &Server, timeouts: Timeouts) -> Result<Self, Fault> {
        let limit = timeouts.connect;
        let mut inner = if let Encryption::Implicit(tls) = &server.encryption {
            let (address, tls) = ((server.host.as_str(), server.port), Some(tls.clone()));
            let connect = AsyncSmtpConnection::connect_tokio1(address, Some(limit), &server.hello_name, tls, None);
            within(limit * 2, connect).await?
        } else {
            let stream = Box::new(connect(server, limit).await?);
            let greet = AsyncSmtpConnection::connect_with_transport(stream, &server.hello_name);
            within(limit, greet).await?
        };
        match &server.encryption {
            Encryption::Required(tls) => within(limit, inner.starttls(tls.clone(), &server.hello_name)).await?,
            Encryption::Offered(tls) if inner.can_starttls() => {
                within(limit, inner.starttls(tls.clone(), &server.hello_name)).await?;
            }
            _ => {}
        }
        if let Some(credentials) = &server.credentials {
            within(limit, inner.auth(&[Mechanism::Plain, Mechanism::Login], credentials)).await?;
        }
        Ok(Self {
            inner,
            timeouts,
            mails: 0,
            unfinished: false,
        })
    }

    /// MAIL, after an RSET if the mail before was not brought to its end.
    pub(super) async fn begin(&mut self, from: &Address) -> Result<(), Fault> {
        if self.unfinished {
            let reset = within(self.timeouts.command, self.inner.command(Rset)).await;
            reset.map_err(|fault| Fault::Broken(fault.to_string()))?;
        }
        self.mails += 1;
        self.unfinished = true;
        let mail = Mail::new(Some(from.clone()), vec![]);
        positive(within(self.timeouts.command, self.inner.command(mail)).await?).map(drop)
    }

    /// RCPT.
    pub(super) async fn recipient(&mut self, to: &Address) -> Result<(), Fault> {
        let recipient = Rcpt::new(to.clone(), vec![]);
        positive(within(self.timeouts.command, self.inner.command(recipient)).await?).map(drop)
    }

    /// DATA, up to the 354. From here on only the content may follow, or the end of the connection.
    pub(super) async fn data(&mut self) -> Result<(), Fault> {
        let response = within(self.timeouts.data, self.inner.command(Data)).await?;
        if response.has_code(354) {
            Ok(())
        } else {
            Err(unexpected(&response))
        }
    }

    /// The content with the final dot, and the answer to it.
    pub(super) async fn content(&mut self, content: &str) -> Result<Reply, Fault> {
        let response = within(self.timeouts.content, self.inner.command(stuffed(content))).await?;
        let response = positive(response)?;
        self.unfinished = false;
        Ok(reply(&response))
    }

    /// Takes leave.
    pub(super) async fn quit(mut self) {
        // The server may well be gone, and nothing depends on its answer.
        let _ = within(Duration::from_secs(2), self.inner.command(Quit)).await;
    }
}

/// Connects to the first address that answers, without Nagle's delay: an SMTP client always waits for answers.
async fn connect(server: &Server, limit: Duration) -> Result<TcpStream, Fault> {
    let addresses: Vec<SocketAddr> =
        match tokio::time::timeout(limit, tokio::net::lookup_host((server.host.as_str(), server.port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(unreachable(server, &error.to_string())),
            Err(_) => return Err(unreachable(server, "its name could not be resolved in time")),
        };
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        last = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer from {address} within {} s", limit.as_secs()),
        };
    }
    Err(unreachable(server, &last))
}

fn unreachable(server: &Server, cause: &str) -> Fault {
    Fault::Broken(one_line(&format!(
        "cannot connect to {}:{}: {cause}",
        server.host, server.port
    )))
}

/// Waits for a step, but not longer than it may take.
async fn within<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, Fault> {
    let error = match tokio::time::timeout(limit, step).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(_) => return Err(Fault::Broken(format!("no answer within {} s", limit.as_secs()))),
    };
    let text = error.source().map(ToString::to_string);
    Err(match error.status() {
        Some(code) => Fault::No(Reply::new(code.into(), &text.unwrap_or_default())),
        None => Fault::Broken(one_line(&error.to_string())),
    })
}

/// Only a 2xx ends a step well; lettre takes a 3xx for well, too.
fn positive(response: Response) -> Result<Response, Fault> {
    if response.code().severity == Severity::PositiveCompletion {
        Ok(response)
    } else {
        Err(unexpected(&response))
    }
}

fn unexpected(response: &Response) -> Fault {
    Fault::Broken(one_line(&format!("unexpected answer: {}", reply(response).text)))
}

fn reply(response: &Response) -> Reply {
    let text: Vec<&str> = response.message().collect();
    Reply::new(response.code().into(), &text.join(" "))
}

/// The content as it travels: dots at the beginning of lines doubled (RFC 5321 section 4.5.2), the final dot after it. In
/// one piece, so that it goes out in one write.
fn stuffed(content: &str) -> String {
    let mut stuffed = String::with_capacity(content.len() + 64);
    for line in content.split_inclusive('\n') {
        if line.starts_with('.') {
            stuffed.push('.');
        }
        stuffed.push_str(line);
    }
    if !stuffed.ends_with("\r\n") {
        stuffed.push_str("\r\n");
    }
    stuffed.push_str(".\r\n");
    stuffed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_at_the_beginning_of_a_line_is_doubled_and_the_last_line_is_a_dot() {
        assert_eq!(stuffed(".a\r\n..\r\nb.\r\n"), "..a\r\n...\r\nb.\r\n.\r\n");
        assert_eq!(stuffed("a"), "a\r\n.\r\n");
    }
}
