//! The messages in `docs/troubleshooting.md` are those of the program: each is searched for in the sources.

use std::path::{Path, PathBuf};

/// A message of the page: the line, and its constant parts, in order.
type Message = (usize, Vec<String>);

/// Reads the code spans in the first column of tables whose head is `message`; `…` separates constant parts.
fn messages(page: &str) -> Vec<Message> {
    let (mut found, mut inside) = (Vec::new(), false);
    for (index, line) in page.lines().enumerate() {
        let Some(row) = line.strip_prefix('|') else {
            inside = false;
            continue;
        };
        let cell = row.split(" | ").next().unwrap_or(row).trim();
        inside |= cell == "message";
        let span = cell.strip_prefix("`` ").and_then(|rest| rest.strip_suffix(" ``"));
        let span = span.or_else(|| cell.strip_prefix('`')?.split('`').next());
        if let Some(span) = span.filter(|_| inside) {
            let parts = span.split('…').map(|part| part.trim_matches(['`', ' ']).to_owned());
            found.push((index + 1, parts.filter(|part| part.len() > 4).collect()));
        }
    }
    found
}

/// The text of all sources, with texts that go over several lines joined.
fn sources() -> String {
    let mut text = String::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else {
                text.push_str(&read(&path));
            }
        }
    }
    joined(&text)
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).expect("a source can be read")
}

/// Removes a back-slash at the end of a line with the blanks of the next one, as the compiler does.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn messages_of_the_troubleshooting_page_are_those_of_the_program() {
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md"));
    let (messages, sources) = (messages(&page), sources());
    // A message of the operating system, and one that is composed of two parts.
    let others = [
        "No such file or directory",
        "No space left on device",
        "permission denied",
        "refused the pull from",
    ];
    assert!(messages.len() >= 30, "{} messages", messages.len());
    for (line, parts) in messages {
        assert!(!parts.is_empty(), "docs/troubleshooting.md:{line}: a message needs some constant words");
        for part in parts {
            let known = sources.contains(&part) || others.contains(&part.as_str());
            assert!(known, "docs/troubleshooting.md:{line}: the program has no message with `{part}`");
        }
    }
}

#[test]
fn constant_parts_of_messages_are_found_in_tables_of_messages_only() {
    let page = "| message | cause |\n|---|---|\n| `` `…` is damaged: `` | x |\n| `cannot trust …` | y |\n\n\
        | symptom | cause |\n| `no message` | z |\n";
    let part = |text: &str| vec![text.to_owned()];
    assert_eq!(messages(page), [(3, part("is damaged:")), (4, part("cannot trust"))]);
    assert_eq!(joined("\"one \\\n    two\"\n"), "\"one two\"\n");
}
