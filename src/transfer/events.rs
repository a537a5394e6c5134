//! Events as values: the front turns them into bars, lines or JSON; this file has no text for a user.

use super::attached_counts::AttachedCounts;
use crate::model::{Descriptor, Digest, Platform, Repository, Tag};

/// Takes events while work goes on, from several threads.
pub trait Observer: Send + Sync {
    /// Takes one event; must be quick.
    fn event(&self, event: Event<'_>);
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// The result for one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobOutcome {
    /// Its bytes were sent or written.
    Transferred,
    /// The registry mounted it from another of its repositories.
    Mounted,
    /// It was there already.
    Present,
    /// It is left out on purpose (non-distributable layer).
    Skipped,
}

/// One step of the work.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Files are being packed; more bytes of content were read.
    Packed {
        /// Bytes since the last event of this kind.
        bytes: u64,
    },
    /// Files and folders were packed to the end.
    PackFinished {
        /// Entries in the layer, folders included.
        entries: u64,
        /// Bytes of the uncompressed layer.
        uncompressed: u64,
        /// Bytes of the layer as stored.
        compressed: u64,
    },
    /// A bundle's images are being looked up.
    Gathering {
        /// Images known so far.
        images: u64,
    },
    /// More is to be moved, including what the target may have already; sent for each image or repository.
    Planned {
        /// Blobs.
        blobs: u64,
        /// Bytes.
        bytes: u64,
    },
    /// The transfer of a blob begins.
    BlobStarted {
        /// Which.
        descriptor: &'a Descriptor,
    },
    /// More bytes of a blob were transferred.
    BlobProgress {
        /// Which.
        digest: &'a Digest,
        /// Bytes since the last event for this blob.
        bytes: u64,
    },
    /// The transfer of a blob begins again from its first byte.
    BlobRestarted {
        /// Which.
        digest: &'a Digest,
    },
    /// A blob is done.
    BlobFinished {
        /// Which.
        descriptor: &'a Descriptor,
        /// How.
        outcome: BlobOutcome,
    },
    /// A manifest or index was written by digest.
    ManifestFinished {
        /// Which.
        descriptor: &'a Descriptor,
        /// It was there already.
        present: bool,
    },
    /// A tag now points at a digest.
    TagWritten {
        /// Where.
        repository: &'a Repository,
        /// The tag.
        tag: &'a Tag,
        /// What it points at.
        digest: &'a Digest,
        /// It pointed at the digest already, and nothing was sent.
        unchanged: bool,
    },
    /// A file or folder was extracted; more bytes were written.
    Extracted {
        /// Bytes since the last event of this kind.
        bytes: u64,
    },
    /// Bytes of an archive were checked.
    Verified {
        /// Bytes since the last event of this kind.
        bytes: u64,
    },
    /// Something a user should know that does not stop the work.
    Warning(&'a Warning),
}

/// Things a user should know that do not stop the work.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Non-distributable layers were left out.
    NonDistributableSkipped {
        /// The image they belong to.
        image: String,
        /// What that image is a part of, if it is in an index.
        index: Option<String>,
        /// The layers.
        layers: Vec<Digest>,
    },
    /// Unused blobs of an image store are being deleted, and the push waits for the end of it.
    StoreIsCollected {
        /// The store.
        store: String,
    },
    /// A bundle was copied without images that it names.
    ImagesMissing {
        /// The references in its lock file.
        images: Vec<String>,
    },
    /// An image has no name with a tag, and is pushed without one.
    PushedWithoutTag {
        /// The image.
        digest: Digest,
    },
    /// imgpkg's tar cannot hold the annotations of an ImagesLock.
    LockAnnotationsLost {
        /// How many images have some.
        images: usize,
    },
    /// The registry accepted a tag and does not show it yet.
    TagNotShown {
        /// The reference.
        tag: String,
        /// What was written.
        digest: Digest,
    },
    /// A delta tar was requested, and the other images have none of its layers.
    NothingShared,
    /// Non-distributable layers were requested, but there are none.
    NothingNonDistributable,
    /// A tar that holds one image was written without what is attached to it.
    AttachedLeftOut {
        /// How many of which kind.
        counts: AttachedCounts,
    },
    /// Signatures or other referrers of an index were left out, because another index replaces it.
    AttachedToReplacedIndex {
        /// How many of which kind.
        counts: AttachedCounts,
    },
    /// An index was narrowed to some of its platforms, which gives it another digest.
    IndexNarrowed {
        /// Digest of the index that was read.
        from: Digest,
        /// Digest of the new index, or of the image that is left.
        to: Digest,
        /// How many signatures and other referrers of the left-out manifests there are.
        left_behind: AttachedCounts,
    },
    /// A signature is for another name than that of the repository it is pushed to.
    SignedForOther {
        /// The name in the signature.
        name: String,
        /// The repository.
        to: String,
    },
    /// Files behind symbolic links were stored as copies.
    LinksCopied {
        /// How many files.
        count: u64,
        /// The first of them, made readable.
        first: String,
    },
    /// Symbolic links were left out on request.
    LinksLeftOut {
        /// How many.
        count: u64,
    },
    /// Programs were packed that the image's platform cannot run.
    OtherMachine {
        /// The files.
        files: Vec<String>,
        /// What they are for: `arm64`.
        machine: &'static str,
        /// What the image is for.
        platform: Platform,
    },
    /// The entrypoint will probably not start.
    Entrypoint {
        /// As the configuration has it.
        program: String,
        /// Why not.
        problem: &'static str,
    },
    /// The user of the image cannot read files that were packed.
    KeptOut {
        /// The user, as the configuration has it.
        user: String,
        /// How many files.
        count: u64,
        /// The first of them, made readable.
        first: String,
    },
    /// A program needs a dynamic loader that the image does not have.
    LoaderMissing {
        /// The program.
        file: String,
        /// The loader's path.
        loader: String,
    },
    /// A base has signatures or other referrers, which do not apply to the result.
    BaseIsSigned {
        /// How many of which kind.
        counts: AttachedCounts,
    },
    /// A new entrypoint removed the default arguments of the base.
    CmdDropped {
        /// The arguments.
        cmd: Vec<String>,
    },
    /// Platforms of a base are not in the result, because no files can be put on them.
    PlatformsWithoutFiles {
        /// Which.
        platforms: Vec<Platform>,
    },
    /// The old content of a folder was replaced, but could not be removed.
    LeftBehind {
        /// Which path, and why.
        problem: String,
    },
    /// The names of a zip have `\\` in place of `/`.
    Backslashes {
        /// The first of them, made readable.
        first: String,
    },
    /// A name of a zip has `\\`, others have `/`.
    BackslashInName {
        /// The first of them, made readable.
        first: String,
    },
    /// A package repository has something that kapp-controller reads otherwise than its author meant.
    Package {
        /// File, line and what is wrong.
        problem: String,
    },
    /// A package repository has more mistakes than are reported one by one.
    MorePackages {
        /// How many more.
        count: usize,
    },
    /// No file list is stored for an image; its layers are read.
    FilesNotListed {
        /// The image.
        image: String,
    },
    /// The registry sent a `Warning` header.
    Registry {
        /// Host.
        host: String,
        /// Its text.
        text: String,
    },
}
