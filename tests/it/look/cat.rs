//! `cat` prints one file after its layer was verified, and follows no link out of the image.

use testkit::registry::Registry;
use testkit::tarball::Tarball;

use super::stacks;
use crate::lab::lab;

#[test]
fn cat_prints_the_file_that_a_container_would_see() {
    let lab = lab();
    stacks::write(&lab, "app.tar", &stacks::three());
    let registry = Registry::start();
    let name = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &name]).succeeds();
    for (path, expected) in [
        ("/etc/os-release", "ID=next\n"),
        ("etc/alias", "ID=next\n"),
        ("/etc/out", "ID=next\n"),
        ("/bin/sh", "shell"),
        ("old/new", "new"),
    ] {
        assert_eq!(lab.run(&["cat", "--tar", "app.tar", path]).succeeds().stdout, expected, "{path}");
        assert_eq!(lab.run(&["cat", "-i", &name, path]).succeeds().stdout, expected, "{path}");
    }
    let linked = lab.run(&["cat", "--tar", "app.tar", "/app2"]).succeeds();
    assert_eq!(linked.stdout.as_bytes(), [7; 3000], "a hard link to a file of the same layer");
}

#[test]
fn cat_says_why_there_is_nothing_to_print() {
    let lab = lab();
    let tar =
        Tarball::new().dir("d/").symlink("loop", "loop").symlink("away", "../../etc/passwd").file("f", "f");
    let fifo = testkit::tarball::Header::new("pipe", b'6', 0);
    stacks::write(&lab, "app.tar", &[tar.entry(&fifo, b"").hardlink("h", "none").finish()]);
    for (path, expected) in [
        ("/d", "`/d` in `app.tar` is a folder, expected a file"),
        ("/loop", "leads through more than 40 links"),
        ("/away", "the image in `app.tar` has no `/away`"),
        ("/pipe", "is a named pipe, expected a file"),
        ("/h", "is a hard link to a missing file"),
        ("/no", "the image in `app.tar` has no `/no`"),
    ] {
        let failed = lab.run(&["cat", "--tar", "app.tar", path]).fails(1, &[expected]);
        assert_eq!(failed.stdout, "", "{path}");
    }
    let _ = lab.run(&["cat", "--tar", "app.tar"]).fails(2, &["no file was given"]);
    let _ =
        lab.run(&["cat", "--json", "--tar", "app.tar", "f"]).ends_with(2).says("cannot be printed as JSON");
}
