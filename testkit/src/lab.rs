//! Runs the real executable with a home and working folder of its own, and with no inherited environment.
//!
//! After every command the lab searches its folders for temporary files, and the output for planted secrets; a finding
//! fails the test.

use crate::planted;
use crate::scratch::Scratch;
use crate::tools::tool;
use crate::tree;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An ordinary user (`nobody` on every system the tests run on).
const ORDINARY_USER: u32 = 65534;
/// How long a command may take by default.
const PATIENCE: Duration = Duration::from_secs(120);
/// Part of the name of the program's temporary files; the name also begins with a dot.
const TEMPORARY: &str = ".imgrelay-";

/// The lab; its folders are removed when it is dropped.
///
/// Folders: `work` (where commands run), `home`, and `tmp`, which is `TMPDIR` and must be empty after each command.
#[derive(Debug)]
pub struct Lab {
    scratch: Scratch,
    program: PathBuf,
}

impl Lab {
    /// Prepares a lab for one executable.
    #[track_caller]
    pub fn new(program: impl AsRef<Path>) -> Self {
        let scratch = Scratch::new("lab");
        for folder in ["work", "home", "tmp"] {
            tree::make(&scratch.join(folder), &[] as &[&str]);
        }
        Self { scratch, program: program.as_ref().to_owned() }
    }

    /// Adds entries to the working folder, described as [`tree::make`] takes them.
    #[must_use]
    #[track_caller]
    pub fn tree<L: AsRef<str>>(self, lines: &[L]) -> Self {
        tree::make(&self.work(), lines);
        self
    }

    /// Returns the working folder.
    pub fn work(&self) -> PathBuf {
        self.scratch.join("work")
    }

    /// Returns a path inside the working folder; nothing is created.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.work().join(relative)
    }

    /// Returns the home folder.
    pub fn home(&self) -> PathBuf {
        self.scratch.join("home")
    }

    /// Reads a file of the working folder.
    #[track_caller]
    pub fn read(&self, relative: &str) -> Vec<u8> {
        std::fs::read(self.path(relative)).unwrap_or_else(|e| panic!("cannot read `{relative}`: {e}"))
    }

    /// Writes a file into the working folder, with the folders above it, and returns its path.
    #[track_caller]
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.scratch.write(Path::new("work").join(relative), content)
    }

    /// Lists the working folder, to check that nothing changed.
    #[track_caller]
    pub fn list(&self) -> String {
        tree::list(&self.work())
    }

    /// Runs the executable with these arguments in the working folder.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Output {
        self.command(arguments).run()
    }

    /// Prepares a run of the executable.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Run<'_> {
        let program = self.program.as_os_str().to_owned();
        let words = std::iter::once(program).chain(arguments.iter().map(|word| word.as_ref().to_owned()));
        let environment = [
            ("PATH", OsString::from("/usr/local/bin:/usr/bin:/bin")),
            ("HOME", self.home().into_os_string()),
            ("TMPDIR", self.scratch.join("tmp").into_os_string()),
        ];
        Run {
            lab: self,
            words: words.collect(),
            name: None,
            environment: environment.map(|(name, value)| (name.into(), value)).into(),
            folder: self.work(),
            stdin: Vec::new(),
            stdout: None,
            umask: None,
            ordinary: false,
            disk: None,
            trace: None,
            measured: false,
            patience: PATIENCE,
        }
    }

    /// Returns the temporary files in the lab's folders.
    #[track_caller]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.scratch.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                let name = name.to_string_lossy();
                let ours = name.starts_with('.') && name.contains(TEMPORARY);
                if ours || folder == self.scratch.join("tmp") {
                    found.push(path.strip_prefix(self.scratch.path()).unwrap_or(&path).to_owned());
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(path);
                }
            }
        }
        found
    }

    /// Changes the owner of everything in the lab's folders.
    fn give_to(&self, user: u32) {
        let mut open = vec![self.scratch.path().to_owned()];
        while let Some(path) = open.pop() {
            let _ = std::os::unix::fs::lchown(&path, Some(user), Some(user));
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                open.extend(
                    std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()),
                );
            }
        }
    }

    /// Copies the executable into the lab under a name, where every user can reach it.
    fn reachable(&self, name: &OsStr) -> PathBuf {
        let copy = self.scratch.join("bin").join(name);
        if !copy.exists() {
            std::fs::create_dir_all(self.scratch.join("bin")).expect("the room is writable");
            std::fs::copy(&self.program, &copy)
                .unwrap_or_else(|e| panic!("cannot copy `{}`: {e}", self.program.display()));
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))
                .expect("the copy is ours");
        }
        copy
    }
}

/// A run that is being prepared; start it with [`Run::run`] or [`Run::spawn`].
#[derive(Debug)]
#[must_use = "nothing runs before `run` or `spawn`"]
pub struct Run<'lab> {
    lab: &'lab Lab,
    words: Vec<OsString>,
    name: Option<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    stdin: Vec<u8>,
    stdout: Option<PathBuf>,
    umask: Option<String>,
    ordinary: bool,
    disk: Option<(PathBuf, String)>,
    trace: Option<String>,
    measured: bool,
    patience: Duration,
}

impl<'lab> Run<'lab> {
    /// Sets a variable; the environment has only `PATH`, `HOME` and `TMPDIR` otherwise.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(existing, _)| existing != name.as_ref());
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Removes a variable, for example `HOME`.
    pub fn env_remove(mut self, name: &str) -> Self {
        self.environment.retain(|(existing, _)| existing != name);
        self
    }

    /// Sets the bytes of standard input, which is empty otherwise.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// Connects standard output with a file or device (`/dev/full`).
    pub fn stdout_to(mut self, path: impl AsRef<Path>) -> Self {
        self.stdout = Some(path.as_ref().to_owned());
        self
    }

    /// Runs in another folder than `work`.
    pub fn in_folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = folder.as_ref().to_owned();
        self
    }

    /// Runs the executable under another name, which it can see as its own (`argv[0]`).
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Runs with this umask, in octal.
    pub fn umask(mut self, umask: &str) -> Self {
        self.umask = Some(umask.to_owned());
        self
    }

    /// Runs as a user without privileges, who then owns the lab's folders. Does nothing if the tests do not run as
    /// root.
    pub fn as_ordinary_user(mut self) -> Self {
        self.ordinary = true;
        self
    }

    /// Mounts an empty file system of this size (`64k`) on a folder for this run; [`Output::on_disk`] has its files
    /// afterwards.
    pub fn small_disk(mut self, folder: impl AsRef<Path>, size: &str) -> Self {
        self.disk = Some((folder.as_ref().to_owned(), size.to_owned()));
        self
    }

    /// Records system calls (`strace -f -e trace=…`) in [`Output::trace`]: `network`, or `openat,read`.
    pub fn traced(mut self, calls: &str) -> Self {
        self.trace = Some(calls.to_owned());
        self
    }

    /// Measures the memory of the executable ([`Output::peak_kib`]) with GNU time, which is small: the memory of a
    /// process before `exec` counts too.
    pub fn measured(mut self) -> Self {
        self.measured = true;
        self
    }

    /// Sets how long the run may take.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs to the end and checks that no temporary file is left.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts the program, for tests that interrupt or watch it.
    #[track_caller]
    pub fn spawn(self) -> Running<'lab> {
        let mut command = self.assemble();
        let line = crate::tools::line(&command);
        let mut child = start(&mut command).unwrap_or_else(|e| panic!("cannot start `{line}`: {e}"));
        let input = child.stdin.take().map(|mut pipe| {
            let bytes = self.stdin.clone();
            // A program may close the pipe without reading its input.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)))
        });
        let stdout = child.stdout.take().map(Collector::start);
        let stderr = child.stderr.take().map(Collector::start);
        let deadline = Instant::now() + self.patience;
        Running { lab: self.lab, child, line, input, stdout, stderr, deadline }
    }

    fn assemble(&self) -> Command {
        let mut words = self.words.clone();
        let user_changes = self.ordinary && is_root();
        if self.name.is_some() || user_changes {
            let own = self.lab.program.file_name().expect("a program has a name");
            words[0] = self.lab.reachable(self.name.as_deref().unwrap_or(own)).into();
        }
        let mut before: Vec<OsString> = Vec::new();
        if let Some((folder, size)) = &self.disk {
            tree::make(folder, &[] as &[&str]);
            let unshare = tool("unshare").get_program().to_owned();
            before.push(unshare);
            before.push("--mount".into());
            if !is_root() {
                before.push("--map-root-user".into());
            }
            let script =
                "mount -t tmpfs -o size=\"$1\",mode=777 none \"$2\" || exit 99; list=$3; folder=$2; shift 3
                \"$@\"; code=$?; ls -A \"$folder\" >\"$list\"; exit $code";
            before.extend(["sh".into(), "-c".into(), script.into(), "sh".into(), size.into()]);
            before.extend([folder.into(), self.lab.scratch.join("on-disk").into()]);
        }
        if let Some(calls) = &self.trace {
            before.extend([tool("strace").get_program().to_owned(), "-f".into(), "-qq".into(), "-e".into()]);
            before.extend([
                format!("trace={calls}").into(),
                "-o".into(),
                self.lab.scratch.join("trace").into(),
            ]);
        }
        if let Some(umask) = &self.umask {
            let script = format!("umask {umask}; exec \"$@\"");
            before.extend(["sh".into(), "-c".into(), script.into(), "sh".into()]);
        }
        if self.measured {
            let peak = self.lab.scratch.join("peak");
            before.extend([tool("time").get_program().to_owned(), "-q".into(), "-f".into(), "%M".into()]);
            before.extend(["-o".into(), peak.into()]);
        }
        before.extend(words);
        let mut command = Command::new(&before[0]);
        command.args(&before[1..]).env_clear().current_dir(&self.folder);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stderr(Stdio::piped()).stdout(match &self.stdout {
            None => Stdio::piped(),
            Some(path) => {
                let file = File::options().write(true).create(true).truncate(true).open(path);
                file.unwrap_or_else(|e| panic!("cannot open `{}`: {e}", path.display())).into()
            }
        });
        if user_changes {
            self.lab.give_to(ORDINARY_USER);
            command.uid(ORDINARY_USER).gid(ORDINARY_USER);
        }
        command
    }
}

/// Starts a program; tries again if the executable is still open for writing, in another test's child between fork and
/// exec.
fn start(command: &mut Command) -> std::io::Result<Child> {
    for _ in 0..200 {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
    command.spawn()
}

/// A run that has not ended yet; killed when dropped.
#[derive(Debug)]
pub struct Running<'lab> {
    lab: &'lab Lab,
    child: Child,
    line: String,
    input: Option<std::thread::JoinHandle<()>>,
    stdout: Option<Collector>,
    stderr: Option<Collector>,
    deadline: Instant,
}

impl Running<'_> {
    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `INT`, `TERM`, `STOP`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        // `kill` is a builtin of the shell; not every system has a program of that name.
        let script = format!("kill -{name} {}", self.child.id());
        let _ = crate::tools::run(tool("sh").arg("-c").arg(script)).success();
    }

    /// Waits until standard error holds a text.
    #[track_caller]
    pub fn wait_for_stderr(&mut self, text: &str) {
        self.wait_until(&format!("`{text}` on standard error"), |running| {
            running.stderr.as_ref().is_some_and(|stderr| stderr.text().contains(text))
        });
    }

    /// Waits until a condition holds; panics if the program ends or the time is up before that.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut happened: impl FnMut(&Self) -> bool) {
        while !happened(self) {
            let ended = self.child.try_wait().ok().flatten();
            // The condition may hold since just before the end.
            if (ended.is_some() || Instant::now() > self.deadline) && !happened(self) {
                let stderr = self.stderr.as_ref().map(Collector::text).unwrap_or_default();
                panic!("`{}` never came to {what} ({ended:?}):\n{stderr}", self.line);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end and checks that no temporary file is left.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            if Instant::now() > self.deadline {
                let _ = self.child.kill();
                let stderr = self.stderr.as_ref().map(Collector::text).unwrap_or_default();
                panic!("`{}` took too long; standard error so far:\n{stderr}", self.line);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if let Some(input) = self.input.take() {
            let _ = input.join();
        }
        let stdout = self.stdout.take().map(Collector::finish).unwrap_or_default();
        let stderr = self.stderr.take().map(Collector::finish).unwrap_or_default();
        let take = |name: &str| {
            let path = self.lab.scratch.join(name);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let _ = std::fs::remove_file(path);
            text
        };
        let output = Output {
            line: self.line.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stdout_bytes: stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            trace: calls(&take("trace")),
            peak_kib: take("peak").trim().parse().ok(),
            on_disk: take("on-disk").lines().map(str::to_owned).collect(),
        };
        for (place, text) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
            let found = planted::search(text);
            assert!(found.is_none(), "the secret `{}` is in {place}\n{output}", found.unwrap_or_default());
        }
        let leftovers = self.lab.leftovers();
        assert!(leftovers.is_empty(), "temporary files are left: {leftovers:?}\n{output}");
        let on_disk = output.on_disk.iter().any(|name| name.contains(TEMPORARY));
        assert!(!on_disk, "temporary files are left on the small disk: {:?}\n{output}", output.on_disk);
        output
    }
}

/// Drops the lines that strace writes about a thread that ends while strace attaches to it.
fn calls(trace: &str) -> String {
    trace.split_inclusive('\n').filter(|line| !line.contains(" ???( <detached ...>")).collect()
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pipe to its end on a thread of its own.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
            }
        });
        Self { bytes, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn finish(self) -> Vec<u8> {
        let _ = self.thread.join();
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The result of a run. Each check panics with all of it, or returns it for more checks.
#[derive(Debug)]
#[must_use = "check how it ended"]
pub struct Output {
    /// The command line.
    pub line: String,
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard output, bytes.
    pub stdout_bytes: Vec<u8>,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// The system calls of a [`Run::traced`] run.
    pub trace: String,
    /// The most memory a [`Run::measured`] run took, in KiB (peak resident set).
    pub peak_kib: Option<u64>,
    /// The names on the disk of a [`Run::small_disk`] run.
    pub on_disk: Vec<String>,
}

impl Output {
    /// Checks that the exit status is 0.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    /// Checks the exit status.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit status {code}\n{self}");
        self
    }

    /// Checks the exit status, that standard error has each of these texts, and that there is no result.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Self {
        let mut output = self.ends_with(code);
        for text in texts {
            output = output.says(text);
        }
        assert!(output.stdout_bytes.is_empty(), "expected nothing on standard output\n{output}");
        output
    }

    /// Checks that standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected on standard error: `{text}`\n{self}");
        self
    }

    /// Checks that neither standard output nor standard error has this text, for secrets.
    #[track_caller]
    pub fn never_says(self, text: &str) -> Self {
        let said = self.stderr.contains(text) || self.stdout.contains(text);
        assert!(!said, "expected nowhere in the output: `{text}`\n{self}");
        self
    }

    /// Returns standard output as its one line, without the line end.
    #[track_caller]
    pub fn one_line(&self) -> &str {
        let line = self.stdout.strip_suffix('\n').filter(|line| !line.is_empty() && !line.contains('\n'));
        line.unwrap_or_else(|| panic!("expected exactly one line on standard output\n{self}"))
    }

    /// Returns standard output as its one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout_bytes)
            .unwrap_or_else(|e| panic!("expected one JSON document on standard output: {e}\n{self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- command\n{}", self.line)?;
        writeln!(f, "--- exit status {:?}, signal {:?}", self.code, self.signal)?;
        writeln!(f, "--- stdout, {} bytes\n{}", self.stdout_bytes.len(), start_of(&self.stdout))?;
        write!(f, "--- stderr\n{}", start_of(&self.stderr))
    }
}

/// Cuts a long text, so that a tar on standard output does not fill the terminal.
fn start_of(text: &str) -> &str {
    text.char_indices().nth(20_000).map_or(text, |(at, _)| &text[..at])
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of `/proc/self` is the user of this process.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Lab, String) {
        (Lab::new("/bin/sh"), script.to_owned())
    }

    fn run(script: &str) -> Output {
        let (lab, script) = shell(script);
        lab.run(&["-c", &script])
    }

    #[track_caller]
    fn complaint(test: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let payload = std::panic::catch_unwind(test).expect_err("the check should object");
        *payload.downcast::<String>().expect("a formatted message")
    }

    #[test]
    fn nothing_is_inherited() {
        let lab = Lab::new("/usr/bin/env");
        let output = lab.command::<&str>(&[]).env("A", "b").run().succeeds();
        let mut names: Vec<&str> =
            output.stdout.lines().map(|line| line.split('=').next().unwrap_or("")).collect();
        names.sort_unstable();
        assert_eq!(names, ["A", "HOME", "PATH", "TMPDIR"], "{output}");
        let output = lab.command::<&str>(&[]).env_remove("HOME").run().succeeds();
        assert!(!output.stdout.contains("HOME="), "{output}");
    }

    #[test]
    fn a_run_is_reported_whole() {
        let (lab, script) = shell("cat; echo no >&2; pwd; exit 3");
        let output = lab.command(&["-c", &script]).stdin("in\n").run().ends_with(3).says("no");
        assert_eq!(output.stdout, format!("in\n{}\n", lab.work().display()));
        assert_eq!(run("kill -9 $$").signal, Some(9));
        assert_eq!(run("echo one").one_line(), "one");
        assert_eq!(run("echo '[1]'").json(), serde_json::json!([1]));
        let _ = run("echo no >&2; exit 4").fails(4, &["no"]);
    }

    #[test]
    fn every_check_can_object() {
        for (script, check) in [
            ("exit 1", (|output| drop(output.succeeds())) as fn(Output)),
            ("exit 1", |output| drop(output.ends_with(2))),
            ("echo no >&2; exit 1", |output| drop(output.fails(1, &["yes"]))),
            ("echo no; exit 1", |output| drop(output.fails(1, &[]))),
            ("echo yes", |output| drop(output.says("yes"))),
            ("echo secret >&2", |output| drop(output.never_says("secret"))),
            ("echo secret", |output| drop(output.never_says("secret"))),
            ("echo a; echo b", |output| drop(output.one_line().to_owned())),
            ("true", |output| drop(output.one_line().to_owned())),
            ("echo '{} {}'", |output| drop(output.json())),
        ] {
            let message = complaint(move || check(run(script)));
            assert!(message.contains("--- stderr") && message.contains(script), "{message}");
        }
    }

    #[test]
    fn planted_secrets_are_found() {
        planted::plant("pl4nted-in-lab");
        for script in ["echo pl4nted-in-lab", "echo x pl4nted-in-lab >&2; exit 1", "echo '_state=abc' >&2"] {
            let message = complaint(move || drop(run(script)));
            assert!(message.contains("is in standard") && message.contains(script), "{message}");
        }
    }

    #[test]
    fn temporary_files_are_found() {
        for script in
            ["touch .x.imgrelay-0011223344556677", "mkdir -p a && touch a/.b.imgrelay-1", "touch $TMPDIR/x"]
        {
            let message = complaint(move || drop(run(script)));
            assert!(message.contains("temporary files are left"), "{message}");
        }
        let _ = run("touch x.imgrelay-1 .imgrelayignore").succeeds();
    }

    #[test]
    fn a_run_can_have_another_umask_user_name_and_disk() {
        let lab = Lab::new("/bin/sh").tree(&["d disk", "f mine 'x'"]);
        let _ = lab.command(&["-c", "touch made"]).umask("077").run().succeeds();
        assert!(lab.list().contains("f made 600"), "{}", lab.list());
        let output = lab.command(&["-c", "echo $0; id -u; cat mine"]).as_ordinary_user().run().succeeds();
        assert!(!output.stdout.contains("\n0\n"), "{output}");
        let output = lab.command(&["-c", "cat /proc/$$/cmdline"]).named("check").run().succeeds();
        assert!(output.stdout.contains("/check\0-c"), "{output}");
        let script = "head -c 100000 /dev/zero > disk/big || exit 5";
        let output = lab.command(&["-c", script]).small_disk(lab.path("disk"), "64k").run().ends_with(5);
        assert_eq!(output.on_disk, ["big"], "{output}");
        assert!(!lab.path("disk/big").exists());
    }

    #[test]
    fn memory_can_be_measured() {
        let (lab, script) = shell("x=$(head -c 30000000 /dev/zero | tr '\\0' x); exit 3");
        let peak = |script: &str| {
            lab.command(&["-c", script]).measured().run().ends_with(3).peak_kib.expect("a number")
        };
        assert!((200..20_000).contains(&peak("exit 3")), "{}", peak("exit 3"));
        assert!((29_000..200_000).contains(&peak(&script)), "{}", peak(&script));
        assert_eq!(lab.run(&["-c", "exit 3"]).ends_with(3).peak_kib, None);
    }

    #[test]
    fn system_calls_can_be_watched() {
        let lab = Lab::new("/bin/cat").tree(&["f here 'x'"]);
        let output = lab.command(&["here"]).traced("openat").run().succeeds();
        assert!(output.trace.contains("\"here\""), "{}", output.trace);
        assert_eq!(lab.command(&["here"]).traced("network").run().succeeds().trace, "");
    }

    #[test]
    fn a_run_can_be_watched_and_interrupted() {
        let (lab, script) =
            shell("trap 'echo caught >&2; exit 130' INT; echo ready >&2; while :; do sleep 0.01; done");
        let mut running = lab.command(&["-c", &script]).spawn();
        running.wait_for_stderr("ready");
        running.signal("INT");
        let _ = running.wait().fails(130, &["caught"]);
        let message = complaint(|| {
            let lab = Lab::new("/bin/sh");
            let mut running = lab.command(&["-c", "exit 0"]).spawn();
            running.wait_for_stderr("ready");
        });
        assert!(message.contains("never came to `ready`"), "{message}");
        let message = complaint(|| {
            let lab = Lab::new("/bin/sleep");
            drop(lab.command(&["30"]).patience(Duration::from_millis(50)).run());
        });
        assert!(message.contains("took too long"), "{message}");
    }
}
