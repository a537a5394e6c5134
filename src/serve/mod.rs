//! The distribution protocol's server: images of stores answer to registry clients.
//!
//! One connection is one thread, and the number of both is bounded. Stored bytes are sent as they are, hashed on their
//! way; a request names repositories, tags and digests, never a path of the file system. Text, signals and commands are
//! the front's.
//! Source: OCI distribution-spec 1.1.

mod answer;
mod blob;
mod collected;
mod connection;
mod contents;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod held;
mod images;
mod message_body;
mod paging;
mod password;
mod pushing;
mod range;
mod reading;
mod route;
mod server;
mod service;
mod spool;
mod tls;
mod traffic;
mod uploads;

pub use collected::{Collected, CollectedImage};
pub use connection::Access;
pub use contents::{Contents, Naming, ServedName};
pub use error::ServeError;
pub use password::Password;
pub use server::Server;
pub use service::Service;
pub use tls::Tls;
