//! Doors for the fuzz targets to parsers that nobody else outside needs; not part of the interface.

use std::time::Duration;

use super::challenge::{self, Challenge};
use super::url::Url;

/// Returns the realms of the Bearer challenges in `WWW-Authenticate` headers.
#[must_use]
pub fn challenge_realms(headers: &[&str]) -> Vec<String> {
    let challenges = challenge::parse(headers.iter().copied()).into_iter();
    challenges
        .filter_map(|challenge| match challenge {
            Challenge::Bearer { realm, .. } => Some(realm),
            Challenge::Basic => None,
        })
        .collect()
}

/// Returns the target of the next page in a `Link` header.
#[must_use]
pub fn next_link(value: &str) -> Option<String> {
    super::paging::next_link(std::iter::once(value))
}

/// Resolves a location, and returns what is requested and what is printed of it.
#[must_use]
pub fn join(base: &str, reference: &str) -> Option<(String, String)> {
    let url = Url::parse(base).ok()?.join(reference).ok()?;
    Some((url.expose(), url.to_string()))
}

/// Reads `Retry-After`, given with the answer's `Date`.
#[must_use]
pub fn retry_after(value: &str, date: &str) -> Option<Duration> {
    super::retry::retry_after(Some(value), Some(date))
}
