//! `copy --append`: an image is added to a tar that has others.

use testkit::oracle::validate_layout;
use testkit::registry::Registry;

use crate::carvel::copy::nested;
use crate::carvel::{dashed, digest, image};
use crate::lab::lab;

#[test]
fn append_adds_an_image_to_a_tar() {
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
