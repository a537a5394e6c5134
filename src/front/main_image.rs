//! Chooses the main image of several: one rule for every command and every door.

use super::failure::{Failure, Message, message};
use super::flag::Flag;
use crate::model::keys;
use crate::model::list::clause_list;
use crate::store::{Root, Store, image_label, image_labels};
use crate::transfer::{self, Collection, ImageSource as _, Member, Role};

/// Chooses the one root that a command works on.
///
/// Signatures and other referrers beside it are ignored.
pub(super) fn only_root(store: &Store) -> Result<&Root, Failure> {
    let roots = store.roots();
    let marked: Vec<&Root> = roots.iter().filter(|root| root.is_root_bundle).collect();
    if let ([root], _) | (_, [root]) = (roots.iter().collect::<Vec<_>>().as_slice(), marked.as_slice()) {
        return Ok(root);
    }
    let is_attached = |root: &Root| {
        let document = store.read_document(&root.image.descriptor).ok();
        transfer::is_attached(&root.image, document.as_ref())
    };
    let own: Vec<&Root> = roots.iter().filter(|root| !is_attached(root)).collect();
    match own.as_slice() {
        [root] => Ok(root),
        _ => Err(several(&store.label(), roots.len(), &image_labels(roots))),
    }
}

/// Makes the failure for a place with several images where one is expected.
fn several(place: &str, count: usize, labels: &[String]) -> Failure {
    Failure::refused(format!("`{place}` holds {count} images, expected one: {}", clause_list(labels)))
}

/// Returns the advice to choose one image of several.
pub(super) fn choose_one() -> Message {
    message!("choose one with ", Flag::SELECT.with("IMAGE"), ": by its name, tag, digest or position")
}

/// Makes members of the images of a tar; if one is marked as its main image, the others belong to that one.
pub(super) fn stored_roots(roots: &[Root]) -> Vec<Member> {
    let any_marked = roots.iter().any(|root| root.is_root_bundle);
    let member = |root: &Root| {
        let mut member = Member {
            descriptor: root.image.descriptor.clone(),
            names: root.image.names.clone(),
            origin: root.image.origin.clone(),
            role: if any_marked && !root.is_root_bundle { Role::Referenced } else { Role::Root },
            bundle: None,
        };
        if root.is_root_bundle {
            // Other formats have their own mark.
            member.descriptor.annotations.insert(keys::ROOT.to_owned(), "true".to_owned());
        }
        member
    };
    roots.iter().map(member).collect()
}

/// Chooses the image that a result is about: the bundle, else the first root.
pub(super) fn main_member<'a>(
    collection: &'a Collection,
    place: &str,
    exactly: bool,
) -> Result<&'a Member, Failure> {
    let roots: Vec<&Member> = collection.members.iter().filter(|member| member.role == Role::Root).collect();
    let first = collection.root_bundle().or_else(|| roots.first().copied());
    match first {
        Some(_) if exactly && roots.len() > 1 && collection.root_bundle().is_none() => {
            let members = collection.members.iter().enumerate();
            let roots = members.filter(|(_, member)| member.role == Role::Root);
            let labels: Vec<String> =
                roots.map(|(at, root)| image_label(&root.names, at, &root.descriptor.digest)).collect();
            Err(several(place, labels.len(), &labels))
        }
        Some(member) => Ok(member),
        None => Err(Failure::refused(format!("`{place}` holds no image"))),
    }
}
