//! The flags of `index`; beside [`super::args`], whose groups of flags it shares.

use std::path::PathBuf;

use clap::Args;

use super::args::{CONTENT, RegistryArgs, ResultArgs, SWITCH};
use super::examples::INDEX_EXAMPLES;
use super::values::Switch;

/// Join images of several platforms into one multi-platform image
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = INDEX_EXAMPLES)]
pub struct IndexArgs {
    /// Tars or folders with images of one or more platforms (repeatable; patterns are expanded)
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub tar: Vec<PathBuf>,
    /// Image of each tar that is joined, with what belongs to it: by name, tag, digest or position (@0 is the first)
    #[arg(long, value_name = "IMAGE")]
    pub select: Option<String>,
    /// Image in a store: s3://BUCKET/PREFIX:TAG or file:///FOLDER:TAG (repeatable)
    #[arg(long, value_name = "URL[:TAG]", value_delimiter = ',')]
    pub store: Vec<String>,
    /// Image in a registry (repeatable)
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Vec<String>,
    /// Push to this repository; with :TAG to this tag, else with the name of the images
    #[arg(long, value_name = "REPOSITORY")]
    pub to_repo: Option<String>,
    /// Write an OCI layout tar (- is standard output)
    #[arg(long, value_name = "FILE")]
    pub to_oci_tar: Option<PathBuf>,
    /// Name to record in the tar (default: the common name of the images)
    #[arg(long, value_name = "REFERENCE")]
    pub name: Option<String>,
    /// A further tag for the index (repeatable)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// Fail unless there is an image for this platform (repeatable)
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', help_heading = CONTENT)]
    pub require_platform: Vec<String>,
    /// Platform of images whose configuration names none
    #[arg(long, value_name = "OS/ARCH", help_heading = CONTENT)]
    pub platform: Option<String>,
    /// Annotation of the index, KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = CONTENT)]
    pub annotation: Vec<String>,
    /// With -i: copy cosign's signatures, attestations and SBOMs of every image too
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub cosign_signatures: Option<Switch>,
    /// With -i: copy the referrers of every image too (OCI 1.1: artifacts whose subject is the image)
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub referrers: Option<Switch>,
    /// Fail unless the index has this digest
    #[arg(long, value_name = "DIGEST", help_heading = CONTENT)]
    pub expected_digest: Option<String>,
    /// Refuse images that none of these keys signed: PEM file, folder of them, env://VARIABLE or PEM text (repeatable)
    #[arg(long, value_name = "KEY", help_heading = CONTENT)]
    pub verify_key: Vec<String>,
    /// Results
    #[command(flatten)]
    pub results: ResultArgs,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
