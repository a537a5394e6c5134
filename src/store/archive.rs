//! A tar in a file, opened once and read at any position from any thread: names and their byte ranges.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::model::limits;
use crate::stream::{ReadAt, TooLarge, read_bounded};
use crate::tar::{EndMark, Entry, EntryKind, TarError, display_name, index};

use super::StoreError;

/// What an archive has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(Span),
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Directory,
    Other,
}

/// Bytes of a file inside an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// An indexed tar.
#[derive(Debug)]
pub(super) struct Archive {
    file: Box<dyn ReadAt>,
    path: PathBuf,
    nodes: BTreeMap<Vec<u8>, Node>,
    pub(super) end_mark: EndMark,
}

impl Archive {
    /// Reads the table of contents of a tar.
    ///
    /// Names are compared without `./` in front, doubled slashes and a slash at the end.
    /// Errors: a name that leaves the archive, or that comes twice (directories may).
    pub(super) fn open(file: Box<dyn ReadAt>, path: &Path) -> Result<Self, StoreError> {
        Self::open_at_most(file, path, limits::ARCHIVE_ENTRIES)
    }

    fn open_at_most(file: Box<dyn ReadAt>, path: &Path, limit: usize) -> Result<Self, StoreError> {
        let mut nodes = BTreeMap::new();
        let end_mark =
            index(&*file, |entry| add(&mut nodes, &entry, limit)).map_err(|error| match error {
                IndexError::Tar(error) => StoreError::tar(path, error),
                IndexError::Problem(problem) => StoreError::damaged(path, problem),
            })?;
        Ok(Self { file, path: path.to_owned(), nodes, end_mark })
    }

    /// Returns all names in byte order.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(name, node)| (name.as_slice(), node))
    }

    pub(super) fn node(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Reads a small file of the archive; `None` when there is nothing of that name.
    pub(super) fn read_small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self.nodes.get(name.as_bytes()) {
            None => Ok(None),
            Some(Node::File(span)) => {
                let read = read_bounded(self.reader(*span), limit);
                read.map(Some).map_err(|error| self.too_large(name, error))
            }
            Some(_) => Err(StoreError::damaged(&self.path, format!("`{name}` in it is not a regular file"))),
        }
    }

    pub(super) fn too_large(&self, name: &str, error: TooLarge) -> StoreError {
        let path = self.path.clone();
        match error {
            TooLarge::Limit { limit } => StoreError::TooLarge { path, what: format!("`{name}`"), limit },
            TooLarge::Io(error) => StoreError::File(crate::stream::FileError::io("read", &self.path, error)),
        }
    }

    pub(super) fn file(&self) -> &dyn ReadAt {
        &*self.file
    }

    pub(super) fn reader(&self, span: Span) -> Box<dyn Read + Send + '_> {
        self.file.part(span.offset, span.size)
    }
}

enum IndexError {
    Tar(TarError),
    Problem(String),
}

impl From<TarError> for IndexError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

fn add(nodes: &mut BTreeMap<Vec<u8>, Node>, entry: &Entry, limit: usize) -> Result<(), IndexError> {
    let at = || format!("`{}` at byte {}", display_name(&entry.path), entry.offset);
    let problem = |text: String| Err(IndexError::Problem(text));
    let Some(name) = clean(&entry.path) else {
        return problem(format!("the name of entry {} leads out of the archive", at()));
    };
    let node = match entry.kind {
        EntryKind::File => Node::File(Span { offset: entry.offset_of_data, size: entry.size }),
        EntryKind::Symlink => Node::Symlink(entry.link.clone()),
        EntryKind::HardLink => Node::HardLink(entry.link.clone()),
        EntryKind::Directory => Node::Directory,
        EntryKind::CharacterDevice | EntryKind::BlockDevice | EntryKind::Fifo => Node::Other,
    };
    if name.is_empty() {
        // The root itself, as `tar -C folder .` writes it.
        return if node == Node::Directory { Ok(()) } else { problem(format!("entry {} has no name", at())) };
    }
    match nodes.get(&name) {
        Some(Node::Directory) if node == Node::Directory => return Ok(()),
        // Some readers take the first of them, others the last, so that a check of one says nothing about the other.
        Some(_) => return problem(format!("entry {} is there twice", at())),
        None => {}
    }
    if nodes.len() >= limit {
        return problem(format!("it has more than {limit} entries"));
    }
    nodes.insert(name, node);
    Ok(())
}

/// Returns a relative name without `.`, empty components and slash at the end; `None` if it leads elsewhere.
pub(super) fn clean(name: &[u8]) -> Option<Vec<u8>> {
    // Python's tarfile calls the root `/` when it is added under an empty name.
    if name.starts_with(b"/") && name != b"/" {
        return None;
    }
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_more_than_the_limit_is_refused() {
        use std::io::Write as _;
        let tar =
            ["a", "b", "c"].iter().fold(testkit::tarball::Tarball::new(), |tar, name| tar.file(name, "x"));
        let mut file = crate::stream::nameless_file(&std::env::temp_dir()).unwrap();
        file.write_all(&tar.finish()).unwrap();
        let open =
            |limit| Archive::open_at_most(Box::new(file.try_clone().unwrap()), Path::new("in.tar"), limit);
        assert_eq!(open(3).unwrap().nodes().count(), 3);
        let error = open(2).unwrap_err().to_string();
        assert!(error.contains("it has more than 2 entries"), "{error}");
    }

    #[test]
    fn names_are_cleaned_or_refused() {
        for (name, expected) in [
            ("blobs/sha256/a", Some("blobs/sha256/a")),
            ("./blobs//sha256/./a/", Some("blobs/sha256/a")),
            (".", Some("")),
            ("./", Some("")),
            ("/", Some("")),
            ("/index.json", None),
            ("../index.json", None),
            ("a/../index.json", None),
            ("a/..", None),
            ("..a/b..", Some("..a/b..")),
        ] {
            assert_eq!(clean(name.as_bytes()), expected.map(|text| text.as_bytes().to_vec()), "{name}");
        }
    }

    fn archive(tar: testkit::tarball::Tarball) -> Result<Archive, StoreError> {
        use std::io::Write as _;
        let mut file = crate::stream::nameless_file(&std::env::temp_dir()).unwrap();
        file.write_all(&tar.finish()).unwrap();
        Archive::open(Box::new(file), Path::new("in.tar"))
    }

    #[test]
    fn entries_are_found_under_their_clean_names() {
        use testkit::tarball::{Header, Tarball};
        let tar = Tarball::new()
            .dir("./")
            .dir("d/")
            .dir("d")
            .file("./d/f", "12345")
            .symlink("l", "f")
            .hardlink("h", "d/f")
            .entry(&Header::new("p", b'6', 0), b"")
            .entry(&Header::new("c", b'3', 0), b"");
        let archive = archive(tar).unwrap();
        let names: Vec<&[u8]> = archive.nodes().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"c"[..], b"d", b"d/f", b"h", b"l", b"p"]);
        assert_eq!(archive.node(b"d"), Some(&Node::Directory));
        assert_eq!(archive.node(b"l"), Some(&Node::Symlink(b"f".to_vec())));
        assert_eq!(archive.node(b"h"), Some(&Node::HardLink(b"d/f".to_vec())));
        assert_eq!((archive.node(b"p"), archive.node(b"c")), (Some(&Node::Other), Some(&Node::Other)));
        assert_eq!(archive.node(b"missing"), None);
        assert_eq!(archive.read_small("d/f", 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(archive.read_small("missing", 5).unwrap(), None);
        let error = archive.read_small("d/f", 4).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { limit: 4, .. }), "{error}");
        let error = archive.read_small("d", 5).unwrap_err().to_string();
        assert_eq!(error, "`in.tar` is damaged: `d` in it is not a regular file");
    }

    #[test]
    fn names_that_come_twice_lead_out_or_name_nothing_are_damage() {
        use testkit::tarball::{Header, Tarball};
        let new = Tarball::new;
        for (tar, expected) in [
            (new().file("a", "1").file("./a", "2"), "entry `./a` at byte 1024 is there twice"),
            (new().file("a", "1").dir("a"), "entry `a` at byte 1024 is there twice"),
            (new().dir("a").file("a", "1"), "entry `a` at byte 512 is there twice"),
            (new().file("../a", ""), "the name of entry `../a` at byte 0 leads out of the archive"),
            (new().entry(&Header::new(".", b'2', 0).link("x"), b""), "entry `.` at byte 0 has no name"),
        ] {
            let error = archive(tar).unwrap_err().to_string();
            assert_eq!(error, format!("`in.tar` is damaged: {expected}"));
        }
    }

    #[test]
    fn a_span_is_read_to_its_end_and_a_cut_is_noticed() {
        use testkit::tarball::Tarball;
        let archive = archive(Tarball::new().file("a", "0123456789").file("b", "b")).unwrap();
        let Some(Node::File(span)) = archive.node(b"a") else { panic!("`a` is a file") };
        assert_eq!((span.offset, span.size), (512, 10));
        let mut read = String::new();
        archive.reader(Span { offset: span.offset + 2, size: 5 }).read_to_string(&mut read).unwrap();
        assert_eq!(read, "23456");
        let mut reader = archive.reader(*span);
        let mut some = [0; 4];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(&some, b"0123");
        archive.file.as_file().unwrap().set_len(516).unwrap();
        let error = reader.read(&mut some).unwrap_err();
        assert_eq!(error.to_string(), "the file was cut at byte 516 while it was read");
    }
}
