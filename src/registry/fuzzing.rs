//! Functions that give the fuzz targets access to private parsers; not part of the interface.

use std::net::IpAddr;
use std::time::{Duration, Instant};

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
    super::paging::next_link(std::iter::once(value)).ok().flatten()
}

/// Resolves a location, and returns what is requested and what is printed of it.
#[must_use]
pub fn join(base: &str, reference: &str) -> Option<(String, String)> {
    let url = Url::parse(base).ok()?.join(reference).ok()?;
    Some((url.expose(), url.to_string()))
}

/// Reads `Retry-After`, given with the response's `Date`.
#[must_use]
pub fn retry_after(value: &str, date: &str) -> Option<Duration> {
    super::retry::retry_after(Some(value), Some(date))
}

/// Reads a response as every server and program that could have sent it, and returns what each made of it, as it
/// shows in a log: registry, token server, credential helper, bucket, and the providers of the cloud logins.
#[must_use]
pub fn responses(body: &[u8]) -> Vec<String> {
    let message = super::error_body::parse(body, &super::sanitize::sanitize);
    let token = super::token::Token::parse(body, Instant::now());
    let mut read = vec![message.code, message.text, format!("{token:?}")];
    for is_success in [true, false] {
        read.push(match super::helper::read_response(is_success, body) {
            Ok(credential) => format!("{credential:?}"),
            Err(problem) => problem.unwrap_or_default(),
        });
    }
    read.extend(super::cloud::read_every_response(body));
    read.push(super::s3::read_every_response(body));
    read
}

/// Reads a text as certificates to trust; returns how many there are, or what is said about the text.
pub fn certificates(pem: &[u8]) -> Result<usize, String> {
    super::pem::parse_certificates(pem, "`ca.pem`").map(|certificates| certificates.len())
}

/// Returns the address that a host is written as, and whether a registry elsewhere may name it.
#[must_use]
pub fn address_of_host(host: &str) -> Option<(IpAddr, bool)> {
    let address = super::reach::numeric_address(host)?;
    Some((
        address,
        super::reach::HostSource::ResponseFrom(super::reach::NetworkPlace::Elsewhere).allows(address),
    ))
}
