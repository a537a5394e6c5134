//! Makes folders from one-line descriptions, and describes folders.
//!
//! ```text
//! d app 755                      a folder; the mode may be left out (755)
//! f app/run 755 'hi\n'           a file; mode (644) and content (empty) may be left out
//! f app/data random:4096:7       4096 bytes that do not compress, from seed 7 (0 if left out)
//! f app/hole zeros:1000000       a sparse file
//! l app/current -> ../versions/2 a symbolic link, to anything
//! h app/again = app/run          a hard link to an earlier file
//! p app/pipe 600                 a FIFO
//! ```
//!
//! Folders above an entry are created as needed. A path or content in quotes may have blanks and the escapes `\n`,
//! `\t`, `\\`, `\'`, `\"` and `\xHH`. Modes are set as written, independent of the umask.

use crate::digest;
use crate::random::Random;
use crate::tools::{run, tool};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Makes the entries inside `folder`, which is created if needed; panics at the first line it cannot parse.
#[track_caller]
pub fn make<L: AsRef<str>>(folder: &Path, lines: &[L]) {
    make_folder(folder);
    // Folders get their modes last, innermost first, so that one without write permission can be filled.
    let mut folders: Vec<(PathBuf, u32)> = Vec::new();
    for line in lines {
        let line = line.as_ref();
        let words = split(line).unwrap_or_else(|e| panic!("`{line}`: {e}"));
        let entry = Entry::read(&words).unwrap_or_else(|e| panic!("`{line}`: {e}"));
        let path = folder.join(OsStr::from_bytes(entry.path));
        let parent = path.parent().expect("an entry lies in the folder");
        make_folder(parent);
        match entry.what {
            What::Folder => {
                make_folder(&path);
                folders.push((path, entry.mode.unwrap_or(0o755)));
                continue;
            }
            What::File(content) => must(&path, "write", content.write(&path)),
            What::Symlink(target) => {
                must(&path, "link", symlink(OsStr::from_bytes(target), &path));
                continue;
            }
            What::Link(existing) => {
                must(&path, "link", fs::hard_link(folder.join(OsStr::from_bytes(existing)), &path));
                continue;
            }
            What::Pipe => drop(run(tool("mkfifo").arg(&path)).success()),
        }
        set_mode(&path, entry.mode.unwrap_or(0o644));
    }
    for (path, mode) in folders.iter().rev() {
        set_mode(path, *mode);
    }
}

/// Describes everything in a folder, in byte order of paths, ready to compare:
/// `d app 755`, `f app/run 755 3 sha256:…`, `l app/current -> …`, `p app/pipe 600`, `? odd` for the rest.
#[track_caller]
pub fn list(folder: &Path) -> String {
    describe(folder, true)
}

/// As [`list`], without modes, for readers that set their own.
#[track_caller]
pub fn list_contents(folder: &Path) -> String {
    describe(folder, false)
}

#[track_caller]
fn describe(folder: &Path, with_modes: bool) -> String {
    let walked = walkdir::WalkDir::new(folder).min_depth(1).into_iter();
    let mut paths: Vec<PathBuf> =
        walked.map(|entry| must(folder, "list", entry.map_err(Into::into)).into_path()).collect();
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut text = String::new();
    for path in paths {
        let metadata = must(&path, "look at", path.symlink_metadata());
        let name = quote(path.strip_prefix(folder).expect("the walk stays inside").as_os_str().as_bytes());
        let mode =
            if with_modes { format!(" {:o}", metadata.permissions().mode() & 0o7777) } else { String::new() };
        let kind = metadata.file_type();
        let line = if kind.is_dir() {
            format!("d {name}{mode}")
        } else if kind.is_file() {
            let (digest, size) = digest::of_file(&path);
            format!("f {name}{mode} {size} {digest}")
        } else if kind.is_symlink() {
            let target = must(&path, "read", fs::read_link(&path));
            format!("l {name} -> {}", quote(target.as_os_str().as_bytes()))
        } else if kind.is_fifo() {
            format!("p {name}{mode}")
        } else {
            format!("? {name}{mode}")
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Bounds of [`grow`].
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many files.
    pub files: usize,
    /// How many folders; they are nested at random.
    pub folders: usize,
    /// The size no file exceeds.
    pub largest_bytes: u64,
    /// Whether names may be long, in UTF-8, with blanks, newlines, backslashes, or invalid as UTF-8.
    pub odd_names: bool,
    /// Whether some entries are relative symbolic links to files inside.
    pub symlinks: bool,
    /// Whether some entries are hard links.
    pub hard_links: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            files: 60,
            folders: 20,
            largest_bytes: 40_000,
            odd_names: true,
            symlinks: false,
            hard_links: true,
        }
    }
}

/// Fills a folder at random; the same seed and shape give the same tree everywhere. Prints the seed, so that a failure
/// can be repeated.
#[track_caller]
pub fn grow(folder: &Path, seed: u64, shape: Shape) {
    eprintln!("tree::grow: seed {seed}, {shape:?}");
    let mut random = Random::new(seed);
    let mut folders: Vec<Vec<u8>> = vec![Vec::new()];
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut lines = Vec::new();
    let mut taken = std::collections::BTreeSet::new();
    let mut place = |random: &mut Random, folders: &[Vec<u8>]| -> Vec<u8> {
        loop {
            let parents: Vec<&[u8]> = folders.iter().map(Vec::as_slice).collect();
            let mut path = random.pick(&parents).to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name(random, shape.odd_names));
            // The system's limit is 4095 bytes, including the folder above.
            if path.len() < 2000 && taken.insert(path.clone()) {
                return path;
            }
        }
    };
    for _ in 0..shape.folders {
        let path = place(&mut random, &folders);
        let mode = random.pick(&["755", "700", "750", "775", "2755", "1777"]);
        lines.push(format!("d {} {mode}", quote(&path)));
        folders.push(path);
    }
    for _ in 0..shape.files {
        let path = place(&mut random, &folders);
        match random.below(12) {
            0 if shape.hard_links && !files.is_empty() => {
                let existing: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                lines.push(format!("h {} = {}", quote(&path), quote(random.pick(&existing))));
            }
            1 if shape.symlinks && !files.is_empty() => {
                let existing: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                let depth = path.iter().filter(|byte| **byte == b'/').count();
                let mut target = b"../".repeat(depth);
                target.extend_from_slice(random.pick(&existing));
                lines.push(format!("l {} -> {}", quote(&path), quote(&target)));
            }
            kind => {
                let mode = random.pick(&["644", "755", "600", "664", "4755", "444"]);
                // Sizes at block limits test the padding.
                let size = if kind < 5 {
                    512 * random.below(4) + random.below(3)
                } else {
                    random.below(shape.largest_bytes + 1)
                };
                let size = size.min(shape.largest_bytes);
                lines.push(format!("f {} {mode} random:{size}:{}", quote(&path), random.below(1000)));
                files.push(path);
            }
        }
    }
    make(folder, &lines);
}

fn name(random: &mut Random, odd: bool) -> Vec<u8> {
    // Siblings like `b`, `b.txt` and a folder `b` give different results with different sort orders.
    let plain = ["a", "b", "b.txt", "B", "b-c", "b!", "c", "main.rs", "README", ".hidden", "x0", "x10", "x9"];
    let mut name = random.pick(&plain).as_bytes().to_vec();
    let suffix = random.below(1000).to_string();
    match random.below(if odd { 9 } else { 2 }) {
        0 => {}
        1 => name.extend_from_slice(suffix.as_bytes()),
        2 => name.extend_from_slice("-ünïcödé-名前-🦀".as_bytes()),
        3 => name.extend(std::iter::repeat_n(b'n', 90 + usize::try_from(random.below(140)).expect("small"))),
        4 => name.extend_from_slice(b" with blanks "),
        5 => name.extend_from_slice(b"\\back\\slash"),
        6 => name.extend_from_slice(b"new\nline\t"),
        7 => name.insert(0, b'-'),
        _ => name.extend_from_slice("é".repeat(60).as_bytes()),
    }
    name
}

struct Entry<'a> {
    path: &'a [u8],
    mode: Option<u32>,
    what: What<'a>,
}

enum What<'a> {
    Folder,
    File(Content<'a>),
    Symlink(&'a [u8]),
    Link(&'a [u8]),
    Pipe,
}

enum Content<'a> {
    Bytes(&'a [u8]),
    Random(usize, u64),
    Zeros(u64),
}

impl Content<'_> {
    fn write(&self, path: &Path) -> std::io::Result<()> {
        match self {
            Self::Bytes(bytes) => fs::write(path, bytes),
            Self::Random(size, seed) => fs::write(path, Random::new(*seed).bytes(*size)),
            Self::Zeros(size) => fs::File::create(path)?.set_len(*size),
        }
    }
}

impl<'a> Entry<'a> {
    fn read(words: &'a [Word]) -> Result<Self, String> {
        let [kind, path, rest @ ..] = words else { return Err("an entry has a kind and a path".into()) };
        let path = path.bytes.as_slice();
        let sign = |sign: &str| match rest {
            [middle, target] if middle.bytes == sign.as_bytes() => Ok(target.bytes.as_slice()),
            _ => Err(format!("expected `{sign} TARGET`")),
        };
        let (mode, rest) = match rest {
            [first, others @ ..] if first.is_mode() => (first.mode(), others),
            all => (None, all),
        };
        let what = match (kind.bytes.as_slice(), rest) {
            (b"d", []) => What::Folder,
            (b"p", []) => What::Pipe,
            (b"f", []) => What::File(Content::Bytes(b"")),
            (b"f", [content]) => What::File(content.content()?),
            (b"l", _) => What::Symlink(sign("->")?),
            (b"h", _) => What::Link(sign("=")?),
            _ => return Err("expected `d`, `f`, `l`, `h` or `p` with its parts".into()),
        };
        Ok(Self { path, mode, what })
    }
}

/// One word of a line, without quotes and with escapes decoded.
struct Word {
    bytes: Vec<u8>,
    quoted: bool,
}

impl Word {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or("")
    }

    fn is_mode(&self) -> bool {
        !self.quoted && (1..=4).contains(&self.bytes.len()) && self.mode().is_some()
    }

    fn mode(&self) -> Option<u32> {
        u32::from_str_radix(self.text(), 8).ok()
    }

    fn content(&self) -> Result<Content<'_>, String> {
        if self.quoted {
            return Ok(Content::Bytes(&self.bytes));
        }
        let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a number"));
        match *self.text().split(':').collect::<Vec<_>>() {
            ["random", size] => Ok(Content::Random(usize::try_from(number(size)?).expect("fits"), 0)),
            ["random", size, seed] => {
                Ok(Content::Random(usize::try_from(number(size)?).expect("fits"), number(seed)?))
            }
            ["zeros", size] => Ok(Content::Zeros(number(size)?)),
            _ => Err(format!("`{}` is no content: quote it, or say `random:N` or `zeros:N`", self.text())),
        }
    }
}

fn split(line: &str) -> Result<Vec<Word>, String> {
    let bytes = line.as_bytes();
    let (mut words, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let first = bytes[at];
        if first == b' ' {
            at += 1;
            continue;
        }
        let quoted = matches!(first, b'\'' | b'"');
        let end = if quoted { first } else { b' ' };
        at += usize::from(quoted);
        let mut word = Vec::new();
        loop {
            match bytes.get(at) {
                None if quoted => return Err("a quote is not closed".into()),
                None => break,
                Some(byte) if *byte == end => break,
                Some(b'\\') if quoted => {
                    let (byte, length) = escape(&line[at..])?;
                    word.push(byte);
                    at += length;
                }
                Some(byte) => {
                    word.push(*byte);
                    at += 1;
                }
            }
        }
        at += 1;
        words.push(Word { bytes: word, quoted });
    }
    Ok(words)
}

fn escape(text: &str) -> Result<(u8, usize), String> {
    match text.as_bytes().get(1) {
        Some(b'n') => Ok((b'\n', 2)),
        Some(b't') => Ok((b'\t', 2)),
        Some(byte @ (b'\\' | b'\'' | b'"')) => Ok((*byte, 2)),
        Some(b'x') => {
            let hex = text.get(2..4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            hex.map(|byte| (byte, 4)).ok_or_else(|| "expected two hex digits after `\\x`".into())
        }
        _ => Err("unknown escape".into()),
    }
}

/// Returns a path as a description has it: without quotes if that is unambiguous.
fn quote(path: &[u8]) -> String {
    let bare = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'\'' | b'"' | b'\\');
    if !path.is_empty() && path.iter().all(bare) {
        return String::from_utf8_lossy(path).into_owned();
    }
    let mut text = "\"".to_owned();
    for byte in path {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'"' => text.push_str("\\\""),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

/// Makes a folder and those above it, independent of the umask.
#[track_caller]
fn make_folder(path: &Path) {
    if path.is_dir() {
        return;
    }
    if let Some(parent) = path.parent() {
        make_folder(parent);
    }
    must(path, "create", fs::create_dir(path));
    set_mode(path, 0o755);
}

#[track_caller]
fn set_mode(path: &Path, mode: u32) {
    must(path, "set the mode of", fs::set_permissions(path, fs::Permissions::from_mode(mode)));
}

#[track_caller]
fn must<T>(path: &Path, what: &str, result: std::io::Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("cannot {what} `{}`: {e}", path.display()))
}

/// Returns a path from bytes that need not be UTF-8.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const HI: &str = "sha256:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_described_folder_is_listed_as_described() {
        let scratch = Scratch::new("tree");
        let lines = [
            "d app 750",
            "f app/run 4755 'hi'",
            "f app/empty",
            "f deep/er/file 600 \"\\x68i\"",
            "f 'a b\\n\\xff' 'hi'",
            "l app/current -> '../else where'",
            "h app/again = app/run",
            "p app/pipe 600",
            "d closed 500",
            "f closed/inside 'hi'",
            "f hole zeros:70000",
        ];
        make(scratch.path(), &lines);
        let expected = [
            &format!("f \"a b\\n\\xff\" 644 2 {HI}"),
            "d app 750",
            &format!("f app/again 4755 2 {HI}"),
            "l app/current -> \"../else where\"",
            &format!("f app/empty 644 0 {EMPTY}"),
            "p app/pipe 600",
            &format!("f app/run 4755 2 {HI}"),
            "d closed 500",
            &format!("f closed/inside 644 2 {HI}"),
            "d deep 755",
            "d deep/er 755",
            &format!("f deep/er/file 600 2 {HI}"),
        ];
        let listed = list(scratch.path());
        assert_eq!(listed.lines().take(12).collect::<Vec<_>>(), expected);
        assert!(listed.lines().nth(12).is_some_and(|line| line.starts_with("f hole 644 70000 sha256:")));
        assert!(list_contents(scratch.path()).contains("\nd app\n"));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_refused() {
        let scratch = Scratch::new("tree");
        for (line, complaint) in [
            ("f", "a kind and a path"),
            ("x app", "expected `d`"),
            ("f app 'open", "not closed"),
            ("f app text", "is no content"),
            ("f app random:x", "not a number"),
            ("f app '\\q'", "unknown escape"),
            ("f app '\\xg0'", "two hex digits"),
            ("l app target", "expected `-> TARGET`"),
            ("h app -> b", "expected `= TARGET`"),
            ("d app 999", "expected `d`"),
        ] {
            let folder = scratch.path().to_owned();
            let result = std::panic::catch_unwind(move || make(&folder, &[line]));
            let message = *result.expect_err(line).downcast::<String>().expect("a text");
            assert!(message.contains(complaint), "{line}: {message}");
        }
    }

    #[test]
    fn the_same_seed_grows_the_same_tree_and_another_another() {
        let scratch = Scratch::new("tree");
        let shape = Shape { symlinks: true, ..Shape::default() };
        for (folder, seed) in [("a", 1), ("b", 1), ("c", 2)] {
            grow(&scratch.join(folder), seed, shape);
        }
        assert_eq!(list(&scratch.join("a")), list(&scratch.join("b")));
        assert_ne!(list(&scratch.join("a")), list(&scratch.join("c")));
        let kinds =
            |kind: &str| list(&scratch.join("a")).lines().filter(|line| line.starts_with(kind)).count();
        assert_eq!((kinds("d "), kinds("f ") + kinds("l ")), (20, 60));
    }
}
