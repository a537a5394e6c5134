//! A small faithful registry in memory that misbehaves where a test says so.
//!
//! Written against the distribution specification. Rules match a method, a kind of object and the how-many-th
//! time; everything no rule matches is answered correctly. A request that is no part of the protocol, or a rule
//! that never came to act, fails the test when the registry is dropped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::Digest as _;

use crate::planted;

use connection::Connection;
pub(crate) use connection::unescape;

mod connection;
mod protocol;

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
    /// Reads so many bytes of the body and closes; what is unread makes it a reset. A session keeps what came.
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
    /// Repeats what the request carried, in error message, headers and location, with this status.
    Echo(u16),
    /// Answers correctly, with another status.
    Status(u16),
    /// Answers with these bytes in place of the body.
    Body(Vec<u8>),
    /// Redirects to this URL; `{}` in it is the digest or reference, `{foreign}` and `{sibling}` the second origin
    /// by another host name and by the same.
    Redirect(u16, String),
    /// Answers correctly, with the location at this origin, which may be `{foreign}` or `{sibling}`.
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
    /// Tokens given out, with their scopes.
    tokens: HashMap<String, String>,
    /// Sessions whose last part was smaller than the least, so that no more may come.
    ended: HashSet<String>,
    rules: Vec<Rule>,
    log: Vec<Logged>,
    unexpected: Vec<String>,
    leaks: Vec<String>,
    counter: usize,
    access: Access,
    referrers_api: bool,
    mounts: bool,
    foreign_port: u16,
    page: usize,
    body_limit: usize,
    chunk_limit: usize,
    least_chunk: usize,
    rate_limit: usize,
    scopes_honoured: usize,
    immutable_tags: bool,
    monolithic: bool,
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
        if let Access::Basic(user, password) | Access::Bearer { user, password, .. } = &access {
            planted::plant_login(user, password);
        }
        let state = State {
            rules,
            access,
            mounts: true,
            page: usize::MAX,
            // More than a test sends: what announces more is refused instead of held in memory.
            body_limit: 1 << 30,
            chunk_limit: usize::MAX,
            rate_limit: usize::MAX,
            scopes_honoured: usize::MAX,
            monolithic: true,
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
        lock(&state).foreign_port = foreign_port;
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

    /// Lets it refuse ranged parts of an upload above a size (416), as GHCR does; whole bodies may have any.
    #[must_use]
    pub fn with_chunk_limit(self, bytes: usize) -> Self {
        lock(&self.state).chunk_limit = bytes;
        self
    }

    /// Lets it announce a smallest chunk, and refuse to go on after a smaller one, as ECR does.
    #[must_use]
    pub fn with_least_chunk(self, bytes: usize) -> Self {
        lock(&self.state).least_chunk = bytes;
        self
    }

    /// Lets its token server grant only so many of the scopes asked for, the first ones.
    #[must_use]
    pub fn with_scopes_honoured(self, scopes: usize) -> Self {
        lock(&self.state).scopes_honoured = scopes;
        self
    }

    /// Lets it refuse to write a tag again, even to what it is already, as ECR does.
    #[must_use]
    pub fn with_immutable_tags(self) -> Self {
        lock(&self.state).immutable_tags = true;
        self
    }

    /// Lets it know only uploads by PATCH (404 for a PUT with a body), as old Artifactory does.
    #[must_use]
    pub fn without_monolithic_uploads(self) -> Self {
        lock(&self.state).monolithic = false;
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
        planted::plant(token);
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

    /// Stores everything that another one has.
    pub fn copy_of(&self, other: &Self) {
        let (blobs, manifests, tags) = {
            let other = lock(&other.state);
            (other.blobs.clone(), other.manifests.clone(), other.tags.clone())
        };
        let mut state = lock(&self.state);
        state.blobs.extend(blobs);
        state.manifests.extend(manifests);
        state.tags.extend(tags);
    }

    /// Forgets manifests and tags; blobs stay.
    pub fn forget_manifests(&self) {
        let mut state = lock(&self.state);
        state.manifests.clear();
        state.tags.clear();
    }

    /// Forgets a blob, as garbage collection does.
    pub fn forget_blob(&self, name: &str, digest: &str) {
        let _ = lock(&self.state).blobs.remove(&(name.to_owned(), digest.to_owned()));
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
                // What may not be distributed is somewhere else.
                if descriptor["mediaType"].as_str().is_some_and(|kind| kind.contains(".nondistributable.")) {
                    continue;
                }
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
