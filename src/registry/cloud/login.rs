//! What every provider's login has in common: its result, its error, token files.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::model::limits;
use crate::stream;

use super::super::credential::Credential;
use super::super::url::Url;
use crate::model::Secret;

/// The credentials that a login gave, and when they expire (seconds since 1970).
pub(super) struct Granted {
    pub(super) credential: Credential,
    pub(super) expires: Option<u64>,
}

/// Why a login gave no credentials.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum LoginError {
    /// There is no identity to log in with.
    Absent,
    /// The identity is not accepted, or cannot be used.
    Refused(String),
    /// The provider did not answer.
    Unreachable { attempts: u32, elapsed: Duration, cause: String },
    /// The work was cancelled.
    Cancelled,
}

/// Makes user name and password.
pub(super) fn basic(username: &str, password: impl Into<String>) -> Credential {
    Credential::Basic { username: username.to_owned(), password: Secret::new(password) }
}

/// Reads a file with a token.
pub(super) fn read_file(path: &Path) -> Result<Secret, LoginError> {
    let shown = path.display();
    let bytes = stream::read_file(path, limits::TOKEN_FILE_BYTES)
        .map_err(|error| LoginError::Refused(error.to_string()))?;
    let text = String::from_utf8(bytes).ok();
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    text.map(Secret::from).ok_or_else(|| LoginError::Refused(format!("`{shown}` holds no token")))
}

/// Tells whether keys may come in plain http: from this machine, ECS (169.254.170.2) and EKS (169.254.170.23).
pub(super) fn may_be_plain(url: &Url) -> bool {
    let known: [IpAddr; 3] = [
        IpAddr::from([169, 254, 170, 2]),
        IpAddr::from([169, 254, 170, 23]),
        IpAddr::from([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]),
    ];
    url.origin().is_loopback() || url.origin().address().is_some_and(|address| known.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_keys_come_in_plain_http_from_near_only() {
        for (url, allowed) in [
            ("http://169.254.170.2/v2/x", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://169.254.169.254/x", false),
            ("http://evil.example/x", false),
        ] {
            assert_eq!(may_be_plain(&Url::parse(url).unwrap()), allowed, "{url}");
        }
    }
}
