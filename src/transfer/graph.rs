//! The graph below a root: every document and every blob once, children before parents.

use std::collections::{HashMap, HashSet};

use crate::model::{Descriptor, Digest, Document, RawDocument, limits};

use super::events::Warning;
use super::{ImageSource, TransferError, sparse};

/// Documents that are read ahead; a hostile index has at most so many in memory beyond [`limits::GRAPH_BYTES`].
const READ_AHEAD: usize = 16;

/// Everything that has to move with a root.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Manifests and indexes, children before parents, each once; the roots among them.
    pub documents: Vec<RawDocument>,
    /// Layers, configurations and foreign children, each once: those of one image together, its layers first, because
    /// packing makes the configuration after the layers.
    pub blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
    /// Bytes of the documents.
    kept: u64,
    /// Skip images of an index that the source does not hold, if it holds others.
    only_present: bool,
}

impl Graph {
    /// Reads everything below the root.
    ///
    /// Errors: [`TransferError::TooMany`] beyond [`limits::NESTING`], [`limits::DOCUMENTS`] and
    /// [`limits::GRAPH_BYTES`].
    pub fn of(source: &dyn ImageSource, root: &Descriptor) -> Result<Self, TransferError> {
        let mut graph = Self::default();
        graph.add(source, root)?;
        Ok(graph)
    }

    /// As [`Graph::of`], without the images of an index that the source does not hold while it holds others of it.
    pub fn of_present(source: &dyn ImageSource, root: &Descriptor) -> Result<Self, TransferError> {
        let mut graph = Self { only_present: true, ..Self::default() };
        graph.add(source, root)?;
        Ok(graph)
    }

    /// Adds another root and everything below it; what the graph has already is not added again.
    pub fn add(&mut self, source: &dyn ImageSource, root: &Descriptor) -> Result<(), TransferError> {
        self.visit(source, root, 0)
    }

    /// Returns the document with this digest.
    #[must_use]
    pub fn document(&self, digest: &Digest) -> Option<&RawDocument> {
        self.documents.iter().find(|document| document.digest() == digest)
    }

    /// Returns the documents with their levels: 0 for an image, and for an index one more than its highest child.
    pub(super) fn levels(&self) -> Vec<(&RawDocument, usize)> {
        let mut levels: HashMap<&Digest, usize> = HashMap::new();
        let mut found = Vec::new();
        for document in &self.documents {
            let children = document.document().children();
            let below = children.iter().filter_map(|child| levels.get(&child.digest));
            let level = below.max().map_or(0, |level| level + 1);
            levels.insert(document.digest(), level);
            found.push((document, level));
        }
        found
    }

    /// Returns the digests of everything.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.documents.iter().map(RawDocument::digest).chain(self.blobs.iter().map(|blob| &blob.digest))
    }

    /// Returns a warning for each image below `root` that has some of the layers that were left out.
    ///
    /// Shape: images in the order of the documents; each layer at the first image that has it. `label` names the root.
    pub(super) fn left_out(&self, root: &Digest, label: &str, layers: &[Digest]) -> Vec<Warning> {
        // Asked for each of many roots, and nearly always there is nothing to say.
        if layers.is_empty() {
            return Vec::new();
        }
        let mut left: HashSet<&Digest> = layers.iter().collect();
        let mut warnings = Vec::new();
        for document in &self.documents {
            let Document::Manifest(manifest) = document.document() else { continue };
            let own = manifest.layers.iter().map(|layer| &layer.digest);
            let own: Vec<Digest> = own.filter(|layer| left.remove(layer)).cloned().collect();
            if own.is_empty() {
                continue;
            }
            let is_root = document.digest() == root;
            let image = if is_root { label.to_owned() } else { document.digest().to_string() };
            let index = (!is_root).then(|| label.to_owned());
            warnings.push(Warning::NonDistributableSkipped { image, index, layers: own });
        }
        warnings
    }

    /// Returns the bytes of everything together.
    #[must_use]
    pub fn size(&self) -> u64 {
        let documents: u64 = self.documents.iter().map(|document| document.bytes().len() as u64).sum();
        documents + self.blobs.iter().map(|blob| blob.size).sum::<u64>()
    }

    fn visit(
        &mut self,
        source: &dyn ImageSource,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<(), TransferError> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if !descriptor.is_index() && !descriptor.is_manifest() {
            self.blobs.push(descriptor.clone());
            return Ok(());
        }
        let too_many =
            |what, limit| TransferError::TooMany { subject: format!("`{}`", source.label()), what, limit };
        if depth > limits::NESTING {
            return Err(too_many("levels of nested indexes", limits::NESTING));
        }
        if self.seen.len() > limits::DOCUMENTS {
            return Err(too_many("manifests and blobs below one root", limits::DOCUMENTS));
        }
        let document = source.read_document(descriptor)?;
        self.kept += document.bytes().len() as u64;
        if self.kept > limits::GRAPH_BYTES {
            let limit = usize::try_from(limits::GRAPH_BYTES).unwrap_or(usize::MAX);
            return Err(too_many("bytes of manifests and indexes below one root", limit));
        }
        match document.document() {
            Document::Index(index) => {
                let lacking = sparse::lacking(source, index);
                if !lacking.is_empty() && !self.only_present {
                    return Err(sparse::error(source, index, &descriptor.digest, &lacking));
                }
                let lacking: HashSet<&Digest> = lacking.iter().map(|child| &child.digest).collect();
                let children: Vec<&Descriptor> =
                    index.manifests.iter().filter(|child| !lacking.contains(&child.digest)).collect();
                for some in children.chunks(READ_AHEAD) {
                    let mut twice = HashSet::new();
                    let next = some.iter().copied().filter(|child| {
                        let is_document = child.is_index() || child.is_manifest();
                        is_document && !self.seen.contains(&child.digest) && twice.insert(&child.digest)
                    });
                    let next: Vec<&Descriptor> = next.collect();
                    if next.len() > 1 && depth < limits::NESTING {
                        source.read_ahead(&next)?;
                    }
                    some.iter().try_for_each(|child| self.visit(source, child, depth + 1))?;
                }
            }
            Document::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain(std::iter::once(&manifest.config)) {
                    // A manifest points at blobs, also where a blob has the media type of a manifest.
                    if self.seen.insert(blob.digest.clone()) {
                        self.blobs.push(blob.clone());
                    }
                }
            }
        }
        self.documents.push(document);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_memory::{InMemory, image, index};
    use super::*;

    fn names(graph: &Graph, known: &[(&str, &Digest)]) -> Vec<String> {
        let name = |digest: &Digest| {
            let found = known.iter().find(|(_, one)| *one == digest);
            found.map_or_else(|| digest.short(), |(name, _)| (*name).to_owned())
        };
        graph.documents.iter().map(|document| name(document.digest())).collect()
    }

    #[test]
    fn documents_come_children_first_and_each_once() {
        let (one, two) = (image(&["base", "one"]), image(&["base", "two"]));
        let inner = index(&[(&two, "linux/arm64")]);
        let outer = index(&[(&one, "linux/amd64"), (&inner, ""), (&two, "linux/arm64")]);
        let source = InMemory::of(&[&one, &two, &inner, &outer]);
        let mut graph = Graph::of(&source, &outer.descriptor()).unwrap();
        let known =
            [("one", one.digest()), ("two", two.digest()), ("in", inner.digest()), ("out", outer.digest())];
        assert_eq!(names(&graph, &known), ["one", "two", "in", "out"]);
        let layer = |text: &str| Digest::sha256_of(text.as_bytes());
        let blobs: Vec<Digest> = graph.blobs.iter().map(|blob| blob.digest.clone()).collect();
        // The layers of an image before its configuration, which both images share.
        assert_eq!(blobs, [layer("base"), layer("one"), layer("{}"), layer("two")]);
        assert_eq!(graph.digests().count(), 8);
        let documents = [&one, &two, &inner, &outer].map(|document| document.bytes().len() as u64);
        assert_eq!(graph.size(), documents.iter().sum::<u64>() + 4 + 3 + 2 + 3);
        assert!(graph.document(two.digest()).is_some());
        assert!(graph.document(&layer("base")).is_none(), "a blob is no document");
        graph.add(&source, &inner.descriptor()).unwrap();
        assert_eq!(graph.documents.len(), 4, "it is there already");
    }

    #[test]
    fn images_that_the_source_lacks_are_an_error_or_passed_over() {
        let (here, gone) = (image(&["here"]), image(&["gone"]));
        let all = index(&[(&here, "linux/amd64"), (&gone, "linux/arm64")]);
        let source = InMemory::of(&[&here, &all]);
        let error = Graph::of(&source, &all.descriptor()).unwrap_err();
        let TransferError::Sparse { place, lacking, there, index: sparse } = &error else {
            panic!("{error}")
        };
        assert_eq!((place.as_str(), sparse), ("memory", all.digest()));
        assert_eq!(
            (lacking.as_slice(), there.as_slice()),
            (&["linux/arm64".into()][..], &["linux/amd64".into()][..])
        );
        let graph = Graph::of_present(&source, &all.descriptor()).unwrap();
        assert_eq!(names(&graph, &[("here", here.digest()), ("all", all.digest())]), ["here", "all"]);
        // Without any image, or without one that has no platform, the source is damaged.
        for (all, source) in [(all.clone(), InMemory::of(&[&all])), {
            let all = index(&[(&here, "linux/amd64"), (&gone, "")]);
            (all.clone(), InMemory::of(&[&here, &all]))
        }] {
            let error = Graph::of_present(&source, &all.descriptor()).unwrap_err();
            assert!(matches!(error, TransferError::Nowhere { .. }), "{error}");
        }
    }

    #[test]
    fn indexes_nested_too_deeply_are_refused() {
        let mut documents = vec![image(&["x"])];
        for _ in 0..=limits::NESTING {
            let inner = documents.last().expect("at least the image");
            documents.push(index(&[(inner, "")]));
        }
        let source = InMemory { documents: documents.clone(), ..InMemory::default() };
        let error = Graph::of(&source, &documents.last().unwrap().descriptor()).unwrap_err();
        assert!(matches!(error, TransferError::TooMany { limit: limits::NESTING, .. }), "{error}");
        assert!(Graph::of(&source, &documents[limits::NESTING].descriptor()).is_ok());
    }

    #[test]
    fn layers_left_out_are_reported_at_the_first_image_that_has_them() {
        let (one, two, three) = (image(&["a", "b"]), image(&["b", "c"]), image(&["d"]));
        let all = index(&[(&one, "linux/amd64"), (&two, "linux/arm64"), (&three, "linux/s390x")]);
        let source = InMemory::of(&[&one, &two, &three, &all]);
        let graph = Graph::of(&source, &all.descriptor()).unwrap();
        let layer = |text: &str| Digest::sha256_of(text.as_bytes());
        let found = graph.left_out(all.digest(), "`app`", &[layer("b"), layer("c")]);
        let skipped = |warning: &Warning| match warning {
            Warning::NonDistributableSkipped { image, index, layers } => {
                (image.clone(), index.clone(), layers.clone())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            found.iter().map(skipped).collect::<Vec<_>>(),
            [
                (one.digest().to_string(), Some("`app`".to_owned()), vec![layer("b")]),
                (two.digest().to_string(), Some("`app`".to_owned()), vec![layer("c")]),
            ]
        );
        let graph = Graph::of(&source, &one.descriptor()).unwrap();
        let found = graph.left_out(one.digest(), "`app`", &[layer("a"), layer("d")]);
        assert_eq!(
            found.iter().map(skipped).collect::<Vec<_>>(),
            [("`app`".to_owned(), None, vec![layer("a")])]
        );
    }
}
