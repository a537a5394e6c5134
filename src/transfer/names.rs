//! Names of images in a layout: what `index.json` records, and docker's table of contents beside it.

use crate::model::{Annotations, Descriptor, Document, RawDocument, Reference, keys, media_type};
use crate::store::layout::{DockerImage, LayoutIndex};
use crate::store::{Root, RootName};

/// A root with the names it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What it points at; its annotations are kept.
    pub descriptor: Descriptor,
    /// Its names; empty for none.
    pub names: Vec<RootName>,
}

impl Named {
    /// Names a root by references; each must have a tag to be recorded.
    #[must_use]
    pub fn new(descriptor: Descriptor, references: &[Reference]) -> Self {
        let names = references
            .iter()
            .map(|reference| RootName { tag: reference.tag.clone(), reference: Some(reference.clone()) })
            .collect();
        Self { descriptor, names }
    }
}

impl Named {
    /// Returns what to call it in messages: a full name, where it came from, or its digest.
    #[must_use]
    pub fn label(&self) -> String {
        let named = self.names.iter().find_map(|name| name.reference.as_ref().map(ToString::to_string));
        let origin = || self.descriptor.annotations.get(keys::ORIGIN).cloned();
        named.or_else(origin).unwrap_or_else(|| self.descriptor.digest.to_string())
    }
}

/// Returns the roots of a store with their recorded names.
#[must_use]
pub fn named_roots(roots: &[Root]) -> Vec<Named> {
    roots
        .iter()
        .map(|root| Named { descriptor: root.descriptor.clone(), names: root.names.clone() })
        .collect()
}

/// Makes the entries of `index.json`: one for each name, all names of a root on one digest.
///
/// With a full reference both annotations are written, so that readers of either agree; a tag that came without
/// its repository stays alone, because inventing a repository would be worse.
pub(super) fn index_entries(roots: &[Named]) -> Vec<Descriptor> {
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
    entries
}

/// Makes the top of a layout; docker's table is there when the only root is a plain image.
pub(super) fn layout_index(roots: &[Named], documents: &[RawDocument]) -> LayoutIndex {
    let docker = match roots {
        [only] => documents
            .iter()
            .find(|document| *document.digest() == only.descriptor.digest)
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
    LayoutIndex { manifests: index_entries(roots), docker }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_an_entry_on_the_same_digest() {
        let descriptor = Descriptor::of_bytes(media_type::OCI_MANIFEST, b"m");
        let references = ["reg.example/a:v1".parse().unwrap(), "reg.example/a:v2".parse().unwrap()];
        let entries = index_entries(&[Named::new(descriptor.clone(), &references)]);
        assert_eq!(entries.len(), 2);
        for (entry, tag) in entries.iter().zip(["v1", "v2"]) {
            assert_eq!(entry.digest, descriptor.digest);
            assert_eq!(entry.annotations[keys::REF_NAME], tag);
            assert_eq!(entry.annotations[keys::CONTAINERD_NAME], format!("reg.example/a:{tag}"));
        }
        assert_eq!(index_entries(&[Named::new(descriptor.clone(), &[])]), [descriptor]);
    }
}
