//! Writes the images that were pushed to `serve` into one OCI layout tar.

use std::path::{Path, PathBuf};

use super::resolve::CollectOptions;
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::reporter::{self, Wording};
use crate::front::system;
use crate::model::{Descriptor, RawDocument, Reference};
use crate::serve::{Collected, CollectedImage, Service};
use crate::store::layout::LayoutTarget;
use crate::store::{NamedImage, StoreError};
use crate::stream::{AtomicFile, BlobStream, VerifyingReader};
use crate::transfer::{self, ImageSource, LayoutRequest, TransferError};

/// Most blobs that are written at the same time; all come from this machine's disk.
const CONCURRENCY: usize = 4;

/// Prepares for pushes.
///
/// Errors: a tar that cannot be written, found before the command runs.
pub(super) fn prepare(context: &Context<'_>, collection: &CollectOptions) -> Result<Collected, Failure> {
    drop(AtomicFile::create(&collection.tar, 0o666)?);
    Ok(Collected::new(&system::temporary_folder(context.env))?)
}

/// Writes the tar.
///
/// Errors: nothing was pushed; an image was pushed without all of its blobs. Nothing is visible after an error.
pub(super) fn write(
    context: &Context<'_>,
    collection: &CollectOptions,
    service: &Service,
) -> Result<(), Failure> {
    let not_written = format!("`{}` was not written", collection.tar.display());
    let Some(collected) = service.collected() else { return Ok(()) };
    if let Some((image, missing)) = collected.incomplete() {
        let text = format!("image `{image}` was pushed without `{missing}`, which it names; {not_written}");
        return Err(Failure::refused(text));
    }
    let images = collected.images();
    if images.is_empty() {
        return Err(Failure::refused(format!("no image was pushed; {not_written}")).hint(
            "push to the address in place of `{registry}`, which the command also has in SERVED_REGISTRY",
        ));
    }
    let roots =
        images.iter().map(|image| named(image, &collection.registry)).collect::<Result<Vec<_>, _>>()?;
    let request = LayoutRequest {
        target: LayoutTarget::File(collection.tar.clone()),
        roots,
        concurrency: CONCURRENCY,
        include_non_distributable: false,
    };
    let source = Pushed { service, tar: &collection.tar };
    let _ = reporter::watch(&context.ui, Wording::Written, |observer| {
        transfer::copy_to_layout(&source, &request, observer)
    })?;
    for root in &request.roots {
        let label = root.label();
        context.ui.note(&format!("collected {label} ({})", root.descriptor.digest.short()));
    }
    Ok(())
}

/// Returns the names of an image, with `registry` instead of the server's address.
fn named(image: &CollectedImage, registry: &str) -> Result<NamedImage, Failure> {
    let mut names: Vec<Reference> = Vec::new();
    for (repository, tag) in &image.names {
        let name = format!("{registry}/{repository}:{tag}");
        let failed = |error| {
            Failure::refused(format!("`{name}` cannot be recorded: {error}"))
                .hint(message!("choose another registry with ", Flag::AS))
        };
        names.push(name.parse().map_err(failed)?);
    }
    Ok(NamedImage::new(image.descriptor.clone(), &names))
}

/// The pushed images and the served stores as one source.
struct Pushed<'a> {
    service: &'a Service,
    tar: &'a Path,
}

impl Pushed<'_> {
    fn missing(&self, descriptor: &Descriptor) -> TransferError {
        let path: PathBuf = self.tar.to_owned();
        StoreError::Missing { path, digest: descriptor.digest.clone() }.into()
    }
}

impl ImageSource for Pushed<'_> {
    fn label(&self) -> String {
        "what was pushed".to_owned()
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        self.service.document(&descriptor.digest).ok_or_else(|| self.missing(descriptor))
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobStream<'_>, TransferError> {
        let opened = self.service.open_unverified(&descriptor.digest)?;
        let reader = opened.ok_or_else(|| self.missing(descriptor))?;
        Ok(VerifyingReader::new(reader, descriptor.digest.clone(), descriptor.size))
    }
}
