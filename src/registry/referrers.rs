//! Referrers of a manifest: signatures, attestations and SBOMs whose `subject` it is.
//!
//! A registry with the referrers API keeps the list itself; for the others the client keeps an index under the
//! tag `<algorithm>-<hex>`. Source: distribution-spec, "Listing Referrers", "Referrers Tag Schema".

use crate::model::{
    Annotations, Descriptor, Digest, ImageIndex, RawDocument, Repository, Tag, Target, media_type,
};
use crate::stream::lock;

use super::client::Client;
use super::error::{RegistryError, Task, Verb};
use super::paging::each_page;

impl Client {
    /// Lists what says something about a manifest, with its artifact type and annotations.
    ///
    /// Cost: the API's pages; where there is no API, the index under the fallback tag.
    pub fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let task = Task::new(repository, Verb::List, format!("referrers of `{subject}`"));
        let url = self.requester.url(repository, &format!("referrers/{subject}"))?;
        let mut found = Vec::new();
        let mut is_index = true;
        let mut take = |page: &[u8]| {
            // Some registries answer unknown paths with a page of their own and 200.
            match RawDocument::parse(page, Some(media_type::OCI_INDEX)) {
                Ok(document) => {
                    found.extend(document.index().map(|index| index.manifests.clone()).unwrap_or_default());
                }
                Err(_) => is_index = false,
            }
            Ok(())
        };
        match each_page(&self.requester, repository, url, media_type::OCI_INDEX, &task, &mut take) {
            Ok(Some(())) if is_index => return Ok(found),
            Ok(_) | Err(RegistryError::Rejected { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(self.fallback_index(repository, subject)?.map(|index| index.manifests).unwrap_or_default())
    }

    /// Writes a manifest or index as it is.
    ///
    /// A registry whose tags are immutable refuses to write what is there already; that counts as written. When
    /// the document has a `subject` and the registry does not keep lists of referrers, the list is kept for it.
    pub fn push_manifest(
        &self,
        repository: &Repository,
        target: &Target,
        document: &RawDocument,
    ) -> Result<(), RegistryError> {
        let listed = self.write_manifest(repository, target, document)?;
        match document.document().subject() {
            Some(subject) if !listed => self.add_to_fallback(repository, &subject.digest, document),
            _ => Ok(()),
        }
    }

    /// Makes sure that a manifest with a `subject`, which was just pushed, is found by [`Client::referrers`].
    ///
    /// A registry that answered the push with `OCI-Subject` has done so itself; see
    /// [`Client::push_manifest`]. The index is read, changed and written, by one of our threads at a time, and read
    /// again to see whether another client wrote meanwhile.
    fn add_to_fallback(
        &self,
        repository: &Repository,
        subject: &Digest,
        document: &RawDocument,
    ) -> Result<(), RegistryError> {
        const ROUNDS: usize = 3;
        let entry = document.as_referrer();
        let target = Target::Tag(fallback_tag(subject));
        let holds = |index: &ImageIndex| index.manifests.iter().any(|own| own.digest == entry.digest);
        let _alone = lock(&self.listing);
        for _ in 0..ROUNDS {
            let mut index = self.fallback_index(repository, subject)?.unwrap_or_else(empty_index);
            if holds(&index) {
                return Ok(());
            }
            index.manifests.push(entry.clone());
            self.write_manifest(repository, &target, &RawDocument::of_index(index))?;
        }
        match self.fallback_index(repository, subject)?.filter(holds) {
            Some(_) => Ok(()),
            None => Err(RegistryError::Protocol {
                task: Box::new(Task::new(repository, Verb::Upload, format!("referrers of `{subject}`"))),
                problem: format!("others kept overwriting `{target}`"),
            }),
        }
    }

    fn fallback_index(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<ImageIndex>, RegistryError> {
        match self.fetch_here(repository, &Target::Tag(fallback_tag(subject))) {
            // Another kind of document under that tag is left as it is.
            Ok(document) => match document.index() {
                Some(index) => Ok(Some(index.clone())),
                None => Err(RegistryError::Protocol {
                    task: Box::new(Task::new(repository, Verb::Read, format!("referrers of `{subject}`"))),
                    problem: format!("tag `{}` holds an image, expected an index", fallback_tag(subject)),
                }),
            },
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns the tag under which referrers are kept: algorithm and hex, cut to the length of a tag.
fn fallback_tag(subject: &Digest) -> Tag {
    let name = subject.algorithm().name();
    let hex: String = subject.hex().chars().take(64).collect();
    format!("{name}-{hex}").parse().expect("letters, a dash and hex are a tag")
}

fn empty_index() -> ImageIndex {
    ImageIndex {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: Vec::new(),
        subject: None,
        annotations: Annotations::new(),
    }
}
