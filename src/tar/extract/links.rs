//! Symbolic and hard links: where they may lead, and making them.

use rustix::fs::{self as rfs, AtFlags, FileType};
use rustix::io::Errno;

use super::super::error::display_name;
use super::super::read::Entry;
use super::confined::{Confined, Missing, WalkError};
use super::policy::{ExtractError, ExtractMode, Ownership, StrayLinks};
use super::target::{Target, components, owner, walk};

impl Target {
    /// Makes a symbolic link in the current folder.
    pub(super) fn symlink(&mut self, entry: &Entry, name: &[u8], target: &[u8]) -> Result<(), ExtractError> {
        let reach = reach_of(target, self.root.depth());
        let checked = self.policy.stray_links != StrayLinks::Keep;
        if checked && reach == Reach::Outside {
            if self.policy.stray_links == StrayLinks::Skip {
                self.skip(&entry.path);
                return Ok(());
            }
            return Err(leads_out(&entry.path, target));
        }
        self.replace(entry, name, "create the link", |root| rfs::symlinkat(target, root.here(), name))?;
        if checked && reach == Reach::ByFolders {
            self.deferred(name).is_link = true;
        }
        if self.policy.mode == (ExtractMode::Rootfs { ownership: Ownership::Apply }) {
            let (uid, gid) = owner(entry)?;
            rfs::chownat(self.root.here(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| ExtractError::io("set the owner", &entry.path, error))?;
        }
        self.set_time_of(entry, name)?;
        self.summary.links += 1;
        Ok(())
    }

    pub(super) fn hard_link(
        &mut self,
        entry: &Entry,
        folder: &[&[u8]],
        name: &[u8],
    ) -> Result<(), ExtractError> {
        let refused = |problem: String| ExtractError::refused(&entry.path, problem);
        let target = display_name(&entry.link);
        let parts = components(&entry.link)
            .map_err(|problem| refused(format!("it is a hard link to `{target}`: {problem}")))?;
        let absent =
            || refused(format!("it is a hard link to `{target}`, which was not extracted before it"));
        let (target_name, target_folder) = parts.split_last().ok_or_else(absent)?;
        if !self.root.enter(target_folder, Missing::Report).map_err(|error| walk(&entry.path, error))? {
            return Err(absent());
        }
        let failed = |error: Errno| ExtractError::io("create the hard link", &entry.path, error);
        let look = |root: &Confined, name: &[u8]| {
            root.look(name).map_err(|error| ExtractError::io("look at it", &entry.path, error))
        };
        let (kind, device, inode) = look(&self.root, target_name)?.ok_or_else(absent)?;
        match kind {
            FileType::RegularFile => {
                let from = rustix::io::fcntl_dupfd_cloexec(self.root.here(), 0).map_err(failed)?;
                self.open_folder(entry, folder)?;
                if look(&self.root, name)?.is_some_and(|(_, d, i)| (d, i) == (device, inode)) {
                    // The same file already: removing it first could remove the only name it has.
                    self.note(name);
                    return Ok(());
                }
                self.replace(entry, name, "create the hard link", |root| {
                    rfs::linkat(&from, *target_name, root.here(), name, AtFlags::empty())
                })?;
                self.summary.links += 1;
                Ok(())
            }
            // In another folder its target means something else, so it is checked like a new one.
            FileType::Symlink => {
                let link = rfs::readlinkat(self.root.here(), *target_name, Vec::new()).map_err(failed)?;
                self.open_folder(entry, folder)?;
                if look(&self.root, name)?.is_some_and(|(_, d, i)| (d, i) == (device, inode)) {
                    return Ok(());
                }
                self.symlink(entry, name, link.as_bytes())
            }
            FileType::Directory => Err(refused(format!("it is a hard link to the directory `{target}`"))),
            _ => Err(refused(format!("it is a hard link to `{target}`, which is not a file"))),
        }
    }

    /// Follows a link to its end inside the finished tree; if it leaves the root on the way, it is refused.
    pub(super) fn check_deferred_link(&mut self, parts: &[&[u8]]) -> Result<(), ExtractError> {
        let (name, folder) = parts.split_last().expect("the root itself is no link");
        let path = parts.join(&b'/');
        let entered = self.root.enter(folder, Missing::Report).map_err(|error| walk(&path, error))?;
        // Another process may have replaced the folder it was in, or the link.
        if !entered || !self.root.is_at(folder) {
            return Ok(());
        }
        let Ok(target) = rfs::readlinkat(self.root.here(), *name, Vec::new()) else { return Ok(()) };
        let target = target.as_bytes();
        let way: Vec<&[u8]> = folder.iter().copied().chain(target.split(|byte| *byte == b'/')).collect();
        match self.root.enter(&way, Missing::Report) {
            Err(WalkError::Outside(_)) if self.policy.stray_links == StrayLinks::Skip => {
                self.skip(&path);
                self.root.enter(folder, Missing::Report).map_err(|error| walk(&path, error))?;
                self.root
                    .remove(name, &mut self.remembered)
                    .map_err(|error| ExtractError::io("remove the link", &path, error))
            }
            Err(WalkError::Outside(_)) => Err(leads_out(&path, target)),
            // It is dangling, or leads to a file inside the root.
            Ok(_) | Err(WalkError::NotAFolder(_) | WalkError::TooDeep) => Ok(()),
            Err(error) => Err(walk(&path, error)),
        }
    }
}

/// Where the target of a symbolic link leads, by its text.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    /// Up first and not above the root, then only down: inside, also if folders on the way are links.
    Inside,
    /// Down and up again: depends on whether the folders on the way are links.
    ByFolders,
    /// Absolute, or above the root.
    Outside,
}

fn reach_of(target: &[u8], depth: usize) -> Reach {
    if target.starts_with(b"/") {
        return Reach::Outside;
    }
    let (mut level, mut went_down, mut reach) = (depth, false, Reach::Inside);
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let Some(above) = level.checked_sub(1) else { return Reach::Outside };
                level = above;
                if went_down {
                    reach = Reach::ByFolders;
                }
            }
            _ => {
                level += 1;
                went_down = true;
            }
        }
    }
    reach
}

fn leads_out(path: &[u8], target: &[u8]) -> ExtractError {
    let target = display_name(target);
    ExtractError::refused(path, format!("it is a symbolic link to `{target}`, outside the extracted tree"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_link_leads_depends_on_the_folder_it_is_in() {
        for (depth, target, expected) in [
            (0, "a", Reach::Inside),
            (0, "./a//b", Reach::Inside),
            (0, "..", Reach::Outside),
            (1, "..", Reach::Inside),
            (1, "../..", Reach::Outside),
            (2, "../../a/b", Reach::Inside),
            (2, "../../../a", Reach::Outside),
            (0, "a/..", Reach::ByFolders),
            (0, "a/../..", Reach::Outside),
            (1, "a/../b", Reach::ByFolders),
            (5, "/a", Reach::Outside),
        ] {
            assert_eq!(reach_of(target.as_bytes(), depth), expected, "{target} at {depth}");
        }
    }
}
