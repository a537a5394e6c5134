//! Errors of packing and writing: message, hint, exit code, and an unchanged working folder.

use std::os::unix::net::UnixListener;

use testkit::lab::{Lab, Output, Run};
use testkit::registry::Registry;

use crate::samples::{BUNDLE, bundle, packed};

/// Checks exit code, messages and hint of a command, and that the working folder is unchanged, also an older output.
#[track_caller]
pub(crate) fn refused(lab: &Lab, run: Run<'_>, code: i32, texts: &[&str]) -> Output {
    let before = lab.list();
    let output = run.run().fails(code, texts);
    assert_eq!(output.stderr.matches("imgrelay: error: ").count(), 1, "one error\n{output}");
    // A usage error has no hint: its message has the rule.
    assert!(code == 2 || output.stderr.contains("\n  hint: "), "no hint\n{output}");
    assert_eq!(lab.list(), before, "something has changed\n{output}");
    output
}

/// A lab with the bundle, more entries, and an older `out.tar`.
fn room(more: &[&str]) -> Lab {
    bundle().tree(more).tree(&["f out.tar 'the older output'"])
}

const LOCK_FIELD: &str = "f app/.imgpkg/images.yml \
    'apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock\\nimages:\\n- imgae: x\\n'";
const LOCK_TAG: &str = "f app/.imgpkg/images.yml \
    'apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock\\nimages:\\n- image: nginx:1.25\\n'";
const LOCK_KIND: &str = "f app/.imgpkg/images.yml \
    'apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: BundleLock\\nimages: []\\n'";
const SECOND: &str = "f two/.imgpkg/images.yml \
    'apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock\\nimages: []\\n'";

#[test]
fn what_cannot_be_packed_is_named_and_nothing_is_written() {
    /// Entries that are added to the lab, arguments of `push`, the message.
    type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (&[], &["-f", "missing"], &["cannot read `missing`: No such file or directory"]),
        (&[], &["-f", "app", "-f", "app/missing"], &["cannot read `app/missing`"]),
        (&[], &["-f", "app/data/x"], &["cannot read `app/data/x`: Not a directory"]),
        (&["p app/pipe"], &["-f", "app"], &["`app/pipe` is a named pipe (FIFO), expected a regular file"]),
        (&["p pipe"], &["-f", "pipe"], &["`pipe` is a named pipe (FIFO)"]),
        (&[], &["-i", "-f", "/dev/null"], &["`/dev/null` is a character device"]),
        (&["l app/l -> /etc/passwd"], &["-f", "app"], &["`app/l` -> `/etc/passwd`", "absolute path"]),
        (&["l app/l -> ../out.tar"], &["-f", "app"], &["`app/l` -> `../out.tar`", "outside the folder"]),
        (
            &["l app/l -> empty/up/out.tar", "l app/empty/up -> ../.."],
            &["-f", "app"],
            &["outside the folder that is packed"],
        ),
        (
            &["l app/l -> ../out.tar"],
            &["-f", "app", "--symlinks", "copy"],
            &["outside the folder that is packed"],
        ),
        (&["l app/l -> data"], &["-f", "app", "--symlinks", "refuse"], &["`app/l` -> `data`", "refused"]),
        (
            &["l app/l -> nowhere"],
            &["-f", "app", "--symlinks", "copy"],
            &["app/l` -> `nowhere`", "does not exist"],
        ),
        (&["l app/l -> ."], &["-f", "app", "--symlinks", "copy"], &["app/l` -> `.`", "never ends"]),
        (&["f app/.wh.data"], &["-f", "app"], &["`app/.wh.data` would act as a whiteout"]),
        (&["f app/bin/.wh..wh..opq"], &["-f", "app"], &["`app/bin/.wh..wh..opq` would act as a whiteout"]),
        (&["d app/.wh.d"], &["-f", "app"], &["`app/.wh.d` would act as a whiteout"]),
        (&["f .wh.x"], &["-i", "-f", ".wh.x"], &["`.wh.x` would act as a whiteout"]),
        (&["d two"], &["-b", "-f", "two"], &["none of the given paths has a `.imgpkg/images.yml`: `two`"]),
        (&["d two/.imgpkg"], &["-b", "-f", "two"], &["`two/.imgpkg/images.yml` does not exist"]),
        (
            &[SECOND],
            &["-b", "-f", "app,two"],
            &["more than one bundle definition: `app/.imgpkg`, `two/.imgpkg`"],
        ),
        (
            &["f app/sub/.imgpkg/images.yml"],
            &["-b", "-f", "app"],
            &["`app/sub/.imgpkg` is a second bundle definition, expected only `app/.imgpkg`"],
        ),
        (&[], &["-b", "-f", "app/.imgpkg"], &["is inside a `.imgpkg` folder, expected its parent"]),
        (&[], &["-i", "-f", "app"], &["`app/.imgpkg` makes this a bundle"]),
        (&[LOCK_FIELD], &["-f", "app"], &["`app/.imgpkg/images.yml`", "line 4", "unknown field `imgae`"]),
        (&[LOCK_TAG], &["-f", "app"], &["line 4", "`image` must be a digest reference", "`nginx:1.25`"]),
        (
            &[LOCK_KIND],
            &["-f", "app"],
            &["`app/.imgpkg/images.yml`", "line 2: `kind` is `BundleLock`, expected `ImagesLock`"],
        ),
        (&["f two/data"], &["-f", "app,two"], &["`data` is in more than one of the given paths"]),
    ];
    for (more, words, texts) in cases {
        let lab = room(more);
        let words = [&["push"], *words, &["--to-oci-tar", "out.tar"]].concat();
        let _ = refused(&lab, lab.command(&words), 1, texts);
    }
}

#[test]
fn a_socket_is_refused() {
    let lab = room(&[]);
    let _socket = UnixListener::bind(lab.path("app/socket")).unwrap();
    let words = ["push", "-f", "app", "--to-oci-tar", "out.tar"];
    let _ = refused(&lab, lab.command(&words), 1, &["`app/socket` is a socket, expected a regular file"]);
}

#[test]
fn file_exclusion_skips_unreadable_files_too() {
    let lab = room(&["p app/pipe", "l app/l -> /etc", "f app/.wh.x"]);
    let words = ["push", "-f", "app", "--to-oci-tar", "out.tar", "--file-exclusion", "pipe,l,.wh.x"];
    let _ = lab.run(&words).succeeds();
}

#[test]
fn unreadable_files_and_folders_are_named() {
    for (entry, message) in [
        ("f app/secret 000 'x'", "cannot open `app/secret`: Permission denied"),
        ("d app/closed 000", "cannot open directory `app/closed`: Permission denied"),
    ] {
        let lab = room(&[entry]);
        let words = ["push", "-f", "app", "--to-oci-tar", "out.tar"];
        let before = std::fs::read(lab.path("out.tar")).unwrap();
        let output = lab.command(&words).as_ordinary_user().run().fails(1, &[message, "\n  hint: "]);
        assert_eq!(std::fs::read(lab.path("out.tar")).unwrap(), before, "{output}");
    }
}

#[test]
fn a_tree_too_deep_to_extract_is_refused_and_one_level_less_is_not() {
    // Deeper than the system's longest path, and more levels than the limit of open files.
    let deep = |levels: usize| {
        let lab = room(&[]);
        let script = format!(
            "import os\nos.mkdir('deep')\nos.chdir('deep')\nfor _ in range({levels}): os.mkdir('d'); os.chdir('d')"
        );
        let mut command = testkit::tools::tool("python3");
        let _ = testkit::tools::run(command.arg("-c").arg(script).current_dir(lab.work())).success();
        lab
    };
    let words = ["push", "-f", "deep", "--to-oci-tar", "out.tar"];
    let lab = deep(511);
    let _ = lab.run(&words).succeeds();
    let _ = lab.run(&["pull", "--tar", "out.tar", "-o", "back"]).succeeds();
    for levels in [512, 3000] {
        let lab = deep(levels);
        let output = lab.run(&words).fails(1, &["is nested too deeply: more than 512 folders", "\n  hint: "]);
        assert!(output.stderr.len() < 600, "{output}");
        assert_eq!(lab.read("out.tar"), b"the older output");
        remove_deep(&lab);
    }
}

#[test]
fn a_folder_that_cannot_be_renamed_is_filled_entry_by_entry() {
    // A mount point, like volumes of containers; its files are listed inside the mount namespace.
    let (lab, _) = packed();
    let lab = lab.tree(&["f app/.hidden", "d disk"]);
    let _ = lab.run(&["push", "-b", "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    for words in [
        ["pull", "--tar", "app.tar", "-o", "disk"].as_slice(),
        &["pull", "--tar", "app.tar", "-o", "disk", "--force"],
    ] {
        let output = lab.command(words).small_disk(lab.path("disk"), "1m").run().succeeds();
        assert_eq!(output.on_disk, [".hidden", ".imgpkg", "bin", "config", "data", "empty"], "{output}");
    }
    // A folder of the user in a folder of another user.
    let lab = lab.tree(&["f closed/out/older", "d closed 555"]);
    let before = lab.list();
    let _ = lab
        .command(&["pull", "--tar", "app.tar", "-o", "closed/out"])
        .as_ordinary_user()
        .run()
        .fails(1, &["is not empty"]);
    assert_eq!(lab.list(), before);
    let force = ["pull", "--tar", "app.tar", "-o", "closed/out", "--force"];
    let _ = lab.command(&force).as_ordinary_user().run().succeeds();
    let listed = testkit::tree::list_contents(&lab.path("closed/out"));
    assert_eq!(listed, testkit::tree::list_contents(&lab.path("app")));
}

#[test]
fn an_output_on_a_file_that_is_a_mount_point_is_refused_with_what_to_do() {
    let (lab, _) = packed();
    lab.write("out.tar", "the older output");
    lab.write("result.json", "the older result");
    let script = "mount --bind out.tar out.tar && mount --bind result.json result.json && exec \"$@\"";
    let push = ["push", "-f", "app", "--to-oci-tar"];
    for (more, what) in
        [(&["out.tar"][..], "out.tar"), (&["x.tar", "--result", "json:result.json"], "result.json")]
    {
        let mut command = testkit::tools::tool("unshare");
        command.args([
            "--mount",
            "--map-root-user",
            "sh",
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_imgrelay"),
        ]);
        let output = command.args(push).args(more).current_dir(lab.work()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("`{what}`: Device or resource busy")), "{told}");
        assert!(
            told.contains("hint: the path is a mount point, which cannot be replaced: mount the folder"),
            "{told}"
        );
    }
    assert_eq!(lab.read("out.tar"), b"the older output");
    assert_eq!(lab.read("result.json"), b"the older result");
    assert!(!lab.list().contains(".imgrelay-"), "{}", lab.list());
}

/// Removes folders that are too deep for the lab's removal.
fn remove_deep(lab: &Lab) {
    let mut command = testkit::tools::tool("rm");
    let _ = testkit::tools::run(command.arg("-rf").arg(lab.path("deep"))).success();
}

#[test]
fn a_reference_or_tag_that_is_not_valid_is_refused_before_anything_is_sent() {
    let registry = Registry::start();
    let host = registry.host();
    for (reference, rest, texts) in [
        (format!("{host}/Team/app"), vec![], ["repository", "lower-case letters"]),
        (format!("{host}/team//app"), vec![], ["repository", "is not valid"]),
        (format!("{host}/team/app:-v1"), vec![], ["tag `-v1` is not valid", "letters, digits"]),
        (format!("{host}/team/app:{}", "x".repeat(129)), vec![], ["is not valid", "128"]),
        (format!("http://{host}/team/app"), vec![], ["URL scheme", "`http://"]),
        (
            format!("{host}/app@sha256:{}", "0".repeat(64)),
            vec![],
            ["has a digest", "expected `registry/repository:tag`"],
        ),
        (
            format!("{host}/team/app:v1"),
            vec!["--tag", "ok,no way"],
            ["`--tag`: tag `no way` is not valid", "letters"],
        ),
    ] {
        let (lab, _) = packed();
        let push = [&["push", "-b", &reference, "-f", "app"], rest.as_slice()].concat();
        let _ = refused(&lab, lab.command(&push), 2, &texts);
        let copy = [&["copy", "--tar", "app.tar", "--to-repo", &reference], rest.as_slice()].concat();
        if !reference.contains('@') {
            let _ = refused(&lab, lab.command(&copy), 2, &texts[..1]);
        }
    }
    assert_eq!(registry.requests(), []);
}

#[test]
fn an_output_that_cannot_be_written_is_refused_and_an_older_one_stays() {
    for (more, target, texts) in [
        (&[][..], "no/such/out.tar", &["cannot open directory `no/such`: No such file"][..]),
        (&[], "app", &["cannot write `app`: it is a directory"]),
        (&[], "app/", &["cannot write `app/`: it is a directory"]),
        (&["p pipe"], "pipe", &["cannot write `pipe`", "a device, pipe or socket"]),
        (&[], "/dev/full", &["cannot write `/dev/full`"]),
        (&[], "out.tar/x", &["cannot open directory `out.tar`: Not a directory"]),
        (&["l dangling -> no/such"], "dangling", &["cannot follow `dangling`"]),
    ] {
        let lab = room(more);
        let _ = refused(&lab, lab.command(&["push", "-f", "app", "--to-oci-tar", target]), 1, texts);
        let (lab, _) = packed();
        let lab = lab.tree(more).tree(&["f out.tar"]);
        let _ = refused(&lab, lab.command(&["copy", "--tar", "app.tar", "--to-oci-tar", target]), 1, texts);
    }
}

#[test]
fn a_read_only_folder_takes_no_output() {
    let (lab, _) = packed();
    let lab = lab.tree(&["f closed/out.tar 'the older output'", "d closed 555"]);
    for words in [
        ["push", "-f", "app", "--to-oci-tar", "closed/out.tar"].as_slice(),
        &["push", "-f", "app", "--to-oci-tar", "closed/new.tar"],
        &["copy", "--tar", "app.tar", "--to-oci-tar", "closed/out.tar"],
        &["pull", "--tar", "app.tar", "-o", "closed/out"],
    ] {
        let run = lab.command(words).as_ordinary_user();
        let _ = refused(&lab, run, 1, &["`", "closed", "Permission denied", "check the owner and mode"]);
    }
    assert_eq!(lab.read("closed/out.tar"), b"the older output");
}

#[test]
fn a_full_disk_is_reported_and_no_file_is_left() {
    let (lab, _) = packed();
    let lab = lab.tree(&["f app/large random:300000:1"]);
    let _ = lab.run(&["push", "-f", "app", "--to-oci-tar", "large.tar"]).succeeds();
    for words in [
        ["push", "-f", "app", "--to-oci-tar", "disk/out.tar"].as_slice(),
        &["copy", "--tar", "large.tar", "--to-oci-tar", "disk/out.tar"],
        &["pull", "--tar", "large.tar", "-o", "disk/out"],
        &["pull", "--tar", "large.tar", "-o", "disk", "--force"],
    ] {
        let run = lab.command(words).small_disk(lab.path("disk"), "128k");
        let output = run.run().fails(1, &["No space left on device", "hint: free some space"]);
        assert!(output.stderr.contains("`disk/") || output.stderr.contains("extract `large`"), "{output}");
        assert_eq!(output.on_disk, [""; 0], "{output}");
    }
    // Output for standard output or for a push is spooled in the temporary folder.
    for words in [
        ["push", "-f", "app", "--to-oci-tar", "-"].as_slice(),
        &["push", "-b", "127.0.0.1:1/app", "-f", "app"],
    ] {
        let run = lab.command(words).small_disk(lab.path("disk"), "128k").env("TMPDIR", lab.path("disk"));
        let output = run.run().fails(1, &["disk", "No space left on device", "hint: free some space"]);
        assert_eq!(output.on_disk, [""; 0], "{output}");
    }
    let full = lab.command(&["push", "-f", "app", "--to-oci-tar", "-"]).stdout_to("/dev/full");
    let _ = full.run().fails(1, &["standard output", "No space left on device"]);
}

#[test]
fn a_signal_while_packing_leaves_the_older_output() {
    let lab = room(&["f app/huge zeros:3000000000"]);
    let before = std::fs::read(lab.path("out.tar")).unwrap();
    let names = |lab: &Lab| {
        let mut names: Vec<_> =
            std::fs::read_dir(lab.work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let listed = names(&lab);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut running = lab.command(&["push", "-f", "app", "--to-oci-tar", "out.tar"]).spawn();
        running.wait_until("opening the file", |running| has_open(running.id(), "app/huge"));
        running.signal(signal);
        let _ = running.wait().fails(code, &["stopped by SIG"]);
        assert_eq!(names(&lab), listed);
        assert_eq!(std::fs::read(lab.path("out.tar")).unwrap(), before);
    }
}

/// Tells whether a process has a file open whose path ends like this.
pub(crate) fn has_open(process: u32, ending: &str) -> bool {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.ends_with(ending))
}

#[test]
fn the_bundle_of_these_tests_is_sound() {
    assert_eq!(BUNDLE.len(), 5);
    let (lab, digest) = packed();
    let _ = lab.run(&["verify", "--tar", "app.tar", "--expected-digest", &digest]).succeeds();
}
