//! Collects the entries of an app and enforces the rules that hold for folders and zips.

use std::path::{Path, PathBuf};

use super::{AppEntry, AppError, AppOptions, Content, CopiedLinks};
use crate::model::limits;
use crate::tar::display_name;

/// Begins names that delete what lower layers have (image-spec layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The list while it grows, in walk order.
pub(super) struct Collector {
    path: PathBuf,
    entries: Vec<AppEntry>,
    links: Option<CopiedLinks>,
    left_out: u64,
    total: u64,
    limit: u64,
    preserve: bool,
    modes: super::super::ModeRule,
}

impl Collector {
    pub(super) fn new(path: &Path, options: &AppOptions) -> Self {
        Self {
            path: path.to_owned(),
            entries: Vec::new(),
            links: None,
            left_out: 0,
            total: 0,
            limit: options.size_limit,
            preserve: options.preserve_permissions,
            modes: options.rules.modes,
        }
    }

    /// Adds an entry with the mode it has where it comes from.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        mode: u32,
        content: Content,
        linked: bool,
    ) -> Result<(), AppError> {
        if self.entries.len() >= limits::ARCHIVE_ENTRIES {
            return Err(AppError::TooMany { path: self.path.clone(), limit: limits::ARCHIVE_ENTRIES });
        }
        if path.len() > limits::PATH_BYTES {
            return Err(AppError::LongPath { path: self.path.clone(), entry: display_name(path) });
        }
        // kpack makes files of them, every other reader deletes what they name.
        if path.split(|byte| *byte == b'/').any(|name| name.starts_with(WHITEOUT)) {
            return Err(AppError::Whiteout { path: self.path.clone(), entry: display_name(path) });
        }
        // A folder that is not empty needs no entry of its own.
        if let Some(last) = self.entries.last()
            && matches!(last.content, Content::Folder)
            && path.strip_prefix(last.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        {
            self.entries.pop();
        }
        let is_folder = matches!(content, Content::Folder);
        let mode = match (self.preserve, is_folder) {
            (false, true) => self.modes.folder(),
            (false, false) => self.modes.file(mode),
            // kpack's builders have to read and replace files, and to look into folders; the special bits are lost.
            (true, true) => mode & 0o777 | 0o700,
            (true, false) => mode & 0o777 | 0o600,
        };
        let entry = AppEntry { path: path.to_vec(), mode, content };
        self.total = self.total.saturating_add(entry.size());
        if self.total > self.limit {
            return Err(AppError::TooLarge {
                path: self.path.clone(),
                limit: self.limit,
                total: self.total,
                entry: display_name(path),
            });
        }
        if linked && !is_folder {
            let links = self.links.get_or_insert_with(|| CopiedLinks { count: 0, first: path.to_vec() });
            links.count += 1;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Counts a link that is left out.
    pub(super) fn leave_out(&mut self) {
        self.left_out += 1;
    }

    /// Ends the list; returns its entries, what became of links, and how many links were left out.
    pub(super) fn finish(mut self) -> (Vec<AppEntry>, Option<CopiedLinks>, u64) {
        self.entries.shrink_to_fit();
        (self.entries, self.links, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{EntryRules, ModeRule};
    use crate::tree::SymlinkPolicy;

    #[test]
    fn the_longest_path_and_the_most_bytes_are_taken_and_one_more_is_not() {
        let options = AppOptions {
            exclusions: Vec::new(),
            symlinks: SymlinkPolicy::Copy,
            size_limit: 10,
            preserve_permissions: false,
            rules: EntryRules { mtime: 0, modes: ModeRule::Readable },
            skip: None,
        };
        let mut collector = Collector::new(Path::new("app"), &options);
        let path = vec![b'a'; 4097];
        let file = |size| Content::Zip { size, index: 0 };
        collector.add(&path[..4096], 0o644, file(10), false).unwrap();
        let error = collector.add(&path, 0o644, file(0), false).unwrap_err();
        assert!(matches!(error, AppError::LongPath { .. }), "{error}");
        let error = collector.add(b"b", 0o644, file(1), false).unwrap_err();
        assert!(matches!(error, AppError::TooLarge { limit: 10, total: 11, .. }), "{error}");
        collector.leave_out();
        collector.leave_out();
        let (entries, links, left_out) = collector.finish();
        assert_eq!((entries.len(), links, left_out), (1, None, 2));
    }
}
