//! A scripted HTTP server for unit tests: it answers the expected requests in order, on a port of this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;
use super::credential::Credential;
use super::keychain::{CredentialSource, Keychain};
use super::options::ClientOptions;
use super::wire_options::{Timeouts, WireOptions};

/// One expected request and its response.
pub(super) struct Exchange {
    /// `GET /v2/a/tags/list`; the query may be left out.
    pub(super) request: String,
    /// A header that the request has to carry (`authorization: Basic …`), or with `!` not to carry (`!authorization`).
    pub(super) header: &'static str,
    /// Status line without the version, headers, an empty line, the body; `{host}` is the server's own.
    pub(super) response: String,
}

/// Expects a request without looking at its headers.
pub(super) fn on(request: &str, response: &str) -> Exchange {
    Exchange { request: request.to_owned(), header: "", response: response.to_owned() }
}

/// Makes a response with a body and its length.
pub(super) fn body(status: &str, headers: &str, body: &str) -> String {
    format!("{status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Makes a response without a body.
pub(super) fn head(status: &str, headers: &str) -> String {
    format!("{status}\r\n{headers}\r\n")
}

/// The server; dropping it fails the test when a request was missing or not as expected.
pub(super) struct Scripted {
    pub(super) host: String,
    served: Option<JoinHandle<Vec<String>>>,
}

impl Scripted {
    pub(super) fn start(script: Vec<Exchange>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let own = host.clone();
        let served = std::thread::Builder::new().spawn(move || {
            let mut problems = Vec::new();
            for exchange in script {
                let stream = loop {
                    let (stream, _) = listener.accept().unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    let mut first = [0];
                    // A TLS greeting, or a connection that is closed at once: not a request.
                    if matches!(stream.peek(&mut first), Ok(1)) && first != [0x16] {
                        break stream;
                    }
                };
                problems.extend(serve(&stream, &exchange, &own));
            }
            problems
        });
        Self { host, served: Some(served.expect("the test has threads")) }
    }

    /// Returns a client that retries quickly and sends `ci` and `hunter2` where credentials are requested.
    pub(super) fn client(&self) -> Client {
        let credential = Credential::Basic { username: "ci".into(), password: "hunter2".to_owned().into() };
        client_with(vec![CredentialSource::Everywhere(credential)])
    }

    pub(super) fn repository(&self) -> crate::model::Repository {
        format!("{}/a", self.host).parse().unwrap()
    }
}

/// Returns a client that retries quickly.
pub(super) fn client_with(sources: Vec<CredentialSource>) -> Client {
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        response: Duration::from_secs(5),
        closing_response: Duration::from_secs(5),
    };
    let options = ClientOptions {
        credentials: Arc::new(Keychain::new(sources)),
        retries: 2,
        retry_delay: Duration::from_millis(1),
        wire: WireOptions { timeouts, ..WireOptions::default() },
        ..ClientOptions::default()
    };
    Client::new(options).unwrap()
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let served = self.served.take().expect("it is joined once");
        if std::thread::panicking() {
            return;
        }
        // Requests that did not come: the server still waits for them.
        while !served.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
            let Ok(stream) = TcpStream::connect(&self.host) else { break };
            let _ = (&stream).write_all(b"MISSING / HTTP/1.1\r\n\r\n");
            let _ = (&stream).read(&mut [0]);
        }
        let problems = served.join().unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

/// Serves one request on its own connection, and returns what was not as expected.
fn serve(stream: &TcpStream, exchange: &Exchange, host: &str) -> Vec<String> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
    reader.read_exact(&mut vec![0; length]).unwrap();
    let response = exchange.response.replace("{host}", host);
    let (status, rest) = response.split_once("\r\n").unwrap_or((&response, "\r\n"));
    let _ = (&mut &*stream).write_all(format!("HTTP/1.1 {status}\r\nconnection: close\r\n{rest}").as_bytes());
    let first = lines.first().cloned().unwrap_or_default();
    let asked = first.trim_end_matches(" HTTP/1.1");
    let mut problems = Vec::new();
    if asked != exchange.request && asked.split('?').next() != Some(&exchange.request) {
        problems.push(format!("expected `{}`, came `{asked}`", exchange.request));
    }
    let carries = |header: &str| lines.iter().any(|line| line.starts_with(header));
    let fits = match exchange.header.strip_prefix('!') {
        Some(absent) => !carries(absent),
        None => exchange.header.is_empty() || carries(exchange.header),
    };
    if !fits {
        problems.push(format!("expected `{}` at `{asked}`: {lines:?}", exchange.header));
    }
    problems
}
