//! Sends the requests of an operation: chooses scheme and mirror, adds credentials, follows redirects, retries.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::model::{Method, Registry, Repository, limits};
use crate::stream::lock;

use super::auth::{AuthProgress, Authenticator, HostAuth, Subject};
use super::classify;
use super::cloud::HttpCloudClient;
use super::error::{RegistryError, Task};
use super::error_body;
use super::http::{Http, Payload, Request, Response};
use super::options::ClientOptions;
use super::reach::HostSource;
use super::retry::{Gate, RetryBudget, RetryPolicy, Transient};
use super::token::Scopes;
use super::upload_plan::Learned;
use super::url::{Origin, Scheme, Url, origin};
use super::wire_error::WireErrorKind;

/// Sends the requests of all verbs.
pub(super) struct Requester {
    pub(super) options: ClientOptions,
    pub(super) http: Arc<Http>,
    authenticator: Authenticator,
    pub(super) policy: RetryPolicy,
    hosts: Mutex<HashMap<Registry, Arc<Host>>>,
    /// Mirrors that could not be used; they are not asked again.
    useless_mirrors: Mutex<HashSet<Registry>>,
}

/// What is known about one registry.
#[derive(Default)]
pub(super) struct Host {
    /// Scheme, host and port, once it is known whether TLS is spoken.
    base: Mutex<Option<Origin>>,
    pub(super) gate: Gate,
    pub(super) auth: HostAuth,
    pub(super) uploads: Mutex<Learned>,
    warned: Mutex<HashSet<String>>,
}

/// One request of a verb.
pub(super) struct Call<'a> {
    pub(super) repository: &'a Repository,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) scopes: Scopes,
    pub(super) task: &'a Task,
    pub(super) follow: Follow,
    pub(super) closing: Option<u64>,
    /// The size of the blob that is read: its bytes may be a web page.
    pub(super) blob_bytes: Option<u64>,
}

/// Who receives a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// The registry, which gets credentials.
    Registry,
    /// Another host that the registry redirected to.
    Elsewhere,
}

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// All: the request only reads.
    All,
    /// 307 and 308, which repeat the request as it is.
    SameRequest,
    /// None: a redirect is the response.
    None,
}

impl Follow {
    /// Tells whether a response with this status leads on.
    ///
    /// Source: RFC 9110 15.4; distribution-spec allows redirects for any request.
    fn follows(self, status: u16) -> bool {
        match self {
            Self::All => matches!(status, 301 | 302 | 303 | 307 | 308),
            Self::SameRequest => matches!(status, 307 | 308),
            Self::None => false,
        }
    }
}

/// Why one attempt did not give a response to work with.
pub(super) enum Attempt {
    /// The credentials have changed; the request is sent again at once.
    Reauthenticate,
    /// A retry may succeed.
    Transient(Transient),
    /// A retry does not help.
    Fatal(RegistryError),
}

impl From<RegistryError> for Attempt {
    fn from(error: RegistryError) -> Self {
        Self::Fatal(error)
    }
}

impl Requester {
    pub(super) fn new(options: ClientOptions) -> Result<Self, RegistryError> {
        let configuration = |problem| RegistryError::Configuration { problem };
        let policy = RetryPolicy {
            retries: options.retries,
            delay: options.retry_delay,
            events: Arc::clone(&options.wire.events),
        };
        let http = Arc::new(Http::new(&options.wire).map_err(configuration)?);
        let cloud = HttpCloudClient::new(&options.wire, policy.clone()).map_err(configuration)?;
        let credentials = Arc::clone(&options.credentials);
        let authenticator = Authenticator::new(Arc::clone(&http), credentials, cloud, policy.clone());
        let (hosts, useless_mirrors) = (Mutex::default(), Mutex::default());
        Ok(Self { options, http, authenticator, policy, hosts, useless_mirrors })
    }

    /// Reads from the first mirror that can, else from the registry itself.
    ///
    /// A mirror that does not have something, or fails, is no error; one that fails is left alone from then on.
    pub(super) fn read_from<T>(
        &self,
        repository: &Repository,
        read: impl Fn(&Repository) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        for mirror in self.options.mirrors.iter().filter(|mirror| mirror.of == *repository.registry()) {
            let useless = || lock(&self.useless_mirrors);
            let Ok(mirrored) = format!("{}/{}", mirror.at, repository.name()).parse() else { continue };
            if useless().contains(&mirror.at) {
                continue;
            }
            match read(&mirrored) {
                Ok(found) => return Ok(found),
                Err(RegistryError::Cancelled) => return Err(RegistryError::Cancelled),
                Err(RegistryError::NotFound { .. }) => {}
                Err(error) => {
                    self.policy
                        .events
                        .warning(mirror.at.as_str(), &format!("the mirror is left out: {error}"));
                    useless().insert(mirror.at.clone());
                }
            }
        }
        read(repository)
    }

    pub(super) fn host(&self, registry: &Registry) -> Arc<Host> {
        let mut hosts = lock(&self.hosts);
        Arc::clone(hosts.entry(registry.clone()).or_default())
    }

    /// Returns the URL of a path below `/v2/<name>/`.
    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let base = self.base(repository.registry())?;
        Ok(Url::new(base, &format!("/v2/{}/{rest}", repository.name())))
    }

    /// Finds out once whether a registry is spoken to with TLS.
    pub(super) fn base(&self, registry: &Registry) -> Result<Origin, RegistryError> {
        let host = self.host(registry);
        let mut base = lock(&host.base);
        if let Some(base) = base.as_ref() {
            return Ok(base.clone());
        }
        let with = |scheme| {
            origin(scheme, registry.api_host()).ok_or_else(|| RegistryError::Configuration {
                problem: format!("registry `{registry}` is not a host name with an optional port"),
            })
        };
        let (plain, tls) = (with(Scheme::Http)?, with(Scheme::Https)?);
        let found = if !self.options.plain_http.allows(registry) {
            tls
        } else if registry.port() == Some(80) {
            plain
        } else if self.speaks_tls(&tls, registry)? {
            tls
        } else {
            plain
        };
        *base = Some(found.clone());
        Ok(found)
    }

    /// Greets in TLS; only a host that may be talked to in plain http is asked this way.
    fn speaks_tls(&self, tls: &Origin, registry: &Registry) -> Result<bool, RegistryError> {
        if tls.is_loopback() {
            return Ok(super::tls::greets_in_tls(tls, self.options.wire.timeouts.connect));
        }
        let url = Url::new(tls.clone(), "/v2/");
        let result = self.http.send(Request {
            method: Method::Get,
            url: &url,
            named_by: HostSource::User,
            headers: Vec::new(),
            authorization: None,
            payload: Payload::None,
            closing: None,
            attempt: 1,
        });
        match result {
            Ok(response) => {
                response.drain();
                Ok(true)
            }
            Err(failure) => Ok(match failure.kind {
                WireErrorKind::NotTls | WireErrorKind::Broken | WireErrorKind::Protocol => false,
                // Without a port, plain http has its own.
                WireErrorKind::Connect => registry.port().is_some(),
                WireErrorKind::Trust(_)
                | WireErrorKind::Configuration
                | WireErrorKind::NoThread
                | WireErrorKind::Forbidden => true,
                WireErrorKind::Cancelled => return Err(RegistryError::Cancelled),
            }),
        }
    }

    /// Sends a request until there is a response, with retries.
    pub(super) fn run(&self, call: &Call<'_>, body: Option<&[u8]>) -> Result<Response, RegistryError> {
        let host = self.host(call.repository.registry());
        let mut tries = RetryBudget::new();
        let mut auth = AuthProgress::default();
        loop {
            let payload = body.map_or(Payload::None, Payload::Bytes);
            match self.attempt(&host, call, payload, &mut auth, tries.attempt()) {
                Ok(response) => return Ok(response),
                Err(Attempt::Reauthenticate) => {}
                Err(Attempt::Transient(failure)) => self.wait(&mut tries, &host, call.task, failure)?,
                Err(Attempt::Fatal(error)) => return Err(error),
            }
        }
    }

    /// Waits after a failure at a registry; an error when the retry policy allows no further attempt.
    pub(super) fn wait(
        &self,
        tries: &mut RetryBudget,
        host: &Host,
        task: &Task,
        failure: Transient,
    ) -> Result<(), RegistryError> {
        tries.failed(&self.policy, Some(&host.gate), task, failure)
    }

    /// Sends a call once and follows its redirects.
    ///
    /// Any status is a response except those that are worth repeating and a 401, which changes the credentials.
    pub(super) fn attempt(
        &self,
        host: &Host,
        call: &Call<'_>,
        payload: Payload<'_>,
        auth: &mut AuthProgress,
        attempt: u32,
    ) -> Result<Response, Attempt> {
        let registry = self.base(call.repository.registry())?;
        let sending = Sending { requester: self, host, call, attempt };
        let mut url = call.url.clone();
        // What the registry names outside itself, such as an upload location, it leads to.
        let mut led_by = self.http.led_by(&registry);
        for _ in 0..=limits::REDIRECTS {
            // An upload may need a download to go on, so it does not keep one waiting.
            let _turn = match payload {
                Payload::Stream { .. } => None,
                Payload::None | Payload::Bytes(_) => Some(host.gate.turn(self.options.wire.concurrency)?),
            };
            host.gate.enter()?;
            let peer = if *url.origin() == registry { Peer::Registry } else { Peer::Elsewhere };
            let named_by = if peer == Peer::Registry { HostSource::User } else { led_by };
            let response = sending.send(&url, peer, named_by, payload, auth)?;
            self.warn(host, call, &response);
            if !call.follow.follows(response.status) {
                return sending.accept(response, peer, auth);
            }
            led_by = self.http.led_by(url.origin());
            let next = redirect(&url, &response, led_by, call.task);
            response.drain();
            url = next?;
        }
        Err(Attempt::Fatal(RegistryError::Protocol {
            task: Box::new(call.task.clone()),
            problem: format!("more than {} redirects", limits::REDIRECTS),
        }))
    }

    /// Passes on `Warning` headers, each text once per host.
    ///
    /// Source: distribution-spec, "Warnings": code 299, agent `-`.
    fn warn(&self, host: &Host, call: &Call<'_>, response: &Response) {
        for value in response.headers.get_all("warning") {
            let Some(text) = value.to_str().ok().and_then(|value| value.trim().strip_prefix("299 - ")) else {
                continue;
            };
            let text = text.trim();
            let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
            let text = response.redacted(&text.replace("\\\"", "\""));
            let mut warned = lock(&host.warned);
            if warned.len() < 100 && warned.insert(text.clone()) {
                self.policy.events.warning(&call.task.host, &text);
            }
        }
    }
}

/// One attempt at a call.
struct Sending<'a> {
    requester: &'a Requester,
    host: &'a Host,
    call: &'a Call<'a>,
    attempt: u32,
}

impl Sending<'_> {
    /// Sends the call to one URL; only the registry itself gets credentials.
    fn send(
        &self,
        url: &Url,
        peer: Peer,
        named_by: HostSource,
        payload: Payload<'_>,
        auth: &mut AuthProgress,
    ) -> Result<Response, Attempt> {
        let authorization = match peer {
            Peer::Registry => self.requester.authenticator.authorization(&self.subject(), auth)?,
            Peer::Elsewhere => None,
        };
        let sent = self.requester.http.send(Request {
            method: self.call.method,
            url,
            named_by,
            headers: self.call.headers.clone(),
            authorization,
            payload,
            closing: self.call.closing,
            attempt: self.attempt,
        });
        sent.map_err(|error| {
            let origin = url.origin().to_string();
            match classify::wire_error(error, &origin) {
                Ok(failure) if peer == Peer::Registry => Attempt::Transient(failure),
                Ok(failure) => Attempt::Transient(failure.about(&format!("`{origin}`"))),
                Err(error) => Attempt::Fatal(error),
            }
        })
    }

    /// Sorts a response that is no redirect.
    fn accept(&self, response: Response, peer: Peer, auth: &mut AuthProgress) -> Result<Response, Attempt> {
        if peer == Peer::Registry {
            if response.status == 401 {
                self.requester.authenticator.challenged(&self.subject(), response, auth)?;
                return Err(Attempt::Reauthenticate);
            }
            auth.accepted();
        }
        let response = classify::response(&self.requester.http, response).map_err(Attempt::Transient)?;
        // A registry that sends requests for documents elsewhere has the 404 of a document that is absent from there.
        let is_absent = response.status == 404 && self.call.blob_bytes.is_none();
        if peer == Peer::Elsewhere && response.status >= 400 && self.call.follow == Follow::All && !is_absent
        {
            // Signed URLs expire; the registry gives out new ones.
            let cause = format!("`{}` answered {}", response.url.origin(), response.status);
            response.drain();
            return Err(Attempt::Transient(Transient::new(cause)));
        }
        self.host.gate.succeeded();
        let is_blob = self.call.blob_bytes.is_some() && self.call.blob_bytes == response.content_length();
        if response.status == 200 && response.is_web_page() && !is_blob {
            let origin = response.url.origin().to_string();
            response.drain();
            return Err(Attempt::Fatal(RegistryError::WebPage {
                task: Box::new(self.call.task.clone()),
                host: origin,
            }));
        }
        Ok(response)
    }

    /// Returns for whom the call authenticates.
    fn subject(&self) -> Subject<'_> {
        let Call { repository, scopes, task, .. } = self.call;
        Subject { host: &self.host.auth, repository, scopes, task }
    }
}

/// Returns where a redirect leads, if it may be followed.
fn redirect(from: &Url, response: &Response, led_by: HostSource, task: &Task) -> Result<Url, RegistryError> {
    redirect_target(from, response.header("location").unwrap_or(""), led_by).map_err(|problem| {
        RegistryError::Protocol {
            task: Box::new(task.clone()),
            problem: format!("{}, which is not followed", response.redactor.redact(&problem)),
        }
    })
}

fn redirect_target(from: &Url, location: &str, led_by: HostSource) -> Result<Url, String> {
    match from.join(location) {
        Err(problem) => Err(format!("redirect to a location that {problem}")),
        Ok(to) if from.is_https() && !to.is_https() => Err(format!("redirect from https to `{to}`")),
        Ok(to) if !to.origin().may_be_named_by(led_by) => {
            Err(format!("redirect to this machine or link, `{to}`"))
        }
        Ok(to) => Ok(to),
    }
}

/// Makes the error for a response whose status ends the task.
pub(super) fn unexpected(
    requester: &Requester,
    repository: &Repository,
    task: &Task,
    response: Response,
) -> RegistryError {
    let status = response.status;
    let target = response.header("location").and_then(|location| response.url.join(location).ok());
    let target = target.map(|target| response.redactor.redact(&target.to_string()));
    let message = error_body::message(response);
    let task = task.clone();
    match status {
        401 | 403 => requester.authenticator.refusal(repository, &task, status, message),
        404 => RegistryError::NotFound { task: Box::new(task), message },
        400..=499 | 501 | 505..=599 => RegistryError::Rejected { task: Box::new(task), status, message },
        _ => {
            let problem = match target {
                Some(target) if status >= 300 => {
                    format!("the response was {status} to `{target}`, which is not followed here")
                }
                _ => format!("the response was {status}{message}, which means nothing here"),
            };
            RegistryError::Protocol { task: Box::new(task), problem }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reach::{NetworkPlace, place};
    use super::*;

    #[test]
    fn redirects_are_followed_to_other_hosts_but_not_out_of_tls_or_to_this_machine() {
        let from = |url: &str| Url::parse(url).unwrap();
        for (base, location, expected) in [
            ("https://reg.example/v2/a", "/v2/b", Ok("https://reg.example/v2/b")),
            ("https://reg.example/v2/a", "https://cdn.example/x?sig=1", Ok("https://cdn.example/x")),
            ("http://reg.example/v2/a", "https://reg.example/v2/a", Ok("https://reg.example/v2/a")),
            (
                "https://reg.example/",
                "http://cdn.example/x",
                Err("redirect from https to `http://cdn.example/x`"),
            ),
            (
                "https://reg.example/",
                "https://127.0.0.1/x",
                Err("redirect to this machine or link, `https://127.0.0.1/x`"),
            ),
            (
                "http://reg.example/",
                "http://169.254.169.254/x",
                Err("redirect to this machine or link, `http://169.254.169.254/x`"),
            ),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/x", Ok("http://127.0.0.1:5001/x")),
        ] {
            let from = from(base);
            let source =
                HostSource::ResponseFrom(from.origin().address().map_or(NetworkPlace::Elsewhere, place));
            let found = redirect_target(&from, location, source).map(|url| url.to_string());
            match expected {
                Ok(start) => assert!(found.as_ref().is_ok_and(|url| url.starts_with(start)), "{found:?}"),
                Err(problem) => assert_eq!(found, Err(problem.to_owned()), "{base} {location}"),
            }
        }
        let user = HostSource::User;
        let problem = redirect_target(&from("https://reg.example/"), "ftp://x/", user).unwrap_err();
        assert!(problem.starts_with("redirect to a location that "), "{problem}");
    }
}
