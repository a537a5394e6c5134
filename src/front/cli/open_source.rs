//! Opens a command's source and gathers the images that belong to it.

use std::collections::BTreeMap;
use std::path::Path;

use super::resolve::{RegistryOptions, Source};
use super::stores::{
    about_version, complete, open_depot_image, open_oci, open_store, open_tar_url, read_lock,
};
use crate::depot::Version;
use crate::front::context::Context;
use crate::front::failure::{Failure, Kind, message};
use crate::front::flag::Flag;
use crate::front::main_image::{choose_one, main_member, stored_roots};
use crate::front::registries;
use crate::lock::{BundleLock, ImagesLock};
use crate::model::{Digest, Reference, Tag, Target};
use crate::registry::Client;
use crate::store::{ImageName, LeftOut, Root, Selector, Store, StoreKind};
use crate::transfer::events::Observer;
use crate::transfer::{
    self, Attached, Collection, Gathering, ImageLocator, ImageSource as _, Member, Role, TransferError,
};

/// An opened source; its images are not gathered yet.
pub(super) struct OpenedSource {
    wanted: Wanted,
    store: Option<Store>,
    /// The version of an image store's tag.
    version: Option<Version>,
    /// The selected image of a store, and what belongs to it.
    selected: Option<Vec<Root>>,
    client: Option<Client>,
}

/// The requested source.
enum Wanted {
    Bundle(Reference),
    Image(Reference),
    BundleLock(BundleLock),
    ImagesLock(ImagesLock),
    Store,
}

/// Which further images are gathered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    /// The images that bundles name, from registries.
    pub(super) thick: bool,
    /// Also for a tar: its images' origins may be asked.
    pub(super) inflate: bool,
    /// Manifests attached to each image.
    pub(super) attached: Attached,
    /// Accept a bundle for `--image`.
    pub(super) bundles_as_images: bool,
}

impl OpenedSource {
    /// Opens a source; `remote` tells whether registries are needed for anything.
    pub(super) fn open(
        context: &Context<'_>,
        source: &Source,
        registry: &RegistryOptions,
        remote: bool,
    ) -> Result<Self, Failure> {
        let (mut store, mut version) = (None, None);
        let wanted = match source {
            Source::Bundle(reference) => Wanted::Bundle(reference.clone()),
            Source::Image(reference) => Wanted::Image(reference.clone()),
            Source::Lock(path) => lock(path)?,
            Source::Tar(path) => {
                store = Some(open_store(context, path)?);
                Wanted::Store
            }
            Source::OciTar(path) => {
                store = Some(open_oci(context, path)?);
                Wanted::Store
            }
            Source::WebTar(url) => {
                store = Some(open_tar_url(context, url, registry)?);
                Wanted::Store
            }
            Source::Store(reference) => {
                let opened = open_depot_image(context, reference, registry)?;
                (store, version) = (Some(opened.store), opened.version);
                Wanted::Store
            }
        };
        let client = match remote || store.is_none() {
            true => Some(registries::client(registry, context.env, &context.ui)?),
            false => None,
        };
        Ok(Self { wanted, store, version, selected: None, client })
    }

    /// Reduces a store to the selected image and what belongs to it.
    pub(super) fn select(self, selector: Option<&Selector>) -> Result<Self, Failure> {
        self.select_expected(selector, None)
    }

    /// As [`OpenedSource::select`]; the digest that the image has to have may select it, too.
    pub(super) fn select_expected(
        mut self,
        selector: Option<&Selector>,
        expected: Option<&Digest>,
    ) -> Result<Self, Failure> {
        if let Some(store) = &self.store
            && let Some(selector) = transfer::selector_for(store, selector, expected)
        {
            self.selected = Some(transfer::select(store, &selector)?);
        }
        Ok(self)
    }

    /// Reads the blobs that a tar lacks from other sources.
    pub(super) fn complete(
        mut self,
        context: &Context<'_>,
        bases: &[Source],
        registry: &RegistryOptions,
    ) -> Result<Self, Failure> {
        match &mut self.store {
            Some(store) => complete(context, store, bases, registry).map(|()| self),
            None => Ok(self),
        }
    }

    /// Returns the blobs that a tar lacks and that none of its bases has.
    pub(super) fn lacking(&self) -> BTreeMap<Digest, &LeftOut> {
        let lacking = self.store.iter().flat_map(|store| store.lacking());
        lacking.map(|blob| (blob.digest.clone(), blob)).collect()
    }

    /// Chooses the main image; with `exactly` another one is an error.
    pub(super) fn main_member<'a>(
        &self,
        collection: &'a Collection,
        locator: &ImageLocator<'_>,
        exactly: bool,
    ) -> Result<&'a Member, Failure> {
        main_member(collection, &locator.label(), exactly).map_err(|failure| match self.is_store() {
            true => failure.hint(choose_one()),
            false => failure,
        })
    }

    /// Returns the client; it is there when the source was opened as remote or is a registry.
    pub(super) fn client(&self) -> Result<&Client, Failure> {
        let what = "a source without a registry was asked for its client";
        self.client.as_ref().ok_or_else(|| TransferError::Internal { what }.into())
    }

    /// Tells whether the source is a tar that imgpkg wrote.
    pub(super) fn is_imgpkg_tar(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.kind() == StoreKind::ImgpkgTar)
    }

    /// Tells whether the source is a tar or folder.
    pub(super) fn is_store(&self) -> bool {
        self.store.is_some()
    }

    /// Returns the ImagesLock, if the source is one.
    pub(super) fn images_lock(&self) -> Option<&ImagesLock> {
        match &self.wanted {
            Wanted::ImagesLock(lock) => Some(lock),
            _ => None,
        }
    }

    /// Returns the source as one place.
    pub(super) fn locator(&self) -> Result<ImageLocator<'_>, Failure> {
        match &self.store {
            Some(store) => Ok(ImageLocator::over(store, self.client.as_ref())),
            None => Ok(ImageLocator::remote(self.client()?)),
        }
    }

    /// Runs work with the source as one place.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&ImageLocator<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let locator = self.locator()?;
        work(&locator).map_err(|failure| match &self.version {
            Some(version) if failure.kind == Kind::Difference => about_version(failure, version),
            _ => failure,
        })
    }

    /// Gathers the images.
    ///
    /// Errors: a bundle for `--image`, an image for `--bundle`.
    pub(super) fn gather(
        &self,
        locator: &ImageLocator<'_>,
        depth: Depth,
        registry: &RegistryOptions,
        observer: &dyn Observer,
    ) -> Result<Collection, Failure> {
        let may_ask = !self.is_store() || depth.inflate;
        let names_others = !matches!(self.wanted, Wanted::Image(_) | Wanted::ImagesLock(_));
        let gathering = Gathering {
            thick: may_ask && names_others && (depth.thick || depth.inflate),
            attached: if may_ask { depth.attached } else { Attached::default() },
            concurrency: registry.concurrency,
        };
        let roots = self.roots(locator, registry.concurrency)?;
        let collection = transfer::gather(locator, roots, &gathering, observer)?;
        self.check_kinds(&collection, depth)?;
        Ok(collection)
    }

    fn roots(&self, locator: &ImageLocator<'_>, concurrency: usize) -> Result<Vec<Member>, Failure> {
        match &self.wanted {
            Wanted::Bundle(reference) | Wanted::Image(reference) => {
                Ok(vec![remote_root(locator, reference, reference.tag.clone())?])
            }
            Wanted::BundleLock(lock) => Ok(vec![remote_root(locator, &lock.image, lock.tag.clone())?]),
            Wanted::ImagesLock(lock) => {
                let root = |image: &crate::lock::LockedImage| {
                    let document = locator.fetch(&image.image.repository, &image.image.target())?;
                    let origin = Some(image.image.clone());
                    let (mut descriptor, names) = (document.descriptor(), Vec::new());
                    image.write_annotations(&mut descriptor.annotations);
                    Ok(Member { descriptor, names, origin, role: Role::Root, bundle: None })
                };
                let roots = transfer::parallel_map(&lock.images, concurrency, root)?;
                if roots.is_empty() {
                    return Err(Failure::refused(
                        "the ImagesLock names no image, so there is nothing to copy",
                    ));
                }
                Ok(roots)
            }
            Wanted::Store => {
                let all = self.store.as_ref().map(|store| store.roots());
                Ok(stored_roots(self.selected.as_deref().or(all).unwrap_or_default()))
            }
        }
    }

    fn check_kinds(&self, collection: &Collection, depth: Depth) -> Result<(), Failure> {
        let first = collection.members.first();
        let is_bundle = first.is_some_and(|member| member.bundle.is_some());
        let kind = match first.is_some_and(|member| member.descriptor.is_index()) {
            true => "an index",
            false => "a plain image",
        };
        match &self.wanted {
            Wanted::Bundle(reference) if !is_bundle => Err(Failure::refused(format!(
                "`{reference}` is {kind}, expected a bundle"
            ))
            .hint(message!("use ", Flag::IMAGE.kind(), " for images"))),
            Wanted::BundleLock(lock) if !is_bundle => {
                Err(Failure::refused(format!("`{}` is {kind}, expected a bundle", lock.image)))
            }
            Wanted::Image(reference) if is_bundle && !depth.bundles_as_images => Err(Failure::refused(
                format!("`{reference}` is a bundle, expected a plain image"),
            )
            .hint(message!(
                "use ",
                Flag::BUNDLE.kind(),
                " for bundles; with ",
                Flag::THIN,
                " without the images they name"
            ))),
            Wanted::ImagesLock(_) => match collection.members.iter().find(|member| member.bundle.is_some()) {
                Some(member) => Err(TransferError::BundleInLock { image: member.label() }.into()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Finds the requested image in its repository.
fn remote_root(
    locator: &ImageLocator<'_>,
    reference: &Reference,
    tag: Option<Tag>,
) -> Result<Member, TransferError> {
    let target = reference.target();
    let document = locator.fetch(&reference.repository, &target)?;
    // Without tag and digest `latest` was meant, and is kept.
    let tag = match target {
        Target::Tag(tag) => Some(tag),
        Target::Digest(_) => tag,
    };
    let digest = document.digest().clone();
    let name = match &tag {
        Some(tag) => reference.repository.with_tag(tag.clone()),
        None => reference.repository.with_digest(digest.clone()),
    };
    Ok(Member {
        descriptor: document.descriptor(),
        names: vec![ImageName { tag, reference: Some(name) }],
        origin: Some(reference.repository.with_digest(digest)),
        role: Role::Root,
        bundle: None,
    })
}

/// Reads a lock file of either kind.
fn lock(path: &Path) -> Result<Wanted, Failure> {
    let text = read_lock(path)?;
    let invalid = |kind: &str, error: &dyn std::fmt::Display| {
        Failure::misuse(format!("`{}` is not a valid {kind}: {error}", path.display()))
    };
    // Each kind's own parser explains best what is wrong with a file that says it is of that kind.
    if text.lines().any(|line| {
        line.split_once(':').is_some_and(|(key, value)| {
            key.trim() == "kind" && value.trim().trim_matches(['"', '\'']) == "ImagesLock"
        })
    }) {
        return ImagesLock::parse(&text)
            .map(Wanted::ImagesLock)
            .map_err(|error| invalid("ImagesLock", &error));
    }
    BundleLock::parse(&text).map(Wanted::BundleLock).map_err(|error| invalid("BundleLock", &error))
}
