//! `push`: packs folders and files into an image, in a registry, in a tar or in a store.

use std::collections::BTreeSet;

use super::args::PushArgs;
use super::packed::{Inflated, base_store, outcome};
use super::resolve::{self, BaseImage, Destination, PushKind, PushOptions, TarTarget};
use super::runnable;
use super::tar_output::{layout_target, send_to_stdout};
use super::{push_to_store, stdin};
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::{ImageOutcome, Outcome};
use crate::front::packing::{app_request, base_of_store, references, request};
use crate::front::reporter::{self, Wording};
use crate::front::result_file;
use crate::front::{registries, system};
use crate::lock::{BundleLock, default_tag};
use crate::model::{Reference, Tag};
use crate::store::layout::LayoutTarget;
use crate::stream::AtomicFile;
use crate::transfer::events::Observer;
use crate::transfer::{self, AppPush, Earlier, LayoutRequest, PackedImage, PushRequest};

/// Permissions of lock files, as imgpkg's.
pub(super) const LOCK_MODE: u32 = 0o600;

pub(in crate::front) fn run(context: &Context<'_>, args: &PushArgs) -> Result<Outcome, Failure> {
    let mut options = resolve::push(args, context.env)?;
    let _spooled = stdin::take(context, &mut options)?;
    let to = match &options.destination {
        Destination::Registry(_) | Destination::Store { .. } => None,
        Destination::OciTar { target, .. } => Some(target.path()),
    };
    result_file::produce(&options.results, to, || match (&options.runnable, &options.destination) {
        (Some(wanted), _) => runnable::run(context, &options, wanted),
        (None, Destination::Registry(name)) => to_registry(context, &options, name),
        (None, Destination::OciTar { target, name }) => to_tar(context, &options, target, name.as_ref()),
        (None, Destination::Store { store, tags, .. }) => push_to_store::run(context, &options, store, tags),
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
    let spooled =
        reporter::watch(&context.ui, Wording::Written, |observer| match (options.kind, options.inflate) {
            (PushKind::App, _) => {
                let request = app_request(options, Some(&layout))?;
                let base = store.as_ref().map(base_of_store).transpose()?;
                let packed =
                    transfer::pack_app_to_layout(&request, base.as_ref(), &layout, &names, observer)?;
                Ok::<_, Failure>(packed)
            }
            (_, Some(attached)) => {
                let request = request(options, Some(&layout))?;
                let to = Inflated { request: &request, names: &names, attached };
                inflate(context, options, &to, layout.clone(), observer)
            }
            _ => Ok(transfer::pack_to_layout(&request(options, Some(&layout))?, &layout, &names, observer)?),
        });
    let mut packed = spooled?;
    if let Some(spool) = packed.spool.take() {
        send_to_stdout(spool)?;
    }
    let tags = names.iter().filter_map(|name| name.tag.clone()).collect();
    Ok(outcome(&packed, tags, None, Some(target.path())))
}

/// Packs a bundle, fetches its images, and writes all into one tar.
fn inflate(
    context: &Context<'_>,
    options: &PushOptions,
    to: &Inflated<'_>,
    target: LayoutTarget,
    observer: &dyn Observer,
) -> Result<PackedImage, Failure> {
    let (mut packed, report) = to.pack(context, options, observer, |locator, collection| {
        let layout = LayoutRequest {
            target,
            roots: collection.named(),
            concurrency: options.registry.concurrency,
            include_non_distributable: false,
        };
        Ok(transfer::copy_to_layout(locator, &layout, observer)?)
    })?;
    packed.spool = report.spool;
    packed.size = report.graph.size();
    Ok(packed)
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
        PushKind::App => {
            let push = AppPush {
                request: &app_request(options, None)?,
                earlier: match (&options.base, &store) {
                    (_, Some(store)) => Earlier::Known(base_of_store(store)?),
                    (Some(BaseImage::Registry { reference, given }), _) => {
                        Earlier::Repository { reference: reference.clone(), required: *given }
                    }
                    _ => Earlier::None,
                },
                repository: name.repository.clone(),
                tags: &tags,
                concurrency: options.registry.concurrency,
                folder: system::temporary_folder(context.env),
            };
            Ok::<_, Failure>(transfer::push_app(&push, &client, observer)?)
        }
        _ => {
            let folder = system::temporary_folder(context.env);
            let (packed, source) = transfer::pack_to_spool(&request(options, None)?, &folder, observer)?;
            // imgpkg's tag by digest protects the image when the user's tag moves; the user's own tag is written last.
            let by_content = Some(default_tag(packed.manifest.digest())).filter(|_| options.imgpkg_tags);
            let all: Vec<Tag> = by_content.into_iter().chain(tags.iter().cloned()).collect();
            let push = push_request(options, name, &all, &packed);
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
        attached: Vec::new(),
        sent: BTreeSet::new(),
        concurrency: options.registry.concurrency,
        include_non_distributable: true,
    }
}
