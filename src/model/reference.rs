//! Image references: `registry/repository:tag@digest`, with Docker Hub's rules for short names.
//!
//! Source: distribution-spec, "Pulling manifests" (grammar of name and tag); distribution/reference.

use std::fmt;
use std::str::FromStr;

use super::digest::excerpt;
use super::{Digest, DigestError};

/// Longest `host/name` that Docker's clients take.
const NAME_LIMIT: usize = 255;
/// Longest tag (distribution-spec).
const TAG_LIMIT: usize = 128;
/// The host Docker Hub's API answers on.
const HUB_API_HOST: &str = "registry-1.docker.io";

/// The host of a registry, with its port if one was written: `ghcr.io`, `localhost:5000`, `[::1]:5000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registry(Box<str>);

/// A repository in a registry: `ghcr.io/team/app`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: Registry,
    name: Box<str>,
}

/// A tag, at most 128 of `[A-Za-z0-9_.-]`, not beginning with `.` or `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// What a manifest is requested by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A name that may move.
    Tag(Tag),
    /// Fixed content.
    Digest(Digest),
}

/// A reference as a user writes it; tag and digest may both be there, then the digest decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry and repository.
    pub repository: Repository,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference, repository or tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("the reference is empty, expected `registry/repository:tag`")]
    Empty,
    /// A URL was given.
    #[error("reference `{found}` begins with a URL scheme, expected `registry/repository:tag` without it")]
    Scheme {
        /// The text.
        found: String,
    },
    /// The host part is not a host name or address with an optional port.
    #[error("registry `{found}` is not a host name with an optional port")]
    Registry {
        /// The host part.
        found: String,
    },
    /// The repository breaks the grammar.
    #[error(
        "repository `{found}` is not valid: path components are lower-case letters and digits, \
         separated by one `.`, one or two `_`, or any number of `-`"
    )]
    Repository {
        /// The repository part.
        found: String,
    },
    /// Host and repository together are too long.
    #[error(
        "repository `{found}` is {len} characters long with its registry, at most {NAME_LIMIT} are allowed"
    )]
    TooLong {
        /// The repository, cut.
        found: String,
        /// Its length.
        len: usize,
    },
    /// The tag breaks the grammar.
    #[error(
        "tag `{found}` is not valid: a tag is 1 to {TAG_LIMIT} letters, digits, `_`, `.` or `-`, \
         and does not begin with `.` or `-`"
    )]
    Tag {
        /// The tag part.
        found: String,
    },
    /// The digest is wrong.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Registry {
    /// Returns the host as written, `docker.io` for Docker Hub under any of its names.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the `host[:port]` that API requests go to.
    #[must_use]
    pub fn api_host(&self) -> &str {
        if self.is_docker_hub() { HUB_API_HOST } else { &self.0 }
    }

    /// Tells whether this is Docker Hub.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == "docker.io"
    }

    /// Returns the host without the port and without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        if let Some(rest) = self.0.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        self.0.split(':').next().unwrap_or(&self.0)
    }

    /// Returns the port, if one was written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let after_host = self.0.rsplit(']').next().unwrap_or(&self.0);
        after_host.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
    }

    /// Tells whether the host is this machine: `localhost`, `*.localhost`, `127.0.0.0/8` or `::1`.
    ///
    /// Only these may be talked to in plain http without a flag.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Registry {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = || ReferenceError::Registry { found: excerpt(text) };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or_else(wrong)?;
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(wrong());
                }
                match after.strip_prefix(':') {
                    Some(port) => (None, Some(port)),
                    None if after.is_empty() => (None, None),
                    None => return Err(wrong()),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Some(host), Some(port)),
                None => (Some(text), None),
            },
        };
        if let Some(host) = host {
            let label_ok = |label: &str| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            if host.len() > 253 || !host.split('.').all(label_ok) {
                return Err(wrong());
            }
        }
        if let Some(port) = port
            && (port.is_empty()
                || !port.bytes().all(|b| b.is_ascii_digit())
                || !port.parse::<u16>().is_ok_and(|n| n > 0))
        {
            return Err(wrong());
        }
        let hub = matches!(text, "docker.io" | "index.docker.io" | HUB_API_HOST);
        Ok(Self(if hub { "docker.io".into() } else { text.to_ascii_lowercase().into() }))
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Repository {
    /// Returns the registry.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the name inside the registry: `team/app`, `library/busybox`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the reference `repository:tag`.
    #[must_use]
    pub fn with_tag(&self, tag: Tag) -> Reference {
        Reference { repository: self.clone(), tag: Some(tag), digest: None }
    }

    /// Makes the reference `repository@digest`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    /// Parses `[registry/]name`; the first component is a host only if it has a `.` or `:`, or is `localhost`.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme { found: excerpt(text) });
        }
        let is_host = |part: &str| part.contains(['.', ':', '[']) || part == "localhost";
        let (registry, name) = match text.split_once('/') {
            Some((host, name)) if is_host(host) => (host.parse()?, name.to_owned()),
            _ => (Registry("docker.io".into()), text.to_owned()),
        };
        let name =
            if registry.is_docker_hub() && !name.contains('/') { format!("library/{name}") } else { name };
        if !name.split('/').all(is_path_component) {
            return Err(ReferenceError::Repository { found: excerpt(text) });
        }
        let len = registry.0.len() + 1 + name.len();
        if len > NAME_LIMIT {
            return Err(ReferenceError::TooLong { found: excerpt(text), len });
        }
        Ok(Self { registry, name: name.into() })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

/// Tells whether a text is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path_component(text: &str) -> bool {
    let mut separator = String::new();
    let mut seen_word = false;
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => {
                if !separator.is_empty() {
                    let known = matches!(separator.as_str(), "." | "_" | "__")
                        || separator.bytes().all(|byte| byte == b'-');
                    if !seen_word || !known {
                        return false;
                    }
                    separator.clear();
                }
                seen_word = true;
            }
            '.' | '_' | '-' => separator.push(character),
            _ => return false,
        }
    }
    seen_word && separator.is_empty()
}

impl Tag {
    /// Returns `latest`, what a reference without tag and digest means.
    #[must_use]
    pub fn latest() -> Self {
        Self("latest".into())
    }

    /// Returns the tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !first || !rest || text.len() > TAG_LIMIT {
            return Err(ReferenceError::Tag { found: excerpt(text) });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl Reference {
    /// Returns what to ask the registry for: the digest, else the tag, else `latest`.
    #[must_use]
    pub fn target(&self) -> Target {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Target::Digest(digest.clone()),
            (None, Some(tag)) => Target::Tag(tag.clone()),
            (None, None) => Target::Tag(Tag::latest()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        if rest.contains("://") {
            return Err(ReferenceError::Scheme { found: excerpt(text) });
        }
        // A colon after the last slash begins a tag; one before it belongs to the registry's port.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') && !tag.contains(']') => {
                (repository, Some(tag.parse()?))
            }
            _ => (rest, None),
        };
        Ok(Self { repository: repository.parse()?, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_read_and_printed_in_full() {
        let long_tag = "t".repeat(128);
        let cases = [
            ("busybox", "docker.io/library/busybox".to_owned()),
            ("team/app:v1", "docker.io/team/app:v1".into()),
            ("index.docker.io/team/app", "docker.io/team/app".into()),
            ("registry-1.docker.io/busybox", "docker.io/library/busybox".into()),
            ("localhost/app", "localhost/app".into()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".into()),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c".into()),
            ("[::1]:5000/app:v1", "[::1]:5000/app:v1".into()),
            ("Registry.Example.COM/app", "registry.example.com/app".into()),
            ("reg.example/a--b/c__d/e.f_g:V-1._x", "reg.example/a--b/c__d/e.f_g:V-1._x".into()),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Reference>().map(|r| r.to_string()), Ok(expected), "{text}");
        }
        let text = format!("reg.example/app:{long_tag}@sha256:{HEX}");
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
        assert!(matches!(reference.target(), Target::Digest(_)), "the digest decides");
    }

    #[test]
    fn bad_references_are_refused_with_the_rule() {
        let cases = [
            (String::new(), "is empty"),
            ("https://reg.example/app".into(), "begins with a URL scheme"),
            ("reg.example/App".into(), "repository `reg.example/App` is not valid"),
            ("reg.example/a..b".into(), "is not valid"),
            ("reg.example/a___b".into(), "is not valid"),
            ("reg.example/-a".into(), "is not valid"),
            ("reg.example/a-".into(), "is not valid"),
            ("reg.example/".into(), "is not valid"),
            ("reg.example/../etc".into(), "is not valid"),
            ("reg.example/app:".into(), "tag `` is not valid"),
            ("reg.example/app:-x".into(), "tag `-x` is not valid"),
            ("reg.example/app:a b".into(), "tag `a b` is not valid"),
            (format!("reg.example/app:{}", "t".repeat(129)), "is not valid: a tag is 1 to 128"),
            (format!("reg.example/{}", "a".repeat(244)), "256 characters long"),
            ("reg.example:0/app".into(), "registry `reg.example:0`"),
            ("reg.example:x/app".into(), "registry `reg.example:x`"),
            ("reg.example:65536/app".into(), "registry `reg.example:65536`"),
            ("-x.example/app".into(), "registry `-x.example`"),
            ("[::1/app".into(), "registry `[::1`"),
            ("reg.example/app@sha256:12ab".into(), "has 4 hex characters, expected 64"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Reference>().expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_is_only_this_machine() {
        for (text, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("a.localhost:5000", true),
            ("127.9.9.9:1", true),
            ("[::1]:5000", true),
            ("localhost.evil.example", false),
            ("10.0.0.1:5000", false),
            ("127.0.0.1.example:5000", false),
        ] {
            assert_eq!(text.parse::<Registry>().unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn the_name_of_a_registry_is_a_host_name() {
        for host in ["reg_1.example:5000", "a-b.example", "10.0.0.1:5000"] {
            assert!(host.parse::<Registry>().is_ok(), "{host}");
        }
        for host in
            ["reg!.example", "-reg.example", "reg-.example", "reg..example", "r g.example", ".example"]
        {
            assert!(host.parse::<Registry>().is_err(), "{host}");
        }
    }
}
