//! Responses with a body in memory, and the error bodies of the protocol.
//!
//! Source: distribution-spec, "Error Codes". Does no I/O.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use crate::model::to_json;

/// An error code of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    Unauthorized,
    /// From docker's registry; for errors without a code in the specification.
    Unknown,
    Unsupported,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

#[derive(Serialize)]
struct Errors<'a> {
    errors: [Error<'a>; 1],
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
}

/// A response whose body is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: Arc<[u8]>,
}

impl Response {
    /// Makes a response without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Arc::from([]) }
    }

    /// Makes a response with a body of this type.
    pub(super) fn of(status: u16, content_type: &str, body: impl Into<Arc<[u8]>>) -> Self {
        Self { status, fields: Vec::new(), body: body.into() }.with("Content-Type", content_type)
    }

    /// Makes a response with a value as JSON.
    pub(super) fn json<T: Serialize>(value: &T) -> Self {
        Self::of(200, "application/json", to_json(value))
    }

    /// Makes an error response.
    pub(super) fn error(status: u16, code: Code, message: &str) -> Self {
        let body = to_json(&Errors { errors: [Error { code: code.name(), message }] });
        Self::of(status, "application/json", body)
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// Writes the head of a response: status, fields, length of the body, and whether the connection stays open.
pub(super) fn head(status: u16, fields: &[(&'static str, String)], length: u64, keep_alive: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let mut field = |name: &str, value: &str| {
        // A line break in a value would begin another field.
        let value: String = value.chars().filter(|c| matches!(c, ' '..='~')).collect();
        write!(head, "{name}: {value}\r\n").expect("writing to a String cannot fail");
    };
    field("Docker-Distribution-Api-Version", "registry/2.0");
    for (name, value) in fields {
        field(name, value);
    }
    if status != 204 && status != 304 {
        field("Content-Length", &length.to_string());
    }
    if !keep_alive {
        field("Connection", "close");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_form_of_the_protocol() {
        let response = Response::error(404, Code::BlobUnknown, "no \"blob\"");
        assert_eq!(response.status, 404);
        assert_eq!(response.fields, [("Content-Type", "application/json".to_owned())]);
        let body = std::str::from_utf8(&response.body).unwrap();
        assert_eq!(body, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"no \"blob\""}]}"#);
    }

    #[test]
    fn a_head_has_its_fields_and_no_value_begins_another() {
        let head = head(206, &[("Content-Range", "bytes 0-1/2\r\nX: y".to_owned())], 2, false);
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 206 Partial Content\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
             Content-Range: bytes 0-1/2X: y\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        );
        let none = super::head(204, &[], 0, true);
        assert!(!String::from_utf8(none).unwrap().contains("Content-Length"), "RFC 9110 8.6");
    }
}
