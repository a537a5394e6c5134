//! Compressed layers that readers could read differently: skopeo (Go: pgzip, klauspost/compress) reads the same, or
//! this program refuses them. The table is `docs/formats/compressed-layers.md`.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use testkit::scratch::Scratch;
use testkit::tarball::Tarball;
use testkit::tools::{run, tool};

use crate::lab::lab;
use crate::layouts::{CONFIG, LAYER_GZIP, Layout, MANIFEST, REF_NAME, gzip, hex, named};

const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// The result of reading a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    /// The tar with this `diff_id`.
    Whole,
    Refused,
    /// The compression was not recognised, and the bytes are the stored ones.
    AsIs,
    /// Only the beginning of the tar was read, without an error.
    Part,
}

use Reading::{AsIs, Part, Refused, Whole};

/// A gzip member with a given header.
fn member(bytes: &[u8], flags: u8, fields: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
    out.extend(fields);
    let mut encoder = flate2::write::DeflateEncoder::new(&mut out, flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    out.extend(crc.sum().to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd_with(bytes, &[])
}

fn zstd_with(bytes: &[u8], options: &[&str]) -> Vec<u8> {
    let scratch = Scratch::new("zstd-layer");
    let path = scratch.write("tar", bytes);
    let out = scratch.join("tar.zst");
    let _ = run(tool("zstd").args(["-q", "-f"]).args(options).arg(&path).arg("-o").arg(&out)).success();
    std::fs::read(out).unwrap()
}

/// A skippable frame (RFC 8878 3.1.2).
fn skippable(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[0x50 | kind, 0x2a, 0x4d, 0x18], &length[..], bytes].concat()
}

fn changed(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    bytes
}

/// Each form of the tar, what skopeo reads, and what this program reads.
fn forms(tar: &[u8]) -> Vec<(&'static str, &'static str, Vec<u8>, Reading, Reading)> {
    let (one, two) = tar.split_at(700);
    let whole = gzip(tar);
    let frame = zstd(tar);
    let header_crc = {
        let mut crc = flate2::Crc::new();
        crc.update(&[0x1f, 0x8b, 8, 2, 0, 0, 0, 0, 0, 255]);
        crc.sum().to_le_bytes()
    };
    vec![
        ("gzip, one member", LAYER_GZIP, whole.clone(), Whole, Whole),
        ("gzip, two members", LAYER_GZIP, [gzip(one), gzip(two)].concat(), Whole, Whole),
        ("gzip, an empty member first", LAYER_GZIP, [gzip(b""), whole.clone()].concat(), Whole, Whole),
        ("gzip, an empty member last", LAYER_GZIP, [whole.clone(), gzip(b"")].concat(), Whole, Whole),
        ("gzip, zero bytes after it", LAYER_GZIP, [&whole[..], &[0; 512]].concat(), Refused, Refused),
        ("gzip, other bytes after it", LAYER_GZIP, [&whole[..], b"more"].concat(), Refused, Refused),
        ("gzip, half a header after it", LAYER_GZIP, [&whole[..], &whole[..5]].concat(), Refused, Refused),
        ("gzip, cut in the trailer", LAYER_GZIP, whole[..whole.len() - 1].to_vec(), Refused, Refused),
        ("gzip, cut in the data", LAYER_GZIP, whole[..whole.len() / 2].to_vec(), Part, Refused),
        ("gzip, wrong CRC-32", LAYER_GZIP, changed(whole.clone(), 8), Refused, Refused),
        ("gzip, wrong size in the trailer", LAYER_GZIP, changed(whole.clone(), 4), Refused, Refused),
        (
            "gzip, with a name and a comment",
            LAYER_GZIP,
            member(tar, 0x18, b"layer.tar\0text\0"),
            Whole,
            Whole,
        ),
        ("gzip, with an extra field", LAYER_GZIP, member(tar, 4, b"\x06\0AB\x02\0xy"), Whole, Whole),
        ("gzip, with a right header CRC", LAYER_GZIP, member(tar, 2, &header_crc[..2]), Whole, Whole),
        ("gzip, with a wrong header CRC", LAYER_GZIP, member(tar, 2, b"\x12\x34"), Refused, Refused),
        ("gzip, with reserved flags", LAYER_GZIP, member(tar, 0x20, b""), Whole, Refused),
        ("zstd, one frame", LAYER_ZSTD, frame.clone(), Whole, Whole),
        ("zstd, two frames", LAYER_ZSTD, [zstd(one), zstd(two)].concat(), Whole, Whole),
        ("zstd, an empty frame last", LAYER_ZSTD, [frame.clone(), zstd(b"")].concat(), Whole, Whole),
        (
            "zstd, a skippable frame first",
            LAYER_ZSTD,
            [skippable(0, b"x"), frame.clone()].concat(),
            AsIs,
            Whole,
        ),
        (
            "zstd, skippable frames between and last",
            LAYER_ZSTD,
            [zstd(one), skippable(15, b""), zstd(two), skippable(10, b"table of contents")].concat(),
            Whole,
            Whole,
        ),
        ("zstd, skippable frames alone", LAYER_ZSTD, skippable(3, tar), AsIs, Refused),
        (
            "zstd, a skippable frame that is cut",
            LAYER_ZSTD,
            [&frame[..], &skippable(0, b"four")[..9]].concat(),
            Refused,
            Refused,
        ),
        ("zstd, zero bytes after it", LAYER_ZSTD, [&frame[..], &[0; 512]].concat(), Refused, Refused),
        ("zstd, other bytes after it", LAYER_ZSTD, [&frame[..], b"more"].concat(), Refused, Refused),
        ("zstd, cut in the data", LAYER_ZSTD, frame[..frame.len() - 6].to_vec(), Refused, Refused),
        ("zstd, without its size", LAYER_ZSTD, zstd_with(tar, &["--no-content-size"]), Whole, Whole),
        ("zstd, without a checksum", LAYER_ZSTD, zstd_with(tar, &["--no-check"]), Whole, Whole),
        ("zstd, wrong checksum", LAYER_ZSTD, changed(frame.clone(), 1), Refused, Refused),
        ("gzip after zstd", LAYER_ZSTD, [zstd(one), gzip(two)].concat(), Refused, Refused),
        ("zstd after gzip", LAYER_GZIP, [gzip(one), zstd(two)].concat(), Refused, Refused),
        ("zstd, announced as gzip", LAYER_GZIP, frame, Whole, Whole),
        ("gzip, announced as zstd", LAYER_ZSTD, whole, Whole, Whole),
        ("not compressed, announced as gzip", LAYER_GZIP, tar.to_vec(), Whole, Whole),
        ("no bytes at all", LAYER_GZIP, Vec::new(), AsIs, Refused),
    ]
}

#[test]
fn compressed_layers_are_read_as_skopeo_reads_them_or_refused() {
    let tar = Tarball::new().file("hello", "hello\n").finish();
    let mut table = "| layer | skopeo | here |\n|---|---|---|\n".to_owned();
    let mut wrong = Vec::new();
    for (form, media_type, bytes, skopeo, here) in forms(&tar) {
        let mut layout = Layout::default();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&tar))]}});
        let config = layout.blob(CONFIG, config.to_string());
        let layer = layout.blob(media_type, bytes.clone());
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = layout.blob(MANIFEST, manifest.to_string());
        layout.entries.push(named(manifest, &[(REF_NAME, "v1")]));
        let lab = lab();
        lab.write("in.tar", layout.tar());
        let pulled = lab.run(&["pull", "-q", "--tar", "in.tar", "-o", "out"]);
        let found = match pulled.code {
            Some(0) => Whole,
            _ => Refused,
        };
        assert_eq!(lab.path("out/hello").exists(), found == Whole, "{form}: {pulled}");
        let theirs = by_skopeo(&lab.path("in.tar"), &bytes, &tar);
        if (found, theirs) != (here, skopeo) {
            wrong.push(format!("{form}: here {found:?}, skopeo {theirs:?}\n{}", pulled.stderr));
        }
        let word = |reading| match reading {
            Whole => "read",
            Refused => "refused",
            AsIs => "not recognised as compressed",
            Part => "its beginning only, without an error",
        };
        table += &format!("| {form} | {} | {} |\n", word(skopeo), word(here));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats/compressed-layers.md"));
    assert!(page.unwrap().contains(&table), "docs/formats/compressed-layers.md lacks this table:\n{table}");
}

/// Decompresses a layer with skopeo, and returns the result.
fn by_skopeo(layout: &Path, stored: &[u8], tar: &[u8]) -> Reading {
    let scratch = Scratch::new("skopeo-layers");
    let to = scratch.join("dir");
    let mut command = tool("skopeo");
    command.args(["--insecure-policy", "copy", "-q", "--dest-decompress"]);
    command.arg(format!("oci-archive:{}:v1", layout.display())).arg(format!("dir:{}", to.display()));
    let ran = run(command.env("TMPDIR", scratch.path()));
    if ran.code != Some(0) || !to.is_dir() {
        return Refused;
    }
    let files: Vec<Vec<u8>> =
        std::fs::read_dir(&to).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    match (files.iter().any(|file| file == tar), files.iter().any(|file| file == stored)) {
        (true, _) => Whole,
        (_, true) => AsIs,
        _ if files.iter().any(|file| !file.is_empty() && tar.starts_with(file)) => Part,
        _ => panic!("skopeo found another layer of {} bytes: {ran:?}\n{files:?}", stored.len()),
    }
}
