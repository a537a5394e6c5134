//! Web servers that show a folder: nginx, which sends parts of files, and Python's, which sends whole files only.

use crate::certificates::certificates;
use crate::leash::Leashed;
use crate::scratch::Scratch;
use crate::tools::tool;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// nginx with TLS and the server certificate of [`certificates`].
    Nginx,
    /// `python3 -m http.server`.
    Python,
}

/// A running server; it stops when dropped.
#[derive(Debug)]
pub struct WebServer {
    scratch: Scratch,
    url: String,
    _process: Leashed,
}

impl WebServer {
    /// Starts one on a free port.
    #[track_caller]
    pub fn start(program: Program, folder: &Path) -> Self {
        // The port is free when chosen; another process may take it before the server does.
        for _ in 0..10 {
            if let Some(started) = Self::try_start(program, folder) {
                return started;
            }
        }
        panic!("{program:?} found no free port ten times");
    }

    /// Returns `https://localhost:PORT` or `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns nginx's access log: `METHOD TARGET STATUS BYTES` of each request. A line comes some moments after its
    /// answer.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.scratch.join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn try_start(program: Program, folder: &Path) -> Option<Self> {
        let scratch = Scratch::new("web");
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        drop(listener);
        let (command, url) = match program {
            Program::Nginx => {
                scratch.write("server.pem", &certificates().server.certificate);
                scratch.write("server.key", &certificates().server.key);
                let config = scratch.write("nginx.conf", config(&scratch, port, folder));
                let mut command = tool("nginx");
                command.arg("-c").arg(config).args(["-e", "stderr"]);
                (command, format!("https://localhost:{port}"))
            }
            Program::Python => {
                let mut command = tool("python3");
                command
                    .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "-d"])
                    .arg(folder);
                (command, format!("http://127.0.0.1:{port}"))
            }
        };
        let logs = [scratch.join("stdout"), scratch.join("stderr")];
        let mut process = Leashed::start(&command, &logs);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.ended().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "{program:?} does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { scratch, url, _process: process })
    }
}

fn config(scratch: &Scratch, port: u16, root: &Path) -> String {
    let folder = scratch.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .collect();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{ }}
http {{
{temporary}  log_format short '$request_method $request_uri $status $body_bytes_sent';
  access_log {folder}/access.log short;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    root {};
  }}
}}
",
        root.display()
    )
}
