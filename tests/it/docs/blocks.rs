//! The commands in the documentation work: every shell block is run, or the page says why not.
//!
//! A block that opens with `sh run` or `console run` is run; in a `console` block `$ ` opens a command and the other
//! lines are its output, where `…` stands for anything (a whole line of it: any lines). Any other shell block has the
//! line `<!-- not run: REASON -->` before it. The blocks of one page run in order, in one shell, in a folder that holds
//! only `examples/`; `127.0.0.1:5000` becomes a registry of the test's own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use testkit::lab::Lab;
use testkit::registry::Registry;

const PLACEHOLDER: &str = "127.0.0.1:5000";
const SHELLS: [&str; 5] = ["sh", "bash", "shell", "console", "shell-session"];

/// One fenced block.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// The line of its opening fence.
    line: usize,
    language: String,
    run: bool,
    /// Why it is not run, if the page says so.
    excuse: Option<String>,
    text: String,
}

/// Finds the fenced blocks of a page.
fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open: Option<(String, Block)> = None;
    let mut excuse = None;
    for (index, line) in page.lines().enumerate() {
        let trimmed = line.trim();
        if let Some((fence, block)) = &mut open {
            if trimmed == fence.as_str() {
                found.extend(open.take().map(|(_, block)| block));
            } else {
                block.text.push_str(line);
                block.text.push('\n');
            }
            continue;
        }
        let marks = trimmed.len() - trimmed.trim_start_matches('`').len();
        if marks >= 3 {
            let mut words = trimmed[marks..].split_whitespace();
            let language = words.next().unwrap_or("").to_owned();
            let run = words.any(|word| word == "run");
            let block = Block { line: index + 1, language, run, excuse: excuse.take(), text: String::new() };
            open = Some(("`".repeat(marks), block));
        } else if !trimmed.is_empty() {
            let reason = trimmed.strip_prefix("<!-- not run:").and_then(|rest| rest.strip_suffix("-->"));
            excuse = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
        }
    }
    found
}

/// Returns the lines of shell blocks that are neither run nor have a reason, or both.
fn undecided(page: &str) -> Vec<usize> {
    let shells = blocks(page).into_iter().filter(|block| SHELLS.contains(&block.language.as_str()));
    shells.filter(|block| block.run == block.excuse.is_some()).map(|block| block.line).collect()
}

/// One command of a `console` block with the output it should have.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    output: Vec<String>,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut found: Vec<Step> = Vec::new();
    for (index, line) in block.text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Step {
                line: block.line + 1 + index,
                command: command.to_owned(),
                output: Vec::new(),
            });
        } else if let Some(step) = found.last_mut() {
            if let Some(more) = line.strip_prefix("> ").filter(|_| step.command.ends_with('\\')) {
                write!(step.command, "\n{more}").expect("a String takes everything");
            } else {
                step.output.push(line.to_owned());
            }
        }
    }
    found
}

/// Compares output with a pattern in which `…` stands for anything.
fn matches(pattern: &[String], output: &[&str]) -> bool {
    match (pattern, output) {
        ([], []) => true,
        ([first, rest @ ..], _) if first == "…" => {
            (0..=output.len()).any(|skipped| matches(rest, &output[skipped..]))
        }
        ([first, rest @ ..], [line, lines @ ..]) => line_matches(first, line) && matches(rest, lines),
        _ => false,
    }
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let Some((before, after)) = pattern.split_once('…') else { return pattern == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| line_matches(after, &rest[at..]))
}

/// Runs a page's blocks with a program folder first in `PATH`; returns what went wrong.
fn run_page(name: &str, page: &str, programs: &Path, examples: Option<&Path>) -> Result<(), String> {
    let all: Vec<Block> = blocks(page).into_iter().filter(|block| block.run).collect();
    if all.is_empty() {
        return Ok(());
    }
    let lab = Lab::new("/bin/bash");
    let outputs = lab.home().join("outputs");
    std::fs::create_dir(&outputs).expect("the home folder is ours");
    if let Some(examples) = examples {
        let mut command = testkit::tools::tool("cp");
        let _ = testkit::tools::run(command.arg("-R").arg(examples).arg(lab.path("examples"))).success();
    }
    let mut script = String::from("set -euo pipefail\n");
    let mut expected = Vec::new();
    for block in &all {
        if block.language != "console" {
            writeln!(script, "echo '== {name}:{}' >&2\n{}", block.line, block.text).expect("a String");
            continue;
        }
        for step in steps(block) {
            let file = outputs.join(expected.len().to_string());
            writeln!(script, "echo '== {name}:{}' >&2", step.line).expect("a String");
            // The file is shown before the error ends the script, because it has the reason.
            let shown = file.display();
            writeln!(script, "{{ {}\n}} >{shown} 2>&1 || {{ cat {shown} >&2; exit 1; }}", step.command)
                .expect("a String");
            expected.push((step, file));
        }
    }
    let registry = script.contains(PLACEHOLDER).then(Registry::start);
    let host = registry.as_ref().map_or(PLACEHOLDER, Registry::host);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
    let run = lab.command(&["-c", &script.replace(PLACEHOLDER, host)]).env("PATH", path).run();
    if run.code != Some(0) {
        return Err(run.to_string());
    }
    for (step, file) in expected {
        let output = std::fs::read_to_string(file).unwrap_or_default().replace(host, PLACEHOLDER);
        if !matches(&step.output, &output.lines().collect::<Vec<_>>()) {
            let wanted = step.output.join("\n");
            return Err(format!(
                "{name}:{}: `{}` printed\n{output}--- the page says\n{wanted}",
                step.line, step.command
            ));
        }
    }
    Ok(())
}

/// The pages: those at the top and everything in `docs`.
fn pages() -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![package.join("docs")];
    let top = std::fs::read_dir(package).expect("the package can be listed");
    let markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    found.extend(top.flatten().map(|entry| entry.path()).filter(markdown));
    while let Some(folder) = open.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else if markdown(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_command_in_the_documentation_is_run_or_excused() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = Path::new(env!("CARGO_BIN_EXE_imgrelay")).parent().expect("a program lies in a folder");
    let mut message = String::new();
    for path in pages() {
        let page = std::fs::read_to_string(&path).expect("a page can be read");
        let name = path.strip_prefix(package).unwrap_or(&path).display().to_string();
        for line in undecided(&page) {
            let rule = "open the block with `sh run`, or put `<!-- not run: REASON -->` before it, not both";
            writeln!(message, "{name}:{line}: {rule}").expect("a String");
        }
        if let Err(problem) = run_page(&name, &page, programs, Some(&package.join("examples"))) {
            writeln!(message, "{problem}").expect("a String");
        }
    }
    assert!(message.is_empty(), "{message}");
}

#[test]
fn a_shell_block_that_is_neither_run_nor_excused_is_found() {
    for (page, lines) in [
        ("```sh run\ntrue\n```\n", &[][..]),
        ("```sh\ntrue\n```\n", &[1]),
        ("text\n```console\n$ true\n```\n", &[2]),
        ("<!-- not run: needs a cluster -->\n```sh\nfalse\n```\n", &[]),
        ("<!-- not run: needs a cluster -->\n\n```bash\nfalse\n```\n", &[]),
        ("<!-- not run: needs a cluster -->\n```sh run\nfalse\n```\n", &[2]),
        ("<!-- not run: -->\n```sh\nfalse\n```\n", &[2]),
        ("<!-- not run: far away -->\ntext\n```sh\nfalse\n```\n", &[3]),
        ("```yaml\na: b\n```\n```\nplain\n```\n", &[]),
        ("````md\n```sh\nquoted\n```\n````\n", &[]),
    ] {
        assert_eq!(undecided(page), lines, "{page}");
    }
}

#[test]
fn a_page_whose_commands_fail_or_print_something_else_is_found() {
    let nothing = Path::new("/usr/bin");
    let run = |page: &str| run_page("page.md", page, nothing, None);
    assert_eq!(run("no block"), Ok(()));
    assert_eq!(run("```sh run\nA=1\necho hi > f\n```\n```sh run\ntest $A = 1\ncat f\n```\n"), Ok(()));
    assert_eq!(run("```console run\n$ printf 'a\\nb c d\\ne\\n'\na\nb … d\n…\n$ true\n```\n"), Ok(()));
    let registry = "```sh run\ncurl -fsS http://127.0.0.1:5000/v2/\n```\n";
    assert_eq!(run(registry), Ok(()));
    for (page, complaint) in [
        ("text\n```sh run\nfalse\ntrue\n```\n", "== page.md:2"),
        ("```sh run\nfalse | true\n```\n", "exit status Some(1)"),
        ("```console run\n$ true\n$ echo wrong >&2; false\n```\n", "wrong"),
        ("```console run\n$ echo b\na\n```\n", "page.md:2: `echo b` printed\nb\n--- the page says\na"),
        ("```console run\n$ echo b\n```\n", "printed\nb"),
        ("```console run\n$ true\nb\n```\n", "the page says\nb"),
    ] {
        let problem = run(page).expect_err(page);
        assert!(problem.contains(complaint), "{page}: {problem}");
    }
}
