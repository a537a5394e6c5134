//! `in`: one version into a folder, in the form the pipeline asks for.
//!
//! What is written follows from source, params and version alone, because Concourse keeps it for others. Every
//! digest is verified; the image's files appear whole or not at all.

use std::path::Path;
use std::sync::Arc;

use super::access::{self, Purpose, TRANSFER_CONCURRENCY};
use super::fields::Fields;
use super::protocol::{Metadata, Request, Response, Version};
use super::rootfs::{UMASK, image_metadata, line, ownership};
use super::source::{self, Source};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::{Config, Descriptor, Platform, RawDocument, Reference, Repository, Tag, Target, to_json};
use crate::registry::Client;
use crate::store::NamedImage;
use crate::store::layout::LayoutTarget;
use crate::stream::{AtomicFile, FileError, Overwrite};
use crate::transfer::events::Silent;
use crate::transfer::{
    self, Attached, Gathering, ImageLocator, ImageSource, LayoutRequest, Member, PullOptions, PullReport,
    RegistrySource, Role, TransferError,
};

/// Permissions of the files beside the image.
const MODE: u32 = 0o644;

/// In which form an image is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Rootfs,
    Oci,
    OciLayout,
    OciTar,
    Files,
}

impl Format {
    const ALL: [(&'static str, Self); 5] = [
        ("rootfs", Self::Rootfs),
        ("oci", Self::Oci),
        ("oci-layout", Self::OciLayout),
        ("oci-tar", Self::OciTar),
        ("files", Self::Files),
    ];
}

/// What `params` of a get say.
#[derive(Debug)]
pub(super) struct Params {
    format: Format,
    skip_download: bool,
    /// Also fetch what says something about the image.
    referrers: bool,
    platform: Platform,
}

impl Params {
    /// Reads them.
    pub(super) fn parse(mut fields: Fields, source: &Source) -> Result<Self, Failure> {
        let format = match fields.text("format")? {
            None => Format::Rootfs,
            Some(text) => {
                let known = Format::ALL.iter().find(|(name, _)| *name == text);
                known.map(|(_, format)| *format).ok_or_else(|| {
                    let names = text::quoted_list(Format::ALL.map(|(name, _)| name));
                    let failure =
                        fields.invalid("format", format!("`{text}` is no format, expected one of {names}"));
                    match text::nearest(&text, Format::ALL.map(|(name, _)| name)) {
                        Some(near) => failure.hint(format!("did you mean `{near}`?")),
                        None => failure,
                    }
                })?
            }
        };
        let params = Self {
            format,
            skip_download: fields.switch("skip_download")?,
            referrers: fields.switch("referrers")?,
            platform: source::platform(&mut fields, &source.platform)?,
        };
        if params.referrers && format != Format::OciTar {
            return Err(fields.invalid("referrers", "it works with `params.format: oci-tar` only"));
        }
        fields.finish()?;
        Ok(params)
    }
}

/// Fetches a version.
pub(super) fn run(
    source: &Source,
    request: Request,
    folder: &Path,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<Response, Failure> {
    let Some(version) = request.version else { return Err(Failure::misuse("`version` is missing")) };
    let version = version.complete()?;
    let params = Params::parse(request.params, source)?;
    let client = access::client(source, Purpose::Transfer, env, ui)?;
    std::fs::create_dir_all(folder).map_err(|error| FileError::io("create", folder, error))?;
    let get = Get { source, params: &params, version: &version, client: &client, folder, ui };
    let shown = match &source.mirror {
        Some(mirror) => get.from(&mirror.repository).or_else(|failure| {
            let mirror = &mirror.repository;
            ui.warning(&format!("mirror `{mirror}`: {}; asking the registry itself", failure.message));
            get.from(&source.repository)
        })?,
        None => get.from(&source.repository)?,
    };
    let tag = get.tag();
    for (name, content) in
        [("repository", source.written.as_str()), ("tag", &tag), ("digest", &version.digest.to_string())]
    {
        write(folder, name, content.as_bytes())?;
    }
    let mut metadata = vec![Metadata::new("repository", &*source.written), Metadata::new("tag", tag)];
    metadata.extend(shown);
    Ok(Response { version, metadata })
}

struct Get<'a> {
    source: &'a Source,
    params: &'a Params,
    version: &'a Version,
    client: &'a Client,
    folder: &'a Path,
    ui: &'a Arc<Ui>,
}

impl Get<'_> {
    /// Returns the version's tag, or what the source says where the version has none.
    fn tag(&self) -> String {
        let own = self.version.tag.clone();
        own.unwrap_or_else(|| self.source.tag.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    /// Fetches from one repository and returns the labels and annotations to show.
    fn from(&self, repository: &Repository) -> Result<Vec<Metadata>, Failure> {
        let source = RegistrySource::new(self.client, repository.clone());
        // Asked for in any case: a version that is gone must not look fetched.
        let root = source.resolve(&Target::Digest(self.version.digest.clone()))?;
        if !self.params.skip_download {
            self.ui.note(&format!("fetching {repository}@{}", self.version.digest));
            self.download(&source, repository, &root)?;
        }
        if self.source.labels.is_none() && self.source.annotations.is_none() {
            return Ok(Vec::new());
        }
        let manifest = transfer::resolve_manifest(&source, &root, Some(&self.params.platform))?;
        let labels = self.config(&source, &manifest)?.map(|config| config.config.labels).unwrap_or_default();
        let annotations = manifest.document().annotations();
        let chosen = [(&self.source.labels, &labels), (&self.source.annotations, annotations)];
        let mut shown = Vec::new();
        for (regex, values) in chosen {
            let Some(regex) = regex else { continue };
            let values = values.iter().filter(|(name, _)| regex.is_match(name.as_bytes()));
            shown.extend(values.map(|(name, value)| Metadata::new(name, value.as_str())));
        }
        Ok(shown)
    }

    fn config(&self, source: &dyn ImageSource, manifest: &RawDocument) -> Result<Option<Config>, Failure> {
        Ok(manifest.manifest().map(|manifest| source.read_config(manifest)).transpose()?.flatten())
    }

    fn download(
        &self,
        source: &dyn ImageSource,
        repository: &Repository,
        root: &Descriptor,
    ) -> Result<(), Failure> {
        match self.params.format {
            Format::Rootfs => {
                let report = self.extract(source, root, "rootfs")?;
                write(self.folder, "metadata.json", &image_metadata(report.config.as_ref()))?;
                self.labels(report.config.as_ref())
            }
            Format::Files => self.extract(source, root, "files").map(|_| ()),
            Format::Oci => {
                let image = transfer::resolve_manifest(source, root, Some(&self.params.platform))?;
                self.tar(source, repository, image.descriptor())?;
                self.labels(self.config(source, &image)?.as_ref())
            }
            Format::OciTar if self.params.referrers => self.tar_with_referrers(repository, root.clone()),
            Format::OciTar => self.tar(source, repository, root.clone()),
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
        let options = PullOptions {
            target: self.folder.join(name),
            overwrite: Overwrite::Replace,
            platform: Some(self.params.platform.clone()),
            umask: UMASK,
            include: Vec::new(),
            concurrency: TRANSFER_CONCURRENCY,
        };
        let report = self.watch(Wording::Fetched, |observer| match self.params.format {
            Format::Rootfs => transfer::pull_rootfs(source, root, &options, ownership(), observer),
            _ => transfer::pull_contents(source, root, &options, observer),
        })?;
        let summary = &report.summary;
        if summary.skipped > 0 {
            let skipped = text::counted(summary.skipped, "device");
            let names = text::quoted_list(&summary.skipped_names);
            self.ui.note(&format!("{skipped} left out, which containers get from the runtime: {names}"));
        }
        Ok(report)
    }

    /// Returns the names the image gets in a tar.
    fn names(&self, repository: &Repository) -> Vec<Reference> {
        // The name is the source's, not the mirror's: it stays in the image.
        let named = if *repository == self.source.repository { repository } else { &self.source.repository };
        let tag = self.version.tag().or_else(|| self.tag().parse::<Tag>().ok());
        tag.map(|tag| named.with_tag(tag)).into_iter().collect()
    }

    /// Writes `image.tar`: an OCI layout with docker's table of contents in it.
    fn tar(
        &self,
        source: &dyn ImageSource,
        repository: &Repository,
        root: Descriptor,
    ) -> Result<(), Failure> {
        self.write_tar(source, vec![NamedImage::new(root, &self.names(repository))])
    }

    /// Writes `image.tar` with signatures, attestations and SBOMs beside the image.
    fn tar_with_referrers(&self, repository: &Repository, root: Descriptor) -> Result<(), Failure> {
        let locator = ImageLocator::remote(self.client);
        let _ = locator.fetch(repository, &Target::Digest(root.digest.clone()))?;
        let attached = Attached { cosign: true, referrers: true, locations: false };
        let gathering = Gathering { thick: false, attached, concurrency: TRANSFER_CONCURRENCY };
        let member = Member {
            names: NamedImage::new(root.clone(), &self.names(repository)).names,
            origin: Some(repository.with_digest(root.digest.clone())),
            descriptor: root,
            role: Role::Root,
            bundle: None,
        };
        let collection = transfer::gather(&locator, vec![member], &gathering, &Silent)?;
        let what = text::counted(collection.members.len() as u64 - 1, "referrer");
        self.ui.note(&format!("with {what}: signatures, attestations, SBOMs"));
        self.write_tar(&locator, collection.named())
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

fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), Failure> {
    Ok(AtomicFile::write_whole(&folder.join(name), content, MODE)?)
}
