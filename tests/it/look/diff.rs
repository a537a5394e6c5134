//! `diff` reports the differences of two images, and fails if an image grew more than is allowed.

use serde_json::{Value, json};
use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::tarball::{Header, Tarball};
use testkit::tree;

use super::stacks;
use crate::lab::lab;
use crate::layouts::{INDEX, Layout, REF_NAME, named};

fn base() -> Vec<u8> {
    Tarball::new()
        .dir("etc/")
        .file("etc/passwd", "root")
        .file("gone", "12345")
        .symlink("sh", "bin/sh")
        .finish()
}

/// Two images on one base; in the second, files of the base are replaced and removed.
fn room() -> Lab {
    let lab = lab();
    let old = Tarball::new().file("app", [1; 100]).file("same", "s").file("tool", "t");
    let new = Tarball::new()
        .file("app", [2; 100])
        .file("same", "s")
        .entry(&Header::new("tool", b'0', 1).mode(0o755), b"t")
        .file("etc/passwd", "root+")
        .file(".wh.gone", "")
        .file("large", [3; 5000]);
    stacks::write(&lab, "old.tar", &[base(), old.finish()]);
    stacks::write(&lab, "new.tar", &[base(), new.finish()]);
    lab
}

/// Path, kind of change, growth and differing properties of each file.
fn changes(image: &Value) -> Vec<Value> {
    let change = |one: &Value| json!([one["path"], one["change"], one["growth"], one["what"]]);
    image["changes"].as_array().unwrap().iter().map(change).collect()
}

fn expected() -> Vec<Value> {
    vec![
        json!(["/large", "added", 5000, []]),
        json!(["/gone", "removed", -5, []]),
        json!(["/etc/passwd", "changed", 1, ["content"]]),
        json!(["/app", "changed", 0, ["content"]]),
        json!(["/tool", "changed", 0, ["mode"]]),
    ]
}

#[test]
fn diff_has_a_summary_and_the_changes_largest_first() {
    let lab = room();
    let shown = lab.run(&["diff", "old.tar", "new.tar"]).ends_with(3).says("the images differ");
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert!(
        lines[0].starts_with("old: old.tar@sha256:") && lines[1].starts_with("new: new.tar@sha256:"),
        "{shown}"
    );
    assert!(lines[2].starts_with("linux/amd64: ") && lines[2].contains(" as stored (+"), "{shown}");
    assert!(lines[3].starts_with("  layers: 1 (") && lines[3].contains("shared, 1 ("), "{shown}");
    assert_eq!(lines[4], "  files: 1 (+4.9 KiB) added, 1 (-5 B) removed, 3 (+1 B) changed");
    assert_eq!(
        lines[7..],
        [
            "  + file /large +4.9 KiB",
            "  - file /gone -5 B",
            "  ~ file /etc/passwd +1 B (content)",
            "  ~ file /app (content)",
            "  ~ file /tool (mode 0644 -> 0755)",
        ]
    );
    let some = lab.run(&["diff", "old.tar", "new.tar", "--largest", "2"]).ends_with(3);
    assert!(some.stdout.ends_with("  - file /gone -5 B\n  … and 3 files more\n"), "{some}");
    let same = lab.run(&["diff", "old.tar", "old.tar"]).succeeds();
    assert!(same.stdout.contains("\nlinux/amd64: the same, "), "{same}");
    let quiet = lab.run(&["diff", "-q", "old.tar", "new.tar"]).ends_with(3);
    assert_eq!(quiet.stdout, "");
    assert_eq!(lab.run(&["diff", "-q", "old.tar", "old.tar"]).succeeds().stdout, "");
}

#[test]
fn diff_as_json_is_the_same_from_tars_folders_and_registries_and_in_both_directions() {
    let lab = room();
    let registry = Registry::start();
    let name = |tag: &str| format!("{}/team/app:{tag}", registry.host());
    for tag in ["old", "new"] {
        let _ = lab.run(&["copy", "--tar", &format!("{tag}.tar"), "--to-repo", &name(tag)]).succeeds();
    }
    let json = |words: &[&str]| lab.run(&[&["diff", "--json"], words].concat()).ends_with(3).json();
    let of_tars = json(&["old.tar", "new.tar"]);
    assert_eq!(of_tars["identical"], false);
    let image = &of_tars["images"][0];
    assert_eq!(changes(image), expected());
    assert_eq!(image["files"]["changed"], json!({"count": 3, "bytes": 1}));
    assert_eq!(image["changes"][4]["new"]["mode"], "0755");
    assert_eq!(image["changes"][3]["old"]["sha256"], crate::layouts::hex(&[1; 100]));
    // Layers that the tar has are not read from the registry.
    let mixed = json(&["-i", &name("old"), "--tar", "new.tar"]);
    assert_eq!(mixed["images"], of_tars["images"]);
    let remote = json(&["-i", &name("old"), "-i", &name("new")]);
    assert_eq!(remote["images"], of_tars["images"], "a whiteout needs the layers below it");
    let back = json(&["--tar", "new.tar", "-i", &name("old")]);
    let paths: Vec<Value> = changes(&back["images"][0]).iter().map(|one| json!([one[0], one[2]])).collect();
    let reverse = |one: &Value| json!([one[0], -one[2].as_i64().unwrap()]);
    assert_eq!(paths, expected().iter().map(reverse).collect::<Vec<_>>());
}

#[test]
fn diff_fetches_the_common_layers_only_with_read_shared_layers() {
    let lab = lab();
    let registry = Registry::start();
    let top = |content: &str| Tarball::new().file("app", content).file("etc/passwd", content).finish();
    for (tag, content) in [("v1", "1"), ("v2", "22")] {
        stacks::write(&lab, "x.tar", &[base(), top(content)]);
        let name = format!("{}/team/app:{tag}", registry.host());
        let _ = lab.run(&["copy", "--tar", "x.tar", "--to-repo", &name]).succeeds();
    }
    let name = |tag: &str| format!("{}/team/app:{tag}", registry.host());
    let words = ["diff", "--json", "-i", &name("v1"), "-i", &name("v2")];
    let layer = crate::layouts::gzip(&base());
    let base_digest = format!("sha256:{}", crate::layouts::hex(&layer));
    let fetched = || {
        let requests = registry.requests();
        requests.iter().any(|one| one.method == "GET" && one.path.contains(&base_digest))
    };
    registry.forget_requests();
    let found = lab.run(&words).ends_with(3).json();
    assert!(!fetched(), "the base was fetched");
    assert_eq!(found["images"][0]["files"]["sharedLayersRead"], false);
    assert_eq!(changes(&found["images"][0]).len(), 2);
    let text = lab.run(&["diff", "-i", &name("v1"), "-i", &name("v2")]).ends_with(3);
    assert!(text.stdout.contains("the shared layers were not read"), "{text}");
    registry.forget_requests();
    let all = lab.run(&[&words[..], &["--read-shared-layers"]].concat()).ends_with(3).json();
    assert!(fetched(), "the base was not fetched");
    assert_eq!(all["images"][0]["files"]["sharedLayersRead"], true);
}

#[test]
fn max_growth_fails_an_image_that_grew_too_much() {
    let lab = room();
    let run = |old: &str, new: &str, most: &str| lab.run(&["diff", old, new, "--max-growth", most]);
    let _ = run("old.tar", "new.tar", "0%")
        .ends_with(3)
        .says("`linux/amd64` grew by ")
        .says("at most 0 % is accepted");
    let _ = run("old.tar", "new.tar", "1").ends_with(3).says("at most 1 B is accepted");
    let accepted = run("old.tar", "new.tar", "400%").succeeds();
    assert!(accepted.stdout.contains("+ file /large"), "{accepted}");
    let _ = run("old.tar", "new.tar", "1MiB").succeeds();
    let _ = run("new.tar", "old.tar", "0%").succeeds();
    let _ = run("new.tar", "old.tar", "ten").fails(2, &["`ten` is neither a percentage"]);
    let quiet = lab.run(&["diff", "-q", "old.tar", "new.tar", "--max-growth", "0%"]).ends_with(3);
    assert_eq!(quiet.stdout, "");
}

/// An index of images for these processors, each with one file.
fn index(lab: &Lab, tar: &str, images: &[(&str, &str)]) {
    let mut layout = Layout::default();
    let mut children = Vec::new();
    for (architecture, content) in images {
        // The images share no blob.
        let content = format!("{content}-{architecture}");
        let mut image = layout.image_for(architecture, &[Tarball::new().file("f", content).finish()]);
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        children.push(image);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    let index = layout.blob(INDEX, index);
    layout.entries.push(named(index, &[(REF_NAME, "v1")]));
    lab.write(tar, layout.tar());
}

#[test]
fn diff_compares_indexes_platform_by_platform() {
    let lab = lab();
    index(&lab, "old.tar", &[("amd64", "1"), ("arm64", "1"), ("s390x", "1")]);
    index(&lab, "new.tar", &[("arm64", "22"), ("amd64", "1"), ("riscv64", "1")]);
    let found = lab.run(&["diff", "--json", "old.tar", "new.tar"]).ends_with(3).json();
    let status = |image: &Value| json!([image["platform"], image["status"]]);
    let all: Vec<Value> = found["images"].as_array().unwrap().iter().map(status).collect();
    assert_eq!(
        all,
        [
            json!(["linux/arm64", "changed"]),
            json!(["linux/amd64", "same"]),
            json!(["linux/riscv64", "added"]),
            json!(["linux/s390x", "removed"]),
        ]
    );
    let _ = lab.run(&["diff", "old.tar", "new.tar", "--platform", "linux/amd64"]).succeeds();
    let text = lab.run(&["diff", "old.tar", "new.tar", "--platform", "linux/arm64"]).ends_with(3);
    assert!(text.stdout.ends_with("  ~ file /f +1 B (content)\n"), "{text}");
    stacks::write(&lab, "one.tar", &[Tarball::new().file("f", "1-amd64").finish()]);
    let one = lab.run(&["diff", "--json", "old.tar", "one.tar"]).ends_with(3).json();
    assert_eq!(one["images"][0]["status"], "same", "the platform of the one image is compared");
}

#[test]
fn diff_agrees_with_what_is_unpacked_of_stacks_made_by_chance() {
    let lab = lab();
    for seed in 0..16 {
        println!("layers of seed {seed}");
        stacks::write(&lab, "old.tar", &stacks::by_chance(seed));
        stacks::write(&lab, "new.tar", &stacks::by_chance(seed + 1000));
        let listed = |tar: &str| {
            let _ = lab.run(&["pull", "--tar", tar, "-o", "out", "--force"]).succeeds();
            tree::list_contents(&lab.path("out"))
        };
        let (old, new) = (listed("old.tar"), listed("new.tar"));
        // Lines about a path that differ between the sides, or that only one side has.
        let path = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
        let lines = old.lines().filter(|line| !new.lines().any(|other| other == *line));
        let others = new.lines().filter(|line| !old.lines().any(|other| other == *line));
        let mut expected: Vec<String> = lines.chain(others).map(path).collect();
        expected.sort();
        expected.dedup();
        let output = lab.run(&["diff", "--json", "old.tar", "new.tar"]);
        let found = output.json();
        let of_path = |one: &Value| one["path"].as_str().unwrap().trim_start_matches('/').to_owned();
        let none = Vec::new();
        let mut found: Vec<String> =
            found["images"][0]["changes"].as_array().unwrap_or(&none).iter().map(of_path).collect();
        found.sort();
        assert_eq!(found, expected, "seed {seed}");
    }
}
