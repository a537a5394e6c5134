//! Credential helper programs: `docker-credential-<name> get`.
//!
//! Source: docker-credential-helpers, "Development".

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::model::limits;
use crate::stream::{cancel, lock};

use super::credential::{Credential, basic};
use super::redaction::{Redactor, without_assigned_secrets};
use super::sanitize::sanitize;
use crate::model::Secret;

/// Longest time a helper may take; some open a browser or ask a daemon, none of that works in a pipeline.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// How long to wait for the end of the output after the helper's exit: a process that it started may hold it open.
const AFTER_EXIT: Duration = Duration::from_secs(2);

/// Bytes of a helper's standard error that are kept, from its end.
const STDERR_KEPT: usize = 16 * 1024;

/// Gets credentials from helper programs; tests have an implementation of their own.
pub trait CredentialHelpers: Send + Sync {
    /// Asks `docker-credential-<helper>` for a server; `None` when it knows none.
    fn get(&self, helper: &str, server: &str) -> Result<Option<Credential>, HelperError>;
}

/// Why a helper gave no response.
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
        /// What was requested from it.
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

/// Runs the real programs, with the environment of this process as docker does.
#[derive(Clone, Debug, Default)]
pub struct ProcessHelpers {
    withheld: Vec<OsString>,
}

impl ProcessHelpers {
    /// Names variables that helpers do not get, because they are for this program alone.
    #[must_use]
    pub fn withholding(withheld: Vec<OsString>) -> Self {
        Self { withheld }
    }
}

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
        let mut command = Command::new(format!("docker-credential-{helper}"));
        for name in &self.withheld {
            command.env_remove(name);
        }
        let mut child = command
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
            // A helper that does not read its input may still give credentials.
            let _ = stdin.write_all(server.as_bytes());
        }
        let started = Instant::now();
        let outputs = child.stdout.take().zip(child.stderr.take()).expect("both are piped");
        let outputs = Output::of(outputs.0, limits::HELPER_BYTES + 1)
            .and_then(|stdout| Ok((stdout, Output::of(outputs.1, STDERR_KEPT)?)));
        let (stdout, stderr) = outputs.map_err(|error| {
            let _ = child.kill();
            let _ = child.wait();
            failed(format!("cannot start a thread: {error}"))
        })?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| failed(error.to_string()))? {
                break status;
            }
            if started.elapsed() > TIME_LIMIT || cancel::is_cancelled() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("no response within {} s", TIME_LIMIT.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let output = stdout.after_exit();
        if output.len() > limits::HELPER_BYTES {
            return Err(failed(format!("its response has more than {} bytes", limits::HELPER_BYTES)));
        }
        read_response(status.success(), &output).map_err(|problem| match problem {
            Some(words) => {
                // What it wrote to standard error explains more than its response.
                let last = last_line(&stderr.after_exit());
                let words = if last.is_empty() { words } else { redacted(&last, &output) };
                failed(if words.is_empty() { status.to_string() } else { format!("{status}: {words}") })
            }
            None => failed("its response is not the expected JSON object".into()),
        })
    }
}

/// One output of a helper, which a thread reads.
struct Output {
    /// The last bytes that the thread has read.
    tail: Arc<Mutex<Vec<u8>>>,
    /// Disconnected when the output has ended.
    ended: Receiver<()>,
}

impl Output {
    /// Starts the thread. It reads everything, so that the helper does not block, and keeps at most `limit` bytes.
    fn of(mut from: impl Read + Send + 'static, limit: usize) -> std::io::Result<Self> {
        let (sender, ended) = mpsc::channel();
        let tail = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&tail);
        let read = move || {
            let _until_the_end: Sender<()> = sender;
            let mut block = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut block) {
                let mut kept = lock(&kept);
                kept.extend_from_slice(block.get(..n).expect("a read fills no more than the block"));
                let surplus = kept.len().saturating_sub(limit);
                kept.drain(..surplus);
            }
        };
        std::thread::Builder::new().name("helper".into()).spawn(read)?;
        Ok(Self { tail, ended })
    }

    /// Returns the last bytes of the output of a helper that has ended.
    fn after_exit(&self) -> Vec<u8> {
        let _ = self.ended.recv_timeout(AFTER_EXIT);
        std::mem::take(&mut *lock(&self.tail))
    }
}

/// Returns the last line with text of what a program wrote.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or_default().to_owned()
}

/// Makes a helper's line fit to be shown: without the secret that its response may hold.
fn redacted(line: &str, output: &[u8]) -> String {
    let secret = serde_json::from_slice::<HelperOutput>(output).map(|response| Secret::new(response.secret));
    let redactor = Redactor::default();
    if let Ok(secret) = secret {
        redactor.remember(secret.expose());
    }
    sanitize(&without_assigned_secrets(&redactor.redact(line)))
}

/// Reads what a helper wrote to its standard output.
///
/// Errors: the helper's message if it failed, sanitized; `None` if its output has another form.
pub(super) fn read_response(is_success: bool, output: &[u8]) -> Result<Option<Credential>, Option<String>> {
    if is_success {
        let response: HelperOutput = serde_json::from_slice(output).map_err(|_| None)?;
        return Ok((!response.secret.is_empty()).then(|| basic(response.username, response.secret)));
    }
    let said = String::from_utf8_lossy(output);
    let said = said.trim();
    if said.contains("credentials not found") || said.contains("no credentials") {
        return Ok(None);
    }
    // A response may be there all the same, with what must not be printed.
    Err(Some(match said.starts_with('{') {
        true => String::new(),
        false => sanitize(&without_assigned_secrets(said)),
    }))
}
