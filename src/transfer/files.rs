//! The file list of an image, by SHA-1 and size. A push stores it beside the image, so that matching needs one small
//! download; if there is no list, the layers are read.
//!
//! The list is not trusted: `app_image` reads each file from the verified layers and compares SHA-1 and size.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Mutex;

use crate::model::{
    Descriptor, Digest, FileSum, RawDocument, Repository, Tag, Target, keys, limits, media_type,
};
use crate::pack::{ImageOptions, MediaTypes};
use crate::registry::{Client, RegistryError};
use crate::stream::{TooLarge, into_value, lock, read_bounded};

use super::events::{Event, Observer, Warning};
use super::layer_files::for_each_file;
use super::one_file::OneFileImage;
use super::{ImageSource, PushRequest, RegistrySource, TransferError, push_to_registry, workers};

/// Name of the file with the list: a line for each file, its SHA-1 and size, sorted.
const LIST: &str = "files";

/// The files of an image, empty ones left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileList {
    sums: BTreeSet<FileSum>,
}

impl FileList {
    /// Makes a list.
    pub fn new(sums: impl IntoIterator<Item = FileSum>) -> Self {
        Self { sums: sums.into_iter().filter(|sum| sum.size > 0).collect() }
    }

    /// Tells whether the image has this file.
    #[must_use]
    pub fn has(&self, sum: &FileSum) -> bool {
        self.sums.contains(sum)
    }

    /// Writes the list.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(50 * self.sums.len());
        for sum in &self.sums {
            writeln!(text, "{sum} {}", sum.size).expect("writing to a String cannot fail");
        }
        text
    }

    /// Reads the list; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sum = |line: &str| {
            let (sha1, size) = line.split_once(' ')?;
            FileSum::parse(sha1, size.parse().ok()?).ok()
        };
        text.lines().map(sum).collect::<Option<BTreeSet<_>>>().map(|sums| Self { sums })
    }

    /// Lists the files of an image by reading its layers; an index or artifact has none.
    ///
    /// Cost: reads and inflates every layer.
    pub fn read(
        source: &dyn ImageSource,
        root: &Descriptor,
        concurrency: usize,
    ) -> Result<Self, TransferError> {
        let document = source.read_document(root)?;
        let Some(manifest) = document.manifest() else { return Ok(Self::default()) };
        let is_layer = |layer: &&Descriptor| media_type::is_layer(&layer.media_type);
        let layers: Vec<&Descriptor> = manifest.layers.iter().filter(is_layer).collect();
        let sums = Mutex::new(BTreeSet::new());
        workers::for_each(&layers, concurrency, |layer| {
            for_each_file(source, layer, |file| {
                let sum = file.hash(|_| Ok(()))?;
                let mut sums = lock(&sums);
                sums.insert(sum);
                let count = sums.len();
                drop(sums);
                if count > limits::ARCHIVE_ENTRIES {
                    let (subject, limit) = (format!("`{}`", source.label()), limits::ARCHIVE_ENTRIES);
                    return Err(TransferError::TooMany { subject, what: "files", limit });
                }
                Ok(())
            })
        })?;
        Ok(Self::new(into_value(sums)))
    }
}

/// Returns the tag of the image that holds an image's list.
fn list_tag(image: &Digest) -> Tag {
    let hex: String = image.hex().chars().take(64).collect();
    let tag = format!("{}-{hex}.files.imgrelay", image.algorithm().name());
    tag.parse().expect("letters, dashes, dots and hex are a tag")
}

fn list_image(image: &Digest, list: &FileList) -> OneFileImage {
    let options = ImageOptions {
        // Every registry that accepts images accepts these media types.
        media_types: MediaTypes::Oci,
        platform: None,
        labels: Default::default(),
        annotations: [(keys::FILES_OF.to_owned(), image.to_string())].into(),
    };
    OneFileImage::new(LIST, list.to_text().as_bytes(), &options)
}

/// Pushes an image's list beside it; does nothing if it is there.
pub fn push_file_list(
    repository: &Repository,
    digest: &Digest,
    list: &FileList,
    client: &Client,
    observer: &dyn Observer,
) -> Result<(), TransferError> {
    let list = list_image(digest, list);
    let request = PushRequest {
        repository: repository.clone(),
        roots: vec![(list.manifest.descriptor(), vec![list_tag(digest)])],
        attached: Vec::new(),
        sent: BTreeSet::new(),
        concurrency: 2,
        include_non_distributable: true,
    };
    push_to_registry(&list, client, &request, observer)
}

/// Returns the files of an image in a registry.
///
/// Errors: those of reading. Without a list the layers are read, and a warning event is sent.
pub fn file_list(
    source: &RegistrySource<'_>,
    root: &Descriptor,
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<FileList, TransferError> {
    let tag = Target::Tag(list_tag(&root.digest));
    let written = match source.resolve(&tag) {
        Ok(list) => read_list(source, &root.digest, &source.read_document(&list)?)?,
        Err(TransferError::Registry(RegistryError::NotFound { .. } | RegistryError::Refused { .. })) => None,
        Err(error) => return Err(error),
    };
    if let Some(list) = written {
        return Ok(list);
    }
    let warning = Warning::FilesNotListed { image: format!("{}@{}", source.label(), root.digest) };
    observer.event(Event::Warning(&warning));
    FileList::read(source, root, concurrency)
}

/// Reads the list from its image; `None` if the tag holds something else, or the list of another image.
fn read_list(
    source: &dyn ImageSource,
    image: &Digest,
    document: &RawDocument,
) -> Result<Option<FileList>, TransferError> {
    let Some(manifest) = document.manifest() else { return Ok(None) };
    let of = manifest.annotations.get(keys::FILES_OF);
    let (Some(layer), true) = (manifest.layers.first(), of.is_some_and(|of| *of == image.to_string())) else {
        return Ok(None);
    };
    let mut list = None;
    for_each_file(source, layer, |file| {
        if file.entry.path != LIST.as_bytes() || list.is_some() {
            return Ok(());
        }
        let bytes = read_bounded(&mut *file, limits::FILE_LIST_BYTES).map_err(|error| match error {
            TooLarge::Io(error) => (file.broken)(error),
            TooLarge::Limit { limit } => TransferError::TooMany {
                subject: format!("the list of files of `{image}`"),
                what: "bytes",
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
        })?;
        list = std::str::from_utf8(&bytes).ok().and_then(FileList::parse);
        Ok(())
    })?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let sum = |sha1: &str, size| FileSum::parse(&sha1.repeat(20), size).unwrap();
        let list = FileList::new([sum("b0", 7), sum("0a", u64::MAX), sum("da", 0), sum("b0", 7)]);
        let text = format!("{} {}\n{} 7\n", "0a".repeat(20), u64::MAX, "b0".repeat(20));
        assert_eq!(list.to_text(), text, "sorted, each once, empty files left out");
        assert_eq!(FileList::parse(&text), Some(list));
        for wrong in ["x", "x 7", &text.replace(" 7", ""), &text.replace(" 7", " -7"), "\n"] {
            assert_eq!(FileList::parse(wrong), None, "{wrong}");
        }
        assert_eq!(list_tag(&Digest::sha256_of(b"")).as_str().len(), 7 + 64 + 15);
    }
}
