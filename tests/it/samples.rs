//! Folders and tars that several tests use, and a reader of tars without the program's code.

use std::ops::Range;
use std::path::Path;

use testkit::lab::Lab;

use crate::lab::lab;

/// The name of the image of [`packed`].
pub(crate) const NAME: &str = "registry.example/team/app:v1";

/// A small bundle in `app`: a lock file, text, a program, something that does not compress, an empty folder.
pub(crate) const BUNDLE: [&str; 5] = [
    "f app/.imgpkg/images.yml 'apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock\\nimages: []\\n'",
    "f app/config/a.yml 'a: 1\\n'",
    "f app/bin/run 755 '#!/bin/sh\\necho hi\\n'",
    "f app/data random:20000:7",
    "d app/empty",
];

/// A lab with the bundle.
pub(crate) fn bundle() -> Lab {
    lab().tree(&BUNDLE)
}

/// A lab with the bundle, packed under [`NAME`] as `app.tar`; returns the digest too.
#[track_caller]
pub(crate) fn packed() -> (Lab, String) {
    let lab = bundle();
    let digest = pack(&lab, &["-b", NAME, "-f", "app"], "app.tar");
    (lab, digest)
}

/// Packs into a tar in the lab and returns the digest.
#[track_caller]
pub(crate) fn pack(lab: &Lab, words: &[&str], tar: &str) -> String {
    let output = lab.run(&[&["push"], words, &["--to-oci-tar", tar]].concat()).succeeds();
    digest_in(output.one_line()).to_owned()
}

/// Returns what follows `@` in a result line.
#[track_caller]
pub(crate) fn digest_in(line: &str) -> &str {
    let (_, digest) = line.rsplit_once('@').unwrap_or_else(|| panic!("no digest in `{line}`"));
    assert_eq!((digest.len(), digest.starts_with("sha256:")), (71, true), "{line}");
    digest
}

/// Returns name and place of every entry of a ustar archive with short names.
pub(crate) fn entries(tar: &[u8]) -> Vec<(String, Range<usize>)> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 512 <= tar.len() && tar[at] != 0 {
        let size = usize::from_str_radix(&text(&tar[at + 124..at + 136]), 8).unwrap();
        found.push((text(&tar[at..at + 100]), at + 512..at + 512 + size));
        at += 512 + size.div_ceil(512) * 512;
    }
    found
}

/// Returns one entry's bytes.
#[track_caller]
pub(crate) fn entry<'a>(tar: &'a [u8], name: &str) -> &'a [u8] {
    let found = entries(tar).into_iter().find(|(entry, _)| entry == name);
    &tar[found.unwrap_or_else(|| panic!("no `{name}`")).1]
}

/// Returns the blob of a layout tar with this digest.
#[track_caller]
pub(crate) fn blob<'a>(tar: &'a [u8], digest: &str) -> &'a [u8] {
    entry(tar, &format!("blobs/{}", digest.replace(':', "/")))
}

/// Reads a blob of a layout tar as JSON.
#[track_caller]
pub(crate) fn json_blob(tar: &[u8], digest: &str) -> serde_json::Value {
    serde_json::from_slice(blob(tar, digest)).unwrap()
}

/// The digests of the one image in a layout tar, found by following its `index.json`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) manifest: String,
    pub(crate) config: String,
    pub(crate) layer: String,
    pub(crate) diff_id: String,
}

#[track_caller]
pub(crate) fn image(path: &Path) -> Image {
    let tar = std::fs::read(path).unwrap();
    let string = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let index: serde_json::Value = serde_json::from_slice(entry(&tar, "index.json")).unwrap();
    let manifest = string(&index["manifests"][0]["digest"]);
    let document = json_blob(&tar, &manifest);
    assert_eq!(document["layers"].as_array().unwrap().len(), 1, "one layer, always");
    let config = string(&document["config"]["digest"]);
    let diff_id = string(&json_blob(&tar, &config)["rootfs"]["diff_ids"][0]);
    Image { manifest, config, layer: string(&document["layers"][0]["digest"]), diff_id }
}
