//! After a run that was ended in any way at any time, the output is the old one or the complete new one, and the next
//! run succeeds.

pub(crate) mod doors;
pub(crate) mod old_systems;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use testkit::lab::Lab;
use testkit::random::Random;
use testkit::registry::Registry;
use testkit::tree;

use crate::lab::lab;

/// Points in time at which each operation is killed.
const KILLS: u32 = 30;
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_imgrelay");

/// An operation that writes an output.
struct Operation {
    name: &'static str,
    arguments: &'static [&'static str],
    output: &'static str,
}

const OPERATIONS: [Operation; 4] = [
    Operation {
        name: "push --to-oci-tar",
        arguments: &["push", "-q", "-i", "reg.example/a:v1", "-f", "source", "--to-oci-tar", "out.tar"],
        output: "out.tar",
    },
    Operation {
        name: "copy",
        arguments: &["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "out.tar"],
        output: "out.tar",
    },
    Operation {
        name: "pull over a folder",
        arguments: &["pull", "-q", "--tar", "in.tar", "-o", "out", "--force"],
        output: "out",
    },
    Operation { name: "pull", arguments: &["pull", "-q", "--tar", "in.tar", "-o", "new"], output: "new" },
];

/// A lab with a folder of a few MiB in several files, and an archive of it.
fn room() -> Lab {
    prepare(lab())
}

fn prepare(lab: Lab) -> Lab {
    let mut lines: Vec<String> =
        (0..60).map(|at| format!("f source/d{}/f{at} random:40000:{at}", at % 7)).collect();
    lines.push("f source/large random:3000000:99".to_owned());
    let lab = lab.tree(&lines);
    let made =
        command(&lab, &["push", "-q", "-i", "reg.example/a:v1", "-f", "source", "--to-oci-tar", "in.tar"]);
    assert!(made, "the archive could not be made");
    lab
}

pub(crate) fn start(lab: &Lab, arguments: &[&str]) -> Command {
    start_program(PROGRAM, lab, arguments)
}

fn start_program(program: &str, lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(lab.work()).env_clear();
    command.env("HOME", lab.home()).env("TMPDIR", lab.home().with_file_name("tmp"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn command(lab: &Lab, arguments: &[&str]) -> bool {
    start(lab, arguments).status().unwrap().success()
}

/// The content of an output: nothing, a file's digest, or a folder's entries with their content.
pub(crate) fn content(path: &Path) -> String {
    match std::fs::symlink_metadata(path) {
        Err(_) => "nothing".to_owned(),
        Ok(metadata) if metadata.is_dir() => tree::list_contents(path),
        Ok(_) => testkit::digest::of(&std::fs::read(path).unwrap()),
    }
}

/// Puts the old output in place.
fn put_old(lab: &Lab, output: &str) {
    let path = lab.path(output);
    let _ = std::fs::remove_dir_all(&path);
    let _ = std::fs::remove_file(&path);
    match output {
        "out.tar" => drop(lab.write(output, "the old file")),
        "out" => drop(lab.write("out/old", "the old folder")),
        _ => {}
    }
}

/// Names in the working folder that no run may leave.
fn strange(lab: &Lab) -> Vec<OsString> {
    let names = std::fs::read_dir(lab.work()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(".imgrelay-")).collect()
}

/// The contents before and after an operation, and how long it takes.
fn rehearse(lab: &Lab, operation: &Operation) -> (String, String, Duration) {
    put_old(lab, operation.output);
    let old = content(&lab.path(operation.output));
    let started = Instant::now();
    assert!(command(lab, operation.arguments), "{}", operation.name);
    let took = started.elapsed();
    let new = content(&lab.path(operation.output));
    assert_ne!(old, new);
    (old, new, took)
}

#[test]
fn a_kill_at_any_time_leaves_the_old_or_the_whole_new_output() {
    let lab = room();
    for operation in &OPERATIONS {
        let (old, new, took) = rehearse(&lab, operation);
        let (mut kept, mut replaced) = (0, 0);
        for at in 0..KILLS {
            put_old(&lab, operation.output);
            let mut child = start(&lab, operation.arguments).spawn().unwrap();
            std::thread::sleep(took * at / (KILLS - 4));
            let _ = child.kill();
            let _ = child.wait();
            let found = content(&lab.path(operation.output));
            assert!(
                found == old || found == new,
                "{}: kill {at}: neither old nor new:\n{found}",
                operation.name
            );
            if found == old {
                kept += 1;
            } else {
                replaced += 1;
            }
            if at % 10 == 9 {
                put_old(&lab, operation.output);
                assert!(command(&lab, operation.arguments), "{}: after kill {at}", operation.name);
                assert_eq!(content(&lab.path(operation.output)), new, "{}", operation.name);
                // The next run removes the files that killed runs left.
                assert_eq!(strange(&lab), Vec::<OsString>::new(), "{}", operation.name);
            }
        }
        eprintln!(
            "{}: {KILLS} kills, {kept} kept the old output, {replaced} came after the end",
            operation.name
        );
        assert!(kept > 0, "{}: no kill came in time", operation.name);
    }
}

#[test]
fn a_signal_ends_every_operation_within_a_second_and_leaves_nothing() {
    let lab = room();
    for (number, operation) in OPERATIONS.iter().enumerate() {
        let (old, new, took) = rehearse(&lab, operation);
        for at in 0..6_u32 {
            put_old(&lab, operation.output);
            let (signal, code) =
                if (at as usize + number).is_multiple_of(2) { ("INT", 130) } else { ("TERM", 143) };
            let running = lab.command(operation.arguments).spawn();
            std::thread::sleep(took * at / 7);
            running.signal(signal);
            let sent = Instant::now();
            // Before the handlers are installed, a signal ends the process by default.
            let output = running.wait();
            assert!(sent.elapsed() < Duration::from_secs(1), "{}: {:?}", operation.name, sent.elapsed());
            assert!(matches!(output.code, None | Some(0)) || output.code == Some(code), "{output}");
            let found = content(&lab.path(operation.output));
            // A signal may come after the output is in place and before it is reported.
            assert!(found == new || (found == old && output.code != Some(0)), "{output}\n{found}");
        }
    }
}

/// Runs an operation under limits of the shell (`ulimit`), and returns how it ended.
fn limited(lab: &Lab, limit: &str, operation: &Operation) -> testkit::lab::Output {
    let script = format!("{limit} && exec \"$0\" \"$@\"");
    let words = ["-c", &script, PROGRAM].into_iter().chain(operation.arguments.iter().copied());
    lab.command(&words.collect::<Vec<_>>()).run()
}

/// Runs an operation with a limit of address space, and returns exit status and standard error.
fn starved(lab: &Lab, kib: u32, operation: &Operation) -> (ExitStatus, String) {
    let script = format!("ulimit -v {kib} && exec \"$0\" \"$@\"");
    let words = ["-c", &script, PROGRAM].into_iter().chain(operation.arguments.iter().copied());
    let mut shell = start_program("/bin/sh", lab, &words.collect::<Vec<_>>());
    let output = shell.stderr(Stdio::piped()).output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn exhausted_descriptors_memory_and_file_sizes_are_errors_that_leave_the_old_output() {
    let lab = prepare(Lab::new("/bin/sh"));
    for operation in &OPERATIONS {
        let (old, new, _) = rehearse(&lab, operation);
        let mut refused = 0;
        let limits = [4, 6, 8, 10, 12, 16, 24].map(|count| format!("ulimit -n {count}")).into_iter();
        let limits = limits.chain([1, 100, 1000, 4000].map(|blocks| format!("ulimit -f {blocks}")));
        for limit in limits {
            put_old(&lab, operation.output);
            let output = limited(&lab, &limit, operation);
            let found = content(&lab.path(operation.output));
            match output.code {
                Some(0) => assert_eq!(found, new, "{limit}: {output}"),
                // Without a free file descriptor the dynamic loader fails (127).
                Some(1 | 2 | 127) => {
                    refused += 1;
                    assert_eq!(found, old, "{limit}: {output}");
                }
                other => panic!("{}: {limit}: ended with {other:?}\n{output}", operation.name),
            }
        }
        assert!(refused > 2, "{}: only {refused} limits were too small", operation.name);
        for kib in [20_000, 40_000, 60_000, 80_000, 120_000, 200_000] {
            put_old(&lab, operation.output);
            let (ended, told) = starved(&lab, kib, operation);
            let found = content(&lab.path(operation.output));
            let wanted = if ended.success() { &new } else { &old };
            assert_eq!(&found, wanted, "ulimit -v {kib}: {ended}\n{told}");
            if ended.signal().is_some() {
                // A failed small allocation ends the process, as a kill does; the next run removes its files. With the
                // smallest limit the program cannot be loaded.
                let words = ["memory allocation of ", "failed to register TLS destructor: out of memory"];
                let expected =
                    words.iter().any(|words| told.contains(words)) || kib == 20_000 && told.is_empty();
                assert!(expected, "ulimit -v {kib}: {ended}\n{told}");
                assert!(command(&lab, operation.arguments));
            }
            assert_eq!(strange(&lab), Vec::<OsString>::new(), "ulimit -v {kib}: {ended}\n{told}");
        }
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_the_old_output() {
    let lab = room();
    for (size, code) in [("64k", 1), ("1m", 1), ("4m", 1), ("16m", 0)] {
        for arguments in [
            &["push", "-q", "-i", "reg.example/a:v1", "-f", "source", "--to-oci-tar", "disk/out.tar"][..],
            &["copy", "-q", "--tar", "in.tar", "--to-oci-tar", "disk/out.tar"],
            &["pull", "-q", "--tar", "in.tar", "-o", "disk"],
            &["pull", "-q", "--tar", "in.tar", "-o", "disk/new"],
        ] {
            let output = lab.command(arguments).small_disk(lab.path("disk"), size).run().ends_with(code);
            if code != 0 {
                let output = output.says("No space left on device");
                assert_eq!(output.on_disk, Vec::<String>::new(), "{output}");
            }
        }
    }
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    for operation in &OPERATIONS {
        let lab = room();
        std::fs::create_dir(lab.path("locked")).unwrap();
        let inside = format!("locked/{}", operation.output);
        let here =
            |word: &&'static str| if *word == operation.output { inside.clone() } else { (*word).to_owned() };
        let arguments: Vec<String> = operation.arguments.iter().map(here).collect();
        std::fs::set_permissions(lab.path("locked"), std::os::unix::fs::PermissionsExt::from_mode(0o555))
            .unwrap();
        let output = lab.command(&arguments).as_ordinary_user().run();
        let _ = output.fails(1, &["locked", "Permission denied"]);
        assert_eq!(std::fs::read_dir(lab.path("locked")).unwrap().count(), 0);
    }
}

#[test]
fn two_runs_that_write_the_same_output_leave_one_of_the_two_whole() {
    let lab = room().tree(&["f other/f random:2000000:5"]);
    let other = ["push", "-q", "-i", "reg.example/a:v1", "-f", "other", "--to-oci-tar", "out.tar"];
    let wholes: Vec<String> = [OPERATIONS[0].arguments, &other]
        .map(|arguments| {
            assert!(command(&lab, arguments));
            content(&lab.path("out.tar"))
        })
        .to_vec();
    let both = |one: &[&str], two: &[&str]| {
        let mut first = start(&lab, one).spawn().unwrap();
        let second = start(&lab, two).status().unwrap();
        [first.wait().unwrap().code(), second.code()]
    };
    for _ in 0..5 {
        assert_eq!(both(OPERATIONS[0].arguments, &other), [Some(0), Some(0)]);
        assert!(wholes.contains(&content(&lab.path("out.tar"))));
        assert_eq!(strange(&lab), Vec::<OsString>::new());
    }
    let pull = |output: &'static str, force: bool| {
        let mut words = vec!["pull", "-q", "--tar", "in.tar", "-o", output];
        words.extend(force.then_some("--force"));
        words
    };
    assert!(command(&lab, &pull("alone", false)));
    let whole = content(&lab.path("alone"));
    for round in 0..5 {
        let _ = std::fs::remove_dir_all(lab.path("new"));
        let codes = both(&pull("new", false), &pull("new", false));
        // The second run finds that the folder exists, and changes nothing.
        assert!(codes.contains(&Some(0)), "round {round}: {codes:?}");
        assert!(codes.iter().all(|code| matches!(code, Some(0..=2))), "round {round}: {codes:?}");
        assert_eq!(content(&lab.path("new")), whole, "round {round}");
        let codes = both(&pull("new", true), &pull("new", true));
        assert_eq!(codes, [Some(0), Some(0)], "round {round}");
        assert_eq!(content(&lab.path("new")), whole, "round {round}");
        assert_eq!(strange(&lab), Vec::<OsString>::new());
    }
}

#[test]
fn pushes_to_one_tag_and_pulls_meanwhile_see_one_image_or_the_other() {
    let registry = Registry::start();
    let lab = room().tree(&["f other/f random:2000000:5"]);
    let name = format!("{}/team/app:v1", registry.host());
    let push = |folder: &'static str| {
        let mut command = start(&lab, &["push", "-q", "-i", &name, "-f", folder]);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let wholes: Vec<String> =
        ["source", "other"].map(|folder| tree::list_contents(&lab.path(folder))).to_vec();
    assert!(push("source").wait().unwrap().success());
    let mut random = Random::new(3);
    let mut told = 0;
    for round in 0..6 {
        let children = [push("source"), push("other")];
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(random.below(150)));
            let output: PathBuf = lab.path("pulled");
            let _ = std::fs::remove_dir_all(&output);
            let run = lab.run(&["pull", "-q", "-i", &name, "-o", "pulled"]).succeeds();
            let found = tree::list_contents(&output);
            assert!(wholes.contains(&found), "round {round}: {run}\n{found}");
        }
        // The run that writes the tag last finds it right; the other may only report that the tag moved.
        let ends = children.map(|child| child.wait_with_output().unwrap());
        assert!(ends.iter().any(|end| end.status.success()), "round {round}: {ends:?}");
        for end in ends.iter().filter(|end| !end.status.success()) {
            assert_eq!(end.status.code(), Some(1), "round {round}: {end:?}");
            let said = String::from_utf8_lossy(&end.stderr);
            let errors: Vec<&str> = said.lines().filter(|line| line.contains("error")).collect();
            assert!(
                errors.len() == 1 && errors[0].starts_with("imgrelay: error: tag `v1` points at "),
                "{said}"
            );
            assert!(errors[0].contains("after the push, expected `sha256:"), "{said}");
            told += 1;
        }
    }
    eprintln!("{told} of 12 pushes were told that their tag had moved");
}
