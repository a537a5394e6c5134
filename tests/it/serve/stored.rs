//! `serve --store`: an image store as a repository with its tags; its blobs stay where they are until they are requested.

use std::io::{Read as _, Write as _};

use serde_json::Value;
use testkit::readers::skopeo_digest;

use super::Served;
use crate::depot::folder::{pack, url};
use crate::lab::{Lab, lab};

/// Two versions in a store; returns their digests.
fn room() -> (Lab, [String; 2]) {
    let lab = lab();
    let digests = ["one", "two"].map(|name| {
        let digest = pack(&lab, "app.tar", name);
        let to = format!("{}:{name}", url(&lab));
        let _ = lab.run(&["copy", "--tar", "app.tar", "--to-store", &to]).succeeds();
        digest
    });
    (lab, digests)
}

/// Returns the digest of an image's layer, and the file that has it.
fn layer_of(served: &Served<'_>, lab: &Lab, tag: &str) -> (String, std::path::PathBuf) {
    let manifest: Value =
        serde_json::from_slice(&served.get(&format!("/v2/app/manifests/{tag}")).body).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let file = lab.path("store/blobs/sha256").join(layer.strip_prefix("sha256:").unwrap());
    (layer, file)
}

fn json(served: &Served<'_>, target: &str) -> Value {
    serde_json::from_slice(&served.get(target).body).unwrap()
}

#[test]
fn a_store_is_a_repository_of_any_name_with_its_tags() {
    let (lab, [one, two]) = room();
    let store = url(&lab);
    let served = Served::start(&lab, &["--store", &store]);
    for name in ["store", "any/name", "team/app"] {
        let tags = json(&served, &format!("/v2/{name}/tags/list"))["tags"].clone();
        assert_eq!(tags, serde_json::json!(["one", "two"]), "{name}");
    }
    for (tag, digest) in [("one", &one), ("two", &two)] {
        let image = format!("docker://{}/any/name:{tag}", served.host());
        assert_eq!(skopeo_digest(&image, &["--tls-verify=false"]), *digest);
    }
    assert_eq!(served.get("/v2/store/manifests/latest").status, 404, "no tag points at it");
    let name = format!("{}/x", served.host());
    let _ = lab.run(&["copy", "-q", "-i", &format!("{name}:two"), "--to-oci-tar", "out.tar"]).succeeds();
    let _ = lab.run(&["verify", "-q", "--tar", "out.tar", "--expected-digest", &two]).succeeds();
    let output = served.stop().succeeds();
    assert!(output.stderr.contains("serves the same images under any other repository name"), "{output}");
    // One image of it, beside a tar: each has its name.
    let (first, tagged) = (format!("{store}:one"), ["--tar", "app.tar", "--store"]);
    let served = Served::start(&lab, &[&tagged[..], &[&first]].concat());
    let repositories = json(&served, "/v2/_catalog")["repositories"].clone();
    assert_eq!(repositories, serde_json::json!(["store", "team/app"]));
    assert_eq!(json(&served, "/v2/store/tags/list")["tags"], serde_json::json!(["one"]));
    assert_eq!(served.get("/v2/any/manifests/one").status, 404);
    let _ = served.stop().succeeds();
    let served = Served::start(&lab, &["--store", &format!("{store}@{one}"), "--name", "a/b"]);
    assert_eq!(served.get(&format!("/v2/a/b/manifests/{one}")).status, 200);
    let _ = served.stop().succeeds();
    let _ = lab.run(&["serve", "--store", &format!("{store}:none")]).fails(1, &["has no image `none`"]);
}

#[test]
fn what_is_damaged_or_gone_in_a_store_is_cut_off_or_not_there() {
    let (lab, _) = room();
    let served = Served::start(&lab, &["--store", &url(&lab)]);
    let (layer, file) = layer_of(&served, &lab, "one");
    let target = format!("/v2/app/blobs/{layer}");
    let bytes = std::fs::read(&file).unwrap();
    let part = |first: usize, last: usize| {
        served.ask("GET", &target, &[("Range", &format!("bytes={first}-{last}"))], b"")
    };
    assert_eq!(served.get(&target).body, bytes);
    let found = part(3, 9);
    assert_eq!((found.status, found.body.as_slice()), (206, &bytes[3..=9]));
    assert_eq!(part(bytes.len() - 2, bytes.len() + 9).body, bytes[bytes.len() - 2..]);
    // It was right once; what is there now is hashed all the same.
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let mut stream = served.connect();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end..]);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", bytes.len())), "{head}");
    assert!(body.len() < bytes.len(), "{} of {}", body.len(), bytes.len());
    let (other, second) = layer_of(&served, &lab, "two");
    let size = std::fs::metadata(&second).unwrap().len();
    std::fs::write(&second, vec![0; usize::try_from(size).unwrap()]).unwrap();
    let answer = served.ask("GET", &format!("/v2/app/blobs/{other}"), &[("Range", "bytes=0-1")], b"");
    assert_eq!(answer.status, 500, "the whole is read before the first part of it is sent");
    std::fs::remove_file(&file).unwrap();
    for method in ["GET", "HEAD"] {
        assert_eq!(served.ask(method, &target, &[], b"").status, 404, "{method}");
    }
    let output = served.stop().succeeds();
    assert!(output.stderr.contains(&format!("`{}` is damaged: ", url(&lab))), "{output}");
}

#[test]
fn a_tag_of_signatures_that_two_versions_list_points_at_the_newest() {
    let lab = lab();
    let image = pack(&lab, "app.tar", "one");
    let store = url(&lab);
    let signed = format!("sha256-{}.sig", image.strip_prefix("sha256:").unwrap());
    let mut found = Vec::new();
    for (tag, key) in [("b", "p256.key"), ("a", "ed25519.key")] {
        let key = format!("{}/tests/keys/{key}", env!("CARGO_MANIFEST_DIR"));
        let _ = lab.run(&["sign", "--tar", "app.tar", "--key", &key]).succeeds();
        let _ = lab.run(&["copy", "--tar", "app.tar", "--to-store", &format!("{store}:{tag}")]).succeeds();
        let served = Served::start(&lab, &["--store", &store]);
        found.push(served.get(&format!("/v2/app/manifests/{signed}")).body);
        let _ = served.stop().succeeds();
    }
    assert_ne!(found[0], found[1]);
    let layers = |manifest: &[u8]| {
        serde_json::from_slice::<Value>(manifest).unwrap()["layers"].as_array().unwrap().len()
    };
    assert_eq!((layers(&found[0]), layers(&found[1])), (1, 2));
}
