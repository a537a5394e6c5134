//! Reading a registry's description of an error; its text is untrusted.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::error::ServerMessage;
use super::http::Response;
use super::sanitize::{SHOWN, sanitize};

/// Longest time for the body of an error.
const TIME: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Option<Vec<Entry>>,
    /// Token servers and proxies answer in other forms.
    #[serde(default)]
    details: Option<serde_json::Value>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: Option<serde_json::Value>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: Option<serde_json::Value>,
}

/// Reads the error in the body of a response.
///
/// Source: distribution-spec, "Error Codes".
pub(super) fn message(response: Response) -> ServerMessage {
    let redactor = Arc::clone(&response.redactor);
    let is_html = response.header("content-type").is_some_and(|kind| kind.contains("html"));
    let mut bytes = Vec::new();
    let _ = response.into_reader_within(TIME).take(crate::model::limits::ERROR_BYTES).read_to_end(&mut bytes);
    if is_html { ServerMessage::default() } else { parse(&bytes, &|text| sanitize(&redactor.redact(text))) }
}

/// `redacted` removes secrets and control characters from a text of the server.
pub(super) fn parse(bytes: &[u8], redacted: &dyn Fn(&str) -> String) -> ServerMessage {
    let Ok(body) = serde_json::from_slice::<Body>(bytes) else {
        // A short text is shown; a longer one or binary data is a page or a blob.
        let text = std::str::from_utf8(bytes).unwrap_or("").trim();
        let short = text.len() <= SHOWN && !text.starts_with(['<', '{', '[']);
        return ServerMessage {
            code: String::new(),
            text: if short { redacted(text) } else { String::new() },
        };
    };
    let word = |value: Option<serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) => text,
        _ => String::new(),
    };
    match body.errors.and_then(|errors| errors.into_iter().next()) {
        Some(entry) => {
            let detail = word(entry.detail);
            let mut text = entry.message.unwrap_or_default();
            if !detail.is_empty() && !text.contains(&detail) {
                text = if text.is_empty() { detail } else { format!("{text}: {detail}") };
            }
            ServerMessage { code: redacted(&word(entry.code)), text: redacted(&text) }
        }
        None => {
            let text = [word(body.details), body.message.unwrap_or_default(), word(body.error)];
            let text = text.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
            ServerMessage { code: String::new(), text: redacted(&text) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_every_form_and_made_printable() {
        let long = format!("\"{}\"", "x".repeat(1000));
        let cases: Vec<(String, &str, String)> = vec![
            (r#"{"errors":[{"code":"DENIED","message":"no"}]}"#.into(), "DENIED", "no".into()),
            (
                r#"{"errors":[{"code":"DENIED","message":"no","detail":"why"}]}"#.into(),
                "DENIED",
                "no: why".into(),
            ),
            (r#"{"errors":[{"code":17,"message":null,"detail":{"a":1}}]}"#.into(), "", String::new()),
            (r#"{"errors":[]}"#.into(), "", String::new()),
            (
                r#"{"details":"incorrect username or password"}"#.into(),
                "",
                "incorrect username or password".into(),
            ),
            (r#"{"error":"invalid_grant"}"#.into(), "", "invalid_grant".into()),
            ("Too many requests\n".into(), "", "Too many requests".into()),
            ("<html><body>502</body></html>".into(), "", String::new()),
            (String::new(), "", String::new()),
            (
                "{\"errors\":[{\"code\":\"X\",\"message\":\"a\\u001b[31mb\"}]}".into(),
                "X",
                "a\\u{1b}[31mb".into(),
            ),
            (format!(r#"{{"message":{long}}}"#), "", format!("{}…", "x".repeat(400))),
        ];
        for (body, code, text) in cases {
            let found = parse(body.as_bytes(), &sanitize);
            assert_eq!((found.code.as_str(), &found.text), (code, &text), "{body}");
        }
        assert_eq!(parse(&[0xff; 100], &sanitize), ServerMessage::default());
    }

    #[test]
    fn a_short_text_is_shown_and_a_long_one_is_not() {
        let shown = |body: &str| parse(body.as_bytes(), &sanitize).text;
        assert_eq!(shown(&"x".repeat(SHOWN)), "x".repeat(SHOWN));
        assert_eq!(shown(&"x".repeat(SHOWN + 1)), "");
        for start in ["<", "{", "["] {
            assert_eq!(shown(&format!("{start}x")), "", "{start}");
        }
    }

    #[test]
    fn a_detail_is_added_once() {
        let text = |entry: &str| parse(format!("{{\"errors\":[{entry}]}}").as_bytes(), &sanitize).text;
        assert_eq!(text(r#"{"message":"no, because","detail":"because"}"#), "no, because");
        assert_eq!(text(r#"{"detail":"because"}"#), "because");
        assert_eq!(text(r#"{"message":"no","detail":""}"#), "no");
    }
}
