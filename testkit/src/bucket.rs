//! Servers with the protocol of Amazon S3: SeaweedFS, which supports conditional requests, and rclone, which ignores
//! the conditions.

use crate::certificates::certificates;
use crate::leash::Leashed;
use crate::scratch::Scratch;
use crate::tools::checker;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The access key that the servers know.
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
/// Its secret part.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI";
/// The bucket that exists at the start.
pub const BUCKET: &str = "ci-images";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SeaweedFS.
    Weed,
    /// rclone, with files of a folder as objects.
    Rclone,
    /// The same with TLS.
    RcloneTls,
}

/// A running server with one bucket; it stops when dropped.
#[derive(Debug)]
pub struct BucketServer {
    scratch: Scratch,
    port: u16,
    kind: Kind,
    _process: Leashed,
}

impl BucketServer {
    /// Starts a server on a free port.
    #[track_caller]
    pub fn start(kind: Kind) -> Self {
        // Ports are free when chosen; another process may take one before the server does.
        for _ in 0..10 {
            if let Some(started) = Self::try_start(kind) {
                return started;
            }
        }
        panic!("{kind:?} found no free port ten times");
    }

    /// Returns its URL, for `AWS_ENDPOINT_URL_S3`.
    #[must_use]
    pub fn url(&self) -> String {
        match self.kind {
            Kind::RcloneTls => format!("https://localhost:{}", self.port),
            Kind::Weed | Kind::Rclone => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// Returns the folder that has the bucket's objects as files; SeaweedFS has none.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.scratch.join("data").join(BUCKET)
    }

    fn try_start(kind: Kind) -> Option<Self> {
        let scratch = Scratch::new("bucket");
        std::fs::create_dir_all(scratch.join("data").join(BUCKET)).expect("the folder is ours");
        let [port, master, volume, filer] = free_ports();
        let command = match kind {
            Kind::Weed => weed(&scratch, [port, master, volume, filer]),
            Kind::Rclone | Kind::RcloneTls => rclone(&scratch, port, kind),
        };
        let logs = [scratch.join("stdout"), scratch.join("stderr")];
        let mut process = Leashed::start(&command, &logs);
        let deadline = Instant::now() + Duration::from_secs(120);
        let is_up = || match kind {
            // Its gateway answers before it can store objects.
            Kind::Weed => has_room(master) && TcpStream::connect(("127.0.0.1", port)).is_ok(),
            Kind::Rclone | Kind::RcloneTls => TcpStream::connect(("127.0.0.1", port)).is_ok(),
        };
        while !is_up() {
            if process.ended().is_some() {
                return None;
            }
            let log = || std::fs::read_to_string(&logs[1]).unwrap_or_default();
            assert!(Instant::now() < deadline, "{kind:?} does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        if kind == Kind::Weed {
            let made = ask(filer, &format!("POST /buckets/{BUCKET}/"));
            assert!(made.as_ref().is_ok_and(|answer| answer.contains(" 201 ")), "{made:?}");
        }
        Some(Self { scratch, port, kind, _process: process })
    }
}

/// Sends a request without a body to a part of SeaweedFS.
fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = format!("{request} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks SeaweedFS's master whether it can assign a place to an object.
fn has_room(master: u16) -> bool {
    ask(master, "GET /dir/assign").is_ok_and(|answer| answer.contains("\"fid\""))
}

/// Finds free ports; SeaweedFS also takes those that are 10,000 higher.
fn free_ports() -> [u16; 4] {
    let mut found = [0; 4];
    for port in &mut found {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
            let free = listener.local_addr().expect("a bound socket has an address").port();
            let Some(higher) = free.checked_add(10_000) else { continue };
            if TcpListener::bind(("127.0.0.1", higher)).is_ok() {
                *port = free;
                break;
            }
        }
    }
    found
}

fn rclone(scratch: &Scratch, port: u16, kind: Kind) -> Command {
    let mut command = checker("rclone");
    command.args(["serve", "s3", "--config", "/dev/null", "--auth-key"]);
    command.arg(format!("{ACCESS_KEY},{SECRET_KEY}")).args(["--addr", &format!("127.0.0.1:{port}")]);
    if kind == Kind::RcloneTls {
        let certificate = scratch.write("server.pem", &certificates().server.certificate);
        let key = scratch.write("server.key", &certificates().server.key);
        command.arg("--cert").arg(certificate).arg("--key").arg(key);
    }
    command.arg(scratch.join("data"));
    command
}

fn weed(scratch: &Scratch, [port, master, volume, filer]: [u16; 4]) -> Command {
    let config = format!(
        r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#
    );
    let config = scratch.write("s3.json", config);
    std::fs::create_dir_all(scratch.join("weed")).expect("the folder is ours");
    let mut command = checker("weed");
    command.args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20", "-s3"]);
    command.args(["-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
    for (flag, port) in [("s3", port), ("master", master), ("volume", volume), ("filer", filer)] {
        command.arg(format!("-{flag}.port={port}"));
    }
    command.arg(format!("-dir={}", scratch.join("weed").display()));
    command.arg(format!("-s3.config={}", config.display()));
    command
}
