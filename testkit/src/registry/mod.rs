//! Debian's `docker-registry` as a child process on a free loopback port, in every mode a test needs.
//!
//! It is a real registry, so tests see a real registry's behaviour. The helper reads its storage folder and access log
//! itself, to compare what a client reports with what arrived.

mod storage;
mod token;
mod users;

pub use storage::Storage;
pub use token::{TokenField, TokenOptions, TokenRequest, TokenServer};
pub use users::{OTHER_PASSWORD, OTHER_USER, PASSWORD, USER};

use crate::certificates::{Identity, certificates};
use crate::http::{Response, Transport, ask};
use crate::leash::Leashed;
use crate::scratch::Scratch;
use crate::tools::{run, tool};
use base64::Engine as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// User agent of the helper's own requests, which are left out of the log.
const OWN_AGENT: &str = "testkit";
/// How long the registry may take to start, to stop or to write its log.
const PATIENCE: Duration = Duration::from_secs(20);

/// One line of the registry's access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The query without `?`; empty if there is none.
    pub query: String,
    /// The status of the response.
    pub status: u16,
    /// The user agent of the client.
    pub agent: String,
}

/// The registry's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    Off,
    Good,
    WrongName,
    Expired,
}

/// Options of a registry; start it with [`Builder::start`].
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    tls: Tls,
    mutual: bool,
    htpasswd: bool,
    tokens: Option<TokenOptions>,
    read_only: bool,
}

impl Builder {
    /// TLS with a certificate of the test authority, valid for 127.0.0.1, `localhost` and `registry.test`.
    pub fn tls(mut self) -> Self {
        self.tls = Tls::Good;
        self
    }

    /// TLS with a certificate for `other.test` only.
    pub fn tls_with_wrong_name(mut self) -> Self {
        self.tls = Tls::WrongName;
        self
    }

    /// TLS with an expired certificate.
    pub fn tls_expired(mut self) -> Self {
        self.tls = Tls::Expired;
        self
    }

    /// TLS; clients need a certificate of the test authority.
    pub fn mutual_tls(mut self) -> Self {
        self.mutual = true;
        self.tls()
    }

    /// Basic authentication for [`USER`] and [`OTHER_USER`].
    pub fn htpasswd(mut self) -> Self {
        self.htpasswd = true;
        self
    }

    /// Bearer tokens from a server of its own; its realm speaks TLS if the registry does.
    pub fn tokens(mut self, options: TokenOptions) -> Self {
        self.tokens = Some(options);
        self
    }

    /// Every upload and deletion is refused (405); see also [`Registry::set_read_only`].
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Starts the registry and returns when it responds.
    pub fn start(self) -> Registry {
        assert!(!(self.htpasswd && self.tokens.is_some()), "a registry has one kind of authentication");
        if self.htpasswd || self.tokens.is_some() {
            crate::planted::plant_login(USER, PASSWORD);
            crate::planted::plant_login(OTHER_USER, OTHER_PASSWORD);
        }
        let scratch = Scratch::new("registry");
        let tokens = self.tokens.clone().map(|options| TokenServer::start(options, self.tls != Tls::Off));
        let mut registry = Registry { mode: self, scratch, tokens, host: String::new(), process: None };
        registry.write_files();
        registry.start_again();
        registry
    }
}

/// A running registry; when dropped it stops and its storage is removed.
#[derive(Debug)]
pub struct Registry {
    mode: Builder,
    scratch: Scratch,
    tokens: Option<TokenServer>,
    host: String,
    process: Option<Leashed>,
}

impl Registry {
    /// Starts a registry that every user may read and write, without TLS.
    pub fn start() -> Self {
        Self::with().start()
    }

    /// Returns the options of a registry, to be changed.
    pub fn with() -> Builder {
        Builder { tls: Tls::Off, mutual: false, htpasswd: false, tokens: None, read_only: false }
    }

    /// Returns `127.0.0.1:<port>`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the host ends with a port")
    }

    /// Returns `http://…` or `https://…` without a slash at its end.
    pub fn url(&self) -> String {
        let scheme = if self.mode.tls == Tls::Off { "http" } else { "https" };
        format!("{scheme}://{}", self.host)
    }

    /// Returns a file with the certificate of the authority that signed the registry's certificate.
    pub fn ca_path(&self) -> PathBuf {
        self.scratch.join("ca.pem")
    }

    /// Returns a file with a client certificate that the mutual TLS mode accepts.
    pub fn client_certificate_path(&self) -> PathBuf {
        self.scratch.join("client.pem")
    }

    /// Returns the file with the key of [`Registry::client_certificate_path`].
    pub fn client_key_path(&self) -> PathBuf {
        self.scratch.join("client.key")
    }

    /// Writes a Docker `config.json` with these credentials for this registry into a folder of its own, for
    /// `DOCKER_CONFIG`, and returns the folder.
    pub fn docker_config(&self, user: &str, password: &str) -> PathBuf {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = serde_json::json!({"auths": {self.host.clone(): {"auth": auth}}});
        let folder = format!("docker-{user}");
        self.scratch.write(format!("{folder}/config.json"), config.to_string());
        self.scratch.join(folder)
    }

    /// Returns the token server, if there is one.
    pub fn tokens(&self) -> Option<&TokenServer> {
        self.tokens.as_ref()
    }

    /// Returns the registry's storage folder, which is read without the registry.
    pub fn storage(&self) -> Storage {
        Storage::new(&self.scratch.join("data"))
    }

    /// Sends a request as [`USER`], without the client under test.
    ///
    /// The request does not appear in [`Registry::requests`].
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut headers = headers.to_vec();
        let authorization = self.authorization(target);
        if let Some(value) = &authorization {
            headers.push(("Authorization", value));
        }
        ask(&self.host, self.transport(), method, target, &headers, body)
            .unwrap_or_else(|e| panic!("{method} {target} on {}: {e}\n{}", self.host, self.log()))
    }

    /// Uploads a blob by one request and returns its digest.
    #[track_caller]
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = crate::digest::of(bytes);
        let response = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]);
        assert_eq!(response.status, 202, "{}", response.text());
        let location = response.header("location").expect("an upload has a location");
        let target = location.find("/v2/").map(|at| &location[at..]).expect("the location is the registry's");
        let joint = if target.contains('?') { '&' } else { '?' };
        let octets = [("Content-Type", "application/octet-stream")];
        let response = self.ask("PUT", &format!("{target}{joint}digest={digest}"), &octets, bytes);
        assert_eq!(response.status, 201, "{}", response.text());
        digest
    }

    /// Uploads a manifest or index under a tag or its own digest and returns the digest.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> String {
        let target = format!("/v2/{repository}/manifests/{reference}");
        let response = self.ask("PUT", &target, &[("Content-Type", media_type)], bytes);
        assert_eq!(response.status, 201, "{}", response.text());
        crate::digest::of(bytes)
    }

    /// Returns every request of other clients since the start or the last [`Registry::forget_requests`], in the order
    /// in which they ended.
    pub fn requests(&self) -> Vec<Request> {
        let seen = std::fs::read_to_string(self.scratch.join("seen")).unwrap_or_default();
        let seen: usize = seen.parse().unwrap_or(0);
        let log = self.complete_log();
        log.get(seen..)
            .unwrap_or("")
            .lines()
            .filter_map(parse)
            .filter(|request| request.agent != OWN_AGENT)
            .collect()
    }

    /// Drops the requests so far from [`Registry::requests`].
    pub fn forget_requests(&self) {
        self.scratch.write("seen", self.complete_log().len().to_string());
    }

    /// Stops the registry; its storage, port and log stay.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts the registry again on the same port with the same storage.
    pub fn start_again(&mut self) {
        self.stop();
        self.scratch.write("config.yml", self.config());
        let already = self.log().len();
        let config = self.scratch.join("config.yml");
        let logs = [self.scratch.join("access.log"), self.scratch.join("server.log")];
        self.process = Some(Leashed::start(tool("docker-registry").arg("serve").arg(config), &logs));
        self.host = self.wait_until_listening(already);
    }

    /// Restarts the registry; it then refuses or accepts uploads.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.mode.read_only = read_only;
        self.start_again();
    }

    /// Returns the registry's own log, for messages.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("server.log")).unwrap_or_default()
    }

    fn wait_until_listening(&mut self, already: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let fresh = log.get(already..).unwrap_or("");
            if let Some(at) = fresh.find("listening on 127.0.0.1:") {
                let host = fresh[at..].trim_start_matches("listening on ");
                let end =
                    host.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(host.len());
                return host[..end].to_owned();
            }
            let process = self.process.as_mut().expect("the registry was just started");
            let ended = process.ended();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "docker-registry did not start ({ended:?}):\n{fresh}\n{}",
                self.config()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn write_files(&self) {
        let made = certificates();
        let shown = self.identity();
        for (name, content) in [
            ("ca.pem", &made.ca),
            ("server.pem", &shown.certificate),
            ("server.key", &shown.key),
            ("client.pem", &made.client.certificate),
            ("client.key", &made.client.key),
            ("token.pem", &made.token.certificate),
        ] {
            self.scratch.write(name, content);
        }
        if self.mode.htpasswd {
            self.scratch.write("htpasswd", htpasswd());
        }
    }

    fn identity(&self) -> &'static Identity {
        let made = certificates();
        match self.mode.tls {
            Tls::WrongName => &made.wrong_name,
            Tls::Expired => &made.expired,
            Tls::Off | Tls::Good => &made.server,
        }
    }

    fn transport(&self) -> Transport<'static> {
        let made = certificates();
        match self.mode.tls {
            Tls::Off => Transport::Plain,
            Tls::Good | Tls::Expired => Transport::Tls { name: "localhost", client: Some(&made.client) },
            Tls::WrongName => Transport::Tls { name: "other.test", client: Some(&made.client) },
        }
    }

    fn authorization(&self, target: &str) -> Option<String> {
        if let Some(tokens) = &self.tokens {
            let path = target.trim_start_matches("/v2/");
            let end = ["/manifests/", "/blobs/", "/tags/"].iter().filter_map(|part| path.find(part)).min();
            let repository = end.map_or("", |end| &path[..end]);
            return Some(format!("Bearer {}", tokens.mint(repository, &["pull", "push", "delete"])));
        }
        self.mode.htpasswd.then(|| {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
            format!("Basic {pair}")
        })
    }

    fn config(&self) -> String {
        let file = |name: &str| self.scratch.join(name).display().to_string();
        let port = self.host.rsplit(':').next().filter(|port| !port.is_empty()).unwrap_or("0");
        let mut http = serde_json::json!({
            "addr": format!("127.0.0.1:{port}"), "secret": "testkit", "draintimeout": "1s",
        });
        if self.mode.tls != Tls::Off {
            http["tls"] = serde_json::json!({"certificate": file("server.pem"), "key": file("server.key")});
        }
        if self.mode.mutual {
            http["tls"]["clientcas"] = serde_json::json!([file("ca.pem")]);
        }
        let mut config = serde_json::json!({
            "version": "0.1",
            "log": {"level": "info", "formatter": "text"},
            "storage": {
                "filesystem": {"rootdirectory": file("data")},
                "delete": {"enabled": true},
                "maintenance": {
                    "uploadpurging": {"enabled": false},
                    "readonly": {"enabled": self.mode.read_only},
                },
            },
            "http": http,
            // The registry accepts non-distributable layers only with an allowed URL; by default none is allowed.
            "validation": {"manifests": {"urls": {"allow": ["^https://example[.]test/"]}}},
        });
        if self.mode.htpasswd {
            config["auth"] = serde_json::json!({"htpasswd": {"realm": "testkit", "path": file("htpasswd")}});
        }
        if let Some(tokens) = &self.tokens {
            config["auth"] = serde_json::json!({"token": {
                "realm": tokens.realm(), "service": token::SERVICE, "issuer": token::ISSUER,
                "rootcertbundle": file("token.pem"),
            }});
        }
        // JSON is valid YAML.
        config.to_string()
    }

    /// Sends a request and returns the access log when it has the line of that request: the registry writes a line
    /// after its response, so the last lines could be missing otherwise.
    fn complete_log(&self) -> String {
        let read = || std::fs::read_to_string(self.scratch.join("access.log")).unwrap_or_default();
        let no_client_gets_in = matches!(self.mode.tls, Tls::WrongName | Tls::Expired);
        if self.process.is_none() || no_client_gets_in {
            return read();
        }
        static FENCES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = FENCES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let fence = format!("/v2/?fence-{number}-");
        let _ = ask(&self.host, self.transport(), "GET", &fence, &[], &[])
            .unwrap_or_else(|e| panic!("{} does not answer: {e}\n{}", self.host, self.log()));
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            let log = read();
            if log.contains(&fence) && log == last {
                return log;
            }
            assert!(Instant::now() < deadline, "the access log never shows `{fence}`:\n{log}");
            last = log;
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Reads one line in the combined log format.
fn parse(line: &str) -> Option<Request> {
    // 127.0.0.1 - - [date] "METHOD TARGET PROTOCOL" STATUS BYTES "REFERRER" "AGENT"
    let mut quoted = line.split('"');
    let request = quoted.nth(1)?;
    let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
    let agent = quoted.nth(2)?.to_owned();
    let mut words = request.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), status, agent })
}

/// Returns the password file, with the lowest cost of bcrypt, because every request computes it.
fn htpasswd() -> &'static str {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let lines = [(USER, PASSWORD), (OTHER_USER, OTHER_PASSWORD)].map(|(user, password)| {
            run(tool("htpasswd").args(["-nbB", "-C", "4", user, password])).success().stdout.trim().to_owned()
        });
        format!("{}\n{}\n", lines[0], lines[1])
    })
}

/// Returns the requests that uploaded content, to check that nothing is uploaded twice.
pub fn uploads(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|request| matches!(request.method.as_str(), "PUT" | "PATCH" | "POST")).collect()
}

/// Returns the tags and digests of the manifests' PUT requests, in order.
pub fn manifests_written(requests: &[Request]) -> Vec<&str> {
    let put = |request: &&&Request| request.method == "PUT" && request.path.contains("/manifests/");
    uploads(requests).iter().filter(put).filter_map(|request| request.path.rsplit('/').next()).collect()
}

/// Returns a file's path as text, for command lines.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

#[cfg(test)]
mod tests;
