//! The YAML in the pages: it can be parsed, complete workflows and pipelines fit the schemas of GitHub and GitLab, and
//! the action has the inputs that the workflows set.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::tools::{checker, run};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages at the top and below `docs`.
fn pages() -> Vec<PathBuf> {
    let (mut found, mut open) = (vec![package().join("README.md")], vec![package().join("docs")]);
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The fenced blocks of a page that are YAML, with the line each begins at.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let (mut found, mut block) = (Vec::new(), None::<(usize, String)>);
    for (index, line) in page.lines().enumerate() {
        match &mut block {
            None if line.trim() == "```yaml" => block = Some((index + 2, String::new())),
            None => {}
            Some(_) if line.trim() == "```" => found.extend(block.take()),
            Some((_, text)) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found
}

/// Every `with` of a step that uses this project's action.
fn inputs_given(value: &Value, found: &mut Vec<String>) {
    if value["uses"].as_str().is_some_and(|action| action.starts_with("example/imgrelay@")) {
        found.extend(value["with"].as_object().into_iter().flat_map(|with| with.keys().cloned()));
    }
    let children: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    };
    children.into_iter().for_each(|child| inputs_given(child, found));
}

#[test]
fn yaml_in_pages_is_read_and_gives_the_action_inputs_that_it_has() {
    let action: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(package().join("action.yml")).unwrap()).unwrap();
    let inputs: BTreeSet<&String> = action["inputs"].as_object().unwrap().keys().collect();
    let lab = crate::lab::lab();
    let (mut workflows, mut pipelines, mut given) = (Vec::new(), Vec::new(), Vec::new());
    for path in pages() {
        for (line, text) in blocks(&std::fs::read_to_string(&path).unwrap()) {
            let place = format!("{}:{line}", path.display());
            let value: Value =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error}"));
            let before = given.len();
            inputs_given(&value, &mut given);
            for name in &given[before..] {
                assert!(inputs.contains(name), "{place}: the action has no input `{name}`");
            }
            if value["jobs"].is_object() && value["on"] != Value::Null {
                workflows.push(lab.write(format!("{}.yml", workflows.len()).as_str(), text));
            } else if value["stages"].is_array() {
                pipelines.push(lab.write(format!("gitlab-{}.yml", pipelines.len()).as_str(), text));
            }
        }
    }
    assert!(given.len() > 20 && workflows.len() >= 2 && !pipelines.is_empty(), "{given:?} {workflows:?}");
    for (schema, files) in [("github-workflows", workflows), ("gitlab-ci", pipelines)] {
        let mut command = checker("check-jsonschema");
        let ran = run(command.arg(format!("--builtin-schema=vendor.{schema}")).args(&files));
        assert_eq!(ran.code, Some(0), "{schema}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn yaml_blocks_and_inputs_are_found() {
    let page = "```yaml\na: 1\n```\ntext\n```sh\nb\n```\n```yaml\n- uses: example/imgrelay@v1\n  with: {tar: x}\n```\n";
    let found = blocks(page);
    assert_eq!(found[0], (2, "a: 1\n".to_owned()));
    let mut given = Vec::new();
    inputs_given(&serde_saphyr::from_str(&found[1].1).unwrap(), &mut given);
    assert_eq!((found.len(), given), (2, vec!["tar".to_owned()]));
}
