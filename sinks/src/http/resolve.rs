//! Which addresses may be connected to.
//!
//! Names are resolved here, looked at, and only then connected to: whoever answers for a name cannot say one thing to who
//! looks and another to who connects.
//!
//! Before: sinks/src/http/client.rs

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The operator allows nothing but public addresses, and this is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no public address, and the operator allows no others")]
pub(super) struct NotPublic(pub(super) IpAddr);

/// The addresses of `host` that may be connected to; at least one, or the reason why there is none.
pub(super) async fn resolve(host: &str, public_only: bool) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
    if !public_only {
        return Ok(addresses);
    }
    let (public, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| is_public(address.ip()));
    match others.first() {
        Some(other) if public.is_empty() => Err(io::Error::other(NotPublic(other.ip()))),
        _ => Ok(public),
    }
}

/// Whether an address is one of the internet's. What is not certainly public is not, by the registries of IANA.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        // Shared by carriers, for protocols, for benchmarks, and reserved.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Ways to write an address of IPv4.
    let inner = match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some((segments[6], segments[7])),
        [0x2002, ..] => Some((segments[1], segments[2])),
        _ => None,
    };
    if let Some((high, low)) = inner {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Global unicast is 2000::/3, of which Teredo, ORCHID and others under 2001::/23, and documentation, are none.
    let [first, second, ..] = segments;
    first & 0xe000 == 0x2000
        && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
        && !(first == 0x3fff && second < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for text in
            ["1.1.1.1", "8.8.8.8", "100.128.0.1", "198.20.0.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"]
        {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::1",
            "::7f00:1",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_of_none_but_private_addresses_is_refused() {
        let error = resolve("localhost", true).await.unwrap_err();
        let not_public = error.get_ref().and_then(|inner| inner.downcast_ref::<NotPublic>());
        assert!(not_public.is_some_and(|NotPublic(address)| address.is_loopback()), "{error}");
        assert!(!resolve("localhost", false).await.unwrap().is_empty());
    }
}
