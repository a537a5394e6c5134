//! Names of images in a layout: what `index.json` records, and docker's table of contents beside it.

use std::collections::{HashMap, HashSet};

use crate::lock::{cosign_subject, cosign_tag};
use crate::model::{Annotations, Descriptor, Digest, Document, RawDocument, Tag, keys, media_type};
use crate::store::layout::{DockerImage, LayoutIndex};
use crate::store::{ImageName, NamedImage};

/// Makes the entries of `index.json`: one for each name, all names of a root on one digest.
///
/// A full reference gives both annotations, so that readers of either agree. A tag without a repository gives only the
/// tag's annotation: a made-up repository would be wrong.
pub(super) fn index_entries(roots: &[NamedImage]) -> Vec<Descriptor> {
    let mut entries = Vec::new();
    for root in roots {
        let mut plain = root.descriptor.clone();
        plain.annotations.remove(keys::REF_NAME);
        plain.annotations.remove(keys::CONTAINERD_NAME);
        if root.names.is_empty() {
            entries.push(plain.clone());
        }
        for name in &root.names {
            let mut annotations: Annotations = plain.annotations.clone();
            if let Some(reference) = &name.reference {
                annotations.insert(keys::CONTAINERD_NAME.to_owned(), reference.to_string());
            }
            if let Some(tag) = &name.tag {
                annotations.insert(keys::REF_NAME.to_owned(), tag.as_str().to_owned());
            }
            entries.push(Descriptor { annotations, ..plain.clone() });
        }
    }
    let listed: Vec<ListedEntry<'_>> = entries.iter().map(ListedEntry::of).collect();
    let kinds = cosign_kinds(&listed);
    for (entry, kind) in entries.iter_mut().zip(kinds) {
        set_kind(&mut entry.annotations, kind);
    }
    entries
}

/// The members of an `index.json` entry that decide its kind.
#[derive(Clone, Debug)]
pub(super) struct ListedEntry<'a> {
    /// What it points at.
    pub(super) digest: Digest,
    /// The name that is recorded for it.
    pub(super) tag: Option<&'a str>,
    /// Whether it is an index.
    pub(super) is_index: bool,
}

impl<'a> ListedEntry<'a> {
    fn of(entry: &'a Descriptor) -> Self {
        let tag = entry.annotations.get(keys::REF_NAME).map(String::as_str);
        Self { digest: entry.digest.clone(), tag, is_index: entry.is_index() }
    }
}

/// Returns cosign's kind of each entry, if exactly one image of the layout is signed.
///
/// `cosign load` and `cosign verify --local-image` find an image and its signatures only by these kinds.
/// Source: cosign 2.5 `pkg/oci/layout/write.go`.
pub(super) fn cosign_kinds(entries: &[ListedEntry<'_>]) -> Vec<Option<String>> {
    let none = || vec![None; entries.len()];
    let recorded: HashSet<&str> = entries.iter().filter_map(|entry| entry.tag).collect();
    let has = |tag: &Tag| recorded.contains(tag.as_str());
    // Most layouts hold no signature.
    if !entries.iter().filter_map(|entry| entry.tag).any(|tag| cosign_subject(tag).is_some()) {
        return none();
    }
    let tags = |digest: &Digest| ["sig", "att"].map(|what| cosign_tag(digest, what));
    let digests: HashSet<&Digest> = entries.iter().map(|entry| &entry.digest).collect();
    let mut signed = digests.into_iter().filter(|digest| tags(digest).iter().any(has));
    let (Some(image), None) = (signed.next(), signed.next()) else { return none() };
    let [signatures, attestations] = tags(image);
    let kind = |entry: &ListedEntry<'_>| {
        let word = match entry.tag {
            _ if entry.digest == *image && entry.is_index => "imageIndex",
            _ if entry.digest == *image => "image",
            Some(tag) if tag == signatures.as_str() => "sigs",
            Some(tag) if tag == attestations.as_str() => "atts",
            _ => return None,
        };
        Some(format!("{}{word}", keys::COSIGN_KIND_START))
    };
    entries.iter().map(kind).collect()
}

/// Sets the kind of an entry; without one, removes the kind that an earlier layout had.
pub(super) fn set_kind(annotations: &mut Annotations, kind: Option<String>) {
    match kind {
        Some(kind) => drop(annotations.insert(keys::COSIGN_KIND.to_owned(), kind)),
        None => annotations
            .retain(|key, value| key != keys::COSIGN_KIND || !value.starts_with(keys::COSIGN_KIND_START)),
    }
}

/// Tells whether a root is attached to another one: a signature, an SBOM.
#[must_use]
pub fn is_attached(root: &NamedImage, document: Option<&RawDocument>) -> bool {
    let by_tag =
        |name: &ImageName| name.tag.as_ref().is_some_and(|tag| cosign_subject(tag.as_str()).is_some());
    root.names.iter().any(by_tag) || document.is_some_and(|document| document.document().subject().is_some())
}

/// Makes `index.json`, and docker's `manifest.json` if the only image is a plain one, signed or not.
pub(super) fn layout_index(roots: &[NamedImage], documents: &[RawDocument]) -> LayoutIndex {
    let by_digest: HashMap<&Digest, &RawDocument> =
        documents.iter().map(|document| (document.digest(), document)).collect();
    let find = |root: &NamedImage| by_digest.get(&root.descriptor.digest).copied();
    let images: Vec<&NamedImage> = match roots {
        [only] => vec![only],
        roots => roots.iter().filter(|root| !is_attached(root, find(root))).collect(),
    };
    let docker = match images.as_slice() {
        [only] => find(only)
            .and_then(|document| match document.document() {
                Document::Manifest(manifest) => Some(manifest),
                Document::Index(_) => None,
            })
            .filter(|manifest| media_type::is_runnable_config(&manifest.config.media_type))
            .map(|manifest| {
                let tags = only.names.iter().filter_map(|name| name.reference.as_ref());
                let tags =
                    tags.filter(|reference| reference.tag.is_some()).map(ToString::to_string).collect();
                DockerImage::new(&manifest.config.digest, &manifest.layers, tags)
            }),
        _ => None,
    };
    LayoutIndex { manifests: index_entries(roots), docker, annotations: Annotations::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_an_entry_on_the_same_digest() {
        let descriptor = Descriptor::of_bytes(media_type::OCI_MANIFEST, b"m");
        let references = ["reg.example/a:v1".parse().unwrap(), "reg.example/a:v2".parse().unwrap()];
        let entries = index_entries(&[NamedImage::new(descriptor.clone(), &references)]);
        assert_eq!(entries.len(), 2);
        for (entry, tag) in entries.iter().zip(["v1", "v2"]) {
            assert_eq!(entry.digest, descriptor.digest);
            assert_eq!(entry.annotations[keys::REF_NAME], tag);
            assert_eq!(entry.annotations[keys::CONTAINERD_NAME], format!("reg.example/a:{tag}"));
        }
        assert_eq!(index_entries(&[NamedImage::new(descriptor.clone(), &[])]), [descriptor]);
    }

    #[test]
    fn cosign_finds_the_one_signed_image_of_a_layout() {
        let image = |bytes: &[u8]| Descriptor::of_bytes(media_type::OCI_MANIFEST, bytes);
        let tagged = |descriptor: &Descriptor, tag: Tag| NamedImage {
            names: vec![ImageName { tag: Some(tag), reference: None }],
            ..NamedImage::unnamed(descriptor.clone())
        };
        let signature =
            |of: &Descriptor, what: &str, bytes: &[u8]| tagged(&image(bytes), cosign_tag(&of.digest, what));
        let kinds = |roots: &[NamedImage]| -> Vec<Option<String>> {
            let entries = index_entries(roots).into_iter();
            entries.map(|entry| entry.annotations.get(keys::COSIGN_KIND).cloned()).collect()
        };
        let word = |word: &str| Some(format!("dev.cosignproject.cosign/{word}"));
        let (one, two) = (image(b"one"), image(b"two"));
        let roots = [
            tagged(&one, "v1".parse().unwrap()),
            signature(&one, "sig", b"s"),
            signature(&one, "att", b"a"),
            tagged(&two, "v2".parse().unwrap()),
        ];
        assert_eq!(kinds(&roots), [word("image"), word("sigs"), word("atts"), None]);
        assert_eq!(kinds(&roots[..1]), [None]);
        // Two signed images: cosign would take the signature of one for that of the other.
        let marked = Descriptor { annotations: index_entries(&roots)[0].annotations.clone(), ..one };
        let both = [&roots[1..], &[NamedImage::unnamed(marked), signature(&two, "sig", b"t")]].concat();
        assert_eq!(kinds(&both), vec![None; 5]);
        let index = Descriptor::of_bytes(media_type::OCI_INDEX, b"i");
        let roots = [NamedImage::unnamed(index.clone()), signature(&index, "sig", b"s")];
        assert_eq!(kinds(&roots), [word("imageIndex"), word("sigs")]);
    }
}
