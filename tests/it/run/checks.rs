//! Warnings about what will probably not run come before anything is written; signatures of a base do not cover the
//! result.

use testkit::lab::{Lab, Output};

use super::base;
use crate::lab::lab;
use crate::layouts::{REF_NAME, named};

/// The head of a program for a machine, with its dynamic loader.
fn program(machine: u8, loader: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 120];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    head[18] = machine;
    (head[32], head[54], head[56]) = (64, 56, 1);
    head[64] = if loader.is_empty() { 1 } else { 3 };
    (head[72], head[96]) = (120, u8::try_from(loader.len()).unwrap());
    [&head, loader].concat()
}

fn room() -> Lab {
    let lab = lab().tree(&["f amd 755 ''", "f arm 755 ''", "f dynamic 755 ''", "f text 644 'x'", "d web"]);
    for (name, bytes) in [
        ("amd", program(62, b"")),
        ("arm", program(183, b"")),
        ("dynamic", program(62, b"/lib64/ld-linux-x86-64.so.2\0")),
    ] {
        std::fs::write(lab.path(name), bytes).unwrap();
    }
    let _ = base(&lab);
    lab
}

fn push(lab: &Lab, words: &[&str]) -> Output {
    lab.run(&[&["push", "-i"], words, &["--to-oci-tar", "made.tar"]].concat()).succeeds()
}

#[test]
fn a_program_for_another_machine_is_named() {
    let lab = room();
    let _ = push(&lab, &["-f", "arm:/arm", "-f", "amd:/amd"])
        .says("the image is for `linux/amd64`, but `arm` is for `arm64`")
        .never_says("`amd` is for");
    let _ = push(&lab, &["-f", "arm:/arm", "--platform", "linux/arm64"]).never_says("is for `arm64`");
}

#[test]
fn an_entrypoint_that_will_not_start_is_named() {
    let lab = room();
    for (words, problem) in [
        (&["-f", "amd:/amd", "--entrypoint", "/srv"][..], Some("`/srv`: it is in no layer")),
        (&["-f", "amd:/amd", "--entrypoint", "amd"], Some("`amd`: it is in no layer")),
        (
            &["-f", "text:/srv", "--entrypoint", "/srv"],
            Some("`/srv`: its user has no permission to execute it"),
        ),
        (&["-f", "web:/srv", "--entrypoint", "/srv"], Some("`/srv`: it is not a file")),
        (
            &["-f", "amd:/srv", "--mode", "0700", "--user", "65532", "--entrypoint", "/srv"],
            Some("`/srv`: its user has no permission to execute it"),
        ),
        (&["-f", "amd:/srv", "--mode", "0700", "--owner", "7", "--user", "7", "--entrypoint", "/srv"], None),
        (&["-f", "amd:/usr/bin/srv", "--entrypoint", "srv"], None),
        (&["-f", "amd:/app/srv", "--workdir", "/app", "--entrypoint", "./srv"], None),
        // The base's files count too, through its links and its search path.
        (
            &["--base-tar", "base.tar", "-f", "amd:/amd", "--cmd", "/bin/tool"],
            Some("`/bin/tool`: its user has no permission to execute"),
        ),
        (&["--base-tar", "base.tar", "--cmd", "/bin/missing"], Some("`/bin/missing`: it is in no layer")),
    ] {
        let output = push(&lab, words);
        let _ = match problem {
            Some(problem) => output.says(&format!("a container will not start {problem}")),
            None => output.never_says("will not start"),
        };
    }
}

#[test]
fn files_that_the_user_cannot_read_are_counted() {
    let lab =
        lab().tree(&["f app/open 644 'x'", "d app/shut 700", "f app/shut/a 644 'x'", "f app/shut/b 600 'x'"]);
    let said = |words: &[&str]| {
        let output = push(&lab, &[&["-f", "app:/app/"], words].concat());
        output.stderr.lines().find(|line| line.contains("cannot read")).map(str::to_owned)
    };
    assert_eq!(
        said(&["--user", "65532", "--preserve-permissions"]).as_deref(),
        Some(
            "imgrelay: warning: the image's user `65532` cannot read 2 packed files, `/app/shut/a` first; give them \
             permissions with `--mode 0644` or an owner with `--owner UID:GID`"
        )
    );
    assert_eq!(
        said(&["--user", "65532", "--mode", "0600"]).map(|line| line.contains("3 packed files")),
        Some(true)
    );
    for words in [
        &["--user", "65532"][..],
        &["--user", "0:0", "--mode", "keep"],
        &["--user", "65532", "--owner", "65532", "--mode", "keep"],
    ] {
        assert_eq!(said(words), None, "{words:?}");
    }
}

#[test]
fn a_missing_loader_is_named() {
    let lab = room();
    let loader = "`dynamic` needs the dynamic loader `/lib64/ld-linux-x86-64.so.2`";
    let _ = push(&lab, &["-f", "dynamic:/srv", "--entrypoint", "/srv"]).says(loader);
    let words = ["-f", "dynamic:/srv", "-f", "amd:/lib64/ld-linux-x86-64.so.2", "--entrypoint", "/srv"];
    let _ = push(&lab, &words).never_says("loader");
}

#[test]
fn signatures_of_a_base_do_not_cover_the_result() {
    let lab = lab().tree(&["f amd 755 'x'"]);
    let mut layout = base(&lab);
    let digest = layout.entries[0]["digest"].as_str().unwrap().replace(':', "-");
    let signature = layout.image(&[testkit::tarball::Tarball::new().file("s", "s").finish()]);
    layout.entries.push(named(signature, &[(REF_NAME, &format!("{digest}.sig"))]));
    lab.write("base.tar", layout.tar());
    let _ = push(&lab, &["--base-tar", "base.tar", "-f", "amd:/amd"])
        .says("1 signature of the base does not cover the new image");
    // The signature cannot be selected as the base, and is not in the result.
    assert_eq!(super::Made::read(&lab, "made.tar").layers(), 2);
}
