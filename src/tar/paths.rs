//! Paths of a layer as bytes, and what names that begin with `.wh.` mean: one reading for extraction and for lists.

/// What the name of an entry says about lower layers.
///
/// Source: image-spec layer.md, "Whiteouts" and "Opaque Whiteout".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteout<'a> {
    /// This name in the same folder is removed.
    Hides(&'a [u8]),
    /// Everything in the same folder is removed.
    Opaque,
    /// aufs' own bookkeeping, which docker passes over as well.
    Bookkeeping,
    /// It names nothing that can be removed.
    Nothing,
}

/// Returns what a name says about lower layers; `None` for a name of its own.
#[must_use]
pub fn whiteout(name: &[u8]) -> Option<Whiteout<'_>> {
    let hidden = name.strip_prefix(b".wh.")?;
    Some(match hidden {
        b".wh..opq" => Whiteout::Opaque,
        b"" | b"." | b".." => Whiteout::Nothing,
        hidden if hidden.starts_with(b".wh.") => Whiteout::Bookkeeping,
        hidden => Whiteout::Hides(hidden),
    })
}

/// Returns a path without a `/` at either end, without `.` and without empty parts.
#[must_use]
pub fn clean(path: &[u8]) -> Vec<u8> {
    parts(path).collect::<Vec<_>>().join(&b'/')
}

/// Returns the parts of a path.
pub fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Returns the path of the folder that something is in.
#[must_use]
pub fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// Returns the last part of a path.
#[must_use]
pub fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Joins a folder and what is below it.
#[must_use]
pub fn join(folder: &[u8], rest: &[u8]) -> Vec<u8> {
    match (folder.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_vec(),
        (_, true) => folder.to_vec(),
        _ => [folder, rest].join(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whiteout_is_told_from_a_name_of_its_own() {
        for (name, expected) in [
            (&b".wh.a"[..], Some(Whiteout::Hides(b"a"))),
            (b".wh.wh.a", Some(Whiteout::Hides(b"wh.a"))),
            (b".wh..wh..opq", Some(Whiteout::Opaque)),
            (b".wh..wh..opq2", Some(Whiteout::Bookkeeping)),
            (b".wh..wh.plnk", Some(Whiteout::Bookkeeping)),
            (b".wh.", Some(Whiteout::Nothing)),
            (b".wh..", Some(Whiteout::Nothing)),
            (b".wh...", Some(Whiteout::Nothing)),
            (b".wh....", Some(Whiteout::Hides(b"..."))),
            (b".wha", None),
            (b"a.wh.", None),
        ] {
            assert_eq!(whiteout(name), expected, "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn paths_are_taken_apart_and_put_together() {
        for (path, cleaned, folder, last) in [
            ("./a//b/./c/", "a/b/c", "a/b", "c"),
            ("/a", "a", "", "a"),
            ("", "", "", ""),
            ("./", "", "", ""),
            ("a/../b", "a/../b", "a/..", "b"),
        ] {
            let found = clean(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), cleaned);
            assert_eq!(parent(&found), folder.as_bytes(), "{path}");
            assert_eq!(name(&found), last.as_bytes(), "{path}");
            assert_eq!(join(parent(&found), name(&found)), found, "{path}");
        }
    }
}
