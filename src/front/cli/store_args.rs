//! The flags of `store`; beside [`super::args`].

use clap::Args;

use super::args::RegistryArgs;
use super::examples::STORE_LIST_EXAMPLES;

/// List the images of a store between jobs: each tag's newest version, or every version of one tag
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = STORE_LIST_EXAMPLES)]
pub struct StoreListArgs {
    /// The store: s3://BUCKET/PREFIX or file:///FOLDER; with :TAG the history of that tag, newest first
    #[arg(value_name = "URL[:TAG]")]
    pub store: String,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
