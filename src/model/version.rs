//! Semantic versions, strict as packages have them and loose as tags are written: `1`, `v1.2`, `1.2.3-rc.1`.
//!
//! Source: semver.org 2.0.0; the loose form is that of Masterminds/semver v3.

use std::cmp::Ordering;
use std::fmt;

/// A version, with the text it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemanticVersion {
    /// First number.
    pub major: u64,
    /// Second number; 0 when not written.
    pub minor: u64,
    /// Third number; 0 when not written.
    pub patch: u64,
    /// The identifiers after `-`; empty for a final version.
    pub pre_release: String,
    /// The identifiers after `+`.
    pub build: String,
    original: String,
}

impl SemanticVersion {
    /// Reads a version that semver.org allows: three numbers without leading zeros, then perhaps `-…` and `+…`.
    #[must_use]
    pub fn parse_strict(text: &str) -> Option<Self> {
        let version = Self::parse_loose(text)?;
        // The loose form differs in a `v`, in numbers left out and in leading zeros; serialised again it has none of
        // them.
        (version.to_string() == text).then_some(version)
    }

    /// Reads a version as tags have it: perhaps with a `v` in front, one to three numbers, leading zeros in them.
    #[must_use]
    pub fn parse_loose(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, build) = split_identifiers(rest, '+')?;
        let (numbers, pre_release) = split_identifiers(rest, '-')?;
        let mut parts = numbers.split('.').map(parse_number);
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
        if pre_release.split('.').any(has_leading_zero) {
            return None;
        }
        let (pre_release, build, original) = (pre_release.to_owned(), build.to_owned(), text.to_owned());
        Some(Self { major, minor, patch, pre_release, build, original })
    }

    /// Tells whether it is a pre-release.
    #[must_use]
    pub fn is_pre_release(&self) -> bool {
        !self.pre_release.is_empty()
    }

    /// Returns the text it was read from.
    #[must_use]
    pub fn original(&self) -> &str {
        &self.original
    }

    /// Compares by precedence (semver.org, 11); what follows `+` does not count.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| compare_pre_releases(&self.pre_release, &other.pre_release))
    }
}

impl fmt::Display for SemanticVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre_release.is_empty() {
            write!(f, "-{}", self.pre_release)?;
        }
        if self.build.is_empty() { Ok(()) } else { write!(f, "+{}", self.build) }
    }
}

/// Splits at the first `mark`; the part after it, if there is one, has to be dot-separated identifiers.
fn split_identifiers(text: &str, mark: char) -> Option<(&str, &str)> {
    let Some((before, after)) = text.split_once(mark) else { return Some((text, "")) };
    let is_identifier = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    after.split('.').all(is_identifier).then_some((before, after))
}

/// Reads a number of digits alone.
fn parse_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Compares the parts after `-`: none is later than any; else identifier by identifier.
fn compare_pre_releases(one: &str, two: &str) -> Ordering {
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
            (Some(one), Some(two)) => match (parse_number(one), parse_number(two)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text, what the loose form reads, and whether the strict form reads it too.
    #[test]
    fn versions_are_read_loosely_and_strictly() {
        for (text, loose, strict) in [
            ("1", Some("1.0.0"), false),
            ("v1.2", Some("1.2.0"), false),
            ("1.2.3", Some("1.2.3"), true),
            ("0.0.0", Some("0.0.0"), true),
            ("v1.2.3", Some("1.2.3"), false),
            ("01.2.3", Some("1.2.3"), false),
            ("1.2.3-rc.1+b.5", Some("1.2.3-rc.1+b.5"), true),
            ("1.2.3-0a", Some("1.2.3-0a"), true),
            ("1.2.3+vmware.01", Some("1.2.3+vmware.01"), true),
            ("1.2.3-a.b+c-d", Some("1.2.3-a.b+c-d"), true),
            ("1.2.3+a-b", Some("1.2.3+a-b"), true),
            ("1.2.3--", Some("1.2.3--"), true),
            ("1.2-alpine3.19", Some("1.2.0-alpine3.19"), false),
            ("20240101", Some("20240101.0.0"), false),
            ("18446744073709551615.0.0", Some("18446744073709551615.0.0"), true),
            ("18446744073709551616.0.0", None, false),
            ("1.2.3.4", None, false),
            ("", None, false),
            ("v", None, false),
            ("vv1", None, false),
            ("latest", None, false),
            ("V1", None, false),
            ("1.2.", None, false),
            ("1..2", None, false),
            ("+1.2.3", None, false),
            ("1.2.3-", None, false),
            ("1.2.3+", None, false),
            ("1.2.3-a_b", None, false),
            ("1.2.3-a..b", None, false),
            ("1.2.3-01", None, false),
            ("1.2.3-0", Some("1.2.3-0"), true),
            ("1.2.3+a+b", None, false),
        ] {
            let found = SemanticVersion::parse_loose(text);
            assert_eq!(found.as_ref().map(ToString::to_string).as_deref(), loose, "{text}");
            assert_eq!(SemanticVersion::parse_strict(text), found.filter(|_| strict), "{text}");
        }
    }

    #[test]
    fn versions_are_in_the_order_of_semver_org() {
        let order = [
            "0.9",
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-10",
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
            let [one, two] = [pair[0], pair[1]].map(|text| SemanticVersion::parse_loose(text).unwrap());
            assert_eq!(one.precedence(&two), Ordering::Less, "{pair:?}");
            assert_eq!(two.precedence(&one), Ordering::Greater, "{pair:?}");
        }
        for (one, two) in [("1.0+a", "1.0.0+b"), ("v1.0.0-rc.1", "1.0-rc.1")] {
            let [one, two] = [one, two].map(|text| SemanticVersion::parse_loose(text).unwrap());
            assert_eq!(one.precedence(&two), Ordering::Equal);
        }
    }
}
