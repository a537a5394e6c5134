//! Other tools read a joined index, and `index` reads theirs.

use std::fs;

use serde_json::Value;
use testkit::oracle::validate_layout;
use testkit::readers::{Podman, skopeo_copy, skopeo_digest, umoci_unpack};
use testkit::registry::Registry;
use testkit::tools::run;

use crate::copy::index::lab_with_tars;
use crate::lab::Lab;

/// Joins BuildKit's tars into `all.tar`; returns its digest.
fn joined(lab: &Lab) -> String {
    let words = ["index", "--tar", "amd64.tar", "arm64.tar", "--to-oci-tar", "all.tar", "--json"];
    lab.run(&words).succeeds().json()["digest"].as_str().unwrap().to_owned()
}

/// Copies one platform of `all.tar`; returns the digest of the image.
fn narrowed(lab: &Lab, platform: &str, to: &str) -> String {
    let words = ["copy", "--tar", "all.tar", "--platform", platform, "--to-oci-tar", to, "--json"];
    lab.run(&words).succeeds().json()["digest"].as_str().unwrap().to_owned()
}

/// `podman` with a storage of its own, for registries without TLS.
fn podman_for(lab: &Lab, registry: &Registry) -> Podman {
    let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.host());
    lab.write("registries.conf", text);
    Podman::new()
}

#[test]
fn skopeo_podman_and_umoci_read_a_joined_index() {
    let (lab, registry) = (lab_with_tars(), Registry::start());
    let digest = joined(&lab);
    let archive = format!("oci-archive:{}", lab.path("all.tar").display());
    assert_eq!(skopeo_digest(&archive, &[]), digest);
    // All platforms and their attestations, into a layout and into a registry.
    let layout = format!("oci:{}:v1", lab.path("layout").display());
    let _ = skopeo_copy(&archive, &layout, &["--all"]).success();
    assert_eq!(skopeo_digest(&layout, &[]), digest);
    let to = format!("docker://{}/skopeo/app:v1", registry.host());
    let _ = skopeo_copy(&archive, &to, &["--all", "--dest-tls-verify=false"]).success();
    assert_eq!(registry.storage().tags("skopeo/app")["v1"], digest);
    // `index` pushes the same index, and completely: the registry refuses an index whose images are missing.
    let name = format!("{}/team/app:v1", registry.host());
    let push = ["index", "--tar", "amd64.tar", "arm64.tar", "--to-repo", &name, "--expected-digest", &digest];
    let _ = lab.run(&push).succeeds();
    registry.storage().assert_sound();

    let podman = podman_for(&lab, &registry);
    assert_eq!(podman.load(&lab.path("all.tar")), ["registry.example/team/app:v1"]);
    assert_eq!(
        podman.digest("registry.example/team/app:v1"),
        digest,
        "podman takes this machine's platform of it"
    );
    let mut inspect = podman.command();
    inspect.env("CONTAINERS_REGISTRIES_CONF", lab.path("registries.conf"));
    let inspected = run(inspect.args(["manifest", "inspect", &name])).success();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    let stored: Value =
        serde_json::from_slice(&registry.storage().manifest("team/app", "v1").unwrap()).unwrap();
    let digests = |index: &Value| -> Vec<String> {
        let children = index["manifests"].as_array().unwrap().iter();
        children.map(|child| child["digest"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((digests(&inspected), digests(&inspected).len()), (digests(&stored), 4));

    // umoci cannot choose a platform, so it gets one.
    let amd64 = narrowed(&lab, "linux/amd64", "amd64-only.tar");
    assert_eq!(skopeo_digest(&format!("oci-archive:{}", lab.path("amd64-only.tar").display()), &[]), amd64);
    let root = umoci_unpack(&lab.path("amd64-only.tar"), "v1", &lab.path("umoci"));
    assert!(fs::read_dir(root).unwrap().count() > 0);
}

#[test]
fn index_joins_what_podman_and_docker_archives_hold() {
    let (lab, registry) = (lab_with_tars(), Registry::start());
    let _ = joined(&lab);
    let images =
        [narrowed(&lab, "linux/amd64", "one-amd64.tar"), narrowed(&lab, "linux/arm64", "one-arm64.tar")];
    let podman = podman_for(&lab, &registry);
    let manifest = |words: &[&str]| {
        let mut command = podman.command();
        run(command.arg("manifest").args(words)).success()
    };
    // podman needs a storage, and loses the name.
    let _ = manifest(&["create", "list"]);
    for tar in ["one-arm64.tar", "one-amd64.tar"] {
        let _ = manifest(&["add", "list", &format!("oci-archive:{}", lab.path(tar).display())]);
    }
    let pushed = format!("oci-archive:{}", lab.path("podman.tar").display());
    let _ = manifest(&["push", "--all", "list", &pushed]);
    let rows = |tars: &[&str], to: &str| {
        let words = [&["index", "--tar"], tars, &["--to-oci-tar", to, "--json"]].concat();
        let made = lab.run(&words).succeeds().json();
        validate_layout(lab.path(to));
        let rows = made["platforms"].as_array().unwrap().clone();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        rows.iter().map(|row| (text(row, "platform"), text(row, "digest"))).collect::<Vec<_>>()
    };
    let [amd64, arm64] = images;
    let expected = [("linux/amd64".to_owned(), amd64.clone()), ("linux/arm64".to_owned(), arm64)];
    assert_eq!(
        rows(&["podman.tar"], "flat.tar"),
        expected,
        "podman's index is flattened, sorted by platform"
    );
    assert_eq!(rows(&["one-arm64.tar", "one-amd64.tar"], "again.tar"), expected);
    // docker-save keeps no manifest, so that image has another digest; the other one keeps its own.
    let to_docker = ["copy", "--tar", "one-arm64.tar", "--to-docker-tar", "docker.tar"];
    let _ = lab.run(&to_docker).succeeds();
    let mixed = rows(&["docker.tar", "one-amd64.tar"], "mixed.tar");
    assert_eq!(mixed[0], ("linux/amd64".to_owned(), amd64));
    assert_eq!(mixed[1].0, "linux/arm64");
}
