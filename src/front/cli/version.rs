//! `imgrelay version`: prints name and version.

use serde_json::json;

use crate::front::outcome::{Outcome, TextDocument};

/// Returns the line that `version` and `--version` print.
pub(in crate::front) fn line() -> String {
    format!("imgrelay version {}\n", env!("CARGO_PKG_VERSION"))
}

pub(in crate::front) fn run() -> Outcome {
    let json = json!({"name": "imgrelay", "version": env!("CARGO_PKG_VERSION")});
    Outcome::Document(TextDocument::new(line(), json))
}
