//! A network between a client and a server on this machine, which can be made as bad as real ones are.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Chunks on their way in one direction.
const ON_THE_WAY: usize = 4096;
const CHUNK: usize = 64 * 1024;
/// What a slow link passes on at once: small, so that it is slow evenly.
const SLOW_CHUNK: usize = 4 * 1024;

/// What the network does with every byte, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Passes it on after `delay`, at most `rate` bytes a second of each connection. Timers have a grain of a
    /// millisecond, so a delay is that or a little more.
    Open {
        /// How far away the server is.
        delay: Duration,
        /// How wide the road is.
        rate: Option<u32>,
    },
    /// Holds it until the link is open again: connections stay and nothing answers.
    Silent,
    /// Holds what the server says, and passes on what it is told: what it acknowledges, nobody hears.
    Mute,
    /// Ends every connection, and takes none.
    Cut,
}

/// A forwarder on loopback. Dropping it ends all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    link: watch::Sender<Link>,
    task: JoinHandle<()>,
}

// === impl Link ===

impl Link {
    /// As if it were not there.
    pub const GOOD: Self = Self::delayed(Duration::ZERO);

    /// A server that is `delay` away.
    pub const fn delayed(delay: Duration) -> Self {
        Self::Open { delay, rate: None }
    }
}

// === impl Proxy ===

impl Proxy {
    /// Forwards connections to `upstream` (host and port).
    pub async fn start(upstream: String, link: Link) -> Result<Self> {
        Self::start_on(0, upstream, link).await
    }

    /// The same, for clients that are told where to connect: on this `port`, or any for 0.
    pub async fn start_on(port: u16, upstream: String, link: Link) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("listen for the proxy")?;
        let address = listener.local_addr()?.to_string();
        let (link, links) = watch::channel(link);
        let task = tokio::spawn(serve(listener, upstream, links));
        Ok(Self { address, link, task })
    }

    /// Host and port where clients connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on the network is like this, also for connections that stand.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, upstream: String, links: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *links.borrow() != Link::Cut {
            connections.spawn(connect(near, upstream.clone(), links.clone()));
        }
    }
}

/// Carries one connection until either end, or the link, ends it.
async fn connect(near: TcpStream, upstream: String, mut links: watch::Receiver<Link>) {
    let Ok(far) = TcpStream::connect(&upstream).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = carry(near_read, far_write, links.clone(), &[Link::Silent]) => {}
        () = carry(far_read, near_write, links.clone(), &[Link::Silent, Link::Mute]) => {}
        _ = links.wait_for(|link| *link == Link::Cut) => {}
    }
}

/// Carries one direction, which waits while the link is one of `held`.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut links: watch::Receiver<Link>,
    held: &[Link],
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let reading = links.clone();
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            match from.read_buf(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let delay = match *reading.borrow() {
                Link::Open { delay, .. } => delay,
                Link::Silent | Link::Mute | Link::Cut => Duration::ZERO,
            };
            if sender.send((Instant::now() + delay, chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            for piece in chunk.chunks(SLOW_CHUNK) {
                let Ok(link) = links.wait_for(|link| !held.contains(link)).await.map(|link| *link) else {
                    return;
                };
                if to.write_all(piece).await.is_err() {
                    return;
                }
                if let Link::Open { rate: Some(rate), .. } = link {
                    let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    tokio::time::sleep(Duration::from_secs(1) * length / rate.max(1)).await;
                }
            }
        }
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every byte with itself, and a connection to it through a proxy.
    async fn echo(link: Link) -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let proxy = Proxy::start(upstream, link).await.unwrap();
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, stream)
    }

    async fn answer(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_delay_is_felt_in_both_directions() {
        let (_proxy, mut stream) = echo(Link::delayed(Duration::from_millis(20))).await;
        let started = Instant::now();
        assert_eq!(answer(&mut stream).await.unwrap(), b'x');
        assert!(started.elapsed() >= Duration::from_millis(40), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_silent_link_holds_what_it_is_given_until_it_opens() {
        let (proxy, mut stream) = echo(Link::GOOD).await;
        assert_eq!(answer(&mut stream).await.unwrap(), b'x');
        proxy.set(Link::Silent);
        let waiting = tokio::time::timeout(Duration::from_millis(50), answer(&mut stream)).await;
        assert!(waiting.is_err());
        proxy.set(Link::GOOD);
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_mute_link_passes_on_what_is_said_and_holds_the_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().to_string(), Link::Mute).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        server.write_all(b"y").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await.is_err());
        proxy.set(Link::GOOD);
        assert_eq!(client.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test]
    async fn a_cut_link_ends_connections_and_takes_none() {
        let (proxy, mut stream) = echo(Link::GOOD).await;
        assert_eq!(answer(&mut stream).await.unwrap(), b'x');
        proxy.set(Link::Cut);
        assert!(stream.read_u8().await.is_err());
        let mut another = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answer(&mut another).await.is_err());
        proxy.set(Link::GOOD);
        let mut another = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(answer(&mut another).await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_narrow_link_takes_its_time() {
        let (_proxy, mut stream) = echo(Link::Open { delay: Duration::ZERO, rate: Some(200_000) }).await;
        let started = Instant::now();
        stream.write_all(&vec![7; 20_000]).await.unwrap();
        stream.read_exact(&mut vec![0; 20_000]).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(80), "{:?}", started.elapsed());
    }
}
