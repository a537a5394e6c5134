//! `imgrelay completion`: a script that teaches a shell the commands and flags.

use clap::Args;
use serde_json::json;

use crate::front::outputs::{Document, Outcome};

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  imgrelay completion bash > /etc/bash_completion.d/imgrelay
  imgrelay completion zsh > \"${fpath[1]}/_imgrelay\"
  imgrelay completion fish > ~/.config/fish/completions/imgrelay.fish";

/// Print a completion script for a shell
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    let mut command = super::plain_switches(<super::Cli as clap::CommandFactory>::command());
    clap_complete::generate(args.shell, &mut command, "imgrelay", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    let json = json!({"shell": args.shell.to_string(), "script": text});
    Outcome::Document(Document { text, json, failure: None })
}
