//! Words that have no place in the project's texts: pronouns that hide who does something (`docs/style.md`, "Prose").
//!
//! Every tracked kind of text is read: pages, sources with their comments and names, CI files, scripts. The check knows
//! words only; it does not check sentences.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Refused in any case, also as a part of a name in `snake_case`.
const REFUSED: [&str; 8] =
    ["nobody", "somebody", "anybody", "everybody", "whoever", "whomever", "whatever", "whosoever"];

/// Lines that may hold such a word: the end of the file's name, and a text of the line.
const ALLOWED: &[(&str, &str)] = &[
    // Names that exist outside of this project.
    ("testkit/src/lab.rs", "An ordinary user (`nobody` on every system"),
    // A file's name that a digest in the test is computed from.
    ("tests/it/push/layer_vectors.rs", "d x/everybody 777"),
    // This file.
    ("tests/it/house/words.rs", ""),
];

/// Folders and files whose texts are still to be rewritten. An entry without such a word left is an error, so the list
/// shrinks.
const TO_DO: &[&str] = &[];

const ROOTS: [&str; 11] =
    ["src", "tests", "testkit", "benches", "fuzz", "docs", "examples", "tekton", "ci", ".github", "."];
const ENDINGS: [&str; 9] = ["md", "rs", "yml", "yaml", "toml", "py", "sh", "txt", "json"];
/// Folders that hold what is built, or bytes that found a bug.
const SKIPPED: [&str; 5] = ["target", "regressions", "corpus-run", "artifacts", "__pycache__"];

/// Returns the refused words of a line, in lower case.
fn refused(line: &str) -> Vec<String> {
    let words = line.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_lowercase);
    words.filter(|word| REFUSED.contains(&word.as_str())).collect()
}

fn allowed(path: &str, line: &str, list: &[(&str, &str)]) -> bool {
    list.iter().any(|(end, text)| path.ends_with(end) && line.contains(text))
}

/// Returns `line: word` for each refused word of a text.
fn check(path: &str, text: &str, list: &[(&str, &str)]) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !allowed(path, line, list));
    lines
        .flat_map(|(index, line)| {
            refused(line).into_iter().map(move |word| format!("{path}:{}: `{word}`", index + 1))
        })
        .collect()
}

/// Lists the texts below a folder; below `.` only the files that lie there directly.
fn texts(root: &Path, below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.join(below)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if below != "." && !SKIPPED.contains(&name.as_str()) {
                    open.push(path);
                }
            } else if is_text(&name) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Tells whether a file is one of ours to read: by its ending, or, without one, a script.
fn is_text(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    name != "Cargo.lock" && ending.is_none_or(|ending| ENDINGS.contains(&ending))
}

#[test]
fn pronouns_that_hide_the_actor_are_not_used() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut message, mut read) = (String::new(), 0);
    let mut waiting = vec![0; TO_DO.len()];
    for path in ROOTS.iter().flat_map(|root| texts(package, root)) {
        let name = path.strip_prefix(package).unwrap_or(&path).display().to_string();
        let name = name.strip_prefix("./").unwrap_or(&name);
        // A file that is no text has no words.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        read += 1;
        let findings = check(name, &text, ALLOWED);
        let to_do = TO_DO.iter().position(|start| Path::new(name).starts_with(start));
        match to_do {
            Some(index) => waiting[index] += findings.len(),
            None => findings.iter().for_each(|finding| {
                writeln!(message, "{finding}: name who does it (docs/style.md)").expect("a String");
            }),
        }
    }
    for (start, _) in TO_DO.iter().zip(&waiting).filter(|(_, count)| **count == 0) {
        writeln!(message, "`{start}` has no such word any more: remove it from TO_DO").expect("a String");
    }
    assert!(read > 300, "only {read} texts were found");
    assert!(message.is_empty(), "{message}");
}

#[test]
fn a_pronoun_that_hides_the_actor_is_found_in_prose_and_in_names() {
    let list = [("a.rs", "user `nobody`")];
    assert_eq!(check("b.md", "Nobody asks.\nThe caller asks.\n", &list), ["b.md:1: `nobody`"]);
    assert_eq!(
        check("b.rs", "fn works_whatever_comes() {}\n", &list),
        ["b.rs:1: `whatever`"],
        "also in a name"
    );
    assert_eq!(check("a.rs", "runs as user `nobody`\n", &list), [""; 0]);
    assert_eq!(check("b.rs", "runs as user `nobody`\n", &list).len(), 1, "allowed in the other file only");
    assert_eq!(check("b.md", "The body of a response; some bodies.\n", &list), [""; 0]);
}

#[test]
fn no_text_has_the_marks_of_a_merge() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ROOTS.iter().flat_map(|root| texts(package, root)) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let mark = text.lines().position(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> "));
        assert_eq!(mark, None, "{}: the line (from 0) has a mark of a merge", path.display());
    }
}

#[test]
fn scripts_and_pages_are_read_and_locks_are_not() {
    for (name, read) in [
        ("setup", true),
        ("a.md", true),
        ("mod.rs", true),
        ("Cargo.lock", false),
        ("a.svg", false),
        ("a.bin", false),
    ] {
        assert_eq!(is_text(name), read, "{name}");
    }
}
