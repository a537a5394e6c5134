//! Runs external programs to their end and returns their output.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The result of a program.
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
    /// Panics with all output unless the exit status is 0; returns itself for more checks.
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
/// Panics if it is not installed: a skipped test would look like a passed one.
pub fn tool(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("`{name}` is not installed: run ci/setup")))
}

/// Returns a command for one of the checkers that ci/setup installs from `tests/tools/requirements.txt`.
pub fn checker(name: &str) -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the workspace");
    let program = package.join(".venv/bin").join(name);
    assert!(program.is_file(), "`{name}` is not installed: run ci/setup");
    let mut command = Command::new(program);
    // The environment of the tests must not change the result, for example on GitHub's runners.
    command.env_remove("GITHUB_TOKEN").env_remove("GH_TOKEN").env("NO_COLOR", "1");
    command
}

/// Returns a command for Debian 13's cosign; `None` if it is not installed.
///
/// Panics in CI, where it must be installed; elsewhere prints which test is skipped.
pub fn cosign(test: &str) -> Option<Command> {
    debian_13("cosign", test)
}

/// Returns a command for a program of Debian 13 that ci/setup puts beside the checkers: `cosign`, `oras`, `skopeo-13`.
///
/// `None` and panics as [`cosign`] does.
pub fn debian_13(name: &str, test: &str) -> Option<Command> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the workspace");
    let program = package.join(".venv/bin").join(name);
    let program = if program.is_file() { Some(program) } else { find(name) };
    if program.is_none() {
        let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(!in_ci, "`{name}` is not installed: run ci/setup");
        eprintln!("{test} is skipped: `{name}` is not installed, and ci/setup installs it where it can");
    }
    program.map(Command::new)
}

/// Returns the path of a program; also searches the folders that only root has in its `PATH`.
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

/// Returns a command and its arguments as one line.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Returns a command for one of the scripts in `tests/tools`, with an interpreter that has the modules they need.
pub fn script(name: &str) -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let python = PYTHON.get_or_init(|| {
        // Another interpreter may come before the system's in PATH and lack the module.
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
