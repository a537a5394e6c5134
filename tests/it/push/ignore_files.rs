//! `.imgrelayignore`: the files that it names are not packed, and neither is the file itself.

use testkit::oracle::{LayerOptions, imgpkg_diff_id};
use testkit::tools::{run, tool};

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

#[test]
fn an_ignore_file_in_utf_16_is_decoded_and_one_that_is_no_text_stops_the_work() {
    let lab = lab();
    let utf16 = |text: &str| -> Vec<u8> {
        [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
    };
    for (kind, name) in [("-i", ".imgrelayignore"), ("-s", ".cfignore")] {
        lab.write("app/index.html", "x");
        lab.write("app/secrets/key", "secret");
        let push = |what: &str| {
            let words = ["push", kind, "", "-f", what, "--to-oci-tar", "t.tar"];
            lab.run(&words)
        };
        lab.write(&format!("app/{name}"), utf16("secrets/\r\n"));
        let mut inputs = vec!["app"];
        if kind == "-s" {
            let _ =
                run(tool("bash").arg("-ec").arg("cd app && zip -qr ../app.zip .").current_dir(lab.work()))
                    .success();
            inputs.push("app.zip");
        }
        for input in &inputs {
            let _ = push(input).succeeds();
            let _ = lab.run(&["pull", "--tar", "t.tar", "-o", "out", "--force"]).succeeds();
            assert!(
                lab.path("out/index.html").exists() && !lab.path("out/secrets").exists(),
                "{name} {input}"
            );
        }
        for (content, text) in
            [(&b"s\0e\0c\0"[..], "line 1 has a NUL character"), (b"ok\n\xe4\n", "line 2 is not UTF-8")]
        {
            lab.write(&format!("app/{name}"), content);
            let _ = push("app").says(text).fails(if kind == "-i" { 2 } else { 1 }, &[name, text]);
        }
        std::fs::remove_file(lab.path(format!("app/{name}"))).unwrap();
        std::os::unix::fs::symlink("nowhere", lab.path(format!("app/{name}"))).unwrap();
        let _ = push("app").fails(1, &[name]);
        std::fs::remove_file(lab.path(format!("app/{name}"))).unwrap();
        std::fs::create_dir(lab.path(format!("app/{name}"))).unwrap();
        let _ = push("app").fails(if kind == "-i" { 2 } else { 1 }, &[name, "is not a file"]);
        std::fs::remove_dir_all(lab.path("app")).unwrap();
    }
}
