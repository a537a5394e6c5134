//! Another implementation of a registry: the crate `container-registry`, which shares no code with `docker-registry`.
//!
//! It requires a password, has other upload paths and one set of blobs for all repositories, and supports neither
//! mounts nor lists of tags.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::leash::Leashed;
use testkit::oracle;
use testkit::scratch::Scratch;
use testkit::tools::tool;

use crate::concourse::step;
use crate::lab::Lab;
use crate::registry::cli::room;

/// A running registry; it stops when dropped.
struct Other {
    scratch: Scratch,
    host: String,
    _process: Leashed,
}

impl Other {
    fn start() -> Self {
        // The port is free when chosen; another process may take it before the registry does.
        (0..10).find_map(|_| Self::try_start()).expect("a free port within ten attempts")
    }

    fn try_start() -> Option<Self> {
        let scratch = Scratch::new("other-registry");
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = tool("container-registry");
        command.args(["--bind", &host, "--password", "s3cret", "--storage"]).arg(scratch.join("storage"));
        let logs = ["out", "err"].map(|name| scratch.join(name));
        let mut process = Leashed::start(&command, &logs);
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until && process.ended().is_none() {
            if TcpStream::connect(&host).is_ok() {
                return Some(Self { scratch, host, _process: process });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Fails unless every blob and manifest in the storage matches its digest; returns their number.
    fn assert_sound(&self) -> usize {
        let mut count = 0;
        for kind in ["blobs", "manifests"] {
            for entry in std::fs::read_dir(self.scratch.join("storage").join(kind)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let digest = testkit::digest::of(&std::fs::read(&path).unwrap());
                assert_eq!(digest, format!("sha256:{name}"), "{}", path.display());
                count += 1;
            }
        }
        count
    }
}

fn run(lab: &Lab, words: &[&str]) -> testkit::lab::Output {
    let run = lab.command(words).env("IMGRELAY_REGISTRY_USERNAME", "ci");
    run.env("IMGRELAY_REGISTRY_PASSWORD", "s3cret").run().never_says("s3cret")
}

#[test]
fn images_are_pushed_copied_checked_and_pulled() {
    let (registry, lab) = (Other::start(), room());
    let (app, copy) = (format!("{}/team/app:v1", registry.host), format!("{}/team/copy:v1", registry.host));
    let line = run(&lab, &["copy", "--tar", "app.tar", "--to-repo", &app]).succeeds().one_line().to_owned();
    assert_eq!(registry.assert_sound(), 3, "a layer, a configuration, a manifest");
    let digest = line.split_once('@').expect("the result has a digest").1;
    let again = run(&lab, &["copy", "--tar", "app.tar", "--to-repo", &app, "--debug"]).succeeds();
    assert_eq!(again.one_line(), line);
    let sent = again.stderr.lines().filter(|line| line.starts_with("debug: P")).count();
    assert_eq!(sent, 0, "nothing is sent again: {again}");
    let output = run(&lab, &["copy", "-i", &app, "--to-repo", &copy]).succeeds();
    assert!(output.one_line().ends_with(digest), "{output}");
    registry.assert_sound();
    let _ = run(&lab, &["copy", "-i", &copy, "--to-oci-tar", "out.tar"]).succeeds();
    oracle::validate_layout(lab.path("out.tar"));
    let _ = run(&lab, &["pull", "-i", &app, "-o", "out"]).succeeds();
    assert_eq!(lab.read("out/hello.txt"), b"hello");
    let source = json!({"repository": format!("{}/team/app", registry.host), "tag": "v1", "username": "ci", "password": "s3cret"});
    let versions = step(&lab, "check", &json!({"source": source, "version": Value::Null})).succeeds().json();
    assert_eq!(versions, json!([{"tag": "v1", "digest": digest}]));
}

#[test]
fn refusals_of_container_registry_are_reported() {
    let (registry, lab) = (Other::start(), room());
    let app = format!("{}/team/app:v1", registry.host);
    let wrong = lab
        .command(&["copy", "--tar", "app.tar", "--to-repo", &app])
        .env("IMGRELAY_REGISTRY_USERNAME", "ci")
        .env("IMGRELAY_REGISTRY_PASSWORD", "hunter2");
    let _ = wrong.run().never_says("hunter2").fails(1, &[&registry.host, "(401", "hint: "]);
    let _ = run(&lab, &["copy", "-i", &app, "--to-oci-tar", "out.tar"])
        .fails(1, &[&registry.host, "has no manifest `v1`", "hint: "]);
    let list = format!("{}/team/app", registry.host);
    let _ = run(&lab, &["tag", "list", "-i", &list]).fails(1, &["has no tags", "hint: "]);
}
