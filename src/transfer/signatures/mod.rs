//! Signatures beside their images: found in tars and registries, judged by keys, made and put there.
//!
//! What a signature is, `crate::sign` knows. Nothing here writes an image; a judgement is made before others do.

mod describe;
mod make;
mod stored;
mod trust;
mod write;

pub use describe::describe;
pub use make::{Addition, AttachRequest, SignRequest, SignatureFormat, attach, sign};
pub use stored::{Content, Statement, names, statements};
pub use trust::{Judged, Judgement, Requirement, Trust, Verdict, judge};
pub use write::{add_to_folder, add_to_layout, add_to_registry};
