//! Delta tars: `--without` leaves out layers that the target has, and the image arrives complete.

use serde_json::{Value, json};
use testkit::lab::Lab;
use testkit::readers::{skopeo_copy, skopeo_digest};
use testkit::registry::Registry;
use testkit::tarball::Tarball;

use crate::lab::lab;
use crate::layouts::{CONTAINERD_NAME, Layout, REF_NAME, hex, named};
use crate::samples;

/// A layer that does not compress.
fn layer(name: &str, seed: u64) -> Vec<u8> {
    Tarball::new().file(name, testkit::random::Random::new(seed).bytes(20_000)).finish()
}

fn write(lab: &Lab, tar: &str, tag: &str, layers: &[Vec<u8>]) {
    let mut layout = Layout::default();
    let image = layout.image(layers);
    let name = format!("reg.example/team/app:{tag}");
    layout.entries.push(named(image, &[(REF_NAME, tag), (CONTAINERD_NAME, &name)]));
    lab.write(tar, layout.tar());
}

/// Two versions on one base, and the second one as a full copy and as a delta.
fn room() -> Lab {
    let lab = lab();
    write(&lab, "v1.tar", "v1", &[layer("base", 1), layer("lib", 2), layer("app", 3)]);
    write(&lab, "in.tar", "v2", &[layer("base", 1), layer("lib", 2), layer("app", 4)]);
    let _ = lab.run(&["copy", "--tar", "in.tar", "--to-oci-tar", "v2.tar"]).succeeds();
    let delta = ["copy", "--tar", "in.tar", "--to-oci-tar", "update.tar", "--without", "v1.tar"];
    let _ = lab.run(&delta).succeeds().says("left out 2 blobs (");
    lab
}

#[test]
fn a_delta_and_its_base_give_the_bytes_of_a_full_copy() {
    let lab = room();
    let size = |tar: &str| lab.read(tar).len();
    assert!(size("update.tar") < size("v2.tar") / 2, "{} {}", size("update.tar"), size("v2.tar"));
    let complete = ["copy", "--tar", "update.tar", "--base-tar", "v1.tar", "--to-oci-tar", "whole.tar"];
    let _ = lab.run(&complete).succeeds();
    assert_eq!(hex(&lab.read("whole.tar")), hex(&lab.read("v2.tar")));
    // Independent check: the files of base and delta together are those of the full copy, except for the index.
    let of =
        |tar: &str| samples::entries(&lab.read(tar)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let blobs = |tar: &str| of(tar).into_iter().filter(|name| name.starts_with("blobs/")).collect::<Vec<_>>();
    let both: Vec<String> = [blobs("v1.tar"), blobs("update.tar")].concat();
    assert!(blobs("v2.tar").iter().all(|name| both.contains(name)));
    assert!(blobs("update.tar").iter().all(|name| blobs("v2.tar").contains(name)));
    // A delta on a delta also leaves out the layers that the first one lacks.
    write(&lab, "v3.tar", "v3", &[layer("base", 1), layer("lib", 2), layer("app", 5)]);
    let next = ["copy", "--tar", "v3.tar", "--to-oci-tar", "next.tar", "--without", "update.tar"];
    let _ = lab.run(&next).succeeds().says("left out 2 blobs (");
}

#[test]
fn a_delta_says_what_it_needs_and_is_verified_against_its_base() {
    let lab = room();
    let shown = lab.run(&["describe", "--tar", "update.tar"]).succeeds();
    assert!(
        shown.stdout.starts_with("Needs 2 blobs (")
            && shown.stdout.contains(") of reg.example/team/app:v1\n"),
        "{shown}"
    );
    let found = lab.run(&["describe", "--tar", "update.tar", "--json"]).succeeds().json();
    assert_eq!(found["needs"].as_array().unwrap().len(), 2);
    assert_eq!(found["needs"][0]["from"], "reg.example/team/app:v1");
    let alone = lab.run(&["verify", "--tar", "update.tar"]);
    let _ = alone
        .ends_with(3)
        .says("`update.tar` needs 2 blobs (")
        .says("of reg.example/team/app:v1")
        .says("--against");
    let json = lab.run(&["verify", "--json", "--tar", "update.tar"]).ends_with(3).json();
    assert_eq!((json["problems"].clone(), json["needs"].as_array().unwrap().len()), (json!([]), 2));
    let whole = lab.run(&["verify", "--tar", "update.tar", "--against", "v1.tar"]).succeeds();
    assert!(whole.stdout.ends_with(": verified\n"), "{whole}");
    // A base that is damaged is found.
    let mut bytes = lab.read("v1.tar");
    let (_, place) =
        samples::entries(&bytes).into_iter().find(|(name, _)| name.starts_with("blobs/")).unwrap();
    bytes[place.start + 100] ^= 1;
    lab.write("bad.tar", bytes);
    let _ =
        lab.run(&["verify", "--tar", "update.tar", "--against", "bad.tar"]).ends_with(3).says("is damaged");
    let _ = lab
        .run(&["pull", "--tar", "update.tar", "-o", "out"])
        .fails(1, &["`update.tar` was written without blob `sha256:", "--base-tar"]);
    // For other readers it is a layout whose index has one more annotation.
    let index: Value = serde_json::from_slice(samples::entry(&lab.read("update.tar"), "index.json")).unwrap();
    assert!(index["annotations"]["dev.imgrelay.without"].is_string(), "{index}");
    assert_eq!(
        skopeo_digest(&format!("oci-archive:{}", lab.path("update.tar").display()), &[]),
        skopeo_digest(&format!("oci-archive:{}", lab.path("v2.tar").display()), &[])
    );
}

#[test]
fn a_delta_is_completed_by_what_the_registry_has_or_all_that_is_missing_is_named() {
    let lab = room();
    let registry = Registry::start();
    let to = |path: &str| format!("{}/{path}", registry.host());
    let push = |to_repo: &str, more: &[&str]| {
        lab.run(&[&["copy", "--tar", "update.tar", "--to-repo", to_repo], more].concat())
    };
    registry.forget_requests();
    let failed = push(&to("inside/app"), &[]);
    let failed =
        failed.fails(1, &["`update.tar` needs 2 blobs (", "which the registry does not have", "--base-tar"]);
    let named =
        failed.stderr.lines().filter(|line| line.contains("of reg.example/team/app:v1 is missing")).count();
    assert_eq!(named, 2, "{failed}");
    assert!(registry.requests().iter().all(|request| request.method == "HEAD"), "nothing was sent");
    // The base is in another repository: mounted from there.
    let _ = lab.run(&["copy", "--tar", "v1.tar", "--to-repo", &to("old/app")]).succeeds();
    let _ = push(&to("inside/app"), &["--from", &to("old/app")]).succeeds().says("2 mounted");
    // In the same repository no flag is needed.
    let _ = push(&to("old/app"), &[]).succeeds();
    for repository in ["inside/app", "old/app"] {
        let image = format!("docker://{}:v2", to(repository));
        assert_eq!(
            skopeo_digest(&image, &["--tls-verify=false"]),
            skopeo_digest(&format!("oci-archive:{}", lab.path("v2.tar").display()), &[])
        );
    }
    let _ = push(&to("far/app"), &["--base-tar", "v1.tar"]).succeeds();
    registry.storage().assert_sound();
}

#[test]
fn skopeo_pushes_a_delta_to_a_repository_that_has_the_rest() {
    let lab = room();
    let registry = Registry::start();
    let to = format!("docker://{}/team/app", registry.host());
    let from = |tar: &str| format!("oci-archive:{}", lab.path(tar).display());
    let plain = ["--dest-tls-verify=false"];
    let _ = skopeo_copy(&from("v1.tar"), &format!("{to}:v1"), &plain).success();
    let _ = skopeo_copy(&from("update.tar"), &format!("{to}:v2"), &plain).success();
    assert_eq!(
        skopeo_digest(&format!("{to}:v2"), &["--tls-verify=false"]),
        skopeo_digest(&from("v2.tar"), &[])
    );
}

#[test]
fn without_takes_a_registry_a_lock_and_a_list_and_refuses_what_it_cannot_read() {
    let lab = room();
    let registry = Registry::start();
    let name = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&["copy", "--tar", "v1.tar", "--to-repo", &name]).succeeds();
    let digest = lab.run(&["tag", "resolve", "-i", &name]).succeeds();
    lab.write(
        "images.yml",
        format!(
            "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n- image: {}\n",
            digest.one_line()
        ),
    );
    let blobs: Vec<String> = samples::entries(&lab.read("v1.tar"))
        .into_iter()
        .filter_map(|(name, _)| name.strip_prefix("blobs/").map(|name| name.replace('/', ":")))
        .collect();
    lab.write("blobs.txt", format!("# from the other side\n{}\n", blobs.join("\n")));
    let run =
        |without: &str| lab.run(&["copy", "--tar", "in.tar", "--to-oci-tar", "x.tar", "--without", without]);
    for (without, from) in
        [(name.as_str(), name.as_str()), ("images.yml", "images.yml"), ("blobs.txt", "blobs.txt")]
    {
        let _ = run(without).succeeds().says("left out 2 blobs (").says(&format!(") of {from}\n"));
        let whole = ["copy", "--tar", "x.tar", "--base-tar", "v1.tar", "--to-oci-tar", "whole.tar"];
        let _ = lab.run(&whole).succeeds();
        assert_eq!(hex(&lab.read("whole.tar")), hex(&lab.read("v2.tar")), "{without}");
    }
    write(&lab, "other.tar", "v9", &[layer("other", 9)]);
    let _ = run("other.tar").succeeds().says("no layer was left out");
    assert_eq!(hex(&lab.read("x.tar")), hex(&lab.read("v2.tar")), "a full copy");
    let before = lab.read("x.tar");
    lab.write("broken.tar", &lab.read("v1.tar")[..3000]);
    for (without, code, expected) in [
        ("gone.tar", 2, "`--without`: there is no file `gone.tar`"),
        ("broken.tar", 1, "`broken.tar`"),
        (&format!("{}/team/none:v1", registry.host()), 1, "team/none"),
    ] {
        let _ = run(without).fails(code, &[expected]);
        assert_eq!(lab.read("x.tar"), before, "{without}: never a full tar in silence");
    }
    for (words, expected) in [
        (&["--to-repo", "r.io/a", "--without", "v1.tar"][..], "`--without` works with `--to-oci-tar` only"),
        (
            &["--to-oci-tar", "y", "--append", "--without", "v1.tar"],
            "`--without` and `--append` exclude each other",
        ),
        (&["--to-oci-tar", "y", "--from", "r.io/b"], "`--from` works with"),
    ] {
        let _ = lab.run(&[&["copy", "--tar", "in.tar"], words].concat()).fails(2, &[expected]);
    }
    let _ = lab
        .run(&["copy", "--tar", "update.tar", "--to-oci-tar", "y.tar"])
        .fails(1, &["`update.tar` needs 2 blobs ("]);
}

#[test]
fn a_bundle_of_forty_images_travels_as_a_delta_from_version_to_version() {
    let lab = lab();
    let registry = Registry::start();
    let host = registry.host();
    for version in 1..=2 {
        let mut lock = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n".to_owned();
        for number in 0..40 {
            // Every tenth image is new in the second version.
            let seed = if version == 2 && number % 10 == 0 { 1000 + number } else { number };
            write(&lab, "one.tar", "v1", &[layer("base", 7), layer("app", 100 + seed)]);
            let name = format!("{host}/near/app-{number}:v{version}");
            let pushed = lab.run(&["copy", "--tar", "one.tar", "--to-repo", &name]).succeeds();
            lock.push_str(&format!("- image: {}\n", pushed.one_line()));
        }
        lab.write("bundle/.imgpkg/images.yml", lock);
        let name = format!("{host}/near/bundle:v{version}");
        let _ = lab.run(&["push", "-b", &name, "-f", "bundle"]).succeeds();
        let full = format!("v{version}.tar");
        let _ = lab.run(&["copy", "-b", &name, "--to-oci-tar", &full]).succeeds();
    }
    let name = format!("{host}/near/bundle:v2");
    let delta = ["copy", "-b", &name, "--to-oci-tar", "update.tar", "--without", "v1.tar"];
    let _ = lab.run(&delta).succeeds().says("left out 37 blobs (");
    let whole = ["copy", "--tar", "update.tar", "--base-tar", "v1.tar", "--to-oci-tar", "whole.tar"];
    let _ = lab.run(&whole).succeeds();
    assert_eq!(hex(&lab.read("whole.tar")), hex(&lab.read("v2.tar")));
    let far = format!("{host}/far/bundle");
    let _ = lab.run(&["copy", "--tar", "v1.tar", "--to-repo", &far]).succeeds();
    let _ = lab.run(&["copy", "--tar", "update.tar", "--to-repo", &far]).succeeds();
    let _ = lab.run(&["pull", "-b", &format!("{far}:v2"), "-o", "pulled"]).succeeds();
    let lock = String::from_utf8(lab.read("pulled/.imgpkg/images.yml")).unwrap();
    assert_eq!(lock.matches(&format!("{far}@sha256:")).count(), 40);
    registry.storage().assert_sound();
}

#[test]
fn a_store_takes_the_place_of_a_tar_wherever_a_delta_is_made_or_completed() {
    let lab = room();
    let store = crate::depot::folder::url(&lab);
    let [first, second] = ["v1", "v2"].map(|tag| format!("{store}:{tag}"));
    let empty = format!("file://{}:v2", lab.path("empty").display());
    let to_store = |to: &str| lab.run(&["copy", "--tar", "update.tar", "--to-store", to]);
    let failed = to_store(&empty);
    let failed = failed.fails(1, &["needs 2 blobs (", ", which the store does not have", "--base-tar"]);
    assert_eq!(failed.stderr.matches("of reg.example/team/app:v1 is missing").count(), 2, "{failed}");
    assert!(!lab.path("empty").exists(), "nothing was written");
    let _ = lab.run(&["copy", "--tar", "v1.tar", "--to-store", &first]).succeeds();
    let make = ["copy", "--tar", "in.tar", "--to-oci-tar", "delta.tar", "--without", &first];
    let _ = lab.run(&make).succeeds().says("left out 2 blobs (").says(&format!(") of {first}\n"));
    for base in [&store, &first] {
        let _ = lab.run(&["verify", "--tar", "delta.tar", "--against", base]).succeeds();
        let whole = ["copy", "--tar", "delta.tar", "--base-tar", base, "--to-oci-tar", "whole.tar"];
        let _ = lab.run(&whole).succeeds();
        assert_eq!(hex(&lab.read("whole.tar")), hex(&lab.read("v2.tar")), "{base}");
    }
    // A store that has the rest is completed by the delta alone.
    let _ = to_store(&second).succeeds();
    let _ = lab.run(&["verify", "--store", &second]).succeeds();
    let _ = lab.run(&["diff", "-q", "v2.tar", &second]).succeeds();
    let found = lab.run(&["diff", "--json", &first, "--store", &second]).ends_with(3).json();
    assert_eq!(found["images"][0]["layers"]["shared"].as_array().unwrap().len(), 2, "{found}");
    // A tag moved on; what it left is still in the store, and the tag no longer says so.
    let _ = lab.run(&["copy", "--tar", "in.tar", "--to-store", &first]).succeeds();
    let _ = lab.run(&["verify", "--tar", "v1.tar", "--against", &store]).succeeds();
    for (words, code, expected) in [
        (["verify", "--tar", "delta.tar", "--against", &format!("{store}:none")], 1, "has no image `none`"),
        (
            ["verify", "--tar", "delta.tar", "--against", "gone.tar"],
            2,
            "`--against`: there is no file `gone.tar`",
        ),
        (["verify", "--tar", "delta.tar", "--against", "s3://"], 2, "`--against`: `s3://`"),
    ] {
        let _ = lab.run(&words).fails(code, &[expected]);
    }
}

#[test]
fn a_repository_takes_the_place_of_a_base_tar() {
    let (lab, registry) = (room(), Registry::start());
    let name = format!("{}/team/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "v1.tar", "--to-repo", &name]).succeeds();
    let against = |what: &str| lab.run(&["verify", "--tar", "update.tar", "--against", what]);
    for base in [name.clone(), format!("{name}:v1")] {
        let whole = against(&base).succeeds();
        assert!(whole.stdout.ends_with(": verified\n"), "{whole}");
    }
    let _ = against(&format!("{name}:v9")).fails(1, &["v9"]);
    let _ = against(&format!("{}/team/other", registry.host())).ends_with(3).says("needs 2 blobs (");
    let whole = ["copy", "--tar", "update.tar", "--base-tar", &name, "--to-oci-tar", "whole.tar"];
    let _ = lab.run(&whole).succeeds();
    assert_eq!(hex(&lab.read("whole.tar")), hex(&lab.read("v2.tar")));
    // The base of one registry completes what goes to another one.
    let other = Registry::start();
    let to = format!("{}/inside/app", other.host());
    let _ = lab.run(&["copy", "--tar", "update.tar", "--base-tar", &name, "--to-repo", &to]).succeeds();
    other.storage().assert_sound();
}

#[test]
fn a_delta_that_is_signed_or_added_to_stays_a_delta() {
    let lab = room();
    let key = format!("{}/tests/keys/p256", env!("CARGO_MANIFEST_DIR"));
    let sign = |tar: &str| lab.run(&["sign", "--tar", tar, "--key", &format!("{key}.key")]);
    let needs = || {
        let found = lab.run(&["describe", "--tar", "update.tar", "--json"]).succeeds().json();
        found["needs"].as_array().unwrap().len()
    };
    let _ = sign("update.tar").succeeds();
    assert_eq!(needs(), 2);
    let public = format!("{key}.pub");
    let verify = ["verify", "--tar", "update.tar", "--against", "v1.tar", "--key", &public];
    let verified = lab.run(&verify).succeeds();
    assert!(verified.stdout.contains("signature for `reg.example/team/app:v2`: accepted"), "{verified}");
    let whole = ["copy", "--tar", "update.tar", "--base-tar", "v1.tar", "--to-oci-tar", "whole.tar"];
    let _ = lab.run(&whole).succeeds();
    let _ = lab.run(&["verify", "--tar", "whole.tar", "--key", &public]).succeeds();
    write(&lab, "other.tar", "v9", &[layer("other", 9)]);
    let _ = lab.run(&["copy", "--tar", "other.tar", "--to-oci-tar", "update.tar", "--append"]).succeeds();
    assert_eq!(needs(), 2);
    let _ = lab.run(&["verify", "--tar", "update.tar", "--against", "v1.tar"]).succeeds();
}

#[test]
fn a_delta_with_referrers_thin_or_inflated_is_completed_to_the_bytes_of_a_full_copy() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    let key = format!("{}/tests/keys/p256.key", env!("CARGO_MANIFEST_DIR"));
    lab.write("sbom.json", "{}");
    for (version, seed) in [("v1", 3), ("v2", 4)] {
        write(&lab, "in.tar", version, &[layer("base", 1), layer("app", seed)]);
        let image = format!("{host}/near/app:{version}");
        let pushed = lab.run(&["copy", "--tar", "in.tar", "--to-repo", &image]).succeeds();
        let _ = lab.run(&["sign", "-i", pushed.one_line(), "--key", &key]).succeeds();
        let _ = lab.run(&["attach", "-i", pushed.one_line(), "--type", "text/plain", "sbom.json"]).succeeds();
        let lock = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n- image: ";
        lab.write("bundle/.imgpkg/images.yml", format!("{lock}{}\n", pushed.one_line()));
        let _ = lab.run(&["push", "-b", &format!("{host}/near/bundle:{version}"), "-f", "bundle"]).succeeds();
    }
    let bundle = |version: &str| format!("{host}/near/bundle:{version}");
    let _ = lab.run(&["copy", "-b", &bundle("v2"), "--thin", "--to-oci-tar", "thin.tar"]).succeeds();
    let (first, second) = (bundle("v1"), bundle("v2"));
    for (source, base, more, left_out) in [
        (["-b", &second], ["-b", &first], &["--referrers", "--cosign-signatures"][..], true),
        (["--tar", "thin.tar"], ["-b", &first], &["--inflate"], true),
        (["-b", &second], ["-b", &first], &["--thin"], false),
    ] {
        let copy = |source: [&str; 2], more: &[&str], to: &str| {
            lab.run(&[&["copy"][..], &source, &["--to-oci-tar", to], more].concat()).succeeds()
        };
        let of_base: Vec<&str> = more.iter().copied().filter(|flag| *flag != "--inflate").collect();
        let _ = copy(base, &of_base, "v1.tar");
        let _ = copy(source, more, "full.tar");
        let made = copy(source, &[more, &["--without", "v1.tar"]].concat(), "update.tar");
        // The layer of a bundle travels: in it stands what it names.
        let expected = if left_out { "left out 1 blob (" } else { "no layer was left out" };
        let _ = made.says(expected);
        let _ = copy(["--tar", "update.tar"], &["--base-tar", "v1.tar"], "whole.tar");
        assert_eq!(hex(&lab.read("whole.tar")), hex(&lab.read("full.tar")), "{more:?}");
    }
}
