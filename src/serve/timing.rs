//! How long the server waits for a client, in one place; none of these is a flag.
//!
//! A client that stops, or sends a byte now and then, holds a thread and a connection. These times bound how long it
//! does, and are longer than what a slow network or a busy client needs. `model::limits` has the bounds on sizes and
//! `LEAST_BYTES_PER_MINUTE`, the speed that a request needs after [`SPEED_FREE`].

use std::time::Duration;

/// Longest wait for a client's next byte, and longest pause between two requests: clients keep connections open for
/// later requests, and 60 s is what most servers allow.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// How long a request head may take from its first byte: it is a few hundred bytes, which a client sends at once.
pub(super) const HEAD: Duration = Duration::from_secs(10);
/// How long a request may take before its speed is checked: before, a pause of the client would count too much.
pub(super) const SPEED_FREE: Duration = Duration::from_secs(60);
/// How long a request may be slow before another client, for which there is no connection, may take its place.
pub(super) const SLOW_FOR: Duration = Duration::from_secs(5);
/// Below this speed a request is slow, bytes per second.
pub(super) const SLOW_BELOW: u64 = 64 * 1024;
/// Longest time that a client may go on sending after the response: a client whose connection is closed while it sends
/// may never read the response.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// How often the listener looks for a free connection while there is none: often enough that a client does not notice.
pub(super) const FREE_LOOK: Duration = Duration::from_millis(20);
/// Time-out of the server's connection to itself that wakes the listener: it is on this machine.
pub(super) const WAKE: Duration = Duration::from_millis(500);
