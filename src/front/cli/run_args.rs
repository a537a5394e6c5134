//! The flags of an image that runs; a part of [`super::args::PushArgs`].

use clap::Args;

use super::values::Switch;

const RUN: &str = "Image that runs (with -i)";

/// What a container runs with, and how its files look.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
#[command(next_help_heading = RUN)]
pub struct RunArgs {
    /// Program: a JSON array, or words; drops the base's --cmd
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub entrypoint: Option<String>,
    /// Default arguments: a JSON array, or words
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub cmd: Option<String>,
    /// Environment, one variable each (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User, as UID or UID:GID; a name is looked up in the base
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working folder, absolute
    #[arg(long, value_name = "PATH")]
    pub workdir: Option<String>,
    /// Port that the program listens on, as 8080 or 53/udp (repeatable)
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_delimiter = ',')]
    pub port: Vec<String>,
    /// Path that gets a volume, absolute (repeatable)
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub volume: Vec<String>,
    /// Signal that stops the container, as SIGINT or 2
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Creation time: RFC 3339, epoch:SECONDS or source-date-epoch (default year 1)
    #[arg(long, value_name = "DATE")]
    pub created: Option<String>,
    /// Read which files the base has (default true); false fetches none of its layers
    #[arg(long, value_name = "BOOL")]
    pub read_base: Option<Switch>,
    /// Move this image (a tar or a reference) from --old-base to --base
    #[arg(long, value_name = "IMAGE")]
    pub rebase: Option<String>,
    /// With --rebase: the base that the image was made on (a tar or a reference)
    #[arg(long, value_name = "IMAGE")]
    pub old_base: Option<String>,
    /// Owner of the files, by number (default 0:0)
    #[arg(long, value_name = "UID[:GID]")]
    pub owner: Option<String>,
    /// Permissions of the files: keep, or octal as 0750 (default 0755 for programs, else 0644)
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
}
