//! Pushes the source image of an app: uses layers of an earlier image again, unless the registry has lost them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::model::{Descriptor, Digest, Reference, Repository, Tag};
use crate::registry::{Client, PushStart, RegistryError};
use crate::stream::{cancel, into_value, lock};

use super::app_image::{Ready, pack_app_to_spool};
use super::blob_push::BlobPush;
use super::events::{BlobOutcome, Observer};
use super::produce::Spooled;
use super::read_ahead::ThreadPermits;
use super::{
    AppRequest, Base, FileList, PackedImage, PushRequest, RegistrySource, SpooledImage, TransferError,
    push_file_list, push_to_registry, workers,
};

/// Where the earlier image is.
#[derive(Clone, Debug)]
pub enum Earlier<'a> {
    /// There is none: every layer is packed.
    None,
    /// It was read already.
    Known(Base<'a>),
    /// In a repository.
    Repository {
        /// Its name.
        reference: Reference,
        /// Whether its absence is an error.
        required: bool,
    },
}

/// An app to pack, and the repository it is pushed to.
#[derive(Clone, Debug)]
pub struct AppPush<'a> {
    /// What is packed.
    pub request: &'a AppRequest,
    /// The image whose layers are used again.
    pub earlier: Earlier<'a>,
    /// The repository it goes to.
    pub repository: Repository,
    /// The tags it gets there.
    pub tags: &'a [Tag],
    /// Blobs moved at the same time.
    pub concurrency: usize,
    /// Folder for the packed layers, which have no names there.
    pub folder: PathBuf,
}

/// Packs an app into a source image and pushes it.
///
/// Errors: [`TransferError::UnexpectedDigest`] before anything is sent; those of reading the earlier image, if it is
/// required.
/// Cost: each file is read once where no layer can be used again, else up to twice.
pub fn push_app(
    push: &AppPush<'_>,
    client: &Client,
    observer: &dyn Observer,
) -> Result<PackedImage, TransferError> {
    let earlier = match &push.earlier {
        Earlier::Repository { reference, required: true } => {
            let source = RegistrySource::new(client, reference.repository.clone());
            let root = source.resolve(&reference.target())?;
            Some((source, root))
        }
        Earlier::Repository { reference, required: false } => earlier_image(client, reference)?,
        _ => None,
    };
    let base = match (&push.earlier, &earlier) {
        (Earlier::Known(base), _) => Some(base.clone()),
        (_, Some((source, root))) => Some(Base::of(source, root)?),
        _ => None,
    };
    match push.with_base(base.as_ref(), client, observer) {
        // A layer of the earlier image is gone, perhaps since the HEAD request: pack every layer.
        Err(error) if base.is_some() && error.may_mean_a_missing_blob() => {
            push.with_base(base.as_ref().map(Base::without_layers).as_ref(), client, observer)
        }
        result => result,
    }
}

/// Resolves a reference to the image it names now; `None` if there is none.
pub fn earlier_image<'a>(
    client: &'a Client,
    reference: &Reference,
) -> Result<Option<(RegistrySource<'a>, Descriptor)>, TransferError> {
    let source = RegistrySource::new(client, reference.repository.clone());
    match source.resolve(&reference.target()) {
        Ok(root) => Ok(Some((source, root))),
        // Many registries answer 401 or 403 for a repository that does not exist.
        Err(TransferError::Registry(RegistryError::NotFound { .. } | RegistryError::Refused { .. })) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the registry has layers that the earlier image lacks, because an interrupted push sent them.
///
/// A push sends the same layers first each time: if the first ones are absent, so are the others.
#[derive(Debug, Default)]
struct Absent {
    sent: AtomicUsize,
    found: AtomicBool,
}

impl Absent {
    /// Layers that get a HEAD request; if all of these are absent, the rest gets none.
    const ASKED: usize = 4;

    fn is_likely(&self) -> bool {
        self.sent.load(Ordering::Relaxed) >= Self::ASKED && !self.found.load(Ordering::Relaxed)
    }

    fn learn(&self, outcome: BlobOutcome) {
        if outcome == BlobOutcome::Transferred {
            self.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.found.store(true, Ordering::Relaxed);
        }
    }
}

/// An image in a spool: itself, its blobs, and its files.
type Spool<'a> = (PackedImage, SpooledImage<'a>, FileList);

impl AppPush<'_> {
    fn with_base(
        &self,
        base: Option<&Base<'_>>,
        client: &Client,
        observer: &dyn Observer,
    ) -> Result<PackedImage, TransferError> {
        let ((packed, source, files), sent) = self.pack_and_send_layers(base, client, observer)?;
        // A client that sends a list of resources will ask for a match again, so the file list is pushed before the
        // image's own tag.
        if self.request.resources.is_some() {
            push_file_list(&self.repository, packed.manifest.digest(), &files, client, observer)?;
        }
        let push = PushRequest {
            repository: self.repository.clone(),
            roots: vec![(packed.manifest.descriptor(), self.tags.to_vec())],
            attached: Vec::new(),
            sent,
            concurrency: self.concurrency,
            include_non_distributable: true,
        };
        push_to_registry(&source, client, &push, observer)?;
        Ok(packed)
    }

    /// Packs the image; sends each of several layers while others are packed. Returns the digests that were sent.
    ///
    /// With an expected digest nothing is sent early, because the digest is known only at the end.
    fn pack_and_send_layers<'a>(
        &self,
        base: Option<&Base<'a>>,
        client: &Client,
        observer: &dyn Observer,
    ) -> Result<(Spool<'a>, BTreeSet<Digest>), TransferError> {
        let pack = |ready: Ready<'_>| pack_app_to_spool(self.request, base, &self.folder, observer, ready);
        if self.request.expected_digest.is_some() {
            return Ok((pack(&|_| Ok(()))?, BTreeSet::new()));
        }
        let sent: Mutex<BTreeSet<Digest>> = Mutex::default();
        let absent = Absent::default();
        let permits = ThreadPermits::default();
        let on_the_way = workers::OnTheWay::new(self.concurrency);
        let send = |layer: Spooled| {
            let way = on_the_way.begin(layer.descriptor.size, cancel::is_cancelled);
            let Some(_way) = way else { return Err(TransferError::Stopped) };
            let push = BlobPush {
                client,
                repository: &self.repository,
                start: if absent.is_likely() { PushStart::Send } else { PushStart::Ask(&[]) },
                blob: &layer.descriptor,
                source_label: &self.folder.display().to_string(),
                permits: &permits,
                observer,
            };
            absent.learn(push.send(&|| Ok(layer.open()))?);
            lock(&sent).insert(layer.descriptor.digest.clone());
            Ok(())
        };
        let packed = workers::for_each_streamed(self.concurrency, send, |hand_over| {
            pack(&|layer| hand_over(layer.clone()))
        })?;
        Ok((packed, into_value(sent)))
    }
}
