//! The kills and signals of `crashes` for the other operations that write: Concourse's `in` and `task`, copies of
//! locks, copies that append or resume, and other tools' tars.
//!
//! Each operation writes into the folder `o`. Afterwards each output in it is the old one or the complete new one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::tools::tool;

use crate::crashes::{PROGRAM, content};
use crate::lab::lab;

/// Points in time at which each operation is killed.
const KILLS: u32 = 24;
/// How long the program may take to end after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// An operation that writes into `o`.
struct Operation {
    name: String,
    /// The name of the executable.
    called: &'static str,
    words: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    input: String,
    /// A file that is copied to `o/out.tar` first.
    old: Option<&'static str>,
}

impl Operation {
    fn copy(name: &str, words: &[&str], output: &[&str]) -> Self {
        let words = ["copy", "-q"].iter().chain(words).chain(output).map(|word| (*word).to_owned()).collect();
        Self {
            name: name.to_owned(),
            called: "imgrelay",
            words,
            environment: Vec::new(),
            input: String::new(),
            old: Some("old"),
        }
    }

    fn put_old(&self, lab: &Lab) {
        let _ = std::fs::remove_dir_all(lab.path("o"));
        std::fs::create_dir(lab.path("o")).unwrap();
        if let Some(old) = self.old {
            std::fs::copy(lab.path(old), lab.path("o/out.tar")).unwrap();
        }
    }

    fn start(&self, lab: &Lab) -> Child {
        let mut command = Command::new(PROGRAM);
        command.arg0(self.called).args(&self.words).current_dir(lab.work()).env_clear();
        command.env("HOME", lab.home()).env("TMPDIR", lab.home().with_file_name("tmp"));
        command.envs(self.environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // A killed process does not read it.
        let _ = child.stdin.take().unwrap().write_all(self.input.as_bytes());
        child
    }

    /// Runs under a shell script that ends with `"$@"`, and returns exit status and standard error.
    fn run_under(&self, lab: &Lab, script: &str) -> (ExitStatus, String) {
        // A link gives the program another name; the shell cannot.
        let program = lab.path("bin").join(self.called);
        if !program.exists() {
            std::fs::create_dir_all(lab.path("bin")).unwrap();
            std::os::unix::fs::symlink(PROGRAM, &program).unwrap();
        }
        // In a mount namespace of its own.
        let mut command = tool("unshare");
        command.args(["--mount", "--map-root-user"]).args(["sh", "-c", script, "sh"]);
        command.arg(program).args(&self.words).current_dir(lab.work()).env_clear();
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", lab.home());
        command.env("TMPDIR", lab.home().with_file_name("tmp")).envs(self.environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(self.input.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn succeed(&self, lab: &Lab, when: &str) {
        assert!(self.start(lab).wait().unwrap().success(), "{}: {when}", self.name);
    }
}

/// The outputs in `o` with their content; beside them the files that killed runs left, and those that `--resume` keeps.
fn outputs(lab: &Lab) -> (BTreeMap<String, String>, Vec<String>) {
    outputs_in(&lab.path("o"))
}

fn outputs_in(folder: &Path) -> (BTreeMap<String, String>, Vec<String>) {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let (temporary, names): (Vec<String>, Vec<String>) =
        names.partition(|name| name.contains(".imgrelay-") || name == "out.tar.parts");
    let contents = names.into_iter().map(|name| {
        let content = content(&folder.join(&name));
        (name, content)
    });
    (contents.collect(), temporary)
}

/// A lab with an image and a bundle in a registry, locks of both, and older tars.
fn room(registry: &Registry) -> Lab {
    let mut lines: Vec<String> =
        (0..40).map(|at| format!("f source/d{}/f{at} random:30000:{at}", at % 7)).collect();
    lines.push("f source/large random:2000000:99".to_owned());
    lines.push("f other/f random:600000:7".to_owned());
    lines.push("f bundle/config random:400000:5".to_owned());
    let lab = lab().tree(&lines);
    let host = registry.host();
    let push = |words: &[&str]| lab.run(&[&["push", "-q"], words].concat()).succeeds().one_line().to_owned();
    let image = push(&["-i", &format!("{host}/team/app:v1"), "-f", "source"]);
    let other = push(&["-i", &format!("{host}/team/other:v1"), "-f", "other"]);
    let lock = |images: &[&str]| {
        let images: String = images.iter().map(|image| format!("- image: {image}\n")).collect();
        format!("apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n{images}")
    };
    lab.write("images.yml", lock(&[&image, &other]));
    lab.write("bundle/.imgpkg/images.yml", lock(&[&image]));
    let _ =
        push(&["-b", &format!("{host}/team/bundle:v1"), "-f", "bundle", "--lock-output", "bundle.lock.yml"]);
    let _ = push(&["-i", "reg.example/old:v1", "-f", "other", "--to-oci-tar", "old.tar"]);
    lab.write("old", "the old file");
    lab.write("digest", image.rsplit('@').next().unwrap());
    lab
}

fn operations(lab: &Lab, registry: &Registry) -> Vec<Operation> {
    let host = registry.host();
    let image = format!("{host}/team/app:v1");
    let bundle = format!("{host}/team/bundle:v1");
    let tar = ["--to-oci-tar", "o/out.tar"];
    let mut all = vec![
        Operation {
            old: Some("old.tar"),
            ..Operation::copy("copy --append", &["-i", &image, "--append"], &tar)
        },
        Operation::copy("copy of an ImagesLock", &["--lock", "images.yml"], &tar),
        Operation::copy("copy of a BundleLock", &["--lock", "bundle.lock.yml"], &tar),
        Operation::copy("copy --resume", &["-b", &bundle, "--resume", "--concurrency", "2"], &tar),
        Operation::copy("copy --to-tar", &["-b", &bundle], &["--to-tar", "o/out.tar"]),
        Operation::copy("copy --to-docker-tar", &["-i", &image], &["--to-docker-tar", "o/out.tar"]),
        Operation {
            words: vec!["task".to_owned()],
            environment: vec![
                ("FILES", "source"),
                ("REFERENCE", "reg.example/a:v1"),
                ("OUTPUT", "o"),
                ("UNPACK_ROOTFS", "true"),
            ],
            old: None,
            ..Operation::copy("task", &[], &[])
        },
    ];
    let digest = String::from_utf8(lab.read("digest")).unwrap();
    for format in ["rootfs", "oci", "oci-layout", "oci-tar", "files"] {
        let request = json!({
            "source": {"repository": format!("{host}/team/app"), "tag": "v1"},
            "version": {"tag": "v1", "digest": digest},
            "params": {"format": format},
        });
        all.push(Operation {
            called: "in",
            words: vec![lab.path("o").to_str().unwrap().to_owned()],
            input: request.to_string(),
            old: None,
            ..Operation::copy(&format!("in, {format}"), &[], &[])
        });
    }
    all
}

/// The outputs before and after an operation, and how long it takes.
fn rehearse(
    lab: &Lab,
    operation: &Operation,
) -> (BTreeMap<String, String>, BTreeMap<String, String>, Duration) {
    operation.put_old(lab);
    let old = outputs(lab).0;
    let started = Instant::now();
    operation.succeed(lab, "the first run");
    let took = started.elapsed();
    let (new, left) = outputs(lab);
    assert_eq!(left, Vec::<String>::new(), "{}", operation.name);
    assert_ne!(old, new, "{}", operation.name);
    (old, new, took)
}

/// Fails unless each output is the old or the new one.
fn check(
    what: &str,
    found: &BTreeMap<String, String>,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) {
    for name in found.keys().chain(old.keys()) {
        let here = found.get(name);
        assert!(
            here == old.get(name) || here == new.get(name),
            "{what}: `{name}` is neither the old nor the new one:\n{here:?}"
        );
    }
}

#[test]
fn a_kill_at_any_time_leaves_old_or_whole_new_outputs_behind_every_door() {
    let registry = Registry::start();
    let lab = room(&registry);
    for operation in operations(&lab, &registry) {
        let (old, new, took) = rehearse(&lab, &operation);
        let (mut kept, mut partly, mut replaced) = (0, 0, 0);
        for at in 0..KILLS {
            // Every other time with the files of the run that was killed before, as in a stage that is run again.
            if at % 2 == 0 {
                operation.put_old(&lab);
            }
            let mut child = operation.start(&lab);
            std::thread::sleep(took * at / (KILLS - 4));
            let _ = child.kill();
            let _ = child.wait();
            let found = outputs(&lab).0;
            check(&format!("{}: kill {at}", operation.name), &found, &old, &new);
            match () {
                () if found == old => kept += 1,
                () if found == new => replaced += 1,
                () => partly += 1,
            }
            if at % 6 == 5 {
                operation.succeed(&lab, "the run after a kill");
                assert_eq!(outputs(&lab), (new.clone(), Vec::new()), "{}: after kill {at}", operation.name);
            }
        }
        eprintln!(
            "{}: {KILLS} kills: {kept} kept the old outputs, {partly} left some of the new, {replaced} all",
            operation.name
        );
        assert!(kept + partly > 0, "{}: no kill came in time", operation.name);
    }
}

/// Sends a signal so long after the start, and returns how long the program took to end, and its status.
fn signalled(lab: &Lab, operation: &Operation, after: Duration, signal: Signal) -> (Duration, Option<i32>) {
    let mut child = operation.start(lab);
    std::thread::sleep(after);
    // The process was not waited for yet, so its id is still valid.
    let _ = kill_process(Pid::from_child(&child), signal);
    let sent = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if sent.elapsed() > 20 * GRACE => panic!("{}: does not end", operation.name),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    // Before the handlers are installed, a signal ends the process by default.
    (sent.elapsed(), status.code().or(status.signal().map(|signal| signal + 128)))
}

#[test]
fn a_signal_ends_every_door_within_a_second_and_leaves_nothing() {
    let registry = Registry::start();
    let lab = room(&registry);
    for (number, operation) in operations(&lab, &registry).iter().enumerate() {
        let (old, new, took) = rehearse(&lab, operation);
        for at in 0..5_u32 {
            let interrupt = (at as usize + number).is_multiple_of(2);
            let (signal, code) = if interrupt { (Signal::INT, 130) } else { (Signal::TERM, 143) };
            let mut slowest = Vec::new();
            // A busy machine may be late once; a program that is too slow is late every time.
            let ended = (0..3).find_map(|_| {
                operation.put_old(&lab);
                let (time, ended) = signalled(&lab, operation, took * at / 6, signal);
                slowest.push(time);
                (time < GRACE).then_some(ended)
            });
            let Some(ended) = ended else { panic!("{}: {slowest:?} after the signal", operation.name) };
            let (found, left) = outputs(&lab);
            let what = format!("{}: signal {at}", operation.name);
            check(&what, &found, &old, &new);
            // The files for `--resume` are kept on purpose.
            let left: Vec<&String> = left.iter().filter(|name| *name != "out.tar.parts").collect();
            assert_eq!(left, Vec::<&String>::new(), "{what}");
            match ended {
                Some(0) => assert_eq!(found, new, "{what}"),
                other => assert_eq!(other, Some(code), "{what}"),
            }
        }
        operation.succeed(&lab, "the run after the signals");
        assert_eq!(outputs(&lab), (new, Vec::new()), "{}", operation.name);
    }
}

#[test]
fn full_and_read_only_disks_leave_the_old_outputs_behind_every_door() {
    let registry = Registry::start();
    let lab = room(&registry);
    for operation in operations(&lab, &registry) {
        let (old, new, _) = rehearse(&lab, &operation);
        for (size, fits) in [("1m", false), ("2m", false), ("64m", true)] {
            operation.put_old(&lab);
            let _ = std::fs::remove_dir_all(lab.path("kept"));
            let script = format!(
                "mount -t tmpfs -o size={size} none kept-disk && cp -a o/. kept-disk && mount --move kept-disk o || exit 99
                \"$@\"; code=$?; cp -a o kept; exit $code"
            );
            std::fs::create_dir_all(lab.path("kept-disk")).unwrap();
            let (ended, told) = operation.run_under(&lab, &script);
            let what = format!("{} on a disk of {size}: {ended}\n{told}", operation.name);
            let (found, left) = outputs_in(&lab.path("kept"));
            if fits {
                assert_eq!((ended.code(), &found, &left), (Some(0), &new, &Vec::new()), "{what}");
                continue;
            }
            assert_eq!(ended.code(), Some(1), "{what}");
            assert!(told.contains("No space left on device"), "{what}");
            check(&what, &found, &old, &new);
            // The files for `--resume` are kept on purpose.
            assert!(left.iter().all(|name| name == "out.tar.parts"), "{what}\n{left:?}");
        }
        operation.put_old(&lab);
        let script = "mount --bind o o && mount -o remount,bind,ro o || exit 99\n\"$@\"";
        let (ended, told) = operation.run_under(&lab, script);
        let what = format!("{} on a read-only disk: {ended}\n{told}", operation.name);
        assert_eq!((ended.code(), outputs(&lab)), (Some(1), (old, Vec::new())), "{what}");
        assert!(told.contains("Read-only file system"), "{what}");
        operation.succeed(&lab, "the run after the disks");
        assert_eq!(outputs(&lab), (new, Vec::new()), "{}", operation.name);
    }
}

#[test]
fn exhausted_descriptors_memory_and_file_sizes_leave_the_old_outputs_behind_every_door() {
    let registry = Registry::start();
    let lab = room(&registry);
    for mut operation in operations(&lab, &registry) {
        if operation.words.starts_with(&["copy".to_owned()]) {
            // A connection that cannot be opened is retried, which takes time.
            operation.words.extend(["--registry-retry-count", "1"].map(str::to_owned));
        }
        let (old, new, _) = rehearse(&lab, &operation);
        let (mut refused, mut done) = (0, 0);
        for limit in ["-n 8", "-f 1", "-f 2000", "-v 30000", "-v 60000", "-v 100000"] {
            operation.put_old(&lab);
            let (ended, told) = operation.run_under(&lab, &format!("ulimit {limit} && exec \"$@\""));
            let what = format!("{}: ulimit {limit}: {ended}\n{told}", operation.name);
            let (found, left) = outputs(&lab);
            check(&what, &found, &old, &new);
            match ended.code() {
                Some(0) => {
                    done += 1;
                    assert_eq!((&found, &left), (&new, &Vec::new()), "{what}");
                }
                // Without a free file descriptor the dynamic loader fails (127).
                Some(1 | 2 | 127) => {
                    refused += 1;
                    // Removing a folder needs file descriptors too; the next run removes it.
                    let left = left.iter().any(|name| name != "out.tar.parts");
                    assert!(!left || limit.starts_with("-n"), "{what}\n{left:?}");
                }
                // A failed small allocation ends the process, as a kill does; the next run removes its files.
                None if limit.starts_with("-v") => {
                    refused += 1;
                    assert!(told.contains("memory allocation of ") || told.is_empty(), "{what}");
                }
                other => panic!("ended with {other:?}: {what}"),
            }
        }
        eprintln!("{}: {refused} limits were too small, {done} were enough", operation.name);
        assert!(refused > 2, "{}: only {refused} limits were too small", operation.name);
        operation.succeed(&lab, "the run after the limits");
        assert_eq!(outputs(&lab), (new, Vec::new()), "{}", operation.name);
    }
}
