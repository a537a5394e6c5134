//! Signatures beside their images: finds them in tars and registries, verifies them with keys, makes and stores them.
//!
//! The formats of signatures are in `crate::sign`. Writes no image: the caller verifies signatures before it copies.

mod count;
mod describe;
mod make;
mod stored;
mod trust;
mod write;

pub use count::count;
pub use describe::describe;
pub use make::{Addition, AttachRequest, SignRequest, SignatureFormat, attach, sign};
pub use stored::{StatementContent, StoredStatement, names, statements};
pub use trust::{CheckedStatement, Requirement, Trust, Verdict, Verification, verify_signatures};
pub use write::{add_to_folder, add_to_layout, add_to_registry};
