//! Names of images in a layout: what `index.json` records, and docker's table of contents beside it.

use crate::lock::cosign_subject;
use crate::model::{Annotations, Descriptor, Document, RawDocument, keys, media_type};
use crate::store::layout::{DockerImage, LayoutIndex};
use crate::store::{ImageName, NamedImage};

/// Makes the entries of `index.json`: one for each name, all names of a root on one digest.
///
/// With a full reference both annotations are written, so that readers of either agree; a tag that came without
/// its repository stays alone, because inventing a repository would be worse.
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
    entries
}

/// Tells whether a root only says something about another one: a signature, an SBOM.
fn is_attached(root: &NamedImage, document: Option<&RawDocument>) -> bool {
    let by_tag =
        |name: &ImageName| name.tag.as_ref().is_some_and(|tag| cosign_subject(tag.as_str()).is_some());
    root.names.iter().any(by_tag) || document.is_some_and(|document| document.document().subject().is_some())
}

/// Makes the top of a layout; docker's table is there when the only image is a plain one, signed or not.
pub(super) fn layout_index(roots: &[NamedImage], documents: &[RawDocument]) -> LayoutIndex {
    let find =
        |root: &NamedImage| documents.iter().find(|document| *document.digest() == root.descriptor.digest);
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
    LayoutIndex { manifests: index_entries(roots), docker }
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
}
