//! A store in a shared folder: its files, other readers, and refusals.

use std::path::{Path, PathBuf};

use testkit::readers::skopeo_digest;
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::lab::{Lab, lab};

/// Packs a folder with one file into a tar; returns the digest of its image.
pub(crate) fn pack(lab: &Lab, tar: &str, content: &str) -> String {
    lab.write("files/content", content);
    let words = ["push", "-i", "registry.example/team/app:v1", "-f", "files", "--to-oci-tar", tar];
    digest_of(lab.run(&words).succeeds().one_line())
}

pub(crate) fn digest_of(line: &str) -> String {
    line.rsplit_once('@').unwrap().1.to_owned()
}

/// Returns the URL of the store `store` in the lab.
pub(crate) fn url(lab: &Lab) -> String {
    format!("file://{}", lab.path("store").display())
}

/// Lists the objects of a store, without the folders.
fn objects(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![store.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn an_image_goes_through_a_store_with_its_digest_and_nothing_is_written_twice() {
    let (lab, registry) = (lab(), Registry::start());
    let (digest, store) = (pack(&lab, "app.tar", "one"), url(&lab));
    let to = format!("{store}:candidate");
    let put = lab.run(&["copy", "--tar", "app.tar", "--to-store", &to, "--json"]).succeeds().json();
    assert_eq!((&put["digest"], &put["store"]), (&digest.as_str().into(), &store.as_str().into()));
    assert_eq!((&put["tags"][0], &put["reused"]), (&"candidate".into(), &0.into()));
    assert!(put["sent"].as_u64().unwrap() > 0 && put["pushed"].as_str().unwrap().ends_with('Z'), "{put}");
    let first = objects(&lab.path("store"));

    let again = lab.run(&["copy", "--tar", "app.tar", "--to-store", &to, "--json"]).succeeds().json();
    assert_eq!((&again["sent"], &again["reused"]), (&0.into(), &put["sent"]));
    assert_eq!(again["pushed"], put["pushed"], "the same image again is no new version");
    assert_eq!(objects(&lab.path("store")), first);

    let repo = format!("{}/team/app:v1", registry.host());
    let line = lab.run(&["copy", "--store", &to, "--to-repo", &repo]).succeeds().one_line().to_owned();
    assert_eq!(digest_of(&line), digest);
    let _ = lab.run(&["copy", "--store", &to, "--to-oci-tar", "out.tar"]).succeeds();
    assert!(lab.run(&["verify", "--tar", "out.tar"]).succeeds().one_line().contains(&digest));
    assert!(lab.run(&["verify", "--store", &to]).succeeds().one_line().contains(&digest));
    let _ = lab.run(&["pull", "--store", &to, "-o", "files-out"]).succeeds();
    assert_eq!(lab.read("files-out/content"), b"one");
    let described = lab.run(&["describe", "--store", &to, "--json"]).succeeds().json();
    assert_eq!(described["images"][0]["digest"], digest.as_str());
    let by_digest = format!("{store}@{digest}");
    assert!(lab.run(&["verify", "--store", &by_digest]).succeeds().one_line().contains(&digest));
    // A copy from a registry into the store is complete.
    let back = lab.run(&["copy", "-i", &repo, "--to-store", &store, "--json"]).succeeds().json();
    assert_eq!((&back["sent"], &back["tags"][0]), (&0.into(), &"v1".into()));
}

#[test]
fn skopeo_and_umoci_read_the_folder() {
    let lab = lab();
    let (store, mut digests) = (url(&lab), Vec::new());
    for (content, tag) in [("one", "a"), ("two", "b"), ("three", "a")] {
        digests.push(pack(&lab, "app.tar", content));
        let _ = lab.run(&["copy", "--tar", "app.tar", "--to-store", &format!("{store}:{tag}")]).succeeds();
    }
    let folder = lab.path("store").display().to_string();
    assert_eq!(skopeo_digest(&format!("oci:{folder}:a"), &[]), digests[2]);
    assert_eq!(skopeo_digest(&format!("oci:{folder}:b"), &[]), digests[1]);
    let listed = run(tool("umoci").args(["ls", "--layout", &folder])).success();
    let mut tags: Vec<&str> = listed.stdout.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["a", "b"]);
    let image = format!("{folder}:b");
    let bundle = lab.path("bundle").display().to_string();
    let _ = run(tool("umoci").args(["unpack", "--rootless", "--image", &image, &bundle])).success();
    assert_eq!(lab.read("bundle/rootfs/content"), b"two");
    let _ = lab.run(&["verify", "--oci-tar", "store"]).succeeds();
    // The path of an entry selects its version.
    let entries = objects(&lab.path("store/tags/a"));
    assert_eq!(entries.len(), 2);
    std::fs::copy(&entries[1], lab.path("store/index.json")).unwrap();
    assert_eq!(skopeo_digest(&format!("oci:{folder}:a"), &[]), digests[0]);
}

#[test]
fn a_tag_that_goes_back_is_a_version_of_its_own() {
    let lab = lab();
    let store = url(&lab);
    let to = format!("{store}:candidate");
    let [one, two] = ["one", "two"].map(|content| pack(&lab, &format!("{content}.tar"), content));
    for tar in ["one.tar", "two.tar", "one.tar"] {
        let _ = lab.run(&["copy", "--tar", tar, "--to-store", &to]).succeeds();
    }
    let listed = lab.run(&["store", "list", &to, "--json"]).succeeds().json();
    let versions = listed["versions"].as_array().unwrap();
    let digests: Vec<&str> = versions.iter().map(|version| version["digest"].as_str().unwrap()).collect();
    assert_eq!(digests, [one.as_str(), &two, &one]);
    let times: Vec<&str> = versions.iter().map(|version| version["pushed"].as_str().unwrap()).collect();
    assert!(times[0] > times[1] && times[1] > times[2], "{times:?}");
    let lines = lab.run(&["store", "list", &store]).succeeds();
    assert_eq!(lines.stdout, format!("candidate\t{one}\t{}\n", times[0]));
    // A digest chooses a version, also one that is not the newest.
    let old = format!("{to}@{two}");
    assert!(lab.run(&["verify", "--store", &old]).succeeds().one_line().contains(&two));
    let _ = lab.run(&["copy", "--tar", "one.tar", "--to-store", &old]).fails(2, &["has a digest"]);
}

#[test]
fn a_damaged_or_missing_object_is_named_with_tag_digest_and_time() {
    let lab = lab();
    let (digest, to) = (pack(&lab, "app.tar", "one"), format!("{}:candidate", url(&lab)));
    let put = lab.run(&["copy", "--tar", "app.tar", "--to-store", &to, "--json"]).succeeds().json();
    let pushed = put["pushed"].as_str().unwrap();
    let described = lab.run(&["describe", "--store", &to, "--json"]).succeeds().json();
    let layer = described["images"][0]["layers"][0]["digest"].as_str().unwrap().to_owned();
    let blob = lab.path("store/blobs/sha256").join(layer.strip_prefix("sha256:").unwrap());
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let version = format!("`candidate` is `{digest}`, pushed at {pushed}");
    let texts = ["does not match", layer.as_str(), version.as_str()];
    let _ = lab.run(&["copy", "--store", &to, "--to-oci-tar", "out.tar"]).fails(3, &texts);
    assert!(!lab.path("out.tar").exists());
    let _ = lab.run(&["pull", "--store", &to, "-o", "out"]).fails(3, &texts);
    assert!(!lab.path("out").exists());
    let report = lab.run(&["verify", "--store", &to]).ends_with(3).says(&version);
    assert!(report.stdout.contains(&format!("blob `{layer}` does not match")), "{report}");
    // A blob of another size is written again.
    std::fs::write(&blob, "short").unwrap();
    let again = lab.run(&["copy", "--tar", "app.tar", "--to-store", &to, "--json"]).succeeds().json();
    assert!(again["sent"].as_u64().unwrap() > 0);
    let _ = lab.run(&["verify", "--store", &to]).succeeds();

    std::fs::remove_file(&blob).unwrap();
    let gone = format!("`{to}`, pushed at {pushed}, has no blob `{layer}`");
    let _ = lab.run(&["copy", "--store", &to, "--to-oci-tar", "out.tar"]).fails(1, &[&gone]);
    assert!(!lab.path("out.tar").exists());
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let lab = lab();
    let _ = pack(&lab, "app.tar", "one");
    let store = url(&lab);
    let put = |to: &str| lab.run(&["copy", "--tar", "app.tar", "--to-store", to]);
    let read = |from: &str| lab.run(&["verify", "--store", from]);
    let _ = read(&store).fails(1, &["is not an image store: it has no `oci-layout`"]);
    lab.write("store/notes.txt", "mine");
    let _ = put(&format!("{store}:a")).fails(1, &["it has no `oci-layout`, but it holds `notes.txt`"]);
    assert_eq!(objects(&lab.path("store")).len(), 1, "nothing was written");
    lab.write("store/oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    let _ = put(&format!("{store}:a")).fails(1, &["has version `2.0.0`, expected `1.0.0`"]);
    std::fs::remove_dir_all(lab.path("store")).unwrap();
    let _ = put(&format!("{store}:a")).succeeds();
    let _ = read(&format!("{store}:b")).fails(1, &["has no image `b`; it has `a`"]);
    let none = format!("{store}:a@sha256:{}", "0".repeat(64));
    let _ = read(&none).fails(1, &["tag `a` of", "has no version `sha256:000"]);
    for (wrong, text) in [
        ("ftp://host/app:a", "does not begin with"),
        ("file://store:a", "is not absolute"),
        ("file:///x:-", "`--store`: `file:///x:-`"),
    ] {
        let _ = read(wrong).fails(2, &[text]);
    }
    let entry = objects(&lab.path("store/tags/a")).remove(0);
    let other =
        std::fs::read_to_string(&entry).unwrap().replace("\"digest\":\"sha256:", "\"digest\":\"sha256:0");
    std::fs::write(&entry, other).unwrap();
    let _ = read(&format!("{store}:a")).fails(1, &["tags/a/", "is not valid"]);
    std::fs::write(&entry, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let _ = read(&format!("{store}:a")).fails(1, &["tags/a/", "lists no image"]);
    let link = lab.path("store/index.json");
    std::fs::remove_file(&entry).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let _ = read(&store).fails(1, &["index.json"]);
}

#[test]
fn a_layout_of_another_tool_is_read_by_its_index_and_recorded_tags_are_kept() {
    let lab = lab();
    let [one, two] = ["one", "two"].map(|content| pack(&lab, &format!("{content}.tar"), content));
    let folder = lab.path("store").display().to_string();
    for (tar, tag) in [("one.tar", "x"), ("two.tar", "y")] {
        let from = format!("oci-archive:{}", lab.path(tar).display());
        let _ = testkit::readers::skopeo_copy(&from, &format!("oci:{folder}:{tag}"), &[]).success();
    }
    let store = url(&lab);
    assert!(lab.run(&["verify", "--store", &format!("{store}:y")]).succeeds().one_line().contains(&two));
    let _ = lab
        .run(&["verify", "--store", &format!("{store}:z")])
        .fails(1, &["has no image `z`; it has `x`, `y`"]);
    let _ = lab.run(&["copy", "--store", &store, "--to-store", &format!("{store}2")]).succeeds();
    let listed = lab.run(&["store", "list", &format!("{store}2"), "--json"]).succeeds().json();
    let versions: Vec<(&str, &str)> = listed["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| (version["tag"].as_str().unwrap(), version["digest"].as_str().unwrap()))
        .collect();
    assert_eq!(versions, [("x", one.as_str()), ("y", two.as_str())]);
    let two_images = ["copy", "--store", &store, "--to-store", &format!("{store}3:one")];
    let _ = lab.run(&two_images).fails(2, &["`--to-store` has a tag, but", "holds 2 images"]);
    let selected = ["copy", "--store", &store, "--select", "x", "--to-store", &format!("{store}3:one")];
    let _ = lab.run(&selected).succeeds();
}

#[test]
fn signatures_travel_with_their_image() {
    let lab = lab();
    let _ = pack(&lab, "app.tar", "one");
    lab.write("key.pem", include_str!("../../keys/p256.key"));
    lab.write("pub.pem", include_str!("../../keys/p256.pub"));
    let _ = lab.run(&["sign", "--tar", "app.tar", "--key", "key.pem"]).succeeds();
    let to = format!("{}:candidate", url(&lab));
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-store", &to]).succeeds();
    let _ =
        lab.run(&["copy", "--store", &to, "--verify-key", "pub.pem", "--to-oci-tar", "out.tar"]).succeeds();
    let _ = lab.run(&["verify", "--tar", "out.tar", "--key", "pub.pem"]).succeeds();
    let _ = lab.run(&["verify", "--store", &to, "--key", "pub.pem"]).succeeds();
}
