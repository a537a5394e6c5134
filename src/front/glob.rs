//! Patterns for paths in pipelines: `*`, `?`, `[a-z]`, and `\` before a literal character.
//!
//! The rules are those of Go's `filepath.Glob`, which registry-image-resource uses: a `*` stops at `/`, and names
//! that begin with a dot are like others.

use std::path::{Path, PathBuf};

use crate::front::failure::Failure;
use crate::model::limits;

/// Finds what a pattern matches below a folder, in order of name.
///
/// Errors: folders that cannot be listed; more than [`limits::CANDIDATES`] names in one of them.
pub(in crate::front) fn find(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut found = vec![folder.to_owned()];
    for part in pattern.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let mut next = Vec::new();
        for base in &found {
            if !part.contains(['*', '?', '[', '\\']) {
                let path = base.join(part);
                if path.symlink_metadata().is_ok() {
                    next.push(path);
                }
            } else if base.is_dir() {
                next.extend(matching(base, part)?);
            }
        }
        found = next;
    }
    Ok(found)
}

fn matching(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::refused(format!("cannot list `{}`: {error}", folder.display())).with_io_hint(&error)
    };
    let mut found = Vec::new();
    for (count, entry) in std::fs::read_dir(folder).map_err(failed)?.enumerate() {
        if count >= limits::CANDIDATES {
            let limit = limits::CANDIDATES;
            return Err(Failure::refused(format!("`{}` has more than {limit} files", folder.display())));
        }
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(|name| fits(pattern, name)) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Tells whether a name fits a pattern.
pub(in crate::front) fn fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // The last `*` and where it began: after a mismatch it matches one character more.
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < name.len() {
        match one(&pattern[at..], name[position]) {
            Some(length) => {
                at += length;
                position += 1;
            }
            None if pattern.get(at) == Some(&'*') => {
                star = Some((at, position));
                at += 1;
            }
            None => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    (at, position) = (star_at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|character| *character == '*')
}

/// Matches one character; returns how much of the pattern that took, `None` if it does not fit or a `*` is next.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern {
        ['*', ..] | [] => None,
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == character).then_some(2),
        ['[', rest @ ..] => {
            let negated = rest.first() == Some(&'^');
            let rest = if negated { &rest[1..] } else { rest };
            let end = rest.iter().skip(1).position(|c| *c == ']')? + 1;
            let class = &rest[..end];
            let mut inside = false;
            let mut index = 0;
            while index < class.len() {
                if class.get(index + 1) == Some(&'-') && index + 2 < class.len() {
                    inside |= (class[index]..=class[index + 2]).contains(&character);
                    index += 3;
                } else {
                    inside |= class[index] == character;
                    index += 1;
                }
            }
            (inside != negated).then_some(end + 2 + usize::from(negated))
        }
        [plain, ..] => (*plain == character).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, yes, no) in [
            ("image.tar", &["image.tar"][..], &["image.tar2", "image_tar", ""][..]),
            ("*.tar", &["a.tar", ".tar", "a.b.tar", ".hidden.tar"], &["tar", "a.tar.gz"]),
            ("a*b*c", &["abc", "axxbyyc", "abbcbc"], &["ab", "abcx", "xabc"]),
            ("app-?.tar", &["app-1.tar"], &["app-.tar", "app-12.tar"]),
            ("app-[0-9a].tar", &["app-5.tar", "app-a.tar"], &["app-b.tar", "app-.tar"]),
            ("[^a]", &["b"], &["a", "bb"]),
            ("\\*", &["*"], &["a"]),
            ("[", &[], &["["]),
            ("**", &["", "x"], &[]),
        ] {
            for name in yes {
                assert!(fits(pattern, name), "{pattern} fits {name}");
            }
            for name in no {
                assert!(!fits(pattern, name), "{pattern} does not fit {name}");
            }
        }
    }
}
