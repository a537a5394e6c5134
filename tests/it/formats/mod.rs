//! Images as other programs read them.

pub(crate) mod compressed_layers;
pub(crate) mod consumers;
pub(crate) mod gzip_members;
pub(crate) mod readers;
