//! The target of a pushed image, and the place of the earlier image.

use std::path::PathBuf;

use super::{TarTarget, given_path, target_store};
use crate::depot::StoreReference;
use crate::front::cli::args::PushArgs;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::model::{Reference, Repository, Tag};

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
    /// Into an image store; no registry is contacted.
    Store {
        /// The store.
        store: StoreReference,
        /// The tags it gets there, at least one.
        tags: Vec<Tag>,
        /// The image's name, if it has one.
        name: Option<Reference>,
    },
}

/// Finds the destination: a store or tar that was requested, else the registry of the image's name.
///
/// Errors: none was given, or one that needs a tag or name has none.
pub(super) fn destination(
    args: &PushArgs,
    name: Option<Reference>,
    tags: &[Tag],
) -> Result<Option<Destination>, Failure> {
    let store = target_store(args.to_store.as_deref())?;
    let destination = match (given_path(args.to_oci_tar.as_ref()), store, name) {
        (Some(_), Some(_), _) => {
            return Err(Failure::misuse(message!(
                Flag::TO_OCI_TAR,
                " and ",
                Flag::TO_STORE,
                " exclude each other"
            )));
        }
        (Some(path), None, name) => Destination::OciTar { target: TarTarget::of(path), name },
        (None, Some(store), name) => {
            let tags = tags_in_store(&store, name.as_ref(), tags)?;
            Destination::Store { store, tags, name }
        }
        (None, None, Some(name)) => Destination::Registry(name),
        (None, None, None) => return Ok(None),
    };
    Ok(Some(destination))
}

/// Returns the tags in a store: the store's or the name's own (`latest` if it has none), then the further ones.
fn tags_in_store(
    store: &StoreReference,
    name: Option<&Reference>,
    further: &[Tag],
) -> Result<Vec<Tag>, Failure> {
    let of_name = || name.map(|name| name.tag.clone().unwrap_or_else(Tag::latest));
    let first = store.tag.clone().or_else(of_name);
    let further = further.iter().filter(|tag| first.as_ref() != Some(tag)).cloned();
    let tags: Vec<Tag> = first.clone().into_iter().chain(further).collect();
    if tags.is_empty() {
        return Err(Failure::misuse(message!("the image has no tag in ", Flag::TO_STORE)).hint(message!(
            "name one with ",
            Flag::TO_STORE.with("URL:TAG"),
            " or ",
            Flag::TAG.with("TAG")
        )));
    }
    Ok(tags)
}

/// Returns the repositories that the command line names.
pub(super) fn named<'a>(
    to: &'a Destination,
    base: Option<&'a BaseImage>,
) -> impl Iterator<Item = &'a Repository> {
    let destination = match to {
        Destination::Registry(reference) => Some(reference),
        Destination::OciTar { name, .. } => name.as_ref(),
        // Its name is only that of the image: no registry is contacted for it.
        Destination::Store { .. } => None,
    };
    let base = base.and_then(|base| match base {
        BaseImage::Registry { reference, .. } => Some(reference),
        BaseImage::Tar(_) => None,
    });
    destination.into_iter().chain(base).map(|reference| &reference.repository)
}
