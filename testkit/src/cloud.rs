//! Fake services of cloud providers, which check every request, and a proxy that maps their host names to this machine.
//!
//! A request that the script does not expect fails the test when the service is dropped.

use crate::http::{Received, read_request};
use sha2::{Digest as _, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns status and body of the response; an error for an unexpected request.
pub type Script = dyn Fn(&Received) -> Result<(u16, String), String> + Send + Sync;

/// Lines that several threads add to.
type Lines = Arc<Mutex<Vec<String>>>;

/// A service on a free port of this machine.
pub struct FakeService {
    port: u16,
    stop: Arc<AtomicBool>,
    log: Lines,
    unexpected: Lines,
}

impl FakeService {
    /// Starts a service.
    pub fn start(
        script: impl Fn(&Received) -> Result<(u16, String), String> + Send + Sync + 'static,
    ) -> Self {
        let (log, unexpected) = (Arc::default(), Arc::default());
        let own: (Lines, Lines) = (Arc::clone(&log), Arc::clone(&unexpected));
        let script: Box<Script> = Box::new(script);
        let (port, stop) = listen(move |stream| {
            let Ok(request) = read_request(&stream) else { return };
            push(&own.0, format!("{} {}", request.method, request.target));
            let (status, body) = script(&request).unwrap_or_else(|problem| {
                push(&own.1, format!("{} {}: {problem}", request.method, request.target));
                (500, String::new())
            });
            let head = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = (&stream).write_all(head.as_bytes());
        });
        Self { port, stop, log, unexpected }
    }

    /// Returns `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns its URL, without a `/` at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Returns method and path of all requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FakeService {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if !std::thread::panicking() {
            let unexpected = self.unexpected.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(unexpected.is_empty(), "unexpected requests: {unexpected:?}");
        }
    }
}

fn push(list: &Mutex<Vec<String>>, line: String) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

pub(crate) fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound socket").port();
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, serve) = (Arc::clone(&stop), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    (port, stop)
}

/// A proxy that connects one host name to a port of this machine, for plain HTTP only.
pub struct Tunnel {
    port: u16,
    stop: Arc<AtomicBool>,
}

impl Tunnel {
    /// Starts a proxy that connects `name:80` to `target`.
    #[must_use]
    pub fn start(name: &str, target: &str) -> Self {
        let (name, target) = (format!("{name}:80"), target.to_owned());
        let (port, stop) = listen(move |client| {
            let mut reader = BufReader::new(&client);
            let (mut first, mut line) = (String::new(), String::new());
            let _ = reader.read_line(&mut first);
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            if first.split(' ').nth(1) != Some(&name) {
                let _ = (&client).write_all(b"HTTP/1.1 502 Elsewhere\r\ncontent-length: 0\r\n\r\n");
                return;
            }
            let Ok(server) = TcpStream::connect(&target) else { return };
            let _ = (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
            let pair = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            let back = std::thread::spawn(move || {
                let _ = std::io::copy(&mut &pair.1, &mut &pair.0);
                let _ = pair.0.shutdown(std::net::Shutdown::Both);
            });
            let _ = std::io::copy(&mut &client, &mut &server);
            let _ = server.shutdown(std::net::Shutdown::Both);
            let _ = back.join();
        });
        Self { port, stop }
    }

    /// Returns the proxy's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// An AWS access key as a test knows it.
#[derive(Clone, Copy, Debug)]
pub struct AwsKey {
    /// The public part.
    pub id: &'static str,
    /// The secret part.
    pub secret: &'static str,
    /// The session token, for temporary keys.
    pub session: Option<&'static str>,
}

/// Computes the signature of a request and compares it.
///
/// Errors: what is missing, unsigned, too old, or different.
pub fn check_signature(request: &Received, key: AwsKey, region: &str, service: &str) -> Result<(), String> {
    crate::planted::plant(key.secret);
    key.session.iter().for_each(|session| crate::planted::plant(session));
    let authorization = request.header("authorization").ok_or("no authorization")?;
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let field = |name: &str| {
        let found = rest.split(", ").find_map(|part| part.strip_prefix(&format!("{name}=")));
        found.ok_or(format!("no {name}"))
    };
    let time = request.header("x-amz-date").ok_or("no x-amz-date")?;
    let date = time.get(..8).ok_or("no date")?;
    let range = format!("{date}/{region}/{service}/aws4_request");
    if field("Credential")? != format!("{}/{range}", key.id) {
        return Err(format!("credential is {}", field("Credential")?));
    }
    if request.header("x-amz-security-token") != key.session {
        return Err("another session".into());
    }
    let names = field("SignedHeaders")?;
    let signed: Vec<&str> = names.split(';').collect();
    for name in ["host", "x-amz-date", "x-amz-target", "x-amz-security-token", "content-type"] {
        if request.header(name).is_some() && !signed.contains(&name) {
            return Err(format!("{name} is not signed"));
        }
    }
    let mut lines = String::new();
    for name in &signed {
        let value = request.header(name).ok_or(format!("{name} is signed and missing"))?;
        lines.push_str(&format!("{name}:{}\n", value.trim()));
    }
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let canonical = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{}", request.method, hash(&request.body));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{range}\n{}", hash(canonical.as_bytes()));
    let mut secret = hmac(format!("AWS4{}", key.secret).as_bytes(), date.as_bytes());
    for part in [region, service, "aws4_request"] {
        secret = hmac(&secret, part.as_bytes());
    }
    let expected = hex(&hmac(&secret, text.as_bytes()));
    if field("Signature")? != expected {
        return Err("the signature is another one".into());
    }
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?.as_secs() / 86_400;
    let year: u64 = date.get(..4).and_then(|year| year.parse().ok()).ok_or("no year")?;
    if year.abs_diff(1970 + days / 365) > 1 {
        return Err(format!("signed at {time}"));
    }
    Ok(())
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad =
        |with: u8| -> Vec<u8> { (0..64).map(|index| key.get(index).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::digest([pad(0x36), text.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Splits a form (`a=b&c=d`) and decodes its values.
#[must_use]
pub fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body).into_owned();
    let decode = |value: &str| crate::fault::unescape(&value.replace('+', " "));
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), decode(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_signature_is_accepted_and_its_neighbours_are_not() {
        // AWS's own test suite, `post-vanilla`. With the right signature the only error is the old date.
        let published = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        let key =
            AwsKey { id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", session: None };
        let request = |signature: &str| Received {
            method: "POST".into(),
            target: "/".into(),
            headers: vec![
                ("host".into(), "example.amazonaws.com".into()),
                ("x-amz-date".into(), "20150830T123600Z".into()),
                (
                    "authorization".into(),
                    format!(
                        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
                    ),
                ),
            ],
            body: Vec::new(),
        };
        let error = check_signature(&request(published), key, "us-east-1", "service").unwrap_err();
        assert_eq!(error, "signed at 20150830T123600Z");
        let error = check_signature(&request("5da7"), key, "us-east-1", "service").unwrap_err();
        assert_eq!(error, "the signature is another one");
        let error = check_signature(&request(published), key, "eu-west-1", "service").unwrap_err();
        assert!(error.starts_with("credential is "), "{error}");
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
