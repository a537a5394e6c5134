//! Writes an image into the folder of a get, in the format of the pipeline; the image may be in a registry or a store.

use std::path::Path;
use std::sync::Arc;

use super::access::TRANSFER_CONCURRENCY;
use super::rootfs::{UMASK, image_metadata, line, ownership};
use crate::front::failure::Failure;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::{Config, Descriptor, Platform, RawDocument, to_json};
use crate::store::layout::LayoutTarget;
use crate::store::{ImageName, NamedImage};
use crate::stream::{AtomicFile, Overwrite};
use crate::transfer::{
    self, Collection, ImageLocator, ImageSource, LayoutRequest, PullReport, PullRequest, TransferError,
};

/// Permissions of the files beside the image.
const MODE: u32 = 0o644;

/// The format in which an image is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Rootfs,
    Oci,
    OciLayout,
    OciTar,
    Files,
}

impl Format {
    pub(super) const ALL: [(&'static str, Self); 5] = [
        ("rootfs", Self::Rootfs),
        ("oci", Self::Oci),
        ("oci-layout", Self::OciLayout),
        ("oci-tar", Self::OciTar),
        ("files", Self::Files),
    ];
}

/// Where an image is written, and how.
pub(super) struct Output<'a> {
    pub(super) format: Format,
    /// The platform of an index's image that is unpacked.
    pub(super) platform: &'a Platform,
    pub(super) folder: &'a Path,
    pub(super) ui: &'a Arc<Ui>,
    /// The names that the image gets in a tar.
    pub(super) names: Vec<ImageName>,
}

impl Output<'_> {
    /// Writes an image; `with` are the images for a tar of format `oci-tar`: the image itself and what is attached to
    /// it.
    pub(super) fn write(
        &self,
        source: &dyn ImageSource,
        root: &Descriptor,
        with: Option<(&ImageLocator<'_>, &Collection)>,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Rootfs => {
                let report = self.extract(source, root, "rootfs")?;
                write(self.folder, "metadata.json", &image_metadata(report.config.as_ref()))?;
                self.labels(report.config.as_ref())
            }
            Format::Files => self.extract(source, root, "files").map(|_| ()),
            Format::Oci => {
                let image = transfer::resolve_manifest(source, root, Some(self.platform))?;
                self.tar(source, image.descriptor())?;
                let config = config(source, &image)?;
                self.warn_of_platform(config.as_ref());
                self.labels(config.as_ref())
            }
            Format::OciTar => match with {
                Some((locator, collection)) => {
                    let what = text::counted(collection.members.len() as u64 - 1, "referrer");
                    self.ui.note(&format!("with {what}: signatures, attestations, SBOMs"));
                    self.write_tar(locator, collection.named())
                }
                None => self.tar(source, root.clone()),
            },
            Format::OciLayout => {
                let target = self.folder.join("oci");
                self.watch(Wording::Fetched, |observer| {
                    transfer::copy_to_folder(source, root, &target, TRANSFER_CONCURRENCY, observer)
                })?;
                Ok(())
            }
        }
    }

    fn watch<T>(
        &self,
        wording: Wording,
        work: impl FnOnce(&dyn transfer::events::Observer) -> Result<T, TransferError>,
    ) -> Result<T, Failure> {
        Ok(reporter::watch(self.ui, wording, work)?)
    }

    /// Extracts the layers into a folder beside the other files.
    fn extract(
        &self,
        source: &dyn ImageSource,
        root: &Descriptor,
        name: &str,
    ) -> Result<PullReport, Failure> {
        let options = PullRequest {
            target: self.folder.join(name),
            overwrite: Overwrite::Replace,
            platform: Some(self.platform.clone()),
            umask: UMASK,
            include: Vec::new(),
            concurrency: TRANSFER_CONCURRENCY,
        };
        let report = self.watch(Wording::Fetched, |observer| match self.format {
            Format::Rootfs => transfer::pull_rootfs(source, root, &options, ownership(), observer),
            _ => transfer::pull_contents(source, root, &options, observer),
        })?;
        self.warn_of_platform(report.config.as_ref());
        let summary = &report.summary;
        if summary.skipped > 0 {
            let skipped = text::counted(summary.skipped, "device");
            let names = text::quoted_list(&summary.skipped_names);
            self.ui.note(&format!("{skipped} left out, which containers get from the runtime: {names}"));
        }
        Ok(report)
    }

    /// Warns that an image that is no index is for another platform; registry-image accepts it without a warning.
    fn warn_of_platform(&self, config: Option<&Config>) {
        if let Some(has) = config.and_then(Config::platform).filter(|has| !has.serves(self.platform)) {
            self.ui.warning(&format!("the image is for `{has}` only, not for `{}`", self.platform));
        }
    }

    /// Writes `image.tar`: an OCI layout with docker's table of contents in it.
    fn tar(&self, source: &dyn ImageSource, root: Descriptor) -> Result<(), Failure> {
        let names = self.names.clone();
        self.write_tar(source, vec![NamedImage { names, ..NamedImage::unnamed(root) }])
    }

    fn write_tar(&self, source: &dyn ImageSource, roots: Vec<NamedImage>) -> Result<(), Failure> {
        let request = LayoutRequest {
            target: LayoutTarget::File(self.folder.join("image.tar")),
            roots,
            concurrency: TRANSFER_CONCURRENCY,
            include_non_distributable: false,
        };
        self.watch(Wording::Written, |observer| transfer::copy_to_layout(source, &request, observer))?;
        Ok(())
    }

    fn labels(&self, config: Option<&Config>) -> Result<(), Failure> {
        let labels = config.map(|config| config.config.labels.clone()).unwrap_or_default();
        write(self.folder, "labels.json", &line(to_json(&labels)))
    }
}

/// Reads the configuration of an image.
pub(super) fn config(source: &dyn ImageSource, manifest: &RawDocument) -> Result<Option<Config>, Failure> {
    Ok(manifest.manifest().map(|manifest| source.read_config(manifest)).transpose()?.flatten())
}

/// Writes a small file into the folder of a get.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), Failure> {
    Ok(AtomicFile::write_whole(&folder.join(name), content, MODE)?)
}
