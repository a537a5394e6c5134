//! A small faithful registry in memory that misbehaves where a test says so.
//!
//! Written against the distribution specification. Rules match a method, a kind of object and the how-many-th
//! time; everything no rule matches is answered correctly. A request that is no part of the protocol, or a rule
//! that never came to act, fails the test when the registry is dropped.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::Digest as _;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// `/v2/`.
    Base,
    /// `/v2/<name>/blobs/<digest>`.
    Blob,
    /// `/v2/<name>/blobs/uploads/`: opening a session.
    Uploads,
    /// An open session.
    Session,
    /// `/v2/<name>/manifests/<reference>`.
    Manifest,
    /// `/v2/<name>/tags/list`.
    Tags,
    /// `/v2/<name>/referrers/<digest>`.
    Referrers,
    /// The token server.
    Token,
    /// Blobs at another origin, where redirects lead.
    Storage,
    /// Anything else; always unexpected.
    Other,
}

/// What is done instead of a proper answer.
#[derive(Clone)]
pub enum Fault {
    /// Reads the request and answers with this; nothing else happens.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Answers before the body is read, and closes the connection.
    EarlyAnswer(u16, &'static str),
    /// Reads so many bytes of the body and closes; what is unread makes it a reset.
    CutRequest(usize),
    /// Does what is asked and closes without an answer.
    LoseAnswer,
    /// Sends so many bytes of the answer's body and closes.
    CutAnswer(usize),
    /// Reads the request and stays silent.
    Silence,
    /// Sends so many bytes of the answer's body and stays silent.
    StallAnswer(usize),
    /// Answers correctly but for one bit of the body.
    FlipBit,
    /// Answers correctly, with this header set, or removed.
    Header(&'static str, Option<String>),
    /// Answers correctly, with another status.
    Status(u16),
    /// Answers with these bytes in place of the body.
    Body(Vec<u8>),
    /// Redirects to this URL; `{}` in it is the digest or reference.
    Redirect(u16, String),
    /// Answers correctly, with the location at this origin.
    LocationAt(String),
    /// Answers as if the request had no `Range`.
    IgnoreRange,
    /// Forgets the session first.
    ForgetSession,
    /// Invalidates every token given out so far, then goes on correctly.
    RevokeTokens,
}

/// When a fault comes.
#[derive(Clone)]
pub struct Rule {
    method: &'static str,
    thing: Thing,
    skip: usize,
    times: usize,
    fault: Fault,
    seen: usize,
    fired: usize,
}

/// Begins a rule: the first such request, once.
#[must_use]
pub fn on(method: &'static str, thing: Thing, fault: Fault) -> Rule {
    Rule { method, thing, skip: 0, times: 1, fault, seen: 0, fired: 0 }
}

impl Rule {
    /// Acts on the n-th such request, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        self.skip = n - 1;
        self
    }

    /// Acts so many times.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Acts every time.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = usize::MAX;
        self
    }
}

/// Who may do what.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everybody everything.
    #[default]
    Open,
    /// One user with a password.
    Basic(&'static str, &'static str),
    /// Tokens from `/token`, which asks for the same user and password; with their life in seconds.
    Bearer {
        /// The user.
        user: &'static str,
        /// The password; also the only refresh token.
        password: &'static str,
        /// Life of a token in seconds, if it is told.
        expires_in: Option<u64>,
        /// `WWW-Authenticate` headers; `{}` is the proper Bearer challenge.
        challenges: Vec<&'static str>,
    },
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// What it is about.
    pub thing: Thing,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body that were read.
    pub body_len: usize,
    /// When it came, from the start of the registry.
    pub at: Duration,
    /// It came to the second origin.
    pub foreign: bool,
}

#[derive(Default)]
struct State {
    blobs: HashMap<(String, String), Vec<u8>>,
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    tags: BTreeMap<(String, String), String>,
    sessions: HashMap<String, Vec<u8>>,
    tokens: HashMap<String, (String, bool)>,
    rules: Vec<Rule>,
    log: Vec<Logged>,
    unexpected: Vec<String>,
    leaks: Vec<String>,
    counter: usize,
    access: Access,
    referrers_api: bool,
    mounts: bool,
    page: usize,
    body_limit: usize,
    rate_limit: usize,
    /// The directory's token that is exchanged for the password, as ACR does.
    exchange: Option<&'static str>,
    /// The second of the last request, and how many there were in it.
    rate: (u64, usize),
}

/// The registry; it stops, and judges, when it is dropped.
pub struct FaultRegistry {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    port: u16,
    foreign_port: u16,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes `sha256:…`.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn matches_digest(digest: &str, bytes: &[u8]) -> bool {
    match digest.split_once(':') {
        Some(("sha512", hex)) => {
            let found: String =
                sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            found == hex
        }
        _ => digest_of(bytes) == digest,
    }
}

impl FaultRegistry {
    /// Starts one on a free port of this machine.
    #[must_use]
    pub fn start(access: Access, rules: Vec<Rule>) -> Self {
        let state = State {
            rules,
            access,
            mounts: true,
            page: usize::MAX,
            body_limit: usize::MAX,
            rate_limit: usize::MAX,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let stop = Arc::new(AtomicBool::new(false));
        let listen = |foreign: bool| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("a bound socket").port();
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            let started = Instant::now();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
                    std::thread::spawn(move || {
                        Connection { state, stop, port, foreign, started }.serve(&stream);
                    });
                }
            });
            port
        };
        let (port, foreign_port) = (listen(false), listen(true));
        Self { state, stop, port, foreign_port }
    }

    /// Returns `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns another origin that serves the same blobs and sessions, and refuses credentials.
    #[must_use]
    pub fn foreign(&self) -> String {
        format!("http://localhost:{}", self.foreign_port)
    }

    /// Lets it answer the referrers API.
    #[must_use]
    pub fn with_referrers(self) -> Self {
        lock(&self.state).referrers_api = true;
        self
    }

    /// Lets it refuse to mount.
    #[must_use]
    pub fn without_mounts(self) -> Self {
        lock(&self.state).mounts = false;
        self
    }

    /// Lets it list so many tags at once.
    #[must_use]
    pub fn with_page(self, page: usize) -> Self {
        lock(&self.state).page = page;
        self
    }

    /// Lets a front end refuse bodies above a size (413), early and closing, as nginx does.
    #[must_use]
    pub fn with_body_limit(self, bytes: usize) -> Self {
        lock(&self.state).body_limit = bytes;
        self
    }

    /// Lets it refuse more than so many requests in one second (429).
    #[must_use]
    pub fn with_rate_limit(self, requests: usize) -> Self {
        lock(&self.state).rate_limit = requests;
        self
    }

    /// Lets it exchange this token for the password of [`Access::Basic`] at `/oauth2/exchange`, as ACR does.
    #[must_use]
    pub fn with_exchange(self, token: &'static str) -> Self {
        lock(&self.state).exchange = Some(token);
        self
    }

    /// Adds a rule.
    pub fn rule(&self, rule: Rule) {
        lock(&self.state).rules.push(rule);
    }

    /// Returns all requests so far.
    #[must_use]
    pub fn log(&self) -> Vec<Logged> {
        lock(&self.state).log.clone()
    }

    /// Counts requests.
    #[must_use]
    pub fn count(&self, method: &str, thing: Thing) -> usize {
        self.log().iter().filter(|entry| entry.method == method && entry.thing == thing).count()
    }

    /// Returns requests to the second origin that carried credentials.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        lock(&self.state).leaks.clone()
    }

    /// Stores a blob.
    pub fn put_blob(&self, name: &str, digest: &str, bytes: &[u8]) {
        lock(&self.state).blobs.insert((name.to_owned(), digest.to_owned()), bytes.to_vec());
    }

    /// Stores a manifest, whatever it is, under a digest and tag.
    pub fn put_manifest(&self, name: &str, tag: &str, digest: &str, media_type: &str, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.manifests.insert((name.to_owned(), digest.to_owned()), (media_type.to_owned(), bytes.to_vec()));
        state.tags.insert((name.to_owned(), tag.to_owned()), digest.to_owned());
    }

    /// Returns a stored blob.
    #[must_use]
    pub fn blob(&self, name: &str, digest: &str) -> Option<Vec<u8>> {
        lock(&self.state).blobs.get(&(name.to_owned(), digest.to_owned())).cloned()
    }

    /// Returns what a tag points at.
    #[must_use]
    pub fn tag(&self, name: &str, tag: &str) -> Option<String> {
        lock(&self.state).tags.get(&(name.to_owned(), tag.to_owned())).cloned()
    }

    /// Recomputes every digest and size below a tag.
    ///
    /// Errors: what is missing or different.
    pub fn judge(&self, name: &str, tag: &str) -> Result<(), String> {
        let digest = self.tag(name, tag).ok_or(format!("no tag `{tag}`"))?;
        let state = lock(&self.state);
        let mut open = vec![digest];
        while let Some(digest) = open.pop() {
            let found = state.manifests.get(&(name.to_owned(), digest.clone()));
            let (_, bytes) = found.ok_or(format!("no manifest {digest}"))?;
            if !matches_digest(&digest, bytes) {
                return Err(format!("manifest {digest} has other bytes"));
            }
            let value: serde_json::Value =
                serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
            open.extend(
                list("manifests").iter().filter_map(|child| child["digest"].as_str().map(str::to_owned)),
            );
            let blobs = list("layers").into_iter().chain(value.get("config").cloned());
            for descriptor in blobs {
                let digest = descriptor["digest"].as_str().unwrap_or("").to_owned();
                let blob = state.blobs.get(&(name.to_owned(), digest.clone()));
                let blob = blob.ok_or(format!("no blob {digest}"))?;
                if !matches_digest(&digest, blob) || descriptor["size"].as_u64() != Some(blob.len() as u64) {
                    return Err(format!("blob {digest} has other bytes"));
                }
            }
        }
        Ok(())
    }
}

impl Drop for FaultRegistry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for port in [self.port, self.foreign_port] {
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        if std::thread::panicking() {
            for entry in self.log() {
                eprintln!(
                    "{:>8.3} {} {} ({} bytes)",
                    entry.at.as_secs_f64(),
                    entry.method,
                    entry.path,
                    entry.body_len
                );
            }
            return;
        }
        let state = lock(&self.state);
        assert!(state.unexpected.is_empty(), "requests nobody expected: {:?}", state.unexpected);
        for rule in &state.rules {
            assert!(rule.fired > 0, "a rule for {} {:?} never came to act", rule.method, rule.thing);
        }
    }
}

/// A request, read as far as its headers.
#[derive(Clone)]
struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    thing: Thing,
    name: String,
    reference: String,
    length: usize,
}

/// A proper answer.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#, code.to_lowercase());
        Self::new(status).header("content-type", "application/json").body(body.into_bytes())
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

struct Connection {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    port: u16,
    foreign: bool,
    started: Instant,
}

pub(crate) fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let hex = text.get(index + 1..index + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[index], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                index += 3;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Tells what a path is about: thing, repository, digest or tag or session.
fn understand(path: &str) -> (Thing, String, String) {
    let owned = |thing, name: &str, reference: &str| (thing, name.to_owned(), reference.to_owned());
    if let Some(digest) = path.strip_prefix("/storage/") {
        return owned(Thing::Storage, "", digest);
    }
    match path {
        "/v2/" => return owned(Thing::Base, "", ""),
        "/token" => return owned(Thing::Token, "", ""),
        _ => {}
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return owned(Thing::Other, "", path) };
    for (marker, thing) in [
        ("/blobs/uploads/", Thing::Session),
        ("/blobs/", Thing::Blob),
        ("/manifests/", Thing::Manifest),
        ("/referrers/", Thing::Referrers),
        ("/tags/list", Thing::Tags),
    ] {
        if let Some((name, reference)) = rest.split_once(marker) {
            let thing = if thing == Thing::Session && reference.is_empty() { Thing::Uploads } else { thing };
            return owned(thing, name, reference);
        }
    }
    owned(Thing::Other, "", path)
}

impl Connection {
    fn serve(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_head(&mut reader) {
            if !self.answer(&request, &mut reader, stream) {
                return;
            }
        }
    }

    /// Finds the fault for a request and counts the request for every rule that fits.
    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut state = lock(&self.state);
        let mut found = None;
        for rule in &mut state.rules {
            if rule.method == request.method && rule.thing == request.thing {
                rule.seen += 1;
                if found.is_none() && rule.seen > rule.skip && rule.fired < rule.times {
                    rule.fired += 1;
                    found = Some(rule.fault.clone());
                }
            }
        }
        found
    }

    /// Answers one request; false when the connection is to be closed.
    fn answer(&self, request: &Request, reader: &mut BufReader<&TcpStream>, stream: &TcpStream) -> bool {
        let log = |body_len: usize| {
            let entry = Logged {
                method: request.method.clone(),
                path: request.path.clone(),
                thing: request.thing,
                headers: request.headers.clone(),
                body_len,
                at: self.started.elapsed(),
                foreign: self.foreign,
            };
            lock(&self.state).log.push(entry);
        };
        let fault = self.fault(request);
        let limit = lock(&self.state).body_limit;
        if let Some(Fault::EarlyAnswer(status, code)) = &fault {
            log(0);
            let _ = write_answer(
                stream,
                request,
                &Answer::error(*status, code).header("connection", "close"),
                None,
            );
            return false;
        }
        if self.too_fast() {
            log(0);
            let answer = Answer::error(429, "TOOMANYREQUESTS")
                .header("retry-after", "1")
                .header("connection", "close");
            let _ = write_answer(stream, request, &answer, None);
            return false;
        }
        if request.length > limit {
            log(0);
            let answer = Answer::new(413).header("content-type", "text/html").header("connection", "close");
            let _ = write_answer(stream, request, &answer.body(b"<html>413</html>".to_vec()), None);
            return false;
        }
        if request.headers.get("expect").is_some_and(|value| value == "100-continue") {
            let refused = self.authorise(request).filter(|_| fault.is_none());
            if let Some(answer) = refused {
                log(0);
                let _ = write_answer(stream, request, &answer, None);
                return false;
            }
            let _ = (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let wanted = match &fault {
            Some(Fault::CutRequest(bytes)) => (*bytes).min(request.length),
            _ => request.length,
        };
        let mut body = vec![0; wanted];
        if reader.read_exact(&mut body).is_err() {
            log(0);
            return false;
        }
        log(body.len());
        match fault {
            None => write_answer(stream, request, &self.handle(request, &body), None),
            Some(fault) => self.misbehave(fault, request, &body, stream),
        }
    }

    fn misbehave(&self, fault: Fault, request: &Request, body: &[u8], stream: &TcpStream) -> bool {
        let send = |answer: &Answer| write_answer(stream, request, answer, None);
        match fault {
            Fault::Answer(status, headers, text) => {
                let mut answer = Answer::new(status).body(text.into_bytes());
                for (name, value) in headers {
                    answer = answer.header(name, value);
                }
                send(&answer)
            }
            Fault::EarlyAnswer(..) | Fault::CutRequest(_) => false,
            Fault::LoseAnswer => {
                self.handle(request, body);
                false
            }
            Fault::CutAnswer(bytes) => {
                write_answer(stream, request, &self.handle(request, body), Some(bytes));
                false
            }
            Fault::Silence => self.stay_silent(),
            Fault::StallAnswer(bytes) => {
                write_answer(stream, request, &self.handle(request, body), Some(bytes));
                self.stay_silent()
            }
            Fault::FlipBit => {
                let mut answer = self.handle(request, body);
                if let Some(byte) = answer.body.last_mut() {
                    *byte ^= 1;
                }
                send(&answer)
            }
            Fault::Header(name, value) => {
                let mut answer = self.handle(request, body);
                answer.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
                send(&match value {
                    Some(value) => answer.header(name, value),
                    None => answer,
                })
            }
            Fault::Status(status) => {
                let mut answer = self.handle(request, body);
                answer.status = status;
                send(&answer)
            }
            Fault::Body(bytes) => send(&self.handle(request, body).body(bytes)),
            Fault::Redirect(status, url) => {
                let location = url.replace("{}", &request.reference);
                send(&Answer::new(status).header("location", location))
            }
            Fault::LocationAt(origin) => {
                let answer = self.handle(request, body);
                let location = answer.headers.iter().find(|(name, _)| name == "location");
                let location = location.map_or(String::new(), |(_, path)| format!("{origin}{path}"));
                send(&answer.header("location", location))
            }
            Fault::IgnoreRange => {
                let mut whole = request.clone();
                whole.headers.remove("range");
                send(&self.handle(&whole, body))
            }
            Fault::ForgetSession => {
                lock(&self.state).sessions.remove(&request.reference);
                send(&self.handle(request, body))
            }
            Fault::RevokeTokens => {
                lock(&self.state).tokens.clear();
                send(&self.handle(request, body))
            }
        }
    }

    /// Counts the request against the limit.
    fn too_fast(&self) -> bool {
        let mut state = lock(&self.state);
        let second = self.started.elapsed().as_secs();
        if state.rate.0 != second {
            state.rate = (second, 0);
        }
        state.rate.1 += 1;
        state.rate.1 > state.rate_limit
    }

    fn stay_silent(&self) -> bool {
        while !self.stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Returns a refusal, if the request may not be made.
    fn authorise(&self, request: &Request) -> Option<Answer> {
        let given = request.headers.get("authorization");
        if self.foreign {
            let given = given?;
            lock(&self.state).leaks.push(format!("{} {} {given}", request.method, request.path));
            return Some(Answer::new(400).body(b"Only one auth mechanism allowed".to_vec()));
        }
        let state = lock(&self.state);
        match &state.access {
            _ if request.thing == Thing::Token => None,
            Access::Open => None,
            Access::Basic(user, password) => {
                let wanted = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
                let refusal =
                    || Answer::error(401, "UNAUTHORIZED").header("www-authenticate", "Basic realm=\"test\"");
                (given != Some(&wanted)).then(refusal)
            }
            Access::Bearer { challenges, .. } => {
                let action = match request.method.as_str() {
                    "GET" | "HEAD" => "pull",
                    "DELETE" if request.thing == Thing::Manifest => "delete",
                    _ => "push",
                };
                let scopes = given
                    .and_then(|given| given.strip_prefix("Bearer "))
                    .and_then(|token| state.tokens.get(token))
                    .map_or("", |(scopes, _)| scopes.as_str());
                let granted = request.thing == Thing::Base && !scopes.is_empty()
                    || scopes.split(' ').any(|scope| {
                        let mut parts = scope.splitn(3, ':').skip(1);
                        parts.next() == Some(&request.name)
                            && parts.next().is_some_and(|actions| actions.split(',').any(|own| own == action))
                    });
                if granted {
                    return None;
                }
                let actions = if action == "push" { "pull,push" } else { action };
                let proper = format!(
                    "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"test\",scope=\"repository:{}:{actions}\"",
                    self.port, request.name
                );
                let mut answer = Answer::error(401, "UNAUTHORIZED");
                let challenges = if challenges.is_empty() { &vec!["{}"] } else { challenges };
                for challenge in challenges {
                    answer.headers.push(("www-authenticate".into(), challenge.replace("{}", &proper)));
                }
                Some(answer)
            }
        }
    }

    /// Exchanges a token of the directory. Source: ACR "AAD-OAuth".
    fn exchange(&self, body: &[u8]) -> Answer {
        let mut state = lock(&self.state);
        let fields = parse_query(&String::from_utf8_lossy(body));
        let get = |name: &str| fields.get(name).map(String::as_str);
        let service = format!("127.0.0.1:{}", self.port);
        let sound = get("grant_type") == Some("access_token") && get("service") == Some(&service);
        match (&state.access, state.exchange) {
            (Access::Basic(_, password), Some(token)) if sound && get("access_token") == Some(token) => {
                Answer::new(200).body(format!("{{\"refresh_token\":\"{password}\"}}").into_bytes())
            }
            (_, Some(_)) if sound => Answer::error(401, "UNAUTHORIZED"),
            _ => {
                state.unexpected.push(format!("an exchange of {fields:?}"));
                Answer::new(404)
            }
        }
    }

    /// Does what is asked, by the specification.
    fn handle(&self, request: &Request, body: &[u8]) -> Answer {
        if request.path == "/oauth2/exchange" && request.method == "POST" {
            return self.exchange(body);
        }
        if let Some(refusal) = self.authorise(request) {
            return refusal;
        }
        let mut state = lock(&self.state);
        match (request.method.as_str(), request.thing) {
            ("GET", Thing::Base) => Answer::new(200),
            ("GET" | "POST", Thing::Token) => token(&mut state, request, body),
            ("GET" | "HEAD", Thing::Blob) => {
                let key = (request.name.clone(), request.reference.clone());
                match state.blobs.get(&key) {
                    Some(blob) => blob_answer(request, blob),
                    None => Answer::error(404, "BLOB_UNKNOWN"),
                }
            }
            ("GET", Thing::Storage) => {
                match state.blobs.iter().find(|((_, digest), _)| *digest == request.reference) {
                    Some((_, blob)) => blob_answer(request, blob),
                    None => Answer::error(404, "BLOB_UNKNOWN"),
                }
            }
            ("POST", Thing::Uploads) => open_session(&mut state, request),
            ("PATCH" | "PUT" | "GET" | "DELETE", Thing::Session) => session(&mut state, request, body),
            ("GET" | "HEAD" | "PUT" | "DELETE", Thing::Manifest) => manifest(&mut state, request, body),
            ("GET", Thing::Tags) => tags(&state, request),
            ("GET", Thing::Referrers) => referrers(&state, request),
            _ => {
                state.unexpected.push(format!("{} {}", request.method, request.path));
                Answer::error(404, "UNSUPPORTED")
            }
        }
    }
}

fn token(state: &mut State, request: &Request, body: &[u8]) -> Answer {
    let Access::Bearer { user, password, expires_in, .. } = state.access.clone() else {
        state.unexpected.push("a token was asked for".into());
        return Answer::new(404);
    };
    let scopes: Vec<String> = if request.method == "POST" {
        let form = String::from_utf8_lossy(body).into_owned();
        let fields = parse_query(&form);
        if fields.get("refresh_token").map(String::as_str) != Some(password) {
            return Answer::new(401).body(br#"{"details":"invalid refresh token"}"#.to_vec());
        }
        fields.get("scope").map(|scope| scope.split(' ').map(str::to_owned).collect()).unwrap_or_default()
    } else {
        let wanted = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        if request.headers.get("authorization") != Some(&wanted) {
            return Answer::new(401).body(br#"{"details":"incorrect username or password"}"#.to_vec());
        }
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        query.split('&').filter_map(|pair| pair.strip_prefix("scope=")).map(unescape).collect()
    };
    state.counter += 1;
    let token = format!("token-{}", state.counter);
    state.tokens.insert(token.clone(), (scopes.join(" "), true));
    let life = expires_in.map(|life| format!(",\"expires_in\":{life}")).unwrap_or_default();
    let key = if state.counter.is_multiple_of(2) { "token" } else { "access_token" };
    Answer::new(200).body(format!("{{\"{key}\":\"{token}\"{life}}}").into_bytes())
}

fn blob_answer(request: &Request, blob: &[u8]) -> Answer {
    let plain = |status, bytes: &[u8]| {
        Answer::new(status).header("content-type", "application/octet-stream").body(bytes.to_vec())
    };
    let start = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match start {
        Some(start) if start >= blob.len() => Answer::error(416, "RANGE_INVALID"),
        Some(start) => plain(206, &blob[start..])
            .header("content-range", format!("bytes {start}-{}/{}", blob.len() - 1, blob.len())),
        None => plain(200, blob).header("docker-content-digest", request.reference.clone()),
    }
}

fn open_session(state: &mut State, request: &Request) -> Answer {
    if request.headers.get("content-length").map(String::as_str) != Some("0") {
        return Answer::error(411, "LENGTH_REQUIRED");
    }
    if let (Some(digest), Some(from)) = (request.query.get("mount"), request.query.get("from"))
        && state.mounts
        && let Some(blob) = state.blobs.get(&(from.clone(), digest.clone())).cloned()
    {
        state.blobs.insert((request.name.clone(), digest.clone()), blob);
        return Answer::new(201).header("location", format!("/v2/{}/blobs/{digest}", request.name));
    }
    state.counter += 1;
    let id = format!("session-{}", state.counter);
    state.sessions.insert(id.clone(), Vec::new());
    let location = format!("/v2/{}/blobs/uploads/{id}?_state=secret%2B{}", request.name, state.counter);
    Answer::new(202).header("location", location).header("range", "0-0")
}

fn session(state: &mut State, request: &Request, body: &[u8]) -> Answer {
    let place = format!("/v2/{}/blobs/uploads/{}", request.name, request.reference);
    // The state is signed in real registries; a client has to bring it back unchanged.
    if !request.path.contains("_state=secret%2B") {
        return Answer::error(400, "BLOB_UPLOAD_INVALID");
    }
    let Some(held) = state.sessions.get_mut(&request.reference) else {
        return Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
    };
    let location = format!("{place}?_state=secret%2B{}", held.len() + body.len());
    let range = |len: usize| format!("0-{}", len.saturating_sub(1));
    match request.method.as_str() {
        "GET" => Answer::new(204).header("range", range(held.len())).header("location", location),
        "DELETE" => {
            state.sessions.remove(&request.reference);
            Answer::new(204)
        }
        "PATCH" => {
            let start =
                request.headers.get("content-range").and_then(|text| text.split('-').next()?.parse().ok());
            if start.is_some_and(|start: usize| start != held.len()) || start.is_none() && !held.is_empty() {
                return Answer::error(416, "RANGE_INVALID").header("range", range(held.len()));
            }
            held.extend_from_slice(body);
            Answer::new(202).header("range", range(held.len())).header("location", location)
        }
        _ => {
            held.extend_from_slice(body);
            let digest = request.query.get("digest").cloned().unwrap_or_default();
            let blob = state.sessions.remove(&request.reference).unwrap_or_default();
            if !matches_digest(&digest, &blob) {
                return Answer::error(400, "DIGEST_INVALID");
            }
            state.blobs.insert((request.name.clone(), digest.clone()), blob);
            Answer::new(201)
                .header("location", format!("/v2/{}/blobs/{digest}", request.name))
                .header("docker-content-digest", digest)
        }
    }
}

fn manifest(state: &mut State, request: &Request, body: &[u8]) -> Answer {
    let (name, reference) = (request.name.clone(), request.reference.clone());
    let digest = match state.tags.get(&(name.clone(), reference.clone())) {
        Some(digest) => digest.clone(),
        None => reference.clone(),
    };
    match request.method.as_str() {
        "PUT" => {
            let media_type = request.headers.get("content-type").cloned().unwrap_or_default();
            let digest = digest_of(body);
            let value: serde_json::Value = match serde_json::from_slice(body) {
                Ok(value) => value,
                Err(_) => return Answer::error(400, "MANIFEST_INVALID"),
            };
            let blobs = value["layers"].as_array().cloned().unwrap_or_default();
            for blob in blobs.iter().chain(value.get("config")) {
                let blob = blob["digest"].as_str().unwrap_or("").to_owned();
                if !state.blobs.contains_key(&(name.clone(), blob)) {
                    return Answer::error(404, "MANIFEST_BLOB_UNKNOWN");
                }
            }
            state.manifests.insert((name.clone(), digest.clone()), (media_type, body.to_vec()));
            if !reference.contains(':') {
                state.tags.insert((name.clone(), reference), digest.clone());
            }
            let answer = Answer::new(201).header("docker-content-digest", digest.clone());
            let subject = value["subject"]["digest"].as_str().filter(|_| state.referrers_api);
            match subject {
                Some(subject) => answer.header("oci-subject", subject),
                None => answer,
            }
        }
        "DELETE" => {
            let gone = if reference.contains(':') {
                state.tags.retain(|(own, _), target| *own != name || *target != reference);
                state.manifests.remove(&(name, reference)).is_some()
            } else {
                state.tags.remove(&(name, reference)).is_some()
            };
            if gone { Answer::new(202) } else { Answer::error(404, "MANIFEST_UNKNOWN") }
        }
        _ => match state.manifests.get(&(name, digest.clone())) {
            Some((media_type, bytes)) => Answer::new(200)
                .header("content-type", media_type.clone())
                .header("docker-content-digest", digest)
                .body(bytes.clone()),
            None => Answer::error(404, "MANIFEST_UNKNOWN"),
        },
    }
}

fn tags(state: &State, request: &Request) -> Answer {
    let last = request.query.get("last").cloned().unwrap_or_default();
    let all: Vec<&String> = state
        .tags
        .keys()
        .filter(|(name, tag)| *name == request.name && *tag > last)
        .map(|(_, tag)| tag)
        .collect();
    let page: Vec<&&String> = all.iter().take(state.page).collect();
    let answer = Answer::new(200).header("content-type", "application/json");
    let answer = match page.last() {
        Some(last) if page.len() < all.len() => {
            answer.header("link", format!("</v2/{}/tags/list?last={last}>; rel=\"next\"", request.name))
        }
        _ => answer,
    };
    let list = if page.is_empty() { "null".to_owned() } else { format!("{page:?}") };
    answer.body(format!("{{\"name\":\"{}\",\"tags\":{list}}}", request.name).into_bytes())
}

fn referrers(state: &State, request: &Request) -> Answer {
    if !state.referrers_api {
        return Answer::error(404, "NOT_FOUND");
    }
    let found: Vec<serde_json::Value> = state
        .manifests
        .iter()
        .filter(|((name, _), _)| *name == request.name)
        .filter_map(|((_, digest), (media_type, bytes))| {
            let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            (value["subject"]["digest"].as_str() == Some(&request.reference)).then(|| {
                serde_json::json!({
                    "mediaType": media_type, "digest": digest, "size": bytes.len(),
                    "artifactType": value["artifactType"],
                })
            })
        })
        .collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    let body = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": found});
    Answer::new(200).header("content-type", media_type).body(body.to_string().into_bytes())
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), unescape(value))).collect()
}

fn read_head(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    // A TLS greeting, to see whether we speak it, does not begin with a letter.
    reader.fill_buf().ok()?.first().filter(|byte| byte.is_ascii_uppercase())?;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let (bare, query) = path.split_once('?').unwrap_or((&path, ""));
    let (thing, name, reference) = understand(bare);
    let query = parse_query(query);
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Request { method, query, headers, thing, name, reference, length, path })
}

/// Writes an answer, or the start of it; false when the connection cannot be used any more.
fn write_answer(mut stream: &TcpStream, request: &Request, answer: &Answer, cut: Option<usize>) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = if request.method == "HEAD" { &[][..] } else { &answer.body };
    let body = cut.map_or(body, |cut| &body[..cut.min(body.len())]);
    let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let close = answer.headers.iter().any(|(name, value)| name == "connection" && value == "close");
    written.is_ok() && !close
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let value =
            chunk.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let letter = ALPHABET[(value >> (18 - 6 * index) & 63) as usize];
            out.push(if index > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    out
}
