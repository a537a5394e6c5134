//! Constraints on the versions in tags.
//!
//! Source: the rules of Masterminds/semver v3, which Concourse's registry-image resource documents for
//! `semver_constraint`; they differ from Cargo's (`1.2` means exactly that line, ranges are joined with `||`).

use std::cmp::Ordering;

use crate::model::SemanticVersion;

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Tilde,
    Caret,
}

/// Longer ones first, because they begin with the shorter ones.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("=", Operator::Equal),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

/// One comparison; missing numbers, and those written `x`, match any.
#[derive(Clone, Debug)]
struct Comparison {
    operator: Operator,
    version: SemanticVersion,
    /// How many numbers were written: 0 to 3.
    written: usize,
}

/// Alternatives of comparisons that all have to hold.
#[derive(Clone, Debug)]
pub(super) struct Constraint(Vec<Vec<Comparison>>);

impl Constraint {
    /// Reads a constraint such as `>= 1.2, < 3 || ~4.1`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.split("||")
            .map(|part| all_of(part).ok_or_else(|| wrong(part)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Tells whether a version satisfies the constraint.
    pub(super) fn allows(&self, version: &SemanticVersion) -> bool {
        self.0.iter().any(|all| all.iter().all(|comparison| comparison.holds(version)))
    }
}

fn wrong(part: &str) -> String {
    format!("`{}` is not a version constraint such as `>= 1.2, < 3` or `~1.4`", part.trim())
}

/// Reads comparisons that all have to hold: separated by commas or blanks; `a - b` is a range.
fn all_of(text: &str) -> Option<Vec<Comparison>> {
    let spaced = text.replace(',', " ");
    let mut words: Vec<String> = Vec::new();
    for word in spaced.split_whitespace() {
        match words.last_mut() {
            // A blank may follow an operator.
            Some(last) if OPERATORS.iter().any(|(sign, _)| *sign == last.as_str()) => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    if words.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    let mut rest = words.as_slice();
    loop {
        match rest {
            [] => return Some(all),
            [low, dash, high, after @ ..] if dash == "-" => {
                all.push(comparison(&format!(">={low}"))?);
                all.push(comparison(&format!("<={high}"))?);
                rest = after;
            }
            [one, after @ ..] => {
                all.push(comparison(one)?);
                rest = after;
            }
        }
    }
}

fn comparison(text: &str) -> Option<Comparison> {
    let (operator, text) = OPERATORS
        .iter()
        .find_map(|(sign, operator)| text.strip_prefix(sign).map(|rest| (*operator, rest)))
        .unwrap_or((Operator::Equal, text));
    let bare = text.strip_prefix('v').unwrap_or(text);
    let end = bare.find(['-', '+']).unwrap_or(bare.len());
    let (numbers, rest) = bare.split_at(end);
    let parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() > 3 {
        return None;
    }
    let is_any = |part: &&str| matches!(*part, "x" | "X" | "*");
    let written = parts.iter().position(is_any).unwrap_or(parts.len());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !parts[written..].iter().all(|part| is_any(part) || is_number(part)) {
        return None;
    }
    let digits: Vec<&str> = (0..3).map(|index| if index < written { parts[index] } else { "0" }).collect();
    let version = SemanticVersion::parse_loose(&format!("{}{rest}", digits.join(".")))?;
    Some(Comparison { operator, version, written })
}

impl Comparison {
    fn holds(&self, found: &SemanticVersion) -> bool {
        let wanted = &self.version;
        // Pre-releases match only if the constraint has one.
        if found.is_pre_release() && !wanted.is_pre_release() {
            return false;
        }
        let order = found.precedence(wanted);
        let same_major = found.major == wanted.major;
        let same_minor = same_major && found.minor == wanted.minor;
        match self.operator {
            Operator::Equal if self.written < 3 => self.is_in_line(found),
            Operator::Equal => order == Ordering::Equal,
            Operator::NotEqual if self.written < 3 => !self.is_in_line(found),
            Operator::NotEqual => order != Ordering::Equal,
            Operator::Greater if self.written < 3 => order == Ordering::Greater && !self.is_in_line(found),
            Operator::Greater => order == Ordering::Greater,
            Operator::GreaterOrEqual => order != Ordering::Less,
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual if self.written < 3 => order == Ordering::Less || self.is_in_line(found),
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Tilde => order != Ordering::Less && self.is_in_line(found),
            Operator::Caret if order == Ordering::Less => false,
            // The first number that is not zero must not change.
            Operator::Caret => match (wanted.major, wanted.minor) {
                (0, _) if self.written <= 1 => self.written == 0 || same_major,
                (0, 0) if self.written == 2 => same_minor,
                (0, 0) => same_minor && found.patch == wanted.patch,
                (0, _) => same_minor,
                _ => same_major,
            },
        }
    }

    /// Tells whether a version has the numbers that were written; for `1.2.3` the first two.
    fn is_in_line(&self, found: &SemanticVersion) -> bool {
        let wanted = &self.version;
        match self.written {
            0 => true,
            1 => found.major == wanted.major,
            _ => found.major == wanted.major && found.minor == wanted.minor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_allow_and_refuse_their_neighbours() {
        for (constraint, allowed, refused) in [
            ("1.2.3", &["1.2.3", "v1.2.3"][..], &["1.2.4", "1.2.3-rc.1"][..]),
            ("1.2", &["1.2.0", "1.2.9"], &["1.3.0", "1.1.9", "2.2.0"]),
            ("1.x", &["1.0", "1.9.9"], &["2.0", "0.9"]),
            ("*", &["0.0.0", "9"], &["1.0.0-rc.1"]),
            ("!=1.2.3", &["1.2.4"], &["1.2.3"]),
            ("!=1.2", &["1.3.0"], &["1.2.3"]),
            (">1.2", &["1.3.0", "2.0"], &["1.2.9", "1.2.0"]),
            (">11", &["12.0"], &["11.1.0"]),
            (">1.2.3", &["1.2.4"], &["1.2.3"]),
            (">=1.2", &["1.2.0"], &["1.1.9"]),
            ("=> 1.2", &["1.2.0"], &["1.1.9"]),
            ("<1.2", &["1.1.9"], &["1.2.0"]),
            ("<=1.2", &["1.2.9"], &["1.3.0"]),
            ("<=1.2.3", &["1.2.3"], &["1.2.4"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]),
            ("~1", &["1.9"], &["2.0"]),
            ("~>1.2", &["1.2.9"], &["1.3"]),
            ("^1.2.3", &["1.2.3", "1.9"], &["1.2.2", "2.0"]),
            ("^0.2.3", &["0.2.9"], &["0.3.0", "0.2.2"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4", "0.1.0"]),
            ("^0.0", &["0.0.9"], &["0.1.0"]),
            ("^0", &["0.9"], &["1.0"]),
            (">= 1.2, < 3.0 || >= 4.2", &["1.2.0", "2.9", "4.2"], &["1.1", "3.0", "4.1"]),
            (">=1 <2", &["1.5"], &["2.0"]),
            ("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.1", "1.4.6"]),
            (">=1.0.0-rc.1", &["1.0.0-rc.2", "1.0.0"], &["1.0.0-beta.1"]),
        ] {
            let parsed = Constraint::parse(constraint).unwrap();
            for text in allowed {
                assert!(
                    parsed.allows(&SemanticVersion::parse_loose(text).unwrap()),
                    "{constraint} allows {text}"
                );
            }
            for text in refused {
                assert!(
                    !parsed.allows(&SemanticVersion::parse_loose(text).unwrap()),
                    "{constraint} refuses {text}"
                );
            }
        }
        for text in ["", "a", ">", "1.2.3.4", ">= 1 ||", "1.a", "=>=1"] {
            assert!(Constraint::parse(text).is_err(), "{text}");
        }
    }
}
