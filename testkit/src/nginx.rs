//! nginx between a client and a registry, with limits as real sites have them.

use crate::certificates::certificates;
use crate::leash::Leashed;
use crate::registry::Registry;
use crate::scratch::Scratch;
use crate::tools::tool;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How nginx handles requests.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest body it accepts, as nginx writes it (`1m`); larger ones get 413. `0` is no limit.
    pub body_limit: &'static str,
    /// Whether nginx buffers a request until its body is complete, or streams it.
    pub buffer_requests: bool,
    /// Whether clients have to use TLS (with the server certificate of [`certificates`]).
    pub tls: bool,
    /// Whether nginx tells the registry that clients use TLS; without that, the registry's URLs begin with `http://`.
    pub tells_scheme: bool,
    /// After how many requests nginx closes a connection.
    pub requests_per_connection: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_limit: "0",
            buffer_requests: true,
            tls: false,
            tells_scheme: true,
            requests_per_connection: 1000,
        }
    }
}

/// A running nginx; it stops when dropped.
#[derive(Debug)]
pub struct Nginx {
    scratch: Scratch,
    host: String,
    _process: Leashed,
}

impl Nginx {
    /// Starts nginx in front of a registry that uses plain HTTP.
    #[track_caller]
    pub fn before(registry: &Registry, options: &Options) -> Self {
        // The port is free when chosen; another process may take it before nginx does.
        for _ in 0..10 {
            if let Some(started) = Self::try_start(registry, options) {
                return started;
            }
        }
        panic!("nginx found no free port ten times");
    }

    /// Returns `127.0.0.1:<port>`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the access log: `METHOD TARGET STATUS` of each request. A line appears shortly after its response.
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.scratch.join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Returns how many TLS connections had a request so far, and how many of them resumed a session.
    pub fn tls_connections(&self) -> (usize, usize) {
        let log = std::fs::read_to_string(self.scratch.join("tls.log")).unwrap_or_default();
        let mut connections: Vec<&str> = log.lines().collect();
        connections.sort_unstable();
        connections.dedup();
        (connections.len(), connections.iter().filter(|line| line.ends_with(" r")).count())
    }

    fn try_start(registry: &Registry, options: &Options) -> Option<Self> {
        let scratch = Scratch::new("nginx");
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
        let host = listener.local_addr().expect("a bound socket has an address").to_string();
        drop(listener);
        scratch.write("server.pem", &certificates().server.certificate);
        scratch.write("server.key", &certificates().server.key);
        let config = scratch.write("nginx.conf", config(&scratch, &host, registry.host(), options));
        let logs = [scratch.join("stdout"), scratch.join("stderr")];
        let mut process = Leashed::start(tool("nginx").arg("-c").arg(config).args(["-e", "stderr"]), &logs);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&host).is_err() || process.ended().is_some() {
            let stderr = std::fs::read_to_string(&logs[1]).unwrap_or_default();
            if process.ended().is_some() {
                assert!(stderr.contains("Address already in use"), "nginx did not start:\n{stderr}");
                return None;
            }
            assert!(Instant::now() < deadline, "nginx does not answer:\n{stderr}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { scratch, host, _process: process })
    }
}

fn config(scratch: &Scratch, host: &str, upstream: &str, options: &Options) -> String {
    let folder = scratch.path().display();
    let switch = |on: bool| if on { "on" } else { "off" };
    let (listen, scheme) =
        if options.tls { (format!("{host} ssl"), "https") } else { (host.to_owned(), "http") };
    let told = if options.tells_scheme { scheme } else { "http" };
    let certificate = if options.tls {
        format!("ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;")
    } else {
        String::new()
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .collect();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{ }}
http {{
{temporary}  log_format short '$request_method $request_uri $status';
  access_log {folder}/access.log short;
  log_format tls '$connection $ssl_session_reused';
  access_log {folder}/tls.log tls;
  keepalive_requests {};
  server {{
    listen {listen}; {certificate}
    client_max_body_size {};
    proxy_request_buffering {};
    location / {{
      proxy_pass http://{upstream};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto {told};
    }}
  }}
}}
",
        options.requests_per_connection,
        options.body_limit,
        switch(options.buffer_requests)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Transport, ask};

    #[test]
    fn a_registry_is_reached_through_nginx_up_to_its_limit() {
        let registry = Registry::start();
        for (tls, buffer_requests) in [(false, true), (true, false)] {
            let nginx = Nginx::before(
                &registry,
                &Options { body_limit: "1m", buffer_requests, tls, ..Options::default() },
            );
            let transport =
                if tls { Transport::Tls { name: "localhost", client: None } } else { Transport::Plain };
            let ask = |method: &str, target: &str, body: &[u8]| {
                ask(
                    nginx.host(),
                    transport,
                    method,
                    target,
                    &[("Content-Type", "application/octet-stream")],
                    body,
                )
            };
            let answer = ask("POST", "/v2/team/app/blobs/uploads/", &[]).unwrap();
            assert_eq!(answer.status, 202, "{}", answer.text());
            let location = answer.header("location").expect("an upload has a location").to_owned();
            let scheme = if tls { "https" } else { "http" };
            assert!(location.starts_with(&format!("{scheme}://{}/v2/", nginx.host())), "{location}");
            let target = &location[location.find("/v2/").expect("checked above")..];
            for (size, status) in [(1 << 20, 202), ((1 << 20) + 1, 413)] {
                // nginx may respond and close before it has read a body that is too long.
                if let Ok(answer) = ask("PATCH", target, &vec![0; size]) {
                    assert_eq!(answer.status, status, "{size} bytes: {}", answer.text());
                } else {
                    assert_eq!(status, 413, "{size} bytes");
                }
            }
            let refused = |line: &String| line.starts_with("PATCH ") && line.ends_with(" 413");
            let deadline = Instant::now() + Duration::from_secs(20);
            while !nginx.requests().iter().any(refused) {
                assert!(Instant::now() < deadline, "{:?}", nginx.requests());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
