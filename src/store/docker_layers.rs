//! The layers of a docker-save tar: digest, size and compression of each, read from what the archive says where it can be.
//!
//! Hashing costs as much as sending, so a layer is hashed only if nothing states its digest. A `diff_id` is the digest of
//! a layer that is not compressed. go-containerregistry, and so crane and kaniko, and jib call a compressed layer by its
//! digest (`<hex>.tar.gz`); whether an archive does that is found out by hashing its smallest one. A stated
//! digest is not trusted: a layer is verified against it whenever it is read.

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
pub(super) struct ArchivedLayer<'a> {
    span: Span,
    name: &'a str,
    /// What the configurations call the layer before compression; none if they disagree.
    diff_id: Option<Digest>,
}

impl<'a> ArchivedLayer<'a> {
    pub(super) fn new(span: Span, name: &'a str, diff_id: Digest) -> Self {
        Self { span, name, diff_id: Some(diff_id) }
    }

    /// Learns what another image calls the layer.
    pub(super) fn also(&mut self, diff_id: &Digest) {
        if self.diff_id.as_ref() != Some(diff_id) {
            self.diff_id = None;
        }
    }

    /// Returns the digest that the file's name states: `<hex>.tar.gz`, after any folders.
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
    files: &[ArchivedLayer<'_>],
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
fn recognise(archive: &Archive, file: &ArchivedLayer<'_>) -> io::Result<Recognised> {
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

#[cfg(test)]
mod tests {
    use testkit::tarball::Tarball;

    use super::*;
    use crate::store::archive::Node;
    use crate::store::whole_archives::gzip;

    /// The digest of other bytes than those of any layer.
    fn other() -> Digest {
        Digest::sha256_of(b"other")
    }

    /// Describes layers of these names and bytes, with the digests that a configuration calls them by.
    fn described(layers: &[(String, Vec<u8>, Digest)]) -> Vec<Descriptor> {
        let tar = layers.iter().fold(Tarball::new(), |tar, (name, bytes, _)| tar.file(name, bytes));
        let mut file = crate::stream::nameless_file(&std::env::temp_dir()).unwrap();
        file.write_all(&tar.finish()).unwrap();
        let archive = Archive::open(Box::new(file), Path::new("in.tar")).unwrap();
        let layer = |(name, _, diff_id): &'_ (String, Vec<u8>, Digest)| match archive.node(name.as_bytes()) {
            Some(Node::File(span)) => (*span, diff_id.clone()),
            other => panic!("`{name}` is no file: {other:?}"),
        };
        let spans: Vec<(Span, Digest)> = layers.iter().map(layer).collect();
        let files: Vec<ArchivedLayer<'_>> = spans
            .iter()
            .zip(layers)
            .map(|((span, diff_id), (name, ..))| ArchivedLayer::new(*span, name, diff_id.clone()))
            .collect();
        describe(&archive, &files, Path::new("in.tar")).unwrap().into_values().collect()
    }

    #[test]
    fn names_of_compressed_layers_are_digests_if_that_of_the_smallest_is() {
        let (small, large) = (gzip(b"small"), gzip(&(0..=255).collect::<Vec<u8>>()));
        assert!(small.len() < large.len());
        let named = |digest: &Digest| format!("{}.tar.gz", digest.hex());
        let (true_small, true_large) = (Digest::sha256_of(&small), Digest::sha256_of(&large));
        for (name_of_small, expected_large) in
            [(named(&true_small), other()), (named(&Digest::sha256_of(b"x")), true_large.clone())]
        {
            let layers = [
                (format!("folder/{}", named(&other())), large.clone(), Digest::sha256_of(b"b")),
                (name_of_small.clone(), small.clone(), Digest::sha256_of(b"a")),
            ];
            let found = described(&layers);
            let digests: Vec<&Digest> = found.iter().map(|layer| &layer.digest).collect();
            assert_eq!(digests, [&expected_large, &true_small], "{name_of_small}");
            assert!(found.iter().all(|layer| layer.media_type == media_type::DOCKER_LAYER_GZIP));
            assert_eq!(found[0].size, large.len() as u64);
        }
        // The name of the larger one is right, but not asked.
        let layers = [
            (named(&true_large), large, Digest::sha256_of(b"b")),
            ("small.tar.gz".to_owned(), small, Digest::sha256_of(b"a")),
        ];
        let found = described(&layers);
        assert_eq!(found.iter().map(|layer| &layer.digest).collect::<Vec<_>>(), [&true_large, &true_small]);
    }

    #[test]
    fn a_diff_id_is_believed_of_a_tar_and_of_nothing_else() {
        let tar = Tarball::new().file("a", "b").finish();
        let found = described(&[
            ("tar".to_owned(), tar.clone(), other()),
            ("text".to_owned(), b"text".to_vec(), other()),
            ("gzip".to_owned(), gzip(b"x"), other()),
        ]);
        let digests: Vec<&Digest> = found.iter().map(|layer| &layer.digest).collect();
        let (text, gzip) = (Digest::sha256_of(b"text"), Digest::sha256_of(&gzip(b"x")));
        assert_eq!(digests, [&other(), &text, &gzip]);
        assert_eq!(found[0].size, tar.len() as u64);
        let sha512: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        let found = described(&[("tar".to_owned(), tar.clone(), sha512)]);
        assert_eq!(found[0].digest, Digest::sha256_of(&tar), "layers of docker have SHA-256 digests");
    }

    #[test]
    fn a_layer_that_two_images_call_differently_has_no_digest_of_theirs() {
        let mut layer = ArchivedLayer::new(Span { offset: 0, size: 0 }, "l", other());
        layer.also(&other());
        assert_eq!(layer.diff_id, Some(other()));
        layer.also(&Digest::sha256_of(b"another"));
        assert_eq!(layer.diff_id, None);
        layer.also(&other());
        assert_eq!(layer.diff_id, None);
    }
}
