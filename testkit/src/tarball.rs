//! Makes a tar entry by entry, also an invalid one; written from POSIX ustar and the GNU tar manual.

/// Fields of one header; a field that is not set has a valid value.
#[derive(Clone, Debug)]
pub struct Header {
    /// Name field, at most 100 bytes.
    pub name: Vec<u8>,
    /// Type flag.
    pub flag: u8,
    /// Mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size field.
    pub size: u64,
    /// Link name field.
    pub link: Vec<u8>,
    /// Magic and version, 8 bytes.
    pub magic: [u8; 8],
    /// Prefix field (offset 345).
    pub prefix: Vec<u8>,
}

impl Header {
    /// Starts a ustar header.
    #[must_use]
    pub fn new(name: impl AsRef<[u8]>, flag: u8, size: u64) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            flag,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            link: Vec::new(),
            magic: *b"ustar\x0000",
            prefix: Vec::new(),
        }
    }

    /// Sets the link name.
    #[must_use]
    pub fn link(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    /// Sets the mode.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Returns the 512 bytes with the right checksum.
    #[must_use]
    pub fn block(&self) -> [u8; 512] {
        let mut block = [0_u8; 512];
        block[..self.name.len()].copy_from_slice(&self.name);
        block[100..107].copy_from_slice(format!("{:07o}", self.mode).as_bytes());
        block[108..115].copy_from_slice(format!("{:07o}", self.uid).as_bytes());
        block[116..123].copy_from_slice(format!("{:07o}", self.gid).as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", self.size).as_bytes());
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = self.flag;
        block[157..157 + self.link.len()].copy_from_slice(&self.link);
        block[257..265].copy_from_slice(&self.magic);
        block[345..345 + self.prefix.len()].copy_from_slice(&self.prefix);
        seal(&mut block);
        block
    }
}

/// Puts the right checksum into a header block.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A tar that is being made.
#[derive(Clone, Debug, Default)]
pub struct Tarball {
    bytes: Vec<u8>,
}

impl Tarball {
    /// Starts an empty tar.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header and data padded to 512 bytes; does not change the header's size.
    #[must_use]
    pub fn entry(mut self, header: &Header, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(&header.block());
        self.raw(data)
    }

    /// Adds bytes padded to 512.
    #[must_use]
    pub fn raw(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().div_ceil(512) * 512, 0);
        self
    }

    /// Adds a regular file; names over 100 bytes get a PAX header.
    #[must_use]
    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        let (name, data) = (name.as_ref(), data.as_ref());
        let short = &name[..name.len().min(100)];
        let tar = if name.len() > 100 { self.pax(&[("path", name)]) } else { self };
        tar.entry(&Header::new(short, b'0', data.len() as u64), data)
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(&Header::new(name, b'5', 0).mode(0o755), b"")
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(&Header::new(name, b'2', 0).link(target).mode(0o777), b"")
    }

    /// Adds a hard link.
    #[must_use]
    pub fn hardlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(&Header::new(name, b'1', 0).link(target), b"")
    }

    /// Adds a PAX header for the next entry.
    #[must_use]
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data = pax_records(records);
        self.entry(&Header::new("PaxHeaders.0/x", b'x', data.len() as u64), &data)
    }

    /// Adds a GNU long name (`L`) or long link (`K`) for the next entry.
    #[must_use]
    pub fn gnu_long(self, flag: u8, text: impl AsRef<[u8]>) -> Self {
        let data = [text.as_ref(), b"\0"].concat();
        let mut header = Header::new("././@LongLink", flag, data.len() as u64);
        header.magic = *b"ustar  \0";
        self.entry(&header, &data)
    }

    /// Returns the bytes with the two zero blocks at the end.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    /// Returns the bytes without an end mark.
    #[must_use]
    pub fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}

/// Writes PAX records, each with its own length in front.
#[must_use]
pub fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let bare = key.len() + value.len() + 3;
        let mut len = bare + bare.to_string().len();
        len = bare + len.to_string().len();
        out.extend_from_slice(format!("{len} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_themselves() {
        assert_eq!(pax_records(&[("path", b"a")]), b"9 path=a\n");
        let value = vec![b'x'; 90];
        let record = pax_records(&[("path", &value)]);
        assert!(record.starts_with(format!("{} path=", record.len()).as_bytes()));
    }
}
