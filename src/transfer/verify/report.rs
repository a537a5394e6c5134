//! The report of `verify` as values that can be serialised.

use std::fmt;

use serde::Serialize;

use crate::model::{Descriptor, Digest, keys};
use crate::store::{LeftOut, Root, Store};

use super::super::{DocumentKind, ImageSource as _};
use super::advice::Advice;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// The file or folder.
    pub path: String,
    /// Its format, as [`crate::store::StoreKind::name`].
    pub format: &'static str,
    /// The top-level images.
    #[serde(rename = "images")]
    pub roots: Vec<RootReport>,
    /// Manifests, indexes and image configurations that were checked.
    pub documents: u64,
    /// Layers and other blobs that were checked.
    pub blobs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Blobs that the store was written without, which were not checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<LeftOut>,
    /// All problems.
    pub problems: Vec<Problem>,
    /// Warnings: facts that are no damage.
    #[serde(serialize_with = "super::advice::told")]
    pub warnings: Vec<Advice>,
}

impl VerifyReport {
    /// Tells whether there is no problem.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One top-level image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootReport {
    /// What it is.
    pub kind: DocumentKind,
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// Type of its manifest or index.
    pub media_type: String,
    /// Its names: full references where known, else tags.
    pub names: Vec<String>,
}

impl RootReport {
    pub(super) fn of(store: &Store, root: &Root) -> Self {
        let name = |name: &crate::store::ImageName| match (&name.reference, &name.tag) {
            (Some(reference), _) => Some(reference.to_string()),
            (None, Some(tag)) => Some(tag.to_string()),
            (None, None) => None,
        };
        Self {
            kind: kind_of(store, &root.image.descriptor),
            digest: root.image.descriptor.digest.clone(),
            media_type: root.image.descriptor.media_type.clone(),
            names: root.image.names.iter().filter_map(name).collect(),
        }
    }
}

/// Returns the kind of a root; by its media type if its documents cannot be read.
fn kind_of(store: &Store, root: &Descriptor) -> DocumentKind {
    if root.is_index() {
        return DocumentKind::Index;
    }
    let document = store.read_document(root).ok();
    let manifest = document.as_ref().and_then(|document| document.manifest());
    let config = manifest.and_then(|manifest| store.read_config(manifest).ok().flatten());
    match (manifest, config) {
        (_, Some(config)) if config.config.labels.contains_key(keys::BUNDLE_LABEL) => DocumentKind::Bundle,
        (Some(_), None) => DocumentKind::Artifact,
        _ => DocumentKind::Image,
    }
}

/// A problem with one blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Digest under which the blob is referred to.
    pub blob: Digest,
    /// What is wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// What refers to the blob: digests of documents, or the name of the table of contents.
    pub referred_by: Vec<String>,
}

/// What is wrong with a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It has another size than its descriptor says.
    Size {
        /// Size in the descriptor, bytes.
        expected: u64,
        /// Bytes stored.
        found: u64,
    },
    /// Its bytes have another digest.
    Digest {
        /// Digest of the bytes stored.
        found: Digest,
        /// Bytes stored.
        size: u64,
    },
    /// Unpacked, it has another digest than the configuration says.
    DiffId {
        /// `diff_id` in the configuration.
        expected: Digest,
        /// Digest of the unpacked bytes.
        found: Digest,
    },
    /// A configuration has more or fewer `diff_ids` than the manifest has layers.
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// `diff_ids` of the configuration.
        diff_ids: usize,
    },
    /// Its bytes have another compression than its media type says.
    Compression {
        /// The type.
        media_type: String,
        /// What the bytes are.
        found: &'static str,
    },
    /// Two documents refer to it by different types.
    TypeConflict {
        /// The type of the first reference.
        expected: String,
        /// The type of another.
        found: String,
    },
    /// It cannot be unpacked.
    Undecodable {
        /// Why.
        reason: String,
    },
    /// It is no valid manifest, index or configuration, as its media type says.
    Document {
        /// Why.
        reason: String,
    },
    /// It breaks a limit on size, depth or number.
    Limit {
        /// Which.
        reason: String,
    },
    /// Two facts differ, so that two readers see two images.
    Contradiction {
        /// Both.
        reason: String,
    },
    /// It could not be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = &self.blob;
        match &self.fault {
            Fault::Missing => write!(f, "blob `{blob}` is missing"),
            Fault::Size { expected, found } => {
                write!(f, "blob `{blob}` has {found} bytes, expected {expected}")
            }
            Fault::Digest { found, size } => {
                write!(f, "blob `{blob}` does not match: its {size} bytes have digest `{found}`")
            }
            Fault::DiffId { expected, found } => {
                write!(f, "layer `{blob}` unpacks to `{found}`, but the configuration says `{expected}`")
            }
            Fault::LayerCount { layers, diff_ids } => {
                write!(f, "configuration `{blob}` has {diff_ids} diff_ids for {layers} layers")
            }
            Fault::Compression { media_type, found } => {
                write!(f, "layer `{blob}` has type `{media_type}`, but its bytes are {found}")
            }
            Fault::TypeConflict { expected, found } => {
                write!(f, "blob `{blob}` is referred to as `{expected}` and as `{found}`")
            }
            Fault::Undecodable { reason } => write!(f, "layer `{blob}` cannot be unpacked: {reason}"),
            Fault::Document { reason } | Fault::Contradiction { reason } => write!(f, "{reason}"),
            Fault::Limit { reason } => write!(f, "blob `{blob}`: {reason}"),
            Fault::Unreadable { reason } => write!(f, "blob `{blob}` cannot be read: {reason}"),
        }?;
        match self.referred_by.as_slice() {
            [] => Ok(()),
            [one] => write!(f, " (in `{one}`)"),
            [one, more @ ..] => write!(f, " (in `{one}` and {} more)", more.len()),
        }
    }
}
