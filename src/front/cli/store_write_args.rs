//! The flags about writing into a store, which `push` and `copy` share.

use clap::Args;

use super::values::Switch;

/// How a store is written.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct StoreWriteArgs {
    /// With --to-store: read back from the store what was written, and compare its digest
    #[arg(long, value_name = "BOOL")]
    pub verify_upload: Option<Switch>,
    /// With --to-store s3://…: how the server encrypts objects: AES256, aws:kms or aws:kms:dsse (default: as the bucket)
    #[arg(long, value_name = "HOW")]
    pub server_side_encryption: Option<String>,
    /// With --server-side-encryption aws:kms: the key (default: the bucket's)
    #[arg(long, value_name = "KEY")]
    pub sse_kms_key_id: Option<String>,
}
