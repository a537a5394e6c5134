//! The files that are left out of an app: those of its `.cfignore`, then those that the cf command line leaves out.
//!
//! Source: cf CLI v9, `actor/sharedaction/resource.go`. Unlike there the syntax is git's own, `?` and negation included.

use std::path::Path;

use super::AppError;
use crate::tree::{Filter, ignore_text};

/// The file with an app's own patterns, at its root.
pub(super) const IGNORE_FILE: &str = ".cfignore";

/// At any depth, and after the app's own lines, so that those cannot bring them back.
const DEFAULTS: &str =
    ".cfignore\n.DS_Store\n.git\n.gitignore\n.hg\n.svn\n_darcs\nmanifest.yaml\nmanifest.yml\n";

/// Makes the filter for an app.
pub(super) fn filter(path: &Path, exclusions: &[String], own: Option<&[u8]>) -> Result<Filter, AppError> {
    let wrong = |problem| AppError::Ignore { path: path.to_owned(), problem };
    let own = ignore_text(own.unwrap_or_default()).map_err(wrong)?;
    Filter::exact(exclusions.iter().map(String::as_bytes))
        .with_patterns(&format!("{own}\n{DEFAULTS}"))
        .map_err(wrong)
}

/// Makes the error for a folder, link or device of the ignore file's name.
pub(super) fn not_a_file(path: &Path) -> AppError {
    AppError::Ignore { path: path.to_owned(), problem: "it is not a file".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_lines_come_first_and_defaults_stay() {
        let own = b"\xef\xbb\xbf*.log\n!keep.log\n/tmp\n!.git\n";
        let filter = filter(Path::new("app"), &["private".to_owned()], Some(own)).unwrap();
        for (path, folder, expected) in [
            ("a.log", false, true),
            ("deep/a.log", false, true),
            ("keep.log", false, false),
            ("tmp", true, true),
            ("src/tmp", true, false),
            (".git", true, true),
            ("sub/.git", true, true),
            ("sub/manifest.yml", false, true),
            ("manifest.json", false, false),
            ("private", true, true),
            ("sub/private", true, false),
            (".cfignore", false, true),
            (".gitattributes", false, false),
        ] {
            assert_eq!(filter.excludes(path.as_bytes(), folder), expected, "{path}");
        }
    }
}
