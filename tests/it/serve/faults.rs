//! Broken requests, and slow or disconnected clients: each gets its response, and other clients are served.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use super::Served;
use crate::lab::{Lab, lab};
use crate::layouts::{Layout, MANIFEST, REF_NAME, named};

fn room() -> Lab {
    let lab = lab();
    lab.write("app.tar", Layout::simple().tar());
    lab
}

#[test]
fn a_request_that_is_none_is_refused_and_ends_its_connection() {
    let lab = room();
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let long = format!("GET /v2/ HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET /v2/ HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    for (request, status) in [
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
        ("GET /v2/ HTTP/3\r\n\r\n", 400),
        ("GET v2 HTTP/1.1\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("BREW /v2/ HTTP/1.1\r\n\r\n", 405),
        (&long, 431),
        (&many, 431),
    ] {
        let answer = served.raw(request.as_bytes());
        let shown: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        assert!(answer.contains("Connection: close") && answer.contains("\"errors\""), "{shown}: {answer}");
    }
    assert_eq!(served.get("/v2/").status, 200);
    let _ = served.stop().succeeds();
}

#[test]
fn one_connection_carries_many_requests_also_sent_at_once() {
    let lab = room();
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let requests = "GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n\
         POST /v2/x/blobs/uploads/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
         HEAD /v2/x/manifests/v1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
         GET /v2/x/tags/list HTTP/1.1\r\nConnection: close\r\n\r\n";
    let answers = served.raw(requests.as_bytes());
    let statuses: Vec<&str> =
        answers.lines().filter_map(|line| line.split_once("HTTP/1.1 ")).map(|(_, s)| &s[..3]).collect();
    assert_eq!(statuses, ["200", "405", "200", "200"], "{answers}");
    assert!(answers.ends_with(r#"{"name":"x","tags":["latest","v1"]}"#), "{answers}");
    let _ = served.stop().succeeds();
}

#[test]
fn half_a_request_and_a_client_that_vanishes_leave_the_server_as_it_was() {
    let lab = lab();
    let mut layout = Layout::default();
    let config = layout.blob("application/vnd.oci.empty.v1+json", "{}");
    let layer = layout.blob("text/plain", vec![7_u8; 30 << 20]);
    let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let image = layout.blob(MANIFEST, document.to_string());
    layout.entries.push(named(image, &[(REF_NAME, "v1")]));
    lab.write("app.tar", layout.tar());
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let halves: Vec<TcpStream> =
        ["G", "GET /v2/ HTTP/1.1\r\nHost", "PUT /v2/x/manifests/v1 HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
            .iter()
            .map(|half| {
                let mut stream = served.connect();
                stream.write_all(half.as_bytes()).unwrap();
                stream
            })
            .collect();
    let digest = layer["digest"].as_str().unwrap();
    let request = format!("GET /v2/x/blobs/{digest} HTTP/1.1\r\n\r\n");
    for _ in 0..5 {
        let mut stream = served.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut start = [0; 1000];
        stream.read_exact(&mut start).unwrap();
        drop(stream);
    }
    assert_eq!(served.get(&format!("/v2/x/blobs/{digest}")).body.len(), 30 << 20);
    drop(halves);
    let output = served.stop().succeeds();
    assert!(!output.stderr.contains("warning"), "a client that goes away is no event: {output}");
}

#[test]
fn more_idle_clients_than_places_keep_no_client_out() {
    let lab = room();
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let mut idle: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = served.connect();
            stream.write_all(b"GET /v2/ HTTP/1.1\r\n\r\n").unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
            stream
        })
        .collect();
    assert_eq!(served.get("/v2/").status, 200, "at the limit the server ends the longest idle connection");
    let mut rest = Vec::new();
    let _ = idle[0].read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"{}"), "the first one was ended, after its response");
    let _ = served.stop().succeeds();
}

#[test]
fn a_damaged_blob_is_cut_off_and_named() {
    let lab = room();
    let mut tar = lab.read("app.tar");
    let layout = Layout::simple();
    let layer = &layout.blobs[0];
    let at = tar.windows(layer.len()).position(|window| window == layer.as_slice()).unwrap();
    tar[at + layer.len() / 2] ^= 1;
    lab.write("app.tar", &tar);
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let target = format!("/v2/x/blobs/sha256:{}", crate::layouts::hex(layer));
    let whole = served.raw(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes());
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains(&format!("Content-Length: {}", layer.len())),
        "{head}"
    );
    assert!(body.len() < layer.len(), "the last bytes are not sent");
    // A range has no digest, so the server verifies the whole blob first.
    let part = served.ask("GET", &target, &[("Range", "bytes=0-3")], b"");
    assert_eq!(part.status, 500, "{part:?}");
    assert!(part.text().contains("is damaged"), "{part:?}");
    let _ = served.stop().succeeds().says("warning: `app.tar` is damaged: blob `sha256:");
}
