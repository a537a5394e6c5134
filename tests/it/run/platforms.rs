//! Bases for several platforms: an image for each, under an index, with files of its own.

use serde_json::{Value, json};

use super::{Made, add_base, assert_sound, name_base};
use crate::lab::{Lab, lab};
use crate::layouts::{INDEX, Layout, MANIFEST, named};
use crate::samples::json_blob;

/// Writes `base.tar` with an index of amd64, arm64, Windows and an attestation; returns the index's digest.
fn index_base(lab: &Lab) -> String {
    let mut layout = Layout::default();
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let mut image = add_base(&mut layout, architecture);
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(image);
    }
    let mut windows = add_base(&mut layout, "amd64");
    windows["platform"] = json!({"os": "windows", "architecture": "amd64"});
    entries.push(windows);
    let attestation = add_base(&mut layout, "riscv64");
    let subject = entries[0]["digest"].as_str().unwrap().to_owned();
    let mut attestation = named(
        attestation,
        &[("vnd.docker.reference.type", "attestation-manifest"), ("vnd.docker.reference.digest", &subject)],
    );
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entries.push(attestation);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = layout.blob(INDEX, index.to_string());
    let digest = index["digest"].as_str().unwrap().to_owned();
    layout.entries.push(name_base(index));
    // The images for Linux and for Windows differ only in their platform.
    layout.blobs.sort();
    layout.blobs.dedup();
    lab.write("base.tar", layout.tar());
    digest
}

fn programs() -> Lab {
    lab().tree(&["f out/amd64/srv 755 'amd'", "f out/arm64/srv 755 'arm'", "f conf/a 'a'"])
}

fn push(lab: &Lab, words: &[&str]) -> testkit::lab::Output {
    lab.run(
        &[&["push", "-i", "r.example/a:v1", "--base-tar", "base.tar"], words, &["--to-oci-tar", "made.tar"]]
            .concat(),
    )
}

/// Returns platform and image of each entry of the index in `made.tar`.
fn images(lab: &Lab) -> Vec<(String, Made)> {
    let whole = Made::read(lab, "made.tar");
    let image = |entry: &Value| {
        let platform = &entry["platform"];
        let name =
            format!("{}/{}", platform["os"].as_str().unwrap(), platform["architecture"].as_str().unwrap());
        (name, Made::of(lab.read("made.tar"), entry["digest"].as_str().unwrap().to_owned()))
    };
    whole.manifest["manifests"].as_array().unwrap().iter().map(image).collect()
}

#[test]
fn an_index_gives_an_index_with_the_files_of_each_platform() {
    let lab = programs();
    let base = index_base(&lab);
    let files = ["linux/amd64=out/amd64/srv:/srv", "linux/arm64=out/arm64/srv:/srv", "conf:/etc/app"];
    let words = files.iter().flat_map(|files| ["-f", files]).chain(["--entrypoint", "/srv"]);
    let _ = push(&lab, &words.collect::<Vec<_>>()).succeeds();
    let images = images(&lab);
    let names: Vec<&str> = images.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["linux/amd64", "linux/arm64"]);
    let [amd, arm] = [&images[0].1, &images[1].1];
    assert_eq!((amd.layers(), arm.layers()), (3, 3));
    assert_ne!(amd.manifest["layers"][1], arm.manifest["layers"][1]);
    assert_eq!(amd.manifest["layers"][2], arm.manifest["layers"][2], "what is the same is one layer");
    assert_eq!(arm.config["architecture"], "arm64");
    let whole = Made::read(&lab, "made.tar");
    assert_eq!(whole.manifest["annotations"]["org.opencontainers.image.base.digest"], base);
    assert_eq!(amd.manifest["annotations"]["org.opencontainers.image.base.digest"], base);
    assert_sound(&lab, "made.tar");
}

#[test]
fn every_platform_that_can_have_files_is_made_unless_it_is_narrowed() {
    let lab = programs();
    let _ = index_base(&lab);
    let _ = push(&lab, &["-f", "conf:/etc/app"])
        .succeeds()
        .says("no image was made for `windows/amd64`, which the base has too");
    assert_eq!(images(&lab).len(), 2);
    let _ = push(&lab, &["-f", "conf:/etc/app", "--platform", "linux/arm64"]).succeeds();
    let made = Made::read(&lab, "made.tar");
    assert_eq!(
        (&made.manifest["mediaType"], &made.config["architecture"]),
        (&json!(MANIFEST), &json!("arm64"))
    );
    let _ = push(&lab, &["-f", "conf:/x", "--platform", "windows/amd64"]).fails(1, &["it is for Windows"]);
    let _ =
        push(&lab, &["-f", "linux/s390x=conf:/x"]).fails(1, &["no image for `linux/s390x`", "linux/arm64"]);
}

#[test]
fn files_for_platforms_make_an_index_from_scratch_too() {
    let lab = programs();
    let words = ["push", "-i", "-f", "linux/amd64=out/amd64/srv:/srv,linux/arm/v7=out/arm64/srv:/srv"];
    let _ = lab.run(&[&words[..], &["--to-oci-tar", "made.tar"]].concat()).succeeds();
    let images = images(&lab);
    let names: Vec<&str> = images.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["linux/amd64", "linux/arm"]);
    let index = Made::read(&lab, "made.tar");
    let tar = lab.read("made.tar");
    let arm = json_blob(&tar, index.manifest["manifests"][1]["digest"].as_str().unwrap());
    let config = json_blob(&tar, arm["config"]["digest"].as_str().unwrap());
    assert_eq!(config["variant"], "v7");
}
