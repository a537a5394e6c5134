//! A minimal HTTP client, so that a test can send requests without the client under test.

use crate::certificates::{Identity, certificates};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a server on this machine may take to respond.
const PATIENCE: Duration = Duration::from_secs(20);

/// A complete response.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Returns the first header field of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text, invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A complete request, as a server reads it.
#[derive(Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// Returns the first header field of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// Whether a connection uses TLS.
#[derive(Debug, Clone, Copy)]
pub enum Transport<'a> {
    /// Plain TCP.
    Plain,
    /// TLS; the client trusts the test authority.
    Tls {
        /// The name the server's certificate must have.
        name: &'static str,
        /// The client's own certificate.
        client: Option<&'a Identity>,
    },
}

/// Sends one request to `host` (`address:port`) and reads the whole response.
///
/// Uses HTTP/1.0, so that the response ends with the connection and needs no chunk decoder.
pub fn ask(
    host: &str,
    transport: Transport<'_>,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = format!("{method} {target} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: testkit\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut message = request.into_bytes();
    message.extend_from_slice(body);
    match transport {
        Transport::Plain => exchange(stream, &message, method),
        Transport::Tls { name, client } => {
            let name = ServerName::try_from(name).map_err(io::Error::other)?;
            let config = client_config(client);
            let connection = rustls::ClientConnection::new(config, name).map_err(io::Error::other)?;
            exchange(rustls::StreamOwned::new(connection, stream), &message, method)
        }
    }
}

fn exchange(mut stream: impl Read + Write, message: &[u8], method: &str) -> io::Result<Response> {
    stream.write_all(message)?;
    stream.flush()?;
    let mut reader = BufReader::new(stream);
    let first = read_line(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not an HTTP response: `{first}`")))?;
    let headers = read_headers(&mut reader)?;
    let mut body = Vec::new();
    if method != "HEAD" {
        let length = headers.iter().find(|(name, _)| name == "content-length");
        match length.and_then(|(_, value)| value.parse::<u64>().ok()) {
            Some(length) => reader.take(length).read_to_end(&mut body)?,
            None => reader.read_to_end(&mut body)?,
        };
    }
    Ok(Response { status, headers, body })
}

/// Reads one request with its body from a connection.
pub fn read_request(stream: impl Read) -> io::Result<Received> {
    let mut reader = BufReader::new(stream);
    let first = read_line(&mut reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::Error::other(format!("not an HTTP request: `{first}`")));
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let headers = read_headers(&mut reader)?;
    let mut request = Received { method, target, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    Ok(request)
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok(headers),
        }
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

fn chain_and_key(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let chain = chain.collect::<Result<_, _>>().expect("openssl writes PEM certificates");
    (chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("openssl writes PEM keys"))
}

fn client_config(client: Option<&Identity>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(certificates().ca.as_bytes())
        .expect("openssl writes PEM certificates");
    roots.add(ca).expect("the authority is a usable root");
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots);
    Arc::new(match client.map(chain_and_key) {
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).expect("the key fits the certificate")
        }
        None => builder.with_no_client_auth(),
    })
}

/// Returns the TLS settings of a server with this identity.
pub fn server_config(identity: &Identity) -> Arc<rustls::ServerConfig> {
    let (chain, key) = chain_and_key(identity);
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key fits the certificate");
    Arc::new(config)
}
