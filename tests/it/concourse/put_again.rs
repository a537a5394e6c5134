//! A second put of an unchanged archive: which requests it sends, and how many bytes of the archive it reads.

use serde_json::{Value, json};
use testkit::lab::{Lab, Output};
use testkit::readers;
use testkit::registry::{Registry, uploads};
use testkit::tools::{run, tool};

use crate::concourse::{prepared, source};
use crate::lab::lab;

/// A lab with an image of 64 MB as an OCI layout tar, as docker's archive and as a compressed tar.
fn room() -> Lab {
    let lines: Vec<String> = (0..4).map(|n| format!("f src/noise{n} random:16000000:{n}")).collect();
    let lab = lab().tree(&lines).tree(&["d put/image"]);
    let tar = "put/image/image.tar";
    let _ = lab.run(&["push", "-i", "-f", "src", "--compression", "none", "--to-oci-tar", tar]).succeeds();
    let from = format!("oci-archive:{}", lab.path(tar).display());
    let docker = format!("docker-archive:{}:team/app:v1", lab.path("put/image/docker.tar").display());
    let mut skopeo = tool("skopeo");
    let _ = run(skopeo.args(["--insecure-policy", "copy", "--quiet", &from, &docker])).success();
    let mut gzip = tool("gzip");
    let _ = run(gzip.args(["-1", "--keep"]).arg(lab.path(tar))).success();
    lab
}

fn put(lab: &Lab, source: &Value, image: &str) -> Output {
    let request = json!({"source": source, "params": {"image": image}});
    prepared(lab, "out", &request).traced("read,pread64,readv,preadv,preadv2").run().succeeds()
}

/// Bytes that were read from any file; sockets are read with `recvfrom`.
fn bytes_read(output: &Output) -> u64 {
    let calls = output
        .trace
        .lines()
        .filter(|line| ["read(", "pread64(", "readv(", "preadv"].iter().any(|call| line.contains(call)));
    let returned =
        calls.filter_map(|line| line.rsplit_once(" = ")?.1.split_whitespace().next()?.parse::<u64>().ok());
    returned.sum()
}

#[test]
fn putting_an_unchanged_tar_sends_requests_without_bodies_and_reads_it_once() {
    let lab = room();
    let registry = Registry::start();
    for (file, most) in [
        // Of a layout only headers and small documents are read.
        ("image/image.tar", 1_000_000),
        // docker's archive has no digests, so it has to be hashed.
        ("image/docker.tar", 64_000_000 + 2_000_000),
        // Written to a nameless file while it is inflated.
        ("image/image.tar.gz", 64_000_000 + 4_000_000),
    ] {
        let source = source(&registry, &json!({"tag": "v1"}));
        let first = put(&lab, &source, file);
        registry.forget_requests();
        let again = put(&lab, &source, file);
        assert_eq!(again.json(), first.json(), "{file}");
        let requests = registry.requests();
        assert_eq!(uploads(&requests).len(), 0, "{requests:#?}");
        let only_questions = requests.iter().all(|one| one.method == "HEAD" || one.path == "/v2/");
        assert!(only_questions && requests.len() <= 3, "{requests:#?}");
        let read = bytes_read(&again);
        assert!((1..=most).contains(&read), "{file}: {read} bytes were read");
        let size = std::fs::metadata(lab.path("put").join(file)).unwrap().len();
        assert!(size > 60_000_000, "{file}: {size}");
    }
    let reference = format!("docker://{}/team/app:v1", registry.host());
    assert!(readers::skopeo_digest(&reference, &["--tls-verify=false"]).starts_with("sha256:"));
}
