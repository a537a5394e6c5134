//! Where a store is, as `--store` and `--to-store` name it: `URL`, `URL:TAG` or `URL@DIGEST`.
//!
//! A tag is the text after the last colon of the path's last part. No escapes in a path are decoded: a name with other
//! characters than those of keys is refused, so that no server or file system reads another name.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::model::{Digest, Tag, limits};

/// How the URL of a store begins.
const SCHEMES: [&str; 4] = ["s3", "file", "https", "http"];

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A folder: a share, a volume, a disk.
    Folder(PathBuf),
    /// A prefix of a bucket, which may be empty.
    Bucket {
        /// The bucket.
        bucket: String,
        /// The beginning of all keys, without `/` at its ends.
        prefix: String,
    },
    /// A folder of a web server, which is only read: its URL without `/` at the end.
    Web(String),
}

/// A store, and the selected image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreReference {
    /// The store.
    pub address: Address,
    /// The tag, if one was given.
    pub tag: Option<Tag>,
    /// The digest, if one was given.
    pub digest: Option<Digest>,
}

/// Why a text is not the URL of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not begin with a scheme that is known.
    #[error("`{text}` does not begin with `s3://`, `file://` or `https://`")]
    Scheme {
        /// The text.
        text: String,
    },
    /// The path is not usable.
    #[error("`{text}`: {problem}")]
    Path {
        /// The text.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// The tag or digest is not valid.
    #[error("`{text}`: {problem}")]
    Name {
        /// The text.
        text: String,
        /// What is wrong.
        problem: String,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::Web(url) => f.write_str(url),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl fmt::Display for StoreReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl FromStr for StoreReference {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme))
        else {
            return Err(AddressError::Scheme { text: without_secrets(text) });
        };
        let named = |problem: String| AddressError::Name { text: without_secrets(text), problem };
        let (rest, digest) = match rest.rsplit_once('@') {
            Some((rest, digest)) if !digest.contains('/') => {
                (rest, Some(digest.parse::<Digest>().map_err(|error| named(error.to_string()))?))
            }
            _ => (rest, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            // What follows a host is its port.
            Some((path, tag))
                if !tag.contains('/') && (path.contains('/') || !scheme.starts_with("http")) =>
            {
                (path, Some(tag.parse::<Tag>().map_err(|error| named(error.to_string()))?))
            }
            _ => (rest, None),
        };
        let wrong =
            |problem: &str| AddressError::Path { text: without_secrets(text), problem: problem.to_owned() };
        if path.len() > limits::PATH_BYTES {
            return Err(wrong(&format!("the path has more than {} bytes", limits::PATH_BYTES)));
        }
        let address = match scheme {
            "s3" => bucket(path),
            "file" => folder(path),
            scheme => web(scheme, path),
        };
        Ok(Self { address: address.map_err(wrong)?, tag, digest })
    }
}

/// Returns a URL without a user name, a password and a query, which may be secrets.
fn without_secrets(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?…"));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("…@{host}"));
    match scheme {
        "http" | "https" => format!("{scheme}://{authority}{path}{query}"),
        _ => text.to_owned(),
    }
}

/// Reads `host/path` of a web server.
fn web(scheme: &str, path: &str) -> Result<Address, &'static str> {
    let (host, folder) = path.split_once('/').unwrap_or((path, ""));
    if host.contains('@') {
        return Err("a user name or password in a URL is not sent");
    }
    if folder.contains(['?', '#']) || host.contains(['?', '#']) {
        return Err("a store is a folder of a web server, without a query");
    }
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_of_host) {
        return Err("it has no valid host name, expected `https://host/folder`");
    }
    let folder = folder.trim_end_matches('/');
    let is_of_path = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~/".contains(&byte);
    let is_bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if !folder.is_empty() && (!folder.bytes().all(is_of_path) || folder.split('/').any(is_bad)) {
        return Err("the path of a store has letters, digits, `.`, `_`, `-`, `~` and `/`");
    }
    let slash = if folder.is_empty() { "" } else { "/" };
    Ok(Address::Web(format!("{scheme}://{host}{slash}{folder}")))
}

/// Reads the path of a folder.
fn folder(path: &str) -> Result<Address, &'static str> {
    if !path.starts_with('/') {
        return Err("the path is not absolute, expected `file:///folder/name`");
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return Err("the path names no folder below the root");
    }
    if Path::new(trimmed).components().any(|part| part == Component::ParentDir) {
        return Err("the path has `..` in it");
    }
    if trimmed.chars().any(char::is_control) {
        return Err("the path has a control character in it");
    }
    // The folders above may have both: workspaces of Jenkins are called `job@2`.
    if trimmed.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
        return Err("the store's folder cannot have `:` or `@` in its name, which begin a tag or digest");
    }
    Ok(Address::Folder(PathBuf::from(trimmed)))
}

/// Reads `bucket/prefix`.
///
/// Source: "Amazon S3 User Guide", bucket naming rules.
fn bucket(path: &str) -> Result<Address, &'static str> {
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let is_of_bucket = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let ends = [bucket.bytes().next(), bucket.bytes().next_back()];
    if !(3..=63).contains(&bucket.len())
        || !bucket.bytes().all(is_of_bucket)
        || !ends.iter().flatten().all(u8::is_ascii_alphanumeric)
        || bucket.contains("..")
    {
        return Err("a bucket has 3 to 63 lower-case letters, digits, `-` and `.`");
    }
    // The lists of directory buckets are not sorted.
    if bucket.ends_with("--x-s3") {
        return Err("a directory bucket cannot be a store, because its lists are not sorted");
    }
    let prefix = prefix.trim_end_matches('/');
    let is_of_key = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let is_bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if !prefix.is_empty() && (!prefix.bytes().all(is_of_key) || prefix.split('/').any(is_bad)) {
        return Err("a prefix has letters, digits, `.`, `_`, `-` and `/`");
    }
    Ok(Address::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_with_or_without_a_tag_and_a_digest() {
        let digest = Digest::sha256_of(b"x");
        let parse = |text: &str| text.parse::<StoreReference>().unwrap();
        let whole = parse("file:///shared/images/app/");
        assert_eq!(whole.address, Address::Folder("/shared/images/app".into()));
        assert_eq!((whole.tag, whole.digest), (None, None));
        for text in ["file:///s/app:v1.2", "file:///s/a:b/app:v1", "file:///s/a:b/app", "file:///s/a@b/app"] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("file:///s/a:b/app").tag, None, "a colon in a folder's name is no tag");
        let text = format!("file:///s/app:v1@{digest}");
        let both = parse(&text);
        assert_eq!((both.to_string(), both.digest), (text, Some(digest)));
    }

    #[test]
    fn a_bucket_has_a_name_and_a_prefix() {
        for (text, bucket, prefix, tag) in [
            ("s3://ci-images/team/app:v1", "ci-images", "team/app", Some("v1")),
            ("s3://ci-images/team/app", "ci-images", "team/app", None),
            ("s3://ci.images:v1", "ci.images", "", Some("v1")),
            ("s3://ci.images", "ci.images", "", None),
        ] {
            let found = text.parse::<StoreReference>().unwrap();
            let expected = Address::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
            assert_eq!((&found.address, found.tag.as_ref().map(Tag::as_str)), (&expected, tag));
            assert_eq!(found.to_string(), text);
        }
        for (text, expected) in [
            ("s3://ab/x", "a bucket has 3 to 63"),
            ("s3://Images/x", "a bucket has 3 to 63"),
            ("s3://images-/x", "a bucket has 3 to 63"),
            ("s3://a..b/x", "a bucket has 3 to 63"),
            ("s3:///x", "a bucket has 3 to 63"),
            ("s3://images--x-s3/x", "its lists are not sorted"),
            ("s3://images/a b", "a prefix has letters"),
            ("s3://images/a//b", "a prefix has letters"),
            ("s3://images/../b", "a prefix has letters"),
            ("s3://images/%2e", "a prefix has letters"),
        ] {
            let error = text.parse::<StoreReference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_web_server_has_a_host_and_a_folder_and_its_secrets_are_not_printed() {
        for (text, url, tag) in [
            ("https://static.example/images/app:v1", "https://static.example/images/app", Some("v1")),
            ("https://static.example:8443/images/app/", "https://static.example:8443/images/app", None),
            ("https://static.example:8443", "https://static.example:8443", None),
            ("http://[::1]:80/a:v1", "http://[::1]:80/a", Some("v1")),
        ] {
            let found = text.parse::<StoreReference>().unwrap();
            assert_eq!(found.address, Address::Web(url.to_owned()));
            assert_eq!((found.tag.as_ref().map(Tag::as_str), found.address.to_string().as_str()), (tag, url));
        }
        for (text, expected) in [
            (
                "https://me:secret@host/app:v1",
                "`https://…@host/app:v1`: a user name or password in a URL is not sent",
            ),
            (
                "https://host/app?X-Amz-Signature=secret",
                "`https://host/app?…`: a store is a folder of a web server",
            ),
            ("https:///app", "it has no valid host name"),
            ("https://host/a%20b", "the path of a store has letters"),
            ("https://host/a/../b", "the path of a store has letters"),
        ] {
            let error = text.parse::<StoreReference>().unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn what_names_no_store_says_why() {
        for (text, expected) in [
            ("", "does not begin with `s3://`, `file://` or `https://`"),
            ("/shared/app", "does not begin with `s3://`, `file://` or `https://`"),
            ("ftp://host/app", "does not begin with `s3://`, `file://` or `https://`"),
            ("file://shared/app", "the path is not absolute, expected `file:///folder/name`"),
            ("file:///", "names no folder below the root"),
            ("file:///a/../b", "the path has `..` in it"),
            ("file:///a/b\nc:v1", "the path has a control character in it"),
            ("file:///a/b:1:v1", "the store's folder cannot have `:` or `@` in its name"),
            ("file:///a/b@1:v1", "digest `1:v1` uses an algorithm that cannot be verified"),
            ("file:///a/b:v1/", "the store's folder cannot have `:` or `@` in its name"),
            ("file:///a:", "tag"),
            ("file:///a@sha256:12", "digest `sha256:12` has 2 hex characters, expected 64"),
        ] {
            let error = text.parse::<StoreReference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!("file:///{}", "a/".repeat(3000));
        assert!(long.parse::<StoreReference>().unwrap_err().to_string().contains("more than 4096 bytes"));
    }
}
