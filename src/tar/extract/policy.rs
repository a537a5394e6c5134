//! What extraction keeps of an archive: an image's files for a user, or the root file system of a container.

use std::io;

use super::super::error::{TarError, display_name};

/// How entries become files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Modes, owners, devices.
    pub mode: ExtractMode,
    /// Symbolic links that lead out of the root; they are always kept in a root file system.
    pub stray_links: StrayLinks,
    /// Only these paths and what is below them; everything when empty. `/`-separated, from the root.
    pub include: Vec<Vec<u8>>,
}

/// Modes, owners, devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtractMode {
    /// Files for the user who runs the program: imgpkg's modes reduced by the umask, no owners, no devices.
    ///
    /// imgpkg packs the owner's bits only; where group and others have none, they get the owner's. setuid,
    /// setgid and sticky bits are dropped, folders stay accessible to their owner.
    Contents {
        /// Bits to remove, as a value because a process cannot ask for its umask without changing it.
        umask: u32,
    },
    /// A container's root: modes with setuid bits as stored, `user.` and capability attributes, devices left out.
    Rootfs {
        /// Whether files get the owner that is stored.
        ownership: Ownership,
    },
}

/// Whether files get the owner that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// They do; needs privileges.
    Apply,
    /// They belong to the user who runs the program.
    Ignore,
}

/// What is done with symbolic links that are absolute or lead out of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrayLinks {
    /// Extraction fails and names the link.
    Refuse,
    /// They are left out and counted.
    Skip,
    /// They are created as they are. They are never followed out of the root: entries below them are extracted to
    /// where the link leads inside the root, as after `chroot`.
    Keep,
}

impl Policy {
    /// Returns what `pull` does with a bundle.
    #[must_use]
    pub fn contents(umask: u32) -> Self {
        let mode = ExtractMode::Contents { umask };
        Self { mode, stray_links: StrayLinks::Refuse, include: Vec::new() }
    }

    /// Returns what a container's root file system needs.
    #[must_use]
    pub fn rootfs(ownership: Ownership) -> Self {
        let mode = ExtractMode::Rootfs { ownership };
        Self { mode, stray_links: StrayLinks::Keep, include: Vec::new() }
    }
}

impl ExtractMode {
    pub(super) fn file_mode(self, stored: u32) -> u32 {
        match self {
            Self::Contents { umask } => contents_mode(stored, umask),
            Self::Rootfs { .. } => stored & 0o7777,
        }
    }

    pub(super) fn folder_mode(self, stored: u32) -> u32 {
        match self {
            Self::Contents { umask } => contents_mode(stored | 0o700, umask) | 0o700,
            Self::Rootfs { .. } => stored & 0o7777,
        }
    }

    /// Mode of folders that no entry describes.
    pub(super) fn implied_folder_mode(self) -> u32 {
        match self {
            Self::Contents { umask } => 0o777 & !umask | 0o700,
            Self::Rootfs { .. } => 0o755,
        }
    }
}

fn contents_mode(stored: u32, umask: u32) -> u32 {
    let mut mode = stored & 0o777;
    if mode & 0o077 == 0 {
        mode |= mode >> 3 | mode >> 6;
    }
    mode & !umask
}

/// Why an archive could not be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive is broken or could not be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry is something that must not or cannot be written.
    #[error("cannot extract `{entry}`: {problem}")]
    Refused {
        /// Name of the entry.
        entry: String,
        /// Why.
        problem: String,
    },
    /// The operating system refused.
    #[error("cannot extract `{entry}`: cannot {action}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Name of the entry.
        entry: String,
        /// Why not.
        source: io::Error,
    },
}

impl ExtractError {
    pub(super) fn refused(entry: &[u8], problem: impl Into<String>) -> Self {
        Self::Refused { entry: display_name(entry), problem: problem.into() }
    }

    pub(super) fn io(action: &'static str, entry: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { action, entry: display_name(entry), source: source.into() }
    }

    /// Makes the error for a layer whose stream could not be opened.
    #[must_use]
    pub fn of_stream(source: io::Error) -> Self {
        Self::Tar(TarError::Io { offset: 0, source })
    }

    /// Returns the operating system's, or the source's, own error, if that is what happened.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Tar(error) => error.io_error(),
            Self::Io { source, .. } => Some(source),
            Self::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_file_system_gets_the_stored_modes() {
        let mode = ExtractMode::Rootfs { ownership: Ownership::Ignore };
        assert_eq!(mode.file_mode(0o14755), 0o4755);
        assert_eq!(mode.folder_mode(0o11777), 0o1777);
        assert_eq!(mode.folder_mode(0o000), 0o000);
        assert_eq!(mode.implied_folder_mode(), 0o755);
    }

    #[test]
    fn implied_folders_follow_the_umask_and_stay_open_to_their_owner() {
        for (umask, expected) in [(0o022, 0o755), (0o077, 0o700), (0o000, 0o777), (0o777, 0o700)] {
            assert_eq!(ExtractMode::Contents { umask }.implied_folder_mode(), expected, "{umask:o}");
        }
    }

    #[test]
    fn errors_name_the_entry_and_keep_the_systems_reason() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let error = ExtractError::io("create the file", b"a\n", denied());
        assert_eq!(error.to_string(), "cannot extract `a\\n`: cannot create the file: permission denied");
        assert_eq!(error.io_error().map(io::Error::kind), Some(io::ErrorKind::PermissionDenied));
        assert!(ExtractError::of_stream(denied()).io_error().is_some());
        let refused = ExtractError::refused(b"a", "it is odd");
        assert_eq!(refused.to_string(), "cannot extract `a`: it is odd");
        assert!(refused.io_error().is_none());
    }

    #[test]
    fn contents_get_imgpkgs_modes() {
        for (stored, umask, file, folder) in [
            (0o600, 0o022, 0o644, 0o755),
            (0o700, 0o022, 0o755, 0o755),
            (0o400, 0o022, 0o444, 0o755),
            (0o200, 0o022, 0o200, 0o755),
            (0o600, 0o077, 0o600, 0o700),
            (0o700, 0o011, 0o766, 0o766),
            (0o640, 0o022, 0o640, 0o740),
            (0o4755, 0o000, 0o755, 0o755),
            (0o3777, 0o002, 0o775, 0o775),
            (0o000, 0o000, 0o000, 0o777),
        ] {
            let mode = ExtractMode::Contents { umask };
            let found = (mode.file_mode(stored), mode.folder_mode(stored));
            assert_eq!(found, (file, folder), "{stored:o} with {umask:o}: {:o} {:o}", found.0, found.1);
        }
    }
}
