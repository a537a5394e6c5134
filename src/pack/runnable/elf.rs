//! What the first bytes of a program say: its machine, and the dynamic loader that it asks for.
//!
//! A hint for warnings, never a reason to refuse: what cannot be read is no program. Source: System V ABI, "Object
//! Files" and "Program Header"; the numbers of machines are those of `elf.h`.

/// Bytes at the beginning of a file in which program headers and the loader's name are looked for.
///
/// Linkers put both into the first page.
const HEAD: usize = 4096;
const PT_INTERP: u64 = 3;

/// What is known of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Architecture in Go's names; none for a machine that is not in the list.
    pub architecture: Option<&'static str>,
    /// Path of the dynamic loader; none for static programs and for libraries.
    pub loader: Option<Vec<u8>>,
}

impl Elf {
    /// Reads the beginning of a file; `None` if it is no ELF file.
    pub fn read<E>(mut read: impl FnMut(&mut [u8]) -> Result<usize, E>) -> Result<Option<Self>, E> {
        let mut head = vec![0; HEAD];
        let mut filled = 0;
        // For most files the first read is enough.
        while filled < HEAD {
            let count = read(head.get_mut(filled..).unwrap_or_default())?;
            filled += count;
            if count == 0 || (filled >= 4 && !head.starts_with(b"\x7fELF")) {
                break;
            }
        }
        head.truncate(filled);
        Ok(Self::parse(&head))
    }

    /// Reads the beginning of a file that is in memory.
    #[must_use]
    pub fn parse(head: &[u8]) -> Option<Self> {
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let wide = *head.get(4)? == 2;
        let little = *head.get(5)? == 1;
        let fields = Fields { head, little };
        let machine = fields.number(18, 2)?;
        let architecture = match (machine, wide, little) {
            (3, ..) => Some("386"),
            (8, true, true) => Some("mips64le"),
            (8, true, false) => Some("mips64"),
            (8, false, true) => Some("mipsle"),
            (8, false, false) => Some("mips"),
            (21, _, true) => Some("ppc64le"),
            (21, _, false) => Some("ppc64"),
            (22, ..) => Some("s390x"),
            (40, ..) => Some("arm"),
            (62, ..) => Some("amd64"),
            (183, ..) => Some("arm64"),
            (243, true, _) => Some("riscv64"),
            (258, ..) => Some("loong64"),
            _ => None,
        };
        Some(Self { architecture, loader: fields.loader(wide) })
    }
}

struct Fields<'a> {
    head: &'a [u8],
    little: bool,
}

impl Fields<'_> {
    fn number(&self, at: u64, width: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.head.get(at..at.checked_add(width)?)?;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    }

    fn loader(&self, wide: bool) -> Option<Vec<u8>> {
        let (start, entry_size, count) = if wide {
            (self.number(32, 8)?, self.number(54, 2)?, self.number(56, 2)?)
        } else {
            (self.number(28, 4)?, self.number(42, 2)?, self.number(44, 2)?)
        };
        for index in 0..count {
            let header = start.checked_add(index * entry_size)?;
            if self.number(header, 4)? != PT_INTERP {
                continue;
            }
            let (offset, size) = if wide {
                (self.number(header.checked_add(8)?, 8)?, self.number(header.checked_add(32)?, 8)?)
            } else {
                (self.number(header.checked_add(4)?, 4)?, self.number(header.checked_add(16)?, 4)?)
            };
            let (offset, size) = (usize::try_from(offset).ok()?, usize::try_from(size).ok()?);
            let text = self.head.get(offset..offset.checked_add(size)?)?;
            let text = text.split(|byte| *byte == 0).next()?;
            return Some(text.to_vec()).filter(|text| text.starts_with(b"/"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a program of 64 bits, little endian, with one program header.
    fn program(machine: u8, kind: u8, loader: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 120];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18] = machine;
        head[32] = 64;
        head[54] = 56;
        head[56] = 1;
        head[64] = kind;
        head[72] = 120;
        head[96] = u8::try_from(loader.len()).unwrap();
        head.extend_from_slice(loader);
        head
    }

    #[test]
    fn machine_and_loader_are_read() {
        let read = |head: &[u8]| Elf::parse(head);
        let elf = |architecture, loader: Option<&[u8]>| {
            Some(Elf { architecture, loader: loader.map(<[u8]>::to_vec) })
        };
        let glibc = b"/lib64/ld-linux-x86-64.so.2";
        assert_eq!(read(&program(62, 3, b"/lib64/ld-linux-x86-64.so.2\0")), elf(Some("amd64"), Some(glibc)));
        assert_eq!(read(&program(183, 1, b"")), elf(Some("arm64"), None));
        assert_eq!(read(&program(1, 3, b"no path\0")), elf(None, None));
        let mut big = vec![0; 52];
        big[..6].copy_from_slice(b"\x7fELF\x01\x02");
        big[19] = 8;
        assert_eq!(read(&big), elf(Some("mips"), None));
    }

    #[test]
    fn what_is_cut_or_no_program_is_none() {
        let whole = program(62, 3, b"/lib/ld\0");
        for end in 0..20 {
            assert_eq!(Elf::parse(&whole[..end]), None, "{end}");
        }
        for end in 20..whole.len() {
            assert_eq!(Elf::parse(&whole[..end]).unwrap().loader, None, "{end}");
        }
        assert_eq!(Elf::parse(b"#!/bin/sh\n"), None);
        let mut endless = program(62, 1, b"");
        endless[56..58].copy_from_slice(&[255, 255]);
        assert_eq!(Elf::parse(&endless).unwrap().loader, None);
    }

    #[test]
    fn a_text_is_read_no_further_than_its_first_bytes() {
        let mut calls = 0;
        let found = Elf::read(|space| {
            calls += 1;
            space[..5].copy_from_slice(b"hello");
            Ok::<_, ()>(5)
        });
        assert_eq!((found, calls), (Ok(None), 1));
    }

    /// Makes the first 64 bytes of a program for a machine, of 64 or 32 bits, little or big endian.
    fn start(machine: u16, wide: bool, little: bool) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..4].copy_from_slice(b"\x7fELF");
        head[4] = if wide { 2 } else { 1 };
        head[5] = if little { 1 } else { 2 };
        head[18..20].copy_from_slice(&if little { machine.to_le_bytes() } else { machine.to_be_bytes() });
        head
    }

    #[test]
    fn machines_have_gos_names() {
        for (machine, wide, little, expected) in [
            (2, false, false, None),
            (3, false, true, Some("386")),
            (8, true, true, Some("mips64le")),
            (8, true, false, Some("mips64")),
            (8, false, true, Some("mipsle")),
            (8, false, false, Some("mips")),
            (21, true, true, Some("ppc64le")),
            (21, true, false, Some("ppc64")),
            (22, true, false, Some("s390x")),
            (40, false, true, Some("arm")),
            (62, true, true, Some("amd64")),
            (183, true, true, Some("arm64")),
            (243, true, true, Some("riscv64")),
            (243, false, true, None),
            (258, true, true, Some("loong64")),
        ] {
            let found = Elf::parse(&start(machine, wide, little)).unwrap();
            assert_eq!(found, Elf { architecture: expected, loader: None }, "{machine} {wide} {little}");
        }
    }

    #[test]
    fn the_loader_of_a_program_of_32_bits_is_found_behind_other_headers() {
        let mut head = start(8, false, false);
        // Two headers of 32 bytes begin at 52; the second names 12 bytes at 256.
        head.resize(256, 0);
        (head[31], head[43], head[45]) = (52, 32, 2);
        head[55] = 1;
        (head[87], head[90], head[103]) = (3, 1, 12);
        head.extend_from_slice(b"/lib/ld.so.1 and more");
        let found = Elf::parse(&head).unwrap();
        assert_eq!(found, Elf { architecture: Some("mips"), loader: Some(b"/lib/ld.so.1".to_vec()) });
    }

    /// Reads a file that gives `step` bytes at a time; returns the number of reads too.
    fn read_in_steps(bytes: &[u8], step: usize) -> (Option<Elf>, usize) {
        let (mut rest, mut reads) = (bytes, 0);
        let found = Elf::read(|space| {
            reads += 1;
            let count = step.min(space.len()).min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            Ok::<_, ()>(count)
        });
        (found.unwrap(), reads)
    }

    #[test]
    fn a_program_is_read_to_its_end_or_to_the_end_of_its_first_page() {
        let short = program(62, 3, b"/lib/ld\0");
        let mut long = short.clone();
        long.resize(10_000, 0);
        let elf = Elf::parse(&short);
        for (bytes, step, reads) in [(&short, 1, 129), (&short, 50, 4), (&long, 1000, 5), (&long, 4096, 1)] {
            assert_eq!(read_in_steps(bytes, step), (elf.clone(), reads), "{step} bytes at a time");
        }
        assert_eq!(read_in_steps(b"a longer text", 2), (None, 2), "four bytes tell that it is no program");
        assert_eq!(read_in_steps(b"\x7fE", 2), (None, 2));
    }
}
