//! `--json`: every document fits its schema in `docs/schemas`, and `docs/json.md` shows a real one of each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use testkit::lab::Lab;
use testkit::registry::Registry;
use testkit::tools::{checker, run};

use crate::lab::lab;

/// Command, its schema, whether the page shows it, and the arguments; `REPO` stands for a repository.
type Row = (&'static str, &'static str, bool, &'static [&'static str]);

const NAME: &str = "registry.example/team/app:v1";

const ROWS: &[Row] = &[
    (
        "push",
        "image.json",
        true,
        &["push", "-i", NAME, "-f", "site:/site/", "--entrypoint", "/site/run", "--to-oci-tar", "app.tar"],
    ),
    ("copy", "image.json", true, &["copy", "--tar", "app.tar", "--to-repo", "REPO"]),
    ("index", "image.json", true, &["index", "--tar", "app.tar", "--to-oci-tar", "all.tar", "--name", NAME]),
    ("pull", "image.json", false, &["pull", "-i", "REPO:v1", "-o", "out"]),
    ("sign", "changes.json", false, &["sign", "--tar", "app.tar", "--key", "ed25519.key"]),
    (
        "attach",
        "changes.json",
        true,
        &["attach", "site/sbom.json", "--tar", "app.tar", "--type", "cyclonedx"],
    ),
    ("describe", "describe.json", true, &["describe", "--tar", "all.tar"]),
    ("describe", "describe.json", false, &["describe", "--tar", "app.tar"]),
    ("describe", "describe.json", false, &["describe", "-b", "REPO/bundle:v1"]),
    ("verify", "verify.json", true, &["verify", "--tar", "all.tar"]),
    ("verify", "verify.json", false, &["verify", "--tar", "app.tar", "--key", "ed25519.pub"]),
    ("verify", "verify.json", false, &["verify", "--tar", "app.tar", "--key", "p256.pub"]),
    ("verify", "verify.json", false, &["verify", "--tar", "damaged.tar"]),
    ("copy to a store", "image.json", false, &["copy", "--tar", "app.tar", "--to-store", "file://STORE:v1"]),
    ("store list", "versions.json", false, &["store", "list", "file://STORE"]),
    ("verify", "verify.json", false, &["verify", "--store", "file://STORE:v1"]),
    ("tag list", "tags.json", true, &["tag", "list", "-i", "REPO", "--digests"]),
    ("tag resolve", "tag.json", true, &["tag", "resolve", "-i", "REPO:v1"]),
    ("tag add", "references.json", true, &["tag", "add", "-i", "REPO:v1", "--tag", "v2"]),
    ("version", "text.json", true, &["version"]),
    ("completion", "text.json", false, &["completion", "bash"]),
    (
        "serve --print-config",
        "text.json",
        true,
        &["serve", "--tar", "app.tar", "--listen", "127.0.0.1:5000", "--print-config", "docker"],
    ),
    ("a failure", "error.json", true, &["copy", "--tar", "no.tar", "--to-repo", "REPO"]),
    ("a failure", "error.json", false, &["copy", "--jsn"]),
    (
        "a failure",
        "error.json",
        false,
        &["pull", "-i", "127.0.0.1:1/a", "-o", "x", "--registry-retry-count=1"],
    ),
];

const INTRODUCTION: &str = "\
# JSON

With `--json` a command prints one document on one line of standard output, also when it fails; `--result json:PATH` writes the same
document into a file, after a success only. The forms are JSON Schemas in [`schemas`](schemas), and the suite holds the program to
them. Members that are described there stay; others may come, so a reader ignores those it does not know.

| member | means everywhere |
|---|---|
| `digest` | digest of a manifest or index, `sha256:…` |
| `mediaType` | type of the document with this digest |
| `kind` | what it is: `bundle`, `image`, `source`, `index`; in `describe` also what else is stored beside images |
| `image` | repository, without tag or digest |
| `ref` | `repository@digest`, or the reference that a lock file names |
| `tags`, `refs` | tags, and `repository:tag` for each |
| `path` | a tar or folder |
| `size` | bytes as stored |
| `platform`, `platforms` | `os/architecture[/variant]` of an image; the images of an index as a table |
| `names` | names that are recorded for an image in a tar |
| `error` | why the command failed; `exitCode` is that of [errors.md](errors.md) |

A failed `verify` prints its report with `error` in it. Nothing is printed on standard output by a failed command whose tar goes there
(`--to-oci-tar -`). `serve -- CMD` leaves standard output to the command; `match` answers in the form of Cloud Foundry's API.

The examples below are real output, written by `UPDATE_DOCS=1 cargo test --test it json` with spaces and line breaks added.
";

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A lab with every input of the rows.
fn room(registry: &Registry) -> Lab {
    let lab = lab().tree(&[
        "f site/run 755 '#!/bin/sh\\necho hi\\n'",
        "f site/sbom.json '{\"bomFormat\":\"CycloneDX\"}\\n'",
        "f bundle/.imgpkg/images.yml 'apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock\\nimages: []\\n'",
    ]);
    for key in ["ed25519.key", "ed25519.pub", "p256.pub"] {
        lab.write(key, std::fs::read(package().join("tests/keys").join(key)).unwrap());
    }
    let place = format!("{}/team/app/bundle:v1", registry.host());
    let _ = lab.run(&["push", "-b", &place, "-f", "bundle"]).succeeds();
    let _ = lab.run(&["push", "-f", "site", "-i", "--to-oci-tar", "damaged.tar"]).succeeds();
    let mut bytes = lab.read("damaged.tar");
    let layer = bytes.windows(2).position(|two| two == [0x1f, 0x8b]).unwrap();
    bytes[layer + 20] ^= 1;
    lab.write("damaged.tar", bytes);
    lab
}

/// Makes every object of a schema refuse additional members.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(strict);
            if members.contains_key("properties") && !members.contains_key("additionalProperties") {
                members.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the program")]
fn every_json_document_has_the_form_of_its_schema_and_the_page_shows_one_of_each() {
    let registry = Registry::start();
    let lab = room(&registry);
    let repository = format!("{}/team/app", registry.host());
    let store = lab.path("store").display().to_string();
    let mut page = INTRODUCTION.to_owned();
    let mut tried = BTreeSet::new();
    for (number, (name, schema, is_shown, words)) in ROWS.iter().enumerate() {
        let typed: Vec<String> =
            words.iter().map(|word| word.replace("REPO", &repository).replace("STORE", &store)).collect();
        let output = lab.run(&[typed.clone(), vec!["--json".to_owned()]].concat());
        assert_eq!(output.stdout.lines().count(), 1, "one document: {output}");
        let document = output.json();
        let failed = output.code != Some(0);
        assert_eq!(failed, document["error"].is_object(), "{output}");
        if failed {
            assert_eq!(document["error"]["exitCode"], output.code.unwrap(), "{output}");
        }
        lab.write(&format!("documents/{schema}/{number}.json"), output.stdout.as_bytes());
        tried.insert(*schema);
        if *is_shown {
            let shown =
                serde_json::to_string_pretty(&document).unwrap().replace(registry.host(), "registry.example");
            let line = words.join(" ").replace("REPO", "registry.example/team/app");
            write!(page, "\n## {name}\n\nForm: [`{schema}`](schemas/{schema}). `imgrelay {line} --json` printed:\n\n```json\n{shown}\n```\n")
                .unwrap();
        }
    }
    let mut shipped: BTreeSet<String> = BTreeSet::new();
    for entry in std::fs::read_dir(package().join("docs/schemas")).unwrap() {
        shipped.insert(entry.unwrap().file_name().into_string().unwrap());
    }
    // A running server prints its document in a test of its own.
    tried.insert("serve.json");
    assert_eq!(shipped.iter().map(String::as_str).collect::<BTreeSet<_>>(), tried, "schemas and rows");
    for schema in &shipped {
        let text = std::fs::read_to_string(package().join("docs/schemas").join(schema)).unwrap();
        let mut form: Value = serde_json::from_str(&text).unwrap();
        let plain = lab.write(&format!("plain/{schema}"), &text);
        let _ = run(checker("check-jsonschema").arg("--check-metaschema").arg(plain)).success();
        strict(&mut form);
        let strict = lab.write(&format!("strict/{schema}"), form.to_string());
        let Ok(folder) = std::fs::read_dir(lab.path(format!("documents/{schema}"))) else { continue };
        let documents: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        let _ = run(checker("check-jsonschema").arg("--schemafile").arg(strict).args(documents)).success();
    }
    let path = package().join("docs/json.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == page,
        "docs/json.md is not current; write it with UPDATE_DOCS=1 cargo test --test it json"
    );
}

#[test]
fn an_error_as_json_leaves_a_tar_on_standard_output_alone() {
    let lab = lab();
    let output = lab.run(&["push", "-i", "r.io/a", "-f", "no", "--to-oci-tar", "-", "--json"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output}");
    let by_variable = lab.command(&["push", "-f", "no"]).env("IMGRELAY_JSON", "true").run();
    assert!(by_variable.json()["error"]["message"].is_string(), "{by_variable}");
}

#[test]
fn result_files_of_reports_hold_the_digest_and_the_report() {
    let (lab, digest) = crate::samples::packed();
    let lab = lab.tree(&["d tekton"]);
    let key = std::fs::read(package().join("tests/keys/ed25519.key")).unwrap();
    lab.write("k.key", key);
    let commands: [&[&str]; 3] = [
        &["verify", "--tar", "app.tar"],
        &["describe", "--tar", "app.tar"],
        &["sign", "--tar", "app.tar", "--key", "k.key"],
    ];
    for words in commands {
        let results =
            ["--result=digest:d", "--result=json:j", "--result=tekton:tekton", "--result=path:p", "--json"];
        let output = lab.run(&[words, &results[..]].concat()).succeeds();
        assert_eq!(String::from_utf8(lab.read("d")).unwrap(), digest, "{words:?}");
        assert_eq!(String::from_utf8(lab.read("j")).unwrap(), output.stdout, "{words:?}");
        assert_eq!(String::from_utf8(lab.read("tekton/LAYOUT_DIGEST")).unwrap(), digest, "{words:?}");
        assert_eq!(String::from_utf8(lab.read("p")).unwrap(), "app.tar", "{words:?}");
        for file in ["d", "j"] {
            std::fs::remove_file(lab.path(file)).unwrap();
        }
    }
    // A report of a failure is no result.
    let zero = format!("sha256:{}", "0".repeat(64));
    let words =
        ["verify", "--tar", "app.tar", "--expected-digest", &zero, "--result=digest:d", "--result=json:j"];
    assert_eq!(lab.run(&words).code, Some(3));
    assert!(!lab.path("d").exists() && !lab.path("j").exists());
}
