//! The target of a pushed image, and the place of the earlier image.

use std::path::PathBuf;

use super::TarTarget;
use crate::model::{Reference, Repository};

/// An earlier image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseImage {
    /// In a registry; its absence is an error only if its name was given.
    Registry {
        /// Its name.
        reference: Reference,
        /// Whether its name was given, so that its absence is an error.
        given: bool,
    },
    /// In a tar or folder.
    Tar(PathBuf),
}

/// The target of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To a registry.
    Registry(Reference),
    /// Into an OCI layout tar; no registry is contacted.
    OciTar {
        /// The file.
        target: TarTarget,
        /// The name recorded in it.
        name: Option<Reference>,
    },
}

/// Returns the repositories that the command line names.
pub(super) fn named<'a>(
    to: &'a Destination,
    base: Option<&'a BaseImage>,
) -> impl Iterator<Item = &'a Repository> {
    let destination = match to {
        Destination::Registry(reference) => Some(reference),
        Destination::OciTar { name, .. } => name.as_ref(),
    };
    let base = base.and_then(|base| match base {
        BaseImage::Registry { reference, .. } => Some(reference),
        BaseImage::Tar(_) => None,
    });
    destination.into_iter().chain(base).map(|reference| &reference.repository)
}
