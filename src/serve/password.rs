//! The password of a server that other machines reach: HTTP Basic, compared in constant time.
//!
//! Source: RFC 7617. Does no I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::response::{Code, Response};

/// User name and password that every request must have.
#[derive(Clone)]
pub struct Password {
    expected: Vec<u8>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    /// Makes the pair; a name must not have a colon (RFC 7617).
    #[must_use]
    pub fn new(username: &str, password: &str) -> Self {
        Self { expected: format!("{username}:{password}").into_bytes() }
    }

    /// Checks `Authorization`.
    ///
    /// Errors: the response 401 with `WWW-Authenticate`.
    pub(super) fn check(&self, authorization: Option<&str>) -> Result<(), Response> {
        let shown = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let shown = shown.and_then(|(_, token)| STANDARD.decode(token.trim()).ok());
        if shown.is_some_and(|shown| is_same(&shown, &self.expected)) {
            return Ok(());
        }
        let refused =
            Response::error(401, Code::Unauthorized, "this registry needs a user name and a password");
        Err(refused.with("WWW-Authenticate", "Basic realm=\"imgrelay\""))
    }
}

/// Compares two texts in a time that depends only on their lengths, so that a client cannot measure where they differ.
fn is_same(shown: &[u8], expected: &[u8]) -> bool {
    let differences = shown.iter().zip(expected).fold(0_u8, |found, (a, b)| found | (a ^ b));
    shown.len() == expected.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_name_and_password_pass() {
        let password = Password::new("ci", "a:b");
        let check = |value: &str| password.check(Some(value)).map_err(|response| response.status);
        assert_eq!(check(&format!("Basic {}", STANDARD.encode("ci:a:b"))), Ok(()));
        assert_eq!(check(&format!("basic  {}", STANDARD.encode("ci:a:b"))), Ok(()));
        for wrong in ["ci:a:", "ci:a:b ", "ci:a:c", ":", "", "ci"] {
            assert_eq!(check(&format!("Basic {}", STANDARD.encode(wrong))), Err(401), "{wrong}");
        }
        for wrong in ["", "Basic", "Basic %%%", "Bearer Y2k6YTpi"] {
            assert_eq!(check(wrong), Err(401), "{wrong}");
        }
        let asked = password.check(None).unwrap_err();
        assert!(asked.fields.contains(&("WWW-Authenticate", "Basic realm=\"imgrelay\"".to_owned())));
        assert_eq!(format!("{password:?}"), "Password(…)");
    }
}
