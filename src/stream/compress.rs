//! One pass from bytes to a stored layer: hash, compress on all cores, hash again, write.
//!
//! The stream is cut into blocks of [`BLOCK_BYTES`]; each becomes one gzip member (RFC 1952 2.2) or one zstd frame
//! (RFC 8878 3.1), which is what lets several threads compress while the result depends on the bytes alone,
//! never on the number of threads or on timing. Memory is a fixed set of blocks that are reused.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use crate::model::{Algorithm, Digest};

use super::codec::Codec;
use super::gzip_member::BLOCK_BYTES;
use super::{CompressionLevel, HashingWriter, cancel, lock, threads};

/// Most compressing threads: past this the two digests, which are sequential, are the limit, and memory grows.
const MAX_THREADS: usize = 8;

/// Digests and sizes of a compressed stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// Digest of the bytes before compression.
    pub diff_id: Digest,
    /// Bytes before compression.
    pub uncompressed_size: u64,
    /// Digest of the bytes as written.
    pub blob_digest: Digest,
    /// Bytes as written.
    pub size: u64,
}

/// The writer of the stream: its bytes are hashed, compressed and written to the sink.
pub struct BlockWriter<'a> {
    /// Always [`BLOCK_BYTES`] long, so that space for reading into needs no clearing.
    block: Vec<u8>,
    filled: usize,
    /// Blocks sent on.
    sent: u64,
    stages: Stages<'a>,
}

impl std::fmt::Debug for BlockWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockWriter").field("sent", &self.sent).field("filled", &self.filled).finish()
    }
}

/// Where the blocks are worked on.
enum Stages<'a> {
    Threads(Queues),
    Here(Box<Here<'a>>),
}

/// The queues to the threads that work on the blocks, and the queue of free blocks.
struct Queues {
    free: Receiver<Vec<u8>>,
    to_hash: SyncSender<Arc<Vec<u8>>>,
    to_compress: SyncSender<Numbered>,
    /// The sink failed; the stages go on taking blocks, so that no thread waits for ever.
    failed: Arc<AtomicBool>,
}

impl Queues {
    /// Sends a block on and returns an empty one.
    fn exchange(&self, number: u64, block: Vec<u8>) -> io::Result<Vec<u8>> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(broken());
        }
        let empty = self.free.recv().map_err(|_| broken())?;
        let block = Arc::new(block);
        self.to_hash.send(Arc::clone(&block)).map_err(|_| broken())?;
        self.to_compress.send((number, block)).map_err(|_| broken())?;
        Ok(empty)
    }
}

/// All the work on a block, on the thread that filled it.
struct Here<'a> {
    codec: Codec,
    plain: HashingWriter<io::Sink>,
    output: Vec<u8>,
    stored: HashingWriter<&'a mut (dyn Write + Send)>,
    failed: bool,
}

impl<'a> Here<'a> {
    fn new(level: CompressionLevel, sink: &'a mut (dyn Write + Send)) -> Self {
        let (plain, stored) = (HashingWriter::new(io::sink()), HashingWriter::new(sink));
        Self { codec: Codec::new(level), plain, output: Vec::new(), stored, failed: false }
    }

    fn work(&mut self, block: &[u8]) -> io::Result<()> {
        self.plain.write_all(block)?;
        self.output.clear();
        self.codec.compress(block, &mut self.output);
        let result = self.stored.write_all(&self.output);
        self.failed |= result.is_err();
        result
    }

    fn finish(self) -> io::Result<Compressed> {
        if self.failed {
            return Err(broken());
        }
        let (sink, blob_digest, size) = self.stored.finish();
        sink.flush()?;
        let (_, diff_id, uncompressed_size) = self.plain.finish();
        Ok(Compressed { diff_id, uncompressed_size, blob_digest, size })
    }
}

/// A stage ended because another failed; the cause is the error of the writing thread.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the output could not be written")
}

impl<'a> BlockWriter<'a> {
    fn new(stages: Stages<'a>) -> Self {
        Self { block: vec![0; BLOCK_BYTES], filled: 0, sent: 0, stages }
    }

    /// Returns free space in the current block to read into; never empty.
    ///
    /// Data read directly into the block is not copied before it is compressed. What was read is kept
    /// by [`BlockWriter::advance`]; without it the space is offered again.
    pub fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == BLOCK_BYTES {
            self.send()?;
        }
        Ok(&mut self.block[self.filled..])
    }

    /// Keeps the first `read` bytes of the space that was offered.
    pub fn advance(&mut self, read: usize) {
        self.filled = (self.filled + read).min(BLOCK_BYTES);
    }

    fn send(&mut self) -> io::Result<()> {
        cancel::check()?;
        let filled = std::mem::take(&mut self.filled);
        match &mut self.stages {
            Stages::Threads(queues) => {
                let mut block = std::mem::take(&mut self.block);
                block.truncate(filled);
                self.block = queues.exchange(self.sent, block)?;
                // A new block is zero pages that take no memory until they are written; a reused one has its length.
                self.block.resize(BLOCK_BYTES, 0);
            }
            Stages::Here(here) => here.work(&self.block[..filled])?,
        }
        self.sent += 1;
        Ok(())
    }

    /// Sends the last block; an empty stream is one empty block.
    fn send_rest(&mut self) -> io::Result<()> {
        if self.filled > 0 || self.sent == 0 { self.send() } else { Ok(()) }
    }
}

/// A stream that offers space to read into, so that contents are not copied.
pub trait BlockSink: Write {
    /// Returns free space to read into; never empty.
    fn space(&mut self) -> io::Result<&mut [u8]>;

    /// Keeps the first `read` bytes of the space that was offered.
    fn advance(&mut self, read: usize);
}

impl BlockSink for BlockWriter<'_> {
    fn space(&mut self) -> io::Result<&mut [u8]> {
        Self::space(self)
    }

    fn advance(&mut self, read: usize) {
        Self::advance(self, read);
    }
}

impl Write for BlockWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let space = self.space()?;
        let n = bytes.len().min(space.len());
        space[..n].copy_from_slice(&bytes[..n]);
        self.advance(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A block that is to be compressed, with its place in the stream.
type Numbered = (u64, Arc<Vec<u8>>);

/// How many blocks and outputs circulate between the threads.
///
/// They are also the capacities of the queues, so no thread waits for ever:
///
/// 1. A block is taken from `free` before it is sent, and is in each queue at most once. So a queue of `blocks` never
///    is full, the producer waits only for a free block, and the same holds for outputs and their hash queue.
/// 2. A free block comes back when the hasher and a compressor are done with it. The hasher waits for nothing else.
/// 3. A compressor takes an output first and then the oldest block. So each block that was taken has its output, and
///    reaches the writer without waiting.
/// 4. The writer waits for the block whose turn it is. If that block was taken, it arrives by 3. If it was not, no
///    later one was taken either, so the writer keeps none, and all outputs are free, in the hands of compressors
///    that wait for a block, or with the output's hasher, which waits for nothing else: the oldest block is taken.
/// 5. After an error the writer continues to take blocks, and the hashers too, until the producer stops.
#[derive(Clone, Copy)]
struct Circulating {
    /// One for each compressor to work on and one waiting for it; one each with the producer, the hasher and on its
    /// way. Fewer would be right too, and slower.
    blocks: usize,
    /// One for each compressor to fill and one that waits for its turn; one with the writer.
    outputs: usize,
}

impl Circulating {
    fn for_threads(threads: usize) -> Self {
        Self { blocks: 2 * threads + 3, outputs: 2 * threads + 1 }
    }
}

/// Makes a queue of so many empty blocks, and its entrance; their memory is allocated on first use.
fn stock(count: usize) -> (Sender<Vec<u8>>, Receiver<Vec<u8>>) {
    let (give_back, free) = channel();
    for _ in 0..count {
        give_back.send(Vec::new()).expect("both ends are here");
    }
    (give_back, free)
}

/// Runs `produce` and sends what it writes through the compressor into `sink`.
///
/// Shape: blocks in order, at least one (an empty stream is one empty member).
/// Errors: the system cannot start a thread; the sink's error if there was one, else the producer's. After an error
/// `sink` holds an incomplete stream.
/// Cost: `threads` compressing threads (at most 8), two hashing, one writing; `5 * threads + 5` blocks of memory,
/// however long the stream and however slow the sink. Without threads (0) all is done on this one, with three blocks:
/// that takes the least CPU time, for callers that compress several streams at a time.
pub fn compress<T, E>(
    level: CompressionLevel,
    threads: usize,
    sink: &mut (dyn Write + Send),
    produce: impl FnOnce(&mut BlockWriter<'_>) -> Result<T, E>,
) -> Result<(T, Compressed), E>
where
    E: From<io::Error>,
{
    if threads == 0 {
        let mut writer = BlockWriter::new(Stages::Here(Box::new(Here::new(level, sink))));
        let produced = produce(&mut writer)?;
        writer.send_rest()?;
        match writer.stages {
            Stages::Here(here) => return Ok((produced, here.finish()?)),
            Stages::Threads(_) => unreachable!("the writer was made without threads"),
        }
    }
    let threads = threads.min(MAX_THREADS);
    let circulating = Circulating::for_threads(threads);
    let (give_back, free) = stock(circulating.blocks);
    let (to_hash, hash_queue) = sync_channel::<Arc<Vec<u8>>>(circulating.blocks);
    let (to_compress, compress_queue) = sync_channel::<Numbered>(circulating.blocks);
    let (to_write, write_queue) = channel::<(u64, Vec<u8>)>();
    let (to_hash_output, output_hash_queue) = sync_channel::<Arc<Vec<u8>>>(circulating.outputs);
    let (give_back_output, free_output) = stock(circulating.outputs);
    let free_output = Mutex::new(free_output);
    let compress_queue = Mutex::new(compress_queue);
    let failed = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let back = give_back.clone();
        let hashing = threads::spawn(scope, move || hash_blocks(&hash_queue, &back))?;
        let (failure, output_back) = (Arc::clone(&failed), give_back_output.clone());
        let hashing_output = threads::spawn(scope, move || hash_blocks(&output_hash_queue, &output_back))?;
        let writing = threads::spawn(scope, move || {
            write_blocks(&write_queue, &to_hash_output, &give_back_output, sink, &failure)
        })?;
        for number in 0..threads {
            let (queue, outputs) = (&compress_queue, &free_output);
            let (back, written) = (give_back.clone(), to_write.clone());
            let work = move || compress_blocks(level, queue, outputs, &back, &written);
            match threads::spawn(scope, work) {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(error.into()),
                // If the system refuses a thread, the others do its work.
                Err(_) => break,
            }
        }
        drop((give_back, to_write));
        let queues = Queues { free, to_hash, to_compress, failed };
        let mut writer = BlockWriter::new(Stages::Threads(queues));
        let mut produced = produce(&mut writer);
        if produced.is_ok()
            && let Err(error) = writer.send_rest()
        {
            produced = Err(E::from(error));
        }
        drop(writer);
        let (diff_id, uncompressed_size) = threads::join(hashing);
        let (blob_digest, size) = threads::join(hashing_output);
        threads::join(writing)?;
        Ok((produced?, Compressed { diff_id, uncompressed_size, blob_digest, size }))
    })
}

fn hash_blocks(queue: &Receiver<Arc<Vec<u8>>>, back: &Sender<Vec<u8>>) -> (Digest, u64) {
    let mut hasher = Algorithm::Sha256.hasher();
    let mut total = 0;
    for block in queue {
        hasher.update(&block);
        total += block.len() as u64;
        give_back(block, back);
    }
    (hasher.finish(), total)
}

/// Returns a block to the producer once both its readers are done; `into_inner` gives it to exactly one of them.
fn give_back(block: Arc<Vec<u8>>, back: &Sender<Vec<u8>>) {
    if let Some(block) = Arc::into_inner(block) {
        let _ = back.send(block);
    }
}

fn compress_blocks(
    level: CompressionLevel,
    queue: &Mutex<Receiver<Numbered>>,
    outputs: &Mutex<Receiver<Vec<u8>>>,
    back: &Sender<Vec<u8>>,
    written: &Sender<(u64, Vec<u8>)>,
) {
    let mut codec = Codec::new(level);
    loop {
        // Space for the result first, then the oldest block: see `Circulating`. Without the wait for space a slow sink
        // would fill the memory.
        let Ok(mut output) = lock(outputs).recv() else { return };
        let Ok((number, block)) = lock(queue).recv() else { return };
        output.clear();
        codec.compress(&block, &mut output);
        give_back(block, back);
        if written.send((number, output)).is_err() {
            return;
        }
    }
}

/// Writes finished blocks in their order; after an error it continues to take them, because their space is needed.
///
/// Another thread computes the digest: on noise, writing (a copy into the page cache) takes as long as hashing.
fn write_blocks(
    queue: &Receiver<(u64, Vec<u8>)>,
    to_hash: &SyncSender<Arc<Vec<u8>>>,
    back: &Sender<Vec<u8>>,
    sink: &mut (dyn Write + Send),
    failed: &AtomicBool,
) -> io::Result<()> {
    let mut next = 0;
    let mut waiting: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut result = Ok(());
    for (number, block) in queue {
        waiting.insert(number, block);
        while let Some(block) = waiting.remove(&next) {
            next += 1;
            let block = Arc::new(block);
            if result.is_ok() {
                to_hash.send(Arc::clone(&block)).map_err(|_| broken())?;
                result = sink.write_all(&block);
                failed.store(result.is_err(), Ordering::Relaxed);
            }
            give_back(block, back);
        }
    }
    result.and_then(|()| sink.flush())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::stream::Decoder;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(len)
        .collect()
    }

    fn run(input: &[u8], level: &str, threads: usize) -> (Vec<u8>, Compressed) {
        let mut out = Vec::new();
        let level = level.parse().unwrap();
        let ((), result) =
            compress::<(), io::Error>(level, threads, &mut out, |writer| writer.write_all(input)).unwrap();
        (out, result)
    }

    #[test]
    fn output_is_the_same_for_any_number_of_threads_and_reads_back() {
        let mut input = noise(BLOCK_BYTES + 7);
        input.extend(std::iter::repeat_n(b"compressible text ", 200_000).flatten());
        for level in ["gzip:1", "gzip:6", "gzip:12", "zstd:3", "none"] {
            let (one, result) = run(&input, level, 1);
            assert_eq!(result.diff_id, Digest::sha256_of(&input), "{level}");
            assert_eq!(result.uncompressed_size, input.len() as u64);
            assert_eq!(result.blob_digest, Digest::sha256_of(&one), "{level}");
            assert_eq!(result.size, one.len() as u64);
            for threads in [0, 2, 3, 8] {
                assert!(run(&input, level, threads).0 == one, "{level} on {threads} threads");
            }
            let mut back = Vec::new();
            Decoder::new(Box::new(&one[..])).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == input, "{level} does not read back");
        }
    }

    #[test]
    fn an_empty_stream_is_one_member() {
        let (out, result) = run(b"", "gzip:6", 2);
        assert_eq!(result.diff_id, Digest::sha256_of(b""));
        assert!(out.len() >= 18, "a gzip header and trailer, found {} bytes", out.len());
    }

    #[test]
    fn noise_is_stored_and_costs_almost_nothing() {
        let input = noise(3 * BLOCK_BYTES);
        let (out, _) = run(&input, "gzip:6", 2);
        assert!(out.len() < input.len() + 3 * 128, "{} bytes from {}", out.len(), input.len());
    }

    #[test]
    fn text_is_compressed_in_large_and_small_blocks() {
        for len in [BLOCK_BYTES / 64, 2 * BLOCK_BYTES + 1] {
            let input: Vec<u8> =
                b"some text that repeats itself. ".iter().copied().cycle().take(len).collect();
            let (out, _) = run(&input, "gzip:6", 2);
            assert!(out.len() * 10 < len, "{} bytes from {len}", out.len());
        }
    }

    #[test]
    fn a_slow_sink_holds_the_producer_back() {
        struct Slow(Arc<AtomicUsize>);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let written = self.0.fetch_add(bytes.len(), Ordering::SeqCst);
                if written == 0 {
                    // Long enough for a producer that is not held back to be far ahead.
                    std::thread::sleep(std::time::Duration::from_millis(200));
                }
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let written = Arc::new(AtomicUsize::new(0));
        let (block, level) = (noise(BLOCK_BYTES), "gzip:1".parse().unwrap());
        let mut ahead = 0;
        compress::<(), io::Error>(level, 2, &mut Slow(Arc::clone(&written)), |writer| {
            for number in 0..100 {
                writer.write_all(&block)?;
                ahead = ahead.max(number + 1 - written.load(Ordering::SeqCst) / BLOCK_BYTES);
            }
            Ok(())
        })
        .unwrap();
        assert!(ahead <= 4 * 2 + 5, "{ahead} blocks in memory");
    }

    #[test]
    fn a_failing_sink_and_a_failing_producer_end_the_stream() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let input = noise(40 * BLOCK_BYTES);
        let level: CompressionLevel = "gzip:1".parse().unwrap();
        let error =
            compress::<(), io::Error>(level, 2, &mut Full, |writer| writer.write_all(&input)).unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::StorageFull,
            "the sink's error, not the broken pipe it caused"
        );
        let error = compress::<(), io::Error>(level, 2, &mut io::sink(), |writer| {
            writer.write_all(&input)?;
            Err(io::Error::other("changed"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "changed");
    }

    #[test]
    fn each_thread_has_two_blocks_and_two_outputs() {
        for (threads, blocks, outputs) in [(1, 5, 3), (2, 7, 5), (8, 19, 17)] {
            let found = Circulating::for_threads(threads);
            assert_eq!((found.blocks, found.outputs), (blocks, outputs), "{threads} threads");
        }
    }

    #[test]
    fn a_writer_shows_how_far_it_is() {
        let level: CompressionLevel = "none".parse().unwrap();
        let mut sink = io::sink();
        let mut writer = BlockWriter::new(Stages::Here(Box::new(Here::new(level, &mut sink))));
        writer.write_all(&vec![7; BLOCK_BYTES + 3]).unwrap();
        assert_eq!(format!("{writer:?}"), "BlockWriter { sent: 1, filled: 3 }");
        assert_eq!(writer.space().unwrap().len(), BLOCK_BYTES - 3);
        writer.advance(2 * BLOCK_BYTES);
        assert_eq!(writer.filled, BLOCK_BYTES, "no more than the space that was offered");
        assert_eq!(BlockSink::space(&mut writer).unwrap().len(), BLOCK_BYTES, "a full block is sent on");
        assert_eq!(writer.sent, 2);
    }
}
