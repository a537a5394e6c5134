//! Versions in tags and constraints on them, as loosely as container tags are written: `1`, `v1.2`, `1.2.3-rc.1`.
//!
//! Source: the rules of Masterminds/semver v3, which Concourse's registry-image resource documents for
//! `semver_constraint`; they differ from Cargo's (`1.2` means exactly that line, ranges are joined with `||`).

use std::cmp::Ordering;
use std::fmt;

/// A version, with the text it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// First number.
    pub(super) major: u64,
    /// Second number; 0 when not written.
    pub(super) minor: u64,
    /// Third number; 0 when not written.
    pub(super) patch: u64,
    /// What follows `-`; empty for a final version.
    pub(super) pre: String,
    /// What follows `+`.
    pub(super) build: String,
    /// The text as written.
    pub(super) original: String,
}

impl Version {
    /// Reads a version; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, build) = split_last_part(rest, '+')?;
        let (numbers, pre) = split_last_part(rest, '-')?;
        let mut parts = numbers.split('.').map(number);
        let major = parts.next()??;
        let (minor, patch) = (parts.next(), parts.next());
        if parts.next().is_some() {
            return None;
        }
        let zero_or = |part: Option<Option<u64>>| part.unwrap_or(Some(0));
        let (minor, patch) = (zero_or(minor)?, zero_or(patch)?);
        let has_leading_zero = |part: &str| {
            part.len() > 1 && part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if pre.split('.').any(has_leading_zero) {
            return None;
        }
        let (pre, build, original) = (pre.to_owned(), build.to_owned(), text.to_owned());
        Some(Self { major, minor, patch, pre, build, original })
    }

    /// Tells whether it is a pre-release.
    pub(super) fn is_pre_release(&self) -> bool {
        !self.pre.is_empty()
    }

    /// Compares by precedence; what follows `+` does not count.
    pub(super) fn precedence(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| compare_pre(&self.pre, &other.pre))
    }

    /// Returns how exactly it is written: `1.2.3` is more exact than `1.2`.
    pub(super) fn exactness(&self) -> usize {
        self.original.matches('.').count()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if self.build.is_empty() { Ok(()) } else { write!(f, "+{}", self.build) }
    }
}

/// Splits at the first `mark`; the part behind it, if there is one, has to be dot-separated identifiers.
fn split_last_part(text: &str, mark: char) -> Option<(&str, &str)> {
    let Some((before, after)) = text.split_once(mark) else { return Some((text, "")) };
    let sane = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    after.split('.').all(sane).then_some((before, after))
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Compares what follows `-`: nothing is later than anything; then identifier by identifier (semver.org, 11).
fn compare_pre(one: &str, two: &str) -> Ordering {
    match (one.is_empty(), two.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut ones, mut twos) = (one.split('.'), two.split('.'));
    loop {
        let order = match (ones.next(), twos.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(one), Some(two)) => match (number(one), number(two)) {
                (Some(one), Some(two)) => one.cmp(&two),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => one.cmp(two),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

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

/// Longer ones first, because the shorter are their beginnings.
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

/// One comparison; numbers that were left out or written `x` count as any.
#[derive(Clone, Debug)]
struct Comparison {
    operator: Operator,
    version: Version,
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

    /// Tells whether a version satisfies it.
    pub(super) fn allows(&self, version: &Version) -> bool {
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
            // An operator may stand apart from its version.
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
    if !parts[written..].iter().all(|part| is_any(part) || number(part).is_some()) {
        return None;
    }
    let digits: Vec<&str> = (0..3).map(|index| if index < written { parts[index] } else { "0" }).collect();
    let version = Version::parse(&format!("{}{rest}", digits.join(".")))?;
    Some(Comparison { operator, version, written })
}

impl Comparison {
    fn holds(&self, found: &Version) -> bool {
        let wanted = &self.version;
        // Pre-releases count only where one was asked for.
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
            // The first number that is not zero stays.
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
    fn is_in_line(&self, found: &Version) -> bool {
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
    fn versions_are_read_as_tags_have_them() {
        for (text, expected) in [
            ("1", Some("1.0.0")),
            ("v1.2", Some("1.2.0")),
            ("1.2.3", Some("1.2.3")),
            ("01.2.3", Some("1.2.3")),
            ("1.2.3-rc.1+b.5", Some("1.2.3-rc.1+b.5")),
            ("1.2-alpine3.19", Some("1.2.0-alpine3.19")),
            ("20240101", Some("20240101.0.0")),
            ("1.2.3.4", None),
            ("", None),
            ("v", None),
            ("latest", None),
            ("V1", None),
            ("1.2.", None),
            ("1..2", None),
            ("1.2.3-", None),
            ("1.2.3-a_b", None),
            ("1.2.3-01", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(
                Version::parse(text).map(|version| version.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn versions_are_in_the_order_of_semver_org() {
        let order = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.10",
            "2",
        ];
        for pair in order.windows(2) {
            let [one, two] = [pair[0], pair[1]].map(|text| Version::parse(text).unwrap());
            assert_eq!(one.precedence(&two), Ordering::Less, "{pair:?}");
            assert_eq!(two.precedence(&one), Ordering::Greater, "{pair:?}");
        }
        let [one, two] = ["1.0+a", "1.0.0+b"].map(|text| Version::parse(text).unwrap());
        assert_eq!(one.precedence(&two), Ordering::Equal);
    }

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
                assert!(parsed.allows(&Version::parse(text).unwrap()), "{constraint} allows {text}");
            }
            for text in refused {
                assert!(!parsed.allows(&Version::parse(text).unwrap()), "{constraint} refuses {text}");
            }
        }
        for text in ["", "a", ">", "1.2.3.4", ">= 1 ||", "1.a", "=>=1"] {
            assert!(Constraint::parse(text).is_err(), "{text}");
        }
    }
}
