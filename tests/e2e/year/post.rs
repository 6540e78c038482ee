//! The mail server of a year: it notes what it took and when, and sometimes does not take it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use usher_core::clock::{Clock as _, ManualClock, Timestamp};
use usher_mail::{Mail, Phase, Progress, SendOutcome, Transport};

/// A mail whose content was handed over.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    pub(super) to: String,
    pub(super) message_id: String,
    pub(super) at: Timestamp,
    /// The mail server never answered: it may have been taken.
    pub(super) uncertain: bool,
    /// The address was known to be dead by then.
    pub(super) to_the_dead: bool,
}

#[derive(Debug, Default)]
struct Log {
    /// In order.
    posted: Vec<Posted>,
    /// Tries by address.
    tries: HashMap<String, u64>,
    /// The newest text by address.
    texts: HashMap<String, String>,
    /// The newest link by address.
    links: HashMap<String, String>,
    /// Addresses that bounced or complained, with the last instant at which a mail to them may have been on its way already.
    dead: HashMap<String, Timestamp>,
}

/// What becomes of a mail depends on the seed, the address and how many came before it.
#[derive(Debug)]
pub(super) struct Post {
    /// `None`: it takes every mail.
    seed: Option<u64>,
    clock: ManualClock,
    log: Mutex<Log>,
}

impl Post {
    pub(super) fn new(seed: Option<u64>, clock: ManualClock) -> Self {
        Self {
            seed,
            clock,
            log: Mutex::default(),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn posted(&self) -> Vec<Posted> {
        self.log().posted.clone()
    }

    /// The token of the newest link that somebody was sent.
    pub(super) fn link(&self, address: &str) -> Option<String> {
        self.log().links.get(address).cloned()
    }

    /// The newest text that somebody was sent.
    pub(super) fn text(&self, address: &str) -> Option<String> {
        self.log().texts.get(address).cloned()
    }

    /// The newest mail that somebody was sent.
    pub(super) fn last(&self, address: &str) -> Option<Posted> {
        self.log().posted.iter().rfind(|posted| posted.to == address).cloned()
    }

    /// From now on nothing is to come to an address: it was reported.
    pub(super) fn bury(&self, address: &str) {
        self.bury_after(address, Timestamp::MIN_UTC);
    }

    fn bury_after(&self, address: &str, last: Timestamp) {
        self.log().dead.entry(address.to_owned()).or_insert(last);
    }

    fn dice(&self, address: &str) -> StdRng {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut log = self.log();
        let tries = log.tries.entry(address.to_owned()).or_default();
        *tries += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, address, *tries).hash(&mut hasher);
        StdRng::seed_from_u64(hasher.finish())
    }
}

#[async_trait]
impl Transport for Post {
    async fn send(&self, mail: &Mail, progress: &dyn Progress) -> SendOutcome {
        let dice = match self.seed {
            Some(_) => self.dice(&mail.to_address).random_range(0..1_000),
            None => u32::MAX,
        };
        let answer = |text: &str| text.to_owned();
        match dice {
            0..10 => {
                return SendOutcome::Unreachable {
                    response: answer("connection refused"),
                };
            }
            10..35 => {
                return SendOutcome::Deferred {
                    phase: Phase::Recipient,
                    code: 451,
                    response: answer("4.7.1 come again"),
                };
            }
            35..43 => {
                // Two mails to one person may go out in the same instant: the other one is refused by its own answer.
                self.bury_after(&mail.to_address, self.clock.now());
                return SendOutcome::Failed {
                    phase: Phase::Recipient,
                    code: 550,
                    response: answer("5.1.1 no such user"),
                };
            }
            _ => {}
        }
        if progress.transmitting().await.is_err() {
            return SendOutcome::Withheld;
        }
        let uncertain = (43..50).contains(&dice);
        let mut log = self.log();
        let posted = Posted {
            to: mail.to_address.clone(),
            message_id: mail.message_id.clone(),
            at: self.clock.now(),
            uncertain,
            to_the_dead: log
                .dead
                .get(&mail.to_address)
                .is_some_and(|last| *last < self.clock.now()),
        };
        log.posted.push(posted);
        log.texts.insert(mail.to_address.clone(), mail.text.clone());
        if let Some((_, rest)) = mail.text.split_once("token=") {
            let token = rest.split_whitespace().next().unwrap_or_default().to_owned();
            log.links.insert(mail.to_address.clone(), token);
        }
        if uncertain {
            SendOutcome::Uncertain {
                response: answer("connection reset"),
            }
        } else {
            SendOutcome::Sent {
                code: 250,
                response: answer("2.0.0 taken"),
            }
        }
    }
}
