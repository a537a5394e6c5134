//! Events of the HTTP client: requests, retries, silent hosts, warnings of registries.

use std::time::Duration;

/// One request as it went over the wire.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestRecord<'a> {
    /// Method.
    pub method: &'a str,
    /// URL, with everything secret replaced by `***`.
    pub url: &'a str,
    /// Status of the answer, or `None` when there was none.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub problem: Option<&'a str>,
    /// Bytes of the body sent.
    pub sent: u64,
    /// Length of the body of the answer, when it was announced.
    pub announced: Option<u64>,
    /// From the start to the head of the answer.
    pub elapsed: Duration,
    /// Counts from 1.
    pub attempt: u32,
}

/// A request or body that is going to be tried again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryRecord<'a> {
    /// Host.
    pub host: &'a str,
    /// What is tried, as `upload blob …`.
    pub task: &'a str,
    /// Why the last attempt failed.
    pub cause: &'a str,
    /// The attempt that failed, counted from 1.
    pub attempt: u32,
    /// How long is waited.
    pub delay: Duration,
}

/// Takes what happens on the wire, from several threads.
pub trait ClientEvents: Send + Sync {
    /// One request was answered or failed.
    fn request(&self, _: &RequestRecord<'_>) {}

    /// Something is going to be tried again.
    fn retry(&self, _: &RetryRecord<'_>) {}

    /// A host has said nothing for a while: told every ten seconds. `phase` completes "waiting for `host`", as in
    /// `to answer`.
    fn waiting(&self, _host: &str, _phase: &str, _elapsed: Duration) {}

    /// A registry sent a warning; each text comes once per host.
    ///
    /// Source: distribution-spec, "Warnings".
    fn warning(&self, _host: &str, _text: &str) {}
}

/// Events that go nowhere.
#[derive(Clone, Copy, Debug)]
pub struct NoEvents;

impl ClientEvents for NoEvents {}
