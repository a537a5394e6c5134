//! Content that a registry should not have, or that readers read differently; made without the program's code.

use serde_json::{Value, json};
use sha2::Digest as _;
use testkit::fault::{FaultRegistry, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A tar without entries.
const BYTES: &[u8] = &[0; 1024];
/// The same as one frame of zstd: magic number, a content size of 1024 bytes, one block that repeats a zero.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x60, 0, 3, 3, 0x20, 0, 0];

fn store(registry: &FaultRegistry, media_type: &str, digest: &str, bytes: &[u8]) -> Value {
    registry.put_blob("team/app", digest, bytes);
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn document(registry: &FaultRegistry, layers: &Value) -> Value {
    let diff_ids = vec![digest_of(BYTES); layers.as_array().map_or(0, Vec::len)];
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).to_string();
    let config = store(registry, CONFIG, &digest_of(config.as_bytes()), config.as_bytes());
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
}

fn tag(registry: &FaultRegistry, media_type: &str, document: &Value) {
    let bytes = document.to_string().into_bytes();
    registry.put_manifest("team/app", "v1", &digest_of(&bytes), media_type, &bytes);
}

fn with_layer(registry: &FaultRegistry, layer: &Value) {
    tag(registry, MANIFEST, &document(registry, &json!([layer])));
}

/// A layer with a wrong descriptor.
fn with_field(registry: &FaultRegistry, field: &str, value: Value) {
    let mut layer = store(registry, LAYER, &digest_of(BYTES), BYTES);
    layer[field] = value;
    with_layer(registry, &layer);
}

pub(super) fn other_type(registry: &FaultRegistry) {
    tag(registry, INDEX, &document(registry, &json!([])));
}

pub(super) fn both(registry: &FaultRegistry) {
    let mut both = document(registry, &json!([]));
    both["manifests"] = json!([]);
    tag(registry, MANIFEST, &both);
}

pub(super) fn path_digest(registry: &FaultRegistry) {
    with_field(registry, "digest", json!("sha256:../../../etc/passwd"));
}

pub(super) fn weak_digest(registry: &FaultRegistry) {
    with_field(registry, "digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e"));
}

pub(super) fn negative_size(registry: &FaultRegistry) {
    with_field(registry, "size", json!(-1));
}

pub(super) fn huge_size(registry: &FaultRegistry) {
    with_field(registry, "size", json!(1_u64 << 62));
}

pub(super) fn longer_blob(registry: &FaultRegistry) {
    with_field(registry, "size", json!(BYTES.len() - 1));
}

pub(super) fn shorter_blob(registry: &FaultRegistry) {
    with_field(registry, "size", json!(BYTES.len() + 1));
}

pub(super) fn sha512(registry: &FaultRegistry) {
    let hex: String = sha2::Sha512::digest(BYTES).iter().map(|byte| format!("{byte:02x}")).collect();
    let layer = store(registry, LAYER, &format!("sha512:{hex}"), BYTES);
    with_layer(registry, &layer);
}

pub(super) fn docker_zstd(registry: &FaultRegistry) {
    let media_type = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    let layer = store(registry, media_type, &digest_of(ZSTD), ZSTD);
    with_layer(registry, &layer);
}

/// The URL is that of the storage, which has no such path: a request for it fails the test.
pub(super) fn foreign_layer(registry: &FaultRegistry) {
    let layer = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": digest_of(BYTES),
        "size": BYTES.len(), "urls": [format!("{}/layers/1", registry.foreign())],
    });
    with_layer(registry, &layer);
}

pub(super) fn schema_1(registry: &FaultRegistry) {
    let document =
        json!({"schemaVersion": 1, "name": "team/app", "tag": "v1", "fsLayers": [], "history": []});
    tag(registry, "application/vnd.docker.distribution.manifest.v1+prettyjws", &document);
}

/// It is stored under a digest that is not its own.
pub(super) fn endless_index(registry: &FaultRegistry) {
    let digest = digest_of(b"the index itself");
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": INDEX, "digest": digest, "size": 240}],
    });
    registry.put_manifest("team/app", "v1", &digest, INDEX, index.to_string().as_bytes());
}
