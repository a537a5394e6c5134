//! Why images cannot be served. An error of one request is a response to its client, and not in here.

use std::io;
use std::net::SocketAddr;

use crate::model::Digest;
use crate::store::StoreError;

/// Why images cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are more documents than are kept in memory.
    #[error("the images have more than {limit} {what}, which is not accepted")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// Most that is accepted.
        limit: u64,
    },
    /// Two images have the same name.
    #[error("`{name}` is the name of two images, `{first}` and `{second}`")]
    TwoImages {
        /// Repository and tag.
        name: String,
        /// One of them.
        first: Digest,
        /// The other one.
        second: Digest,
    },
    /// The server cannot listen on the address.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A system call failed that the server needs.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}
