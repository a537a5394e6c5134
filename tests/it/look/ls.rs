//! `ls` lists the files that a container would see, and the layer of each file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use testkit::lab::{Lab, Output};
use testkit::readers;
use testkit::registry::Registry;
use testkit::tarball::Tarball;
use testkit::tree;

use super::stacks;
use crate::lab::lab;
use crate::layouts::{Layout, REF_NAME, named};

fn room() -> Lab {
    let lab = lab();
    stacks::write(&lab, "app.tar", &stacks::three());
    lab
}

/// Returns the lines of a list.
fn lines(output: &Output) -> Vec<String> {
    output.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn ls_shows_the_merged_tree_in_lines_like_those_of_ls() {
    let lab = room();
    let listed = lab.run(&["ls", "--tar", "app.tar"]).succeeds();
    let expected = "\
drwxr-xr-x 0 0    0 1970-01-01 00:00 #1 /etc
lrwxrwxrwx 0 0    0 1970-01-01 00:00 #1 /etc/alias -> /etc/os-release
-rw------- 0 0    8 1970-01-01 00:00 #3 /etc/os-release
lrwxrwxrwx 0 0    0 1970-01-01 00:00 #1 /etc/out -> ../../../etc/os-release
-rw-r--r-- 0 0 3000 1970-01-01 00:00 #2 /app2
lrwxrwxrwx 0 0    0 1970-01-01 00:00 #1 /bin -> usr/bin
-rw-r--r-- 0 0    3 1970-01-01 00:00 #3 /odd\\n\\u{1b}[31m
drwxr-xr-x 0 0    0 1970-01-01 00:00 #3 /old
-rw-r--r-- 0 0    3 1970-01-01 00:00 #3 /old/new
drwxr-xr-x 0 0    0 1970-01-01 00:00 #1 /usr
drwxr-xr-x 0 0    0 1970-01-01 00:00 #1 /usr/bin
-rw-r--r-- 0 0 3000 1970-01-01 00:00 #2 /usr/bin/app
-rwsr-xr-x 0 0    5 1970-01-01 00:00 #1 /usr/bin/sh
";
    let mut expected: Vec<&str> = expected.lines().collect();
    expected.sort_by_key(|line| line.split(" /").nth(1).map(str::to_owned));
    assert_eq!(lines(&listed), expected);
    // A path, a path through a link, the link itself, and its target.
    let paths = |words: &[&str]| -> Vec<String> {
        let output = lab.run(&[&["ls", "-q", "--tar", "app.tar"], words].concat()).succeeds();
        lines(&output).iter().map(|line| line.split(" /").nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(paths(&["/old"]), ["old", "old/new"]);
    assert_eq!(paths(&["bin/app"]), ["usr/bin/app"]);
    assert_eq!(paths(&["/bin"]), ["bin -> usr/bin"]);
    assert_eq!(paths(&["/bin/"]), ["usr/bin", "usr/bin/app", "usr/bin/sh"]);
    assert_eq!(paths(&["/etc/..", "--layer", "2"]), ["app2", "usr/bin/app"]);
    assert_eq!(paths(&["--largest", "3"]), ["app2", "usr/bin/app", "etc/os-release"]);
    assert_eq!(paths(&["--largest", "1", "/usr/bin"]), ["usr/bin/app"]);
}

#[test]
fn ls_as_json_has_the_layers_and_every_field() {
    let lab = room();
    let found = lab.run(&["ls", "--json", "--tar", "app.tar", "/etc"]).succeeds().json();
    assert_eq!(found["layers"].as_array().unwrap().len(), 3);
    assert_eq!(found["layers"][2]["number"], 3);
    let alias = json!({"path": "/etc/alias", "type": "symlink", "mode": "0777", "uid": 0, "gid": 0, "size": 0,
        "mtime": 0, "layer": 1, "target": "/etc/os-release"});
    assert_eq!(found["files"][1], alias);
    assert_eq!(found["files"][2]["mode"], "0600");
    let odd = lab.run(&["ls", "--json", "--tar", "app.tar", "odd\n\u{1b}[31m"]).succeeds();
    assert_eq!(odd.json()["files"][0]["path"], "/odd\n\u{1b}[31m");
    let _ = odd.never_says("\u{1b}");
}

#[test]
fn ls_reads_registries_folders_and_one_platform_of_an_index() {
    let lab = room();
    let registry = Registry::start();
    let name = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &name]).succeeds();
    let of_tar = lab.run(&["ls", "--json", "--tar", "app.tar"]).succeeds();
    let of_registry = lab.run(&["ls", "--json", "-i", &name]).succeeds();
    assert_eq!(of_tar.json(), of_registry.json());
    readers::gnu_untar(&lab.path("app.tar"), &lab.path("layout"));
    assert_eq!(lab.run(&["ls", "--json", "--oci-tar", "layout"]).succeeds().json(), of_tar.json());

    let mut layout = Layout::default();
    let of = |architecture: &str| vec![Tarball::new().file(architecture, "x").finish()];
    let mut images = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let mut image = layout.image_for(architecture, &of(architecture));
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        images.push(image);
    }
    let index = json!({"schemaVersion": 2, "mediaType": crate::layouts::INDEX, "manifests": images});
    let index = layout.blob(crate::layouts::INDEX, index.to_string());
    layout.entries.push(named(index, &[(REF_NAME, "v1")]));
    lab.write("all.tar", layout.tar());
    let first = lab.run(&["ls", "--tar", "all.tar"]).succeeds();
    assert!(first.stdout.ends_with(" /amd64\n"), "{first}");
    let other = lab.run(&["ls", "--tar", "all.tar", "--platform", "linux/arm64"]).succeeds();
    assert!(other.stdout.ends_with(" /arm64\n"), "{other}");
    let _ = lab.run(&["ls", "--tar", "all.tar", "--platform", "linux/s390x"]).fails(1, &["linux/amd64"]);
}

#[test]
fn ls_says_what_is_not_there() {
    let lab = room();
    let run = |words: &[&str]| lab.run(&[&["ls", "--tar", "app.tar"], words].concat());
    let _ = run(&["/gone"]).fails(1, &["the image in `app.tar` has no `/gone`"]);
    let _ = run(&["--layer", "4"]).fails(1, &["`--layer 4`: the image in `app.tar` has 3 layers"]);
    let _ = run(&["--largest", "no"]).fails(2, &["`--largest`: `no` is not a whole number from 1"]);
    stacks::write(&lab, "loop.tar", &[Tarball::new().symlink("a", "b").symlink("b", "a").finish()]);
    let _ = lab.run(&["ls", "--tar", "loop.tar", "a/x"]).fails(1, &["more than 40 links"]);
    // A layer that does not match its digest gives no list.
    let mut bytes = lab.read("app.tar");
    let at = bytes.windows(4).position(|four| four == [0x1f, 0x8b, 8, 0]).unwrap();
    bytes[at + 40] ^= 1;
    lab.write("bad.tar", bytes);
    let bad = lab.run(&["ls", "--tar", "bad.tar"]);
    assert_eq!((bad.code == Some(0), bad.stdout.as_str()), (false, ""), "{bad}");
}

/// One line for each file: type, path, and size or target.
fn listed(output: &Value) -> BTreeMap<String, String> {
    let line = |file: &Value| {
        let what = match file["type"].as_str().unwrap() {
            "file" => format!("file {}", file["size"]),
            "symlink" => format!("link {}", file["target"].as_str().unwrap()),
            other => other.to_owned(),
        };
        (file["path"].as_str().unwrap().to_owned(), what)
    };
    output["files"].as_array().unwrap().iter().map(line).collect()
}

fn unpacked(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("/{}", entry.path().strip_prefix(root).unwrap().display());
            let kind = entry.file_type().unwrap();
            let what = if kind.is_dir() {
                folders.push(entry.path());
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("link {}", entry.path().read_link().unwrap().display())
            } else {
                format!("file {}", entry.metadata().unwrap().len())
            };
            found.insert(path, what);
        }
    }
    found
}

#[test]
fn ls_agrees_with_what_umoci_and_pull_unpack_of_stacks_made_by_chance() {
    let lab = lab();
    for seed in 0..24 {
        println!("layers of seed {seed}");
        stacks::write(&lab, "app.tar", &stacks::by_chance(seed));
        let found = listed(&lab.run(&["ls", "--json", "--tar", "app.tar"]).succeeds().json());
        let by_umoci = readers::umoci_unpack(&lab.path("app.tar"), "v1", &lab.path(format!("umoci-{seed}")));
        assert_eq!(found, unpacked(&by_umoci), "umoci, seed {seed}");
        let _ = lab.run(&["pull", "--tar", "app.tar", "-o", "out", "--force"]).succeeds();
        assert_eq!(found, unpacked(&lab.path("out")), "pull, seed {seed}");
        let contents = tree::list_contents(&lab.path("out"));
        assert_eq!(contents, tree::list_contents(&by_umoci), "seed {seed}");
    }
}
