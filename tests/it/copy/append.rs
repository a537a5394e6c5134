//! `copy --append`: an image is added to a tar that has others.

use testkit::oracle::validate_layout;
use testkit::registry::Registry;
use testkit::tools::{run, tool};

use crate::carvel::copy::nested;
use crate::carvel::{dashed, digest, image};
use crate::lab::lab;

#[test]
fn five_appends_at_once_lose_no_image() {
    let lab = lab();
    let names = ["a", "b", "c", "d", "e", "f"].map(|name| format!("registry.example/{name}:v1"));
    for (number, name) in names.iter().enumerate() {
        lab.write(&format!("files-{number}/content"), name);
        let (folder, tar) = (format!("files-{number}"), format!("{number}.tar"));
        let _ = lab.run(&["push", "-i", name, "-f", &folder, "--to-oci-tar", &tar]).succeeds();
    }
    let _ = lab.run(&["copy", "--tar", "0.tar", "--to-oci-tar", "all.tar", "--append"]).succeeds();
    let shell = "for n in 1 2 3 4 5; do \"$1\" copy --tar $n.tar --to-oci-tar all.tar --append & all=\"$all $!\"; done; \
                 for one in $all; do wait $one; done";
    let program = env!("CARGO_BIN_EXE_imgrelay");
    let _ = run(tool("bash").arg("-ec").arg(shell).arg("-").arg(program).current_dir(lab.work())).success();
    validate_layout(lab.path("all.tar"));
    let found = lab.run(&["describe", "--tar", "all.tar", "--json"]).succeeds().json();
    let mut found: Vec<&str> =
        found["images"].as_array().unwrap().iter().map(|image| image["names"][0].as_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, names);
    assert_eq!(lab.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn append_adds_an_image_to_a_tar() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let host = source.host().to_owned();
    let (one, _, _, outer) = nested(&lab, &host);
    let three = image(&lab, &format!("{host}/three"), "three");
    let add = |what: &str, from: &str| lab.run(&["copy", what, from, "--to-oci-tar", "all.tar", "--append"]);
    // A tar that does not exist is created.
    let _ = add("-i", &one).succeeds();
    let _ = add("-i", &format!("{host}/three:latest")).succeeds();
    let _ = add("-b", &outer).succeeds();
    validate_layout(lab.path("all.tar"));
    let before = lab.read("all.tar");
    let _ = add("-b", &outer).succeeds();
    assert!(lab.read("all.tar") == before, "nothing twice");
    lab.write("image-three/content", "changed");
    let _ = lab.run(&["push", "-i", &format!("{host}/three:latest"), "-f", "image-three"]).succeeds();
    let _ = add("-i", &format!("{host}/three:latest"))
        .fails(1, &["another image with the name", "`imgrelay index --tar A --tar B`"]);
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
