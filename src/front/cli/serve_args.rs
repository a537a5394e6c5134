//! The flags of `serve`; beside [`super::args`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::args::RegistryArgs;
use super::choices;
use super::examples::SERVE_EXAMPLES;

/// Serve tars as a registry, while a command runs or until SIGTERM
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// Tar or folder to serve: any that copy reads, or a folder of such tars (repeatable; patterns are expanded)
    #[arg(long, value_name = "PATH")]
    pub tar: Vec<PathBuf>,
    /// Image store to serve: s3://BUCKET/PREFIX or file:///FOLDER, with :TAG one image of it (repeatable)
    #[arg(long, value_name = "URL[:TAG]")]
    pub store: Vec<String>,
    /// Serve under this repository name only (default: recorded names; a single image under any name)
    #[arg(long, value_name = "REPOSITORY")]
    pub name: Option<String>,
    /// Address and port; port 0 is a free one (default 127.0.0.1:0)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Write the address into this file when the server is ready
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Accept pushes, and write the images as one OCI layout tar at the end
    #[arg(long, value_name = "FILE")]
    pub collect: Option<PathBuf>,
    /// With --collect: registry in the names of the tar (default localhost)
    #[arg(long = "as", value_name = "REGISTRY")]
    pub as_registry: Option<String>,
    /// User name that clients must send
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// File with the password that clients must send
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Use TLS with this certificate chain (PEM, the server's certificate first)
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Print the configuration of a client for the address, and exit: buildkit, containers, containerd or docker
    #[arg(long, value_name = "PROGRAM", value_parser = choices::PRINT_CONFIG, hide_possible_values = true)]
    pub print_config: Option<String>,
    /// Command to run, with {registry} replaced by the address
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Registry
    #[command(flatten)]
    pub registry: RegistryArgs,
}
