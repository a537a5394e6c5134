//! What `push` was asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    RegistryOptions, TarTarget, expected_digest, given, given_path, is_on, parsed, parsed_list, platform,
    registry, results, tags, target_reference,
};
use crate::front::cli::args::PushArgs;
use crate::front::cli::values::key_value;
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::outputs::ResultFile;
use crate::model::{Annotations, Digest, Platform, Reference, Tag, keys};
use crate::pack::MediaTypes;
use crate::stream::CompressionLevel;
use crate::transfer::Attached;
use crate::tree::SymlinkPolicy;

/// What is left out when nothing else was asked for, as in imgpkg.
const EXCLUSION_DEFAULT: &str = ".git";

/// Everything `push` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOptions {
    /// What is made.
    pub kind: PushKind,
    /// What goes in, and how.
    pub contents: Contents,
    /// Where it goes.
    pub destination: Destination,
    /// Further tags for the same image.
    pub tags: Vec<Tag>,
    /// Whether every image the bundle names is fetched too, and what is fetched beside each; none for no.
    pub inflate: Option<Attached>,
    /// The digest the image has to have.
    pub expected_digest: Option<Digest>,
    /// Where a BundleLock is written.
    pub lock_output: Option<PathBuf>,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// What is made of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// A bundle.
    Bundle,
    /// A plain image.
    Image,
    /// A bundle if a root has `.imgpkg`, else a plain image.
    Detect,
}

/// What goes into the image, and how it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Folders and files, in the order given.
    pub roots: Vec<PathBuf>,
    /// Exact paths below a root that are left out.
    pub exclusions: Vec<String>,
    /// What becomes of symbolic links.
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
    /// How the layer is compressed.
    pub compression: CompressionLevel,
}

/// Where the image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To a registry.
    Registry(Reference),
    /// Into an OCI layout tar; no registry is contacted.
    OciTar {
        /// The file.
        target: TarTarget,
        /// The name recorded in it.
        name: Option<Reference>,
    },
}

/// Resolves `push`.
pub fn push(args: &PushArgs, env: &Env) -> Result<PushOptions, Failure> {
    let (kind, name) = kind_and_name(args)?;
    let tags = tags(&args.tag)?;
    let destination = match (given_path(args.to_oci_tar.as_ref()), name) {
        (Some(path), name) => Destination::OciTar { target: TarTarget::of(path), name },
        (None, Some(name)) => Destination::Registry(name),
        (None, None) => return Err(no_destination(kind)),
    };
    if let (Destination::OciTar { name: None, .. }, Some(tag)) = (&destination, tags.first()) {
        // Readers make unusable names of a tag without a repository.
        return Err(Failure::misuse(format!("tag `{tag}` has no repository it could belong to"))
            .hint("name the image: `-b registry/repository` or `-i registry/repository`"));
    }
    let lock_output = given_path(args.lock_output.as_ref()).map(PathBuf::from);
    if lock_output.is_some() {
        if kind == PushKind::Image {
            return Err(Failure::misuse("`--lock-output` works with bundles only, but `--image` was given"));
        }
        if matches!(destination, Destination::OciTar { .. }) {
            return Err(Failure::misuse("`--lock-output` cannot be used with `--to-oci-tar`")
                .hint("a lock names an image in a registry; use it with `copy --tar … --to-repo …`"));
        }
    }
    Ok(PushOptions {
        kind,
        contents: contents(args)?,
        inflate: inflate(args, kind, &destination)?,
        destination,
        tags,
        expected_digest: expected_digest(args.expected_digest.as_deref())?,
        lock_output,
        results: results(&args.results.result, env)?,
        registry: registry(&args.registry)?,
    })
}

/// Finds out whether the images of a bundle are fetched, and what beside them.
fn inflate(args: &PushArgs, kind: PushKind, destination: &Destination) -> Result<Option<Attached>, Failure> {
    let attached =
        Attached { cosign: is_on(args.cosign_signatures, false), referrers: is_on(args.referrers, false) };
    if !is_on(args.inflate, false) {
        if attached != Attached::default() {
            return Err(Failure::misuse(
                "`--cosign-signatures` and `--referrers` work with `--inflate` only",
            ));
        }
        return Ok(None);
    }
    if kind == PushKind::Image {
        return Err(Failure::misuse("`--inflate` works with bundles only, but `--image` was given"));
    }
    if matches!(destination, Destination::Registry(_)) {
        return Err(Failure::misuse("`--inflate` works with `--to-oci-tar` only")
            .hint("copy the pushed bundle with `copy -b … --to-repo …`, which brings its images along"));
    }
    Ok(Some(attached))
}

/// Finds what is made and its name; `-b` and `-i` without a name choose the kind only.
fn kind_and_name(args: &PushArgs) -> Result<(PushKind, Option<Reference>), Failure> {
    let named = |flag, text: &str| given(Some(text)).map(|text| target_reference(flag, text)).transpose();
    match (args.bundle.as_deref(), args.image.as_deref()) {
        // A template may leave one of the two empty.
        (Some(bundle), Some("")) if !bundle.is_empty() => Ok((PushKind::Bundle, named("--bundle", bundle)?)),
        (Some(""), Some(image)) if !image.is_empty() => Ok((PushKind::Image, named("--image", image)?)),
        (Some(_), Some(_)) => Err(Failure::misuse("`--bundle` and `--image` exclude each other")),
        (Some(bundle), None) => Ok((PushKind::Bundle, named("--bundle", bundle)?)),
        (None, Some(image)) => Ok((PushKind::Image, named("--image", image)?)),
        (None, None) => Ok((PushKind::Detect, None)),
    }
}

fn no_destination(kind: PushKind) -> Failure {
    let failure = match kind {
        PushKind::Bundle => Failure::misuse("`--bundle` has no reference to push to"),
        PushKind::Image => Failure::misuse("`--image` has no reference to push to"),
        PushKind::Detect => {
            Failure::misuse("no destination was given, expected `--bundle` or `--image` with a reference")
        }
    };
    failure.hint(
        "push to a registry with `-b REFERENCE` or `-i REFERENCE`, or write a tar with `--to-oci-tar FILE`",
    )
}

fn contents(args: &PushArgs) -> Result<Contents, Failure> {
    let roots: Vec<PathBuf> = args.file.iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect();
    if roots.is_empty() {
        return Err(Failure::misuse("no files were given").hint("name folders or files with `-f PATH`"));
    }
    let mut exclusions: Vec<String> =
        args.file_exclusion.iter().filter(|path| !path.is_empty()).cloned().collect();
    if exclusions.is_empty() {
        exclusions.push(EXCLUSION_DEFAULT.to_owned());
    }
    let labels: BTreeMap<_, _> = parsed_list("--labels", &args.labels, key_value)?.into_iter().collect();
    if labels.contains_key(keys::BUNDLE_LABEL) {
        return Err(Failure::misuse(format!("`--labels`: label `{}` is reserved", keys::BUNDLE_LABEL))
            .hint("`-b` sets it, `-i` does not"));
    }
    let annotations: Annotations =
        parsed_list("--annotation", &args.annotation, key_value)?.into_iter().collect();
    let compression = parsed("--compression", args.compression.as_deref(), str::parse::<CompressionLevel>)?;
    Ok(Contents {
        roots,
        exclusions,
        symlinks: match given(args.symlinks.as_deref()) {
            Some("copy") => SymlinkPolicy::Copy,
            Some("refuse") => SymlinkPolicy::Refuse,
            _ => SymlinkPolicy::Keep,
        },
        preserve_permissions: is_on(args.preserve_permissions, false),
        labels,
        annotations,
        platform: platform(args.platform.as_deref())?,
        media_types: match given(args.media_types.as_deref()) {
            Some("docker") => MediaTypes::Docker,
            _ => MediaTypes::Oci,
        },
        compression: compression.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
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
        let contents = Contents {
            roots: vec!["a".into(), "b".into(), "c".into()],
            exclusions: vec![".git".into()],
            symlinks: SymlinkPolicy::Keep,
            preserve_permissions: false,
            labels: BTreeMap::new(),
            annotations: Annotations::new(),
            platform: None,
            media_types: MediaTypes::Oci,
            compression: CompressionLevel::DEFAULT,
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
            (&["-b", "r.io/a", "-i", "r.io/b", "-f", "d"], "`--bundle` and `--image` exclude each other"),
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
            assert!(failure.message.contains(expected), "{words:?}: {}", failure.message);
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
