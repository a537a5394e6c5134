//! The secrets that tests give to programs, and the search for them in everything a program prints.
//!
//! Registries, token servers and cloud services register ("plant") each secret that they make up for a test.
//! [`crate::lab`] searches the output of each run, so every test of the suite also tests this.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Secrets that the tests of this process have planted so far.
static PLANTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Shortest secret that is searched for; a shorter one would be found by chance.
const SHORTEST: usize = 5;
/// Parameters of URLs whose values are secrets.
const PARAMETERS: [&str; 3] = ["_state=", "X-Amz-Signature=", "X-Amz-Security-Token="];
/// Start of a mask command for GitHub's runner, the only line that has to contain a secret.
const MASK: &str = "::add-mask::";

/// Plants a secret: as it is, percent-encoded and in Base64.
///
/// Plain words are not planted: tests have logins like `u` with `p`, and wrong ones like `other`.
pub fn plant(secret: &str) {
    if secret.len() < SHORTEST || secret.chars().all(char::is_alphabetic) {
        return;
    }
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let forms = [secret.to_owned(), secret.bytes().map(escaped).collect(), STANDARD_NO_PAD.encode(secret)];
    PLANTED.lock().unwrap_or_else(PoisonError::into_inner).extend(forms);
}

/// Plants a password, also together with its user as in `Authorization: Basic …`.
pub fn plant_login(user: &str, password: &str) {
    plant(password);
    if password.len() >= SHORTEST {
        plant(&STANDARD_NO_PAD.encode(format!("{user}:{password}")));
    }
}

/// Returns the first secret in a text.
pub fn search(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(MASK)).collect();
    let text = lines.join("\n");
    let planted = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = planted.iter().find(|secret| text.contains(secret.as_str())).cloned();
    known.or_else(|| parameter(&text)).or_else(|| token(&text))
}

/// Returns a secret parameter of a URL with its value, if it is not redacted.
fn parameter(text: &str) -> Option<String> {
    PARAMETERS.iter().find_map(|name| {
        let shown = text.match_indices(name).find(|(at, name)| {
            let value = &text[at + name.len()..];
            value.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '%')
        })?;
        Some(text[shown.0..].chars().take(60).collect())
    })
}

/// Returns a token of the usual form (JWT): two JSON objects in Base64, and a signature.
fn token(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'));
    let is_token = |word: &&str| {
        let parts: Vec<&str> = word.split('.').collect();
        matches!(parts.as_slice(), [head, body, _] if head.starts_with("eyJ") && body.starts_with("eyJ"))
    };
    words.into_iter().find(is_token).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planted_is_found_in_every_form() {
        plant_login("planter", "pl4nt+of/planted.rs");
        for text in [
            "it is pl4nt+of/planted.rs!",
            "a\nhttps://reg.example/?password=pl4nt%2Bof%2Fplanted.rs&x",
            "auth: cGw0bnQrb2YvcGxhbnRlZC5ycw==",
            "Authorization: Basic cGxhbnRlcjpwbDRudCtvZi9wbGFudGVkLnJz",
            "PUT /v2/a/blobs/uploads/1?_state=abc",
            "https://s3.example/b?X-Amz-Signature=%2B",
            "Bearer eyJhbGciOi.eyJzdWIi.c2ln",
        ] {
            assert!(search(text).is_some(), "{text}");
        }
        for text in [
            "",
            "planter",
            "::add-mask::pl4nt+of/planted.rs\nmore",
            "PUT /v2/a/blobs/uploads/1?_state=***",
            "eyJhbGciOi.eyJz",
        ] {
            assert_eq!(search(text), None);
        }
    }

    #[test]
    fn plain_words_are_no_secrets() {
        plant("p");
        plant("ordinarywordoftheplant");
        assert_eq!(search("p ordinarywordoftheplant"), None);
    }
}
