//! `out`: an image that earlier steps made, or files packed on the spot, to the registry.
//!
//! All that can be wrong in the request and in the files is found before anything is sent. Running it again does
//! no harm: what is there already costs a question each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::{self, Purpose, TRANSFER_CONCURRENCY};
use super::fields::Fields;
use super::packing::{self, Packing};
use super::protocol::{Metadata, Request, Response, Version};
use super::source::{Login, Source};
use super::{glob, version};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::{Descriptor, Digest, RawDocument, Tag, limits, media_type};
use crate::registry::{Client, Secret};
use crate::store::{self, ImageStore, Root, StoreKind};
use crate::stream::{FileError, TooLarge, read_bounded};
use crate::transfer::{self, ImageSource, PushRequest, StoreSource, TransferError};

/// Largest file with tags or a digest, bytes.
const TEXT_BYTES: u64 = 64 * 1024;

/// What is pushed.
#[derive(Debug)]
enum What {
    /// The one archive or folder that a pattern finds.
    Image(String),
    /// Files, packed first.
    Files(Box<Packing>),
}

/// What `params` of a put say, with the files among them read.
#[derive(Debug)]
struct Params {
    what: What,
    version: Option<version::Version>,
    bump_aliases: bool,
    additional_tags: Vec<Tag>,
    expected_digest: Option<Digest>,
    login: Option<Login>,
}

impl Params {
    fn parse(mut fields: Fields, folder: &Path) -> Result<Self, Failure> {
        let image = fields.text("image")?;
        let packing = Packing::parse(&mut fields, folder)?;
        let what = match (image, packing) {
            (Some(_), Some(_)) => {
                return Err(Failure::misuse("`params.image` and `params.files` exclude each other"));
            }
            (Some(image), None) => What::Image(image),
            (None, Some(packing)) => What::Files(Box::new(packing)),
            (None, None) => {
                return Err(Failure::misuse(
                    "nothing to push: neither `params.image` nor `params.files` is given",
                )
                .hint("`image: image/image.tar` pushes what a task wrote into its output `image`"));
            }
        };
        let version = match fields.scalar("version")? {
            None => None,
            Some(text) => Some(version::Version::parse(&text).ok_or_else(|| {
                fields
                    .invalid("version", format!("`{text}` is not a version such as `1.2.3` or `1.2.3-rc.1`"))
            })?),
        };
        let bump_aliases = fields.switch("bump_aliases")?;
        let additional_tags = additional_tags(&mut fields, folder)?;
        let expected_digest = expected_digest(&mut fields, folder)?;
        let (username, password) = (fields.text("username")?, fields.text("password")?);
        let login = username
            .zip(password)
            .map(|(username, password)| Login { username, password: Secret::new(password) });
        fields.finish()?;
        Ok(Self { what, version, bump_aliases, additional_tags, expected_digest, login })
    }
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
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| {
        fields
            .invalid(key, format!("cannot read `{shown}`: {error}"))
            .hint("the path begins with the name of an artifact; `inputs` of the put step has to have it")
    })?;
    let bytes = read_bounded(file, TEXT_BYTES).map_err(|error| match error {
        TooLarge::Io(error) => fields.invalid(key, format!("cannot read `{shown}`: {error}")),
        TooLarge::Limit { limit } => fields.invalid(key, format!("`{shown}` has more than {limit} bytes")),
    })?;
    String::from_utf8(bytes).map_err(|_| fields.invalid(key, format!("`{shown}` is not UTF-8")))
}

/// Pushes and says what was pushed.
pub(super) fn run(
    mut source: Source,
    request: Request,
    folder: &Path,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<Response, Failure> {
    let params = Params::parse(request.params, folder)?;
    if params.login.is_some() {
        source.login.clone_from(&params.login);
    }
    let variant = source.variant.as_deref();
    let mut tags: Vec<Tag> = source.tag.iter().cloned().collect();
    if let Some(version) = &params.version {
        tags.push(tag_of(&version.to_string(), variant)?);
    }
    if tags.is_empty() && params.additional_tags.is_empty() {
        return Err(Failure::misuse(
            "no tag to push: none of `source.tag`, `params.version` and `params.additional_tags` is given",
        ));
    }
    let temporary = access::temporary_folder(env);
    let client = access::client(&source, Purpose::Transfer, env, ui)?;
    let aliases = |version: &version::Version| aliases(&client, &source, version);
    let push =
        |tags: &mut Vec<Tag>, what: &dyn ImageSource, roots: &[Descriptor]| -> Result<Digest, Failure> {
            let root =
                roots.first().ok_or_else(|| Failure::refused(format!("{} holds no image", what.place())))?;
            check_expected(params.expected_digest.as_ref(), &root.digest)?;
            if let Some(version) =
                params.version.as_ref().filter(|version| params.bump_aliases && !version.is_pre_release())
            {
                tags.extend(aliases(version)?);
            }
            tags.extend(params.additional_tags.iter().cloned());
            upload(&client, &source, what, roots, tags, ui)?;
            Ok(root.digest.clone())
        };
    let digest = match &params.what {
        What::Image(pattern) => {
            let store = open(folder, pattern, &temporary)?;
            let chosen = Chosen::of(store.as_ref(), pattern)?;
            push(&mut tags, &chosen, &chosen.roots)?
        }
        What::Files(packing) => {
            let (packed, image) = packing::pack(packing, &temporary, env, ui)?;
            push(&mut tags, &image, &[packed.manifest.descriptor()])?
        }
    };
    let first = tags.first().map(ToString::to_string);
    let listed: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    Ok(Response {
        version: Version { tag: first, digest },
        metadata: vec![
            Metadata::new("repository", &*source.written),
            Metadata::new("tags", listed.join(" ")),
        ],
    })
}

fn upload(
    client: &Client,
    source: &Source,
    what: &dyn ImageSource,
    roots: &[Descriptor],
    tags: &[Tag],
    ui: &Ui,
) -> Result<(), Failure> {
    let mut unique: Vec<Tag> = Vec::new();
    for tag in tags {
        if !unique.contains(tag) {
            unique.push(tag.clone());
        }
    }
    ui.note(&format!(
        "pushing {} as {}",
        source.repository,
        text::quoted_list(unique.iter().map(Tag::as_str))
    ));
    // What the first image refers to goes first and without a tag.
    let mut wanted: Vec<(Descriptor, Vec<Tag>)> =
        roots.iter().skip(1).map(|root| (root.clone(), Vec::new())).collect();
    wanted.extend(roots.first().map(|root| (root.clone(), unique)));
    let request = PushRequest {
        repository: source.repository.clone(),
        roots: wanted,
        mount_from: Vec::new(),
        concurrency: TRANSFER_CONCURRENCY,
        include_non_distributable: true,
    };
    reporter::watch(ui, Wording::Uploaded, |observer| {
        transfer::push_to_registry(what, client, &request, observer)
    })?;
    Ok(())
}

/// Makes the tag of a version, with the variant behind it.
fn tag_of(version: &str, variant: Option<&str>) -> Result<Tag, Failure> {
    let text = variant.map_or_else(|| version.to_owned(), |variant| format!("{version}-{variant}"));
    text.parse().map_err(|error| {
        let failure = Failure::misuse(format!("`params.version`: {error}"));
        if text.contains('+') {
            return failure.hint("tags cannot have a `+`; leave out what follows it");
        }
        failure
    })
}

/// Returns the tags that are to follow a version: `latest`, `1`, `1.2`, unless something newer has them.
fn aliases(client: &Client, source: &Source, new: &version::Version) -> Result<Vec<Tag>, Failure> {
    let tags = match client.list_tags(&source.repository) {
        Ok(tags) => tags,
        // The first push makes the repository.
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let variant = source.variant.as_deref();
    let there = tags.iter().filter_map(|tag| {
        let bare = match variant {
            Some(variant) => tag.strip_suffix(variant)?.strip_suffix('-')?,
            None => tag,
        };
        version::Version::parse(bare).filter(|version| !version.is_pre_release())
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
        let bare = source
            .bare_tag()
            .parse()
            .map_err(|error| Failure::misuse(format!("`source.variant`: {error}")))?;
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

fn check_expected(expected: Option<&Digest>, found: &Digest) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != found => Err(Failure::difference(format!(
            "the image has digest `{found}`, but `params.expected_digest` is `{expected}`"
        ))),
        _ => Ok(()),
    }
}

/// Opens the one archive or folder that a pattern finds.
fn open(folder: &Path, pattern: &str, temporary: &Path) -> Result<Box<dyn ImageStore>, Failure> {
    let mut found = glob::find(folder, pattern)?;
    let short = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    if found.len() > 1 {
        let names = text::quoted_list(found.iter().map(short));
        let count = found.len();
        return Err(Failure::misuse(format!(
            "`params.image`: `{pattern}` finds {count} files, expected one: {names}"
        )));
    }
    let Some(path) = found.pop() else {
        let failure = Failure::misuse(format!("`params.image`: `{pattern}` finds nothing"));
        let there: Vec<String> = glob::find(folder, "*/*")?.iter().map(short).collect();
        return Err(if there.is_empty() {
            failure.hint("no artifact is here; `inputs` of the put step says which ones it gets")
        } else {
            failure.hint(format!("here are {}", text::quoted_list(there)))
        });
    };
    Ok(store::open(&path, temporary)?)
}

/// What of a store is pushed.
struct Chosen<'a> {
    store: StoreSource<'a>,
    /// The image first, then what it refers to.
    roots: Vec<Descriptor>,
    /// `index.json`, where that is the image.
    index: Option<RawDocument>,
}

impl<'a> Chosen<'a> {
    fn of(store: &'a dyn ImageStore, pattern: &str) -> Result<Self, Failure> {
        let chosen = |roots| Self { store: StoreSource(store), roots, index: None };
        let roots = store.roots();
        if let [only] = roots {
            return Ok(chosen(vec![only.descriptor.clone()]));
        }
        if let Some(root) = roots.iter().find(|root| root.is_root_bundle) {
            let others = roots.iter().filter(|other| other.descriptor.digest != root.descriptor.digest);
            let all = std::iter::once(root).chain(others).map(|root| root.descriptor.clone());
            return Ok(chosen(all.collect()));
        }
        // Images without names of their own in one layout are the platforms of one image.
        let is_index = |root: &Root| root.names.is_empty() || root.descriptor.platform.is_some();
        if store.kind() == StoreKind::OciLayoutDirectory && roots.iter().all(is_index) {
            let index = read_index(store)?;
            return Ok(Self {
                store: StoreSource(store),
                roots: vec![index.descriptor()],
                index: Some(index),
            });
        }
        let digests = text::quoted_list(roots.iter().map(|root| root.descriptor.digest.to_string()));
        Err(Failure::refused(format!(
            "`params.image`: `{pattern}` holds {} images, expected one: {digests}",
            roots.len()
        )))
    }
}

/// Reads the `index.json` of a layout folder as an image index.
fn read_index(store: &dyn ImageStore) -> Result<RawDocument, Failure> {
    let path = store.path().join("index.json");
    let failed = |error| FileError::io("read", &path, error);
    let file = std::fs::File::open(&path).map_err(failed)?;
    let bytes = read_bounded(file, limits::DOCUMENT_BYTES).map_err(|error| match error {
        TooLarge::Io(error) => Failure::from(failed(error)),
        TooLarge::Limit { limit } => {
            Failure::refused(format!("`{}` has more than {limit} bytes", path.display()))
        }
    })?;
    // The resource hands on an index as it was at the registry, which may have been one of Docker's.
    let is_docker =
        bytes.windows(media_type::DOCKER_INDEX.len()).any(|part| part == media_type::DOCKER_INDEX.as_bytes());
    let kind = if is_docker { media_type::DOCKER_INDEX } else { media_type::OCI_INDEX };
    Ok(RawDocument::parse(bytes, Some(kind))?)
}

impl ImageSource for Chosen<'_> {
    fn place(&self) -> String {
        self.store.place()
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<RawDocument, TransferError> {
        match &self.index {
            Some(index) if *index.digest() == descriptor.digest => Ok(index.clone()),
            _ => self.store.read_document(descriptor),
        }
    }

    fn open_blob(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Box<dyn std::io::Read + Send + '_>, TransferError> {
        self.store.open_blob(descriptor)
    }

    fn lacks(&self, digest: &Digest) -> bool {
        self.store.lacks(digest)
    }
}
