//! The flags of `diff`: two sources of any kind, in the order in which they were typed.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::args::{CONTENT, RegistryArgs, SWITCH};
use super::examples::DIFF_EXAMPLES;
use super::values::Switch;

/// Show what differs between two images: configuration, annotations, layers and files
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffFlags {
    /// Tars, folders or URLs of stores to compare, the older one first
    #[arg(value_name = "PATH", num_args = 0..)]
    pub path: Vec<PathBuf>,
    /// Tar or folder to compare: OCI layout, docker save or imgpkg, also compressed (repeatable)
    #[arg(long, value_name = "PATH")]
    pub tar: Vec<PathBuf>,
    /// Image in a store to compare: s3://BUCKET/PREFIX:TAG or file:///FOLDER:TAG (repeatable)
    #[arg(long, value_name = "URL:TAG")]
    pub store: Vec<String>,
    /// Image in a registry to compare (repeatable)
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Vec<String>,
    /// Bundle in a registry to compare (repeatable)
    #[arg(short = 'b', long, value_name = "REFERENCE")]
    pub bundle: Vec<String>,
    /// Image of a tar with several; given twice: of the older and of the newer tar
    #[arg(long, value_name = "IMAGE")]
    pub select: Vec<String>,
    /// Platform of indexes to compare (default: all that they have)
    #[arg(long, value_name = "OS/ARCH", help_heading = CONTENT)]
    pub platform: Option<String>,
    /// Print only the N largest changes of files (default all)
    #[arg(long, value_name = "N", help_heading = CONTENT)]
    pub largest: Option<String>,
    /// Fail only if an image's stored bytes grew by more than this, as 10% or 5MiB
    #[arg(long, value_name = "GROWTH", help_heading = CONTENT)]
    pub max_growth: Option<String>,
    /// Fetch the layers that both images of registries begin with, too
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub read_shared_layers: Option<Switch>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// A source as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypedSource {
    /// A tar or folder, or the URL of a store.
    Path(PathBuf),
    /// A tar or folder.
    Tar(PathBuf),
    /// An image in a store.
    Store(String),
    /// An image in a registry.
    Image(String),
    /// A bundle in a registry.
    Bundle(String),
}

/// The typed flags and sources of `diff`.
#[derive(Clone, Debug, Default)]
pub struct DiffArgs {
    /// The flags.
    pub flags: DiffFlags,
    /// The sources, in the order in which they were typed; those of variables come last.
    pub sources: Vec<TypedSource>,
}

impl Args for DiffArgs {
    fn augment_args(command: Command) -> Command {
        DiffFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        DiffFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for DiffArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = DiffFlags::from_arg_matches(matches)?;
        let mut sources: Vec<(bool, usize, TypedSource)> = Vec::new();
        let mut add = |id: &str, found: Vec<TypedSource>| {
            let is_typed = matches!(matches.value_source(id), Some(ValueSource::CommandLine));
            let places = matches.indices_of(id).into_iter().flatten();
            sources.extend(places.zip(found).map(|(place, source)| (!is_typed, place, source)));
        };
        add("path", flags.path.iter().cloned().map(TypedSource::Path).collect());
        add("tar", flags.tar.iter().cloned().map(TypedSource::Tar).collect());
        add("store", flags.store.iter().cloned().map(TypedSource::Store).collect());
        add("image", flags.image.iter().cloned().map(TypedSource::Image).collect());
        add("bundle", flags.bundle.iter().cloned().map(TypedSource::Bundle).collect());
        sources.sort_by_key(|(is_variable, place, _)| (*is_variable, *place));
        // With two typed sources the variables are ignored.
        if sources.iter().filter(|(is_variable, ..)| !is_variable).count() >= 2 {
            sources.retain(|(is_variable, ..)| !is_variable);
        }
        Ok(Self { flags, sources: sources.into_iter().map(|(.., source)| source).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
