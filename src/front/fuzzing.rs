//! Lets the fuzz targets call the parsers and writers of this floor; not part of the interface.

use std::io::Write as _;

use super::concourse;
use super::env::Env;
use super::failure::Failure;
use super::github::commands::Guard;
use super::outcome::ImageOutcome;
use super::result_file;

pub use concourse::fuzzing::{fits, request, task};

/// Returns the output of a guarded stream for texts that are written to it one after the other.
#[must_use]
pub fn guarded(texts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut guard = Guard::new(&mut out);
    for text in texts {
        guard.write_all(text).expect("memory takes everything");
        guard.flush().expect("memory takes everything");
    }
    drop(guard);
    out
}

/// Returns the lines of a dotenv file.
pub fn dotenv(outcome: &ImageOutcome) -> Result<String, Failure> {
    result_file::dotenv(outcome)
}

/// Returns the outputs of a step of GitHub's.
pub fn step_outputs(outcome: &ImageOutcome, delimiter: &str) -> Result<String, Failure> {
    result_file::github(outcome, delimiter)
}

/// Reads the inputs of the action.
///
/// Errors: what is wrong with them.
pub fn action_inputs(env: &Env) -> Result<String, Failure> {
    super::github::inputs::read(env).map(|request| format!("{request:?}"))
}
