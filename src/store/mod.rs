//! Images at rest on disk: OCI layouts (tar or folder), docker-save and imgpkg archives.
//!
//! Floor 2. The floors above see one type, [`Store`], for every kind of file; [`open()`] finds the kind by
//! content. Does not know registries.

use std::path::PathBuf;

use crate::model::{Descriptor, Digest, DocumentError, Reference, Tag, keys};
use crate::stream::{Compression, FileError, Mismatch};
use crate::tar::TarError;

mod agreement;
mod archive;
mod docker_archive;
mod docker_layers;
pub mod imgpkg_tar;
mod kind;
pub mod layout;
mod left_out;
mod listed;
mod open;
mod opened;
mod place;
mod reading;
mod remote;
mod remote_blobs;
mod root_list;
mod selector;
pub mod slots;
mod spool;
#[cfg(test)]
mod whole_archives;

pub use left_out::{LeftOut, left_out_to_text};
pub use open::{open, open_parts, open_parts_to_inspect, open_to_inspect};
pub use opened::Store;
pub use place::{BlobPlace, Stamp};
pub use reading::{open_verified, read_document};
pub use remote::open_remote;
pub use remote_blobs::RemoteBlobs;
pub use selector::{Selector, SelectorError, image_label, image_labels};

/// Names under which one top-level image of a store is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ImageName {
    /// The tag, if the store records one.
    pub tag: Option<Tag>,
    /// The full reference, if the store records one.
    pub reference: Option<Reference>,
}

impl ImageName {
    /// Makes the name of a full reference.
    #[must_use]
    pub fn of(reference: Reference) -> Self {
        Self { tag: reference.tag.clone(), reference: Some(reference) }
    }
}

/// An image with the names it has, or is to get, in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedImage {
    /// What it points at, with the annotations of its entry.
    pub descriptor: Descriptor,
    /// Its names, in order; empty when it has none.
    pub names: Vec<ImageName>,
    /// Where the image came from: the reference in the lock file that names it, or where it was read.
    pub origin: Option<Reference>,
}

impl NamedImage {
    /// Makes an image without names.
    #[must_use]
    pub fn unnamed(descriptor: Descriptor) -> Self {
        Self { descriptor, names: Vec::new(), origin: None }
    }

    /// Names an image by references; each must have a tag to be recorded.
    #[must_use]
    pub fn new(descriptor: Descriptor, references: &[Reference]) -> Self {
        let name = |reference: &Reference| ImageName::of(reference.clone());
        Self { names: references.iter().map(name).collect(), ..Self::unnamed(descriptor) }
    }

    /// Returns what to call it in messages: a full name, where it came from, or its digest.
    #[must_use]
    pub fn label(&self) -> String {
        let named = self.names.iter().find_map(|name| name.reference.as_ref().map(ToString::to_string));
        let origin = || self.descriptor.annotations.get(keys::ORIGIN).cloned();
        named.or_else(origin).unwrap_or_else(|| self.descriptor.digest.to_string())
    }
}

/// One top-level image of a store. Several entries of `index.json` on one digest are one root with many names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The image, with the annotations of its first entry and its names in the order of the entries.
    pub image: NamedImage,
    /// The store is about this image; the others are there because it refers to them.
    pub is_root_bundle: bool,
}

impl Root {
    pub(crate) fn new(descriptor: Descriptor) -> Self {
        Self { image: NamedImage::unnamed(descriptor), is_root_bundle: false }
    }
}

/// A fact about a store that is not damage, but that some readers refuse or that a user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The tar as a whole is compressed.
    Wrapped(Compression),
    /// The tar has no end-of-archive mark; it may have been cut.
    NoEndMark,
    /// An OCI layout tar without docker's `manifest.json`.
    NoDockerManifest,
    /// An entry of `index.json` that is neither a manifest nor an index was passed over.
    ForeignRoot(Box<Descriptor>),
    /// `index.json` has an entry twice.
    EntryTwice(Digest),
    /// Names that are neither a tag nor a reference were passed over.
    InvalidNames {
        /// How many.
        count: usize,
        /// The first ten, each once.
        names: Vec<String>,
    },
    /// Two facts of the store make two readers see two images. [`open()`] refuses such a store.
    Contradiction {
        /// What the facts are about.
        digest: Digest,
        /// Both facts.
        text: String,
    },
    /// docker's `manifest.json` beside an OCI layout is not what docker reads; with what is wrong.
    UnreadableDockerManifest(String),
    /// A file below `blobs/` whose name is not a digest was passed over.
    StrayBlob(String),
}

/// The kinds of file or folder that are recognised by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// An OCI image layout as a tar.
    OciLayoutTar,
    /// An OCI image layout as a folder.
    OciLayoutDirectory,
    /// What `docker save` wrote before version 25 (`manifest.json` only).
    DockerArchive,
    /// What `imgpkg copy --to-tar` writes.
    ImgpkgTar,
    /// Images of a store in a bucket or shared folder.
    Remote,
}

impl StoreKind {
    /// Returns the name used in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OciLayoutTar => "oci-layout-tar",
            Self::OciLayoutDirectory => "oci-layout-directory",
            Self::DockerArchive => "docker-archive",
            Self::ImgpkgTar => "imgpkg-tar",
            Self::Remote => "image-store",
        }
    }
}

/// Why a store could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content is none of the known kinds.
    #[error("`{}` is not an image archive: {found}", path.display())]
    UnknownKind {
        /// The file or folder.
        path: PathBuf,
        /// What the content looks like, and what was expected.
        found: String,
    },
    /// The tar itself is broken.
    #[error("`{}` is damaged: {source}", path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: TarError,
    },
    /// The archive breaks its own format.
    #[error("`{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, with the entry's name and offset where there is one.
        problem: String,
    },
    /// A blob that something points at is not there.
    #[error("`{}` does not hold blob `{digest}`", path.display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// Digest of the blob.
        digest: Digest,
    },
    /// A blob was left out because the other side has it, and nothing was named that has it.
    #[error("`{}` was written without blob `{digest}`", path.display())]
    LeftOut {
        /// The file or folder.
        path: PathBuf,
        /// Digest of the blob.
        digest: Digest,
    },
    /// A stored blob is not what its name promises.
    #[error("`{}` is damaged: {mismatch}", path.display())]
    Mismatch {
        /// The file or folder.
        path: PathBuf,
        /// Expected and found.
        mismatch: Mismatch,
    },
    /// No image, or more than one, is what was selected.
    #[error("`{}` holds {}: {}", path.display(), selected(*found, selector), crate::model::list::clause_list(images))]
    NotSelected {
        /// The file or folder.
        path: PathBuf,
        /// What was selected, as it is written.
        selector: String,
        /// How many images it means.
        found: usize,
        /// All images of the store, each with its name, position and digest.
        images: Vec<String>,
    },
    /// Two facts of the store make two readers see two images.
    #[error("`{}` contradicts itself: {}", path.display(), crate::model::list::clause_list(problems))]
    Contradiction {
        /// The file or folder.
        path: PathBuf,
        /// The facts.
        problems: Vec<String>,
    },
    /// A manifest or index in the store is not valid.
    #[error("`{}` is damaged: {source}", path.display())]
    Document {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: DocumentError,
    },
    /// A blob of an image in a bucket, shared folder or web server is not there.
    #[error("{place} has no blob `{digest}`")]
    Gone {
        /// The image, in quotes, and which version of it.
        place: String,
        /// Digest of the blob.
        digest: Digest,
    },
    /// The bucket, folder or web server that has the blobs failed.
    #[error("`{}`: {problem}", path.display())]
    Remote {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// It kept failing, and may answer later.
        is_unreachable: bool,
    },
    /// Something is larger than allowed.
    #[error("{what} in `{}` has more than {limit} bytes, which is not accepted", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Most bytes allowed.
        limit: u64,
    },
}

fn selected(found: usize, selector: &str) -> String {
    match found {
        0 => format!("no image `{selector}`; it has"),
        found => format!("{found} images that are `{selector}`; it has"),
    }
}

impl StoreError {
    /// Makes the error for a tar; a failing disk is not a damaged archive.
    #[must_use]
    pub fn tar(path: &std::path::Path, error: TarError) -> Self {
        match error {
            TarError::Io { source, .. } => Self::File(FileError::io("read", path, source)),
            source => Self::Tar { path: path.to_owned(), source },
        }
    }

    fn damaged(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }

    fn unknown(path: &std::path::Path, found: impl Into<String>) -> Self {
        Self::UnknownKind { path: path.to_owned(), found: found.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_by_a_full_name_its_origin_or_its_digest() {
        let mut image = NamedImage::unnamed(Descriptor::of_bytes("a", b"image"));
        let digest = "sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d";
        assert_eq!(image.label(), digest);
        image.names.push(ImageName { tag: Some("v1".parse().unwrap()), reference: None });
        assert_eq!(image.label(), digest, "a tag alone is no full name");
        image.descriptor.annotations.insert(keys::ORIGIN.to_owned(), "reg.example/origin".to_owned());
        assert_eq!(image.label(), "reg.example/origin");
        image.names.push(ImageName::of("reg.example/app:v2".parse().unwrap()));
        assert_eq!(image.label(), "reg.example/app:v2");
    }
}
