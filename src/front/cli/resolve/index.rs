//! The checked options of `index`.

use std::path::{Path, PathBuf};

use super::{
    RegistryOptions, Source, TarTarget, TarUrl, exactly_one, expect_no_store, expected_digest, given,
    given_list, given_path, parsed, parsed_list, platform, reference, registry, results, tags,
    target_reference, wrong,
};
use crate::depot::StoreReference;
use crate::front::cli::index_args::IndexArgs;
use crate::front::cli::values::key_value;
use crate::front::env::Env;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::glob;
use crate::front::result_file::ResultFile;
use crate::model::{Annotations, Digest, Platform, Reference, Repository, Tag};
use crate::store::Selector;
use crate::transfer::{Attached, JoinOptions};

/// Everything `index` needs.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// The sources of the images, tars first, in the order given.
    pub sources: Vec<Source>,
    /// The image that is taken from each tar; none takes all images of a tar.
    pub select: Option<Selector>,
    /// The target of the index.
    pub sink: IndexSink,
    /// Further tags for the index.
    pub tags: Vec<Tag>,
    /// How the images are joined.
    pub join: JoinOptions,
    /// Which attached manifests of a registry's images are copied.
    pub attached: Attached,
    /// The digest that the index has to have.
    pub expected_digest: Option<Digest>,
    /// Keys, one of which must have signed each image; `None` does not verify signatures.
    pub verify_keys: Vec<String>,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

/// Where an index is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexSink {
    /// A repository; without a tag the common name of the sources gives it.
    Registry {
        /// The repository.
        repository: Repository,
        /// The tag, if one was written.
        tag: Option<Tag>,
    },
    /// An OCI layout tar.
    OciTar {
        /// The file.
        target: TarTarget,
        /// The name to record; `None` takes the common name of the sources.
        name: Option<Reference>,
    },
}

impl IndexSink {
    /// Returns the tar that is written, if it is one.
    #[must_use]
    pub fn target(&self) -> Option<&TarTarget> {
        match self {
            Self::OciTar { target, .. } => Some(target),
            Self::Registry { .. } => None,
        }
    }
}

/// Resolves `index`.
pub fn index(args: &IndexArgs, env: &Env) -> Result<IndexOptions, Failure> {
    let mut sources = Vec::new();
    for path in args.tar.iter().filter(|path| !path.as_os_str().is_empty()) {
        sources.extend(tars(path)?);
    }
    let stores = parsed_list(Flag::STORE, &args.store, str::parse::<StoreReference>)?;
    sources.extend(stores.into_iter().map(Source::Store));
    for text in args.image.iter().filter(|text| !text.is_empty()) {
        sources.push(Source::Image(reference(Flag::IMAGE, text)?));
    }
    if sources.is_empty() {
        return Err(Failure::misuse("no image was given to list in the index").hint(message!(
            "name each platform's tar with ",
            Flag::TAR.with("FILE"),
            ", an image in a store with ",
            Flag::STORE.with("URL:TAG"),
            ", or an image in a registry with ",
            Flag::IMAGE.with("REFERENCE")
        )));
    }
    let name = given(args.name.as_deref()).map(|text| target_reference(Flag::NAME, text)).transpose()?;
    let to_repo =
        given(args.to_repo.as_deref()).map(|text| target_reference(Flag::TO_REPO, text)).transpose()?;
    let to_repo = to_repo.map(|name| IndexSink::Registry { repository: name.repository, tag: name.tag });
    let to_oci_tar = given_path(args.to_oci_tar.as_ref())
        .map(|path| IndexSink::OciTar { target: TarTarget::of(path), name: name.clone() });
    let sink = exactly_one("destination", vec![(Flag::TO_REPO, to_repo), (Flag::TO_OCI_TAR, to_oci_tar)])?;
    if name.is_some() && matches!(sink, IndexSink::Registry { .. }) {
        return Err(Failure::misuse(message!(Flag::NAME, " works with ", Flag::TO_OCI_TAR, " only"))
            .hint(message!("write the name as ", Flag::TO_REPO.with("REPOSITORY:TAG"))));
    }
    let annotations: Annotations =
        parsed_list(Flag::ANNOTATION, &args.annotation, key_value)?.into_iter().collect();
    let target = match &sink {
        IndexSink::Registry { repository, .. } => Some(repository),
        IndexSink::OciTar { .. } => None,
    };
    let named = sources.iter().filter_map(Source::repository).chain(target);
    Ok(IndexOptions {
        registry: registry(&args.registry)?.naming(named),
        sources,
        select: parsed(Flag::SELECT, args.select.as_deref(), str::parse::<Selector>)?,
        sink,
        tags: tags(&args.tag)?,
        join: JoinOptions {
            annotations,
            platform: platform(args.platform.as_deref())?,
            required: parsed_list(Flag::REQUIRE_PLATFORM, &args.require_platform, str::parse::<Platform>)?,
        },
        attached: super::attached(args.cosign_signatures, args.referrers),
        expected_digest: expected_digest(args.expected_digest.as_deref())?,
        verify_keys: given_list(&args.verify_key),
        results: results(&args.results.result, env)?,
    })
}

/// Returns the tars that a path, a pattern or a URL names.
pub(super) fn tars(path: &Path) -> Result<Vec<Source>, Failure> {
    expect_no_store(Flag::TAR, path)?;
    match TarUrl::of(path) {
        Some(url) => Ok(vec![Source::WebTar(url)]),
        None => Ok(expanded(path)?.into_iter().map(Source::Tar).collect()),
    }
}

/// Expands a pattern that the shell left as it is; a path that exists is no pattern.
///
/// Errors: a pattern that finds nothing, because an index without the artifact of one job would be wrong.
fn expanded(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let Some(pattern) = path.to_str().filter(|text| text.contains(['*', '?', '['])) else {
        return Ok(vec![path.to_owned()]);
    };
    if path.symlink_metadata().is_ok() {
        return Ok(vec![path.to_owned()]);
    }
    let folder = if path.is_absolute() { Path::new("/") } else { Path::new(".") };
    let found: Vec<PathBuf> = glob::find(folder, pattern)?
        .into_iter()
        .map(|path| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path))
        .collect();
    if found.is_empty() {
        return Err(wrong(Flag::TAR, &format_args!("`{pattern}` finds no file")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<IndexOptions, Failure> {
        index(&args(words), &Env::default())
    }

    #[test]
    fn index_takes_sources_in_any_mixture() {
        let options = resolve(&[
            "--tar=a.tar",
            "--tar=b.tar",
            "-i=r.io/c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "--to-oci-tar=x.tar",
            "--name=r.io/app:v1",
            "--require-platform=linux/amd64,linux/arm64",
        ])
        .unwrap();
        assert_eq!(options.sources.len(), 3);
        assert_eq!(options.join.required.len(), 2);
        let name = Some("r.io/app:v1".parse().unwrap());
        assert_eq!(options.sink, IndexSink::OciTar { target: TarTarget::File("x.tar".into()), name });
    }

    #[test]
    fn index_refuses_what_cannot_be_done_before_any_work() {
        for (words, expected) in [
            (&["--to-oci-tar=x"] as &[&str], "no image was given"),
            (&["--tar=a"], "no destination was given"),
            (&["--tar=a", "--to-oci-tar=x", "--to-repo=r.io/a"], "exclude each other"),
            (&["--tar=a", "--to-repo=r.io/a", "--name=r.io/b:v1"], "`--name` works with `--to-oci-tar` only"),
            (&["--tar=no-such-folder/*/x.tar", "--to-oci-tar=x"], "finds no file"),
            (&["--tar=a", "--to-oci-tar=x", "--require-platform=linux"], "is not of the form"),
        ] {
            let message = resolve(words).unwrap_err().render(false);
            assert!(message.contains(expected), "{words:?}: {message}");
        }
    }
}
