//! A store in a folder: a share, a volume, a disk. An object is written to a temporary file in the same folder and
//! renamed.
//!
//! There are no locks. Links are not followed, so that a shared folder cannot name files outside of it.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{self as rfs, Mode, OFlags};
use rustix::io::Errno;

use crate::model::{Descriptor, limits};
use crate::registry::BlobBody;
use crate::stream::{AtomicFile, FileError, TooLarge, read_bounded};

use super::version::PushTime;
use super::{DepotError, Objects};

/// Permissions of objects, before the umask: other users of a share read them.
const MODE: u32 = 0o644;
/// Bytes copied at once.
const BLOCK: usize = 256 * 1024;
/// How long the clients of a network file system may keep a list: twice the usual `acdirmax` of NFS, with a margin.
const CACHED: Duration = Duration::from_secs(130);
/// File systems without other machines: ext4, xfs, btrfs, tmpfs, overlayfs, zfs, f2fs. Source: statfs(2), Linux's magic.h.
const LOCAL: [i64; 7] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x2FC1_2FC1, 0xF2F5_2010];
/// Levels of folders in a list: the entries of all tags.
const DEPTH: usize = 2;

/// The folder.
#[derive(Debug)]
pub struct FolderObjects {
    root: PathBuf,
}

impl FolderObjects {
    /// Uses a folder for objects; it may not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Opens a regular file; `None` if it does not exist.
    fn file(&self, key: &str) -> Result<Option<(File, u64)>, DepotError> {
        let path = self.path(key);
        // Without `NONBLOCK`, opening a pipe would wait without end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rfs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(FileError::io("open", &path, error).into()),
        };
        let metadata = file.metadata().map_err(|error| FileError::io("look at", &path, error))?;
        match metadata.is_file() {
            true => Ok(Some((file, metadata.len()))),
            false => Err(FileError::NotAFile { path, found: "no regular file" }.into()),
        }
    }

    /// Creates the file of an object and the folders above it.
    fn create(&self, key: &str) -> Result<AtomicFile, DepotError> {
        let path = self.path(key);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| FileError::io("create directory", parent, error))?;
        }
        Ok(AtomicFile::create(&path, MODE)?)
    }

    /// Adds the keys below a folder.
    fn collect(
        &self,
        folder: &Path,
        before: &str,
        depth: usize,
        keys: &mut Vec<String>,
    ) -> Result<(), DepotError> {
        for (name, is_folder) in entries(folder)? {
            let key = format!("{before}{name}");
            if !is_folder {
                keys.push(key);
            } else if depth < DEPTH {
                self.collect(&folder.join(&name), &format!("{key}/"), depth + 1, keys)?;
            }
            if keys.len() > limits::LIST_ENTRIES {
                let (place, folder) = (self.label(), folder.display().to_string());
                return Err(DepotError::TooMany { place, folder, limit: limits::LIST_ENTRIES });
            }
        }
        Ok(())
    }
}

/// Lists a folder: names, and whether each is a folder. Hidden files are skipped: they are being written.
fn entries(folder: &Path) -> Result<Vec<(String, bool)>, DepotError> {
    let failed = |error: io::Error| DepotError::from(FileError::io("list", folder, error));
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        // A key is always UTF-8.
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            found.push((name, is_folder));
        }
    }
    Ok(found)
}

impl Objects for FolderObjects {
    fn label(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, DepotError> {
        let Some((file, _)) = self.file(key)? else { return Ok(None) };
        read_bounded(file, limit).map(Some).map_err(|error| match error {
            TooLarge::Limit { limit } => {
                DepotError::TooLarge { place: self.label(), key: key.to_owned(), limit }
            }
            TooLarge::Io(error) => FileError::io("read", &self.path(key), error).into(),
        })
    }

    fn open(&self, key: &str, from: u64) -> Result<Option<Box<dyn Read + Send + '_>>, DepotError> {
        let Some((mut file, _)) = self.file(key)? else { return Ok(None) };
        file.seek(SeekFrom::Start(from)).map_err(|error| FileError::io("read", &self.path(key), error))?;
        Ok(Some(Box::new(file)))
    }

    fn size(&self, key: &str) -> Result<Option<u64>, DepotError> {
        Ok(self.file(key)?.map(|(_, size)| size))
    }

    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), DepotError> {
        let file = self.create(key)?;
        file.file().write_all(bytes).map_err(|error| FileError::io("write", &self.path(key), error))?;
        Ok(file.commit()?)
    }

    fn write_blob(
        &self,
        key: &str,
        _: &Descriptor,
        body: &dyn BlobBody,
        progress: &dyn Fn(u64),
    ) -> Result<(), DepotError> {
        let mut reader = body.open().map_err(DepotError::Source)?;
        let file = self.create(key)?;
        let mut block = vec![0; BLOCK];
        loop {
            let count = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(DepotError::Source(error)),
            };
            file.file()
                .write_all(&block[..count])
                .map_err(|error| FileError::io("write", &self.path(key), error))?;
            progress(count as u64);
        }
        Ok(file.commit()?)
    }

    fn delete(&self, key: &str) -> Result<(), DepotError> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io("delete", &path, error).into())
            }
            _ => Ok(()),
        }
    }

    /// A client of a network file system lists what it has in its cache of attributes.
    fn delay(&self) -> Duration {
        match rfs::statfs(&self.root) {
            Ok(found) if !LOCAL.contains(&found.f_type) => CACHED,
            _ => Duration::ZERO,
        }
    }

    fn list(
        &self,
        folder: &str,
        _: usize,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), DepotError> {
        let mut keys = Vec::new();
        self.collect(&self.path(folder), "", 1, &mut keys)?;
        keys.sort_unstable();
        let _ = keys.iter().try_for_each(|key| take(key));
        Ok(())
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, DepotError> {
        let entries = entries(&self.path(folder))?.into_iter();
        let mut names: Vec<String> =
            entries.filter_map(|(name, is_folder)| is_folder.then_some(name)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn any(&self) -> Result<Option<String>, DepotError> {
        Ok(entries(&self.root)?.into_iter().map(|(name, _)| name).min())
    }

    /// The server's clock: the server of a share sets the time of a written file.
    fn now(&self) -> Result<PushTime, DepotError> {
        let file = self.create("oci-layout")?;
        let failed = |error: io::Error| FileError::io("look at", file.target(), error);
        file.file().write_all(b"\n").map_err(failed)?;
        let modified = file.file().metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(PushTime::of_milliseconds(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}
