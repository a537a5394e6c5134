//! Opens the inputs of commands: a tar, a folder, a lock file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::resolve::{RegistryOptions, Source, TarUrl};
use crate::depot::{
    Address, BucketObjects, Depot, FolderObjects, Objects, OpenedImage, StoreReference, Version, WebObjects,
};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::{registries, system};
use crate::model::limits;
use crate::registry::WebFile;
use crate::store::{self, LeftOut, Store, StoreError, StoreKind};
use crate::stream::{FileError, FileLock, read_text_file};
use crate::transfer::{self, TransferError};

/// Opens a tar or folder of any known kind.
pub(super) fn open_store(context: &Context<'_>, path: &Path) -> Result<Store, Failure> {
    Ok(store::open(path, &system::temporary_folder(context.env))?)
}

/// Opens a tar at a URL.
pub(super) fn open_tar_url(
    context: &Context<'_>,
    url: &TarUrl,
    registry: &RegistryOptions,
) -> Result<Store, Failure> {
    let (file, name) = named_web_file(context, url, registry)?;
    Ok(store::open_parts(file, &name, &system::temporary_folder(context.env))?)
}

/// Returns the file at a URL, and its name in messages.
fn named_web_file(
    context: &Context<'_>,
    url: &TarUrl,
    registry: &RegistryOptions,
) -> Result<(Box<WebFile>, PathBuf), Failure> {
    let file = registries::web_file(url.expose(), registry, context.env, &context.ui)?;
    let name = PathBuf::from(file.label());
    Ok((Box::new(file), name))
}

/// Opens a tar or folder of any known kind, every archive directly in a folder, or an image store.
pub(super) fn open_stores(
    context: &Context<'_>,
    source: &Source,
    registry: &RegistryOptions,
) -> Result<Vec<Store>, Failure> {
    let path = match source {
        Source::Tar(path) | Source::OciTar(path) | Source::Lock(path) => path,
        Source::WebTar(url) => return Ok(vec![open_tar_url(context, url, registry)?]),
        Source::Store(reference) => return Ok(vec![open_depot_image(context, reference, registry)?.store]),
        Source::Bundle(_) | Source::Image(_) => {
            let what = "an image in a registry was to be opened as a tar";
            return Err(TransferError::Internal { what }.into());
        }
    };
    let is_one = !path.is_dir() || path.join("oci-layout").exists() || path.join("index.json").exists();
    let files = if is_one { Vec::new() } else { files_in(path)? };
    let mut stores = Vec::new();
    for file in files {
        match store::open(&file, &system::temporary_folder(context.env)) {
            Ok(store) => stores.push(store),
            Err(StoreError::UnknownKind { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // A folder without an archive is opened as a layout, for its error.
    if stores.is_empty() { Ok(vec![open_store(context, path)?]) } else { Ok(stores) }
}

/// Lists the files directly in a folder, in order.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| FileError::io("list", folder, error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)?.take(limits::CANDIDATES) {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Takes what a tar was written without from tars, folders, image stores and repositories.
pub(super) fn complete(
    context: &Context<'_>,
    store: &mut Store,
    bases: &[Source],
    registry: &RegistryOptions,
) -> Result<(), Failure> {
    for base in bases {
        let wanted: Vec<LeftOut> = store.lacking().cloned().collect();
        let base = match base {
            Source::Tar(path) | Source::OciTar(path) | Source::Lock(path) => open_store(context, path)?,
            Source::WebTar(url) => open_tar_url(context, url, registry)?,
            Source::Store(StoreReference { address, tag: None, digest: None }) => {
                // Not only what tags point at now: any version may be the one that was carried.
                let depot = Depot::open(objects(context, address, registry)?)?;
                let place = PathBuf::from(depot.label());
                transfer::those_of(&place, depot.blobs(), &wanted, registry.concurrency)?
            }
            Source::Store(reference) => open_depot_image(context, reference, registry)?.store,
            Source::Bundle(reference) | Source::Image(reference) => {
                let client = registries::client(registry, context.env, &context.ui)?;
                transfer::those_in_repository(client, reference, &wanted, registry.concurrency)?
            }
        };
        store.complete_from(base);
    }
    Ok(())
}

/// Opens an image of a store.
pub(super) fn open_depot_image(
    context: &Context<'_>,
    reference: &StoreReference,
    registry: &RegistryOptions,
) -> Result<OpenedImage, Failure> {
    let depot = Depot::open(objects(context, &reference.address, registry)?)?;
    Ok(depot.open_image(reference.tag.as_ref(), reference.digest.as_ref())?)
}

/// Returns the bucket or folder with the objects of a store.
pub(super) fn objects(
    context: &Context<'_>,
    address: &Address,
    registry: &RegistryOptions,
) -> Result<Arc<dyn Objects>, Failure> {
    match address {
        Address::Folder(path) => Ok(Arc::new(FolderObjects::new(path.clone()))),
        Address::Bucket { bucket, prefix } => {
            let client = registries::bucket(bucket, prefix, registry, context.env, &context.ui)?;
            Ok(Arc::new(BucketObjects::new(client, address.to_string())))
        }
        Address::Web(url) => {
            let client = registries::web(url, registry, context.env, &context.ui)?;
            Ok(Arc::new(WebObjects::new(client, url.clone())))
        }
    }
}

/// Adds the version of the tag to a failure.
pub(super) fn about_version(failure: Failure, version: &Version) -> Failure {
    let Version { tag, digest, pushed } = version;
    failure.hint(format!("`{tag}` is `{digest}`, pushed at {pushed}"))
}

/// Opens a tar or folder that has to be an OCI layout.
pub(super) fn open_oci(context: &Context<'_>, path: &Path) -> Result<Store, Failure> {
    expect_oci(open_store(context, path)?, path)
}

/// Opens a tar or folder also where its facts contradict each other, to report them.
pub(super) fn open_to_inspect(context: &Context<'_>, path: &Path) -> Result<Store, Failure> {
    Ok(store::open_to_inspect(path, &system::temporary_folder(context.env))?)
}

/// Opens a tar at a URL also where its facts contradict each other, to report them.
pub(super) fn open_url_to_inspect(
    context: &Context<'_>,
    url: &TarUrl,
    registry: &RegistryOptions,
) -> Result<Store, Failure> {
    let (file, name) = named_web_file(context, url, registry)?;
    Ok(store::open_parts_to_inspect(file, &name, &system::temporary_folder(context.env))?)
}

/// Checks that a store is an OCI layout.
pub(super) fn expect_oci(store: Store, path: &Path) -> Result<Store, Failure> {
    match store.kind() {
        StoreKind::OciLayoutTar | StoreKind::OciLayoutDirectory => Ok(store),
        other => {
            Err(Failure::refused(format!("`{}` is {}, expected an OCI layout", path.display(), other.name()))
                .hint(message!("use ", Flag::TAR, ", which takes every kind")))
        }
    }
}

/// Locks a tar, or a layout folder, from before it is read until it is changed; another process waits meanwhile.
pub(super) fn hold(context: &Context<'_>, path: &Path) -> Result<Option<FileLock>, Failure> {
    let shown = path.display();
    let note = || context.ui.note(&format!("waiting for another process that changes `{shown}`"));
    let held = match path.is_dir() {
        true => FileLock::take(&path.join("index.json"), note)?,
        false => FileLock::take(path, note)?,
    };
    if held.is_none() {
        context.ui.warning(&format!(
            "the file system of `{shown}` has no locks: another process at the same time may undo this change"
        ));
    }
    Ok(held)
}

/// Reads the text of a lock file.
pub(super) fn read_lock(path: &Path) -> Result<String, Failure> {
    read_text_file(path, limits::LOCK_BYTES).map_err(|error| match error {
        FileError::NotText { .. } => Failure::misuse(format!("{error}, expected a lock file")),
        error => Failure::of_input(error),
    })
}
