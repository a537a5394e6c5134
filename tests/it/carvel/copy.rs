//! `copy` of bundles: all their images arrive, with the tags and locations that imgpkg writes.

use testkit::oracle::validate_layout;
use testkit::registry::{Registry, manifests_written};

use crate::carvel::{bundle, bundle_folder, counts, dashed, digest, file_of_image, image, images_lock};
use crate::lab::{Lab, lab};

/// Two images in repositories of their own, a bundle of them, and an outer bundle of that and the first image.
pub(crate) fn nested(lab: &Lab, host: &str) -> (String, String, String, String) {
    let one = image(lab, &format!("{host}/src/one"), "one");
    let two = image(lab, &format!("{host}/src/two"), "two");
    let inner = bundle(lab, &format!("{host}/src/inner:v1"), "inner", &[&two, &one]);
    let outer = bundle(lab, &format!("{host}/src/outer:v2"), "outer", &[&inner, &one]);
    (one, two, inner, outer)
}

#[test]
fn a_nested_bundle_arrives_flat_with_tags_locations_and_lock() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (one, two, inner, outer) = nested(&lab, source.host());
    let to = format!("{}/dst/all", target.host());
    let from = format!("{}/src/outer:v2", source.host());
    let output = lab.run(&["copy", "-b", &from, "--to-repo", &to, "--lock-output", "lock.yml"]).succeeds();
    assert_eq!(output.one_line(), format!("{to}@{}", digest(&outer)));

    let storage = target.storage();
    storage.assert_sound();
    let tags = storage.tags("dst/all");
    for reference in [&one, &two, &inner, &outer] {
        assert_eq!(tags[&format!("{}.imgpkg", dashed(reference))], digest(reference));
    }
    assert_eq!(tags["v2"], digest(&outer));
    assert!(!tags.contains_key("v1"), "the tag of a nested bundle is its repository's matter: {tags:?}");
    // 4 images, 2 locations images with 2 tags each, and the user's tag.
    assert_eq!(tags.len(), 4 + 4 + 1, "{tags:?}");

    let locations = |bundle: &str| {
        let tag = format!("{}.image-locations.imgpkg", dashed(bundle));
        let (name, yaml) = file_of_image(&target, "dst/all", &tag);
        assert_eq!(name, "image-locations.yml");
        String::from_utf8(yaml).unwrap()
    };
    let head = "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n";
    assert_eq!(
        locations(&outer),
        format!(
            "{head}- image: {inner}\n  isBundle: true\n- image: {one}\n  isBundle: false\nkind: ImageLocations\n"
        )
    );
    assert_eq!(
        locations(&inner),
        format!(
            "{head}- image: {one}\n  isBundle: false\n- image: {two}\n  isBundle: false\nkind: ImageLocations\n"
        )
    );
    let lock = String::from_utf8(lab.read("lock.yml")).unwrap();
    assert_eq!(
        lock,
        format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nbundle:\n  image: {to}@{}\n  tag: v2\nkind: BundleLock\n",
            digest(&outer)
        )
    );
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(lab.path("lock.yml").metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn copy_writes_the_users_tags_last() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (_, _, _, outer) = nested(&lab, source.host());
    let from = format!("{}/src/outer:v2", source.host());
    let _ = lab.run(&["copy", "-b", &from, "--to-oci-tar", "all.tar"]).succeeds();
    for (repository, words) in [("direct", ["-b", &from]), ("tar", ["--tar", "all.tar"])] {
        target.forget_requests();
        let to = format!("{}/{repository}", target.host());
        let words =
            [&["copy"], &words[..], &["--to-repo", &to, "--tag", "extra", "--concurrency", "9"]].concat();
        let _ = lab.run(&words).succeeds();
        let requests = target.requests();
        let written = manifests_written(&requests);
        let (before, last) = written.split_at(written.len() - 2);
        assert_eq!(last, ["v2", "extra"], "{repository}: {written:?}");
        // 4 images and 2 locations images, each by its default tags, or by its digest first.
        assert!(before.len() >= 6 && before.iter().all(|name| name.contains("sha256")), "{written:?}");
        let blobs_after = requests
            .iter()
            .skip_while(|request| !request.path.ends_with("/manifests/v2") || request.method != "PUT")
            .filter(|request| request.path.contains("/blobs/"));
        assert_eq!(blobs_after.count(), 0, "{repository}");
        let tags = target.storage().tags(repository);
        assert_eq!((&tags["v2"], &tags["extra"]), (&digest(&outer).to_owned(), &digest(&outer).to_owned()));
    }
}

#[test]
fn an_unchanged_copy_sends_only_head_requests_to_the_target() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    nested(&lab, source.host());
    let from = format!("{}/src/outer:v2", source.host());
    let to = format!("{}/dst/all", target.host());
    let _ = lab.run(&["copy", "-b", &from, "--to-repo", &to]).succeeds();
    target.forget_requests();
    let _ = lab.run(&["copy", "-b", &from, "--to-repo", &to]).succeeds();
    let requests = target.requests();
    // 4 images, 2 locations, 1 tag.
    assert_eq!(counts(&requests), [("HEAD 200".to_owned(), 7)].into(), "{requests:#?}");
}

#[test]
fn images_of_a_relocated_bundle_are_not_requested_from_their_origin() {
    let (lab, source, middle, target) = (lab(), Registry::start(), Registry::start(), Registry::start());
    let (one, _, _, outer) = nested(&lab, source.host());
    let at = format!("{}/m/bundle", middle.host());
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &at]).succeeds();
    source.forget_requests();
    let from = format!("{at}@{}", digest(&outer));
    let to = format!("{}/dst", target.host());
    let _ = lab.run(&["copy", "-b", &from, "--to-repo", &to, "--lock-output", "l"]).succeeds();
    assert_eq!(source.requests(), []);
    assert!(target.storage().tags("dst").contains_key(&format!("{}.imgpkg", dashed(&one))));
    let lock = String::from_utf8(lab.read("l")).unwrap();
    assert!(!lock.contains("tag:"), "copied by digest: {lock}");
}

#[test]
fn copy_inside_one_registry_mounts_every_blob() {
    let (lab, registry) = (lab(), Registry::start());
    let (_, _, _, outer) = nested(&lab, registry.host());
    registry.forget_requests();
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &format!("{}/dst", registry.host())]).succeeds();
    let requests = registry.requests();
    let is_sent = |path: &str| path.contains("/blobs/uploads/");
    let sent: Vec<_> =
        requests.iter().filter(|request| request.method == "PUT" && is_sent(&request.path)).collect();
    // Only the two locations images are new: a configuration and a layer each.
    assert!(sent.len() <= 4, "{sent:#?}");
    let mounted =
        requests.iter().filter(|request| request.query.contains("mount=") && request.status == 201).count();
    assert_eq!(mounted, 4 * 2, "{requests:#?}");
}

#[test]
fn a_bundle_of_forty_images_costs_few_requests() {
    let (lab, source) = (lab(), Registry::start());
    let host = source.host();
    let images: Vec<String> =
        (0..40).map(|number| image(&lab, &format!("{host}/src/images"), &format!("i{number}"))).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let name = format!("{host}/src/bundle:v1");
    let _ = bundle(&lab, &name, "b", &images);
    let fetch = |what: &str, from: &str| {
        source.forget_requests();
        let _ = lab.run(&["copy", "-b", from, "--to-oci-tar", &format!("{what}.tar")]).succeeds();
        let requests = source.requests();
        assert!(requests.len() <= 130, "{what}: {} requests: {:?}", requests.len(), counts(&requests));
        validate_layout(lab.path(format!("{what}.tar")));
        println!("{what}: {} requests", requests.len());
        requests.len()
    };
    fetch("scattered", &name);
    let to = format!("{host}/moved");
    let _ = lab.run(&["copy", "-b", &name, "--to-repo", &to]).succeeds();
    fetch("relocated", &format!("{to}:v1"));
    let tar = lab.read("relocated.tar");
    assert_eq!(tar.len(), lab.read("scattered.tar").len(), "the same images");
}

#[test]
fn wrong_kinds_are_refused_with_the_right_flag() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    let one = image(&lab, &format!("{host}/one"), "one");
    let all = bundle(&lab, &format!("{host}/b"), "b", &[&one]);
    let to = format!("{host}/to");
    let _ =
        lab.run(&["copy", "-i", &all, "--to-repo", &to]).fails(1, &["is a bundle", "use `-b` for bundles"]);
    let _ = lab.run(&["copy", "-b", &one, "--to-repo", &to]).fails(1, &["is a plain image", "use `-i`"]);
    lab.write("lock.yml", images_lock(&[&all]));
    let _ =
        lab.run(&["copy", "--lock", "lock.yml", "--to-repo", &to]).fails(1, &["may name plain images only"]);
    lab.write("empty.yml", images_lock(&[]));
    let _ = lab.run(&["copy", "--lock", "empty.yml", "--to-repo", &to]).fails(1, &["names no image"]);
    assert!(!registry.storage().repositories().contains("to"));
}

#[test]
fn a_missing_image_of_a_bundle_is_named() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    let gone = format!("{host}/gone@sha256:{}", "ab".repeat(32));
    let all = bundle(&lab, &format!("{host}/b"), "b", &[&gone]);
    let output = lab.run(&["copy", "-b", &all, "--to-repo", &format!("{host}/to")]);
    let _ = output.fails(1, &[&format!("cannot find `{gone}`")]);
}

#[test]
fn lock_and_lock_output_handle_both_kinds_of_lock() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (one, two, _, outer) = nested(&lab, source.host());
    let to = format!("{}/dst", target.host());
    lab.write("images.yml", images_lock(&[&two, &one]));
    let words = ["copy", "--lock", "images.yml", "--to-repo", &to, "--lock-output", "out.yml"];
    let _ = lab.run(&words).succeeds();
    let expected = format!(
        "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n\
         - annotations:\n    number: \"0\"\n  image: {to}@{}\n\
         - annotations:\n    number: \"1\"\n  image: {to}@{}\nkind: ImagesLock\n",
        digest(&two),
        digest(&one)
    );
    assert_eq!(String::from_utf8(lab.read("out.yml")).unwrap(), expected);

    let lock = format!(
        "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: BundleLock\nbundle:\n  image: {outer}\n  tag: v7\n"
    );
    lab.write("bundle.yml", lock);
    let words = ["copy", "--lock", "bundle.yml", "--to-repo", &to, "--lock-output", "out.yml"];
    let _ = lab.run(&words).succeeds();
    let written = String::from_utf8(lab.read("out.yml")).unwrap();
    assert!(written.contains(&format!("image: {to}@{}\n  tag: v7\n", digest(&outer))), "{written}");
    assert_eq!(target.storage().tags("dst")["v7"], digest(&outer));
}

#[test]
fn repo_based_tags_begin_with_the_repository() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (one, _, inner, outer) = nested(&lab, source.host());
    let to = format!("{}/dst", target.host());
    let words = ["copy", "-b", &outer, "--to-repo", &to, "--repo-based-tags"];
    for _ in 0..2 {
        let _ = lab.run(&words).succeeds();
    }
    let tags = target.storage().tags("dst");
    assert_eq!(tags[&format!("src-one-{}.imgpkg", dashed(&one))], digest(&one));
    assert_eq!(tags[&format!("src-inner-{}.imgpkg", dashed(&inner))], digest(&inner));
    assert!(tags.contains_key(&format!("{}.image-locations.imgpkg", dashed(&outer))), "{tags:?}");
}

#[test]
fn thin_copies_the_bundle_alone() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (_, _, _, outer) = nested(&lab, source.host());
    let to = format!("{}/dst", target.host());
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &to, "--thin"]).succeeds();
    let tags = target.storage().tags("dst");
    assert_eq!(tags.len(), 1, "no locations, because the images are not there: {tags:?}");
}

#[test]
fn inflate_makes_a_tar_that_needs_no_source_registry() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let (one, _, inner, _) = nested(&lab, source.host());
    bundle_folder(&lab, "app", &[&inner, &one]);
    let name = format!("{}/team/app:v1", target.host());
    let words = ["push", "-b", &name, "-f", "app", "--to-oci-tar", "thick.tar", "--inflate"];
    let packed = lab.run(&words).succeeds();
    validate_layout(lab.path("thick.tar"));
    let thin = ["push", "-b", &name, "-f", "app", "--to-oci-tar", "thin.tar"];
    let alone = lab.run(&thin).succeeds();
    assert_eq!(digest(packed.one_line()), digest(alone.one_line()));
    let _ = lab.run(&["copy", "--tar", "thin.tar", "--to-oci-tar", "copied.tar", "--inflate"]).succeeds();
    assert_eq!(lab.read("copied.tar").len(), lab.read("thick.tar").len());
    validate_layout(lab.path("copied.tar"));

    source.stop();
    for tar in ["thick.tar", "copied.tar"] {
        let to = format!("{}/{}", target.host(), tar.trim_end_matches(".tar"));
        let words = ["copy", "--tar", tar, "--to-repo", &to, "--lock-output", "lock.yml"];
        let output = lab.run(&words).succeeds();
        assert_eq!(digest(output.one_line()), digest(packed.one_line()));
        let storage = target.storage();
        storage.assert_sound();
        let tags = storage.tags(tar.trim_end_matches(".tar"));
        assert_eq!(tags["v1"], digest(packed.one_line()));
        assert_eq!(tags.len(), 4 + 4 + 1, "{tags:?}");
        let locations = format!("{}.image-locations.imgpkg", dashed(packed.one_line()));
        let (_, yaml) = file_of_image(&target, tar.trim_end_matches(".tar"), &locations);
        let yaml = String::from_utf8(yaml).unwrap();
        assert!(yaml.contains(&format!("- image: {inner}\n  isBundle: true\n")), "{yaml}");
        let lock = String::from_utf8(lab.read("lock.yml")).unwrap();
        assert!(lock.contains(&format!("image: {}\n  tag: v1\n", output.one_line())), "{lock}");
    }
    // A tar with only the bundle has a warning about missing images, and no locations.
    let to = format!("{}/alone", target.host());
    let _ = lab.run(&["copy", "--tar", "thin.tar", "--to-repo", &to]).succeeds().says("without the 2 images");
    assert_eq!(target.storage().tags("alone").len(), 2);
}

#[test]
fn cosign_signatures_copies_signatures() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let (one, _, _, outer) = nested(&lab, source.host());
    for (of, what) in [(&one, "sig"), (&outer, "att"), (&one, "sbom")] {
        let repository = of.split_once('@').unwrap().0;
        lab.write(&format!("{what}/{what}"), what);
        let name = format!("{repository}:{}.{what}", dashed(of));
        let _ = lab.run(&["push", "-i", &name, "-f", what]).succeeds();
    }
    let at_source = |of: &str, what: &str| {
        let (repository, _) = of.split_once('@').unwrap();
        let repository = repository.split_once('/').unwrap().1;
        source.storage().tags(repository)[&format!("{}.{what}", dashed(of))].clone()
    };
    let expected: Vec<(String, String)> = [(&one, "sig"), (&outer, "att"), (&one, "sbom")]
        .map(|(of, what)| (format!("{}.{what}", dashed(of)), at_source(of, what)))
        .into();
    let arrived = |repository: &str| {
        let tags = target.storage().tags(repository);
        for (tag, digest) in &expected {
            assert_eq!(tags.get(tag), Some(digest), "{repository}: {tags:?}");
        }
        target.storage().assert_sound();
        tags.len()
    };
    let to = format!("{}/dst", target.host());
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &to]).succeeds();
    let plain = target.storage().tags("dst").len();
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &to, "--cosign-signatures"]).succeeds();
    assert_eq!(arrived("dst"), plain + 3);
    for sink in ["--to-oci-tar", "--to-tar"] {
        let _ = lab.run(&["copy", "-b", &outer, sink, "s.tar", "--cosign-signatures"]).succeeds();
        let name = sink.trim_start_matches('-');
        let again = format!("{}/{name}", target.host());
        let _ = lab.run(&["copy", "--tar", "s.tar", "--to-repo", &again]).succeeds();
        assert_eq!(arrived(name), plain + 3, "{:#?}", target.storage().tags(name));
    }
}
