//! The flags of `ls` and `cat`; beside [`super::args`], whose groups of flags they share.

use std::path::PathBuf;

use clap::Args;

use super::args::{CONTENT, RegistryArgs, SourceArgs};
use super::examples::{CAT_EXAMPLES, LS_EXAMPLES};

/// List the files of an image as a container would see them, and the layer that each is from
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = LS_EXAMPLES)]
pub struct LsArgs {
    /// Folder or file to list (default: everything)
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// What is read
    #[command(flatten)]
    pub source: SourceArgs,
    /// List the N largest files only, largest first
    #[arg(long, value_name = "N", help_heading = CONTENT)]
    pub largest: Option<String>,
    /// List only the entries of this layer; 1 is the lowest
    #[arg(long, value_name = "N", help_heading = CONTENT)]
    pub layer: Option<String>,
    /// Platform to choose from a multi-platform image (default linux/amd64)
    #[arg(long, value_name = "OS/ARCH", help_heading = CONTENT)]
    pub platform: Option<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Print a file of an image; links are followed inside the image
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = CAT_EXAMPLES)]
pub struct CatArgs {
    /// The file
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// What is read
    #[command(flatten)]
    pub source: SourceArgs,
    /// Platform to choose from a multi-platform image (default linux/amd64)
    #[arg(long, value_name = "OS/ARCH", help_heading = CONTENT)]
    pub platform: Option<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
