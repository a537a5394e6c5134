//! Invisible characters in texts of an image are escaped in every output for users and logs.

use serde_json::json;
use testkit::tarball::Tarball;

use crate::lab::lab;
use crate::layouts::{CONFIG, LAYER_GZIP, Layout, MANIFEST, REF_NAME, gzip, hex, named};

/// A direction override, a zero-width space, C1 and DEL controls, separators, and a tag above U+FFFF.
const MARKS: &str = "a\u{202e}b\u{200b}c\u{7f}d\u{9b}e\u{2028}f\u{feff}g\u{e0001}h";

fn layout() -> Vec<u8> {
    let mut layout = Layout::default();
    let tar = Tarball::new().file("f", "x").finish();
    let config = json!({"architecture": "amd64", "os": "linux", "author": MARKS,
        "config": {"Labels": {MARKS: MARKS}, "User": MARKS},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&tar))]}});
    let config = layout.blob(CONFIG, config.to_string());
    let layer = layout.blob(LAYER_GZIP, gzip(&tar));
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        "annotations": {MARKS: MARKS}});
    let manifest = layout.blob(MANIFEST, manifest.to_string());
    layout.entries.push(named(manifest, &[(REF_NAME, "v1"), ("note", MARKS)]));
    layout.tar()
}

fn invisible(text: &str) -> Vec<char> {
    text.chars().filter(|character| MARKS.contains(*character) && !character.is_ascii_lowercase()).collect()
}

#[test]
fn describe_and_verify_escape_marks_in_text_yaml_and_json() {
    let lab = lab();
    lab.write("in.tar", layout());
    for command in [
        &["describe", "--tar", "in.tar"][..],
        &["describe", "--tar", "in.tar", "-o", "yaml"],
        &["describe", "--tar", "in.tar", "-o", "json"],
        &["describe", "--tar", "in.tar", "--json"],
        &["verify", "--tar", "in.tar"],
        &["verify", "--tar", "in.tar", "--json"],
    ] {
        let output = lab.run(command).succeeds();
        assert_eq!(invisible(&format!("{}{}", output.stdout, output.stderr)), [], "{output}");
    }
    let json = lab.run(&["describe", "--tar", "in.tar", "--json"]).json();
    assert!(json.to_string().contains(MARKS), "readers see the value: {json}");
}

#[test]
fn a_path_with_marks_is_escaped_in_json_and_refused_where_nothing_can_be_escaped() {
    let lab = lab().tree(&["d app", "f app/f \"x\""]);
    let tar = "a\u{202e}b.tar";
    let push = |result: &str| {
        lab.run(&[
            "push",
            "-i",
            "reg.example/a/b:v1",
            "-f",
            "app",
            "--to-oci-tar",
            tar,
            "--json",
            "--result",
            result,
        ])
    };
    let output = push("json:result.json").succeeds();
    for text in [output.stdout.as_str(), &String::from_utf8(lab.read("result.json")).unwrap()] {
        assert!(text.contains("a\\u202eb.tar") && invisible(text).is_empty(), "{text}");
    }
    std::fs::remove_file(lab.path(tar)).unwrap();
    std::fs::create_dir(lab.path("results")).unwrap();
    for result in ["dotenv:x.env", "path:x.path", "github:x.out", "tekton:results"] {
        let words = "a\\u{202e}b.tar` has a character that is not visible";
        let output = push(result).ends_with(2).says(words);
        assert!(
            invisible(&format!("{}{}", output.stderr, output.stdout)).is_empty() && !lab.path(tar).exists(),
            "{output}"
        );
    }
}
