//! Credential helper programs: `docker-credential-<name> get`.
//!
//! Source: docker-credential-helpers, "Development".

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::model::limits;
use crate::stream::{cancel, read_bounded};

use super::credential::{Credential, basic};
use super::redaction::Redactor;
use super::sanitize::sanitize;
use crate::model::Secret;

/// Longest time a helper may take; some open a browser or ask a daemon, none of that works in a pipeline.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a helper's standard error that are kept, from its end.
const STDERR_KEPT: usize = 16 * 1024;

/// Gives credentials by running, or pretending to run, helper programs.
pub trait CredentialHelpers: Send + Sync {
    /// Asks `docker-credential-<helper>` for a server; `None` when it knows none.
    fn get(&self, helper: &str, server: &str) -> Result<Option<Credential>, HelperError>;
}

/// Why a helper gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// The program is not installed.
    #[error(
        "`{config_path}` names the credential helper `{helper}`, but the program `docker-credential-{helper}` is not in the search path"
    )]
    Missing {
        /// Its name without the prefix.
        helper: String,
        /// The configuration that names it.
        config_path: String,
    },
    /// The program ran and failed.
    #[error("credential helper `docker-credential-{helper}` failed for `{server}`: {problem}")]
    Failed {
        /// Its name without the prefix.
        helper: String,
        /// What it was asked for.
        server: String,
        /// Exit status and its words, without secrets.
        problem: String,
    },
    /// A cloud provider refused to log us in, or there is nothing to log in with.
    #[error("cannot log in to `{host}` ({login}): {problem}")]
    CloudRefused {
        /// The login's name: `ecr`.
        login: String,
        /// The registry.
        host: String,
        /// The provider's words.
        problem: String,
    },
    /// A cloud provider did not answer.
    #[error("cannot log in to `{host}` ({login}) after {attempts} attempts: {cause}")]
    CloudUnreachable {
        /// The login's name: `ecr`.
        login: String,
        /// The registry.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// How long in all.
        elapsed: Duration,
        /// What went wrong last.
        cause: String,
    },
    /// The stop signal came.
    #[error("stopped by a signal")]
    Cancelled,
}

impl HelperError {
    pub(super) fn configured_in(self, file: &str) -> Self {
        match self {
            Self::Missing { helper, .. } => Self::Missing { helper, config_path: file.to_owned() },
            other => other,
        }
    }
}

/// Runs the real programs.
#[derive(Clone, Copy, Debug)]
pub struct ProcessHelpers;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperOutput {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl CredentialHelpers for ProcessHelpers {
    fn get(&self, helper: &str, server: &str) -> Result<Option<Credential>, HelperError> {
        let failed = |problem: String| HelperError::Failed {
            helper: helper.to_owned(),
            server: server.to_owned(),
            problem,
        };
        // The name becomes part of a program name; it must not become a path.
        if helper.is_empty() || helper.contains(['/', '\\', '\0']) {
            return Err(failed("its name is not a plain word".into()));
        }
        let mut child = Command::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    HelperError::Missing { helper: helper.to_owned(), config_path: String::new() }
                }
                _ => failed(error.to_string()),
            })?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input may still answer.
            let _ = stdin.write_all(server.as_bytes());
        }
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let read = move || stdout.map(|stdout| read_bounded(stdout, limits::HELPER_BYTES));
        let said = move || stderr.map(last_line).unwrap_or_default();
        let reader = std::thread::Builder::new().name("helper".into()).spawn(read).map_err(|error| {
            let _ = child.kill();
            let _ = child.wait();
            failed(format!("cannot start a thread: {error}"))
        })?;
        let said = std::thread::Builder::new().name("helper".into()).spawn(said).map_err(|error| {
            let _ = child.kill();
            let _ = child.wait();
            failed(format!("cannot start a thread: {error}"))
        })?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| failed(error.to_string()))? {
                break status;
            }
            if started.elapsed() > TIME_LIMIT || cancel::is_cancelled() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("no answer within {} s", TIME_LIMIT.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let Ok(Some(Ok(output))) = reader.join() else {
            return Err(failed("its answer could not be read".into()));
        };
        read_answer(status.success(), &output).map_err(|problem| match problem {
            Some(words) => {
                // What it wrote to standard error explains more than its answer; a grandchild may hold it open.
                let last = if said.is_finished() { said.join().unwrap_or_default() } else { String::new() };
                let words = if last.is_empty() { words } else { redacted(&last, &output) };
                failed(if words.is_empty() { status.to_string() } else { format!("{status}: {words}") })
            }
            None => failed("its answer is not the expected JSON object".into()),
        })
    }
}

/// Returns the last line with text of what a program wrote; reads all of it, so that the program does not block.
fn last_line(mut stderr: impl Read) -> String {
    let (mut tail, mut block) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stderr.read(&mut block) {
        tail.extend_from_slice(block.get(..n).expect("a read fills no more than the block"));
        let surplus = tail.len().saturating_sub(STDERR_KEPT);
        tail.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&tail);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or_default().to_owned()
}

/// Makes a helper's line fit to be shown: without the secret that its answer may hold.
fn redacted(line: &str, output: &[u8]) -> String {
    let secret = serde_json::from_slice::<HelperOutput>(output).map(|answer| Secret::new(answer.secret));
    let redactor = Redactor::default();
    if let Ok(secret) = secret {
        redactor.remember(secret.expose());
    }
    sanitize(&redactor.redact(line))
}

/// Reads what a helper wrote to its standard output.
///
/// Errors: its own words if it failed, sanitized; `None` if its answer has another form.
pub(super) fn read_answer(is_success: bool, output: &[u8]) -> Result<Option<Credential>, Option<String>> {
    if is_success {
        let answer: HelperOutput = serde_json::from_slice(output).map_err(|_| None)?;
        return Ok((!answer.secret.is_empty()).then(|| basic(answer.username, answer.secret)));
    }
    let said = String::from_utf8_lossy(output);
    let said = said.trim();
    if said.contains("credentials not found") || said.contains("no credentials") {
        return Ok(None);
    }
    // An answer may be there all the same, with what must not be printed.
    Err(Some(if said.starts_with('{') { String::new() } else { sanitize(said) }))
}
