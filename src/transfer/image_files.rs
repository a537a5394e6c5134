//! Lists the entries of an image: reads its layers, and unpacks nothing to disk.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use crate::model::{Descriptor, limits};
use crate::stream::{Blocks, Decoder, into_value, lock, read_ahead};
use crate::tar::{Entry, EntryKind, FileTree, LayerEntry, Node, Reader};

use super::events::{BlobOutcome, Event, Observer};
use super::{ImageSource, TransferError, workers};

/// Bytes of a file that are hashed at once.
const PIECE: usize = 64 * 1024;

/// The entries of an image.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageFiles {
    /// Its entries.
    pub(super) tree: FileTree,
    /// The content of the wanted files, by path.
    pub(super) wanted: HashMap<Vec<u8>, Vec<u8>>,
}

/// Whether the content of files is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Only what headers say.
    Skip,
    /// SHA-256 of each file.
    Hash,
}

/// How layers are read.
pub(super) struct Reading<'a> {
    /// Files whose content is kept, at most [`limits::ACCOUNTS_BYTES`] of each.
    pub(super) wanted: &'a [&'a [u8]],
    pub(super) contents: Contents,
    pub(super) concurrency: usize,
    pub(super) observer: &'a dyn Observer,
    pub(super) budget: Budget,
}

/// How many entries and bytes of names may still be read; bounds the memory of the lists.
#[derive(Debug)]
pub(super) struct Budget {
    entries: AtomicUsize,
    bytes: AtomicU64,
    most_entries: usize,
    most_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(limits::LISTED_ENTRIES, limits::LISTED_BYTES)
    }
}

impl Budget {
    fn of(most_entries: usize, most_bytes: u64) -> Self {
        Self { entries: AtomicUsize::new(0), bytes: AtomicU64::new(0), most_entries, most_bytes }
    }

    fn take(&self, place: &dyn ImageSource, entry: &Entry) -> Result<(), TransferError> {
        let too_many = |what, limit| {
            let subject = format!("`{}`", place.label());
            Err(TransferError::TooMany { subject, what, limit })
        };
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.most_entries {
            return too_many("files and folders", self.most_entries);
        }
        let bytes = (entry.path.len() + entry.link.len()) as u64;
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.most_bytes {
            let limit = usize::try_from(self.most_bytes).unwrap_or(usize::MAX);
            return too_many("bytes of file names", limit);
        }
        Ok(())
    }
}

/// The entries of one layer, in its order, and the wanted files among them.
#[derive(Debug, Default)]
pub(super) struct LayerList {
    pub(super) entries: Vec<LayerEntry>,
    wanted: HashMap<Vec<u8>, Vec<u8>>,
}

/// Reads the entries of layers, lowest first, and applies them in order; also the content of wanted files.
///
/// Errors: those of reading; more than [`limits::LISTED_ENTRIES`] entries or [`limits::LISTED_BYTES`] bytes of names.
/// Cost: reads and inflates every layer once; memory grows with the number of entries, not with their size.
pub(super) fn read_files(
    source: &dyn ImageSource,
    layers: &[Descriptor],
    reading: &Reading<'_>,
) -> Result<ImageFiles, TransferError> {
    /// Applies layers in their order; one that arrives early waits for those below it.
    #[derive(Default)]
    struct Growing {
        files: ImageFiles,
        next: usize,
        early: HashMap<usize, LayerList>,
    }
    let numbered: Vec<(usize, &Descriptor)> = layers.iter().enumerate().collect();
    let growing: Mutex<Growing> = Mutex::default();
    announce(layers, reading);
    workers::for_each(&numbered, reading.concurrency, |(number, layer)| {
        let list = read_layer(source, layer, *number, reading)?;
        let mut growing = lock(&growing);
        let Growing { files, next, early } = &mut *growing;
        early.insert(*number, list);
        while let Some(list) = early.remove(next) {
            files.tree.apply(&list.entries);
            files.wanted.extend(list.wanted);
            *next += 1;
        }
        Ok(())
    })?;
    let mut files = into_value(growing).files;
    files.wanted.retain(|path, _| files.tree.get(path).is_some());
    Ok(files)
}

/// Sends the event with the blobs and bytes to be read.
pub(super) fn announce<'a>(layers: impl IntoIterator<Item = &'a Descriptor>, reading: &Reading<'_>) {
    let (mut blobs, mut bytes) = (0, 0);
    for layer in layers {
        blobs += 1;
        bytes += layer.size;
    }
    reading.observer.event(Event::Planned { blobs, bytes });
}

/// Reads the entries of one layer; once more if the bytes from a registry did not match.
///
/// `number` is the layer's number, which the nodes record.
pub(super) fn read_layer(
    source: &dyn ImageSource,
    layer: &Descriptor,
    number: usize,
    reading: &Reading<'_>,
) -> Result<LayerList, TransferError> {
    reading.observer.event(Event::BlobStarted { descriptor: layer });
    let list = match read_once(source, layer, number, reading) {
        Err(error) if error.is_mismatch() && source.repository_of(&layer.digest).is_some() => {
            reading.observer.event(Event::BlobRestarted { digest: &layer.digest });
            read_once(source, layer, number, reading)?
        }
        result => result?,
    };
    let outcome = BlobOutcome::Transferred;
    reading.observer.event(Event::BlobFinished { descriptor: layer, outcome });
    Ok(list)
}

fn read_once(
    source: &dyn ImageSource,
    layer: &Descriptor,
    number: usize,
    reading: &Reading<'_>,
) -> Result<LayerList, TransferError> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let what = format!("layer `{}`", layer.digest);
    let broken = |error| TransferError::from_read(&source.place_of(&layer.digest), &what, error);
    let tar = |error: crate::tar::TarError| match error.into_io() {
        Ok(error) => broken(error),
        Err(source) => TransferError::Tar { layer: layer.digest.clone(), source },
    };
    let mut list = LayerList::default();
    let stored = Counted { inner: source.open_blob(layer)?, layer, observer: reading.observer };
    std::thread::scope(|scope| {
        // Fetching and verifying run on another thread than inflating.
        let mut stored = read_ahead(scope, stored, Blocks::Large).map_err(broken)?;
        {
            let mut reader = Reader::new(Decoder::new(Box::new(&mut stored)).map_err(broken)?);
            let mut piece = vec![0; PIECE];
            while let Some(entry) = reader.next_entry().map_err(tar)? {
                reading.budget.take(source, &entry)?;
                let mut node = Node::of(&entry, number);
                let wanted = reading.wanted.iter().find(|path| is_path(&entry.path, path));
                if let Some(path) = wanted.filter(|_| entry.kind == EntryKind::File) {
                    let content = read_bounded(&mut reader, path, &what, &broken)?;
                    list.wanted.insert(path.to_vec(), content);
                } else if entry.kind == EntryKind::File && reading.contents == Contents::Hash {
                    node.content.sha256 = Some(hash(&mut reader, &mut piece).map_err(broken)?);
                }
                list.entries.push((entry.path, Arc::new(node)));
            }
        }
        // The digest is verified only at the end of the layer.
        io::copy(&mut stored, &mut io::sink()).map(drop).map_err(broken)
    })?;
    Ok(list)
}

fn hash(content: &mut impl io::Read, piece: &mut [u8]) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    loop {
        match content.read(piece) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(count) => hasher.update(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_bounded(
    content: &mut impl io::Read,
    path: &[u8],
    what: &str,
    broken: &dyn Fn(io::Error) -> TransferError,
) -> Result<Vec<u8>, TransferError> {
    let limit = limits::ACCOUNTS_BYTES;
    let mut bytes = Vec::new();
    content.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > limit {
        let subject = format!("`/{}` in {what}", String::from_utf8_lossy(path));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        return Err(TransferError::TooMany { subject, what: "bytes", limit });
    }
    Ok(bytes)
}

/// Tells whether a stored path is this one; tools write it with `./` or `/` in front, or without.
fn is_path(stored: &[u8], path: &[u8]) -> bool {
    let stored = stored.strip_prefix(b"./").or(stored.strip_prefix(b"/")).unwrap_or(stored);
    stored == path
}

/// A reader that reports its bytes to the observer.
struct Counted<'a, R> {
    inner: R,
    layer: &'a Descriptor,
    observer: &'a dyn Observer,
}

impl<R: io::Read> io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.observer.event(Event::BlobProgress { digest: &self.layer.digest, bytes: count as u64 });
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Document;
    use crate::pack::{ImageOptions, MediaTypes};
    use crate::transfer::events::Silent;
    use crate::transfer::one_file::OneFileImage;

    fn read(contents: Contents, budget: Budget) -> Result<FileTree, String> {
        let options = ImageOptions {
            media_types: MediaTypes::Oci,
            platform: None,
            labels: Default::default(),
            annotations: Default::default(),
        };
        let image = OneFileImage::new("name", b"abc", &options);
        let Document::Manifest(manifest) = image.manifest.document() else { unreachable!("an image") };
        let reading = Reading { wanted: &[], contents, concurrency: 2, observer: &Silent, budget };
        let files = read_files(&image, &manifest.layers, &reading);
        files.map(|files| files.tree).map_err(|error| error.to_string())
    }

    #[test]
    fn more_entries_or_names_than_a_list_may_have_are_refused() {
        assert_eq!(read(Contents::Skip, Budget::of(2, 5)).unwrap().len(), 1);
        let too_many = read(Contents::Skip, Budget::of(1, 5)).unwrap_err();
        assert!(too_many.ends_with("more than 1 files and folders, which is not accepted"), "{too_many}");
        let too_long = read(Contents::Skip, Budget::of(2, 4)).unwrap_err();
        assert!(too_long.ends_with("more than 4 bytes of file names, which is not accepted"), "{too_long}");
    }

    #[test]
    fn the_sum_of_a_file_is_its_sha256() {
        let sum = |contents| read(contents, Budget::default()).unwrap().get(b"name").unwrap().content.sha256;
        assert_eq!(sum(Contents::Skip), None);
        let hex: String = sum(Contents::Hash).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
