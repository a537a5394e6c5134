//! A pipe in memory that moves whole blocks from one thread to another, so that hashing, inflating and writing of one
//! stream overlap.
//!
//! The blocks are reused: memory is fixed, and a slow reader makes the writer wait. A reader whose writer was dropped
//! without `finish` gets an error, never a short stream.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use super::verifying::again;
use super::{lock, threads};

/// How large the blocks of a pipe are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// 32 KiB: for data at the speed of a network, where each of several blobs at a time has a pipe.
    Small,
    /// 256 KiB: for data at the speed of memory.
    Large,
}

impl Blocks {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 32 * 1024,
            Self::Large => 256 * 1024,
        }
    }

    /// Blocks in one pipe, the one being filled and the one being read included.
    fn count(self) -> usize {
        match self {
            Self::Small => 16,
            Self::Large => 4,
        }
    }
}

/// How long a reader that has one block waits for more.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What the two ends share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A waiting thread is woken when this many blocks are filled or free: half of the pipe. Waking a thread costs as
    /// much as hashing several kilobytes, so it is not woken for each block.
    batch: usize,
    /// The reader may go on.
    readable: Condvar,
    /// The writer may go on.
    writable: Condvar,
}

#[derive(Debug, Default)]
struct State {
    filled: VecDeque<Vec<u8>>,
    free: Vec<Vec<u8>>,
    end: Option<End>,
    reader_waits: bool,
    writer_waits: bool,
    reader_is_gone: bool,
}

/// How a stream ended.
#[derive(Debug)]
enum End {
    Whole,
    Failed(io::Error),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Makes a pipe.
///
/// Cost: at most 512 KiB in small blocks and 1 MiB in large ones, allocated as they are used.
#[must_use]
pub fn pipe(blocks: Blocks) -> (PipeWriter, PipeReader) {
    let count = blocks.count();
    let state = State { free: vec![Vec::new(); count - 1], ..State::default() };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        batch: count / 2,
        readable: Condvar::new(),
        writable: Condvar::new(),
    });
    let block = vec![0; blocks.bytes()];
    let writer =
        PipeWriter { shared: Arc::clone(&shared), blocks, block, filled: 0, open: true, starved: false };
    (writer, PipeReader { shared, block: Vec::new(), position: 0, end: None })
}

/// The end that is written to.
#[derive(Debug)]
pub struct PipeWriter {
    shared: Arc<Shared>,
    blocks: Blocks,
    /// Always as long as `blocks` says.
    block: Vec<u8>,
    filled: usize,
    open: bool,
    /// There was no memory for another block, so the stream is incomplete.
    starved: bool,
}

impl PipeWriter {
    /// Returns free space to read into; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        // `advance` sends a full block, so something is always free.
        &mut self.block[self.filled..]
    }

    /// Keeps the first `count` bytes of the space; waits while all blocks are filled. After the reader was dropped,
    /// data is discarded.
    pub fn advance(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.blocks.bytes());
        if self.filled == self.blocks.bytes() {
            self.send();
        }
    }

    /// Copies a source to its end, or until the reader is dropped; `seen` is called with each piece.
    ///
    /// Errors: the source's and those of `seen`. The caller ends the stream with [`PipeWriter::finish`].
    pub fn fill_from(
        &mut self,
        mut source: impl Read,
        mut seen: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while self.open {
            let space = self.space();
            match source.read(space) {
                Ok(0) => break,
                Ok(count) => {
                    seen(&space[..count])?;
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the stream: the reader gets what was written so far and then the end, or the error.
    pub fn finish(mut self, mut result: io::Result<()>) {
        let mut rest = std::mem::take(&mut self.block);
        rest.truncate(self.filled);
        if self.starved {
            result = Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut state = self.shared.state();
        if self.open && !rest.is_empty() {
            state.filled.push_back(rest);
        }
        // Dropping this end wakes the reader.
        state.end = Some(result.map_or_else(End::Failed, |()| End::Whole));
    }

    /// Hands the block over and gets a free one; after the reader was dropped the block is kept, to be filled again.
    fn send(&mut self) {
        self.filled = 0;
        if !self.open {
            return;
        }
        let mut state = self.shared.state();
        if state.free.is_empty() {
            state.writer_waits = true;
            while !state.reader_is_gone && state.free.len() < self.shared.batch {
                state = self.shared.writable.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.writer_waits = false;
        }
        let size = self.blocks.bytes();
        // None is free only when the reader is gone.
        let mut empty = state.free.pop().unwrap_or_default();
        self.starved = empty.try_reserve_exact(size.saturating_sub(empty.len())).is_err();
        self.open = !self.starved && !state.reader_is_gone;
        if !self.open {
            return;
        }
        // A reused block has its length and is not zeroed again.
        empty.resize(size, 0);
        state.filled.push_back(std::mem::replace(&mut self.block, empty));
        if state.reader_waits && state.filled.len() >= self.shared.batch {
            self.shared.readable.notify_one();
        }
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.shared.state().end.get_or_insert(End::Failed(io::ErrorKind::BrokenPipe.into()));
        self.shared.readable.notify_one();
    }
}

/// The end that is read from.
///
/// Errors: the one the writer ended with, from every later read too; [`io::ErrorKind::BrokenPipe`] when the writer
/// went away without ending the stream.
#[derive(Debug)]
pub struct PipeReader {
    shared: Arc<Shared>,
    block: Vec<u8>,
    position: usize,
    /// How the stream ended, once the reader has reached the end.
    end: Option<End>,
}

impl PipeReader {
    /// Gives the block back and returns the next one, or how the stream ended.
    fn exchange(&mut self) -> Result<Vec<u8>, End> {
        let read = std::mem::take(&mut self.block);
        let mut state = self.shared.state();
        if !read.is_empty() {
            state.free.push(read);
        }
        if state.writer_waits && state.free.len() >= self.shared.batch {
            self.shared.writable.notify_one();
        }
        if state.filled.is_empty() {
            state.reader_waits = true;
            while state.end.is_none() && state.filled.len() < self.shared.batch {
                let waited = self.shared.readable.wait_timeout(state, LONGEST_WAIT);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                // Hand over a partial batch after a second; another thread may depend on it.
                if timeout.timed_out() && !state.filled.is_empty() {
                    break;
                }
            }
            state.reader_waits = false;
        }
        match state.filled.pop_front() {
            Some(block) => Ok(block),
            None => Err(state.end.take().expect("without a block the wait ends only with the stream")),
        }
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.block.len() {
            self.position = 0;
            match &self.end {
                None => match self.exchange() {
                    Ok(block) => self.block = block,
                    Err(End::Whole) => self.end = Some(End::Whole),
                    Err(End::Failed(error)) => {
                        self.end = Some(End::Failed(again(&error)));
                        return Err(error);
                    }
                },
                Some(End::Whole) => {}
                Some(End::Failed(error)) => return Err(again(error)),
            }
        }
        Ok(&self.block[self.position..])
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

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.reader_is_gone = true;
        state.filled.clear();
        self.shared.writable.notify_one();
    }
}

/// Reads a source on a thread of its own, at most one pipe ahead of the returned reader.
///
/// The thread ends with the source, at its first error, or soon after the reader is dropped.
/// Errors: the system cannot start a thread.
pub fn read_ahead<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: R,
    blocks: Blocks,
) -> io::Result<PipeReader> {
    let (mut writer, reader) = pipe(blocks);
    threads::spawn(scope, move || {
        let result = writer.fill_from(source, |_| Ok(()));
        writer.finish(result);
    })?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 256 * 1024;

    /// Returns a few bytes at a time, then ends or fails.
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
    fn an_error_comes_after_the_bytes_before_it_and_stays() {
        std::thread::scope(|scope| {
            let error = Some(io::Error::other("torn"));
            let mut reader =
                read_ahead(scope, Dripping { left: bytes(300_000), step: 1000, error }, Blocks::Large)
                    .unwrap();
            let mut found = Vec::new();
            let error = reader.read_to_end(&mut found).unwrap_err();
            assert_eq!((error.to_string().as_str(), found.len()), ("torn", 300_000));
            for _ in 0..2 {
                assert_eq!(reader.read(&mut [0; 8]).unwrap_err().to_string(), "torn");
            }
        });
    }

    #[test]
    fn a_writer_that_vanishes_is_an_error_and_not_an_end() {
        let (mut writer, mut reader) = pipe(Blocks::Large);
        writer.advance(BLOCK_BYTES);
        drop(writer);
        let mut found = Vec::new();
        for _ in 0..2 {
            assert_eq!(reader.read_to_end(&mut found).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
        assert_eq!(found.len(), BLOCK_BYTES);
    }

    #[test]
    fn a_reader_that_vanishes_stops_the_thread() {
        std::thread::scope(|scope| {
            let mut reader = read_ahead(scope, io::repeat(7), Blocks::Small).unwrap();
            assert_eq!(reader.read(&mut [0; 3]).unwrap(), 3);
            drop(reader);
            // The scope ends only when the thread ends.
        });
    }

    #[test]
    fn a_slow_source_does_not_keep_what_it_has() {
        let (mut writer, mut reader) = pipe(Blocks::Small);
        writer.advance(Blocks::Small.bytes());
        // Fewer blocks than the number at which the reader is woken, and the writer is not dropped.
        assert_eq!(reader.fill_buf().unwrap().len(), Blocks::Small.bytes());
        writer.finish(Ok(()));
    }

    #[test]
    fn blocks_have_their_sizes_and_numbers() {
        assert_eq!([Blocks::Small, Blocks::Large].map(Blocks::bytes), [32_768, 262_144]);
        assert_eq!([Blocks::Small, Blocks::Large].map(Blocks::count), [16, 4]);
        let (writer, _reader) = pipe(Blocks::Small);
        assert_eq!((writer.shared.state().free.len(), writer.shared.batch), (15, 8));
    }

    #[test]
    fn a_reader_that_waits_gets_a_single_block_after_a_second() {
        let (mut writer, mut reader) = pipe(Blocks::Small);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || reader.fill_buf().map(<[u8]>::len).unwrap());
            while !writer.shared.state().reader_waits {
                std::thread::yield_now();
            }
            writer.advance(Blocks::Small.bytes());
            let begun = std::time::Instant::now();
            while !waiting.is_finished() && begun.elapsed() < 20 * LONGEST_WAIT {
                std::thread::sleep(LONGEST_WAIT / 20);
            }
            let finished = waiting.is_finished();
            writer.finish(Ok(()));
            assert!(finished, "the block was kept back until the end");
            assert_eq!(waiting.join().unwrap(), Blocks::Small.bytes());
        });
    }

    #[test]
    fn an_error_after_whole_blocks_is_the_next_thing_that_is_read() {
        let (mut writer, mut reader) = pipe(Blocks::Small);
        writer.advance(Blocks::Small.bytes());
        writer.finish(Err(io::Error::other("torn")));
        assert_eq!(reader.read(&mut vec![0; 40_000]).unwrap(), Blocks::Small.bytes());
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().to_string(), "torn");
    }

    #[test]
    fn what_is_written_after_the_reader_is_gone_is_discarded() {
        let (mut writer, reader) = pipe(Blocks::Small);
        drop(reader);
        for _ in 0..3 {
            writer.advance(Blocks::Small.bytes());
            assert!(!writer.open && writer.shared.state().filled.is_empty());
            assert_eq!(writer.space().len(), Blocks::Small.bytes());
        }
        writer.advance(1);
        let shared = Arc::clone(&writer.shared);
        writer.finish(Ok(()));
        assert!(shared.state().filled.is_empty());
    }

    #[test]
    fn an_interrupted_source_is_read_again_and_each_piece_is_seen() {
        let (mut writer, mut reader) = pipe(Blocks::Small);
        let error = Some(io::ErrorKind::Interrupted.into());
        let mut seen = Vec::new();
        let source = Dripping { left: bytes(10), step: 4, error };
        let note = |piece: &[u8]| {
            seen.push(piece.len());
            Ok(())
        };
        writer.fill_from(source, note).unwrap();
        writer.finish(Ok(()));
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        assert_eq!((found, seen), (bytes(10), vec![4, 4, 2]));
    }
}
