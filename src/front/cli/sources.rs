//! Opening what a command reads from: a tar, a folder, or a registry.

use std::path::Path;

use super::Context;
use super::resolve::{RegistryOptions, Source};
use crate::front::failure::Failure;
use crate::front::{registries, system, text};
use crate::lock::BundleLock;
use crate::model::{Descriptor, Digest, Reference, keys, limits};
use crate::registry::Client;
use crate::store::{self, ImageStore, Root, StoreKind};
use crate::stream::{FileError, TooLarge, read_bounded};
use crate::transfer::{ImageSource, RegistrySource, StoreSource};

/// A source that is open.
pub(super) enum Opened {
    /// A tar or folder.
    Store(Box<dyn ImageStore>),
    /// An image in a registry.
    Registry {
        client: Box<Client>,
        reference: Reference,
        /// What it has to be.
        wanted: Wanted,
    },
}

/// What an image in a registry was asked for as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Bundle,
    Image,
}

impl Opened {
    /// Opens a source; a lock has to be a BundleLock.
    pub(super) fn open(
        context: &Context<'_>,
        source: &Source,
        registry: &RegistryOptions,
    ) -> Result<Self, Failure> {
        let client = || registries::client(registry, context.env, &context.ui).map(Box::new);
        Ok(match source {
            Source::Bundle(reference) => {
                Self::Registry { client: client()?, reference: reference.clone(), wanted: Wanted::Bundle }
            }
            Source::Image(reference) => {
                Self::Registry { client: client()?, reference: reference.clone(), wanted: Wanted::Image }
            }
            Source::Lock(path) => {
                let lock = read_bundle_lock(path)?;
                Self::Registry { client: client()?, reference: lock.image, wanted: Wanted::Bundle }
            }
            Source::Tar(path) => Self::Store(open_store(context, path)?),
            Source::OciTar(path) => Self::Store(open_oci(context, path)?),
        })
    }

    /// Runs work with the source and its roots with their names.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&dyn ImageSource, &[Root]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match self {
            Self::Store(store) => work(&StoreSource(store.as_ref()), store.roots()),
            Self::Registry { client, reference, wanted } => {
                let source = RegistrySource::new(client, reference.repository.clone());
                let descriptor = source.resolve(&reference.target())?;
                if *wanted == Wanted::Bundle && is_bundle(&source, &descriptor)? == Some(false) {
                    return Err(Failure::refused(format!(
                        "`{reference}` is a plain image, expected a bundle"
                    ))
                    .hint("use `-i` for images"));
                }
                let names =
                    vec![store::RootName { tag: reference.tag.clone(), reference: Some(reference.clone()) }];
                work(&source, &[Root { descriptor, names, origin: None, is_root_bundle: false }])
            }
        }
    }
}

/// Opens a tar or folder of any known kind.
pub(super) fn open_store(context: &Context<'_>, path: &Path) -> Result<Box<dyn ImageStore>, Failure> {
    Ok(store::open(path, &system::temporary_folder(context.env))?)
}

/// Opens a tar or folder that has to be an OCI layout.
pub(super) fn open_oci(context: &Context<'_>, path: &Path) -> Result<Box<dyn ImageStore>, Failure> {
    let store = open_store(context, path)?;
    match store.kind() {
        StoreKind::OciLayoutTar | StoreKind::OciLayoutDirectory => Ok(store),
        other => {
            Err(Failure::refused(format!("`{}` is {}, expected an OCI layout", path.display(), other.name()))
                .hint("use `--tar`, which takes every kind"))
        }
    }
}

/// Tells whether a manifest is a bundle; `None` for an index.
pub(super) fn is_bundle(source: &dyn ImageSource, descriptor: &Descriptor) -> Result<Option<bool>, Failure> {
    let document = source.read_document(descriptor)?;
    let Some(manifest) = document.manifest() else { return Ok(None) };
    let config = source.read_config(manifest)?;
    Ok(Some(config.is_some_and(|config| config.config.labels.contains_key(keys::BUNDLE_LABEL))))
}

/// Chooses the one root that a command works on.
pub(super) fn only_root<'a>(place: &str, roots: &'a [Root]) -> Result<&'a Root, Failure> {
    let marked: Vec<&Root> = roots.iter().filter(|root| root.is_root_bundle).collect();
    match (roots, marked.as_slice()) {
        ([root], _) => Ok(root),
        (_, [root]) => Ok(root),
        (roots, _) => {
            let digests =
                text::quoted_list(roots.iter().take(10).map(|root| root.descriptor.digest.to_string()));
            Err(Failure::refused(format!("{place} holds {} images, expected one: {digests}", roots.len()))
                .hint(
                    "copy the one you want into a tar of its own, or push all with `copy` and pull by digest",
                ))
        }
    }
}

/// Compares with the digest the user demands.
pub(super) fn check_expected(expected: Option<&Digest>, found: &Digest) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != found => {
            Err(Failure::difference(format!("the image has digest `{found}`, expected `{expected}`")))
        }
        _ => Ok(()),
    }
}

/// Reads the text of a lock file.
pub(super) fn read_lock(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::from(FileError::io("read", path, error));
    let file = std::fs::File::open(path).map_err(failed)?;
    let bytes = read_bounded(file, limits::LOCK_BYTES).map_err(|error| match error {
        TooLarge::Io(error) => failed(error),
        TooLarge::Limit { limit } => Failure::refused(format!(
            "`{}` has more than {limit} bytes, which no lock file needs",
            path.display()
        )),
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::misuse(format!("`{}` is not UTF-8 text, expected a lock file", path.display())))
}

/// Reads a BundleLock.
fn read_bundle_lock(path: &Path) -> Result<BundleLock, Failure> {
    BundleLock::parse(&read_lock(path)?)
        .map_err(|error| Failure::misuse(format!("`{}` is not a valid BundleLock: {error}", path.display())))
}
