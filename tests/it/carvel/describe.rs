//! `describe` of bundles, in registries and in tars.

use testkit::registry::Registry;

use crate::carvel::copy::nested;
use crate::carvel::{dashed, digest};
use crate::lab::lab;

#[test]
fn describe_shows_nested_bundles_in_a_stable_order() {
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
    assert_eq!((below["ref"].as_str(), below["content"]["kind"].as_str()), (Some(&*inner), Some("bundle")));
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
    // The digest is shortened if the line would be longer than 80 columns.
    let short = |reference: &str| digest(reference)[.."sha256:".len() + 12].to_owned();
    assert!(text.contains(&format!("    Bundle {}\n", short(&inner))), "{text}");
    assert!(text.contains(&format!("      Origin: {inner}\n")), "{text}");
    assert!(text.contains(&format!("        Image {}\n", short(&two))), "{text}");

    // After the copy each bundle has a locations image, so no request goes to the original registry.
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
    // The copy left out the manifest with a signature's tag, which is a plain image here.
    let mut images = images.clone();
    let signatures = images[1]["content"].as_object_mut().unwrap().remove("signatures").unwrap();
    assert_eq!(signatures[0]["kind"], "unreadable", "{signatures:#}");
    assert_eq!(tar["images"][0]["images"][0]["content"]["images"], images);
}
