//! `push`: folders and files into an image, in a registry or in a tar.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::args::PushArgs;
use super::resolve::{self, BaseImage, Contents, Destination, PushKind, PushOptions, TarTarget};
use super::sources;
use super::{Context, PackWork};
use crate::front::failure::{Failure, Kind};
use crate::front::outputs::{self, ImageKind, ImageOutcome, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::{registries, system};
use crate::lock::{BundleLock, default_tag};
use crate::model::{Reference, Tag, limits};
use crate::pack::{AppOptions, ImageOptions, LayerForm, LayerOptions, Profile, parse_resources};
use crate::store::Store;
use crate::store::layout::LayoutTarget;
use crate::stream::{AtomicFile, FileError, TooLarge, read_bounded};
use crate::transfer::events::Observer;
use crate::transfer::{
    self, AppPush, AppRequest, Attached, Base, Earlier, Gathering, ImageSource as _, LayoutRequest, Member,
    Named, PackRequest, PackedImage, Places, PushRequest, Resources, Role,
};
use crate::tree::Filter;

/// Patterns in gitignore syntax of what is left out of a root; left out itself.
const IGNORE_FILE: &str = ".imgrelayignore";
/// Permissions of lock files, as imgpkg's.
pub(super) const LOCK_MODE: u32 = 0o600;

pub(super) fn run(context: &Context<'_>, args: &PushArgs) -> Result<Outcome, Failure> {
    let options = resolve::push(args, context.env)?;
    let to = match &options.destination {
        Destination::Registry(_) => None,
        Destination::OciTar { target, .. } => Some(target.path()),
    };
    outputs::produce(&options.results, to, || match &options.destination {
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
                let to = Inflated { request: &request, layout: layout.clone(), names: &names, attached };
                inflate(context, options, &to, observer)
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

/// What goes into a tar that holds a bundle with all it names.
struct Inflated<'a> {
    request: &'a PackRequest,
    layout: LayoutTarget,
    names: &'a [Reference],
    attached: Attached,
}

/// Packs a bundle, fetches what it names, and writes all of it into one tar.
fn inflate(
    context: &Context<'_>,
    options: &PushOptions,
    to: &Inflated<'_>,
    observer: &dyn Observer,
) -> Result<PackedImage, Failure> {
    let client = registries::client(&options.registry, context.env, &context.ui)?;
    let folder = system::temporary_folder(context.env);
    let (mut packed, source) = transfer::pack_to_spool(to.request, &folder, observer)?;
    let places = Places::over(&source, Some(&client));
    let root = Member {
        names: Named::new(packed.manifest.descriptor(), to.names).names,
        descriptor: packed.manifest.descriptor(),
        origin: None,
        role: Role::Root,
        bundle: None,
    };
    let concurrency = options.registry.concurrency;
    let gathering = Gathering { thick: true, attached: to.attached, concurrency };
    let collection = transfer::gather(&places, vec![root], &gathering, observer)?;
    let layout = LayoutRequest {
        target: to.layout.clone(),
        roots: collection.named(),
        concurrency,
        include_non_distributable: false,
    };
    let report = transfer::copy_to_layout(&places, &layout, observer)?;
    packed.spool = report.spool;
    packed.size = report.graph.size();
    Ok(packed)
}

/// Opens the tar with the earlier image, if there is one.
fn base_store(context: &Context<'_>, options: &PushOptions) -> Result<Option<Store>, Failure> {
    match &options.base {
        Some(BaseImage::Tar(path)) => sources::open_store(context, path).map(Some),
        _ => Ok(None),
    }
}

fn base_of_store(store: &Store) -> Result<Base<'_>, Failure> {
    let root = sources::only_root(&store.place(), store.roots())?;
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
            // imgpkg's tag by content keeps the image when the user's tag moves on; the user's own comes last.
            let mut all = vec![default_tag(packed.manifest.digest())];
            all.extend(tags.iter().cloned());
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
        sent: BTreeSet::new(),
        concurrency: options.registry.concurrency,
        include_non_distributable: true,
    }
}

/// Returns a reference for each tag: the name's own (`latest` if it has none), then the further ones.
pub(in crate::front) fn references(name: &Reference, further: &[Tag]) -> Vec<Reference> {
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

/// Returns what is to be packed, without a destination.
pub(super) fn work(options: PushOptions) -> Result<PackWork, Failure> {
    Ok(match options.kind {
        PushKind::App => PackWork::App {
            request: app_request(&options, None)?,
            base: match options.base {
                Some(BaseImage::Tar(path)) => Some(path),
                _ => None,
            },
        },
        _ => PackWork::Plain(request(&options, None)?),
    })
}

fn request(options: &PushOptions, target: Option<&LayoutTarget>) -> Result<PackRequest, Failure> {
    let contents = &options.contents;
    let profile = match options.kind {
        PushKind::Bundle => Some(Profile::BUNDLE),
        PushKind::Image => Some(contents.format.unwrap_or(Profile::IMAGE)),
        PushKind::App | PushKind::Detect => None,
    };
    Ok(PackRequest {
        roots: contents.roots.clone(),
        profile,
        layer: LayerOptions {
            filter: filter(contents)?,
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
        package_checks: contents.package_checks,
    })
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

fn app_request(options: &PushOptions, target: Option<&LayoutTarget>) -> Result<AppRequest, Failure> {
    let contents = &options.contents;
    Ok(AppRequest {
        resources: options.resources.as_deref().map(read_resources).transpose()?,
        path: contents.roots.first().cloned().unwrap_or_default(),
        options: AppOptions {
            exclusions: contents.exclusions.clone(),
            symlinks: contents.symlinks,
            size_limit: contents.size_limit,
            preserve_permissions: contents.preserve_permissions,
            rules: Profile::APP.entries,
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
    })
}

/// Reads the list of resources that came with an upload.
fn read_resources(path: &Path) -> Result<Resources, Failure> {
    let text = read_text(path, limits::RESOURCES_BYTES)?;
    let list = parse_resources(&text)
        .map_err(|error| Failure::of(Kind::Misuse, &error).caused_by(format!("in `{}`", path.display())))?;
    Ok(Resources { path: path.to_owned(), list })
}

/// Returns what is left out: the paths that were given, and what each root's own ignore file says.
fn filter(contents: &Contents) -> Result<Filter, Failure> {
    let mut filter = Filter::exact(contents.exclusions.iter().map(String::as_bytes));
    for root in &contents.roots {
        let path = root.join(IGNORE_FILE);
        // Looked at first, because opening a pipe would wait for ever.
        let text = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Some(read_text(&path, limits::LOCK_BYTES)?),
            _ => None,
        };
        filter = filter.and_root(IGNORE_FILE, text.as_deref()).map_err(|problem| {
            Failure::misuse(format!("`{}` is not in gitignore syntax: {problem}", path.display()))
        })?;
    }
    Ok(filter)
}

fn read_text(path: &Path, limit: u64) -> Result<String, Failure> {
    let failed = |error| Failure::from(FileError::io("read", path, error));
    let bytes = read_bounded(File::open(path).map_err(failed)?, limit).map_err(|error| match error {
        TooLarge::Io(error) => failed(error),
        TooLarge::Limit { limit } => {
            Failure::misuse(format!("`{}` has more than {limit} bytes", path.display()))
        }
    })?;
    String::from_utf8(bytes).map_err(|_| Failure::misuse(format!("`{}` is not UTF-8 text", path.display())))
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
            Profile::APP => ImageKind::App,
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
