//! One connection to the fault server: reads requests, chooses the fault, writes responses.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::message::{
    Request, Response, base64, decode_base64, parse_query, read_head, unescape, write_response,
};
use super::protocol::{blob_response, manifest, open_session, referrers, session, tags, token};
use super::state::{Access, Fault, Logged, State, Thing, lock};

pub(super) struct Connection {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) port: u16,
    pub(super) foreign: bool,
    pub(super) started: Instant,
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

    /// Finds the fault for a request and counts the request for every matching rule.
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

    /// Answers one request; returns `false` if the connection is to be closed.
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
        if let Some(Fault::EarlyResponse(status, code)) = &fault {
            log(0);
            let _ = write_response(
                stream,
                request,
                &Response::error(*status, code).header("connection", "close"),
                None,
            );
            return false;
        }
        if self.too_fast() {
            log(0);
            let response = Response::error(429, "TOOMANYREQUESTS")
                .header("retry-after", "1")
                .header("connection", "close");
            let _ = write_response(stream, request, &response, None);
            return false;
        }
        if request.length > limit {
            log(0);
            let response =
                Response::new(413).header("content-type", "text/html").header("connection", "close");
            let _ = write_response(stream, request, &response.body(b"<html>413</html>".to_vec()), None);
            return false;
        }
        if request.headers.get("expect").is_some_and(|value| value == "100-continue") {
            let refused = self.authorise(request).filter(|_| fault.is_none());
            if let Some(response) = refused {
                log(0);
                let _ = write_response(stream, request, &response, None);
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
            // Some registries refuse bodies without a length, so the client must never send one.
            lock(&self.state).unexpected.push(format!("{} with transfer coding {coding}", request.method));
        }
        if matches!(fault, Some(Fault::CutRequest(_))) && request.method == "PATCH" {
            let _ = self.handle(request, &body);
        }
        match fault {
            None => write_response(stream, request, &self.handle(request, &body), None),
            Some(fault) => self.misbehave(fault, request, &body, stream),
        }
    }

    fn misbehave(&self, fault: Fault, request: &Request, body: &[u8], stream: &TcpStream) -> bool {
        let send = |response: &Response| write_response(stream, request, response, None);
        match fault {
            Fault::Response(status, headers, text) => {
                let mut response = Response::new(status).body(text.into_bytes());
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                send(&response)
            }
            Fault::Echo(status) => send(&echo(status, request, body)),
            Fault::EarlyResponse(..) | Fault::CutRequest(_) => false,
            Fault::LoseResponse => {
                self.handle(request, body);
                false
            }
            Fault::CutResponse(bytes) => {
                write_response(stream, request, &self.handle(request, body), Some(bytes));
                false
            }
            Fault::Silence => self.stay_silent(),
            Fault::StallResponse(bytes) => {
                write_response(stream, request, &self.handle(request, body), Some(bytes));
                self.stay_silent()
            }
            Fault::FlipBit => {
                let mut response = self.handle(request, body);
                if let Some(byte) = response.body.last_mut() {
                    *byte ^= 1;
                }
                send(&response)
            }
            Fault::Header(name, value) => {
                let mut response = self.handle(request, body);
                response.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
                send(&match value {
                    Some(value) => response.header(name, value),
                    None => response,
                })
            }
            Fault::Status(status) => {
                let mut response = self.handle(request, body);
                response.status = status;
                send(&response)
            }
            Fault::Body(bytes) => send(&self.handle(request, body).body(bytes)),
            Fault::Redirect(status, url) => {
                let location = self.at_second(&url).replace("{}", &request.reference);
                send(&Response::new(status).header("location", location))
            }
            Fault::LocationAt(origin) => {
                let response = self.handle(request, body);
                let location = response.headers.iter().find(|(name, _)| name == "location");
                let origin = self.at_second(&origin);
                let location = location.map_or(String::new(), |(_, path)| format!("{origin}{path}"));
                send(&response.header("location", location))
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

    /// Fills the second origin into a URL.
    fn at_second(&self, url: &str) -> String {
        let port = lock(&self.state).foreign_port;
        url.replace("{foreign}", &format!("http://localhost:{port}"))
            .replace("{sibling}", &format!("http://127.0.0.1:{port}"))
    }

    /// Counts the request; returns whether the rate is above the limit.
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

    /// Returns the refusal of a request without permission.
    fn authorise(&self, request: &Request) -> Option<Response> {
        let given = request.headers.get("authorization");
        if self.foreign {
            let given = given?;
            lock(&self.state).leaks.push(format!("{} {} {given}", request.method, request.path));
            return Some(Response::new(400).body(b"Only one auth mechanism allowed".to_vec()));
        }
        let state = lock(&self.state);
        match &state.access {
            _ if request.thing == Thing::Token => None,
            Access::Open => None,
            Access::Basic(user, password) => {
                let wanted = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
                let refusal = || {
                    Response::error(401, "UNAUTHORIZED").header("www-authenticate", "Basic realm=\"test\"")
                };
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
                // The token must also allow reading the repository that is mounted from.
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
                let mut response = Response::error(401, "UNAUTHORIZED");
                let challenges = if challenges.is_empty() { &vec!["{}"] } else { challenges };
                for challenge in challenges {
                    response.headers.push(("www-authenticate".into(), challenge.replace("{}", &proper)));
                }
                Some(response)
            }
        }
    }

    /// Exchanges a token of the directory. Source: ACR "AAD-OAuth".
    fn exchange(&self, body: &[u8]) -> Response {
        let mut state = lock(&self.state);
        let fields = parse_query(&String::from_utf8_lossy(body));
        let get = |name: &str| fields.get(name).map(String::as_str);
        let service = format!("127.0.0.1:{}", self.port);
        let sound = get("grant_type") == Some("access_token") && get("service") == Some(&service);
        match (&state.access, state.exchange) {
            (Access::Basic(_, password), Some(token)) if sound && get("access_token") == Some(token) => {
                Response::new(200).body(format!("{{\"refresh_token\":\"{password}\"}}").into_bytes())
            }
            (_, Some(_)) if sound => Response::error(401, "UNAUTHORIZED"),
            _ => {
                state.unexpected.push(format!("an exchange of {fields:?}"));
                Response::new(404)
            }
        }
    }

    /// Runs the request by the specification.
    fn handle(&self, request: &Request, body: &[u8]) -> Response {
        if request.path == "/oauth2/exchange" && request.method == "POST" {
            return self.exchange(body);
        }
        if let Some(refusal) = self.authorise(request) {
            return refusal;
        }
        let mut state = lock(&self.state);
        match (request.method.as_str(), request.thing) {
            ("GET", Thing::Base) => Response::new(200),
            ("GET" | "POST", Thing::Token) => token(&mut state, request, body),
            ("GET" | "HEAD", Thing::Blob) => {
                let key = (request.name.clone(), request.reference.clone());
                match state.blobs.get(&key) {
                    Some(blob) => blob_response(request, blob),
                    None => Response::error(404, "BLOB_UNKNOWN"),
                }
            }
            ("GET", Thing::Storage) => {
                match state.blobs.iter().find(|((_, digest), _)| *digest == request.reference) {
                    Some((_, blob)) => blob_response(request, blob),
                    None => Response::error(404, "BLOB_UNKNOWN"),
                }
            }
            ("POST", Thing::Uploads) => open_session(&mut state, request, body),
            ("PATCH" | "PUT" | "GET" | "DELETE", Thing::Session) => session(&mut state, request, body),
            ("GET" | "HEAD" | "PUT" | "DELETE", Thing::Manifest) => manifest(&mut state, request, body),
            ("GET", Thing::Tags) => tags(&state, request),
            ("GET", Thing::Referrers) => referrers(&state, request),
            _ => {
                state.unexpected.push(format!("{} {}", request.method, request.path));
                Response::error(404, "UNSUPPORTED")
            }
        }
    }
}

/// Echoes every secret of a request, in every form that a server could have.
fn echo(status: u16, request: &Request, body: &[u8]) -> Response {
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
    Response::new(status)
        .header("warning", format!("299 - \"{}\"", all.replace(['\r', '\n'], " ")))
        .header(
            "location",
            format!("http://169.254.169.254/{token}?{}", request.path.replace(['?', '&'], "/")),
        )
        .header("content-range", all.replace(['\r', '\n'], " "))
        .header("content-type", "application/json")
        .body(text.to_string().into_bytes())
}
