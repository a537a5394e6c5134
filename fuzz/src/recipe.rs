//! Tars made from arbitrary bytes: few bytes choose names and kinds, so that most inputs are archives with a point.

use testkit::tarball::{Header, Tarball, seal};

/// Bytes that are read one by one; zeros when there are no more.
#[derive(Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Begins at the first.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Returns the next.
    pub fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn pick<'b>(&mut self, from: &[&'b [u8]]) -> &'b [u8] {
        from[usize::from(self.next()) % from.len()]
    }
}

/// Parts of names that have a meaning to some extractor.
const PARTS: [&[u8]; 28] = [
    b"a",
    b"b",
    b"c",
    b"A",
    b"..",
    b".",
    b"",
    b"outside",
    b"victim",
    b"dir",
    b"root",
    b"inner",
    b".wh.a",
    b".wh.b",
    b".wh.victim",
    b".wh..wh..opq",
    b".wh...",
    b".wh..",
    b".wh.",
    b".wh..wh.a",
    b"a\\..\\b",
    b"C:",
    b"\xff\xfe",
    b"a\nb",
    b"\x1b[31m",
    b"%2e%2e",
    b"\xc3\xa9",
    b"con",
];

fn name(bytes: &mut Bytes<'_>, absolute: &[u8]) -> Vec<u8> {
    let shape = bytes.next();
    let mut parts: Vec<&[u8]> = Vec::new();
    match shape >> 5 {
        0 => parts.push(absolute),
        1 => parts.push(b""),
        2 => parts.push(b".."),
        _ => {}
    }
    for _ in 0..=(shape & 3) {
        parts.push(bytes.pick(&PARTS));
    }
    if shape & 4 != 0 {
        parts.push(b"");
    }
    let name = parts.join(&b'/');
    if name.is_empty() { b"a".to_vec() } else { name }
}

/// A header whose name does not fit goes without the rest of it.
fn header(name: &[u8], flag: u8, size: u64) -> Header {
    Header::new(&name[..name.len().min(100)], flag, size)
}

/// Makes layers, lowest first; `absolute` is where an attack would go.
#[must_use]
pub fn layers(data: &[u8], absolute: &[u8]) -> Vec<Vec<u8>> {
    const ENTRIES: usize = 40;
    let mut bytes = Bytes::new(data);
    let mut layers = Vec::new();
    let mut tar = Tarball::new();
    for _ in 0..ENTRIES {
        if bytes.is_empty() {
            break;
        }
        let what = bytes.next();
        let path = name(&mut bytes, absolute);
        let mode = [0o644, 0o755, 0o000, 0o4755, 0o1777, 0o111, 0o2070, 0o400][usize::from(bytes.next() & 7)];
        let link = |bytes: &mut Bytes<'_>| {
            let mut link = name(bytes, absolute);
            link.truncate(100);
            link
        };
        tar = match what % 14 {
            0..=2 => tar.entry(&header(&path, b'0', 4).mode(mode), b"evil"),
            3 | 4 => tar.entry(&header(&path, b'5', 0).mode(mode), b""),
            5 | 6 => {
                let to = link(&mut bytes);
                tar.entry(&header(&path, b'2', 0).link(to), b"")
            }
            7 | 8 => {
                let to = link(&mut bytes);
                tar.entry(&header(&path, b'1', 0).link(to).mode(mode), b"")
            }
            9 => tar.pax(&[("path", &path)]).entry(&Header::new("ok", b'0', 4).mode(mode), b"evil"),
            10 => {
                let to = link(&mut bytes);
                tar.pax(&[("linkpath", &to), ("path", &path)])
                    .entry(&Header::new("ok", b'2', 0).link("x"), b"")
            }
            11 => {
                let flag = if what & 0x80 == 0 { b'L' } else { b'K' };
                tar.gnu_long(flag, &path).entry(&header(&path, b'1', 0).link("a"), b"")
            }
            12 => {
                let flag = b"346703SgLKVMDx"[usize::from(bytes.next()) % 14];
                tar.entry(&header(&path, flag, u64::from(bytes.next())).link("a"), b"data")
            }
            _ => {
                layers.push(tar.finish());
                Tarball::new()
            }
        };
    }
    layers.push(tar.finish());
    layers
}

/// Gives every header its right checksum, so that changes of its fields are seen by what reads them.
#[must_use]
pub fn sealed(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512) {
        let block: &mut [u8; 512] = block.try_into().expect("a block has 512 bytes");
        if block.iter().all(|byte| *byte == 0) {
            at += 512;
            continue;
        }
        seal(block);
        let digits = block[124..135].iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
        let size = digits.fold(0_usize, |size, byte| size.saturating_mul(8) + usize::from(byte - b'0'));
        let has_data = !matches!(block[156], b'1'..=b'6');
        at = at.saturating_add(512).saturating_add(if has_data {
            size.div_ceil(512).saturating_mul(512)
        } else {
            0
        });
    }
    tar
}
