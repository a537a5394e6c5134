//! `in`: fetches one version into a folder, in the format that the pipeline asks for.
//!
//! The output depends on source, params and version only, because Concourse caches it for other builds. Every digest
//! is verified; the image's files appear only when they are complete.

use std::path::Path;
use std::sync::Arc;

use super::access::{self, Purpose, TRANSFER_CONCURRENCY};
use super::fields::Fields;
use super::protocol::{Metadata, Request, Response, Version};
use super::rootfs::{UMASK, image_metadata, line, ownership};
use super::source::{self, Source};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::judgement;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::{Config, Descriptor, Platform, RawDocument, Reference, Repository, Tag, Target, to_json};
use crate::registry::Client;
use crate::store::NamedImage;
use crate::store::layout::LayoutTarget;
use crate::stream::{AtomicFile, FileError, Overwrite};
use crate::transfer::events::Silent;
use crate::transfer::signatures::Trust;
use crate::transfer::{
    self, Attached, Collection, Gathering, ImageLocator, ImageSource, LayoutRequest, Member, PullReport,
    PullRequest, RegistrySource, Role, TransferError,
};

/// Permissions of the files beside the image.
const MODE: u32 = 0o644;

/// The format in which an image is written.
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

/// The `params` of a get.
#[derive(Debug)]
pub(super) struct Params {
    format: Format,
    skip_download: bool,
    /// Fetch signatures, attestations and SBOMs, too.
    referrers: bool,
    platform: Platform,
    /// Keys of which one has to have signed the image; none does not look at signatures.
    trust: Option<Trust>,
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
            trust: access::trust(source, &mut fields)?,
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
        // Requested even with `skip_download`: a deleted version must fail.
        let root = source.resolve(&Target::Digest(self.version.digest.clone()))?;
        let signed = match &self.params.trust {
            Some(trust) => {
                let found = self.with_attached(repository, &root)?;
                judgement::demand(&found.0, &found.1, Some(trust))?;
                self.ui.note(&format!("{repository}@{} is signed by a given key", self.version.digest));
                Some(found)
            }
            None => None,
        };
        if !self.params.skip_download {
            self.ui.note(&format!("fetching {repository}@{}", self.version.digest));
            self.download(&source, repository, &root, signed)?;
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
        signed: Option<(ImageLocator<'_>, Collection)>,
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
            Format::OciTar => match signed {
                // The verified signatures are copied too.
                Some(found) => self.tar_with_referrers(&found),
                None if self.params.referrers => {
                    self.tar_with_referrers(&self.with_attached(repository, root)?)
                }
                None => self.tar(source, repository, root.clone()),
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

    /// Finds signatures, attestations and SBOMs of the image.
    fn with_attached(
        &self,
        repository: &Repository,
        root: &Descriptor,
    ) -> Result<(ImageLocator<'_>, Collection), Failure> {
        let locator = ImageLocator::remote(self.client);
        let _ = locator.fetch(repository, &Target::Digest(root.digest.clone()))?;
        let attached = Attached { cosign: true, referrers: true, locations: false };
        let gathering = Gathering { thick: false, attached, concurrency: TRANSFER_CONCURRENCY };
        let member = Member {
            names: NamedImage::new(root.clone(), &self.names(repository)).names,
            origin: Some(repository.with_digest(root.digest.clone())),
            descriptor: root.clone(),
            role: Role::Root,
            bundle: None,
        };
        let collection = transfer::gather(&locator, vec![member], &gathering, &Silent)?;
        Ok((locator, collection))
    }

    /// Writes `image.tar` with signatures, attestations and SBOMs beside the image.
    fn tar_with_referrers(&self, found: &(ImageLocator<'_>, Collection)) -> Result<(), Failure> {
        let (locator, collection) = found;
        let what = text::counted(collection.members.len() as u64 - 1, "referrer");
        self.ui.note(&format!("with {what}: signatures, attestations, SBOMs"));
        self.write_tar(locator, collection.named())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::ui::Settings;
    use crate::front::ui::tests::captured;
    use testkit::fault::{Access, FaultRegistry, Thing, digest_of};
    use testkit::scratch::Scratch;
    use testkit::tarball::Tarball;

    /// Puts an image with one layer, of a file `a`, into a registry, and returns its digest.
    fn image(registry: &FaultRegistry) -> String {
        let layer = Tarball::new().file("a", "content").finish();
        let diff_id = digest_of(&layer);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=b"],"User":"app","Labels":{{"l":"1"}}}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let (config_digest, config_size, layer_size) =
            (digest_of(config.as_bytes()), config.len(), layer.len());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{diff_id}","size":{layer_size}}}]}}"#
        );
        registry.put_blob("team/app", &config_digest, config.as_bytes());
        registry.put_blob("team/app", &diff_id, &layer);
        let digest = digest_of(manifest.as_bytes());
        registry.put_manifest("team/app", "v1", &digest, media_type, manifest.as_bytes());
        digest
    }

    fn get(registry: &FaultRegistry, digest: &str, params: &str) -> (Scratch, Result<Response, Failure>) {
        let folder = Scratch::new("get");
        let repository = format!("{}/team/app", registry.host());
        let text = format!(
            r#"{{"source":{{"repository":"{repository}"}},"version":{{"tag":"v1","digest":"{digest}"}},"params":{params}}}"#
        );
        let request = Request::read(text.as_bytes()).unwrap();
        let source = Source::parse(request.source.as_deref()).unwrap();
        let (ui, ..) = captured(&Settings::default());
        let run = run(&source, request, folder.path(), &Env::default(), &Arc::new(ui));
        (folder, run)
    }

    #[test]
    fn get_writes_the_files_of_each_format() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        let digest = image(&registry);
        for (format, expected) in [
            ("rootfs", &["labels.json", "metadata.json", "rootfs/a"][..]),
            ("files", &["files/a"]),
            ("oci", &["image.tar", "labels.json"]),
            ("oci-tar", &["image.tar"]),
            ("oci-layout", &["oci/index.json"]),
        ] {
            let (folder, response) = get(&registry, &digest, &format!(r#"{{"format":"{format}"}}"#));
            assert_eq!(response.unwrap().version.digest.to_string(), digest, "{format}");
            for name in expected.iter().chain(&["repository", "tag", "digest"]) {
                assert!(folder.path().join(name).is_file(), "{format}: {name}");
            }
        }
    }

    #[test]
    fn get_requests_the_configuration_once() {
        for format in ["rootfs", "files", "oci", "oci-tar", "oci-layout"] {
            let registry = FaultRegistry::start(Access::Open, Vec::new());
            let digest = image(&registry);
            let folder = Scratch::new("get-once");
            let text = format!(
                r#"{{"source":{{"repository":"{}/team/app","label_regex":"^l$"}},"version":{{"tag":"v1","digest":"{digest}"}},"params":{{"format":"{format}"}}}}"#,
                registry.host()
            );
            let request = Request::read(text.as_bytes()).unwrap();
            let source = Source::parse(request.source.as_deref()).unwrap();
            let (ui, ..) = captured(&Settings::default());
            let response = run(&source, request, folder.path(), &Env::default(), &Arc::new(ui)).unwrap();
            assert_eq!(response.metadata.len(), 3, "{format}: the label is shown");
            assert_eq!(registry.count("GET", Thing::Blob), 2, "{format}: the layer and the configuration");
        }
    }

    #[test]
    fn get_with_skip_download_still_looks_for_the_version() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        let digest = image(&registry);
        let (folder, response) = get(&registry, &digest, r#"{"skip_download":true}"#);
        assert!(response.is_ok() && !folder.path().join("rootfs").exists());
        assert_eq!(registry.count("GET", Thing::Blob), 0);
        let gone = digest_of(b"gone");
        let (_folder, response) = get(&registry, &gone, r#"{"skip_download":true}"#);
        assert!(response.unwrap_err().message.to_string().contains(&gone));
    }

    #[test]
    fn get_refuses_wrong_params_before_the_first_request() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        let digest = digest_of(b"x");
        for (params, expected) in [
            (r#"{"format":"oci-layuot"}"#, "`params.format`: `oci-layuot` is no format"),
            (r#"{"referrers":true}"#, "`params.referrers`: it works with `params.format: oci-tar` only"),
            (r#"{"fromat":"oci"}"#, "unknown field `params.fromat`"),
        ] {
            let (_folder, response) = get(&registry, &digest, params);
            let message = response.map(|_| ()).unwrap_err().message.to_string();
            assert!(message.contains(expected), "{params}: {message}");
        }
        assert!(registry.log().is_empty(), "no request at all");
    }
}
