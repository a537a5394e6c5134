//! The state of the fault server: contents, rules for faults, access, and the recorded requests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::Digest as _;

/// The kind of object that a request is for.
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
    /// Blobs at another origin, the target of redirects.
    Storage,
    /// Anything else; always unexpected.
    Other,
}

/// What the server does instead of a correct response.
#[derive(Clone)]
pub enum Fault {
    /// Reads the request and sends this response; stores nothing.
    Response(u16, Vec<(&'static str, String)>, String),
    /// Sends a response before it reads the body, and closes the connection.
    EarlyResponse(u16, &'static str),
    /// Reads so many bytes of the body and closes; unread bytes make it a reset. A session keeps the bytes that
    /// arrived.
    CutRequest(usize),
    /// Runs the request and closes without a response.
    LoseResponse,
    /// Sends so many bytes of the response's body and closes.
    CutResponse(usize),
    /// Reads the request and sends nothing.
    Silence,
    /// Sends so many bytes of the response's body and then nothing.
    StallResponse(usize),
    /// Sends the correct response with one bit of the body flipped.
    FlipBit,
    /// Sends the correct response with this header set or removed.
    Header(&'static str, Option<String>),
    /// Echoes the request's contents in error message, headers and location, with this status.
    Echo(u16),
    /// Sends the correct response with another status.
    Status(u16),
    /// Sends these bytes instead of the body.
    Body(Vec<u8>),
    /// Redirects to this URL; `{}` in it is the digest or reference, `{foreign}` and `{sibling}` the second origin
    /// by another host name and by the same.
    Redirect(u16, String),
    /// Sends the correct response with the location at this origin, which may be `{foreign}` or `{sibling}`.
    LocationAt(String),
    /// Ignores `Range`.
    IgnoreRange,
    /// Removes the session first.
    ForgetSession,
    /// Invalidates every token issued so far, then sends the correct response.
    RevokeTokens,
}

/// For which requests a fault applies.
#[derive(Clone)]
pub struct Rule {
    pub(super) method: &'static str,
    pub(super) thing: Thing,
    pub(super) skip: usize,
    pub(super) times: usize,
    pub(super) fault: Fault,
    pub(super) seen: usize,
    pub(super) fired: usize,
}

/// Makes a rule for the first such request, once.
#[must_use]
pub fn on(method: &'static str, thing: Thing, fault: Fault) -> Rule {
    Rule { method, thing, skip: 0, times: 1, fault, seen: 0, fired: 0 }
}

impl Rule {
    /// Applies to the n-th such request, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        self.skip = n - 1;
        self
    }

    /// Applies so many times.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Applies every time.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = usize::MAX;
        self
    }
}

/// Who may do what.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Every user may do everything.
    #[default]
    Open,
    /// One user with a password.
    Basic(&'static str, &'static str),
    /// Tokens from `/token`, which requires a user and password.
    Bearer {
        /// The user.
        user: &'static str,
        /// The password; also the only refresh token.
        password: &'static str,
        /// `expires_in` of the response, seconds; `None` leaves it out.
        expires_in: Option<u64>,
        /// `WWW-Authenticate` headers; `{}` is the correct Bearer challenge.
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
    /// The kind of object.
    pub thing: Thing,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body that were read.
    pub body_len: usize,
    /// Time from the start of the registry to the request.
    pub at: Duration,
    /// Whether the second origin received it.
    pub foreign: bool,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) blobs: HashMap<(String, String), Vec<u8>>,
    pub(super) manifests: HashMap<(String, String), (String, Vec<u8>)>,
    pub(super) tags: BTreeMap<(String, String), String>,
    pub(super) sessions: HashMap<String, Vec<u8>>,
    /// Issued tokens with their scopes.
    pub(super) tokens: HashMap<String, String>,
    /// Sessions whose last chunk was smaller than the minimum, so that another one is refused.
    pub(super) ended: HashSet<String>,
    pub(super) rules: Vec<Rule>,
    pub(super) log: Vec<Logged>,
    pub(super) unexpected: Vec<String>,
    pub(super) leaks: Vec<String>,
    pub(super) counter: usize,
    pub(super) access: Access,
    pub(super) referrers_api: bool,
    pub(super) mounts: bool,
    pub(super) foreign_port: u16,
    pub(super) page: usize,
    pub(super) body_limit: usize,
    pub(super) chunk_limit: usize,
    pub(super) least_chunk: usize,
    pub(super) rate_limit: usize,
    pub(super) scopes_honoured: usize,
    pub(super) immutable_tags: bool,
    pub(super) monolithic: bool,
    pub(super) single_posts: bool,
    /// The directory's token that is exchanged for the password, as ACR does.
    pub(super) exchange: Option<&'static str>,
    /// The second of the last request, and how many there were in it.
    pub(super) rate: (u64, usize),
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes `sha256:…`.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub(super) fn matches_digest(digest: &str, bytes: &[u8]) -> bool {
    match digest.split_once(':') {
        Some(("sha512", hex)) => {
            let found: String =
                sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            found == hex
        }
        _ => digest_of(bytes) == digest,
    }
}
