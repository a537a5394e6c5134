//! Inputs that exceed the limits of keys and signatures; the table is in `hostile::limits`.

use serde_json::json;
use testkit::lab::{Lab, Output};

use super::keys;
use crate::layouts::{CONFIG, Layout, MANIFEST, REF_NAME, descriptor, named};

fn verify(lab: &Lab, layout: &Layout) -> Output {
    keys::put(lab);
    lab.write("in.tar", layout.tar());
    lab.run(&["verify", "--tar", "in.tar", "--key", "p256.pub"])
}

fn verify_with_key(lab: &Lab, text: &str) -> Output {
    lab.write("in.tar", Layout::simple().tar());
    lab.write("many.pub", text);
    lab.run(&["verify", "--tar", "in.tar", "--key", "many.pub"])
}

pub(crate) fn key_file(lab: &Lab) -> Output {
    verify_with_key(lab, &"#".repeat((256 << 10) + 1))
}

pub(crate) fn keys_of_one_file(lab: &Lab) -> Output {
    verify_with_key(lab, &keys::FILES[1].1.repeat(101))
}

/// Signs with an encrypted key with these scrypt parameters.
fn sealed(lab: &Lab, n: u32, p: u32) -> Output {
    let json = json!({
        "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": p}, "salt": ""},
        "cipher": {"name": "nacl/secretbox", "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, "ciphertext": ""});
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, json.to_string());
    let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
    lab.write("k", format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"));
    lab.run(&["sign", "--tar", "in.tar", "--key", "k"])
}

pub(crate) fn key_derivation(lab: &Lab) -> Output {
    sealed(lab, 1 << 19, 1)
}

pub(crate) fn key_derivation_passes(lab: &Lab) -> Output {
    sealed(lab, 2, 17)
}

/// An image with a signature manifest of these layers.
fn signed(count: usize, payload: &[u8]) -> Layout {
    let mut layout = Layout::simple();
    let tag = layout.entries[0]["digest"].as_str().unwrap().replace(':', "-") + ".sig";
    let layer = layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", payload);
    let config = layout.blob(CONFIG, r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#);
    let layers = vec![layer; count];
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(named(manifest, &[(REF_NAME, &tag)]));
    layout
}

/// Adds a signature to the existing ones.
fn sign_again(lab: &Lab, layout: &Layout) -> Output {
    keys::put(lab);
    lab.write("in.tar", layout.tar());
    lab.run(&["sign", "--tar", "in.tar", "--key", "p256.key"])
}

pub(crate) fn payload(lab: &Lab) -> Output {
    sign_again(lab, &signed(1, &vec![b' '; (256 << 10) + 1]))
}

pub(crate) fn signatures(lab: &Lab) -> Output {
    sign_again(lab, &signed(101, b"{}"))
}

pub(crate) fn attachment(lab: &Lab) -> Output {
    lab.write("in.tar", Layout::simple().tar());
    std::fs::File::create(lab.path("large")).unwrap().set_len((32 << 20) + 1).unwrap();
    lab.run(&["attach", "--tar", "in.tar", "--type", "text/plain", "large"])
}

/// An image with an attestation manifest of layers that claim this size.
fn attested(count: usize, size: u64) -> Layout {
    let mut layout = Layout::simple();
    let tag = layout.entries[0]["digest"].as_str().unwrap().replace(':', "-") + ".att";
    let mut layers = Vec::new();
    for number in 0..count {
        let bytes = vec![b' '; usize::try_from(size).unwrap()];
        let bytes = [number.to_string().as_bytes(), &bytes].concat();
        layers.push(layout.blob("application/vnd.dsse.envelope.v1+json", bytes));
    }
    let config = layout.blob(CONFIG, r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(named(manifest, &[(REF_NAME, &tag)]));
    layout
}

/// Attaches content to an image with such attestations.
fn attach(lab: &Lab, layout: &Layout) -> Output {
    keys::put(lab);
    lab.write("in.tar", layout.tar());
    lab.write("sbom", "{}");
    lab.run(&["attach", "--tar", "in.tar", "--type", "spdx", "--key", "p256.key", "sbom"])
}

pub(crate) fn attestation(lab: &Lab) -> Output {
    attach(lab, &attested(1, 48 << 20))
}

pub(crate) fn attestations(lab: &Lab) -> Output {
    attach(lab, &attested(5, 40 << 20))
}

pub(crate) fn attached(lab: &Lab) -> Output {
    let mut layout = Layout::simple();
    let subject = layout.entries[0].clone();
    let subject = json!({"mediaType": MANIFEST, "digest": subject["digest"], "size": subject["size"]});
    let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    layout.blobs.push(b"{}".to_vec());
    for number in 0..=1000 {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "test/x", "config": empty,
            "layers": [empty], "subject": subject, "annotations": {"number": number.to_string()}});
        let manifest = layout.blob(MANIFEST, manifest.to_string());
        layout.entries.push(manifest);
    }
    verify(lab, &layout)
}
