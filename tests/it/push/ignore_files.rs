//! `.imgrelayignore`: what it says is not packed, and neither is the file itself.

use testkit::oracle::{LayerOptions, imgpkg_diff_id};

use crate::carvel::HEADER;
use crate::lab::lab;

#[test]
fn imgrelayignore_excludes_files_and_itself() {
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
