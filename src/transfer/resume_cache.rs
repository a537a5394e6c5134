//! The folder beside a tar that keeps fetched blobs while the tar is written, so that `--resume` does not fetch them again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Descriptor, Digest, RawDocument, Repository};
use crate::stream::{AtomicFile, BlobStream, FileError, VerifyingReader};

use super::blob_copy::BlobCopier;
use super::events::Silent;
use super::{ImageSource, TransferError};

/// Smallest blob that is worth a file of its own, bytes.
const WORTH_KEEPING: u64 = 64 * 1024;
/// Permissions of the files: they are the user's own business until the tar is complete.
const MODE: u32 = 0o600;

/// A source whose blobs are kept as files in a folder.
pub struct ResumeCache<'a> {
    inner: &'a dyn ImageSource,
    folder: PathBuf,
}

impl std::fmt::Debug for ResumeCache<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumeCache").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<'a> ResumeCache<'a> {
    /// Keeps blobs in the folder `<tar>.parts`, which is made if it is not there.
    pub fn beside(tar: &Path, inner: &'a dyn ImageSource) -> Result<Self, TransferError> {
        let mut name = tar.file_name().unwrap_or_default().to_owned();
        name.push(".parts");
        let folder = tar.with_file_name(name);
        std::fs::create_dir_all(&folder).map_err(|error| FileError::io("create", &folder, error))?;
        Ok(Self { inner, folder })
    }

    /// Removes the folder; the caller does so when the tar is complete.
    pub fn remove(self) -> Result<(), TransferError> {
        Ok(std::fs::remove_dir_all(&self.folder)
            .map_err(|error| FileError::io("remove", &self.folder, error))?)
    }

    /// Opens a kept blob that is whole; removes one that is not.
    fn kept(&self, path: &Path, descriptor: &Descriptor) -> Result<Option<File>, TransferError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::io("open", path, error).into()),
        };
        let mut verifying = VerifyingReader::new(&file, descriptor.digest.clone(), descriptor.size);
        if io::copy(&mut verifying, &mut io::sink()).is_err() {
            std::fs::remove_file(path).map_err(|error| FileError::io("remove", path, error))?;
            return Ok(None);
        }
        let again = File::open(path).map_err(|error| FileError::io("open", path, error))?;
        Ok(Some(again))
    }

    fn fetch(&self, path: &Path, descriptor: &Descriptor) -> Result<(), TransferError> {
        let to = AtomicFile::create(path, MODE)?;
        let failed = |error| FileError::io("write", path, error);
        BlobCopier::new(self.inner, &Silent).copy_blob(descriptor, &mut to.file(), &failed)?;
        Ok(to.commit()?)
    }
}

impl ImageSource for ResumeCache<'_> {
    fn label(&self) -> String {
        self.inner.label()
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        self.inner.read_document(descriptor)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        if descriptor.size < WORTH_KEEPING || self.inner.repository_of(&descriptor.digest).is_none() {
            return self.inner.open_blob(descriptor);
        }
        let digest = &descriptor.digest;
        let path = self.folder.join(format!("{}-{}", digest.algorithm().name(), digest.hex()));
        let file = match self.kept(&path, descriptor)? {
            Some(file) => file,
            None => {
                self.fetch(&path, descriptor)?;
                File::open(&path).map_err(|error| FileError::io("open", &path, error))?
            }
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
