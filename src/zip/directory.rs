//! The central directory: what is in the archive and where. No content is read here.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt as _;

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
    backslashes: Option<Vec<u8>>,
}

/// Where the central directory is.
struct End {
    start: u64,
    size: u64,
    count: u64,
    /// What has to be added to every offset: bytes in front of the archive (executable jars).
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
        let separator = if backslashes.is_some() { Separator::Backslash } else { Separator::OfHost };
        let entries = read_entries(&file, &end, separator)?;
        Ok(Self { file, entries, backslashes })
    }

    /// Returns the first name with `\\`, if the archive has `\\` in place of `/` although it claims to be made on Unix.
    ///
    /// Tools on Windows write such archives; a program on Unix would make one file named `WEB-INF\\web.xml`. Their
    /// `\\` are read as `/`.
    #[must_use]
    pub fn backslashes(&self) -> Option<&[u8]> {
        self.backslashes.as_deref()
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
    // Bytes in front of the archive shift the record away from where the locator says; it lies right before.
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

/// Returns the first name with `\\`, if entries made on Unix have it and no entry has a `/`.
fn first_with_backslashes(file: &File, end: &End) -> Result<Option<Vec<u8>>, ZipError> {
    let (mut first, mut slashes) = (None, false);
    each_record(file, end, |fixed, raw, _| {
        slashes |= raw.contains(&b'/');
        if first.is_none() && is_unix(fixed) && raw.contains(&b'\\') {
            first = Some(raw.to_vec());
        }
        Ok(())
    })?;
    Ok(first.filter(|_| !slashes))
}

fn read_entries(file: &File, end: &End, separator: Separator) -> Result<Vec<Entry>, ZipError> {
    // The count is only a claim until the entries have been seen.
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
