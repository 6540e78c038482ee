//! A mail server that does what a test tells it to, and keeps every octet that it got.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it does instead of going on as usual.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Answers this.
    Say(&'static str),
    /// Hangs up.
    HangUp,
    /// Says nothing any more.
    FallSilent,
}

/// The moments at which it can be told to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// Right after it said 354.
    Content,
    /// After the final dot.
    Dot,
}

/// What it saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Connections, those still open included.
    pub(crate) connections: usize,
    /// The most that were open at a time.
    pub(crate) most_open: usize,
    /// Those that are open now.
    pub(crate) open: usize,
    /// Every command line.
    pub(crate) commands: Vec<String>,
    /// Octets after a 354, dots and final dot included.
    pub(crate) content_octets: usize,
    /// Mails that it took, as they were sent.
    pub(crate) mails: Vec<String>,
}

/// The server. It acts once for each act that it was told, in order; then it goes on as usual.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
    acts: Arc<Mutex<HashMap<At, Vec<Act>>>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("smtp://{}", listener.local_addr().unwrap()),
            seen: Arc::default(),
            acts: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move {
                    {
                        let mut seen = server.seen.lock().unwrap();
                        seen.connections += 1;
                        seen.open += 1;
                        seen.most_open = seen.most_open.max(seen.open);
                    }
                    let _ = server.serve(stream).await;
                    server.seen.lock().unwrap().open -= 1;
                });
            }
        });
        server
    }

    pub(crate) fn when(self, at: At, act: Act) -> Self {
        self.acts.lock().unwrap().entry(at).or_default().push(act);
        self
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        self.answer(&mut stream, At::Greeting, "220 test ESMTP").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let command = line.trim_end().to_owned();
            self.seen.lock().unwrap().commands.push(command.clone());
            match command.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => drop(self.answer(&mut stream, At::Ehlo, "250-test\r\n250 8BITMIME").await?),
                "MAIL" => drop(self.answer(&mut stream, At::Mail, "250 2.1.0 Ok").await?),
                "RCPT" => drop(self.answer(&mut stream, At::Rcpt, "250 2.1.5 Ok").await?),
                "DATA" => {
                    if self.answer(&mut stream, At::Data, "354 go on").await? == 354 {
                        self.content(&mut stream).await?;
                    }
                }
                "QUIT" => {
                    say(&mut stream, "221 bye").await?;
                    return None;
                }
                _ => say(&mut stream, "250 Ok").await?,
            }
        }
    }

    async fn content(&self, stream: &mut BufReader<TcpStream>) -> Option<()> {
        if let Some(act) = self.next_act(At::Content) {
            carry_out(stream, act).await?;
        }
        let mut content = String::new();
        while !content.ends_with("\r\n.\r\n") {
            let read = stream.read_line(&mut content).await.ok()?;
            self.seen.lock().unwrap().content_octets += read;
            if read == 0 {
                return None;
            }
        }
        let act = self.next_act(At::Dot);
        if act.is_none() {
            self.seen.lock().unwrap().mails.push(content);
        }
        carry_out(stream, act.unwrap_or(Act::Say("250 2.0.0 Ok: queued as 7")))
            .await
            .map(drop)
    }

    async fn answer(&self, stream: &mut BufReader<TcpStream>, at: At, usual: &'static str) -> Option<u16> {
        carry_out(stream, self.next_act(at).unwrap_or(Act::Say(usual))).await
    }

    fn next_act(&self, at: At) -> Option<Act> {
        let mut acts = self.acts.lock().unwrap();
        let acts = acts.get_mut(&at)?;
        (!acts.is_empty()).then(|| acts.remove(0))
    }
}

async fn carry_out(stream: &mut BufReader<TcpStream>, act: Act) -> Option<u16> {
    match act {
        Act::Say(text) => {
            say(stream, text).await?;
            text.get(..3)?.parse().ok()
        }
        Act::HangUp => None,
        Act::FallSilent => std::future::pending().await,
    }
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> Option<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()
}
