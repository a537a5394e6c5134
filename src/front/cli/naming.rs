//! The names of images at the target of `copy`: recorded names, given tags, and names in a tar that is appended to.

use crate::front::failure::{Failure, Hint, message};
use crate::front::flag::Flag;
use crate::model::{Repository, Tag};
use crate::store::{ImageName, NamedImage};
use crate::transfer::Member;

/// Adds roots to those of a tar; an image that is there already only gets further names.
pub(super) fn appended(mut roots: Vec<NamedImage>, new: Vec<NamedImage>) -> Result<Vec<NamedImage>, Failure> {
    for mut root in new {
        let taken = |name: &ImageName| {
            roots
                .iter()
                .any(|old| old.descriptor.digest != root.descriptor.digest && old.names.contains(name))
        };
        if let Some(name) = root.names.iter().find(|name| name.tag.is_some() && taken(name)) {
            let text = match (&name.reference, &name.tag) {
                (Some(reference), _) => reference.to_string(),
                (None, Some(tag)) => tag.to_string(),
                (None, None) => String::new(),
            };
            return Err(Failure::refused(format!(
                "the tar already has another image with the name `{text}`"
            ))
            .hint(Hint::command(
                "images of several platforms become one under this name with ",
                "imgrelay index --tar A --tar B",
                "",
            ))
            .hint("name the new image by digest, or write a new tar"));
        }
        match roots.iter_mut().find(|old| old.descriptor.digest == root.descriptor.digest) {
            Some(old) => {
                root.names.retain(|name| !old.names.contains(name));
                old.names.append(&mut root.names);
            }
            None => roots.push(root),
        }
    }
    Ok(roots)
}

/// Sets the tags of an image: the given one instead of the recorded ones, and further ones.
pub(super) fn name_at_registry(
    member: &mut Member,
    repository: &Repository,
    tag: Option<&Tag>,
    further: &[Tag],
) {
    if tag.is_some() {
        member.names.clear();
    }
    for tag in tag.into_iter().chain(further) {
        if !member.tags().contains(tag) {
            let reference = Some(repository.with_tag(tag.clone()));
            member.names.push(ImageName { tag: Some(tag.clone()), reference });
        }
    }
}

/// Adds the tags of `--tag` to an image in a tar, in the repository of its recorded name.
pub(super) fn name_further(member: &mut Member, tags: &[Tag]) -> Result<(), Failure> {
    let Some(tag) = tags.first() else { return Ok(()) };
    let repository =
        member.names.iter().find_map(|name| name.reference.as_ref()).map(|name| name.repository.clone());
    let Some(repository) = repository else {
        return Err(Failure::tag_without_repository(tag).hint(message!(
            "the image has no recorded name; give the tag when it is copied with ",
            Flag::TO_REPO
        )));
    };
    for tag in tags.iter().filter(|tag| !member.tags().contains(tag)).collect::<Vec<_>>() {
        let reference = Some(repository.with_tag(tag.clone()));
        member.names.push(ImageName { tag: Some(tag.clone()), reference });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Descriptor;
    use crate::transfer::Role;

    fn image(content: &str, names: &[&str]) -> NamedImage {
        let descriptor = Descriptor::of_bytes("a/b", content.as_bytes());
        let names = names.iter().map(|name| ImageName::of(name.parse().unwrap())).collect();
        NamedImage { descriptor, names, origin: None }
    }

    fn member(names: &[&str]) -> Member {
        let NamedImage { descriptor, names, origin } = image("a", names);
        Member { descriptor, names, origin, role: Role::Root, bundle: None }
    }

    fn tags(words: &[&str]) -> Vec<Tag> {
        words.iter().map(|tag| tag.parse().unwrap()).collect()
    }

    #[test]
    fn append_adds_names_to_an_image_that_is_there_and_refuses_a_name_of_another() {
        let old = || vec![image("a", &["r.io/a:1"]), image("b", &["r.io/b:1"])];
        let roots = appended(old(), vec![image("a", &["r.io/a:1", "r.io/a:2"]), image("c", &[])]).unwrap();
        assert_eq!(roots, [image("a", &["r.io/a:1", "r.io/a:2"]), old()[1].clone(), image("c", &[])]);
        let failure = appended(old(), vec![image("c", &["r.io/b:1"])]).unwrap_err();
        assert_eq!(failure.message, "the tar already has another image with the name `r.io/b:1`");
    }

    #[test]
    fn a_tag_of_to_repo_replaces_the_recorded_ones_and_tag_adds_to_them() {
        let repository: Repository = "r.io/new".parse().unwrap();
        let named = |tag: &[&str], further: &[&str]| {
            let mut member = member(&["r.io/a:1"]);
            name_at_registry(&mut member, &repository, tags(tag).first(), &tags(further));
            member.tags()
        };
        assert_eq!(named(&[], &[]), tags(&["1"]));
        assert_eq!(named(&[], &["2", "1"]), tags(&["1", "2"]));
        assert_eq!(named(&["3"], &["2", "3"]), tags(&["3", "2"]));
    }

    #[test]
    fn tag_needs_a_recorded_name_in_a_tar() {
        let mut known = member(&["r.io/a:1"]);
        name_further(&mut known, &tags(&["2", "1"])).unwrap();
        assert_eq!(known.tags(), tags(&["1", "2"]));
        assert!(name_further(&mut member(&[]), &[]).is_ok());
        let failure = name_further(&mut member(&[]), &tags(&["2"])).unwrap_err();
        assert_eq!(failure.message, "tag `2` has no repository");
    }
}
