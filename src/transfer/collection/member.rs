//! The images of a collection, and why each is in it.

use crate::lock::{ImageLocations, ImagesLock};
use crate::model::{Descriptor, Digest, Reference, Tag, keys};
use crate::store::{ImageName, NamedImage};

/// Why an image is in a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was asked for.
    Root,
    /// A bundle names it.
    Referenced,
    /// It says something about another one: a signature, an attestation, an SBOM.
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

    /// Returns what to call it in messages.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.origin {
            Some(origin) => origin.to_string(),
            None => self.descriptor.digest.to_string(),
        }
    }
}

/// Images that belong together, each once; what was asked for comes first.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// The images: the roots, then level by level what bundles name, then what is attached.
    pub members: Vec<Member>,
}

impl Collection {
    /// Returns the images and what is said about them, each with its tags.
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

    /// Returns the bundle the collection is about: the marked one, else the only one that no other bundle names.
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

    /// Returns the locations of what a bundle names, if all of it is in the collection.
    #[must_use]
    pub fn locations(&self, lock: &ImagesLock) -> Option<ImageLocations> {
        let located = lock.images.iter().map(|image| {
            let member = image.image.digest.as_ref().and_then(|digest| self.member(digest))?;
            Some((image.image.clone(), member.bundle.is_some()))
        });
        located.collect::<Option<Vec<_>>>().map(ImageLocations::new)
    }

    /// Returns the members as roots of a layout, each with its origin, the one the collection is about marked.
    #[must_use]
    pub fn named(&self) -> Vec<NamedImage> {
        // A lone image needs no mark: plain tars stay as every other tool writes them.
        let plain = matches!(self.members.as_slice(), [_]);
        if plain { self.roots(false) } else { self.roots(true) }
    }

    /// Returns the same with origins in any case, for a tar that holds other images too.
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
