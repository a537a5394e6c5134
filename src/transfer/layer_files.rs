//! The files in a layer, one after another; the layer is verified while it is read.

use std::io::{self, Read};

use crate::model::{Descriptor, FileHasher, FileSum};
use crate::stream::{Blocks, Decoder, read_ahead};
use crate::tar::{Entry, EntryKind, Reader};

use super::{ImageSource, TransferError};

/// Bytes of a file that are hashed at once.
const PIECE: usize = 64 * 1024;

/// A file of a layer while it is read.
pub(super) struct LayerFile<'a> {
    pub(super) entry: &'a Entry,
    content: &'a mut dyn Read,
    /// Makes the error for content that cannot be read.
    pub(super) broken: &'a dyn Fn(io::Error) -> TransferError,
}

impl Read for LayerFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

impl LayerFile<'_> {
    /// Reads the content to its end; `keep` gets every piece of it.
    pub(super) fn hash(
        &mut self,
        mut keep: impl FnMut(&[u8]) -> Result<(), TransferError>,
    ) -> Result<FileSum, TransferError> {
        let mut piece = vec![0; PIECE.min(usize::try_from(self.entry.size).unwrap_or(PIECE)).max(1)];
        let mut hasher = FileHasher::default();
        loop {
            let count = self.content.read(&mut piece).map_err(self.broken)?;
            if count == 0 {
                return Ok(hasher.finish());
            }
            let bytes = &piece[..count];
            hasher.update(bytes);
            keep(bytes)?;
        }
    }
}

/// Passes the regular files of a layer to `visit`, in order; `visit` may leave them unread.
///
/// The layer is read to its end, where its digest is verified: the caller may use what it visited only after `Ok`.
pub(super) fn for_each_file(
    source: &dyn ImageSource,
    layer: &Descriptor,
    mut visit: impl FnMut(&mut LayerFile<'_>) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let what = format!("layer `{}`", layer.digest);
    let broken = |error| TransferError::from_read(&source.place_of(&layer.digest), &what, error);
    let tar = |error: crate::tar::TarError| match error.into_io() {
        Ok(error) => broken(error),
        Err(source) => TransferError::Tar { layer: layer.digest.clone(), source },
    };
    let stored = source.open_blob(layer)?;
    std::thread::scope(|scope| {
        // Fetching and verifying run on another thread than inflating.
        let mut stored = read_ahead(scope, stored, Blocks::Large).map_err(broken)?;
        {
            let mut reader = Reader::new(Decoder::new(Box::new(&mut stored)).map_err(broken)?);
            while let Some(entry) = reader.next_entry().map_err(tar)? {
                if entry.kind == EntryKind::File {
                    visit(&mut LayerFile { entry: &entry, content: &mut reader, broken: &broken })?;
                }
            }
        }
        io::copy(&mut stored, &mut io::sink()).map(drop).map_err(broken)
    })
}
