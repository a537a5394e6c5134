//! Settings of one HTTP client: trust, proxies, time-outs. All as values.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::events::{ClientEvents, NoEvents};
use crate::model::Secret;

/// How connections are made and how long they may be silent; the same for registries and for cloud providers.
#[derive(Clone)]
pub struct WireOptions {
    /// Certificates, client certificates, and whether to check.
    pub tls: TlsOptions,
    /// Proxies to go through.
    pub proxies: Proxies,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// How many connections to one host are kept for reuse; as many as there are workers.
    pub concurrency: usize,
    /// Receives what happens on the wire.
    pub events: Arc<dyn ClientEvents>,
}

impl Default for WireOptions {
    fn default() -> Self {
        Self {
            tls: TlsOptions::default(),
            proxies: Proxies::default(),
            timeouts: Timeouts::default(),
            user_agent: concat!("imgrelay/", env!("CARGO_PKG_VERSION")).to_owned(),
            concurrency: 6,
            events: Arc::new(NoEvents),
        }
    }
}

impl fmt::Debug for WireOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireOptions")
            .field("tls", &self.tls)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// Whom to trust on TLS connections.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Further authorities (or servers' own certificates) to trust.
    pub ca_certificates: Vec<CaCertificates>,
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

/// A PEM text with any number of certificates to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificates {
    /// Where it comes from, for messages: a file or a setting, in back-quotes.
    pub name: String,
    /// The text.
    pub pem: Vec<u8>,
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

/// How long each phase of a request may take. There is no limit on a whole transfer, only on silence.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Name lookup, TCP and TLS together.
    pub connect: Duration,
    /// Longest silence while a body is received or sent.
    pub idle: Duration,
    /// From the end of a request to the head of its response.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_print_no_secrets() {
        let options = WireOptions {
            proxies: Proxies { https: Some(Secret::new("http://u:hunter2@proxy")), ..Proxies::default() },
            tls: TlsOptions {
                client_identity: Some(ClientIdentity {
                    certificates: Vec::new(),
                    key: Secret::new("hunter2"),
                }),
                ..TlsOptions::default()
            },
            ..WireOptions::default()
        };
        assert!(!format!("{options:?} {:?}", options.proxies).contains("hunter2"));
    }
}
