//! `in`: fetches one version into a folder, in the format that the pipeline asks for.
//!
//! The output depends on source, params and version only, because Concourse caches it for other builds. Every digest
//! is verified; the image's files appear only when they are complete.

use std::path::Path;
use std::sync::Arc;

use super::access::{self, Purpose, TRANSFER_CONCURRENCY};
use super::fields::Fields;
use super::output::{Format, Output, config, write};
use super::protocol::{Metadata, Request, Response, Version};
use super::source::{self, Source};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::text;
use crate::front::ui::Ui;
use crate::front::verification;
use crate::model::{Descriptor, Platform, Reference, Repository, Tag, Target};
use crate::registry::Client;
use crate::sign::PublicKey;
use crate::store::NamedImage;
use crate::stream::FileError;
use crate::transfer::events::Silent;
use crate::transfer::signatures::Trust;
use crate::transfer::{self, Attached, Collection, Gathering, ImageLocator, Member, RegistrySource, Role};

/// The `params` of a get.
#[derive(Debug)]
pub(super) struct Params {
    pub(super) format: Format,
    pub(super) skip_download: bool,
    /// Fetch signatures, attestations and SBOMs, too.
    pub(super) referrers: bool,
    pub(super) platform: Platform,
    /// Keys, one of which must have signed the image; `None` does not verify signatures.
    trust: Option<Trust>,
}

impl Params {
    /// Reads them.
    pub(super) fn parse(fields: Fields, source: &Source) -> Result<Self, Failure> {
        Self::parse_of(fields, &source.platform, &source.verify_keys)
    }

    /// Reads them; a missing platform or key is that of the source.
    pub(super) fn parse_of(
        mut fields: Fields,
        platform: &Platform,
        keys: &[PublicKey],
    ) -> Result<Self, Failure> {
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
            platform: source::platform(&mut fields, platform)?,
            trust: access::trust(keys, &mut fields)?,
        };
        if params.referrers && format != Format::OciTar {
            return Err(fields.invalid("referrers", "it works with `params.format: oci-tar` only"));
        }
        fields.finish()?;
        Ok(params)
    }

    /// Returns the keys; `None` does not verify signatures.
    pub(super) fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
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
    /// Returns the version's tag, or the source's if the version has none.
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
                verification::demand(&found.0, &found.1, Some(trust))?;
                self.ui.note(&format!("{repository}@{} is signed by a given key", self.version.digest));
                Some(found)
            }
            None => None,
        };
        if !self.params.skip_download {
            self.ui.note(&format!("fetching {repository}@{}", self.version.digest));
            let signed = match signed {
                None if self.params.referrers => Some(self.with_attached(repository, &root)?),
                // The verified signatures are written too.
                signed => signed,
            };
            let output = Output {
                format: self.params.format,
                platform: &self.params.platform,
                folder: self.folder,
                ui: self.ui,
                names: NamedImage::new(root.clone(), &self.names(repository)).names,
            };
            output.write(&source, &root, signed.as_ref().map(|(locator, all)| (locator, all)))?;
        }
        if self.source.labels.is_none() && self.source.annotations.is_none() {
            return Ok(Vec::new());
        }
        let manifest = transfer::resolve_manifest(&source, &root, Some(&self.params.platform))?;
        let labels = config(&source, &manifest)?.map(|config| config.config.labels).unwrap_or_default();
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

    /// Returns the names the image gets in a tar.
    fn names(&self, repository: &Repository) -> Vec<Reference> {
        // The name is the source's, not the mirror's, because the tar records it.
        let named = if *repository == self.source.repository { repository } else { &self.source.repository };
        let tag = self.version.tag().or_else(|| self.tag().parse::<Tag>().ok());
        tag.map(|tag| named.with_tag(tag)).into_iter().collect()
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
