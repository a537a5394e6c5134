//! The flags of `store`; beside [`super::args`].

use clap::Args;

use super::args::{RegistryArgs, SWITCH};
use super::examples::{STORE_GC_EXAMPLES, STORE_LIST_EXAMPLES};
use super::values::Switch;

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

/// Remove old versions from a store between jobs, and delete blobs that nothing refers to
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = STORE_GC_EXAMPLES)]
pub struct StoreGcArgs {
    /// The store: s3://BUCKET/PREFIX or file:///FOLDER; with :TAG only versions of that tag are removed
    #[arg(value_name = "URL[:TAG]")]
    pub store: String,
    /// Remove versions of a tag beyond its newest NUMBER (the newest one always stays)
    #[arg(long, value_name = "NUMBER")]
    pub keep: Option<String>,
    /// Remove versions older than this, as 30d or 12h; with --keep those that are both
    #[arg(long, value_name = "DURATION")]
    pub keep_for: Option<String>,
    /// How long a blob stays after it was found unused, 2h or more (default 24h)
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    /// Only say what would be deleted
    #[arg(long, value_name = SWITCH)]
    pub dry_run: Option<Switch>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
