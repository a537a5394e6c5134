//! No two files use each other, directly or by way of others, and every permission of the floor table is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::graph::Graph;
use super::rules::{MAY_USE, package, sources};

fn read(folder: &str) -> Graph {
    let base = package().join(folder);
    let mut files: Vec<PathBuf> = Vec::new();
    sources(&base, &mut files);
    let text = |path: &Path| {
        let name = path.strip_prefix(&base).unwrap().display().to_string();
        (name, std::fs::read_to_string(path).unwrap())
    };
    Graph::read(&files.iter().map(|path| text(path)).collect::<Vec<_>>())
}

fn small(files: &[(&str, &str)]) -> Graph {
    Graph::read(
        &files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect::<Vec<_>>(),
    )
}

/// The floor, or the module of a crate without floors, that a file belongs to.
fn floor(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// The lines with the uses in a circle, one for each pair of files.
fn reasons(graph: &Graph, circle: &BTreeSet<String>) -> String {
    let mut lines = BTreeMap::new();
    for edge in &graph.edges {
        if circle.contains(&edge.from) && circle.contains(&edge.to) {
            let line = format!("  {}:{} uses `{}` of {}", edge.from, edge.line, edge.name, edge.to);
            let _ = lines.entry((&edge.from, &edge.to)).or_insert(line);
        }
    }
    lines.into_values().collect::<Vec<_>>().join("\n")
}

/// The entries of the floor table that no code needs.
fn unused_permissions(graph: &Graph, table: &[(&str, &[&str])]) -> Vec<String> {
    let used: BTreeSet<(&str, &str)> =
        graph.edges.iter().map(|edge| (floor(&edge.from), floor(&edge.to))).collect();
    let entries =
        table.iter().flat_map(|(module, allowed)| allowed.iter().map(move |other| (*module, *other)));
    entries
        .filter(|entry| !used.contains(entry))
        .map(|(module, other)| format!("`{module}` may use `{other}` and does not: take it out of the table"))
        .collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut found = String::new();
    for folder in ["src", "testkit/src"] {
        let graph = read(folder);
        assert!(graph.edges.len() > 100, "{folder}: only {} uses were found", graph.edges.len());
        for circle in graph.circles() {
            let reasons = reasons(&graph, &circle);
            found.push_str(&format!("{folder}: a circle of {} files\n{reasons}\n", circle.len()));
        }
    }
    assert!(found.is_empty(), "{found}");
}

#[test]
fn every_permission_of_the_floor_table_is_used() {
    assert_eq!(unused_permissions(&read("src"), &MAY_USE), Vec::<String>::new());
}

#[test]
fn a_circle_between_files_is_found() {
    let none = small(&[
        ("lib.rs", "pub mod a;\npub mod b;\n"),
        ("a.rs", "use crate::b::Thing;\nfn f(_: Thing) {}\n"),
        ("b.rs", "pub struct Thing;\n#[cfg(test)]\nmod tests {\n    use crate::a::f;\n}\n"),
    ]);
    assert!(none.circles().is_empty(), "{:?}", none.edges);
    let cases: [(&str, &[(&str, &str)]); 4] = [
        (
            "two files that name each other",
            &[
                ("a.rs", "use crate::b::Thing;\npub fn f(_: Thing) {}\n"),
                ("b.rs", "pub struct Thing;\nfn g() { crate::a::f(Thing) }\n"),
            ],
        ),
        (
            "by a re-export, and by way of a third",
            &[
                ("a/mod.rs", "mod one;\nmod two;\nmod three;\npub(crate) use one::One;\n"),
                ("a/one.rs", "use super::two::two;\npub struct One;\nfn f() { two() }\n"),
                ("a/two.rs", "pub fn two() { super::three::three() }\n"),
                ("a/three.rs", "use super::One;\npub fn three() { let _ = One; }\n"),
            ],
        ),
        (
            "a head file that calls what uses it",
            &[
                ("a/mod.rs", "mod b;\npub struct Thing;\nfn f() { b::g() }\n"),
                ("a/b.rs", "use super::Thing;\npub fn g() { let _ = Thing; }\n"),
            ],
        ),
        (
            "methods of a type that are in another file",
            &[
                ("a.rs", "pub struct Thing;\nimpl Thing { fn f(&self) { self.far_away() } }\n"),
                ("b.rs", "use crate::a::Thing;\nimpl Thing { pub fn far_away(&self) {} }\n"),
            ],
        ),
    ];
    for (what, files) in cases {
        let graph = small(&[&[("lib.rs", "mod a;\nmod b;\n")], files].concat());
        let [circle] = &graph.circles()[..] else { panic!("{what}: {:?}", graph.edges) };
        assert_eq!(
            circle.len(),
            files.iter().filter(|(path, _)| *path != "a/mod.rs").count().max(2),
            "{what}"
        );
        assert!(reasons(&graph, circle).contains(" uses `"), "{what}");
    }
}

#[test]
fn a_permission_that_no_code_uses_is_found() {
    let graph = small(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
        ("a.rs", "use crate::b::Thing;\n"),
        ("b.rs", "pub struct Thing;\n"),
        ("c.rs", ""),
    ]);
    assert_eq!(unused_permissions(&graph, &[("a", &["b"]), ("b", &[])]), Vec::<String>::new());
    let found = unused_permissions(&graph, &[("a", &["b", "c"])]);
    assert!(matches!(&found[..], [one] if one.contains("`a` may use `c` and does not")), "{found:?}");
}
