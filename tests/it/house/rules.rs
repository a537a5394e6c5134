//! The rules of the source: which floor may use which, and how large files and functions may be.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which modules a module may use; `ARCHITECTURE.md` has the same table.
pub(crate) const MAY_USE: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("lock", &["model"]),
    ("sign", &["model"]),
    ("stream", &["model"]),
    ("tree", &["model"]),
    ("tar", &["model", "stream"]),
    ("zip", &["model", "stream"]),
    ("store", &["model", "stream", "tar"]),
    ("registry", &["model", "stream"]),
    ("serve", &["model", "lock", "stream", "store"]),
    ("depot", &["model", "stream", "store", "registry"]),
    ("pack", &["model", "lock", "stream", "tree", "tar", "zip"]),
    ("transfer", &["model", "lock", "sign", "stream", "tar", "store", "registry", "depot", "pack"]),
    (
        "front",
        &[
            "model", "lock", "sign", "stream", "tree", "tar", "zip", "store", "registry", "serve", "depot",
            "pack", "transfer",
        ],
    ),
];
/// Modules that must not do I/O at all.
const PURE: [&str; 3] = ["model", "lock", "sign"];
const PURE_BANS: [&str; 4] = ["std::fs", "std::net::Tcp", "std::thread", "std::process"];
/// Calls that panic when the system has no more threads; `stream::threads` and `std::thread::Builder` return the error.
const PANICKING: [&str; 2] = ["scope.spawn(", "thread::spawn("];
/// Lines of a source file, inline tests not counted.
const FILE_LINES: usize = 500;
/// Lines of a source file with its inline tests.
const FILE_LINES_WITH_TESTS: usize = 900;
/// Lines of a function; an exception is a `// house: long because …` line above it.
const FUNCTION_LINES: usize = 80;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    rule: String,
}

/// Checks one source file; `path` is relative to the package.
fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |line: usize, rule: String| findings.push(Finding { file: path.to_owned(), line, rule });
    let module = path.strip_prefix("src/").and_then(|rest| rest.split('/').next()).unwrap_or("");
    let allowed = MAY_USE.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
    if !text.starts_with("//!") {
        report(1, "a file opens with a `//!` comment: the idea, what it does not do".into());
    }
    let lines: Vec<&str> = text.lines().collect();
    let code_end = lines.iter().position(|line| *line == "#[cfg(test)]").unwrap_or(lines.len());
    if code_end > FILE_LINES {
        report(code_end, format!("{code_end} lines without tests, at most {FILE_LINES}: split the file"));
    }
    if lines.len() > FILE_LINES_WITH_TESTS {
        report(lines.len(), format!("{} lines, at most {FILE_LINES_WITH_TESTS}", lines.len()));
    }
    let mut function: Option<(usize, usize, bool)> = None;
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        let code = line.split("//").next().unwrap_or("");
        if let Some(allowed) = allowed {
            for used in code.split("crate::").skip(1) {
                let braces = used.strip_prefix('{').map(|list| list.split('}').next().unwrap_or(list));
                let names: Vec<&str> = match braces {
                    Some(list) => {
                        list.split(',').map(|item| item.trim().split("::").next().unwrap_or("")).collect()
                    }
                    None => vec![used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")],
                };
                for name in names.into_iter().filter(|name| !name.is_empty()) {
                    let known = MAY_USE.iter().any(|(module, _)| *module == name);
                    if known && name != module && !allowed.contains(&name) {
                        report(number, format!("`{module}` must not use `{name}`: it may use {allowed:?}"));
                    }
                }
            }
        }
        if PURE.contains(&module) && index < code_end {
            for ban in PURE_BANS.iter().filter(|ban| code.contains(**ban)) {
                report(number, format!("`{module}` is pure and must not use `{ban}`"));
            }
        }
        for ban in PANICKING.iter().filter(|ban| code.contains(**ban) && index < code_end) {
            report(number, format!("`{ban}…)` panics without threads: use `stream::threads`"));
        }
        let indent = line.len() - line.trim_start().len();
        let starts = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "pub const fn ", "const fn "];
        if starts.iter().any(|start| line.trim_start().starts_with(start)) && index < code_end {
            // Attributes and doc comments may be between the exception and the function.
            let above = lines[..index].iter().rev().take_while(|l| {
                let l = l.trim_start();
                l.starts_with("//") || l.starts_with("#[")
            });
            let excused = above.into_iter().any(|line| line.trim_start().starts_with("// house: "));
            if !line.trim_end().ends_with(';') && !line.trim_end().ends_with('}') {
                function = Some((number, indent, excused));
            }
        } else if let Some((start, level, excused)) = function
            && indent == level
            && line.trim() == "}"
        {
            let length = number - start + 1;
            if length > FUNCTION_LINES && !excused {
                report(start, format!("function of {length} lines, at most {FUNCTION_LINES}: split it"));
            }
            function = None;
        }
    }
    findings
}

/// The folder of the package.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Adds every Rust file below a folder.
pub(crate) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_source_file_keeps_the_rules_of_the_house() {
    let mut files = Vec::new();
    sources(&package().join("src"), &mut files);
    assert!(files.len() > 15, "only {} source files were found", files.len());
    let mut message = String::new();
    for file in &files {
        let path = file.strip_prefix(package()).unwrap().display().to_string();
        for finding in check(&path, &std::fs::read_to_string(file).unwrap()) {
            writeln!(message, "{}:{}: {}", finding.file, finding.line, finding.rule).unwrap();
        }
    }
    assert!(message.is_empty(), "rules of the house broken:\n{message}");
}

#[test]
fn the_floor_check_finds_what_is_forbidden() {
    let rules = |path: &str, text: &str| -> Vec<(usize, String)> {
        check(path, text).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    };
    let found = rules("src/model/x.rs", "//! x\nuse crate::store::Root;\nuse std::fs::File;\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].0 == 2 && found[0].1.contains("`model` must not use `store`"), "{found:?}");
    assert!(found[1].0 == 3 && found[1].1.contains("must not use `std::fs`"), "{found:?}");
    let found = rules("src/registry/x.rs", "//! x\nuse crate::{model::Digest, store::Root};\n");
    assert!(matches!(found.as_slice(), [(2, rule)] if rule.contains("`registry` must not use `store`")));
    let found = rules("src/pack/x.rs", "//! x\nfn f() { crate::registry::f() }\n");
    assert!(matches!(found.as_slice(), [(2, rule)] if rule.contains("`pack` must not use `registry`")));
    assert!(rules("src/pack/x.rs", "fn f() {}\n")[0].1.contains("opens with"));
    let found =
        rules("src/transfer/x.rs", "//! x\nfn f() {\n    std::thread::spawn(f);\n    scope.spawn(f);\n}\n");
    assert!(
        matches!(found.as_slice(), [(3, one), (4, _)] if one.contains("panics without threads")),
        "{found:?}"
    );
    let body = "    f();\n".repeat(FUNCTION_LINES);
    let found = rules("src/pack/x.rs", &format!("//! x\nfn f() {{\n{body}}}\n"));
    assert!(matches!(found.as_slice(), [(2, rule)] if rule.contains("function of 82 lines")), "{found:?}");
    let excused = format!("//! x\n// house: long because it is a table\nfn f() {{\n{body}}}\n");
    assert_eq!(rules("src/pack/x.rs", &excused), []);
    let long = format!("//! x\n{}", "const X: u8 = 1;\n".repeat(FILE_LINES));
    assert!(rules("src/pack/x.rs", &long)[0].1.contains("501 lines without tests"));
}

#[test]
fn the_architecture_page_has_the_same_table() {
    let page = std::fs::read_to_string(package().join("ARCHITECTURE.md")).unwrap();
    for (module, allowed) in MAY_USE {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{module}` |")))
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for `{module}`"));
        let listed: Vec<&str> = row
            .rsplit('|')
            .nth(1)
            .unwrap_or("")
            .split(',')
            .map(|name| name.trim().trim_matches('`'))
            .filter(|name| !name.is_empty() && *name != "nothing")
            .collect();
        assert_eq!(listed, allowed, "ARCHITECTURE.md row of `{module}`");
    }
}
