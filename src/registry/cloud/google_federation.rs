//! Google's workload identity federation: a token of another identity provider becomes an access token.
//!
//! The file is what `gcloud iam workload-identity-pools create-cred-config` writes (`external_account`), with the
//! foreign token in a file or at a URL; what a program or AWS's own signature would give is not supported. Source:
//! Google Cloud "Workload Identity Federation", AIP-4117; RFC 8693.

use std::path::PathBuf;

use serde::Deserialize;

use super::super::url::{Url, encode};
use super::client::{CloudClient, CloudRequest, Reach};
use super::clock;
use super::login::{Granted, LoginError, basic, may_be_plain, read_file};
use crate::model::{Method, Secret};

/// What the access token may be used for; registries know no narrower one.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Headers that identity providers ask for: GitHub, Azure, Google, App Service.
const HEADERS: [&str; 5] = ["authorization", "metadata", "metadata-flavor", "accept", "x-identity-header"];

/// An identity of another provider, and where Google takes it.
#[derive(Clone, Debug)]
pub struct GoogleFederation {
    audience: String,
    subject_token_type: String,
    token_url: Url,
    subject: Subject,
    /// Field of a JSON document that holds the subject token; the whole text otherwise.
    field: Option<String>,
    /// Where the token of a service account is got with that of the identity.
    impersonation: Option<Url>,
    life_seconds: u64,
}

/// Where the foreign token is.
#[derive(Clone, Debug)]
enum Subject {
    File(PathBuf),
    Url { url: Url, headers: Vec<(&'static str, Secret)> },
}

#[derive(Deserialize)]
struct Document {
    audience: String,
    subject_token_type: String,
    token_url: String,
    credential_source: Source,
    #[serde(default)]
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    service_account_impersonation: Impersonation,
}

#[derive(Default, Deserialize)]
struct Impersonation {
    #[serde(default)]
    token_lifetime_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    subject_token_field_name: Option<String>,
}

/// Takes a URL to which a token is sent: `https`, or this machine.
fn endpoint(name: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|problem| format!("`{name}` {problem}"))?;
    if url.is_https() || url.origin().is_loopback() {
        return Ok(url);
    }
    Err(format!("`{name}` is `{url}`, expected an `https` URL"))
}

impl GoogleFederation {
    /// Reads an `external_account` document.
    ///
    /// Errors: what is missing, or not supported, in words that name the field and quote no secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The parser's own words could quote the document.
        let document: Document = serde_json::from_str(text)
            .map_err(|error| format!("line {} is not as expected of an `external_account`", error.line()))?;
        let source = document.credential_source;
        let subject = match (source.file, source.url) {
            (Some(file), None) => Subject::File(file),
            (None, Some(url)) => {
                let url = Url::parse(&url).map_err(|problem| format!("`credential_source.url` {problem}"))?;
                let known = |(name, value): (String, String)| {
                    let found = HEADERS.into_iter().find(|known| name.eq_ignore_ascii_case(known));
                    let found = found
                        .ok_or(format!("`credential_source.headers` has `{name}`, which is not supported"));
                    found.map(|name| (name, Secret::new(value)))
                };
                let headers = source.headers.into_iter().map(known).collect::<Result<_, _>>()?;
                Subject::Url { url, headers }
            }
            _ => {
                return Err(
                    "`credential_source` has neither `file` nor `url`, which alone are supported".into()
                );
            }
        };
        let field = match source.format.kind.as_str() {
            "" | "text" => None,
            "json" => Some(
                source
                    .format
                    .subject_token_field_name
                    .ok_or("`credential_source.format` has no `subject_token_field_name`")?,
            ),
            other => {
                return Err(format!(
                    "`credential_source.format.type` is `{other}`, expected `text` or `json`"
                ));
            }
        };
        let impersonation = document.service_account_impersonation_url;
        let impersonation =
            impersonation.map(|url| endpoint("service_account_impersonation_url", &url)).transpose()?;
        Ok(Self {
            audience: document.audience,
            subject_token_type: document.subject_token_type,
            token_url: endpoint("token_url", &document.token_url)?,
            subject,
            field,
            impersonation,
            life_seconds: document.service_account_impersonation.token_lifetime_seconds.unwrap_or(3600),
        })
    }

    /// Gets the foreign token, exchanges it, and becomes the service account if there is one.
    pub(super) fn ask(&self, now: u64, client: &dyn CloudClient) -> Result<Granted, LoginError> {
        #[derive(Deserialize)]
        struct Exchanged {
            access_token: String,
            #[serde(default)]
            expires_in: u64,
        }
        let subject = self.subject_token(client)?;
        let body = format!(
            "grant_type={}&audience={}&scope={}&requested_token_type={}&subject_token={}&subject_token_type={}",
            encode("urn:ietf:params:oauth:grant-type:token-exchange"),
            encode(&self.audience),
            encode(SCOPE),
            encode("urn:ietf:params:oauth:token-type:access_token"),
            encode(subject.expose()),
            encode(&self.subject_token_type)
        );
        let url = &self.token_url;
        let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        let ask = CloudRequest { method: Method::Post, url: url.clone(), headers, body, reach: Reach::Far };
        let found: Exchanged = serde_json::from_slice(&client.send(&ask)?.success(url)?)
            .map_err(|_| LoginError::Refused(format!("`{}` sent no access token", url.origin())))?;
        let token = Secret::from(found.access_token);
        let (token, expires) = match &self.impersonation {
            Some(url) => self.impersonate(url, &token, client)?,
            None => (token, Some(now.saturating_add(found.expires_in))),
        };
        Ok(Granted { credential: basic("oauth2accesstoken", token.expose()), expires })
    }

    fn subject_token(&self, client: &dyn CloudClient) -> Result<Secret, LoginError> {
        let (text, shown) = match &self.subject {
            Subject::File(path) => (read_file(path)?, format!("`{}`", path.display())),
            Subject::Url { url, headers } => {
                let headers =
                    headers.iter().map(|(name, value)| (*name, value.expose().to_owned())).collect();
                let reach = if may_be_near(url) { Reach::Near } else { Reach::Far };
                let ask = CloudRequest {
                    method: Method::Get,
                    url: url.clone(),
                    headers,
                    body: String::new(),
                    reach,
                };
                let response = client.send(&ask).map_err(|problem| match problem {
                    // The user named it, so its absence is an error.
                    LoginError::Absent => {
                        LoginError::Refused(format!("no server answers at `{}`", url.origin()))
                    }
                    other => other,
                })?;
                let text = String::from_utf8(response.success(url)?).unwrap_or_default();
                (Secret::new(text.trim()), format!("`{}`", url.origin()))
            }
        };
        let token = match &self.field {
            None => text,
            Some(field) => {
                let document: serde_json::Value = serde_json::from_str(text.expose()).unwrap_or_default();
                Secret::new(document.get(field).and_then(|value| value.as_str()).unwrap_or(""))
            }
        };
        if token.is_empty() { Err(LoginError::Refused(format!("{shown} holds no token"))) } else { Ok(token) }
    }

    /// Gets the token of the service account.
    fn impersonate(
        &self,
        url: &Url,
        token: &Secret,
        client: &dyn CloudClient,
    ) -> Result<(Secret, Option<u64>), LoginError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Generated {
            access_token: String,
            #[serde(default)]
            expire_time: Option<String>,
        }
        let body = format!(r#"{{"scope":["{SCOPE}"],"lifetime":"{}s"}}"#, self.life_seconds);
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("authorization", format!("Bearer {}", token.expose())),
        ];
        let ask = CloudRequest { method: Method::Post, url: url.clone(), headers, body, reach: Reach::Far };
        let found: Generated = serde_json::from_slice(&client.send(&ask)?.success(url)?)
            .map_err(|_| LoginError::Refused(format!("`{}` sent no access token", url.origin())))?;
        Ok((found.access_token.into(), found.expire_time.as_deref().and_then(clock::parse_expiry)))
    }
}

/// Tells whether a URL is of this machine or its link, which no proxy reaches.
fn may_be_near(url: &Url) -> bool {
    may_be_plain(url)
        || url.origin().address().is_some_and(|address| match address {
            std::net::IpAddr::V4(address) => address.is_link_local(),
            std::net::IpAddr::V6(_) => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl Fn(&mut serde_json::Value)) -> Result<GoogleFederation, String> {
        let mut document = serde_json::json!({
            "type": "external_account", "audience": "//iam.googleapis.com/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"url": "https://ci.example/token", "headers": {"Authorization": "bearer hunter2"}},
        });
        change(&mut document);
        GoogleFederation::parse(&document.to_string())
    }

    #[test]
    fn what_is_not_supported_is_named_and_no_secret_is_shown() {
        let shown = format!("{:?}", parse(|_| {}).unwrap());
        assert!(shown.contains("ci.example") && !shown.contains("hunter2"), "{shown}");
        type Change = fn(&mut serde_json::Value);
        let cases: [(Change, &str); 7] = [
            (|d| d["token_url"] = "http://sts.example/".into(), "expected an `https` URL"),
            (
                |d| d["service_account_impersonation_url"] = "ftp://x".into(),
                "`service_account_impersonation_url`",
            ),
            (|d| d["credential_source"] = serde_json::json!({"executable": {}}), "neither `file` nor `url`"),
            (|d| d["credential_source"]["headers"]["X-Odd"] = "hunter2".into(), "has `X-Odd`"),
            (|d| d["credential_source"]["format"] = serde_json::json!({"type": "xml"}), "is `xml`"),
            (
                |d| d["credential_source"]["format"] = serde_json::json!({"type": "json"}),
                "subject_token_field_name",
            ),
            (|d| d["audience"] = serde_json::json!(["hunter2"]), "line 1 is not as expected"),
        ];
        for (change, expected) in cases {
            let problem = parse(change).unwrap_err();
            assert!(problem.contains(expected) && !problem.contains("hunter2"), "{problem}");
        }
    }
}
