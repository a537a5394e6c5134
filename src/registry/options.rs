//! Settings of a [`Client`](super::Client): credentials, mirrors, plain http, retries, and those of its HTTP client.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Registry;

use super::keychain::Keychain;
use super::wire_options::WireOptions;

/// The settings of a [`Client`](super::Client).
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Trust, proxies, time-outs and events.
    pub wire: WireOptions,
    /// Where plain http may be used.
    pub plain_http: PlainHttp,
    /// Credentials per registry.
    pub credentials: Arc<Keychain>,
    /// Mirrors to read from before a registry itself.
    pub mirrors: Vec<Mirror>,
    /// How often a failed request or body is tried again; 0 never.
    pub retries: u32,
    /// First delay before trying again; it doubles each time and is shortened at random by up to a half.
    pub retry_delay: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            wire: WireOptions::default(),
            plain_http: PlainHttp::LoopbackOnly,
            credentials: Arc::new(Keychain::default()),
            mirrors: Vec::new(),
            retries: 5,
            retry_delay: Duration::from_millis(300),
        }
    }
}

/// Where plain http may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only on this machine.
    LoopbackOnly,
    /// On this machine and at these registries.
    Hosts(Vec<Registry>),
    /// Everywhere that https does not work.
    Anywhere,
}

impl PlainHttp {
    /// Tells whether a registry may be talked to in plain http.
    #[must_use]
    pub fn allows(&self, registry: &Registry) -> bool {
        match self {
            _ if registry.is_loopback() => true,
            Self::LoopbackOnly => false,
            Self::Hosts(hosts) => hosts.contains(registry),
            Self::Anywhere => true,
        }
    }
}

/// Another registry that holds the same repositories and is asked first when reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry that is mirrored.
    pub of: Registry,
    /// Where to ask instead.
    pub at: Registry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_unless_allowed() {
        let registry = |text: &str| text.parse::<Registry>().unwrap();
        for (rule, host, expected) in [
            (PlainHttp::LoopbackOnly, "localhost:5000", true),
            (PlainHttp::LoopbackOnly, "10.0.0.1:5000", false),
            (PlainHttp::LoopbackOnly, "localhost.evil.example", false),
            (PlainHttp::Hosts(vec![registry("reg.example:5000")]), "reg.example:5000", true),
            (PlainHttp::Hosts(vec![registry("reg.example:5000")]), "reg.example:5001", false),
            (PlainHttp::Hosts(Vec::new()), "127.0.0.1:5000", true),
            (PlainHttp::Anywhere, "reg.example", true),
        ] {
            assert_eq!(rule.allows(&registry(host)), expected, "{rule:?} {host}");
        }
    }
}
