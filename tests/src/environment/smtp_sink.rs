//! An SMTP server that does what a test tells it to: refuses at any step, hangs up where it hurts, or answers late. It
//! keeps whatever it received, also the mails that it never confirmed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::mail::ParsedMail;

/// What happens to one mail. `code` decides whether a refusal is temporary (4xx) or permanent (5xx).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// It is taken.
    Accept,
    /// Refused at RCPT.
    RefuseRecipient {
        /// For example 550.
        code: u16,
        /// For example `5.1.1 no such user`.
        text: String,
    },
    /// Refused at DATA, in place of the 354.
    RefuseData {
        /// For example 451.
        code: u16,
        /// After the code.
        text: String,
    },
    /// Received, then refused after the final dot.
    RefuseContent {
        /// For example 554.
        code: u16,
        /// After the code.
        text: String,
    },
    /// The connection ends at DATA, before the 354.
    HangUpBeforeGoAhead,
    /// The connection ends right after the 354.
    HangUpAfterGoAhead,
    /// The mail is received and the connection ends before the 250: the sender cannot know.
    HangUpAfterDot,
    /// It is taken, and the 250 comes this late.
    ConfirmAfter(Duration),
}

/// A mail of which the final dot arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The address in RCPT.
    pub recipient: String,
    /// Without angle brackets.
    pub message_id: String,
    /// Headers and body, without the dots added for transport.
    pub content: Vec<u8>,
    /// Whether the 250 was sent.
    pub confirmed: bool,
}

impl Received {
    /// The mail, taken apart.
    pub fn parsed(&self) -> Option<ParsedMail> {
        ParsedMail::parse(&self.content)
    }
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were opened.
    pub connections: usize,
    /// Times that RCPT was said.
    pub recipients: usize,
    /// Mails of which the final dot arrived.
    pub received: usize,
    /// Of these, those answered with 250.
    pub confirmed: usize,
}

/// A scriptable SMTP server on a free port of the loopback interface. It ends when it is dropped.
pub struct SmtpSink {
    port: u16,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

struct State {
    default: Behaviour,
    scripts: HashMap<String, VecDeque<Behaviour>>,
    refusing: Option<String>,
    received: Vec<Received>,
    counts: Counts,
}

impl SmtpSink {
    /// Starts one that takes every mail.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State {
            default: Behaviour::Accept,
            scripts: HashMap::new(),
            refusing: None,
            received: Vec::new(),
            counts: Counts::default(),
        }));
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    // An end in mid-sentence is the sender's, and no matter here.
                    let _ = Session::new(stream, state).serve().await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port, state, accepting })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What happens to mails without a script of their own.
    pub fn by_default(&self, behaviour: Behaviour) {
        self.state().default = behaviour;
    }

    /// What happens to the next mails to an address, one after the other; then it is the default again.
    pub fn script(&self, recipient: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state()
            .scripts
            .entry(recipient.to_lowercase())
            .or_default()
            .extend(behaviours);
    }

    /// Greets every connection with this 421 and closes it, until it is told `None`.
    pub fn refuse_connections(&self, text: Option<&str>) {
        self.state().refusing = text.map(ToOwned::to_owned);
    }

    /// Every mail received so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// The mails received for an address, in order.
    pub fn received_by(&self, recipient: &str) -> Vec<Received> {
        let to = |mail: &&Received| mail.recipient.eq_ignore_ascii_case(recipient);
        self.state().received.iter().filter(to).cloned().collect()
    }

    /// How much happened so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Session {
    lines: BufReader<tokio::net::tcp::OwnedReadHalf>,
    answers: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
    /// Recipients that were accepted, and what is to happen to the mail: what the first one's script says.
    recipients: Vec<String>,
    behaviour: Behaviour,
}

impl Session {
    fn new(stream: TcpStream, state: Arc<Mutex<State>>) -> Self {
        let _ = stream.set_nodelay(true);
        let (reading, answers) = stream.into_split();
        Self {
            lines: BufReader::new(reading),
            answers,
            state,
            recipients: Vec::new(),
            behaviour: Behaviour::Accept,
        }
    }

    async fn serve(mut self) -> std::io::Result<()> {
        let refusing = {
            let mut state = lock(&self.state);
            state.counts.connections += 1;
            state.refusing.clone()
        };
        if let Some(text) = refusing {
            return self.answer(421, &text).await;
        }
        self.answer(220, "sink.usher.test ESMTP").await?;
        loop {
            let mut line = Vec::new();
            if self.lines.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    self.answers
                        .write_all(b"250-sink.usher.test\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
                        .await?;
                }
                "HELO" | "NOOP" => self.answer(250, "ok").await?,
                "MAIL" | "RSET" => {
                    self.recipients.clear();
                    self.answer(250, "ok").await?;
                }
                "RCPT" => self.recipient(&line).await?,
                "DATA" => {
                    if !self.data().await? {
                        return Ok(());
                    }
                }
                "QUIT" => return self.answer(221, "bye").await,
                _ => self.answer(502, "not implemented").await?,
            }
        }
    }

    async fn recipient(&mut self, line: &str) -> std::io::Result<()> {
        let address = line
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map_or("", |(it, _)| it);
        let behaviour = {
            let mut state = lock(&self.state);
            state.counts.recipients += 1;
            let scripted = state
                .scripts
                .get_mut(&address.to_lowercase())
                .and_then(VecDeque::pop_front);
            scripted.unwrap_or_else(|| state.default.clone())
        };
        if let Behaviour::RefuseRecipient { code, text } = behaviour {
            return self.answer(code, &text).await;
        }
        if self.recipients.is_empty() {
            self.behaviour = behaviour;
        }
        self.recipients.push(address.to_owned());
        self.answer(250, "ok").await
    }

    /// Takes a mail. `false`: the connection is to end.
    async fn data(&mut self) -> std::io::Result<bool> {
        if self.recipients.is_empty() {
            self.answer(503, "no recipient").await?;
            return Ok(true);
        }
        match self.behaviour.clone() {
            Behaviour::RefuseData { code, text } => {
                self.answer(code, &text).await?;
                return Ok(true);
            }
            Behaviour::HangUpBeforeGoAhead => return Ok(false),
            _ => self.answer(354, "go ahead").await?,
        }
        if self.behaviour == Behaviour::HangUpAfterGoAhead {
            return Ok(false);
        }
        let content = self.content().await?;
        let unconfirmed = matches!(
            self.behaviour,
            Behaviour::RefuseContent { .. } | Behaviour::HangUpAfterDot
        );
        let first = self.keep(&content);
        match self.behaviour.clone() {
            Behaviour::RefuseContent { code, text } => self.answer(code, &text).await?,
            Behaviour::HangUpAfterDot => return Ok(false),
            Behaviour::ConfirmAfter(delay) => {
                tokio::time::sleep(delay).await;
                self.answer(250, "2.0.0 taken late").await?;
            }
            _ => self.answer(250, "2.0.0 taken").await?,
        }
        if !unconfirmed {
            let count = self.recipients.len();
            let mut state = lock(&self.state);
            state.counts.confirmed += count;
            state.received[first..first + count]
                .iter_mut()
                .for_each(|mail| mail.confirmed = true);
        }
        self.recipients.clear();
        Ok(true)
    }

    /// The lines up to the final dot.
    async fn content(&mut self) -> std::io::Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let start = content.len();
            if self.lines.read_until(b'\n', &mut content).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match &content[start..] {
                b".\r\n" => {
                    content.truncate(start);
                    return Ok(content);
                }
                [b'.', ..] => drop(content.remove(start)),
                _ => {}
            }
        }
    }

    /// Keeps a mail for each of its recipients, side by side, and answers the place of the first.
    fn keep(&self, content: &[u8]) -> usize {
        let message_id = ParsedMail::parse(content)
            .map(|mail| mail.message_id)
            .unwrap_or_default();
        let mut state = lock(&self.state);
        let first = state.received.len();
        state.counts.received += self.recipients.len();
        state.received.extend(self.recipients.iter().map(|recipient| Received {
            recipient: recipient.clone(),
            message_id: message_id.clone(),
            content: content.to_vec(),
            confirmed: false,
        }));
        first
    }

    async fn answer(&mut self, code: u16, text: &str) -> std::io::Result<()> {
        self.answers.write_all(format!("{code} {text}\r\n").as_bytes()).await
    }
}
