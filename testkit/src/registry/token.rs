//! A server of bearer tokens (distribution's token specification), with options for difficult cases.

use super::users::{OTHER_PASSWORD, OTHER_USER, PASSWORD, USER};
use crate::certificates::certificates;
use crate::http::{Received, read_request, server_config};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const SERVICE: &str = "testkit-registry";
pub(super) const ISSUER: &str = "testkit-issuer";
/// How long after its expiry the registry still accepts a token, because clocks differ.
const LEEWAY_SECONDS: u64 = 60;

/// The member of the response that has the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenField {
    /// `token` and `access_token`.
    Both,
    /// `token`, as Docker's servers.
    Token,
    /// `access_token`, as OAuth 2.
    AccessToken,
}

/// How the token server behaves.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    /// How long the registry accepts a token, in seconds, including its leeway of a minute.
    pub life_seconds: u64,
    /// Whether the response has `expires_in`; without it, clients must assume 60 seconds.
    pub tell_life: bool,
    /// So many tokens that grant something have expired when they are issued, although the response says otherwise.
    pub stale: usize,
    /// So many requests get 503 first.
    pub unavailable: usize,
    /// The member of the response that has the token.
    pub field: TokenField,
    /// The host name in the realm.
    pub realm_host: &'static str,
    /// Whether a response has a refresh token if the client requests one.
    pub refresh: bool,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            life_seconds: 300,
            tell_life: true,
            stale: 0,
            unavailable: 0,
            field: TokenField::Both,
            // Not 127.0.0.1: some clients refuse private addresses as realms of other servers.
            realm_host: "localhost",
            refresh: true,
        }
    }
}

/// One request to the token server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// `GET`, or `POST` for OAuth 2.
    pub method: String,
    /// The user; `None` for an anonymous request.
    pub user: Option<String>,
    /// `none`, `basic`, `password` or `refresh_token`.
    pub grant: String,
    /// The requested scopes, in order.
    pub scopes: Vec<String>,
    /// The status of the response.
    pub status: u16,
}

/// A running token server; it stops when dropped.
#[derive(Debug)]
pub struct TokenServer {
    port: u16,
    tls: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: TokenOptions,
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stale: usize,
    unavailable: usize,
    refresh: BTreeMap<String, String>,
    issued: usize,
    log: Vec<TokenRequest>,
}

impl TokenServer {
    pub(super) fn start(options: TokenOptions, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let state = State { stale: options.stale, unavailable: options.unavailable, ..State::default() };
        let shared = Arc::new(Shared { options, stop: AtomicBool::new(false), state: Mutex::new(state) });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream, tls));
            }
        });
        Self { port, tls, shared }
    }

    /// Returns the URL for the registry's challenge.
    pub fn realm(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}/token", self.shared.options.realm_host, self.port)
    }

    /// Returns every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.shared.state().log.clone()
    }

    /// Drops the requests so far from [`TokenServer::requests`].
    pub fn forget_requests(&self) {
        self.shared.state().log.clear();
    }

    /// Makes the next `stale` granting tokens expired, and the next `unavailable` requests fail with 503.
    pub fn misbehave(&self, stale: usize, unavailable: usize) {
        let mut state = self.shared.state();
        (state.stale, state.unavailable) = (stale, unavailable);
    }

    /// Returns a valid refresh ("identity") token of [`USER`].
    pub fn identity_token(&self) -> String {
        self.shared.state().new_refresh(USER)
    }

    /// Returns a valid token of [`USER`] without a request.
    pub fn mint(&self, repository: &str, actions: &[&str]) -> String {
        let access = json!([{"type": "repository", "name": repository, "actions": actions}]);
        sign(USER, &access, now() + 300)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts, so that it sees the flag.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn new_refresh(&mut self, user: &str) -> String {
        self.issued += 1;
        let token = format!("refresh-{}-{user}", self.issued);
        crate::planted::plant(&token);
        self.refresh.insert(token.clone(), user.to_owned());
        token
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream, tls: bool) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
        if tls {
            let Ok(connection) = rustls::ServerConnection::new(server_config(&certificates().server)) else {
                return;
            };
            let mut stream = rustls::StreamOwned::new(connection, stream);
            self.answer(&mut stream);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        } else {
            let mut stream = stream;
            self.answer(&mut stream);
        }
    }

    fn answer(&self, stream: &mut (impl Read + Write)) {
        let Ok(request) = read_request(&mut *stream) else { return };
        let (status, body, extra) = self.decide(&request);
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
        let _ = stream.flush();
    }

    fn decide(&self, request: &Received) -> (u16, Value, &'static str) {
        let path = request.target.split('?').next().unwrap_or("");
        let form = match request.method.as_str() {
            "GET" => fields(request.target.split_once('?').map_or("", |(_, query)| query)),
            "POST" => fields(&String::from_utf8_lossy(&request.body)),
            _ => return (405, json!({}), ""),
        };
        if path != "/token" {
            return (404, json!({"errors": [{"code": "NOT_FOUND"}]}), "");
        }
        let first = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let scopes: Vec<String> = form
            .iter()
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned))
            .collect();
        let mut state = self.state();
        let (grant, user) = identify(request, &first, &state);
        let known = user.clone().ok().flatten();
        let entry = |status| TokenRequest {
            method: request.method.clone(),
            user: known.clone(),
            grant: grant.clone(),
            scopes: scopes.clone(),
            status,
        };
        if state.unavailable > 0 {
            state.unavailable -= 1;
            state.log.push(entry(503));
            return (503, json!({"errors": [{"code": "UNAVAILABLE"}]}), "Retry-After: 0\r\n");
        }
        let Ok(user) = user else {
            state.log.push(entry(401));
            let challenge = "WWW-Authenticate: Basic realm=\"testkit\"\r\n";
            return (
                401,
                json!({"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}),
                challenge,
            );
        };
        if first("service").is_some_and(|service| service != SERVICE) {
            state.log.push(entry(400));
            return (400, json!({"errors": [{"code": "UNKNOWN_SERVICE"}]}), "");
        }
        state.log.push(entry(200));
        let offline = first("offline_token") == Some("true") || first("access_type") == Some("offline");
        let wants_refresh = self.options.refresh && offline;
        (200, self.grant(&mut state, user.as_deref(), &scopes, wants_refresh), "")
    }

    fn grant(&self, state: &mut State, user: Option<&str>, scopes: &[String], wants_refresh: bool) -> Value {
        let access: Vec<Value> = scopes.iter().filter_map(|scope| allowed(user, scope)).collect();
        let life = self.options.life_seconds;
        let mut end = (now() + life).saturating_sub(LEEWAY_SECONDS);
        if !access.is_empty() && state.stale > 0 {
            state.stale -= 1;
            end = now() - 2 * LEEWAY_SECONDS;
        }
        let token = sign(user.unwrap_or(""), &Value::Array(access), end);
        let mut answer = json!({});
        if self.options.field != TokenField::AccessToken {
            answer["token"] = json!(token);
        }
        if self.options.field != TokenField::Token {
            answer["access_token"] = json!(token);
        }
        if self.options.tell_life {
            answer["expires_in"] = json!(life);
        }
        if let Some(user) = user.filter(|_| wants_refresh) {
            answer["refresh_token"] = json!(state.new_refresh(user));
        }
        answer
    }
}

/// Returns the client's grant and user: `Ok(None)` for an anonymous client, `Err` for wrong credentials.
fn identify<'a>(
    request: &Received,
    first: &dyn Fn(&str) -> Option<&'a str>,
    state: &State,
) -> (String, Result<Option<String>, ()>) {
    let check = |user: &str, password: &str| {
        let good = [(USER, PASSWORD), (OTHER_USER, OTHER_PASSWORD)].contains(&(user, password));
        if good { Ok(Some(user.to_owned())) } else { Err(()) }
    };
    if request.method == "POST" {
        let grant = first("grant_type").unwrap_or("").to_owned();
        let user = match grant.as_str() {
            "password" => check(first("username").unwrap_or(""), first("password").unwrap_or("")),
            "refresh_token" => {
                let token = first("refresh_token").unwrap_or("");
                state.refresh.get(token).map(|user| Some(user.clone())).ok_or(())
            }
            _ => Err(()),
        };
        return (grant, user);
    }
    match request.header("authorization") {
        None => ("none".to_owned(), Ok(None)),
        Some(header) => {
            let pair = header.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
            let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
            let (user, password) = pair.split_once(':').unwrap_or(("", ""));
            ("basic".to_owned(), check(user, password))
        }
    }
}

/// Returns the granted part of `type:name:action,…` for a user; `None` if nothing is granted.
fn allowed(user: Option<&str>, scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let rights: &[&str] = match user {
        Some(USER) => &["pull", "push", "delete"],
        Some(OTHER_USER) if name.starts_with("other/") => &["pull", "push", "delete"],
        _ if name.starts_with("public/") => &["pull"],
        _ => &[],
    };
    let asked: Vec<&str> = actions.split(',').collect();
    let granted: Vec<&&str> =
        rights.iter().filter(|right| asked.contains(right) || asked.contains(&"*")).collect();
    (kind == "repository" && !granted.is_empty())
        .then(|| json!({"type": kind, "name": name, "actions": granted}))
}

fn sign(user: &str, access: &Value, end: u64) -> String {
    let signer = &certificates().token;
    let der: String = signer.certificate.lines().filter(|line| !line.starts_with("-----")).collect();
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [der]});
    let start = now();
    let claims = json!({
        "iss": ISSUER, "sub": user, "aud": SERVICE, "exp": end, "nbf": start - 300, "iat": start,
        "jti": format!("{start}-{end}"), "access": access,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&header), encode(&claims));
    let key: String = signer.key.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = STANDARD.decode(key).expect("openssl writes PEM keys");
    let random = ring::rand::SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random).expect("a P-256 key");
    let signature = pair.sign(&random, message.as_bytes()).expect("the system has random numbers");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

/// Reads `a=b&c=d` with percent and plus encoding.
fn fields(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
