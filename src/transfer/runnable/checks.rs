//! Warns about what will probably not run: programs for another machine, a missing entrypoint or loader.
//!
//! Warnings only: a file may come from a volume, an emulator may run another machine's program.

use crate::model::{Config, Platform};
use crate::pack::{LayerPlan, Plan, PlannedProgram};
use crate::tar::paths::parent;
use crate::tar::{FileTree, Node, NodeKind, display_name};
use crate::transfer::events::{Event, Observer, Warning};

/// The search path of a runtime where the image sets none.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Read permissions of a file: for its owner, its group, and others.
const READ: [u32; 3] = [0o400, 0o040, 0o004];
/// Execute permissions of a file, and search permissions of a folder.
const EXECUTE: [u32; 3] = [0o100, 0o010, 0o001];

/// A planned image.
pub(super) struct Planned<'a> {
    pub(super) platform: &'a Platform,
    /// Every entry of the image; none if the base was not read.
    pub(super) tree: Option<&'a FileTree>,
    pub(super) plan: &'a Plan,
    /// The configuration of the result.
    pub(super) config: &'a Config,
}

impl Planned<'_> {
    /// Sends warning events for what will probably not run.
    pub(super) fn check(&self, observer: &dyn Observer) {
        self.check_machines(observer);
        if let Some(tree) = self.tree {
            self.check_entrypoint(tree, observer);
            self.check_loaders(tree, observer);
            self.check_readable(tree, observer);
        }
    }

    fn check_machines(&self, observer: &dyn Observer) {
        let wanted = self.platform.architecture.as_str();
        let mut found: Vec<(&'static str, Vec<String>)> = Vec::new();
        for PlannedProgram { source, elf, .. } in &self.plan.programs {
            let Some(machine) = elf.architecture.filter(|machine| !runs(machine, wanted)) else { continue };
            let file = source.display().to_string();
            match found.iter_mut().find(|(known, _)| *known == machine) {
                Some((_, files)) => files.push(file),
                None => found.push((machine, vec![file])),
            }
        }
        for (machine, files) in found {
            let warning = Warning::OtherMachine { files, machine, platform: self.platform.clone() };
            observer.event(Event::Warning(&warning));
        }
    }

    fn check_entrypoint(&self, tree: &FileTree, observer: &dyn Observer) {
        let config = &self.config.config;
        let lists = [&config.entrypoint, &config.cmd];
        let Some(program) = lists.into_iter().flatten().find_map(|list| list.first()) else { return };
        let problem = match self.find(tree, program) {
            None => "it is in no layer",
            Some(node) if node.kind != NodeKind::File => "it is not a file",
            Some(node) if !may(&node, config.user.as_deref(), EXECUTE) => {
                "its user has no permission to execute it"
            }
            Some(_) => return,
        };
        let warning = Warning::Entrypoint { program: program.clone(), problem };
        observer.event(Event::Warning(&warning));
    }

    /// Finds the program that a runtime would start.
    fn find(&self, tree: &FileTree, program: &str) -> Option<Node> {
        let config = &self.config.config;
        let at = |path: &str| tree.follow(path.as_bytes()).ok().and_then(|path| tree.get(&path).cloned());
        if program.starts_with('/') {
            return at(program);
        }
        if program.contains('/') {
            return at(&format!("{}/{program}", config.working_dir.as_deref().unwrap_or_default()));
        }
        let path = config.env.iter().find_map(|item| item.strip_prefix("PATH=")).unwrap_or(USUAL_PATH);
        let mut places = path.split(':').map(|folder| at(&format!("{folder}/{program}")));
        places.find_map(|node| node)
    }

    /// Tells which of the files that are packed their user cannot read; root reads everything.
    fn check_readable(&self, tree: &FileTree, observer: &dyn Observer) {
        let Some(user) = self.config.config.user.as_deref().filter(|user| !is_root(user)) else { return };
        let allows = |path: &[u8], needed| tree.get(path).is_none_or(|node| may(node, Some(user), needed));
        let is_kept_out = |path: &&[u8]| {
            let mut folders = std::iter::successors(Some(parent(path)), |folder| Some(parent(folder)));
            !allows(path, READ)
                || folders
                    .by_ref()
                    .take_while(|folder| !folder.is_empty())
                    .any(|folder| !allows(folder, EXECUTE))
        };
        let mut files = self.plan.layers.iter().flat_map(LayerPlan::files).filter(is_kept_out);
        if let Some(first) = files.next() {
            let first = format!("/{}", display_name(first));
            let count = 1 + files.count() as u64;
            observer.event(Event::Warning(&Warning::KeptOut { user: user.to_owned(), count, first }));
        }
    }

    fn check_loaders(&self, tree: &FileTree, observer: &dyn Observer) {
        for PlannedProgram { source, elf, path } in &self.plan.programs {
            let is_program = tree.get(path).is_some_and(|node| node.mode & 0o111 != 0);
            let Some(loader) = elf.loader.as_deref().filter(|_| is_program) else { continue };
            let place = tree.follow(loader).ok();
            if place.is_none_or(|place| tree.get(&place).is_none()) {
                let (file, loader) = (source.display().to_string(), display_name(loader));
                observer.event(Event::Warning(&Warning::LoaderMissing { file, loader }));
                // One warning is enough: the programs were probably built together.
                return;
            }
        }
    }
}

/// Tells whether programs of a machine usually run on an architecture: 64-bit processors run their 32-bit programs.
fn runs(machine: &str, architecture: &str) -> bool {
    machine == architecture || matches!((machine, architecture), ("386", "amd64") | ("arm", "arm64"))
}

/// Tells whether a user is root, by number or by name.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

/// Tells whether the permissions allow something to a user; `true` for a user by name, whose numbers are not known here.
fn may(node: &Node, user: Option<&str>, [of_owner, of_group, of_others]: [u32; 3]) -> bool {
    let user = user.unwrap_or("0");
    let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
    let Ok(uid) = uid.parse::<u32>() else { return true };
    let needed = match (uid, gid.parse::<u32>()) {
        (0, _) => of_owner | of_group | of_others,
        _ if uid == node.owner.uid => of_owner,
        (_, Ok(gid)) if gid == node.owner.gid => of_group,
        _ => of_others,
    };
    node.mode & needed != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::header::Owner;

    #[test]
    fn the_bits_of_the_user_decide() {
        let owner = Owner { uid: 5, gid: 6 };
        let node = |mode| Node { kind: NodeKind::File, mode, owner, ..Node::IMPLIED };
        for (mode, user, expected) in [
            (0o100, Some("5"), true),
            (0o011, Some("5:6"), false),
            (0o010, Some("7:6"), true),
            (0o101, Some("7:6"), false),
            (0o001, Some("7"), true),
            (0o110, Some("7:7"), false),
            (0o001, None, true),
            (0o644, Some("0:0"), false),
            (0o644, Some("web"), true),
        ] {
            assert_eq!(is_root(user.unwrap_or("")), matches!(user, None | Some("0:0")));
            assert_eq!(may(&node(mode), user, EXECUTE), expected, "{mode:o} {user:?}");
            assert_eq!(may(&node(mode << 2), user, READ), expected, "{mode:o} {user:?}");
        }
    }
}
