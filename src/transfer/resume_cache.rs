//! The folder beside a tar that keeps fetched blobs while the tar is written, so that `--resume` does not fetch them again.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;

use crate::model::{Descriptor, Digest, RawDocument, Repository};
use crate::stream::{BlobStream, FileError, OwnFolder, VerifyingReader};

use super::blob_copy::BlobCopier;
use super::events::Silent;
use super::{ImageSource, TransferError};

/// Smallest blob that is worth a file of its own, bytes.
const WORTH_KEEPING: u64 = 64 * 1024;

/// A source whose blobs are kept as files in a folder.
pub struct ResumeCache<'a> {
    inner: &'a dyn ImageSource,
    folder: OwnFolder,
}

impl std::fmt::Debug for ResumeCache<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumeCache").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<'a> ResumeCache<'a> {
    /// Keeps blobs in the folder `<tar>.parts`; creates it if it is absent.
    ///
    /// Errors: [`FileError::NotOwn`](crate::stream::FileError) if another user may have written to the folder.
    pub fn beside(tar: &Path, inner: &'a dyn ImageSource) -> Result<Self, TransferError> {
        let mut name = tar.file_name().unwrap_or_default().to_owned();
        name.push(".parts");
        Ok(Self { inner, folder: OwnFolder::open(&tar.with_file_name(name))? })
    }

    /// Removes the folder; the caller does so when the tar is complete.
    pub fn remove(self) -> Result<(), TransferError> {
        Ok(self.folder.remove_all()?)
    }

    /// Opens a kept blob that matches its digest; removes one that does not.
    fn kept(&self, name: &str, descriptor: &Descriptor) -> Result<Option<File>, TransferError> {
        let Some(mut file) = self.folder.read(name)? else { return Ok(None) };
        let mut verifying = VerifyingReader::new(&file, descriptor.digest.clone(), descriptor.size);
        if io::copy(&mut verifying, &mut io::sink()).is_err() || file.rewind().is_err() {
            self.folder.remove(name)?;
            return Ok(None);
        }
        Ok(Some(file))
    }

    /// Fetches a blob into its file and opens the file.
    fn fetch(&self, name: &str, descriptor: &Descriptor) -> Result<File, TransferError> {
        let path = self.folder.path().join(name);
        self.folder.write(name, |mut file| {
            let failed = |error| FileError::io("write", &path, error);
            BlobCopier::new(self.inner, &Silent).copy_blob(descriptor, &mut file, &failed)
        })?;
        let written = self.folder.read(name)?;
        written.ok_or_else(|| FileError::Exchanged { path }.into())
    }
}

impl ImageSource for ResumeCache<'_> {
    fn label(&self) -> String {
        self.inner.label()
    }

    fn place_of(&self, digest: &Digest) -> String {
        self.inner.place_of(digest)
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        self.inner.read_document(descriptor)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        if descriptor.size < WORTH_KEEPING || self.inner.repository_of(&descriptor.digest).is_none() {
            return self.inner.open_blob(descriptor);
        }
        let digest = &descriptor.digest;
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let file = match self.kept(&name, descriptor)? {
            Some(file) => file,
            None => self.fetch(&name, descriptor)?,
        };
        Ok(VerifyingReader::new(file, digest.clone(), descriptor.size).boxed())
    }

    fn lacks(&self, digest: &Digest) -> bool {
        self.inner.lacks(digest)
    }

    fn repository_of(&self, digest: &Digest) -> Option<Repository> {
        self.inner.repository_of(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use testkit::scratch::Scratch;

    use super::*;

    /// A repository with one blob that counts how often it is fetched.
    struct Repositorial {
        blob: Vec<u8>,
        fetched: AtomicUsize,
    }

    impl ImageSource for Repositorial {
        fn label(&self) -> String {
            "r.io/a".to_owned()
        }

        fn read_document(&self, _: &Descriptor) -> Result<RawDocument, TransferError> {
            Err(TransferError::Internal { what: "this test reads no document" })
        }

        fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
            self.fetched.fetch_add(1, Ordering::Relaxed);
            let (digest, size) = (descriptor.digest.clone(), descriptor.size);
            Ok(VerifyingReader::new(&self.blob[..], digest, size).boxed())
        }

        fn repository_of(&self, _: &Digest) -> Option<Repository> {
            "r.io/a".parse().ok()
        }
    }

    #[test]
    fn a_large_blob_is_fetched_once_and_a_damaged_one_again() {
        let scratch = Scratch::new("resume");
        let tar = scratch.join("app.tar");
        for (bytes, kept) in [(WORTH_KEEPING, true), (WORTH_KEEPING - 1, false)] {
            let blob = vec![7; usize::try_from(bytes).unwrap()];
            let descriptor = Descriptor::of_bytes("a/b", &blob);
            let source = Repositorial { blob: blob.clone(), fetched: AtomicUsize::new(0) };
            let cache = ResumeCache::beside(&tar, &source).unwrap();
            let read = || {
                let mut found = Vec::new();
                cache.open_blob(&descriptor).unwrap().read_to_end(&mut found).unwrap();
                assert_eq!(found, blob);
                source.fetched.load(Ordering::Relaxed)
            };
            assert_eq!([read(), read()], if kept { [1, 1] } else { [1, 2] }, "{bytes} bytes");
            if kept {
                let name = format!("app.tar.parts/sha256-{}", descriptor.digest.hex());
                std::fs::write(scratch.join(name), b"cut").unwrap();
                assert_eq!(read(), 2, "what is kept is verified");
            }
            cache.remove().unwrap();
            assert!(!scratch.join("app.tar.parts").exists());
        }
    }
}
