//! The typed request for packing that every door makes, with ignore files and the earlier image.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cli::resolve::{BaseImage, ImagePlace, PushContents, PushKind, PushOptions, RunnableOptions};
use super::failure::{Failure, Hint, Kind, message};
use super::flag::Flag;
use super::main_image::{main_member, only_root, stored_roots};
use super::system;
use crate::model::{Reference, Tag, limits};
use crate::pack::{
    AppOptions, ConfigEdits, ImageOptions, LayerEncoding, LayerOptions, PlanOptions, Profile, parse_resources,
};
use crate::store::layout::LayoutTarget;
use crate::store::{self, Store};
use crate::stream::{FileError, read_file, read_text_file};
use crate::transfer::events::Silent;
use crate::transfer::{
    self, AppRequest, Attached, Base, BaseRoot, Gathering, ImageLocator, ImageSource as _, PackRequest,
    Resources, Role, RunnableOrigin, RunnableRequest, TransferError, signatures,
};
use crate::tree::{Filter, ignore_text};

/// File with patterns in gitignore syntax of files that are not packed; not packed itself.
const IGNORE_FILE: &str = ".imgrelayignore";

/// A request to pack, of one of three kinds.
#[derive(Debug)]
pub(super) enum PackWork {
    /// A bundle or an image.
    Plain(PackRequest),
    /// An image that runs.
    Runnable {
        /// The request.
        request: Box<RunnableRequest>,
        /// The tars or folders of its base, for [`open_places`].
        places: Vec<PathBuf>,
    },
    /// A source image.
    App {
        /// The request.
        request: AppRequest,
        /// The tar or folder with the earlier image.
        base: Option<PathBuf>,
    },
}

/// Returns the request to pack, without a target.
pub(super) fn work(options: PushOptions) -> Result<PackWork, Failure> {
    Ok(match options.kind {
        _ if options.runnable.is_some() => return runnable_work(&options),
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

/// Returns the request for an image that runs, at a door that contacts no registry for the base.
fn runnable_work(options: &PushOptions) -> Result<PackWork, Failure> {
    let Some(runnable) = &options.runnable else {
        return Err(TransferError::Internal { what: "an image that runs has no options" }.into());
    };
    let path = |place: &ImagePlace| match place {
        ImagePlace::Registry(_) => Err(Failure::misuse(message!(Flag::BASE, " cannot be used here"))
            .hint(message!("fetch the image first, and use ", Flag::BASE_TAR))),
        ImagePlace::Tar(path) => Ok(path.clone()),
    };
    let places = runnable.places().into_iter().map(path).collect::<Result<_, _>>()?;
    Ok(PackWork::Runnable { request: Box::new(runnable_request(options, runnable, None)?), places })
}

/// Makes the one image in a store a base; the store may also have manifests attached to it.
pub(super) fn base_image(store: &Store) -> Result<BaseRoot<'_>, Failure> {
    let gathering = Gathering { thick: false, attached: Attached::default(), concurrency: 1 };
    let locator = ImageLocator::over(store, None);
    let collection = transfer::gather(&locator, stored_roots(store.roots()), &gathering, &Silent)?;
    let root = main_member(&collection, &store.label(), true)?;
    let mut names = root.names.iter().filter_map(|name| name.reference.as_ref());
    let name = names.find(|reference| reference.tag.is_some()).map(ToString::to_string);
    let attached = collection.members.iter().filter(|member| member.role == Role::Attached);
    let attached = signatures::count(store, attached)?;
    Ok(BaseRoot { source: store, root: root.descriptor.clone(), name, attached })
}

/// Returns what an image that runs starts from: nothing, a base, or a new base with an image and its old base.
///
/// The images are in the order of [`RunnableOptions::places`].
pub(super) fn origin_of(images: Vec<BaseRoot<'_>>) -> Result<RunnableOrigin<'_>, TransferError> {
    let mut images = images.into_iter().map(Box::new);
    match (images.next(), images.next(), images.next()) {
        (None, _, _) => Ok(RunnableOrigin::Scratch),
        (Some(base), None, _) => Ok(RunnableOrigin::Base(base)),
        (Some(new), Some(image), Some(old)) => Ok(RunnableOrigin::Rebase { image, old, new }),
        (Some(_), Some(_), None) => Err(TransferError::Internal { what: "an image has no old base" }),
    }
}

/// Opens the tars that an image that runs is made from.
pub(super) fn open_places(places: &[PathBuf], temporary: &Path) -> Result<Vec<Store>, Failure> {
    Ok(places.iter().map(|path| store::open(path, temporary)).collect::<Result<_, _>>()?)
}

/// Returns what an image that runs starts from, if all of it is in stores.
pub(super) fn origin(stores: &[Store]) -> Result<RunnableOrigin<'_>, Failure> {
    Ok(origin_of(stores.iter().map(base_image).collect::<Result<_, _>>()?)?)
}

pub(super) fn request(options: &PushOptions, target: Option<&LayoutTarget>) -> Result<PackRequest, Failure> {
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

/// Returns the request for an image that runs.
pub(super) fn runnable_request(
    options: &PushOptions,
    runnable: &RunnableOptions,
    target: Option<&LayoutTarget>,
) -> Result<RunnableRequest, Failure> {
    let contents = &options.contents;
    Ok(RunnableRequest {
        files: runnable.files.clone(),
        plan: PlanOptions {
            filter: filter(contents)?,
            symlinks: contents.symlinks,
            modes: runnable.modes,
            owner: runnable.owner,
            listing: runnable.listing,
            skip: replaced(target),
        },
        edits: ConfigEdits { labels: contents.labels.clone(), ..runnable.edits.clone() },
        user: runnable.user.clone(),
        platforms: runnable.platforms.clone(),
        media_types: runnable.media_types,
        compression: contents.compression,
        threads: system::threads(),
        concurrency: options.registry.concurrency,
        annotations: contents.annotations.clone(),
        expected_digest: options.expected_digest.clone(),
    })
}

/// Returns the archive that is being replaced: if it is inside the packed folder, it must not be packed.
fn replaced(target: Option<&LayoutTarget>) -> Option<(u64, u64)> {
    match target {
        Some(LayoutTarget::File(path)) => std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino())),
        _ => None,
    }
}

fn image_options(contents: &PushContents) -> ImageOptions {
    ImageOptions {
        media_types: contents.media_types,
        platform: contents.platform.clone(),
        labels: contents.labels.clone(),
        annotations: contents.annotations.clone(),
    }
}

pub(super) fn app_request(
    options: &PushOptions,
    target: Option<&LayoutTarget>,
) -> Result<AppRequest, Failure> {
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
        layer_split: contents.layer_split,
        encoding: LayerEncoding {
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

/// Returns the files that are not packed: the given paths, and those of each root's ignore file.
fn filter(contents: &PushContents) -> Result<Filter, Failure> {
    let mut filter = Filter::exact(contents.exclusions.iter().map(String::as_bytes));
    for root in &contents.roots {
        let path = root.join(IGNORE_FILE);
        let text = ignore_file(&path)?;
        filter = filter.and_root(IGNORE_FILE, text.as_deref()).map_err(|problem| {
            Failure::misuse(format!("`{}` is not in gitignore syntax: {problem}", path.display()))
        })?;
    }
    Ok(filter)
}

/// Reads an ignore file, if there is one.
///
/// Errors: an invalid file, because the files that it names would be in the image.
fn ignore_file(path: &Path) -> Result<Option<String>, Failure> {
    // A root that is a file has no ignore file; packing reports a root that is absent.
    let absent = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    if std::fs::symlink_metadata(path).is_err_and(|error| absent(&error)) {
        return Ok(None);
    }
    let metadata = std::fs::metadata(path).map_err(|error| FileError::io("look at", path, error))?;
    // Its type is checked first, because opening a pipe would wait without end.
    if !metadata.is_file() {
        return Err(Failure::misuse(format!("`{}` is not a file", path.display())));
    }
    let bytes = read_file(path, limits::LOCK_BYTES).map_err(Failure::of_input)?;
    let text = ignore_text(&bytes);
    text.map(Some).map_err(|problem| Failure::misuse(format!("`{}`: {problem}", path.display())))
}

fn read_text(path: &Path, limit: u64) -> Result<String, Failure> {
    read_text_file(path, limit).map_err(Failure::of_input)
}

/// Returns a reference for each tag: the name's own (`latest` if it has none), then the further ones.
pub(super) fn references(name: &Reference, further: &[Tag]) -> Vec<Reference> {
    let first = name.tag.clone().unwrap_or_else(Tag::latest);
    let further = further.iter().filter(|tag| **tag != first);
    std::iter::once(&first).chain(further).map(|tag| name.repository.with_tag(tag.clone())).collect()
}

/// Opens the tar or folder with the earlier image.
pub(super) fn open_base(path: Option<&Path>, temporary: &Path) -> Result<Option<Store>, Failure> {
    Ok(path.map(|path| store::open(path, temporary)).transpose()?)
}

/// Reads the layers of the one image in a store.
pub(super) fn base_of_store(store: &Store) -> Result<Base<'_>, Failure> {
    let one_of_its_own = || {
        let select = Flag::SELECT.with("IMAGE").typed();
        let command = format!("imgrelay copy --tar FILE {select} --to-oci-tar BASE");
        Hint::command("the earlier image has a tar of its own: ", command, "")
    };
    let root = only_root(store).map_err(|failure| failure.hint(one_of_its_own()))?;
    Ok(Base::of(store, &root.image.descriptor)?)
}
