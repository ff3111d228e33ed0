//! A link between senders and provider that can be made slow and cut: a TCP relay of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CHUNK: usize = 16 * 1024;

/// The relay. Ends when dropped.
pub struct Link {
    url: String,
    delay_ms: Arc<AtomicU64>,
    cut: watch::Sender<u64>,
    relay: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

impl Link {
    /// A link to the server of `url` (`http://host:port/path`).
    pub async fn to(url: &str) -> Self {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let (host, listener) = (host.to_owned(), TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        let url = format!("http://{}/{path}", listener.local_addr().unwrap());
        let (cut, cuts) = watch::channel(0);
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&delay_ms);
        let relay = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let (host, delay, mut cuts) = (host.clone(), Arc::clone(&delay), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = relayed(from, &host, &delay) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { url, delay_ms, cut, relay }
    }

    /// What to call instead.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on every piece of either direction takes so much longer.
    pub fn slow(&self, delay_ms: u64) {
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn relayed(from: TcpStream, host: &str, delay_ms: &AtomicU64) {
    let Ok(to) = TcpStream::connect(host).await else { return };
    // Latency is what the delay says. Failing is harmless.
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let (mut near_in, mut near_out) = from.into_split();
    let (mut far_in, mut far_out) = to.into_split();
    tokio::join!(pass(&mut near_in, &mut far_out, delay_ms), pass(&mut far_in, &mut near_out, delay_ms));
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    delay_ms: &AtomicU64,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let delay = delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            break;
        }
    }
    // The other side sees the end; it may have gone already.
    let _ = to.shutdown().await;
}
