//! One connection to the fault server: reading requests, choosing the fault, writing answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::protocol::{blob_answer, manifest, open_session, referrers, session, tags, token};
use super::{Access, Fault, Logged, State, Thing, lock};

/// A request, read as far as its headers.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) thing: Thing,
    pub(super) name: String,
    pub(super) reference: String,
    pub(super) length: usize,
}

/// A proper answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#, code.to_lowercase());
        Self::new(status).header("content-type", "application/json").body(body.into_bytes())
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

pub(super) struct Connection {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) port: u16,
    pub(super) foreign: bool,
    pub(super) started: Instant,
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
    pub(super) fn serve(&self, stream: &TcpStream) {
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
        if let Some(coding) = request.headers.get("transfer-encoding") {
            // Some registries refuse bodies without a length; a client never has to send one.
            lock(&self.state).unexpected.push(format!("{} with transfer coding {coding}", request.method));
        }
        if matches!(fault, Some(Fault::CutRequest(_))) && request.method == "PATCH" {
            let _ = self.handle(request, &body);
        }
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
            Fault::Echo(status) => send(&echo(status, request, body)),
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
                let location = self.at_second(&url).replace("{}", &request.reference);
                send(&Answer::new(status).header("location", location))
            }
            Fault::LocationAt(origin) => {
                let answer = self.handle(request, body);
                let location = answer.headers.iter().find(|(name, _)| name == "location");
                let origin = self.at_second(&origin);
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

    /// Puts the second origin into a URL.
    fn at_second(&self, url: &str) -> String {
        let port = lock(&self.state).foreign_port;
        url.replace("{foreign}", &format!("http://localhost:{port}"))
            .replace("{sibling}", &format!("http://127.0.0.1:{port}"))
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
                    .map_or("", String::as_str);
                let allows = |name: &str, action: &str| {
                    scopes.split(' ').any(|scope| {
                        let mut parts = scope.splitn(3, ':').skip(1);
                        parts.next() == Some(name)
                            && parts.next().is_some_and(|actions| actions.split(',').any(|own| own == action))
                    })
                };
                // What is mounted has to be readable with the same token.
                let source = request.query.get("from").is_none_or(|from| allows(from, "pull"));
                let granted = request.thing == Thing::Base && !scopes.is_empty()
                    || allows(&request.name, action) && source;
                if granted {
                    return None;
                }
                let actions = if action == "push" { "pull,push" } else { action };
                let mut scope = format!("repository:{}:{actions}", request.name);
                if let Some(from) = request.query.get("from") {
                    scope.push_str(&format!(" repository:{from}:pull"));
                }
                let proper = format!(
                    "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"test\",scope=\"{scope}\"",
                    self.port
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

/// Gives back every secret of a request, in every form that a server could have it.
fn echo(status: u16, request: &Request, body: &[u8]) -> Answer {
    let authorization = request.headers.get("authorization").cloned().unwrap_or_default();
    let token = authorization.rsplit(' ').next().unwrap_or("");
    let decoded = decode_base64(token);
    let form = if body.len() < 2000 { String::from_utf8_lossy(body) } else { "".into() };
    let all = format!(
        "{authorization}; {token}; {decoded}; {}; {}; {form}; {}",
        request.path,
        unescape(&request.path),
        unescape(&form)
    );
    let text = serde_json::json!({"errors": [{"code": token, "message": all}], "details": all});
    Answer::new(status)
        .header("warning", format!("299 - \"{}\"", all.replace(['\r', '\n'], " ")))
        .header(
            "location",
            format!("http://169.254.169.254/{token}?{}", request.path.replace(['?', '&'], "/")),
        )
        .header("content-range", all.replace(['\r', '\n'], " "))
        .header("content-type", "application/json")
        .body(text.to_string().into_bytes())
}

/// Decodes what is Base64; anything else is empty.
fn decode_base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let (mut held, mut out) = (0, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte) else { return String::new() };
        bits = bits << 6 | u32::try_from(value).unwrap_or(0);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

pub(super) fn parse_query(query: &str) -> BTreeMap<String, String> {
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

pub(super) fn base64(bytes: &[u8]) -> String {
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
