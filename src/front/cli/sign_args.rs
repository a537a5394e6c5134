//! What was typed for `sign`; beside [`super::args`], whose groups of flags it shares.

use std::path::PathBuf;

use clap::Args;

use super::args::{CONTENT, RegistryArgs, SWITCH};
use super::examples::SIGN_EXAMPLES;
use super::values::Switch;

/// Sign an image in a tar or folder, in place; the image's digest does not change
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = SIGN_EXAMPLES)]
pub struct SignArgs {
    /// OCI layout tar or folder whose image is signed; the signature is put into it
    #[arg(long, value_name = "PATH")]
    pub tar: Option<PathBuf>,
    /// Image in a registry to sign, with its digest
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// Private key: a file, or env://VARIABLE; cosign's, or PKCS#8 in PEM
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Name that the signature is for (default: the recorded name)
    #[arg(long, value_name = "REFERENCE", help_heading = CONTENT)]
    pub identity: Option<String>,
    /// Also sign the images of an index, and those that a bundle names
    #[arg(short = 'r', long, value_name = SWITCH, help_heading = CONTENT)]
    pub recursive: Option<Switch>,
    /// Sign this with the digest, KEY=VALUE (repeatable)
    #[arg(short = 'a', long, value_name = "KEY=VALUE", help_heading = CONTENT)]
    pub annotation: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
