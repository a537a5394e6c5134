//! Where the objects of a bucket are: host and path, with the bucket's name in one of them.

use super::super::url::{Origin, Scheme, Url};

/// The region that is asked where none is known; a server elsewhere names its own in the response.
pub(super) const USUAL_REGION: &str = "us-east-1";

/// A prefix of a bucket at a server.
#[derive(Clone, Debug)]
pub(super) struct BucketPlace {
    /// Empty for a folder of a web server.
    pub(super) bucket: String,
    /// Empty, or ends with `/`.
    prefix: String,
    /// A server that the user named, with the path before the bucket.
    endpoint: Option<(Origin, String)>,
}

impl BucketPlace {
    pub(super) fn new(
        bucket: &str,
        prefix: &str,
        endpoint: Option<&str>,
        allow_http: bool,
    ) -> Result<Self, String> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let endpoint = match endpoint {
            None => None,
            Some(text) => {
                let url = Url::parse(text).map_err(|problem| format!("endpoint `{text}` {problem}"))?;
                let (path, query) = url.path_and_query();
                if !query.is_empty() || !path.bytes().all(is_plain) {
                    return Err(format!("endpoint `{text}` has more than a host and a plain path"));
                }
                if !url.is_https() && !allow_http && !url.origin().is_loopback() {
                    return Err(format!("endpoint `{text}` is plain http, which is for this machine only"));
                }
                Some((url.origin().clone(), path.trim_end_matches('/').to_owned()))
            }
        };
        Ok(Self { bucket: bucket.to_owned(), prefix, endpoint })
    }

    /// Makes a folder of a web server a place.
    pub(super) fn of_web(url: &str, allow_http: bool) -> Result<Self, String> {
        // The text may have a secret in its query.
        let url = Url::parse(url).map_err(|problem| format!("the URL {problem}"))?;
        if !url.is_https() && !allow_http && !url.origin().is_loopback() {
            return Err(format!("`{}` is plain http, which is for this machine only", url.origin()));
        }
        let path = url.path_and_query().0.trim_end_matches('/').to_owned();
        Ok(Self {
            bucket: String::new(),
            prefix: String::new(),
            endpoint: Some((url.origin().clone(), path)),
        })
    }

    /// Tells whether it is a folder of a web server.
    pub(super) fn is_web(&self) -> bool {
        self.bucket.is_empty()
    }

    /// Returns the key in the bucket.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Returns the key below the prefix.
    pub(super) fn below<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.prefix.as_str())
    }

    /// Returns the host, for messages.
    pub(super) fn host(&self, region: &str) -> String {
        self.origin(region).0.to_string()
    }

    /// Returns the server, and what is before the key in the path.
    fn origin(&self, region: &str) -> (Origin, String) {
        let bucket = &self.bucket;
        if let Some((origin, path)) = &self.endpoint {
            return match self.is_web() {
                true => (origin.clone(), format!("{path}/")),
                false => (origin.clone(), format!("{path}/{bucket}/")),
            };
        }
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let https = |host: String| Origin { scheme: Scheme::Https, host: host.into(), port: 443 };
        match bucket.contains('.') {
            // A certificate for `*.s3.…` is for names of one part.
            true => (https(format!("s3.{region}.{domain}")), format!("/{bucket}/")),
            false => (https(format!("{bucket}.s3.{region}.{domain}")), "/".to_owned()),
        }
    }

    /// Returns the URL of an object, or of the bucket for a list; `query` is encoded and in order.
    pub(super) fn url(&self, region: &str, key: Option<&str>, query: &[(&str, String)]) -> Url {
        let (origin, front) = self.origin(region);
        let mut path = match key {
            Some(key) => format!("{front}{}", self.key(key)),
            None => front,
        };
        for (number, (name, value)) in query.iter().enumerate() {
            path.push(if number == 0 { '?' } else { '&' });
            path.push_str(name);
            path.push('=');
            path.push_str(&encode(value));
        }
        Url::new(origin, &path)
    }
}

/// Tells whether a byte of a path needs no encoding, for any server.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._/".contains(&byte)
}

/// Encodes the value of a query as signatures have it: all but letters, digits, `-`, `.`, `_` and `~`.
fn encode(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_in_the_host_at_amazon_and_in_the_path_elsewhere() {
        let url = |bucket: &str, endpoint: Option<&str>, region: &str| {
            let place = BucketPlace::new(bucket, "team/app", endpoint, false).unwrap();
            place.url(region, Some("tags/a/x.json"), &[]).expose()
        };
        for (bucket, endpoint, region, expected) in [
            ("ci", None, "us-east-1", "https://ci.s3.us-east-1.amazonaws.com/team/app/tags/a/x.json"),
            ("ci", None, "cn-north-1", "https://ci.s3.cn-north-1.amazonaws.com.cn/team/app/tags/a/x.json"),
            ("a.b", None, "eu-west-1", "https://s3.eu-west-1.amazonaws.com/a.b/team/app/tags/a/x.json"),
            (
                "ci",
                Some("https://s3.example:9000/"),
                "x",
                "https://s3.example:9000/ci/team/app/tags/a/x.json",
            ),
            (
                "ci",
                Some("http://127.0.0.1:1/in/it"),
                "x",
                "http://127.0.0.1:1/in/it/ci/team/app/tags/a/x.json",
            ),
        ] {
            assert_eq!(url(bucket, endpoint, region), expected);
        }
        let place = BucketPlace::new("ci", "", None, false).unwrap();
        let query = [("list-type", "2".to_owned()), ("prefix", "tags/a b/".to_owned())];
        let list = place.url("us-east-1", None, &query).expose();
        assert_eq!(list, "https://ci.s3.us-east-1.amazonaws.com/?list-type=2&prefix=tags%2Fa%20b%2F");
        assert_eq!((place.key("x").as_str(), place.below("x")), ("x", Some("x")));
    }

    #[test]
    fn an_endpoint_is_a_url_without_surprises() {
        for (endpoint, expected) in [
            ("s3.example", "does not begin with `http://` or `https://`"),
            ("http://s3.example", "is plain http, which is for this machine only"),
            ("https://s3.example/?x=y", "has more than a host and a plain path"),
            ("https://s3.example/%2e", "has more than a host and a plain path"),
            ("https://me@s3.example", "has a user name in it"),
        ] {
            let problem = BucketPlace::new("ci", "", Some(endpoint), false).unwrap_err();
            assert!(problem.contains(expected), "{endpoint}: {problem}");
        }
        assert!(BucketPlace::new("ci", "", Some("http://s3.example"), true).is_ok());
    }
}
