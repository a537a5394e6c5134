//! Errors of moving images.

use std::io;

use crate::depot::DepotError;
use crate::lock::LockError;
use crate::model::list::{clause_list, quoted_list};
use crate::model::{ConfigError, Digest, DocumentError, Malformed, Platform};
use crate::pack::{BundleError, IndexError, PackError, PackageProblem, RebaseError};
use crate::registry::{BucketError, RegistryError};
use crate::sign::{ClaimError, KeyError};
use crate::store::StoreError;
use crate::stream::{FileError, Mismatch};
use crate::tar::{ExtractError, TarError};

/// Why images could not be moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A tar or folder could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry refused or failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An image store could not be read or written.
    #[error(transparent)]
    Depot(#[from] DepotError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Folders could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Folders have no valid bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Images cannot be listed in one index, or an index does not have what was requested.
    #[error(transparent)]
    Index(#[from] Box<IndexError>),
    /// A bundle was to be listed in an index.
    #[error("`{place}` holds a bundle, `{digest}`, which cannot be part of a multi-platform image")]
    BundleInIndex {
        /// Where it was read from.
        place: String,
        /// Digest of the bundle.
        digest: Digest,
    },
    /// An image is to be listed in an index, and its configuration names no platform.
    #[error("`{place}`: the configuration of image `{digest}` names no operating system and architecture")]
    NoPlatformOfItsOwn {
        /// Where it was read from.
        place: String,
        /// Digest of the image.
        digest: Digest,
    },
    /// A package repository has mistakes, and the caller asked to refuse those.
    #[error("this package repository has {}: {}", mistakes(problems.len()), clause_list(problems))]
    Packages {
        /// What is wrong.
        problems: Vec<PackageProblem>,
    },
    /// A manifest or index is not valid.
    #[error("`{place}`: {source}")]
    Document {
        /// Where it was read from.
        place: String,
        /// Why.
        source: DocumentError,
    },
    /// A configuration is not valid.
    #[error("`{place}`: configuration `{digest}` is not valid: {source}")]
    Config {
        /// Where it was read from.
        place: String,
        /// Digest of the configuration.
        digest: Digest,
        /// Why.
        source: ConfigError,
    },
    /// What was read does not have the size or digest that its descriptor says.
    #[error("`{place}`: {mismatch}")]
    Mismatch {
        /// Where it was read from.
        place: String,
        /// Expected and found.
        mismatch: Mismatch,
    },
    /// A layer's uncompressed bytes are not what the configuration promises.
    #[error("`{place}`: layer `{layer}` unpacks to `{found}`, but the configuration says `{expected}`")]
    DiffId {
        /// Where it was read from.
        place: String,
        /// Digest of the layer as stored.
        layer: Digest,
        /// `diff_id` of the configuration.
        expected: Digest,
        /// Digest of the uncompressed bytes.
        found: Digest,
    },
    /// The configuration names another number of layers than the manifest.
    #[error("`{place}`: the manifest has {layers} layers, but the configuration has {diff_ids} `diff_ids`")]
    LayerCount {
        /// Where it was read from.
        place: String,
        /// Layers of the manifest.
        layers: usize,
        /// `diff_ids` of the configuration.
        diff_ids: usize,
    },
    /// A stream broke.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What was being read, with its place.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A layer could not be extracted.
    #[error("layer `{layer}`: {source}")]
    Extract {
        /// Digest of the layer.
        layer: Digest,
        /// Entry and reason.
        source: ExtractError,
    },
    /// The earlier image lacks a file that an upload left out.
    #[error("`{path}` ({size} bytes, SHA-1 `{sha1}`) is in the list of resources, but {}", without(place.as_deref()))]
    NoSuchFile {
        /// Where it was looked for; none if there is no earlier image.
        place: Option<String>,
        /// The path in the app.
        path: String,
        /// SHA-1 asked for.
        sha1: String,
        /// Size asked for.
        size: u64,
    },
    /// A layer is not a tar.
    #[error("layer `{layer}`: {source}")]
    Tar {
        /// Digest of the layer.
        layer: Digest,
        /// Entry and reason.
        source: TarError,
    },
    /// No image of an index serves the platform.
    #[error("no image for `{wanted}` in `{place}`; it has {}", list(has))]
    NoPlatform {
        /// Where it was looked for.
        place: String,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// The platforms there are.
        has: Vec<String>,
    },
    /// An image that was chosen by its platform is for another one.
    #[error("`{place}`: image `{image}` is listed for `{listed}`, but its configuration says `{own}`")]
    OtherPlatform {
        /// Where it was read from.
        place: String,
        /// Digest of the image.
        image: Digest,
        /// What the index says.
        listed: Box<Platform>,
        /// What the configuration says.
        own: Box<Platform>,
    },
    /// A tar holds only some of an index's images, and all are needed.
    #[error(
        "`{place}` does not hold the whole index `{index}`: {} not in it; it has {}",
        missing(lacking),
        list(there)
    )]
    Sparse {
        /// The tar or folder.
        place: String,
        /// The index.
        index: Digest,
        /// The platforms that are not there.
        lacking: Vec<String>,
        /// The platforms that are there.
        there: Vec<String>,
    },
    /// The manifest is an artifact without file system layers.
    #[error("`{place}` is not an image with files: {found}")]
    NotAnImage {
        /// Where it was read from.
        place: String,
        /// What it is instead.
        found: String,
    },
    /// More documents or deeper nesting than any real image has.
    #[error("{subject} has more than {limit} {what}, which is not accepted")]
    TooMany {
        /// What has too much, as a phrase: `` `app.tar` ``, `` blob `sha256:…` in `app.tar` ``.
        subject: String,
        /// What there is too much of.
        what: &'static str,
        /// Most allowed.
        limit: usize,
    },
    /// The image does not have the digest that the caller expects.
    #[error("the image has digest `{found}`, expected `{expected}`")]
    UnexpectedDigest {
        /// The expected digest.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// After the push a tag points at something else.
    #[error(
        "tag `{tag}` points at `{found}` after the push, expected `{expected}`; another client pushed it meanwhile, or the registry changed the image"
    )]
    TagMoved {
        /// The tag.
        tag: String,
        /// What was pushed.
        expected: Digest,
        /// What it points at.
        found: Digest,
    },
    /// The lock file inside a bundle is not valid.
    #[error("`{place}`: `.imgpkg/images.yml`: {source}")]
    Lock {
        /// The bundle.
        place: String,
        /// Line, field and reason.
        source: LockError,
    },
    /// No candidate repository has an image.
    #[error("cannot find `{image}`: {source}")]
    NotFound {
        /// The image, as the bundle or lock file names it.
        image: String,
        /// The error of the last candidate.
        source: Box<TransferError>,
    },
    /// A part of an image is missing, and no repository is known that has it.
    #[error("`{place}` does not hold `{digest}`, and no other place of it is known")]
    Nowhere {
        /// What is missing.
        digest: Digest,
        /// Where it was looked for.
        place: String,
    },
    /// imgpkg's tar cannot hold everything.
    #[error("`{digest}` cannot be written into imgpkg's tar: {problem}")]
    NotForImgpkg {
        /// What cannot be written.
        digest: Digest,
        /// Why.
        problem: String,
    },
    /// A non-distributable layer is needed, but the source was written without it.
    #[error("`{place}` does not hold the non-distributable layer `{layer}` of {image}")]
    NonDistributableMissing {
        /// The layer.
        layer: Digest,
        /// The image it belongs to, in backquotes if it has a name.
        image: String,
        /// Where it was looked for.
        place: String,
    },
    /// A layer that is to be read was left out when the tar was written, because it may not be distributed.
    #[error("`{place}` was written without layer `{layer}`, which may not be distributed{}", at_urls(urls))]
    NonDistributableLeftOut {
        /// The layer.
        layer: Digest,
        /// The tar.
        place: String,
        /// Where its descriptor says that it is, as far as it may be shown.
        urls: Vec<String>,
    },
    /// A tar was written without a non-distributable layer, and fetching it from its origin failed.
    #[error(
        "`{place}` was written without the non-distributable layer `{layer}`, and fetching it failed: {source}"
    )]
    NonDistributableUnreachable {
        /// The layer.
        layer: Digest,
        /// The tar.
        place: String,
        /// Why fetching failed.
        source: Box<RegistryError>,
    },
    /// Requested paths are not in the image.
    #[error("`{place}` has nothing at {}", list(paths))]
    NotIncluded {
        /// Where it was read from.
        place: String,
        /// The paths.
        paths: Vec<String>,
    },
    /// A bundle in a lock file that lists plain images.
    #[error("`{image}` is a bundle, but the ImagesLock may name plain images only")]
    BundleInLock {
        /// The bundle.
        image: String,
    },
    /// An image has no signature, or no attestation, that is accepted.
    #[error("`{place}`: image `{image}` has no {missing}{}", because(problems))]
    Unsigned {
        /// Where it was read from.
        place: String,
        /// The image.
        image: Digest,
        /// What is required.
        missing: String,
        /// The statements that exist, and why each is not accepted.
        problems: Vec<String>,
    },
    /// An image is to be signed, and no name is recorded for it.
    #[error("`{place}`: image `{image}` has no recorded name that a signature could be for")]
    NoIdentity {
        /// Where it was read from.
        place: String,
        /// The image.
        image: Digest,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A manifest of signatures, to which one was to be added, cannot be read.
    #[error("the image's signatures cannot be read: {0}")]
    Claim(#[from] ClaimError),
    /// An image that cannot be a base.
    #[error("`{place}` cannot be a base: {problem}")]
    NoBase {
        /// Where it was read from.
        place: String,
        /// Why not.
        problem: String,
    },
    /// The requested media types are not those of the base.
    #[error("the base has {found} media types, but {asked} ones were asked for")]
    MediaTypesOfBase {
        /// Those of the base: `docker`.
        found: &'static str,
        /// The requested ones.
        asked: &'static str,
    },
    /// A user or group that the base does not have.
    #[error("`{name}` is not in `/{file}` of the base")]
    NoSuchName {
        /// The name.
        name: String,
        /// Where it was looked for.
        file: String,
    },
    /// An image cannot be put on another base.
    #[error("`{place}` cannot be put on another base: {source}")]
    Rebase {
        /// Where the image was read from.
        place: String,
        /// Why not.
        source: Box<RebaseError>,
    },
    /// The content of a signed statement is not JSON.
    #[error("{what} is not valid JSON: {source}")]
    NotJson {
        /// What it is.
        what: &'static str,
        /// Where and why.
        source: Malformed,
    },
    /// A signal stopped the work.
    #[error("stopped")]
    Stopped,
    /// An invariant of the code does not hold.
    #[error("internal error: {what}")]
    Internal {
        /// Which.
        what: &'static str,
    },
}

impl TransferError {
    /// Makes the error for a stream that broke: a mismatch if the I/O error carries one.
    #[must_use]
    pub fn from_read(place: &str, what: &str, error: io::Error) -> Self {
        if let Some(mismatch) = Mismatch::in_error(&error) {
            return Self::Mismatch { place: place.to_owned(), mismatch: mismatch.clone() };
        }
        match Self::raise_server(error) {
            Err(error) => error,
            Ok(source) => Self::Read { what: format!("{what} from `{place}`"), source },
        }
    }

    /// Passes on an I/O error, unless a server failed: that says nothing about the bytes, and decides the exit code.
    ///
    /// Errors: the failure of the server.
    pub fn raise_server(error: io::Error) -> Result<io::Error, Self> {
        let error = match error.downcast::<RegistryError>() {
            Ok(error) => return Err(Self::Registry(error)),
            Err(error) => error,
        };
        match error.downcast::<BucketError>() {
            Ok(error) => Err(Self::Depot(DepotError::Bucket(error))),
            Err(error) => Ok(error),
        }
    }

    /// Does the same with an error of a store whose blobs are elsewhere.
    pub fn raise_server_of(error: StoreError) -> Result<StoreError, Self> {
        match error {
            StoreError::Remote { .. } => Err(Self::Store(error)),
            StoreError::File(FileError::Io { action, path, source }) => {
                let source = Self::raise_server(source)?;
                Ok(StoreError::File(FileError::Io { action, path, source }))
            }
            other => Ok(other),
        }
    }

    /// Makes the error for a push: that of the source if reading the body failed.
    #[must_use]
    pub fn from_push(place: &str, error: RegistryError) -> Self {
        let RegistryError::Source { task, error } = error else { return Self::Registry(error) };
        if let Some(mismatch) = Mismatch::in_error(&error) {
            return Self::Mismatch { place: place.to_owned(), mismatch: mismatch.clone() };
        }
        let raised = error.downcast::<Self>().map_or_else(Self::raise_server, Err);
        match raised {
            Err(error) => error,
            Ok(error) => Self::Registry(RegistryError::Source { task, error }),
        }
    }

    /// Tells whether a push may have failed because the registry no longer has a blob.
    #[must_use]
    pub fn may_mean_a_missing_blob(&self) -> bool {
        matches!(
            self,
            Self::Registry(
                RegistryError::NotFound { .. }
                    | RegistryError::Rejected { .. }
                    | RegistryError::Source { .. }
            )
        )
    }

    /// Tells whether received bytes did not match; a second transfer may succeed.
    #[must_use]
    pub fn is_mismatch(&self) -> bool {
        matches!(self, Self::Mismatch { .. } | Self::Registry(RegistryError::Mismatch { .. }))
    }
}

/// Writes why no statement is accepted: a list after a colon, or nothing.
fn because(problems: &[String]) -> String {
    if problems.is_empty() { String::new() } else { format!(" that is accepted: {}", clause_list(problems)) }
}

fn mistakes(count: usize) -> String {
    if count == 1 { "a mistake".to_owned() } else { format!("{count} mistakes") }
}

fn without(place: Option<&str>) -> String {
    match place {
        Some(place) => format!("the earlier image in `{place}` has no such file"),
        None => "there is no earlier image".to_owned(),
    }
}

fn at_urls(urls: &[String]) -> String {
    if urls.is_empty() { String::new() } else { format!("; its `urls` name {}", quoted_list(urls)) }
}

fn missing(items: &[String]) -> String {
    format!("{} {}", quoted_list(items), if items.len() == 1 { "is" } else { "are" })
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    quoted_list(items)
}

impl From<IndexError> for TransferError {
    fn from(error: IndexError) -> Self {
        Self::Index(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> BucketError {
        let (host, task, cause) = ("b.example".to_owned(), "read `a`".to_owned(), "it broke".to_owned());
        BucketError::Unreachable { host, task, attempts: 2, elapsed: std::time::Duration::ZERO, cause }
    }

    #[test]
    fn a_server_that_failed_is_told_from_bytes_that_are_wrong() {
        let text = unreachable().to_string();
        let raised = TransferError::raise_server(io::Error::other(unreachable())).unwrap_err();
        assert!(matches!(raised, TransferError::Depot(DepotError::Bucket(_))), "{raised}");
        assert_eq!(raised.to_string(), text);
        let raised = TransferError::raise_server(io::Error::other(RegistryError::Cancelled)).unwrap_err();
        assert!(matches!(raised, TransferError::Registry(RegistryError::Cancelled)), "{raised}");
        let passed = TransferError::raise_server(io::Error::other("torn")).unwrap();
        assert_eq!(passed.to_string(), "torn");

        let path = std::path::Path::new("a.tar");
        let file = |error| StoreError::File(FileError::io("read", path, error));
        let raised = TransferError::raise_server_of(file(io::Error::other(unreachable()))).unwrap_err();
        assert_eq!(raised.to_string(), text);
        let passed = TransferError::raise_server_of(file(io::ErrorKind::NotFound.into())).unwrap();
        assert!(passed.to_string().starts_with("cannot read `a.tar`: "), "{passed}");
        let (problem, is_unreachable) = ("it broke".to_owned(), true);
        let remote = StoreError::Remote { path: path.to_owned(), problem, is_unreachable };
        assert!(matches!(
            TransferError::raise_server_of(remote),
            Err(TransferError::Store(StoreError::Remote { .. }))
        ));
        let missing = StoreError::Missing { path: path.to_owned(), digest: Digest::sha256_of(b"a") };
        assert!(TransferError::raise_server_of(missing).is_ok());
    }

    #[test]
    fn the_failure_of_a_source_is_that_of_a_read_and_of_a_push() {
        let text = unreachable().to_string();
        let read = TransferError::from_read("a.tar", "a blob", io::Error::other(unreachable()));
        assert_eq!(read.to_string(), text);
        let read = TransferError::from_read("a.tar", "a blob", io::Error::other("torn"));
        assert_eq!(read.to_string(), "cannot read a blob from `a.tar`: torn");
        let push = |error: io::Error| {
            let (host, repository) = ("reg.example".to_owned(), "a".to_owned());
            let (verb, object) = (crate::registry::Verb::Upload, "blob `a`".to_owned());
            let task = Box::new(crate::registry::Task { host, repository, verb, object });
            TransferError::from_push("a.tar", RegistryError::Source { task, error })
        };
        assert_eq!(push(io::Error::other(unreachable())).to_string(), text);
        assert!(matches!(push(io::Error::other(TransferError::Stopped)), TransferError::Stopped));
        assert!(matches!(
            push(io::Error::other("torn")),
            TransferError::Registry(RegistryError::Source { .. })
        ));
    }
}
