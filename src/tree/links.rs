//! The policy for symbolic links: kept if they stay inside the root, followed, or refused.

use std::fmt;
use std::path::{Component, Path};

use crate::model::list::{SHOWN, clause_list};

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

/// The links of a folder or archive that cannot be packed: the first ones, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedLinks {
    first: Vec<RefusedLink>,
    count: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RefusedLink {
    path: String,
    target: String,
    problem: LinkProblem,
}

impl RefusedLinks {
    /// Tells whether every link can be packed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a link; the first one may be met again where it really is, after a copied folder led to it.
    pub fn add(&mut self, path: String, target: String, problem: LinkProblem) {
        if self.first.first().is_some_and(|first| first.path == path) {
            return;
        }
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(RefusedLink { path, target, problem });
        }
    }
}

impl fmt::Display for RefusedLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([RefusedLink { path, target, problem }], 1) = (self.first.as_slice(), self.count) {
            return write!(f, "symbolic link `{path}` -> `{target}` cannot be packed: {}", problem.text());
        }
        let clause =
            |link: &RefusedLink| format!("`{}` -> `{}`: {}", link.path, link.target, link.problem.text());
        let shown = clause_list(self.first.iter().map(clause));
        write!(f, "{} symbolic links cannot be packed: {shown}", self.count)?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
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
