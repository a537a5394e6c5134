//! `rebase`: the image keeps its layers, and the layers of the old base are replaced, if the image begins with them.

use serde_json::json;

use super::{Made, assert_sound, base, make};
use crate::lab::{Lab, lab};

/// A lab with an old base, a new one, and an image on the old one.
fn room() -> (Lab, Made) {
    let lab = lab().tree(&["f srv 755 'x'", "f fix/etc/fixed 'f'"]);
    let _ = base(&lab);
    let words = ["push", "-i", "r.example/base:v2", "--base-tar", "base.tar", "-f", "fix", "--env", "B=2"];
    let _ = lab.run(&[&words[..], &["--to-oci-tar", "new.tar"]].concat()).succeeds();
    let words = ["-i", "--base-tar", "base.tar", "-f", "srv:/bin/srv", "--entrypoint", "/bin/srv"];
    let image = make(&lab, &[&words[..], &["--env", "A=1"]].concat());
    std::fs::rename(lab.path("made.tar"), lab.path("app.tar")).unwrap();
    (lab, image)
}

#[test]
fn the_layers_above_the_old_base_are_put_on_the_new_one() {
    let (lab, image) = room();
    let new = Made::read(&lab, "new.tar");
    let made =
        make(&lab, &["-i", "--rebase", "./app.tar", "--old-base", "./base.tar", "--base-tar", "new.tar"]);
    let layers = |made: &Made| made.manifest["layers"].as_array().unwrap().clone();
    assert_eq!(layers(&made), [layers(&new), layers(&image)[1..].to_vec()].concat());
    let ids = |made: &Made| made.config["rootfs"]["diff_ids"].as_array().unwrap().clone();
    assert_eq!(ids(&made), [ids(&new), ids(&image)[1..].to_vec()].concat());
    assert_eq!(made.config["config"], image.config["config"], "the configuration stays the image's");
    let steps = |made: &Made| made.config["history"].as_array().unwrap().clone();
    assert_eq!(steps(&made), [steps(&new), steps(&image)[2..].to_vec()].concat());
    let annotations = &made.manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.base.name"], json!("r.example/base:v2"));
    assert_eq!(annotations["org.opencontainers.image.base.digest"], json!(new.digest));
    assert_sound(&lab, "made.tar");
}

#[test]
fn an_image_that_was_made_on_another_base_is_refused() {
    let (lab, _) = room();
    let words = ["push", "-i", "--rebase", "./app.tar", "--old-base", "./new.tar", "--base-tar", "base.tar"];
    let _ = lab
        .run(&[&words[..], &["--to-oci-tar", "no.tar"]].concat())
        .fails(1, &["cannot be put on another base: layer 2 of the old base is"]);
    assert!(!lab.path("no.tar").exists());
}
