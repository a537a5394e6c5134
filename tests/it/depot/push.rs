//! `push --to-store`: packed straight into a store, with the same digest as through a tar.

use testkit::registry::Registry;

use super::folder::{digest_of, url};
use crate::lab::lab;

#[test]
fn push_to_store_makes_the_image_that_a_tar_has_of_every_kind() {
    let lab = lab();
    let store = url(&lab);
    lab.write("files/content", "one");
    lab.write(
        "bundle/.imgpkg/images.yml",
        "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages: []\n",
    );
    for (tag, words) in [
        ("plain", &["-i", "-f", "files"] as &[&str]),
        ("bundle", &["-b", "-f", "bundle"]),
        ("app", &["-s", "-f", "files"]),
        ("app", &["-s", "-f", "files", "--layers", "auto"]),
        ("runs", &["-i", "-f", "files:/app", "--entrypoint", "/app/content"]),
    ] {
        let (to, tar) = (format!("{store}:{tag}"), ["push", "--to-oci-tar", "image.tar"]);
        let digest = digest_of(lab.run(&[&tar, words].concat()).succeeds().one_line());
        let to = ["push", "--to-store", &to, "--tag", "all", "--json"];
        let pushed = lab.run(&[&to, words].concat()).succeeds().json();
        assert_eq!((&pushed["digest"], &pushed["store"]), (&digest.as_str().into(), &store.as_str().into()));
        assert_eq!(pushed["tags"], serde_json::json!([tag, "all"]));
        let again = lab.run(&[&to, words].concat()).succeeds().json();
        assert_eq!((&again["sent"], &again["pushed"]), (&0.into(), &pushed["pushed"]), "{tag}");
        assert!(
            lab.run(&["verify", "--store", &format!("{store}:all")]).succeeds().one_line().contains(&digest)
        );
    }
    let _ = lab.run(&["pull", "--store", &format!("{store}:plain"), "-o", "out"]).succeeds();
    assert_eq!(lab.read("out/content"), b"one");
}

#[test]
fn push_to_store_takes_the_tag_of_the_name_and_writes_nothing_after_an_error() {
    let (lab, registry) = (lab(), Registry::start());
    let store = url(&lab);
    lab.write("files/content", "one");
    let base = ["push", "-i", &format!("{}/base:v1", registry.host()), "-f", "files"];
    let named = digest_of(lab.run(&base).succeeds().one_line());
    for (name, expected) in [("registry.example/app", "latest"), ("registry.example/app:v1", "v1")] {
        let words = ["push", "-i", name, "-f", "files", "--to-store", &store, "--json"];
        assert_eq!(lab.run(&words).succeeds().json()["tags"], serde_json::json!([expected]));
    }
    // A bundle goes along with the images that it names.
    let lock = format!(
        "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n- image: {}/base@{named}\n",
        registry.host()
    );
    lab.write("bundle/.imgpkg/images.yml", lock);
    let to = format!("{store}:bundle");
    let _ = lab.run(&["push", "-b", "-f", "bundle", "--inflate", "--to-store", &to]).succeeds();
    let described = lab.run(&["describe", "--store", &to]).succeeds();
    assert!(described.stdout.contains(&named), "{}", described.stdout);

    let before = lab.run(&["store", "list", &store]).succeeds();
    let wrong = format!("sha256:{}", "0".repeat(64));
    let inside = format!("file://{}:v1", lab.path("files/store").display());
    for (code, words, expected) in [
        (2, &["-i", "-f", "files", "--to-store", &store] as &[&str], "the image has no tag in `--to-store`"),
        (
            2,
            &["-i", "-f", "files", "--to-store", &to, "--to-oci-tar", "x"],
            "`--to-oci-tar` and `--to-store` exclude",
        ),
        (
            2,
            &["-b", "-f", "bundle", "--to-store", &to, "--lock-output", "x"],
            "`--lock-output` cannot be used with `--to-store`",
        ),
        (3, &["-i", "-f", "files", "--to-store", &to, "--expected-digest", &wrong], "expected"),
        (
            2,
            &["-i", "-f", "files", "--to-store", &inside],
            "`--to-store` is inside of `files`, which is packed",
        ),
    ] {
        let _ = lab.run(&[&["push"], words].concat()).fails(code, &[expected]);
    }
    assert_eq!(lab.run(&["store", "list", &store]).succeeds().stdout, before.stdout);
    assert!(!lab.path("files/store").exists());
}
