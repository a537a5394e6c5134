//! The checked options of `diff`.

use std::path::Path;

use super::look::count;
use super::{
    RegistryOptions, Source, as_store, is_on, parsed, parsed_list, platform, reference, registry, stdin,
    wrong,
};
use crate::depot::AddressError;
use crate::front::cli::diff_args::{DiffArgs, TypedSource};
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::store::Selector;
use crate::transfer::{DiffOptions, SharedLayers};

/// Everything `diff` needs.
#[derive(Clone, Debug)]
pub struct DiffRequest {
    /// The older and the newer image, each with the selected image of a tar.
    pub sides: [(Source, Option<Selector>); 2],
    /// How they are compared; files only where the result shows them.
    pub compare: DiffOptions,
    /// How many of the largest changes of files are printed; none prints all.
    pub largest: Option<usize>,
    /// The growth that is accepted; `None` accepts no difference.
    pub max_growth: Option<Growth>,
    /// Print nothing but errors.
    pub quiet: bool,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

/// A growth that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Thousandths of the old size.
    PerMille(u64),
    /// Bytes.
    Bytes(u64),
}

impl Growth {
    /// Tells whether an image grew by more than this.
    #[must_use]
    pub fn is_exceeded(self, old: u64, new: u64) -> bool {
        let grown = u128::from(new.saturating_sub(old));
        match self {
            Self::Bytes(most) => grown > u128::from(most),
            Self::PerMille(most) => grown * 1000 > u128::from(old) * u128::from(most),
        }
    }
}

impl std::fmt::Display for Growth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(most) => write!(f, "{}", crate::front::text::bytes(*most)),
            Self::PerMille(most) if most % 10 == 0 => write!(f, "{} %", most / 10),
            Self::PerMille(most) => write!(f, "{}.{} %", most / 10, most % 10),
        }
    }
}

/// Resolves `diff`; `quiet` and `json` tell whether `--quiet` and `--json` were given.
pub fn diff(args: &DiffArgs, quiet: bool, json: bool) -> Result<DiffRequest, Failure> {
    let flags = &args.flags;
    let is_given = |source: &&TypedSource| match source {
        TypedSource::Path(path) | TypedSource::Tar(path) => !path.as_os_str().is_empty(),
        TypedSource::Store(text) | TypedSource::Image(text) | TypedSource::Bundle(text) => !text.is_empty(),
    };
    let given: Vec<&TypedSource> = args.sources.iter().filter(is_given).collect();
    let [old, new] = given.as_slice() else {
        let message = message!(
            format!("{} images were given, expected two: paths, ", given.len()),
            Flag::TAR,
            ", ",
            Flag::STORE,
            ", ",
            Flag::IMAGE,
            " or ",
            Flag::BUNDLE
        );
        return Err(Failure::misuse(message).hint("name the older one first"));
    };
    let [old, new] = [source(old)?, source(new)?];
    let is_stdin = |source: &Source| matches!(source, Source::Tar(path) if path == Path::new("/dev/stdin"));
    if is_stdin(&old) && is_stdin(&new) {
        return Err(Failure::misuse("two tars cannot be read from standard input"));
    }
    let registry = registry(&flags.registry)?;
    let registry = registry.naming([&old, &new].into_iter().filter_map(|source| source.repository()));
    let mut selectors = parsed_list(Flag::SELECT, &flags.select, str::parse::<Selector>)?.into_iter();
    let (first, second) = (selectors.next(), selectors.next());
    if selectors.next().is_some() {
        return Err(Failure::misuse(message!(
            Flag::SELECT,
            " is given more than twice, but two images are compared"
        )));
    }
    let second = second.or_else(|| first.clone());
    let of_tar = |source: &Source, selector: Option<Selector>| {
        if matches!(source, Source::Tar(_) | Source::WebTar(_) | Source::Store(_)) { selector } else { None }
    };
    let (first, second) = (of_tar(&old, first), of_tar(&new, second));
    if !flags.select.iter().all(String::is_empty) && first.is_none() && second.is_none() {
        return Err(Failure::misuse(message!(Flag::SELECT, " works with tars and stores only")));
    }
    let read_shared = is_on(flags.read_shared_layers, false);
    let quiet = quiet && !json;
    Ok(DiffRequest {
        compare: DiffOptions {
            platform: platform(flags.platform.as_deref())?,
            files: !quiet,
            shared: if read_shared { SharedLayers::Read } else { SharedLayers::WhereNeeded },
            concurrency: registry.concurrency,
        },
        sides: [(old, first), (new, second)],
        largest: parsed(Flag::LARGEST, flags.largest.as_deref(), count)?,
        max_growth: parsed(Flag::MAX_GROWTH, flags.max_growth.as_deref(), growth)?,
        quiet,
        registry,
    })
}

fn source(typed: &TypedSource) -> Result<Source, Failure> {
    Ok(match typed {
        TypedSource::Path(path) | TypedSource::Tar(path) if path == Path::new("-") => Source::Tar(stdin()?),
        TypedSource::Path(path) => match as_store(Flag::STORE, path)? {
            Some(store) => store,
            None => Source::of_tar(path),
        },
        TypedSource::Tar(path) => Source::of_tar(path),
        TypedSource::Store(text) => {
            Source::Store(text.parse().map_err(|error: AddressError| wrong(Flag::STORE, &error))?)
        }
        TypedSource::Image(text) => Source::Image(reference(Flag::IMAGE, text)?),
        TypedSource::Bundle(text) => Source::Bundle(reference(Flag::BUNDLE, text)?),
    })
}

fn growth(text: &str) -> Result<Growth, String> {
    let wrong = || format!("`{text}` is neither a percentage, as 10%, nor a size, as 5MiB");
    let Some(percent) = text.strip_suffix('%') else {
        return crate::front::cli::values::size(text).map(Growth::Bytes).map_err(|_| wrong());
    };
    let (whole, tenth) = percent.trim().split_once('.').unwrap_or((percent.trim(), "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = whole
        .parse::<u64>()
        .ok()
        .filter(|whole| digits(percent.get(..1).unwrap_or("x")) && *whole <= 100_000);
    let tenth = tenth.parse::<u64>().ok().filter(|_| tenth.len() == 1);
    whole.zip(tenth).map(|(whole, tenth)| Growth::PerMille(whole * 10 + tenth)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<DiffRequest, String> {
        diff(&args(words), false, false).map_err(|failure| failure.message.to_string())
    }

    #[test]
    fn diff_takes_sources_in_the_order_in_which_they_are_typed() {
        let tar = |path: &str| Source::Tar(path.into());
        let image = |name: &str| Source::Image(name.parse().unwrap());
        let store = |url: &str| Source::Store(url.parse().unwrap());
        for (words, old, new) in [
            (&["a.tar", "b.tar"][..], tar("a.tar"), tar("b.tar")),
            (&["-i", "r.io/a:v1", "--tar", "b.tar"], image("r.io/a:v1"), tar("b.tar")),
            (&["--tar", "b.tar", "-i", "r.io/a:v1"], tar("b.tar"), image("r.io/a:v1")),
            (&["--tar=b.tar", "a.tar"], tar("b.tar"), tar("a.tar")),
            (&["-i=r.io/b:v1", "-i=r.io/a:v1", "--tar="], image("r.io/b:v1"), image("r.io/a:v1")),
            (&["--store=file:///s:v1", "s3://bucket/a:v2"], store("file:///s:v1"), store("s3://bucket/a:v2")),
        ] {
            let [(found_old, _), (found_new, _)] = resolve(words).unwrap().sides;
            assert_eq!((found_old, found_new), (old, new), "{words:?}");
        }
        for (words, expected) in [
            (&["a.tar"][..], "1 images were given, expected two"),
            (&["a", "b", "--tar", "c"], "3 images were given, expected two"),
            (
                &["-i=r.io/b:v1", "-i=r.io/a:v1", "--select", "@0"],
                "`--select` works with tars and stores only",
            ),
            (&["a", "b", "--select=@0", "--select=@1", "--select=@2"], "given more than twice"),
            (&["a", "b", "--max-growth", "x"], "neither a percentage, as 10%, nor a size, as 5MiB"),
        ] {
            let message = resolve(words).unwrap_err();
            assert!(message.contains(expected), "{words:?}: {message}");
        }
    }

    #[test]
    fn a_growth_is_a_percentage_or_a_size() {
        for (text, expected) in [
            ("10%", Some(Growth::PerMille(100))),
            ("0%", Some(Growth::PerMille(0))),
            ("2.5%", Some(Growth::PerMille(25))),
            ("5MiB", Some(Growth::Bytes(5 << 20))),
            ("2.55%", None),
            ("-1%", None),
            ("%", None),
            ("much", None),
        ] {
            assert_eq!(growth(text).ok(), expected, "{text}");
        }
        for (growth, old, new, expected) in [
            (Growth::PerMille(100), 1000, 1100, false),
            (Growth::PerMille(100), 1000, 1101, true),
            (Growth::PerMille(0), 0, 1, true),
            (Growth::PerMille(0), 5, 4, false),
            (Growth::Bytes(10), 5, 15, false),
            (Growth::Bytes(10), 5, 16, true),
            (Growth::PerMille(u64::MAX), u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(growth.is_exceeded(old, new), expected, "{growth:?} {old} {new}");
        }
        assert_eq!(Growth::PerMille(25).to_string(), "2.5 %");
        assert_eq!(Growth::PerMille(100).to_string(), "10 %");
    }
}
