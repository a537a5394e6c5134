//! imgpkg's end-to-end scenarios without another test, and the page that names the test of each scenario.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use testkit::fault::{Access, FaultRegistry, Thing};
use testkit::registry::Registry;
use testkit::tree;

use crate::carvel::copy::nested;
use crate::carvel::tars::foreign;
use crate::carvel::{bundle, dashed, digest, file_of_image, image};
use crate::lab::lab;
use crate::layouts::{INDEX, descriptor};
use crate::samples;

const PAGE: &str = "docs/imgpkg-compatibility.md";
/// Opens the line with the counts.
const COUNTED: &str = "<!-- counted -->\n";
/// imgpkg's end-to-end scenarios.
const SCENARIOS: usize = 86;

#[test]
fn a_push_is_pulled_by_its_tag_and_its_default_tag() {
    let (lab, registry) = (samples::bundle(), Registry::start());
    for (kind, folder) in [("-b", "app"), ("-i", "app/config")] {
        let name = format!("{}/x{}", registry.host(), folder.len());
        let pushed = lab.run(&["push", kind, &format!("{name}:v1"), "-f", folder]).succeeds();
        let default = format!("{name}:{}.imgpkg", dashed(pushed.one_line()));
        let expected = tree::list_contents(&lab.path(folder));
        for reference in [&format!("{name}:v1"), &default, &pushed.one_line().to_owned()] {
            let pulled = lab.run(&["pull", kind, reference, "-o", "out", "--force"]).succeeds();
            assert_eq!(pulled.one_line(), pushed.one_line());
            assert_eq!(tree::list_contents(&lab.path("out")), expected, "{reference}");
        }
        let described = lab.run(&["describe", kind, &default, "-o", "json"]).succeeds().json();
        let label = &described["images"][0]["labels"]["dev.carvel.imgpkg.bundle"];
        assert_eq!(label.as_str(), (kind == "-b").then_some("true"));
    }
}

#[test]
fn preserve_permissions_on_push_comes_back_with_any_umask() {
    let registry = Registry::start();
    let lab = lab().tree(&["f x/run 755 '1'", "f x/text 640 '2'", "f x/read 400 '3'", "f x/d/all 666 '4'"]);
    let name = format!("{}/x:v1", registry.host());
    let _ = lab.run(&["push", "-i", &name, "-f", "x", "--preserve-permissions"]).succeeds();
    // `pull` copies the owner's permissions to group and others, as imgpkg does.
    for (umask, text, read) in [("000", "640", "444"), ("022", "640", "444")] {
        let _ = lab.command(&["pull", "-i", &name, "-o", "out", "--force"]).umask(umask).run().succeeds();
        let listed = tree::list(&lab.path("out"));
        let mode = |path: &str| {
            let line = listed.lines().find(|line| line.split(' ').nth(1) == Some(path)).unwrap();
            line.split(' ').nth(2).unwrap().to_owned()
        };
        let all = if umask == "000" { "666" } else { "644" };
        assert_eq!(
            [mode("run"), mode("text"), mode("read"), mode("d/all")],
            ["755", text, read, all],
            "{listed}"
        );
    }
}

#[test]
fn lock_of_a_bundle_goes_through_a_tar_with_its_tag() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let (_, _, inner, outer) = nested(&lab, source.host());
    let first = format!("{}/first", source.host());
    let words = ["copy", "-b", &outer, "--to-repo", &format!("{first}:v9"), "--lock-output", "first.yml"];
    let _ = lab.run(&words).succeeds();
    for sink in ["--to-oci-tar", "--to-tar"] {
        let _ = lab.run(&["copy", "--lock", "first.yml", sink, sink.trim_start_matches('-')]).succeeds();
    }
    source.stop();
    for tar in ["to-oci-tar", "to-tar"] {
        let to = format!("{}/{tar}", target.host());
        let words = ["copy", "--tar", tar, "--to-repo", &to, "--lock-output", "second.yml"];
        let _ = lab.run(&words).succeeds();
        let lock = format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nbundle:\n  image: {to}@{}\n  tag: v9\nkind: BundleLock\n",
            digest(&outer)
        );
        assert_eq!(String::from_utf8(lab.read("second.yml")).unwrap(), lock);
        assert_eq!(target.storage().tags(tar)["v9"], digest(&outer));
        for one in [&inner, &outer] {
            let (name, _) = file_of_image(&target, tar, &format!("{}.image-locations.imgpkg", dashed(one)));
            assert_eq!(name, "image-locations.yml");
        }
    }
}

#[test]
fn an_identity_token_from_variables_is_exchanged_for_a_token() {
    let lab = lab();
    let access =
        Access::Bearer { user: "ci", password: "hunter2", expires_in: Some(300), challenges: Vec::new() };
    let registry = FaultRegistry::start(access, vec![]);
    let image = format!("{}/team/app", registry.host());
    let list = |token: &str| {
        lab.command(&["tag", "list", "-i", &image])
            .env("IMGPKG_REGISTRY_HOSTNAME_0", registry.host())
            .env("IMGPKG_REGISTRY_IDENTITY_TOKEN_0", token)
            .run()
            .never_says("hunter2")
    };
    let _ = list("hunter2").succeeds();
    // As in the specification: OAuth2 with a refresh token, as go-containerregistry sends it.
    assert_eq!(registry.count("POST", Thing::Token), 1);
    assert_eq!(registry.count("GET", Thing::Token), 0);
    let _ = list("another").fails(1, &["401"]);
}

#[test]
fn copy_keeps_the_tag_of_an_image_and_writes_lock_output() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let one = image(&lab, &format!("{}/one", source.host()), "one");
    let from = format!("{}/one:latest", source.host());
    let copied = |repository: &str, words: &[&str]| {
        let to = format!("{}/{repository}", target.host());
        let words = [words, &["--to-repo", &to, "--lock-output", "lock.yml"]].concat();
        let _ = lab.run(&words).succeeds();
        let lock = format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n- image: {to}@{}\nkind: ImagesLock\n",
            digest(&one)
        );
        assert_eq!(String::from_utf8(lab.read("lock.yml")).unwrap(), lock, "{repository}");
        let tags = target.storage().tags(repository);
        assert_eq!(tags["latest"], digest(&one), "{repository}: {tags:?}");
        tags
    };
    let tags = copied("direct", &["copy", "-i", &from]);
    assert_eq!(tags[&format!("{}.imgpkg", dashed(&one))], digest(&one));
    for sink in ["--to-oci-tar", "--to-tar"] {
        let _ = lab.run(&["copy", "-i", &from, sink, "t.tar"]).succeeds();
        let _ = copied(sink.trim_start_matches('-'), &["copy", "--tar", "t.tar"]);
    }
}

#[test]
fn a_non_distributable_layer_deep_in_an_index_is_named() {
    let (lab, source) = (lab(), Registry::start());
    let (reference, layer) = foreign(&source, "win", true);
    let bytes = source.storage().manifest("win", digest(&reference)).unwrap();
    let child = descriptor("application/vnd.docker.distribution.manifest.v2+json", &bytes);
    let mut inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}).to_string();
    for _ in 0..2 {
        let _ = source.put_manifest("win", "index", INDEX, inner.as_bytes());
        let entry = descriptor(INDEX, inner.as_bytes());
        inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    }
    let outer = source.put_manifest("win", "index", INDEX, inner.as_bytes());
    let outer = format!("{}/win@{outer}", source.host());
    let all = bundle(&lab, &format!("{}/b:v1", source.host()), "b", &[&outer]);
    for sink in ["--to-oci-tar", "--to-tar"] {
        let output = lab.run(&["copy", "-b", &all, sink, "t.tar"]).succeeds();
        let _ =
            output.says(&format!("1 layer of `{}` in `{outer}` left out", digest(&reference))).says(&layer);
    }
}

#[test]
fn an_import_without_the_origin_says_that_the_flag_was_missing_at_the_export() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let (reference, layer) = foreign(&source, "win", true);
    let _ = lab.run(&["copy", "-i", &reference, "--to-oci-tar", "t.tar"]).succeeds().says(&layer);
    source.stop();
    let to = format!("{}/far:v1", target.host());
    let words = ["copy", "--tar", "t.tar", "--to-repo", &to, "--registry-retry-count", "0"];
    let _ = lab.run(&words).succeeds();
    let words = [&words[..], &["--include-non-distributable-layers"]].concat();
    let text = format!("`t.tar` was written without the non-distributable layer `{layer}`");
    let _ = lab
        .run(&words)
        .fails(4, &[&text, "the tar needs `--include-non-distributable-layers` when it is written"]);
}

#[test]
fn all_iaas_keychains_leave_a_wrong_password_error_of_a_private_registry() {
    let (lab, registry) = (lab(), Registry::with().htpasswd().start());
    lab.write("app/a", "x");
    let name = format!("{}/app:v1", registry.host());
    let words =
        ["push", "-i", &name, "-f", "app", "--registry-username", "stranger", "--registry-password", "x"];
    let failed = |variables: &[(&str, &str)]| {
        let mut command = lab.command(&words);
        for (name, value) in variables {
            command = command.env(name, value);
        }
        command.run().fails(1, &["401"]).stderr
    };
    let plain = failed(&[]);
    for variable in [("IMGPKG_ACTIVE_KEYCHAINS", "gke,aks,ecr,github"), ("IMGPKG_ENABLE_IAAS_AUTH", "true")] {
        assert_eq!(failed(&[variable]), plain, "{variable:?}");
    }
}

/// One row of the table.
struct Row {
    first: usize,
    last: usize,
    verdict: String,
    tests: Vec<String>,
    remark: String,
}

fn rows(page: &str) -> Vec<Row> {
    let table = page.split("## The 86 scenarios").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let lines = table.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [numbers, _, verdict, shown] = cells[..] else { panic!("four columns: {line}") };
            let (first, last) = numbers.split_once('–').unwrap_or((numbers, numbers));
            let (tests, remark) = shown.split_once(';').unwrap_or((shown, ""));
            Row {
                first: first.parse().unwrap(),
                last: last.parse().unwrap(),
                verdict: verdict.to_owned(),
                tests: tests.split(',').map(|test| test.trim().trim_matches('`').to_owned()).collect(),
                remark: remark.trim().to_owned(),
            }
        })
        .collect()
}

/// Tells whether a path names a test: `file::function` of these tests, or `module::function` of the library.
fn exists(path: &str) -> bool {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some((module, function)) = path.rsplit_once("::") else { return false };
    let file = module.replace("::", "/");
    let places = [format!("tests/it/{file}.rs"), format!("src/{file}.rs"), format!("src/{file}/mod.rs")];
    places.iter().filter_map(|place| std::fs::read_to_string(top.join(place)).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.windows(2).any(|two| two[0] == "#[test]" && two[1].starts_with(&format!("fn {function}()")))
    })
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the program")]
#[test]
fn the_page_counts_its_scenarios_and_names_tests_that_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let rows = rows(&page);
    let mut next = 1;
    let mut tests = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.first, next, "{PAGE}: every scenario has one row, in order");
        next = row.last + 1;
        assert!(row.verdict == "same" || !row.remark.is_empty(), "{PAGE}: {}: what is different?", row.first);
        for test in &row.tests {
            assert!(exists(test), "{PAGE}: {}: there is no test `{test}`", row.first);
            let _ = tests.insert(test);
        }
    }
    assert_eq!(next, SCENARIOS + 1);
    let count = |verdict: &str| {
        let rows = rows.iter().filter(|row| row.verdict == verdict);
        rows.map(|row| row.last + 1 - row.first).sum::<usize>()
    };
    let (same, other, part) = (count("same"), count("other"), count("part"));
    assert_eq!(same + other + part, SCENARIOS, "{PAGE}: a row is `same`, `other` or `part`");
    let line = format!(
        "{SCENARIOS} scenarios: {same} same, {other} other, {part} part, shown by {} tests.\n",
        tests.len()
    );
    let (before, after) = page.split_once(COUNTED).expect("a place for the counts");
    let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
    let expected = format!("{before}{COUNTED}{line}{rest}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(page == expected, "{PAGE}: the counts are old; run with UPDATE_DOCS=1. Expected: {line}");
    }
}

#[test]
fn a_test_that_does_not_exist_is_not_taken_for_one() {
    assert!(exists("carvel::scenarios::preserve_permissions_on_push_comes_back_with_any_umask"));
    assert!(exists("lock::locations::tags_are_those_of_imgpkg"));
    for path in ["carvel::scenarios::rows", "carvel::scenarios::nothing", "nowhere::x", "x"] {
        assert!(!exists(path), "{path}");
    }
}
