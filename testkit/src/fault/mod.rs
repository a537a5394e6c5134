//! A small correct registry in memory, with faults that a test adds by rules.
//!
//! Written from the distribution specification. A rule matches a method, a kind of object and the number of the
//! request; requests without a matching rule get a correct response. A request that is not in the protocol, or a rule
//! that never applied, fails the test when the registry is dropped.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::planted;

use connection::Connection;
pub(crate) use message::unescape;
pub use state::{Access, Fault, Logged, Rule, Thing, digest_of, on};
use state::{State, lock, matches_digest};

mod connection;
mod message;
mod protocol;
mod state;

/// The registry; when it is dropped it stops and reports unexpected requests and unused rules.
pub struct FaultRegistry {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    port: u16,
    foreign_port: u16,
}

impl FaultRegistry {
    /// Starts a registry on a free port of this machine.
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
            // More than a test sends: a larger body is refused and not read into memory.
            body_limit: 1 << 30,
            chunk_limit: usize::MAX,
            rate_limit: usize::MAX,
            scopes_honoured: usize::MAX,
            monolithic: true,
            single_posts: false,
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

    /// Makes it support the referrers API.
    #[must_use]
    pub fn with_referrers(self) -> Self {
        lock(&self.state).referrers_api = true;
        self
    }

    /// Makes it refuse to mount.
    #[must_use]
    pub fn without_mounts(self) -> Self {
        lock(&self.state).mounts = false;
        self
    }

    /// Sets how many tags it lists in one page.
    #[must_use]
    pub fn with_page(self, page: usize) -> Self {
        lock(&self.state).page = page;
        self
    }

    /// Makes a front end refuse bodies above a size (413) before it reads them, and close the connection, as nginx
    /// does.
    #[must_use]
    pub fn with_body_limit(self, bytes: usize) -> Self {
        lock(&self.state).body_limit = bytes;
        self
    }

    /// Makes it refuse chunks above a size (416), as GHCR does; bodies without a range may have any size.
    #[must_use]
    pub fn with_chunk_limit(self, bytes: usize) -> Self {
        lock(&self.state).chunk_limit = bytes;
        self
    }

    /// Makes it announce a smallest chunk size, and refuse another chunk after a smaller one, as ECR does.
    #[must_use]
    pub fn with_least_chunk(self, bytes: usize) -> Self {
        lock(&self.state).least_chunk = bytes;
        self
    }

    /// Makes its token server grant only the first `scopes` of the requested scopes.
    #[must_use]
    pub fn with_scopes_honoured(self, scopes: usize) -> Self {
        lock(&self.state).scopes_honoured = scopes;
        self
    }

    /// Makes it refuse to write an existing tag, even with the same digest, as ECR does.
    #[must_use]
    pub fn with_immutable_tags(self) -> Self {
        lock(&self.state).immutable_tags = true;
        self
    }

    /// Makes it support only uploads by PATCH (404 for a PUT with a body), as old Artifactory does.
    #[must_use]
    pub fn without_monolithic_uploads(self) -> Self {
        lock(&self.state).monolithic = false;
        self
    }

    /// Makes it accept a blob in the POST request, with `?digest=`.
    #[must_use]
    pub fn with_single_posts(self) -> Self {
        lock(&self.state).single_posts = true;
        self
    }

    /// Makes it refuse more than this number of requests in one second (429).
    #[must_use]
    pub fn with_rate_limit(self, requests: usize) -> Self {
        lock(&self.state).rate_limit = requests;
        self
    }

    /// Makes it exchange this token for the password of [`Access::Basic`] at `/oauth2/exchange`, as ACR does.
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

    /// Stores a manifest of any form under a digest and tag.
    pub fn put_manifest(&self, name: &str, tag: &str, digest: &str, media_type: &str, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.manifests.insert((name.to_owned(), digest.to_owned()), (media_type.to_owned(), bytes.to_vec()));
        state.tags.insert((name.to_owned(), tag.to_owned()), digest.to_owned());
    }

    /// Stores everything that another registry has.
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

    /// Removes manifests and tags; blobs stay.
    pub fn forget_manifests(&self) {
        let mut state = lock(&self.state);
        state.manifests.clear();
        state.tags.clear();
    }

    /// Removes a blob, as garbage collection does.
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
    pub fn check_image(&self, name: &str, tag: &str) -> Result<(), String> {
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
                // Non-distributable layers are elsewhere.
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
        assert!(state.unexpected.is_empty(), "unexpected requests: {:?}", state.unexpected);
        for rule in &state.rules {
            assert!(rule.fired > 0, "a rule for {} {:?} never came to act", rule.method, rule.thing);
        }
    }
}
