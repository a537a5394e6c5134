//! The doors: the command line, Concourse, GitHub. Only this floor has texts for users, environment and exit codes.
//!
//! Floor 5. One executable; its name or first argument chooses the door. The floors below print nothing.

pub mod attachment;
pub mod cli;
pub mod concourse;
pub mod context;
pub mod credentials;
mod document_type;
pub mod env;
pub mod exit;
pub mod failure;
pub mod flag;
#[doc(hidden)]
#[doc(hidden)]
pub mod fuzzing;
pub mod github;
mod glob;
mod joining;
mod keys;
mod main_image;
pub mod outcome;
mod packing;
pub mod program;
pub mod push_flags;
pub mod registries;
pub mod reporter;
pub mod result_file;
pub mod signals;
pub mod system;
pub mod text;
pub mod ui;
mod verification;

use std::ffi::OsString;
use std::process::ExitCode;

use env::Env;
use failure::Failure;

/// Runs the program with these arguments, its own name first, and returns the process's exit code.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    signals::report_panics();
    signals::listen();
    let env = Env::of_process();
    let words: Vec<OsString> = words.into_iter().collect();
    let result = match (concourse::Step::of_words(&words), words.split_first()) {
        (Some(step), _) => concourse::run(step, &env),
        (None, Some((_, [door, rest @ ..]))) if door == github::NAME => github::run(rest, &env),
        (None, _) => program::run(words, &env),
    };
    ExitCode::from(match result {
        Ok(()) => exit::DONE,
        Err(failure) => exit_code(&failure),
    })
}

fn exit_code(failure: &Failure) -> u8 {
    exit::code(failure.kind)
}
