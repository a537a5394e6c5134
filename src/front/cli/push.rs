//! `push`: folders and files into an image, in a registry or in a tar.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Context;
use super::args::PushArgs;
use super::resolve::{self, BaseImage, Contents, Destination, PushKind, PushOptions, TarTarget};
use super::sources;
use crate::front::failure::Failure;
use crate::front::outputs::{self, ImageKind, ImageOutcome, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::{registries, system};
use crate::lock::BundleLock;
use crate::model::{Reference, Tag};
use crate::pack::{ImageOptions, LayerForm, LayerOptions, Profile, SourceOptions};
use crate::registry::{Client, RegistryError};
use crate::store::ImageStore;
use crate::store::layout::LayoutTarget;
use crate::stream::{AtomicFile, FileError};
use crate::transfer::events::Observer;
use crate::transfer::{
    self, Base, ImageSource as _, PackRequest, PackedImage, PushRequest, RegistrySource, SourceRequest,
    StoreSource, TransferError,
};
use crate::tree::Filter;

/// Permissions of lock files, as imgpkg's.
const LOCK_MODE: u32 = 0o600;

pub(super) fn run(context: &Context<'_>, args: &PushArgs) -> Result<Outcome, Failure> {
    let options = resolve::push(args, context.env)?;
    outputs::produce(&options.results, || match &options.destination {
        Destination::Registry(name) => to_registry(context, &options, name),
        Destination::OciTar { target, name } => to_tar(context, &options, target, name.as_ref()),
    })
}

fn to_tar(
    context: &Context<'_>,
    options: &PushOptions,
    target: &TarTarget,
    name: Option<&Reference>,
) -> Result<ImageOutcome, Failure> {
    target.check()?;
    let layout = layout_target(context, target);
    let names: Vec<Reference> = name.map(|name| references(name, &options.tags)).unwrap_or_default();
    let store = base_store(context, options)?;
    let mut packed = reporter::watch(&context.ui, Wording::Written, |observer| match options.kind {
        PushKind::Source => {
            let request = source_request(options, Some(&layout));
            let store = store.as_deref().map(StoreSource);
            let base = store.as_ref().map(base_of_store).transpose()?;
            Ok::<_, Failure>(transfer::pack_source_to_layout(
                &request,
                base.as_ref(),
                &layout,
                &names,
                observer,
            )?)
        }
        _ => Ok(transfer::pack_to_layout(&request(options, Some(&layout)), &layout, &names, observer)?),
    })?;
    if let Some(spool) = packed.spool.take() {
        send_to_stdout(spool)?;
    }
    let tags = names.iter().filter_map(|name| name.tag.clone()).collect();
    Ok(outcome(&packed, tags, None, Some(target.path())))
}

/// Opens the tar with the earlier image, if there is one.
fn base_store(context: &Context<'_>, options: &PushOptions) -> Result<Option<Box<dyn ImageStore>>, Failure> {
    match &options.base {
        Some(BaseImage::Tar(path)) => sources::open_store(context, path).map(Some),
        _ => Ok(None),
    }
}

fn base_of_store<'a>(store: &'a StoreSource<'_>) -> Result<Base<'a>, Failure> {
    let root = sources::only_root(&store.place(), store.0.roots())?;
    Ok(Base::of(store, &root.descriptor)?)
}

fn to_registry(
    context: &Context<'_>,
    options: &PushOptions,
    name: &Reference,
) -> Result<ImageOutcome, Failure> {
    let client = registries::client(&options.registry, context.env, &context.ui)?;
    let tags: Vec<Tag> = references(name, &options.tags).into_iter().filter_map(|name| name.tag).collect();
    let store = base_store(context, options)?;
    let packed = reporter::watch(&context.ui, Wording::Uploaded, |observer| match options.kind {
        PushKind::Source => {
            let store = store.as_deref().map(StoreSource);
            let push = SourcePush { context, options, client: &client, tags: &tags, name };
            push.run(store.as_ref(), observer)
        }
        _ => {
            let folder = system::temporary_folder(context.env);
            let (packed, source) = transfer::pack_to_spool(&request(options, None), &folder, observer)?;
            let push = push_request(options, name, &tags, &packed);
            transfer::push_to_registry(&source, &client, &push, observer)?;
            Ok(packed)
        }
    })?;
    if let Some(path) = &options.lock_output {
        let image = name.repository.with_digest(packed.manifest.digest().clone());
        let lock = BundleLock { image, tag: tags.first().cloned() };
        AtomicFile::write_whole(path, lock.to_yaml().as_bytes(), LOCK_MODE)?;
    }
    Ok(outcome(&packed, tags, Some(name), None))
}

fn push_request(options: &PushOptions, name: &Reference, tags: &[Tag], packed: &PackedImage) -> PushRequest {
    PushRequest {
        repository: name.repository.clone(),
        roots: vec![(packed.manifest.descriptor(), tags.to_vec())],
        mount_from: Vec::new(),
        concurrency: options.registry.concurrency,
        include_non_distributable: true,
    }
}

/// A source image on its way to a registry.
struct SourcePush<'a> {
    context: &'a Context<'a>,
    options: &'a PushOptions,
    client: &'a Client,
    tags: &'a [Tag],
    name: &'a Reference,
}

impl SourcePush<'_> {
    fn run(&self, store: Option<&StoreSource<'_>>, observer: &dyn Observer) -> Result<PackedImage, Failure> {
        let earlier = match &self.options.base {
            Some(BaseImage::Registry { reference, given }) => {
                let source = RegistrySource::new(self.client, reference.repository.clone());
                match source.resolve(&reference.target()) {
                    Ok(root) => Some((source, root)),
                    // Many registries refuse to talk about what is not there.
                    Err(TransferError::Registry(
                        RegistryError::NotFound { .. } | RegistryError::Refused { .. },
                    )) if !given => None,
                    Err(error) => return Err(error.into()),
                }
            }
            _ => None,
        };
        let base = match (&earlier, store) {
            (Some((source, root)), _) => Some(Base::of(source, root)?),
            (None, Some(store)) => Some(base_of_store(store)?),
            (None, None) => None,
        };
        match self.with_base(base.as_ref(), observer) {
            // A layer of the earlier image is gone, perhaps only since it was asked for: then all is packed.
            Err(error) if base.is_some() && error.may_be_for_want_of_a_blob() => {
                self.with_base(None, observer)
            }
            result => result,
        }
        .map_err(Failure::from)
    }

    fn with_base(
        &self,
        base: Option<&Base<'_>>,
        observer: &dyn Observer,
    ) -> Result<PackedImage, TransferError> {
        let folder = system::temporary_folder(self.context.env);
        let request = source_request(self.options, None);
        let (packed, source) = transfer::pack_source_to_spool(&request, base, &folder, observer)?;
        let push = push_request(self.options, self.name, self.tags, &packed);
        transfer::push_to_registry(&source, self.client, &push, observer)?;
        Ok(packed)
    }
}

/// Returns a reference for each tag: the name's own (`latest` if it has none), then the further ones.
fn references(name: &Reference, further: &[Tag]) -> Vec<Reference> {
    let first = name.tag.clone().unwrap_or_else(Tag::latest);
    let further = further.iter().filter(|tag| **tag != first);
    std::iter::once(&first).chain(further).map(|tag| name.repository.with_tag(tag.clone())).collect()
}

/// Returns where a tar is written: its file, or a spool in the temporary folder for standard output.
pub(super) fn layout_target(context: &Context<'_>, target: &TarTarget) -> LayoutTarget {
    match target {
        TarTarget::File(path) => LayoutTarget::File(path.clone()),
        TarTarget::Stdout => LayoutTarget::Spool(system::temporary_folder(context.env)),
    }
}

/// Copies a finished tar to standard output.
///
/// Errors: also when the reader has gone away, because then it does not have the tar.
pub(super) fn send_to_stdout(mut spool: File) -> Result<(), Failure> {
    let failed = |error| FileError::io("write the tar to", Path::new("standard output"), error);
    spool.rewind().map_err(failed)?;
    let mut out = io::stdout().lock();
    io::copy(&mut spool, &mut out).map_err(failed)?;
    Ok(io::Write::flush(&mut out).map_err(failed)?)
}

fn request(options: &PushOptions, target: Option<&LayoutTarget>) -> PackRequest {
    let Contents { roots, exclusions, .. } = &options.contents;
    let contents = &options.contents;
    let profile = match options.kind {
        PushKind::Bundle => Some(Profile::BUNDLE),
        PushKind::Image => Some(Profile::IMAGE),
        PushKind::Source | PushKind::Detect => None,
    };
    PackRequest {
        roots: roots.clone(),
        profile,
        layer: LayerOptions {
            filter: Filter::exact(exclusions.iter().map(String::as_bytes)),
            symlinks: contents.symlinks,
            preserve_permissions: contents.preserve_permissions,
            compression: contents.compression,
            media_types: contents.media_types,
            threads: system::threads(),
            skip: replaced(target),
            only_bundle_folder: None,
        },
        image: image_options(contents),
        expected_digest: options.expected_digest.clone(),
    }
}

/// Returns the archive that is being replaced: if it lies inside the folder it must not go into the new one.
fn replaced(target: Option<&LayoutTarget>) -> Option<(u64, u64)> {
    match target {
        Some(LayoutTarget::File(path)) => std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino())),
        _ => None,
    }
}

fn image_options(contents: &Contents) -> ImageOptions {
    ImageOptions {
        media_types: contents.media_types,
        platform: contents.platform.clone(),
        labels: contents.labels.clone(),
        annotations: contents.annotations.clone(),
    }
}

fn source_request(options: &PushOptions, target: Option<&LayoutTarget>) -> SourceRequest {
    let contents = &options.contents;
    SourceRequest {
        path: contents.roots.first().cloned().unwrap_or_default(),
        options: SourceOptions {
            exclusions: contents.exclusions.clone(),
            symlinks: contents.symlinks,
            size_limit: contents.size_limit,
            preserve_permissions: contents.preserve_permissions,
            rules: Profile::SOURCE.entries,
            skip: replaced(target),
        },
        layering: contents.layering,
        form: LayerForm {
            compression: contents.compression,
            media_types: contents.media_types,
            threads: system::threads(),
        },
        image: image_options(contents),
        expected_digest: options.expected_digest.clone(),
    }
}

fn outcome(
    packed: &PackedImage,
    tags: Vec<Tag>,
    name: Option<&Reference>,
    path: Option<&Path>,
) -> ImageOutcome {
    ImageOutcome {
        kind: match packed.profile {
            Profile::BUNDLE => ImageKind::Bundle,
            Profile::SOURCE => ImageKind::Source,
            _ => ImageKind::Image,
        },
        digest: packed.manifest.digest().clone(),
        media_type: packed.manifest.media_type().to_owned(),
        size: packed.size,
        layers: Some(packed.layers.len()),
        repository: name.map(|name| name.repository.clone()),
        tags,
        path: path.map(Path::to_owned),
    }
}
