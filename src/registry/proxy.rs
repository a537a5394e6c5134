//! Which requests go through which proxy.
//!
//! Source: the conventions of curl and Go's `httpproxy` for `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.

use std::net::IpAddr;

use ureq::Proxy;

use super::url::{Origin, Url};
use super::wire_options::Proxies;
use crate::model::Secret;

/// Proxies, parsed.
#[derive(Debug)]
pub(super) struct ProxyRules {
    http: Option<Proxy>,
    https: Option<Proxy>,
    no_proxy: Vec<String>,
}

impl ProxyRules {
    pub(super) fn new(proxies: &Proxies) -> Result<Self, String> {
        let parse = |value: &Option<Secret>, name: &str| match value {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => match Proxy::new(text.expose()) {
                Ok(proxy) if proxy.protocol() == ureq::ProxyProtocol::Http => Ok(Some(proxy)),
                Ok(proxy) if proxy.protocol() == ureq::ProxyProtocol::Https => Ok(Some(proxy)),
                // ureq panics on SOCKS without its feature.
                Ok(_) => Err(format!("the {name} proxy is a SOCKS proxy, expected `http://` or `https://`")),
                Err(_) => Err(format!("the {name} proxy is not a valid URL, expected `http://host:port`")),
            },
        };
        let no_proxy = proxies
            .no_proxy
            .split([',', ' '])
            .map(|entry| entry.trim().to_ascii_lowercase())
            .filter(|entry| !entry.is_empty())
            .collect();
        Ok(Self { http: parse(&proxies.http, "http")?, https: parse(&proxies.https, "https")?, no_proxy })
    }

    /// Returns the proxy for a URL; this machine is always reached directly.
    pub(super) fn for_url(&self, url: &Url) -> Option<Proxy> {
        let proxy = if url.is_https() { &self.https } else { &self.http };
        let origin = url.origin();
        if proxy.is_none()
            || origin.is_loopback()
            || self.no_proxy.iter().any(|entry| excludes(entry, origin))
        {
            return None;
        }
        proxy.clone()
    }
}

/// Tells whether a `NO_PROXY` entry covers a host.
fn excludes(entry: &str, origin: &Origin) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), origin.address()) {
        return in_network(address, network, bits);
    }
    // `[::1]:80` and `host:80`, but not the colons of a bare IPv6 address.
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (entry, None),
    };
    if port.is_some_and(|port| port.parse() != Ok(origin.port)) {
        return false;
    }
    let bare = origin.host.trim_start_matches('[').trim_end_matches(']');
    let host =
        host.trim_start_matches('[').trim_end_matches(']').trim_start_matches('*').trim_start_matches('.');
    bare == host || bare.strip_suffix(host).is_some_and(|rest| rest.ends_with('.') && !host.is_empty())
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (address, network.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_reached_directly_where_no_proxy_says_so() {
        let rules = ProxyRules::new(&Proxies {
            http: None,
            https: Some(Secret::new("http://user:pw@proxy.example:3128")),
            no_proxy: "internal.example, .corp.example,10.0.0.0/8,reg.example:5000,192.168.1.1,*.dev".into(),
        })
        .unwrap();
        for (url, proxied) in [
            ("https://reg.example/", true),
            ("https://reg.example:5000/", false),
            ("https://internal.example/", false),
            ("https://sub.internal.example/", false),
            ("https://notinternal.example/", true),
            ("https://a.corp.example/", false),
            ("https://corp.example/", false),
            ("https://10.20.30.40/", false),
            ("https://11.0.0.1/", true),
            ("https://192.168.1.1:8443/", false),
            ("https://x.dev/", false),
            ("https://localhost:5000/", false),
            ("https://127.0.0.1/", false),
            ("http://reg.example/", false),
        ] {
            assert_eq!(rules.for_url(&Url::parse(url).unwrap()).is_some(), proxied, "{url}");
        }
    }

    #[test]
    fn proxies_that_cannot_work_are_refused_without_showing_their_password() {
        for text in ["socks5://u:hunter2@p:1080", "::::", "ftp://u:hunter2@p"] {
            let error = ProxyRules::new(&Proxies { https: Some(Secret::new(text)), ..Proxies::default() })
                .unwrap_err();
            assert!(error.contains("the https proxy") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_address_is_in_a_network_by_its_first_bits() {
        for (address, network, bits, expected) in [
            ("10.1.2.3", "10.0.0.0", "8", true),
            ("11.1.2.3", "10.0.0.0", "8", false),
            ("10.1.2.3", "10.1.2.3", "32", true),
            ("10.1.2.2", "10.1.2.3", "32", false),
            ("10.1.2.3", "10.1.2.3", "33", false),
            ("192.0.2.1", "10.0.0.0", "0", true),
            ("2001:db8::1", "2001:db8::", "32", true),
            ("2001:db9::1", "2001:db8::", "32", false),
            ("2001:db8::1", "2001:db8::1", "128", true),
            ("2001:db8::1", "2001:db8::1", "129", false),
            ("10.1.2.3", "2001:db8::", "0", false),
            ("10.1.2.3", "10.0.0.0", "x", false),
        ] {
            let found = in_network(address.parse().unwrap(), network, bits);
            assert_eq!(found, expected, "{address} {network}/{bits}");
        }
    }
}
