//! What a client is told at its start: trust, credentials, time-outs, retries. All as values.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Registry;

use super::keychain::Keychain;
use super::secret::Secret;

/// Everything a [`Client`](super::Client) can be told.
#[derive(Clone)]
pub struct ClientOptions {
    /// Certificates, client certificates, and whether to check.
    pub tls: TlsOptions,
    /// Where plain http may be used.
    pub plain_http: PlainHttp,
    /// Who we are, per registry.
    pub credentials: Arc<Keychain>,
    /// Proxies to go through.
    pub proxies: Proxies,
    /// Mirrors to read from before a registry itself.
    pub mirrors: Vec<Mirror>,
    /// How often a failed request or body is tried again; 0 never.
    pub retries: u32,
    /// First delay before trying again; it doubles each time and is shortened at random by up to a half.
    pub retry_delay: Duration,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// How many connections to one host are kept for reuse; as many as there are workers.
    pub concurrency: usize,
    /// Takes what happens on the wire.
    pub events: Arc<dyn ClientEvents>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            tls: TlsOptions::default(),
            plain_http: PlainHttp::LoopbackOnly,
            credentials: Arc::new(Keychain::default()),
            proxies: Proxies::default(),
            mirrors: Vec::new(),
            retries: 5,
            retry_delay: Duration::from_millis(300),
            timeouts: Timeouts::default(),
            user_agent: concat!("imgrelay/", env!("CARGO_PKG_VERSION")).to_owned(),
            concurrency: 6,
            events: Arc::new(NoEvents),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("tls", &self.tls)
            .field("plain_http", &self.plain_http)
            .field("mirrors", &self.mirrors)
            .field("retries", &self.retries)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// Whom to trust on TLS connections.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Further authorities (or servers' own certificates) to trust, each a PEM text with any number of them.
    pub ca_certificates: Vec<Vec<u8>>,
    /// Our own certificate, for registries that ask for one.
    pub client_identity: Option<ClientIdentity>,
    /// Whether certificates are checked at all.
    pub verify: bool,
    /// Where the system keeps its authorities.
    pub system_trust: SystemTrust,
    /// Folders with one sub-folder per `host[:port]`: `*.crt` to trust, `*.cert` and `*.key` to show.
    ///
    /// Source: docker `certs.d`, containers-certs.d(5).
    pub certs_directories: Vec<PathBuf>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            ca_certificates: Vec::new(),
            client_identity: None,
            verify: true,
            system_trust: SystemTrust::default(),
            certs_directories: Vec::new(),
        }
    }
}

/// A client certificate with its key.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate and its intermediates, PEM.
    pub certificates: Vec<u8>,
    /// The private key, PEM (PKCS#1, PKCS#8 or SEC1).
    pub key: Secret,
}

/// Where the system's authorities are; read at the first TLS connection, not before.
#[derive(Clone, Debug, Default)]
pub struct SystemTrust {
    /// `SSL_CERT_FILE`: replaces the usual bundle files.
    pub file: Option<PathBuf>,
    /// `SSL_CERT_DIR`, split at `:`: replaces the usual folders.
    pub directories: Vec<PathBuf>,
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

/// Proxies, in the form of the usual environment variables.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// `HTTP_PROXY`: for plain http.
    pub http: Option<Secret>,
    /// `HTTPS_PROXY`: for https.
    pub https: Option<Secret>,
    /// `NO_PROXY`: hosts, domains, addresses, `host:port`, networks in CIDR form, or `*`, joined by commas.
    pub no_proxy: String,
}

/// Another registry that holds the same repositories and is asked first when reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry that is mirrored.
    pub of: Registry,
    /// Where to ask instead.
    pub at: Registry,
}

/// How long each phase of a request may take. There is no limit on a whole transfer, only on silence.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS together.
    pub connect: Duration,
    /// Longest silence while a body is received or sent.
    pub idle: Duration,
    /// From the end of a request to the head of its answer.
    pub response: Duration,
    /// The same for the request that ends an upload, when registries move and hash the blob; a second more for each
    /// 8 MiB of it.
    pub closing_response: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            response: Duration::from_secs(30),
            closing_response: Duration::from_secs(60),
        }
    }
}

/// One request as it went over the wire.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestRecord<'a> {
    /// Method.
    pub method: &'a str,
    /// URL, with everything secret replaced by `***`.
    pub url: &'a str,
    /// Status of the answer, or `None` when there was none.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub problem: Option<&'a str>,
    /// Bytes of the body sent.
    pub sent: u64,
    /// Length of the body of the answer, when it was announced.
    pub announced: Option<u64>,
    /// From the start to the head of the answer.
    pub elapsed: Duration,
    /// Counts from 1.
    pub attempt: u32,
}

/// A request or body that is going to be tried again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryRecord<'a> {
    /// Host.
    pub host: &'a str,
    /// What is tried, as `upload blob …`.
    pub task: &'a str,
    /// Why the last attempt failed.
    pub cause: &'a str,
    /// The attempt that failed, counted from 1.
    pub attempt: u32,
    /// How long is waited.
    pub delay: Duration,
}

/// Takes what happens on the wire, from several threads.
pub trait ClientEvents: Send + Sync {
    /// One request was answered or failed.
    fn request(&self, _: &RequestRecord<'_>) {}

    /// Something is going to be tried again.
    fn retry(&self, _: &RetryRecord<'_>) {}

    /// A host has said nothing for a while: told every ten seconds. `phase` completes "waiting for `host`", as in
    /// `to answer`.
    fn waiting(&self, _host: &str, _phase: &str, _elapsed: Duration) {}

    /// A registry sent a warning; each text comes once per host.
    ///
    /// Source: distribution-spec, "Warnings".
    fn warning(&self, _host: &str, _text: &str) {}
}

/// Events that go nowhere.
#[derive(Clone, Copy, Debug)]
pub struct NoEvents;

impl ClientEvents for NoEvents {}

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

    #[test]
    fn options_print_no_secrets() {
        let options = ClientOptions {
            proxies: Proxies { https: Some(Secret::new("http://u:hunter2@proxy")), ..Proxies::default() },
            tls: TlsOptions {
                client_identity: Some(ClientIdentity {
                    certificates: Vec::new(),
                    key: Secret::new("hunter2"),
                }),
                ..TlsOptions::default()
            },
            ..ClientOptions::default()
        };
        assert!(!format!("{options:?} {:?}", options.proxies).contains("hunter2"));
    }
}
