//! Makes small image layouts; computes digests without the code under test.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Hexadecimal SHA-256.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
}

/// A descriptor with annotations.
pub(crate) fn named(mut descriptor: Value, annotations: &[(&str, &str)]) -> Value {
    for (key, value) in annotations {
        descriptor["annotations"][*key] = json!(value);
    }
    descriptor
}

/// Blobs and `index.json` of a layout.
#[derive(Clone, Default)]
pub(crate) struct Layout {
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) entries: Vec<Value>,
}

impl Layout {
    /// Adds a blob and returns its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Value {
        let bytes = bytes.into();
        let descriptor = descriptor(media_type, &bytes);
        self.blobs.push(bytes);
        descriptor
    }

    /// Adds an image of one gzip layer per tar and returns its manifest's descriptor.
    pub(crate) fn image(&mut self, layers: &[Vec<u8>]) -> Value {
        self.image_for("amd64", layers)
    }

    /// As [`Layout::image`], for a processor.
    pub(crate) fn image_for(&mut self, architecture: &str, layers: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(LAYER_GZIP, gzip(layer))).collect();
        let config = json!({"architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.blob(CONFIG, config.to_string());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string())
    }

    /// A layout with one image of one file under one tag.
    pub(crate) fn simple() -> Self {
        let mut layout = Self::default();
        let image = layout.image(&[Tarball::new().dir("d").file("d/hello", "hello\n").finish()]);
        layout.entries.push(named(image, &[(REF_NAME, "v1"), (CONTAINERD_NAME, "reg.example/team/app:v1")]));
        layout
    }

    pub(crate) fn index(&self) -> String {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries}).to_string()
    }

    /// Returns the files of the layout.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), self.index().into_bytes()),
        ];
        files.extend(self.blobs.iter().map(|blob| (format!("blobs/sha256/{}", hex(blob)), blob.clone())));
        files
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        tar_of(&self.files())
    }

    pub(crate) fn write_folder(&self, folder: &Scratch, name: &str) -> PathBuf {
        for (file, bytes) in self.files() {
            folder.write(format!("{name}/{file}"), bytes);
        }
        folder.join(name)
    }
}

pub(crate) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    files.iter().fold(Tarball::new(), |tar, (name, bytes)| tar.file(name, bytes)).finish()
}
