//! TLS under ureq: which authorities are trusted, per host, read when the first TLS connection is made.
//!
//! ureq's own connector panics on a client certificate that does not fit its key and cannot trust a server's
//! own certificate, so this one is used instead; everything else is rustls's default behaviour with ring.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::model::limits;
use crate::stream::{cancel, lock, read_file};

use super::pem::{parse_ca, parse_certificates, parse_identity, pem_blocks};
use super::url::Origin;
use super::wire_options::{ClientIdentity, SystemTrust, TlsOptions};
use crate::model::Secret;

/// Where systems keep their authorities in one file; the first that exists is read.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// Where systems keep them one by one; read as well, for certificates that were only dropped there.
const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The trust of one client: options, and what was made of them so far.
pub(super) struct Trust {
    options: TlsOptions,
    system: OnceLock<Arc<RootCertStore>>,
    by_host: Mutex<HashMap<String, Result<Arc<ClientConfig>, String>>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Trust {
    /// Takes the options and checks those that can be checked without reading files.
    pub(super) fn new(options: TlsOptions) -> Result<Self, String> {
        for ca in &options.ca_certificates {
            parse_ca(ca)?;
        }
        if let Some(identity) = &options.client_identity {
            parse_identity(identity, "the client certificate")?;
        }
        Ok(Self { options, system: OnceLock::new(), by_host: Mutex::new(HashMap::new()) })
    }

    /// Returns the configuration for a host, made at its first connection.
    fn config(&self, host: &str) -> Result<Arc<ClientConfig>, String> {
        let mut by_host = lock(&self.by_host);
        if let Some(config) = by_host.get(host) {
            return config.clone();
        }
        let config = self.make_config(host).map(Arc::new);
        by_host.insert(host.to_owned(), config.clone());
        config
    }

    fn make_config(&self, host: &str) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let (host_certificates, host_identity) = certs_directory(&self.options.certs_directories, host)?;
        let trusted = if self.options.verify {
            let mut own = host_certificates;
            for ca in &self.options.ca_certificates {
                own.extend(parse_ca(ca)?);
            }
            Trusted::authorities(self.system(), own, &provider)?
        } else {
            Trusted::AnyServer
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(trusted.verifier(&provider));
        match host_identity.as_ref().or(self.options.client_identity.as_ref()) {
            None => Ok(builder.with_no_client_auth()),
            Some(identity) => {
                let (chain, key) = parse_identity(identity, "the client certificate")?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("the client certificate and its key cannot be used: {error}"))
            }
        }
    }

    /// Returns the system's authorities, read once.
    fn system(&self) -> Arc<RootCertStore> {
        Arc::clone(self.system.get_or_init(|| Arc::new(system_authorities(&self.options.system_trust))))
    }
}

/// Reads the system's authorities; of each certificate only what is needed to check others with it is kept.
fn system_authorities(trust: &SystemTrust) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Debian has each certificate three times: in the bundle, in a file, and as a link to that. Decoding is what costs
    // time, and keeping the texts would cost more memory than all authorities together.
    let mut known = HashSet::new();
    let hashing = RandomState::new();
    let mut read_file = |path: &Path| {
        let before = roots.len();
        let pem = read(path).unwrap_or_default();
        for block in pem_blocks(&pem) {
            if known.insert(hashing.hash_one(block)) {
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(block).flatten());
            }
        }
        roots.len() > before
    };
    match &trust.file {
        Some(file) => drop(read_file(file)),
        None => drop(BUNDLES.iter().find(|path| read_file(Path::new(path)))),
    }
    let folders: Vec<PathBuf> = if trust.directories.is_empty() {
        FOLDERS.iter().map(PathBuf::from).collect()
    } else {
        trust.directories.clone()
    };
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            // The bundle is in the same folder on some systems and has been read.
            if name == "ca-certificates.crt" || name == "ca-bundle.crt" {
                continue;
            }
            // A link to a neighbour is OpenSSL's index of the folder; the neighbour has its turn.
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let target = || std::fs::read_link(entry.path());
            if !is_link || target().is_ok_and(|target| target.components().count() > 1) {
                read_file(&entry.path());
            }
        }
    }
    roots
}

/// Reads a file of certificates, which may be named by the environment and be anything.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_file(path, limits::CERTIFICATES_BYTES).map_err(|error| error.to_string())
}

/// Reads what `certs.d` folders hold for a host.
fn certs_directory(
    folders: &[PathBuf],
    host: &str,
) -> Result<(Vec<CertificateDer<'static>>, Option<ClientIdentity>), String> {
    let mut certificates = Vec::new();
    let mut identity = None;
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder.join(host)) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let what = format!("`{}`", path.display());
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => certificates.extend(parse_certificates(&read(&path)?, &what)?),
                Some("cert") if identity.is_none() => {
                    let key = String::from_utf8(read(&path.with_extension("key"))?)
                        .map_err(|_| format!("the key of {what} is not an unencrypted PEM private key"))?;
                    let found = ClientIdentity { certificates: read(&path)?, key: Secret::new(key) };
                    parse_identity(&found, &what)?;
                    identity = Some(found);
                }
                _ => {}
            }
        }
    }
    Ok((certificates, identity))
}

/// Checks the certificate of a server, and that the server has its key.
///
/// Without verification neither is checked: any peer could show a certificate of its own with a key that fits, so the
/// signature would prove nothing. Certificates of version 1, with RSA-1024 or P-521 are accepted then, as with curl.
#[derive(Debug)]
struct Verifier {
    trust: Trusted,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Whom a server's certificate may come from.
#[derive(Debug)]
enum Trusted {
    /// Every server: the user asked for it, or only the greeting matters.
    AnyServer,
    /// What rustls accepts, and certificates that were themselves handed in as trusted.
    ///
    /// Registries with a self-signed certificate are common, and `openssl req -x509` marks it as an authority, which
    /// webpki does not accept for a server; docker, curl and skopeo do when it is trusted explicitly.
    Authorities { inner: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>> },
}

impl Trusted {
    fn authorities(
        mut roots: Arc<RootCertStore>,
        own: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        if roots.is_empty() || !own.is_empty() {
            let more = Arc::make_mut(&mut roots);
            if more.is_empty() {
                more.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            more.add_parsable_certificates(own.iter().cloned());
        }
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| format!("the trusted certificates cannot be used: {error}"))?;
        Ok(Self::Authorities { inner, own })
    }

    /// Returns the verifier for it.
    fn verifier(self, provider: &CryptoProvider) -> Arc<Verifier> {
        Arc::new(Verifier { trust: self, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trusted::Authorities { inner, own } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if verified.is_err() && own.iter().any(|own| own == end_entity) {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_name(&parsed, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.trust {
            Trusted::AnyServer => Ok(HandshakeSignatureValid::assertion()),
            Trusted::Authorities { .. } => {
                rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.trust {
            Trusted::AnyServer => Ok(HandshakeSignatureValid::assertion()),
            Trusted::Authorities { .. } => {
                rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        if matches!(self.trust, Trusted::AnyServer) {
            // The server chooses an algorithm that fits its key; the signature is not checked.
            schemes.extend([
                SignatureScheme::ECDSA_NISTP521_SHA512,
                SignatureScheme::ED448,
                SignatureScheme::RSA_PKCS1_SHA1,
                SignatureScheme::ECDSA_SHA1_Legacy,
            ]);
        }
        schemes
    }
}

/// Sends a TLS greeting to this machine and tells whether the response is one; no certificate is looked at.
///
/// Reading the system's authorities costs more than all requests of a small push together, so they are not read
/// only to find out that a registry on this machine speaks plain http.
pub(super) fn greets_in_tls(origin: &Origin, timeout: Duration) -> bool {
    let host = origin.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Trusted::AnyServer.verifier(&provider);
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config
        .map(|builder| builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    let (Ok(config), Ok(name)) = (config, ServerName::try_from(host.clone())) else { return false };
    let Ok(mut connection) = ClientConnection::new(Arc::new(config), name) else { return false };
    let addresses = (host.as_str(), origin.port).to_socket_addrs();
    let streams =
        addresses.into_iter().flatten().map(|address| TcpStream::connect_timeout(&address, timeout));
    let Some(mut stream) = streams.flatten().next() else { return false };
    let greeted = stream.set_read_timeout(Some(Duration::from_millis(100)));
    if greeted.is_err() || connection.write_tls(&mut stream).is_err() {
        return false;
    }
    let until = Instant::now() + timeout;
    let mut first = [0];
    loop {
        match stream.read(&mut first) {
            // A handshake record, or an alert.
            Ok(n) => return n == 1 && matches!(first, [0x16 | 0x15]),
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) if cancel::is_cancelled() || Instant::now() > until => return false,
            Err(_) => {}
        }
    }
}

/// Wraps a connection in TLS where the URL says https.
#[derive(Debug)]
pub(super) struct TlsConnector {
    pub(super) trust: Arc<Trust>,
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Box::new(transport)));
        }
        let host = details.uri.authority().map_or("", |authority| authority.as_str());
        let config =
            self.trust.config(host).map_err(|problem| Error::Other(BadConfiguration(problem).into()))?;
        let bare = details.uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|_| Error::Tls("the host has no valid name"))?;
        let mut connection = ClientConnection::new(config, name)?;
        let boxed: Box<dyn Transport> = Box::new(transport);
        let mut adapter = TransportAdapter::new(boxed, Arc::clone(&details.current_time));
        adapter.set_timeout(details.timeout);
        if let Err(error) = connection.complete_io(&mut adapter) {
            return Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(problem) => Error::Rustls(problem.clone()),
                None => error.into(),
            });
        }
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Box::new(Tls { buffers, stream: StreamOwned::new(connection, adapter) })))
    }
}

/// A fault of our own configuration that is found only when a connection is made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadConfiguration(pub(super) String);

/// One TLS connection.
struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
