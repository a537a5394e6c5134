//! Delta tars: the blobs that a tar lacks are read from its base tars, or the registry has them already.

use std::collections::{BTreeMap, BTreeSet};

use super::open_source::OpenedSource;
use super::resolve::CopyOptions;
use super::without::needed;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::text;
use crate::model::{Descriptor, Digest, Repository};
use crate::registry::Client;
use crate::store::LeftOut;
use crate::transfer::{self, AtRegistry, Collection, ImageLocator, ImageSource};

/// Refuses to write a tar if a blob is missing.
pub(super) fn refuse_incomplete(
    locator: &ImageLocator<'_>,
    collection: &Collection,
    lacking: &BTreeMap<Digest, &LeftOut>,
) -> Result<(), Failure> {
    match lacking_below(locator, collection, lacking)?.as_slice() {
        [] => Ok(()),
        missing => Err(incomplete(&locator.label(), missing, "")),
    }
}

/// Returns what the images of a collection lack.
pub(super) fn lacking_below(
    source: &dyn ImageSource,
    collection: &Collection,
    lacking: &BTreeMap<Digest, &LeftOut>,
) -> Result<Vec<LeftOut>, Failure> {
    let roots: Vec<&Descriptor> = collection.members.iter().map(|member| &member.descriptor).collect();
    Ok(transfer::left_out_below(source, &roots, lacking)?)
}

/// Makes the failure for a tar whose missing blobs are not where they are needed.
pub(super) fn incomplete(label: &str, missing: &[LeftOut], not_there: &str) -> Failure {
    let message = format!("`{label}` needs {}{not_there}", needed(missing));
    all_named(Failure::refused(message), missing)
        .hint(message!("name what has them with ", Flag::BASE_TAR.with("WHAT")))
}

fn all_named(failure: Failure, missing: &[LeftOut]) -> Failure {
    let line = |blob: &LeftOut| {
        format!(
            "blob `{}` ({}) of {} is missing",
            blob.digest,
            text::bytes(blob.size),
            text::escaped(&blob.from)
        )
    };
    missing.iter().fold(failure, |failure, blob| failure.caused_by(line(blob)))
}

/// Looks for the blobs that a tar lacks at the registry before anything is sent.
pub(super) struct Completion<'a> {
    locator: &'a ImageLocator<'a>,
    client: &'a Client,
    /// Repositories that may have the missing blobs.
    from: &'a [Repository],
    lacking: BTreeMap<Digest, &'a LeftOut>,
    concurrency: usize,
    missing: Vec<LeftOut>,
}

impl<'a> Completion<'a> {
    /// Prepares the search for blobs that a copy lacks.
    pub(super) fn new(
        locator: &'a ImageLocator<'a>,
        client: &'a Client,
        options: &'a CopyOptions,
        opened: &'a OpenedSource,
    ) -> Self {
        let (from, concurrency) = (options.from.as_slice(), options.registry.concurrency);
        Self { locator, client, from, lacking: opened.lacking(), concurrency, missing: Vec::new() }
    }

    /// Looks for the blobs that images lack; returns those that their repository has.
    pub(super) fn ask(
        &mut self,
        repository: &Repository,
        roots: &[&Descriptor],
    ) -> Result<BTreeSet<Digest>, Failure> {
        let left_out = transfer::left_out_below(self.locator, roots, &self.lacking)?;
        let found =
            transfer::find_at_registry(self.client, repository, &left_out, self.from, self.concurrency)?;
        let AtRegistry { present, elsewhere, missing } = found;
        for (blob, place) in &elsewhere {
            self.locator.remember_location(place, std::slice::from_ref(blob));
        }
        self.missing.extend(missing);
        Ok(present)
    }

    /// Refuses the push if a blob was not found.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "`{}` needs {}, which the registry does not have",
            self.locator.label(),
            needed(&self.missing)
        );
        Err(all_named(Failure::refused(message), &self.missing).hint(message!(
            "push what it was made on first, name another repository of the registry with ",
            Flag::FROM.with("REPOSITORY"),
            ", or a tar, store or repository that has them with ",
            Flag::BASE_TAR.with("WHAT")
        )))
    }
}
