//! A strict streaming reader of tar entries: ustar, PAX, GNU long names, base-256 numbers, old formats.
//!
//! Strict means: what GNU tar, Go and Python would read differently is an error. That covers repeated or mixed
//! extension headers, extension headers that are longer than their size, global extension headers with fields that count,
//! links and folders with data, a single zero block in the middle, and sparse files. A PAX `size` is used for reading
//! and for skipping. The archive ends at two zero blocks or, as in GNU tar and Go, at the end of the source on a block
//! border. What follows two zero blocks is ignored, so concatenated archives give the first one only.

use std::io::{self, BufReader, Read};

use crate::model::limits;
use crate::stream::fitting;

use super::error::{TarError, display_name};
use super::header_read::{BLOCK, BLOCK_U64, RawHeader, until_zero};
use super::pax::{self, Pax};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; the only kind with data.
    File,
    /// Another name for an entry that came before, named by `link` from the root of the archive.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One entry of a tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name as stored, prefix and extension headers applied; never empty, no zero bytes.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The twelve Unix mode bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes of data; 0 for anything but files.
    pub size: u64,
    /// Modification time, seconds since 1970, rounded down.
    pub mtime: i64,
    /// Target of a link; empty otherwise.
    pub link: Vec<u8>,
    /// Where the entry's own header begins, bytes from the start of the tar.
    pub offset: u64,
    /// Where its data begins.
    pub offset_of_data: u64,
    /// Extended attributes (`SCHILY.xattr.`), in archive order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Where the bytes come from: a stream that is read through, or a file whose data can be passed over.
pub(super) trait ByteSource {
    /// Reads some bytes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Passes over `count` bytes and returns how many there were.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

/// How an archive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the mark of two zero blocks (or one and the end of the source).
    Marked,
    /// At a block border without a mark.
    Unmarked,
}

/// The state machine that both readers share: headers in, entries out.
pub(super) struct Headers<S> {
    source: S,
    position: u64,
    /// Data of the current entry not yet read, and the padding after it.
    remaining: u64,
    padding: u64,
    current: Vec<u8>,
    pub(super) end: Option<End>,
}

/// Extension headers seen since the last entry.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    count: usize,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

impl<S: ByteSource> Headers<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, position: 0, remaining: 0, padding: 0, current: Vec::new(), end: None }
    }

    /// Moves to the next entry, passing over data that was not read.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        loop {
            let offset = self.position;
            let Some(block) = self.header_block(&extensions)? else { return Ok(None) };
            let header = RawHeader::parse(&block).map_err(|problem| {
                let problem = format!("{problem}{}", self.after());
                TarError::Header { offset, entry: String::new(), problem }
            })?;
            let bad =
                |problem: String| TarError::Header { offset, entry: display_name(&header.name), problem };
            if !matches!(header.flag, b'x' | b'X' | b'g' | b'L' | b'K') {
                return self.entry(&header, extensions, offset).map(Some);
            }
            extensions.count += 1;
            if extensions.count > limits::EXTENSIONS_PER_ENTRY {
                let most = limits::EXTENSIONS_PER_ENTRY;
                return Err(bad(format!("more than {most} extension headers in a row")));
            }
            let data = self.extension_data(&header, offset)?;
            let repeated = || bad("two extension headers of one kind precede one entry".to_owned());
            match header.flag {
                // Go forgets the extension headers that precede a global one, GNU tar and Python do not.
                b'g' if !extensions.is_empty() => {
                    return Err(bad(
                        "a global extended header is between an extension header and its entry".to_owned()
                    ));
                }
                b'g' => pax::check_global(&data).map_err(bad)?,
                b'L' => {
                    let name = until_zero(&data).to_vec();
                    if extensions.long_name.replace(name).is_some() {
                        return Err(repeated());
                    }
                }
                b'K' => {
                    let link = until_zero(&data).to_vec();
                    if extensions.long_link.replace(link).is_some() {
                        return Err(repeated());
                    }
                }
                _ => {
                    let pax = pax::parse(&data).map_err(bad)?;
                    if extensions.pax.replace(pax).is_some() {
                        return Err(repeated());
                    }
                }
            }
        }
    }

    /// Reads the next header block; `None` at the end of the archive.
    fn header_block(&mut self, extensions: &Extensions) -> Result<Option<[u8; BLOCK]>, TarError> {
        let offset = self.position;
        let dangling = |problem: &str| TarError::Header {
            offset,
            entry: String::new(),
            problem: format!("{problem} after an extension header, expected the entry it belongs to"),
        };
        let Some(block) = self.block()? else {
            if !extensions.is_empty() {
                return Err(dangling("the tar ends"));
            }
            self.end = Some(End::Unmarked);
            return Ok(None);
        };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        if !extensions.is_empty() {
            return Err(dangling("a zero block is"));
        }
        match self.block()? {
            Some(second) if second != [0; BLOCK] => Err(TarError::Header {
                offset,
                entry: String::new(),
                problem:
                    "a single zero block is between entries, where some readers stop and others continue"
                        .to_owned(),
            }),
            _ => {
                self.end = Some(End::Marked);
                Ok(None)
            }
        }
    }

    /// Puts a header and its extensions together.
    fn entry(&mut self, header: &RawHeader, extensions: Extensions, offset: u64) -> Result<Entry, TarError> {
        let Extensions { pax, long_name, long_link, .. } = extensions;
        let bad = |problem: String| TarError::Header { offset, entry: display_name(&header.name), problem };
        let mixed = (long_name.is_some() && pax.as_ref().is_some_and(|pax| pax.path.is_some()))
            || (long_link.is_some() && pax.as_ref().is_some_and(|pax| pax.link.is_some()));
        if mixed {
            return Err(bad(
                "its name comes from a GNU and a PAX extension header at the same time".to_owned()
            ));
        }
        let pax = pax.unwrap_or_default();
        let path = long_name.or(pax.path).unwrap_or_else(|| header.name.clone());
        let link = long_link.or(pax.link).unwrap_or_else(|| header.link.clone());
        let bad = |problem: String| TarError::Header { offset, entry: display_name(&path), problem };
        if path.is_empty() {
            return Err(bad("the name is empty".to_owned()));
        }
        for (what, text) in [("name", &path), ("link target", &link)] {
            if text.len() > limits::PATH_BYTES {
                let (len, most) = (text.len(), limits::PATH_BYTES);
                return Err(bad(format!("the {what} has {len} bytes, at most {most} are accepted")));
            }
        }
        let size = pax.size.unwrap_or(header.size);
        let kind = kind(header.flag, &path, size).map_err(bad)?;
        if matches!(kind, EntryKind::HardLink | EntryKind::Symlink) && link.is_empty() {
            return Err(bad("it is a link without a target".to_owned()));
        }
        let size = if kind == EntryKind::File { size } else { 0 };
        if self.position.checked_add(size).and_then(|end| end.checked_add(BLOCK_U64)).is_none() {
            return Err(bad(format!("its size is {size} bytes, which no file can have")));
        }
        self.remaining = size;
        self.padding = padding(size);
        self.current.clone_from(&path);
        let is_link = matches!(kind, EntryKind::HardLink | EntryKind::Symlink);
        Ok(Entry {
            kind,
            mode: header.mode,
            uid: pax.uid.unwrap_or(header.uid),
            gid: pax.gid.unwrap_or(header.gid),
            size,
            mtime: pax.mtime.unwrap_or(header.mtime),
            link: if is_link { link } else { Vec::new() },
            offset,
            offset_of_data: self.position,
            xattrs: pax.xattrs,
            path,
        })
    }

    fn extension_data(&mut self, header: &RawHeader, offset: u64) -> Result<Vec<u8>, TarError> {
        if header.size > limits::TAR_EXTENSION_BYTES {
            let (size, most) = (header.size, limits::TAR_EXTENSION_BYTES);
            let problem = format!("the extension header has {size} bytes, at most {most} are accepted");
            return Err(TarError::Header { offset, entry: display_name(&header.name), problem });
        }
        let len = usize::try_from(header.size + padding(header.size)).unwrap_or(usize::MAX);
        let mut data = vec![0; len];
        let found = self.fill(&mut data)?;
        if found < len {
            let inside = format!("the extension header at byte {offset}{}", self.after());
            return Err(TarError::Truncated { offset: self.position, inside });
        }
        let behind = data.split_off(usize::try_from(header.size).unwrap_or(len));
        // Python reads records and names, and GNU tar reads names, to the first zero byte; they ignore the size.
        let goes_on = behind.first().is_some_and(|byte| *byte != 0);
        if goes_on && !(matches!(header.flag, b'L' | b'K') && data.contains(&0)) {
            let size = header.size;
            let problem =
                format!("the extension header continues after its {size} bytes, where some readers read on");
            return Err(TarError::Header { offset, entry: display_name(&header.name), problem });
        }
        Ok(data)
    }

    /// Reads one whole block; `None` at the end of the source.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let start = self.position;
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => {
                let inside = format!("the header at byte {start}{}", self.after());
                Err(TarError::Truncated { offset: self.position, inside })
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.source.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    self.position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Io { offset: self.position, source }),
            }
        }
        Ok(filled)
    }

    /// Passes over what is left of the current entry, padding included.
    fn skip_rest(&mut self) -> Result<(), TarError> {
        let count = self.remaining + self.padding;
        if count == 0 {
            return Ok(());
        }
        let skipped =
            self.source.skip(count).map_err(|source| TarError::Io { offset: self.position, source })?;
        self.position += skipped;
        // umoci 0.4 ends layers right after the last file's data, without padding or end mark; Go's and Python's
        // readers take that as the end.
        if skipped < self.remaining {
            return Err(self.cut());
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    fn read_data(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = fitting(self.remaining, buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..most])?;
        self.position += count as u64;
        self.remaining -= count as u64;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, self.cut()));
        }
        Ok(count)
    }

    fn cut(&self) -> TarError {
        let inside = format!("the data of `{}`", display_name(&self.current));
        TarError::Truncated { offset: self.position, inside }
    }

    /// Names the last entry, so that a user can find the broken header.
    fn after(&self) -> String {
        if self.current.is_empty() {
            String::new()
        } else {
            format!(", after `{}`", display_name(&self.current))
        }
    }
}

/// Bytes from the end of `size` bytes of data to the next block border.
fn padding(size: u64) -> u64 {
    (BLOCK_U64 - size % BLOCK_U64) % BLOCK_U64
}

fn kind(flag: u8, path: &[u8], size: u64) -> Result<EntryKind, String> {
    let kind = match flag {
        0 | b'0' | b'7' if path.iter().all(|byte| *byte == b'/') => {
            return Err("the entry is a file whose name is slashes only".to_owned());
        }
        // Before ustar a folder was a file with a slash at the end; GNU tar still reads it so.
        0 | b'0' | b'7' if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharacterDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        b'S' => return Err("the entry is a sparse file, which is not accepted".to_owned()),
        b'M' | b'V' => return Err("the tar is part of a multi-volume set, which is not accepted".to_owned()),
        other => return Err(format!("the entry has the unknown type `{}`", [other].escape_ascii())),
    };
    // GNU tar, Go and Python agree that a hard link has no data and ignore its size. For the other kinds they differ,
    // and each would look for the next header at another place.
    if size > 0 && !matches!(kind, EntryKind::File | EntryKind::HardLink) {
        return Err(format!("the entry has {size} bytes of data but is not a file"));
    }
    Ok(kind)
}

/// A source that is read from its start to its end.
struct Stream<R>(BufReader<R>);

impl<R: Read> ByteSource for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        crate::stream::cancel::check()?;
        io::copy(&mut self.0.by_ref().take(count), &mut io::sink())
    }
}

/// Reads the entries of a tar one after the other from any source.
///
/// Shape: [`Reader::next_entry`] gives an entry; until it is called again, reading from the reader gives that
/// entry's data; data that was not read is passed over.
/// Errors: data that ends early is an [`io::Error`] that carries a [`TarError`] (see [`TarError::in_error`]).
/// Cost: one buffer of 64 KiB; nothing is kept of earlier entries.
pub struct Reader<R> {
    headers: Headers<Stream<R>>,
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("position", &self.headers.position).finish_non_exhaustive()
    }
}

impl<R: Read> Reader<R> {
    /// Begins to read a tar at its first byte.
    pub fn new(source: R) -> Self {
        Self { headers: Headers::new(Stream(BufReader::with_capacity(64 * 1024, source))) }
    }

    /// Moves to the next entry; `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.headers.next()
    }

    /// Reads what follows the archive to the end of the source and throws it away.
    ///
    /// A source that verifies its bytes can do so only when it is read to its end.
    pub fn drain(mut self) -> Result<(), TarError> {
        while self.next_entry()?.is_some() {}
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let offset = self.headers.position;
            crate::stream::cancel::check().map_err(|source| TarError::Io { offset, source })?;
            if self.headers.fill(&mut buffer)? == 0 {
                return Ok(());
            }
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.headers.read_data(buffer)
    }
}

#[cfg(test)]
mod tests {
    use testkit::tarball::{Header as Made, Tarball};

    use super::*;

    /// Reads a whole tar: each entry with its data, or the first error.
    fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, String> {
        let mut reader = Reader::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().map_err(|error| error.to_string())? {
            let mut data = Vec::new();
            reader.read_to_end(&mut data).map_err(|error| error.to_string())?;
            entries.push((entry, data));
        }
        Ok(entries)
    }

    #[test]
    fn entries_of_all_formats_are_read() {
        let long = "d/".repeat(80) + "file";
        let prefixed = {
            let mut header = Made::new("name", b'0', 1);
            header.prefix = b"some/prefix".to_vec();
            header
        };
        let mut old = Made::new("folder/", 0, 0);
        old.magic = [0; 8];
        old.prefix = b"not a prefix in v7".to_vec();
        let tar = Tarball::new()
            .file("plain", "hello")
            .file(&long, "pax")
            .gnu_long(b'L', &long)
            .entry(&Made::new("cut", b'0', 3), b"gnu")
            .gnu_long(b'K', &long)
            .symlink("link", "cut")
            .entry(&prefixed, b"p")
            .entry(&old, b"")
            .entry(&Made::new("hard", b'1', 5).link("plain"), b"")
            .pax(&[("size", b"3"), ("uid", b"4294967297"), ("mtime", b"12.5"), ("SCHILY.xattr.user.a", b"v")])
            .entry(&Made::new("sized", b'0', 0), b"abc")
            .file("last", "")
            .finish();
        let entries = read_all(&tar).unwrap();
        let names: Vec<String> =
            entries.iter().map(|(entry, _)| String::from_utf8(entry.path.clone()).unwrap()).collect();
        let expected =
            ["plain", &long, &long, "link", "some/prefix/name", "folder/", "hard", "sized", "last"];
        assert_eq!(names, expected);
        let data: Vec<&[u8]> = entries.iter().map(|(_, data)| data.as_slice()).collect();
        let expected: [&[u8]; 9] = [b"hello", b"pax", b"gnu", b"", b"p", b"", b"", b"abc", b""];
        assert_eq!(data, expected);
        assert_eq!(entries[3].0.link, long.as_bytes());
        assert_eq!(entries[5].0.kind, EntryKind::Directory);
        let sized = &entries[7].0;
        assert_eq!((sized.uid, sized.mtime, sized.size), (4_294_967_297, 12, 3));
        assert_eq!(sized.xattrs, [(b"user.a".to_vec(), b"v".to_vec())]);
    }

    #[test]
    fn what_readers_disagree_on_is_refused() {
        let two_pax = Tarball::new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("x", "").finish();
        let gnu_and_pax = Tarball::new().gnu_long(b'L', "a").pax(&[("path", b"b")]).file("x", "").finish();
        let global_after_local = Tarball::new()
            .pax(&[("path", b"a")])
            .entry(&Made::new("g", b'g', 13), b"13 comment=x\n")
            .file("x", "")
            .finish();
        let cases = [
            (two_pax, "two extension headers of one kind"),
            (Tarball::new().gnu_long(b'L', "a").gnu_long(b'L', "b").file("x", "").finish(), "of one kind"),
            (gnu_and_pax, "a GNU and a PAX extension header at the same time"),
            (
                Tarball::new().entry(&Made::new("d", b'5', 512), &[1; 512]).finish(),
                "512 bytes of data but is not",
            ),
            (
                Tarball::new().entry(&Made::new("s", b'2', 1).link("t"), b"x").finish(),
                "1 bytes of data but is not",
            ),
            (Tarball::new().entry(&Made::new("d/", b'0', 1), b"x").finish(), "1 bytes of data but is not"),
            (Tarball::new().file("a", "").raw(&[0; 512]).file("b", "").finish(), "a single zero block"),
            (global_after_local, "is between an extension header and its entry"),
            (
                Tarball::new().entry(&Made::new("g", b'g', 13), b"13 uid=10000\n").file("x", "").finish(),
                "a global extended header sets `uid`, which readers understand differently",
            ),
            (Tarball::new().pax(&[("path", b"a")]).finish(), "a zero block is after an extension header"),
            (Tarball::new().pax(&[("path", b"a")]).unfinished(), "the tar ends after an extension header"),
            (Tarball::new().entry(&Made::new("s", b'S', 0), b"").finish(), "sparse"),
            (Tarball::new().pax(&[("GNU.sparse.size", b"1")]).file("s", "").finish(), "sparse"),
            (Tarball::new().entry(&Made::new("v", b'V', 0), b"").finish(), "multi-volume"),
            (Tarball::new().entry(&Made::new("v", b'Z', 0), b"").finish(), "unknown type `Z`"),
            (Tarball::new().entry(&Made::new("", b'0', 0), b"").finish(), "the name is empty"),
            (Tarball::new().entry(&Made::new("//", b'0', 0), b"").finish(), "slashes only"),
            (Tarball::new().symlink("l", "").finish(), "a link without a target"),
            (
                Tarball::new().pax(&[("path", &[b'a'; 4097])]).file("x", "").finish(),
                "has 4097 bytes, at most 4096",
            ),
            (
                Tarball::new().entry(&Made::new("x", b'x', 1 << 30), b"").finish(),
                "1073741824 bytes, at most 1048576",
            ),
            (
                Tarball::new().pax(&[("size", b"18446744073709551615")]).file("x", "").finish(),
                "no file can have",
            ),
            (
                Tarball::new().entry(&Made::new("L", b'L', 1), b"a/evil\0").file("x", "").finish(),
                "continues after its 1 bytes",
            ),
            (
                Tarball::new()
                    .entry(&Made::new("x", b'x', 10), b"10 path=a\n10 path=b\n")
                    .file("x", "")
                    .finish(),
                "continues after its 10 bytes",
            ),
            (vec![b'x'; 1024], "tar header at byte 0: its checksum does not fit"),
            (
                [Tarball::new().file("ok", "1").unfinished(), vec![b'x'; 512]].concat(),
                "byte 1024: its checksum does not fit, after `ok`",
            ),
        ];
        for (tar, expected) in cases {
            let error = read_all(&tar).expect_err(expected);
            assert!(error.contains(expected), "wanted: {expected}\n  gave: {error}");
        }
    }

    #[test]
    fn a_longest_name_is_accepted() {
        let name = vec![b'a'; 4096];
        let tar = Tarball::new().pax(&[("path", &name)]).file("x", "1").finish();
        assert_eq!(read_all(&tar).unwrap()[0].0.path, name);
    }

    #[test]
    fn the_end_is_two_zero_blocks_or_a_block_border() {
        let tar = Tarball::new().file("a", "1").unfinished();
        for end in [0, 512, 1024, 10_240] {
            assert_eq!(read_all(&[tar.clone(), vec![0; end]].concat()).unwrap().len(), 1, "{end}");
        }
        let trailing =
            [Tarball::new().file("a", "1").finish(), Tarball::new().file("b", "2").finish()].concat();
        assert_eq!(read_all(&trailing).unwrap().len(), 1, "only the first archive counts");
        assert_eq!(read_all(b"").unwrap(), []);
        // No padding either, as umoci 0.4 leaves it.
        assert_eq!(read_all(&tar[..513]).unwrap(), read_all(&tar).unwrap());
        assert!(read_all(&tar[..512]).unwrap_err().contains("inside the data of `a`"));
    }

    #[test]
    fn every_truncation_is_an_error_that_names_the_place_or_a_block_border() {
        let tar = Tarball::new().file("first", [7; 700]).file("x".repeat(120), "long").unfinished();
        let whole = read_all(&tar).unwrap();
        for length in 0..tar.len() {
            match read_all(&tar[..length]) {
                Ok(entries) => {
                    // Between entries, or in the padding after data that is complete.
                    let border = length == 0 || (1212..=1536).contains(&length) || length >= tar.len() - 508;
                    assert!(border, "cut at {length} was not noticed");
                    assert!(whole.starts_with(&entries));
                }
                Err(error) => {
                    let expected =
                        if length > 512 && length < 1212 { "inside the data of `first`" } else { "" };
                    assert!(error.contains(expected), "{length}: {error}");
                    // A cut right after an extension header is a header problem, all others name the length.
                    let at = format!("the tar ends at byte {length}");
                    assert!(error.contains(&at) || error.contains("the tar ends after"), "{length}: {error}");
                }
            }
        }
    }

    #[test]
    fn data_not_read_is_passed_over_and_drain_reads_to_the_end() {
        let tar = Tarball::new().file("a", [1; 2000]).file("b", "b").finish();
        let mut source = io::Cursor::new([tar, vec![9; 5000]].concat());
        let mut reader = Reader::new(&mut source);
        assert_eq!(reader.next_entry().unwrap().unwrap().path, b"a");
        let mut some = [0; 10];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(reader.next_entry().unwrap().unwrap().path, b"b");
        reader.drain().unwrap();
        assert_eq!(source.position(), source.get_ref().len() as u64);
    }
}
