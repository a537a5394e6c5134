//! Sorts responses and wire errors: usable, retryable, or final.

use std::io;

use super::error::RegistryError;
use super::error_body;
use super::http::{Http, Response};
use super::retry::{self, Transient};
use super::wire_error::{WireError, WireErrorKind};

/// Passes a response on, unless its status means that the same request may succeed later.
pub(super) fn response(http: &Http, response: Response) -> Result<Response, Transient> {
    if response.status == 417 {
        http.stop_expecting();
    } else if !retry::is_retryable(response.status) {
        return Ok(response);
    }
    let after = retry::retry_after(response.header("retry-after"), response.header("date"));
    let status = response.status;
    let message = error_body::message(response);
    let reason = match status {
        429 => " (too many requests)",
        503 => " (unavailable)",
        502 | 504 => " (gateway)",
        _ => "",
    };
    let cause = format!("the response was {status}{reason}{message}");
    Err(Transient { cause, status: Some(status), after, silent: false })
}

/// Turns a wire error into a retryable failure, or into the final error.
pub(super) fn wire_error(error: WireError, host: &str) -> Result<Transient, RegistryError> {
    match error.kind {
        WireErrorKind::Connect | WireErrorKind::Broken | WireErrorKind::NotTls | WireErrorKind::Protocol => {
            Ok(Transient { silent: error.silent, ..Transient::new(error.text) })
        }
        WireErrorKind::Trust(problem) => Err(RegistryError::Trust { host: host.to_owned(), problem }),
        WireErrorKind::Configuration => Err(RegistryError::Configuration { problem: error.text }),
        WireErrorKind::NoThread => Err(RegistryError::System { host: host.to_owned(), problem: error.text }),
        WireErrorKind::Forbidden => {
            Err(RegistryError::ForbiddenAddress { host: host.to_owned(), problem: error.text })
        }
        WireErrorKind::Cancelled => Err(RegistryError::Cancelled),
    }
}

/// Sorts the error that reading the body of a response returned.
pub(super) fn broken_body(http: &Http, error: io::Error, host: &str) -> Result<Transient, RegistryError> {
    wire_error(WireError::of_read(error, http.idle()), host)
}
