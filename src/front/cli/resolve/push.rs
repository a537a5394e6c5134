//! The checked options of `push`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::labels::labels;
use super::push_places::{BaseImage, Destination, destination, named};
use super::{
    RegistryOptions, RunnableOptions, chosen, expect_file, expected_digest, given, given_path, is_on, parsed,
    parsed_list, platform, reference, registry, results, runnable, store_writing, tags, target_reference,
    wrong,
};
use crate::front::cli::args::PushArgs;
use crate::front::cli::choices;
use crate::front::cli::values::{key_value, size};
use crate::front::env::Env;
use crate::front::failure::{Failure, Hint, Mention, Message, MessagePart, message};
use crate::front::flag::Flag;
use crate::front::result_file::ResultFile;
use crate::model::{Annotations, Digest, Platform, Reference, Tag, keys};
use crate::pack::{LayerSplit, MediaTypes, PackageChecks, Profile};
use crate::stream::CompressionLevel;
use crate::transfer::Attached;
use crate::tree::SymlinkPolicy;

/// The default of `--file-exclusion`, as in imgpkg.
const EXCLUSION_DEFAULT: &str = ".git";

/// Most bytes of an app, as Cloud Controller's `packages.max_package_size`.
const SIZE_LIMIT_DEFAULT: u64 = 1 << 30;

/// The flags that choose the kind of image.
const KINDS: [Flag; 3] = [Flag::BUNDLE, Flag::IMAGE, Flag::SOURCE];

/// Everything `push` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    /// The kind of image.
    pub kind: PushKind,
    /// The packed files and options.
    pub contents: PushContents,
    /// The target.
    pub destination: Destination,
    /// The list of files that are taken from the earlier image.
    pub resources: Option<PathBuf>,
    /// Options of an image that runs; `None` for every other image.
    pub runnable: Option<RunnableOptions>,
    /// The earlier image whose layers are used again.
    pub base: Option<BaseImage>,
    /// Further tags for the same image.
    pub tags: Vec<Tag>,
    /// Which attached manifests are fetched with every image that the bundle names; `None` fetches no image.
    pub inflate: Option<Attached>,
    /// The digest the image has to have.
    pub expected_digest: Option<Digest>,
    /// Whether the image gets imgpkg's tag by digest.
    pub imgpkg_tags: bool,
    /// Whether what is written into a store is read back.
    pub verify_upload: bool,
    /// Where a BundleLock is written.
    pub lock_output: Option<PathBuf>,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// The kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// A bundle.
    Bundle,
    /// A plain image.
    Image,
    /// A Cloud Foundry source image.
    App,
    /// A bundle if a root has `.imgpkg`, else a plain image.
    Detect,
}

/// The files of the image, and how they are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushContents {
    /// Folders and files, in the order given.
    pub roots: Vec<PathBuf>,
    /// Exact paths below a root that are left out.
    pub exclusions: Vec<String>,
    /// How symbolic links are packed.
    pub symlinks: SymlinkPolicy,
    /// Whether each entry keeps its own permissions.
    pub preserve_permissions: bool,
    /// Labels of the configuration.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest.
    pub annotations: Annotations,
    /// Platform of the configuration; none is what the media types ask for.
    pub platform: Option<Platform>,
    /// Which media types are written.
    pub media_types: MediaTypes,
    /// The format of a plain image; `None` if its kind decides it.
    pub format: Option<Profile>,
    /// How the layer is compressed.
    pub compression: CompressionLevel,
    /// Most bytes of a source image's files together.
    pub size_limit: u64,
    /// How a source image is spread over layers.
    pub layer_split: LayerSplit,
    /// What happens to a package repository with mistakes.
    pub package_checks: PackageChecks,
}

/// Resolves `push`.
pub fn push(args: &PushArgs, env: &Env) -> Result<PushOptions, Failure> {
    let (kind, name) = kind_and_name(args)?;
    let format = format(args, kind)?;
    let runnable = runnable_of(args, kind, format, env)?;
    let kind = if format.is_some() || runnable.is_some() { PushKind::Image } else { kind };
    let tags = tags(&args.tag)?;
    let destination = destination(args, name, &tags)?.ok_or_else(|| no_destination(kind))?;
    if let (Destination::OciTar { name: None, .. }, Some(tag)) = (&destination, tags.first()) {
        // Readers make unusable names of a tag without a repository.
        return Err(Failure::tag_without_repository(tag).hint(message!(
            "name the image: ",
            MessagePart::any_of(KINDS.map(|flag| flag.with("registry/repository").short()))
        )));
    }
    let lock_output = given_path(args.lock_output.as_ref()).map(PathBuf::from);
    if lock_output.is_some() {
        if let Some(flag) = match kind {
            PushKind::Image => Some(Flag::IMAGE),
            PushKind::App => Some(Flag::SOURCE),
            _ => None,
        } {
            return Err(Failure::misuse(message!(
                Flag::LOCK_OUTPUT,
                " works with bundles only, but ",
                flag.mention().kind(),
                " was given"
            )));
        }
        if let Some(flag) = without_registry(&destination) {
            return Err(Failure::misuse(message!(Flag::LOCK_OUTPUT, " cannot be used with ", flag)).hint(
                Hint::command(
                    "a lock names an image in a registry; use it with ",
                    "copy --tar … --to-repo …",
                    "",
                ),
            ));
        }
    }
    let contents = contents(args, kind, format, runnable.as_ref())?;
    let base = match &runnable {
        Some(_) => None,
        None => base(args, contents.layer_split, &destination)?,
    };
    let store = match &destination {
        Destination::Store { store, .. } => Some(store),
        _ => None,
    };
    let (verify_upload, encryption) = store_writing(&args.store_write, store)?;
    let registry = registry(&args.registry)?
        .naming(named(&destination, base.as_ref()))
        .naming(runnable.iter().flat_map(RunnableOptions::repositories));
    Ok(PushOptions {
        kind,
        inflate: inflate(args, kind, &destination)?,
        base,
        runnable,
        resources: given_path(args.resources.as_ref()).map(PathBuf::from),
        contents,
        destination,
        tags,
        expected_digest: expected_digest(args.expected_digest.as_deref())?,
        imgpkg_tags: is_on(args.imgpkg_tags, true),
        lock_output,
        verify_upload,
        results: results(&args.results.result, env)?,
        registry: RegistryOptions { encryption, ..registry },
    })
}

/// Resolves whether the images of a bundle are fetched, and which attached manifests.
fn inflate(args: &PushArgs, kind: PushKind, destination: &Destination) -> Result<Option<Attached>, Failure> {
    let attached = super::attached(args.cosign_signatures, args.referrers);
    if !is_on(args.inflate, false) {
        if attached != Attached::default() {
            return Err(Failure::misuse(message!(
                Flag::COSIGN_SIGNATURES,
                " and ",
                Flag::REFERRERS,
                " work with ",
                Flag::INFLATE,
                " only"
            )));
        }
        return Ok(None);
    }
    if kind == PushKind::Image {
        return Err(Failure::misuse(message!(
            Flag::INFLATE,
            " works with bundles only, but ",
            Flag::IMAGE.mention().kind(),
            " was given"
        )));
    }
    if matches!(destination, Destination::Registry(_)) {
        let tar_or_store = MessagePart::any_of([Flag::TO_OCI_TAR.mention(), Flag::TO_STORE.mention()]);
        return Err(Failure::misuse(message!(Flag::INFLATE, " works with ", tar_or_store, " only")).hint(
            Hint::command(
                "copy the pushed bundle with ",
                "copy -b … --to-repo …",
                ", which also copies its images",
            ),
        ));
    }
    Ok(Some(attached))
}

/// Returns the kind of image and its name; `-b` and `-i` without a name choose only the kind.
fn kind_and_name(args: &PushArgs) -> Result<(PushKind, Option<Reference>), Failure> {
    let named = |flag, text: &str| given(Some(text)).map(|text| target_reference(flag, text)).transpose();
    let given = [
        (Flag::BUNDLE, PushKind::Bundle, args.bundle.as_deref()),
        (Flag::IMAGE, PushKind::Image, args.image.as_deref()),
        (Flag::SOURCE, PushKind::App, args.source.as_deref()),
    ];
    let given = given.into_iter().filter_map(|(flag, kind, text)| Some((flag, kind, text?)));
    let all: Vec<(Flag, PushKind, &str)> = given.collect();
    // A template may leave all but one of them empty.
    let named_ones: Vec<_> = all.iter().copied().filter(|(_, _, text)| !text.is_empty()).collect();
    match if named_ones.is_empty() { all.as_slice() } else { named_ones.as_slice() } {
        [] => Ok((PushKind::Detect, None)),
        [(flag, kind, text)] => Ok((*kind, named(*flag, text)?)),
        several => {
            let flags = MessagePart::list_of(several.iter().map(|(flag, ..)| flag.mention().kind()));
            Err(Failure::misuse(message!(flags, " exclude each other")))
        }
    }
}

/// Finds the earlier image: layers are used again only where they are compared.
fn base(args: &PushArgs, layer_split: LayerSplit, to: &Destination) -> Result<Option<BaseImage>, Failure> {
    let (tar, name) = (given_path(args.base_tar.as_ref()), given(args.base.as_deref()));
    let flag = tar.map(|_| Flag::BASE_TAR).or(name.map(|_| Flag::BASE));
    let is_used = layer_split == LayerSplit::Auto || given_path(args.resources.as_ref()).is_some();
    if let Some(flag) = flag.filter(|_| !is_used) {
        return Err(Failure::misuse(message!(
            flag,
            " works with ",
            MessagePart::any_of([Flag::LAYERS.with("auto"), Flag::RESOURCES.mention()]),
            " only"
        )));
    }
    if let (Some(_), None, Some(flag)) = (name, tar, without_registry(to)) {
        let text = message!(Flag::BASE, " cannot be used with ", flag, ", which contacts no registry");
        return Err(Failure::misuse(text).hint(message!("use ", Flag::BASE_TAR)));
    }
    match (tar, name, to) {
        (Some(_), Some(_), _) => {
            Err(Failure::misuse(message!(Flag::BASE, " and ", Flag::BASE_TAR, " exclude each other")))
        }
        (Some(path), None, _) => {
            expect_file(Flag::BASE_TAR, path)?;
            Ok(Some(BaseImage::Tar(path.to_owned())))
        }
        (None, Some(text), Destination::Registry(_)) => {
            Ok(Some(BaseImage::Registry { reference: reference(Flag::BASE, text)?, given: true }))
        }
        (None, None, Destination::Registry(name)) if is_used => {
            Ok(Some(BaseImage::Registry { reference: name.clone(), given: false }))
        }
        (None, _, _) => Ok(None),
    }
}

/// Returns the flag of a destination that is no registry.
fn without_registry(to: &Destination) -> Option<Flag> {
    match to {
        Destination::Registry(_) => None,
        Destination::OciTar { .. } => Some(Flag::TO_OCI_TAR),
        Destination::Store { .. } => Some(Flag::TO_STORE),
    }
}

fn no_destination(kind: PushKind) -> Failure {
    let nameless = |flag: Flag| Failure::misuse(message!(flag, " has no reference to push to"));
    let failure = match kind {
        PushKind::Bundle => nameless(Flag::BUNDLE),
        PushKind::Image => nameless(Flag::IMAGE),
        PushKind::App => nameless(Flag::SOURCE),
        PushKind::Detect => Failure::misuse(message!(
            "no destination was given, expected one of ",
            MessagePart::list_of(KINDS),
            " with a reference"
        )),
    };
    failure.hint(message!(
        "push to a registry with ",
        MessagePart::any_of(KINDS.map(|flag| flag.with("REFERENCE").short())),
        ", write a tar with ",
        Flag::TO_OCI_TAR.with("FILE"),
        ", or push into a store with ",
        Flag::TO_STORE.with("URL:TAG")
    ))
}

/// Finds the format of a plain image, and refuses what its consumer would.
fn format(args: &PushArgs, kind: PushKind) -> Result<Option<Profile>, Failure> {
    let Some(name) = given(args.format.as_deref()) else { return Ok(None) };
    if matches!(kind, PushKind::Bundle | PushKind::App) {
        return Err(Failure::misuse(message!(
            Flag::FORMAT,
            " works with ",
            Flag::IMAGE.mention().kind(),
            " only"
        ))
        .hint("bundles have imgpkg's format, source images kpack's"));
    }
    let found = chosen(Flag::FORMAT, Some(name), &choices::FORMAT)?;
    let consumer = found.map(|profile| profile.consumer).unwrap_or_default();
    let cannot = |what: Message, why: &str| {
        let text = what.then(message!(" cannot be used with ", Flag::FORMAT.with(name)));
        Err(Failure::misuse(text).hint(why))
    };
    if consumer.only_oci_gzip && media_types(args)? == Some(MediaTypes::Docker) {
        return cannot(message!(Flag::MEDIA_TYPES.with("docker")), "its reader accepts only OCI media types");
    }
    let compression = given(args.compression.as_deref());
    if consumer.only_oci_gzip && compression.is_some_and(|kind| !kind.starts_with("gzip")) {
        return cannot(message!(Flag::COMPRESSION, " other than gzip"), "its reader accepts only gzip");
    }
    if consumer.drops_links && symlinks(args)?.is_some_and(is_kept) {
        return cannot(
            message!(Flag::SYMLINKS.with(args.symlinks.as_deref().unwrap_or_default())),
            "its reader drops links; `copy` packs their targets, `omit` leaves them out",
        );
    }
    Ok(found)
}

/// Finds out whether the image is one that runs, and refuses its flags for every other kind.
fn runnable_of(
    args: &PushArgs,
    kind: PushKind,
    format: Option<Profile>,
    env: &Env,
) -> Result<Option<RunnableOptions>, Failure> {
    if matches!(kind, PushKind::Bundle | PushKind::App) {
        return match runnable::flags_given(args).first() {
            Some(flag) => {
                let image = Flag::IMAGE.mention().kind();
                Err(Failure::misuse(message!(*flag, " works with ", image, " only")))
            }
            None => Ok(None),
        };
    }
    let found = runnable::runnable(args, media_types(args)?, env)?;
    match (&found, format) {
        (Some(_), Some(format)) if format != Profile::IMAGE => {
            Err(Failure::misuse(message!("an image that runs cannot have ", Flag::FORMAT.with(format.name)))
                .hint("its reader runs no program; leave out the flags of an image that runs"))
        }
        _ => Ok(found),
    }
}

fn symlinks(args: &PushArgs) -> Result<Option<SymlinkPolicy>, Failure> {
    chosen(Flag::SYMLINKS, args.symlinks.as_deref(), &choices::SYMLINKS)
}

/// Tells whether a policy keeps links as links, which some readers drop.
fn is_kept(policy: SymlinkPolicy) -> bool {
    matches!(policy, SymlinkPolicy::Keep | SymlinkPolicy::Verbatim)
}

fn media_types(args: &PushArgs) -> Result<Option<MediaTypes>, Failure> {
    chosen(Flag::MEDIA_TYPES, args.media_types.as_deref(), &choices::MEDIA_TYPES)
}

fn layer_split(args: &PushArgs) -> Result<Option<LayerSplit>, Failure> {
    chosen(Flag::LAYERS, args.layers.as_deref(), &choices::LAYERS)
}

fn only_with_source(mention: Mention) -> Failure {
    Failure::misuse(message!(mention, " works with ", Flag::SOURCE.mention().kind(), " only"))
}

/// Refuses roots and flags that do not go with the kind of image.
fn check_kind(args: &PushArgs, kind: PushKind, roots: &[PathBuf]) -> Result<(), Failure> {
    match (kind, roots) {
        (PushKind::App, [_, _, ..]) => {
            return Err(Failure::misuse(message!(
                "a source image has one ",
                Flag::FILE,
                format!(", found {}", roots.len())
            ))
            .hint("name the app's folder or its zip"));
        }
        (PushKind::App, _) if symlinks(args)?.is_some_and(is_kept) => {
            return Err(Failure::misuse(message!(
                Flag::SYMLINKS.with(args.symlinks.as_deref().unwrap_or_default()),
                " cannot be used with ",
                Flag::SOURCE.mention().kind()
            ))
            .hint("kpack drops links; `copy`, the default, packs their targets, `omit` leaves them out"));
        }
        (PushKind::App, _) => {}
        (PushKind::Bundle, _) if symlinks(args)? == Some(SymlinkPolicy::Verbatim) => {
            return Err(Failure::misuse(message!(
                Flag::SYMLINKS.with("verbatim"),
                " works with ",
                Flag::IMAGE.mention().kind(),
                " only"
            )));
        }
        (_, _) if given(args.size_limit.as_deref()).is_some() => {
            return Err(only_with_source(Flag::SIZE_LIMIT.mention()));
        }
        (_, _) if layer_split(args)? == Some(LayerSplit::Auto) => {
            return Err(only_with_source(Flag::LAYERS.with("auto")).hint("bundles have to have one layer"));
        }
        _ => {}
    }
    Ok(())
}

fn contents(
    args: &PushArgs,
    kind: PushKind,
    format: Option<Profile>,
    runnable: Option<&RunnableOptions>,
) -> Result<PushContents, Failure> {
    let paths = args.file.iter().filter(|path| !path.as_os_str().is_empty());
    let roots: Vec<PathBuf> = match runnable {
        Some(runnable) => runnable.roots.clone(),
        None => paths.cloned().collect(),
    };
    let resources = given_path(args.resources.as_ref());
    if resources.is_some() && kind != PushKind::App {
        return Err(only_with_source(Flag::RESOURCES.mention()));
    }
    if roots.is_empty() && resources.is_none() && runnable.is_none() {
        return Err(Failure::misuse("no files were given")
            .hint(message!("name folders or files with ", Flag::FILE.with("PATH").short())));
    }
    let size_limit = parsed(Flag::SIZE_LIMIT, args.size_limit.as_deref(), size)?;
    check_kind(args, kind, &roots)?;
    let mut exclusions: Vec<String> =
        args.file_exclusion.iter().filter(|path| !path.is_empty()).cloned().collect();
    if exclusions.is_empty() {
        exclusions.push(EXCLUSION_DEFAULT.to_owned());
    }
    let labels = labels(&args.labels)?;
    if labels.contains_key(keys::BUNDLE_LABEL) {
        return Err(wrong(Flag::LABELS, &format_args!("label `{}` is reserved", keys::BUNDLE_LABEL))
            .hint(message!(Flag::BUNDLE.kind(), " sets it, ", Flag::IMAGE.kind(), " does not")));
    }
    let annotations: Annotations =
        parsed_list(Flag::ANNOTATION, &args.annotation, key_value)?.into_iter().collect();
    let compression = parsed(Flag::COMPRESSION, args.compression.as_deref(), str::parse::<CompressionLevel>)?;
    Ok(PushContents {
        roots,
        exclusions,
        symlinks: match symlinks(args)? {
            Some(policy) => policy,
            None if kind == PushKind::App || format.is_some_and(|format| format.consumer.drops_links) => {
                SymlinkPolicy::Copy
            }
            None => SymlinkPolicy::Keep,
        },
        preserve_permissions: is_on(args.preserve_permissions, false),
        labels,
        annotations,
        platform: match runnable {
            Some(_) => None,
            None => platform(args.platform.as_deref())?,
        },
        media_types: media_types(args)?.unwrap_or_default(),
        format,
        compression: compression.unwrap_or_default(),
        size_limit: size_limit.unwrap_or(SIZE_LIMIT_DEFAULT),
        layer_split: layer_split(args)?.unwrap_or_default(),
        package_checks: chosen(
            Flag::PACKAGE_CHECKS,
            args.package_checks.as_deref(),
            &choices::PACKAGE_CHECKS,
        )?
        .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::TarTarget;
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<PushOptions, Failure> {
        push(&args(words), &Env::default())
    }

    #[test]
    fn a_bundle_to_a_registry_has_imgpkgs_defaults() {
        let options = resolve(&["-b", "reg.example/app:v1", "-f", "a,b", "-f", "c"]).unwrap();
        assert_eq!(options.kind, PushKind::Bundle);
        assert_eq!(options.destination, Destination::Registry("reg.example/app:v1".parse().unwrap()));
        let contents = PushContents {
            roots: vec!["a".into(), "b".into(), "c".into()],
            exclusions: vec![".git".into()],
            symlinks: SymlinkPolicy::Keep,
            preserve_permissions: false,
            labels: BTreeMap::new(),
            annotations: Annotations::new(),
            platform: None,
            media_types: MediaTypes::Oci,
            format: None,
            compression: CompressionLevel::DEFAULT,
            size_limit: 1 << 30,
            layer_split: LayerSplit::One,
            package_checks: PackageChecks::Warn,
        };
        assert_eq!(options.contents, contents);
    }

    #[test]
    fn a_tar_needs_no_name_and_keeps_one() {
        let tar = |words: &[&str]| {
            let options = resolve(&[words, &["-f", "d", "--to-oci-tar", "x.tar"]].concat()).unwrap();
            match options.destination {
                Destination::OciTar { name, .. } => (options.kind, name.map(|name| name.to_string())),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(tar(&[]), (PushKind::Detect, None));
        assert_eq!(tar(&["-b"]), (PushKind::Bundle, None));
        assert_eq!(tar(&["-i"]), (PushKind::Image, None));
        assert_eq!(tar(&["-b", ""]), (PushKind::Bundle, None));
        let named = (PushKind::Image, Some("reg.example/a:v1".to_owned()));
        assert_eq!(tar(&["-i", "reg.example/a:v1"]), named);
        assert_eq!(tar(&["-b", "", "-i", "reg.example/a:v1"]), named);
        let options = resolve(&["-f", "d", "--to-oci-tar", "-"]).unwrap();
        assert_eq!(options.destination, Destination::OciTar { target: TarTarget::Stdout, name: None });
    }

    #[test]
    fn a_source_image_copies_links_and_is_limited() {
        let options = resolve(&["-s", "r.io/a", "-f", "app.zip"]).unwrap();
        assert_eq!(options.kind, PushKind::App);
        assert_eq!(options.contents.symlinks, SymlinkPolicy::Copy);
        assert_eq!(options.contents.size_limit, 1_073_741_824);
        let options = resolve(&["-s", "", "-b", "", "-i", "r.io/a", "-f", "d"]).unwrap();
        assert_eq!(options.kind, PushKind::Image, "a template left the others empty");
        let options =
            resolve(&["-s", "r.io/a", "-f", "d", "--size-limit=2GiB", "--symlinks=refuse"]).unwrap();
        assert_eq!(options.contents.size_limit, 2 << 30);
        assert_eq!(options.contents.symlinks, SymlinkPolicy::Refuse);
    }

    #[test]
    fn exclusions_replace_the_default_and_the_old_name_works() {
        let exclusions = |words: &[&str]| {
            resolve(&[&["-i", "r.io/a", "-f", "d"], words].concat()).unwrap().contents.exclusions
        };
        assert_eq!(exclusions(&["--file-exclusion", "a,b"]), ["a", "b"]);
        assert_eq!(exclusions(&["--file-exclude-defaults", "a"]), ["a"]);
        assert_eq!(exclusions(&["--file-exclusion", ""]), [".git"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_before_any_work() {
        let cases: &[(&[&str], &str)] = &[
            (&["-f", "d"], "no destination was given"),
            (&["-b", "-f", "d"], "`--bundle` has no reference to push to"),
            (&["-b", "r.io/a", "-i", "r.io/b", "-f", "d"], "`--bundle`, `--image` exclude each other"),
            (&["-b", "r.io/a", "-s", "r.io/b", "-f", "d"], "`--bundle`, `--source` exclude each other"),
            (&["-s", "-f", "d"], "`--source` has no reference to push to"),
            (&["-s", "r.io/a", "-f", "d,e"], "a source image has one `--file`, found 2"),
            (
                &["-s", "r.io/a", "-f", "d", "--symlinks", "keep"],
                "`--symlinks keep` cannot be used with `--source`",
            ),
            (&["-s", "r.io/a", "-f", "d", "--size-limit", "1X"], "`--size-limit`: `1X` is not a size"),
            (&["-i", "r.io/a", "-f", "d", "--size-limit", "1G"], "`--size-limit` works with `--source` only"),
            (
                &["-s", "r.io/a", "-f", "d", "--base-tar", "t"],
                "`--base-tar` works with `--layers auto` or `--resources` only",
            ),
            (&["-s", "r.io/a", "-f", "d", "--base", "r.io/b"], "`--base` works with `--layers auto` or"),
            (
                &["-s", "-f", "d", "--layers", "auto", "--to-oci-tar", "x", "--base", "r.io/b"],
                "`--base` cannot be used with `--to-oci-tar`",
            ),
            (&["-b", "r.io/a", "-f", "d", "--format", "flux"], "`--format` works with `--image` only"),
            (
                &["-i", "r.io/a", "-f", "d", "--format", "flux", "--compression", "zstd"],
                "`--compression` other than gzip cannot be used with `--format flux`",
            ),
            (
                &["-i", "r.io/a", "-f", "d", "--format", "argocd", "--media-types", "docker"],
                "`--media-types docker` cannot be used with `--format argocd`",
            ),
            (
                &["-i", "r.io/a", "-f", "d", "--format", "flux", "--symlinks", "keep"],
                "`--symlinks keep` cannot be used with `--format flux`",
            ),
            (&["-i", "r.io/a", "-f", "d", "--layers", "auto"], "`--layers auto` works with `--source` only"),
            (&["-i", "r.io/a", "-f", "d", "--resources", "r"], "`--resources` works with `--source` only"),
            (&["-s", "r.io/a", "-f", "d", "--lock-output", "l"], "bundles only, but `--source` was given"),
            (&["-b", "r.io/a"], "no files were given"),
            (&["-b", "r.io/a", "-f", ""], "no files were given"),
            (&["-b", "r.io/A", "-f", "d"], "`--bundle`: repository `r.io/A` is not valid"),
            (&["-i", "r.io/a:b c", "-f", "d"], "`--image`: tag `b c` is not valid"),
            (&["-i", "https://r.io/a", "-f", "d"], "begins with a URL scheme"),
            (
                &[
                    "-i",
                    "r.io/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                    "-f",
                    "d",
                ],
                "has a digest, expected `registry/repository:tag`",
            ),
            (&["-i", "r.io/a", "-f", "d", "--tag", "ok,-x"], "`--tag`: tag `-x` is not valid"),
            (&["-f", "d", "--to-oci-tar", "x", "--tag", "v1"], "tag `v1` has no repository"),
            (&["-i", "r.io/a", "-f", "d", "--lock-output", "l"], "`--lock-output` works with bundles only"),
            (
                &["-b", "-f", "d", "--to-oci-tar", "x", "--lock-output", "l"],
                "cannot be used with `--to-oci-tar`",
            ),
            (&["-i", "r.io/a", "-f", "d", "-l", "a=b,c"], "`--labels`: `c` has no `=`"),
            (&["-i", "r.io/a", "-f", "d", "-l", " c"], "`--labels`: ` c` has no `=`"),
            (
                &["-i", "r.io/a", "-f", "d", "-l", "dev.carvel.imgpkg.bundle=1"],
                "label `dev.carvel.imgpkg.bundle` is reserved",
            ),
            (&["-i", "r.io/a", "-f", "d", "--annotation", "=x"], "`--annotation`: `=x` has no key"),
            (
                &["-i", "r.io/a", "-f", "d", "--compression", "gzip:13"],
                "`--compression`: compression `gzip:13` is not known",
            ),
            (
                &["-i", "r.io/a", "-f", "d", "--platform", "linux"],
                "`--platform`: platform `linux` is not of the form",
            ),
            (
                &["-i", "r.io/a", "-f", "d", "--expected-digest", "sha256:12"],
                "`--expected-digest`: digest `sha256:12` has 2",
            ),
            (&["-i", "r.io/a", "-f", "d", "--output", "jsn:x"], "result format `jsn` is unknown"),
        ];
        for (words, expected) in cases {
            let failure = resolve(words).unwrap_err();
            assert_eq!(failure.kind, crate::front::failure::Kind::Misuse, "{words:?}");
            assert!(failure.message.to_string().contains(expected), "{words:?}: {}", failure.message);
        }
    }

    #[test]
    fn options_are_taken_over_and_tags_named_once() {
        let options = resolve(&[
            "-i=r.io/a",
            "-f=d",
            "--tag=v1,v2",
            "--tag=v1",
            "-l=b=2,a=1",
            "--annotation=k=v,w",
            "--media-types=docker",
            "--compression=zstd:3",
            "--symlinks=refuse",
            "--preserve-permissions",
            "--platform=linux/arm/v7",
            "--output=json:x",
            "--result=digest:y",
        ])
        .unwrap();
        assert_eq!(options.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["v1", "v2"]);
        assert_eq!(options.contents.annotations["k"], "v,w");
        assert_eq!(options.contents.labels.len(), 2);
        assert_eq!(options.contents.media_types, MediaTypes::Docker);
        assert_eq!(options.contents.compression, CompressionLevel::Zstd(3));
        assert_eq!(options.contents.symlinks, SymlinkPolicy::Refuse);
        assert!(options.contents.preserve_permissions);
        assert_eq!(options.results.len(), 2);
    }
}
