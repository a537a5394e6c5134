//! Chooses the main image of several: one rule for every command and every door.

use super::failure::Failure;
use super::text;
use crate::model::keys;
use crate::store::Root;
use crate::transfer::{Collection, Member, Role};

/// Chooses the one root that a command works on.
pub(super) fn only_root<'a>(place: &str, roots: &'a [Root]) -> Result<&'a Root, Failure> {
    let marked: Vec<&Root> = roots.iter().filter(|root| root.is_root_bundle).collect();
    match (roots, marked.as_slice()) {
        ([root], _) => Ok(root),
        (_, [root]) => Ok(root),
        (roots, _) => {
            let digests =
                text::quoted_list(roots.iter().map(|root| root.image.descriptor.digest.to_string()));
            Err(Failure::refused(format!("`{place}` holds {} images, expected one: {digests}", roots.len()))
                .hint("copy the one you want into a tar of its own, or push all of them and pull by digest"))
        }
    }
}

/// Makes members of what is in a tar; where one is marked as what the tar is about, the others belong to it.
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
            // Other formats mark it in their own way.
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
            let digests = text::quoted_list(roots.iter().map(|root| root.descriptor.digest.to_string()));
            Err(Failure::refused(format!("`{place}` holds {} images, expected one: {digests}", roots.len()))
                .hint("copy the one you want into a tar of its own"))
        }
        Some(member) => Ok(member),
        None => Err(Failure::refused(format!("`{place}` holds no image"))),
    }
}
