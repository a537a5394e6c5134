//! `--json`: every document fits its schema in `docs/schemas`, and `docs/json.md` shows a real one of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use testkit::fault::{Access, FaultRegistry};
use testkit::lab::{Lab, Output};
use testkit::registry::Registry;
use testkit::tools::{checker, run};

use crate::lab::lab;
use crate::serve::Served;

/// Heading, schema, whether the page shows it, exit code, and the command line: variables before its words, `<` before a
/// file for standard input. `REPO` stands for a repository, `OTHER` for one of a registry that deletes tags, `STORE` for an
/// image store, `ADDRESS` for one of this machine.
type Row = (&'static str, &'static str, bool, i32, &'static str);

const ROWS: &[Row] = &[
    (
        "push",
        "image.json",
        true,
        0,
        "push -i registry.example/team/app:v1 -f site:/site/ --entrypoint /site/run --to-oci-tar app.tar",
    ),
    ("copy", "image.json", true, 0, "copy --tar app.tar --to-repo REPO"),
    (
        "index",
        "image.json",
        true,
        0,
        "index --tar app.tar --to-oci-tar all.tar --name registry.example/team/app:v1",
    ),
    ("pull", "image.json", true, 0, "pull -i REPO:v1 -o out"),
    ("copy --to-store", "image.json", true, 0, "copy --tar app.tar --to-store STORE:v1"),
    ("store list", "versions.json", true, 0, "store list STORE"),
    ("store gc", "collected.json", true, 0, "store gc STORE --keep 1"),
    ("sign", "changes.json", true, 0, "sign --tar app.tar --key ed25519.key"),
    ("attach", "changes.json", true, 0, "attach site/sbom.json --tar app.tar --type cyclonedx"),
    (
        "sign",
        "changes.json",
        false,
        0,
        "sign -i REPO@IMAGE --key ed25519.key --identity registry.example/team/app:v1",
    ),
    ("describe", "describe.json", true, 0, "describe --tar all.tar"),
    ("describe", "describe.json", false, 0, "describe --tar app.tar"),
    ("describe", "describe.json", false, 0, "describe -b REPO/bundle:v1"),
    ("describe", "describe.json", false, 0, "describe -s REPO/src:v1"),
    ("pull", "image.json", false, 0, "pull -s REPO/src:v1 -o app"),
    ("verify", "verify.json", true, 0, "verify --tar all.tar"),
    ("verify", "verify.json", false, 0, "verify --tar nameless.tar"),
    ("verify --key", "verify.json", true, 0, "verify -i REPO:v1 --key ed25519.pub"),
    ("verify", "verify.json", false, 0, "verify --tar app.tar --key ed25519.pub"),
    ("verify", "verify.json", false, 3, "verify --tar app.tar --key p256.pub"),
    ("verify", "verify.json", false, 3, "verify --tar damaged.tar"),
    ("verify", "verify.json", false, 0, "verify --store STORE:v1"),
    ("ls", "files.json", true, 0, "ls --tar app.tar"),
    ("diff", "differences.json", true, 3, "diff app.tar new.tar"),
    ("diff", "differences.json", false, 0, "diff app.tar app.tar"),
    ("diff", "differences.json", false, 3, "diff all.tar both.tar"),
    ("diff", "differences.json", false, 0, "diff app.tar new.tar --max-growth 1000%"),
    ("match", "resources.json", true, 0, "match -s REPO/src:v1 <request.json"),
    ("task", "image.json", true, 0, "FILES=site KIND=image task"),
    ("tag list", "tags.json", true, 0, "tag list -i REPO --digests"),
    ("tag resolve", "tag.json", true, 0, "tag resolve -i REPO:v1"),
    ("tag add", "references.json", true, 0, "tag add -i REPO:v1 --tag v2"),
    ("tag delete", "references.json", true, 0, "tag delete -i OTHER:v2"),
    ("delete", "references.json", true, 0, "delete -i REPO/src@DIGEST"),
    ("serve", "serve.json", true, 0, "serve --tar app.tar --listen ADDRESS --ready-file ready"),
    (
        "serve --print-config",
        "text.json",
        true,
        0,
        "serve --tar app.tar --listen 127.0.0.1:5000 --print-config docker",
    ),
    ("completion", "text.json", true, 0, "completion bash"),
    ("version", "text.json", true, 0, "version"),
    ("a failure", "error.json", true, 1, "copy --tar no.tar --to-repo REPO"),
    ("a failure", "error.json", false, 2, "copy --jsn"),
    ("a failure", "error.json", false, 4, "pull -i 127.0.0.1:1/a -o x --registry-retry-count=1"),
    ("a failure", "error.json", false, 2, "task"),
    ("a failure", "error.json", false, 2, "cat --tar app.tar /site/run"),
];

/// Commands that print no document of their own: a file as it is, and the responses of the Concourse protocol.
const WITHOUT: [&str; 4] = ["cat", "check", "in", "out"];

const INTRODUCTION: &str = "\
# JSON

With `--json` a command prints one document on one line of standard output, also when it fails; `--result json:PATH` writes the same
document into a file, after a success only. The forms are JSON Schemas in [`schemas`](schemas), which a release has too, and the suite
holds the program to them. Members that are described there stay; others may come, so a reader ignores those it does not know.

| member | means everywhere |
|---|---|
| `digest` | digest of the object that has this member: a manifest, an index or a layer, `sha256:…` |
| `mediaType` | type of the document with this digest |
| `kind` | what it is: `bundle`, `image`, `source`, `index`; in `describe` also what else is stored beside images |
| `image` | repository, without tag or digest |
| `ref` | `repository@digest`, or the reference that a lock file names |
| `tags`, `refs` | tags, and `repository:tag` for each |
| `path` | a tar or folder; of a file in an image, its path there |
| `size` | bytes as stored; of a file in an image, bytes of its content |
| `layers` | the layers, lowest first; for an image that was written, their number |
| `platform`, `platforms` | `os/architecture[/variant]` of an image; the images of an index as a table |
| `names` | names that are recorded for an image in a tar |
| `error` | why the command failed; `exitCode` is that of [errors.md](errors.md) |

A failed `verify`, and a `diff` of images that differ, print their report with `error` in it. Nothing is printed on standard output by
a failed command whose tar goes there (`--to-oci-tar -`). `serve -- CMD` leaves standard output to the command; `match` answers in the
form of Cloud Foundry's API. `cat` prints a file and refuses `--json`; `check`, `in` and `out` speak the protocol of Concourse, with it
or without.

The examples below are real output, written by `UPDATE_DOCS=1 cargo test --test it json` with spaces and line breaks added; of long
texts the beginning is shown.
";

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A lab with every input of the rows, and the registries.
struct Room {
    lab: Lab,
    registry: Registry,
    /// Debian's registry deletes no tags.
    deleting: FaultRegistry,
    store: String,
    /// Digest of the image that the first row makes.
    image: String,
    /// Digest of a source image.
    source: String,
}

impl Room {
    fn new() -> Self {
        let registry = Registry::start();
        let deleting = FaultRegistry::start(Access::Open, Vec::new());
        let lab = lab().tree(&[
            "f site/run 755 '#!/bin/sh\\necho hi\\n'",
            "l site/start -> run",
            "f site/sbom.json '{\"bomFormat\":\"CycloneDX\"}\\n'",
            "f new/run 755 '#!/bin/sh\\necho bye\\n'",
            "f new/page 'page\\n'",
            "d image",
            "f bundle/.imgpkg/images.yml 'apiVersion: imgpkg.carvel.dev/v1alpha1\\nkind: ImagesLock\\nimages: []\\n'",
            "f request.json '{\"resources\":[{\"checksum\":{\"value\":\"c493a8f3550485f9b585def64ba3e495184275c4\"},\"size_in_bytes\":5,\"path\":\"page\",\"mode\":\"644\"}]}'",
        ]);
        for key in ["ed25519.key", "ed25519.pub", "p256.pub"] {
            lab.write(key, std::fs::read(package().join("tests/keys").join(key)).unwrap());
        }
        let pack = |words: &str| lab.run(&words.split(' ').collect::<Vec<_>>()).succeeds().stdout;
        let host = registry.host();
        pack(&format!("push -b {host}/team/app/bundle:v1 -f bundle"));
        pack(&format!("push -i {}/team/app:v2 -f new", deleting.host()));
        let pushed = pack(&format!("push -s {host}/team/app/src:v1 -f new"));
        let digest = |line: String| line.trim_end().split_once('@').unwrap().1.to_owned();
        let source = digest(pushed);
        let image = digest(pack(ROWS[0].4));
        pack(
            "push -i registry.example/team/app:v2 -f new:/site/ --entrypoint /site/run --to-oci-tar new.tar",
        );
        pack(
            "push -i registry.example/team/app:v2 -f new:/site/ --platform linux/arm64 --to-oci-tar arm.tar",
        );
        pack("index --tar new.tar --tar arm.tar --to-oci-tar both.tar");
        pack("push -f site -i --to-oci-tar nameless.tar");
        let mut bytes = lab.read("nameless.tar");
        let layer = bytes.windows(2).position(|two| two == [0x1f, 0x8b]).unwrap();
        bytes[layer + 20] ^= 1;
        lab.write("damaged.tar", bytes);
        let store = format!("file://{}", lab.path("store").display());
        Self { lab, registry, deleting, store, image, source }
    }

    /// Runs a row's command line with `--json`.
    fn run(&self, line: &str) -> Output {
        let line = line
            .replace("REPO", &format!("{}/team/app", self.registry.host()))
            .replace("OTHER", &format!("{}/team/app", self.deleting.host()))
            .replace("STORE", &self.store)
            .replace("DIGEST", &self.source)
            .replace("IMAGE", &self.image)
            .replace("ADDRESS", "127.0.0.1:0");
        let (before, words): (Vec<&str>, Vec<&str>) =
            line.split(' ').partition(|word| word.starts_with('<') || is_variable(word));
        let mut run = self.lab.command(&[&words[..], &["--json"]].concat());
        for word in before {
            run = match (word.strip_prefix('<'), word.split_once('=')) {
                (Some(file), _) => run.stdin(self.lab.read(file)),
                (None, Some((name, value))) => run.env(name, value),
                (None, None) => unreachable!("a variable has a value"),
            };
        }
        // A server runs until it is told to end.
        let is_server = words.contains(&"--ready-file");
        if is_server { Served::of(&self.lab, run.spawn()).stop() } else { run.run() }
    }

    /// Shows a document as the page does: places by the names that the page gives them, long texts cut.
    fn shown(&self, document: &Value) -> String {
        let mut document = document.clone();
        let served = document["registry"].as_str().unwrap_or("no server").to_owned();
        shorten(&mut document);
        serde_json::to_string_pretty(&document)
            .unwrap()
            .replace(self.registry.host(), "registry.example")
            .replace(&self.deleting.host(), "registry.example")
            .replace(&self.store, "file:///ci/store")
            .replace(&served, "127.0.0.1:5000")
    }
}

/// Tells whether a word of a command line is a variable before it.
fn is_variable(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase()) && word.contains('=')
}

/// Cuts long texts, and gives each time one value.
fn shorten(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(pushed) = members.get_mut("pushed") {
                assert!(pushed.as_str().unwrap().ends_with('Z'), "{pushed}");
                *pushed = "2026-11-30T09:00:00.000000Z".into();
            }
            members.values_mut().for_each(shorten);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::String(text) if text.chars().count() > 200 => {
            *text = text.chars().take(100).chain(['…']).collect();
        }
        _ => {}
    }
}

/// Returns the commands that the help names, with those below them.
fn commands(lab: &Lab) -> BTreeSet<String> {
    let listed = |above: &str| {
        let words: Vec<&str> = above.split_whitespace().chain(["--help"]).collect();
        let help = lab.run(&words).succeeds().stdout;
        let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
        let lines = list.lines().take_while(|line| !line.is_empty());
        let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        names
            .filter(|name| !name.is_empty())
            .map(|name| format!("{above} {name}").trim().to_owned())
            .collect()
    };
    let mut all = BTreeSet::new();
    for name in listed("") {
        let below = listed(&name);
        all.extend(if below.is_empty() { vec![name] } else { below });
    }
    all
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
fn every_json_document_has_the_form_of_its_schema_and_the_page_shows_one_of_each_command() {
    let room = Room::new();
    let mut page = INTRODUCTION.to_owned();
    let mut documents: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (name, schema, is_shown, code, line) in ROWS {
        let output = room.run(line);
        assert_eq!(output.stdout.lines().count(), 1, "one document: {line}: {output}");
        let document = output.json();
        assert_eq!(output.code, Some(*code), "{line}: {output}");
        let said = document["error"]["exitCode"].as_i64().unwrap_or_default();
        assert_eq!(said, i64::from(*code), "{line}: {output}");
        if *is_shown {
            let shown = room.shown(&document);
            let line = shown_line(line);
            write!(page, "\n## {name}\n\nForm: [`{schema}`](schemas/{schema}). `{line}` printed:\n\n```json\n{shown}\n```\n")
                .unwrap();
        }
        documents.entry(*schema).or_default().push(document);
    }
    let shown: BTreeSet<String> = ROWS.iter().filter(|row| row.2).map(|row| row.0.to_owned()).collect();
    let without: BTreeSet<String> = WITHOUT.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<String> = commands(&room.lab).into_iter().filter(|name| !shown.contains(name)).collect();
    assert_eq!(
        missing.into_iter().collect::<BTreeSet<_>>(),
        without,
        "commands without a schema and an example"
    );
    let shipped = check_forms(&room.lab, &documents);
    let tried: BTreeSet<String> = documents.keys().map(|schema| (*schema).to_owned()).collect();
    assert_eq!(shipped, tried, "schemas and rows");
    let path = package().join("docs/json.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let differs = found.lines().zip(page.lines()).find(|(found, page)| found != page);
    assert!(
        found == page,
        "docs/json.md is not current, at {differs:?}; write it with UPDATE_DOCS=1 cargo test --test it json"
    );
}

/// Returns a row's command line as the page shows it.
fn shown_line(line: &str) -> String {
    let line = line
        .replace("REPO", "registry.example/team/app")
        .replace("OTHER", "registry.example/team/app")
        .replace("STORE", "file:///ci/store")
        .replace("DIGEST", "sha256:…")
        .replace("ADDRESS", "127.0.0.1:5000");
    let (variables, words): (Vec<&str>, Vec<&str>) = line.split(' ').partition(|word| is_variable(word));
    let (files, words): (Vec<&str>, Vec<&str>) = words.into_iter().partition(|word| word.starts_with('<'));
    [variables, vec!["imgrelay"], words, vec!["--json"], files].concat().join(" ")
}

/// Checks the schemas, and all documents by them; returns the names of the schemas.
///
/// One schema with all of them in it, and one document, because each start of the checker takes a second.
fn check_forms(lab: &Lab, documents: &BTreeMap<&str, Vec<Value>>) -> BTreeSet<String> {
    let (mut forms, mut plain) = (serde_json::Map::new(), Vec::new());
    for entry in std::fs::read_dir(package().join("docs/schemas")).unwrap() {
        let path = entry.unwrap().path();
        let mut form: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        strict(&mut form);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(form["$id"].as_str(), Some(&*name), "the name by which it refers to itself");
        forms.insert(name, json!({"type": "array", "items": form}));
        plain.push(path);
    }
    let _ = run(checker("check-jsonschema").arg("--check-metaschema").args(plain)).success();
    let names = forms.keys().cloned().collect();
    let all = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": forms,
        "additionalProperties": false,
    });
    let all = lab.write("forms.json", all.to_string());
    let documents = lab.write("documents.json", serde_json::to_string(documents).unwrap());
    let _ = run(checker("check-jsonschema").arg("--schemafile").arg(all).arg(documents)).success();
    names
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
