//! Makes a zip record by record, also an invalid one; written from PKWARE's APPNOTE 6.3.10. Contents are stored.

/// One entry; a test sets wrong values before it adds the entry.
#[derive(Debug, Clone)]
pub struct ZipEntry {
    /// Name in the central directory.
    pub name: Vec<u8>,
    /// Name in the local header.
    pub local_name: Vec<u8>,
    /// Bytes in the archive.
    pub data: Vec<u8>,
    /// Size the directory declares.
    pub size: u32,
    /// Size in the archive that the directory declares.
    pub compressed: u32,
    /// Checksum the directory declares.
    pub crc: u32,
    /// Compression method.
    pub method: u16,
    /// General purpose flags.
    pub flags: u16,
    /// Host in the upper byte of `version made by`: 0 FAT, 3 Unix.
    pub host: u8,
    /// External attributes.
    pub attributes: u32,
    /// Extra fields of the central directory.
    pub extra: Vec<u8>,
    /// Point at this entry's content instead of writing it.
    pub shares: Option<usize>,
}

impl ZipEntry {
    /// An ordinary file made on Unix with mode 0644.
    pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref().to_vec();
        let size = u32::try_from(data.len()).expect("small");
        Self {
            name: name.as_ref().to_vec(),
            local_name: name.as_ref().to_vec(),
            size,
            compressed: size,
            crc: crc32(&data),
            data,
            method: 0,
            flags: 0,
            host: 3,
            attributes: 0o100_644 << 16,
            extra: Vec::new(),
            shares: None,
        }
    }

    /// A folder; the name should end in `/`.
    pub fn folder(name: &str) -> Self {
        Self { attributes: 0o040_755 << 16, ..Self::file(name, "") }
    }

    /// A symbolic link.
    pub fn symlink(name: &str, target: &str) -> Self {
        Self { attributes: 0o120_777 << 16, ..Self::file(name, target) }
    }

    /// The same entry with a Unix mode, kind included.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { attributes: mode << 16, ..self }
    }

    /// The same entry as DOS or Windows would have made it.
    #[must_use]
    pub fn fat(self) -> Self {
        Self { host: 0, attributes: 0x20, ..self }
    }
}

/// Writes an archive of these entries.
pub fn zip(entries: &[ZipEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut offsets = Vec::new();
    for entry in entries {
        if let Some(other) = entry.shares {
            offsets.push(offsets[other]);
            continue;
        }
        offsets.push(out.len());
        out.extend(0x0403_4b50_u32.to_le_bytes());
        for value in [20, entry.flags, entry.method, 0, 0x21] {
            out.extend(value.to_le_bytes());
        }
        for value in [entry.crc, entry.compressed, entry.size] {
            out.extend(value.to_le_bytes());
        }
        out.extend(length(&entry.local_name).to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.extend(&entry.local_name);
        out.extend(&entry.data);
    }
    let start = out.len();
    for (entry, offset) in entries.iter().zip(offsets) {
        out.extend(0x0201_4b50_u32.to_le_bytes());
        out.extend([20, entry.host]);
        for value in [20, entry.flags, entry.method, 0, 0x21] {
            out.extend(value.to_le_bytes());
        }
        for value in [entry.crc, entry.compressed, entry.size] {
            out.extend(value.to_le_bytes());
        }
        for value in [length(&entry.name), length(&entry.extra), 0, 0, 0] {
            out.extend(value.to_le_bytes());
        }
        out.extend(entry.attributes.to_le_bytes());
        out.extend(u32::try_from(offset).expect("small").to_le_bytes());
        out.extend(&entry.name);
        out.extend(&entry.extra);
    }
    let size = out.len() - start;
    let count = u16::try_from(entries.len()).expect("few");
    out.extend(0x0605_4b50_u32.to_le_bytes());
    for value in [0, 0, count, count] {
        out.extend(value.to_le_bytes());
    }
    for value in [size, start] {
        out.extend(u32::try_from(value).expect("small").to_le_bytes());
    }
    out.extend(0_u16.to_le_bytes());
    out
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("short")
}

/// CRC-32 as zip and gzip use it, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use crate::tools::{run, tool};

    #[test]
    fn other_programs_read_what_is_written() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let scratch = Scratch::new("zipfile");
        let entries = [ZipEntry::folder("d/"), ZipEntry::file("d/a", "hello"), ZipEntry::file("b", "").fat()];
        let path = scratch.write("a.zip", zip(&entries));
        let ran = run(tool("python3").args(["-m", "zipfile", "-t"]).arg(&path)).success();
        assert!(ran.stdout.contains("Done testing") && !ran.stdout.contains("corrupted"), "{ran:?}");
    }
}
