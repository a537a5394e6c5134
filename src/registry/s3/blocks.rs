//! The parts of a file on a web server that were read lately: headers of a tar and small files are often in one of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::stream::lock;

/// Bytes of a request for a position that is far from the last one.
pub(super) const SMALLEST: u64 = 64 * 1024;
/// Bytes of a request where positions follow one another.
const LARGEST: u64 = 1024 * 1024;
/// Most bytes that are kept.
const KEPT: usize = 8 * 1024 * 1024;

/// Bytes from a position on.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl Block {
    fn from(&self, position: u64) -> &[u8] {
        let inside = position.checked_sub(self.start).and_then(|inside| usize::try_from(inside).ok());
        inside.and_then(|inside| self.bytes.get(inside..)).unwrap_or_default()
    }

    /// Copies the bytes from a position on, as many as there are and fit.
    pub(super) fn copy(&self, buffer: &mut [u8], position: u64) -> usize {
        let found = self.from(position);
        let count = found.len().min(buffer.len());
        buffer[..count].copy_from_slice(&found[..count]);
        count
    }
}

/// The newest blocks, used by several threads.
#[derive(Debug)]
pub(super) struct Blocks {
    state: Mutex<State>,
    /// Most requests.
    pub(super) limit: usize,
}

#[derive(Debug, Default)]
struct State {
    requests: usize,
    kept: VecDeque<Arc<Block>>,
    bytes: usize,
    /// Where the last block ended, and how long it was.
    end: u64,
    length: u64,
}

impl Blocks {
    pub(super) fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), limit }
    }

    /// Returns a block with the byte at a position.
    pub(super) fn find(&self, position: u64) -> Option<Arc<Block>> {
        lock(&self.state).kept.iter().rev().find(|block| !block.from(position).is_empty()).cloned()
    }

    /// Counts a request for a position, and returns how many bytes to ask for; `None` beyond the limit.
    ///
    /// Where positions are near each other, requests become longer: one of them then brings several headers.
    pub(super) fn ask(&self, position: u64) -> Option<u64> {
        let mut state = lock(&self.state);
        state.requests += 1;
        let is_near = position.checked_sub(state.end).is_some_and(|gap| gap <= state.length);
        let length = if is_near { (state.length * 2).clamp(SMALLEST, LARGEST) } else { SMALLEST };
        (state.requests <= self.limit).then_some(length)
    }

    /// Keeps a block, and drops the oldest ones.
    pub(super) fn keep(&self, block: Block) -> Arc<Block> {
        let block = Arc::new(block);
        let mut state = lock(&self.state);
        state.length = block.bytes.len() as u64;
        state.end = block.start + state.length;
        state.bytes += block.bytes.len();
        state.kept.push_back(Arc::clone(&block));
        while state.bytes > KEPT {
            let Some(oldest) = state.kept.pop_front() else { break };
            state.bytes -= oldest.bytes.len();
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(start: u64, length: usize) -> Block {
        Block { start, bytes: vec![7; length] }
    }

    #[test]
    fn reading_on_takes_longer_blocks_and_the_oldest_are_dropped() {
        let blocks = Blocks::new(100);
        assert_eq!(blocks.ask(0), Some(SMALLEST));
        let small = usize::try_from(SMALLEST).unwrap();
        let _ = blocks.keep(block(0, small));
        assert_eq!(blocks.ask(SMALLEST), Some(2 * SMALLEST));
        let mut buffer = [0; 4];
        let found = blocks.find(SMALLEST - 2).unwrap();
        assert_eq!((found.copy(&mut buffer, SMALLEST - 2), buffer), (2, [7, 7, 0, 0]));
        assert!(blocks.find(SMALLEST).is_none());
        let mut end = SMALLEST;
        for _ in 0..8 {
            let length = blocks.ask(end).unwrap();
            let _ = blocks.keep(block(end, usize::try_from(length).unwrap()));
            end += length;
        }
        assert_eq!(blocks.ask(end), Some(LARGEST));
        assert!(blocks.find(0).is_some());
        for _ in 0..3 {
            let _ = blocks.keep(block(1 << 40, 1 << 20));
        }
        assert!(blocks.find(0).is_none() && blocks.find(1 << 40).is_some());
        assert!(lock(&blocks.state).bytes <= KEPT);
    }

    #[test]
    fn a_position_as_far_as_the_last_block_was_long_is_near() {
        let small = usize::try_from(SMALLEST).unwrap();
        for (start, position, expected) in [
            (0, SMALLEST, 2 * SMALLEST),
            (0, 2 * SMALLEST, 2 * SMALLEST),
            (0, 2 * SMALLEST + 1, SMALLEST),
            // In front of it nothing is read on.
            (SMALLEST, SMALLEST - 1, SMALLEST),
        ] {
            let blocks = Blocks::new(1);
            let _ = blocks.keep(block(start, small));
            assert_eq!(blocks.ask(position), Some(expected), "{position} behind {start}");
        }
    }

    #[test]
    fn requests_are_counted_to_the_limit() {
        let blocks = Blocks::new(2);
        let asked = [0, 1 << 30, 1 << 31].map(|position| blocks.ask(position).is_some());
        assert_eq!(asked, [true, true, false]);
    }
}
