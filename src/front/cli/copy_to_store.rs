//! `copy --to-store`: the tags of each image in an image store, and the result.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::deltas::{incomplete, lacking_below};
use super::resolve::CopyOptions;
use super::stores::objects;
use crate::depot::{Depot, Objects, StoreReference};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::main_image::choose_one;
use crate::front::outcome::StoredImage;
use crate::model::{Digest, Tag};
use crate::store::LeftOut;
use crate::transfer::events::Observer;
use crate::transfer::{self, Collection, DepotRequest, ImageSource, Member, Role};

/// Writes images into a store; returns what came of the main one.
pub(super) fn write_into(
    objects: Arc<dyn Objects>,
    source: &dyn ImageSource,
    request: &DepotRequest,
    main: &Digest,
    observer: &dyn Observer,
) -> Result<StoredImage, Failure> {
    let depot = Depot::create(objects)?;
    let report = transfer::copy_to_depot(source, &depot, request, observer)?;
    let pushed = report.versions.iter().filter(|version| version.digest == *main);
    let pushed = pushed.map(|version| version.pushed).max().map(|pushed| pushed.to_string());
    Ok(StoredImage {
        place: depot.label(),
        pushed: pushed.unwrap_or_default(),
        sent: report.sent,
        reused: report.reused,
    })
}

/// A copy into a store.
pub(super) struct ToStore<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) source: &'a dyn ImageSource,
    pub(super) store: &'a StoreReference,
    pub(super) options: &'a CopyOptions,
    /// What a delta tar was written without, and no base has.
    pub(super) lacking: BTreeMap<Digest, &'a LeftOut>,
}

impl ToStore<'_> {
    /// Copies the images of a collection.
    ///
    /// Returns the result for the main image, with its tags.
    pub(super) fn copy(
        &self,
        collection: &Collection,
        main: &Digest,
        observer: &dyn Observer,
    ) -> Result<(StoredImage, Vec<Tag>), Failure> {
        let roots = collection.members.iter().filter(|member| member.role == Role::Root).count();
        if self.store.tag.is_some() && roots > 1 {
            let message = message!(
                Flag::TO_STORE,
                format!(" has a tag, but `{}` holds {roots} images", self.source.label())
            );
            return Err(Failure::misuse(message)
                .hint("leave the tag out: the recorded tags are kept")
                .hint(choose_one()));
        }
        let tags = |member: &Member| self.tags_of(member, main);
        let images = collection.for_depot(self.source, &tags)?.map_err(|digest| {
            Failure::refused(format!("image `{digest}` of `{}` has no tag", self.source.label())).hint(
                message!("name one with ", Flag::TO_STORE.with("URL:TAG"), " or ", Flag::TAG.with("TAG")),
            )
        })?;
        let objects = objects(self.context, &self.store.address, &self.options.registry)?;
        self.refuse_incomplete(Depot::find(Arc::clone(&objects))?.as_ref(), collection)?;
        let request = DepotRequest {
            images,
            concurrency: self.options.registry.concurrency,
            include_non_distributable: self.options.include_non_distributable,
            verify_upload: self.options.verify_upload,
        };
        let stored = write_into(objects, self.source, &request, main, observer)?;
        let tags = collection.member(main).map(|member| self.tags_of(member, main)).unwrap_or_default();
        Ok((stored, tags))
    }

    /// Refuses a delta tar if the store does not have all that it lacks, before anything is written.
    fn refuse_incomplete(&self, depot: Option<&Depot>, collection: &Collection) -> Result<(), Failure> {
        let mut missing = lacking_below(self.source, collection, &self.lacking)?;
        if let (Some(depot), false) = (depot, missing.is_empty()) {
            let (place, concurrency) = (self.store.to_string(), self.options.registry.concurrency);
            let there = transfer::those_of(Path::new(&place), depot.blobs(), &missing, concurrency)?;
            missing.retain(|blob| there.blob_size(&blob.digest).is_none());
        }
        match missing.as_slice() {
            [] => Ok(()),
            missing => Err(incomplete(&self.source.label(), missing, ", which the store does not have")),
        }
    }

    /// Returns the tags of an image: the given or the recorded ones, and for the main image those of `--tag`.
    fn tags_of(&self, member: &Member, main: &Digest) -> Vec<Tag> {
        let mut tags = match &self.store.tag {
            Some(tag) => vec![tag.clone()],
            None => member.tags(),
        };
        if member.descriptor.digest == *main {
            for tag in &self.options.tags {
                if !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
        }
        tags
    }
}
