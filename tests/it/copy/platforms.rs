//! Which image a platform or a digest chooses: of an `index.json` that is the list of platforms, of an index that
//! contradicts a configuration, and of an image that stands alone.

use serde_json::{Value, json};
use testkit::oracle::validate_layout;
use testkit::registry::Registry;
use testkit::tarball::Tarball;

use crate::carvel::digest;
use crate::concourse::{source, step};
use crate::lab::{Lab, lab};
use crate::layouts::{INDEX, Layout, REF_NAME, named};

/// The digest in a descriptor.
fn of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

/// An image of one file with its architecture, for a platform by its configuration, listed for another one.
fn listed(layout: &mut Layout, own: &str, listed: &str) -> Value {
    let mut entry = layout.image_for(own, &[Tarball::new().file("arch", listed).finish()]);
    entry["platform"] = json!({"os": "linux", "architecture": listed});
    entry
}

/// Writes `flat.tar`, whose `index.json` is the list of two platforms; returns their digests.
fn flat(lab: &Lab) -> [String; 2] {
    let mut layout = Layout::default();
    let entries = ["amd64", "arm64"].map(|platform| listed(&mut layout, platform, platform));
    layout.entries.extend(entries.clone());
    lab.write("flat.tar", layout.tar());
    entries.map(|entry| of(&entry))
}

#[test]
fn select_platform_and_expected_digest_choose_from_an_index_json_that_is_the_list_of_platforms() {
    let (lab, registry) = (lab(), Registry::start());
    let [amd64, arm64] = flat(&lab);
    let with = |words: &[&str]| lab.run(&[words, &["--tar", "flat.tar"]].concat());
    for choice in [
        &["--select", &arm64][..],
        &["--expected-digest", &arm64],
        &["--platform", "linux/arm64"],
        &["--platform", "linux/arm64", "--expected-digest", &arm64],
    ] {
        let line = with(&[&["copy", "--to-oci-tar", "one.tar"], choice].concat()).succeeds();
        assert_eq!(digest(line.one_line()), arm64, "{choice:?}");
        validate_layout(lab.path("one.tar"));
        let _ = with(&[&["copy", "--to-docker-tar", "docker.tar"], choice].concat()).succeeds();
        let _ = with(&[&["pull", "--force", "-o", "out"], choice].concat()).succeeds();
        assert_eq!(lab.read("out/arch"), b"arm64", "{choice:?}");
    }
    let to = format!("{}/team/app:v1", registry.host());
    let _ = with(&["copy", "--expected-digest", &arm64, "--to-repo", &to]).succeeds();
    assert_eq!(registry.storage().tags("team/app")["v1"], arm64);
    let verified = with(&["verify", "--expected-digest", &arm64]).succeeds();
    assert!(verified.stdout.contains(&arm64) && !verified.stdout.contains(&amd64), "{verified}");
    let described = with(&["describe", "--json", "--select", &arm64]).succeeds().json();
    assert_eq!((&described["images"][0]["digest"], &described["images"][1]), (&json!(arm64), &Value::Null));
    let _ = with(&["pull", "-o", "no", "--platform", "linux/amd64", "--expected-digest", &arm64])
        .fails(1, &["no image for `linux/amd64` in `flat.tar`; it has `linux/arm64`"]);
    let other = format!("sha256:{}", "0".repeat(64));
    for words in [&["copy", "--to-oci-tar", "no.tar"][..], &["pull", "-o", "no"]] {
        let _ = with(&[words, &["--expected-digest", &other]].concat()).fails(3, &["expected `sha256:000"]);
        let _ = with(&[words, &["--select", &other]].concat()).fails(1, &["holds no image `sha256:000"]);
    }
    let _ = with(&["verify", "--expected-digest", &other]).ends_with(3).says("expected `sha256:000");
    // A put, too.
    std::fs::create_dir_all(lab.path("put/image")).unwrap();
    std::fs::copy(lab.path("flat.tar"), lab.path("put/image/image.tar")).unwrap();
    let source = source(&registry, &json!({"tag": "v2"}));
    for params in [json!({"expected_digest": amd64}), json!({"select": amd64})] {
        let mut params = params;
        params["image"] = json!("image/image.tar");
        let put = step(&lab, "out", &json!({"source": source, "params": params})).succeeds().json();
        assert_eq!(put["version"]["digest"], amd64, "{params}");
    }
}

#[test]
fn a_platform_that_the_configuration_contradicts_is_never_chosen() {
    let (lab, registry) = (lab().tree(&["f more/file 644 'x'"]), Registry::start());
    let mut layout = Layout::default();
    let right = listed(&mut layout, "amd64", "amd64");
    let wrong = listed(&mut layout, "amd64", "arm64");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [right, wrong]});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries.push(named(index.clone(), &[(REF_NAME, "v1")]));
    lab.write("put/image.tar", layout.tar());
    let (wrong, tar) = (of(&wrong), ["--tar", "put/image.tar"]);
    let text =
        format!("image `{wrong}` is listed for `linux/arm64`, but its configuration says `linux/amd64`");
    let refused = ["put/image.tar`: ", &text, "hint: ", "name it by its digest"];
    for words in [
        &["pull", "-o", "no", "--platform", "linux/arm64"][..],
        &["ls", "--platform", "linux/arm64"],
        &["cat", "/arch", "--platform", "linux/arm64"],
        &["copy", "--to-oci-tar", "no.tar", "--platform", "linux/arm64"],
        &["copy", "--to-oci-tar", "no.tar", "--platform", "linux/amd64,linux/arm64"],
        &["copy", "--to-docker-tar", "no.tar", "--platform", "linux/arm64"],
        &["index", "--to-oci-tar", "no.tar"],
    ] {
        let _ = lab.run(&[words, &tar].concat()).fails(3, &refused);
    }
    let on_base = ["push", "-i", "a:v1", "-f", "more:/more", "--base-tar", "put/image.tar"];
    let _ = lab.run(&[&on_base[..], &["--to-oci-tar", "no.tar"]].concat()).fails(3, &refused);
    assert!(!lab.path("no").exists() && !lab.path("no.tar").exists());
    // The other image, and this one by its digest.
    let _ = lab.run(&[&["pull", "-o", "right", "--platform", "linux/amd64"][..], &tar].concat()).succeeds();
    let _ = lab.run(&[&["pull", "-o", "named", "--select", &wrong][..], &tar].concat()).succeeds();
    assert_eq!((lab.read("right/arch"), lab.read("named/arch")), (b"amd64".to_vec(), b"arm64".to_vec()));
    // An index that is passed on stays as it is; `verify` reports it.
    let to = format!("{}/team/app:v1", registry.host());
    let _ = lab.run(&[&["copy", "--to-repo", &to][..], &tar].concat()).succeeds().never_says("warning");
    assert_eq!(registry.storage().tags("team/app")["v1"], of(&index));
    let verified = lab.run(&[&["verify"][..], &tar].concat()).ends_with(3);
    assert!(verified.stdout.contains("is for `linux/arm64`, but its configuration"), "{verified}");
    // A get chooses as pull does; a put requires a platform that is there.
    let source =
        source(&registry, &json!({"tag": "v1", "platform": {"os": "linux", "architecture": "arm64"}}));
    for format in ["rootfs", "files", "oci"] {
        let request =
            json!({"source": source, "version": {"digest": of(&index)}, "params": {"format": format}});
        let _ = step(&lab, "in", &request).fails(3, &[&text]);
    }
    let params = json!({"image": "image.tar", "platforms_required": ["linux/arm64"]});
    let _ = step(&lab, "out", &json!({"source": source, "params": params})).fails(3, &[&text]);
}

#[test]
fn a_platform_is_demanded_of_an_image_that_stands_alone() {
    let (lab, registry) = (lab(), Registry::start());
    let to = format!("{}/team/app:v1", registry.host());
    let mut layout = Layout::simple();
    layout.entries[0]["annotations"] = json!({REF_NAME: "v1"});
    lab.write("image.tar", layout.tar());
    let _ = lab.run(&["copy", "--tar", "image.tar", "--to-repo", &to]).succeeds();
    for (source, place) in [(["--tar", "image.tar"], "image.tar"), (["-i", &to], "/team/app")] {
        for words in [
            &["pull", "-o", "no"][..],
            &["ls"],
            &["cat", "d/hello"],
            &["copy", "--to-docker-tar", "no.tar"],
            &["copy", "--to-oci-tar", "no.tar"],
        ] {
            let other = lab.run(&[words, &source, &["--platform", "linux/arm64"]].concat());
            let text = format!("{place}`; it has `linux/amd64`");
            let _ = other.fails(1, &["no image for `linux/arm64` in `", &text]);
        }
    }
    for (platform, folder) in [("linux/amd64", "own"), ("linux/amd64/v1", "variant")] {
        let words = ["pull", "--tar", "image.tar", "-o", folder, "--platform", platform];
        let _ = lab.run(&words).succeeds();
    }
    // A get takes it, as the resource of Concourse does, and says what it is for.
    let tag = registry.storage().tags("team/app")["v1"].clone();
    let source = source(&registry, &json!({"tag": "v1", "platform": {"architecture": "arm64"}}));
    let request = json!({"source": source, "version": {"digest": tag}});
    let _ = step(&lab, "in", &request)
        .succeeds()
        .says("warning: the image is for `linux/amd64` only, not for `linux/arm64`");
}

#[test]
fn an_index_whose_entries_name_no_platform_is_chosen_from_by_the_configurations() {
    let lab = lab();
    let unnamed = |name: &str, platforms: [&str; 2]| {
        let mut layout = Layout::default();
        let mut number = 0;
        let entries = platforms.map(|platform| {
            number += 1;
            let file = Tarball::new().file("arch", platform).file("number", number.to_string());
            layout.image_for(platform, &[file.finish()])
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        let index = layout.blob(INDEX, index.to_string());
        layout.entries.push(named(index, &[(REF_NAME, "v1")]));
        lab.write(name, layout.tar());
        entries.map(|entry| of(&entry))
    };
    let [amd64, arm64] = unnamed("plain.tar", ["amd64", "arm64"]);
    assert_ne!(amd64, arm64);
    let alike = unnamed("alike.tar", ["amd64", "amd64"]).map(|digest| digest[..19].to_owned());
    let _ = lab.run(&["ls", "--tar", "alike.tar"]).fails(
        1,
        &[&format!("no image for `linux/amd64` in `alike.tar`; it has `{}…`, `{}…`", alike[0], alike[1])],
    );
    for platform in ["amd64", "arm64"] {
        let words = ["cat", "--tar", "plain.tar", "--platform", &format!("linux/{platform}"), "/arch"];
        assert_eq!(lab.run(&words).succeeds().stdout, platform);
    }
    let _ = lab
        .run(&["ls", "--tar", "plain.tar", "--platform", "linux/s390x"])
        .fails(1, &["no image for `linux/s390x` in `plain.tar`; it has `linux/amd64`, `linux/arm64`"]);
    let _ = lab
        .run(&["copy", "--tar", "plain.tar", "--platform", "linux/arm64", "--to-oci-tar", "one.tar"])
        .fails(1, &["no entry of the index says for which platform it is"]);
}
