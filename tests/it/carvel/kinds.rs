//! What a bundle may name besides plain images: indexes, nested ones, charts; and lists of images without a bundle.

use serde_json::json;
use testkit::oracle::validate_layout;
use testkit::registry::Registry;

use crate::carvel::{bundle, digest, image, images_lock};
use crate::lab::{Lab, lab};
use crate::layouts::{INDEX, MANIFEST, descriptor};

/// Pushes an index of two images and an index of a third, and returns its reference and the digests of the children.
pub(crate) fn index(lab: &Lab, registry: &Registry) -> (String, Vec<String>) {
    let repository = format!("{}/src/index", registry.host());
    let children: Vec<String> = ["ca", "cb", "cc"].map(|name| image(lab, &repository, name)).into();
    let storage = registry.storage();
    let entry = |reference: &str| {
        let bytes = storage.manifest("src/index", digest(reference)).unwrap();
        descriptor(MANIFEST, &bytes)
    };
    let inner =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&children[2])]}).to_string();
    let inner_digest = registry.put_manifest("src/index", "inner", INDEX, inner.as_bytes());
    let manifests = [entry(&children[0]), entry(&children[1]), descriptor(INDEX, inner.as_bytes())];
    let outer = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    let outer_digest = registry.put_manifest("src/index", "multi", INDEX, outer.as_bytes());
    let mut digests: Vec<String> = children.iter().map(|child| digest(child).to_owned()).collect();
    digests.push(inner_digest);
    digests.push(outer_digest.clone());
    (format!("{repository}@{outer_digest}"), digests)
}

#[test]
fn an_index_in_a_bundle_arrives_with_all_its_children() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let host = source.host().to_owned();
    let (index, digests) = index(&lab, &source);
    let all = bundle(&lab, &format!("{host}/src/b:v1"), "b", &[&index]);
    let arrived = |repository: &str| {
        let storage = target.storage();
        storage.assert_sound();
        let there = storage.manifests(repository);
        digests.iter().all(|digest| there.contains(digest)) && there.contains(digest(&all))
    };
    source.forget_requests();
    let _ = lab.run(&["copy", "-b", &all, "--to-repo", &format!("{host}/same")]).succeeds();
    let mounts = source.requests();
    let mounts = mounts.iter().filter(|request| request.query.contains("mount=") && request.status == 201);
    // Three children and the bundle, a configuration and a layer each.
    assert_eq!(mounts.count(), 4 * 2, "children of an index are mounted too");

    let _ = lab.run(&["copy", "-b", &all, "--to-repo", &format!("{}/direct", target.host())]).succeeds();
    assert!(arrived("direct"));
    for to in ["--to-tar", "--to-oci-tar"] {
        let _ = lab.run(&["copy", "-b", &all, to, to.trim_start_matches('-')]).succeeds();
        let _ =
            lab.run(&["copy", "-i", &index, to, &format!("{}-index", to.trim_start_matches('-'))]).succeeds();
    }
    validate_layout(lab.path("to-oci-tar"));
    source.stop();
    for tar in ["to-tar", "to-oci-tar"] {
        let _ = lab.run(&["copy", "--tar", tar, "--to-repo", &format!("{}/{tar}", target.host())]).succeeds();
        assert!(arrived(tar), "{tar}");
        let from = format!("{tar}-index");
        let to = format!("{}/{from}", target.host());
        let output = lab.run(&["copy", "--tar", &from, "--to-repo", &to]).succeeds();
        assert_eq!(digest(output.one_line()), digest(&index));
    }
}

#[test]
fn an_images_lock_goes_through_a_tar_and_comes_back_as_a_lock() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let host = source.host();
    let (one, two) = (image(&lab, &format!("{host}/z"), "one"), image(&lab, &format!("{host}/a"), "two"));
    lab.write("images.yml", images_lock(&[&one, &two]));
    for to in ["--to-tar", "--to-oci-tar"] {
        let _ = lab.run(&["copy", "--lock", "images.yml", to, "t.tar"]).succeeds();
        let repository = format!("{}/{}", target.host(), to.trim_start_matches('-'));
        let words = ["copy", "--tar", "t.tar", "--to-repo", &repository, "--lock-output", "out.yml"];
        let _ = lab.run(&words).succeeds();
        // In the order of their origins. Only imgrelay's tar has the annotations of the lock.
        let annotation = |number| match to {
            "--to-tar" => String::new(),
            _ => format!("annotations:\n    number: \"{number}\"\n  "),
        };
        let expected = format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n- {}image: {repository}@{}\n- {}image: {repository}@{}\n\
             kind: ImagesLock\n",
            annotation(1),
            digest(&two),
            annotation(0),
            digest(&one)
        );
        assert_eq!(String::from_utf8(lab.read("out.yml")).unwrap(), expected, "{to}");
    }
}

#[test]
fn a_chart_is_copied_like_any_image() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let config = br#"{"name":"chart","version":"1.0.0"}"#;
    let content = b"not really a chart";
    let config_type = "application/vnd.cncf.helm.config.v1+json";
    let content_type = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config_type, config),
        "layers": [descriptor(content_type, content)]})
        .to_string();
    source.put_blob("charts/app", config);
    source.put_blob("charts/app", content);
    let chart = source.put_manifest("charts/app", "1.0.0", MANIFEST, manifest.as_bytes());
    let from = format!("{}/charts/app:1.0.0", source.host());
    let _ = lab.run(&["copy", "-i", &from, "--to-repo", &format!("{}/direct", target.host())]).succeeds();
    for to in ["--to-tar", "--to-oci-tar"] {
        let _ = lab.run(&["copy", "-i", &from, to, "t.tar"]).succeeds();
        let repository = format!("{}/{}", target.host(), to.trim_start_matches('-'));
        let _ = lab.run(&["copy", "--tar", "t.tar", "--to-repo", &repository]).succeeds();
        assert_eq!(target.storage().tags(to.trim_start_matches('-'))["1.0.0"], chart);
    }
    assert_eq!(target.storage().tags("direct")["1.0.0"], chart);
    let _ =
        lab.run(&["copy", "-i", &from, "--to-docker-tar", "d.tar"]).fails(1, &["is not an image with files"]);
}

#[test]
fn an_image_in_two_bundles_of_which_one_is_collocated_is_found() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let host = source.host().to_owned();
    let shared = image(&lab, &format!("{host}/shared"), "shared");
    let first = bundle(&lab, &format!("{host}/first:v1"), "first", &[&shared]);
    let second = bundle(&lab, &format!("{host}/second:v1"), "second", &[&shared]);
    let _ = lab.run(&["copy", "-b", &first, "--to-repo", &format!("{host}/first")]).succeeds();
    let outer = bundle(&lab, &format!("{host}/outer:v1"), "outer", &[&first, &second]);
    let _ = lab.run(&["copy", "-b", &outer, "--to-tar", "t.tar"]).succeeds();
    source.stop();
    let to = format!("{}/dst", target.host());
    let _ = lab.run(&["copy", "--tar", "t.tar", "--to-repo", &to]).succeeds();
    let storage = target.storage();
    storage.assert_sound();
    // The two inner bundles have the same locations.
    assert_eq!(storage.manifests("dst").len(), 4 + 2, "four images and two locations images");
}
