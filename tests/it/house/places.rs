//! Files, modules and tests that pages name exist: `src/model/limits.rs`, `registry/tls.rs`, `transfer::produce`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FLOORS: [&str; 11] =
    ["model", "lock", "stream", "tree", "tar", "zip", "store", "registry", "pack", "transfer", "front"];
const FOLDERS: [&str; 8] = ["src", "tests", "testkit", "fuzz", "ci", "benches", "examples", "tekton"];

/// Returns the error of a code span that looks like a place in the project; `None` for all others.
fn missing(package: &Path, span: &str) -> Option<&'static str> {
    let pattern = |c: char| c.is_whitespace() || "*<>…${}(),".contains(c);
    if span.contains(pattern) || ["NAME", "FOLDER", "TARGET"].iter().any(|word| span.contains(word)) {
        return None;
    }
    if let Some((floor, rest)) = span.split_once("::").filter(|(floor, _)| FLOORS.contains(floor)) {
        let name = rest.rsplit("::").next().unwrap_or(rest);
        let known = ["src", "tests/it"].iter().any(|top| mentions(&package.join(top).join(floor), name));
        return (!known).then_some("no such name on this floor");
    }
    let (first, _) = span.split_once('/')?;
    let path = if FLOORS.contains(&first) && span.ends_with(".rs") {
        package.join("src").join(span)
    } else if FOLDERS.contains(&first) {
        package.join(span)
    } else {
        return None;
    };
    (!path.exists()).then_some("no such file")
}

/// Tells whether a name is a file of a folder or occurs in one of its files.
fn mentions(folder: &Path, name: &str) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).any(|path| {
        path.file_stem().is_some_and(|stem| stem == name)
            || (path.is_dir() && mentions(&path, name))
            || std::fs::read_to_string(&path).is_ok_and(|text| defines(&text, name))
    })
}

fn defines(text: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "trait", "type", "mod", "const"]
        .iter()
        .any(|keyword| text.contains(&format!("{keyword} {name}")))
}

/// The code spans of a page with their lines, without fenced blocks.
fn spans(page: &str) -> Vec<(usize, &str)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (index, line) in page.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced && !line.contains("``") {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (index + 1, span)));
        }
    }
    found
}

#[test]
fn files_and_modules_that_pages_name_exist() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top =
        ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"].map(|name| package.join(name));
    let mut pages: Vec<PathBuf> = top.to_vec();
    for folder in ["docs", "docs/decisions", "docs/formats", "docs/how-to", "docs/from"] {
        let entries = std::fs::read_dir(package.join(folder)).into_iter().flatten().flatten();
        pages.extend(
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    let (mut message, mut checked) = (String::new(), 0);
    for path in pages {
        let page = std::fs::read_to_string(&path).expect("a page can be read");
        for (line, span) in spans(&page) {
            checked += 1;
            if let Some(problem) = missing(package, span) {
                let name = path.strip_prefix(package).unwrap_or(&path).display();
                writeln!(message, "{name}:{line}: `{span}`: {problem}").expect("a String takes everything");
            }
        }
    }
    assert!(checked > 1000, "{checked} code spans");
    assert!(message.is_empty(), "{message}");
}

#[test]
fn a_file_or_module_that_does_not_exist_is_found() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (span, problem) in [
        ("src/model/limits.rs", None),
        ("src/model/gone.rs", Some("no such file")),
        ("registry/gone.rs", Some("no such file")),
        ("model::limits", None),
        ("model::Digest", None),
        ("model::Gone", Some("no such name on this floor")),
        ("registry::real", None),
        ("ci/fuzz SECONDS", None),
        ("fuzz/regressions/TARGET", None),
        ("application/json", None),
        ("src/*.rs", None),
    ] {
        assert_eq!(missing(package, span), problem, "{span}");
    }
    assert_eq!(spans("a `b` c `d/e`\n```\n`f`\n```\n"), [(1, "b"), (1, "d/e")]);
}
