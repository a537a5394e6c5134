//! `imgrelay completion`: prints a shell's completion script.

use clap::Args;
use serde_json::json;

use crate::front::outcome::{Outcome, TextDocument};

/// Shown below the help.
pub(in crate::front) const EXAMPLES: &str = "\
Examples:
  imgrelay completion bash > /etc/bash_completion.d/imgrelay
  imgrelay completion zsh > \"${fpath[1]}/_imgrelay\"
  imgrelay completion fish > ~/.config/fish/completions/imgrelay.fish";

/// Print a completion script for a shell
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(in crate::front) struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(in crate::front) shell: clap_complete::Shell,
}

pub(in crate::front) fn run(args: &CompletionArgs, mut command: clap::Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "imgrelay", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    let json = json!({"shell": args.shell.to_string(), "script": text});
    Outcome::Document(TextDocument::new(text, json))
}
