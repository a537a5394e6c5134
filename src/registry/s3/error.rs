//! Errors of a bucket, one variant for each case in which a caller acts differently.

use std::io;
use std::time::Duration;

use super::super::error::TrustProblem;

/// Why a request to a bucket failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// The server does not allow it.
    #[error("`{host}` refused to {task} ({status}{said})")]
    Refused {
        /// The server.
        host: String,
        /// What was being done.
        task: String,
        /// The status.
        status: u16,
        /// Its code and words, each after a space or colon.
        said: String,
        /// No keys were found, so that the request was not signed.
        anonymous: bool,
    },
    /// There is no such bucket.
    #[error("bucket `{bucket}` does not exist at `{host}`")]
    NoBucket {
        /// The server.
        host: String,
        /// The bucket.
        bucket: String,
    },
    /// The response is not what was expected.
    #[error("`{host}` could not {task} ({status}{said})")]
    Rejected {
        /// The server.
        host: String,
        /// What was being done.
        task: String,
        /// The status.
        status: u16,
        /// Its code and words.
        said: String,
    },
    /// The server violates the protocol.
    #[error("cannot {task}: the response from `{host}` is not valid: {problem}")]
    Protocol {
        /// The server.
        host: String,
        /// What was being done.
        task: String,
        /// What is wrong.
        problem: String,
    },
    /// A web server sends whole files only.
    #[error("`{host}` does not send parts of `{url}`, but a tar at a URL is read in parts")]
    NoParts {
        /// The server.
        host: String,
        /// The file, without secrets.
        url: String,
    },
    /// The headers and small files of a tar on a web server are so far apart that each takes a request.
    #[error("the headers and small files of `{url}` take more than {limit} requests, which is not accepted")]
    Scattered {
        /// The file, without secrets.
        url: String,
        /// Most requests allowed.
        limit: usize,
    },
    /// An object or a file of a web server is another one than before.
    #[error("`{url}` changed while it was read")]
    Changed {
        /// The file, without secrets, or the key of the object.
        url: String,
    },
    /// The server kept failing.
    #[error("cannot {task} at `{host}` after {attempts} attempts in {} s: {cause}", elapsed.as_secs())]
    Unreachable {
        /// The server.
        host: String,
        /// What was being done.
        task: String,
        /// How often it was tried.
        attempts: u32,
        /// How long.
        elapsed: Duration,
        /// Why the last attempt failed.
        cause: String,
    },
    /// The server's certificate is not trusted.
    #[error("`{host}` is not trusted: {problem}")]
    Trust {
        /// The server.
        host: String,
        /// Why not.
        problem: TrustProblem,
    },
    /// Keys could not be obtained.
    #[error("cannot get keys for `{host}`: {problem}")]
    Keys {
        /// The server.
        host: String,
        /// Why not.
        problem: String,
    },
    /// Something that the user set is wrong.
    #[error("{problem}")]
    Configuration {
        /// What.
        problem: String,
    },
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent: {0}")]
    Source(io::Error),
    /// The stop signal came.
    #[error("stopped by a signal")]
    Cancelled,
}
