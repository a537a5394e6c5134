//! What `sign` was asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    RegistryOptions, Source, SourceFlags, given, given_path, is_on, parsed_list, reference, registry, source,
    wrong,
};
use crate::front::cli::sign_args::SignArgs;
use crate::front::cli::values::key_value;
use crate::front::failure::{Failure, Hint, message};
use crate::front::flag::Flag;
use crate::model::Reference;

/// Everything `sign` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOptions {
    /// What is signed.
    pub target: SignTarget,
    /// Where the private key is.
    pub key: String,
    /// The name that signatures are for.
    pub identity: Option<Reference>,
    /// Whether the children of indexes and the images of bundles are signed too.
    pub recursive: bool,
    /// What is signed besides.
    pub annotations: BTreeMap<String, String>,
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
pub fn sign(args: &SignArgs) -> Result<SignOptions, Failure> {
    let flags = SourceFlags {
        image: args.image.as_deref(),
        tar: given_path(args.tar.as_ref()),
        ..SourceFlags::default()
    };
    let target = match source(&flags, &[Flag::TAR, Flag::IMAGE])? {
        Source::Image(reference) if reference.digest.is_none() => {
            return Err(wrong(Flag::IMAGE, &format_args!("`{reference}` has no digest")).hint(
                Hint::command("the tag may move meanwhile; ", "imgrelay tag resolve", " prints its digest"),
            ));
        }
        Source::Image(reference) | Source::Bundle(reference) => SignTarget::Image(reference),
        Source::Tar(path) | Source::OciTar(path) | Source::Lock(path) => SignTarget::Layout(path),
    };
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
    Ok(SignOptions {
        registry: registry(&args.registry)?.naming(named),
        target,
        key: key.to_owned(),
        identity: given(args.identity.as_deref()).map(|text| reference(Flag::IDENTITY, text)).transpose()?,
        recursive: is_on(args.recursive, false),
        annotations: parsed_list(Flag::ANNOTATION, &args.annotation, key_value)?.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<SignOptions, Failure> {
        sign(&args(words))
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
