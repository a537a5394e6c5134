//! `pull --force`: what is removed of the old folder, and what stops it; and layers that a tar was written without.

use serde_json::json;
use testkit::tarball::Tarball;

use crate::lab::{Lab, lab};
use crate::layouts::{CONFIG, Layout, MANIFEST, REF_NAME, descriptor, hex, named};

const FORCED: [&str; 6] = ["pull", "--tar", "image.tar", "-o", "out", "--force"];

fn room() -> Lab {
    let lab = lab().tree(&["d out", "f out/old 644 'old'"]);
    lab.write("image.tar", Layout::simple().tar());
    lab
}

#[test]
fn pull_force_refuses_a_folder_with_a_mount_inside_before_it_touches_anything() {
    let lab = room();
    let volume = lab.path("out/volume");
    let output = lab.command(&FORCED).small_disk(&volume, "64k").run();
    let text = format!("`{}`", volume.display());
    let _ = output.fails(1, &["out", &text, "hint: unmount it, or choose another folder"]);
    assert_eq!(lab.read("out/old"), b"old");
    assert!(!lab.path("out/d").exists());
}

#[test]
fn pull_force_of_an_ordinary_user_removes_folders_without_permissions() {
    let lab = room().tree(&["f out/locked/deep/file 444 'x'", "d out/locked/deep 555", "d out/locked 555"]);
    let _ = lab.command(&FORCED).as_ordinary_user().run().succeeds().never_says("warning");
    assert_eq!(lab.read("out/d/hello"), b"hello\n");
    assert!(!lab.path("out/old").exists() && !lab.path("out/locked").exists());
}

#[test]
fn a_layer_that_a_tar_was_written_without_is_named_with_its_urls_and_the_flag() {
    let lab = lab();
    let layer = Tarball::new().file("f", "x").finish();
    let mut layout = Layout::default();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]}});
    let config = layout.blob(CONFIG, config.to_string());
    let mut foreign = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar", &layer);
    foreign["urls"] = json!(["https://layers.example/base?sig=hidden", "https://ci:hidden@layers.example/b"]);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [foreign]});
    let image = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(named(image, &[(REF_NAME, "v1")]));
    lab.write("image.tar", layout.tar());
    for words in [&["pull", "-o", "no"][..], &["ls"], &["cat", "f"]] {
        let output = lab.run(&[words, &["--tar", "image.tar"]].concat());
        let layer = format!("`image.tar` was written without layer `sha256:{}`", hex(&layer));
        let _ = output
            .fails(1, &[&layer, "its `urls` name `https://layers.example/base?sig=***`, `layers.example/b`"])
            .says("hint: the tar needs `--include-non-distributable-layers` when it is written")
            .never_says("hidden");
    }
}
