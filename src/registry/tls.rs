//! TLS under ureq: which authorities are trusted, per host, read when the first TLS connection is made.
//!
//! ureq's own connector panics on a client certificate that does not fit its key and cannot trust a server's
//! own certificate, so this one is used instead; everything else is rustls's default behaviour with ring.

use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::stream::{cancel, lock};

use super::pem::{parse_ca, parse_identity};
use super::tls_errors::or_short_key;
use super::trust_files::{certs_directory, system_authorities};
use super::url::Origin;
use super::wire_options::TlsOptions;

/// The trust of one client: options, and what was made of them so far.
pub(super) struct TlsTrust {
    options: TlsOptions,
    system: OnceLock<Arc<RootCertStore>>,
    by_host: Mutex<HashMap<String, Result<Arc<ClientConfig>, String>>>,
}

impl fmt::Debug for TlsTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTrust").field("options", &self.options).finish_non_exhaustive()
    }
}

impl TlsTrust {
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
            .map_err(|error| or_short_key(error, std::iter::once(end_entity).chain(intermediates).chain(own)))
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
                    .map_err(|error| or_short_key(error, [certificate]))
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
                    .map_err(|error| or_short_key(error, [certificate]))
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
    pub(super) trust: Arc<TlsTrust>,
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
        self.stream.write_all(&self.buffers.output()[..amount])?;
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::PathBuf;

    use super::super::url::Scheme;
    use super::super::wire_options::{CaCertificates, ClientIdentity, SystemTrust};
    use super::*;

    /// A certificate of its own key for `localhost`, as `openssl req -x509` makes it, and the key.
    const CERTIFICATE: &str = include_str!("../../tests/keys/localhost.crt");
    const KEY: &str = include_str!("../../tests/keys/localhost.key");

    /// Trusts no file of the machine that runs the tests.
    fn options(pem: &str) -> TlsOptions {
        let none = PathBuf::from("/nonexistent");
        TlsOptions {
            ca_certificates: vec![CaCertificates { name: "`ca.pem`".to_owned(), pem: pem.into() }],
            system_trust: SystemTrust { file: Some(none.clone()), directories: vec![none] },
            ..TlsOptions::default()
        }
    }

    fn identity(certificates: &str, key: &str) -> Option<ClientIdentity> {
        Some(ClientIdentity { certificates: certificates.into(), key: key.to_owned().into() })
    }

    /// Checks the certificate for a name, in 2030.
    fn check(own: Option<&CertificateDer<'static>>, name: &str) -> Result<(), String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = own.into_iter().cloned().collect();
        let trusted = Trusted::authorities(Arc::new(RootCertStore::empty()), own, &provider).unwrap();
        verify(&trusted.verifier(&provider), name)
    }

    fn verify(verifier: &Verifier, name: &str) -> Result<(), String> {
        let certificate = parse_ca(&options(CERTIFICATE).ca_certificates[0]).unwrap().remove(0);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        let verified = verifier.verify_server_cert(&certificate, &[], &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_servers_own_certificate_is_trusted_for_its_names_when_it_is_given() {
        let own = parse_ca(&options(CERTIFICATE).ca_certificates[0]).unwrap().remove(0);
        assert_eq!(check(Some(&own), "localhost"), Ok(()));
        let error = check(Some(&own), "other.example").unwrap_err();
        assert!(error.contains("other.example"), "{error}");
        let other = include_str!("../../tests/keys/other.crt");
        let other = parse_ca(&options(other).ca_certificates[0]).unwrap().remove(0);
        for own in [None, Some(&other)] {
            assert!(check(own, "localhost").is_err(), "another certificate says nothing about this one");
        }
    }

    #[test]
    fn without_verification_every_certificate_and_algorithm_is_taken() {
        let provider = rustls::crypto::ring::default_provider();
        let any = Trusted::AnyServer.verifier(&provider);
        assert_eq!(verify(&any, "other.example"), Ok(()));
        assert!(any.supported_verify_schemes().contains(&SignatureScheme::RSA_PKCS1_SHA1));
        let provider = Arc::new(provider);
        let empty = Arc::new(RootCertStore::empty());
        let checked = Trusted::authorities(empty, Vec::new(), &provider).unwrap().verifier(&provider);
        assert!(!checked.supported_verify_schemes().contains(&SignatureScheme::RSA_PKCS1_SHA1));
    }

    #[test]
    fn certificates_and_keys_that_cannot_be_used_are_found_without_a_connection() {
        let error = TlsTrust::new(options("hello")).unwrap_err();
        assert_eq!(error, "`ca.pem` holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)");
        for (identity, expected) in [
            (identity("", KEY), "the client certificate is empty, expected PEM certificates"),
            (
                identity(CERTIFICATE, CERTIFICATE),
                "the key of the client certificate is not an unencrypted PEM private key",
            ),
        ] {
            let found = TlsTrust::new(TlsOptions { client_identity: identity, ..options(CERTIFICATE) });
            assert_eq!(found.unwrap_err(), expected);
        }
        let other = include_str!("../../tests/keys/p256.key");
        let options = TlsOptions { client_identity: identity(CERTIFICATE, other), ..options(CERTIFICATE) };
        let error = TlsTrust::new(options).unwrap().config("a.example").unwrap_err();
        assert!(error.starts_with("the client certificate and its key cannot be used: "), "{error}");
    }

    #[test]
    fn the_configuration_of_a_host_is_made_once() {
        let options = TlsOptions { client_identity: identity(CERTIFICATE, KEY), ..options(CERTIFICATE) };
        let trust = TlsTrust::new(options).unwrap();
        let first = trust.config("a.example").unwrap();
        assert!(Arc::ptr_eq(&first, &trust.config("a.example").unwrap()));
        assert!(!Arc::ptr_eq(&first, &trust.config("b.example").unwrap()));
        assert!(first.client_auth_cert_resolver.has_certs());
        let plain = TlsTrust::new(self::options(CERTIFICATE)).unwrap().config("a.example").unwrap();
        assert!(!plain.client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn a_peer_speaks_tls_if_it_answers_a_greeting_with_a_record() {
        for (response, expected) in [
            (&b"\x16\x03\x03"[..], true),
            (b"\x15\x03\x03", true),
            (b"HTTP/1.1 400 Bad Request\r\n", false),
            (b"", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let peer = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut greeting = [0; 5];
                stream.read_exact(&mut greeting).unwrap();
                stream.write_all(response).unwrap();
                greeting[0]
            });
            let origin = Origin { scheme: Scheme::Https, host: "127.0.0.1".into(), port };
            assert_eq!(greets_in_tls(&origin, Duration::from_secs(5)), expected, "{response:?}");
            assert_eq!(peer.join().unwrap(), 0x16, "the greeting is a handshake record");
            assert!(!greets_in_tls(&origin, Duration::from_secs(5)), "the port is closed");
        }
    }

    #[test]
    fn a_silent_peer_does_not_speak_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Origin { scheme: Scheme::Https, host: "127.0.0.1".into(), port };
        assert!(!greets_in_tls(&origin, Duration::from_millis(50)));
    }
}
