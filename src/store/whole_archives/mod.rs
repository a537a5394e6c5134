//! Unit tests that open whole archives, which are made by hand; here is what makes them.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;

use super::*;
use crate::model::media_type;

mod docker;
mod elsewhere;
mod imgpkg;
mod kinds;

pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes).to_string(), "size": bytes.len() })
}

pub(super) fn blob_name(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::sha256_of(bytes).hex())
}

/// An image of one layer: configuration, layer, manifest.
pub(super) struct Image {
    pub(super) config: Vec<u8>,
    pub(super) layer: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

impl Image {
    pub(super) fn new(layer: &str) -> Self {
        Self::with_types(layer, media_type::OCI_MANIFEST)
    }

    pub(super) fn with_types(layer: &str, manifest_type: &str) -> Self {
        let layer = layer.as_bytes().to_vec();
        let diff_ids = [Digest::sha256_of(&layer).to_string()];
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type,
            "config": descriptor(media_type::OCI_CONFIG, &config),
            "layers": [descriptor(media_type::OCI_LAYER, &layer)],
        });
        Self { config, layer, manifest: manifest.to_string().into_bytes() }
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::sha256_of(&self.manifest)
    }

    /// Returns its entry in `index.json`.
    pub(super) fn entry(&self, annotations: &Value) -> Value {
        let mut entry = descriptor(media_type::OCI_MANIFEST, &self.manifest);
        entry["annotations"] = annotations.clone();
        entry
    }

    pub(super) fn blobs(&self, tar: Tarball) -> Tarball {
        let blobs = [&self.config, &self.layer, &self.manifest];
        blobs.into_iter().fold(tar, |tar, bytes| tar.file(blob_name(bytes), bytes))
    }
}

pub(super) fn index(entries: &[Value]) -> Vec<u8> {
    json!({ "schemaVersion": 2, "manifests": entries }).to_string().into_bytes()
}

pub(super) fn layout(entries: &[Value], images: &[&Image]) -> Tarball {
    let tar = Tarball::new().file("oci-layout", LAYOUT).file("index.json", index(entries));
    images.iter().fold(tar, |tar, image| image.blobs(tar))
}

/// One image of Docker's table: the path of its configuration, its names, the paths of its layers.
pub(super) type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// Docker's table of these images.
pub(super) fn table(images: &[Row]) -> Vec<u8> {
    let item =
        |(config, names, layers): &Row| json!({ "Config": config, "RepoTags": names, "Layers": layers });
    Value::from(images.iter().map(item).collect::<Vec<_>>()).to_string().into_bytes()
}

/// Reads a blob, verified.
pub(super) fn read_blob(store: &Store, descriptor: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut open_verified(store, descriptor).unwrap(), &mut bytes).unwrap();
    bytes
}

pub(super) fn write(tar: Tarball) -> (Scratch, PathBuf) {
    let scratch = Scratch::new("store");
    let path = scratch.write("images.tar", tar.finish());
    (scratch, path)
}

pub(super) fn inspect(tar: Tarball) -> Result<Store, String> {
    let (_scratch, path) = write(tar);
    open_to_inspect(&path, &std::env::temp_dir()).map_err(|error| {
        let error = error.to_string();
        error.replace(&path.display().to_string(), "images.tar")
    })
}

/// Returns the contradictions that opening a tar finds.
pub(super) fn contradictions(tar: Tarball) -> Vec<String> {
    let store = inspect(tar).unwrap();
    let text = |remark: &Remark| match remark {
        Remark::Contradiction { text, .. } => Some(text.clone()),
        _ => None,
    };
    store.remarks().iter().filter_map(text).collect()
}

pub(super) fn root_digest(root: &Root) -> &Digest {
    &root.image.descriptor.digest
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns an item of imgpkg's table for an image.
pub(super) fn imgpkg_item(image: &Image) -> Value {
    json!({
        "Config": { "Digest": Digest::sha256_of(&image.config), "Raw": String::from_utf8_lossy(&image.config) },
        "Manifest": {
            "MediaType": media_type::OCI_MANIFEST, "Digest": image.digest(),
            "Raw": String::from_utf8_lossy(&image.manifest),
        },
    })
}
