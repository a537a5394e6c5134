//! `index` and `copy --platform`: one multi-platform image of several tars, and some platforms of one.
//!
//! `buildkit/*.tar` were written by BuildKit 0.13 with `--provenance=mode=max`, one platform each: an index with the
//! image and its attestation.

use std::fs;

use serde_json::Value;
use testkit::oracle::validate_layout;
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::lab::{Lab, lab};

const AMD64: &str = "sha256:0334751df20d6559ca89a26133adf7b3462fceaf5f9c745c7288308837a750fa";

/// A lab with `amd64.tar` and `arm64.tar` of BuildKit.
fn lab_with_tars() -> Lab {
    let lab = lab();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/copy/buildkit");
    for name in ["amd64.tar", "arm64.tar"] {
        fs::copy(format!("{folder}/{name}"), lab.path(name)).unwrap();
    }
    lab
}

/// What `describe` says about a tar.
fn index_of(lab: &Lab, tar: &str) -> Value {
    lab.run(&["describe", "--tar", tar, "--json"]).succeeds().json()
}

#[test]
fn index_joins_buildkits_tars_and_their_order_changes_no_byte() {
    let lab = lab_with_tars();
    let join = |first: &str, second: &str, to: &str| {
        lab.run(&["index", "--tar", first, "--tar", second, "--to-oci-tar", to]).succeeds()
    };
    let _ = join("amd64.tar", "arm64.tar", "all.tar");
    let _ = join("arm64.tar", "amd64.tar", "other.tar");
    assert!(lab.read("all.tar") == lab.read("other.tar"), "the order of the tars is in the bytes");
    validate_layout(lab.path("all.tar"));
    let _ = lab.run(&["verify", "--tar", "all.tar"]).succeeds();
    // The name that both tars have is kept, and each child is what BuildKit made.
    let text = index_of(&lab, "all.tar").to_string();
    assert!(text.contains("registry.example/team/app:v1"), "{text}");
    for tar in ["amd64.tar", "arm64.tar"] {
        let children = index_of(&lab, tar);
        let digests: Vec<&str> = find_digests(&children);
        assert!(digests.iter().skip(1).all(|digest| text.contains(digest)), "{tar}: {digests:?} {text}");
    }
}

fn find_digests(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == "digest" && text.starts_with("sha256:") => vec![text.as_str()],
                other => find_digests(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(find_digests).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn index_refuses_a_platform_twice_a_missing_one_and_an_empty_pattern() {
    let lab = lab_with_tars();
    lab.write("files/x", "x");
    let _ = lab.run(&["push", "-f", "files", "--to-oci-tar", "mine.tar"]).succeeds();
    let twice = ["index", "--tar", "amd64.tar", "--tar", "mine.tar", "--to-oci-tar", "x.tar"];
    let _ = lab.run(&twice).fails(1, &["amd64.tar", "mine.tar", "linux/amd64"]);
    let missing = ["index", "--tar", "amd64.tar", "--to-oci-tar", "x.tar", "--require-platform"];
    let missing: Vec<&str> = missing.into_iter().chain(["linux/amd64,linux/arm64"]).collect();
    let _ = lab.run(&missing).fails(1, &["no image for `linux/arm64`; there is one for `linux/amd64`"]);
    let pattern = ["index", "--tar", "dist/*.tar", "--to-oci-tar", "x.tar"];
    let _ = lab.run(&pattern).fails(2, &["`--tar`: `dist/*.tar` finds no file"]);
    assert!(!lab.path("x.tar").exists());
    // The same image twice is one.
    let same = ["index", "--tar", "amd64.tar", "--tar", "amd64.tar", "--to-oci-tar", "x.tar"];
    let _ = lab.run(&same).succeeds();
}

#[test]
fn index_goes_to_a_registry_and_copy_takes_a_platform_back() {
    let (lab, registry) = (lab_with_tars(), Registry::start());
    let to = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["index", "--tar", "*64.tar", "--to-repo", &to]).succeeds();
    let tags = registry.storage().tags("team/app");
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["v1"], "one tag, on the index");
    let mut skopeo = tool("skopeo");
    let raw =
        run(skopeo.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}")])).success();
    let raw: Value = serde_json::from_str(&raw.stdout).unwrap();
    let platforms: Vec<String> = raw["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| format!("{}/{}", child["platform"]["os"], child["platform"]["architecture"]))
        .map(|text| text.replace('"', ""))
        .collect();
    assert_eq!(platforms, ["linux/amd64", "unknown/unknown", "linux/arm64", "unknown/unknown"]);
    let _ = lab.run(&["copy", "-i", &to, "--platform", "linux/arm64", "--to-oci-tar", "arm.tar"]).succeeds();
    validate_layout(lab.path("arm.tar"));
    let arm = find_digests(&index_of(&lab, "arm.tar")).first().map(|digest| (*digest).to_owned());
    assert_eq!(arm.as_deref(), raw["manifests"][2]["digest"].as_str(), "the plain image that is left");
    let all = ["copy", "-i", &to, "--platform", "linux/arm64,linux/amd64", "--to-oci-tar", "all.tar"];
    let _ = lab.run(&all).succeeds();
    assert_eq!(find_digests(&index_of(&lab, "all.tar"))[0], tags["v1"], "all platforms: the index itself");
    let none = ["copy", "-i", &to, "--platform", "linux/s390x", "--to-oci-tar", "none.tar"];
    let _ = lab.run(&none).fails(1, &["no image for `linux/s390x`"]);
}

#[test]
fn index_of_one_tar_is_flat() {
    let lab = lab_with_tars();
    let _ = lab.run(&["index", "--tar", "amd64.tar", "--to-oci-tar", "x.tar"]).succeeds();
    // BuildKit's own index has the same entries in the same order.
    assert!(index_of(&lab, "amd64.tar").to_string().contains(AMD64));
    let first = find_digests(&index_of(&lab, "x.tar")).len();
    assert_eq!(first, find_digests(&index_of(&lab, "amd64.tar")).len());
}
