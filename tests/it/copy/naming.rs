//! The tags and names of images at the target, and the message if there are none.

use serde_json::{Value, json};
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::carvel::{dashed, digest, image, images_lock};
use crate::lab::{Lab, lab};

/// Unpacks a layout tar into a folder and changes its `index.json`.
fn changed_layout(lab: &Lab, tar: &str, folder: &str, change: impl FnOnce(&mut Value)) {
    let shell = format!("mkdir {folder} && tar -xf {tar} -C {folder} && rm -f {folder}/manifest.json");
    let _ = run(tool("bash").arg("-ec").arg(shell).current_dir(lab.work())).success();
    let path = format!("{folder}/index.json");
    let mut index: Value = serde_json::from_slice(&lab.read(&path)).unwrap();
    change(&mut index);
    lab.write(&path, index.to_string());
}

#[test]
fn an_image_without_a_usable_name_is_pushed_with_a_warning() {
    let (lab, registry) = (lab(), Registry::start());
    lab.write("files/content", "x");
    let _ = lab.run(&["push", "-i", "", "-f", "files", "--to-oci-tar", "bare.tar"]).succeeds();
    let to = format!("{}/app", registry.host());
    let output = lab.run(&["copy", "--tar", "bare.tar", "--to-repo", &to]).succeeds();
    let digest = digest(output.one_line()).to_owned();
    let text = format!(
        "imgrelay: warning: image `{digest}` has no name with a tag, and is pushed without one; `--to-repo \
         REPOSITORY:TAG` or `--tag` gives it one"
    );
    let _ = output.says(&text);
    changed_layout(&lab, "bare.tar", "invalid", |index| {
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "My App: newest".into();
    });
    let _ = lab.run(&["copy", "--tar", "invalid", "--to-repo", &to]).succeeds().says(&text);
    assert!(registry.storage().tags("app").is_empty());
    for words in [&["--tag", "v1"][..], &["--to-repo", &format!("{to}:v2")]] {
        let base: &[&str] = if words[0] == "--tag" { &["--to-repo", &to] } else { &[] };
        let words = [&["copy", "--tar", "bare.tar"], base, words].concat();
        let _ = lab.run(&words).succeeds().never_says("warning");
    }
    let tags = registry.storage().tags("app");
    assert_eq!((&tags["v1"], &tags["v2"]), (&digest, &digest));
}

#[test]
fn what_cosign_saved_is_pushed_under_the_tags_of_cosign() {
    let (lab, registry) = (lab(), Registry::start());
    for name in ["app", "signature", "attestation"] {
        lab.write(&format!("{name}/content"), name);
        let _ = lab.run(&["push", "-i", "", "-f", name, "--to-oci-tar", "one.tar"]).succeeds();
        let _ = lab.run(&["copy", "--tar", "one.tar", "--to-oci-tar", "all.tar", "--append"]).succeeds();
    }
    changed_layout(&lab, "all.tar", "saved", |index| {
        for (number, kind) in ["image", "sigs", "atts"].into_iter().enumerate() {
            index["manifests"][number]["annotations"] =
                json!({"kind": format!("dev.cosignproject.cosign/{kind}")});
        }
    });
    let found = lab.run(&["describe", "--tar", "saved", "--json"]).succeeds().json();
    let kinds: Vec<&str> =
        found["images"].as_array().unwrap().iter().map(|image| image["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["image", "signature", "attestation"]);
    let to = format!("{}/app", registry.host());
    let output = lab.run(&["copy", "--tar", "saved", "--to-repo", &format!("{to}:v1")]).succeeds();
    let image = output.one_line().to_owned();
    let tags = registry.storage().tags("app");
    let found: Vec<&str> = tags.keys().map(String::as_str).collect();
    let [att, sig] = ["att", "sig"].map(|end| format!("{}.{end}", dashed(&image)));
    assert_eq!(found, [att.as_str(), sig.as_str(), "v1"]);
    assert_eq!(tags["v1"], digest(&image));
}

#[test]
fn annotations_of_an_images_lock_come_back_from_a_tar() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    let one = image(&lab, &format!("{host}/one"), "one");
    let two = image(&lab, &format!("{host}/two"), "two");
    lab.write("images.yml", images_lock(&[&one, &two]));
    let _ = lab.run(&["copy", "--lock", "images.yml", "--to-oci-tar", "all.tar"]).succeeds();
    let to = format!("{host}/far");
    let _ = lab.run(&["copy", "--tar", "all.tar", "--to-repo", &to, "--lock-output", "far.yml"]).succeeds();
    let text = |name: &str| String::from_utf8(lab.read(name)).unwrap();
    let _ =
        lab.run(&["copy", "--lock", "images.yml", "--to-repo", &to, "--lock-output", "near.yml"]).succeeds();
    for (number, reference) in [&one, &two].into_iter().enumerate() {
        let entry =
            format!("- annotations:\n    number: \"{number}\"\n  image: {to}@{}\n", digest(reference));
        assert!(text("far.yml").contains(&entry), "{}", text("far.yml"));
    }
    // The tar of the other tool cannot hold them.
    let output = lab.run(&["copy", "--lock", "images.yml", "--to-tar", "imgpkg.tar"]).succeeds();
    let _ = output.says(
        "the annotations that the ImagesLock has for 2 images are left out, because imgpkg's tar cannot",
    );
}

#[test]
fn the_switch_leaves_imgpkgs_tag_out() {
    let (lab, registry) = (lab(), Registry::start());
    let host = registry.host();
    lab.write("files/content", "x");
    let name = format!("{host}/app:v1");
    let _ = lab.run(&["push", "-i", &name, "-f", "files", "--imgpkg-tags=false"]).succeeds();
    let tags = |repository: &str| registry.storage().tags(repository).into_keys().collect::<Vec<_>>();
    assert_eq!(tags("app"), ["v1"]);
    let copy = ["copy", "-i", &name, "--to-repo", &format!("{host}/other:v2")];
    let variable = lab.command(&copy).env("IMGRELAY_IMGPKG_TAGS", "false");
    let _ = variable.run().succeeds();
    assert_eq!(tags("other"), ["v2"]);
    let line = lab.run(&copy).succeeds().one_line().to_owned();
    assert_eq!(tags("other"), [format!("{}.imgpkg", dashed(&line)), "v2".to_owned()], "as imgpkg");
    let words = [&copy[..], &["--imgpkg-tags=false", "--repo-based-tags"]].concat();
    let _ = lab.run(&words).fails(2, &["`--repo-based-tags` and `--imgpkg-tags=false` exclude each other"]);
}
