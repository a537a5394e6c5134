//! Tar headers as we write them: USTAR where it fits, PAX records where it does not.
//!
//! The layout is Go's `archive/tar` with an unset format, because imgpkg packs with it and a layer's `diff_id`
//! has to be the same for the same folder. Source: POSIX.1-2017 pax, "ustar Interchange Format" and
//! "pax Header Block"; Go `archive/tar/writer.go` (behaviour, checked by test vectors).

use super::checksum;

/// Size of a tar block in bytes.
pub const BLOCK: usize = 512;
/// End of an archive: two zero blocks.
pub const END_OF_ARCHIVE: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// First size that 11 octal digits cannot hold: 8 GiB.
pub const OCTAL_SIZE_LIMIT: u64 = 1 << 33;
/// First user or group that 7 octal digits cannot hold.
const OCTAL_OWNER_LIMIT: u32 = 1 << 21;

const NAME: usize = 100;
const PREFIX: usize = 155;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// Regular file.
    File,
    /// Folder.
    Directory,
    /// Symbolic link.
    Symlink,
}

impl EntryType {
    fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Directory => b'5',
            Self::Symlink => b'2',
        }
    }
}

/// Who an entry belongs to, by number; names are never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// 0:0, what every entry has unless another owner was requested.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// What goes into one entry's header.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Path inside the archive, `/`-separated bytes, no leading `/`.
    pub path: &'a [u8],
    /// Kind of entry.
    pub kind: EntryType,
    /// Unix permission bits, at most `0o7777`.
    pub mode: u32,
    /// Bytes of data that follow; 0 for folders and links.
    pub size: u64,
    /// Target of a symbolic link, else empty.
    pub link: &'a [u8],
    /// Modification time in seconds since 1970.
    pub mtime: u32,
    /// Who it belongs to.
    pub owner: Owner,
}

/// Appends the header blocks of an entry to `out`: one block, or three and more with PAX records.
pub fn encode(header: &Header<'_>, out: &mut Vec<u8>) {
    let long_path = !is_ascii(header.path) || (header.path.len() > NAME && split(header.path).is_none());
    let long_link = header.link.len() > NAME || !is_ascii(header.link);
    let large = header.size >= OCTAL_SIZE_LIMIT;
    let Owner { uid, gid } = header.owner;
    let high_owner = uid.max(gid) >= OCTAL_OWNER_LIMIT;
    if !(long_path || long_link || large || high_owner) {
        let (prefix, name) = split(header.path).unwrap_or((b"", header.path));
        out.extend_from_slice(&block(header, name, prefix, header.size));
        return;
    }
    let mut records = Vec::new();
    // Records go in key order: gid, linkpath, path, size, uid.
    if gid >= OCTAL_OWNER_LIMIT {
        push_record(&mut records, "gid", gid.to_string().as_bytes());
    }
    if long_link {
        push_record(&mut records, "linkpath", header.link);
    }
    if header.path.len() > NAME || !is_ascii(header.path) {
        push_record(&mut records, "path", header.path);
    }
    if large {
        push_record(&mut records, "size", header.size.to_string().as_bytes());
    }
    if uid >= OCTAL_OWNER_LIMIT {
        push_record(&mut records, "uid", uid.to_string().as_bytes());
    }
    let pax_name = pax_header_name(header.path);
    out.extend_from_slice(&pax_block(&pax_name, records.len() as u64));
    out.extend_from_slice(&records);
    out.resize(out.len() + padding(records.len() as u64), 0);
    let size = if large { 0 } else { header.size };
    out.extend_from_slice(&block(header, &ascii_only(header.path), b"", size));
}

/// Encodes a header of exactly one block for any size: the header of a blob whose size is known only afterwards.
///
/// From 8 GiB up the size is a base-256 number, which GNU tar, Go, Python and libarchive read.
#[must_use]
pub fn encode_one_block(header: &Header<'_>) -> [u8; BLOCK] {
    let mut encoded = block(header, header.path, b"", 0);
    if header.size < OCTAL_SIZE_LIMIT {
        octal(&mut encoded[124..136], header.size);
    } else {
        encoded[124..136].fill(0);
        encoded[128..136].copy_from_slice(&header.size.to_be_bytes());
        encoded[124] = 0x80;
        // Base-256 numbers belong to the GNU format.
        encoded[257..265].copy_from_slice(b"ustar  \0");
    }
    checksum::set(&mut encoded);
    encoded
}

/// Returns the zero bytes that follow data of this size, so that the next header begins on a block.
#[must_use]
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).expect("less than 512");
    (BLOCK - over) % BLOCK
}

fn is_ascii(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (1..0x80).contains(byte))
}

fn ascii_only(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| *byte < 0x80).collect()
}

/// Splits a long path at the last `/` that leaves a prefix of at most 155 and a name of at most 100 bytes.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME || !is_ascii(path) {
        return None;
    }
    let reach = if path.len() > PREFIX + 1 {
        PREFIX + 1
    } else if path.ends_with(b"/") {
        path.len() - 1
    } else {
        path.len()
    };
    let slash = path[..reach].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    let fits = !prefix.is_empty() && !name.is_empty() && name.len() <= NAME && prefix.len() <= PREFIX;
    fits.then_some((prefix, name))
}

/// Go names the extended header `dir/PaxHeaders.0/base`, cleaned, ASCII only, cut to 100 bytes.
fn pax_header_name(path: &[u8]) -> Vec<u8> {
    let (directory, base) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    let joined = [directory, b"PaxHeaders.0", base].join(&b'/');
    let mut cleaned: Vec<&[u8]> = Vec::new();
    for part in joined.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if cleaned.last().is_some_and(|last| *last != b"..") => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    let mut name = ascii_only(&cleaned.join(&b'/'));
    name.truncate(NAME);
    while name.ends_with(b"/") {
        name.pop();
    }
    name
}

/// Appends `"<length> <key>=<value>\n"`, where the length counts itself.
fn push_record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() != rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Writes zero-filled octal digits and a NUL into a field.
fn octal(field: &mut [u8], value: u64) {
    let Some((end, digits)) = field.split_last_mut() else { return };
    *end = 0;
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    debug_assert_eq!(rest, 0, "callers write only numbers that fit");
}

/// Copies a name into a field; Go ends a cut name that would end in `/` before its trailing slashes.
fn text(field: &mut [u8], value: &[u8]) {
    let kept = &value[..field.len().min(value.len())];
    field[..kept.len()].copy_from_slice(kept);
    if value.len() > field.len() && field.last() == Some(&b'/') {
        let body = field.len() - 1;
        let end = field[..body].iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        field[end] = 0;
    }
}

fn block(header: &Header<'_>, name: &[u8], prefix: &[u8], size: u64) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    text(&mut block[0..100], name);
    // Go writes 0 where a record has the number.
    let octal_owner = |id: u32| if id < OCTAL_OWNER_LIMIT { u64::from(id) } else { 0 };
    octal(&mut block[100..108], u64::from(header.mode));
    octal(&mut block[108..116], octal_owner(header.owner.uid));
    octal(&mut block[116..124], octal_owner(header.owner.gid));
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], u64::from(header.mtime));
    block[156] = header.kind.flag();
    if header.link.len() > NAME || !is_ascii(header.link) {
        text(&mut block[157..257], &ascii_only(header.link));
    } else {
        text(&mut block[157..257], header.link);
    }
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    text(&mut block[345..500], prefix);
    checksum::set(&mut block);
    block
}

/// The extended header's own block; Go leaves its device numbers empty.
fn pax_block(name: &[u8], size: u64) -> [u8; BLOCK] {
    let mut block = [0_u8; BLOCK];
    text(&mut block[0..100], name);
    for field in [100..108, 108..116, 116..124] {
        octal(&mut block[field], 0);
    }
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], 0);
    block[156] = b'x';
    block[257..265].copy_from_slice(b"ustar\x0000");
    checksum::set(&mut block);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(path: &[u8], size: u64) -> Header<'_> {
        Header { path, kind: EntryType::File, mode: 0o600, size, link: b"", mtime: 0, owner: Owner::ROOT }
    }

    fn encoded(header: &Header<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(header, &mut out);
        out
    }

    #[test]
    fn ustar_is_used_as_long_as_the_name_fits() {
        let name = |n: usize| vec![b'n'; n];
        assert_eq!(encoded(&header(&name(100), 1)).len(), BLOCK);
        assert_eq!(encoded(&header(&name(101), 1)).len(), 3 * BLOCK, "no slash to split at");
        let split_at = [name(155), b"/".to_vec(), name(100)].concat();
        let block = encoded(&header(&split_at, 1));
        assert_eq!(block.len(), BLOCK);
        assert_eq!(&block[345..500], name(155));
        assert_eq!(&block[0..100], name(100));
        let too_long = [name(156), b"/".to_vec(), name(100)].concat();
        assert_eq!(encoded(&header(&too_long, 1)).len(), 3 * BLOCK);
        assert_eq!(encoded(&header("ü".as_bytes(), 1)).len(), 3 * BLOCK, "not ASCII");
    }

    #[test]
    fn sizes_from_8_gib_up_are_a_pax_record() {
        let below = encoded(&header(b"big", OCTAL_SIZE_LIMIT - 1));
        assert_eq!(&below[124..136], b"77777777777\0");
        let at = encoded(&header(b"big", OCTAL_SIZE_LIMIT));
        assert_eq!(&at[0..18], b"PaxHeaders.0/big\0\0");
        assert_eq!(&at[BLOCK..BLOCK + 19], b"19 size=8589934592\n");
        assert_eq!(&at[2 * BLOCK + 124..2 * BLOCK + 136], b"00000000000\0");
        let one = encode_one_block(&header(b"big", OCTAL_SIZE_LIMIT));
        assert_eq!(&one[124..136], &[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn record_lengths_count_themselves_at_the_borders() {
        for (value_len, expected) in
            [(88, 97), (89, 98), (90, 99), (91, 101), (988, 998), (989, 999), (990, 1001)]
        {
            let mut records = Vec::new();
            push_record(&mut records, "path", &vec![b'v'; value_len]);
            assert_eq!(records.len(), expected, "value of {value_len}");
            assert!(records.starts_with(format!("{expected} path=").as_bytes()), "value of {value_len}");
        }
    }

    #[test]
    fn long_link_targets_are_a_pax_record() {
        let target = vec![b't'; 101];
        let entry = Header { kind: EntryType::Symlink, mode: 0o777, link: &target, ..header(b"l", 0) };
        let out = encoded(&entry);
        assert!(
            out[BLOCK..].starts_with(b"115 linkpath=t"),
            "{:?}",
            String::from_utf8_lossy(&out[BLOCK..BLOCK + 20])
        );
    }

    #[test]
    fn the_name_of_a_pax_header_is_cleaned_and_cut_as_go_does() {
        let long = "d".repeat(99);
        for (path, expected) in [
            ("a/b", "a/PaxHeaders.0/b"),
            ("b", "PaxHeaders.0/b"),
            ("./a//b", "a/PaxHeaders.0/b"),
            ("a/../b", "PaxHeaders.0/b"),
            ("../b", "../PaxHeaders.0/b"),
            ("../../b", "../../PaxHeaders.0/b"),
            (&format!("{long}/b"), &long),
            (&format!("{long}d/b"), &format!("{long}d")),
        ] {
            assert_eq!(String::from_utf8_lossy(&pax_header_name(path.as_bytes())), expected, "{path}");
        }
    }

    #[test]
    fn a_name_that_is_cut_at_a_slash_ends_before_it() {
        for (value, expected) in [
            ("abcd", &b"abcd"[..]),
            ("abc", b"abc\0"),
            ("abc/", b"abc/"),
            ("abc/e", b"abc\0"),
            ("abcde", b"abcd"),
        ] {
            let mut field = [0; 4];
            text(&mut field, value.as_bytes());
            assert_eq!(field, expected, "{value}");
        }
        let mut field = [0; 4];
        text(&mut field, b"a///b");
        assert_eq!(field, *b"a\0//", "only the first slash is replaced");
    }
}
