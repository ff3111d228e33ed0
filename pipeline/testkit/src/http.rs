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
    // HTTP/1.0: the end of the connection is the end of the body. Some servers send a long one in chunks all the same.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: */*\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(BODY_BYTES_MAX).read_to_end(&mut answer).with_context(|| format!("read {url}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{url} is not HTTP"))?;
    match head.split_whitespace().nth(1).map(str::parse) {
        Some(Ok(status)) if head.starts_with("HTTP/1.") => {
            let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
            let body = if is_chunked { unchunked(body) } else { Some(body.to_owned()) };
            Ok((status, body.with_context(|| format!("{url} sent chunks that are none"))?))
        }
        _ => bail!("{url} is not HTTP"),
    }
}

/// The chunks of a body put together (RFC 9112, section 7.1); none if they are no chunks, or cut short.
fn unchunked(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, chunk) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(chunk.get(..size)?);
        rest = chunk.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::unchunked;

    #[test]
    fn chunks_are_put_together_and_a_body_cut_short_is_none() {
        assert_eq!(unchunked("4\r\n[\"a\"\r\n2;x=y\r\n,1\r\n0\r\n\r\n").as_deref(), Some("[\"a\",1"));
        assert_eq!(unchunked("5\r\n[1]"), None);
        assert_eq!(unchunked("[]"), None);
    }
}
