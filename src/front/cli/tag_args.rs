//! The flags of `tag` and `delete`; beside [`super::args`], whose groups of flags they share.

use clap::Args;

use super::args::{RegistryArgs, SWITCH};
use super::values::Switch;

/// List a repository's tags
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct TagListArgs {
    /// Repository
    #[arg(short = 'i', long, value_name = "REPOSITORY")]
    pub image: Option<String>,
    /// Show each tag's digest too
    #[arg(long, value_name = SWITCH)]
    pub digests: Option<Switch>,
    /// Show the internal tags of imgpkg and imgrelay too
    #[arg(long, value_name = SWITCH)]
    pub imgpkg_internal_tags: Option<Switch>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Print the digest that a tag points at
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct TagResolveArgs {
    /// Reference
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Give an image further tags
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct TagAddArgs {
    /// Image that gets the tags
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// A tag (repeatable)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Delete tags; the images stay
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct TagDeleteArgs {
    /// Repository with a tag (repeatable)
    #[arg(short = 'i', long, value_name = "REFERENCE", value_delimiter = ',')]
    pub image: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Delete images by digest, and with them every tag on them
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct DeleteArgs {
    /// Repository with a digest (repeatable)
    #[arg(short = 'i', long, value_name = "REFERENCE", value_delimiter = ',')]
    pub image: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
