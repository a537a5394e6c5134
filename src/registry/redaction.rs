//! Redacts secrets that a server echoes back.
//!
//! Error bodies, warnings and locations come from outside, and some servers and proxies put what they were sent into
//! them. Each secret is remembered when it is sent, in the forms in which a peer can give it back.

use std::sync::Mutex;

use crate::stream::lock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::secret::Secret;
use super::url::{decode, encode};

/// Shortest text that is hidden; what is shorter is no secret, and is part of too many innocent words.
const SHORTEST: usize = 4;
/// Most texts remembered; a long run asks for many tokens, and only recent ones are repeated.
const MOST: usize = 256;

/// What was sent so far and must not be printed.
#[derive(Default)]
pub(super) struct Redactor(Mutex<Vec<Secret>>);

impl Redactor {
    /// Remembers a secret: as it is, as part of a URL with and without escaped delimiters, and in Base64.
    pub(super) fn remember(&self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        // Without the padding, which a peer may leave out.
        let forms =
            [secret.to_owned(), encode(secret), fully_escaped(secret), STANDARD_NO_PAD.encode(secret)];
        let forms = forms.map(Secret::new);
        let mut known = lock(&self.0);
        if known.contains(&forms[0]) {
            return;
        }
        for form in forms {
            if !known.contains(&form) {
                known.push(form);
            }
        }
        let surplus = known.len().saturating_sub(MOST);
        known.drain(..surplus);
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

    /// Remembers a value from a URL or a form, as it came and decoded.
    pub(super) fn remember_escaped(&self, value: &str) {
        self.remember(value);
        self.remember(&decode(value));
    }

    /// Replaces every secret in a text from outside by `***`.
    pub(super) fn redact(&self, text: &str) -> String {
        let known = lock(&self.0);
        // Longer ones first: a secret may be part of another.
        let mut known: Vec<&Secret> = known.iter().collect();
        known.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        known.into_iter().fold(text.to_owned(), |text, secret| match text.contains(secret.expose()) {
            true => text.replace(secret.expose(), "***"),
            false => text,
        })
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
            ("nothing of ours: x", "nothing of ours: x"),
        ] {
            assert_eq!(known.redact(text), expected);
        }
    }

    #[test]
    fn only_so_many_are_remembered() {
        let known = Redactor::default();
        for number in 0..1000 {
            known.remember(&format!("secret-{number:04}"));
        }
        assert_eq!(known.redact("secret-0999 secret-0000"), "*** secret-0000");
    }
}
