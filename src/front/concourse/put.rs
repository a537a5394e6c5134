//! `out`: pushes an image that earlier steps made, or files that it packs itself.
//!
//! The request and the files are checked before anything is sent. A second run is cheap: each blob that is already
//! there costs one HEAD request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::{self, Purpose, TRANSFER_CONCURRENCY};
use super::fields::Fields;
use super::packing::{self, Values};
use super::protocol::{Metadata, Request, Response, Version};
use super::source::{self, Source};
use super::upload::{self, Chosen};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::glob;
use crate::front::joining::{JoinedIndex, gather_stored};
use crate::front::packing::{PackWork, base_of_store, open_base, open_places, origin};
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::front::verification;
use crate::model::{Digest, Platform, SemanticVersion, Tag, limits};
use crate::pack::LayerSplit;
use crate::registry::Client;
use crate::sign::PublicKey;
use crate::store::{self, Selector};
use crate::stream::read_text_file;
use crate::transfer::signatures::Trust;
use crate::transfer::{
    self, AppPush, AppRequest, Earlier, ImageLocator, JoinOptions, PackRequest, RunnableRequest,
};

/// The pushed images.
#[derive(Debug)]
pub(super) enum PutContent {
    /// The archives and folders that patterns match: one image, or its platforms.
    Image(Vec<String>),
    /// Files, packed first.
    Files(Box<PackWork>),
}

/// The `params` of a put, with the contents of the files that they name.
#[derive(Debug)]
pub(super) struct Params {
    pub(super) content: PutContent,
    pub(super) version: Option<SemanticVersion>,
    pub(super) bump_aliases: bool,
    pub(super) additional_tags: Vec<Tag>,
    pub(super) expected_digest: Option<Digest>,
    /// The selected image of an archive with several.
    pub(super) select: Option<Selector>,
    /// Push the signatures, attestations and SBOMs of the archive, too.
    pub(super) referrers: bool,
    /// Required platforms.
    pub(super) platforms_required: Vec<Platform>,
    /// Keys, one of which must have signed the pushed image; they replace those of the source.
    verify_keys: Vec<PublicKey>,
}

impl Params {
    /// Reads them.
    pub(super) fn parse(mut fields: Fields, folder: &Path, env: &Env) -> Result<Self, Failure> {
        let image = fields.texts("image")?;
        let expected_digest = expected_digest(&mut fields, folder)?;
        let mut values = Inputs { fields: &mut fields, folder };
        let files = packing::parse(&mut values, expected_digest.as_ref(), env)?;
        let content = match (image.is_empty(), files) {
            (false, Some(_)) => {
                return Err(Failure::misuse("`params.image` and `params.files` exclude each other"));
            }
            (false, None) => PutContent::Image(image),
            (true, Some(work)) => PutContent::Files(Box::new(work)),
            (true, None) => {
                return Err(Failure::misuse(
                    "nothing to push: neither `params.image` nor `params.files` is given",
                )
                .hint("`image: image/image.tar` pushes what a task wrote into its output `image`"));
            }
        };
        let version = match fields.scalar("version")? {
            None => None,
            Some(text) => Some(SemanticVersion::parse_loose(&text).ok_or_else(|| {
                fields
                    .invalid("version", format!("`{text}` is not a version such as `1.2.3` or `1.2.3-rc.1`"))
            })?),
        };
        let bump_aliases = fields.switch("bump_aliases")?;
        let additional_tags = additional_tags(&mut fields, folder)?;
        let referrers = fields.given_switch("referrers")?;
        if referrers == Some(true) && matches!(content, PutContent::Files(_)) {
            return Err(
                fields.invalid("referrers", "it belongs to `params.image`; what was just packed has none")
            );
        }
        let select = fields.scalar("select")?.map(|text| text.trim().parse::<Selector>()).transpose();
        let select = select.map_err(|error| fields.invalid("select", error))?;
        if select.is_some() && matches!(content, PutContent::Files(_)) {
            return Err(fields.invalid("select", "it belongs to `params.image`"));
        }
        let platforms_required = platforms_required(&mut fields)?;
        if !platforms_required.is_empty() && matches!(content, PutContent::Files(_)) {
            let problem = "it belongs to `params.image`; files are packed for one platform";
            return Err(fields.invalid("platforms_required", problem));
        }
        let verify_keys = source::verify_keys(&mut fields)?;
        fields.finish()?;
        Ok(Self {
            content,
            version,
            bump_aliases,
            additional_tags,
            expected_digest,
            select,
            referrers: referrers.unwrap_or(true),
            platforms_required,
            verify_keys,
        })
    }

    /// Returns the keys; `None` does not verify signatures.
    ///
    /// Errors: keys for an image that the put packs itself, which has no signature.
    pub(super) fn trust(&self, of_source: &[PublicKey]) -> Result<Option<Trust>, Failure> {
        let keys = if self.verify_keys.is_empty() { of_source } else { &self.verify_keys };
        match (&self.content, keys.is_empty()) {
            (_, true) => Ok(None),
            (PutContent::Image(_), false) => Ok(Some(Trust::of(keys.to_vec()))),
            (PutContent::Files(_), false) => Err(Failure::misuse(
                "`verify_key` requires a signature, but this put makes the image of `params.files`, which has none",
            )
            .hint("pack it in a task, sign the tar there, and push it with `params.image`")),
        }
    }
}

/// Params of a put, about files below its folder.
struct Inputs<'a> {
    fields: &'a mut Fields,
    folder: &'a Path,
}

impl Values for Inputs<'_> {
    fn name(&self, key: &str) -> String {
        self.fields.path_of(key)
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        // The words of `entrypoint` are a list in YAML.
        self.fields.scalar_or_list(key)
    }

    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, Failure> {
        self.fields.texts(key)
    }

    fn table(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Failure> {
        self.fields.table(key)
    }

    fn switch(&mut self, key: &'static str) -> Result<bool, Failure> {
        self.fields.switch(key)
    }

    fn find(&self, pattern: &str) -> Result<Vec<PathBuf>, Failure> {
        glob::find(self.folder, pattern)
    }
}

fn platforms_required(fields: &mut Fields) -> Result<Vec<Platform>, Failure> {
    let texts = fields.texts("platforms_required")?;
    let platforms = texts.iter().map(|text| text.parse::<Platform>()).collect::<Result<_, _>>();
    platforms.map_err(|error| fields.invalid("platforms_required", error))
}

/// Reads the tags from the file that `additional_tags` names.
fn additional_tags(fields: &mut Fields, folder: &Path) -> Result<Vec<Tag>, Failure> {
    let (file, prefix) = (fields.text("additional_tags")?, fields.text("tag_prefix")?);
    let Some(file) = file else {
        return match prefix {
            None => Ok(Vec::new()),
            Some(_) => {
                Err(fields
                    .invalid("tag_prefix", "it belongs to `params.additional_tags`, which is not given"))
            }
        };
    };
    let prefix = prefix.unwrap_or_default();
    let content = read_text(fields, "additional_tags", &folder.join(&file))?;
    content
        .split_whitespace()
        .map(|word| format!("{prefix}{word}").parse::<Tag>())
        .collect::<Result<_, _>>()
        .map_err(|error| fields.invalid("additional_tags", format!("`{file}`: {error}")))
}

/// Reads `expected_digest`: a digest, or a file that holds one.
fn expected_digest(fields: &mut Fields, folder: &Path) -> Result<Option<Digest>, Failure> {
    let Some(text) = fields.text("expected_digest")? else { return Ok(None) };
    if text.starts_with("sha256:") || text.starts_with("sha512:") {
        return text.parse().map(Some).map_err(|error| fields.invalid("expected_digest", error));
    }
    let content = read_text(fields, "expected_digest", &folder.join(&text))?;
    let digest = content.trim().parse();
    digest.map(Some).map_err(|error| fields.invalid("expected_digest", format!("`{text}`: {error}")))
}

fn read_text(fields: &Fields, key: &str, path: &Path) -> Result<String, Failure> {
    read_text_file(path, limits::PARAM_FILE_BYTES).map_err(|error| {
        let failure = fields.invalid(key, &error);
        match error.io_error() {
            Some(_) => failure.hint(
                "the path begins with the name of an artifact; `inputs` of the put step has to have it",
            ),
            None => failure,
        }
    })
}

/// Pushes, and returns the result.
pub(super) fn run(
    source: &Source,
    request: Request,
    folder: &Path,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<Response, Failure> {
    let params = Params::parse(request.params, folder, env)?;
    let trust = params.trust(&source.verify_keys)?;
    let variant = source.variant.as_deref();
    let mut own: Vec<Tag> = source.tag.iter().cloned().collect();
    if let Some(version) = &params.version {
        own.push(tag_of(&version.to_string(), variant)?);
    }
    if own.is_empty() && params.additional_tags.is_empty() {
        return Err(Failure::misuse(
            "no tag to push: none of `source.tag`, `params.version` and `params.additional_tags` is given",
        ));
    }
    let temporary = access::temporary_folder(env);
    let client = access::client(source, Purpose::Transfer, env, ui)?;
    let (client, temporary, trust) = (&client, &temporary, trust.as_ref());
    let put = Put { source, params: &params, trust, own, client, temporary, ui };
    let Pushed { digest, tags } = match &params.content {
        PutContent::Image(patterns) => put.found(folder, patterns)?,
        PutContent::Files(work) => match work.as_ref() {
            PackWork::Plain(request) => put.packed(request)?,
            PackWork::Runnable { request, places } => put.runnable(request, places)?,
            PackWork::App { request, base } => put.packed_app(request, base.as_deref())?,
        },
    };
    let first = tags.first().map(ToString::to_string);
    let listed: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    Ok(Response {
        version: Version { tag: first, digest, pushed: None },
        metadata: vec![
            Metadata::new("repository", &*source.written),
            Metadata::new("tags", listed.join(" ")),
        ],
    })
}

/// A prepared push.
struct Put<'a> {
    source: &'a Source,
    params: &'a Params,
    trust: Option<&'a Trust>,
    /// The tags of the request, in order.
    own: Vec<Tag>,
    client: &'a Client,
    temporary: &'a Path,
    ui: &'a Ui,
}

/// The result of a push.
struct Pushed {
    digest: Digest,
    /// Each tag once, in the requested order.
    tags: Vec<Tag>,
}

impl Put<'_> {
    /// Returns every tag once: those of the request, then those from the registry or a file.
    fn tags(&self, what: &str) -> Result<Vec<Tag>, Failure> {
        let mut tags = self.own.clone();
        let final_version = self.params.version.as_ref().filter(|version| !version.is_pre_release());
        if let Some(version) = final_version.filter(|_| self.params.bump_aliases) {
            let there = match self.client.list_tags(&self.source.repository) {
                Ok(there) => there,
                // The first push creates the repository.
                Err(error) if error.is_not_found() => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            let (variant, bare) = (self.source.variant.as_deref(), self.source.bare_tag());
            tags.extend(aliases(&there, variant, bare, version)?);
        }
        tags.extend(self.params.additional_tags.iter().cloned());
        let tags = each_once(&tags);
        let shown = text::quoted_list(tags.iter().map(Tag::as_str));
        self.ui.note(&format!("pushing {what} to {} as {shown}", self.source.repository));
        Ok(tags)
    }

    /// Pushes images of earlier steps: one image, or several joined into one for several platforms.
    fn found(&self, folder: &Path, patterns: &[String]) -> Result<Pushed, Failure> {
        let paths = upload::find(folder, patterns)?;
        match paths.as_slice() {
            [path] => self.image(folder, path),
            paths => self.index(paths),
        }
    }

    fn image(&self, folder: &Path, path: &Path) -> Result<Pushed, Failure> {
        let label = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let store = store::open(path, self.temporary)?;
        let expected = self.params.expected_digest.as_ref();
        let mut chosen = Chosen::of(&store, &label, self.params.select.as_ref(), expected)?;
        chosen.require(&self.params.platforms_required)?;
        // Nothing is sent unless a key signed the image; the verified signatures are pushed too.
        chosen.demand(self.trust)?;
        if !self.params.referrers && self.trust.is_none() {
            upload::note_left_out(self.ui, &format!("`{label}` also holds"), chosen.without_attached());
        }
        let digest = chosen.digest();
        transfer::check_expected(expected, digest)?;
        let tags = self.tags(&digest.to_string())?;
        chosen.upload(self.client, &self.source.repository, &tags, self.ui)?;
        Ok(Pushed { digest: digest.clone(), tags })
    }

    /// Joins the images of several archives into one index and pushes it.
    fn index(&self, paths: &[PathBuf]) -> Result<Pushed, Failure> {
        let stores = paths.iter().map(|path| store::open(path, self.temporary));
        let stores = stores.collect::<Result<Vec<_>, _>>()?;
        let places: Vec<_> = stores.iter().map(|store| ImageLocator::over(store, None)).collect();
        let required = self.params.platforms_required.clone();
        let options = JoinOptions { required, ..JoinOptions::default() };
        let expected = self.params.expected_digest.as_ref();
        reporter::watch(self.ui, Wording::Uploaded, |observer| {
            let collections =
                gather_stored(&stores, &places, self.params.select.as_ref(), TRANSFER_CONCURRENCY, observer)?;
            for (places, collection) in places.iter().zip(&collections) {
                verification::demand(places, collection, self.trust)?;
            }
            let mut index = JoinedIndex::of(&places, &collections, &options, expected, observer)?;
            if !self.params.referrers && self.trust.is_none() {
                upload::note_left_out(self.ui, "the archives also hold", index.without_attached());
            }
            let digest = index.digest().clone();
            let tags = self.tags(&digest.to_string())?;
            let repository = &self.source.repository;
            index.push(self.client, repository, &tags, TRANSFER_CONCURRENCY, observer)?;
            Ok(Pushed { digest, tags })
        })
    }

    /// Packs a bundle or an image and pushes it.
    fn packed(&self, request: &PackRequest) -> Result<Pushed, Failure> {
        let (packed, image) = reporter::watch(self.ui, Wording::Written, |observer| {
            transfer::pack_to_spool(request, self.temporary, observer)
        })?;
        let root = packed.manifest.descriptor();
        let tags = self.tags(&root.digest.to_string())?;
        upload::packed(&image, root, self.client, &self.source.repository, &tags, self.ui)?;
        Ok(Pushed { digest: packed.manifest.digest().clone(), tags })
    }

    /// Makes an image that runs and pushes it.
    fn runnable(&self, request: &RunnableRequest, places: &[PathBuf]) -> Result<Pushed, Failure> {
        let stores = open_places(places, self.temporary)?;
        let origin = origin(&stores)?;
        let made = reporter::watch(self.ui, Wording::Written, |observer| {
            transfer::make_runnable(request, &origin, self.temporary, observer)
        })?;
        let root = made.root.descriptor();
        let tags = self.tags(&root.digest.to_string())?;
        upload::packed(&made.source, root, self.client, &self.source.repository, &tags, self.ui)?;
        Ok(Pushed { digest: made.root.digest().clone(), tags })
    }

    /// Packs a source image and pushes it; layers of an earlier image in the repository are used again.
    fn packed_app(&self, request: &AppRequest, base: Option<&Path>) -> Result<Pushed, Failure> {
        let store = open_base(base, self.temporary)?;
        let repository = &self.source.repository;
        let earlier = match &store {
            Some(store) => Earlier::Known(base_of_store(store)?),
            // With a single layer no layer can be used again.
            None if request.layer_split == LayerSplit::One => Earlier::None,
            None => {
                let bare = || self.source.bare_tag().parse::<Tag>().ok();
                match self.source.tag.clone().or_else(bare) {
                    Some(tag) => Earlier::Repository { reference: repository.with_tag(tag), required: false },
                    None => Earlier::None,
                }
            }
        };
        let tags = self.tags("a source image")?;
        let push = AppPush {
            request,
            earlier,
            repository: repository.clone(),
            tags: &tags,
            concurrency: TRANSFER_CONCURRENCY,
            folder: self.temporary.to_owned(),
        };
        let packed = reporter::watch(self.ui, Wording::Uploaded, |observer| {
            transfer::push_app(&push, self.client, observer)
        })?;
        Ok(Pushed { digest: packed.manifest.digest().clone(), tags })
    }
}

/// Returns each tag once, in the order of its first use.
pub(super) fn each_once(tags: &[Tag]) -> Vec<Tag> {
    let mut unique: Vec<Tag> = Vec::new();
    for tag in tags {
        if !unique.contains(tag) {
            unique.push(tag.clone());
        }
    }
    unique
}

/// Makes the tag of a version, with the variant at its end.
pub(super) fn tag_of(version: &str, variant: Option<&str>) -> Result<Tag, Failure> {
    let text = variant.map_or_else(|| version.to_owned(), |variant| format!("{version}-{variant}"));
    text.parse().map_err(|error| {
        let failure = Failure::misuse(format!("`params.version`: {error}"));
        if text.contains('+') {
            return failure.hint("tags cannot have a `+`; leave out what follows it");
        }
        failure
    })
}

/// Returns the aliases of a version, `latest`, `1`, `1.2`, unless a newer version has them.
pub(super) fn aliases(
    tags: &[String],
    variant: Option<&str>,
    bare: &str,
    new: &SemanticVersion,
) -> Result<Vec<Tag>, Failure> {
    let there = tags.iter().filter_map(|tag| {
        let bare = match variant {
            Some(variant) => tag.strip_suffix(variant)?.strip_suffix('-')?,
            None => tag,
        };
        SemanticVersion::parse_loose(bare).filter(|version| !version.is_pre_release())
    });
    let (mut latest, mut major, mut minor) = (true, true, true);
    for other in there {
        latest &= other.precedence(new) != std::cmp::Ordering::Greater;
        let same_major = other.major == new.major;
        major &= !(same_major && (other.minor, other.patch) > (new.minor, new.patch));
        minor &= !(same_major && other.minor == new.minor && other.patch > new.patch);
    }
    let mut aliases = Vec::new();
    if latest {
        let bare = bare.parse().map_err(|error| Failure::misuse(format!("`source.variant`: {error}")))?;
        aliases.push(bare);
    }
    if major {
        aliases.push(tag_of(&new.major.to_string(), variant)?);
    }
    if minor {
        aliases.push(tag_of(&format!("{}.{}", new.major, new.minor), variant)?);
    }
    Ok(aliases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::ui::Settings;
    use crate::front::ui::tests::captured;
    use testkit::fault::{Access, FaultRegistry};
    use testkit::scratch::Scratch;

    /// Puts a folder with one file `src/a` and returns the response, or the text of the failure.
    fn put(registry: &FaultRegistry, source: &str, params: &str) -> Result<Response, String> {
        let folder = Scratch::new("put");
        std::fs::create_dir(folder.path().join("src")).unwrap();
        std::fs::write(folder.path().join("src/a"), "a").unwrap();
        let repository = format!("{}/team/app", registry.host());
        let text = format!(
            r#"{{"source":{{"repository":"{repository}",{source}}},"params":{{"files":"src",{params}}}}}"#
        );
        let request = Request::read(text.as_bytes()).unwrap();
        let source = Source::parse(request.source.as_deref()).unwrap();
        let (ui, ..) = captured(&Settings::default());
        let env = Env::from_pairs([("TMPDIR", folder.path())]);
        let run = run(&source, request, folder.path(), &env, &Arc::new(ui));
        run.map_err(|failure| failure.message.to_string())
    }

    fn tags(response: &Response) -> &str {
        let line = response.metadata.iter().find(|line| line.name == "tags").unwrap();
        &line.value
    }

    #[test]
    fn put_lists_each_tag_once_in_the_order_asked_for() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        let bump = r#""version":"1.2.3","bump_aliases":true"#;
        let response = put(&registry, r#""tag":"latest""#, bump).unwrap();
        assert_eq!(tags(&response), "latest 1.2.3 1 1.2");
        assert_eq!(response.version.tag.as_deref(), Some("latest"));
        let digest = response.version.digest.to_string();
        for tag in ["latest", "1.2.3", "1", "1.2"] {
            assert_eq!(registry.tag("team/app", tag), Some(digest.clone()), "{tag}");
        }
        // An older version does not change the aliases of newer ones.
        let response = put(&registry, r#""variant":"""#, r#""version":"1.1.0","bump_aliases":true"#).unwrap();
        assert_eq!(tags(&response), "1.1.0 1.1");
    }

    #[test]
    fn put_refuses_a_wrong_request_before_anything_is_sent() {
        let registry = FaultRegistry::start(Access::Open, Vec::new());
        for (source, params, expected) in [
            (r#""tag":"v1""#, r#""image":"x""#, "`params.image` and `params.files` exclude each other"),
            (r#""variant":"""#, r#""kind":"image""#, "no tag to push"),
            (r#""tag":"v1""#, r#""version":"one""#, "`params.version`: `one` is not a version"),
            (r#""tag":"v1""#, r#""referrers":true"#, "`params.referrers`: it belongs to `params.image`"),
            (r#""tag":"v1""#, r#""tag_prefix":"x""#, "`params.tag_prefix`: it belongs to"),
            (r#""tag":"v1""#, r#""additional_tags":"none""#, "`params.additional_tags`: cannot read"),
            (r#""tag":"v1""#, r#""symlinks":"follow""#, "`params.symlinks`"),
        ] {
            let message = put(&registry, source, params).map(|_| ()).unwrap_err();
            assert!(message.contains(expected), "{params}: {message}");
        }
        assert!(registry.log().is_empty(), "no request at all");
    }

    #[test]
    fn put_takes_a_version_and_a_password_with_a_line_break_at_the_end() {
        let registry = FaultRegistry::start(Access::Basic("user", "secret"), Vec::new());
        let source = r#""username":"user\n","password":"secret\n""#;
        let response = put(&registry, source, r#""version":"1.2.3\n""#).unwrap();
        assert_eq!(tags(&response), "1.2.3");
    }
}
