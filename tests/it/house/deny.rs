//! Dependencies of the executable: checks `deny.toml` against the resolved versions, without further tools.
//!
//! It does not know vulnerabilities; those need a database from the network (`cargo deny check advisories`).

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::rules::{package, sources};

/// The parts of `deny.toml` that are checked here.
#[derive(Debug)]
struct Rules {
    licenses: BTreeSet<String>,
    registries: BTreeSet<String>,
    /// `name@version prefix` of the duplicates that are known, with the reason.
    skipped: BTreeMap<String, String>,
}

impl Rules {
    /// Reads the file in its present form: one item of a list per line.
    fn read(text: &str) -> Self {
        let mut rules =
            Self { licenses: BTreeSet::new(), registries: BTreeSet::new(), skipped: BTreeMap::new() };
        let (mut section, mut key) = (String::new(), String::new());
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let quoted: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            if line.starts_with('[') && line.ends_with(']') {
                section = line.trim_matches(['[', ']']).to_owned();
            } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('{')) {
                key = name.to_owned();
            }
            match (section.as_str(), key.as_str(), quoted.as_slice()) {
                ("licenses", "allow", names) => {
                    rules.licenses.extend(names.iter().map(|name| (*name).to_owned()));
                }
                ("sources", "allow-registry", urls) => {
                    rules.registries.extend(urls.iter().map(|url| (*url).to_owned()));
                }
                ("bans", "skip", [name, reason]) => {
                    rules.skipped.insert((*name).to_owned(), (*reason).to_owned());
                }
                ("bans", "skip", [_, ..]) => panic!("deny.toml: a skipped crate needs a reason: `{line}`"),
                _ => {}
            }
        }
        rules
    }

    fn skips(&self, name: &str, version: &str) -> Option<&str> {
        let known = self.skipped.keys().find(|known| {
            known.split_once('@').is_some_and(|(skipped, prefix)| {
                let rest = version.strip_prefix(prefix);
                skipped == name && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        });
        known.map(String::as_str)
    }

    /// Returns dependencies that break a rule, and rules without a use.
    fn findings(&self, metadata: &Value) -> Vec<String> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let used: BTreeSet<String> =
            list(&metadata["resolve"]["nodes"]).iter().map(|node| node["id"].to_string()).collect();
        let mut found = Vec::new();
        let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut licenses = BTreeSet::new();
        for package in list(&metadata["packages"]) {
            if !used.contains(&package["id"].to_string()) {
                continue;
            }
            let text = |key: &str| package[key].as_str().unwrap_or("").to_owned();
            let (name, version, license) = (text("name"), text("version"), text("license"));
            match allowed(&license, &self.licenses) {
                Some(needed) => licenses.extend(needed),
                None => found.push(format!("{name} {version}: licence `{license}` is not allowed")),
            }
            let source = text("source");
            let registry = source.strip_prefix("registry+").unwrap_or(&source);
            if !source.is_empty() && !self.registries.contains(registry) {
                found.push(format!("{name} {version}: source `{source}` is not allowed"));
            }
            versions.entry(name).or_default().insert(version);
        }
        let mut needed = BTreeSet::new();
        for (name, all) in versions.iter().filter(|(_, all)| all.len() > 1) {
            let skipped: Vec<&str> = all.iter().filter_map(|version| self.skips(name, version)).collect();
            if all.len() - skipped.len() > 1 {
                found.push(format!("{name} is there in several versions: {all:?}"));
            }
            needed.extend(skipped.into_iter().map(str::to_owned));
        }
        let idle = self.skipped.keys().filter(|known| !needed.contains(*known));
        found.extend(idle.map(|known| format!("deny.toml skips {known}, which is no duplicate any more")));
        let idle = self.licenses.iter().filter(|license| !licenses.contains(*license));
        found.extend(idle.map(|license| format!("deny.toml allows {license}, which nothing has")));
        found
    }
}

/// Returns the allowed licences a licence expression (SPDX, or the old `MIT/Apache-2.0`) mentions, if the allowed ones
/// satisfy it.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let satisfied = either(&mut rest, allow)?;
    let mentioned =
        words.iter().filter(|word| allow.contains(**word)).map(|word| (*word).to_owned()).collect();
    (satisfied && rest.is_empty()).then_some(mentioned)
}

fn either(words: &mut &[&str], allow: &BTreeSet<String>) -> Option<bool> {
    let mut satisfied = both(words, allow)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        satisfied |= both(words, allow)?;
    }
    Some(satisfied)
}

fn both(words: &mut &[&str], allow: &BTreeSet<String>) -> Option<bool> {
    let mut satisfied = one(words, allow)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        satisfied &= one(words, allow)?;
    }
    Some(satisfied)
}

fn one(words: &mut &[&str], allow: &BTreeSet<String>) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let satisfied = either(words, allow)?;
            let [")", rest @ ..] = *words else { return None };
            *words = rest;
            Some(satisfied)
        }
        [license, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(allow.contains(&format!("{license} WITH {exception}")))
        }
        [license, rest @ ..] => {
            *words = rest;
            Some(allow.contains(*license))
        }
        [] => None,
    }
}

#[test]
fn every_dependency_is_allowed_by_deny_toml() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO")).args(arguments).current_dir(package).output();
        let output = output.expect("cargo runs its tests, so it is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let about = String::from_utf8(cargo(&["-vV"])).expect("cargo prints UTF-8");
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo knows its host");
    // Everything for the host has just been built, so nothing has to be fetched.
    let metadata = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host];
    let metadata: Value = serde_json::from_slice(&cargo(&metadata)).expect("cargo prints JSON");
    let text = std::fs::read_to_string(package.join("deny.toml")).expect("deny.toml is beside Cargo.toml");
    let rules = Rules::read(&text);
    assert!(
        rules.licenses.len() > 3 && rules.registries.len() == 1,
        "deny.toml was not understood: {rules:?}"
    );
    let findings = rules.findings(&metadata);
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// The folders whose code uses the dependencies in each section of a manifest.
const USERS: [(&str, &str, &[&str]); 5] = [
    ("Cargo.toml", "dependencies", &["src"]),
    ("Cargo.toml", "dev-dependencies", &["src", "tests", "benches", "fuzz/src", "ci"]),
    ("testkit/Cargo.toml", "dependencies", &["testkit/src"]),
    ("testkit/Cargo.toml", "dev-dependencies", &["testkit/src"]),
    ("fuzz/Cargo.toml", "dependencies", &["fuzz/src", "fuzz/fuzz_targets"]),
];
/// Dependencies that no code names, each with its purpose.
const NOT_NAMED: [(&str, &str); 1] =
    [("log", "its feature removes the logging of other crates from the executable")];

/// The names in one section of a manifest.
fn dependencies(manifest: &str, section: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    let names =
        lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(['=', '.']));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| !name.starts_with('#')).collect()
}

/// Tells which dependencies are in no path and no attribute of the code.
fn unused(names: &[String], code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = code.split(|c: char| !is_name(c)).collect();
    names.iter().filter(|name| !words.contains(name.replace('-', "_").as_str())).cloned().collect()
}

#[test]
fn every_dependency_is_used() {
    let mut found = Vec::new();
    for (manifest, section, folders) in USERS {
        let text = std::fs::read_to_string(package().join(manifest)).unwrap();
        let mut files = Vec::new();
        folders.iter().for_each(|folder| sources(&package().join(folder), &mut files));
        let lines = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).unwrap();
            let code = text.lines().map(|line| line.split("//").next().unwrap_or(""));
            code.collect::<Vec<_>>().join("\n")
        };
        let code = files.iter().map(lines).collect::<Vec<_>>().join("\n");
        let names = dependencies(&text, section);
        assert!(!names.is_empty() || section == "dev-dependencies", "{manifest} was not understood");
        let unused = unused(&names, &code).into_iter();
        let unused = unused.filter(|name| !NOT_NAMED.iter().any(|(known, _)| known == name));
        found.extend(unused.map(|name| format!("{manifest}: nothing uses `{name}` of [{section}]")));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_dependency_that_nothing_uses_is_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# Why.\nused-one = \"1\"\nidle = { version = \"1\" }\n\n[lints]\nz = 1\n";
    let names = dependencies(manifest, "dependencies");
    assert_eq!(names, ["used-one", "idle"]);
    assert_eq!(unused(&names, "use used_one::Thing;\nfn idle_time() {}\n"), ["idle"]);
}

/// Most crates in the executable; raise it only in a commit that says why.
///
/// Ten of them open the encrypted keys of cosign (docs/decisions/0002-dependencies.md).
const CRATES: usize = 104;

#[test]
fn the_number_of_crates_in_the_executable_is_fixed() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--package",
            "imgrelay",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs its tests, so it is there");
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let crates: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_suffix(" (*)").or(Some(line))).collect();
    let crates = crates.into_iter().filter(|line| !line.is_empty() && !line.starts_with("imgrelay ")).count();
    assert!((40..=CRATES).contains(&crates), "{crates} crates, at most {CRATES}:\n{text}");
}

#[test]
fn the_deny_check_finds_what_is_not_allowed() {
    let text = "[licenses]\nallow = [\n  \"MIT\",\n  \"ISC\",\n]\n[bans]\nskip = [\n  { crate = \"a@0.2\", reason = \"old\" },\n]\n\
        [sources]\nallow-registry = [\"https://crates\"]\n";
    let rules = Rules::read(text);
    let check = |packages: &[(&str, &str, &str, &str)]| {
        let ids: Vec<Value> = (0..packages.len()).map(|id| serde_json::json!({"id": id})).collect();
        let packages = packages.iter().enumerate().map(|(id, (name, version, license, source))| {
            serde_json::json!({"id": id, "name": name, "version": version, "license": license, "source": source})
        });
        let packages: Vec<Value> = packages.collect();
        let found = rules.findings(&serde_json::json!({"packages": packages, "resolve": {"nodes": ids}}));
        found.join("\n")
    };
    let (own, good) = (("own", "1.0.0", "ISC", ""), "registry+https://crates");
    let base = [own, ("a", "0.2.1", "MIT", good), ("a", "0.4.0", "MIT OR GPL-3.0", good)];
    assert_eq!(check(&base), "");
    let with = |more| check(&[base.as_slice(), &[more]].concat());
    assert_eq!(with(("b", "1.0.0", "GPL-3.0", good)), "b 1.0.0: licence `GPL-3.0` is not allowed");
    assert_eq!(
        with(("b", "1.0.0", "MIT AND GPL-3.0", good)),
        "b 1.0.0: licence `MIT AND GPL-3.0` is not allowed"
    );
    assert_eq!(with(("b", "1.0.0", "(MIT OR GPL-3.0) AND ISC", good)), "");
    assert_eq!(with(("b", "1.0.0", "MIT WITH X", good)), "b 1.0.0: licence `MIT WITH X` is not allowed");
    assert_eq!(with(("b", "1.0.0", "", good)), "b 1.0.0: licence `` is not allowed");
    assert_eq!(with(("b", "1.0.0", "MIT/GPL-3.0", good)), "");
    let git = "git+https://example.com/b";
    assert_eq!(with(("b", "1.0.0", "MIT", git)), format!("b 1.0.0: source `{git}` is not allowed"));
    assert_eq!(
        with(("a", "0.3.0", "MIT", good)),
        "a is there in several versions: {\"0.2.1\", \"0.3.0\", \"0.4.0\"}"
    );
    assert_eq!(check(&base[..2]), "deny.toml skips a@0.2, which is no duplicate any more");
    assert_eq!(check(&base[1..]), "deny.toml allows ISC, which nothing has");
}
