//! Just enough HTTP for admin ports and the broker's management API.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// For example 200.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Response {
    /// Itself if the status is 2xx.
    pub fn success(self) -> Result<Self> {
        if !(200..300).contains(&self.status) {
            bail!("HTTP status {}: {}", self.status, self.body);
        }
        Ok(self)
    }
}

/// `GET` from a port of the loopback interface.
pub async fn get(port: u16, path: &str) -> Result<Response> {
    request(&format!("127.0.0.1:{port}"), "GET", path, None, "").await
}

/// A request with JSON as its body. HTTP/1.0, so that the answer is not chunked and ends with the connection.
pub async fn request(
    host: &str,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    body: &str,
) -> Result<Response> {
    let authorization = authorization
        .map(|it| format!("Authorization: {it}\r\n"))
        .unwrap_or_default();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let exchange = async {
        let mut stream = TcpStream::connect(host).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(DEADLINE, exchange).await.context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("not HTTP")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|it| it.parse().ok())
        .context("no HTTP status")?;
    Ok(Response {
        status,
        body: body.to_owned(),
    })
}
