//! A bucket in memory that does what a test says: real servers do not fail on demand.

use crate::cloud::listen;
use crate::http::{Received, read_request};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a test answers in place of the bucket: everything after `HTTP/1.1 `, up to the end of the connection.
pub type Fault = dyn Fn(&Received, usize) -> Option<Vec<u8>> + Send + Sync;

/// A bucket that is called `ci-images`; it stops when dropped.
pub struct FakeBucket {
    port: u16,
    stop: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
    log: Vec<(String, Vec<(String, String)>)>,
}

impl FakeBucket {
    /// Starts one; `fault` gets each request with the number of those before it.
    pub fn start(fault: impl Fn(&Received, usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let (own, fault): (_, Box<Fault>) = (Arc::clone(&state), Box::new(fault));
        let (port, stop) = listen(move |stream| {
            let Ok(request) = read_request(&stream) else { return };
            let number = {
                let mut state = hold(&own);
                state.log.push((format!("{} {}", request.method, request.target), request.headers.clone()));
                state.log.len() - 1
            };
            let answer = fault(&request, number).unwrap_or_else(|| hold(&own).answer(&request));
            let _ = (&stream).write_all(b"HTTP/1.1 ");
            let _ = (&stream).write_all(&answer);
        });
        Self { port, stop, state }
    }

    /// Returns its URL, for `AWS_ENDPOINT_URL_S3`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns method and target of each request, and its headers with names in lower case.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, Vec<(String, String)>)> {
        hold(&self.state).log.clone()
    }

    /// Returns the keys of all objects.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        hold(&self.state).objects.keys().cloned().collect()
    }
}

impl Drop for FakeBucket {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn hold(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a response as a [`Fault`] does.
#[must_use]
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

impl State {
    fn answer(&mut self, request: &Received) -> Vec<u8> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let Some(key) = path.strip_prefix("/ci-images/").map(str::to_owned) else {
            return answer("404 X", &[], b"<Error><Code>NoSuchBucket</Code></Error>");
        };
        let value = |name: &str| {
            let found =
                query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
            found.map(|(_, value)| value.replace("%2F", "/"))
        };
        match request.method.as_str() {
            "GET" if key.is_empty() => answer("200 X", &[], self.list(&value).as_bytes()),
            "GET" | "HEAD" => match self.objects.get(&key) {
                Some(bytes) => object(request, bytes),
                None => answer("404 X", &[], b"<Error><Code>NoSuchKey</Code></Error>"),
            },
            "POST" if value("uploads").is_some() => {
                self.parts.insert(key, BTreeMap::new());
                answer("200 X", &[], b"<R><UploadId>u</UploadId></R>")
            }
            "POST" => {
                let parts = self.parts.remove(&key).unwrap_or_default();
                self.objects.insert(key, parts.into_values().flatten().collect());
                answer("200 X", &[], b"<R></R>")
            }
            "PUT" => {
                match value("partNumber").and_then(|number| number.parse().ok()) {
                    Some(number) => {
                        self.parts.entry(key).or_default().insert(number, request.body.clone());
                    }
                    None => {
                        self.objects.insert(key, request.body.clone());
                    }
                }
                answer("200 X", &[("etag", "\"e\"")], b"")
            }
            "DELETE" => {
                self.objects.remove(&key);
                answer("204 X", &[], b"")
            }
            _ => answer("501 X", &[], b""),
        }
    }

    fn list(&self, value: &dyn Fn(&str) -> Option<String>) -> String {
        let prefix = value("prefix").unwrap_or_default();
        let most = value("max-keys").and_then(|most| most.parse().ok()).unwrap_or(1000);
        let keys = self.objects.keys().filter(|key| key.starts_with(&prefix)).take(most);
        let keys: String = keys.map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>")
    }
}

/// Answers with an object, or with the part of it that is requested.
fn object(request: &Received, bytes: &[u8]) -> Vec<u8> {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let head = |mut whole: Vec<u8>, body: &[u8]| {
        if request.method == "HEAD" {
            whole.truncate(whole.len() - body.len());
        }
        whole
    };
    let Some((first, last)) = range.and_then(|(first, last)| {
        let last = last.parse::<usize>().map_or(bytes.len(), |last| (last + 1).min(bytes.len()));
        Some((first.parse::<usize>().ok().filter(|first| *first < last)?, last))
    }) else {
        return head(answer("200 X", &[], bytes), bytes);
    };
    let shown = format!("bytes {first}-{}/{}", last - 1, bytes.len());
    answer("206 X", &[("content-range", &shown)], &bytes[first..last])
}
