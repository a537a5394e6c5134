//! Manifests and indexes: the parsed value beside the exact bytes it came from.
//!
//! A document that was read is forwarded as its bytes; only documents that imgrelay creates are serialised.
//! Source: image-spec manifest.md, image-index.md; distribution "Image Manifest V 2, Schema 2".

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::json::{JsonError, Schema, check_members, null_is_empty};
use super::malformed::Malformed;
use super::{Annotations, Descriptor, Digest, media_type};

/// An image manifest: one configuration and its layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; older OCI tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Configuration.
    pub config: Descriptor,
    /// Layers, lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// The manifest this one says something about (signature, attestation, SBOM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: Annotations,
}

/// An image index: manifests for several platforms, or any list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; older OCI tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Manifests and nested indexes.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// The manifest this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Annotations::is_empty", deserialize_with = "null_is_empty")]
    pub annotations: Annotations,
}

/// A parsed manifest or index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives per document; a box would only get in the way of matching"
)]
pub enum Document {
    /// One image (or artifact).
    Manifest(ImageManifest),
    /// A list of images.
    Index(ImageIndex),
}

impl Document {
    /// Returns everything the document points at, in document order; `subject` is not among it.
    #[must_use]
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }

    /// Returns the manifest this document says something about.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// Returns the document's annotations.
    #[must_use]
    pub fn annotations(&self) -> &Annotations {
        match self {
            Self::Manifest(manifest) => &manifest.annotations,
            Self::Index(index) => &index.annotations,
        }
    }
}

/// A manifest or index exactly as it was read, with its type and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDocument {
    media_type: String,
    digest: Digest,
    bytes: Arc<[u8]>,
    document: Document,
}

/// Why bytes are not a manifest or index.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or a member has the wrong form.
    #[error("document `{digest}` is not a valid {kind}: {source}")]
    Json {
        /// Digest of the bytes.
        digest: Digest,
        /// What it was read as.
        kind: &'static str,
        /// Where and why, with line and column.
        source: Malformed,
    },
    /// Readers in Go find other members in it.
    #[error("document `{digest}` is not accepted: {source}")]
    Members {
        /// Digest of the bytes.
        digest: Digest,
        /// The member, and what is wrong with it.
        source: JsonError,
    },
    /// The top of the document is not a JSON object.
    #[error("document `{digest}` is not a JSON object, expected an image manifest or index")]
    NotAnObject {
        /// Digest of the bytes.
        digest: Digest,
    },
    /// Both a list of manifests and layers or a configuration (CVE-2021-41190).
    #[error(
        "document `{digest}` is a manifest and an index at the same time, which readers understand differently"
    )]
    Ambiguous {
        /// Digest of the bytes.
        digest: Digest,
    },
    /// What points at the document and the document itself name different types.
    #[error("document `{digest}` says its type is `{found}`, but what points at it says `{expected}`")]
    TypeMismatch {
        /// Digest of the bytes.
        digest: Digest,
        /// The document's own `mediaType`.
        found: String,
        /// The type it was announced with.
        expected: String,
    },
    /// Neither a manifest nor an index.
    #[error("document `{digest}` has type `{found}`, expected an image manifest or index")]
    UnknownType {
        /// Digest of the bytes.
        digest: Digest,
        /// The type.
        found: String,
    },
    /// `schemaVersion` is not 2.
    #[error("document `{digest}` has schemaVersion {found}, expected 2")]
    SchemaVersion {
        /// Digest of the bytes.
        digest: Digest,
        /// The number.
        found: u32,
    },
}

/// The members that Go's readers know in manifests and indexes of either family.
///
/// One schema for both: a member of the other kind, in another case, decides which of the two a reader sees.
static SCHEMA: Schema = Schema::Object(&[
    ("schemaVersion", Schema::Value),
    ("mediaType", Schema::Value),
    ("artifactType", Schema::Value),
    ("config", Schema::Same(&DESCRIPTOR)),
    ("layers", Schema::List(&DESCRIPTOR)),
    ("manifests", Schema::List(&DESCRIPTOR)),
    ("subject", Schema::Same(&DESCRIPTOR)),
    ("annotations", Schema::Value),
    // Of Docker's first schema, and of the artifact manifest that was withdrawn.
    ("fsLayers", Schema::Value),
    ("blobs", Schema::List(&DESCRIPTOR)),
]);

/// The members of a descriptor.
static DESCRIPTOR: Schema = Schema::Object(&[
    ("mediaType", Schema::Value),
    ("digest", Schema::Value),
    ("size", Schema::Value),
    ("urls", Schema::Value),
    ("annotations", Schema::Value),
    ("data", Schema::Value),
    ("platform", Schema::Same(&PLATFORM)),
    ("artifactType", Schema::Value),
]);

static PLATFORM: Schema = Schema::Object(&[
    ("architecture", Schema::Value),
    ("os", Schema::Value),
    ("os.version", Schema::Value),
    ("os.features", Schema::Value),
    ("variant", Schema::Value),
    ("features", Schema::Value),
]);

/// The members that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, borrow)]
    manifests: Option<&'a serde_json::value::RawValue>,
    #[serde(default, borrow)]
    layers: Option<&'a serde_json::value::RawValue>,
    #[serde(default, borrow)]
    config: Option<&'a serde_json::value::RawValue>,
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    Ok(serde_json::from_slice(bytes)?)
}

impl RawDocument {
    /// Parses bytes that were announced as `announced` (a descriptor's or response's media type), or as nothing.
    ///
    /// Errors: see [`DocumentError`]; the digest of the bytes is computed here and never trusted from outside.
    pub fn parse(bytes: impl Into<Arc<[u8]>>, announced: Option<&str>) -> Result<Self, DocumentError> {
        let bytes = bytes.into();
        let digest = Digest::sha256_of(&bytes);
        let json = |kind| {
            let digest = digest.clone();
            move |source| DocumentError::Json { digest, kind, source }
        };
        // serde reads a struct from a JSON array too; other readers do not, so neither do we.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(DocumentError::NotAnObject { digest });
        }
        match check_members(&bytes, &SCHEMA) {
            Ok(()) => {}
            Err(JsonError::Json(source)) => return Err(json("manifest or index")(source)),
            Err(source) => return Err(DocumentError::Members { digest, source }),
        }
        let shape: Shape<'_> = read(&bytes).map_err(json("manifest or index"))?;
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(DocumentError::Ambiguous { digest });
        }
        if let (Some(found), Some(expected)) = (&shape.media_type, announced)
            && found != expected
        {
            let (found, expected) = (found.clone(), expected.to_owned());
            return Err(DocumentError::TypeMismatch { digest, found, expected });
        }
        let media_type = match (shape.media_type.as_deref(), announced) {
            (Some(own), _) => own.to_owned(),
            (None, Some(announced)) => announced.to_owned(),
            (None, None) if shape.manifests.is_some() => media_type::OCI_INDEX.to_owned(),
            (None, None) => media_type::OCI_MANIFEST.to_owned(),
        };
        let document = if media_type::is_index(&media_type) {
            let index = read(&bytes).map_err(json("image index"))?;
            Document::Index(index)
        } else if media_type::is_manifest(&media_type) {
            let manifest = read(&bytes).map_err(json("image manifest"))?;
            Document::Manifest(manifest)
        } else {
            return Err(DocumentError::UnknownType { digest, found: media_type });
        };
        let version = match &document {
            Document::Manifest(manifest) => manifest.schema_version,
            Document::Index(index) => index.schema_version,
        };
        if version != 2 {
            return Err(DocumentError::SchemaVersion { digest, found: version });
        }
        Ok(Self { media_type, digest, bytes, document })
    }

    /// Serialises a manifest that imgrelay creates: compact JSON, members in the order of the struct.
    #[must_use]
    pub fn of_manifest(manifest: ImageManifest) -> Self {
        let bytes: Arc<[u8]> = to_json(&manifest).into();
        let media_type = manifest.media_type.clone().unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        Self { media_type, digest: Digest::sha256_of(&bytes), bytes, document: Document::Manifest(manifest) }
    }

    /// Serialises an index that imgrelay creates.
    #[must_use]
    pub fn of_index(index: ImageIndex) -> Self {
        let bytes: Arc<[u8]> = to_json(&index).into();
        let media_type = index.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_owned());
        Self { media_type, digest: Digest::sha256_of(&bytes), bytes, document: Document::Index(index) }
    }

    /// Takes the digest by which the document was requested, if it is of another algorithm than SHA-256.
    ///
    /// What points at the document uses that digest, so it has to be stored and sent under it.
    #[must_use]
    pub fn known_as(self, digest: &Digest) -> Self {
        if digest.algorithm() != self.digest.algorithm() && digest.matches(&self.bytes) {
            return Self { digest: digest.clone(), ..self };
        }
        self
    }

    /// Returns the exact bytes; this is what is stored and sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the media type to send the bytes with.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Returns the parsed value.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Returns the manifest, if it is one.
    #[must_use]
    pub fn manifest(&self) -> Option<&ImageManifest> {
        match &self.document {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        }
    }

    /// Returns the index, if it is one.
    #[must_use]
    pub fn index(&self) -> Option<&ImageIndex> {
        match &self.document {
            Document::Index(index) => Some(index),
            Document::Manifest(_) => None,
        }
    }

    /// Returns a descriptor of the bytes, without annotations.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
    }

    /// Returns the document as an entry of a list of referrers: with its artifact type and annotations.
    ///
    /// The artifact type is the manifest's own, else the type of its configuration.
    /// Source: distribution-spec, "Listing Referrers".
    #[must_use]
    pub fn as_referrer(&self) -> Descriptor {
        let mut entry = self.descriptor();
        entry.artifact_type = match &self.document {
            Document::Manifest(manifest) => {
                manifest.artifact_type.clone().or_else(|| Some(manifest.config.media_type.clone()))
            }
            Document::Index(index) => index.artifact_type.clone(),
        };
        entry.annotations = self.document.annotations().clone();
        entry
    }
}

/// Serialises a document that imgrelay creates; the only JSON writer for stored documents.
///
/// Shape: compact, members in struct order, maps in key order, `<`, `>` and `&` escaped as Go's encoder does,
/// so that a configuration can equal the one imgpkg writes for the same labels.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let text = serde_json::to_string(value).expect("our own documents have string keys and finite numbers");
    // These characters occur only inside JSON strings, never in its syntax.
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    #[test]
    fn bytes_and_digest_survive_parsing() {
        let text = format!("{{ \"schemaVersion\": 2,\n\"config\":{CONFIG}, \"layers\": [], \"x\": 1 }}");
        let raw = RawDocument::parse(text.as_bytes(), Some(media_type::OCI_MANIFEST)).unwrap();
        assert_eq!(raw.bytes(), text.as_bytes());
        assert_eq!(raw.media_type(), media_type::OCI_MANIFEST);
        assert!(raw.digest().matches(text.as_bytes()));
    }

    #[test]
    fn bad_documents_are_refused_with_the_reason() {
        let cases = [
            ("[]".to_owned(), None, "not a JSON object"),
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.into(), None, "at the same time"),
            (format!(r#"{{"schemaVersion":2,"manifests":[],"config":{CONFIG}}}"#), None, "at the same time"),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX),
                Some(media_type::DOCKER_INDEX),
                "but what points at it says",
            ),
            (r#"{"schemaVersion":2,"mediaType":"text/plain"}"#.into(), None, "has type `text/plain`"),
            (format!(r#"{{"schemaVersion":1,"config":{CONFIG}}}"#), None, "schemaVersion 1"),
            (
                format!(r#"{{"schemaVersion":2,"schemaVersion":2,"config":{CONFIG}}}"#),
                None,
                "member `schemaVersion` is there twice",
            ),
            (
                r#"{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:../x","size":1}}"#.into(),
                None,
                "has 4 hex",
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{}}}"#, CONFIG.replace("\"size\":0", "\"size\":-1")),
                None,
                "expected u64",
            ),
        ];
        for (text, announced, expected) in cases {
            let error = RawDocument::parse(text.as_bytes(), announced).expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}\n  gave: {error}\n  wanted: {expected}");
        }
    }

    #[test]
    fn json_is_escaped_as_go_does() {
        assert_eq!(to_json(&"<a&b>"), br#""\u003ca\u0026b\u003e""#);
    }

    #[test]
    fn a_referrer_has_the_type_and_annotations_of_its_document() {
        let plain = RawDocument::parse(
            format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[],"annotations":{{"a":"b"}}}}"#)
                .into_bytes(),
            None,
        )
        .unwrap();
        let referrer = plain.as_referrer();
        assert_eq!(referrer.artifact_type.as_deref(), Some(media_type::OCI_CONFIG));
        assert_eq!(referrer.annotations.get("a").map(String::as_str), Some("b"));
        assert_eq!(referrer.digest, *plain.digest());
        assert!(plain.descriptor().annotations.is_empty());
        let typed = format!(r#"{{"schemaVersion":2,"artifactType":"t/x","config":{CONFIG},"layers":[]}}"#);
        let typed = RawDocument::parse(typed.into_bytes(), None).unwrap().as_referrer();
        assert_eq!(typed.artifact_type.as_deref(), Some("t/x"));
        let subject = format!(
            r#"{{"schemaVersion":2,"artifactType":"t/y","manifests":[{CONFIG}],"subject":{CONFIG}}}"#
        );
        let index = RawDocument::parse(subject.into_bytes(), None).unwrap();
        assert_eq!(index.as_referrer().artifact_type.as_deref(), Some("t/y"));
        assert_eq!(index.document().children().len(), 1);
        assert_eq!(index.document().subject().map(|subject| subject.size), Some(0));
        assert!(index.manifest().is_none() && index.index().is_some());
    }

    #[test]
    fn json_is_escaped_as_go_escapes_it() {
        assert_eq!(to_json(&"<a>&\u{2028}\u{2029}ü"), "\"\\u003ca\\u003e\\u0026\\u2028\\u2029ü\"".as_bytes());
    }
}
