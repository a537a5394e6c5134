//! Tokens of a registry: what they allow, and the responses of token servers that hold them.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::model::Repository;
use crate::model::list::quoted_list;

use super::sanitize::sanitize;
use crate::model::Secret;

/// Life of a token that does not say how long it lives (distribution token specification).
const DEFAULT_LIFE: u64 = 60;
/// Longest life that is accepted; some servers send nanoseconds.
const LONGEST_LIFE: u64 = 24 * 3600;
/// What a token has to allow; the scope that is needed most comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scopes(pub(super) Vec<String>);

impl Scopes {
    pub(super) fn new(repository: &Repository, actions: &str) -> Self {
        Self(vec![format!("repository:{}:{actions}", repository.name())])
    }

    /// Adds the right to read another repository of the same registry, for mounting.
    pub(super) fn and_pull(mut self, repository: &Repository) -> Self {
        self.0.push(format!("repository:{}:pull", repository.name()));
        self
    }

    pub(super) fn covers(&self, scope: &str) -> bool {
        let Some((resource, actions)) = scope.rsplit_once(':') else { return false };
        self.0.iter().any(|own| {
            own.rsplit_once(':').is_some_and(|(own_resource, own_actions)| {
                own_resource == resource
                    && actions.split(',').all(|action| own_actions.split(',').any(|own| own == action))
            })
        })
    }

    /// Returns the scopes together with further ones that a challenge named.
    pub(super) fn with(&self, wider: &[String]) -> Self {
        let mut all = self.clone();
        all.0.extend(wider.iter().filter(|scope| !self.covers(scope)).cloned());
        all
    }

    pub(super) fn key(&self) -> String {
        self.0.join(" ")
    }
}

/// A bearer token, as the header that carries it.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) header: Secret,
    pub(super) fresh_until: Instant,
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<serde_json::Number>,
    #[serde(default)]
    refresh_token: Option<String>,
}

impl Token {
    /// Reads the response from a token server.
    ///
    /// Errors: what was found in place of a token, without any value.
    pub(super) fn parse(body: &[u8], started: Instant) -> Result<(Self, Option<Secret>), String> {
        // serde would read a struct from an array too, by position.
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|_| describe(body))?;
        let response: TokenResponse = serde_json::from_value(members.into()).map_err(|_| describe(body))?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let token = given(response.token).or(given(response.access_token)).map(Secret::from);
        let token = token.ok_or_else(|| describe(body))?;
        // It goes into a header, so other characters are refused.
        if !is_token(token.expose()) {
            return Err("its token has characters that a token cannot have".to_owned());
        }
        let life = response.expires_in.and_then(|number| number.as_u64()).filter(|life| *life > 0);
        let life = Duration::from_secs(life.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE));
        // A token near its end could expire while a body is sent.
        let margin = (life / 10).min(Duration::from_secs(30));
        let header = Secret::new(format!("Bearer {}", token.expose()));
        Ok((
            Self { header, fresh_until: started + life - margin },
            given(response.refresh_token).map(Secret::from),
        ))
    }
}

/// Describes a response that holds no token: its form and the names of its members, never their values.
fn describe(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        let text = String::from_utf8_lossy(body);
        return match text.trim_start() {
            "" => "the response is empty".to_owned(),
            text if text.starts_with('<') => "the response is a web page or XML, expected JSON".to_owned(),
            _ => format!("the response is {} bytes that are not JSON", body.len()),
        };
    };
    let kind = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a truth value",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(text) if text.is_empty() => "an empty text",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "an array",
        serde_json::Value::Object(_) => "an object",
    };
    let serde_json::Value::Object(members) = &value else {
        return format!(
            "the response is {}, expected an object with `token` or `access_token`",
            kind(&value)
        );
    };
    let named = members.iter().find(|(name, _)| ["token", "access_token"].contains(&name.as_str()));
    match named {
        Some((name, value)) => format!("`{name}` is {}", kind(value)),
        None if members.is_empty() => "the response is an empty object".to_owned(),
        None => {
            let names: Vec<String> = members.keys().map(|name| sanitize(name)).collect();
            format!("the response has {}, expected `token` or `access_token`", quoted_list(&names))
        }
    }
}

pub(super) fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}
