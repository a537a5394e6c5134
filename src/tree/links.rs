//! The policy for symbolic links: kept if they stay inside the root, followed, or refused.

use std::path::{Component, Path};

/// What to do with symbolic links inside a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SymlinkPolicy {
    /// Keep relative links whose target is inside the root, refuse all others.
    #[default]
    Keep,
    /// Store what a link points at in its place; the target must be inside the root.
    Copy,
    /// Refuse every link, as imgpkg does.
    Refuse,
    /// Keep every link with its text, wherever it leads: for root file systems.
    Verbatim,
    /// Leave every link out, and count them.
    Omit,
}

/// Why a link cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkProblem {
    /// The target begins at the root of the machine.
    Absolute,
    /// The target is outside what is packed.
    Outside,
    /// The links lead in a circle.
    Cycle,
    /// The policy refuses links.
    Refused,
    /// Its target does not exist.
    Dangling,
}

impl LinkProblem {
    /// Returns the problem in words, for the end of a sentence.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Absolute => "its target is an absolute path",
            Self::Outside => "its target is outside the folder that is packed",
            Self::Cycle => "following it never ends",
            Self::Refused => "symbolic links are refused here",
            Self::Dangling => "its target does not exist",
        }
    }
}

/// Checks that a link at `path` (relative to the root, `/`-separated) stays inside the root.
///
/// Its text is checked, so that it is safe wherever it is unpacked. Where it leads now is checked too, because other
/// links on the way can make a harmless text lead out.
pub(super) fn stays_inside(root: &Path, path: &Path, target: &Path) -> Result<(), LinkProblem> {
    let mut depth = path.parent().map_or(0, |parent| parent.components().count());
    for component in target.components() {
        match component {
            Component::Prefix(_) | Component::RootDir => return Err(LinkProblem::Absolute),
            Component::CurDir => {}
            Component::ParentDir => depth = depth.checked_sub(1).ok_or(LinkProblem::Outside)?,
            Component::Normal(_) => depth += 1,
        }
    }
    let (Ok(real_root), Ok(real)) = (root.canonicalize(), root.join(path).canonicalize()) else {
        // A dangling link has no real path; its text has been checked.
        return Ok(());
    };
    if real.starts_with(real_root) { Ok(()) } else { Err(LinkProblem::Outside) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_texts_are_accepted_or_refused() {
        let root = Path::new("/nonexistent-root");
        for (path, target, expected) in [
            ("l", "a", Ok(())),
            ("l", "./a/b", Ok(())),
            ("d/l", "../a", Ok(())),
            ("d/e/l", "../..", Ok(())),
            ("l", "..", Err(LinkProblem::Outside)),
            ("d/l", "../../a", Err(LinkProblem::Outside)),
            ("l", "a/../../b", Err(LinkProblem::Outside)),
            ("l", "/etc/passwd", Err(LinkProblem::Absolute)),
        ] {
            assert_eq!(
                stays_inside(root, Path::new(path), Path::new(target)),
                expected,
                "{path} -> {target}"
            );
        }
    }
}
