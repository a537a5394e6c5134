//! URLs as the protocol needs them: query kept byte for byte, origins comparable, secrets never printed.
//!
//! Parsing and printing again would reorder or re-encode query parameters, and signatures in upload locations
//! and storage redirects would no longer match. So path and query stay one text that is only ever appended to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::reach::{HostSource, numeric_address};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What credentials are bound to: scheme, host and port, default ports filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl fmt::Display for Origin {
    /// Prints `host` or `host:port`, as a user would write the registry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if self.port != self.scheme.default_port() { write!(f, ":{}", self.port) } else { Ok(()) }
    }
}

/// An absolute `http` or `https` URL. `Display` hides the values of query parameters that may be secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    origin: Origin,
    /// Begins with `/`; query included, fragment not.
    path: Box<str>,
}

/// Why a text is not a URL that a request may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlError {
    Characters,
    Scheme,
    UserInfo,
    Host,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Characters => "has characters that a URL cannot have",
            Self::Scheme => "does not begin with `http://` or `https://`",
            Self::UserInfo => "has a user name in it",
            Self::Host => "has no valid host",
        })
    }
}

/// Query parameters whose values are no secrets and are useful in a log.
const PRINTABLE: [&str; 15] = [
    "digest",
    "mount",
    "from",
    "n",
    "last",
    "scope",
    "service",
    "artifactType",
    "client_id",
    // Of buckets.
    "delimiter",
    "list-type",
    "max-keys",
    "partNumber",
    "prefix",
    "uploads",
];

impl Url {
    /// Makes the URL of a path on an origin; `path` begins with `/`.
    pub(super) fn new(origin: Origin, path: &str) -> Self {
        Self { origin, path: path.into() }
    }

    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        if !text.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return Err(UrlError::Characters);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let origin = origin(scheme, authority).ok_or(UrlError::Host)?;
        let path = path.split('#').next().unwrap_or("");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { origin, path: path.into() })
    }

    /// Resolves a `Location`, `Link` or `realm` against the URL whose response carried it.
    ///
    /// Source: RFC 3986 5.2, with the query kept as it came.
    pub(super) fn join(&self, reference: &str) -> Result<Self, UrlError> {
        let reference = reference.trim();
        let before_path = reference.split(['/', '?', '#']).next().unwrap_or("");
        if before_path.contains(':') {
            return Self::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.origin.scheme.as_str()));
        }
        if !reference.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return Err(UrlError::Characters);
        }
        let reference = reference.split('#').next().unwrap_or("");
        let base = self.path.split('?').next().unwrap_or("/");
        let path = if reference.starts_with('/') {
            reference.to_owned()
        } else if reference.is_empty() || reference.starts_with('?') {
            format!("{base}{reference}")
        } else {
            let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
            let (path, query) = match reference.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (reference, None),
            };
            let mut parts: Vec<&str> = folder.split('/').skip(1).collect();
            for part in path.split('/') {
                match part {
                    "." => {}
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            format!("/{}{query}", parts.join("/"))
        };
        Ok(Self { origin: self.origin.clone(), path: path.into() })
    }

    /// Returns the path, and the query without its `?`.
    pub(super) fn path_and_query(&self) -> (&str, &str) {
        self.path.split_once('?').unwrap_or((&self.path, ""))
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn is_https(&self) -> bool {
        self.origin.scheme == Scheme::Https
    }

    /// Returns the same URL over https; for locations that a proxy in front of the registry got wrong.
    pub(super) fn upgraded(&self, port: u16) -> Self {
        let origin = Origin { scheme: Scheme::Https, host: self.origin.host.clone(), port };
        Self { origin, path: self.path.clone() }
    }

    /// Appends a query parameter and leaves everything before it as it is.
    pub(super) fn with_query(&self, key: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}{key}={}", self.path, encode(value));
        Self { origin: self.origin.clone(), path: path.into() }
    }

    /// Returns the values of the query that are not printed.
    pub(super) fn secret_values(&self) -> impl Iterator<Item = &str> {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        query.split('&').filter_map(|parameter| match parameter.split_once('=') {
            Some((key, value)) => (!PRINTABLE.contains(&key)).then_some(value),
            None => Some(parameter),
        })
    }

    /// Returns the whole URL, secrets included, for the request itself.
    pub(super) fn expose(&self) -> String {
        format!("{}://{}{}", self.origin.scheme.as_str(), self.origin, self.path)
    }
}

impl Origin {
    /// Returns the address that the host is, in any form that name lookups of the system read as one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        numeric_address(&self.host)
    }

    /// Tells whether the host is this machine by name or address.
    pub(super) fn is_loopback(&self) -> bool {
        self.is_localhost() || self.address().is_some_and(|address| address.to_canonical().is_loopback())
    }

    /// Tells whether a response may name this host, as far as its text says where it is.
    ///
    /// Its address is checked when a connection is made; through a proxy only this text can be checked.
    pub(super) fn may_be_named_by(&self, source: HostSource) -> bool {
        let here = self.is_localhost().then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        here.or_else(|| self.address()).is_none_or(|address| source.allows(address))
    }

    fn is_localhost(&self) -> bool {
        let host = self.host.strip_suffix('.').unwrap_or(&self.host);
        host == "localhost" || host.ends_with(".localhost")
    }
}

/// Parses `host[:port]`.
pub(super) fn origin(scheme: Scheme, authority: &str) -> Option<Origin> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (format!("[{address}]"), after.strip_prefix(':').or(after.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (authority.to_ascii_lowercase(), Some("")),
        },
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let port = match port? {
        "" => scheme.default_port(),
        port => port.parse().ok().filter(|port| *port > 0)?,
    };
    Some(Origin { scheme, host: host.into(), port })
}

/// Bytes that a query value keeps besides letters and digits: every registry takes `:`, `/` and `,` as they are, and
/// logs read better.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/')
    .remove(b',');

/// Percent-encodes a query value.
pub(super) fn encode(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
}

/// Undoes percent-encoding; bytes that are not UTF-8 then are replaced.
pub(super) fn decode(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.origin.scheme.as_str(), self.origin)?;
        let Some((path, query)) = self.path.split_once('?') else { return f.write_str(&self.path) };
        f.write_str(path)?;
        for (index, parameter) in query.split('&').enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            match parameter.split_once('=') {
                Some((key, value)) if PRINTABLE.contains(&key) => write!(f, "{separator}{key}={value}")?,
                Some((key, _)) => write!(f, "{separator}{key}=***")?,
                None => write!(f, "{separator}***")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_and_their_query_is_kept() {
        let base = Url::parse("https://reg.example/v2/a/blobs/uploads/?mount=x").unwrap();
        let cases = [
            (
                "/v2/a/blobs/uploads/1?_state=a%2Bb==&x",
                "https://reg.example/v2/a/blobs/uploads/1?_state=a%2Bb==&x",
            ),
            ("https://reg.example:443/up?b=2&a=1", "https://reg.example/up?b=2&a=1"),
            ("http://other.example:8080/up", "http://other.example:8080/up"),
            ("//cdn.example/x?y#z", "https://cdn.example/x?y"),
            ("uuid-1?_state=q", "https://reg.example/v2/a/blobs/uploads/uuid-1?_state=q"),
            ("../other", "https://reg.example/v2/a/blobs/other"),
            ("?only=query", "https://reg.example/v2/a/blobs/uploads/?only=query"),
            ("HTTPS://REG.example/Up", "https://reg.example/Up"),
            ("https://[::1]:5000/x", "https://[::1]:5000/x"),
            ("https://reg.example?x=1", "https://reg.example/?x=1"),
        ];
        for (reference, expected) in cases {
            assert_eq!(base.join(reference).map(|url| url.expose()).as_deref(), Ok(expected), "{reference}");
        }
        let bad = [
            ("ftp://reg.example/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("https://user:pw@reg.example/", UrlError::UserInfo),
            ("https:///path", UrlError::Host),
            ("https://reg.example:0/", UrlError::Host),
            ("https://reg.example:99999/", UrlError::Host),
            ("https://reg example/", UrlError::Characters),
            ("/path with space", UrlError::Characters),
            ("/path\r\nX: y", UrlError::Characters),
        ];
        for (reference, expected) in bad {
            assert_eq!(base.join(reference), Err(expected), "{reference}");
        }
    }

    #[test]
    fn query_values_are_percent_encoded_and_decoded() {
        for (text, encoded) in [
            ("sha256:ab/c,d", "sha256:ab/c,d"),
            ("a-b._~", "a-b._~"),
            ("a b+c&d=e%", "a%20b%2Bc%26d%3De%25"),
            ("\u{e9}\u{1f600}\n", "%C3%A9%F0%9F%98%80%0A"),
        ] {
            assert_eq!(encode(text), encoded);
            assert_eq!(decode(encoded), text);
        }
        for (encoded, text) in [("%2f%2F", "//"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%ff", "\u{fffd}")] {
            assert_eq!(decode(encoded), text, "{encoded}");
        }
    }

    #[test]
    fn default_ports_are_the_same_origin_and_others_are_not() {
        let origin = |text: &str| Url::parse(text).unwrap().origin().clone();
        assert_eq!(origin("https://reg.example/"), origin("https://REG.example:443/x"));
        assert_ne!(origin("https://reg.example/"), origin("http://reg.example/"));
        assert_ne!(origin("https://reg.example/"), origin("https://reg.example:444/"));
    }

    #[test]
    fn printing_hides_what_may_be_secret() {
        let url =
            Url::parse("https://s3.example/b?X-Amz-Signature=abc&digest=sha256:1&token&from=a/b").unwrap();
        assert_eq!(url.to_string(), "https://s3.example/b?X-Amz-Signature=***&digest=sha256:1&***&from=a/b");
        assert!(!format!("{url:?}").contains("abc"));
        let url = url.with_query("digest", "sha256:ab+c");
        assert!(url.expose().ends_with("&from=a/b&digest=sha256:ab%2Bc"));
    }
}
