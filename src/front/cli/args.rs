//! The flags of every command as typed texts, with their help.
//!
//! This file parses switches only; [`super::resolve`] interprets everything else. The doc comments of the
//! fields are the help texts: one line, with unit and default.

use std::path::PathBuf;

use clap::Args;

use super::choices;
use super::examples::{
    COPY_EXAMPLES, DESCRIBE_EXAMPLES, MATCH_EXAMPLES, PULL_EXAMPLES, PUSH_EXAMPLES, VERIFY_EXAMPLES,
};
use super::run_args::RunArgs;
use super::store_write_args::StoreWriteArgs;
use super::values::Switch;
use crate::registry::Secret;

/// Value name that marks a flag which is on or off, see [`super::grammar`].
pub(super) const SWITCH: &str = "BOOL";

/// Heading of the flags about results.
pub(super) const OUTPUT: &str = "Output";
const REGISTRY: &str = "Registry";
/// Heading of the flags that choose what is copied.
pub(super) const CONTENT: &str = "Content";

/// Flags that every command has.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(next_help_heading = OUTPUT)]
pub struct Globals {
    /// Print the result as one JSON document
    #[arg(long, global = true, value_name = SWITCH)]
    pub json: Option<Switch>,
    /// Print errors, warnings and the result only
    #[arg(long, short = 'q', global = true, value_name = SWITCH)]
    pub quiet: Option<Switch>,
    /// Print each request to a registry, without secrets
    #[arg(long, global = true, value_name = SWITCH)]
    pub debug: Option<Switch>,
    /// Progress: auto, plain, bar or none; auto shows bars on a terminal, else lines (default auto)
    #[arg(long, global = true, value_name = "HOW", value_parser = choices::PROGRESS, hide_possible_values = true)]
    pub progress: Option<String>,
    /// Colours: auto, always or never (default auto)
    #[arg(long, global = true, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always", value_parser = choices::COLOR, hide_possible_values = true)]
    pub color: Option<String>,
    /// Accepted for imgpkg's scripts; results are always printed
    #[arg(long, global = true, hide = true, value_name = SWITCH)]
    pub tty: Option<Switch>,
    /// With tag list: show these columns only, name or digest (repeatable)
    #[arg(long, global = true, hide = true, value_name = "NAME", value_delimiter = ',')]
    pub column: Vec<String>,
    /// Accepted for imgpkg's scripts; imgrelay never prompts
    #[arg(long, short = 'y', global = true, hide = true, value_name = SWITCH)]
    pub yes: Option<Switch>,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(next_help_heading = REGISTRY)]
pub struct RegistryArgs {
    /// Trust these CA certificates too (PEM file, or folder of them; repeatable)
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub registry_ca_cert_path: Vec<PathBuf>,
    /// Check the server's certificate (default true)
    #[arg(long, visible_alias = "tls-verify", value_name = SWITCH)]
    pub registry_verify_certs: Option<Switch>,
    /// Allow plain http; always allowed for this machine
    #[arg(long, value_name = SWITCH)]
    pub registry_insecure: Option<Switch>,
    /// User name for the registries that the command line names
    #[arg(long, value_name = "NAME")]
    pub registry_username: Option<String>,
    /// Password; better in IMGRELAY_REGISTRY_PASSWORD
    #[arg(long, value_name = "PASSWORD")]
    pub registry_password: Option<Secret>,
    /// Bearer token; better in IMGRELAY_REGISTRY_TOKEN
    #[arg(long, value_name = "TOKEN")]
    pub registry_token: Option<Secret>,
    /// Also send user name, password or token to this registry (repeatable)
    #[arg(long, value_name = "REGISTRY", value_delimiter = ',')]
    pub registry_credentials_for: Vec<String>,
    /// Use no credentials at all
    #[arg(long, value_name = SWITCH)]
    pub registry_anon: Option<Switch>,
    /// Read credentials from this docker or podman file
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Log in to cloud registries: gke, ecr, aks, github or all (repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub activate_keychain: Vec<String>,
    /// Read from MIRROR before REGISTRY (repeatable)
    #[arg(long, value_name = "REGISTRY=MIRROR", value_delimiter = ',')]
    pub registry_mirror: Vec<String>,
    /// Attempts per request, 1 to 100 (default 5)
    #[arg(long, value_name = "N")]
    pub registry_retry_count: Option<String>,
    /// Longest wait for a response, as 30s or 1m30s (default 30s)
    #[arg(long, value_name = "TIME")]
    pub registry_response_header_timeout: Option<String>,
    /// Longest wait for a connection, as 10s (default 10s)
    #[arg(long, value_name = "TIME")]
    pub registry_connect_timeout: Option<String>,
    /// Longest time in which a transfer receives no data, as 30s (default 30s)
    #[arg(long, value_name = "TIME")]
    pub registry_idle_timeout: Option<String>,
    /// Requests and blobs at the same time, 1 to 64 (default 16); of large blobs, five
    #[arg(long, value_name = "N")]
    pub concurrency: Option<String>,
}

/// Where results go besides standard output.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(next_help_heading = OUTPUT)]
pub struct ResultArgs {
    /// Also write the result as json, dotenv, digest, url, ref, path, github or tekton to PATH (repeatable)
    #[arg(long, visible_alias = "output", value_name = "FORMAT:PATH")]
    pub result: Vec<String>,
}

/// Pack folders and files, then push the image or write it as an OCI layout tar
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = PUSH_EXAMPLES)]
pub struct PushArgs {
    /// Make a bundle and name it; the name is optional with --to-oci-tar
    #[arg(short = 'b', long, value_name = "REFERENCE", num_args = 0..=1, default_missing_value = "")]
    pub bundle: Option<String>,
    /// Make a plain image and name it; the name is optional with --to-oci-tar
    #[arg(short = 'i', long, value_name = "REFERENCE", num_args = 0..=1, default_missing_value = "")]
    pub image: Option<String>,
    /// Make a Cloud Foundry source image of a folder or zip and name it; the name is optional with --to-oci-tar
    #[arg(short = 's', long, value_name = "REFERENCE", num_args = 0..=1, default_missing_value = "")]
    pub source: Option<String>,
    /// Folder or file to pack (repeatable, or separated by commas); with -i also [PLATFORM=]SRC:DEST
    #[arg(short = 'f', long, value_name = "PATH", value_delimiter = ',')]
    pub file: Vec<PathBuf>,
    /// Write an OCI layout tar (- is standard output); contacts no registry but that of --base
    #[arg(long, value_name = "FILE")]
    pub to_oci_tar: Option<PathBuf>,
    /// Push into a store: s3://BUCKET/PREFIX:TAG or file:///FOLDER:TAG; without a tag the name's own is taken
    #[arg(long, value_name = "URL[:TAG]")]
    pub to_store: Option<String>,
    /// Store
    #[command(flatten)]
    pub store_write: StoreWriteArgs,
    /// A further tag for the same image (repeatable)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,

    /// With --to-oci-tar: fetch every image the bundle names into the tar too
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub inflate: Option<Switch>,
    /// With --inflate: fetch cosign's signatures, attestations and SBOMs too
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub cosign_signatures: Option<Switch>,
    /// With --inflate: fetch the referrers of every image too (artifacts whose subject is the image)
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub referrers: Option<Switch>,
    /// Leave out this exact path below a root, instead of .git (repeatable)
    #[arg(long, alias = "file-exclude-defaults", value_name = "PATH", value_delimiter = ',', help_heading = CONTENT)]
    pub file_exclusion: Vec<String>,
    /// Symbolic links: keep those inside the root, copy their targets, omit, refuse, or (-i) verbatim (default keep)
    #[arg(long, value_name = "HOW", value_parser = choices::SYMLINKS, hide_possible_values = true, help_heading = CONTENT)]
    pub symlinks: Option<String>,
    /// Keep each entry's own permissions (default: only the owner's, 0600 or 0700; 0644 or 0755 if the image runs)
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub preserve_permissions: Option<Switch>,
    /// Labels of the image, as key=value,key2=value2 (repeatable)
    #[arg(short = 'l', long, value_name = "KEY=VALUE", value_delimiter = ',', help_heading = CONTENT)]
    pub labels: Vec<String>,
    /// Annotation of the manifest (repeatable)
    #[arg(long, value_name = "KEY=VALUE", help_heading = CONTENT)]
    pub annotation: Vec<String>,
    /// Platform in the image's configuration (default linux/amd64); with --base a list of those to make
    #[arg(long, value_name = "OS/ARCH", help_heading = CONTENT)]
    pub platform: Option<String>,
    /// With -i: make the image for flux, oras or argocd, or a plain one with image (default image)
    #[arg(long, value_name = "NAME", value_parser = choices::FORMAT, hide_possible_values = true, help_heading = CONTENT)]
    pub format: Option<String>,
    /// Media types: oci or docker (default oci)
    #[arg(long, value_name = "KIND", value_parser = choices::MEDIA_TYPES, hide_possible_values = true, help_heading = CONTENT)]
    pub media_types: Option<String>,
    /// Compression: gzip[:1-12], zstd[:1-19] or none (default gzip)
    #[arg(long, value_name = "KIND[:LEVEL]", help_heading = CONTENT)]
    pub compression: Option<String>,
    /// Fail unless the image has this digest
    #[arg(long, value_name = "DIGEST", help_heading = CONTENT)]
    pub expected_digest: Option<String>,
    /// With -s: 1, or auto for layers of which few change from push to push (default 1)
    #[arg(long, value_name = "HOW", value_parser = choices::LAYERS, hide_possible_values = true, help_heading = CONTENT)]
    pub layers: Option<String>,
    /// With -i: the image to build on, or scratch; with -s: the earlier image (default: what the tag has now)
    #[arg(long, value_name = "REFERENCE", help_heading = CONTENT)]
    pub base: Option<String>,
    /// With -i: the image to build on is in this tar; with -s: the earlier image
    #[arg(long, value_name = "PATH", help_heading = CONTENT)]
    pub base_tar: Option<PathBuf>,
    /// For mistakes in a Carvel package repository: warn, refuse or off (default warn)
    #[arg(long, value_name = "HOW", value_parser = choices::PACKAGE_CHECKS, hide_possible_values = true, help_heading = CONTENT)]
    pub package_checks: Option<String>,
    /// With -s: take the files of this list (cf's `resources`) from the image that --base or the tag names
    #[arg(long, value_name = "FILE", help_heading = CONTENT)]
    pub resources: Option<PathBuf>,
    /// With -s: most bytes of all files together, as 1GiB or 500MB (default 1GiB)
    #[arg(long, value_name = "SIZE", help_heading = CONTENT)]
    pub size_limit: Option<String>,

    /// Give each image the tag sha256-….imgpkg too, which protects it when other tags move (default true)
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub imgpkg_tags: Option<Switch>,
    /// What a container runs with
    #[command(flatten)]
    pub run: RunArgs,

    /// Write a BundleLock for the pushed bundle
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub lock_output: Option<PathBuf>,
    /// Results
    #[command(flatten)]
    pub results: ResultArgs,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// The tar or folder that is read.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct TarArgs {
    /// Tar, folder or URL of a tar: OCI layout, docker save or imgpkg, also compressed (- is standard input)
    #[arg(long, value_name = "PATH")]
    pub tar: Option<PathBuf>,
    /// Like --tar, but accepts an OCI layout only
    #[arg(long, value_name = "PATH")]
    pub oci_tar: Option<PathBuf>,
    /// Image in a store: s3://BUCKET/PREFIX:TAG or file:///FOLDER:TAG; without a tag all of its images
    #[arg(long, value_name = "URL[:TAG]")]
    pub store: Option<String>,
    /// With --tar or --store: the image to take, by recorded name, tag, digest or position (@0 is the first)
    #[arg(long, value_name = "IMAGE")]
    pub select: Option<String>,
}

/// The one source of a command that reads.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct SourceArgs {
    /// Bundle in a registry
    #[arg(short = 'b', long, value_name = "REFERENCE")]
    pub bundle: Option<String>,
    /// Image in a registry
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// Tar or folder
    #[command(flatten)]
    pub tars: TarArgs,
}

/// List the files an image already has: Cloud Foundry's resource matching, v3 JSON in and out
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = MATCH_EXAMPLES)]
pub struct MatchArgs {
    /// Source image in a registry; if it does not exist, no file matches
    #[arg(short = 's', long, value_name = "REFERENCE")]
    pub source: Option<String>,
    /// Source image in a tar
    #[command(flatten)]
    pub tars: TarArgs,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Copy an image or bundle from any source to any sink, digest unchanged
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = COPY_EXAMPLES)]
pub struct CopyArgs {
    /// What is read
    #[command(flatten)]
    pub source: SourceArgs,
    /// Copy what this BundleLock or ImagesLock names
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Push to this repository; with :TAG to this tag, else recorded tags are kept
    #[arg(long, value_name = "REPOSITORY")]
    pub to_repo: Option<String>,
    /// With --to-repo: push each image below it, to the repository that its recorded name has
    #[arg(long, value_name = SWITCH)]
    pub keep_names: Option<Switch>,
    /// Write an OCI layout tar (- is standard output)
    #[arg(long, value_name = "FILE")]
    pub to_oci_tar: Option<PathBuf>,
    /// Write a tar in imgpkg's own format, which only imgpkg and imgrelay read
    #[arg(long, value_name = "FILE")]
    pub to_tar: Option<PathBuf>,
    /// Write one image as docker save does
    #[arg(long, value_name = "FILE")]
    pub to_docker_tar: Option<PathBuf>,
    /// Copy into a store: s3://BUCKET/PREFIX:TAG or file:///FOLDER:TAG; without a tag recorded tags are kept
    #[arg(long, value_name = "URL[:TAG]")]
    pub to_store: Option<String>,
    /// Store
    #[command(flatten)]
    pub store_write: StoreWriteArgs,
    /// A further tag for the same image (repeatable)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// With --to-oci-tar: add to the tar, and keep the images in it
    #[arg(long, value_name = SWITCH)]
    pub append: Option<Switch>,
    /// When writing a tar: keep fetched blobs after a failure, and use them in the next run
    #[arg(long, value_name = SWITCH)]
    pub resume: Option<Switch>,
    /// With --to-oci-tar: leave out the layers of this tar, lock, image in a registry or store, or list of digests (repeatable)
    #[arg(long, value_name = "WHAT")]
    pub without: Vec<PathBuf>,
    /// With --tar: tar, folder, store or repository with the blobs that the tar lacks (repeatable)
    #[arg(long, value_name = "WHAT")]
    pub base_tar: Vec<PathBuf>,
    /// With --to-repo: repository of the same registry that may have the blobs that the tar lacks (repeatable)
    #[arg(long, value_name = "REPOSITORY")]
    pub from: Vec<String>,
    /// Copy a bundle without the images it names
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub thin: Option<Switch>,
    /// With --tar: fetch the images that bundles in it name
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub inflate: Option<Switch>,
    /// Copy cosign's signatures, attestations and SBOMs of every image too
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub cosign_signatures: Option<Switch>,
    /// Copy the referrers of every image too (OCI 1.1: artifacts whose subject is the image)
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub referrers: Option<Switch>,
    /// Give each image the tag sha256-….imgpkg too, which protects it when other tags move (default true)
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub imgpkg_tags: Option<Switch>,
    /// Put the repository's name in front of the tags that protect images from garbage collection
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub repo_based_tags: Option<Switch>,
    /// Copy these platforms of a multi-platform image only (repeatable; default all)
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', help_heading = CONTENT)]
    pub platform: Vec<String>,
    /// Copy layers that are marked as non-distributable too
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub include_non_distributable_layers: Option<Switch>,
    /// Fail unless the image has this digest
    #[arg(long, value_name = "DIGEST", help_heading = CONTENT)]
    pub expected_digest: Option<String>,
    /// Refuse images that none of these keys signed: PEM file, folder of them, env://VARIABLE or PEM text (repeatable)
    #[arg(long, value_name = "KEY", help_heading = CONTENT)]
    pub verify_key: Vec<String>,
    /// Write a BundleLock or ImagesLock with the new references
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub lock_output: Option<PathBuf>,
    /// Results
    #[command(flatten)]
    pub results: ResultArgs,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Extract the contents of an image or bundle into a folder
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = PULL_EXAMPLES)]
pub struct PullArgs {
    /// What is read
    #[command(flatten)]
    pub source: SourceArgs,
    /// Cloud Foundry source image in a registry
    #[arg(short = 's', long = "source", value_name = "REFERENCE")]
    pub app: Option<String>,
    /// Pull the bundle this BundleLock names
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Folder to extract into; must be empty or not exist
    #[arg(short = 'o', long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
    /// Replace a folder that is not empty
    #[arg(long, value_name = SWITCH)]
    pub force: Option<Switch>,
    /// Pull nested bundles too
    #[arg(short = 'r', long, value_name = SWITCH, help_heading = CONTENT)]
    pub recursive: Option<Switch>,
    /// Extract only this path and what is below it (repeatable)
    #[arg(long, value_name = "PATH", help_heading = CONTENT)]
    pub include: Vec<String>,
    /// With -i: refuse bundles (default true)
    #[arg(long, value_name = SWITCH, help_heading = CONTENT)]
    pub image_is_bundle_check: Option<Switch>,
    /// Platform to choose from a multi-platform image (default linux/amd64)
    #[arg(long, value_name = "OS/ARCH", help_heading = CONTENT)]
    pub platform: Option<String>,
    /// Fail unless the image has this digest
    #[arg(long, value_name = "DIGEST", help_heading = CONTENT)]
    pub expected_digest: Option<String>,
    /// Refuse images that none of these keys signed: PEM file, folder of them, env://VARIABLE or PEM text (repeatable)
    #[arg(long, value_name = "KEY", help_heading = CONTENT)]
    pub verify_key: Vec<String>,
    /// Also write the result as json, dotenv, digest, url, ref, path, github or tekton to PATH (repeatable)
    #[arg(long, value_name = "FORMAT:PATH", help_heading = OUTPUT)]
    pub result: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Show what is inside an image, bundle or tar
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = DESCRIBE_EXAMPLES)]
pub struct DescribeArgs {
    /// What is read
    #[command(flatten)]
    pub source: SourceArgs,
    /// Cloud Foundry source image in a registry
    #[arg(short = 's', long = "source", value_name = "REFERENCE")]
    pub app: Option<String>,
    /// Form: text, yaml or json (default text)
    #[arg(short = 'o', long, alias = "output", value_name = "FORM", value_parser = choices::OUTPUT_TYPE, hide_possible_values = true)]
    pub output_type: Option<String>,
    /// Show each image's layers (default true)
    #[arg(long, value_name = SWITCH)]
    pub layers: Option<Switch>,
    /// Look for signatures, attestations and SBOMs of each image (default true)
    #[arg(long, value_name = SWITCH)]
    pub cosign_artifacts: Option<Switch>,
    /// Also write the result as json, dotenv, digest, url, ref, path, github or tekton to PATH (repeatable)
    #[arg(long, value_name = "FORMAT:PATH", help_heading = OUTPUT)]
    pub result: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Recompute every digest, size and diff_id of a tar, or check the signatures of an image in a registry
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct VerifyArgs {
    /// Image in a registry whose signatures are checked; needs --key
    #[arg(short = 'i', long, value_name = "REFERENCE")]
    pub image: Option<String>,
    /// What is read
    #[command(flatten)]
    pub source: TarArgs,
    /// Fail unless the image has this digest
    #[arg(long, value_name = "DIGEST")]
    pub expected_digest: Option<String>,
    /// Fail unless this key signed the image: a PEM file, a folder of them, or env://VARIABLE (repeatable: any of them)
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
    /// For a tar written with --without: tar, folder, store or repository with the blobs that it lacks (repeatable)
    #[arg(long, value_name = "WHAT")]
    pub against: Vec<PathBuf>,
    /// With --key: image name that the signature must have
    #[arg(long, value_name = "REFERENCE")]
    pub identity: Option<String>,
    /// With --key: required statement, signature or attestation:TYPE (repeatable; default signature)
    #[arg(long, value_name = "WHAT")]
    pub require: Vec<String>,
    /// Also write the result as json, dotenv, digest, url, ref, path, github or tekton to PATH (repeatable)
    #[arg(long, value_name = "FORMAT:PATH", help_heading = OUTPUT)]
    pub result: Vec<String>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Arguments of `in` and `out`.
#[derive(Clone, Debug, Args)]
pub struct StepArgs {
    /// Folder to work on
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}
