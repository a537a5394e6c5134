//! Detects from the content which kind of image archive a file or folder is.
//!
//! File names and extensions do not count. For other content the error says what it is.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::model::limits;
use crate::model::list::quoted_list;
use crate::stream::{Compression, FileError, ReadAt};
use crate::tar::{display_name, is_tar_start};

use super::archive::Archive;
use super::kind::{looks_like, not_an_archive};
use super::opened::Store;
use super::spool::spool;
use super::{Remark, StoreError, agreement, docker_archive, imgpkg_tar, layout};

/// Opens an OCI layout (tar or folder), docker-save tar or imgpkg tar, or the one of these in a folder.
///
/// A tar may be gzip- or zstd-compressed as a whole, or come through a pipe; it is then unpacked into a file
/// without a name in `temporary`, at most [`limits::SPOOL_BYTES`].
/// Errors: [`StoreError::UnknownKind`] says what the content looks like instead; [`StoreError::Contradiction`] where
/// two readers would see two images.
/// Cost: reads the headers of the tar, not its blobs; docker-save tars are hashed once, because nothing in them
/// says what their layers' digests are.
pub fn open(path: &Path, temporary: &Path) -> Result<Store, StoreError> {
    without_contradictions(open_to_inspect(path, temporary)?, path)
}

/// Opens the same from a tar that is read in parts; `name` is what messages call it.
///
/// Errors and cost: as those of [`open`].
pub fn open_parts(file: Box<dyn ReadAt>, name: &Path, temporary: &Path) -> Result<Store, StoreError> {
    without_contradictions(open_parts_to_inspect(file, name, temporary)?, name)
}

fn without_contradictions(store: Store, path: &Path) -> Result<Store, StoreError> {
    let problems = store.remarks.iter().filter_map(|remark| match remark {
        Remark::Contradiction { text, .. } => Some(text.clone()),
        _ => None,
    });
    let problems: Vec<String> = problems.collect();
    match problems.is_empty() {
        true => Ok(store),
        false => Err(StoreError::Contradiction { path: path.to_owned(), problems }),
    }
}

/// Opens the same also where facts of the store contradict each other, which are among its remarks.
pub fn open_to_inspect(path: &Path, temporary: &Path) -> Result<Store, StoreError> {
    let file = File::open(path).map_err(|error| FileError::io("open", path, error))?;
    let metadata = file.metadata().map_err(|error| FileError::io("look at", path, error))?;
    let store = if metadata.is_dir() {
        open_folder(file, path, temporary)?
    } else if metadata.is_file() {
        open_file(Box::new(file), path, temporary)?
    } else {
        unpack(Box::new(file), path, temporary)?
    };
    Ok(with_remarks(store))
}

/// Opens the same from a tar that is read in parts.
pub fn open_parts_to_inspect(
    file: Box<dyn ReadAt>,
    name: &Path,
    temporary: &Path,
) -> Result<Store, StoreError> {
    Ok(with_remarks(open_file(file, name, temporary)?))
}

fn with_remarks(mut store: Store) -> Store {
    let remarks = agreement::remarks(&store);
    store.remarks.extend(remarks);
    store
}

fn open_file(file: Box<dyn ReadAt>, path: &Path, temporary: &Path) -> Result<Store, StoreError> {
    let start = start_of(&*file, path)?;
    match Compression::of_magic(&start) {
        Compression::None if is_tar_start(&start) => recognise(Archive::open(file, path)?, path),
        Compression::None => Err(not_an_archive(path, looks_like(&start))),
        Compression::Gzip | Compression::Zstd => {
            let size = file.size().map_err(|error| FileError::io("look at", path, error))?;
            unpack(file.part(0, size), path, temporary)
        }
    }
}

fn unpack(source: Box<dyn Read + Send + '_>, path: &Path, temporary: &Path) -> Result<Store, StoreError> {
    let (file, compression) = spool(source, path, temporary, limits::SPOOL_BYTES)?;
    let archive = Archive::open(Box::new(file), path)?;
    let mut store = recognise(archive, path).map_err(|error| match error {
        StoreError::UnknownKind { path, found } if compression != Compression::None => {
            let name = compression_name(compression);
            StoreError::UnknownKind {
                path,
                found: format!("{found} (it is {name}-compressed; a layer, perhaps)"),
            }
        }
        other => other,
    })?;
    if compression != Compression::None {
        store.remarks.push(Remark::Wrapped(compression));
    }
    Ok(store)
}

fn compression_name(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::None => "not",
    }
}

/// Decides by the names in a tar what it is.
fn recognise(archive: Archive, path: &Path) -> Result<Store, StoreError> {
    let has = |name: &str| archive.node(name.as_bytes()).is_some();
    if has("oci-layout") || (has("index.json") && !has("manifest.json")) {
        // BuildKit and docker 25 add docker's manifest.json for old readers; the two have to agree (`agreement`).
        return layout::open_tar(archive, path);
    }
    if let Some(table) = archive.read_small(docker_archive::TABLE, limits::TABLE_OF_CONTENTS_BYTES)? {
        return match imgpkg_tar::is_imgpkg_table(&table) {
            true => imgpkg_tar::open(archive, &table, path),
            false => docker_archive::open(archive, &table, path),
        };
    }
    let found = match archive.nodes().next() {
        None => "an empty tar".to_owned(),
        Some((first, _)) => {
            let first = display_name(first);
            format!("a tar without `index.json` or `manifest.json`; it has `{first}`")
        }
    };
    Err(not_an_archive(path, &found))
}

fn open_folder(folder: File, path: &Path, temporary: &Path) -> Result<Store, StoreError> {
    if path.join("oci-layout").exists() || path.join("index.json").exists() {
        return layout::open_directory(OwnedFd::from(folder), path);
    }
    let mut found = Vec::new();
    for candidate in candidates(path)? {
        let metadata =
            std::fs::metadata(&candidate).map_err(|error| FileError::io("look at", &candidate, error))?;
        let file = File::open(&candidate).map_err(|error| FileError::io("open", &candidate, error))?;
        let opened = if metadata.is_dir() {
            layout::open_directory(OwnedFd::from(file), &candidate)
        } else {
            open_file(Box::new(file), &candidate, temporary)
        };
        match opened {
            Ok(store) => found.push(store),
            Err(StoreError::UnknownKind { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match found.len() {
        0 => Err(not_an_archive(
            path,
            "a folder that is no OCI layout and has no image archive directly in it",
        )),
        1 => found.pop().ok_or_else(|| not_an_archive(path, "a folder")),
        count => {
            let name = |store: &Store| {
                let name = store.path.file_name().unwrap_or_default();
                display_name(name.as_encoded_bytes())
            };
            let names = quoted_list(found.iter().map(name));
            let text = format!("a folder with {count} image archives, expected one: {names}");
            Err(StoreError::unknown(path, text))
        }
    }
}

/// Returns the files and folders directly in a folder that may be archives, in order of name.
fn candidates(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error| FileError::io("list", path, error);
    let mut candidates = Vec::new();
    for (seen, entry) in std::fs::read_dir(path).map_err(failed)?.enumerate() {
        if seen >= limits::CANDIDATES {
            let text = format!("a folder with more than {} files", limits::CANDIDATES);
            return Err(not_an_archive(path, &text));
        }
        let candidate = entry.map_err(failed)?.path();
        // Links are followed as for a path the user gives; what cannot be looked at is no candidate.
        let Ok(metadata) = std::fs::metadata(&candidate) else { continue };
        let may_be = if metadata.is_dir() {
            candidate.join("oci-layout").exists()
        } else {
            metadata.is_file() && File::open(&candidate).is_ok_and(|file| may_be_archive(&file))
        };
        if may_be {
            candidates.push(candidate);
        }
    }
    candidates.sort();
    Ok(candidates)
}

fn may_be_archive(file: &File) -> bool {
    start_of(file, Path::new(""))
        .is_ok_and(|start| Compression::of_magic(&start) != Compression::None || is_tar_start(&start))
}

fn start_of(file: &dyn ReadAt, path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut start = vec![0; 512];
    let mut filled = 0;
    while filled < start.len() {
        match file.read_at(&mut start[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::io("read", path, error).into()),
        }
    }
    start.truncate(filled);
    Ok(start)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A file that gives a few bytes at a time, and before each of them is interrupted once.
    #[derive(Debug)]
    struct Slow {
        size: usize,
        calls: AtomicUsize,
    }

    impl ReadAt for Slow {
        fn size(&self) -> io::Result<u64> {
            Ok(self.size as u64)
        }

        fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
            if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let at = usize::try_from(position).unwrap();
            let count = 100.min(self.size - at).min(buffer.len());
            for (place, value) in buffer[..count].iter_mut().zip(at..) {
                *place = u8::try_from(value % 251).unwrap();
            }
            Ok(count)
        }

        fn part(&self, _: u64, _: u64) -> Box<dyn Read + Send + '_> {
            Box::new(io::empty())
        }
    }

    #[test]
    fn the_start_of_a_file_is_its_first_512_bytes_however_few_a_read_gives() {
        for (size, expected) in [(0, 0), (70, 70), (511, 511), (512, 512), (900, 512)] {
            let file = Slow { size, calls: AtomicUsize::new(0) };
            let start = start_of(&file, Path::new("x")).unwrap();
            let bytes: Vec<u8> = (0..expected).map(|at: usize| u8::try_from(at % 251).unwrap()).collect();
            assert_eq!(start, bytes, "{size}");
        }
    }
}
