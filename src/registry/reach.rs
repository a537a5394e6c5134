//! Which addresses a response may lead to: not to this machine, its link or a metadata service, unless it came from
//! there.
//!
//! A registry names other hosts: by redirects, the realm of its token server, upload locations, the `urls` of layers.
//! One that is elsewhere must not direct requests to services that trust this machine. The check is of the address
//! that is connected to, after the name was looked up, not the text of the host: `127.1`, `2130706433` and any name in
//! DNS can stand for this machine. Private networks stay allowed for what a registry names; registries and their
//! storage are there. What this file does not decide: which *hosts* get credentials.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;

use crate::stream::lock;

/// Where an address is, in the classes that the rules distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkPlace {
    /// Anywhere else.
    Elsewhere,
    /// A private network.
    Private,
    /// This machine.
    ThisMachine,
    /// The link, and the addresses at which clouds answer machines about themselves.
    Link,
}

/// Who named the host of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostSource {
    /// The user, who may name every address.
    User,
    /// A response that came from such a place.
    ResponseFrom(NetworkPlace),
    /// A host outside the registry, of a layer's `urls`, which redirects: it may not lead into private networks either.
    UrlsFrom(NetworkPlace),
}

/// All values, for one pool of connections each: a connection that one may use is not handed to another.
pub(super) const HOST_SOURCES: [HostSource; 9] = [
    HostSource::User,
    HostSource::ResponseFrom(NetworkPlace::Elsewhere),
    HostSource::ResponseFrom(NetworkPlace::Private),
    HostSource::ResponseFrom(NetworkPlace::ThisMachine),
    HostSource::ResponseFrom(NetworkPlace::Link),
    HostSource::UrlsFrom(NetworkPlace::Elsewhere),
    HostSource::UrlsFrom(NetworkPlace::Private),
    HostSource::UrlsFrom(NetworkPlace::ThisMachine),
    HostSource::UrlsFrom(NetworkPlace::Link),
];

impl HostSource {
    /// Tells whether a connection to this address may be made.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match (self, place(address)) {
            (Self::User, _)
            | (_, NetworkPlace::Elsewhere)
            | (Self::ResponseFrom(_), NetworkPlace::Private) => true,
            (Self::UrlsFrom(from), NetworkPlace::Private) => from != NetworkPlace::Elsewhere,
            // `0.0.0.0` and `::` are addresses of no registry or storage.
            (Self::ResponseFrom(from) | Self::UrlsFrom(from), to) => {
                from == to && !address.to_canonical().is_unspecified()
            }
        }
    }

    /// Keeps the addresses that may be connected to.
    ///
    /// Errors: [`ForbiddenAddress`] when there are some and none is allowed.
    pub(super) fn filter(self, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, ForbiddenAddress> {
        let allowed: Vec<_> = addresses.iter().copied().filter(|address| self.allows(address.ip())).collect();
        match addresses.first() {
            Some(first) if allowed.is_empty() => Err(ForbiddenAddress { address: first.ip() }),
            _ => Ok(allowed),
        }
    }
}

/// A host that a response named is on this machine, its link, or a metadata service.
#[derive(Debug, thiserror::Error)]
#[error("leads to {}, `{address}`", words(*address))]
pub(super) struct ForbiddenAddress {
    /// The address that was not connected to.
    address: IpAddr,
}

/// Says where an address is.
fn words(address: IpAddr) -> &'static str {
    match place(address) {
        NetworkPlace::Link => "a link-local or metadata address",
        NetworkPlace::Private => "a private network",
        NetworkPlace::ThisMachine | NetworkPlace::Elsewhere => "this machine",
    }
}

/// Addresses outside 169.254.0.0/16 and fe80::/10 at which clouds answer machines about themselves.
///
/// Source: the documentation of Alibaba Cloud, Azure (wire server) and Oracle Cloud; AWS (IMDS and EKS Pod Identity
/// over IPv6), Google Cloud (IPv6).
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Says where an address is; one that carries an IPv4 address is where that is.
pub(super) fn place(address: IpAddr) -> NetworkPlace {
    if METADATA.contains(&address) {
        return NetworkPlace::Link;
    }
    match address {
        // 0.0.0.0/8 is this machine for a connection (RFC 1122 3.2.1.3).
        IpAddr::V4(address) if address.is_loopback() || address.octets()[0] == 0 => NetworkPlace::ThisMachine,
        IpAddr::V4(address) if address.is_link_local() => NetworkPlace::Link,
        // 100.64.0.0/10 is shared by providers and used inside clouds (RFC 6598).
        IpAddr::V4(address) if address.is_private() || matches!(address.octets(), [100, 64..=127, ..]) => {
            NetworkPlace::Private
        }
        IpAddr::V4(_) => NetworkPlace::Elsewhere,
        IpAddr::V6(address) if address.is_loopback() || address.is_unspecified() => NetworkPlace::ThisMachine,
        IpAddr::V6(address) if address.is_unicast_link_local() => NetworkPlace::Link,
        IpAddr::V6(address) if address.is_unique_local() => NetworkPlace::Private,
        IpAddr::V6(address) => embedded(address).map_or(NetworkPlace::Elsewhere, |inner| place(inner.into())),
    }
}

/// Returns the IPv4 address in one of IPv6: mapped (RFC 4291), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let ipv4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(ipv4(high, low)),
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => Some(ipv4(high, low)),
        [0x2002, high, low, ..] => Some(ipv4(high, low)),
        _ => None,
    }
}

/// Where hosts were that connections were made to.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<Box<str>, NetworkPlace>>);

/// Most hosts that are remembered; names come from redirects too. One that is forgotten counts as elsewhere.
const MOST_PLACES: usize = 10_000;

impl Places {
    /// Remembers the address that a host (`host` or `host:port`) was connected to at.
    ///
    /// A host that was in two places counts as elsewhere: a second address on this machine must not give it more
    /// rights.
    pub(super) fn connected(&self, host: &str, address: IpAddr) {
        let mut places = lock(&self.0);
        let now = place(address);
        if let Some(before) = places.get_mut(host) {
            if *before != now {
                *before = NetworkPlace::Elsewhere;
            }
        } else if places.len() < MOST_PLACES {
            places.insert(host.into(), now);
        }
    }

    /// Returns the source of hosts that a redirect of this host, outside the registry, names.
    pub(super) fn led_by_url(&self, host: &str) -> HostSource {
        HostSource::UrlsFrom(self.of(host))
    }

    fn of(&self, host: &str) -> NetworkPlace {
        let found = lock(&self.0).get(host).copied();
        found.unwrap_or(NetworkPlace::Elsewhere)
    }

    /// Returns the source of hosts that a response of this host names.
    pub(super) fn led_by(&self, host: &str) -> HostSource {
        HostSource::ResponseFrom(self.of(host))
    }
}

/// Reads an address that is written as a host: dotted or with fewer parts, decimal, octal or hexadecimal.
///
/// Source: inet_aton(3), which name lookups of the system follow.
pub(super) fn numeric_address(host: &str) -> Option<IpAddr> {
    let host = host.trim_end_matches('.');
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse().ok();
    }
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let number = |text: &str| match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(if digits.is_empty() { "0" } else { digits }, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    };
    let parts = host.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, before) = parts.split_last()?;
    // The last part fills what the others leave: `127.1` is 127.0.0.1.
    let room = 32 - 8 * u32::try_from(before.len()).ok().filter(|count| *count <= 3)?;
    if u64::from(*last) >= 1 << room || before.iter().any(|part| *part > 255) {
        return None;
    }
    let shifted = before.iter().zip([24, 16, 8]).map(|(part, shift)| part << shift);
    Some(Ipv4Addr::from_bits(shifted.fold(*last, |sum, part| sum | part)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_where_it_leads() {
        for (text, expected) in [
            ("127.0.0.1", NetworkPlace::ThisMachine),
            ("127.255.0.7", NetworkPlace::ThisMachine),
            ("0.0.0.0", NetworkPlace::ThisMachine),
            ("0.1.2.3", NetworkPlace::ThisMachine),
            ("::1", NetworkPlace::ThisMachine),
            ("::", NetworkPlace::ThisMachine),
            ("::ffff:127.0.0.1", NetworkPlace::ThisMachine),
            ("::127.0.0.1", NetworkPlace::ThisMachine),
            ("::ffff:0:127.0.0.1", NetworkPlace::ThisMachine),
            ("64:ff9b::127.0.0.1", NetworkPlace::ThisMachine),
            ("64:ff9b:1::169.254.169.254", NetworkPlace::Link),
            ("2002:7f00:1::", NetworkPlace::ThisMachine),
            ("2002:a9fe:a9fe::1", NetworkPlace::Link),
            ("169.254.169.254", NetworkPlace::Link),
            ("169.254.170.2", NetworkPlace::Link),
            ("::ffff:169.254.169.254", NetworkPlace::Link),
            ("fe80::1", NetworkPlace::Link),
            ("fd00:ec2::254", NetworkPlace::Link),
            ("fd20:ce::254", NetworkPlace::Link),
            ("100.100.100.200", NetworkPlace::Link),
            ("168.63.129.16", NetworkPlace::Link),
            ("192.0.0.192", NetworkPlace::Link),
            ("::ffff:100.100.100.200", NetworkPlace::Link),
            ("10.0.0.1", NetworkPlace::Private),
            ("192.168.1.1", NetworkPlace::Private),
            ("100.64.0.1", NetworkPlace::Private),
            ("100.128.0.1", NetworkPlace::Elsewhere),
            ("172.31.0.1", NetworkPlace::Private),
            ("172.32.0.1", NetworkPlace::Elsewhere),
            ("fd00::1", NetworkPlace::Private),
            ("::ffff:10.0.0.1", NetworkPlace::Private),
            ("64:ff9b::8.8.8.8", NetworkPlace::Elsewhere),
            ("128.0.0.1", NetworkPlace::Elsewhere),
            ("1.0.0.1", NetworkPlace::Elsewhere),
            ("169.253.0.1", NetworkPlace::Elsewhere),
            ("2001:db8::1", NetworkPlace::Elsewhere),
        ] {
            assert_eq!(place(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_addresses_as_the_system_reads_them() {
        for (text, expected) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.0.0.1.", Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("127.0.1", Some("127.0.0.1")),
            ("2130706433", Some("127.0.0.1")),
            ("0x7f000001", Some("127.0.0.1")),
            ("0X7F.1", Some("127.0.0.1")),
            ("017700000001", Some("127.0.0.1")),
            ("0177.0.0.1", Some("127.0.0.1")),
            ("0", Some("0.0.0.0")),
            ("0x", Some("0.0.0.0")),
            ("10.65535", Some("10.0.255.255")),
            ("[::1]", Some("::1")),
            ("[::ffff:127.0.0.1]", Some("::ffff:127.0.0.1")),
            ("4294967295", Some("255.255.255.255")),
            ("4294967296", None),
            ("127.16777216", None),
            ("256.1", None),
            ("1.2.3.256", None),
            ("1.2.3.4.5", None),
            ("08", None),
            ("localhost", None),
            ("1.example", None),
            ("", None),
            (".", None),
            ("1..2", None),
            ("[::1", None),
            ("+1", None),
        ] {
            assert_eq!(numeric_address(text), expected.map(|text| text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_response_leads_elsewhere_and_to_where_it_came_from() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let places = ["8.8.8.8", "10.0.0.1", "127.0.0.1", "169.254.169.254"].map(address);
        let [_, outside, here, link] = places;
        for (source, expected) in HOST_SOURCES.into_iter().zip([
            [true, true, true, true],
            [true, true, false, false],
            [true, true, false, false],
            [true, true, true, false],
            [true, true, false, true],
            [true, false, false, false],
            [true, true, false, false],
            [true, true, true, false],
            [true, true, false, true],
        ]) {
            assert_eq!(places.map(|address| source.allows(address)), expected, "{source:?}");
        }
        let nowhere = ["0.0.0.0", "::", "::ffff:0.0.0.0"].map(address);
        let here_too = HostSource::ResponseFrom(NetworkPlace::ThisMachine);
        assert_eq!(nowhere.map(|address| here_too.allows(address)), [false; 3]);
        let socket = |address: IpAddr| SocketAddr::new(address, 80);
        let source = HostSource::ResponseFrom(NetworkPlace::Elsewhere);
        let mixed = source.filter(&[socket(here), socket(outside)]).unwrap();
        assert_eq!(mixed, [socket(outside)]);
        let error = source.filter(&[socket(here), socket(link)]).unwrap_err().to_string();
        assert_eq!(error, "leads to this machine, `127.0.0.1`");
        let error = source.filter(&[socket(link)]).unwrap_err().to_string();
        assert_eq!(error, "leads to a link-local or metadata address, `169.254.169.254`");
        assert_eq!(source.filter(&[]).unwrap(), []);
    }

    #[test]
    fn a_host_with_an_address_here_and_one_elsewhere_is_elsewhere() {
        let places = Places::default();
        let host = "reg.example:5000";
        assert_eq!(places.led_by(host), HostSource::ResponseFrom(NetworkPlace::Elsewhere));
        for (address, expected) in [
            ("127.0.0.1", NetworkPlace::ThisMachine),
            ("::1", NetworkPlace::ThisMachine),
            ("10.0.0.1", NetworkPlace::Elsewhere),
            ("10.0.0.1", NetworkPlace::Elsewhere),
        ] {
            places.connected(host, address.parse().unwrap());
            assert_eq!(places.led_by(host), HostSource::ResponseFrom(expected), "{address}");
        }
    }
}
