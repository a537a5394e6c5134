//! Extended (PAX) headers: the records that override fields of the next header.
//!
//! Source: POSIX.1-2017 pax, "pax Extended Header"; GNU and Go behaviour where POSIX is silent.
//! Records on which readers disagree are refused instead of guessed: a scanner and a user could otherwise see
//! different contents in one tar.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::error::display_name;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What extended headers said about one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Parses the data of an extended header for one entry.
pub(super) fn parse(data: &[u8]) -> Result<Pax, String> {
    let mut pax = Pax::default();
    // Position of each attribute, so that a header with many of them is read in linear time.
    let mut attributes: HashMap<&[u8], usize> = HashMap::new();
    let mut seen: Vec<&[u8]> = Vec::new();
    for record in Records(data) {
        let (key, value) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") {
            if seen.contains(&key) {
                return Err(format!("the extended header sets `{}` twice", display_name(key)));
            }
            seen.push(key);
        }
        match key.strip_prefix(XATTR) {
            // Of two values for one attribute the last one counts, as in Go and GNU tar.
            Some(name) => match attributes.entry(name) {
                Entry::Occupied(known) => pax.xattrs[*known.get()].1 = value.to_vec(),
                Entry::Vacant(new) => {
                    new.insert(pax.xattrs.len());
                    pax.xattrs.push((name.to_vec(), value.to_vec()));
                }
            },
            None => apply(key, value, &mut pax)?,
        }
    }
    Ok(pax)
}

/// Checks an extended header for all entries that follow; nothing of it is used.
///
/// GNU tar and Python apply such records, Go and the tools built on it do not. So it may have records without
/// influence on what is extracted, such as the `comment` of `git archive`, and no others.
pub(super) fn check_global(data: &[u8]) -> Result<(), String> {
    for record in Records(data) {
        let (key, _) = record?;
        let used = matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime")
            || [XATTR, &b"LIBARCHIVE.xattr."[..], b"GNU.sparse."]
                .iter()
                .any(|prefix| key.starts_with(prefix));
        if used {
            let key = display_name(key);
            return Err(format!(
                "a global extended header sets `{key}`, which readers understand differently"
            ));
        }
    }
    Ok(())
}

/// The records of an extended header, as key and value.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = split_record(self.0).and_then(|(record, rest)| {
            self.0 = rest;
            key_and_value(record)
        });
        if split.is_err() {
            self.0 = &[];
        }
        Some(split)
    }
}

fn key_and_value(record: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let equals = record
        .iter()
        .position(|byte| *byte == b'=')
        .filter(|at| *at > 0)
        .ok_or_else(|| format!("extended header record `{}` has no `key=`", display_name(record)))?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.contains(&0) {
        return Err(format!("extended header key `{}` has a zero byte", display_name(key)));
    }
    Ok((key, value))
}

/// Splits `"<len> key=value\n"` off the front.
fn split_record(data: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let bad = || format!("extended header record at `{}` has no valid length", display_name(head(data, 32)));
    let space = data.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
    let len = decimal(&data[..space]).and_then(|len| usize::try_from(len).ok()).ok_or_else(bad)?;
    if len <= space + 1 || len > data.len() || data[len - 1] != b'\n' {
        return Err(bad());
    }
    Ok((&data[space + 1..len - 1], &data[len..]))
}

fn apply(key: &[u8], value: &[u8], known: &mut Pax) -> Result<(), String> {
    let number = || {
        let (key, value) = (display_name(key), display_name(head(value, 40)));
        format!("extended header has `{key}={value}`, expected a decimal number")
    };
    // An empty value is no number: for Go the plain header's field counts then, for Python it is zero.
    let integer = |value: &[u8]| decimal(value).map(Some).ok_or_else(number);
    match key {
        b"path" => known.path = text(key, value)?,
        b"linkpath" => known.link = text(key, value)?,
        b"size" => known.size = integer(value)?,
        b"uid" => known.uid = integer(value)?,
        b"gid" => known.gid = integer(value)?,
        b"mtime" => known.mtime = Some(seconds(value).ok_or_else(number)?),
        _ if key.starts_with(b"GNU.sparse.") => {
            return Err("the entry is a sparse file, which is not accepted".to_owned());
        }
        _ => {}
    }
    Ok(())
}

fn text(key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if value.contains(&0) {
        return Err(format!("extended header value of `{}` has a zero byte", display_name(key)));
    }
    Ok(if value.is_empty() { None } else { Some(value.to_vec()) })
}

fn head(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..most.min(bytes.len())]
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads `[-]seconds[.fraction]`, rounding towards minus infinity.
fn seconds(value: &[u8]) -> Option<i64> {
    let (negative, rest) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let more = fraction.iter().any(|digit| *digit != b'0');
    Some(if negative { -whole - i64::from(more) } else { whole })
}

#[cfg(test)]
mod tests {
    use testkit::tarball::pax_records;

    use super::*;

    #[test]
    fn records_are_read_with_binary_and_multi_line_values() {
        let records: [(&str, &[u8]); 4] = [
            ("path", b"a\nb"),
            ("size", b"1234"),
            ("mtime", b"-1.500000000"),
            ("SCHILY.xattr.user.x", b"\0=\n"),
        ];
        let pax = parse(&pax_records(&records)).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!((pax.size, pax.mtime), (Some(1234), Some(-2)));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"\0=\n".to_vec())]);
    }

    #[test]
    fn bad_records_are_refused_with_the_reason() {
        assert!(parse(b"9 path=a\n").is_ok(), "the neighbour of the bad lengths below");
        for (data, expected) in [
            (&b"path=a\n"[..], "no valid length"),
            (b"99 path=a\n", "no valid length"),
            (b"8 path=a\n", "no valid length"),
            (b"11 path=a\n", "no valid length"),
            (b"0 \n", "no valid length"),
            (b"2 \n", "no valid length"),
            (b"-9 path=a\n", "no valid length"),
            (b"99999999999999999999999 path=a\n", "no valid length"),
            (b"7 path\n", "no `key=`"),
            (b"5 =a\n", "no `key=`"),
            (b"11 path=a\0\n", "has a zero byte"),
            (b"11 size=-1\n", "`size=-1`, expected a decimal number"),
            (b"12 size=0x1\n", "expected a decimal number"),
            (b"11 mtime=x\n", "expected a decimal number"),
            (b"9 path=a\n9 path=b\n", "sets `path` twice"),
            (b"22 GNU.sparse.major=1\n", "sparse"),
        ] {
            let error = parse(data).expect_err(&display_name(data));
            assert!(error.contains(expected), "{}: {error}", display_name(data));
        }
    }

    #[test]
    fn of_two_values_the_last_one_counts_and_an_empty_number_is_refused() {
        let records: [(&str, &[u8]); 6] = [
            ("SCHILY.xattr.user.a", b"1"),
            ("SCHILY.xattr.user.b", b"2"),
            ("SCHILY.xattr.user.a", b"3"),
            ("uid", b"6"),
            ("uid", b"7"),
            ("gid", b"8"),
        ];
        let pax = parse(&pax_records(&records)).unwrap();
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"3".to_vec()), (b"user.b".to_vec(), b"2".to_vec())]);
        assert_eq!((pax.uid, pax.gid, pax.mtime), (Some(7), Some(8), None));
        for key in ["uid", "gid", "size", "mtime"] {
            let error = parse(&pax_records(&[(key, b"")])).unwrap_err();
            assert_eq!(error, format!("extended header has `{key}=`, expected a decimal number"));
        }
    }

    #[test]
    fn times_are_rounded_down() {
        let cases: [(&[u8], Option<i64>); 9] = [
            (b"0", Some(0)),
            (b"1.9", Some(1)),
            (b"1.", Some(1)),
            (b"-1", Some(-1)),
            (b"-1.000", Some(-1)),
            (b"-0.5", Some(-1)),
            (b"1.5x", None),
            (b"--1", None),
            (b"9223372036854775808", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn global_headers_may_set_only_what_no_reader_uses() {
        for allowed in ["comment", "atime", "ctime", "uname", "gname", "hdrcharset", "VENDOR.x"] {
            assert_eq!(check_global(&pax_records(&[(allowed, b"1")])), Ok(()), "{allowed}");
        }
        for key in [
            "path",
            "linkpath",
            "size",
            "uid",
            "gid",
            "mtime",
            "SCHILY.xattr.user.x",
            "LIBARCHIVE.xattr.user.x",
            "GNU.sparse.major",
        ] {
            let error = check_global(&pax_records(&[("comment", b"c"), (key, b"1")])).unwrap_err();
            assert_eq!(
                error,
                format!("a global extended header sets `{key}`, which readers understand differently")
            );
        }
        assert!(check_global(b"9 comment\n").is_err(), "a global header has to be valid too");
    }

    #[test]
    fn a_header_of_a_mib_of_attributes_keeps_each_once() {
        // A search through those before it for each one takes seconds.
        let names: Vec<String> = (0..40_000).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
        let records: Vec<(&str, &[u8])> =
            names.iter().chain(&names).map(|name| (name.as_str(), &b"v"[..])).collect();
        assert_eq!(parse(&pax_records(&records)).unwrap().xattrs.len(), 40_000);
    }
}
