//! File systems and containers without some features of Linux: flags of `renameat2` (NFS, some FUSE), files without a
//! name (`O_TMPFILE` with `/proc`). strace makes the calls fail, or `/proc` is not mounted.

use std::process::Command;

use testkit::lab::Lab;
use testkit::tools::{run, tool};
use testkit::tree;

use crate::lab::lab;

const PROGRAM: &str = env!("CARGO_BIN_EXE_imgrelay");

fn room() -> Lab {
    let lab =
        lab().tree(&["f source/d/f random:300000:1", "f source/run 755 'x'", "f other/f random:5000:2"]);
    let _ =
        lab.run(&["push", "-q", "-i", "r.example/a:v1", "-f", "source", "--to-oci-tar", "in.tar"]).succeeds();
    let _ =
        lab.run(&["push", "-q", "-i", "r.example/b:v1", "-f", "other", "--to-oci-tar", "old.tar"]).succeeds();
    lab
}

fn names(lab: &Lab, folder: &str) -> Vec<String> {
    let names = std::fs::read_dir(lab.path(folder)).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The outputs of every run: a tar over an older one, a new folder, the same folder again.
fn everything(lab: &Lab, command: impl Fn(&[&str]) -> Command) {
    std::fs::create_dir_all(lab.path("o")).unwrap();
    std::fs::copy(lab.path("old.tar"), lab.path("o/out.tar")).unwrap();
    for words in [
        &["push", "-q", "-i", "r.example/a:v1", "-f", "source", "--to-oci-tar", "o/out.tar"][..],
        &["pull", "-q", "--tar", "old.tar", "-o", "o/out"],
        &["pull", "-q", "--tar", "in.tar", "-o", "o/out", "--force"],
    ] {
        let mut command = command(words);
        command.current_dir(lab.work()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let _ = run(command.env("TMPDIR", lab.home().with_file_name("tmp"))).success();
    }
    assert_eq!(lab.read("o/out.tar"), lab.read("in.tar"));
    assert_eq!(tree::list_contents(&lab.path("o/out")), tree::list_contents(&lab.path("source")));
    assert_eq!(names(lab, "o"), ["out", "out.tar"], "nothing else is left");
    assert_eq!(std::fs::read_dir(lab.home().with_file_name("tmp")).unwrap().count(), 0);
}

#[test]
fn outputs_are_put_in_place_without_renameat2_flags() {
    for error in ["EINVAL", "ENOSYS", "EOPNOTSUPP"] {
        let lab = room();
        let log = lab.path("trace");
        everything(&lab, |words| {
            let mut command = tool("strace");
            command.args(["-f", "-qq", "-A", "-e", "trace=renameat2", "-e"]);
            command.arg(format!("inject=renameat2:error={error}")).arg("-o").arg(&log);
            command.arg(PROGRAM).args(words);
            command
        });
        let log = std::fs::read_to_string(log).unwrap();
        for flag in ["RENAME_NOREPLACE", "RENAME_EXCHANGE"] {
            let failed = log.lines().any(|line| line.contains(flag) && line.contains("(INJECTED)"));
            assert!(failed, "{flag} was not asked for:\n{log}");
        }
    }
}

#[test]
fn without_proc_temporary_files_have_a_name_and_are_removed() {
    let lab = room();
    everything(&lab, |words| {
        let mut command = tool("unshare");
        command.arg("--mount");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = "mount -t tmpfs none /proc && test ! -e /proc/self && exec \"$@\"";
        command.args(["sh", "-c", script, "sh", PROGRAM]).args(words);
        command
    });
}

/// Finds the call that opens a file without a name, and makes that one fail.
#[test]
fn without_o_tmpfile_temporary_files_have_a_name() {
    let lab = room();
    let words = ["push", "-q", "-i", "r.example/a:v1", "-f", "source", "--to-oci-tar", "out.tar"];
    let strace = |inject: Option<usize>| {
        lab.write("out.tar", "the old file");
        let log = lab.path("trace");
        let mut command = tool("strace");
        command.args(["-f", "-qq", "-e", "trace=openat", "-o"]).arg(&log);
        if let Some(number) = inject {
            command.args(["-e", &format!("inject=openat:error=EOPNOTSUPP:when={number}")]);
        }
        let _ = run(command.arg(PROGRAM).args(words).current_dir(lab.work()).env_clear()).success();
        assert_eq!(lab.read("out.tar"), lab.read("in.tar"));
        std::fs::read_to_string(log).unwrap()
    };
    let log = strace(None);
    let first = log.lines().find(|line| line.contains("O_TMPFILE")).expect("a file without a name is opened");
    let process = first.split(' ').next().unwrap();
    let of_process = |log: &str| -> Vec<String> {
        let lines =
            log.lines().filter(|line| line.split(' ').next() == Some(process) && line.contains("openat("));
        lines.map(str::to_owned).collect()
    };
    let number = of_process(&log).iter().position(|line| line.contains("O_TMPFILE")).unwrap() + 1;
    let log = strace(Some(number));
    let injected: Vec<&str> = log.lines().filter(|line| line.contains("INJECTED")).collect();
    assert!(injected.iter().any(|line| line.contains("O_TMPFILE")), "{injected:?}");
    assert!(!names(&lab, ".").iter().any(|name| name.contains(".imgrelay-")), "{:?}", names(&lab, "."));
}
