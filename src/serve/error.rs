//! Why images cannot be served. What is wrong with one request is told to its client, and is no error here.

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
    /// One name stands for two images.
    #[error("`{name}` is the name of two images, `{first}` and `{second}`")]
    TwoImages {
        /// Repository and tag.
        name: String,
        /// One of them.
        first: Digest,
        /// The other one.
        second: Digest,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something the server cannot work without.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}
