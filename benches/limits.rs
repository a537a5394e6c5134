//! What no packer can be faster than: each unavoidable step alone, on one core, over the bytes of one tar.
//!
//! `cargo bench --bench limits -- FILE LEVEL` prints one line of JSON with CPU seconds: reading the file,
//! deflating it in blocks of 1 MiB (what does not shrink counts as stored), hashing input and output, writing the
//! output beside the file. It uses the same crates as the program but none of its code.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use libdeflater::{CompressionLvl, Compressor, Crc};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (Some(path), Some(level)) = (words.first(), words.get(1)) else {
        // `cargo bench` without arguments runs every benchmark; this one has nothing to say then.
        return Ok(());
    };
    let level = CompressionLvl::new(level.parse()?).map_err(|error| format!("{error:?}"))?;
    let mut compressor = Compressor::new(level);
    let mut file = File::open(path)?;
    let result_path = format!("{path}.limit");
    let mut result = File::create(&result_path)?;
    let mut block = vec![0_u8; BLOCK];
    let mut output = vec![0_u8; compressor.gzip_compress_bound(BLOCK)];
    let (mut hash_in, mut hash_out) = (Sha256::new(), Sha256::new());
    let (mut read, mut compress, mut hashed_in, mut hashed_out, mut write) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut size = 0;
    loop {
        let filled = timed(&mut read, || fill(&mut file, &mut block))?;
        let input = &block[..filled];
        if input.is_empty() {
            break;
        }
        let mut deflating = 0.0;
        let written = timed(&mut deflating, || compressor.gzip_compress(input, &mut output))
            .map_err(|error| format!("{error:?}"))?;
        let stored: &[u8] = if written * 50 > filled * 49 {
            // A sample shows that noise is noise, so deflating it is no part of the limit; the checksum is.
            let mut crc = Crc::new();
            timed(&mut compress, || crc.update(input));
            black_box(crc.sum());
            input
        } else {
            compress += deflating;
            &output[..written]
        };
        timed(&mut hashed_in, || hash_in.update(input));
        timed(&mut hashed_out, || hash_out.update(stored));
        timed(&mut write, || result.write_all(stored))?;
        size += stored.len();
    }
    black_box((hash_in.finalize(), hash_out.finalize()));
    std::fs::remove_file(result_path)?;
    let cores = std::thread::available_parallelism()?.get();
    writeln!(
        std::io::stdout(),
        r#"{{"cores":{cores},"read":{read:.4},"compress":{compress:.4},"hash_in":{hashed_in:.4},"hash_out":{hashed_out:.4},"write":{write:.4},"size":{size}}}"#
    )?;
    Ok(())
}

/// Adds the CPU seconds that `work` takes; other people's work on the machine does not count.
fn timed<T>(spent: &mut f64, work: impl FnOnce() -> T) -> T {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let before = now();
    let result = work();
    *spent += (now() - before).as_secs_f64();
    result
}

/// Reads until the block is full or the file ends.
fn fill(file: &mut File, block: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    loop {
        match file.read(&mut block[filled..])? {
            0 => return Ok(filled),
            count => filled += count,
        }
    }
}
