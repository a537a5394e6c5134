//! A bucket that speaks the protocol of Amazon S3: read, write, list and delete objects below a prefix.
//!
//! What servers differ in is left out: no conditions, no checksum headers, no chunked bodies; only `host` and `x-amz-*`
//! are signed. Requests are repeated as those to a registry are. The bucket's root is neither listed nor asked for, so
//! that a permission for the prefix is enough. Source: "Amazon S3 API Reference"; what SeaweedFS 4.48 and rclone 1.75
//! do differently is said where it matters.

mod error;
mod place;
mod reading;
mod sending;
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
use place::Place;

pub use error::BucketError;

/// Keys are renewed so long before they expire, seconds.
const MARGIN: u64 = 300;

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
    /// The region; without one it is taken from the server's answer.
    pub region: Option<String>,
    /// Where keys come from; without it requests are not signed.
    pub login: Option<AwsLogin>,
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
    place: Place,
    options: BucketOptions,
    http: Http,
    cloud: HttpCloudClient,
    policy: RetryPolicy,
    gate: Gate,
    state: Mutex<State>,
}

/// What turned out while requests were answered.
#[derive(Default)]
struct State {
    region: String,
    keys: Option<(AwsKeys, u64)>,
    /// Seconds that the server's clock is ahead of ours.
    skew: i64,
    /// The last `Date` of an answer, seconds since 1970.
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
        let configuration = |problem| BucketError::Configuration { problem };
        let place = Place::new(bucket, prefix, options.endpoint.as_deref(), options.allow_http)
            .map_err(configuration)?;
        let policy = RetryPolicy {
            retries: options.retries,
            delay: options.retry_delay,
            events: Arc::clone(&options.wire.events),
        };
        let http = Http::new(&options.wire).map_err(configuration)?;
        let cloud = HttpCloudClient::new(&options.wire, policy.clone()).map_err(configuration)?;
        let region = options.region.clone().unwrap_or_else(|| place::USUAL_REGION.to_owned());
        let state = Mutex::new(State { region, ..State::default() });
        Ok(Self { place, options, http, cloud, policy, gate: Gate::default(), state })
    }

    /// Returns the seconds since 1970 that the server's last answer said; ours before the first one.
    #[must_use]
    pub fn now(&self) -> u64 {
        lock(&self.state).date.unwrap_or_else(|| (self.options.clock)())
    }

    /// Returns keys to sign with; `None` to send requests as they are.
    fn keys(&self) -> Result<Option<AwsKeys>, BucketError> {
        let Some(login) = &self.options.login else { return Ok(None) };
        // Held while a provider is asked: the other workers need the same answer.
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

/// Reads an answer in every form that is known here, and returns what was made of it: for the fuzz targets.
pub(super) fn read_every_answer(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let upload = xml::read_one(&text, "UploadId");
    sanitize(&format!("{:?} {:?} {upload:?}", xml::read_page(&text), xml::read_error(&text)))
}
