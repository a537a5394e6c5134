//! Reads the head of a request, writes a response, and has the encodings of both.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use super::state::Thing;

/// The head of a request.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) thing: Thing,
    pub(super) name: String,
    pub(super) reference: String,
    pub(super) length: usize,
}

/// A response.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#, code.to_lowercase());
        Self::new(status).header("content-type", "application/json").body(body.into_bytes())
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

/// Decodes `%xx`.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let hex = text.get(index + 1..index + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[index], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                index += 3;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Splits a path into the kind of object, the repository, and the digest, tag or session.
fn understand(path: &str) -> (Thing, String, String) {
    let owned = |thing, name: &str, reference: &str| (thing, name.to_owned(), reference.to_owned());
    if let Some(digest) = path.strip_prefix("/storage/") {
        return owned(Thing::Storage, "", digest);
    }
    match path {
        "/v2/" => return owned(Thing::Base, "", ""),
        "/token" => return owned(Thing::Token, "", ""),
        _ => {}
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return owned(Thing::Other, "", path) };
    for (marker, thing) in [
        ("/blobs/uploads/", Thing::Session),
        ("/blobs/", Thing::Blob),
        ("/manifests/", Thing::Manifest),
        ("/referrers/", Thing::Referrers),
        ("/tags/list", Thing::Tags),
    ] {
        if let Some((name, reference)) = rest.split_once(marker) {
            let thing = if thing == Thing::Session && reference.is_empty() { Thing::Uploads } else { thing };
            return owned(thing, name, reference);
        }
    }
    owned(Thing::Other, "", path)
}

/// Decodes Base64; returns an empty text for anything else.
pub(super) fn decode_base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let (mut held, mut out) = (0, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte) else { return String::new() };
        bits = bits << 6 | u32::try_from(value).unwrap_or(0);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Returns the fields of a query or of a form.
pub(super) fn parse_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), unescape(value))).collect()
}

/// Reads the head of the next request; `None` if the connection ends.
pub(super) fn read_head(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    // A TLS ClientHello, which a client sends to detect TLS, does not begin with a letter.
    reader.fill_buf().ok()?.first().filter(|byte| byte.is_ascii_uppercase())?;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let (bare, query) = path.split_once('?').unwrap_or((&path, ""));
    let (thing, name, reference) = understand(bare);
    let query = parse_query(query);
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Request { method, query, headers, thing, name, reference, length, path })
}

/// Writes a response, or its beginning; returns `false` if the connection must be closed.
pub(super) fn write_response(
    mut stream: &TcpStream,
    request: &Request,
    response: &Response,
    cut: Option<usize>,
) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\n", response.status);
    if !response.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("content-length: {}\r\n", response.body.len()));
    }
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = if request.method == "HEAD" { &[][..] } else { &response.body };
    let body = cut.map_or(body, |cut| &body[..cut.min(body.len())]);
    let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let close = response.headers.iter().any(|(name, value)| name == "connection" && value == "close");
    written.is_ok() && !close
}

/// Encodes as Base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let value =
            chunk.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let letter = ALPHABET[(value >> (18 - 6 * index) & 63) as usize];
            out.push(if index > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    out
}
