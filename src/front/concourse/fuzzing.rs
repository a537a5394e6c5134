//! Lets the fuzz targets call the parsers of requests, params and patterns; not part of the interface.

use std::io::Read;

use super::Step;
use super::protocol::Request;
use super::source::Source;
use super::{get, put, task};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::glob;

/// Reads a request as its step does before the first request to a server, and returns its `Debug` text.
///
/// Errors: as the step's.
pub fn request(step: &Step, input: impl Read) -> Result<String, Failure> {
    let mut request = Request::read(input)?;
    let source = match step {
        Step::Out(_) => Source::parse_with(request.source.as_deref(), &mut request.params)?,
        Step::Check | Step::In(_) => Source::parse(request.source.as_deref())?,
    };
    let params = match step {
        Step::Check => request.params.finish().map(|()| String::new())?,
        Step::In(_) => format!("{:?}", get::Params::parse(request.params, &source)?),
        Step::Out(folder) => format!("{:?}", put::Params::parse(request.params, folder, &Env::default())?),
    };
    Ok(format!("{source:?} {:?} {params}", request.version))
}

/// Reads the params of the build task, except the patterns, and returns their `Debug` text.
///
/// Errors: as the task's.
pub fn task(env: &Env) -> Result<String, Failure> {
    task::read_params(env)
}

/// Tells whether a name fits a pattern.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    glob::fits(pattern, name)
}
