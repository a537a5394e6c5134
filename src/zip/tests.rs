//! Archives as a whole: ZIP64, several parts, and contents that are not what the directory declares.

use std::fs::File;
use std::io::Write as _;

use testkit::scratch::Scratch;
use testkit::zipfile::{ZipEntry, crc32, zip};

use super::*;

fn open(bytes: &[u8]) -> Result<Archive, ZipError> {
    let scratch = Scratch::new("zip-archive");
    Archive::open(File::open(scratch.write("a.zip", bytes)).unwrap())
}

/// The error of reading the first entry to its end.
fn reading(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let archive = open(bytes).map_err(|error| error.to_string())?;
    let read = || {
        let mut reader = archive.open_entry(&archive.entries()[0])?;
        let mut content = Vec::new();
        let mut buffer = [0; 3];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
        reader.finish()?;
        Ok::<_, ZipError>(content)
    };
    read().map_err(|error| error.to_string())
}

fn deflated(content: &[u8]) -> ZipEntry {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    let data = encoder.finish().unwrap();
    let plain = ZipEntry::file("f", content);
    ZipEntry { compressed: u32::try_from(data.len()).unwrap(), data, method: 8, ..plain }
}

/// The same archive with a ZIP64 end record and its locator in front of the end record, `gap` bytes too early.
fn with_end64(plain: &[u8], gap: usize) -> Vec<u8> {
    let (front, end) = plain.split_at(plain.len() - 22);
    let number = |at: usize| u64::from(u32::from_le_bytes(end[at..at + 4].try_into().unwrap()));
    let count = u64::from(u16::from_le_bytes(end[10..12].try_into().unwrap()));
    let mut out = front.to_vec();
    let start = (out.len() - gap) as u64;
    out.extend(0x0606_4b50_u32.to_le_bytes());
    out.extend(44_u64.to_le_bytes());
    out.extend([45, 0, 45, 0]);
    out.extend([0; 8]);
    for value in [count, count, number(12), number(16)] {
        out.extend(value.to_le_bytes());
    }
    out.extend(0x0706_4b50_u32.to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    // What does not fit there is all ones.
    out.extend(&end[..8]);
    out.extend([0xff; 12]);
    out.extend(&end[20..]);
    out
}

#[test]
fn the_end_record_of_zip64_takes_the_place_of_the_other() {
    let plain = zip(&[ZipEntry::file("a", "one"), ZipEntry::file("b", "two")]);
    for (bytes, what) in [
        (with_end64(&plain, 0), "plain"),
        ([b"#!/bin/sh\n".to_vec(), with_end64(&plain, 0)].concat(), "with bytes in front"),
    ] {
        let archive = open(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(archive.entries().len(), 2, "{what}");
        assert_eq!(
            archive.open_entry(&archive.entries()[1]).unwrap().read_whole(3).unwrap().unwrap(),
            b"two"
        );
    }
    // The locator points elsewhere, but the record is where it belongs.
    assert_eq!(open(&with_end64(&plain, 8)).unwrap().entries().len(), 2);
    let mut lost = with_end64(&plain, 0);
    let record = lost.len() - 22 - 20 - 56;
    lost[record] = b'X';
    let error = open(&lost).unwrap_err().to_string();
    assert_eq!(error, "is damaged: its ZIP64 end record is not where it should be");
}

#[test]
fn sizes_that_do_not_fit_come_from_the_zip64_field() {
    let content = b"data";
    let wide = [&[1, 0, 16, 0][..], &4_u64.to_le_bytes(), &4_u64.to_le_bytes()].concat();
    let entry =
        ZipEntry { size: u32::MAX, compressed: u32::MAX, extra: wide, ..ZipEntry::file("f", content) };
    assert_eq!(reading(&zip(std::slice::from_ref(&entry))).unwrap(), content);
    // Only the size did not fit; the field begins with it.
    let one = [&[1, 0, 8, 0][..], &4_u64.to_le_bytes()].concat();
    let entry = ZipEntry { compressed: 4, extra: one, ..entry };
    assert_eq!(reading(&zip(std::slice::from_ref(&entry))).unwrap(), content);
    let cut = ZipEntry { extra: vec![1, 0, 8, 0, 4], ..entry };
    assert!(reading(&zip(&[cut])).unwrap_err().contains("but declares 4294967295"));
}

#[test]
fn an_archive_that_contradicts_itself_is_damaged() {
    let plain = zip(&[ZipEntry::file("f", "data")]);
    let end = plain.len() - 22;
    let changed = |at: usize, value: u8| {
        let mut bytes = plain.clone();
        bytes[end + at] = value;
        open(&bytes).unwrap_err().to_string()
    };
    let parts = "is damaged: it is one part of an archive in several parts";
    assert_eq!(changed(4, 1), parts, "this part is not the first");
    assert_eq!(changed(6, 1), parts, "the directory begins in another part");
    assert_eq!(changed(8, 2), parts, "the parts have other numbers of entries");
    assert!(changed(15, 1).contains("does not end at"), "a directory larger than the file");
    assert!(changed(18, 1).contains("does not end at"), "a directory after its end");
    let mut more = plain.clone();
    more[end + 8] = 2;
    more[end + 10] = 2;
    assert!(open(&more).is_err(), "an entry too many is declared");
    let mut none = plain.clone();
    let directory = end - 46 - 1;
    none[directory] = b'X';
    assert_eq!(
        open(&none).unwrap_err().to_string(),
        "is damaged: entry 1 of its central directory is not one"
    );
    // 40 bytes are too few for an entry, independent of the declared count.
    let many = ZipError::TooMany { found: 70_000_000, limit: 1 };
    assert_eq!(many.to_string(), "has 70000000 entries, at most 1 are accepted");
}

#[test]
fn a_content_is_what_the_directory_declares_or_an_error() {
    let text = b"text ".repeat(40);
    let good = deflated(&text);
    assert_eq!(reading(&zip(std::slice::from_ref(&good))).unwrap(), text);
    assert_eq!(reading(&zip(&[ZipEntry::file("f", &text)])).unwrap(), text);
    for (entry, expected) in [
        (ZipEntry { size: 199, ..good.clone() }, "unpacks to more than the 199 bytes it declares"),
        (ZipEntry { size: 201, ..good.clone() }, "unpacks to 200 bytes, but declares 201"),
        (ZipEntry { crc: crc32(b"other"), ..good.clone() }, "checksum"),
        (ZipEntry { data: vec![0xff; good.data.len()], ..good.clone() }, "cannot be unpacked"),
        (
            ZipEntry {
                data: [good.data.clone(), vec![0; 5]].concat(),
                compressed: good.compressed + 5,
                ..good.clone()
            },
            "5 bytes",
        ),
        (ZipEntry { local_name: b"g".to_vec(), ..good.clone() }, "name"),
    ] {
        let error = reading(&zip(&[entry])).unwrap_err();
        assert!(error.starts_with("entry `f` ") && error.contains(expected), "{expected}: {error}");
    }
    let bytes = zip(&[good]);
    for (at, what) in [(0, "signature"), (8, "compression method")] {
        let mut changed = bytes.clone();
        changed[at] ^= 0x0f;
        let error = reading(&changed).unwrap_err();
        assert!(error.contains(what), "{what}: {error}");
    }
}

#[test]
fn methods_that_cannot_be_read_are_named() {
    for (method, name) in [(12, "bzip2"), (14, "lzma"), (93, "zstd"), (95, "xz"), (98, "ppmd")] {
        let entry = ZipEntry { method, ..ZipEntry::file("f", "data") };
        let error = open(&zip(&[entry])).unwrap_err().to_string();
        assert_eq!(error, format!("entry `f` is compressed with {name}, expected stored or deflate"));
    }
}

#[test]
fn a_folder_is_known_by_its_mode_or_by_its_slash() {
    let entries = [ZipEntry::file("by-mode", "").mode(0o040_750), ZipEntry::file("by-slash/", "").fat()];
    let archive = open(&zip(&entries)).unwrap();
    let found: Vec<_> = archive.entries().iter().map(|entry| (entry.kind, entry.mode)).collect();
    assert_eq!(found, [(EntryKind::Directory, Some(0o750)), (EntryKind::Directory, None)]);
}
