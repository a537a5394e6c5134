//! `push -i` of images that run: from scratch, on a base, for several platforms, and what other programs make of them.

pub(crate) mod base;
pub(crate) mod checks;
pub(crate) mod other_builders;
pub(crate) mod platforms;
pub(crate) mod rebase;
pub(crate) mod scratch;

use std::process::Command;

use serde_json::{Value, json};
use testkit::lab::Lab;
use testkit::tarball::{Header, Tarball};

use crate::layouts::{
    CONFIG, CONTAINERD_NAME, LAYER_GZIP, Layout, MANIFEST, REF_NAME, descriptor, gzip, hex, named,
};
use crate::samples::{blob, digest_in, entry, json_blob};

/// The name recorded in the tar of [`base`].
pub(crate) const BASE: &str = "reg.example/os/base:v1";

/// An image in a tar.
pub(crate) struct Made {
    tar: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    pub(crate) config_text: String,
}

impl Made {
    /// Reads the one image of a layout tar.
    #[track_caller]
    pub(crate) fn read(lab: &Lab, tar: &str) -> Self {
        let bytes = lab.read(tar);
        let index: Value = serde_json::from_slice(entry(&bytes, "index.json")).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        Self::of(bytes, digest)
    }

    /// Reads an image of a layout tar by its digest.
    #[track_caller]
    pub(crate) fn of(tar: Vec<u8>, digest: String) -> Self {
        let manifest = json_blob(&tar, &digest);
        let config = manifest["config"]["digest"].as_str().map(|digest| blob(&tar, digest).to_vec());
        let config_text = String::from_utf8(config.unwrap_or_else(|| b"null".to_vec())).unwrap();
        let config = serde_json::from_str(&config_text).unwrap();
        Self { tar, digest, manifest, config, config_text }
    }

    /// Lists the entries of a layer: mode, owner, name and target of each, as GNU tar reads them.
    #[track_caller]
    pub(crate) fn layer(&self, number: usize) -> Vec<String> {
        let digest = self.manifest["layers"][number]["digest"].as_str().unwrap();
        list(blob(&self.tar, digest))
    }

    /// Returns how many layers the image has.
    pub(crate) fn layers(&self) -> usize {
        self.manifest["layers"].as_array().unwrap().len()
    }
}

/// Lists a compressed tar with GNU tar: mode, owner and name of each entry.
#[track_caller]
pub(crate) fn list(gzip: &[u8]) -> Vec<String> {
    let scratch = testkit::scratch::Scratch::new("layer");
    let path = scratch.write("layer.tar.gz", gzip);
    let mut tar = Command::new("tar");
    tar.args(["--list", "--verbose", "--numeric-owner", "--gzip", "--file"]).arg(&path);
    let output = tar.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}", words[0], words[1], words[5..].join(" "))
    };
    text.lines().map(line).collect()
}

/// Checks that a tar is a valid layout, except for the base's members that no specification has.
#[track_caller]
pub(crate) fn assert_sound(lab: &Lab, tar: &str) {
    let problems = testkit::oracle::layout_problems(lab.path(tar));
    let problems: Vec<String> =
        problems.into_iter().filter(|problem| !problem.contains("`oci-spec` drops")).collect();
    assert_eq!(problems, [""; 0]);
}

/// Runs `push` into a tar and returns the image.
#[track_caller]
pub(crate) fn make(lab: &Lab, words: &[&str]) -> Made {
    let output = lab.run(&[&["push"], words, &["--to-oci-tar", "made.tar"]].concat()).succeeds();
    let made = Made::read(lab, "made.tar");
    assert_eq!(digest_in(output.one_line()), made.digest);
    made
}

/// The layer of a small root file system with merged `/bin`.
pub(crate) fn base_layer() -> Vec<u8> {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\n";
    Tarball::new()
        .dir("etc")
        .file("etc/passwd", passwd)
        .file("etc/group", "root:x:0:\nstaff:x:50:\n")
        .dir("usr")
        .entry(&Header::new("usr/bin/", b'5', 0).mode(0o700), b"")
        .file("usr/bin/tool", "#!")
        .symlink("bin", "usr/bin")
        .finish()
}

/// The configuration of the base, with members that no specification has.
pub(crate) fn base_config(architecture: &str, layer: &[u8]) -> String {
    format!(
        r#"{{"architecture":"{architecture}","created":"2020-01-02T03:04:05.6Z","os":"linux","config":{{"Env":["PATH=/usr/bin","LANG=C"],"Cmd":["tool"],"Labels":{{"b":"1","a":"<2>"}},"Healthcheck":{{"Interval":30000000000,"Test":["CMD","x"]}},"OnBuild":["RUN x"],"Shell":["/bin/tool"]}},"moby.buildkit.buildinfo.v1":"e30=","history":[{{"created":"2020-01-02T03:04:05.6Z","created_by":"ADD x"}},{{"created_by":"CMD","empty_layer":true}}],"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}},"number":1.50e3}}"#,
        hex(layer)
    )
}

/// Adds the base to a layout and returns its manifest's descriptor.
pub(crate) fn add_base(layout: &mut Layout, architecture: &str) -> Value {
    let layer = base_layer();
    let stored = descriptor(LAYER_GZIP, &gzip(&layer));
    // Images for several platforms share it.
    if !layout.blobs.contains(&gzip(&layer)) {
        layout.blobs.push(gzip(&layer));
    }
    let config = layout.blob(CONFIG, base_config(architecture, &layer));
    let annotations = json!({"org.opencontainers.image.title": "base"});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [stored],
        "annotations": annotations});
    layout.blob(MANIFEST, manifest.to_string())
}

/// Names the only image of a layout [`BASE`].
pub(crate) fn name_base(image: Value) -> Value {
    named(image, &[(REF_NAME, "v1"), (CONTAINERD_NAME, BASE)])
}

/// Writes the base as `base.tar` and returns its layout.
pub(crate) fn base(lab: &Lab) -> Layout {
    let mut layout = Layout::default();
    let image = add_base(&mut layout, "amd64");
    layout.entries.push(name_base(image));
    lab.write("base.tar", layout.tar());
    layout
}
