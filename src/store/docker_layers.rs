//! The layers of a docker-save tar: digest, size and compression of each, read from what the archive says where it can be.
//!
//! Hashing costs as much as sending, so a layer is hashed only if nothing states its digest. A `diff_id` is the digest of
//! a layer that is not compressed. go-containerregistry, and so crane and kaniko, and jib call a compressed layer by its
//! digest (`<hex>.tar.gz`); whether an archive does that is found out by hashing its smallest one. Nothing here is
//! believed for good: a layer is verified against its digest whenever it is read.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{Algorithm, Descriptor, Digest, media_type};
use crate::stream::{Compression, FileError, HashingWriter, cancel, into_value, lock, threads};

use super::StoreError;
use super::archive::{Archive, Span};

/// Bytes of a tar's first header.
const HEADER: u64 = 512;

/// A file of the archive that is a layer.
pub(super) struct LayerFile<'a> {
    span: Span,
    name: &'a str,
    /// What the configurations call the layer before compression; none if they disagree.
    diff_id: Option<Digest>,
}

impl<'a> LayerFile<'a> {
    pub(super) fn new(span: Span, name: &'a str, diff_id: Digest) -> Self {
        Self { span, name, diff_id: Some(diff_id) }
    }

    /// Learns what another image calls the layer.
    pub(super) fn also(&mut self, diff_id: &Digest) {
        if self.diff_id.as_ref() != Some(diff_id) {
            self.diff_id = None;
        }
    }

    /// Returns the digest that the file's name states: `<hex>.tar.gz`, behind any folders.
    fn digest_in_name(&self) -> Option<Digest> {
        let name = self.name.rsplit('/').next().unwrap_or(self.name);
        format!("sha256:{}", name.strip_suffix(".tar.gz")?).parse().ok()
    }
}

/// A layer whose media type is known, and the digest that something states.
struct Recognised {
    span: Span,
    media_type: &'static str,
    stated: Option<Digest>,
}

/// Describes the layers; the key is the offset.
pub(super) fn describe(
    archive: &Archive,
    files: &[LayerFile<'_>],
    path: &Path,
) -> Result<BTreeMap<u64, Descriptor>, StoreError> {
    let failed = |error| FileError::io("read", path, error);
    let mut layers = Vec::with_capacity(files.len());
    for file in files {
        layers.push(recognise(archive, file).map_err(failed)?);
    }
    if !are_names_digests(archive, &layers).map_err(failed)? {
        for layer in layers.iter_mut().filter(|layer| layer.media_type != media_type::DOCKER_LAYER) {
            layer.stated = None;
        }
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<u64, Descriptor>> = Mutex::default();
    let work = || -> Result<(), StoreError> {
        while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let digest = match &layer.stated {
                Some(digest) => digest.clone(),
                None => hash(archive, layer.span).map_err(failed)?.0,
            };
            let descriptor = Descriptor::new(layer.media_type, digest, layer.span.size);
            lock(&done).insert(layer.span.offset, descriptor);
        }
        Ok(())
    };
    let threads =
        std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8).min(layers.len().max(1));
    threads::share(threads, work).into_iter().collect::<Result<(), _>>()?;
    Ok(into_value(done))
}

/// Recognises the compression of a layer by its first bytes.
fn recognise(archive: &Archive, file: &LayerFile<'_>) -> io::Result<Recognised> {
    let span = file.span;
    let mut start = Vec::new();
    archive.reader(Span { size: span.size.min(HEADER), ..span }).read_to_end(&mut start)?;
    let (media_type, stated) = match Compression::of_magic(&start) {
        Compression::Gzip => (media_type::DOCKER_LAYER_GZIP, file.digest_in_name()),
        Compression::Zstd => (media_type::DOCKER_LAYER_ZSTD, None),
        // Anything else may be compressed in a way that is not known here.
        Compression::None => {
            let is_tar = start.get(257..262) == Some(b"ustar".as_slice());
            let is_stated = |digest: &Digest| is_tar && digest.algorithm() == Algorithm::Sha256;
            (media_type::DOCKER_LAYER, file.diff_id.clone().filter(is_stated))
        }
    };
    Ok(Recognised { span, media_type, stated })
}

/// Tells whether the smallest of the compressed layers whose name states a digest has that digest.
fn are_names_digests(archive: &Archive, layers: &[Recognised]) -> io::Result<bool> {
    let is_named =
        |layer: &&Recognised| layer.media_type != media_type::DOCKER_LAYER && layer.stated.is_some();
    let Some(smallest) = layers.iter().filter(is_named).min_by_key(|layer| layer.span.size) else {
        return Ok(false);
    };
    Ok(Some(hash(archive, smallest.span)?.0) == smallest.stated)
}

/// Hashes a file of the archive, and returns its digest and size.
pub(super) fn hash(archive: &Archive, span: Span) -> io::Result<(Digest, u64)> {
    let mut reader = archive.reader(span);
    let mut writer = HashingWriter::new(io::sink());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        cancel::check()?;
        match reader.read(&mut buffer)? {
            0 => break,
            count => writer.write_all(&buffer[..count])?,
        }
    }
    let (_, digest, size) = writer.finish();
    Ok((digest, size))
}
