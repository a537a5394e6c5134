//! The main job, command by command: packed without a network, relayed as one file, pushed later.

use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::tree::{self, Shape};

use crate::lab::lab;
use crate::samples::{NAME, bundle, digest_in, image};

/// Runs without a network, and checks that the program makes no network call.
#[track_caller]
fn offline(lab: &Lab, words: &[&str]) -> testkit::lab::Output {
    let output = lab.command(words).traced("socket,connect,bind,sendto").run().succeeds();
    assert_eq!(output.trace, "", "a socket was opened (a pair of them, for signals, is none)\n{output}");
    output
}

#[test]
fn a_folder_is_packed_carried_and_pushed_with_one_digest() {
    let lab = bundle();
    let registry = Registry::start();
    let repository = format!("{}/team/app", registry.host());
    let packed = offline(&lab, &["push", "-b", NAME, "-f", "app", "--to-oci-tar", "app.tar"]);
    let digest = digest_in(packed.one_line()).to_owned();
    assert_eq!(packed.one_line(), format!("app.tar@{digest}"));

    let described = offline(&lab, &["describe", "--tar", "app.tar"]);
    let found = image(&lab.path("app.tar"));
    // The digest of a layer is shortened, so that the line fits a terminal.
    for text in ["Bundle", NAME, &digest, &found.layer[..19], "linux/amd64", "dev.carvel.imgpkg.bundle=true"]
    {
        assert!(described.stdout.contains(text), "{text}\n{described}");
    }
    let verified = offline(&lab, &["verify", "--tar", "app.tar", "--expected-digest", &digest]);
    assert_eq!(verified.one_line(), format!("app.tar@{digest} ({NAME}): verified"));

    let pulled = offline(&lab, &["pull", "--tar", "app.tar", "-o", "out"]);
    assert_eq!(digest_in(pulled.one_line()), digest);
    assert_eq!(tree::list_contents(&lab.path("out")), tree::list_contents(&lab.path("app")));

    let copied = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &repository]).succeeds();
    assert_eq!(copied.one_line(), format!("{repository}@{digest}"));
    assert_eq!(registry.storage().tags("team/app").get("v1"), Some(&digest), "the tag is kept");
    registry.storage().assert_sound();

    let again = lab.run(&["pull", "-b", &format!("{repository}:v1"), "-o", "out2"]).succeeds();
    assert_eq!(again.one_line(), format!("{repository}@{digest}"));
    assert_eq!(tree::list(&lab.path("out2")), tree::list(&lab.path("out")));
}

#[test]
fn a_relay_of_many_stages_changes_nothing() {
    let lab = lab();
    tree::grow(&lab.path("app"), 11, Shape { symlinks: true, ..Shape::default() });
    let registries = [Registry::start(), Registry::with().tls().start()];
    let ca = registries[1].ca_path();
    let (first, second) = (format!("{}/a", registries[0].host()), format!("{}/b/c", registries[1].host()));
    let digest =
        digest_in(offline(&lab, &["push", "-i", NAME, "-f", "app", "--to-oci-tar", "1.tar"]).one_line())
            .to_owned();
    for words in [
        ["copy", "--tar", "1.tar", "--to-repo", &first].as_slice(),
        &["copy", "-i", &format!("{first}:v1"), "--to-oci-tar", "2.tar"],
        &["copy", "--oci-tar", "2.tar", "--to-repo", &second],
        &["copy", "-i", &format!("{second}@{digest}"), "--to-repo", &first, "--tag", "back"],
        &["copy", "-i", &format!("{second}:v1"), "--to-oci-tar", "3.tar"],
        &["verify", "--tar", "3.tar", "--expected-digest", &digest],
    ] {
        let output = lab.command(words).env("SSL_CERT_FILE", &ca).run().succeeds();
        assert!(output.stdout.contains(&digest), "{output}");
    }
    assert_eq!(image(&lab.path("3.tar")), image(&lab.path("1.tar")));
    assert_eq!(registries[0].storage().tags("a").get("back"), Some(&digest));
    for tar in ["1.tar", "3.tar"] {
        let _ = lab.run(&["pull", "--tar", tar, "-o", &format!("from-{tar}")]).succeeds();
    }
    assert_eq!(tree::list(&lab.path("from-1.tar")), tree::list(&lab.path("from-3.tar")));
    assert_eq!(tree::list_contents(&lab.path("from-1.tar")), tree::list_contents(&lab.path("app")));
}

#[test]
fn tars_pass_through_pipes() {
    let lab = bundle();
    let written = offline(&lab, &["push", "-b", NAME, "-f", "app", "--to-oci-tar", "-"]);
    let digest = digest_in(written.stderr.lines().last().unwrap()).to_owned();
    for words in [
        ["verify", "--tar", "/dev/stdin"].as_slice(),
        &["describe", "--tar", "/dev/stdin"],
        &["pull", "--tar", "/dev/stdin", "-o", "out"],
        &["copy", "--tar", "/dev/stdin", "--to-oci-tar", "copy.tar"],
    ] {
        let output = lab.command(words).stdin(&written.stdout_bytes).run().succeeds();
        assert!(output.stdout.contains(&digest), "{output}");
    }
    assert_eq!(image(&lab.path("copy.tar")).manifest, digest);
}

#[test]
fn modes_after_a_pull_are_imgpkgs_with_any_umask() {
    let lab = lab().tree(&["f x/run 755 '1'", "f x/text 640 '2'", "f x/read 400 '3'", "d x/d 750"]);
    let pulled = |words: &[&str], umask: &str| {
        let _ = lab.run(&[&["push", "-i", "-f", "x", "--to-oci-tar", "x.tar"], words].concat()).succeeds();
        let pull = ["pull", "--tar", "x.tar", "-o", "out", "--force"];
        let _ = lab.command(&pull).umask(umask).run().succeeds();
        let modes = |line: &str| line.split(' ').take(3).collect::<Vec<_>>().join(" ");
        tree::list(&lab.path("out")).lines().map(modes).collect::<Vec<_>>()
    };
    // The owner's permissions for every user, reduced by the umask.
    let all = ["d d 777", "f read 444", "f run 777", "f text 666"];
    assert_eq!(pulled(&[], "000"), all);
    let usual = ["d d 755", "f read 444", "f run 755", "f text 644"];
    assert_eq!(pulled(&[], "022"), usual);
}
