//! Measures how the cost of a parser grows with its input: CPU time and memory for three sizes.
//!
//! An attacker looks for small inputs with a large cost. Time is the thread's CPU time, which other processes hardly
//! change. Memory is the process's peak, so these tests have a test binary of their own and run one after the other
//! ([`check`] holds a lock).

use std::sync::{Mutex, PoisonError};

/// Measured sizes: each is four times the one before.
const STEPS: [usize; 3] = [1, 4, 16];
/// Most that CPU time may grow when the input grows by 16; n log n gives at most 24, a square gives 256.
const MOST_GROWTH: u64 = 64;
/// CPU time below which growth is not checked, nanoseconds.
const SHORTEST: u64 = 4_000_000;
/// Most bytes of memory for each byte of input: at most 1 MiB for 1 KiB.
const MEMORY_PER_BYTE: usize = 1024;
/// Bytes of memory that any run may use: buffers, and what the allocator keeps.
const FIXED_MEMORY: usize = 16 * 1024 * 1024;

static ALONE: Mutex<()> = Mutex::new(());

/// Runs `work` on inputs of three sizes and panics if its cost grows too fast; `input` gets the number of items.
///
/// `smallest` is the number of items of the smallest input; the largest should take some tens of milliseconds.
#[track_caller]
pub fn check(name: &str, smallest: usize, input: impl Fn(usize) -> Vec<u8>, work: impl Fn(&[u8])) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runs = STEPS.map(|step| {
        let bytes = input(smallest * step);
        let before = memory("VmRSS:");
        // Resets the peak. If that is not possible, an earlier peak counts too, which can only make the test stricter.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let start = cpu_time();
        work(&bytes);
        let time = cpu_time() - start;
        let memory = memory("VmHWM:").saturating_sub(before);
        let most = FIXED_MEMORY + MEMORY_PER_BYTE * bytes.len();
        assert!(memory <= most, "{name}: {memory} bytes of memory for {} bytes of input", bytes.len());
        (bytes.len(), time, memory)
    });
    let [(_, first, _), .., (_, last, _)] = runs;
    eprintln!("{name}: (bytes, nanoseconds, memory) {runs:?}");
    assert!(
        last <= first.max(SHORTEST) * MOST_GROWTH,
        "{name}: 16 times the input takes {} times as long: {runs:?}",
        last / first.max(1)
    );
}

/// CPU time of this thread, nanoseconds (proc(5), `schedstat`).
fn cpu_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel tells CPU times");
    text.split(' ').next().and_then(|text| text.parse().ok()).expect("the first number is the time on a CPU")
}

/// A line of `/proc/self/status` in bytes.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells the process's state");
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let kib = found.and_then(|text| text.trim().strip_suffix(" kB")).expect("memory is in KiB");
    kib.parse::<usize>().expect("a number") * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(items: usize) -> Vec<u8> {
        vec![b'x'; items]
    }

    #[test]
    fn work_in_proportion_passes() {
        check("linear", 100_000, bytes, |input| {
            std::hint::black_box(input.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        });
    }

    #[test]
    #[should_panic(expected = "times as long")]
    fn time_that_grows_with_the_square_fails() {
        check("quadratic", 1_000, bytes, |input| {
            for at in 0..input.len() {
                std::hint::black_box(input[at..].iter().map(|byte| u64::from(*byte)).sum::<u64>());
            }
        });
    }

    #[test]
    #[should_panic(expected = "bytes of memory for")]
    fn memory_far_beyond_the_input_fails() {
        check("large", 1, bytes, |input| {
            std::hint::black_box(vec![1_u8; input.len() * 64 * 1024 * 1024]);
        });
    }
}
