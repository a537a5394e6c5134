//! Keys of openssl and cosign, and signatures that openssl verifies.

use std::path::Path;

use serde_json::Value;
use testkit::lab::Output;
use testkit::tools::{run, tool};

use crate::lab::Lab;

/// The password of `cosign.key`.
pub(super) const PASSWORD: &str = "geheim";

/// Private keys with their public keys.
pub(super) const FILES: [(&str, &str); 9] = [
    ("p256.key", include_str!("../../keys/p256.key")),
    ("p256.pub", include_str!("../../keys/p256.pub")),
    ("ed25519.key", include_str!("../../keys/ed25519.key")),
    ("ed25519.pub", include_str!("../../keys/ed25519.pub")),
    ("rsa.key", include_str!("../../keys/rsa.key")),
    ("rsa.pub", include_str!("../../keys/rsa.pub")),
    ("cosign.key", include_str!("../../keys/cosign.key")),
    ("cosign.pub", include_str!("../../keys/cosign.pub")),
    ("cosign-empty.key", include_str!("../../keys/cosign-empty.key")),
];

/// Checks exit status and messages of a run; unlike other commands, `verify` prints its report also after an error.
#[track_caller]
pub(super) fn refused(output: Output, code: i32, texts: &[&str]) {
    let output = texts.iter().fold(output.ends_with(code), |output, text| output.says(text));
    assert!(code == 3 || output.stdout.is_empty(), "{output}");
}

/// Checks a run that succeeded and printed this.
#[track_caller]
pub(super) fn prints(output: Output, text: &str) {
    let output = output.succeeds();
    assert!(output.stdout.contains(text), "expected on standard output: `{text}`\n{output}");
}

/// Puts all keys into the lab.
pub(super) fn put(lab: &Lab) {
    for (name, text) in FILES {
        lab.write(name, text);
    }
}

/// Verifies one signature with openssl.
pub(super) fn openssl_verifies(lab: &Lab, key: &str, payload: &[u8], signature: &[u8]) {
    lab.write("found", payload);
    lab.write("found.sig", signature);
    let (key, found, signature) = (lab.path(key), lab.path("found"), lab.path("found.sig"));
    // Ed25519 is over the message itself; `dgst` has no such mode.
    let mut command = tool("openssl");
    if key.ends_with("ed25519.pub") {
        command.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(key).arg("-in").arg(found);
        command.arg("-sigfile").arg(signature);
    } else {
        command.args(["dgst", "-sha256", "-verify"]).arg(key).arg("-signature").arg(signature).arg(found);
    }
    let ran = run(&mut command).success();
    assert!(ran.stdout.contains("Verified OK") || ran.stdout.contains("Verified Successfully"), "{ran:?}");
}

/// A layout tar as a reader finds it.
pub(super) struct Tar<'a>(pub(super) &'a Path);

impl Tar<'_> {
    pub(super) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let output = tool("tar").arg("-xOf").arg(self.0).arg(name).output().expect("tar starts");
        assert!(output.status.success(), "{} has no {name}", self.0.display());
        output.stdout
    }

    pub(super) fn blob(&self, descriptor: &Value) -> Vec<u8> {
        self.bytes(&format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/")))
    }

    /// Returns the layers of the signature manifest of an image, each with its payload.
    pub(super) fn signatures(&self, image: &str) -> Vec<(Value, Vec<u8>)> {
        let tag = format!("{}.sig", image.replace(':', "-"));
        let index = self.json("index.json");
        let entries = index["manifests"].as_array().unwrap();
        let named = |entry: &&Value| entry["annotations"][crate::layouts::REF_NAME] == tag.as_str();
        let Some(entry) = entries.iter().find(named) else { return Vec::new() };
        let manifest: Value = serde_json::from_slice(&self.blob(entry)).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| (layer.clone(), self.blob(layer))).collect()
    }
}
