//! Links between the pages of the documentation: the file exists, and the heading behind `#` too.
//!
//! Links to the web are not followed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One link of a page: the line, and the target as it is written.
type Link = (usize, String);

/// Finds `[text](target)` and `[name]: target` outside of fenced blocks and code spans.
fn links(page: &str) -> Vec<Link> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (index, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every second part is between back-quotes; a link's text may have some, its target has none.
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let inline = plain.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        found.extend(inline.map(|target| (index + 1, target.to_owned())));
    }
    found
}

/// The names that a page's headings have in links, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let (mut found, mut fenced) = (BTreeSet::new(), false);
    for line in page.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if fenced || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

/// Returns the errors of a page's links.
fn broken(path: &Path, page: &str) -> Vec<String> {
    let folder = path.parent().unwrap_or(path);
    let problem = |target: &str| -> Option<&'static str> {
        if target.contains("://") || target.starts_with("mailto:") {
            return None;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { path.to_owned() } else { folder.join(file) };
        if !file.exists() {
            return Some("is not there");
        }
        let has =
            |anchor: &str| std::fs::read_to_string(&file).is_ok_and(|page| anchors(&page).contains(anchor));
        (!anchor.is_empty() && !has(anchor)).then_some("has no such heading")
    };
    let found = links(page).into_iter();
    found.filter_map(|(line, target)| Some(format!("{line}: `{target}` {}", problem(&target)?))).collect()
}

/// All pages, those of examples and Tekton too.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()];
    let skipped = ["target", ".git", ".venv", "regressions"];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !skipped.contains(&entry.file_name().to_string_lossy().as_ref()) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn links_between_pages_lead_to_files_and_headings() {
    let (package, pages) = (Path::new(env!("CARGO_MANIFEST_DIR")), pages());
    assert!(pages.len() > 30, "only {} pages were found", pages.len());
    let mut message = String::new();
    for path in pages {
        let page = std::fs::read_to_string(&path).expect("a page can be read");
        let name = path.strip_prefix(package).unwrap_or(&path).display().to_string();
        for problem in broken(&path, &page) {
            writeln!(message, "{name}:{problem}").expect("a String takes everything");
        }
    }
    assert!(message.is_empty(), "{message}");
}

#[test]
fn every_page_is_reached_from_the_index() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let index = std::fs::read_to_string(docs.join("README.md")).expect("docs has an index");
    let listed: BTreeSet<String> = links(&index).into_iter().map(|(_, target)| target).collect();
    let listed: BTreeSet<&str> = listed
        .iter()
        .map(|target| target.split_once('#').map_or(target.as_str(), |(file, _)| file))
        .collect();
    for page in pages().iter().filter_map(|path| path.strip_prefix(&docs).ok()) {
        let name = page.display().to_string();
        let known = name == "README.md" || name.starts_with("decisions/") || listed.contains(name.as_str());
        assert!(known, "docs/README.md does not list {name}");
    }
}

#[test]
fn decisions_have_numbers_of_their_own_that_their_titles_repeat() {
    let mut numbers = BTreeSet::new();
    for path in
        pages().iter().filter(|path| path.parent().is_some_and(|folder| folder.ends_with("decisions")))
    {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
        let number = name.split('-').next().unwrap_or(name);
        let page = std::fs::read_to_string(path).expect("a page can be read");
        assert!(page.starts_with(&format!("# {number}: ")), "{name}: the title begins with another number");
        assert!(numbers.insert(number.to_owned()), "{name}: another decision has this number");
    }
    assert!(numbers.len() > 10, "{numbers:?}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let lab = crate::lab::lab();
    lab.write("there.md", "# One `heading`, and 2!\n```\n# no heading\n```\n");
    let page = lab.write("page.md", "");
    for (text, problems) in [
        ("[a](there.md) and [b](https://example.com/no)", &[][..]),
        ("[a](there.md#one-heading-and-2)", &[]),
        ("[a](there.md#no-heading)", &["1: `there.md#no-heading` has no such heading"]),
        (
            "x\n[a](gone.md), [b](gone/too.md)",
            &["2: `gone.md` is not there", "2: `gone/too.md` is not there"],
        ),
        ("[`code`](gone.md)", &["1: `gone.md` is not there"]),
        ("`[a](gone.md)`\n```\n[a](gone.md)\n```\n", &[]),
    ] {
        assert_eq!(broken(&page, text), problems, "{text}");
    }
}
