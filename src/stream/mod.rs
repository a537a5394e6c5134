//! Bytes in motion: hashing, verifying, bounding, compressing, and files that appear whole or not at all.
//!
//! Floor 1. Knows digests, but no file format above gzip and zstd.

mod atomic;
mod bounded;
pub mod cancel;
mod codec;
mod compress;
mod decompress;
mod diff_id;
mod file_error;
mod file_lock;
mod fit;
mod gzip_member;
mod locking;
mod members;
mod nameless;
mod own_folder;
mod pipe;
mod position;
mod read_at;
mod removal;
mod staging;
pub mod temporary;
pub mod threads;
mod verifying;

pub use atomic::AtomicFile;
pub use bounded::{TooLarge, read_bounded, read_file, read_text_file};
pub use codec::{CompressionLevel, CompressionLevelError};
pub use compress::{BlockSink, BlockWriter, Compressed, compress};
pub use decompress::{Compression, Decoder};
pub use diff_id::DiffIdWriter;
pub use file_error::FileError;
pub use file_lock::FileLock;
pub use fit::fitting;
pub use gzip_member::BLOCK_BYTES;
pub use locking::{into_value, lock};
pub use nameless::nameless_file;
pub use own_folder::OwnFolder;
pub use pipe::{Blocks, PipeReader, PipeWriter, pipe, read_ahead};
pub use position::{ReadFrom, WriteFrom};
pub use read_at::{FilePart, ReadAt};
pub use staging::{Overwrite, Published, StagedFolder};
pub use verifying::{BlobStream, HashingWriter, Mismatch, VerifyingReader};
