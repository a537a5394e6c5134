//! A read-only or collecting registry: serves images of stores to registry clients.
//!
//! Each connection has a thread, and their number is bounded. Stored bytes are sent unchanged and hashed while they are
//! sent. A request names repositories, tags and digests, never a path of the file system. Texts for users, signals and
//! commands are in `front`.
//! Source: OCI distribution-spec 1.1.

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
mod response;
mod route;
mod server;
mod service;
mod spool;
mod timing;
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
