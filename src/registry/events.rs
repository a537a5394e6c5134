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
    /// Status of the response, or `None` when there was none.
    pub status: Option<u16>,
    /// Why there was no response.
    pub problem: Option<&'a str>,
    /// Bytes of the body sent.
    pub sent: u64,
    /// Length of the body of the response, when it was announced.
    pub announced: Option<u64>,
    /// From the start to the head of the response.
    pub elapsed: Duration,
    /// Counts from 1.
    pub attempt: u32,
}

/// A request or body that is going to be retried.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryRecord<'a> {
    /// Host.
    pub host: &'a str,
    /// The task, as `upload blob …`.
    pub task: &'a str,
    /// Why the last attempt failed.
    pub cause: &'a str,
    /// The attempt that failed, counted from 1.
    pub attempt: u32,
    /// The delay before the next attempt.
    pub delay: Duration,
}

/// Receives the events of the HTTP client, from several threads.
pub trait ClientEvents: Send + Sync {
    /// One request was answered or failed.
    fn request(&self, _: &RequestRecord<'_>) {}

    /// A request or body is going to be retried.
    fn retry(&self, _: &RetryRecord<'_>) {}

    /// A host has sent nothing for ten seconds, or for ten more. `phase` completes "waiting for `host`", as in
    /// `to respond`.
    fn waiting(&self, _host: &str, _phase: &str, _elapsed: Duration) {}

    /// A registry sent a warning; each text comes once per host.
    ///
    /// Source: distribution-spec, "Warnings".
    fn warning(&self, _host: &str, _text: &str) {}
}

/// Drops all events.
#[derive(Clone, Copy, Debug)]
pub struct NoEvents;

impl ClientEvents for NoEvents {}
