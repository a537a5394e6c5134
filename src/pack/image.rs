//! Configuration and manifest around finished layers.
//!
//! With Docker media types the configuration equals imgpkg's byte for byte; with OCI types the members that
//! image-spec requires (`architecture`, `os`) are filled from the options, never from the machine.

use std::collections::BTreeMap;

use crate::model::{
    Annotations, Config, ConfigDetails, Descriptor, History, ImageManifest, Platform, RawDocument, Rootfs,
    keys, to_json,
};

use super::{MediaTypes, PackedLayer, Profile};

/// The creation time written everywhere: Go's zero time, as imgpkg does.
pub(super) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// The properties of an image besides its layers.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Media types of manifest and configuration.
    pub media_types: MediaTypes,
    /// Platform; with Docker media types only written when it was requested.
    pub platform: Option<Platform>,
    /// Labels of the configuration, besides the profile's.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest.
    pub annotations: Annotations,
}

/// A manifest with its configuration, ready to be stored.
#[derive(Clone, Debug)]
pub struct ComposedImage {
    /// Bytes of the configuration.
    pub config: Vec<u8>,
    /// The manifest, with its bytes.
    pub manifest: RawDocument,
}

/// Makes configuration and manifest for layers, lowest first.
#[must_use]
pub fn compose(profile: &Profile, layers: &[PackedLayer], options: &ImageOptions) -> ComposedImage {
    let mut labels = options.labels.clone();
    labels.extend(profile.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let platform = match (&options.platform, options.media_types) {
        (Some(platform), _) => Some(platform.clone()),
        (None, MediaTypes::Oci) => Some(Platform::linux_amd64()),
        (None, MediaTypes::Docker) => None,
    };
    let history = History {
        author: Some(profile.history_author.to_owned()),
        created: Some(ZERO_TIME.to_owned()),
        created_by: Some(profile.history_author.to_owned()),
        ..History::default()
    };
    let config = Config {
        architecture: platform.as_ref().map(|platform| platform.architecture.clone()).unwrap_or_default(),
        created: Some(ZERO_TIME.to_owned()),
        history: vec![history; layers.len()],
        os: platform.as_ref().map(|platform| platform.os.clone()).unwrap_or_default(),
        variant: platform.and_then(|platform| platform.variant),
        os_version: None,
        os_features: Vec::new(),
        rootfs: Rootfs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        },
        config: ConfigDetails { labels, ..ConfigDetails::default() },
    };
    let config = to_json(&config);
    let consumer = &profile.consumer;
    let texts = |pairs: &[(&str, &str)]| -> Annotations {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let mut annotations = texts(consumer.annotations);
    annotations.extend(options.annotations.clone());
    let layer = |layer: &PackedLayer| {
        let mut descriptor = layer.descriptor.clone();
        if let Some(media_type) = consumer.layer_type {
            descriptor.media_type = media_type.to_owned();
        }
        if consumer.oras_layers {
            // `oras pull` unpacks a folder called `.` into its output folder, and its entries need no prefix.
            let tar = layer.diff_id.to_string();
            let said = [(keys::TITLE, "."), (keys::ORAS_UNPACK, "true"), (keys::ORAS_DIGEST, &tar)];
            descriptor.annotations = texts(&said);
        }
        descriptor
    };
    let config_type = consumer.config_type.unwrap_or_else(|| options.media_types.config());
    let manifest = RawDocument::of_manifest(ImageManifest {
        schema_version: 2,
        media_type: Some(options.media_types.manifest().to_owned()),
        artifact_type: None,
        config: Descriptor::of_bytes(config_type, &config),
        layers: layers.iter().map(layer).collect(),
        subject: None,
        annotations,
    });
    ComposedImage { config, manifest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, media_type};

    fn image(profile: &Profile, media_types: MediaTypes, labels: &[(&str, &str)]) -> ComposedImage {
        let layer = PackedLayer {
            descriptor: Descriptor::new(media_type::DOCKER_LAYER_GZIP, Digest::sha256_of(b"z"), 1),
            diff_id: Digest::sha256_of(b""),
            uncompressed_size: 0,
            entries: 0,
            links_left_out: 0,
        };
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = ImageOptions { media_types, platform: None, labels, annotations: Annotations::new() };
        compose(profile, &[layer], &options)
    }

    const DIFF_ID: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn docker_configuration_equals_imgpkgs() {
        let bundle = image(&Profile::BUNDLE, MediaTypes::Docker, &[]);
        let expected = format!(
            r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{{"author":"imgpkg","created":"0001-01-01T00:00:00Z","created_by":"imgpkg"}}],"os":"","rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}},"config":{{"Labels":{{"dev.carvel.imgpkg.bundle":"true"}}}}}}"#
        );
        assert_eq!(String::from_utf8_lossy(&bundle.config), expected);
        assert_eq!(bundle.config.len(), 317, "what imgpkg's has");
        let plain = image(&Profile::IMAGE, MediaTypes::Docker, &[]);
        assert_eq!(plain.config.len(), 273, "what imgpkg's has");
        assert!(plain.config.ends_with(br#","config":{}}"#));
    }

    #[test]
    fn oci_configuration_has_the_required_members_on_every_machine() {
        let config = image(&Profile::BUNDLE, MediaTypes::Oci, &[("b", "<2>"), ("a", "1")]).config;
        let text = String::from_utf8_lossy(&config);
        assert!(text.starts_with(r#"{"architecture":"amd64","#), "{text}");
        assert!(text.contains(r#""os":"linux","#), "{text}");
        assert!(
            text.contains(r#""Labels":{"a":"1","b":"\u003c2\u003e","dev.carvel.imgpkg.bundle":"true"}"#),
            "{text}"
        );
    }
}
