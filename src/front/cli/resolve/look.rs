//! The checked options of `ls` and `cat`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::{RegistryOptions, Source, SourceFlags, given_path, parsed, platform, registry, selector, source};
use crate::front::cli::args::{RegistryArgs, SourceArgs};
use crate::front::cli::look_args::{CatArgs, LsArgs};
use crate::front::failure::Failure;
use crate::front::flag::Flag;
use crate::model::Platform;
use crate::store::Selector;

/// An image whose files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedAt {
    /// Where it is.
    pub source: Source,
    /// The selected image of a tar.
    pub select: Option<Selector>,
    /// Which platform is chosen from an index; none is `linux/amd64`.
    pub platform: Option<Platform>,
    /// How the registry is reached.
    pub registry: RegistryOptions,
}

/// Everything `ls` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsOptions {
    /// The image.
    pub image: LookedAt,
    /// The folder or file that is listed; empty for everything.
    pub path: Vec<u8>,
    /// How many of the largest files are listed; none lists all.
    pub largest: Option<usize>,
    /// The only layer whose files are listed, counted from 1, the lowest.
    pub layer: Option<usize>,
}

/// Everything `cat` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatOptions {
    /// The image.
    pub image: LookedAt,
    /// The file.
    pub path: Vec<u8>,
}

/// Resolves `ls`.
pub fn ls(args: &LsArgs) -> Result<LsOptions, Failure> {
    Ok(LsOptions {
        image: image(&args.source, args.platform.as_deref(), &args.registry)?,
        path: bytes(args.path.as_ref()),
        largest: parsed(Flag::LARGEST, args.largest.as_deref(), count)?,
        layer: parsed(Flag::LAYER, args.layer.as_deref(), count)?,
    })
}

/// Resolves `cat`; `json` tells whether `--json` was given.
pub fn cat(args: &CatArgs, json: bool) -> Result<CatOptions, Failure> {
    if json {
        return Err(Failure::misuse("the content of a file cannot be printed as JSON"));
    }
    let image = image(&args.source, args.platform.as_deref(), &args.registry)?;
    let path = bytes(args.path.as_ref());
    if path.is_empty() {
        return Err(Failure::misuse("no file was given, expected the path of one in the image"));
    }
    Ok(CatOptions { image, path })
}

fn image(args: &SourceArgs, wanted: Option<&str>, how: &RegistryArgs) -> Result<LookedAt, Failure> {
    let source =
        source(&SourceFlags::of(args), &[Flag::BUNDLE, Flag::IMAGE, Flag::TAR, Flag::OCI_TAR, Flag::STORE])?;
    Ok(LookedAt {
        select: selector(&args.tars, &source)?,
        platform: platform(wanted)?,
        registry: registry(how)?.naming(source.repository()),
        source,
    })
}

fn bytes(path: Option<&PathBuf>) -> Vec<u8> {
    given_path(path).map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default()
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{text}` is not a whole number from 1"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    #[test]
    fn ls_takes_a_path_and_counts_from_one() {
        let options = ls(&args(&["--tar", "t", "/etc", "--largest", "5", "--layer=2"])).unwrap();
        assert_eq!(
            (options.path.as_slice(), options.largest, options.layer),
            (&b"/etc"[..], Some(5), Some(2))
        );
        let all = ls(&args(&["-i", "r.io/a", "--platform", "linux/arm64"])).unwrap();
        assert_eq!((all.path.as_slice(), all.largest, all.layer), (&b""[..], None, None));
        for (words, expected) in [
            (&["--tar", "t", "--largest", "0"][..], "`--largest`: `0` is not a whole number from 1"),
            (&["--tar", "t", "--layer", "x"], "`--layer`: `x` is not a whole number from 1"),
            (&["/etc"], "no source was given"),
        ] {
            let failure = ls(&args(words)).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{words:?}: {}", failure.message);
        }
    }

    #[test]
    fn cat_needs_a_file_and_prints_no_json() {
        assert_eq!(cat(&args(&["--tar", "t", "/a"]), false).unwrap().path, b"/a");
        assert!(
            cat(&args(&["--tar", "t"]), false).unwrap_err().message.to_string().contains("no file was given")
        );
        assert!(cat(&args(&["--tar", "t", "/a"]), true).unwrap_err().message.to_string().contains("JSON"));
    }
}
