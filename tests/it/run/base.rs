//! Images on a base, from a tar and from registries: what is kept, what is added, and which bytes are sent.

use serde_json::{Value, json};
use testkit::registry::{Registry, Request};

use super::{BASE, Made, assert_sound, base, base_config, base_layer, make};
use crate::lab::lab;
use crate::layouts::{gzip, hex, tar_of};
use crate::samples::digest_in;

#[test]
fn an_unknown_member_of_the_bases_configuration_stays_byte_for_byte() {
    let lab = lab().tree(&["f srv 755 'x'"]);
    let layout = base(&lab);
    let made = make(&lab, &["-i", "--base-tar", "base.tar", "--env", "LANG=de", "--env", "A=b"]);
    let step = r#"{"created":"0001-01-01T00:00:00Z","created_by":"ENV LANG=de; ENV A=b # imgrelay","empty_layer":true}"#;
    let expected = base_config("amd64", &base_layer())
        .replacen("2020-01-02T03:04:05.6Z", "0001-01-01T00:00:00Z", 1)
        .replace(r#""LANG=C"]"#, r#""LANG=de","A=b"]"#)
        .replace(r#""empty_layer":true}]"#, &format!(r#""empty_layer":true}},{step}]"#));
    assert_eq!(made.config_text, expected);
    // The base's annotations are not copied; its name and digest are recorded.
    let annotations = json!({
        "org.opencontainers.image.base.name": BASE,
        "org.opencontainers.image.base.digest": layout.entries[0]["digest"],
    });
    assert_eq!(made.manifest["annotations"], annotations);
    assert_eq!(made.layers(), 1);
    assert_sound(&lab, "made.tar");
}

#[test]
fn files_go_where_links_of_the_base_lead_and_its_folders_are_not_written_again() {
    let lab = lab().tree(&["f srv 755 'x'", "f conf/a 'a'", "f conf/passwd 'p'"]);
    let _ = base(&lab);
    let made = make(&lab, &["-i", "--base-tar", "base.tar", "-f", "srv:/bin/srv", "-f", "conf:/etc"]);
    assert_eq!(made.layers(), 3);
    assert_eq!(made.layer(1), ["-rwxr-xr-x 0/0 usr/bin/srv"]);
    assert_eq!(made.layer(2), ["-rw-r--r-- 0/0 etc/a", "-rw-r--r-- 0/0 etc/passwd"]);
    let digests = made.config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(
        (digests.len(), digests[0].as_str().unwrap()),
        (3, &*format!("sha256:{}", hex(&base_layer())))
    );
    let run = |words: &[&str]| {
        lab.run(&[&["push", "-i", "--base-tar", "base.tar"], words, &["--to-oci-tar", "no.tar"]].concat())
    };
    let folder = "`srv` would put a file at `/usr/bin`, where a folder is, which is in the base";
    let _ = run(&["-f", "srv:/bin"]).fails(1, &[folder, "with `/` at the end of DEST"]);
    let file = "`conf` would put a folder at `/etc/passwd`, where a file is, which is in the base";
    let _ = run(&["-f", "conf:/etc/passwd"]).fails(1, &[file]);
    let below = "would put something below it at `/etc/passwd`, where a file is";
    let _ = run(&["-f", "srv:/etc/passwd/x"]).fails(1, &[below]);
}

#[test]
fn a_user_by_name_becomes_the_numbers_of_the_base_and_an_entrypoint_drops_cmd() {
    let lab = lab().tree(&["f srv 755 'x'"]);
    let _ = base(&lab);
    let words = ["push", "-i", "--base-tar", "base.tar", "-f", "srv:/srv", "--entrypoint", "/srv"];
    let output = lab.run(&[&words[..], &["--user", "web:staff", "--to-oci-tar", "made.tar"]].concat());
    let _ = output.succeeds().says("the new entrypoint drops the arguments of the base, [\"tool\"]");
    let config = Made::read(&lab, "made.tar").config;
    assert_eq!((&config["config"]["User"], &config["config"]["Cmd"]), (&json!("33:50"), &Value::Null));
    assert_eq!(config["config"]["Labels"], json!({"b": "1", "a": "<2>"}), "labels are inherited");
}

#[test]
fn a_damaged_base_is_refused_and_leaves_nothing() {
    let lab = lab().tree(&["f srv 755 'x'"]);
    let mut files = base(&lab).files();
    let layer = hex(&gzip(&base_layer()));
    for (_, bytes) in files.iter_mut().filter(|(name, _)| name.ends_with(&layer)) {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    lab.write("base.tar", tar_of(&files));
    let words = ["push", "-i", "--base-tar", "base.tar", "-f", "srv:/srv", "--to-oci-tar", "made.tar"];
    let _ = lab.run(&words).ends_with(3);
    assert!(!lab.path("made.tar").exists());
}

#[test]
fn a_base_in_the_same_registry_is_mounted_and_only_new_bytes_are_sent() {
    let lab = lab().tree(&["f srv 755 random:100000:1", "f conf/a 'a'"]);
    let _ = base(&lab);
    let registry = Registry::start();
    let name = |text: &str| format!("{}/{text}", registry.host());
    let _ = lab.run(&["copy", "--tar", "base.tar", "--to-repo", &name("os/base:v1")]).succeeds();
    registry.forget_requests();
    let words = ["push", "-i", &name("team/app:v1"), "--base", &name("os/base:v1"), "-f", "srv:/bin/srv"];
    let digest = digest_in(lab.run(&words).succeeds().one_line()).to_owned();
    let requests = registry.requests();
    // One layer and one configuration are uploaded; the base's layer is mounted.
    let is_sent = |request: &&Request| request.method == "PUT" && request.path.contains("/blobs/uploads/");
    let is_mounted = |request: &&Request| request.query.contains("mount=") && request.status == 201;
    let count = |what: fn(&&Request) -> bool| requests.iter().filter(what).count();
    assert_eq!((count(is_sent), count(is_mounted)), (2, 1), "{requests:#?}");
    let storage = registry.storage();
    storage.assert_sound();
    let base_layer = format!("sha256:{}", hex(&gzip(&base_layer())));
    assert!(storage.layers("team/app").contains(&base_layer));
    let manifest: Value = serde_json::from_slice(&storage.manifest("team/app", "v1").unwrap()).unwrap();
    let annotations = &manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.base.name"], name("os/base:v1"));
    assert_eq!(annotations["org.opencontainers.image.base.digest"], storage.tags("os/base")["v1"]);
    // The same image in a tar: from the registry, and from the tar of the base, except for the base's name.
    let to_tar = |words: &[&str]| digest_in(lab.run(words).succeeds().one_line()).to_owned();
    let from_registry = to_tar(&[&["push", "-i", "x/y"], &words[3..], &["--to-oci-tar", "a.tar"]].concat());
    assert_eq!(from_registry, digest);
    registry.forget_requests();
    let words = ["push", "-i", &name("team/app:v2"), "--base", &name("os/base:v1"), "--env", "A=b"];
    let _ = lab.run(&words).succeeds();
    let fetched = |request: &&Request| request.method == "GET" && request.path.contains(&base_layer);
    let requests = registry.requests();
    assert_eq!(requests.iter().filter(fetched).count(), 0, "a layer that nothing is put on is not fetched");
}

#[test]
fn a_base_that_is_not_read_is_not_fetched_and_keeps_its_folders() {
    let lab = lab().tree(&["f srv 755 'x'", "f conf/a 'a'"]);
    let _ = base(&lab);
    // `/usr/bin` has the mode 0700 in the base: a folder entry in the new layer would change that.
    let words = ["-i", "--base-tar", "base.tar", "--read-base=false", "-f", "srv:/usr/bin/srv"];
    let made = make(&lab, &[&words[..], &["-f", "conf:/app/conf", "--entrypoint", "/usr/bin/srv"]].concat());
    assert_eq!(made.layer(1), ["-rwxr-xr-x 0/0 usr/bin/srv"]);
    assert_eq!(made.layer(2), ["drwxr-xr-x 0/0 app/conf", "-rw-r--r-- 0/0 app/conf/a"]);
    assert_sound(&lab, "made.tar");
    let refused = |more: &[&str], code: i32, text: &str| {
        let words = ["push", "-i", "--base-tar", "base.tar", "--read-base=false"];
        let _ = lab.run(&[&words[..], more, &["--to-oci-tar", "no.tar"]].concat()).fails(code, &[text]);
    };
    for place in ["/bin/srv", "/lib64/x", "/var/run/x", "/sbin/"] {
        refused(&["-f", &format!("srv:{place}")], 1, "which is a link in many bases");
    }
    refused(&["--user", "web"], 2, "`--user` needs numbers with `--read-base=false`");
    let no_base = ["push", "-i", "-f", "srv:/srv", "--read-base=false", "--to-oci-tar", "no.tar"];
    let _ = lab.run(&no_base).fails(2, &["`--read-base` works with `--base` or `--base-tar` only"]);

    let registry = Registry::start();
    let name = |text: &str| format!("{}/{text}", registry.host());
    let _ = lab.run(&["copy", "--tar", "base.tar", "--to-repo", &name("os/base:v1")]).succeeds();
    registry.forget_requests();
    let words = ["push", "-i", &name("team/app:v1"), "--base", &name("os/base:v1"), "--read-base=false"];
    let output = lab.run(&[&words[..], &["-f", "srv:/usr/bin/srv", "-f", "conf:/app/conf"]].concat());
    let _ = output.succeeds();
    let layer = format!("sha256:{}", hex(&gzip(&base_layer())));
    let of_layer = |request: &&Request| request.path.contains(&layer) && request.method == "GET";
    assert_eq!(registry.requests().iter().filter(of_layer).count(), 0, "it is mounted, not fetched");
    registry.storage().assert_sound();
}

#[test]
fn dockers_media_types_stay_dockers() {
    let lab = lab().tree(&["f srv 755 'x'", "f d/a 'a'"]);
    let _ = lab
        .run(&["push", "-i", "r.example/b:v1", "-f", "d", "--media-types", "docker", "--to-oci-tar", "b.tar"])
        .succeeds();
    let made = make(&lab, &["-i", "--base-tar", "b.tar", "-f", "srv:/srv"]);
    assert_eq!(made.manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(made.manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    let types: Vec<&Value> =
        made.manifest["layers"].as_array().unwrap().iter().map(|l| &l["mediaType"]).collect();
    assert_eq!(types, ["application/vnd.docker.image.rootfs.diff.tar.gzip"; 2]);
    assert_eq!(made.manifest["annotations"], Value::Null, "docker's manifest has no place for them");
    let words =
        ["push", "-i", "--base-tar", "b.tar", "--media-types", "oci", "--cmd", "x", "--to-oci-tar", "x"];
    let _ = lab.run(&words).fails(1, &["the base has docker media types, but oci ones were asked for"]);
}

#[test]
fn the_meaning_of_base_for_an_app_stays() {
    let lab = lab().tree(&["f srv 755 'x'"]);
    let _ = base(&lab);
    let words = ["push", "-s", "-f", "srv", "--base-tar", "base.tar", "--to-oci-tar", "x.tar"];
    let _ = lab.run(&words).fails(2, &["`--base-tar` works with `--layers auto` or `--resources` only"]);
}
