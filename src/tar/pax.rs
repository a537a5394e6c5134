//! Extended (PAX) headers: the records that override fields of the next header, or of all that follow.
//!
//! Source: POSIX.1-2017 pax, "pax Extended Header"; GNU and Go behaviour where POSIX is silent.
//! Records on which readers disagree are refused instead of guessed: a tar that two programs read differently
//! can carry one content past a scanner and another to the user.

use super::error::display_name;

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

/// Whether a header is for the next entry or for all entries after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Local,
    Global,
}

/// Parses the data of one extended header on top of what is known already.
pub(super) fn parse(mut data: &[u8], scope: Scope, known: &mut Pax) -> Result<(), String> {
    let mut seen = Vec::new();
    while !data.is_empty() {
        let (record, rest) = split_record(data)?;
        data = rest;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .filter(|at| *at > 0)
            .ok_or_else(|| format!("extended header record `{}` has no `key=`", display_name(record)))?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.contains(&0) {
            return Err(format!("extended header key `{}` has a zero byte", display_name(key)));
        }
        if matches!(key, b"path" | b"linkpath" | b"size") {
            if scope == Scope::Global {
                let key = display_name(key);
                return Err(format!(
                    "a global extended header sets `{key}`, which readers understand differently"
                ));
            }
            if seen.contains(&key) {
                return Err(format!("the extended header sets `{}` twice", display_name(key)));
            }
            seen.push(key);
        }
        apply(key, value, known)?;
    }
    Ok(())
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
    // An empty value takes back a global one; the plain header's field then counts (as in Go and GNU tar).
    let integer = |value: &[u8]| {
        if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or_else(number) }
    };
    match key {
        b"path" => known.path = text(key, value)?,
        b"linkpath" => known.link = text(key, value)?,
        b"size" => known.size = integer(value)?,
        b"uid" => known.uid = integer(value)?,
        b"gid" => known.gid = integer(value)?,
        b"mtime" => {
            known.mtime = if value.is_empty() { None } else { Some(seconds(value).ok_or_else(number)?) };
        }
        _ if key.starts_with(b"GNU.sparse.") => {
            return Err("the entry is a sparse file, which is not accepted".to_owned());
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                known.xattrs.retain(|(known, _)| known != name);
                known.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
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
    bytes.get(..most).unwrap_or(bytes)
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

    fn local(data: &[u8]) -> Result<Pax, String> {
        let mut pax = Pax::default();
        parse(data, Scope::Local, &mut pax).map(|()| pax)
    }

    #[test]
    fn records_are_read_with_binary_and_multi_line_values() {
        let records: [(&str, &[u8]); 4] = [
            ("path", b"a\nb"),
            ("size", b"1234"),
            ("mtime", b"-1.500000000"),
            ("SCHILY.xattr.user.x", b"\0=\n"),
        ];
        let pax = local(&pax_records(&records)).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!((pax.size, pax.mtime), (Some(1234), Some(-2)));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"\0=\n".to_vec())]);
    }

    #[test]
    fn bad_records_are_refused_with_the_reason() {
        assert!(local(b"9 path=a\n").is_ok(), "the neighbour of the bad lengths below");
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
            let error = local(data).expect_err(&display_name(data));
            assert!(error.contains(expected), "{}: {error}", display_name(data));
        }
    }

    #[test]
    fn global_headers_may_not_rename_or_resize() {
        let mut pax = Pax::default();
        assert!(parse(b"9 path=a\n", Scope::Global, &mut pax).unwrap_err().contains("global"));
        parse(b"12 uid=1000\n", Scope::Global, &mut pax).unwrap();
        assert_eq!(pax.uid, Some(1000));
        parse(b"7 uid=\n", Scope::Local, &mut pax).unwrap();
        assert_eq!(pax.uid, None, "an empty value takes the global one back");
    }
}
