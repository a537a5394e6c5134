//! The head of a request: method, target, and the header fields that the protocol uses.
//!
//! `httparse` parses the grammar. This file adds bounds, and the rules for the length of a body: if two readers took
//! different lengths, a second request could hide in the first. Does no I/O.
//! Source: RFC 9112.

use crate::model::{Method, limits};

/// How the length of a request's body is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// In bytes; zero without a body.
    Sized(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: Method,
    /// The target's path, as it was sent.
    pub(super) path: String,
    /// The target's query, as it was sent, without `?`.
    pub(super) query: String,
    pub(super) length: BodyLength,
    /// Whether the sender gave a length; without one, the body would end with the connection.
    pub(super) has_length: bool,
    /// The connection stays open after the response.
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) authorization: Option<String>,
    pub(super) content_range: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) if_none_match: Option<String>,
    pub(super) if_range: Option<String>,
    pub(super) range: Option<String>,
}

/// Why a request is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error(
        "the head of the request has more than {} bytes or {} fields",
        limits::HEAD_BYTES,
        limits::HEAD_FIELDS
    )]
    TooLarge,
    #[error("the request is not HTTP/1.1: {0}")]
    Syntax(&'static str),
    #[error("the method of the request is not one of the distribution protocol")]
    Method,
    #[error("the transfer coding of the request is not supported, expected `chunked`")]
    Coding,
}

/// Reads a head from the start of `bytes`, and returns it with its length; `None` if more bytes are needed.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; limits::HEAD_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::HeaderName => HeadError::Syntax("the name of a field is not valid"),
        httparse::Error::HeaderValue => HeadError::Syntax("the value of a field is not valid"),
        httparse::Error::NewLine => HeadError::Syntax("a line has a wrong line break"),
        httparse::Error::Status | httparse::Error::Token => HeadError::Syntax("the first line is not valid"),
        httparse::Error::Version => HeadError::Syntax("the version is not 1.0 or 1.1"),
    });
    let end = match parsed? {
        httparse::Status::Complete(end) if end <= limits::HEAD_BYTES => end,
        httparse::Status::Partial if bytes.len() < limits::HEAD_BYTES => return Ok(None),
        httparse::Status::Complete(_) | httparse::Status::Partial => return Err(HeadError::TooLarge),
    };
    let method = Method::of(request.method.unwrap_or_default()).ok_or(HeadError::Method)?;
    let (path, query) = target(request.path.unwrap_or_default())?;
    let mut head = Head {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        length: BodyLength::Sized(0),
        has_length: false,
        keep_alive: request.version == Some(1),
        expects_continue: false,
        authorization: None,
        content_range: None,
        content_type: None,
        if_none_match: None,
        if_range: None,
        range: None,
    };
    let mut length = None;
    let mut chunked = false;
    for field in request.headers.iter() {
        let text = std::str::from_utf8(field.value).map_err(|_| HeadError::Syntax("a field is not UTF-8"))?;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let value = text.trim();
        if is("content-length") {
            length = Some(one_length(length, value)?);
        } else if is("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case("chunked") {
                return Err(HeadError::Coding);
            }
            chunked = true;
        } else if is("connection") {
            for word in value.split(',').map(str::trim) {
                head.keep_alive &= !word.eq_ignore_ascii_case("close");
            }
        } else if is("expect") {
            head.expects_continue |= value.eq_ignore_ascii_case("100-continue");
        } else {
            keep(&mut head, field.name, value);
        }
    }
    head.has_length = chunked || length.is_some();
    head.length = match (length, chunked) {
        // RFC 9112 6.1: a sender must not send both, and a server may refuse the request.
        (Some(_), true) => return Err(HeadError::Syntax("it has a length and a transfer coding")),
        (Some(length), false) => BodyLength::Sized(length),
        (None, true) => BodyLength::Chunked,
        (None, false) => BodyLength::Sized(0),
    };
    Ok(Some((head, end)))
}

/// Keeps the first of the fields that are used as text.
fn keep(head: &mut Head, name: &str, value: &str) {
    let place = match name.to_ascii_lowercase().as_str() {
        "authorization" => &mut head.authorization,
        "content-range" => &mut head.content_range,
        "content-type" => &mut head.content_type,
        "if-none-match" => &mut head.if_none_match,
        "if-range" => &mut head.if_range,
        "range" => &mut head.range,
        _ => return,
    };
    if place.is_none() {
        *place = Some(value.to_owned());
    }
}

/// Reads `Content-Length`; a second field has to say the same.
fn one_length(known: Option<u64>, value: &str) -> Result<u64, HeadError> {
    let wrong = HeadError::Syntax("its length is not a number");
    // `parse` would take a sign.
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong);
    }
    let length: u64 = value.parse().map_err(|_| wrong)?;
    match known {
        Some(known) if known != length => Err(HeadError::Syntax("it has two lengths")),
        _ => Ok(length),
    }
}

/// Splits a target, `/path?query` or `http://host/path?query`.
fn target(text: &str) -> Result<(&str, &str), HeadError> {
    let path = match text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
        // RFC 9112 3.2.2: a server takes the form that clients send to proxies.
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => text,
    };
    if !path.starts_with('/') {
        return Err(HeadError::Syntax("its target is not a path"));
    }
    Ok(path.split_once('?').unwrap_or((path, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(Head, usize)>, HeadError> {
        parse(text.as_bytes())
    }

    fn head(text: &str) -> Head {
        read(text).unwrap().expect("the head is complete").0
    }

    #[test]
    fn a_head_is_read_up_to_its_empty_line() {
        let text = "PUT /v2/a/manifests/v1?x=y HTTP/1.1\r\nHost: h\r\ncontent-TYPE:  a/b \r\nContent-Length: 3\r\n\r\n";
        let (head, end) = read(&format!("{text}abc")).unwrap().unwrap();
        assert_eq!(end, text.len());
        assert_eq!(
            (head.method, head.path.as_str(), head.query.as_str()),
            (Method::Put, "/v2/a/manifests/v1", "x=y")
        );
        assert_eq!((head.length, head.has_length), (BodyLength::Sized(3), true));
        assert_eq!(head.content_type.as_deref(), Some("a/b"));
        assert!(head.keep_alive && !head.expects_continue);
        for cut in [1, 10, text.len() - 1] {
            assert_eq!(read(&text[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn the_end_of_a_body_has_one_reading_or_the_request_is_refused() {
        let with = |fields: &str| read(&format!("POST /v2/ HTTP/1.1\r\n{fields}\r\n\r\n"));
        let length = |fields: &str| with(fields).map(|read| read.map(|(head, _)| head.length));
        assert_eq!(length("A: b"), Ok(Some(BodyLength::Sized(0))));
        assert_eq!(length("Content-Length: 5\r\ncontent-length: 5"), Ok(Some(BodyLength::Sized(5))));
        assert_eq!(length("Transfer-Encoding: Chunked"), Ok(Some(BodyLength::Chunked)));
        for (fields, expected) in [
            ("Content-Length: 5\r\nContent-Length: 6", HeadError::Syntax("it has two lengths")),
            ("Content-Length: +5", HeadError::Syntax("its length is not a number")),
            ("Content-Length: 5, 5", HeadError::Syntax("its length is not a number")),
            ("Content-Length:", HeadError::Syntax("its length is not a number")),
            ("Content-Length: 99999999999999999999", HeadError::Syntax("its length is not a number")),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                HeadError::Syntax("it has a length and a transfer coding"),
            ),
            ("Transfer-Encoding: gzip, chunked", HeadError::Coding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", HeadError::Coding),
            ("Transfer-Encoding : chunked", HeadError::Syntax("the name of a field is not valid")),
        ] {
            assert_eq!(with(fields), Err(expected), "{fields}");
        }
    }

    #[test]
    fn what_is_no_request_of_the_protocol_is_refused() {
        for (text, expected) in [
            ("BREW / HTTP/1.1\r\n\r\n", HeadError::Method),
            ("GET v2 HTTP/1.1\r\n\r\n", HeadError::Syntax("its target is not a path")),
            ("GET / HTTP/2.0\r\n\r\n", HeadError::Syntax("the version is not 1.0 or 1.1")),
            ("\u{16}\u{3}\u{1}\r\n\r\n", HeadError::Syntax("the first line is not valid")),
        ] {
            assert_eq!(read(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn connections_are_kept_as_the_version_and_the_field_say() {
        assert!(head("GET / HTTP/1.1\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.1\r\nConnection: keep-alive, Close\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(head("PUT / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n").expects_continue);
        assert_eq!(head("GET http://h:1/v2/?a HTTP/1.1\r\n\r\n").path, "/v2/");
    }

    #[test]
    fn a_head_of_the_limit_is_read_and_one_byte_or_field_more_is_refused() {
        let of = |size: usize| {
            let start = "GET / HTTP/1.1\r\nA: ";
            format!("{start}{}\r\n\r\n", "x".repeat(size - start.len() - 4))
        };
        assert!(read(&of(limits::HEAD_BYTES)).unwrap().is_some());
        let error = read(&of(limits::HEAD_BYTES + 1)).unwrap_err().to_string();
        assert_eq!(error, "the head of the request has more than 32768 bytes or 100 fields");
        assert_eq!(read(&"x".repeat(limits::HEAD_BYTES)), Err(HeadError::TooLarge), "without an end");
        let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(read(&fields(limits::HEAD_FIELDS)).unwrap().is_some());
        assert_eq!(read(&fields(limits::HEAD_FIELDS + 1)), Err(HeadError::TooLarge));
    }
}
