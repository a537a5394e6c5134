//! Tars, compressed streams and the archives made of them.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use imgrelay::model::{Descriptor, Digest, media_type};
use imgrelay::store::layout::{LayoutIndex, LayoutTarWriter, LayoutTarget};
use imgrelay::store::{self, Store};
use imgrelay::stream::Decoder;
use imgrelay::tar::{self, Entry, Reader, TarError};
use imgrelay::transfer::events::Silent;
use imgrelay::transfer::verify::verify;
use serde_json::json;
use testkit::tarball::Tarball;

use super::recipe::{Bytes, sealed};

/// Most bytes that are unpacked of one input.
const ENOUGH: u64 = 4 * 1024 * 1024;

/// A file in memory, with a path.
pub(super) fn memory(bytes: &[u8]) -> (File, PathBuf) {
    let file = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(file);
    file.write_all(bytes).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    (file, path)
}

/// The same bytes come out however they are asked for.
pub(super) fn decompress(data: &[u8]) {
    let read = |step: usize, threads: usize| -> Option<Vec<u8>> {
        let mut decoder = Decoder::with_threads(Box::new(data), threads).ok()?;
        let (mut out, mut buffer) = (Vec::new(), vec![0; step]);
        while (out.len() as u64) < ENOUGH {
            match decoder.read(&mut buffer) {
                Ok(0) => return Some(out),
                Ok(count) => out.extend_from_slice(&buffer[..count]),
                Err(_) => return None,
            }
        }
        None
    };
    let large = read(64 * 1024, 1);
    assert_eq!(large, read(1009, 1));
    assert_eq!(large, read(64 * 1024, 3));
}

fn by_stream(data: &[u8]) -> Result<Vec<Entry>, String> {
    let mut reader = Reader::new(data);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(|error| error.to_string())? {
        let end = entry.offset_of_data.checked_add(entry.size).unwrap();
        let count = std::io::copy(&mut reader, &mut std::io::sink()).map_err(|error| error.to_string())?;
        assert_eq!(count, entry.size, "{entry:?}");
        assert!(end <= data.len() as u64, "{entry:?}");
        assert!(!entry.path.is_empty() && !entry.path.contains(&0), "{entry:?}");
        assert!(entry.mode <= 0o7777 && entry.offset < entry.offset_of_data, "{entry:?}");
        entries.push(entry);
    }
    Ok(entries)
}

/// Reading as a stream and hopping through a file see the same entries, and entries lie inside the bytes.
pub(super) fn tar_read(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let data = if how & 1 == 0 { rest.to_vec() } else { sealed(rest) };
    let streamed = by_stream(&data);
    let (file, _) = memory(&data);
    let mut indexed = Vec::new();
    let end = tar::index::<TarError>(&file, |entry| {
        indexed.push(entry);
        Ok(())
    });
    match (streamed, end) {
        (Ok(entries), Ok(_)) => assert_eq!(entries, indexed),
        (Err(_), Err(error)) => {
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
        }
        (one, other) => panic!("a stream gives {one:?}, a file {other:?}"),
    }
}

/// Looks at everything a store says it has.
fn examine(path: &Path) {
    let store = match store::open(path, &std::env::temp_dir()) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.to_string().contains("/proc/self/fd/"), "{error}");
            return;
        }
    };
    examine_store(&store);
}

fn examine_store(store: &Store) {
    assert!(!store.roots().is_empty());
    for digest in store.blobs() {
        let size = store.blob_size(&digest).unwrap();
        if size < ENOUGH
            && let Ok(reader) = store.open_unverified(&digest)
        {
            let count = std::io::copy(&mut reader.take(size + 1), &mut std::io::sink()).unwrap_or(0);
            assert!(count <= size, "{digest}");
        }
    }
    let report = verify(store, 1, &Silent).expect("no server is asked");
    for problem in &report.problems {
        assert!(problem.to_string().contains(&problem.blob.to_string()), "{problem}");
    }
    if report.problems.is_empty() {
        for root in store.roots() {
            store::read_document(store, &root.image.descriptor).expect("a sound archive can be read");
        }
    }
}

/// Fixed blobs that inputs can refer to: `{}`, an empty tar and one image made of them.
fn known() -> [Vec<u8>; 3] {
    let layer = Tarball::new().file("f", "x").finish();
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256_of(&layer).to_string()]}});
    let config = config.to_string().into_bytes();
    let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": Digest::sha256_of(bytes).to_string(), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": describe(media_type::OCI_CONFIG, &config),
        "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer)]});
    [layer, config, manifest.to_string().into_bytes()]
}

fn with_known(tar: Tarball) -> Tarball {
    known()
        .iter()
        .fold(tar, |tar, blob| tar.file(format!("blobs/sha256/{}", Digest::sha256_of(blob).hex()), blob))
}

/// An archive that is the input, or has it as its `index.json`, or as a document it points at.
pub(super) fn layout_read(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let tar = match how % 4 {
        0 => rest.to_vec(),
        1 => sealed(rest),
        2 => with_known(Tarball::new().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#))
            .file("index.json", rest)
            .finish(),
        _ => {
            let kind = [media_type::OCI_MANIFEST, media_type::OCI_INDEX][usize::from(how >> 2 & 1)];
            let digest = Digest::sha256_of(rest);
            let index = json!({"schemaVersion": 2, "manifests": [
                {"mediaType": kind, "digest": digest.to_string(), "size": rest.len()}]});
            with_known(Tarball::new().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#))
                .file("index.json", index.to_string())
                .file(format!("blobs/sha256/{}", digest.hex()), rest)
                .finish()
        }
    };
    let (_file, path) = memory(&tar);
    examine(&path);
}

/// An archive that is the input, or has it as docker's table of contents.
pub(super) fn docker_save_read(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let tar = if how % 4 == 0 {
        sealed(rest)
    } else {
        let [layer, config, _] = known();
        let tar = Tarball::new().file("config.json", &config).file("l/layer.tar", &layer);
        tar.symlink("m/layer.tar", "../l/layer.tar").file("manifest.json", rest).finish()
    };
    let (_file, path) = memory(&tar);
    examine(&path);
}

/// An archive that is the input, or has it as imgpkg's table of contents.
pub(super) fn imgpkg_tar_read(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let tar = if how % 4 == 0 {
        sealed(rest)
    } else {
        let [layer, ..] = known();
        let name = format!("sha256-{}.tar.gz", Digest::sha256_of(&layer).hex());
        Tarball::new().file(name, &layer).file("manifest.json", rest).finish()
    };
    let (_file, path) = memory(&tar);
    examine(&path);
}

/// Blobs of any content and order come back as they were, and the oracle agrees with the archive.
pub(super) fn layout_roundtrip(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let count = usize::from(bytes.next() % 6);
    let step = usize::from(bytes.next()) * 4 + 1;
    let blobs: Vec<&[u8]> = data.chunks(step).take(count).collect();
    let mut writer = LayoutTarWriter::create(&LayoutTarget::Spool(std::env::temp_dir())).unwrap();
    // Not a layer: one that begins as a compressed file does but is none cannot be read, here as elsewhere.
    let describe = |blob: &[u8]| {
        json!({"mediaType": "application/vnd.example.data",
        "digest": Digest::sha256_of(blob).to_string(), "size": blob.len()})
    };
    for (at, blob) in blobs.iter().enumerate() {
        let digest = Digest::sha256_of(blob);
        match at % 3 {
            0 => writer.add_bytes(&digest, blob).unwrap(),
            1 => {
                if let Some(slot) = writer.reserve(&digest, blob.len() as u64).unwrap() {
                    // A transfer that broke in its middle and begins again.
                    let _ = slot.writer().write_all(&blob[..blob.len() / 2]);
                    slot.writer().write_all(blob).unwrap();
                    assert!(slot.writer().write_all(&[blob, &b"x"[..]].concat()).is_err());
                    slot.writer().write_all(blob).unwrap();
                }
            }
            _ => writer
                .add_stream::<(), imgrelay::stream::FileError>(|out| {
                    out.write_all(blob).unwrap();
                    Ok((digest.clone(), blob.len() as u64, ()))
                })
                .unwrap(),
        }
    }
    let [_, config, _] = known();
    let mut layers: Vec<serde_json::Value> = blobs.iter().map(|blob| describe(blob)).collect();
    layers.dedup();
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": layers,
        "config": {"mediaType": "application/vnd.example+json", "size": config.len(),
            "digest": Digest::sha256_of(&config).to_string()}});
    let manifest = manifest.to_string().into_bytes();
    writer.add_bytes(&Digest::sha256_of(&config), &config).unwrap();
    writer.add_bytes(&Digest::sha256_of(&manifest), &manifest).unwrap();
    let root: Descriptor = serde_json::from_value(json!({"mediaType": media_type::OCI_MANIFEST,
        "digest": Digest::sha256_of(&manifest).to_string(), "size": manifest.len()}))
    .unwrap();
    let written =
        writer.finish(&LayoutIndex { manifests: vec![root.clone()], ..LayoutIndex::default() }).unwrap();
    let file = written.spool.unwrap();
    assert_eq!(file.metadata().unwrap().len(), written.size);
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let store = store::open(&path, &std::env::temp_dir()).unwrap();
    assert_eq!(store.roots()[0].image.descriptor.digest, root.digest);
    for blob in blobs.iter().copied().chain([&manifest[..], &config[..]]) {
        let mut back = Vec::new();
        store.open_unverified(&Digest::sha256_of(blob)).unwrap().read_to_end(&mut back).unwrap();
        assert_eq!(back, blob);
    }
    let report = verify(&store, 1, &Silent).expect("no server is asked");
    assert!(report.is_sound(), "{:?}", report.problems);
}
