//! Plain HTTP on loopback, for health checks and etcd's JSON gateway: one request, one connection.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers a GET's body; an error for any status but 200.
pub(crate) async fn get(port: u16, path: &str) -> Result<String> {
    request(port, &format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")).await
}

/// Posts JSON and answers the body; an error for any status but 200.
pub(crate) async fn post(port: u16, path: &str, body: &serde_json::Value) -> Result<serde_json::Value> {
    let body = body.to_string();
    let head = format!("POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = request(port, &(head + &body)).await?;
    serde_json::from_str(&answer).with_context(|| format!("unexpected answer {answer}"))
}

async fn request(port: u16, text: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    // HTTP/1.0: the server closes when it is done.
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if head.split_whitespace().nth(1) != Some("200") {
        bail!("{}: {}", head.lines().next().unwrap_or_default(), body.trim());
    }
    Ok(body.to_owned())
}
