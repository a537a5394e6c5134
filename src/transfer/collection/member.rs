//! The images of a collection, and why each is in it.

use crate::lock::{ImageLocations, ImagesLock};
use crate::model::{Descriptor, Digest, Reference, Tag, keys};
use crate::store::{ImageName, NamedImage};

/// Why an image is in a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was requested.
    Root,
    /// A bundle names it.
    Referenced,
    /// It refers to another member: a signature, an attestation, an SBOM.
    Attached,
}

/// One image of a collection.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it points at.
    pub descriptor: Descriptor,
    /// Its names; those with a tag are kept.
    pub names: Vec<ImageName>,
    /// The reference in the lock file that names it, or where it was read from.
    pub origin: Option<Reference>,
    /// Why it is here.
    pub role: Role,
    /// What it names, if it is a bundle.
    pub bundle: Option<ImagesLock>,
}

impl Member {
    /// Returns its tags, each once, in order.
    #[must_use]
    pub fn tags(&self) -> Vec<Tag> {
        let mut tags: Vec<Tag> = Vec::new();
        for name in &self.names {
            let tag =
                name.tag.as_ref().or_else(|| name.reference.as_ref().and_then(|name| name.tag.as_ref()));
            if let Some(tag) = tag.filter(|tag| !tags.contains(tag)) {
                tags.push(tag.clone());
            }
        }
        tags
    }

    /// Returns its name for messages.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.origin {
            Some(origin) => origin.to_string(),
            None => self.descriptor.digest.to_string(),
        }
    }
}

/// Images that belong together, each once; the roots come first.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// The images: the roots, then level by level what bundles name, then what is attached.
    pub members: Vec<Member>,
}

impl Collection {
    /// Splits the members into images and what is attached to them, each with its tags.
    #[must_use]
    pub fn roots_and_attached(&self) -> [Vec<(Descriptor, Vec<Tag>)>; 2] {
        let (attached, images): (Vec<&Member>, Vec<&Member>) =
            self.members.iter().partition(|member| member.role == Role::Attached);
        let tagged = |member: &Member| (member.descriptor.clone(), member.tags());
        [images, attached].map(|members| members.into_iter().map(tagged).collect())
    }

    /// Returns the member with this digest.
    #[must_use]
    pub fn member(&self, digest: &Digest) -> Option<&Member> {
        self.members.iter().find(|member| member.descriptor.digest == *digest)
    }

    /// Tells whether there is a bundle in it.
    #[must_use]
    pub fn has_bundles(&self) -> bool {
        self.members.iter().any(|member| member.bundle.is_some())
    }

    /// Returns the main bundle: the marked one, else the only one that no other bundle names.
    #[must_use]
    pub fn root_bundle(&self) -> Option<&Member> {
        let bundles = || self.members.iter().filter(|member| member.bundle.is_some());
        let marked = |member: &&Member| member.descriptor.annotations.contains_key(keys::ROOT);
        if let Some(root) = bundles().find(marked) {
            return Some(root);
        }
        let named = |member: &Member| {
            bundles().filter_map(|bundle| bundle.bundle.as_ref()).any(|lock| {
                lock.images.iter().any(|image| image.image.digest.as_ref() == Some(&member.descriptor.digest))
            })
        };
        let mut tops = bundles().filter(|member| !named(member));
        match (tops.next(), tops.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// Returns the images that bundles name and that are not here.
    #[must_use]
    pub fn missing(&self) -> Vec<&Reference> {
        let mut missing: Vec<&Reference> = Vec::new();
        let locks = self.members.iter().filter_map(|member| member.bundle.as_ref());
        for image in locks.flat_map(|lock| &lock.images).map(|image| &image.image) {
            let here = image.digest.as_ref().is_some_and(|digest| self.member(digest).is_some());
            if !here && !missing.contains(&image) {
                missing.push(image);
            }
        }
        missing
    }

    /// Returns the locations of a bundle's images, if all of them are in the collection.
    #[must_use]
    pub fn locations(&self, lock: &ImagesLock) -> Option<ImageLocations> {
        let located = lock.images.iter().map(|image| {
            let member = image.image.digest.as_ref().and_then(|digest| self.member(digest))?;
            Some((image.image.clone(), member.bundle.is_some()))
        });
        located.collect::<Option<Vec<_>>>().map(ImageLocations::new)
    }

    /// Returns the members as roots of a layout, each with its origin; the main bundle is marked.
    #[must_use]
    pub fn named(&self) -> Vec<NamedImage> {
        // A single image needs no mark, so its tar is like that of other tools.
        let plain = matches!(self.members.as_slice(), [_]);
        if plain { self.roots(false) } else { self.roots(true) }
    }

    /// Returns the same, also for a single image, for a tar that holds other images too.
    #[must_use]
    pub fn named_with_origins(&self) -> Vec<NamedImage> {
        self.roots(true)
    }

    fn roots(&self, marked: bool) -> Vec<NamedImage> {
        let root = self.root_bundle().map(|member| member.descriptor.digest.clone());
        let name = |member: &Member| {
            let mut descriptor = member.descriptor.clone();
            if marked {
                if let Some(origin) = &member.origin {
                    descriptor.annotations.insert(keys::ORIGIN.to_owned(), origin.to_string());
                }
                if self.members.len() > 1 && root.as_ref() == Some(&descriptor.digest) {
                    descriptor.annotations.insert(keys::ROOT.to_owned(), "true".to_owned());
                }
            }
            NamedImage { descriptor, names: member.names.clone(), origin: None }
        };
        self.members.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::LockedImage;

    fn digest(name: &str) -> Digest {
        Digest::sha256_of(name.as_bytes())
    }

    fn reference(name: &str) -> Reference {
        format!("reg.example/{name}@{}", digest(name)).parse().unwrap()
    }

    /// A member; with `names` it is a bundle that names them.
    fn member(name: &str, role: Role, names: Option<&[&str]>) -> Member {
        let locked = |name: &&str| LockedImage { image: reference(name), annotations: Default::default() };
        Member {
            descriptor: Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest(name), 1),
            names: Vec::new(),
            origin: Some(reference(name)),
            role,
            bundle: names.map(|names| ImagesLock { images: names.iter().map(locked).collect() }),
        }
    }

    fn root(collection: &Collection) -> Option<String> {
        collection.root_bundle().map(Member::label)
    }

    #[test]
    fn a_member_has_each_of_its_tags_once() {
        let mut member = member("a", Role::Root, None);
        assert_eq!(member.label(), reference("a").to_string());
        member.origin = None;
        assert_eq!(member.label(), digest("a").to_string());
        let full = |text: &str| ImageName { tag: None, reference: Some(text.parse().unwrap()) };
        let tag = |text: &str| ImageName { tag: Some(text.parse().unwrap()), reference: None };
        member.names = vec![tag("v1"), full("reg.example/a:v2"), full("reg.example/b:v1"), tag("v2")];
        member.names.push(full(&reference("a").to_string()));
        let tags: Vec<String> = member.tags().iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["v1", "v2"]);
    }

    #[test]
    fn the_bundle_that_a_collection_is_about_is_marked_or_named_by_no_other() {
        let bundle = |name: &str, names: &[&str]| member(name, Role::Root, Some(names));
        let image = member("image", Role::Referenced, None);
        let outer = bundle("outer", &["inner", "image"]);
        let inner = bundle("inner", &["image"]);
        let collection = |members: &[&Member]| Collection {
            members: members.iter().map(|member| (*member).clone()).collect(),
        };
        let plain = collection(&[&image]);
        assert!(root(&plain).is_none() && !plain.has_bundles());
        let whole = collection(&[&inner, &outer, &image]);
        assert!(whole.has_bundles());
        assert_eq!(root(&whole), Some(outer.label()));
        let other = bundle("other", &[]);
        assert_eq!(root(&collection(&[&outer, &inner, &other])), None, "two that no other names");
        let mut marked = inner.clone();
        marked.descriptor.annotations.insert(keys::ROOT.to_owned(), "true".to_owned());
        assert_eq!(root(&collection(&[&outer, &marked, &other])), Some(inner.label()));
        let (x, y) = (bundle("x", &["y"]), bundle("y", &["x"]));
        assert_eq!(root(&collection(&[&x, &y])), None, "bundles that name each other");
    }

    #[test]
    fn images_that_are_not_here_are_missing_and_have_no_location() {
        let bundle = member("bundle", Role::Root, Some(&["here", "gone", "here"]));
        let second = member("second", Role::Root, Some(&["gone", "here"]));
        let here = member("here", Role::Referenced, Some(&[]));
        let mut collection = Collection { members: vec![bundle, second, here] };
        assert_eq!(collection.missing(), [&reference("gone")]);
        let lock = |collection: &Collection| collection.members[0].bundle.clone().unwrap();
        assert!(collection.locations(&lock(&collection)).is_none());
        collection.members.push(member("gone", Role::Referenced, None));
        assert!(collection.missing().is_empty());
        let expected = [("here", true), ("gone", false), ("here", true)]
            .map(|(name, is_bundle)| (reference(name), is_bundle));
        let found = collection.locations(&lock(&collection)).unwrap();
        assert_eq!(found, ImageLocations::new(expected.into()));
        assert_eq!(collection.member(&digest("here")).unwrap().label(), reference("here").to_string());
        assert!(collection.member(&digest("other")).is_none());
    }

    #[test]
    fn members_of_a_layout_have_their_origins_and_the_mark() {
        let entries = |images: Vec<NamedImage>| -> Vec<(Option<String>, bool)> {
            let entry = |image: NamedImage| {
                let annotations = image.descriptor.annotations;
                (annotations.get(keys::ORIGIN).cloned(), annotations.contains_key(keys::ROOT))
            };
            images.into_iter().map(entry).collect()
        };
        let bundle = member("bundle", Role::Root, Some(&["image"]));
        let lone = Collection { members: vec![bundle.clone()] };
        assert_eq!(entries(lone.named()), [(None, false)]);
        let origin = |name: &str| Some(reference(name).to_string());
        assert_eq!(entries(lone.named_with_origins()), [(origin("bundle"), false)]);
        let image = member("image", Role::Referenced, None);
        let signature = member("signature", Role::Attached, None);
        let both = Collection { members: vec![bundle, image, signature] };
        assert_eq!(
            entries(both.named()),
            [(origin("bundle"), true), (origin("image"), false), (origin("signature"), false)]
        );
        let [images, attached] = both.roots_and_attached();
        assert_eq!((images.len(), attached.len()), (2, 1));
        assert_eq!(attached[0].0.digest, digest("signature"));
    }
}
