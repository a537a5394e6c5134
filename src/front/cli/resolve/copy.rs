//! The checked options of `copy`.

use std::path::PathBuf;

use super::{
    RegistryOptions, Source, SourceFlags, TarTarget, any_sources, exactly_one, expected_digest, given,
    given_list, given_path, is_on, parsed_list, registry, repository, results, source, store_writing, tags,
    target_reference, target_store, wrong,
};
use crate::depot::StoreReference;
use crate::front::cli::args::CopyArgs;
use crate::front::env::Env;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::result_file::ResultFile;
use crate::model::{Digest, Platform, Repository, Tag};
use crate::store::Selector;
use crate::transfer::Attached;

/// Everything `copy` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The source.
    pub source: Source,
    /// The selected image of a tar.
    pub select: Option<Selector>,
    /// The target.
    pub sink: Sink,
    /// Tags to give at the sink besides its own or the recorded ones.
    pub tags: Vec<Tag>,
    /// Whether bundles are copied without the images they name.
    pub thin: bool,
    /// Whether images that bundles in a tar name are fetched.
    pub inflate: bool,
    /// Whether the images in the tar are kept.
    pub append: bool,
    /// Whether fetched blobs are kept when the work fails.
    pub resume: bool,
    /// What the target has already, and is left out of the tar.
    pub without: Vec<Source>,
    /// Sources with the blobs that the tar lacks.
    pub bases: Vec<Source>,
    /// Repositories that may have the blobs that the tar lacks.
    pub from: Vec<Repository>,
    /// Which attached manifests are copied.
    pub attached: Attached,
    /// Whether each image goes below the repository, under its own name.
    pub keep_names: bool,
    /// Whether images get imgpkg's tag by digest.
    pub imgpkg_tags: bool,
    /// Whether default tags begin with the repository's name.
    pub repo_based_tags: bool,
    /// Whether non-distributable layers are copied.
    pub include_non_distributable: bool,
    /// The platforms of an index that are copied; none for all, or for `linux/amd64` in docker's tar.
    pub platforms: Vec<Platform>,
    /// The digest the image has to have.
    pub expected_digest: Option<Digest>,
    /// Keys, one of which must have signed each image; `None` does not verify signatures.
    pub verify_keys: Vec<String>,
    /// Whether what is written into a store is read back.
    pub verify_upload: bool,
    /// Where a lock with the new places is written.
    pub lock_output: Option<PathBuf>,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

/// Where an image is copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A repository; without a tag recorded tags are kept.
    Registry {
        /// The repository.
        repository: Repository,
        /// The tag, if one was written.
        tag: Option<Tag>,
    },
    /// An OCI layout tar.
    OciTar(TarTarget),
    /// imgpkg's tar.
    ImgpkgTar(TarTarget),
    /// docker's tar, with one image.
    DockerTar(TarTarget),
    /// An image store; without a tag recorded tags are kept.
    Store(StoreReference),
}

/// Resolves `copy`.
pub fn copy(args: &CopyArgs, env: &Env) -> Result<CopyOptions, Failure> {
    let flags = SourceFlags { lock: given_path(args.lock.as_ref()), ..SourceFlags::of(&args.source) };
    let source =
        source(&flags, &[Flag::BUNDLE, Flag::IMAGE, Flag::LOCK, Flag::TAR, Flag::OCI_TAR, Flag::STORE])?;
    let to_repo =
        given(args.to_repo.as_deref()).map(|text| target_reference(Flag::TO_REPO, text)).transpose()?;
    let to_repo = to_repo.map(|name| Sink::Registry { repository: name.repository, tag: name.tag });
    let to_oci_tar = given_path(args.to_oci_tar.as_ref()).map(|path| Sink::OciTar(TarTarget::of(path)));
    let to_tar = given_path(args.to_tar.as_ref()).map(|path| Sink::ImgpkgTar(TarTarget::of(path)));
    let to_docker_tar =
        given_path(args.to_docker_tar.as_ref()).map(|path| Sink::DockerTar(TarTarget::of(path)));
    let sinks = vec![
        (Flag::TO_REPO, to_repo),
        (Flag::TO_OCI_TAR, to_oci_tar),
        (Flag::TO_TAR, to_tar),
        (Flag::TO_DOCKER_TAR, to_docker_tar),
        (Flag::TO_STORE, target_store(args.to_store.as_deref())?.map(Sink::Store)),
    ];
    let sink = exactly_one("destination", sinks)?;
    let store = match &sink {
        Sink::Store(store) => Some(store),
        _ => None,
    };
    let (verify_upload, encryption) = store_writing(&args.store_write, store)?;
    let lock_output = given_path(args.lock_output.as_ref()).map(PathBuf::from);
    if lock_output.is_some() && !matches!(sink, Sink::Registry { .. }) {
        return Err(Failure::misuse(message!(Flag::LOCK_OUTPUT, " cannot be used when a tar is written"))
            .hint(message!(
                "a lock names images in a registry; write it when the tar is copied with ",
                Flag::TO_REPO
            )));
    }
    check_switches(args, &source, &sink)?;
    check_delta(args, &source, &sink)?;
    let without = any_sources(Flag::WITHOUT, &args.without)?;
    let bases = any_sources(Flag::BASE_TAR, &args.base_tar)?;
    let from = args.from.iter().filter(|text| !text.is_empty()).map(|text| repository(Flag::FROM, text));
    let from = from.collect::<Result<Vec<Repository>, Failure>>()?;
    let target = match &sink {
        Sink::Registry { repository, .. } => Some(repository),
        _ => None,
    };
    let others = without.iter().chain(&bases).filter_map(Source::repository);
    let named = source.repository().into_iter().chain(target).chain(others);
    let registry = RegistryOptions { encryption, ..registry(&args.registry)?.naming(named) };
    Ok(CopyOptions {
        select: super::selector(&args.source.tars, &source)?,
        source,
        platforms: chosen_platforms(&args.platform, &sink)?,
        sink,
        thin: is_on(args.thin, false),
        inflate: is_on(args.inflate, false),
        append: is_on(args.append, false),
        resume: is_on(args.resume, false),
        without,
        bases,
        from,
        attached: super::attached(args.cosign_signatures, args.referrers),
        keep_names: is_on(args.keep_names, false),
        imgpkg_tags: is_on(args.imgpkg_tags, true),
        repo_based_tags: is_on(args.repo_based_tags, false),
        tags: tags(&args.tag)?,
        include_non_distributable: is_on(args.include_non_distributable_layers, false),
        expected_digest: expected_digest(args.expected_digest.as_deref())?,
        verify_keys: given_list(&args.verify_key),
        lock_output,
        verify_upload,
        results: results(&args.results.result, env)?,
        registry,
    })
}

/// Refuses flags of delta tars that do not go with the source or the sink.
fn check_delta(args: &CopyArgs, source: &Source, sink: &Sink) -> Result<(), Failure> {
    let is_tar = matches!(source, Source::Tar(_) | Source::OciTar(_) | Source::WebTar(_));
    let given = |is_empty: bool| !is_empty;
    let [without, base, from] = [
        given(args.without.iter().all(|path| path.as_os_str().is_empty())),
        given(args.base_tar.iter().all(|path| path.as_os_str().is_empty())),
        given(args.from.iter().all(String::is_empty)),
    ];
    let only = |flag: Flag, other: Flag| Failure::misuse(message!(flag, " works with ", other, " only"));
    if without && !matches!(sink, Sink::OciTar(_)) {
        return Err(only(Flag::WITHOUT, Flag::TO_OCI_TAR));
    }
    if without && is_on(args.append, false) {
        return Err(Failure::misuse(message!(Flag::WITHOUT, " and ", Flag::APPEND, " exclude each other")));
    }
    if base && !is_tar {
        return Err(only(Flag::BASE_TAR, Flag::TAR));
    }
    if from && !(is_tar && matches!(sink, Sink::Registry { .. })) {
        return Err(Failure::misuse(message!(
            Flag::FROM,
            " works with ",
            Flag::TAR,
            " and ",
            Flag::TO_REPO,
            " only"
        )));
    }
    Ok(())
}

/// Refuses switches that do not go with the source, the sink or each other.
fn check_switches(args: &CopyArgs, source: &Source, sink: &Sink) -> Result<(), Failure> {
    let (thin, inflate) = (is_on(args.thin, false), is_on(args.inflate, false));
    if thin && inflate {
        return Err(Failure::misuse(message!(Flag::THIN, " and ", Flag::INFLATE, " exclude each other")));
    }
    if thin && matches!(source, Source::Tar(_) | Source::OciTar(_) | Source::WebTar(_) | Source::Store(_)) {
        return Err(Failure::misuse(message!(
            Flag::THIN,
            " cannot be used with a tar, which is copied as it is"
        )));
    }
    let (append, resume) = (is_on(args.append, false), is_on(args.resume, false));
    match sink {
        Sink::OciTar(TarTarget::File(_)) => {}
        Sink::ImgpkgTar(TarTarget::File(_)) | Sink::DockerTar(TarTarget::File(_)) if !append => {}
        _ if append => {
            return Err(Failure::misuse(message!(
                Flag::APPEND,
                " works with a file for ",
                Flag::TO_OCI_TAR,
                " only"
            )));
        }
        _ if resume => {
            return Err(Failure::misuse(message!(
                Flag::RESUME,
                " works when a tar is written to a file only"
            )));
        }
        _ => {}
    }
    let keep_names = is_on(args.keep_names, false);
    match sink {
        Sink::Registry { tag: None, .. } => {}
        Sink::Registry { .. } if keep_names => {
            return Err(Failure::misuse(message!(
                Flag::KEEP_NAMES,
                " keeps the recorded tags too, but ",
                Flag::TO_REPO,
                " has one"
            )));
        }
        _ if keep_names => {
            return Err(Failure::misuse(message!(Flag::KEEP_NAMES, " works with ", Flag::TO_REPO, " only")));
        }
        _ => {}
    }
    if is_on(args.repo_based_tags, false) && !is_on(args.imgpkg_tags, true) {
        return Err(Failure::misuse(message!(
            Flag::REPO_BASED_TAGS,
            " and ",
            Flag::IMGPKG_TAGS.with("false"),
            " exclude each other"
        )));
    }
    if keep_names && is_on(args.repo_based_tags, false) {
        return Err(Failure::misuse(message!(
            Flag::KEEP_NAMES,
            " and ",
            Flag::REPO_BASED_TAGS,
            " exclude each other"
        )));
    }
    if is_on(args.repo_based_tags, false) && !matches!(sink, Sink::Registry { .. }) {
        return Err(Failure::misuse(message!(Flag::REPO_BASED_TAGS, " works with ", Flag::TO_REPO, " only")));
    }
    Ok(())
}

/// Reads the platforms, of which docker's tar has one.
fn chosen_platforms(texts: &[String], sink: &Sink) -> Result<Vec<Platform>, Failure> {
    let chosen = parsed_list(Flag::PLATFORM, texts, str::parse::<Platform>)?;
    if chosen.len() > 1 && matches!(sink, Sink::DockerTar(_)) {
        let found = chosen.len();
        return Err(wrong(Flag::PLATFORM, &format_args!("docker's tar holds one platform, found {found}"))
            .hint(message!("write a tar for several platforms with ", Flag::TO_OCI_TAR)));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<CopyOptions, Failure> {
        copy(&args(words), &Env::default())
    }

    #[test]
    fn a_tar_goes_to_a_repository_with_or_without_a_tag() {
        let sink = |to: &str| resolve(&["--tar", "app.tar", "--to-repo", to]).unwrap().sink;
        let repository: Repository = "127.0.0.1:5000/team/app".parse().unwrap();
        let plain = Sink::Registry { repository: repository.clone(), tag: None };
        assert_eq!(sink("127.0.0.1:5000/team/app"), plain);
        let tagged = Sink::Registry { repository, tag: Some("v2".parse().unwrap()) };
        assert_eq!(sink("127.0.0.1:5000/team/app:v2"), tagged);
    }

    #[test]
    fn every_source_and_sink_is_understood() {
        let source = |words: &[&str]| resolve(&[words, &["--to-oci-tar", "o"]].concat()).unwrap().source;
        assert_eq!(source(&["-b", "r.io/a:1"]), Source::Bundle("r.io/a:1".parse().unwrap()));
        assert_eq!(source(&["-i", "r.io/a"]), Source::Image("r.io/a".parse().unwrap()));
        assert_eq!(source(&["--lock", "l.yml"]), Source::Lock("l.yml".into()));
        assert_eq!(source(&["--oci-tar", "t"]), Source::OciTar("t".into()));
        assert_eq!(source(&["-i", "", "--tar", "t"]), Source::Tar("t".into()));
        let options = resolve(&["--tar", "t", "--to-oci-tar", "-"]).unwrap();
        assert_eq!(options.sink, Sink::OciTar(TarTarget::Stdout));
    }

    #[test]
    fn exactly_one_source_and_one_sink() {
        let cases: &[(&[&str], &str)] = &[
            (
                &["--to-repo", "r.io/a"],
                "no source was given, expected one of `--bundle`, `--image`, `--lock`, `--tar`, `--oci-tar`, `--store`",
            ),
            (
                &["--tar", "t"],
                "no destination was given, expected one of `--to-repo`, `--to-oci-tar`, `--to-tar`, `--to-docker-tar`, `--to-store`",
            ),
            (
                &["--tar", "t", "-i", "r.io/a", "--to-repo", "r.io/b"],
                "`--image`, `--tar` exclude each other, expected one source",
            ),
            (
                &["--tar", "t", "--to-repo", "r.io/b", "--to-oci-tar", "o"],
                "exclude each other, expected one destination",
            ),
            (&["--lock", "-", "--to-repo", "r.io/b"], "a lock file cannot be read from standard input"),
            (
                &["--tar", "t", "--to-oci-tar", "o", "--lock-output", "l"],
                "cannot be used when a tar is written",
            ),
            (&["--tar", "t", "--to-repo", "r.io/B"], "`--to-repo`: repository `r.io/B` is not valid"),
        ];
        for (words, expected) in cases {
            let failure = resolve(words).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{words:?}: {}", failure.message);
        }
    }
}
