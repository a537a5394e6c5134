//! TLS with a given certificate: the server's side of each connection.
//!
//! Clients are not asked for certificates. Which authorities a client trusts is its own configuration.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

/// A certificate with its key, ready for connections.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads a certificate chain, the server's certificate first, and its private key; both are PEM.
    ///
    /// Errors: a sentence without the contents of the files.
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| "the certificate is not valid PEM".to_owned())?;
        if chain.is_empty() {
            return Err("the certificate's file has no certificate, expected PEM".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            "the key is not valid, expected a private key in PEM without a password".to_owned()
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| format!("certificate and key cannot be used together: {error}"))?;
        Ok(Self(Arc::new(config)))
    }

    /// Begins a connection; the first read or write makes the handshake.
    pub(super) fn begin(&self) -> io::Result<Session> {
        let connection = ServerConnection::new(Arc::clone(&self.0)).map_err(io::Error::other)?;
        Ok(Session(RefCell::new(connection)))
    }
}

/// TLS of one connection, which one thread uses.
#[derive(Debug)]
pub(super) struct Session(RefCell<ServerConnection>);

impl Session {
    /// Reads bytes from the client; an end of the connection without `close_notify` is a normal end.
    pub(super) fn read(&self, mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let mut connection = self.0.borrow_mut();
        match Stream::new(&mut *connection, &mut socket).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            result => result,
        }
    }

    /// Sends bytes to the client.
    pub(super) fn write(&self, mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let mut connection = self.0.borrow_mut();
        let mut stream = Stream::new(&mut *connection, &mut socket);
        let count = stream.write(bytes)?;
        stream.flush()?;
        Ok(count)
    }

    /// Sends `close_notify`.
    pub(super) fn end(&self, mut socket: &TcpStream) {
        let mut connection = self.0.borrow_mut();
        connection.send_close_notify();
        // The client may have disconnected.
        let _ = connection.write_tls(&mut socket);
    }
}
