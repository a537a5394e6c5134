//! A small input must not cost much: work is measured for every parser over three sizes.
//!
//! A test binary of its own, because what is measured belongs to the whole process. Each body of the fuzz targets gets
//! inputs that grow: its seeds with a part repeated, at places chosen by chance, and inputs written for the purpose. It
//! fails when four times the input cost much more than four times the time (n log n would be 4.6 times, a square 16), or
//! when an input of some KiB takes more than a MiB of memory for each.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use targets::{Body, TARGETS};
use testkit::random::Random;
use testkit::tarball::{Header, Tarball, pax_records};

/// The sizes of inputs, each four times the one before.
const SIZES: [usize; 3] = [8 << 10, 32 << 10, 128 << 10];
/// What four times the input may take, in times of the one before.
const GROWTH: f64 = 9.0;
/// Below this a measurement says nothing, and the cost is small.
const NOISE: Duration = Duration::from_millis(40);
/// Memory for each byte of input, and what a body may take for any input (windows of decompressors, pools of threads).
const BYTES_FOR_EACH: u64 = 1024;
const BYTES_FOR_ANY: u64 = 24 << 20;
/// Parts of each seed that are repeated.
const PARTS: usize = 5;

/// One test at a time: what is measured belongs to the process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processor time of this process.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// A line of `/proc/self/status`, in bytes.
fn memory(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = text.lines().find_map(|row| row.strip_prefix(line)).unwrap();
    found.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Runs a body; returns the processor time and the memory that it needed at its peak.
fn measure(body: Body, input: &[u8]) -> (Duration, u64) {
    // Forgets the peak of what was before.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, start) = (memory("VmRSS:"), processor_time());
    body(input);
    (processor_time().saturating_sub(start), memory("VmHWM:").saturating_sub(before))
}

/// Says what is wrong with the work for an input in growing sizes; `make` gives the input of about a size.
fn judge(what: &str, body: Body, make: &dyn Fn(usize) -> Vec<u8>) -> Option<String> {
    let mut last: Option<(Duration, usize)> = None;
    for size in SIZES {
        let input = make(size);
        let (mut time, peak) = measure(body, &input);
        let most = BYTES_FOR_ANY + BYTES_FOR_EACH * input.len() as u64;
        if peak > most {
            return Some(format!(
                "{what}: {} bytes cost {peak} bytes of memory, at most {most}",
                input.len()
            ));
        }
        if let Some((before, length)) = last {
            let grown = input.len() as f64 / length as f64 / 4.0;
            let most = before.max(NOISE / 4).mul_f64(GROWTH * grown.max(1.0));
            for _ in 0..2 {
                if time > NOISE && time > most {
                    time = time.min(measure(body, &input).0);
                }
            }
            if time > NOISE && time > most {
                return Some(format!(
                    "{what}: {length} bytes took {before:?}, {} bytes {time:?}: {}",
                    input.len(),
                    String::from_utf8_lossy(&input[..input.len().min(300)])
                ));
            }
        }
        last = Some((time, input.len()));
    }
    None
}

/// Repeats a part of a seed until the size is reached.
fn pumped(seed: &[u8], from: usize, to: usize, size: usize) -> Vec<u8> {
    let times = size.saturating_sub(seed.len()) / (to - from).max(1);
    [&seed[..from], &seed[from..to].repeat(times + 1), &seed[to..]].concat()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn four_times_the_input_costs_no_more_than_n_log_n() {
    let _alone = alone();
    let mut findings = Vec::new();
    for (number, (target, body)) in TARGETS.into_iter().enumerate() {
        let mut random = Random::new(number as u64);
        for (at, seed) in seeds(target).iter().enumerate().filter(|(_, seed)| !seed.is_empty()) {
            for _ in 0..PARTS {
                let is_tar = seed.len() >= 1024 && seed.len() % 512 == 0;
                let step = if is_tar { 512 } else { 1 };
                let pick =
                    |random: &mut Random, limit: usize| usize::try_from(random.below(limit as u64)).unwrap();
                let from = pick(&mut random, seed.len() / step) * step;
                let to = seed.len().min(from + (1 + pick(&mut random, if is_tar { 4 } else { 60 })) * step);
                let what = format!("{target}, seed {at}, bytes {from} to {to} repeated");
                findings.extend(judge(&what, body, &|size| pumped(seed, from, to, size)));
            }
        }
    }
    for (target, what, make) in large_inputs() {
        let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
        findings.extend(judge(&format!("{target}, {what}"), *body, &make));
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

type Make = Box<dyn Fn(usize) -> Vec<u8>>;

/// Inputs that were made to cost much, by target.
fn large_inputs() -> Vec<(&'static str, &'static str, Make)> {
    let digest = |number: usize| format!("sha256:{number:064x}");
    let list = |size: usize, each: usize, item: &dyn Fn(usize) -> String| -> String {
        (0..size / each).map(item).collect::<Vec<_>>().join(",")
    };
    let layer = move |n: usize| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":1}}"#,
            digest(n)
        )
    };
    let lines = |size: usize, each: usize, head: &str, item: &dyn Fn(usize) -> String| {
        (head.to_owned() + &(0..size / each).map(item).collect::<String>()).into_bytes()
    };
    let records = |size: usize| -> Vec<u8> {
        let names: Vec<String> = (0..size / 32).map(|n| format!("SCHILY.xattr.user.{n:06}")).collect();
        pax_records(&names.iter().map(|name| (name.as_str(), &b"v"[..])).collect::<Vec<_>>())
    };
    let with_records = move |flag: u8, size: usize, entries: usize| {
        let records = records(size / 2);
        let mut tar = Tarball::new().entry(&Header::new("r", flag, records.len() as u64), &records);
        for number in 0..entries {
            tar = tar.file(format!("f{number}"), "x");
        }
        tar.finish()
    };
    let global = with_records;
    vec![
        (
            "document",
            "many layers",
            Box::new(move |size| {
                format!(
                    r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
                    layer(0),
                    list(size, 140, &layer)
                )
                .into()
            }),
        ),
        (
            "document",
            "many annotations",
            Box::new(move |size| {
                let all = list(size, 20, &|n| format!(r#""k{n:07}":"v{n}""#));
                format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{{all}}}}}"#).into()
            }),
        ),
        (
            "document",
            "one member, again and again",
            Box::new(move |size| {
                format!(r#"{{{}}}"#, list(size, 18, &|_| r#""schemaVersion":2"#.into())).into()
            }),
        ),
        ("document", "deep lists", Box::new(|size| [b"{\"a\":".to_vec(), vec![b'['; size]].concat())),
        (
            "config",
            "much history",
            Box::new(move |size| {
                let all = list(size, 22, &|_| r#"{"empty_layer":true}"#.into());
                format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[]}},"history":[{all}]}}"#).into()
            }),
        ),
        (
            "images_lock",
            "many images",
            Box::new(move |size| {
                let head = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages:\n";
                lines(size, 90, head, &|n| format!("- image: r/a@{}\n", digest(n)))
            }),
        ),
        (
            "images_lock",
            "aliases of aliases",
            Box::new(move |size| {
                lines(size, 40, "a0: &a0 [x, x]\n", &|n| format!("a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1))
            }),
        ),
        (
            "docker_config",
            "many hosts",
            Box::new(move |size| {
                format!(
                    r#"{{"auths":{{{}}}}}"#,
                    list(size, 34, &|n| format!(r#""host{n}.test":{{"auth":"YTpi"}}"#))
                )
                .into()
            }),
        ),
        (
            "challenge",
            "many parameters",
            Box::new(move |size| format!("Bearer {}", list(size, 10, &|n| format!("p{n}=\"v\""))).into()),
        ),
        ("challenge", "many schemes", Box::new(move |size| list(size, 6, &|_| "Basic".into()).into())),
        ("challenge", "backslashes", Box::new(|size| format!("Bearer a=\"{}", "\\".repeat(size)).into())),
        ("link", "many links", Box::new(move |size| list(size, 9, &|_| "<a>;rel=x".into()).into())),
        (
            "tar_read",
            "many small entries",
            Box::new(|size| {
                let mut tar = Tarball::new();
                for number in 0..size / 1024 {
                    tar = tar.file(format!("f{number}"), "x");
                }
                tar.finish()
            }),
        ),
        ("tar_read", "records for one entry", Box::new(move |size| with_records(b'x', size, 1))),
        (
            "tar_read",
            "records for all of many entries",
            Box::new(move |size| global(b'g', size, size / 2048)),
        ),
        ("extract", "many bytes that choose entries", Box::new(|size| Random::new(5).bytes(size / 64))),
    ]
}

#[test]
fn work_that_grows_with_the_square_and_memory_of_a_bomb_are_found() {
    let _alone = alone();
    fn square(input: &[u8]) {
        let sum = input
            .iter()
            .map(|one| input.iter().step_by(64).filter(|other| *other == one).count())
            .sum::<usize>();
        assert!(sum > 0);
    }
    fn bomb(input: &[u8]) {
        assert!(vec![1_u8; input.len() * 8192 + (64 << 20)].iter().step_by(4096).all(|byte| *byte == 1));
    }
    fn line(input: &[u8]) {
        assert!(input.iter().map(|byte| u64::from(*byte)).sum::<u64>() > 0);
    }
    let make = |size: usize| vec![b'x'; size];
    assert!(judge("square", square, &make).is_some_and(|found| found.contains("took")));
    assert!(judge("bomb", bomb, &make).is_some_and(|found| found.contains("of memory")));
    assert_eq!(judge("line", line, &make), None);
}
