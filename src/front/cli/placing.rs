//! Where `copy` puts each image of a collection in a registry, and under which tags.
//!
//! Works on names and sends nothing, so that an image without a target is refused before anything is sent.

use std::collections::BTreeMap;

use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::lock::cosign_subject;
use crate::model::{Digest, Reference, Repository, Tag};
use crate::store::ImageName;
use crate::transfer::{Collection, Member, Role};

/// The target repository, or the one below which the recorded names are placed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Placing<'a> {
    /// All images go there.
    Into(&'a Repository),
    /// Each image goes below it, to the repository that its recorded name has.
    Below(&'a Repository),
}

impl Placing<'_> {
    /// Returns the repositories an image goes to, each with its tags there, in the order of its names.
    ///
    /// Errors: an image without a recorded name, whose repository below a prefix cannot be known.
    pub(super) fn of(
        self,
        collection: &Collection,
        member: &Member,
    ) -> Result<Vec<(Repository, Vec<Tag>)>, Failure> {
        let prefix = match self {
            Self::Into(repository) => return Ok(vec![(repository.clone(), member.tags())]),
            Self::Below(prefix) => prefix,
        };
        let named = member.names.iter().filter_map(|name| name.reference.as_ref());
        let mut recorded: Vec<&Reference> = named.collect();
        if recorded.is_empty() {
            recorded.extend(&member.origin);
        }
        let mut places: Vec<(Repository, Vec<Tag>)> = Vec::new();
        for reference in recorded {
            let repository = below(prefix, &reference.repository)?;
            let at = places.iter().position(|(known, _)| *known == repository);
            let at = at.unwrap_or_else(|| {
                places.push((repository, Vec::new()));
                places.len() - 1
            });
            if let (Some(tag), Some((_, tags))) = (&reference.tag, places.get_mut(at))
                && !tags.contains(tag)
            {
                tags.push(tag.clone());
            }
        }
        if !places.is_empty() {
            return Ok(places);
        }
        // Attached manifests go to their image's repository, and keep their tags.
        match subject(collection, member) {
            Some(subject) => {
                let places = self.of(collection, subject)?;
                Ok(places.into_iter().map(|(repository, _)| (repository, member.tags())).collect())
            }
            None => Err(Failure::refused(message!(
                format!("image `{}` has no recorded name, so ", member.descriptor.digest),
                Flag::KEEP_NAMES,
                " cannot tell its repository"
            ))
            .hint(message!(
                "copy it by itself with ",
                Flag::SELECT.with(member.descriptor.digest.to_string()),
                " and ",
                Flag::TO_REPO.with("REPOSITORY:TAG")
            ))),
        }
    }

    /// Returns the first repository an image goes to.
    pub(super) fn first(self, collection: &Collection, member: &Member) -> Result<Repository, Failure> {
        let whole = match self {
            Self::Into(repository) | Self::Below(repository) => repository.clone(),
        };
        Ok(self.of(collection, member)?.into_iter().next().map_or(whole, |(repository, _)| repository))
    }

    /// Refuses two images with the same tag in the same repository: the second would overwrite the tag of the first.
    pub(super) fn refuse_shared_tags(self, collection: &Collection) -> Result<(), Failure> {
        let mut taken: BTreeMap<(Repository, Tag), &Member> = BTreeMap::new();
        for member in &collection.members {
            for (repository, tags) in self.of(collection, member)? {
                for tag in tags {
                    let Some(first) = taken.insert((repository.clone(), tag.clone()), member) else {
                        continue;
                    };
                    if first.descriptor.digest != member.descriptor.digest {
                        return Err(shared_tag(self, first, member, &repository.with_tag(tag)));
                    }
                }
            }
        }
        Ok(())
    }
}

fn shared_tag(placing: Placing<'_>, first: &Member, second: &Member, target: &Reference) -> Failure {
    let failure = Failure::refused(format!(
        "two images would be `{target}`: {} and {}",
        named(first, target),
        named(second, target)
    ))
    .hint(message!(
        "copy one of them with ",
        Flag::SELECT.with("IMAGE"),
        "; ",
        Flag::TO_REPO.with("REPOSITORY:TAG"),
        " or ",
        Flag::TAG,
        " gives it another tag"
    ));
    match placing {
        Placing::Into(_) => failure.hint(message!(
            Flag::KEEP_NAMES,
            format!(" keeps the recorded names apart, below `{}`", target.repository)
        )),
        Placing::Below(_) => failure,
    }
}

/// Names an image by the recorded name that gives the tag, and by its digest.
fn named(member: &Member, target: &Reference) -> String {
    let digest = &member.descriptor.digest;
    let wants = |name: &&ImageName| name.reference.as_ref().is_some_and(|name| name.tag == target.tag);
    let name = member.names.iter().find(wants).or_else(|| member.names.first());
    match name.and_then(|name| name.reference.as_ref()) {
        Some(reference) => format!("`{reference}` (`{digest}`)"),
        None => format!("`{digest}`"),
    }
}

/// Returns a repository's name below a prefix, without its registry and without Docker Hub's own `library/`.
fn below(prefix: &Repository, recorded: &Repository) -> Result<Repository, Failure> {
    let name = recorded.name();
    let short = name.strip_prefix("library/").filter(|_| recorded.registry().is_docker_hub());
    let whole = format!("{prefix}/{}", short.unwrap_or(name));
    whole.parse().map_err(|error| Failure::misuse(message!(Flag::KEEP_NAMES, format!(": {error}"))))
}

/// Finds the image of an attached manifest: by its tag, else the only root.
fn subject<'a>(collection: &'a Collection, member: &Member) -> Option<&'a Member> {
    if member.role != Role::Attached {
        return None;
    }
    let tags = member.tags();
    let about: Vec<Digest> = tags.iter().filter_map(|tag| cosign_subject(tag.as_str())).collect();
    let mut by_tag = about.iter().filter_map(|digest| collection.member(digest));
    let mut roots = collection.members.iter().filter(|member| member.role == Role::Root);
    by_tag.next().or_else(|| roots.next().filter(|_| roots.next().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Descriptor, media_type};

    fn member(content: &str, names: &[&str]) -> Member {
        let name = |text: &&str| match text.strip_prefix(':') {
            Some(tag) => ImageName { tag: Some(tag.parse().unwrap()), reference: None },
            None => ImageName::of(text.parse().unwrap()),
        };
        Member {
            descriptor: Descriptor::of_bytes(media_type::OCI_MANIFEST, content.as_bytes()),
            names: names.iter().map(name).collect(),
            origin: None,
            role: Role::Root,
            bundle: None,
        }
    }

    fn places(member: &Member, more: Vec<Member>) -> Vec<String> {
        let prefix: Repository = "mirror.example/all".parse().unwrap();
        let collection = Collection { members: std::iter::once(member.clone()).chain(more).collect() };
        let places = Placing::Below(&prefix).of(&collection, member);
        let places = places.unwrap_or_else(|failure| panic!("{}", failure.render(false)));
        let tags = |tags: Vec<Tag>| tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        places.into_iter().map(|(repository, list)| format!("{repository}:{}", tags(list))).collect()
    }

    #[test]
    fn names_are_kept_below_the_prefix() {
        for (names, expected) in [
            (&["reg.example/team/app:v1"][..], &["mirror.example/all/team/app:v1"][..]),
            (&["busybox:1"], &["mirror.example/all/busybox:1"]),
            (
                &["reg.example/a:v1", "other.example/a:v2", "reg.example/b:v1"],
                &["mirror.example/all/a:v1,v2", "mirror.example/all/b:v1"],
            ),
        ] {
            assert_eq!(places(&member("x", names), Vec::new()), expected, "{names:?}");
        }
        let image = member("image", &["reg.example/team/app:v1"]);
        let tag = format!(":sha256-{}.sig", image.descriptor.digest.hex());
        let signature = Member { role: Role::Attached, ..member("signature", &[&tag]) };
        assert_eq!(
            places(&signature, vec![image.clone(), member("other", &[])]),
            [format!("mirror.example/all/team/app{tag}")]
        );
        let bare = member("bare", &[":v1"]);
        let prefix: Repository = "mirror.example/all".parse().unwrap();
        let collection = Collection { members: vec![image, bare.clone()] };
        let failure = Placing::Below(&prefix).of(&collection, &bare).unwrap_err();
        assert!(failure.message.to_string().contains("has no recorded name"), "{}", failure.message);
    }

    #[test]
    fn two_images_for_one_tag_are_refused_and_named() {
        let target: Repository = "reg.example/all".parse().unwrap();
        let (a, b) = (member("a", &["old.example/a:v1"]), member("b", &["old.example/b:v1"]));
        let collection = Collection { members: vec![a.clone(), b.clone()] };
        let failure = Placing::Into(&target).refuse_shared_tags(&collection).unwrap_err();
        let message = failure.message.to_string();
        for text in [
            "`reg.example/all:v1`",
            "`old.example/a:v1`",
            "`old.example/b:v1`",
            &a.descriptor.digest.to_string(),
            &b.descriptor.digest.to_string(),
        ] {
            assert!(message.contains(text), "{message}");
        }
        assert_eq!(Placing::Below(&target).refuse_shared_tags(&collection), Ok(()));
        let same = Collection { members: vec![a.clone(), member("c", &["old.example/c:v2"]), a] };
        assert_eq!(Placing::Into(&target).refuse_shared_tags(&same), Ok(()));
    }
}
