//! The parts of DER that keys need: elements with definite lengths in their shortest form.
//!
//! Source: X.690 section 8 and 10.1. Does not interpret the elements.

/// Tag of SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// Tag of INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// Tag of OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// Tag of OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;

/// Bytes from which elements are read in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the tag of the next element.
    pub(super) fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes the next element, if it has this tag, and returns its contents.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.tag()? != tag {
            return None;
        }
        let first = usize::from(*self.0.get(1)?);
        let (length, start): (usize, usize) = match first {
            0..=0x7f => (first, 2),
            // Two length bytes are enough for the largest key file.
            0x81 => (usize::from(*self.0.get(2)?), 3),
            0x82 => (usize::from(*self.0.get(2)?) << 8 | usize::from(*self.0.get(3)?), 4),
            _ => return None,
        };
        let shortest = match start {
            2 => 0,
            3 => 0x80,
            _ => 0x100,
        };
        let contents = self.0.get(start..start.checked_add(length)?).filter(|_| length >= shortest)?;
        self.0 = self.0.get(start + length..)?;
        Some(contents)
    }

    /// Takes a SEQUENCE, and returns a reader of its elements.
    pub(super) fn sequence(&mut self) -> Option<Reader<'a>> {
        self.take(SEQUENCE).map(Reader)
    }

    /// Takes a BIT STRING of whole bytes.
    pub(super) fn bits(&mut self) -> Option<&'a [u8]> {
        self.take(BIT_STRING)?.strip_prefix(&[0])
    }

    /// Takes a positive INTEGER and returns its bytes without leading zeroes.
    pub(super) fn positive(&mut self) -> Option<&'a [u8]> {
        match self.take(INTEGER)? {
            [] | [0] | [0x80..=0xff, ..] | [0, 0..0x80, ..] => None,
            [0, rest @ ..] => Some(rest),
            bytes => Some(bytes),
        }
    }
}

/// Writes an element.
pub(super) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut out = vec![tag];
    // The keys that are written have less than 128 bytes.
    let [.., high, low] = length.to_be_bytes();
    match length {
        0..0x80 => out.push(low),
        0x80..0x100 => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend(contents);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_their_shortest_form_only() {
        let long = [&[0x04, 0x81, 0x80][..], &[7; 128]].concat();
        let longer = [&[0x04, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        for (bytes, expected) in [
            (&[0x04, 0x00][..], Some(0)),
            (&[0x04, 0x02, 1, 2], Some(2)),
            (&[0x04, 0x02, 1], None),
            (&[0x04, 0x81, 0x02, 1, 2], None),
            (&[0x04, 0x82, 0x00, 0x02, 1, 2], None),
            (&[0x04, 0x80, 0, 0], None),
            (&[0x04, 0x83, 0, 0, 1, 1], None),
            (&[0x04], None),
            (&[], None),
            (&[0x05, 0x00], None),
            (&long, Some(128)),
            (&longer, Some(256)),
        ] {
            let found = Reader::new(bytes).take(OCTET_STRING).map(<[u8]>::len);
            assert_eq!(found, expected, "{bytes:02x?}");
        }
        assert_eq!(element(OCTET_STRING, &[7; 128]), long);
        assert_eq!(element(OCTET_STRING, &[7; 256]), longer);
    }

    #[test]
    fn integers_are_positive_and_in_their_shortest_form() {
        for (bytes, expected) in [
            (&[0x02, 0x01, 0x03][..], Some(&[3][..])),
            (&[0x02, 0x02, 0x00, 0x80], Some(&[0x80])),
            (&[0x02, 0x01, 0x80], None),
            (&[0x02, 0x02, 0x00, 0x03], None),
            (&[0x02, 0x01, 0x00], None),
            (&[0x02, 0x00], None),
        ] {
            assert_eq!(Reader::new(bytes).positive(), expected, "{bytes:02x?}");
        }
    }
}
