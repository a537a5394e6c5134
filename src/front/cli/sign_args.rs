//! The flags of `sign` and `attach`; beside [`super::args`], whose groups of flags they share.

use std::path::PathBuf;

use clap::Args;

use super::args::{CONTENT, OUTPUT, RegistryArgs, SWITCH};
use super::choices;
use super::examples::{ATTACH_EXAMPLES, SIGN_EXAMPLES};
use super::values::Switch;

/// Sign an image in a tar or folder, in place; the image's digest does not change
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = SIGN_EXAMPLES)]
pub struct SignArgs {
    /// OCI layout tar or folder whose image is signed; the signature is written into it
    #[arg(long, value_name = "PATH")]
    pub tar: Option<PathBuf>,
    /// Image in a registry to sign, with its digest
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// Private key: a file, or env://VARIABLE; cosign's, or PKCS#8 in PEM
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Image name in the signature (default: the recorded name)
    #[arg(long, value_name = "REFERENCE", help_heading = CONTENT)]
    pub identity: Option<String>,
    /// Also sign the images of an index, and those that a bundle names
    #[arg(short = 'r', long, value_name = SWITCH, help_heading = CONTENT)]
    pub recursive: Option<Switch>,
    /// Form: simplesigning, which every tool reads, bundle or both (default simplesigning)
    #[arg(long, value_name = "FORM", value_parser = choices::SIGNATURE_FORMAT, hide_possible_values = true, help_heading = CONTENT)]
    pub signature_format: Option<String>,
    /// Annotation to sign with the digest, KEY=VALUE (repeatable)
    #[arg(short = 'a', long, value_name = "KEY=VALUE", help_heading = CONTENT)]
    pub annotation: Vec<String>,
    /// Also write the result as json, dotenv, digest, url, ref, path, github or tekton to PATH (repeatable)
    #[arg(long, value_name = "FORMAT:PATH", help_heading = OUTPUT)]
    pub result: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Attach an SBOM, provenance or another file to an image in a tar or folder, in place
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = ATTACH_EXAMPLES)]
pub struct AttachArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// OCI layout tar or folder with the image
    #[arg(long, value_name = "PATH")]
    pub tar: Option<PathBuf>,
    /// Image in a registry, with its digest
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// spdx, cyclonedx, slsaprovenance1, or a media type; with --key also the URI of a predicate type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Sign it with this private key: a file, or env://VARIABLE
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// With --key: image name in the statement (default: the recorded name)
    #[arg(long, value_name = "REFERENCE", help_heading = CONTENT)]
    pub identity: Option<String>,
    /// With --key: form, simplesigning (under cosign's tag), bundle or both (default simplesigning)
    #[arg(long, value_name = "FORM", value_parser = choices::SIGNATURE_FORMAT, hide_possible_values = true, help_heading = CONTENT)]
    pub signature_format: Option<String>,
    /// Also write the result as json, dotenv, digest, url, ref, path, github or tekton to PATH (repeatable)
    #[arg(long, value_name = "FORMAT:PATH", help_heading = OUTPUT)]
    pub result: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
