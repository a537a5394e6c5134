//! Asking a provider: short requests and answers, tried again where that makes sense.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::error_body::printable;
use super::super::http::{FailureKind, Http, Method, Payload, Request};
use super::super::options::{ClientOptions, Proxies, RetryRecord, Timeouts, TlsOptions};
use super::super::retry;
use super::super::url::Url;
use super::Problem;
use crate::model::limits;
use crate::stream::{TooLarge, read_bounded};

/// Attempts at a provider's service.
const ATTEMPTS: u32 = 4;
/// Attempts at a service of the machine itself.
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
pub(in super::super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    pub(super) reach: Reach,
}

/// One answer, whatever its status.
pub(in super::super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// What an error says, fit to be shown; empty when it says nothing that is understood.
    pub(super) reason: String,
}

/// Sends requests to providers.
pub(in super::super) trait Wire {
    /// Sends a request; a peer that is near and not there is [`Problem::Absent`].
    #[expect(private_interfaces, reason = "only this module's logins look at the problem")]
    fn send(&self, ask: &Ask) -> Result<Answer, Problem>;
}

/// The real wire.
pub(in super::super) struct ProviderWire {
    far: Http,
    near: Http,
    options: Arc<ClientOptions>,
}

impl ProviderWire {
    pub(in super::super) fn new(options: &Arc<ClientOptions>) -> Result<Self, String> {
        // Somebody who does not check a registry's certificate has not agreed to show keys to strangers.
        let tls = TlsOptions { verify: true, ..options.tls.clone() };
        let far = ClientOptions { tls: tls.clone(), ..ClientOptions::clone(options) };
        let near = ClientOptions {
            tls,
            proxies: Proxies::default(),
            timeouts: Timeouts { connect: NEAR, idle: NEAR, response: NEAR, closing_response: NEAR },
            ..ClientOptions::clone(options)
        };
        Ok(Self {
            far: Http::new(Arc::new(far))?,
            near: Http::new(Arc::new(near))?,
            options: Arc::clone(options),
        })
    }

    fn once(&self, ask: &Ask, attempt: u32) -> Result<Answer, Problem> {
        let http = if ask.reach == Reach::Near { &self.near } else { &self.far };
        let payload = if ask.body.is_empty() { Payload::None } else { Payload::Bytes(ask.body.as_bytes()) };
        let sent = http.send(Request {
            method: ask.method,
            url: &ask.url,
            headers: ask.headers.clone(),
            authorization: None,
            payload,
            closing: None,
            attempt,
        });
        let unreachable =
            |cause: String| Problem::Unreachable { attempts: attempt, elapsed: Duration::ZERO, cause };
        let response = sent.map_err(|failure| match failure.kind {
            FailureKind::Cancelled => Problem::Cancelled,
            FailureKind::Connect if ask.reach == Reach::Near => Problem::Absent,
            _ if failure.silent && ask.reach == Reach::Near => Problem::Absent,
            FailureKind::Trust(_) | FailureKind::Configuration | FailureKind::NoThread => {
                Problem::Refused(format!("`{}`: {}", ask.url.origin(), failure.text))
            }
            _ => unreachable(failure.text),
        })?;
        let status = response.status;
        let discretion = Arc::clone(&response.discretion);
        let shown = |text: &str| printable(&discretion.hide(text));
        match read_bounded(response.into_reader(), limits::CLOUD_ANSWER_BYTES) {
            Ok(body) if retry::is_retryable(status) => {
                Err(unreachable(format!("the answer was {status}{}", reason(&body, &shown))))
            }
            Ok(body) => Ok(Answer { status, reason: reason(&body, &shown), body }),
            Err(TooLarge::Limit { limit }) => {
                Err(Problem::Refused(format!("`{}` answered with more than {limit} bytes", ask.url.origin())))
            }
            Err(TooLarge::Io(_)) => Err(unreachable("its answer could not be read".to_owned())),
        }
    }
}

impl Wire for ProviderWire {
    #[expect(private_interfaces, reason = "only this module's logins look at the problem")]
    fn send(&self, ask: &Ask) -> Result<Answer, Problem> {
        let started = Instant::now();
        let allowed = match ask.reach {
            Reach::Far => ATTEMPTS.min(self.options.retries + 1),
            Reach::Near => ATTEMPTS_NEAR,
        };
        let mut attempt = 1;
        loop {
            let cause = match self.once(ask, attempt) {
                Err(Problem::Unreachable { cause, .. }) => cause,
                other => return other,
            };
            let host = ask.url.origin().to_string();
            if attempt >= allowed {
                let elapsed = started.elapsed();
                return Err(Problem::Unreachable {
                    attempts: attempt,
                    elapsed,
                    cause: format!("`{host}`: {cause}"),
                });
            }
            let delay = retry::delay(self.options.retry_delay, attempt);
            let task = format!("log in at `{host}`");
            self.options.events.retry(&RetryRecord {
                host: &host,
                task: &task,
                cause: &cause,
                attempt,
                delay,
            });
            retry::sleep(delay).map_err(|_| Problem::Cancelled)?;
            attempt += 1;
        }
    }
}

impl Answer {
    /// Returns the body of a success; anything else is a refusal in the provider's words.
    pub(super) fn success(self, url: &Url) -> Result<Vec<u8>, Problem> {
        match self.status {
            200..=299 => Ok(self.body),
            status => Err(Problem::Refused(format!("`{}` answered {status}{}", url.origin(), self.reason))),
        }
    }
}

/// Reads a provider's words out of an error: JSON of AWS, Azure and Google, or the XML of STS.
/// `shown` makes a text of the provider fit to be shown.
pub(super) fn reason(body: &[u8], shown: &dyn Fn(&str) -> String) -> String {
    let text = String::from_utf8_lossy(body);
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let word = |keys: &[&str]| keys.iter().find_map(|key| json.get(key).and_then(|value| value.as_str()));
    let code = word(&["__type", "code", "error", "Code"]).or_else(|| element(&text, "Code"));
    let message = word(&["message", "Message", "error_description"]).or_else(|| element(&text, "Message"));
    // AWS puts a name space in front: `com.amazonaws.ecr#ServerException`.
    let code = code.map(|code| code.rsplit('#').next().unwrap_or(code));
    match (code, message) {
        (Some(code), Some(message)) => format!(" ({}): {}", shown(code), shown(message)),
        (Some(one), None) | (None, Some(one)) => format!(": {}", shown(one)),
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
            assert_eq!(reason(body.as_bytes(), &printable), expected, "{body}");
        }
    }
}
