//! Between the verbs and the wire: which address, which credentials, redirects, and when to try again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::model::{Registry, Repository, limits};
use crate::stream::lock;

use super::auth::{AuthTries, Memory, Scopes, may_aim_at};
use super::cloud::ProviderWire;
use super::error::{RegistryError, Task};
use super::http::{Failure, FailureKind, Http, Method, Payload, Request, Response};
use super::options::{ClientOptions, RetryRecord};
use super::retry::{self, Gate};
use super::upload::UploadForm;
use super::url::{Origin, Scheme, Url, origin};

/// Attempts that met silence before a peer counts as gone: each costs a whole time-out, and who says nothing twice
/// hardly speaks the third time.
const SILENT_ATTEMPTS: u32 = 2;

/// What all verbs share.
pub(super) struct Core {
    pub(super) options: Arc<ClientOptions>,
    pub(super) http: Http,
    pub(super) providers: ProviderWire,
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
    pub(super) auth: Memory,
    pub(super) upload_form: Mutex<UploadForm>,
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
}

/// Whether redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    Yes,
    No,
}

/// Why one attempt did not give an answer to work with.
pub(super) enum Attempt {
    /// Credentials have changed; send the same at once.
    Again,
    /// It may work later.
    Later(Later),
    /// It will not work.
    Fatal(RegistryError),
}

/// A failure that may go away.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) cause: String,
    /// The status, when there was an answer.
    pub(super) status: Option<u16>,
    /// How long the registry asked to wait.
    pub(super) after: Option<Duration>,
    /// Nothing came within the time allowed.
    pub(super) silent: bool,
}

impl Later {
    pub(super) fn new(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), status: None, after: None, silent: false }
    }

    /// Says who failed, when it is not the registry itself.
    pub(super) fn about(mut self, who: &str) -> Self {
        self.cause = format!("{who}: {}", self.cause);
        self
    }
}

impl From<RegistryError> for Attempt {
    fn from(error: RegistryError) -> Self {
        Self::Fatal(error)
    }
}

/// Counts the attempts at one thing.
pub(super) struct Tries {
    started: Instant,
    failed: u32,
    limited: u32,
    silent: u32,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), failed: 0, limited: 0, silent: 0 }
    }

    /// Returns the number of the attempt that is being made, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.failed + self.limited + 1
    }

    /// Begins to count anew, after something has moved.
    pub(super) fn progressed(&mut self) {
        (self.failed, self.limited, self.silent) = (0, 0, 0);
    }

    /// Takes a failure and waits; fails when it was one too many.
    pub(super) fn failed(
        &mut self,
        core: &Core,
        host: Option<&Host>,
        task: &Task,
        later: Later,
    ) -> Result<(), RegistryError> {
        let attempt = self.attempt();
        let limited = later.status == Some(429);
        if limited {
            self.limited += 1;
        } else {
            self.failed += 1;
        }
        // Being told to wait is not failing; but a registry that says nothing else is not usable either.
        let retries = core.options.retries;
        self.silent += u32::from(later.silent);
        if self.failed > retries || self.limited > retries.saturating_mul(4) || self.silent >= SILENT_ATTEMPTS
        {
            return Err(RegistryError::Unreachable {
                task: Box::new(task.clone()),
                attempts: attempt,
                elapsed: self.started.elapsed(),
                cause: later.cause,
            });
        }
        let base = core.options.retry_delay;
        let delay = match later.after {
            Some(after) => after,
            // A connection that died while it was idle says nothing about the registry.
            None if later.status.is_none() && attempt == 1 => base / 10,
            None => retry::delay(base, attempt),
        };
        core.options.events.retry(&RetryRecord {
            host: &task.host,
            task: &task.to_string(),
            cause: &later.cause,
            attempt,
            delay,
        });
        if let Some(host) = host
            && matches!(later.status, Some(429 | 503))
        {
            // The gate makes every worker of this host wait, this one too.
            host.gate.slow_down(delay, limited);
            return Ok(());
        }
        retry::sleep(delay)
    }
}

impl Core {
    pub(super) fn new(options: ClientOptions) -> Result<Self, RegistryError> {
        let options = Arc::new(options);
        let http =
            Http::new(Arc::clone(&options)).map_err(|problem| RegistryError::Configuration { problem })?;
        let providers =
            ProviderWire::new(&options).map_err(|problem| RegistryError::Configuration { problem })?;
        let (hosts, useless_mirrors) = (Mutex::default(), Mutex::default());
        Ok(Self { options, http, providers, hosts, useless_mirrors })
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
                    self.options
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
    pub(super) fn url(&self, repository: &Repository, rest: &str, task: &Task) -> Result<Url, RegistryError> {
        let base = self.base(repository.registry(), task)?;
        Ok(Url::new(base, &format!("/v2/{}/{rest}", repository.name())))
    }

    /// Finds out once whether a registry is spoken to with TLS.
    fn base(&self, registry: &Registry, task: &Task) -> Result<Origin, RegistryError> {
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
        } else if self.speaks_tls(&tls, registry, task)? {
            tls
        } else {
            plain
        };
        *base = Some(found.clone());
        Ok(found)
    }

    /// Greets in TLS; only a host that may be talked to in plain http is asked this way.
    fn speaks_tls(&self, tls: &Origin, registry: &Registry, task: &Task) -> Result<bool, RegistryError> {
        if tls.is_loopback() {
            return Ok(super::tls::greets_in_tls(tls, self.options.timeouts.connect));
        }
        let url = Url::new(tls.clone(), "/v2/");
        let result = self.http.send(Request {
            method: Method::Get,
            url: &url,
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
                FailureKind::NotTls | FailureKind::Broken | FailureKind::Protocol => false,
                // Without a port, plain http has its own.
                FailureKind::Connect => registry.port().is_some(),
                FailureKind::Trust(_) | FailureKind::Configuration | FailureKind::NoThread => true,
                FailureKind::Cancelled => return self.failure(failure, &task.host).map(|_| true),
            }),
        }
    }

    /// Sends a call until it is answered, waiting and trying again where that makes sense.
    pub(super) fn run(&self, call: &Call<'_>, body: Option<&[u8]>) -> Result<Response, RegistryError> {
        let host = self.host(call.repository.registry());
        let mut tries = Tries::new();
        let mut auth = AuthTries::default();
        loop {
            let payload = body.map_or(Payload::None, Payload::Bytes);
            match self.attempt(&host, call, payload, &mut auth, tries.attempt()) {
                Ok(response) => return Ok(response),
                Err(Attempt::Again) => {}
                Err(Attempt::Later(later)) => tries.failed(self, Some(&host), call.task, later)?,
                Err(Attempt::Fatal(error)) => return Err(error),
            }
        }
    }

    /// Sends a call once.
    ///
    /// Any status is an answer except those that mean "later" and a 401, which changes the credentials.
    pub(super) fn attempt(
        &self,
        host: &Host,
        call: &Call<'_>,
        payload: Payload<'_>,
        auth: &mut AuthTries,
        attempt: u32,
    ) -> Result<Response, Attempt> {
        let registry = self.base(call.repository.registry(), call.task)?;
        let mut payload = Some(payload);
        let mut url = call.url.clone();
        for _ in 0..=limits::REDIRECTS {
            host.gate.enter()?;
            let at_home = *url.origin() == registry;
            let authorization = if at_home {
                self.authorization(host, call.repository, &call.scopes, call.task, auth)?
            } else {
                None
            };
            let sent = self.http.send(Request {
                method: call.method,
                url: &url,
                headers: call.headers.clone(),
                authorization,
                payload: payload.take().unwrap_or(Payload::None),
                closing: call.closing,
                attempt,
            });
            let response = match sent {
                Ok(response) => response,
                Err(failure) => {
                    let later = self.failure(failure, &url.origin().to_string())?;
                    let elsewhere = format!("`{}`", url.origin());
                    return Err(Attempt::Later(if at_home { later } else { later.about(&elsewhere) }));
                }
            };
            self.warn(host, call, &response);
            if call.follow == Follow::Yes && matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                let next = self.redirect(&url, &response, call.task);
                response.drain();
                url = next?;
                continue;
            }
            if at_home && response.status == 401 {
                self.challenged(host, response, call.repository, &call.scopes, call.task, auth)?;
                return Err(Attempt::Again);
            }
            if at_home {
                auth.accepted();
            }
            let response = self.later(response).map_err(Attempt::Later)?;
            if !at_home && response.status >= 400 && call.follow == Follow::Yes {
                // Signed URLs expire; the registry gives out new ones.
                let cause = format!("`{}` answered {}", url.origin(), response.status);
                response.drain();
                return Err(Attempt::Later(Later::new(cause)));
            }
            host.gate.succeeded();
            return Ok(response);
        }
        Err(Attempt::Fatal(RegistryError::Protocol {
            task: Box::new(call.task.clone()),
            problem: format!("more than {} redirects", limits::REDIRECTS),
        }))
    }

    /// Returns where a redirect leads, if it may be followed.
    fn redirect(&self, from: &Url, response: &Response, task: &Task) -> Result<Url, RegistryError> {
        let location = response.header("location").unwrap_or("");
        let problem = match from.join(location) {
            Err(problem) => format!("redirect to a location that {problem}"),
            Ok(to) if from.is_https() && !to.is_https() => format!("redirect from https to `{to}`"),
            Ok(to) if !may_aim_at(from.origin(), to.origin()) => {
                format!("redirect to this machine or link, `{to}`")
            }
            Ok(to) => return Ok(to),
        };
        Err(RegistryError::Protocol {
            task: Box::new(task.clone()),
            problem: format!("{}, which is not followed", response.discretion.hide(&problem)),
        })
    }

    /// Passes an answer on, unless its status means that it may be another one later.
    pub(super) fn later(&self, response: Response) -> Result<Response, Later> {
        if response.status == 417 {
            self.http.stop_expecting();
        } else if !retry::is_retryable(response.status) {
            return Ok(response);
        }
        let after = retry::retry_after(response.header("retry-after"), response.header("date"));
        let status = response.status;
        let message = super::error_body::message(response);
        let reason = match status {
            429 => " (too many requests)",
            503 => " (unavailable)",
            502 | 504 => " (gateway)",
            _ => "",
        };
        let cause = format!("the answer was {status}{reason}{message}");
        Err(Later { cause, status: Some(status), after, silent: false })
    }

    /// Sorts a failure of the wire: may it go away?
    pub(super) fn failure(&self, failure: Failure, host: &str) -> Result<Later, RegistryError> {
        match failure.kind {
            FailureKind::Connect | FailureKind::Broken | FailureKind::NotTls | FailureKind::Protocol => {
                Ok(Later { silent: failure.silent, ..Later::new(failure.text) })
            }
            FailureKind::Trust(problem) => Err(RegistryError::Trust { host: host.to_owned(), problem }),
            FailureKind::Configuration => Err(RegistryError::Configuration { problem: failure.text }),
            FailureKind::NoThread => {
                Err(RegistryError::System { host: host.to_owned(), problem: failure.text })
            }
            FailureKind::Cancelled => Err(RegistryError::Cancelled),
        }
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
            let text = response.shown(&text.replace("\\\"", "\""));
            let mut warned = lock(&host.warned);
            if warned.len() < 100 && warned.insert(text.clone()) {
                self.options.events.warning(&call.task.host, &text);
            }
        }
    }
}
