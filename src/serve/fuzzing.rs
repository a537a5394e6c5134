//! Gives the fuzz target access to the parser of requests; not part of the interface.

use std::io::Read as _;

use super::head;
use super::message_body::MessageBody;
use super::range;
use super::route::Route;

/// Reads a request as a connection does: head, path, range, body; returns method, route and body as text.
#[must_use]
pub fn request(bytes: &[u8]) -> Option<(&'static str, String, Vec<u8>)> {
    let (head, end) = head::parse(bytes).ok().flatten()?;
    let route = match Route::of(&head.path) {
        Ok(route) => format!("{route:?}"),
        Err(response) => format!("{}", response.status),
    };
    let size = end as u64;
    if let range::Wanted::Part { first, last } = range::wanted(head.range.as_deref(), size) {
        assert!(first <= last && last < size, "a range leaves its blob");
    }
    let _ = head.content_range.as_deref().and_then(range::of_chunk);
    let mut body = Vec::new();
    let _ = MessageBody::new(&bytes[end..], head.length).read_to_end(&mut body);
    Some((head.method.name(), route, body))
}
