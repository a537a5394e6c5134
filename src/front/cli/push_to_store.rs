//! `push --to-store`: packs folders and files straight into an image store, without a tar in between.

use super::copy_to_store::write_into;
use super::packed::{Inflated, base_store, outcome};
use super::resolve::{PushKind, PushOptions};
use super::stores::objects;
use crate::depot::{Address, StoreReference};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::outcome::{ImageOutcome, StoredImage};
use crate::front::packing::{app_request, base_of_store, request};
use crate::front::reporter::{self, Wording};
use crate::front::system;
use crate::model::{Descriptor, Digest, Reference, Tag};
use crate::store::NamedImage;
use crate::transfer::events::Observer;
use crate::transfer::{self, Collection, DepotImage, DepotRequest, ImageSource, PackedImage};

/// Packs an image that does not run, and pushes it.
pub(super) fn run(
    context: &Context<'_>,
    options: &PushOptions,
    store: &StoreReference,
    tags: &[Tag],
) -> Result<ImageOutcome, Failure> {
    let to = ToStore { context, options, store, tags };
    to.refuse_itself()?;
    let folder = system::temporary_folder(context.env);
    let (packed, stored) = reporter::watch(&context.ui, Wording::Uploaded, |observer| {
        let (packed, stored) = match (options.kind, options.inflate) {
            (PushKind::App, _) => {
                let earlier = base_store(context, options)?;
                let base = earlier.as_ref().map(base_of_store).transpose()?;
                let request = app_request(options, None)?;
                let (packed, source) = transfer::pack_app(&request, base.as_ref(), &folder, observer)?;
                let stored = to.push(&source, packed.manifest.descriptor(), observer)?;
                (packed, stored)
            }
            (_, Some(attached)) => {
                let (request, names) = (request(options, None)?, Vec::<Reference>::new());
                let bundle = Inflated { request: &request, names: &names, attached };
                bundle.pack(context, options, observer, |locator, collection| {
                    to.push_collection(locator, collection, observer)
                })?
            }
            _ => {
                let (packed, source) = transfer::pack_to_spool(&request(options, None)?, &folder, observer)?;
                let stored = to.push(&source, packed.manifest.descriptor(), observer)?;
                (packed, stored)
            }
        };
        Ok::<(PackedImage, StoredImage), Failure>((packed, stored))
    })?;
    let outcome = outcome(&packed, tags.to_vec(), None, None);
    Ok(ImageOutcome { store: Some(stored), ..outcome })
}

/// A store that gets an image that is packed now.
pub(super) struct ToStore<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) options: &'a PushOptions,
    pub(super) store: &'a StoreReference,
    pub(super) tags: &'a [Tag],
}

impl ToStore<'_> {
    /// Refuses a store inside of a folder that is packed: each push would hold all those before it.
    pub(super) fn refuse_itself(&self) -> Result<(), Failure> {
        let Address::Folder(folder) = &self.store.address else { return Ok(()) };
        // The store's folder need not be there yet, but the first of those above it that is there decides.
        let found = folder.ancestors().find_map(|folder| std::fs::canonicalize(folder).ok());
        let placed = self.options.runnable.iter().flat_map(|runnable| &runnable.roots);
        let roots = self.options.contents.roots.iter().chain(placed);
        for root in roots.filter(|root| root.is_dir()) {
            let packed = std::fs::canonicalize(root).ok();
            if let (Some(found), Some(packed)) = (&found, packed)
                && found.starts_with(&packed)
            {
                return Err(Failure::misuse(message!(
                    Flag::TO_STORE,
                    format!(" is inside of `{}`, which is packed", root.display())
                ))
                .hint("each push would hold all images before it; use a folder beside it"));
            }
        }
        Ok(())
    }

    /// Pushes an image with nothing beside it.
    pub(super) fn push(
        &self,
        source: &dyn ImageSource,
        root: Descriptor,
        observer: &dyn Observer,
    ) -> Result<StoredImage, Failure> {
        let main = root.digest.clone();
        let root = NamedImage::unnamed(root);
        let images = vec![DepotImage { root, tags: self.tags.to_vec(), belonging: Vec::new() }];
        self.write(source, images, &main, observer)
    }

    fn push_collection(
        &self,
        source: &dyn ImageSource,
        collection: &Collection,
        observer: &dyn Observer,
    ) -> Result<StoredImage, Failure> {
        let images = collection
            .for_depot(source, &|_| self.tags.to_vec())?
            .map_err(|digest| Failure::misuse(format!("image `{digest}` has no tag")))?;
        let Some(main) = images.first().map(|image| image.root.descriptor.digest.clone()) else {
            return Err(transfer::TransferError::Internal { what: "a bundle is not among its images" }.into());
        };
        self.write(source, images, &main, observer)
    }

    fn write(
        &self,
        source: &dyn ImageSource,
        images: Vec<DepotImage>,
        main: &Digest,
        observer: &dyn Observer,
    ) -> Result<StoredImage, Failure> {
        let registry = &self.options.registry;
        let request = DepotRequest {
            images,
            concurrency: registry.concurrency,
            include_non_distributable: false,
            verify_upload: self.options.verify_upload,
        };
        let objects = objects(self.context, &self.store.address, registry)?;
        write_into(objects, source, &request, main, observer)
    }
}
