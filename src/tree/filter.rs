//! The paths that are left out of a folder: exact ones, as in imgpkg, and gitignore patterns.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Decides which entries are left out.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    exact: BTreeSet<Vec<u8>>,
    patterns: Vec<Gitignore>,
    /// Patterns of single roots, in the order of the roots.
    roots: Vec<Option<Gitignore>>,
    ignore_file: Option<Vec<u8>>,
}

impl Filter {
    /// Makes a filter of exact paths: relative to each root, or the name of a single file; no globs.
    ///
    /// Source: imgpkg `--file-exclusion` (behaviour).
    pub fn exact(paths: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self { exact: paths.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds patterns in gitignore syntax, one a line, matched against paths relative to each root.
    ///
    /// Errors: a line that is not a pattern, with the library's reason.
    pub fn with_patterns(mut self, text: &str) -> Result<Self, String> {
        self.patterns.push(patterns(text)?);
        Ok(self)
    }

    /// Adds patterns of the next root only, which came from a file of this name in it; the file is left out too.
    ///
    /// Called once for each root, in order; `None` for a root without such a file. Errors: as for
    /// [`Filter::with_patterns`].
    pub fn and_root(mut self, name: &str, text: Option<&str>) -> Result<Self, String> {
        self.roots.push(text.map(patterns).transpose()?);
        self.ignore_file = Some(name.as_bytes().to_vec());
        Ok(self)
    }

    /// Returns the filter for one of the roots.
    #[must_use]
    pub fn of_root(&self, number: usize) -> Self {
        let mut filter = Self { roots: Vec::new(), ..self.clone() };
        if let Some(Some(patterns)) = self.roots.get(number) {
            filter.exact.extend(self.ignore_file.clone());
            filter.patterns.push(patterns.clone());
        }
        filter
    }

    /// Tells whether an entry, and with it everything below a folder, is left out.
    #[must_use]
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        if self.exact.contains(path) {
            return true;
        }
        let relative = Path::new(std::ffi::OsStr::from_bytes(path));
        let ignored = |patterns: &Gitignore| patterns.matched(relative, is_directory).is_ignore();
        path != b"." && self.patterns.iter().any(ignored)
    }
}

fn patterns(text: &str) -> Result<Gitignore, String> {
    let mut builder = GitignoreBuilder::new("");
    for (index, line) in text.lines().enumerate() {
        builder.add_line(None, line).map_err(|error| format!("line {}: {error}", index + 1))?;
    }
    builder.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_a_root_hold_for_that_root_only() {
        let filter = Filter::exact(["x"]).and_root(".ignore", Some("*.log\n")).unwrap();
        let filter = filter.and_root(".ignore", None).unwrap().and_root(".ignore", Some("*.tmp\n")).unwrap();
        let excluded = |filter: &Filter| -> Vec<&str> {
            let names = ["a.log", "a.tmp", ".ignore", "x", "."];
            names.into_iter().filter(|name| filter.excludes(name.as_bytes(), false)).collect()
        };
        assert_eq!(excluded(&filter), ["x"], "no root is chosen");
        assert_eq!(excluded(&filter.of_root(0)), ["a.log", ".ignore", "x"]);
        assert_eq!(excluded(&filter.of_root(1)), ["x"], "a root without the file keeps a file of its name");
        assert_eq!(excluded(&filter.of_root(2)), ["a.tmp", ".ignore", "x"]);
        assert_eq!(excluded(&filter.of_root(3)), ["x"]);
        assert_eq!(excluded(&filter.of_root(0).of_root(2)), ["a.log", ".ignore", "x"], "it was chosen");
    }

    #[test]
    fn exact_paths_are_no_globs() {
        let filter = Filter::exact([".git", "docs/draft.md"]);
        assert!(filter.excludes(b".git", true));
        assert!(filter.excludes(b"docs/draft.md", false));
        for kept in [&b"nested/.git"[..], b"docs", b"draft.md", b".github"] {
            assert!(!filter.excludes(kept, true), "{}", String::from_utf8_lossy(kept));
        }
    }

    #[test]
    fn patterns_follow_gitignore() {
        let filter = Filter::default().with_patterns("*.log\n!keep.log\n/build/\n# note\n").unwrap();
        assert!(filter.excludes(b"a/b.log", false));
        assert!(!filter.excludes(b"keep.log", false));
        assert!(filter.excludes(b"build", true));
        assert!(!filter.excludes(b"build", false), "the pattern names a folder");
        assert!(!filter.excludes(b"a/build", true), "the pattern is anchored");
    }
}
