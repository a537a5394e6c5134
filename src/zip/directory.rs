//! The central directory: the entries of an archive and their positions. No content is read here.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt as _;

use super::backslashes::Backslashes;
use super::bytes::{LOCAL_BYTES, Span, crc_of, u16_at, u32_at, u64_at};
use super::entry::{Entry, EntryKind};
use super::entry_names::{self, NameRules};
use super::reader::EntryReader;
use super::{EntryProblem, ZipError};
use crate::model::limits;

const END: u32 = 0x0605_4b50;
const END_BYTES: u64 = 22;
const COMMENT_BYTES: u64 = 0xffff;
const END64: u32 = 0x0606_4b50;
const END64_LEN: usize = 56;
const END64_BYTES: u64 = END64_LEN as u64;
const LOCATOR64: u32 = 0x0706_4b50;
const LOCATOR64_LEN: usize = 20;
const LOCATOR64_BYTES: u64 = LOCATOR64_LEN as u64;
const ENTRY: u32 = 0x0201_4b50;
const ENTRY_BYTES: usize = 46;

/// Hosts whose attributes hold Unix permissions in their upper half (APPNOTE 4.4.2.2).
const UNIX: u8 = 3;
const DARWIN: u8 = 19;

/// An open archive.
#[derive(Debug)]
pub struct Archive {
    file: File,
    entries: Vec<Entry>,
    backslashes: Option<Backslashes>,
}

/// Where the central directory is.
struct End {
    start: u64,
    size: u64,
    count: u64,
    /// What has to be added to every offset: bytes before the archive (executable jars).
    shift: u64,
}

impl Archive {
    /// Reads the central directory.
    ///
    /// Shape: entries in the order of the directory; duplicates are left to the caller, who knows which matter.
    /// Errors: [`ZipError`], for names that are no paths, encryption, unknown compression and entries that overlap
    /// too, all before any content is read.
    pub fn open(file: File) -> Result<Self, ZipError> {
        let end = find_end(&file)?;
        let backslashes = first_with_backslashes(&file, &end)?;
        let are_separators = matches!(backslashes, Some(Backslashes::Separators { .. }));
        let separator = if are_separators { Separator::Backslash } else { Separator::OfHost };
        let entries = read_entries(&file, &end, separator)?;
        Ok(Self { file, entries, backslashes })
    }

    /// Returns what a `\\` in the names is, if one of them has it although the archive claims to be made on Unix.
    #[must_use]
    pub fn backslashes(&self) -> Option<&Backslashes> {
        self.backslashes.as_ref()
    }

    /// Tells whether two entries are the same file: kind, mode and every byte.
    pub fn is_same(&self, a: &Entry, b: &Entry) -> Result<bool, ZipError> {
        if (a.kind, a.mode, a.size, a.crc) != (b.kind, b.mode, b.size, b.crc) {
            return Ok(false);
        }
        let (mut left, mut right) = (self.open_entry(a)?, self.open_entry(b)?);
        let mut buffers = [vec![0; 64 * 1024], vec![0; 64 * 1024]];
        loop {
            let [one, two] = &mut buffers;
            let (n, m) = (left.fill(one)?, right.fill(two)?);
            if one[..n] != two[..m] {
                return Ok(false);
            }
            if n == 0 {
                left.finish()?;
                right.finish()?;
                return Ok(true);
            }
        }
    }

    /// Returns the entries, in the order of the central directory.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Opens an entry's content.
    pub fn open_entry<'a>(&'a self, entry: &'a Entry) -> Result<EntryReader<'a>, ZipError> {
        EntryReader::open(&self.file, entry)
    }
}

fn damaged(problem: impl Into<String>) -> ZipError {
    ZipError::Damaged(problem.into())
}

/// Finds the end record: the last one in the file whose comment ends where the file does (APPNOTE 4.3.16).
fn find_end(file: &File) -> Result<End, ZipError> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(END_BYTES + COMMENT_BYTES);
    let mut tail = vec![0; usize::try_from(length - from).unwrap_or(0)];
    file.read_exact_at(&mut tail, from)?;
    let signature = END.to_le_bytes();
    let comment_fits = |at: &usize| {
        let after = tail.len() - at;
        after >= 22 && usize::from(u16_at(&tail, at + 20)) == after - 22
    };
    let at = (0..tail.len().saturating_sub(21))
        .rev()
        .filter(|at| tail.get(*at..at + 4) == Some(&signature))
        .find(comment_fits)
        .ok_or(ZipError::NotAZip)?;
    let record = &tail[at..];
    let at = from + at as u64;
    let (disk, count) = (u16_at(record, 4), u64::from(u16_at(record, 10)));
    let (size, offset) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
    if let Some(end) = find_end64(file, at)? {
        return Ok(end);
    }
    if disk != 0 || u16_at(record, 6) != 0 || u64::from(u16_at(record, 8)) != count {
        return Err(damaged("it is one part of an archive in several parts"));
    }
    placed(at, size, offset, count)
}

/// Reads the ZIP64 end record, if a locator in front of the end record points at one (APPNOTE 4.3.14, 4.3.15).
fn find_end64(file: &File, end: u64) -> Result<Option<End>, ZipError> {
    let Some(at) = end.checked_sub(LOCATOR64_BYTES) else { return Ok(None) };
    let mut locator = [0; LOCATOR64_LEN];
    file.read_exact_at(&mut locator, at)?;
    if u32_at(&locator, 0) != LOCATOR64 {
        return Ok(None);
    }
    // Bytes before the archive shift the record away from where the locator says; it lies right before.
    let candidates = [Some(u64_at(&locator, 8)), at.checked_sub(END64_BYTES)];
    for start in candidates.into_iter().flatten().filter(|start| start.saturating_add(END64_BYTES) <= at) {
        let mut record = [0; END64_LEN];
        file.read_exact_at(&mut record, start)?;
        if u32_at(&record, 0) == END64 {
            return placed(start, u64_at(&record, 40), u64_at(&record, 48), u64_at(&record, 32)).map(Some);
        }
    }
    Err(damaged("its ZIP64 end record is not where it should be"))
}

fn placed(end: u64, size: u64, offset: u64, count: u64) -> Result<End, ZipError> {
    let wrong =
        || damaged(format!("its central directory of {size} bytes at {offset} does not end at {end}"));
    let start = end.checked_sub(size).ok_or_else(wrong)?;
    let shift = start.checked_sub(offset).ok_or_else(wrong)?;
    if count > limits::ARCHIVE_ENTRIES as u64 {
        return Err(ZipError::TooMany { found: count, limit: limits::ARCHIVE_ENTRIES });
    }
    Ok(End { start, size, count, shift })
}

/// What separates the components of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    /// `/`, and `\\` too if the archive was not made on Unix (APPNOTE 4.4.17.1).
    OfHost,
    /// `\\`, although the archive claims to be made on Unix.
    Backslash,
}

/// Finds the first name with `\\` of an entry made on Unix.
fn first_with_backslashes(file: &File, end: &End) -> Result<Option<Backslashes>, ZipError> {
    let (mut first, mut slashes) = (None, false);
    each_record(file, end, |fixed, raw, _| {
        slashes |= raw.contains(&b'/');
        if first.is_none() && is_unix(fixed) && raw.contains(&b'\\') {
            first = Some(raw.to_vec());
        }
        Ok(())
    })?;
    Ok(first.map(|first| Backslashes::of(first, slashes)))
}

fn read_entries(file: &File, end: &End, separator: Separator) -> Result<Vec<Entry>, ZipError> {
    // The count is not trusted until the entries have been read.
    let mut entries = Vec::new();
    let mut extents = Vec::new();
    each_record(file, end, |fixed, raw, extra| {
        let read = parse(fixed, raw, extra, separator).map_err(|problem| ZipError::entry(raw, problem))?;
        if let Some(mut entry) = read {
            entry.offset = entry.offset.saturating_add(end.shift);
            let least = LOCAL_BYTES + raw.len() as u64 + entry.compressed;
            extents.push((entry.offset, entry.offset.saturating_add(least), entries.len()));
            entries.push(entry);
        }
        Ok(())
    })?;
    set_limits(&mut entries, &mut extents, end.start)?;
    Ok(entries)
}

/// Hands each record of the central directory to `take`: its fixed part, its name and its extra fields.
fn each_record(
    file: &File,
    end: &End,
    mut take: impl FnMut(&[u8; ENTRY_BYTES], &[u8], &[u8]) -> Result<(), ZipError>,
) -> Result<(), ZipError> {
    let mut directory = BufReader::with_capacity(64 * 1024, Span::new(file, end.start, end.size));
    for number in 0..end.count {
        let cut = |_| damaged(format!("its central directory ends inside entry {}", number + 1));
        let mut fixed = [0; ENTRY_BYTES];
        directory.read_exact(&mut fixed).map_err(cut)?;
        if u32_at(&fixed, 0) != ENTRY {
            return Err(damaged(format!("entry {} of its central directory is not one", number + 1)));
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(&fixed, at)));
        let mut variable = vec![0; name + extra + comment];
        directory.read_exact(&mut variable).map_err(cut)?;
        let (raw, rest) = variable.split_at(name);
        let extra = &rest[..extra];
        take(&fixed, raw, extra)?;
    }
    Ok(())
}

fn is_unix(fixed: &[u8; ENTRY_BYTES]) -> bool {
    matches!(fixed[5], UNIX | DARWIN)
}

/// Gives each entry the offset it must end before. Zip bombs let many entries share the same bytes.
fn set_limits(entries: &mut [Entry], extents: &mut [(u64, u64, usize)], end: u64) -> Result<(), ZipError> {
    extents.sort_unstable();
    for (position, (_, least, index)) in extents.iter().enumerate() {
        let limit = extents.get(position + 1).map_or(end, |(next, ..)| *next);
        let entry = &mut entries[*index];
        if *least > limit {
            return Err(ZipError::entry(&entry.path, EntryProblem::Overlap));
        }
        entry.limit = limit;
    }
    Ok(())
}

/// Reads one record (APPNOTE 4.3.12); `None` for an entry that stands for the root.
fn parse(
    fixed: &[u8; ENTRY_BYTES],
    raw: &[u8],
    extra: &[u8],
    separator: Separator,
) -> Result<Option<Entry>, EntryProblem> {
    let flags = u16_at(fixed, 8);
    // Bit 0: encrypted; 6: strong encryption; 13: masked headers.
    if flags & 0b10_0000_0100_0001 != 0 {
        return Err(EntryProblem::Encrypted);
    }
    let method = u16_at(fixed, 10);
    if !matches!(method, 0 | 8) || flags & (1 << 5) != 0 {
        return Err(EntryProblem::Method(method_name(method)));
    }
    let unix = is_unix(fixed);
    let rules = NameRules { utf8: flags & (1 << 11) != 0, unix, unicode: unicode_path(extra, raw) };
    let name = entry_names::decode(raw, rules)?;
    let Some((path, slash)) = entry_names::path(&name, unix && separator == Separator::OfHost)? else {
        return Ok(None);
    };
    let [mut size, mut compressed, mut offset] =
        [u32_at(fixed, 24), u32_at(fixed, 20), u32_at(fixed, 42)].map(u64::from);
    // ZIP64 extra field (APPNOTE 4.5.3): only what did not fit, in this order.
    let mut wide = field(extra, 0x0001).unwrap_or_default().chunks_exact(8).map(|bytes| u64_at(bytes, 0));
    for value in [&mut size, &mut compressed, &mut offset] {
        if *value == u64::from(u32::MAX) {
            *value = wide.next().unwrap_or(*value);
        }
    }
    let mode = unix.then(|| u32_at(fixed, 38) >> 16);
    let kind = match mode.unwrap_or_default() & 0o170_000 {
        _ if slash => EntryKind::Directory,
        0o040_000 => EntryKind::Directory,
        0 | 0o100_000 => EntryKind::File,
        0o120_000 => EntryKind::Symlink,
        0o010_000 => return Err(EntryProblem::Kind("a named pipe (FIFO)")),
        0o020_000 | 0o060_000 => return Err(EntryProblem::Kind("a device")),
        0o140_000 => return Err(EntryProblem::Kind("a socket")),
        _ => return Err(EntryProblem::Kind("of an unknown kind")),
    };
    if kind == EntryKind::Directory && size > 0 {
        return Err(EntryProblem::FolderContent(size));
    }
    if method == 0 && size != compressed {
        return Err(EntryProblem::StoredSize { stored: compressed, declared: size });
    }
    Ok(Some(Entry {
        path,
        kind,
        size,
        mode: mode.map(|mode| mode & 0o7777),
        method,
        crc: u32_at(fixed, 16),
        compressed,
        offset,
        limit: 0,
        raw_name: crc_of(raw),
    }))
}

/// Returns the data of an extra field (APPNOTE 4.5.1).
fn field(mut extra: &[u8], wanted: u16) -> Option<&[u8]> {
    while extra.len() >= 4 {
        let (id, size) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let data = extra.get(4..4 + size)?;
        if id == wanted {
            return Some(data);
        }
        extra = extra.get(4 + size..)?;
    }
    None
}

/// Returns the name of an Info-ZIP Unicode path field, if it belongs to this name (APPNOTE 4.6.9).
fn unicode_path<'a>(extra: &'a [u8], raw: &[u8]) -> Option<&'a [u8]> {
    let data = field(extra, 0x7075)?;
    let (head, name) = data.split_at_checked(5)?;
    let fits = head[0] == 1 && u32_at(head, 1) == crc_of(raw) && !name.is_empty();
    fits.then_some(name)
}

fn method_name(method: u16) -> String {
    let name = match method {
        8 => "patched deflate",
        9 => "deflate64",
        12 => "bzip2",
        14 => "lzma",
        93 => "zstd",
        95 => "xz",
        98 => "ppmd",
        99 => "AES encryption",
        _ => return format!("method {method}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use testkit::scratch::Scratch;
    use testkit::zipfile::{ZipEntry, zip};

    use super::*;

    fn archive(entries: &[ZipEntry]) -> Result<Archive, ZipError> {
        archive_of(&zip(entries))
    }

    fn archive_of(bytes: &[u8]) -> Result<Archive, ZipError> {
        let scratch = Scratch::new("zip");
        Archive::open(File::open(scratch.write("a.zip", bytes)).unwrap())
    }

    fn paths(archive: &Archive) -> Vec<&str> {
        archive.entries().iter().map(|entry| std::str::from_utf8(&entry.path).unwrap()).collect()
    }

    #[test]
    fn copies_of_a_file_are_distinguished_from_other_contents() {
        let one = ZipEntry::file("LICENSE", "text");
        let deflated = {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, b"text").unwrap();
            let data = encoder.finish().unwrap();
            ZipEntry { compressed: u32::try_from(data.len()).unwrap(), data, method: 8, ..one.clone() }
        };
        let cases = [
            (one.clone(), true),
            (deflated, true),
            (ZipEntry::file("LICENSE", "next"), false),
            (ZipEntry::file("LICENSE", "texts"), false),
            (one.clone().mode(0o100_755), false),
            (ZipEntry::symlink("LICENSE", "text"), false),
        ];
        for (other, expected) in cases {
            let archive = archive(&[one.clone(), other.clone()]).unwrap();
            let [a, b] = archive.entries() else { panic!("two entries") };
            assert_eq!(archive.is_same(a, b).unwrap(), expected, "{other:?}");
        }
        let wrong = ZipEntry { crc: 1, ..one };
        let archive = archive(&[wrong.clone(), wrong]).unwrap();
        assert!(
            archive.is_same(&archive.entries()[0], &archive.entries()[1]).is_err(),
            "the content is checked"
        );
    }

    #[test]
    fn backslashes_are_folders_if_a_unix_archive_has_no_slash_at_all() {
        let file = |name: &str| ZipEntry::file(name, "x");
        let separators = |first: &str| Some(Backslashes::Separators { first: first.into() });
        let in_names = |first: &str| Some(Backslashes::InNames { first: first.into() });
        for (entries, found, expected) in [
            (
                vec![file("WEB-INF\\web.xml"), file("a")],
                separators("WEB-INF\\web.xml"),
                vec!["WEB-INF/web.xml", "a"],
            ),
            (vec![file("a\\b"), file("c/d")], in_names("a\\b"), vec!["a\\b", "c/d"]),
            (vec![file("a\\b").fat()], None, vec!["a/b"]),
            (vec![file("a"), file("b")], None, vec!["a", "b"]),
        ] {
            let archive = archive(&entries).unwrap();
            assert_eq!((archive.backslashes(), paths(&archive)), (found.as_ref(), expected));
        }
        let error = archive(&[file("a\\..\\..\\b")]).unwrap_err().to_string();
        assert_eq!(error, "entry `a\\..\\..\\b` leads out of the archive with `..`");
    }

    #[test]
    fn records_give_kind_mode_and_size_or_are_refused() {
        let good = || ZipEntry::file("f", "data");
        let accepted = archive(&[
            good(),
            ZipEntry::folder("d/"),
            ZipEntry::symlink("l", "f"),
            good().fat(),
            ZipEntry { name: b"./".to_vec(), local_name: b"./".to_vec(), ..ZipEntry::folder("./") },
        ])
        .unwrap();
        let found: Vec<_> =
            accepted.entries().iter().map(|entry| (entry.kind, entry.mode, entry.size)).collect();
        let expected = [
            (EntryKind::File, Some(0o644), 4),
            (EntryKind::Directory, Some(0o755), 0),
            (EntryKind::Symlink, Some(0o777), 1),
            (EntryKind::File, None, 4),
        ];
        assert_eq!(found, expected);
        for (entry, expected) in [
            (ZipEntry { flags: 1, ..good() }, "is encrypted"),
            (ZipEntry { flags: 1 << 6, ..good() }, "is encrypted"),
            (ZipEntry { flags: 1 << 13, ..good() }, "is encrypted"),
            (ZipEntry { flags: 1 << 5, method: 8, ..good() }, "is compressed with patched deflate"),
            (ZipEntry { method: 9, ..good() }, "is compressed with deflate64"),
            (ZipEntry { method: 99, ..good() }, "is compressed with AES encryption"),
            (ZipEntry { method: 5, ..good() }, "is compressed with method 5"),
            (good().mode(0o010_644), "a named pipe"),
            (good().mode(0o020_644), "a device"),
            (good().mode(0o060_644), "a device"),
            (good().mode(0o140_644), "a socket"),
            (good().mode(0o150_644), "of an unknown kind"),
            (ZipEntry { size: 5, ..good() }, "is stored in 4 bytes, but declares 5"),
            (ZipEntry { size: 9, compressed: 9, ..good() }, "shares its bytes"),
        ] {
            let error = archive(&[entry]).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let error = archive(&[ZipEntry { name: b"d/".to_vec(), local_name: b"d/".to_vec(), ..good() }]);
        assert!(error.is_err(), "a folder with content");
    }

    #[test]
    fn bytes_in_front_and_a_comment_behind_do_not_matter_and_cuts_do() {
        let plain = zip(&[ZipEntry::file("f", "data")]);
        let prefixed = [b"#!/bin/sh\n".to_vec(), plain.clone()].concat();
        let mut commented = plain.clone();
        let at = commented.len() - 2;
        commented[at] = 4;
        commented.extend_from_slice(b"note");
        for (bytes, what) in [(&plain, "plain"), (&prefixed, "prefixed"), (&commented, "commented")] {
            let archive = archive_of(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            let content = archive.open_entry(&archive.entries()[0]).unwrap().read_whole(4).unwrap();
            assert_eq!(content.as_deref(), Some(&b"data"[..]), "{what}");
        }
        for length in 0..plain.len() {
            assert!(archive_of(&plain[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn extra_fields_are_found_or_passed_over() {
        let extra = [1, 0, 2, 0, b'a', b'b', 0x75, 0x70, 1, 0, b'c', 9];
        assert_eq!(field(&extra, 1), Some(&b"ab"[..]));
        assert_eq!(field(&extra, 0x7075), Some(&b"c"[..]));
        assert_eq!(field(&extra, 2), None);
        assert_eq!(field(&[1, 0, 3, 0, b'a', b'b'], 1), None, "cut");
        let unicode = |version: u8, crc: u32, name: &str| {
            let size = u16::try_from(5 + name.len()).unwrap().to_le_bytes();
            [&[0x75, 0x70], &size[..], &[version], &crc.to_le_bytes(), name.as_bytes()].concat()
        };
        let crc = crc_of(b"raw");
        assert_eq!(unicode_path(&unicode(1, crc, "ü"), b"raw"), Some("ü".as_bytes()));
        for (extra, why) in [
            (unicode(2, crc, "ü"), "another version"),
            (unicode(1, crc ^ 1, "ü"), "of another name"),
            (unicode(1, crc, ""), "empty"),
            (vec![0x75, 0x70, 1, 0, 1], "cut"),
        ] {
            assert_eq!(unicode_path(&extra, b"raw"), None, "{why}");
        }
    }
}
