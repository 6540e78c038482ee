//! gRPC-Web as a browser speaks it: HTTP/1.1, with the trailers in the body.

use anyhow::{Context as _, Result};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The bit that marks the frame with the trailers.
const TRAILERS: u8 = 0x80;
/// A frame begins with its kind and its length.
const PREFIX: usize = 5;

pub(super) struct Web {
    host: String,
}

/// What a browser sees.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) http_status: u16,
    headers: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
    pub(super) message: Option<Vec<u8>>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// From the trailers; a refusal may have them among its headers.
    pub(super) fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name).or_else(|| self.header(name))
    }

    pub(super) fn grpc_status(&self) -> Option<&str> {
        self.trailer("grpc-status")
    }

    pub(super) fn grpc_message(&self) -> Option<&str> {
        self.trailer("grpc-message")
    }
}

impl Web {
    pub(super) fn new(port: u16) -> Self {
        Self {
            host: format!("127.0.0.1:{port}"),
        }
    }

    /// One call, with more headers.
    pub(super) async fn call(&self, method: &str, body: &impl Message, more: &[(&str, &str)]) -> Result<Answer> {
        let message = body.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len())?.to_be_bytes());
        frame.extend(message);
        let mut headers = vec![("Content-Type", "application/grpc-web+proto"), ("X-Grpc-Web", "1")];
        headers.extend(more);
        let (mut answer, body) = self.exchange("POST", method, &headers, &frame).await?;
        let mut rest = body.as_slice();
        while let Some((prefix, after)) = rest.split_at_checked(PREFIX) {
            let length = u32::from_be_bytes(prefix[1..].try_into()?);
            let (content, next) = after
                .split_at_checked(usize::try_from(length)?)
                .context("a whole frame")?;
            if prefix[0] & TRAILERS == 0 {
                answer.message = Some(content.to_vec());
            } else {
                answer.trailers = pairs(std::str::from_utf8(content)?);
            }
            rest = next;
        }
        Ok(answer)
    }

    /// What a browser asks before a call to another site.
    pub(super) async fn preflight(&self, method: &str, origin: &str) -> Result<Answer> {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,x-grpc-web"),
        ];
        Ok(self.exchange("OPTIONS", method, &headers, &[]).await?.0)
    }

    async fn exchange(
        &self,
        verb: &str,
        method: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(Answer, Vec<u8>)> {
        let more: String = headers
            .iter()
            .flat_map(|(name, value)| [name, ": ", value, "\r\n"])
            .collect();
        let (host, length) = (&self.host, body.len());
        let head = format!(
            "{verb} /{method} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(&self.host).await?;
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).await?;

        let end = octets.windows(4).position(|it| it == b"\r\n\r\n").context("not HTTP")?;
        let (status, headers) = std::str::from_utf8(&octets[..end])?
            .split_once("\r\n")
            .context("no headers")?;
        let answer = Answer {
            http_status: status.split(' ').nth(1).context("no status")?.parse()?,
            headers: pairs(headers),
            ..Answer::default()
        };
        let rest = &octets[end + 4..];
        let chunked = answer.header("transfer-encoding") == Some("chunked");
        let body = if chunked { unchunk(rest)? } else { rest.to_vec() };
        Ok((answer, body))
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect()
}

/// The body without the sizes between its chunks.
fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|it| it == b"\r\n").context("no chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend(rest.get(end + 2..end + 2 + size).context("a whole chunk")?);
        rest = &rest[end + 2 + size + 2..];
    }
}
