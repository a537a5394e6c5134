//! A pipe in memory that moves whole blocks from one thread to another, so that hashing, inflating and writing of one
//! stream overlap.
//!
//! The blocks go round: memory is fixed, and a slow reader holds the writer back. An end is always said: a reader
//! whose writer went away without a word gets an error, never a short stream.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

use super::threads;

/// How large the blocks of a pipe are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// 32 KiB: for what moves at the pace of a network, where each of several blobs at a time has a pipe.
    Small,
    /// 256 KiB: large enough that waking the other thread does not count.
    Large,
}

impl Blocks {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 32 * 1024,
            Self::Large => 256 * 1024,
        }
    }
}

/// Blocks in one pipe, the one being filled and the one being read included.
const BLOCKS: usize = 4;

/// What flows: a filled block, or how the stream ended.
type Message = Result<Vec<u8>, End>;

/// How a stream ended.
#[derive(Debug)]
enum End {
    Whole,
    Failed(io::Error),
}

/// Makes a pipe.
///
/// Cost: at most four blocks, allocated as they are used.
#[must_use]
pub fn pipe(blocks: Blocks) -> (PipeWriter, PipeReader) {
    let (full, filled) = sync_channel(BLOCKS);
    let (give_back, free) = channel();
    for _ in 1..BLOCKS {
        let _ = give_back.send(Vec::new());
    }
    let block = vec![0; blocks.bytes()];
    let writer = PipeWriter { blocks, block, filled: 0, full, free, open: true, starved: false };
    let reader = PipeReader { block: Vec::new(), position: 0, filled, give_back, ended: false };
    (writer, reader)
}

/// The end that is written to.
#[derive(Debug)]
pub struct PipeWriter {
    blocks: Blocks,
    /// Always as long as `blocks` says.
    block: Vec<u8>,
    filled: usize,
    full: SyncSender<Message>,
    free: Receiver<Vec<u8>>,
    open: bool,
    /// There was no memory for another block, so that the stream is not whole.
    starved: bool,
}

impl PipeWriter {
    /// Returns free space to read into; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        // `advance` sends a full block, so something is always free.
        self.block.get_mut(self.filled..).unwrap_or_default()
    }

    /// Keeps the first `count` bytes of the space; waits when the reader is behind.
    pub fn advance(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.blocks.bytes());
        if self.filled == self.blocks.bytes() {
            self.send();
        }
    }

    /// Tells whether anybody still reads; when not, what is written is thrown away.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Ends the stream: the reader gets what was written so far and then the end, or the error.
    pub fn finish(mut self, mut result: io::Result<()>) {
        if self.filled > 0 {
            self.send();
        }
        if self.starved {
            result = Err(io::ErrorKind::OutOfMemory.into());
        }
        let _ = self.full.send(Err(result.map_or_else(End::Failed, |()| End::Whole)));
    }

    fn send(&mut self) {
        if self.open
            && let Ok(mut empty) = self.free.recv()
        {
            let size = self.blocks.bytes();
            if empty.try_reserve_exact(size.saturating_sub(empty.len())).is_ok() {
                // A block that comes round has its length and is not cleared again.
                empty.resize(size, 0);
                let mut block = std::mem::replace(&mut self.block, empty);
                block.truncate(self.filled);
                self.open = self.full.send(Ok(block)).is_ok();
            } else {
                self.starved = true;
                self.open = false;
            }
        } else {
            self.open = false;
        }
        self.filled = 0;
    }
}

/// The end that is read from.
///
/// Errors: the one the writer ended with, once, then the end; [`io::ErrorKind::BrokenPipe`] when the writer went away
/// without ending the stream.
#[derive(Debug)]
pub struct PipeReader {
    block: Vec<u8>,
    position: usize,
    filled: Receiver<Message>,
    give_back: Sender<Vec<u8>>,
    ended: bool,
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.block.len() && !self.ended {
            let read = std::mem::take(&mut self.block);
            self.position = 0;
            if !read.is_empty() {
                let _ = self.give_back.send(read);
            }
            match self.filled.recv() {
                Ok(Ok(block)) => self.block = block,
                end => {
                    self.ended = true;
                    match end {
                        Ok(Err(End::Failed(error))) => return Err(error),
                        Ok(_) => {}
                        Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                    }
                }
            }
        }
        Ok(self.block.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.block.len());
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready = self.fill_buf()?;
        let count = ready.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Reads a source on a thread of its own, at most one pipe ahead of whoever reads the result.
///
/// The thread ends with the source, with its first error, or soon after the result is dropped.
/// Errors: there is no thread to be had.
pub fn read_ahead<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut source: R,
    blocks: Blocks,
) -> io::Result<PipeReader> {
    let (mut writer, reader) = pipe(blocks);
    threads::spawn(scope, move || {
        loop {
            match source.read(writer.space()) {
                Ok(0) => return writer.finish(Ok(())),
                Ok(count) => writer.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return writer.finish(Err(error)),
            }
            if !writer.is_open() {
                return writer.finish(Ok(()));
            }
        }
    })?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 256 * 1024;

    /// Gives a few bytes at a time, then ends or fails.
    struct Dripping {
        left: Vec<u8>,
        step: usize,
        error: Option<io::Error>,
    }

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(buffer.len()).min(self.left.len());
            buffer[..count].copy_from_slice(&self.left[..count]);
            self.left.drain(..count);
            match (count, self.error.take()) {
                (0, Some(error)) => Err(error),
                (count, error) => {
                    self.error = error;
                    Ok(count)
                }
            }
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn what_goes_in_comes_out_and_then_the_end() {
        for (len, step) in [
            (0, 1),
            (1, 1),
            (BLOCK_BYTES - 1, 9_000),
            (BLOCK_BYTES, BLOCK_BYTES),
            (BLOCK_BYTES + 1, 7_777),
            (9 * BLOCK_BYTES, 70_000),
        ] {
            let found = std::thread::scope(|scope| {
                let mut reader =
                    read_ahead(scope, Dripping { left: bytes(len), step, error: None }, Blocks::Large)
                        .unwrap();
                let mut found = Vec::new();
                reader.read_to_end(&mut found).unwrap();
                assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "the end stays the end");
                found
            });
            assert!(found == bytes(len), "{len} bytes in steps of {step}");
        }
    }

    #[test]
    fn an_error_comes_once_and_after_the_bytes_before_it() {
        std::thread::scope(|scope| {
            let error = Some(io::Error::other("torn"));
            let mut reader =
                read_ahead(scope, Dripping { left: bytes(300_000), step: 1000, error }, Blocks::Large)
                    .unwrap();
            let mut found = Vec::new();
            let error = reader.read_to_end(&mut found).unwrap_err();
            assert_eq!((error.to_string().as_str(), found.len()), ("torn", 300_000));
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
        });
    }

    #[test]
    fn a_writer_that_vanishes_is_an_error_and_not_an_end() {
        let (mut writer, mut reader) = pipe(Blocks::Large);
        writer.advance(BLOCK_BYTES);
        drop(writer);
        let mut found = Vec::new();
        assert_eq!(reader.read_to_end(&mut found).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(found.len(), BLOCK_BYTES);
    }

    #[test]
    fn a_reader_that_vanishes_stops_the_thread() {
        std::thread::scope(|scope| {
            let mut reader = read_ahead(scope, io::repeat(7), Blocks::Small).unwrap();
            assert_eq!(reader.read(&mut [0; 3]).unwrap(), 3);
            drop(reader);
            // The scope ends only when the thread does.
        });
    }
}
