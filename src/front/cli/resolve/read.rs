//! The checked options of `pull`, `describe`, `verify`, `match`, `tag` and `delete`.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    RegistryOptions, Source, SourceFlags, any_sources, chosen, expected_digest, given, given_list,
    given_path, is_on, parsed, parsed_list, platform, reference, registry, repository, results, selector,
    source, tags, wrong,
};
use crate::depot::{Address, CollectRequest, SHORTEST_GRACE, StoreReference};
use crate::front::attachment;
use crate::front::cli::args::{DescribeArgs, MatchArgs, PullArgs, VerifyArgs};
use crate::front::cli::choices::{self, DescribeForm};
use crate::front::cli::store_args::{StoreGcArgs, StoreListArgs};
use crate::front::cli::tag_args::{DeleteArgs, TagAddArgs, TagDeleteArgs, TagListArgs, TagResolveArgs};
use crate::front::cli::values::duration_in_days;
use crate::front::env::Env;
use crate::front::failure::{Failure, Hint, message};
use crate::front::flag::Flag;
use crate::front::result_file::ResultFile;
use crate::model::{Digest, Platform, Reference, Repository, Tag};
use crate::store::Selector;
use crate::transfer::signatures::Requirement;

/// How long an unused blob of a store stays when nothing else was requested.
const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything `pull` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullOptions {
    /// The source.
    pub source: Source,
    /// Whether a Cloud Foundry source image is meant.
    pub is_app: bool,
    /// The selected image of a tar.
    pub select: Option<Selector>,
    /// The folder to extract into.
    pub output: PathBuf,
    /// Whether a folder that is not empty may be replaced.
    pub force: bool,
    /// Whether nested bundles are pulled too.
    pub recursive: bool,
    /// The only paths that are extracted; empty for everything.
    pub include: Vec<String>,
    /// Whether a bundle is refused for `--image`.
    pub refuse_bundle_as_image: bool,
    /// Which platform is chosen from an index; none is `linux/amd64`.
    pub platform: Option<Platform>,
    /// The digest the image has to have.
    pub expected_digest: Option<Digest>,
    /// Keys, one of which must have signed each image; `None` does not verify signatures.
    pub verify_keys: Vec<String>,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// Resolves `pull`.
pub fn pull(args: &PullArgs, env: &Env) -> Result<PullOptions, Failure> {
    let flags = SourceFlags {
        lock: given_path(args.lock.as_ref()),
        source: args.app.as_deref(),
        ..SourceFlags::of(&args.source)
    };
    let allowed =
        [Flag::BUNDLE, Flag::IMAGE, Flag::SOURCE, Flag::LOCK, Flag::TAR, Flag::OCI_TAR, Flag::STORE];
    let source = source(&flags, &allowed)?;
    let Some(output) = given_path(args.output.as_ref()) else {
        return Err(Failure::misuse("no folder to extract into was given")
            .hint(message!("name one with ", Flag::OUTPUT.with("FOLDER").short())));
    };
    // Elsewhere `--output` names a result file; a folder called `json:x` is never what is meant.
    if let Some(text) = output.to_str().filter(|text| text.contains(':'))
        && ResultFile::parse(text, env).is_ok()
    {
        return Err(wrong(Flag::OUTPUT, &format_args!("`{text}` is a result file, expected a folder"))
            .hint(message!("use ", Flag::RESULT.with(text))));
    }
    let check = args.image_is_bundle_check.unwrap_or_default().given();
    if check.is_some() && matches!(source, Source::Bundle(_)) {
        return Err(Failure::misuse(message!(
            Flag::IMAGE_IS_BUNDLE_CHECK,
            " cannot be used with ",
            Flag::BUNDLE
        )));
    }
    let recursive = is_on(args.recursive, false);
    let is_app = given(args.app.as_deref()).is_some();
    if recursive && matches!(source, Source::Image(_)) {
        return Err(Failure::misuse(message!(
            Flag::RECURSIVE,
            " works with bundles only, but ",
            if is_app { Flag::SOURCE } else { Flag::IMAGE },
            " was given"
        )));
    }
    Ok(PullOptions {
        select: selector(&args.source.tars, &source)?,
        registry: registry(&args.registry)?.naming(source.repository()),
        is_app,
        source,
        output: output.to_owned(),
        force: is_on(args.force, false),
        recursive,
        include: args.include.iter().filter(|path| !path.is_empty()).cloned().collect(),
        refuse_bundle_as_image: check.unwrap_or(true),
        platform: platform(args.platform.as_deref())?,
        expected_digest: expected_digest(args.expected_digest.as_deref())?,
        verify_keys: given_list(&args.verify_key),
        results: results(&args.result, env)?,
    })
}

/// Everything `describe` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeOptions {
    /// What is described.
    pub source: Source,
    /// The selected image of a tar.
    pub select: Option<Selector>,
    /// Whether layers are shown.
    pub layers: bool,
    /// Whether signatures are looked for.
    pub cosign: bool,
    /// In which form.
    pub form: DescribeForm,
    /// Whether a Cloud Foundry source image is meant.
    pub is_app: bool,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// Resolves `describe`; `json` tells whether `--json` was given, which chooses the form too.
pub fn describe(args: &DescribeArgs, json: bool, env: &Env) -> Result<DescribeOptions, Failure> {
    let chosen = chosen(Flag::OUTPUT_TYPE, args.output_type.as_deref(), &choices::OUTPUT_TYPE)?;
    let form = match chosen {
        Some(DescribeForm::Yaml) if json => {
            return Err(Failure::misuse(message!(
                Flag::JSON,
                " and ",
                Flag::OUTPUT_TYPE.with("yaml"),
                " exclude each other"
            )));
        }
        Some(form @ (DescribeForm::Yaml | DescribeForm::Json)) => form,
        _ if json => DescribeForm::Json,
        _ => DescribeForm::Text,
    };
    let flags = SourceFlags { source: args.app.as_deref(), ..SourceFlags::of(&args.source) };
    let allowed = [Flag::BUNDLE, Flag::IMAGE, Flag::SOURCE, Flag::TAR, Flag::OCI_TAR, Flag::STORE];
    let source = source(&flags, &allowed)?;
    let cosign = is_on(args.cosign_artifacts, source.repository().is_some());
    let registry = registry(&args.registry)?.naming(source.repository());
    let select = selector(&args.source.tars, &source)?;
    let layers = is_on(args.layers, true);
    let (results, is_app) = (results(&args.result, env)?, given(args.app.as_deref()).is_some());
    Ok(DescribeOptions { source, select, layers, cosign, form, is_app, results, registry })
}

/// Everything `verify` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyOptions {
    /// The source to verify: a tar or folder, or with keys an image in a registry.
    pub source: Source,
    /// The selected image of a tar.
    pub select: Option<Selector>,
    /// The digest the image has to have.
    pub expected_digest: Option<Digest>,
    /// Where the keys are, one of which must have signed; empty does not verify signatures.
    pub keys: Vec<String>,
    /// The image name that signatures must have.
    pub identity: Option<Reference>,
    /// Required statements.
    pub require: Vec<Requirement>,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
    /// Sources with the blobs that the tar lacks.
    pub against: Vec<Source>,
}

/// Resolves `verify`.
pub fn verify(args: &VerifyArgs, env: &Env) -> Result<VerifyOptions, Failure> {
    let source = source(
        &SourceFlags { image: args.image.as_deref(), ..SourceFlags::of_tar(&args.source) },
        &[Flag::TAR, Flag::OCI_TAR, Flag::STORE, Flag::IMAGE],
    )?;
    let keys = given_list(&args.key);
    if keys.is_empty() && matches!(source, Source::Image(_)) {
        return Err(Failure::misuse(message!(Flag::IMAGE, " works with ", Flag::KEY, " only")).hint(
            "every command that reads an image from a registry verifies its digests; only signatures are left to check",
        ));
    }
    let identity = given(args.identity.as_deref()).map(|text| reference(Flag::IDENTITY, text)).transpose()?;
    let mut require = parsed_list(Flag::REQUIRE, &args.require, attachment::requirement)?;
    for (flag, is_given) in [(Flag::IDENTITY, identity.is_some()), (Flag::REQUIRE, !require.is_empty())] {
        if is_given && keys.is_empty() {
            return Err(Failure::misuse(message!(flag, " works with ", Flag::KEY, " only")));
        }
    }
    if require.is_empty() {
        require.push(Requirement::Signature);
    }
    let expected_digest = expected_digest(args.expected_digest.as_deref())?;
    let select = selector(&args.source, &source)?;
    let against = any_sources(Flag::AGAINST, &args.against)?;
    let named = source.repository().into_iter().chain(against.iter().filter_map(Source::repository));
    let registry = registry(&args.registry)?.naming(named);
    let results = results(&args.result, env)?;
    Ok(VerifyOptions { source, select, expected_digest, keys, identity, require, results, registry, against })
}

/// Everything `tag list` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagListOptions {
    /// The repository.
    pub repository: Repository,
    /// Whether digests are shown.
    pub digests: bool,
    /// Whether internal tags of tools are shown.
    pub internal: bool,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// The source of `match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchOptions {
    /// The source image.
    pub source: Source,
    /// The selected image of a tar.
    pub select: Option<Selector>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// Resolves `match`.
pub fn match_resources(args: &MatchArgs) -> Result<MatchOptions, Failure> {
    let image = args.source.as_deref();
    let source = source(
        &SourceFlags { source: image, ..SourceFlags::of_tar(&args.tars) },
        &[Flag::SOURCE, Flag::TAR, Flag::OCI_TAR, Flag::STORE],
    )?;
    let registry = registry(&args.registry)?.naming(source.repository());
    let select = selector(&args.tars, &source)?;
    Ok(MatchOptions { source, select, registry })
}

/// Resolves `store list`.
pub fn store_list(args: &StoreListArgs) -> Result<(StoreReference, RegistryOptions), Failure> {
    let store: StoreReference = args.store.parse()?;
    match store.digest {
        None => Ok((store, registry(&args.registry)?)),
        Some(_) => Err(Failure::misuse(format!("`{store}` has a digest, expected `URL` or `URL:TAG`"))),
    }
}

/// Resolves `store gc`.
pub fn store_gc(args: &StoreGcArgs) -> Result<(Address, CollectRequest, RegistryOptions), Failure> {
    let store: StoreReference = args.store.parse()?;
    if store.digest.is_some() {
        return Err(Failure::misuse(format!("`{store}` has a digest, expected `URL` or `URL:TAG`")));
    }
    if matches!(store.address, Address::Web(_)) {
        return Err(Failure::misuse(format!("`{store}` is on a web server, and can only be read")));
    }
    let keep = parsed(Flag::KEEP, args.keep.as_deref(), |text| match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{text}` is not a number of 1 or more")),
    })?;
    let keep_for = parsed(Flag::KEEP_FOR, args.keep_for.as_deref(), duration_in_days)?;
    let grace = parsed(Flag::GRACE, args.grace.as_deref(), |text| match duration_in_days(text)? {
        grace if grace < SHORTEST_GRACE => {
            Err("expected 2h or more: a push may take an hour between its first look and its end".to_owned())
        }
        grace => Ok(grace),
    })?;
    let request = CollectRequest {
        tags: store.tag.into_iter().collect(),
        keep,
        keep_for,
        grace: grace.unwrap_or(GRACE_DEFAULT),
        dry_run: is_on(args.dry_run, false),
    };
    Ok((store.address, request, registry(&args.registry)?))
}

/// Resolves `tag list`.
pub fn tag_list(args: &TagListArgs) -> Result<TagListOptions, Failure> {
    let Some(text) = given(args.image.as_deref()) else {
        return Err(Failure::misuse("no repository was given")
            .hint(message!("name one with ", Flag::IMAGE.with("REPOSITORY").short())));
    };
    let repository = repository(Flag::IMAGE, text)?;
    Ok(TagListOptions {
        registry: registry(&args.registry)?.naming([&repository]),
        repository,
        digests: is_on(args.digests, false),
        internal: is_on(args.imgpkg_internal_tags, false),
    })
}

/// Resolves `tag add`: the image and its further tags.
pub fn tag_add(args: &TagAddArgs) -> Result<(Reference, Vec<Tag>, RegistryOptions), Failure> {
    let Some(text) = given(args.image.as_deref()) else {
        return Err(Failure::misuse("no image was given")
            .hint(message!("name one with ", Flag::IMAGE.with("REFERENCE").short())));
    };
    let tags = tags(&args.tag)?;
    if tags.is_empty() {
        return Err(
            Failure::misuse("no tag was given").hint(message!("name one with ", Flag::TAG.with("TAG")))
        );
    }
    let reference = reference(Flag::IMAGE, text)?;
    let registry = registry(&args.registry)?.naming([&reference.repository]);
    Ok((reference, tags, registry))
}

/// Resolves `tag delete`: repositories, each with the tag to delete.
pub fn tag_delete(args: &TagDeleteArgs) -> Result<(Vec<Reference>, RegistryOptions), Failure> {
    let references = parsed_list(Flag::IMAGE, &args.image, str::parse::<Reference>)?;
    if references.is_empty() {
        return Err(Failure::misuse("no tag was given")
            .hint(message!("name one with ", Flag::IMAGE.with("REPOSITORY:TAG").short())));
    }
    // A deletion needs an explicit tag: `latest` is not assumed.
    match references.iter().find(|reference| reference.tag.is_none() || reference.digest.is_some()) {
        Some(other) => Err(wrong(Flag::IMAGE, &format_args!("`{other}` is not a repository with a tag"))
            .hint(Hint::command("", "imgrelay delete", " deletes images by digest"))),
        None => {
            let registry = registry(&args.registry)?;
            let registry = registry.naming(references.iter().map(|reference| &reference.repository));
            Ok((references, registry))
        }
    }
}

/// Resolves `delete`: repositories, each with the digest to delete.
pub fn delete(args: &DeleteArgs) -> Result<(Vec<Reference>, RegistryOptions), Failure> {
    let references = parsed_list(Flag::IMAGE, &args.image, str::parse::<Reference>)?;
    if references.is_empty() {
        return Err(Failure::misuse("no image was given")
            .hint(message!("name one with ", Flag::IMAGE.with("REPOSITORY@DIGEST").short())));
    }
    match references.iter().find(|reference| reference.digest.is_none()) {
        Some(other) => Err(wrong(Flag::IMAGE, &format_args!("`{other}` has no digest"))
            .hint(Hint::command("the tag may move meanwhile; ", "imgrelay tag resolve", " prints its digest"))
            .hint(Hint::command("", "imgrelay tag delete", " deletes a tag"))),
        None => {
            let registry = registry(&args.registry)?;
            let registry = registry.naming(references.iter().map(|reference| &reference.repository));
            Ok((references, registry))
        }
    }
}

/// Resolves `tag resolve`.
pub fn tag_resolve(args: &TagResolveArgs) -> Result<(Reference, RegistryOptions), Failure> {
    let Some(text) = given(args.image.as_deref()) else {
        return Err(Failure::misuse("no reference was given")
            .hint(message!("name one with ", Flag::IMAGE.with("REFERENCE").short())));
    };
    let reference = reference(Flag::IMAGE, text)?;
    let registry = registry(&args.registry)?.naming([&reference.repository]);
    Ok((reference, registry))
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    #[test]
    fn pull_needs_a_source_and_a_folder() {
        let resolve = |words: &[&str]| pull(&args(words), &Env::default());
        let options = resolve(&["-b", "r.io/a", "-o", "out", "-r"]).unwrap();
        assert_eq!(options.output, PathBuf::from("out"));
        assert!(options.recursive && options.refuse_bundle_as_image && !options.force);
        assert!(
            !resolve(&["-i", "r.io/a", "-o", "out", "--image-is-bundle-check=false"])
                .unwrap()
                .refuse_bundle_as_image
        );
        assert_eq!(resolve(&["--tar", "t", "-o", "a:b"]).unwrap().output, PathBuf::from("a:b"));
        let cases: &[(&[&str], &str)] = &[
            (&["-o", "out"], "no source was given"),
            (&["--tar", "t"], "no folder to extract into was given"),
            (&["--tar", "t", "-o", "json:x"], "`--output`: `json:x` is a result file, expected a folder"),
            (&["-b", "r.io/a", "-o", "o", "--image-is-bundle-check"], "cannot be used with `--bundle`"),
            (&["-i", "r.io/a", "-o", "o", "-r"], "`--recursive` works with bundles only"),
        ];
        for (words, expected) in cases {
            let failure = resolve(words).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{words:?}: {}", failure.message);
        }
    }

    #[test]
    fn describe_has_one_form() {
        let form =
            |words: &[&str], json| describe(&args(words), json, &Env::default()).map(|options| options.form);
        assert_eq!(form(&["--tar", "t"], false), Ok(DescribeForm::Text));
        assert_eq!(form(&["--tar", "t"], true), Ok(DescribeForm::Json));
        assert_eq!(form(&["--tar", "t", "-o", "yaml"], false), Ok(DescribeForm::Yaml));
        assert_eq!(form(&["--tar", "t", "--output", "json"], false), Ok(DescribeForm::Json));
        assert!(form(&["--tar", "t", "-o", "yaml"], true).is_err());
    }

    #[test]
    fn verify_reads_a_tar_and_tags_need_a_name() {
        assert_eq!(verify(&args(&["--tar", "t"]), &Env::default()).unwrap().source, Source::Tar("t".into()));
        assert!(
            verify(&args(&[]), &Env::default())
                .unwrap_err()
                .message
                .to_string()
                .contains("expected one of `--image`, `--tar`, `--oci-tar`")
        );
        assert!(
            match_resources(&args(&["--tar", "-"]))
                .unwrap_err()
                .message
                .to_string()
                .contains("standard input holds the request")
        );
        assert!(
            tag_list(&args(&["-i", "r.io/a:v1"]))
                .unwrap_err()
                .message
                .to_string()
                .contains("expected a repository")
        );
        assert!(tag_list(&args(&[])).unwrap_err().message.to_string().contains("no repository was given"));
        assert_eq!(tag_resolve(&args(&["-i", "r.io/a:v1"])).unwrap().0.to_string(), "r.io/a:v1");
    }
}
