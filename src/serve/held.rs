//! The bytes of one blob, in a store or pushed to this server.

use std::io::{self, Read};

use crate::store::{BlobPlace, Stamp, StoreError};

use super::spool::{Pushed, Spool};

/// The place of a blob's bytes.
#[derive(Debug)]
pub(super) enum Held<'a> {
    /// In a store; not verified yet.
    Stored(BlobPlace<'a>),
    /// Pushed, and verified when they were pushed.
    Pushed(Pushed, &'a Spool),
}

impl<'a> Held<'a> {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Stored(place) => place.size(),
            Self::Pushed(pushed, _) => pushed.size(),
        }
    }

    /// Tells whether the bytes are there.
    pub(super) fn is_there(&self) -> Result<bool, StoreError> {
        match self {
            Self::Stored(place) => place.is_there(),
            Self::Pushed(..) => Ok(true),
        }
    }

    /// Tells whether each read may give other bytes: an earlier verification then says nothing.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Stored(place) if place.is_remote())
    }

    /// Returns a stamp that changes when the file changes; `None` for pushed bytes, which only this process can write.
    pub(super) fn stamp(&self) -> io::Result<Option<Stamp>> {
        match self {
            Self::Stored(place) => place.stamp().map(Some),
            Self::Pushed(..) => Ok(None),
        }
    }

    /// Opens the bytes from a position to their end.
    pub(super) fn reader(&self, from: u64) -> Result<Box<dyn Read + Send + 'a>, StoreError> {
        match self {
            Self::Stored(place) => place.reader(from),
            Self::Pushed(pushed, spool) => {
                Ok(Box::new(PushedReader { pushed: pushed.clone(), spool, position: from }))
            }
        }
    }
}

/// Reads pushed bytes in order, from a position.
#[derive(Debug)]
struct PushedReader<'a> {
    pushed: Pushed,
    spool: &'a Spool,
    position: u64,
}

impl Read for PushedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.spool.read_at(&self.pushed, buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
