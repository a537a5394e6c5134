//! Files for contributors: workflows, templates, `justfile`, `.editorconfig`, and the oldest supported Rust.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use testkit::tools::{checker, run};

use super::rules::{package, sources};

fn text(name: &str) -> String {
    std::fs::read_to_string(package().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(package().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The version after `rust-version = ` in `Cargo.toml`.
fn oldest_rust() -> String {
    let manifest = text("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    line.expect("Cargo.toml claims a version").trim_matches('"').to_owned()
}

/// Compares `1.89` and `1.89.0` as numbers.
fn numbers(version: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    numbers.resize(3, 0);
    numbers
}

#[test]
fn workflows_templates_and_dependabot_fit_their_schemas() {
    let forms = files(".github/ISSUE_TEMPLATE");
    let (config, forms): (Vec<_>, Vec<_>) = forms.into_iter().partition(|file| file.ends_with("config.yml"));
    assert_eq!(
        (config.len(), forms.len()),
        (1, 2),
        "the configuration, and the forms for a bug and a feature"
    );
    for (schema, files) in [
        ("vendor.github-workflows", files(".github/workflows")),
        ("custom.github-workflows-require-timeout", files(".github/workflows")),
        ("vendor.dependabot", vec![package().join(".github/dependabot.yml")]),
        ("vendor.github-issue-config", config),
        ("vendor.github-issue-forms", forms),
    ] {
        let ran = run(checker("check-jsonschema").args(["--builtin-schema", schema]).args(&files));
        assert_eq!(ran.code, Some(0), "{schema}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn the_projects_own_workflows_pass_the_security_lint() {
    let mut command = checker("zizmor");
    command.args(["--offline", "--no-progress", "--persona=pedantic", "--no-config"]);
    let ran = run(command.arg(package().join(".github")));
    assert!(ran.code == Some(0) && ran.stdout.contains("No findings"), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn workflows_run_the_scripts_of_ci_and_build_with_the_oldest_rust() {
    let test: Value = serde_saphyr::from_str(&text(".github/workflows/test.yml")).unwrap();
    let steps = test["jobs"]["test"]["steps"].as_array().unwrap();
    let runs: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert_eq!(runs, ["ci/setup", "ci/test"]);
    assert_eq!(test["jobs"]["oldest-rust"]["env"]["OLDEST"], oldest_rust());
}

#[test]
fn no_dependency_needs_a_newer_rust_than_cargo_toml_claims() {
    let cargo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(package()).output();
        let output = output.expect("cargo runs its tests, so it is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("cargo prints UTF-8")
    };
    let about = cargo(&["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo knows its host");
    let metadata =
        cargo(&["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let oldest = numbers(&oldest_rust());
    let packages = metadata["packages"].as_array().unwrap();
    let newer: Vec<String> = packages
        .iter()
        .filter(|package| package["rust_version"].as_str().is_some_and(|version| numbers(version) > oldest))
        .map(|package| format!("{} needs {}", package["name"], package["rust_version"]))
        .collect();
    assert!(packages.len() > 50, "{} packages", packages.len());
    assert_eq!(newer, [""; 0], "raise `rust-version`, or keep the older release");
    assert_eq!((numbers("1.9") < numbers("1.89"), numbers("1.89") == numbers("1.89.0")), (true, true));
}

#[test]
fn what_the_justfile_and_the_editor_settings_say_is_there() {
    let just = text("justfile");
    // Commands are indented; the text above a recipe describes it.
    let commands = just.lines().filter(|line| line.starts_with("    "));
    let words = commands.flat_map(str::split_whitespace);
    let scripts: Vec<&str> =
        words.filter(|word| word.starts_with("ci/") || word.starts_with("benches/")).collect();
    assert!(scripts.len() >= 7, "{scripts:?}");
    for script in scripts {
        assert!(package().join(script).is_file(), "justfile: `{script}` is not there");
    }
    let width = text("rustfmt.toml");
    let width = width.lines().find_map(|line| line.strip_prefix("max_width = ")).unwrap();
    assert!(
        text(".editorconfig")
            .contains(&format!("[*.{{rs,py}}]\nindent_size = 4\nmax_line_length = {width}\n"))
    );
}

/// The modules whose tests the recipe `docs` runs, as `src/front/program` or `tests/it/cli/json`.
fn updated(just: &str) -> Vec<String> {
    let recipe = just.lines().skip_while(|line| *line != "docs:").skip(1);
    let commands = recipe.take_while(|line| line.starts_with("    "));
    let module = |line: &str| {
        let (before, module) = line.rsplit_once(' ')?;
        let root = if before.ends_with("--lib") { "src" } else { "tests/it" };
        Some(format!("{root}/{}", module.replace("::", "/")))
    };
    commands.filter_map(module).collect()
}

#[test]
fn the_recipe_docs_runs_every_test_that_writes_a_page() {
    let reads =
        |text: &str| text.contains("var_os(\"UPDATE_DOCS\")") || text.contains(".text(\"UPDATE_DOCS\")");
    let mut expected = Vec::new();
    for folder in ["src", "tests/it"] {
        let mut files = Vec::new();
        sources(&package().join(folder), &mut files);
        for file in files.iter().filter(|file| !file.ends_with("house/habits.rs")) {
            if reads(&std::fs::read_to_string(file).unwrap()) {
                let name = file.strip_prefix(package()).unwrap().display().to_string();
                expected.push(name.trim_end_matches(".rs").trim_end_matches("/mod").to_owned());
            }
        }
    }
    expected.sort();
    assert!(expected.len() > 5, "{expected:?}");
    assert_eq!(updated(&text("justfile")), expected);
    assert_eq!(
        updated("x:\n    a --lib b\n\ndocs:\n    c --lib a::b\n    d --test it c\n\n    e --lib f\n"),
        ["src/a/b", "tests/it/c"]
    );
}
