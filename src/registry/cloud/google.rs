//! Google's registries: a service account's key as it is, or an access token: of a foreign identity, a given
//! one, or that of the machine's account.
//!
//! Source: Artifact Registry "Configure authentication to Docker"; Compute Engine "Metadata server".

use serde::Deserialize;

use crate::model::Registry;

use super::super::url::Url;
use super::client::{CloudClient, read_metadata};
use super::google_federation::GoogleFederation;
use super::login::{Granted, LoginError, basic};
use crate::model::Secret;

/// How to log in to Google's registries.
#[derive(Clone, Debug, Default)]
pub struct GoogleLogin {
    /// The JSON key of a service account.
    pub key: Option<Secret>,
    /// A foreign identity that Google takes in place of a key.
    pub federation: Option<Box<GoogleFederation>>,
    /// A finished access token.
    pub access_token: Option<Secret>,
    /// Where a machine gets a token, usually `http://metadata.google.internal`; with `None` no request is sent.
    pub metadata: Option<String>,
}

/// Tells whether a registry is Google's.
pub(super) fn is_google(registry: &Registry) -> bool {
    let host = registry.as_str();
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

impl GoogleLogin {
    pub(super) fn ask(&self, now: u64, client: &dyn CloudClient) -> Result<Granted, LoginError> {
        if let Some(key) = &self.key {
            return Ok(Granted { credential: basic("_json_key", key.expose()), expires: None });
        }
        if let Some(federation) = &self.federation {
            return federation.ask(now, client);
        }
        if let Some(token) = &self.access_token {
            return Ok(Granted { credential: basic("oauth2accesstoken", token.expose()), expires: None });
        }
        let Some(metadata) = &self.metadata else { return Err(LoginError::Absent) };
        let path = "/computeMetadata/v1/instance/service-accounts/default/token";
        let url = Url::parse(&format!("{}{path}", metadata.trim_end_matches('/')))
            .map_err(|problem| LoginError::Refused(format!("metadata server `{metadata}` {problem}")))?;
        let headers = vec![("metadata-flavor", "Google".to_owned())];
        let response = read_metadata(client, &url, headers)?;
        let (token, life) = read_token(&response)
            .ok_or_else(|| LoginError::Refused(format!("`{}` sent no access token", url.origin())))?;
        let expires = Some(now.saturating_add(life));
        Ok(Granted { credential: basic("oauth2accesstoken", token.expose()), expires })
    }
}

/// Reads an access token and its life in seconds.
pub(super) fn read_token(bytes: &[u8]) -> Option<(Secret, u64)> {
    let token: Token = serde_json::from_slice(bytes).ok()?;
    Some((token.access_token.into(), token.expires_in))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_registries_are_known_by_their_names() {
        for (host, expected) in [
            ("gcr.io", true),
            ("eu.gcr.io", true),
            ("europe-docker.pkg.dev", true),
            ("evilgcr.io", false),
            ("gcr.io.evil.example", false),
            ("pkg.dev", false),
        ] {
            assert_eq!(is_google(&host.parse().unwrap()), expected, "{host}");
        }
    }
}
