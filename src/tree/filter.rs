//! What is left out of a folder: exact paths as imgpkg takes them, and gitignore patterns.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Decides which entries are left out.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    exact: BTreeSet<Vec<u8>>,
    patterns: Option<Gitignore>,
}

impl Filter {
    /// Makes a filter of exact paths: relative to each root, or the name of a single file; no globs.
    ///
    /// Source: imgpkg `--file-exclusion` (behaviour).
    pub fn exact(paths: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self { exact: paths.into_iter().map(Into::into).collect(), patterns: None }
    }

    /// Adds patterns in gitignore syntax, one a line, matched against paths relative to each root.
    ///
    /// Errors: a line that is not a pattern, with the library's reason.
    pub fn with_patterns(mut self, text: &str) -> Result<Self, String> {
        let mut builder = GitignoreBuilder::new("");
        for (index, line) in text.lines().enumerate() {
            builder.add_line(None, line).map_err(|error| format!("line {}: {error}", index + 1))?;
        }
        self.patterns = Some(builder.build().map_err(|error| error.to_string())?);
        Ok(self)
    }

    /// Tells whether an entry, and with it everything below a folder, is left out.
    #[must_use]
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        if self.exact.contains(path) {
            return true;
        }
        match &self.patterns {
            Some(patterns) if path != b"." => {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                patterns.matched(path, is_directory).is_ignore()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
