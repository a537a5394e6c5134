//! The table of contents of a tar in a file, read from header to header without the data.

use std::io;

use crate::stream::ReadAt;

use super::error::TarError;
use super::header_read::{BLOCK, checksum_fits};
use super::read::{ByteSource, End, Entry, Headers};

/// Tells whether the archive's end was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndMark {
    /// Two zero blocks, as POSIX asks for.
    Present,
    /// The file ends without the mark; it may have been cut at a block border.
    Missing,
}

/// Reads all headers of a tar in a file and hands each entry to `take`.
///
/// Cost: one read of 4 KiB per entry, fewer where entries are small; the data of files is not read. The file's
/// own position is neither used nor moved.
/// Errors: as [`super::Reader`]; an error of `take` ends the work. The end of the data of the last entry is
/// checked against the size of the file.
pub fn index<E: From<TarError>>(
    file: &dyn ReadAt,
    mut take: impl FnMut(Entry) -> Result<(), E>,
) -> Result<EndMark, E> {
    let size = file.size().map_err(|source| TarError::Io { offset: 0, source })?;
    let mut headers = Headers::new(Hops { file, size, position: 0, window: Vec::new(), window_start: 0 });
    while let Some(entry) = headers.next()? {
        take(entry)?;
    }
    Ok(if headers.end == Some(End::Unmarked) { EndMark::Missing } else { EndMark::Present })
}

/// Tells whether bytes may be the start of a tar: a header whose checksum fits, or an empty archive.
#[must_use]
pub fn is_tar_start(start: &[u8]) -> bool {
    start.first_chunk::<BLOCK>().is_some_and(|block| *block == [0; BLOCK] || checksum_fits(block))
}

struct Hops<'a> {
    file: &'a dyn ReadAt,
    size: u64,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// Holds an extension header, its data and the header after it, or a few small files.
const WINDOW: usize = 4096;

impl ByteSource for Hops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // After a skip the position may lie far behind the window.
        let inside = usize::try_from(self.position - self.window_start).unwrap_or(usize::MAX);
        let mut ready = self.window.get(inside..).unwrap_or_default();
        if ready.is_empty() {
            crate::stream::cancel::check()?;
            self.window.resize(WINDOW, 0);
            let count = self.file.read_at(&mut self.window, self.position)?;
            self.window.truncate(count);
            self.window_start = self.position;
            ready = &self.window;
        }
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.position += count as u64;
        Ok(count)
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let count = count.min(self.size.saturating_sub(self.position));
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use testkit::tarball::{Header, Tarball};

    use super::super::read::{EntryKind, Reader};
    use super::*;

    fn file_of(name: &str, bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("imgrelay-index-{}-{name}", std::process::id()));
        let mut file =
            File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        file.write_all(bytes).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    fn entries(file: &File) -> Result<(Vec<Entry>, EndMark), TarError> {
        let mut entries = Vec::new();
        let mark = index(file, |entry| {
            entries.push(entry);
            Ok::<_, TarError>(())
        })?;
        Ok((entries, mark))
    }

    #[test]
    fn the_index_agrees_with_the_streaming_reader() {
        let tar = Tarball::new()
            .file("big", vec![1; 100_000])
            .file("n".repeat(200), "x")
            .dir("d")
            .file("small", "y")
            .pax(&[("size", b"600")])
            .entry(&Header::new("sized", b'0', 0), &[b'z'; 600])
            .symlink("l", "small")
            .finish();
        let (found, mark) = entries(&file_of("agree", &tar)).unwrap();
        let mut reader = Reader::new(&tar[..]);
        for entry in &found {
            assert_eq!(Some(entry), reader.next_entry().unwrap().as_ref());
            if entry.kind == EntryKind::File {
                let from = usize::try_from(entry.offset_of_data).unwrap();
                let mut data = Vec::new();
                io::Read::read_to_end(&mut reader, &mut data).unwrap();
                assert_eq!(tar[from..from + data.len()], data);
            }
        }
        assert_eq!((reader.next_entry().unwrap(), mark), (None, EndMark::Present));
    }

    #[test]
    fn a_huge_sparse_file_is_indexed_without_reading_it_and_a_cut_is_found() {
        let mut header = Header::new("huge", b'0', 0).block();
        header[124..136].copy_from_slice(b"\x80\0\0\0\0\0\x01\0\0\0\0\0");
        testkit::tarball::seal(&mut header);
        let file = file_of("huge", &header);
        let size = 1_u64 << 40;
        file.set_len(512 + size).unwrap();
        let (found, mark) = entries(&file).unwrap();
        assert_eq!((found[0].size, mark), (size, EndMark::Missing));
        file.set_len(511 + size).unwrap();
        let error = entries(&file).unwrap_err().to_string();
        assert!(error.contains("inside the data of `huge`"), "{error}");
    }

    #[test]
    fn the_start_of_a_tar_is_recognised() {
        let tar = Tarball::new().file("a", "b").finish();
        for (bytes, expected) in [
            (&tar[..512], true),
            (&tar[..511], false),
            (&[0; 512], true),
            (&[b'a'; 512], false),
            (&[0; 511], false),
        ] {
            assert_eq!(is_tar_start(bytes), expected);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 400, ..Default::default() })]

        /// For any bytes, both readers see the same entries and the same kind of end.
        #[test]
        fn the_index_and_the_streaming_reader_agree_on_damaged_tars(
            changes in proptest::collection::vec((0_usize..6656, proptest::num::u8::ANY), 0..4),
            length in 0_usize..6657,
            sealed in proptest::bool::ANY,
        ) {
            let mut tar = Tarball::new()
                .file("a", [b'a'; 600])
                .pax(&[("path", b"long"), ("size", b"5")])
                .entry(&Header::new("b", b'0', 0), b"bbbbb")
                .gnu_long(b'K', "target")
                .symlink("l", "t")
                .file("c", "")
                .finish();
            for (at, value) in changes {
                if let Some(byte) = tar.get_mut(at) {
                    *byte = value;
                }
                let start = at / 512 * 512;
                if sealed && let Some(block) = tar.get_mut(start..start + 512) {
                    let mut whole: [u8; 512] = block.try_into().unwrap();
                    testkit::tarball::seal(&mut whole);
                    block.copy_from_slice(&whole);
                }
            }
            tar.truncate(length);
            let mut streamed = Vec::new();
            let mut reader = Reader::new(&tar[..]);
            let error = loop {
                match reader.next_entry() {
                    Ok(Some(entry)) => streamed.push(entry),
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                }
            };
            let mut indexed = Vec::new();
            let result = index(&file_of("agree-damaged", &tar), |entry| {
                indexed.push(entry);
                Ok::<_, TarError>(())
            });
            proptest::prop_assert_eq!(indexed, streamed);
            proptest::prop_assert_eq!(result.err().map(|error| error.to_string()), error);
        }
    }
}
