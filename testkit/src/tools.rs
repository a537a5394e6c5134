//! Other people's programs, run to the end with everything they said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What a program that has ended left behind.
#[derive(Debug)]
#[must_use = "look at the exit status, or call `success`"]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Ran {
    /// Panics with everything the program said unless it ended with 0; returns itself for more questions.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(
            self.code == Some(0),
            "`{}` ended with {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Returns a command for a program from `PATH` or root's folders.
///
/// Panics if it is not installed: a test that silently does nothing would look like a test that passed.
pub fn tool(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("`{name}` is not installed: run ci/setup")))
}

/// Returns a command for one of the checkers that ci/setup installs from `tests/tools/requirements.txt`.
pub fn checker(name: &str) -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the workspace");
    let program = package.join(".venv/bin").join(name);
    assert!(program.is_file(), "`{name}` is not installed: run ci/setup");
    let mut command = Command::new(program);
    // Nothing of the system the tests run on may count, least of all being on GitHub itself.
    command.env_remove("GITHUB_TOKEN").env_remove("GH_TOKEN").env("NO_COLOR", "1");
    command
}

/// Returns a command for Debian 13's cosign, which ci/setup puts beside the checkers; none where it cannot be had.
///
/// Panics in CI, where it should be there; elsewhere it says which test is skipped.
pub fn cosign(test: &str) -> Option<Command> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the workspace");
    let program = package.join(".venv/bin/cosign");
    let program = if program.is_file() { Some(program) } else { find("cosign") };
    if program.is_none() {
        let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(!in_ci, "`cosign` is not installed: run ci/setup");
        eprintln!("{test} is skipped: `cosign` is not installed, and ci/setup installs it where it can");
    }
    program.map(Command::new)
}

/// Returns where a program is, looking also into the folders only root has in its `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let line = line(command);
    let output = command.output().unwrap_or_else(|e| panic!("cannot start `{line}`: {e}"));
    Ran {
        line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Returns a command's words as one line.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Returns a command for one of the scripts in `tests/tools`, with an interpreter that has what they need.
pub fn script(name: &str) -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        // A private interpreter may come before the system's in PATH without having the module.
        let candidates = [find("python3"), Some(PathBuf::from("/usr/bin/python3"))];
        candidates
            .into_iter()
            .flatten()
            .find(|python| {
                let mut command = Command::new(python);
                command.args(["-c", "import jsonschema"]).stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            })
            .unwrap_or_else(|| panic!("no python3 with the module `jsonschema`: run ci/setup"))
    });
    let mut command = Command::new(python);
    command.arg("-B").arg(scripts().join(name));
    command
}

/// Returns the folder `tests/tools`.
fn scripts() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("testkit lies in the workspace").join("tests/tools")
}
