//! A folder always gives the same tar: independent of the clock, the user, the machine's settings and how the folder
//! was made.

use std::path::Path;

use testkit::lab::Lab;
use testkit::oracle;
use testkit::tools::{run, tool};
use testkit::tree::{self, Shape};

use crate::lab::lab;
use crate::samples::{NAME, bundle, image};

const WORDS: [&str; 7] = ["push", "-i", NAME, "-f", "app", "--to-oci-tar", "out.tar"];

/// Packs `app` and returns the tar's bytes.
#[track_caller]
fn tar(lab: &Lab) -> Vec<u8> {
    let _ = lab.run(&WORDS).succeeds();
    lab.read("out.tar")
}

/// A random tree with links; the same each time.
fn room() -> Lab {
    let lab = lab();
    tree::grow(&lab.path("app"), 7, Shape { symlinks: true, largest_bytes: 200_000, ..Shape::default() });
    lab
}

#[test]
fn file_order_times_and_owners_do_not_change_the_tar() {
    let first = room();
    let expected = tar(&first);
    oracle::validate_layout(first.path("out.tar"));
    // A copy with another order, other times and inodes: made by tar, newest first.
    let other = lab();
    let script = "cd \"$1\" && find app ! -type d -print0 | sort -zr >list && mkdir -p \"$2/app\" && \
        find app -type d -print0 | sort -zr >folders && \
        tar -c --no-recursion --null -T list -T folders --hard-dereference | tar -x -m -p -C \"$2\"";
    let mut shell = tool("bash");
    let _ = run(shell.arg("-c").arg(script).arg("bash").arg(first.work()).arg(other.work())).success();
    assert_eq!(tree::list(&first.path("app")), tree::list(&other.path("app")), "the copy is one");
    assert_eq!(tar(&other), expected);
    let mut touch = tool("find");
    let _ = run(touch.arg(other.path("app")).args([
        "-exec",
        "touch",
        "-h",
        "-d",
        "2031-05-06 07:08:09",
        "{}",
        "+",
    ]))
    .success();
    assert_eq!(tar(&other), expected);
}

#[test]
fn clock_umask_locale_and_environment_do_not_change_the_tar() {
    let lab = room();
    let expected = tar(&lab);
    let packed = |what: &str, run: testkit::lab::Run<'_>| {
        let _ = run.run().succeeds();
        assert!(lab.read("out.tar") == expected, "{what} made a difference");
        std::fs::remove_file(lab.path("out.tar")).unwrap();
    };
    packed("the umask", lab.command(&WORDS).umask("077"));
    packed("the umask", lab.command(&WORDS).umask("000"));
    for (name, value) in [
        ("LC_ALL", "de_DE.UTF-8"),
        ("LC_ALL", "tr_TR.ISO-8859-9"),
        ("LANG", "C"),
        ("TZ", "Asia/Kathmandu"),
        ("SOURCE_DATE_EPOCH", "1700000000"),
        ("HOME", "/nonexistent"),
        ("GITHUB_ACTIONS", "true"),
        ("IMGRELAY_CONCURRENCY", "1"),
        ("IMGRELAY_PROGRESS", "plain"),
    ] {
        // Without a registry a concurrency is accepted and has no effect.
        packed(name, lab.command(&WORDS).env(name, value));
    }
    packed("the home folder", lab.command(&WORDS).env_remove("HOME"));
}

#[test]
fn another_user_packs_the_same() {
    let lab = room();
    let expected = tar(&lab);
    // Only root may read one of the files, so every file gets its owner's read permission.
    let _ = run(tool("chmod").args(["-R", "u+rwX"]).arg(lab.path("app"))).success();
    let again = tar(&lab);
    let _ = lab.command(&WORDS).as_ordinary_user().run().succeeds();
    assert!(lab.read("out.tar") == again, "the user made a difference");
    assert_ne!(expected.len(), 0);
}

#[test]
fn the_number_of_processors_does_not_change_the_tar() {
    // Above the size from which several threads compress.
    let lab = lab().tree(&["f app/large random:9000000:1", "f app/zeros zeros:20000000", "f app/x 'x'"]);
    for compression in ["gzip", "gzip:1", "gzip:9", "zstd:3", "none"] {
        let words = [&WORDS[..], &["--compression", compression]].concat();
        let _ = lab.run(&words).succeeds();
        let expected = lab.read("out.tar");
        let one = taskset(&lab, &words);
        assert!(one == expected, "{compression}: one processor made a difference");
    }
}

/// Packs on one processor.
fn taskset(lab: &Lab, words: &[&str]) -> Vec<u8> {
    let mut command = tool("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_imgrelay")]).args(words).current_dir(lab.work());
    let _ = run(&mut command).success();
    lab.read("out.tar")
}

#[test]
fn the_spelling_of_a_path_does_not_change_the_tar() {
    let lab = room();
    let expected = tar(&lab);
    let absolute = lab.path("app").into_os_string().into_string().unwrap();
    let lab = lab.tree(&["l alias -> app", "d elsewhere"]);
    let app = lab.path("app");
    let cases: [(&str, &Path); 9] = [
        ("./app", &lab.work()),
        ("./app/", &lab.work()),
        ("app/", &lab.work()),
        ("app//", &lab.work()),
        ("app/.", &lab.work()),
        ("elsewhere/../app", &lab.work()),
        ("alias", &lab.work()),
        (".", &app),
        (&absolute, Path::new("/")),
    ];
    let out = lab.path("elsewhere/out.tar");
    for (path, folder) in cases {
        let words = ["push", "-i", NAME, "-f", path, "--to-oci-tar", out.to_str().unwrap()];
        let _ = lab.command(&words).in_folder(folder).run().succeeds();
        assert!(std::fs::read(&out).unwrap() == expected, "`{path}` made a difference");
    }
}

#[test]
fn standard_output_gets_the_same_bytes_and_nothing_else() {
    let lab = room();
    let expected = tar(&lab);
    let words = ["push", "-i", NAME, "-f", "app", "--to-oci-tar", "-"];
    let output = lab.run(&words).succeeds();
    assert!(
        output.stdout_bytes == expected,
        "{} bytes, expected {}",
        output.stdout_bytes.len(),
        expected.len()
    );
    // A copy has its blobs in the order of the documents; copies of copies stay the same.
    let copy = |from: &str| lab.run(&["copy", "--tar", from, "--to-oci-tar", "-"]).succeeds().stdout_bytes;
    let first = copy("out.tar");
    let _ = lab.run(&["copy", "--tar", "out.tar", "--to-oci-tar", "copy.tar"]).succeeds();
    assert!(first == lab.read("copy.tar"), "standard output made a difference");
    assert!(copy("copy.tar") == first, "a copy of a copy is different");
    oracle::validate_layout(lab.path("copy.tar"));
    assert_eq!(image(&lab.path("copy.tar")), image(&lab.path("out.tar")));
}

#[test]
fn an_older_output_in_the_folder_is_not_packed() {
    let lab = bundle();
    let words = ["push", "-b", NAME, "-f", "app"];
    let _ = lab.run(&[&words[..], &["--to-oci-tar", "out.tar"]].concat()).succeeds();
    let expected = lab.read("out.tar");
    for _ in 0..3 {
        let _ = lab.run(&[&words[..], &["--to-oci-tar", "app/config/out.tar"]].concat()).succeeds();
        assert_eq!(lab.read("app/config/out.tar"), expected);
    }
    // Also by another name: the program follows a link, also for the output.
    let lab = lab.tree(&["l link.tar -> app/config/out.tar"]);
    let _ = lab.run(&[&words[..], &["--to-oci-tar", "link.tar"]].concat()).succeeds();
    assert_eq!(lab.read("app/config/out.tar"), expected);
    assert!(lab.path("link.tar").is_symlink());
}

#[test]
fn names_tags_and_labels_change_what_they_should_and_nothing_else() {
    let lab = bundle();
    let digest = |words: &[&str]| crate::samples::pack(&lab, words, "out.tar");
    let plain = digest(&["-b", "-f", "app"]);
    let unnamed = lab.read("out.tar");
    assert_eq!(digest(&["-b", NAME, "-f", "app"]), plain, "the name is no part of the image");
    assert_ne!(lab.read("out.tar"), unnamed, "but of the tar");
    assert_eq!(digest(&["-b", NAME, "-f", "app", "--tag", "v2"]), plain);
    for words in [
        ["-b", "-f", "app", "-l", "a=b"].as_slice(),
        &["-b", "-f", "app", "--annotation", "a=b"],
        &["-b", "-f", "app", "--platform", "linux/arm64"],
        &["-b", "-f", "app", "--media-types", "docker"],
        &["-b", "-f", "app", "--compression", "zstd"],
        &["-i", "-f", "app/config"],
    ] {
        assert_ne!(digest(words), plain, "{words:?}");
        oracle::validate_layout(lab.path("out.tar"));
    }
}

#[test]
fn a_copy_of_a_packed_tar_is_the_same_tar() {
    let lab = room();
    for (kind, words) in [
        ("an image with a name", &["-i", NAME][..]),
        ("an image with two tags", &["-i", NAME, "--tag", "v2"]),
        ("a bundle without a name", &["-b"]),
        ("docker's types", &["-i", NAME, "--media-types", "docker"]),
        ("zstd", &["-i", NAME, "--compression", "zstd"]),
        ("a source image of layers", &["-s", NAME, "--layers", "auto"]),
    ] {
        lab.write("app/.imgpkg/images.yml", "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\n");
        if kind != "a bundle without a name" {
            std::fs::remove_dir_all(lab.path("app/.imgpkg")).unwrap();
        }
        let _ =
            lab.run(&[&["push"], words, &["-f", "app", "--to-oci-tar", "packed.tar"]].concat()).succeeds();
        let _ = lab.run(&["copy", "--tar", "packed.tar", "--to-oci-tar", "copied.tar"]).succeeds();
        assert!(lab.read("packed.tar") == lab.read("copied.tar"), "{kind}");
        let _ =
            lab.run(&["copy", "--tar", "packed.tar", "--to-oci-tar", "gathered.tar", "--append"]).succeeds();
        assert!(lab.read("packed.tar") == lab.read("gathered.tar"), "{kind}, added to a new tar");
        std::fs::remove_file(lab.path("gathered.tar")).unwrap();
    }
}

#[test]
fn a_tar_comes_back_from_a_registry_with_the_same_blobs_in_the_same_order() {
    let (lab, registry) = (room(), testkit::registry::Registry::start());
    let name = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["push", "-i", &name, "-f", "app", "--to-oci-tar", "packed.tar"]).succeeds();
    let _ = lab.run(&["copy", "--tar", "packed.tar", "--to-repo", &name]).succeeds();
    let _ = lab.run(&["copy", "-i", &name, "--to-oci-tar", "back.tar"]).succeeds();
    assert!(lab.read("packed.tar") == lab.read("back.tar"));
}
