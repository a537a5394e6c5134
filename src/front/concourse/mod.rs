//! The Concourse resource: `check`, `in` and `out`, by the executable's name or as commands.
//!
//! Each step reads one JSON document and writes one; all other text goes to standard error. No step depends on the
//! working directory, which is `/` in a resource's container. Messages name fields of the pipeline.

mod access;
mod check;
mod cloud;
mod constraint;
mod fields;
pub(super) mod fuzzing;
mod get;
mod hints;
mod output;
pub mod packing;
mod protocol;
mod put;
mod rootfs;
mod source;
mod store;
mod store_put;
mod store_source;
pub mod task;
mod upload;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

pub(super) use self::hints::PipelineWords;
pub(super) use self::task::VariableNames;

use self::access::Purpose;
use self::protocol::{GivenVersion, Request};
use self::source::Source;
use self::store_source::StoreSource;
use super::env::Env;
use super::failure::{Failure, Kind};
use super::signals;
use super::ui::{Settings, Ui, Verbosity};
use crate::model::invisible::escape_in_json;

/// A step that Concourse runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `check`: list versions.
    Check,
    /// `in`: fetch a version into a folder.
    In(PathBuf),
    /// `out`: push an image from a folder.
    Out(PathBuf),
}

impl Step {
    /// Returns the step of an executable's name; `None` for every other name.
    ///
    /// Errors: the folder that `in` and `out` work on is missing.
    pub fn of_words(words: &[OsString]) -> Option<Result<Self, Failure>> {
        let name = Path::new(words.first()?).file_name()?;
        let folder = || match words.get(1) {
            Some(folder) if !folder.is_empty() => Ok(PathBuf::from(folder)),
            _ => Err(Failure::misuse(format!(
                "no folder was given, expected `{} FOLDER`",
                name.to_string_lossy()
            ))),
        };
        match name {
            name if name == OsStr::new("check") => Some(Ok(Self::Check)),
            name if name == OsStr::new("in") => Some(folder().map(Self::In)),
            name if name == OsStr::new("out") => Some(folder().map(Self::Out)),
            _ => None,
        }
    }
}

/// Runs a step with the process's own streams; a failure is already printed when it is returned.
pub fn run(step: Result<Step, Failure>, env: &Env) -> Result<(), Failure> {
    let plain = Arc::new(Ui::new(&Settings::default(), env).speaking(&PipelineWords));
    let answered = step.and_then(|step| {
        let response = respond(&step, std::io::stdin().lock(), env, &plain)?;
        plain.print(&format!("{}\n", escape_in_json(&response.to_string())))
    });
    answered.map_err(signals::explain).inspect_err(|failure| plain.failure(failure))
}

/// Runs a request and returns the response.
pub fn respond(step: &Step, input: impl Read, env: &Env, ui: &Arc<Ui>) -> Result<Value, Failure> {
    run_step(step, input, env, ui).map_err(|failure| failure.in_words_of(&PipelineWords))
}

fn run_step(step: &Step, input: impl Read, env: &Env, ui: &Arc<Ui>) -> Result<Value, Failure> {
    let mut request = Request::read(input)?;
    if StoreSource::is_meant(request.source.as_deref()) {
        return run_step_of_store(step, request, env, ui);
    }
    let source = match step {
        Step::Out(_) => Source::parse_with(request.source.as_deref(), &mut request.params)?,
        Step::Check | Step::In(_) => Source::parse(request.source.as_deref())?,
    };
    let ui = if source.debug { debugging(env) } else { Arc::clone(ui) };
    for warning in &source.warnings {
        ui.warning(warning);
    }
    let response = match step {
        Step::Check => {
            // A resource's `params` belong to get and put; Concourse never sends them here.
            request.params.finish()?;
            let client = access::client(&source, Purpose::Check, env, &ui)?;
            let cursor = request.version.and_then(GivenVersion::cursor);
            serde_json::to_value(check::run(&source, cursor.as_ref(), &client, &ui)?)
        }
        Step::In(folder) => serde_json::to_value(get::run(&source, request, folder, env, &ui)?),
        Step::Out(folder) => serde_json::to_value(put::run(&source, request, folder, env, &ui)?),
    };
    as_json(response)
}

/// Does the same for a source with a store instead of a repository.
fn run_step_of_store(step: &Step, mut request: Request, env: &Env, ui: &Arc<Ui>) -> Result<Value, Failure> {
    let params = matches!(step, Step::Out(_)).then_some(&mut request.params);
    let source = StoreSource::parse(request.source.as_deref(), params)?;
    let ui = if source.debug { debugging(env) } else { Arc::clone(ui) };
    as_json(match step {
        Step::Check => {
            request.params.finish()?;
            let cursor = request.version.and_then(GivenVersion::cursor);
            serde_json::to_value(store::check(&source, cursor.as_ref(), env, &ui)?)
        }
        Step::In(folder) => serde_json::to_value(store::get(&source, request, folder, env, &ui)?),
        Step::Out(folder) => serde_json::to_value(store_put::run(&source, request, folder, env, &ui)?),
    })
}

fn debugging(env: &Env) -> Arc<Ui> {
    let settings = Settings { verbosity: Verbosity::Debug, ..Settings::default() };
    Arc::new(Ui::new(&settings, env).speaking(&PipelineWords))
}

fn as_json(value: Result<Value, serde_json::Error>) -> Result<Value, Failure> {
    value.map_err(|error| Failure::new(Kind::Bug, format!("the response is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_executable_chooses_the_step() {
        let step = |words: &[&str]| Step::of_words(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(step(&["/opt/resource/check", "x"]), Some(Ok(Step::Check)));
        assert_eq!(step(&["in", "/tmp/build/get"]), Some(Ok(Step::In("/tmp/build/get".into()))));
        assert_eq!(step(&["./out", "/tmp/build/put"]), Some(Ok(Step::Out("/tmp/build/put".into()))));
        assert_eq!(step(&["/usr/bin/imgrelay", "check"]), None);
        assert_eq!(step(&["checker"]), None);
        assert_eq!(step(&[]), None);
        let failure = step(&["/opt/resource/in"]).unwrap().unwrap_err();
        assert_eq!(failure.message, "no folder was given, expected `in FOLDER`");
    }
}
