//! A bucket that speaks the protocol of Amazon S3: read, write, list and delete objects below a prefix.
//!
//! Features in which servers differ are not used: no conditions (but for the rest of an object), no checksum headers, no
//! chunked bodies; only `host` and `x-amz-*`
//! are signed. Requests are repeated as those to a registry are. The bucket's root is neither listed nor asked for, so
//! that a permission for the prefix is enough. Source: "Amazon S3 API Reference"; what SeaweedFS 4.48 and rclone 1.75
//! do differently is noted where it matters.

mod blocks;
mod error;
mod facts;
mod parts;
mod place;
mod reading;
#[cfg(test)]
mod scripted;
mod sending;
mod web_file;
mod writing;
mod xml;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::Secret;
use crate::stream::lock;

use super::cloud::{AwsKeys, AwsLogin, Clock, HttpCloudClient, LoginError};
use super::http::Http;
use super::retry::{Gate, RetryPolicy};
use super::sanitize::sanitize;
use super::wire_options::WireOptions;
use place::BucketPlace;

pub use error::BucketError;
pub use web_file::WebFile;

/// Keys are renewed so long before they expire, seconds.
const MARGIN: u64 = 300;

/// How the server of a bucket encrypts objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub algorithm: String,
    /// The key of the key management service, if it is not the bucket's.
    pub key: Option<String>,
}

impl Encryption {
    /// Checks what a user wrote.
    ///
    /// Errors: an unknown algorithm, a key without one that takes it, or one that is no header.
    pub fn new(algorithm: &str, key: Option<&str>) -> Result<Self, String> {
        match algorithm {
            "AES256" if key.is_some() => Err("a key needs `aws:kms` or `aws:kms:dsse`".to_owned()),
            "AES256" | "aws:kms" | "aws:kms:dsse" => {
                if key.is_some_and(|key| key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
                    return Err("a key's name has visible ASCII characters only".to_owned());
                }
                Ok(Self { algorithm: algorithm.to_owned(), key: key.map(str::to_owned) })
            }
            other => Err(format!("`{other}` is unknown, expected `AES256`, `aws:kms` or `aws:kms:dsse`")),
        }
    }

    /// Returns the headers of requests that begin an object, in the order of their names.
    fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let key = self.key.clone().map(|key| ("x-amz-server-side-encryption-aws-kms-key-id", key));
        std::iter::once(("x-amz-server-side-encryption", self.algorithm.clone())).chain(key)
    }
}

/// How a bucket is reached.
#[derive(Clone)]
pub struct BucketOptions {
    /// Trust, proxies, time-outs and events.
    pub wire: WireOptions,
    /// Whether plain http may be used elsewhere than on this machine.
    pub allow_http: bool,
    /// How often a failed request is sent again.
    pub retries: u32,
    /// First delay before that; it doubles.
    pub retry_delay: Duration,
    /// A server other than Amazon's: `https://s3.example`; the bucket's name is then part of the path.
    pub endpoint: Option<String>,
    /// The region; without one it is taken from the server's response.
    pub region: Option<String>,
    /// Where keys come from; without it requests are not signed.
    pub login: Option<AwsLogin>,
    /// How the server encrypts what is written; without it as the bucket says.
    pub encryption: Option<Encryption>,
    /// The time.
    pub clock: Clock,
}

impl std::fmt::Debug for BucketOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BucketOptions")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// The objects below a prefix of a bucket.
pub struct Bucket {
    place: BucketPlace,
    options: BucketOptions,
    http: Http,
    cloud: HttpCloudClient,
    policy: RetryPolicy,
    gate: Gate,
    state: Mutex<State>,
    parts: parts::Parts,
}

/// What turned out while requests were answered.
#[derive(Default)]
struct State {
    region: String,
    keys: Option<(AwsKeys, u64)>,
    /// Seconds that the server's clock is ahead of ours.
    skew: i64,
    /// The last `Date` of a response, seconds since 1970.
    date: Option<u64>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Bucket {
    /// Prepares; sends no request. `prefix` is empty or a key without `/` at its ends.
    ///
    /// Errors: an endpoint that is no URL, or in plain http on another machine.
    pub fn new(bucket: &str, prefix: &str, options: BucketOptions) -> Result<Self, BucketError> {
        let place = BucketPlace::new(bucket, prefix, options.endpoint.as_deref(), options.allow_http);
        Self::at(place, options)
    }

    /// Prepares to read files of any web server below this URL; requests are not signed, and nothing can be listed.
    ///
    /// Errors: as above.
    pub fn of_web(url: &str, options: BucketOptions) -> Result<Self, BucketError> {
        let options = BucketOptions { login: None, ..options };
        Self::at(BucketPlace::of_web(url, options.allow_http), options)
    }

    fn at(place: Result<BucketPlace, String>, options: BucketOptions) -> Result<Self, BucketError> {
        let configuration = |problem| BucketError::Configuration { problem };
        let place = place.map_err(configuration)?;
        let policy = RetryPolicy {
            retries: options.retries,
            delay: options.retry_delay,
            events: Arc::clone(&options.wire.events),
        };
        let http = Http::new(&options.wire).map_err(configuration)?;
        let cloud = HttpCloudClient::new(&options.wire, policy.clone()).map_err(configuration)?;
        let region = options.region.clone().unwrap_or_else(|| place::USUAL_REGION.to_owned());
        let state = Mutex::new(State { region, ..State::default() });
        Ok(Self {
            place,
            options,
            http,
            cloud,
            policy,
            gate: Gate::default(),
            state,
            parts: parts::Parts::default(),
        })
    }

    /// Returns the seconds since 1970 that the server's last response said; ours before the first one.
    #[must_use]
    pub fn now(&self) -> u64 {
        lock(&self.state).date.unwrap_or_else(|| (self.options.clock)())
    }

    /// Returns keys to sign with; `None` to send requests as they are.
    fn keys(&self) -> Result<Option<AwsKeys>, BucketError> {
        let Some(login) = &self.options.login else { return Ok(None) };
        // Held while a provider is asked: the other workers need the same response.
        let mut state = lock(&self.state);
        let now = (self.options.clock)();
        if let Some((keys, _)) = state.keys.as_ref().filter(|(_, until)| now < *until) {
            return Ok(Some(keys.clone()));
        }
        let failed = |problem| BucketError::Keys { host: self.place.host(&state.region), problem };
        let found = match login.temporary_keys(&state.region, now, &self.cloud) {
            Ok(found) => found,
            Err(LoginError::Absent) => {
                return Err(failed(
                    "there are no access keys, no web identity, no profile, and no role of a \
                                   container or machine"
                        .to_owned(),
                ));
            }
            Err(LoginError::Refused(problem)) => return Err(failed(problem)),
            Err(LoginError::Cancelled) => return Err(BucketError::Cancelled),
            Err(LoginError::Unreachable { attempts, elapsed, cause }) => {
                let (host, task) = (self.place.host(&state.region), "get keys".to_owned());
                return Err(BucketError::Unreachable { host, task, attempts, elapsed, cause });
            }
        };
        let until = found.expires.map_or(u64::MAX, |expires| {
            expires.saturating_sub(MARGIN).max(now + expires.saturating_sub(now) / 2)
        });
        state.keys = Some((found.keys.clone(), until));
        Ok(Some(found.keys))
    }
}

/// Returns the value of the header that says which bytes a request has.
fn empty_hash() -> String {
    // SHA-256 of nothing.
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()
}

/// A header with a secret value, as the HTTP client takes it.
fn secret(value: &str) -> Option<Secret> {
    Some(Secret::new(value))
}

/// Reads a response in every form that is known here, and returns what was made of it: for the fuzz targets.
pub(super) fn read_every_response(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let upload = xml::read_one(&text, "UploadId");
    sanitize(&format!("{:?} {:?} {upload:?}", xml::read_page(&text), xml::read_error(&text)))
}
