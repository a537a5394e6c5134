//! Errors of requests without a response: turns those of the HTTP client into our own.

use std::io;
use std::time::Duration;

use ureq::{Error, Timeout};

use crate::stream::cancel;

use super::error::TrustProblem;
use super::pace::TooSlow;
use super::reach::ForbiddenAddress;
use super::tls::BadConfiguration;
use super::tls_errors::{self, trust_problem};
use super::transport::NoThread;

/// The limits that applied to a request, for messages.
#[derive(Clone, Copy, Default)]
pub(super) struct Phases {
    pub(super) connect: Duration,
    pub(super) idle: Duration,
    pub(super) response: Duration,
}

/// Why no response came.
#[derive(Debug)]
pub(super) struct WireError {
    pub(super) kind: WireErrorKind,
    /// In words, with phase and time.
    pub(super) text: String,
    /// The peer sent nothing within the time-out.
    pub(super) silent: bool,
}

/// The kind, by what a caller does about it.
#[derive(Debug)]
pub(super) enum WireErrorKind {
    /// No connection could be made.
    Connect,
    /// The connection broke, or went silent.
    Broken,
    /// The certificate of one side is not trusted by the other.
    Trust(TrustProblem),
    /// The peer does not speak TLS.
    NotTls,
    /// Our configuration is wrong.
    Configuration,
    /// The system gives no thread for it.
    NoThread,
    /// Not HTTP, or against its rules.
    Protocol,
    /// A response led to an address that it may not lead to.
    Forbidden,
    /// The stop signal came.
    Cancelled,
}

impl WireError {
    /// Reads the failure out of an I/O error of reading a body.
    pub(super) fn of_read(error: io::Error, idle: Duration) -> Self {
        Self::new(Error::from(error), "receiving the body", Phases { idle, ..Phases::default() })
    }

    /// What is to be sent cannot be opened.
    pub(super) fn of_source(error: &io::Error) -> Self {
        let text = format!("what is to be sent cannot be read: {error}");
        Self { kind: WireErrorKind::Protocol, text, silent: false }
    }

    pub(super) fn new(error: Error, doing: &str, phases: Phases) -> Self {
        if cancel::is_cancelled() {
            return Self {
                kind: WireErrorKind::Cancelled,
                text: "stopped by a signal".into(),
                silent: false,
            };
        }
        let seconds = |duration: Duration| {
            if duration.as_secs() > 0 {
                format!("{} s", duration.as_secs())
            } else {
                format!("{} ms", duration.as_millis())
            }
        };
        let is_slow = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<TooSlow>());
        let silent =
            matches!(&error, Error::Timeout(_)) || matches!(&error, Error::Io(error) if is_slow(error));
        let (kind, text) = match error {
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => (
                WireErrorKind::Connect,
                format!("timed out after {} while connecting", seconds(phases.connect)),
            ),
            Error::Timeout(Timeout::RecvResponse) => (
                WireErrorKind::Broken,
                format!("timed out after {} waiting for response headers", seconds(phases.response)),
            ),
            Error::Timeout(_) => {
                (WireErrorKind::Broken, format!("nothing moved for {} while {doing}", seconds(phases.idle)))
            }
            Error::HostNotFound => (WireErrorKind::Connect, "the host name is not known".into()),
            Error::ConnectionFailed => (WireErrorKind::Connect, "connection failed".into()),
            Error::ConnectProxyFailed(text) => (WireErrorKind::Connect, format!("the proxy refused: {text}")),
            Error::Rustls(error) => match (trust_problem(&error), error) {
                (Some(problem), _) => (WireErrorKind::Trust(problem.clone()), problem.to_string()),
                (None, rustls::Error::InvalidMessage(_)) => {
                    (WireErrorKind::NotTls, "the host answered in plain text where TLS was expected".into())
                }
                (None, error) => (WireErrorKind::Broken, tls_errors::describe(&error)),
            },
            Error::Io(error) => io_failure(&error, doing),
            Error::Other(other) if other.is::<BadConfiguration>() => {
                (WireErrorKind::Configuration, other.to_string())
            }
            Error::Other(other) if other.is::<ForbiddenAddress>() => {
                (WireErrorKind::Forbidden, other.to_string())
            }
            Error::BodyStalled => (WireErrorKind::Broken, format!("connection closed while {doing}")),
            other => (WireErrorKind::Protocol, format!("the response is not valid HTTP: {other}")),
        };
        Self { kind, text, silent }
    }
}

fn io_failure(error: &io::Error, doing: &str) -> (WireErrorKind, String) {
    use io::ErrorKind as K;
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        if let Some(problem) = trust_problem(error) {
            return (WireErrorKind::Trust(problem.clone()), problem.to_string());
        }
        return (WireErrorKind::Broken, tls_errors::describe(error));
    }
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<NoThread>()) {
        return (WireErrorKind::NoThread, error.to_string());
    }
    match error.kind() {
        K::ConnectionRefused => (WireErrorKind::Connect, "connection refused".into()),
        K::HostUnreachable | K::NetworkUnreachable | K::AddrNotAvailable => {
            (WireErrorKind::Connect, "the host cannot be reached".into())
        }
        K::ConnectionReset | K::BrokenPipe | K::UnexpectedEof | K::ConnectionAborted | K::NotConnected => {
            (WireErrorKind::Broken, format!("connection closed while {doing}"))
        }
        _ if error.to_string().contains("lookup address") => {
            (WireErrorKind::Connect, "the host name is not known".into())
        }
        _ => (WireErrorKind::Broken, format!("{error} while {doing}")),
    }
}
