//! Why a store could not be read or written.

use std::io;
use std::time::Duration;

use crate::model::list::quoted_list;
use crate::model::{Digest, Tag};
use crate::registry::BucketError;
use crate::store::StoreError;
use crate::stream::FileError;

/// Why a store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DepotError {
    /// Its content is damaged or missing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bucket refused or failed.
    #[error(transparent)]
    Bucket(BucketError),
    /// The place is empty, or holds something else.
    #[error("`{place}` is not an image store: {found}")]
    NotAStore {
        /// The store's URL.
        place: String,
        /// What is there, with what was expected.
        found: String,
    },
    /// The tag was never pushed, or all its versions were removed.
    #[error("`{place}` has no image `{tag}`; {}", having(tags))]
    NoTag {
        /// The store's URL.
        place: String,
        /// The tag.
        tag: Tag,
        /// The tags that it has.
        tags: Vec<String>,
    },
    /// A tag never pointed at a digest, or the entry was removed.
    #[error("tag `{tag}` of `{place}` has no version `{digest}`")]
    NoVersion {
        /// The store's URL.
        place: String,
        /// The tag.
        tag: Tag,
        /// The digest.
        digest: Digest,
    },
    /// A small object is larger than allowed.
    #[error("`{key}` in `{place}` has more than {limit} bytes, which is not accepted")]
    TooLarge {
        /// The store's URL.
        place: String,
        /// The object.
        key: String,
        /// Most bytes allowed.
        limit: u64,
    },
    /// A folder has more objects than the limit.
    #[error("`{folder}` in `{place}` has more than {limit} objects, which is not accepted")]
    TooMany {
        /// The store's URL.
        place: String,
        /// Where they are.
        folder: String,
        /// Most objects allowed.
        limit: usize,
    },
    /// A push took so long that a collection may have deleted what it found, each time that it was begun again.
    #[error("the push into `{place}` took more than {} each time that it was begun, {attempts} times", minutes(*limit))]
    Slow {
        /// The store's URL.
        place: String,
        /// How often it was begun.
        attempts: u32,
        /// How long a push may take.
        limit: Duration,
    },
    /// What was written is not what can be read.
    #[error("`{key}` was written to `{place}`, but reading it back failed: {problem}{}", if *deleted { "" } else { "; it could not be deleted" })]
    WrittenWrong {
        /// The store's URL.
        place: String,
        /// The object.
        key: String,
        /// What is wrong.
        problem: String,
        /// The object was deleted.
        deleted: bool,
    },
    /// A web server's store can only be read.
    #[error("`{place}` is on a web server, and can only be read")]
    ReadOnly {
        /// The store's URL.
        place: String,
    },
    /// The stop signal came.
    #[error("stopped by a signal")]
    Cancelled,
    /// The body to be written could not be read.
    #[error("cannot read what is to be written: {0}")]
    Source(io::Error),
}

fn minutes(limit: Duration) -> String {
    format!("{} min", limit.as_secs() / 60)
}

fn having(tags: &[String]) -> String {
    if tags.is_empty() { "it has none".to_owned() } else { format!("it has {}", quoted_list(tags)) }
}
