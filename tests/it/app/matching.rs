//! Cloud Foundry's resource matching: the unmodified cf command line sends the files that the earlier image lacks, and
//! the image is the same as if it had sent all files.

use serde_json::{Value, json};
use testkit::kpack;
use testkit::lab::{Lab, Output};
use testkit::registry::{Registry, uploads};
use testkit::tools::{run, tool};
use testkit::tree;
use testkit::zipfile::{ZipEntry, zip};

use crate::lab::lab;

/// SHA-1 of `hello`.
const HELLO: &str = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d";
/// SHA-1 of `other`.
const OTHER: &str = "d0941e68da8f38151ff86a61fc59f7c5cf9fcaa2";

fn app() -> Lab {
    let mut lines = vec![
        "f app/hello 'hello'".to_owned(),
        "f app/bin/run 755 'hello'".to_owned(),
        "f app/secret 400 'secret'".to_owned(),
        "f app/none ''".to_owned(),
        "d app/kept".to_owned(),
        "l app/link -> lib/d1/f1.js".to_owned(),
        "l app/linked -> lib".to_owned(),
        "f app/.cfignore '*.log\\n'".to_owned(),
        "f app/sub/manifest.yml 'x'".to_owned(),
    ];
    lines.extend((0..150).map(|file| format!("f app/lib/d{}/f{file}.js random:40000:{file}", file % 9)));
    lab().tree(&lines)
}

/// Matches resources as the cf command line does, with the real executable, and writes the upload to `into`.
fn upload(lab: &Lab, into: &str, image: &[&str]) -> usize {
    let _ = std::fs::remove_dir_all(lab.path(into));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/cf_upload.py");
    let mut command = tool("python3");
    let _ = command.args([script, "app", into, "--", env!("CARGO_BIN_EXE_imgrelay"), "match", "--quiet"]);
    let _ = command.args(image).current_dir(lab.work());
    let _ = run(&mut command).success();
    String::from_utf8(lab.read(&format!("{into}/requests"))).unwrap().parse().unwrap()
}

/// Pushes an upload.
fn push(lab: &Lab, upload: &str, name: &str, more: &[&str]) -> Value {
    let resources = format!("{upload}/resources.json");
    let package = format!("{upload}/package.zip");
    let mut words = vec!["push", "-s", name, "--resources", &resources, "--json"];
    if lab.path(&package).exists() {
        words.extend(["-f", &package]);
    }
    lab.run(&[&words, more].concat()).succeeds().json()
}

fn listed(lab: &Lab, upload: &str) -> usize {
    let list: Value = serde_json::from_slice(&lab.read(&format!("{upload}/resources.json"))).unwrap();
    list.as_array().unwrap().len()
}

fn resource(sha1: &str, size: u64, path: &str) -> Value {
    json!({"checksum": {"value": sha1}, "size_in_bytes": size, "path": path, "mode": "644"})
}

fn ask(lab: &Lab, image: &[&str], resources: &[Value]) -> Output {
    let request = json!({ "resources": resources }).to_string();
    lab.command(&[&["match"], image].concat()).stdin(request).run()
}

/// The digest of the app's image if everything is sent.
fn whole(lab: &Lab) -> Value {
    let words = ["push", "-s", "-f", "app", "--to-oci-tar", "whole.tar", "--json"];
    lab.run(&words).succeeds().json()["digest"].clone()
}

#[test]
fn a_partial_cf_upload_becomes_the_image_of_the_whole_app() {
    let registry = Registry::start();
    let lab = app();
    let name = format!("{}/apps/shop-packages:latest", registry.host());
    // Before the first push nothing matches, and everything is sent.
    assert_eq!(upload(&lab, "first", &["-s", &name]), 1);
    assert_eq!(listed(&lab, "first"), 0);
    let first = push(&lab, "first", &name, &[]);
    assert_eq!(first["digest"], whole(&lab));
    // One file changes, one gets a twin, one is new.
    lab.write("app/lib/d3/f3.js", "edited");
    lab.write("app/lib/d3/twin.js", lab.read("app/lib/d4/f4.js"));
    lab.write("app/new", "new");
    registry.forget_requests();
    let _ = upload(&lab, "second", &["-s", &name]);
    let reads: Vec<String> = registry.requests().iter().map(|one| one.path.clone()).collect();
    assert_eq!(reads.len(), 3, "image, list of files, and the list's layer: {reads:?}");
    assert_eq!(listed(&lab, "second"), 153, "all but the two that are new, and an empty one");
    let sent = std::fs::metadata(lab.path("second/package.zip")).unwrap().len();
    assert!(sent < 10_000, "{sent} bytes");
    assert_eq!(push(&lab, "second", &name, &[])["digest"], whole(&lab));
    // The same in many layers: kpack extracts the same files.
    let _ = upload(&lab, "third", &["-s", &name]);
    assert_eq!(listed(&lab, "third"), 155);
    let auto = push(&lab, "third", &name, &["--layers", "auto"]);
    assert!(auto["layers"].as_u64().unwrap() > 1);
    let image = ["copy", "-i", &name, "--to-oci-tar", "auto.tar"];
    let _ = lab.run(&image).succeeds();
    kpack::extract(&lab.path("whole.tar"), &lab.path("expected"));
    kpack::extract(&lab.path("auto.tar"), &lab.path("extracted"));
    assert_eq!(tree::list(&lab.path("extracted")), tree::list(&lab.path("expected")));
    // If nothing changed, nothing is stored: neither the image nor its file list.
    let _ = upload(&lab, "fourth", &["-s", &name]);
    registry.forget_requests();
    assert_eq!(push(&lab, "fourth", &name, &["--layers", "auto"])["digest"], auto["digest"]);
    assert_eq!(uploads(&registry.requests()).len(), 0);
    registry.storage().assert_sound();
    // The list's tag is imgrelay's own.
    let tags = lab.run(&["tag", "list", "-i", &format!("{}/apps/shop-packages", registry.host())]);
    assert_eq!(tags.succeeds().stdout, "latest\n");
}

#[test]
fn resource_matching_may_match_everything_and_then_there_are_no_bits() {
    let registry = Registry::start();
    let lab = lab().tree(&["f app/a 'hello'", "f app/b/c 755 'other'"]);
    let name = format!("{}/apps/small:latest", registry.host());
    let _ = upload(&lab, "first", &["-s", &name]);
    let first = push(&lab, "first", &name, &[]);
    let list = json!([resource(HELLO, 5, "a"), {"fn": "b/c", "sha1": OTHER, "size": 5, "mode": "100755"}]);
    lab.write("all/resources.json", list.to_string());
    assert_eq!(push(&lab, "all", &name, &[])["digest"], first["digest"]);
}

#[test]
fn resource_matching_without_a_file_list_reads_the_layers() {
    let registry = Registry::start();
    let lab = app();
    let name = format!("{}/apps/shop:latest", registry.host());
    let _ = lab.run(&["push", "-s", &name, "-f", "app", "--layers", "auto"]).succeeds();
    let asked = [resource(HELLO, 5, "x"), resource(OTHER, 5, "y"), resource(HELLO, 5, "z")];
    let said = ["no file list is stored for `", "`; reading its layers"];
    let answer = ask(&lab, &["-s", &name], &asked).succeeds().says(said[0]).says(said[1]).never_says("``");
    let expected = json!({"resources": [resource(HELLO, 5, "x"), resource(HELLO, 5, "z")]});
    assert_eq!(answer.json(), expected);
    // In a tar, and with the list.
    let _ = lab.run(&["copy", "-i", &name, "--to-oci-tar", "app.tar"]).succeeds();
    assert_eq!(ask(&lab, &["--tar", "app.tar"], &asked).succeeds().json(), expected);
    lab.write("none/resources.json", "[]");
    let empty = ["push", "-s", &name, "-f", "app", "--resources", "none/resources.json"];
    let _ = lab.run(&empty).fails(1, &["`app` is a folder, but a list of resources completes a zip"]);
    let _ = upload(&lab, "listed", &["-s", &name]);
    let _ = push(&lab, "listed", &name, &[]);
    let answer = ask(&lab, &["-s", &name], &asked).succeeds().never_says("reading its layers");
    assert_eq!(answer.json(), expected);
    // Only the files of this repository are matched, so a user learns nothing about another repository.
    let other = format!("{}/apps/other:latest", registry.host());
    assert_eq!(ask(&lab, &["-s", &other], &asked).succeeds().stdout, "{\"resources\":[]}\n");
}

#[test]
fn base_tar_completes_a_partial_upload_without_a_registry() {
    let lab = app();
    let _ = whole(&lab);
    std::fs::rename(lab.path("whole.tar"), lab.path("earlier.tar")).unwrap();
    lab.write("app/lib/d3/f3.js", "edited");
    let _ = upload(&lab, "up", &["--tar", "earlier.tar"]);
    let words = ["push", "-s", "-f", "up/package.zip", "--resources", "up/resources.json", "--json"];
    let to = ["--base-tar", "earlier.tar", "--to-oci-tar", "now.tar"];
    let output = lab.command(&[&words[..], &to].concat()).measured().run().succeeds();
    assert_eq!(output.json()["digest"], whole(&lab));
    assert_eq!(lab.read("now.tar"), lab.read("whole.tar"));
    let peak = output.peak_kib.unwrap();
    assert!(peak <= 64 * 1024, "{peak} KiB");
}

#[test]
fn the_file_list_is_compared_with_the_verified_content() {
    let lab = lab().tree(&["f app/a 'hello'", "f app/b 'world'"]);
    let _ = whole(&lab);
    let push = |list: &Value, more: &[&str]| {
        lab.write("r.json", list.to_string());
        let words = ["push", "-s", "--resources", "r.json", "--to-oci-tar", "x.tar"];
        lab.run(&[&words, more].concat())
    };
    let base = &["--base-tar", "whole.tar"][..];
    let _ = push(&json!([resource(HELLO, 5, "a")]), base).succeeds();
    std::fs::remove_file(lab.path("x.tar")).unwrap();
    let missing = |size: u64, sha1: &str| format!("`a` ({size} bytes, SHA-1 `{sha1}`) is in the list");
    for (size, sha1) in [(5, OTHER), (6, HELLO)] {
        let texts = [&missing(size, sha1)[..], "the earlier image in `whole.tar` has no such file"];
        let _ = push(&json!([resource(sha1, size, "a")]), base).fails(1, &texts);
    }
    let _ = push(&json!([resource(HELLO, 5, "a")]), &[]).fails(1, &["there is no earlier image"]);
    let _ = push(&json!([resource(HELLO, 5, "../a")]), base)
        .fails(2, &["`resources[0]`: `path`: `../a` leads out of the app", "`r.json`"]);
    let _ = push(&json!([]), base).fails(1, &["`r.json` has nothing that could be packed"]);
    let _ = push(&json!([resource(HELLO, 5, "a")]), &[base, &["--size-limit", "4"]].concat())
        .fails(1, &["`r.json` has more than 4 bytes"]);
    for (entry, expected) in [
        (ZipEntry::file("a", "x"), "`p.zip`: `a` is in it and in the list of resources too"),
        (ZipEntry::file("a/b", "x"), "entry `a/b` lies below `a`, which is not a folder"),
        (ZipEntry::symlink("l", "b"), "symbolic link `l` -> `b` cannot be packed: its target does not exist"),
    ] {
        lab.write("p.zip", zip(&[entry]));
        let _ =
            push(&json!([resource(HELLO, 5, "a")]), &[base, &["-f", "p.zip"]].concat()).fails(1, &[expected]);
    }
    // Files of a layer that does not match its digest are not used.
    let mut bytes = lab.read("whole.tar");
    let at = bytes.windows(4).position(|four| four == [0x1f, 0x8b, 8, 4]).unwrap();
    bytes[at + 30] ^= 1;
    lab.write("whole.tar", &bytes);
    let _ = push(&json!([resource(HELLO, 5, "a")]), base).fails(3, &["whole.tar", "does not match"]);
    assert!(!lab.path("x.tar").exists());
}

#[test]
fn a_request_that_breaks_the_rules_is_misuse() {
    let lab = lab().tree(&["f app/a 'hello'"]);
    let _ = whole(&lab);
    let raw = |text: &str| lab.command(&["match", "--tar", "whole.tar"]).stdin(text).run();
    let many = vec![resource(HELLO, 5, "a"); 5001];
    let whole = ["--tar", "whole.tar"];
    let most = ask(&lab, &whole, &many[1..]).succeeds().json();
    assert_eq!(most["resources"].as_array().unwrap().len(), 5000);
    let _ = ask(&lab, &whole, &many).fails(2, &["array can have at most 5000 resources, found 5001"]);
    let _ = ask(&lab, &whole, &[]).fails(2, &["array must have at least 1 resource"]);
    let _ = raw("").fails(2, &["the list of resources is not valid JSON"]);
    let _ = raw("\u{0}").fails(2, &["the list of resources is not valid JSON"]);
    let _ = raw(&"[".repeat(1 << 20)).fails(2, &["the list of resources is not valid JSON"]);
    let _ = raw(&format!(r#"{{"resources":{}"#, "[".repeat(1 << 20))).fails(2, &["is not valid JSON"]);
    let _ = lab.command(&["match"]).stdin("{}").run().fails(2, &["`--source`, `--tar`, `--oci-tar`"]);
}
