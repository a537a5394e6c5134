//! The bytes of one blob, in a store or pushed to this server.

use std::io::{self, Read};

use crate::store::{BlobPlace, Stamp};

use super::spool::{Pushed, Spool};

/// The place of a blob's bytes.
#[derive(Debug)]
pub(super) enum Held<'a> {
    /// In a store; not verified yet.
    Stored(BlobPlace<'a>),
    /// Pushed, and verified when they were pushed.
    Pushed(Pushed, &'a Spool),
}

impl Held<'_> {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Stored(place) => place.size(),
            Self::Pushed(pushed, _) => pushed.size(),
        }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::Stored(place) => place.read_at(buffer, position),
            Self::Pushed(pushed, spool) => spool.read_at(pushed, buffer, position),
        }
    }

    /// Returns a stamp that changes when the file changes; `None` for pushed bytes, which only this process can write.
    pub(super) fn stamp(&self) -> io::Result<Option<Stamp>> {
        match self {
            Self::Stored(place) => place.stamp().map(Some),
            Self::Pushed(..) => Ok(None),
        }
    }

    /// Reads some bytes in order.
    pub(super) fn reader(&self, first: u64, count: u64) -> HeldReader<'_> {
        HeldReader { held: self, position: first, end: first.saturating_add(count) }
    }
}

/// Reads bytes of a blob in order, from a position to an end.
#[derive(Debug)]
pub(super) struct HeldReader<'a> {
    held: &'a Held<'a>,
    position: u64,
    end: u64,
}

impl Read for HeldReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.held.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Reads a whole blob in order; owns the blob.
#[derive(Debug)]
pub(super) struct OwnedReader<'a> {
    held: Held<'a>,
    position: u64,
}

impl<'a> OwnedReader<'a> {
    pub(super) fn new(held: Held<'a>) -> Self {
        Self { held, position: 0 }
    }
}

impl Read for OwnedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.held.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
