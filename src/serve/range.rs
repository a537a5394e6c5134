//! Byte ranges: the field `Range` of a download, and `Content-Range` of an uploaded chunk.
//!
//! Source: RFC 9110 14.2; distribution-spec, "Pushing a blob in chunks". Does no I/O.

/// What a `Range` field means for a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: no range, or one that a server may ignore.
    Whole,
    /// These bytes, the last one included.
    Part { first: u64, last: u64 },
    /// The range begins after the end.
    Unsatisfiable,
}

/// Reads `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT` for a blob of so many bytes.
///
/// Another unit, several ranges and an invalid range are ignored, as the specification allows.
pub(super) fn wanted(range: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = range.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Wanted::Whole };
    match (number(first), number(last), first.is_empty(), last.is_empty()) {
        (None, Some(count), true, false) if count == 0 || size == 0 => Wanted::Unsatisfiable,
        (None, Some(count), true, false) => {
            Wanted::Part { first: size.saturating_sub(count), last: size - 1 }
        }
        (Some(first), _, false, true) if first < size => Wanted::Part { first, last: size - 1 },
        (Some(first), Some(last), false, false) if last < first => Wanted::Whole,
        (Some(first), Some(last), false, false) if first < size => {
            Wanted::Part { first, last: last.min(size - 1) }
        }
        (Some(_), _, false, true) | (Some(_), Some(_), false, false) => Wanted::Unsatisfiable,
        _ => Wanted::Whole,
    }
}

/// Reads `FIRST-LAST`, with or without `bytes` before and a size after it; `None` if it is not of this form.
pub(super) fn of_chunk(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let text = text.split('/').next().unwrap_or(text);
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Reads a number without a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_blob() {
        let part = |first, last| Wanted::Part { first, last };
        for (text, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=3-", part(3, 9)),
            ("bytes=9-", part(9, 9)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=2-99", part(2, 9)),
            ("bytes=-4", part(6, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=10-20", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(text), 10), expected, "{text}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn the_place_of_a_chunk_is_read_in_every_form_that_clients_send() {
        assert_eq!(of_chunk("0-9"), Some((0, 9)));
        assert_eq!(of_chunk("bytes 10-19/*"), Some((10, 19)));
        assert_eq!(of_chunk("bytes=0-0"), Some((0, 0)));
        for wrong in ["", "5", "5-", "-5", "9-5", "a-b", "0--1"] {
            assert_eq!(of_chunk(wrong), None, "{wrong}");
        }
    }
}
