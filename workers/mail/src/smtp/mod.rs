//! Mails by SMTP (RFC 5321): a bounded number of connections, each used for many mails one after the other.

mod config;
mod connection;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use self::config::Server;
use self::connection::{Connection, Fault};
use crate::{Breaker, Composed, Mail, Phase, Progress, SendOutcome, Transport, compose, one_line};

pub use self::config::{InvalidSmtp, SmtpConfig, SmtpUrl, StartTls, Timeouts};

/// After so many mails a connection is replaced: servers limit this, and load balancers want it.
const MAILS_PER_CONNECTION: u32 = 100;
/// A connection that was idle for longer is not used again: servers may close it any moment.
const LONGEST_IDLE: Duration = Duration::from_mins(1);

/// Sends mails by SMTP.
pub struct SmtpTransport {
    server: Server,
    timeouts: Timeouts,
    slots: Semaphore,
    connections: usize,
    idle: Mutex<Vec<Idle>>,
    breaker: Breaker,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection and the right to have one.
struct Held<'a> {
    connection: Connection,
    _slot: SemaphorePermit<'a>,
}

impl SmtpTransport {
    /// To a mail server. It is not contacted before the first mail.
    pub fn try_new(config: &SmtpConfig) -> Result<Self, InvalidSmtp> {
        Ok(Self {
            server: Server::try_new(config)?,
            timeouts: Timeouts::default(),
            slots: Semaphore::new(config.connections),
            connections: config.connections,
            idle: Mutex::default(),
            breaker: Breaker::default(),
        })
    }

    /// With other limits of time, for tests and for servers on the same host.
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// At most so many connections at a time.
    pub fn connections(&self) -> usize {
        self.connections
    }

    async fn dialogue(&self, composed: &Composed, content: &str, progress: &dyn Progress) -> SendOutcome {
        let Ok(Ok(slot)) = tokio::time::timeout(self.timeouts.wait, self.slots.acquire()).await else {
            let waited = self.timeouts.wait.as_secs();
            return SendOutcome::Unreachable {
                response: format!("no connection became free within {waited} s"),
            };
        };
        let mut held = match self.begin(composed, slot).await {
            Ok(held) => held,
            Err(outcome) => return outcome,
        };
        if let Err(fault) = held.connection.recipient(&composed.to).await {
            return self.unsent(held, Phase::Recipient, fault);
        }
        if let Err(fault) = held.connection.data().await {
            return self.unsent(held, Phase::Data, fault);
        }
        if progress.transmitting().await.is_err() {
            // Whatever is said now would be taken for content: only hanging up says that there is none.
            drop(held);
            return SendOutcome::Withheld;
        }
        match held.connection.content(content).await {
            Ok(reply) => {
                self.give_back(held);
                SendOutcome::Sent {
                    code: reply.code,
                    response: reply.text,
                }
            }
            Err(fault @ Fault::No(_)) => self.unsent(held, Phase::Content, fault),
            Err(Fault::Broken(fault)) => SendOutcome::Uncertain { response: fault },
        }
    }

    /// A connection on which the mail server took MAIL. One that lay idle may have died unnoticed, or have used up what
    /// the server allows a connection: nothing was said about this mail yet, so a fresh one gets to answer.
    async fn begin<'a>(&'a self, composed: &Composed, slot: SemaphorePermit<'a>) -> Result<Held<'a>, SendOutcome> {
        if let Some(mut connection) = self.take_idle() {
            match connection.begin(&composed.from).await {
                Ok(()) => {
                    return Ok(Held {
                        connection,
                        _slot: slot,
                    });
                }
                Err(fault) => tracing::debug!(%fault, "a connection that lay idle is of no more use"),
            }
        }
        let mut connection = self.open().await?;
        match connection.begin(&composed.from).await {
            Ok(()) => Ok(Held {
                connection,
                _slot: slot,
            }),
            Err(fault) => Err(self.unsent(
                Held {
                    connection,
                    _slot: slot,
                },
                Phase::Mail,
                fault,
            )),
        }
    }

    async fn open(&self) -> Result<Connection, SendOutcome> {
        match Connection::open(&self.server, self.timeouts).await {
            Ok(connection) => {
                self.breaker.reached();
                Ok(connection)
            }
            Err(fault) => {
                self.breaker.failed();
                tracing::warn!(%fault, "the mail server cannot be reached");
                Err(SendOutcome::Unreachable {
                    response: one_line(&fault.to_string()),
                })
            }
        }
    }

    /// How a mail ended that the server certainly did not take.
    fn unsent(&self, held: Held<'_>, phase: Phase, fault: Fault) -> SendOutcome {
        match fault {
            Fault::Broken(response) => SendOutcome::Deferred {
                phase,
                code: 0,
                response,
            },
            Fault::No(reply) => {
                let (code, response) = (reply.code, reply.text.clone());
                // 421: the server is about to hang up.
                if code != 421 {
                    self.give_back(held);
                }
                if phase == Phase::Mail && matches!(code, 530 | 534 | 535 | 538) {
                    // It wants us to sign in, or in another way: no matter of this mail.
                    self.breaker.failed();
                    return SendOutcome::Unreachable { response };
                }
                if reply.is_permanent() {
                    SendOutcome::Failed { phase, code, response }
                } else {
                    SendOutcome::Deferred { phase, code, response }
                }
            }
        }
    }

    fn give_back(&self, held: Held<'_>) {
        if held.connection.mails >= MAILS_PER_CONNECTION {
            tokio::spawn(held.connection.quit());
        } else {
            // In the list before the slot is free: the next one finds it.
            self.idle().push(Idle {
                connection: held.connection,
                since: Instant::now(),
            });
        }
    }

    /// The connection that was used last; those that lay idle for too long are let go.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        let stale = idle
            .iter()
            .take_while(|idle| idle.since.elapsed() > LONGEST_IDLE)
            .count();
        for stale in idle.drain(..stale) {
            tokio::spawn(stale.connection.quit());
        }
        idle.pop().map(|idle| idle.connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects and takes leave again.
    async fn probe(&self) -> bool {
        match Connection::open(&self.server, self.timeouts).await {
            Ok(connection) => {
                connection.quit().await;
                true
            }
            Err(fault) => {
                tracing::warn!(%fault, "the mail server still cannot be reached");
                false
            }
        }
    }
}

#[async_trait]
impl Transport for SmtpTransport {
    async fn ready(&self) {
        self.breaker.ready(|| self.probe()).await;
    }

    async fn send(&self, mail: &Mail, progress: &dyn Progress) -> SendOutcome {
        let composed = match compose(mail) {
            Ok(composed) => composed,
            Err(error) => {
                return SendOutcome::Failed {
                    phase: Phase::Mail,
                    code: 0,
                    response: one_line(&error.to_string()),
                };
            }
        };
        let Ok(content) = std::str::from_utf8(&composed.content) else {
            let response = "the mail is not UTF-8".to_owned();
            return SendOutcome::Failed {
                phase: Phase::Mail,
                code: 0,
                response,
            };
        };
        self.dialogue(&composed, content, progress).await
    }

    async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        let leaving: Vec<_> = idle
            .into_iter()
            .map(|idle| tokio::spawn(idle.connection.quit()))
            .collect();
        for leave in leaving {
            let _ = leave.await;
        }
    }
}
