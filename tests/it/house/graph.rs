//! Which file uses which, read from the source: the paths in the code, followed through `use` to the file that defines
//! the item.
//!
//! A `mod` line and a `pub use` do not count as a use: a module's head file may list and re-export its submodules.
//! Inline tests do not count. Methods are found by name where an `impl` block is in another file than its type, so that
//! uses of code in `impl` blocks of other files count as well.

use std::collections::{BTreeMap, BTreeSet};

/// The module path of a file below the crate's root.
type ModulePath = Vec<String>;

/// One file, cut into tokens.
#[derive(Default)]
struct File {
    /// Tokens of the code outside `use`, each with its line.
    tokens: Vec<(String, usize)>,
    /// What `use` binds here: the name, the path as written, the line, and whether it is a re-export.
    imports: Vec<Import>,
    /// Items that are defined here.
    items: BTreeSet<String>,
    /// Inherent methods by the type they are for.
    methods: Vec<(String, String)>,
}

struct Import {
    name: String,
    path: Vec<String>,
    line: usize,
    exported: bool,
}

/// One use: the using file, the used file, and the line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) line: usize,
    pub(crate) name: String,
}

/// A crate's files and what they use.
pub(crate) struct Graph {
    pub(crate) edges: Vec<Edge>,
}

impl Graph {
    /// Reads a crate from its files: paths relative to the folder of `lib.rs`, and texts.
    pub(crate) fn read(sources: &[(String, String)]) -> Self {
        let tests = test_modules(sources);
        let mut files: BTreeMap<ModulePath, (String, File)> = BTreeMap::new();
        for (path, text) in sources {
            let module = module_of(path);
            let skipped = path == "main.rs" || tests.iter().any(|test| module.starts_with(test));
            if !skipped {
                let _ = files.insert(module, (path.clone(), parse(text)));
            }
        }
        let mut edges = BTreeSet::new();
        for (module, (path, file)) in &files {
            let mut add = |target: Option<Target>, line: usize, name: &str| {
                if let Some(Target::Item(to)) = target
                    && to != *module
                {
                    let to = files[&to].0.clone();
                    let _ = edges.insert(Edge { from: path.clone(), to, line, name: name.to_owned() });
                }
            };
            for import in &file.imports {
                if import.exported && !names(&file.tokens).any(|name| *name == import.name) {
                    continue;
                }
                add(resolve(&files, module, &import.path, 0), import.line, &import.path.join("::"));
            }
            for (path, line) in paths(&file.tokens) {
                add(resolve(&files, module, &path, 0), line, &path.join("::"));
            }
        }
        edges.extend(method_edges(&files));
        Self { edges: edges.into_iter().collect() }
    }

    /// Groups of files that use each other, directly or by way of others.
    pub(crate) fn circles(&self) -> Vec<BTreeSet<String>> {
        let names: BTreeSet<&String> = self.edges.iter().flat_map(|edge| [&edge.from, &edge.to]).collect();
        let reach: BTreeMap<&String, BTreeSet<&String>> =
            names.iter().map(|name| (*name, self.reached_from(name))).collect();
        let mut circles = BTreeSet::new();
        for name in &names {
            let circle: BTreeSet<String> = reach[*name]
                .iter()
                .filter(|other| reach[**other].contains(*name))
                .map(|other| (**other).clone())
                .collect();
            if circle.len() > 1 {
                let _ = circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reached_from<'graph>(&'graph self, name: &str) -> BTreeSet<&'graph String> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = vec![name];
        while let Some(next) = open.pop() {
            for edge in self.edges.iter().filter(|edge| edge.from == next) {
                if reached.insert(&edge.to) {
                    open.push(&edge.to);
                }
            }
        }
        reached
    }
}

/// The target of a path: a module, or an item in the file of a module.
enum Target {
    Module,
    Item(ModulePath),
}

fn module_of(path: &str) -> ModulePath {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Modules that are declared below `#[cfg(test)]`.
fn test_modules(sources: &[(String, String)]) -> Vec<ModulePath> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let lines: Vec<&str> = text.lines().collect();
        for two in lines.windows(2).filter(|two| two[0].trim() == "#[cfg(test)]") {
            let words: Vec<&str> = two[1].trim().trim_end_matches(';').split(' ').collect();
            if let [.., "mod", name] = words[..] {
                let mut module = module_of(path);
                module.push(name.to_owned());
                found.push(module);
            }
        }
    }
    found
}

/// Follows a path from a module to a module or file; `None` for a path into another crate.
fn resolve(
    files: &BTreeMap<ModulePath, (String, File)>,
    module: &[String],
    path: &[String],
    depth: usize,
) -> Option<Target> {
    // Imports may name each other in a loop; only the compiler refuses that.
    if depth > 20 {
        return None;
    }
    let (first, rest) = path.split_first()?;
    let mut at: ModulePath = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module.split_last()?.1.to_vec(),
        name => {
            let mut child = module.to_vec();
            child.push(name.to_owned());
            if files.contains_key(&child) {
                child
            } else {
                let file = &files.get(module)?.1;
                if let Some(import) = file.imports.iter().find(|import| import.name == name) {
                    // A name that an import takes from itself (`use serde_json`) is another crate's.
                    if import.path.first().is_some_and(|first| first == name) {
                        return None;
                    }
                    let whole: Vec<String> = import.path.iter().chain(rest).cloned().collect();
                    return resolve(files, module, &whole, depth + 1);
                }
                return file.items.contains(name).then(|| Target::Item(module.to_vec()));
            }
        }
    };
    for (index, segment) in rest.iter().enumerate() {
        let mut child = at.clone();
        if segment == "super" {
            let _ = at.pop();
            continue;
        }
        child.push(segment.clone());
        if files.contains_key(&child) {
            at = child;
            continue;
        }
        let file = &files.get(&at)?.1;
        if file.items.contains(segment) || segment == "*" {
            return Some(Target::Item(at));
        }
        let more = &rest[index + 1..];
        for import in &file.imports {
            let whole: Vec<String> = if import.name == *segment {
                import.path.iter().chain(more).cloned().collect()
            } else if import.name == "*" {
                let base = &import.path[..import.path.len() - 1];
                base.iter().chain([segment]).chain(more).cloned().collect()
            } else {
                continue;
            };
            if let Some(target) = resolve(files, &at, &whole, depth + 1) {
                return Some(target);
            }
        }
        return None;
    }
    Some(Target::Module)
}

/// Methods of `impl` blocks away from their type, with the file they are in, if no other file has a function so named.
fn away_methods(files: &BTreeMap<ModulePath, (String, File)>) -> BTreeMap<String, ModulePath> {
    let mut found = BTreeMap::new();
    for (module, (_, file)) in files {
        for (kind, method) in &file.methods {
            let away = match resolve(files, module, std::slice::from_ref(kind), 0) {
                Some(Target::Item(home)) => home != *module,
                _ => false,
            };
            let elsewhere = files.iter().any(|(other, (_, file))| {
                other != module
                    && (file.items.contains(method) || file.methods.iter().any(|(_, own)| own == method))
            });
            if away && !elsewhere {
                let _ = found.insert(method.clone(), module.clone());
            }
        }
    }
    found
}

/// Calls of methods that are defined away from their type.
fn method_edges(files: &BTreeMap<ModulePath, (String, File)>) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (name, home) in away_methods(files) {
        let to = &files[&home].0;
        for (path, file) in files.values().filter(|(path, _)| path != to) {
            let is_call =
                |three: &&[(String, usize)]| three[0].0 == "." && three[1].0 == name && three[2].0 == "(";
            let call = file.tokens.windows(3).find(is_call);
            edges.extend(call.map(|call| Edge {
                from: path.clone(),
                to: to.clone(),
                line: call[1].1,
                name: format!(".{name}()"),
            }));
        }
    }
    edges
}

fn parse(text: &str) -> File {
    let tokens = tokens(&without_tests(text));
    let mut file = File::default();
    let (mut index, mut depth) = (0, 0_usize);
    // The type whose `impl` block is open.
    let mut implemented: Option<String> = None;
    let mut exported = false;
    while index < tokens.len() {
        let token = tokens[index].0.as_str();
        let next = tokens.get(index + 1).map_or("", |(next, _)| next.as_str());
        match token {
            "use" => {
                let rest = &tokens[index + 1..];
                let end = rest.iter().position(|(token, _)| token == ";").unwrap_or(rest.len());
                import_tree(&rest[..end], &[], exported, &mut file.imports);
                exported = false;
                index += end + 2;
                continue;
            }
            "mod" if tokens.get(index + 2).is_some_and(|(token, _)| token == ";") => {
                index += 3;
                continue;
            }
            "fn" if implemented.is_some() => {
                file.methods.push((implemented.clone().unwrap_or_default(), next.to_owned()));
            }
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" | "mod" => {
                let _ = file.items.insert(next.to_owned());
            }
            "macro_rules" => {
                let _ = file.items.insert(tokens.get(index + 2).map_or("", |(name, _)| name).to_owned());
            }
            "impl" if depth == 0 => {
                let rest = &tokens[index + 1..];
                let end = rest.iter().position(|(token, _)| token == "{").unwrap_or(0);
                implemented = implemented_type(&rest[..end]);
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    implemented = None;
                }
            }
            _ => {}
        }
        exported = token == "pub" || exported && matches!(token, "(" | ")" | "crate" | "super" | "in");
        file.tokens.push(tokens[index].clone());
        index += 1;
    }
    file
}

/// The type of `impl<…> Type<…>`; none for `impl Trait for Type`, whose methods are the trait's.
fn implemented_type(head: &[(String, usize)]) -> Option<String> {
    let mut depth = 0_usize;
    if head.iter().any(|(token, _)| token == "for") {
        return None;
    }
    for (token, _) in head {
        match token.as_str() {
            "<" => depth += 1,
            ">" => depth = depth.saturating_sub(1),
            name if depth == 0 && name.starts_with(|c: char| c.is_alphabetic()) => {
                return Some(name.to_owned());
            }
            _ => {}
        }
    }
    None
}

fn import_tree(tokens: &[(String, usize)], prefix: &[String], exported: bool, imports: &mut Vec<Import>) {
    let mut path = prefix.to_vec();
    let mut index = 0;
    let mut name = None;
    let mut line = tokens.first().map_or(0, |(_, line)| *line);
    while index <= tokens.len() {
        let token = tokens.get(index).map_or(",", |(token, _)| token.as_str());
        match token {
            "::" => {}
            "{" => {
                let (mut depth, mut end) = (1_usize, index + 1);
                while depth > 0 && end < tokens.len() {
                    match tokens[end].0.as_str() {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        _ => {}
                    }
                    end += 1;
                }
                import_tree(&tokens[index + 1..end - 1], &path, exported, imports);
                path.truncate(prefix.len());
                index = end - 1;
            }
            "," => {
                if path.len() > prefix.len() {
                    // `use a::{self}` binds `a`.
                    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
                        let _ = path.pop();
                    }
                    let bound = name.take().unwrap_or_else(|| path.last().cloned().unwrap_or_default());
                    imports.push(Import { name: bound, path: path.clone(), line, exported });
                }
                path.truncate(prefix.len());
            }
            "as" => {
                index += 1;
                name = tokens.get(index).map(|(name, _)| name.clone());
            }
            segment => {
                line = tokens[index].1;
                path.push(segment.to_owned());
            }
        }
        index += 1;
    }
}

/// Every name except those of methods and fields.
fn names(tokens: &[(String, usize)]) -> impl Iterator<Item = &String> {
    let is_member = |index: usize| index > 0 && tokens[index - 1].0 == ".";
    tokens.iter().enumerate().filter(move |(index, _)| !is_member(*index)).map(|(_, (token, _))| token)
}

/// Every path of two segments or more, and every single name.
fn paths(tokens: &[(String, usize)]) -> Vec<(Vec<String>, usize)> {
    let is_name = |token: &str| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let after_dot = index > 0 && tokens[index - 1].0 == ".";
        if !is_name(&tokens[index].0) || after_dot {
            index += 1;
            continue;
        }
        let (mut path, line) = (vec![tokens[index].0.clone()], tokens[index].1);
        while tokens.get(index + 1).is_some_and(|(token, _)| token == "::")
            && tokens.get(index + 2).is_some_and(|(token, _)| is_name(token))
        {
            path.push(tokens[index + 2].0.clone());
            index += 2;
        }
        if path.len() > 1 {
            found.push((path, line));
        }
        index += 1;
    }
    found
}

/// Names, `::` and single characters; comments, strings and character literals are left out.
fn tokens(text: &str) -> Vec<(String, usize)> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut index, mut line) = (Vec::new(), 0, 1);
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    while index < chars.len() {
        let start = index;
        match chars[index] {
            '/' if at(index + 1) == '/' => {
                while index < chars.len() && chars[index] != '\n' {
                    index += 1;
                }
                continue;
            }
            'r' | 'b' if raw_string(&chars, index).is_some() => {
                index = raw_string(&chars, index).unwrap_or(index + 1);
            }
            '"' => {
                index += 1;
                while index < chars.len() && chars[index] != '"' {
                    index += if chars[index] == '\\' { 2 } else { 1 };
                }
                index += 1;
            }
            '\'' if at(index + 1) == '\\' => {
                index += 3;
                while index < chars.len() && chars[index] != '\'' {
                    index += 1;
                }
                index += 1;
            }
            '\'' if at(index + 2) == '\'' => index += 3,
            ':' if at(index + 1) == ':' => {
                found.push(("::".to_owned(), line));
                index += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                while at(index).is_alphanumeric() || at(index) == '_' {
                    index += 1;
                }
                found.push((chars[start..index].iter().collect(), line));
            }
            c => {
                if !c.is_whitespace() {
                    found.push((c.to_string(), line));
                }
                index += 1;
            }
        }
        line += chars[start..index.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// The end of a raw string that begins here.
fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    if start > 0 && (chars[start - 1].is_alphanumeric() || chars[start - 1] == '_') {
        return None;
    }
    let mut index = start + usize::from(chars[start] == 'b');
    if chars.get(index) != Some(&'r') {
        return None;
    }
    index += 1;
    let hashes = chars[index..].iter().take_while(|c| **c == '#').count();
    index += hashes;
    if chars.get(index) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let length = chars[index + 1..].windows(end.len()).position(|window| *window == end[..])?;
    Some(index + 1 + length + end.len())
}

/// Blanks the items below `#[cfg(test)]`: a module to its closing brace, any other item to its end.
fn without_tests(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        out.push('\n');
        let indent = &line[..line.len() - line.trim_start().len()];
        for line in lines.by_ref() {
            out.push('\n');
            let ends = line.strip_prefix(indent).is_some_and(|rest| {
                rest == "}" || !rest.starts_with([' ', '#']) && (rest.ends_with(';') || rest.ends_with('}'))
            });
            if ends {
                break;
            }
        }
    }
    out
}
