//! The HTTP client for cloud providers: short requests and responses, repeated where that makes sense.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::events::RetryRecord;
use super::super::http::{Http, Payload, Request};
use super::super::reach::HostSource;
use super::super::retry::{self, RetryPolicy};
use super::super::sanitize::sanitize;
use super::super::url::Url;
use super::super::wire_error::WireErrorKind;
use super::super::wire_options::{Proxies, Timeouts, TlsOptions, WireOptions};
use super::login::LoginError;
use crate::model::{Method, limits};
use crate::stream::{TooLarge, read_bounded};

/// Attempts of a request to a provider's service.
const ATTEMPTS: u32 = 4;
/// Attempts of a request to a service of the machine itself.
const ATTEMPTS_NEAR: u32 = 2;
/// How long a service of the machine itself may take: where there is none, nothing answers.
const NEAR: Duration = Duration::from_secs(2);

/// Where the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Reach {
    /// In the internet.
    Far,
    /// On this machine or its link; never behind a proxy, and often not there at all.
    Near,
}

/// One request.
pub(in super::super) struct CloudRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    pub(super) reach: Reach,
}

/// One response of any status.
pub(in super::super) struct CloudResponse {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// What an error says, fit to be shown; empty when it says nothing that is understood.
    pub(super) reason: String,
}

/// Sends requests to providers.
pub(in super::super) trait CloudClient {
    /// Sends a request; a peer that is near and not there is [`LoginError::Absent`].
    fn send(&self, ask: &CloudRequest) -> Result<CloudResponse, LoginError>;
}

/// Reads a URL of the machine's own metadata service.
///
/// Errors: [`LoginError::Absent`] if the machine has no such service, or the service no identity for it.
pub(super) fn read_metadata(
    client: &dyn CloudClient,
    url: &Url,
    headers: Vec<(&'static str, String)>,
) -> Result<Vec<u8>, LoginError> {
    let (url, body) = (url.clone(), String::new());
    let request = CloudRequest { method: Method::Get, url, headers, body, reach: Reach::Near };
    let response = client.send(&request)?;
    if response.status == 404 { Err(LoginError::Absent) } else { response.success(&request.url) }
}

/// Sends requests over HTTP.
pub(in super::super) struct HttpCloudClient {
    far: Http,
    near: Http,
    policy: RetryPolicy,
}

impl HttpCloudClient {
    pub(in super::super) fn new(options: &WireOptions, policy: RetryPolicy) -> Result<Self, String> {
        // `--registry-verify-certs=false` is about registries; a provider's certificate is always checked.
        let tls = TlsOptions { verify: true, ..options.tls.clone() };
        let far = WireOptions { tls: tls.clone(), ..options.clone() };
        let near = WireOptions {
            tls,
            proxies: Proxies::default(),
            timeouts: Timeouts { connect: NEAR, idle: NEAR, response: NEAR, closing_response: NEAR },
            ..options.clone()
        };
        Ok(Self { far: Http::new(&far)?, near: Http::new(&near)?, policy })
    }

    fn once(&self, ask: &CloudRequest, attempt: u32) -> Result<CloudResponse, LoginError> {
        let http = if ask.reach == Reach::Near { &self.near } else { &self.far };
        let payload = if ask.body.is_empty() { Payload::None } else { Payload::Bytes(ask.body.as_bytes()) };
        let sent = http.send(Request {
            method: ask.method,
            url: &ask.url,
            named_by: HostSource::User,
            headers: ask.headers.clone(),
            authorization: None,
            payload,
            closing: None,
            attempt,
        });
        let unreachable =
            |cause: String| LoginError::Unreachable { attempts: attempt, elapsed: Duration::ZERO, cause };
        let response = sent.map_err(|failure| match failure.kind {
            WireErrorKind::Cancelled => LoginError::Cancelled,
            WireErrorKind::Connect if ask.reach == Reach::Near => LoginError::Absent,
            _ if failure.silent && ask.reach == Reach::Near => LoginError::Absent,
            WireErrorKind::Trust(_)
            | WireErrorKind::Configuration
            | WireErrorKind::NoThread
            | WireErrorKind::Forbidden => {
                LoginError::Refused(format!("`{}`: {}", ask.url.origin(), failure.text))
            }
            _ => unreachable(failure.text),
        })?;
        let status = response.status;
        let redactor = Arc::clone(&response.redactor);
        let redacted = |text: &str| sanitize(&redactor.redact(text));
        match read_bounded(response.into_reader(), limits::CLOUD_LOGIN_BYTES) {
            Ok(body) if retry::is_retryable(status) => {
                Err(unreachable(format!("the response was {status}{}", reason(&body, &redacted))))
            }
            Ok(body) => Ok(CloudResponse { status, reason: reason(&body, &redacted), body }),
            Err(TooLarge::Limit { limit }) => Err(LoginError::Refused(format!(
                "`{}` answered with more than {limit} bytes",
                ask.url.origin()
            ))),
            Err(TooLarge::Io(_)) => Err(unreachable("its response could not be read".to_owned())),
        }
    }
}

impl CloudClient for HttpCloudClient {
    fn send(&self, ask: &CloudRequest) -> Result<CloudResponse, LoginError> {
        let started = Instant::now();
        let allowed = match ask.reach {
            Reach::Far => ATTEMPTS.min(self.policy.retries + 1),
            Reach::Near => ATTEMPTS_NEAR,
        };
        let mut attempt = 1;
        loop {
            let cause = match self.once(ask, attempt) {
                Err(LoginError::Unreachable { cause, .. }) => cause,
                other => return other,
            };
            let host = ask.url.origin().to_string();
            if attempt >= allowed {
                let elapsed = started.elapsed();
                return Err(LoginError::Unreachable {
                    attempts: attempt,
                    elapsed,
                    cause: format!("`{host}`: {cause}"),
                });
            }
            let delay = retry::delay_before(self.policy.delay, attempt);
            let task = format!("log in at `{host}`");
            self.policy.events.retry(&RetryRecord {
                host: &host,
                task: &task,
                cause: &cause,
                attempt,
                delay,
            });
            retry::sleep(delay).map_err(|_| LoginError::Cancelled)?;
            attempt += 1;
        }
    }
}

impl CloudResponse {
    /// Returns the body of a success; anything else is a refusal in the provider's words.
    pub(super) fn success(self, url: &Url) -> Result<Vec<u8>, LoginError> {
        match self.status {
            200..=299 => Ok(self.body),
            status => {
                Err(LoginError::Refused(format!("`{}` answered {status}{}", url.origin(), self.reason)))
            }
        }
    }
}

/// Reads a provider's words out of an error: JSON of AWS, Azure and Google, or the XML of STS.
/// `redacted` removes secrets and control characters from a text of the provider.
pub(super) fn reason(body: &[u8], redacted: &dyn Fn(&str) -> String) -> String {
    let text = String::from_utf8_lossy(body);
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let word = |keys: &[&str]| keys.iter().find_map(|key| json.get(key).and_then(|value| value.as_str()));
    let code = word(&["__type", "code", "error", "Code"]).or_else(|| element(&text, "Code"));
    let message = word(&["message", "Message", "error_description"]).or_else(|| element(&text, "Message"));
    // AWS puts a name space in front: `com.amazonaws.ecr#ServerException`.
    let code = code.map(|code| code.rsplit('#').next().unwrap_or(code));
    match (code, message) {
        (Some(code), Some(message)) => format!(" ({}): {}", redacted(code), redacted(message)),
        (Some(one), None) | (None, Some(one)) => format!(": {}", redacted(one)),
        (None, None) => String::new(),
    }
}

/// Returns the text of the first XML element of a name that has no attributes.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.trim()).filter(|inner| !inner.is_empty() && !inner.contains('<'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_words_are_found_in_every_form() {
        for (body, expected) in [
            (
                r#"{"__type":"com.amazonaws.ecr#AccessDeniedException","message":"no"}"#,
                " (AccessDeniedException): no",
            ),
            (
                r#"{"__type":"UnrecognizedClientException","Message":"no"}"#,
                " (UnrecognizedClientException): no",
            ),
            (
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: wrong"}"#,
                " (invalid_client): AADSTS7000215: wrong",
            ),
            (
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no\u{1b}</Message></Error></ErrorResponse>",
                " (AccessDenied): no\\u{1b}",
            ),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(reason(body.as_bytes(), &sanitize), expected, "{body}");
        }
    }
}
