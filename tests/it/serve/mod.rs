//! `serve`: the real executable as a registry, with handmade requests and other tools as clients.

mod command;
mod faults;
mod pushing;
mod reading;
mod stored;
mod tools;

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{Response, Transport, ask};
use testkit::lab::{Lab, Output, Running};
use testkit::tarball::Tarball;

use crate::layouts::{CONTAINERD_NAME, INDEX, Layout, MANIFEST, REF_NAME, named};

/// A running server.
pub(crate) struct Served<'lab> {
    running: Running<'lab>,
    host: String,
}

impl<'lab> Served<'lab> {
    /// Starts `serve` with these arguments and waits until it responds.
    #[track_caller]
    pub(crate) fn start(lab: &'lab Lab, words: &[&str]) -> Self {
        Self::of(lab, lab.command(&[&["serve", "--ready-file", "ready"], words].concat()).spawn())
    }

    /// Waits until a started server responds.
    #[track_caller]
    pub(crate) fn of(lab: &'lab Lab, mut running: Running<'lab>) -> Self {
        let ready = || std::fs::read_to_string(lab.path("ready")).unwrap_or_default();
        running.wait_until("the ready file", |_| ready().contains(':'));
        let host = ready().trim().to_owned();
        Self { running, host }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let response = ask(&self.host, Transport::Plain, method, target, headers, body);
        response.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.ask("GET", target, &[], b"")
    }

    /// Opens a connection for raw requests.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes, and reads until the server ends the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        String::from_utf8_lossy(&response).into_owned()
    }

    /// Returns the peak memory of the server, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends the server with SIGTERM.
    #[track_caller]
    pub(crate) fn stop(self) -> Output {
        self.running.signal("TERM");
        self.running.wait()
    }
}

/// A layout with an image under two tags, a referrer of it, and a second image; returns the digests of image and referrer.
pub(crate) fn two_images() -> (Layout, String, String) {
    let mut layout = Layout::default();
    let image = layout.image(&[Tarball::new().file("hello", "hello\n").finish()]);
    let other = layout.image(&[Tarball::new().file("other", "other\n").finish()]);
    for tag in ["v1", "v2"] {
        let name = format!("reg.example/team/app:{tag}");
        layout.entries.push(named(image.clone(), &[(REF_NAME, tag), (CONTAINERD_NAME, &name)]));
    }
    let name = "reg.example/team/other:v1";
    layout.entries.push(named(other, &[(REF_NAME, "v1"), (CONTAINERD_NAME, name)]));
    let referrer = refer(&mut layout, &image, "test/sbom");
    layout.entries.push(referrer.clone());
    let digest = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
    (layout, digest(&image), digest(&referrer))
}

/// Adds a referrer of a manifest.
pub(crate) fn refer(layout: &mut Layout, subject: &Value, kind: &str) -> Value {
    let config = layout.blob("application/vnd.oci.empty.v1+json", "{}");
    let content = layout.blob("text/plain", format!("{kind} of {}", subject["digest"]));
    let subject = json!({"mediaType": MANIFEST, "digest": subject["digest"], "size": subject["size"]});
    let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config,
        "layers": [content], "subject": subject, "annotations": {"about": kind}});
    layout.blob(MANIFEST, document.to_string())
}

/// Reads a list of referrers: digests and artifact types.
pub(crate) fn referrers(response: &Response) -> Vec<(String, String)> {
    assert_eq!((response.status, response.header("content-type")), (200, Some(INDEX)), "{response:?}");
    let list: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((&list["schemaVersion"], &list["mediaType"]), (&json!(2), &json!(INDEX)));
    let entries = list["manifests"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries.iter().map(|entry| (text(&entry["digest"]), text(&entry["artifactType"]))).collect()
}
