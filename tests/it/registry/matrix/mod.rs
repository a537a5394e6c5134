//! The fault matrix: every fault for each way of using a registry, with the real executable.
//!
//! The results are compared with `docs/registry-faults.md`; `UPDATE_DOCS=1` writes that page.

mod faithful;
mod odd;
mod rows;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::{Value, json};
use testkit::fault::{Access, FaultRegistry, Rule, Thing};
use testkit::lab::Output;
use testkit::oracle;
use testkit::random::Random;

use crate::concourse::step;
use crate::lab::{Lab, lab};
use crate::registry::cli::{hasty, room};
use rows::{Cell, MIB, Present, Row, Size};

const COLUMNS: &str =
    "| fault | push | pull | copy from it | copy to it | check |\n|---|---|---|---|---|---|\n";

/// The images, as tars and in registries without faults.
struct Models {
    tars: [Vec<u8>; 2],
    registries: [FaultRegistry; 2],
}

impl Models {
    fn new() -> Self {
        let lab = room();
        lab.write("large/noise.bin", Random::new(8).bytes(20 * MIB));
        let _ = lab.run(&["push", "-i", "-f", "large", "--to-oci-tar", "large.tar"]).succeeds();
        let names = ["app.tar", "large.tar"];
        let registries = names.map(|tar| {
            let registry = FaultRegistry::start(Access::Open, Vec::new());
            let to = format!("{}/team/app:v1", registry.host());
            let _ = lab.run(&["copy", "--tar", tar, "--to-repo", &to]).succeeds();
            registry
        });
        Self { tars: names.map(|tar| lab.read(tar)), registries }
    }
}

/// A lab with the images' tars.
struct Place<'a> {
    lab: Lab,
    models: &'a Models,
}

impl<'a> Place<'a> {
    fn new(models: &'a Models) -> Self {
        let lab = lab();
        lab.write("app.tar", &models.tars[0]);
        lab.write("large.tar", &models.tars[1]);
        Self { lab, models }
    }

    fn model(&self, row: &Row) -> &FaultRegistry {
        let [small, large] = &self.models.registries;
        if row.size == Size::Large { large } else { small }
    }

    /// Starts the registry of a row with the settings that all ways share.
    fn registry(&self, row: &Row, filled: bool) -> FaultRegistry {
        let registry = (row.habits)(FaultRegistry::start(row.access.clone(), Vec::new()));
        match row.content {
            Some(content) => content(&registry),
            None if filled || row.present == Present::Tag => registry.copy_of(self.model(row)),
            None if row.present == Present::Blobs => {
                registry.copy_of(self.model(row));
                registry.forget_manifests();
            }
            None => {}
        }
        registry
    }

    fn digest(&self, row: &Row) -> String {
        self.model(row).tag("team/app", "v1").expect("the model has the image")
    }
}

fn run(lab: &Lab, words: &[&str]) -> Output {
    hasty(lab, words)
        .env("IMGRELAY_REGISTRY_USERNAME", "ci")
        .env("IMGRELAY_REGISTRY_PASSWORD", "s3cret")
        .run()
}

fn add(registry: &FaultRegistry, rules: &[Rule]) {
    rules.iter().for_each(|rule| registry.rule(rule.clone()));
}

/// Checks the registry's content after a push, and describes the result.
fn written(registry: &FaultRegistry, name: &str, row: &Row, expected: &str, output: Output) -> String {
    if output.code == Some(0) {
        assert_eq!(registry.check_image(name, "v1"), Ok(()), "{}: {output}", row.name);
        assert_eq!(registry.tag(name, "v1").as_deref(), Some(expected), "{}: {output}", row.name);
    } else if row.present != Present::Tag {
        assert_eq!(registry.tag(name, "v1"), None, "{}: nothing is tagged", row.name);
    }
    outcome(registry, output)
}

fn pushed(place: &Place<'_>, row: &Row, rules: &[Rule]) -> String {
    let registry = place.registry(row, false);
    add(&registry, rules);
    let tar = if row.size == Size::Large { "large.tar" } else { "app.tar" };
    let to = format!("{}/team/app:v1", registry.host());
    let output = run(&place.lab, &["copy", "--tar", tar, "--to-repo", &to]);
    written(&registry, "team/app", row, &place.digest(row), output)
}

/// Returns the name of the image to read, by tag or by the expected digest.
fn wanted(place: &Place<'_>, registry: &FaultRegistry, row: &Row) -> String {
    let host = registry.host();
    if row.pinned { format!("{host}/team/app@{}", place.digest(row)) } else { format!("{host}/team/app:v1") }
}

fn pulled(place: &Place<'_>, row: &Row, rules: &[Rule]) -> String {
    let registry = place.registry(row, true);
    add(&registry, rules);
    let path = place.lab.path("out.tar");
    let _ = std::fs::remove_file(&path);
    let words = ["copy", "-i", &wanted(place, &registry, row), "--to-oci-tar", "out.tar"];
    let output = run(&place.lab, &words);
    if output.code == Some(0) {
        let mut problems = oracle::layout_problems(&path);
        // The oracle does not allow missing layers, also if they are non-distributable.
        problems.retain(|problem| {
            !row.absent || !problem.ends_with("is missing") && !problem.starts_with("error: manifest.json/0")
        });
        assert!(problems.is_empty(), "{}: {problems:#?}", row.name);
    } else {
        assert!(!path.exists(), "{}: no half file", row.name);
    }
    outcome(&registry, output)
}

fn copied_from(place: &Place<'_>, row: &Row, rules: &[Rule]) -> String {
    let (registry, other) = (place.registry(row, true), FaultRegistry::start(Access::Open, Vec::new()));
    add(&registry, rules);
    let to = format!("{}/team/copy:v1", other.host());
    let output = run(&place.lab, &["copy", "-i", &wanted(place, &registry, row), "--to-repo", &to]);
    if output.code == Some(0) {
        assert_eq!(other.check_image("team/copy", "v1"), Ok(()), "{}: {output}", row.name);
        assert_eq!(other.tag("team/copy", "v1"), registry.tag("team/app", "v1"), "{}", row.name);
    } else {
        assert_eq!(other.tag("team/copy", "v1"), None, "{}: nothing is tagged", row.name);
    }
    outcome(&registry, named(output, &other))
}

fn copied_to(place: &Place<'_>, row: &Row, rules: &[Rule]) -> String {
    let (registry, other) = (place.registry(row, false), FaultRegistry::start(Access::Open, Vec::new()));
    other.copy_of(place.model(row));
    add(&registry, rules);
    let from = format!("{}/team/app:v1", other.host());
    let to = format!("{}/team/app:v1", registry.host());
    let output = run(&place.lab, &["copy", "-i", &from, "--to-repo", &to]);
    let text = written(&registry, "team/app", row, &place.digest(row), named(output, &other));
    assert_eq!(other.leaks(), Vec::<String>::new());
    text
}

fn copied_within(place: &Place<'_>, row: &Row, rules: &[Rule]) -> String {
    let registry = place.registry(row, true);
    add(&registry, rules);
    let name = |repository: &str| format!("{}/team/{repository}:v1", registry.host());
    let output = run(&place.lab, &["copy", "-i", &name("app"), "--to-repo", &name("copy")]);
    assert!(registry.log().iter().any(|entry| entry.path.contains("mount=")), "{}: {output}", row.name);
    written(&registry, "team/copy", row, &place.digest(row), output)
}

fn checked(place: &Place<'_>, row: &Row, rules: &[Rule]) -> String {
    let registry = place.registry(row, true);
    let digest = registry.tag("team/app", "v1").expect("there is a tag");
    // Tags that the expression does not match, so that lists have pages.
    for tag in ["a", "z"] {
        registry.put_manifest("team/app", tag, &testkit::fault::digest_of(b"{}"), "x/y", b"{}");
    }
    add(&registry, rules);
    let source = json!({
        "repository": format!("{}/team/app", registry.host()), "tag_regex": "^v", "username": "ci", "password": "s3cret",
    });
    let output = step(&place.lab, "check", &json!({"source": source, "version": Value::Null}));
    if output.code == Some(0) {
        // A registry answers 404 for a repository that was never pushed, which has no versions yet.
        let versions = if row.name == "404" { json!([]) } else { json!([{"tag": "v1", "digest": digest}]) };
        assert_eq!(output.json(), versions, "{}", row.name);
    } else {
        assert_eq!(output.stdout, "", "{}: no version", row.name);
    }
    outcome(&registry, output)
}

/// Replaces the host of the registry without faults by a name that is the same in each run.
fn named(mut output: Output, other: &FaultRegistry) -> Output {
    output.stderr = output.stderr.replace(&other.host(), "other");
    output
}

/// Describes the result, without values that differ between runs.
fn outcome(registry: &FaultRegistry, output: Output) -> String {
    let output = output.never_says("s3cret").never_says("secret%2B");
    assert_eq!(registry.leaks(), Vec::<String>::new(), "credentials went elsewhere\n{output}");
    assert!(!registry.log().iter().any(|entry| entry.thing == Thing::Other), "{output}");
    let Some(code) = output.code.filter(|code| *code != 0) else { return "survived".into() };
    let error = output.stderr.lines().find_map(|line| Some(line.split_once(": error: ")?.1));
    let error = error.unwrap_or_else(|| panic!("no error\n{output}"));
    assert!(error.contains(&registry.host()), "the host is named: {output}");
    assert!(output.stderr.contains("hint: "), "advice is given: {output}");
    let counted = error.contains(" attempts in ") || error.contains(" attempt in ");
    assert_eq!(code == 4, counted, "who gives up says how often it tried, and for how long: {output}");
    let foreign = registry.foreign();
    let sibling = foreign.replace("localhost", "127.0.0.1");
    let error = error
        .replace(&registry.host(), "registry")
        .replace(&foreign, "elsewhere")
        .replace(&sibling, "elsewhere");
    let mut text = error;
    for start in ["sha256:", "sha256-"] {
        let mut parts = text.split(start);
        let first = parts.next().unwrap_or("").to_owned();
        let hexadecimal = |character: char| character.is_ascii_hexdigit();
        text = parts.fold(first, |text, part| text + start + "…" + part.trim_start_matches(hexadecimal));
    }
    if let Some((before, after)) = text.clone().split_once(" attempts in ") {
        let (_, after) = after.split_once(" s: ").unwrap();
        text = format!("{before} attempts in … s: {after}");
    }
    format!("exit {code}: {}", text.replace('|', "\\|"))
}

fn line(place: &Place<'_>, row: &Row) -> String {
    let cell = |cell: &Cell, run: &dyn Fn(&[Rule]) -> String| match cell {
        Cell::Rules(rules) => run(rules),
        Cell::Not(reason) => format!("– {reason}"),
    };
    let push = cell(&row.push, &|rules| pushed(place, row, rules));
    let pull = cell(&row.pull, &|rules| pulled(place, row, rules));
    let (mut from, mut to) = (
        cell(&row.pull, &|rules| copied_from(place, row, rules)),
        cell(&row.push, &|rules| copied_to(place, row, rules)),
    );
    if let Some(rules) = &row.within {
        ("– inside it", "").0.clone_into(&mut from);
        to = copied_within(place, row, rules);
    }
    // A result equal to that of pull or push is not written again.
    if from == pull && from.starts_with("exit") {
        "as pull".clone_into(&mut from);
    }
    if to == push && to.starts_with("exit") {
        "as push".clone_into(&mut to);
    }
    let check = cell(&row.check, &|rules| checked(place, row, rules));
    format!("| {} | {push} | {pull} | {from} | {to} | {check} |\n", row.name)
}

/// Runs rows in parallel; each thread has a lab of its own.
fn table(models: &Models, rows: &[Row]) -> String {
    let part = |rows: &[Row]| {
        let place = Place::new(models);
        // A row that panics must not hide the failures of others.
        let line = |row| catch_unwind(AssertUnwindSafe(|| line(&place, row))).map_err(|_| row.name);
        rows.iter().map(|row| line(row).unwrap_or_else(|name| format!("BROKEN {name}\n"))).collect::<String>()
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = rows.chunks(4).map(|rows| scope.spawn(move || part(rows))).collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may be told to write the page")]
fn docs_registry_faults_is_current() {
    let models = Models::new();
    let mut page = include_str!("introduction.md").to_owned();
    for (title, rows) in [
        ("Once, or a few times", rows::once()),
        ("Credentials and rights", rows::access()),
        ("Habits of registries and front ends", rows::habits()),
        ("For ever", rows::for_ever()),
        ("Odd content", rows::content()),
    ] {
        write!(page, "\n## {title}\n\n{COLUMNS}{}", table(&models, &rows)).unwrap();
    }
    page.push_str(include_str!("elsewhere.md"));
    let broken: Vec<&str> = page.lines().filter(|line| line.starts_with("BROKEN ")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/registry-faults.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    for (expected, found) in page.lines().zip(found.lines()) {
        assert_eq!(found, expected, "`docs/registry-faults.md` is not current");
    }
    assert!(found == page, "`docs/registry-faults.md` is not current");
}
