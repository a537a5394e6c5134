//! What `push` packs, wherever it goes: the earlier image, a bundle with all it names, and the result.

use std::path::Path;

use super::resolve::{BaseImage, PushOptions};
use super::stores;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::ImageOutcome;
use crate::front::{registries, system};
use crate::model::{Reference, Tag};
use crate::store::{NamedImage, Store};
use crate::transfer::events::Observer;
use crate::transfer::{
    self, Attached, Collection, Gathering, ImageLocator, Member, PackRequest, PackedImage, Role,
};

/// A bundle that is packed and goes along with all it names.
pub(super) struct Inflated<'a> {
    pub(super) request: &'a PackRequest,
    pub(super) names: &'a [Reference],
    pub(super) attached: Attached,
}

impl Inflated<'_> {
    /// Packs the bundle, finds what it names, and has all of it written somewhere.
    pub(super) fn pack<T>(
        &self,
        context: &Context<'_>,
        options: &PushOptions,
        observer: &dyn Observer,
        write: impl FnOnce(&ImageLocator<'_>, &Collection) -> Result<T, Failure>,
    ) -> Result<(PackedImage, T), Failure> {
        let client = registries::client(&options.registry, context.env, &context.ui)?;
        let folder = system::temporary_folder(context.env);
        let (packed, source) = transfer::pack_to_spool(self.request, &folder, observer)?;
        let locator = ImageLocator::over(&source, Some(&client));
        let root = Member {
            names: NamedImage::new(packed.manifest.descriptor(), self.names).names,
            descriptor: packed.manifest.descriptor(),
            origin: None,
            role: Role::Root,
            bundle: None,
        };
        let concurrency = options.registry.concurrency;
        let gathering = Gathering { thick: true, attached: self.attached, concurrency };
        let collection = transfer::gather(&locator, vec![root], &gathering, observer)?;
        let written = write(&locator, &collection)?;
        Ok((packed, written))
    }
}

/// Opens the tar with the earlier image, if there is one.
pub(super) fn base_store(context: &Context<'_>, options: &PushOptions) -> Result<Option<Store>, Failure> {
    match &options.base {
        Some(BaseImage::Tar(path)) => stores::open_store(context, path).map(Some),
        _ => Ok(None),
    }
}

pub(super) fn outcome(
    packed: &PackedImage,
    tags: Vec<Tag>,
    name: Option<&Reference>,
    path: Option<&Path>,
) -> ImageOutcome {
    ImageOutcome {
        repository: name.map(|name| name.repository.clone()),
        tags,
        path: path.map(Path::to_owned),
        ..ImageOutcome::of_packed(packed)
    }
}
