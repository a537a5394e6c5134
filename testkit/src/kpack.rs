//! Extracts a source image as kpack does, with the script `tests/tools/kpack_extract.py`, which states kpack's rules.

use crate::tools::{run, script};
use std::path::Path;

/// Extracts the image of an OCI layout tar into a folder; panics if an entry differs from what was packed.
#[track_caller]
pub fn extract(layout_tar: &Path, into: &Path) {
    let ran = run(script("kpack_extract.py").arg(into).arg(layout_tar)).success();
    assert!(ran.stdout.is_empty(), "kpack changes what is in `{}`:\n{}", layout_tar.display(), ran.stdout);
}

/// Extracts layers, lowest first; returns the entries that differ from what was packed.
#[track_caller]
pub fn extract_layers(layers: &[&Path], into: &Path) -> Vec<String> {
    let ran = run(script("kpack_extract.py").arg(into).arg("--layers").args(layers));
    assert!(matches!(ran.code, Some(0 | 1)) && ran.stderr.is_empty(), "the oracle itself failed: {ran:?}");
    ran.stdout.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use crate::tarball::Tarball;
    use crate::tree;

    fn said(layers: &[Vec<u8>]) -> (Vec<String>, String) {
        let scratch = Scratch::new("kpack");
        let paths: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(number, layer)| scratch.write(format!("{number}.tar"), layer))
            .collect();
        let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
        let into = scratch.join("out");
        let said = extract_layers(&paths, &into);
        (said, tree::list_contents(&into))
    }

    #[test]
    fn disjoint_files_and_folders_come_out_as_they_are() {
        let (said, list) = said(&[
            Tarball::new().file("a/b", "x").dir("empty").finish(),
            Tarball::new().file("./a/c", "y").file("/d", "z").finish(),
        ]);
        assert_eq!(said, Vec::<String>::new());
        let names: Vec<&str> = list.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
        assert_eq!(names, ["a", "a/b", "a/c", "d", "empty"]);
    }

    #[test]
    fn what_kpack_changes_is_reported() {
        let cases = [
            (vec![Tarball::new().symlink("l", "a").finish()], "dropped: l"),
            (vec![Tarball::new().file("a", "").hardlink("h", "a").finish()], "dropped: h"),
            (vec![Tarball::new().file(".wh.a", "").finish()], "whiteout written as a file: .wh.a"),
            (
                vec![Tarball::new().file("a", "1").finish(), Tarball::new().file("a", "2").finish()],
                "in layers 0 and 1: a",
            ),
            (
                vec![Tarball::new().file("a", "1").finish(), Tarball::new().file("a/b", "2").finish()],
                "fails: mkdir a: not a directory",
            ),
            (
                vec![Tarball::new().file("a/../../b", "").finish()],
                "fails: a/../../b: leads out of the folder",
            ),
        ];
        for (layers, expected) in cases {
            assert_eq!(said(&layers).0, [expected]);
        }
        use crate::tarball::Header;
        let mode = |mode| Header::new("a", b'0', 0).mode(mode);
        let file = |header: &Header| Tarball::new().entry(header, b"").finish();
        assert_eq!(said(&[file(&mode(0o777))]).0, ["mode 777 becomes 755: a"]);
        assert_eq!(said(&[file(&mode(0o044))]).0, ["cannot be read and written by its owner: a"]);
        let twice = [file(&mode(0o444)), file(&mode(0o644))];
        assert_eq!(said(&twice).0, ["fails: open a: permission denied"]);
    }
}
