//! Servers that cannot outlive the test that started them.

use crate::tools::{line, tool};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

/// `$$` is the shell, which becomes the program; the watcher kills it when standard input closes.
const SCRIPT: &str =
    r#"exec 3<&0; (read -r _ <&3; kill -9 $$) 2>/dev/null >/dev/null & exec "$@" 3<&- </dev/null"#;

/// A running program that is stopped when this is dropped, and also when the test process is killed.
#[derive(Debug)]
pub struct Leashed {
    child: Child,
    /// Never written to; the watcher waits for its end.
    leash: Option<ChildStdin>,
}

impl Leashed {
    /// Starts a program with an empty environment, standard output and error appended to two files.
    #[track_caller]
    pub fn start(command: &Command, logs: &[PathBuf; 2]) -> Self {
        let [stdout, stderr] = logs.each_ref().map(|path| {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            file.unwrap_or_else(|e| panic!("cannot open `{}`: {e}", path.display()))
        });
        let mut shell = tool("sh");
        shell.args(["-c", SCRIPT, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.env_clear().stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
        let mut child = shell.spawn().unwrap_or_else(|e| panic!("cannot start `{}`: {e}", line(command)));
        let leash = child.stdin.take();
        Self { child, leash }
    }

    /// Returns how it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
