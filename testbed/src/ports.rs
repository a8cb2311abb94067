//! Loopback ports that stay ours, also while the server that uses them is down.
//!
//! They come from below the range the kernel takes for outgoing connections: else a client that keeps reconnecting to a
//! stopped server can get that very port as its own, connect to itself, and keep the server from coming back.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;

use anyhow::{Context, Result, bail};

use crate::cache;

/// A free TCP port on 127.0.0.1. No other process of the testbed gets it while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

const FIRST: u16 = 20_000;
const TRIES: usize = 200;

impl Port {
    /// A port that nobody listens on.
    pub fn reserve() -> Result<Self> {
        let folder = cache::folder("ports")?;
        let width = u64::from(first_outgoing().saturating_sub(FIRST).max(1000));
        for _ in 0..TRIES {
            let random = RandomState::new().hash_one(0);
            let number = FIRST + u16::try_from(random % width).context("port out of range")?;
            let lock = File::create(folder.join(number.to_string())).context("create the lock of a port")?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free loopback port found in {TRIES} tries from {FIRST} on")
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// The first port the kernel gives to outgoing connections.
fn first_outgoing() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_given_to_nobody_else() {
        let ports: Vec<_> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<_> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
        assert!(numbers.iter().all(|number| *number < first_outgoing()));
    }
}
