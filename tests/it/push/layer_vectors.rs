//! Layers equal imgpkg's, byte for byte: fixtures for every rule of its format, and random trees.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use testkit::lab::Lab;
use testkit::oracle::{self, LayerOptions};
use testkit::readers;
use testkit::tree::{self, Shape};

use crate::lab::lab;
use crate::push::failures::has_open;
use crate::samples::{Image, blob, bundle, digest_in, image, pack};

/// Packs paths of the lab with default options, and returns the image in the tar.
#[track_caller]
fn packed(lab: &Lab, words: &[&str]) -> Image {
    pack(lab, &[&["-i"], words].concat(), "layer.tar");
    let found = image(&lab.path("layer.tar"));
    std::fs::remove_file(lab.path("layer.tar")).unwrap();
    found
}

/// Compares with imgpkg's layer of the same paths.
#[track_caller]
fn equals_imgpkgs(lab: &Lab, paths: &[&str]) -> String {
    let words: Vec<&str> = paths.iter().flat_map(|path| ["-f", path]).collect();
    let diff_id = packed(lab, &words).diff_id;
    let full: Vec<PathBuf> = paths.iter().map(|path| lab.path(path)).collect();
    assert_eq!(diff_id, oracle::imgpkg_diff_id(&full, &LayerOptions::default()), "{paths:?}");
    diff_id
}

/// Entries for every rule of the format: lengths at the limits of USTAR, other scripts, line breaks, modes, links.
fn fixture() -> Vec<String> {
    let name = |length: usize| "n".repeat(length);
    let mut lines: Vec<String> = [
        "d x/empty",
        "d x/empty-too/in/a/row",
        "f x/b.txt 'after the folder b'",
        "f x/b/c 'before b.txt'",
        "f x/b-c 'before b.txt and after b/c'",
        "f x/B 'capital'",
        "f 'x/ünïcödé-名前-🦀' 'utf-8'",
        "f 'x/名前/ü' 'below utf-8'",
        "f 'x/new\\nline' 'newline'",
        "f 'x/tab\\tblank ' 'blanks'",
        "f 'x/back\\\\slash' 'backslash'",
        "f 'x/\\xff\\xfe' 'not utf-8'",
        "f x/--flag 'dashes'",
        "f x/.hidden 'dot'",
        "f x/data 0644 random:70000:3",
        "f x/one-block random:512:1",
        "f x/one-more random:513:1",
        "f x/one-less random:511:1",
        "f x/none 600",
        "f x/sparse zeros:100000",
        "h x/again = x/data",
        "d x/private 700",
        "d x/everybody 777",
        "d x/sticky 1777",
    ]
    .map(str::to_owned)
    .into();
    for mode in ["400", "444", "500", "555", "600", "644", "700", "755", "777", "4755", "2755"] {
        lines.push(format!("f x/mode-{mode} {mode} 'mode'"));
    }
    // A name alone up to 100 bytes, then a name with a prefix up to 155, then only PAX; a file system's names end
    // at 255.
    for length in [99, 100, 101, 155, 156, 255] {
        lines.push(format!("f x/{} 'long name'", name(length)));
    }
    for (folder, file) in [(99, 1), (50, 100), (155, 100), (155, 101), (156, 100), (200, 50)] {
        lines.push(format!("f x/{}/{} 'long path'", "p".repeat(folder), "f".repeat(file)));
    }
    lines.push(format!("f 'x/{}' 'long and not ASCII'", "é".repeat(120)));
    lines.push(format!("d x/{}", "d".repeat(100)));
    lines.push(format!("f x/{} 'deep'", "deep/".repeat(60) + "file"));
    lines
}

#[test]
fn every_rule_of_imgpkgs_recipe_is_followed() {
    let lab = lab().tree(&fixture());
    let diff_id = equals_imgpkgs(&lab, &["x"]);
    // Typed out, so that a change of the program or of the second implementation is noticed.
    assert_eq!(diff_id, "sha256:2be73c399c3552d4e2bbee647662a502fdf6d2db8916ae7471a41fa7269c9bed");
}

#[test]
fn several_paths_follow_one_another_in_the_order_given() {
    let lab = lab().tree(&["f x/a '1'", "d x/e", "f y/b 755 '2'", "f z.txt '3'", "d empty"]);
    let ids: Vec<String> = [
        &["x", "y", "z.txt"][..],
        &["y", "x", "z.txt"],
        &["z.txt", "y", "x"],
        &["z.txt"],
        &["empty"],
        &["empty", "z.txt"],
        &["x"],
    ]
    .into_iter()
    .map(|paths| equals_imgpkgs(&lab, paths))
    .collect();
    for (number, id) in ids.iter().enumerate() {
        assert!(!ids[..number].contains(id), "two orders made one layer");
    }
}

#[test]
fn a_link_to_a_file_or_folder_is_followed_when_it_is_named() {
    let lab = lab().tree(&["f x/a '1'", "l file -> x/a", "l folder -> x"]);
    equals_imgpkgs(&lab, &["file"]);
    assert_eq!(packed(&lab, &["-f", "folder"]), packed(&lab, &["-f", "x"]));
}

#[test]
fn a_layer_of_nothing_is_imgpkgs() {
    let lab = lab().tree(&["f x/a '1'"]);
    // imgpkg's own: 1024 zeros.
    let expected = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(packed(&lab, &["-f", "x", "--file-exclusion", "."]).diff_id, expected);
}

#[test]
fn file_exclusion_works_as_in_imgpkg() {
    let lab = lab().tree(&["f x/.git/a '1'", "f x/sub/.git/a '2'", "f x/b '3'", "f x/sub/b '4'"]);
    for exclude in [&[][..], &["b"], &["sub/b", "b"], &["sub"], &[".git", "sub/.git"]] {
        let mut words = vec!["-f", "x"];
        words.extend(exclude.iter().flat_map(|path| ["--file-exclusion", path]));
        let options = LayerOptions {
            exclude: exclude.iter().map(|path| (*path).to_owned()).collect(),
            ..LayerOptions::default()
        };
        let expected = oracle::imgpkg_diff_id(&[lab.path("x")], &options);
        assert_eq!(packed(&lab, &words).diff_id, expected, "{exclude:?}");
    }
}

#[test]
fn random_trees_become_imgpkgs_layers() {
    for seed in 20_261_121..20_261_127 {
        let lab = lab();
        tree::grow(&lab.path("x"), seed, Shape::default());
        equals_imgpkgs(&lab, &["x"]);
    }
}

#[test]
fn with_docker_types_the_configuration_is_imgpkgs_byte_for_byte() {
    let lab = bundle();
    let options = LayerOptions::default();
    let config = |words: &[&str]| {
        pack(&lab, &[words, &["--media-types", "docker"]].concat(), "layer.tar");
        let tar = lab.read("layer.tar");
        let bytes = blob(&tar, &image(&lab.path("layer.tar")).config).to_vec();
        String::from_utf8(bytes).unwrap()
    };
    let expected = |path: &str, config: &str| {
        let diff_id = oracle::imgpkg_diff_id(&[lab.path(path)], &options);
        format!(
            r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{{"author":"imgpkg","created":"0001-01-01T00:00:00Z","created_by":"imgpkg"}}],"os":"","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}},"config":{config}}}"#
        )
    };
    let bundle = config(&["-b", "-f", "app"]);
    assert_eq!(bundle, expected("app", r#"{"Labels":{"dev.carvel.imgpkg.bundle":"true"}}"#));
    assert_eq!(bundle.len(), 317, "what imgpkg's has");
    let plain = config(&["-i", "-f", "app/config"]);
    assert_eq!(plain, expected("app/config", "{}"));
    assert_eq!(plain.len(), 273, "what imgpkg's has");
    let labelled = config(&["-b", "-f", "app", "-l", "b=<2>,a=1"]);
    let labels = r#"{"Labels":{"a":"1","b":"\u003c2\u003e","dev.carvel.imgpkg.bundle":"true"}}"#;
    assert_eq!(labelled, expected("app", labels));
}

/// Returns the layer of the packed tar as Python reads it: name, kind, mode, target.
fn layer_entries(lab: &Lab, words: &[&str]) -> Vec<(String, String, u64, String)> {
    pack(lab, words, "layer.tar");
    let tar = lab.read("layer.tar");
    let layer = image(&lab.path("layer.tar")).layer;
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(blob(&tar, &layer)).read_to_end(&mut bytes).unwrap();
    let file = lab.write("plain.tar", bytes);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
    let row = |entry: &serde_json::Value| {
        assert_eq!((entry["uid"].as_u64(), entry["gid"].as_u64()), (Some(0), Some(0)), "{entry}");
        (text(&entry["name"]), text(&entry["kind"]), entry["mode"].as_u64().unwrap(), text(&entry["target"]))
    };
    let rows = readers::python_tar_entries(&file).iter().map(row).collect();
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(lab.path("layer.tar")).unwrap();
    rows
}

fn row(name: &str, kind: &str, mode: u64, target: &str) -> (String, String, u64, String) {
    (name.to_owned(), kind.to_owned(), mode, target.to_owned())
}

#[test]
fn symlinks_keep_and_follow_do_what_they_say() {
    let lab = lab().tree(&[
        "f x/d/file 755 'hi'",
        "l x/d/up -> ../other",
        "l x/link -> d/file",
        "l x/to-folder -> d",
        "f x/other '2'",
        "l x/nowhere -> gone",
    ]);
    let kept = [
        row(".", "folder", 0o700, ""),
        row("d", "folder", 0o700, ""),
        row("d/file", "file", 0o700, ""),
        row("d/up", "symlink", 0o777, "../other"),
        row("link", "symlink", 0o777, "d/file"),
        row("nowhere", "symlink", 0o777, "gone"),
        row("other", "file", 0o600, ""),
        row("to-folder", "symlink", 0o777, "d"),
    ];
    assert_eq!(layer_entries(&lab, &["-i", "-f", "x"]), kept);
    assert_eq!(layer_entries(&lab, &["-i", "-f", "x", "--symlinks", "keep"]), kept);
    // With `copy`, the layer is imgpkg's layer of the tree with the links followed.
    std::fs::remove_file(lab.path("x/nowhere")).unwrap();
    let mut copy = testkit::tools::tool("cp");
    let _ = testkit::tools::run(copy.args(["-rL"]).arg(lab.path("x")).arg(lab.path("followed"))).success();
    let expected = oracle::imgpkg_diff_id(&[lab.path("followed")], &LayerOptions::default());
    assert_eq!(packed(&lab, &["-f", "x", "--symlinks", "copy"]).diff_id, expected);
    // Without links the policy has no effect.
    for policy in ["keep", "copy", "refuse"] {
        assert_eq!(packed(&lab, &["-f", "followed", "--symlinks", policy]).diff_id, expected);
    }
}

#[test]
fn preserve_permissions_keeps_modes() {
    let lab = lab().tree(&["d x/shared 2775", "f x/run 4755 'x'", "f x/open 666", "d x 750"]);
    let entries = layer_entries(&lab, &["-i", "-f", "x", "--preserve-permissions"]);
    let expected = [
        row(".", "folder", 0o750, ""),
        row("open", "file", 0o666, ""),
        row("run", "file", 0o4755, ""),
        row("shared", "folder", 0o2775, ""),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    type Change = fn(&Lab);
    let changes: [(Change, &str); 4] = [
        (
            |lab| {
                let file = File::options().write(true).open(lab.path("x/huge")).unwrap();
                file.set_len(900_000_001).unwrap();
            },
            "`x/huge` changed while it was read: it grew beyond the 900000000 bytes it had",
        ),
        (
            |lab| File::options().write(true).open(lab.path("x/huge")).unwrap().set_len(5).unwrap(),
            "`x/huge` changed while it was read: it shrank from 900000000 to ",
        ),
        (
            |lab| {
                use std::os::unix::fs::FileExt as _;
                File::options().write(true).open(lab.path("x/huge")).unwrap().write_all_at(b"x", 7).unwrap();
            },
            "`x/huge` changed while it was read: it was written to",
        ),
        (
            |lab| std::fs::remove_file(lab.path("x/later")).unwrap(),
            "`x/later` changed while it was read: it vanished",
        ),
    ];
    for (change, message) in changes {
        let lab = lab().tree(&["f x/huge zeros:900000000", "f x/later 'x'", "f out.tar 'the older output'"]);
        let mut running = lab
            .command(&["push", "-i", "-f", "x", "--to-oci-tar", "out.tar", "--compression", "gzip:1"])
            .spawn();
        running.wait_until("reading the file", |running| has_open(running.id(), "x/huge"));
        change(&lab);
        let _ = running.wait().fails(1, &[message, "hint: wait until nothing writes to that folder"]);
        assert_eq!(lab.read("out.tar"), b"the older output");
    }
}

#[test]
fn the_digest_printed_is_that_of_the_manifest() {
    let lab = bundle();
    let output = lab.run(&["push", "-b", "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    assert_eq!(digest_in(output.one_line()), image(&lab.path("app.tar")).manifest);
}
