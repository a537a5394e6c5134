//! A test in a process of its own, for state that belongs to the process.

use std::process::Command;

/// Set in the process of a test that runs alone.
const MARK: &str = "IMGRELAY_TEST_ALONE";

/// Tells whether the calling test has the process for itself; if not, runs it in such a process, where it has to pass.
///
/// `test` is its full name.
#[must_use]
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap_or_else(|e| panic!("cannot find this program: {e}"));
    let run = Command::new(program).args(["--exact", test]).env(MARK, "1").output();
    let run = run.unwrap_or_else(|e| panic!("cannot run `{test}` alone: {e}"));
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "`{test}` alone:\n{text}");
    false
}
