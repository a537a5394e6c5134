//! The versions of a tag, and the keys of their entries.
//!
//! A key has the time of the push, counted down, so that the newest entry of a tag comes first in a sorted list, and
//! the digest, so that a list has everything about a version. Source: docs/formats/store.md.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::{Digest, Tag, time};

/// Keys have this number minus the time; it is the largest number of 13 digits.
const END: u64 = 9_999_999_999_999;
/// Digits of a time in a key.
const DIGITS: usize = 13;
/// Folder of the entries.
pub(super) const FOLDER: &str = "tags";

/// When a version was pushed: milliseconds since 1970, by the store's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushTime(u64);

impl PushTime {
    /// Makes a time; one after the year 2286 is the last one that a key can have.
    #[must_use]
    pub fn of_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds.min(END))
    }

    /// Returns the next millisecond.
    #[must_use]
    pub fn next(self) -> Self {
        Self::of_milliseconds(self.0 + 1)
    }

    /// Returns the time counted down, as keys have it: the later, the smaller.
    pub(super) fn counted_down(self) -> String {
        format!("{:0DIGITS$}", END - self.0)
    }

    /// Reads a time that is counted down.
    pub(super) fn of_counted_down(text: &str) -> Option<Self> {
        let is_number = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten().map(|time: u64| Self(END - time))
    }

    /// Returns how long before `now` it was.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }

    /// Returns milliseconds since 1970.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PushTime {
    /// Writes `2026-11-29T13:28:47.582Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds =
            time::format_rfc3339(self.0 / 1000).expect("the year of 13 digits of milliseconds is 2286");
        write!(f, "{}.{:03}Z", seconds.trim_end_matches('Z'), self.0 % 1000)
    }
}

impl FromStr for PushTime {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let milliseconds = time::Timestamp::parse_rfc3339(text).ok_or(())?.unix_milliseconds();
        let pushed = u64::try_from(milliseconds).ok().filter(|milliseconds| *milliseconds <= END);
        pushed.map(Self).ok_or(())
    }
}

/// One version of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The tag.
    pub tag: Tag,
    /// The digest that the tag pointed at.
    pub digest: Digest,
    /// When it was pushed.
    pub pushed: PushTime,
}

impl Version {
    /// Returns the key of its entry: `tags/<tag>/<time counted down>-sha256-<hex>.json`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{FOLDER}/{}/{}", self.tag, self.name())
    }

    /// Returns the last part of the key.
    #[must_use]
    pub fn name(&self) -> String {
        let (algorithm, hex) = (self.digest.algorithm().name(), self.digest.hex());
        format!("{}-{algorithm}-{hex}.json", self.pushed.counted_down())
    }

    /// Reads the last part of a key; `None` for any other name.
    #[must_use]
    pub fn of_name(tag: &Tag, name: &str) -> Option<Self> {
        let (time, digest) = name.strip_suffix(".json")?.split_once('-')?;
        let pushed = PushTime::of_counted_down(time)?;
        let (algorithm, hex) = digest.split_once('-')?;
        let digest = format!("{algorithm}:{hex}").parse().ok()?;
        Some(Self { tag: tag.clone(), digest, pushed })
    }

    /// Reads a key below the folder of all entries, `<tag>/<name>`.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (tag, name) = key.split_once('/')?;
        Self::of_name(&tag.parse().ok()?, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(milliseconds: u64) -> Version {
        let tag = "candidate".parse().unwrap();
        Version { tag, digest: Digest::sha256_of(b""), pushed: PushTime::of_milliseconds(milliseconds) }
    }

    #[test]
    fn a_key_has_everything_and_newer_ones_sort_first() {
        const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let version = version(1_796_045_327_582);
        assert_eq!(version.key(), format!("tags/candidate/8203954672417-sha256-{HEX}.json"));
        assert_eq!(version.pushed.to_string(), "2026-11-30T13:28:47.582Z");
        assert_eq!("2026-11-30T13:28:47.582Z".parse(), Ok(version.pushed));
        assert_eq!(Version::of_name(&version.tag, &version.name()), Some(version.clone()));
        assert_eq!(Version::of_key(version.key().strip_prefix("tags/").unwrap()), Some(version.clone()));
        let later = Version { pushed: version.pushed.next(), ..version.clone() };
        assert!(later.name() < version.name() && later.pushed > version.pushed);
    }

    #[test]
    fn times_at_both_ends_fit_into_a_key() {
        for milliseconds in [0, 1, END - 1, END, u64::MAX] {
            let version = version(milliseconds);
            assert_eq!(Version::of_name(&version.tag, &version.name()), Some(version.clone()));
            assert_eq!(version.pushed.to_string().parse(), Ok(version.pushed));
        }
        assert_eq!(PushTime(END).next(), PushTime(END));
        for wrong in ["1969-12-31T23:59:59.999Z", "2286-11-20T17:46:40Z", "x", ""] {
            assert_eq!(wrong.parse::<PushTime>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn names_of_something_else_are_passed_over() {
        let tag: Tag = "v1".parse().unwrap();
        let hex = Digest::sha256_of(b"").hex().to_owned();
        for name in [
            String::new(),
            "index.json".to_owned(),
            format!("8203954672417-sha256-{hex}"),
            format!("820395467241-sha256-{hex}.json"),
            format!("+203954672417-sha256-{hex}.json"),
            format!("8203954672417-sha256-{}.json", &hex[1..]),
            format!("8203954672417-md5-{hex}.json"),
            format!("8203954672417:sha256:{hex}.json"),
        ] {
            assert_eq!(Version::of_name(&tag, &name), None, "{name}");
        }
        assert_eq!(Version::of_key("v1"), None);
        assert_eq!(Version::of_key(&format!("-/8203954672417-sha256-{hex}.json")), None);
    }
}
