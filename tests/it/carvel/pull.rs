//! `pull` of bundles, also nested ones: lock files name the images' new repository; round-trips.

use std::os::unix::fs::PermissionsExt as _;

use testkit::registry::Registry;

use crate::carvel::copy::nested;
use crate::carvel::{HEADER, bundle, dashed, digest, image, images_lock};
use crate::lab::{Lab, lab};

fn text(lab: &Lab, path: &str) -> String {
    String::from_utf8(lab.read(path)).unwrap()
}

#[test]
fn a_bundle_that_was_never_copied_keeps_its_lock_file_byte_for_byte() {
    let (lab, source) = (lab(), Registry::start());
    let (_, _, inner, outer) = nested(&lab, source.host());
    let _ = lab.run(&["pull", "-b", &outer, "-o", "out", "-r"]).succeeds();
    assert_eq!(lab.read("out/.imgpkg/images.yml"), lab.read("outer/.imgpkg/images.yml"));
    let folder = format!("out/.imgpkg/bundles/{}", dashed(&inner));
    assert_eq!(lab.read(&format!("{folder}/.imgpkg/images.yml")), lab.read("inner/.imgpkg/images.yml"));
    assert_eq!(text(&lab, &format!("{folder}/config.yml")), "name: inner\n");
    assert_eq!(std::fs::read_dir(lab.path("out/.imgpkg/bundles")).unwrap().count(), 1);

    let _ = lab.run(&["pull", "-b", &outer, "-o", "flat"]).succeeds();
    assert!(!lab.path("flat/.imgpkg/bundles").exists());
}

#[test]
fn pull_of_a_copied_bundle_rewrites_the_lock_to_its_repository() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let (one, two, inner, outer) = nested(&lab, source.host());
    let to = format!("{}/dst", target.host());
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &to, "--lock-output", "lock.yml"]).succeeds();
    source.stop();
    let _ = lab.run(&["pull", "--lock", "lock.yml", "-o", "out", "--recursive"]).succeeds();
    let at = |reference: &str| format!("{to}@{}", digest(reference));
    let lock = |images: &[&str]| {
        let mut lock = "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n".to_owned();
        for (number, image) in images.iter().enumerate() {
            lock.push_str(&format!("- annotations:\n    number: \"{number}\"\n  image: {}\n", at(image)));
        }
        lock + "kind: ImagesLock\n"
    };
    assert_eq!(text(&lab, "out/.imgpkg/images.yml"), lock(&[&inner, &one]));
    let folder = format!("out/.imgpkg/bundles/{}", dashed(&inner));
    assert_eq!(text(&lab, &format!("{folder}/.imgpkg/images.yml")), lock(&[&two, &one]));
}

#[test]
fn pull_without_locations_finds_images_beside_the_bundle_all_or_nothing() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    let (one, two) = (image(&lab, &format!("{host}/one"), "one"), image(&lab, &format!("{host}/two"), "two"));
    let name = format!("{host}/b:v1");
    let _ = bundle(&lab, &name, "b", &[&one, &two]);
    let same = |tag: &str| {
        let _ = lab.run(&["pull", "-b", &name, "-o", tag]).succeeds();
        lab.read(&format!("{tag}/.imgpkg/images.yml")) == lab.read("b/.imgpkg/images.yml")
    };
    assert!(same("none"));
    let _ = lab.run(&["copy", "-i", &one, "--to-repo", &format!("{host}/b")]).succeeds();
    assert!(same("half"));
    let _ = lab.run(&["copy", "-i", &two, "--to-repo", &format!("{host}/b")]).succeeds();
    assert!(!same("all"));
    assert!(text(&lab, "all/.imgpkg/images.yml").contains(&format!("{host}/b@{}", digest(&two))));
}

#[test]
fn tars_are_pulled_without_any_registry() {
    let (lab, mut source) = (lab(), Registry::start());
    let (_, _, inner, outer) = nested(&lab, source.host());
    let _ = lab.run(&["copy", "-b", &outer, "--to-oci-tar", "o.tar"]).succeeds();
    let _ = lab.run(&["copy", "-b", &outer, "--to-tar", "i.tar"]).succeeds();
    source.stop();
    for tar in ["o", "i"] {
        let _ = lab.run(&["pull", "--tar", &format!("{tar}.tar"), "-o", tar, "-r"]).succeeds();
        assert_eq!(lab.read(&format!("{tar}/.imgpkg/images.yml")), lab.read("outer/.imgpkg/images.yml"));
        assert!(lab.path(format!("{tar}/.imgpkg/bundles/{}/config.yml", dashed(&inner))).exists());
    }
}

#[test]
fn pull_and_push_give_the_same_digest() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    let one = image(&lab, &format!("{host}/one"), "one");
    for (folder, images) in [("some", vec![one.as_str()]), ("none", vec![])] {
        let lab_folder = format!("b-{folder}");
        lab.write(&format!("{lab_folder}/.imgpkg/images.yml"), images_lock(&images) + "# a remark\n");
        lab.write(&format!("{lab_folder}/run.sh"), "#!/bin/sh\n");
        std::fs::set_permissions(
            lab.path(format!("{lab_folder}/run.sh")),
            std::fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        std::fs::create_dir(lab.path(format!("{lab_folder}/empty"))).unwrap();
        std::os::unix::fs::symlink("run.sh", lab.path(format!("{lab_folder}/link"))).unwrap();
        let name = format!("{host}/{folder}:v1");
        let first = lab.run(&["push", "-b", &name, "-f", &lab_folder]).succeeds();
        let _ = lab.run(&["pull", "-b", &name, "-o", folder]).succeeds();
        let second = lab.run(&["push", "-b", &name, "-f", folder]).succeeds();
        assert_eq!(first.one_line(), second.one_line());
    }
}

#[test]
fn include_limits_a_pull_to_some_paths() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    lab.write("b/.imgpkg/images.yml", format!("{HEADER}images: []\n"));
    lab.write("b/config/a.yml", "a");
    lab.write("b/config/sub/b.yml", "b");
    lab.write("b/other", "o");
    let name = format!("{host}/b:v1");
    let _ = lab.run(&["push", "-b", &name, "-f", "b"]).succeeds();
    let _ = lab.run(&["pull", "-b", &name, "-o", "out", "--include", "config"]).succeeds();
    assert!(lab.path("out/config/sub/b.yml").exists());
    assert!(!lab.path("out/other").exists() && !lab.path("out/.imgpkg").exists());
    let words = ["pull", "-b", &name, "-o", "no", "--include", "config", "--include", "confi"];
    let _ = lab.run(&words).fails(1, &["has nothing at `confi`"]);
    assert!(!lab.path("no").exists());
}

#[test]
fn image_is_bundle_check_and_wrong_locks_refuse_a_pull() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    let one = image(&lab, &format!("{host}/one"), "one");
    let all = bundle(&lab, &format!("{host}/b"), "b", &[&one]);
    let pull = |words: &[&str]| lab.run(&[&["pull", "-o", "out"], words].concat());
    let _ = pull(&["-i", &all]).fails(1, &["is a bundle, expected a plain image", "use `-b`"]);
    let _ = pull(&["-b", &one]).fails(1, &["is a plain image, expected a bundle", "use `-i`"]);
    let _ =
        pull(&["-b", &all, "--image-is-bundle-check=false"]).fails(2, &["cannot be used with `--bundle`"]);
    lab.write("images.yml", images_lock(&[&one]));
    let _ = pull(&["--lock", "images.yml"]).fails(2, &["expected a BundleLock"]);
    assert!(!lab.path("out").exists());
    let _ = pull(&["-i", &all, "--image-is-bundle-check=false"]).succeeds();
    assert_eq!(lab.read("out/.imgpkg/images.yml"), lab.read("b/.imgpkg/images.yml"));
}
