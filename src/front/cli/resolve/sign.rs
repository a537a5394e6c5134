//! The checked options of `sign` and `attach`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    RegistryOptions, Source, SourceFlags, chosen, expect_own_file, given, given_path, is_on, parsed_list,
    reference, registry, results, source, wrong,
};
use crate::front::attachment::AttachmentKind;
use crate::front::cli::choices;
use crate::front::cli::sign_args::{AttachArgs, SignArgs};
use crate::front::cli::values::key_value;
use crate::front::env::Env;
use crate::front::failure::{Failure, Hint, message};
use crate::front::flag::Flag;
use crate::front::result_file::ResultFile;
use crate::model::Reference;
use crate::transfer::signatures::SignatureFormat;

/// Everything `sign` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOptions {
    /// What is signed.
    pub target: SignTarget,
    /// Where the private key is.
    pub key: String,
    /// The image name in the signatures.
    pub identity: Option<Reference>,
    /// Whether the children of indexes and the images of bundles are signed too.
    pub recursive: bool,
    /// Annotations that are signed with the image.
    pub annotations: BTreeMap<String, String>,
    /// How signatures are stored.
    pub format: SignatureFormat,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignTarget {
    /// An OCI layout tar or folder.
    Layout(PathBuf),
    /// An image in a registry, by digest.
    Image(Reference),
}

/// Resolves `sign`.
pub fn sign(args: &SignArgs, env: &Env) -> Result<SignOptions, Failure> {
    let target = target(args.image.as_deref(), args.tar.as_ref())?;
    let Some(key) = given(args.key.as_deref()) else {
        return Err(Failure::misuse("no private key was given").hint(message!(
            "name its file with ",
            Flag::KEY.with("FILE"),
            ", or a variable: ",
            Flag::KEY.with("env://VARIABLE")
        )));
    };
    let named = match &target {
        SignTarget::Image(reference) => Some(&reference.repository),
        SignTarget::Layout(_) => None,
    };
    let format = format(args.signature_format.as_deref())?;
    let annotations: BTreeMap<String, String> =
        parsed_list(Flag::ANNOTATION, &args.annotation, key_value)?.into_iter().collect();
    if !annotations.is_empty() && format != SignatureFormat::SimpleSigning {
        let value = Flag::SIGNATURE_FORMAT.with("simplesigning");
        return Err(Failure::misuse(message!(Flag::ANNOTATION, " works with ", value, " only")));
    }
    Ok(SignOptions {
        registry: registry(&args.registry)?.naming(named),
        target,
        key: key.to_owned(),
        identity: identity(args.identity.as_deref())?,
        recursive: is_on(args.recursive, false),
        annotations,
        format,
        results: results(&args.result, env)?,
    })
}

/// Everything `attach` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// What it is attached to.
    pub target: SignTarget,
    /// What kind of content it is.
    pub kind: AttachmentKind,
    /// The file.
    pub file: PathBuf,
    /// Where the private key is; none attaches it unsigned.
    pub key: Option<String>,
    /// The image name in the statement.
    pub identity: Option<Reference>,
    /// How it is stored.
    pub format: SignatureFormat,
    /// Result files.
    pub results: Vec<ResultFile>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// Resolves `attach`.
pub fn attach(args: &AttachArgs, env: &Env) -> Result<AttachOptions, Failure> {
    let target = target(args.image.as_deref(), args.tar.as_ref())?;
    let Some(file) = given_path(args.file.as_ref()) else {
        return Err(Failure::misuse("no file to attach was given"));
    };
    let Some(kind) = given(args.kind.as_deref()) else {
        return Err(Failure::misuse("no kind of file to attach was given").hint(message!(
            "name the kind with ",
            Flag::TYPE.with("spdx"),
            " or ",
            Flag::TYPE.with("cyclonedx")
        )));
    };
    let key = given(args.key.as_deref()).map(str::to_owned);
    let identity = identity(args.identity.as_deref())?;
    for (flag, is_given) in [
        (Flag::IDENTITY, identity.is_some()),
        (Flag::SIGNATURE_FORMAT, given(args.signature_format.as_deref()).is_some()),
    ] {
        if is_given && key.is_none() {
            return Err(Failure::misuse(message!(flag, " works with ", Flag::KEY, " only")));
        }
    }
    let named = match &target {
        SignTarget::Image(reference) => Some(&reference.repository),
        SignTarget::Layout(_) => None,
    };
    Ok(AttachOptions {
        registry: registry(&args.registry)?.naming(named),
        target,
        kind: AttachmentKind::parse(kind, key.is_some()).map_err(|problem| wrong(Flag::TYPE, &problem))?,
        file: file.to_owned(),
        key,
        identity,
        format: format(args.signature_format.as_deref())?,
        results: results(&args.result, env)?,
    })
}

/// Resolves what is changed: a layout, or an image by digest.
fn target(image: Option<&str>, tar: Option<&PathBuf>) -> Result<SignTarget, Failure> {
    given_path(tar).map_or(Ok(()), |path| expect_own_file(Flag::TAR, path))?;
    let flags = SourceFlags { image, tar: given_path(tar), ..SourceFlags::default() };
    match source(&flags, &[Flag::TAR, Flag::IMAGE])? {
        Source::Image(reference) if reference.digest.is_none() => {
            let failure = wrong(Flag::IMAGE, &format_args!("`{reference}` has no digest"));
            let before = "the tag may move meanwhile; ";
            Err(failure.hint(Hint::command(before, "imgrelay tag resolve", " prints its digest")))
        }
        Source::Image(reference) | Source::Bundle(reference) => Ok(SignTarget::Image(reference)),
        Source::Tar(path) | Source::OciTar(path) | Source::Lock(path) => Ok(SignTarget::Layout(path)),
        Source::Store(store) => Err(Failure::misuse(format!("`{store}` is an image store, expected a tar"))),
        Source::WebTar(_) => Err(wrong(Flag::TAR, &"a tar at a URL cannot be changed")),
    }
}

fn identity(value: Option<&str>) -> Result<Option<Reference>, Failure> {
    given(value).map(|text| reference(Flag::IDENTITY, text)).transpose()
}

fn format(value: Option<&str>) -> Result<SignatureFormat, Failure> {
    Ok(chosen(Flag::SIGNATURE_FORMAT, value, &choices::SIGNATURE_FORMAT)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<SignOptions, Failure> {
        sign(&args(words), &Env::default())
    }

    #[test]
    fn a_tar_or_an_image_by_digest_is_signed_with_one_key() {
        let options =
            resolve(&["--tar", "t", "--key", "k", "-a", "a=b", "-r", "--identity", "r.io/a:1"]).unwrap();
        assert_eq!((options.target, options.key.as_str()), (SignTarget::Layout("t".into()), "k"));
        assert!(options.recursive && options.annotations["a"] == "b" && options.identity.is_some());
        let digest = format!("r.io/a@sha256:{}", "0".repeat(64));
        let options = resolve(&["-i", &digest, "--key", "env://K"]).unwrap();
        assert_eq!(options.target, SignTarget::Image(digest.parse().unwrap()));
        let cases: &[(&[&str], &str)] = &[
            (&["--key", "k"], "no source was given, expected one of `--image`, `--tar`"),
            (&["--tar", "t"], "no private key was given"),
            (&["-i", "r.io/a:1", "--key", "k"], "`--image`: `r.io/a:1` has no digest"),
            (&["--tar", "t", "-i", "r.io/a", "--key", "k"], "exclude each other"),
            (&["--tar", "t", "--key", "k", "-a", "x"], "`--annotation`: `x` has no `=`"),
            (&["--tar", "t", "--key", "k", "--identity", "A"], "`--identity`: "),
        ];
        for (words, expected) in cases {
            let failure = resolve(words).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{words:?}: {}", failure.message);
        }
    }
}
