//! Source images of folders and of zips: kpack extracts the files that were packed.

use crate::lab::lab;
use std::path::Path;
use testkit::registry::Registry;
use testkit::tools::{run, tool};
use testkit::{kpack, oracle, readers, tree};

/// An app with a file for every rule of packing; modes as cf and git have them.
const APP: [&str; 17] = [
    "f app/.cfignore '*.log\\n!keep.log\\n/tmp/\\n'",
    "f app/.git/config 'x'",
    "f app/sub/.gitignore 'x'",
    "f app/manifest.yml 'x'",
    "f app/README.md 664 'hello\\n'",
    "f app/bin/run 755 '#!/bin/sh\\n'",
    "f app/bin/odd 4775 'x'",
    "f app/secret 400 'x'",
    "f app/a.log 'x'",
    "f app/keep.log 'x'",
    "f app/tmp/x 'x'",
    "d app/empty 700",
    "d app/logs",
    "f app/logs/b.log 'x'",
    "f 'app/sub/ü b' 644 'x'",
    "l app/start -> bin/run",
    "l app/node/current -> ../bin",
];
/// The entries that have to arrive.
const ARRIVES: [&str; 17] = [
    "f README.md 644 'hello\\n'",
    "d bin 755",
    "f bin/odd 755 'x'",
    "f bin/run 755 '#!/bin/sh\\n'",
    "d empty 755",
    "f keep.log 644 'x'",
    "d logs 755",
    "d node 755",
    "d node/current 755",
    "f node/current/odd 755 'x'",
    "f node/current/run 755 '#!/bin/sh\\n'",
    "f secret 644 'x'",
    "f start 755 '#!/bin/sh\\n'",
    "d sub 755",
    "f 'sub/ü b' 644 'x'",
    "d sub 755",
    "d bin 755",
];

fn zip_of(folder: &Path, target: &Path, more: &[&str]) {
    let mut command = tool("zip");
    let _ =
        run(command.args(["-q", "-r", "-y"]).args(more).arg(target).arg(".").current_dir(folder)).success();
}

#[test]
fn kpack_extracts_the_packed_app_and_a_zip_gives_the_same_digest() {
    let lab = lab().tree(&APP);
    let output = lab.run(&["push", "-s", "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    let output =
        output.says("3 files behind symbolic links, `node/current/odd` first, were packed as copies");
    let digest = output.one_line().rsplit('@').next().unwrap().to_owned();
    oracle::validate_layout(lab.path("app.tar"));
    kpack::extract(&lab.path("app.tar"), &lab.path("extracted"));
    tree::make(&lab.path("expected"), &ARRIVES);
    assert_eq!(tree::list(&lab.path("extracted")), tree::list(&lab.path("expected")));
    // With and without entries for folders, deflated and stored.
    for (name, more) in [("a.zip", &[][..]), ("b.zip", &["-0"]), ("c.zip", &["-9", "-X"])] {
        zip_of(&lab.path("app"), &lab.path(name), more);
        let output = lab.run(&["push", "-s", "-f", name, "--to-oci-tar", "zip.tar"]).succeeds();
        assert!(output.one_line().ends_with(&digest), "{name}: {output}");
        assert_eq!(lab.read("zip.tar"), lab.read("app.tar"), "{name}");
    }
    // A tar inside the folder that is being replaced is not packed.
    let output = lab.run(&["push", "-s", "-f", "app", "--to-oci-tar", "app/own.tar"]).succeeds();
    assert!(output.one_line().ends_with(&digest), "{output}");
    let output = lab.run(&["push", "-s", "-f", "app", "--to-oci-tar", "app/own.tar"]).succeeds();
    assert!(output.one_line().ends_with(&digest), "{output}");
}

#[test]
fn every_entry_has_cloud_foundrys_time_and_one_layer_has_the_ordinary_type() {
    let lab = lab().tree(&["f app/a 'x'", "f app/d/b 'x'", "d app/e"]);
    let _ = lab.run(&["push", "-s", "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    let described = lab.run(&["describe", "--tar", "app.tar", "--json"]).succeeds();
    assert!(described.stdout.contains("application/vnd.oci.image.layer.v1.tar+gzip"), "{described}");
    readers::gnu_untar(&lab.path("app.tar"), &lab.path("layout"));
    let blobs = std::fs::read_dir(lab.path("layout/blobs/sha256")).unwrap().map(|blob| blob.unwrap().path());
    let layer = blobs.into_iter().find(|blob| std::fs::read(blob).unwrap().starts_with(b"\x1f\x8b")).unwrap();
    let entries = readers::python_tar_entries(&layer);
    let shown: Vec<String> = entries
        .iter()
        .map(|entry| format!("{} {} {} {}", entry["kind"], entry["name"], entry["mode"], entry["mtime"]))
        .collect();
    let expected =
        ["\"file\" \"a\" 420 315532801", "\"file\" \"d/b\" 420 315532801", "\"folder\" \"e\" 493 315532801"];
    assert_eq!(shown, expected);
}

#[test]
fn an_app_image_is_pushed_and_pulled() {
    let registry = Registry::start();
    let lab = lab().tree(&APP);
    let name = format!("{}/apps/shop-packages", registry.host());
    let tags = ["--tag", "0b7c1f7e"];
    let output = lab.run(&[&["push", "-s", &name, "-f", "app"][..], &tags, &["--json"]].concat()).succeeds();
    let result = output.json();
    assert_eq!((&result["kind"], &result["layers"]), (&"source".into(), &1.into()), "{output}");
    let digest = result["digest"].as_str().unwrap();
    let from = format!("docker://{name}@{digest}");
    let to = format!("oci-archive:{}", lab.path("back.tar").display());
    let _ = readers::skopeo_copy(&from, &to, &["--src-tls-verify=false"]).success();
    kpack::extract(&lab.path("back.tar"), &lab.path("extracted"));
    tree::make(&lab.path("expected"), &ARRIVES);
    assert_eq!(tree::list(&lab.path("extracted")), tree::list(&lab.path("expected")));
    for tag in ["latest", "0b7c1f7e"] {
        let reference = format!("{name}:{tag}");
        let output = lab.run(&["tag", "resolve", "-i", &reference]).succeeds();
        assert!(output.one_line().ends_with(digest), "{output}");
    }
    // The commands that read take it by the flag that it was made with, and say what it is.
    let described = lab.run(&["describe", "-s", &name, "--result", "ref:ref"]).succeeds();
    assert_eq!(described.stdout.lines().next(), Some(&*format!("Source {digest}")), "{described}");
    assert_eq!(lab.read("ref"), format!("{name}@{digest}").as_bytes());
    let described = lab.run(&["describe", "-s", &format!("{name}@{digest}"), "--json"]).succeeds().json();
    let image = &described["images"][0];
    assert_eq!((&image["kind"], image["digest"].as_str()), (&"source".into(), Some(digest)), "{described}");
    let pull = ["pull", "-s", &name, "-o", "pulled", "--json"];
    let pulled = lab.command(&pull).umask("022").run().succeeds().json();
    assert_eq!((&pulled["kind"], pulled["digest"].as_str()), (&"source".into(), Some(digest)), "{pulled}");
    assert_eq!(pulled["image"].as_str(), Some(name.as_str()));
    assert_eq!(tree::list(&lab.path("pulled")), tree::list(&lab.path("expected")));
    let gone = format!("{name}:gone");
    for words in [&["describe", "-s", &gone][..], &["pull", "-s", &gone, "-o", "none"]] {
        let _ = lab.run(words).fails(1, &["has no manifest `gone`"]);
    }
    let recursive = ["pull", "-s", &name, "-o", "none", "--recursive"];
    let _ =
        lab.run(&recursive).fails(2, &["`--recursive` works with bundles only, but `--source` was given"]);
    assert!(!lab.path("none").exists());
}

#[test]
fn the_cf_defaults_are_excluded_at_any_depth() {
    let names = [
        ".cfignore",
        ".DS_Store",
        ".git",
        ".gitignore",
        ".hg",
        ".svn",
        "_darcs",
        "manifest.yaml",
        "manifest.yml",
    ];
    let mut lines = vec!["f app/kept 'x'".to_owned(), "f app/deep/down/kept 'x'".to_owned()];
    for name in names {
        lines.extend([format!("f app/{name} ''"), format!("f app/deep/down/{name} ''")]);
        // A name that only looks like it is packed; a folder of that name is not.
        lines.extend([format!("f app/{name}.txt 'x'"), format!("f app/folders/{name}/inside 'x'")]);
    }
    let lab = lab().tree(&lines);
    let _ = lab.run(&["push", "-s", "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    kpack::extract(&lab.path("app.tar"), &lab.path("out"));
    let list = tree::list(&lab.path("out"));
    let mut found: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with('f'))
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    found.sort_unstable();
    let mut expected: Vec<String> = names.iter().map(|name| format!("{name}.txt")).collect();
    expected.extend(["kept".to_owned(), "deep/down/kept".to_owned()]);
    expected.sort();
    assert_eq!(found, expected, "{list}");
}

#[test]
fn preserve_permissions_keeps_modes_but_for_what_a_build_needs() {
    let lab = lab().tree(&["f app/a 640 'x'", "f app/b 4111 'x'", "f app/c 777 'x'", "d app/d 70"]);
    let words = ["push", "-s", "-f", "app", "--preserve-permissions", "--to-oci-tar", "app.tar"];
    let _ = lab.run(&words).succeeds();
    let _ = lab.command(&["pull", "--tar", "app.tar", "-o", "out"]).umask("022").run().succeeds();
    let list = tree::list(&lab.path("out"));
    let modes: Vec<&str> = list.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    // Extracting applies the umask, as in kpack.
    assert_eq!(modes, ["640", "711", "755", "750"], "{list}");
}

#[test]
fn push_source_names_all_links_that_cannot_be_packed_and_symlinks_omit_leaves_them_out() {
    // A virtual environment of Python, and a package manager's tree of links with a circle.
    let lab = lab().tree(&[
        "f app/main.py 'x'",
        "l app/venv/bin/python -> /usr/bin/python3",
        "l app/venv/bin/python3 -> python",
        "d app/venv/lib",
        "l app/venv/lib64 -> lib",
        "l app/node_modules/a/self -> ../../node_modules",
    ]);
    let push = ["push", "-s", "-f", "app", "--to-oci-tar", "x.tar"];
    let said = lab.run(&push).fails(
        1,
        &[
            "3 symbolic links cannot be packed: `",
            "app/node_modules/a/self` -> `../../node_modules`: following it never ends; `",
            "app/venv/bin/python` -> `/usr/bin/python3`: its target is an absolute path; `",
            "app/venv/bin/python3` -> `python`: its target is outside",
            "hint: change the links, or leave them out: these with `--file-exclusion`, all with `--symlinks omit`",
        ],
    );
    let _ = said.never_says("--symlinks copy");
    assert!(!lab.path("x.tar").exists());
    let refuse = [&push[..], &["--symlinks", "refuse"]].concat();
    let _ = lab.run(&refuse).fails(1, &["4 symbolic links cannot be packed", "`--symlinks copy` packs the"]);
    let omit = [&push[..], &["--symlinks", "omit"]].concat();
    let _ = lab.run(&omit).succeeds().says("4 symbolic links left out");
    let _ = lab.run(&["pull", "--tar", "x.tar", "-o", "out"]).succeeds();
    let expected = ["main.py", "node_modules/a", "venv/bin", "venv/lib"];
    let found = run(tool("find")
        .args([".", "(", "-type", "f", "-o", "-empty", ")", "-printf", "%P\\n"])
        .current_dir(lab.path("out")))
    .success();
    let mut found: Vec<&str> = found.stdout.lines().collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn folders_that_cannot_be_an_app_are_refused() {
    let lab = lab().tree(&[
        "l loop/a/b -> ../a",
        "l out/l -> ../other",
        "f other 'x'",
        "l abs/l -> /etc/passwd",
        "l dangling/l -> nothing",
        "f nothing-left/.git/x 'x'",
        "d nothing",
        "f big/a zeros:600",
        "f big/b zeros:600",
        "f text 'x'",
        "p pipe",
        "f bad/.cfignore '[z-a]\\n'",
        "f white/d/.wh.x 'x'",
    ]);
    let cases: &[(&[&str], &[&str])] = &[
        (&["loop"], &["loop/a/b` -> `../a` cannot be packed: following it never ends"]),
        (&["out"], &["out/l` -> `../other` cannot be packed: its target is outside"]),
        (&["abs"], &["abs/l` -> `/etc/passwd` cannot be packed: its target is an absolute path"]),
        (&["dangling"], &["dangling/l` -> `nothing` cannot be packed: its target does not exist"]),
        (&["nothing-left"], &["`nothing-left` has nothing that could be packed"]),
        (&["nothing"], &["`nothing` has nothing that could be packed"]),
        (
            &["big", "--size-limit", "1000"],
            &["`big` has more than 1000 bytes: 1200 with `b`", "allow more with `--size-limit`"],
        ),
        (&["text"], &["`text`: has no end-of-central-directory record", "name a folder, or a zip"]),
        (&["pipe"], &["`pipe` is neither a folder nor a file"]),
        (&["missing"], &["cannot read `missing`"]),
        (&["bad"], &["`.cfignore` in `bad`: line 1"]),
        (&["white"], &["`d/.wh.x` would act as a whiteout"]),
    ];
    for (words, texts) in cases {
        let words = [&["push", "-s", "--to-oci-tar", "x.tar", "-f"][..], words].concat();
        let _ = lab.run(&words).fails(1, texts);
        assert!(!lab.path("x.tar").exists(), "{words:?}");
    }
    let exact = ["push", "-s", "--to-oci-tar", "x.tar", "-f", "big", "--size-limit", "1200"];
    let _ = lab.run(&exact).succeeds();
}
