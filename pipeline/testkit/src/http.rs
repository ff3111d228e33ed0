//! The smallest HTTP client: one GET, answered with a status and a body. Enough to ask a server whether it is
//! ready; tests of HTTP itself use a real client.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const LIMIT: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The status and body of `url` (`http` only), asked once, within 10 seconds between bytes.
///
/// # Errors
/// When the server cannot be reached or does not speak HTTP/1.
pub async fn http_get(url: &str) -> Result<(u16, String)> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || get(&url)).await.context("http_get")?
}

pub(crate) fn get(url: &str) -> Result<(u16, String)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not an http url"))?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let address = authority.to_socket_addrs().with_context(|| format!("address of {url}"))?;
    let address = address.into_iter().next().with_context(|| format!("{url} has no address"))?;
    let mut stream =
        TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connect to {url}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // HTTP/1.0: the end of the connection is the end of the body, so there are no chunks to put together.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: */*\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(BODY_BYTES_MAX).read_to_end(&mut answer).with_context(|| format!("read {url}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{url} is not HTTP"))?;
    match head.split_whitespace().nth(1).map(str::parse) {
        Some(Ok(status)) if head.starts_with("HTTP/1.") => Ok((status, body.to_owned())),
        _ => bail!("{url} is not HTTP"),
    }
}
