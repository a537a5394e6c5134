//! Micro-benchmarks of the hot paths, one thread each: `cargo bench --bench micro`.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use imgrelay::model::{Algorithm, Digest};
use imgrelay::store;
use imgrelay::store::layout::{LayoutIndex, LayoutTarWriter, LayoutTarget};
use imgrelay::stream::{Decoder, compress};
use imgrelay::tar::Reader;
use imgrelay::tar::header::{EntryType, Header, Owner};
use imgrelay::tar::write::Writer;

fn main() {
    divan::main();
}

const MIB: usize = 1 << 20;

/// Text with the repetitions of a source tree: deflate makes a fifth of it.
fn text(len: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "fn ", "let ", "self.", "return ", "buffer", "(&mut ", "index", " = ", ");\n", "    ", "Result<",
        "u64",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut out = Vec::with_capacity(len + 32);
    while out.len() < len {
        let random = next();
        out.extend_from_slice(WORDS[usize::try_from(random % 12).unwrap_or(0)].as_bytes());
        if random % 5 == 0 {
            out.extend_from_slice(format!("{:x}", random >> 44).as_bytes());
        }
    }
    out.truncate(len);
    out
}

fn noise(len: usize) -> Vec<u8> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        out.extend_from_slice(&seed.to_le_bytes());
    }
    out.truncate(len);
    out
}

fn gzip(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let level = "gzip".parse().unwrap_or_default();
    let done = compress::<(), io::Error>(level, 1, &mut out, |writer| writer.write_all(input));
    assert!(done.is_ok(), "memory takes everything");
    out
}

/// Headers of small files, the tar part of packing many of them.
#[divan::bench]
fn tar_framing(bencher: Bencher<'_, '_>) {
    let paths: Vec<String> =
        (0..1000).map(|number| format!("usr/share/doc/package-{}/file-{number:06}", number % 40)).collect();
    bencher.counter(ItemsCount::new(paths.len())).bench_local(|| {
        let mut tar = Writer::new(Vec::with_capacity(2 * MIB));
        for path in &paths {
            let (path, kind) = (path.as_bytes(), EntryType::File);
            let header =
                Header { path, kind, mode: 0o644, size: 700, link: b"", mtime: 0, owner: Owner::ROOT };
            assert!(tar.entry(&header, &[b'x'; 700]).is_ok(), "memory takes everything");
        }
        tar.finish()
    });
}

/// The headers of a tar read back.
#[divan::bench]
fn tar_reading(bencher: Bencher<'_, '_>) {
    let mut tar = Writer::new(Vec::new());
    for number in 0..1000 {
        let path = format!("usr/share/doc/package/file-{number:06}");
        let (path, kind) = (path.as_bytes(), EntryType::File);
        let header = Header { path, kind, mode: 0o644, size: 700, link: b"", mtime: 0, owner: Owner::ROOT };
        assert!(tar.entry(&header, &[b'x'; 700]).is_ok(), "memory takes everything");
    }
    let bytes = tar.finish().unwrap_or_default();
    bencher.counter(ItemsCount::new(1000_u64)).bench_local(|| {
        let mut reader = Reader::new(bytes.as_slice());
        let mut entries = 0;
        while let Ok(Some(entry)) = reader.next_entry() {
            entries += entry.size;
        }
        entries
    });
}

#[divan::bench(args = ["text", "noise"], sample_count = 20)]
fn gzip_block(bencher: Bencher<'_, '_>, what: &str) {
    let input = if what == "text" { text(2 * MIB) } else { noise(2 * MIB) };
    bencher.counter(BytesCount::of_slice(&input)).bench_local(|| gzip(black_box(&input)));
}

#[divan::bench(args = ["text", "noise"], sample_count = 40)]
fn inflating(bencher: Bencher<'_, '_>, what: &str) {
    let input = if what == "text" { text(2 * MIB) } else { noise(2 * MIB) };
    let stored = gzip(&input);
    let mut buffer = vec![0; MIB / 4];
    bencher.counter(BytesCount::of_slice(&input)).bench_local(|| {
        let mut total = 0;
        if let Ok(mut decoder) = Decoder::new(Box::new(stored.as_slice())) {
            while let Ok(count @ 1..) = decoder.read(&mut buffer) {
                total += count;
            }
        }
        total
    });
}

#[divan::bench]
fn hashing(bencher: Bencher<'_, '_>) {
    let input = noise(4 * MIB);
    bencher.counter(BytesCount::of_slice(&input)).bench_local(|| {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(black_box(&input));
        hasher.finish()
    });
}

/// Opening an OCI layout tar with 200 blobs of 64 KiB: its table of contents and `index.json`.
#[divan::bench]
fn layout_read(bencher: Bencher<'_, '_>) {
    let Some(path) = layout() else { return };
    let folder = std::env::temp_dir();
    bencher
        .counter(ItemsCount::new(200_u64))
        .bench_local(|| store::open(&path, &folder).map(|store| store.blobs().len()).unwrap_or_default());
    let _ = std::fs::remove_file(path);
}

fn layout() -> Option<PathBuf> {
    let path = std::env::temp_dir().join(format!("imgrelay-micro-{}.tar", std::process::id()));
    File::create(&path).ok()?;
    let mut writer = LayoutTarWriter::create(&LayoutTarget::File(path.clone())).ok()?;
    for number in 0..200_u32 {
        let blob = [number.to_le_bytes().as_slice(), &noise(64 * 1024)].concat();
        writer.add_bytes(&Digest::sha256_of(&blob), &blob).ok()?;
    }
    let manifest = br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
    let digest = Digest::sha256_of(manifest);
    writer.add_bytes(&digest, manifest).ok()?;
    let media_type = imgrelay::model::media_type::OCI_MANIFEST;
    let root = imgrelay::model::Descriptor::new(media_type, digest, manifest.len() as u64);
    writer.finish(&LayoutIndex { manifests: vec![root], ..LayoutIndex::default() }).ok()?;
    Some(path)
}
