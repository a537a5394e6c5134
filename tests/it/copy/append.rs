//! What goes beyond imgpkg: adding to a tar, going on after a failure, tags by hand, ignore files.

use testkit::oracle::{LayerOptions, imgpkg_diff_id, validate_layout};
use testkit::registry::{Registry, Request};

use crate::carvel::copy::nested;
use crate::carvel::{HEADER, bundle, dashed, digest, image};
use crate::lab::{Lab, lab};

#[test]
fn a_stage_adds_an_image_to_a_tar() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let host = source.host().to_owned();
    let (one, _, _, outer) = nested(&lab, &host);
    let three = image(&lab, &format!("{host}/three"), "three");
    let add = |what: &str, from: &str| lab.run(&["copy", what, from, "--to-oci-tar", "all.tar", "--append"]);
    // What is not there yet is made.
    let _ = add("-i", &one).succeeds();
    let _ = add("-i", &format!("{host}/three:latest")).succeeds();
    let _ = add("-b", &outer).succeeds();
    validate_layout(lab.path("all.tar"));
    let before = lab.read("all.tar");
    let _ = add("-b", &outer).succeeds();
    assert!(lab.read("all.tar") == before, "nothing twice");
    lab.write("image-three/content", "changed");
    let _ = lab.run(&["push", "-i", &format!("{host}/three:latest"), "-f", "image-three"]).succeeds();
    let _ = add("-i", &format!("{host}/three:latest")).fails(1, &["another image with the name"]);
    assert!(lab.read("all.tar") == before, "left as it was");
    source.stop();
    let to = format!("{}/all", target.host());
    let _ = lab.run(&["copy", "--tar", "all.tar", "--to-repo", &to]).succeeds();
    let tags = target.storage().tags("all");
    for reference in [&one, &three, &outer] {
        assert!(tags.contains_key(&format!("{}.imgpkg", dashed(reference))), "{tags:?}");
    }
    assert_eq!(tags["latest"], digest(&three));
    let words = ["copy", "--tar", "all.tar", "--to-tar", "x", "--append"];
    let _ = lab.run(&words).fails(2, &["`--append` works with"]);
}

/// Pushes an image whose layer is worth keeping, and returns its reference and the digest of the layer.
fn large(lab: &Lab, registry: &Registry, name: &str) -> (String, String) {
    let mut content = vec![0; 200 * 1024];
    let mut state =
        name.bytes().fold(7u32, |state, byte| state.wrapping_mul(31).wrapping_add(u32::from(byte)));
    for byte in &mut content {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    lab.write(&format!("{name}/data"), &content);
    let to = format!("{}/src/{name}:v1", registry.host());
    let reference = lab.run(&["push", "-i", &to, "-f", name]).succeeds().one_line().to_owned();
    let manifest = registry.storage().manifest(&format!("src/{name}"), "v1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    (reference, manifest["layers"][0]["digest"].as_str().unwrap().to_owned())
}

#[test]
fn a_broken_copy_goes_on_where_it_was() {
    let (lab, source) = (lab(), Registry::start());
    let images: Vec<(String, String)> =
        (0..8).map(|number| large(&lab, &source, &format!("image{number}"))).collect();
    let references: Vec<&str> = images.iter().map(|(reference, _)| reference.as_str()).collect();
    let name = format!("{}/b:v1", source.host());
    let _ = bundle(&lab, &name, "b", &references);
    let last = &images[7].1;
    let bytes = source.storage().blob(last).unwrap();
    for to in ["--to-oci-tar", "--to-tar"] {
        let answer = source.ask("DELETE", &format!("/v2/src/image7/blobs/{last}"), &[], &[]);
        assert_eq!(answer.status, 202, "{}", answer.text());
        let copy = |words: &[&str]| lab.run(&[&["copy", "-b", &name, to, "all.tar"], words].concat());
        // The tar has its layers in order of digest, so the one that is missing may come at any time.
        let _ = copy(&["--resume", "--concurrency", "4"]).fails(1, &[last]);
        assert!(!lab.path("all.tar").exists());
        let kept = std::fs::read_dir(lab.path("all.tar.parts")).unwrap().count();
        // A part that was damaged meanwhile is fetched again.
        if let Some(part) = std::fs::read_dir(lab.path("all.tar.parts")).unwrap().next() {
            std::fs::write(part.unwrap().path(), "damaged").unwrap();
        }
        source.put_blob("src/image7", &bytes);
        source.forget_requests();
        let _ = copy(&["--resume", "--concurrency", "4"]).succeeds();
        assert!(!lab.path("all.tar.parts").exists());
        let is_layer = |request: &&Request| {
            images.iter().any(|(_, layer)| request.path.ends_with(layer)) && request.method == "GET"
        };
        let fetched = source.requests().iter().filter(is_layer).count();
        assert_eq!(fetched, 8 - kept.saturating_sub(1), "{kept} were kept");
        let resumed = lab.read("all.tar");
        let _ = copy(&[]).succeeds();
        assert!(lab.read("all.tar") == resumed);
        std::fs::remove_file(lab.path("all.tar")).unwrap();
    }
    let words = ["copy", "-b", &name, "--to-repo", &format!("{}/x", source.host()), "--resume"];
    let _ = lab.run(&words).fails(2, &["`--resume` works when a tar is written"]);
}

#[test]
fn tags_are_added_and_images_deleted() {
    let (lab, registry) = (lab(), Registry::start());
    let repository = format!("{}/app", registry.host());
    let one = image(&lab, &repository, "one");
    let output = lab.run(&["tag", "add", "-i", &one, "--tag", "v1", "--tag", "v2"]).succeeds();
    assert_eq!(output.stdout, format!("{repository}:v1@{0}\n{repository}:v2@{0}\n", digest(&one)));
    let tags = registry.storage().tags("app");
    assert_eq!((&tags["v1"], &tags["v2"]), (&tags["latest"], &tags["latest"]));
    let resolved = lab.run(&["tag", "resolve", "-i", &format!("{repository}:v2")]).succeeds();
    assert_eq!(resolved.one_line(), one);
    let _ = lab.run(&["tag", "add", "-i", &one]).fails(2, &["no tag was given"]);
    let _ = lab.run(&["tag", "delete", "-i", &repository]).fails(2, &["is not a repository with a tag"]);
    let _ = lab.run(&["delete", "-i", &format!("{repository}:v1")]).fails(2, &["has no digest"]);
    // This registry deletes by digest only.
    let output = lab.run(&["tag", "delete", "-i", &format!("{repository}:v1")]);
    if output.code == Some(0) {
        assert!(!registry.storage().tags("app").contains_key("v1"));
    } else {
        let _ = output.fails(1, &["does not let tags be deleted"]);
    }
    let output = lab.run(&["delete", "-i", &one]).succeeds();
    assert_eq!(output.one_line(), one);
    let _ = lab.run(&["tag", "resolve", "-i", &one]).fails(1, &["has no manifest"]);
}

#[test]
fn an_ignore_file_leaves_out_what_it_says_and_itself() {
    let lab = lab();
    for folder in ["with", "without"] {
        lab.write(&format!("{folder}/.imgpkg/images.yml"), format!("{HEADER}images: []\n"));
        lab.write(&format!("{folder}/keep.log"), "k");
        lab.write(&format!("{folder}/src/code"), "c");
    }
    lab.write("with/.imgrelayignore", "*.log\n!keep.log\n/target/\n");
    for path in ["a.log", "src/b.log", "target/x"] {
        lab.write(&format!("with/{path}"), "x");
    }
    lab.write("other/a.log", "another root has its own rules");
    let diff_id = |words: &[&str]| {
        let words = [&["push", "-b", "--to-oci-tar", "t.tar"], words].concat();
        let _ = lab.run(&words).succeeds();
        let described = lab.run(&["describe", "--tar", "t.tar", "-o", "json"]).succeeds().json();
        described["images"][0]["layers"][0]["diffId"].as_str().unwrap().to_owned()
    };
    assert_eq!(diff_id(&["-f", "with"]), diff_id(&["-f", "without"]));
    assert_eq!(
        diff_id(&["-f", "with", "-f", "other"]),
        imgpkg_diff_id(&[lab.path("without"), lab.path("other")], &LayerOptions::default())
    );
    lab.write("with/.imgrelayignore", "/.imgpkg/\n");
    let words = ["push", "-b", "--to-oci-tar", "t.tar", "-f", "with"];
    let _ = lab.run(&words).fails(1, &["none of the given paths has a `.imgpkg/images.yml`"]);
}

#[test]
fn a_description_shows_what_nested_bundles_name_in_a_stable_order() {
    let (lab, source) = (lab(), Registry::start());
    let (one, two, inner, outer) = nested(&lab, source.host());
    let (repository, _) = one.split_once('@').unwrap();
    lab.write("sig/sig", "s");
    let tag = format!("{repository}:{}.sig", dashed(&one));
    let _ = lab.run(&["push", "-i", &tag, "-f", "sig"]).succeeds();
    let describe = |words: &[&str]| lab.run(&[&["describe"], words].concat()).succeeds();
    let json = describe(&["-b", &outer, "-o", "json"]).json();
    let root = &json["images"][0];
    assert_eq!((root["kind"].as_str(), root["digest"].as_str()), (Some("bundle"), Some(digest(&outer))));
    let below = &root["images"][0];
    assert_eq!((below["image"].as_str(), below["content"]["kind"].as_str()), (Some(&*inner), Some("bundle")));
    assert_eq!(below["annotations"]["number"], "0");
    let images = &below["content"]["images"];
    assert_eq!(images[0]["content"]["digest"].as_str(), Some(digest(&two)));
    assert_eq!(images[0]["content"]["origin"].as_str(), Some(&*two));
    assert_eq!(images[1]["content"]["layers"].as_array().map(Vec::len), Some(1));
    assert_eq!(root["images"][1]["content"]["digest"].as_str(), Some(digest(&one)));
    assert_eq!(json["images"][1]["kind"].as_str(), Some("signature"), "{json:#}");
    assert_eq!(json["images"].as_array().map(Vec::len), Some(2));
    let without = describe(&["-b", &outer, "-o", "json", "--cosign-artifacts=false"]).json();
    assert_eq!(without["images"].as_array().map(Vec::len), Some(1));

    for form in ["text", "yaml", "json"] {
        let first = describe(&["-b", &outer, "-o", form]).stdout;
        assert_eq!(describe(&["-b", &outer, "-o", form, "--concurrency", "1"]).stdout, first, "{form}");
    }
    let text = describe(&["-b", &outer]).stdout;
    assert!(text.contains(&format!("    Bundle {}\n", digest(&inner))), "{text}");
    assert!(text.contains(&format!("      Origin: {inner}\n")), "{text}");
    assert!(text.contains(&format!("        Image {}\n", digest(&two))), "{text}");

    // Once copied, each bundle has an image that says where its images are; the original place is not asked.
    let to = format!("{}/moved", source.host());
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &to]).succeeds();
    source.forget_requests();
    let moved = describe(&["-b", &format!("{to}@{}", digest(&outer)), "-o", "json"]).json();
    assert!(source.requests().iter().all(|request| request.path.starts_with("/v2/moved/")));
    let tops = moved["images"].as_array().unwrap();
    let tops: Vec<_> =
        tops.iter().map(|top| (top["kind"].as_str().unwrap(), top["names"][0].as_str())).collect();
    let locations = |bundle: &str| format!("{}.image-locations.imgpkg", dashed(bundle));
    let expected = [locations(&outer), locations(&inner)];
    assert_eq!(tops[1..], expected.each_ref().map(|tag| ("internal", Some(tag.as_str()))), "{moved:#}");

    let _ = lab.run(&["copy", "-b", &outer, "--to-oci-tar", "t.tar"]).succeeds();
    let tar = describe(&["--tar", "t.tar", "-o", "json"]).json();
    assert_eq!(tar["images"].as_array().map(Vec::len), Some(1), "{tar:#}");
    assert_eq!(tar["images"][0]["images"][0]["content"]["images"], *images);
}
