//! Redacts secrets that a server echoes back.
//!
//! Some servers and proxies repeat what they were sent in error bodies, warnings and locations.
//! Each secret is remembered when it is sent, in the forms in which a peer can send it back.

use std::sync::Mutex;

use crate::stream::lock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::url::{decode, encode};
use crate::model::Secret;

/// Shortest text that is redacted, bytes; shorter texts are no secrets and are parts of ordinary words.
const SHORTEST: usize = 4;
/// Most values of URLs remembered. A server chooses how many there are, so they are kept apart from credentials, which
/// are never dropped.
const MOST_VALUES: usize = 256;

/// The secrets that were sent and must not be printed.
#[derive(Default)]
pub(super) struct Redactor {
    /// Passwords, tokens and keys.
    credentials: Mutex<Vec<Secret>>,
    /// Values in URLs that may be secret: signatures of storage and upload locations.
    values: Mutex<Vec<Secret>>,
}

impl Redactor {
    /// Remembers a credential for good: as it is, as part of a URL with and without escaped delimiters, and in Base64.
    pub(super) fn remember(&self, secret: &str) {
        add(&mut lock(&self.credentials), secret);
    }

    /// Remembers what an `Authorization` header carries: the token, or user and password in all forms.
    pub(super) fn remember_authorization(&self, header: &str) {
        let Some((scheme, value)) = header.split_once(' ') else { return self.remember(header) };
        self.remember(value);
        if !scheme.eq_ignore_ascii_case("basic") {
            return;
        }
        let pair = STANDARD.decode(value).ok().and_then(|pair| String::from_utf8(pair).ok()).map(Secret::new);
        if let Some((_, password)) = pair.as_ref().and_then(|pair| pair.expose().split_once(':')) {
            self.remember(value.trim_end_matches('='));
            self.remember(password);
        }
    }

    /// Remembers a value of a form for good, as it came and decoded.
    pub(super) fn remember_escaped(&self, value: &str) {
        self.remember(value);
        self.remember(&decode(value));
    }

    /// Remembers a value of a URL, as it came and decoded; only the latest are kept.
    pub(super) fn remember_url_value(&self, value: &str) {
        let mut values = lock(&self.values);
        add(&mut values, value);
        add(&mut values, &decode(value));
        let surplus = values.len().saturating_sub(MOST_VALUES);
        values.drain(..surplus);
    }

    /// Replaces every secret in a text from outside by `***`.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut known = lock(&self.credentials).clone();
        known.extend(lock(&self.values).iter().cloned());
        // Longer ones first: a secret may be part of another.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        known.into_iter().fold(text.to_owned(), |text, secret| match text.contains(secret.expose()) {
            true => text.replace(secret.expose(), "***"),
            false => text,
        })
    }
}

/// Parts of names whose values are secrets.
const SECRET_NAMES: [&str; 9] =
    ["password", "passwd", "passphrase", "pwd", "token", "secret", "apikey", "api_key", "api-key"];
/// Names whose values are a scheme and a secret.
const AUTHORIZATION: &str = "authorization";

/// Replaces what a text assigns to names of secrets: `password=…`, `"token": "…"`, `Authorization: Bearer …`.
///
/// For texts of other programs, whose secrets are not known here. What only looks like an assignment is replaced too.
pub(super) fn without_assigned_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let sign = after.get(..1).unwrap_or_default();
        out.push_str(sign);
        rest = after.get(1..).unwrap_or_default();
        let name = before.trim_end_matches(['"', '\'', ' ', '\\']);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        let name = name.rsplit(|letter| !is_part(letter)).next().unwrap_or_default().to_ascii_lowercase();
        let has_scheme = name.ends_with(AUTHORIZATION);
        if !has_scheme && !SECRET_NAMES.iter().any(|secret| name.contains(secret)) {
            continue;
        }
        let value = rest.trim_start_matches(['"', '\'', ' ', '\\', '=']);
        let (lead, words) = (rest.len() - value.len(), if has_scheme { 2 } else { 1 });
        let length = value_length(value, words);
        if length == 0 || value.starts_with("//") {
            continue;
        }
        out.push_str(rest.get(..lead).unwrap_or_default());
        out.push_str("***");
        rest = value.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Returns how many bytes a value of so many words has; quotes, commas and the like end it.
fn value_length(value: &str, words: usize) -> usize {
    let mut spaces = 0;
    let ends = |letter: char| {
        spaces += usize::from(letter == ' ');
        letter.is_control() || "\"',;&)}]\\".contains(letter) || spaces == words
    };
    value.find(ends).unwrap_or(value.len())
}

/// Adds every form of a secret that is not known yet.
fn add(known: &mut Vec<Secret>, secret: &str) {
    if secret.len() < SHORTEST {
        return;
    }
    // Without the padding, which a peer may leave out.
    let forms = [secret.to_owned(), encode(secret), fully_escaped(secret), STANDARD_NO_PAD.encode(secret)];
    for form in forms.map(Secret::new) {
        if !known.contains(&form) {
            known.push(form);
        }
    }
}

/// Escapes the delimiters too that a query may have as they are; most clients and servers do.
fn fully_escaped(secret: &str) -> String {
    let escaped = Secret::new(encode(secret));
    // Enough room at once: what grows leaves its former place behind, and the secret in it.
    let mut out = String::with_capacity(3 * secret.len());
    for letter in escaped.expose().chars() {
        match letter {
            ':' => out.push_str("%3A"),
            '/' => out.push_str("%2F"),
            ',' => out.push_str("%2C"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_hidden_in_every_form() {
        let known = Redactor::default();
        // `ci:pass/w0rd+x`
        known.remember_authorization("Basic Y2k6cGFzcy93MHJkK3g=");
        known.remember_authorization("Bearer abc.def");
        known.remember("x");
        for (text, expected) in [
            ("user ci with pass/w0rd+x", "user ci with ***"),
            ("a=pass%2Fw0rd%2Bx&b", "a=***&b"),
            ("got Basic Y2k6cGFzcy93MHJkK3g=!", "got Basic ***!"),
            ("got Y2k6cGFzcy93MHJkK3g", "got ***"),
            ("base64 of it is cGFzcy93MHJkK3g=", "base64 of it is ***="),
            ("token abc.def, abc", "token ***, abc"),
            ("no secret: x", "no secret: x"),
        ] {
            assert_eq!(known.redact(text), expected);
        }
    }

    #[test]
    fn values_of_names_of_secrets_are_hidden() {
        for (text, expected) in [
            ("cannot log in: password=hunter2 is old", "cannot log in: password=*** is old"),
            ("token: abc.def expired", "token: *** expired"),
            (r#"{"identitytoken": "abc", "user": "ci"}"#, r#"{"identitytoken": "***", "user": "ci"}"#),
            ("CLIENT_SECRET='a b', x=1", "CLIENT_SECRET='*** b', x=1"),
            ("Authorization: Bearer abc.def, retry", "Authorization: ***, retry"),
            ("GET https://ci@h/?access_token=abc&n=1", "GET https://ci@h/?access_token=***&n=1"),
            ("cannot find the password: ", "cannot find the password: "),
            ("user=ci: no entry at 10:00", "user=ci: no entry at 10:00"),
            ("passwords==x pwd := y", "passwords==*** pwd := ***"),
            ("token://host", "token://host"),
        ] {
            assert_eq!(without_assigned_secrets(text), expected);
        }
    }

    #[test]
    fn credentials_are_never_dropped_from_redaction_however_many_query_values_come() {
        let known = Redactor::default();
        known.remember_authorization("Bearer token-of-ours");
        for number in 0..1000 {
            known.remember_url_value(&format!("value-{number:04}"));
            known.remember(&format!("secret-{number:04}"));
        }
        assert_eq!(known.redact("token-of-ours secret-0000 secret-0999"), "*** *** ***");
        assert_eq!(known.redact("value-0999 value-0000"), "*** value-0000", "values of URLs are bounded");
    }

    #[test]
    fn only_texts_of_some_length_are_redacted() {
        for (length, expected) in [(SHORTEST - 1, false), (SHORTEST, true), (SHORTEST + 1, true)] {
            let known = Redactor::default();
            let secret: String = "q".repeat(length);
            known.remember(&secret);
            assert_eq!(known.redact(&secret) == "***", expected, "{length}");
        }
    }
}
