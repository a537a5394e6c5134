//! Showing who we are: challenges remembered per registry, tokens fetched once and kept while they are fresh.
//!
//! Credentials belong to the registry's origin. They go to the registry itself and to the token server it names,
//! if that one keeps the rules below; never along a redirect or to an upload location elsewhere.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::model::{Repository, limits};
use crate::stream::{lock, read_bounded};

use super::challenge::{self, Challenge};
use super::error::{Credentials, RegistryError, ServerMessage, Task, Verb};
use super::error_body;
use super::helper::HelperError;
use super::http::{Method, Payload, Request, Response};
use super::keychain::Credential;
use super::requests::{Core, Host, Tries};
use super::secret::Secret;
use super::url::{Origin, Url, encode};

/// Life of a token that does not say how long it lives (distribution token specification).
const DEFAULT_LIFE: u64 = 60;
/// Longest life believed; some servers send nanoseconds.
const LONGEST_LIFE: u64 = 24 * 3600;
/// How we present ourselves to OAuth2 token servers.
const CLIENT_ID: &str = "imgrelay";
/// How often one request may be challenged: no token yet, a stale one, a too narrow one.
const ROUNDS: u32 = 3;

/// What a token has to allow; the scope that is needed most comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scopes(Vec<String>);

impl Scopes {
    pub(super) fn new(repository: &Repository, actions: &str) -> Self {
        Self(vec![format!("repository:{}:{actions}", repository.name())])
    }

    /// Adds the right to read another repository of the same registry, for mounting.
    pub(super) fn and_pull(mut self, repository: &Repository) -> Self {
        self.0.push(format!("repository:{}:pull", repository.name()));
        self
    }

    fn covers(&self, scope: &str) -> bool {
        let Some((resource, actions)) = scope.rsplit_once(':') else { return false };
        self.0.iter().any(|own| {
            own.rsplit_once(':').is_some_and(|(own_resource, own_actions)| {
                own_resource == resource
                    && actions.split(',').all(|action| own_actions.split(',').any(|own| own == action))
            })
        })
    }

    fn key(&self) -> String {
        self.0.join(" ")
    }
}

/// How a registry wants to be convinced, as far as it is known.
#[derive(Clone, Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
    },
}

/// What is remembered about one registry.
#[derive(Default)]
pub(super) struct Memory {
    known: Mutex<Known>,
    tokens: Mutex<HashMap<String, Arc<Mutex<Option<Token>>>>>,
    /// A refresh token that a token server gave in place of the stored one.
    refreshed: Mutex<Option<Secret>>,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    header: Secret,
    fresh_until: Instant,
}

/// How one request got on with authentication so far.
#[derive(Default)]
pub(super) struct AuthTries {
    rounds: u32,
    sent: Option<Secret>,
    wider: Vec<String>,
}

impl AuthTries {
    /// A request was accepted; what comes later is challenged anew.
    pub(super) fn accepted(&mut self) {
        self.rounds = 0;
    }
}

/// Makes the error for a request that stays refused.
fn refused(
    task: &Task,
    status: u16,
    credential: Option<&Credential>,
    message: ServerMessage,
) -> RegistryError {
    let credentials = if credential.is_some() { Credentials::Given } else { Credentials::None };
    RegistryError::Refused { task: Box::new(task.clone()), status, credentials, message }
}

impl Core {
    /// Returns the credentials for a repository.
    pub(super) fn credential(&self, repository: &Repository) -> Result<Option<Credential>, RegistryError> {
        let found = self.options.credentials.lookup_with(repository, Some(&self.providers));
        found.map_err(|error| match error {
            HelperError::CloudUnreachable { login, attempts, elapsed, cause, .. } => {
                let task = Task::new(repository, Verb::LogIn, format!("credentials ({login})"));
                RegistryError::Unreachable { task: Box::new(task), attempts, elapsed, cause }
            }
            HelperError::Cancelled => RegistryError::Cancelled,
            HelperError::Missing { .. } | HelperError::Failed { .. } => {
                RegistryError::CredentialHelper { problem: error.to_string() }
            }
            other => RegistryError::Configuration { problem: other.to_string() },
        })
    }

    /// Makes the error for a request that stays refused with 401 or 403.
    pub(super) fn refusal(
        &self,
        repository: &Repository,
        task: &Task,
        status: u16,
        message: ServerMessage,
    ) -> RegistryError {
        let credential = self.credential(repository).ok().flatten();
        refused(task, status, credential.as_ref(), message)
    }

    /// Returns the `Authorization` header for a request to the registry itself, as far as we know it needs one.
    pub(super) fn authorization(
        &self,
        host: &Host,
        repository: &Repository,
        scopes: &Scopes,
        task: &Task,
        tries: &mut AuthTries,
    ) -> Result<Option<Secret>, RegistryError> {
        let credential = self.credential(repository)?;
        if let Some(Credential::RegistryToken(token)) = &credential {
            if !token.expose().bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
                let problem =
                    format!("the token for `{}` has characters that a token cannot have", task.host);
                return Err(RegistryError::Configuration { problem });
            }
            tries.sent = Some(Secret::new(format!("Bearer {}", token.expose())));
            return Ok(tries.sent.clone());
        }
        let known = lock(&host.auth.known).clone();
        let header = match (known, &credential) {
            (Known::Basic, Some(Credential::Basic { username, password })) => {
                Some(basic_header(username, password))
            }
            (Known::Bearer { realm, service }, _) => {
                let mut scopes = scopes.clone();
                scopes.0.extend(
                    tries.wider.iter().filter(|scope| !scopes.covers(scope)).cloned().collect::<Vec<_>>(),
                );
                Some(self.token(host, &realm, service.as_deref(), &scopes, credential.as_ref(), task)?)
            }
            _ => None,
        };
        tries.sent.clone_from(&header);
        Ok(header)
    }

    /// Takes a 401 from the registry: `Ok` when the request is worth sending again with other credentials.
    pub(super) fn challenged(
        &self,
        host: &Host,
        response: Response,
        repository: &Repository,
        scopes: &Scopes,
        task: &Task,
        tries: &mut AuthTries,
    ) -> Result<(), RegistryError> {
        let credential = self.credential(repository)?;
        let headers: Vec<String> = response
            .headers
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        let url = response.url.clone();
        let challenges = challenge::parse(headers.iter().map(String::as_str));
        let message = error_body::message(response);
        tries.rounds += 1;
        let give_up = || refused(task, 401, credential.as_ref(), message.clone());
        if tries.rounds >= ROUNDS || matches!(credential, Some(Credential::RegistryToken(_))) {
            return Err(give_up());
        }
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope, .. } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            let realm = url.join(realm).map_err(|problem| RegistryError::Protocol {
                task: Box::new(task.clone()),
                problem: format!("the registry names a token server whose URL {problem}"),
            })?;
            check_realm(url.origin(), &realm, task)?;
            *lock(&host.auth.known) = Known::Bearer { realm, service: service.clone() };
            tries.wider.extend(scope.iter().filter(|scope| !scopes.covers(scope)).cloned());
            if let Some(sent) = &tries.sent {
                host.auth.forget(sent);
            }
            return Ok(());
        }
        // A 401 without a challenge, or with one we cannot read, is how some registries ask for Basic.
        let was_basic = tries.sent.is_some();
        if matches!(credential, Some(Credential::Basic { .. })) && !was_basic {
            *lock(&host.auth.known) = Known::Basic;
            return Ok(());
        }
        Err(give_up())
    }

    /// Returns a token for the scopes, fetched by one thread at a time.
    fn token(
        &self,
        host: &Host,
        realm: &Url,
        service: Option<&str>,
        scopes: &Scopes,
        credential: Option<&Credential>,
        task: &Task,
    ) -> Result<Secret, RegistryError> {
        let slot = Arc::clone(lock(&host.auth.tokens).entry(scopes.key()).or_default());
        let mut slot = lock(&slot);
        if let Some(token) = slot.as_ref().filter(|token| Instant::now() < token.fresh_until) {
            return Ok(token.header.clone());
        }
        let fetch = |scopes: &[String]| self.fetch_token(host, realm, service, scopes, credential, task);
        let token = match fetch(&scopes.0) {
            // Some servers refuse the whole request for one scope of several; ask for what is needed most.
            Err(RegistryError::Refused { .. }) if scopes.0.len() > 1 => {
                fetch(scopes.0.get(..1).unwrap_or_default())?
            }
            other => other?,
        };
        let header = token.header.clone();
        *slot = Some(token);
        Ok(header)
    }

    fn fetch_token(
        &self,
        host: &Host,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        credential: Option<&Credential>,
        task: &Task,
    ) -> Result<Token, RegistryError> {
        let started = Instant::now();
        let get = |authorization: Option<Secret>| {
            let mut url = realm.clone();
            if let Some(service) = service {
                url = url.with_query("service", service);
            }
            for scope in scopes {
                url = url.with_query("scope", scope);
            }
            self.ask_token_server(&url, authorization.as_ref(), None, task)
        };
        let response = match credential {
            Some(Credential::IdentityToken(stored)) => {
                let token = lock(&host.auth.refreshed).clone().unwrap_or_else(|| stored.clone());
                let mut form = format!(
                    "grant_type=refresh_token&client_id={CLIENT_ID}&refresh_token={}&scope={}",
                    encode(token.expose()),
                    encode(&scopes.join(" "))
                );
                if let Some(service) = service {
                    form.push_str(&format!("&service={}", encode(service)));
                }
                let response = self.ask_token_server(realm, None, Some(&form), task)?;
                if matches!(response.status, 404 | 405) {
                    response.drain();
                    get(Some(basic_header("<token>", &token)))?
                } else {
                    response
                }
            }
            Some(Credential::Basic { username, password }) => get(Some(basic_header(username, password)))?,
            _ => get(None)?,
        };
        let status = response.status;
        if status != 200 {
            let message = error_body::message(response);
            return Err(match status {
                400 | 401 | 403 => refused(task, status, credential, message),
                _ => RegistryError::Protocol {
                    task: Box::new(task.clone()),
                    problem: format!("token server `{}` answered {status}{message}", realm.origin()),
                },
            });
        }
        let problem = |problem: &str| RegistryError::Protocol {
            task: Box::new(task.clone()),
            problem: format!("token server `{}` {problem}", realm.origin()),
        };
        let body = read_bounded(response.into_reader(), limits::TOKEN_BYTES)
            .map_err(|_| problem("sent an answer that could not be read"))?;
        let (token, refresh) = Token::parse(&body, started).ok_or_else(|| problem("sent no token"))?;
        if refresh.is_some() && matches!(credential, Some(Credential::IdentityToken(_))) {
            *lock(&host.auth.refreshed) = refresh;
        }
        Ok(token)
    }

    /// Sends one request to a token server, again when that fails for a while; redirects only to itself.
    fn ask_token_server(
        &self,
        url: &Url,
        authorization: Option<&Secret>,
        form: Option<&str>,
        task: &Task,
    ) -> Result<Response, RegistryError> {
        let mut tries = Tries::new();
        let mut target = url.clone();
        let mut redirects = 0;
        loop {
            let mut headers = vec![("accept", "application/json".to_owned())];
            if form.is_some() {
                headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
            }
            let result = self.http.send(Request {
                method: if form.is_some() { Method::Post } else { Method::Get },
                url: &target,
                headers,
                authorization: authorization.cloned(),
                payload: form.map_or(Payload::None, |form| Payload::Bytes(form.as_bytes())),
                closing: None,
                attempt: tries.attempt(),
            });
            let later = match result {
                Ok(response) if matches!(response.status, 301 | 302 | 303 | 307 | 308) && form.is_none() => {
                    redirects += 1;
                    let next = response.header("location").and_then(|location| target.join(location).ok());
                    response.drain();
                    match next.filter(|next| next.origin() == target.origin() && redirects <= 3) {
                        Some(next) => target = next,
                        None => {
                            return Err(RegistryError::Protocol {
                                task: Box::new(task.clone()),
                                problem: format!("token server `{}` redirects elsewhere", target.origin()),
                            });
                        }
                    }
                    continue;
                }
                Ok(response) => match self.later(response) {
                    Ok(response) => return Ok(response),
                    Err(later) => later,
                },
                Err(failure) => self.failure(failure, &target.origin().to_string())?,
            };
            let later = later.about(&format!("token server `{}`", target.origin()));
            tries.failed(self, None, task, later)?;
        }
    }
}

impl Memory {
    /// Drops the token that was refused, unless another thread has replaced it.
    fn forget(&self, header: &Secret) {
        let slots: Vec<_> = lock(&self.tokens).values().cloned().collect();
        for slot in slots {
            let mut slot = lock(&slot);
            if slot.as_ref().is_some_and(|token| token.header == *header) {
                *slot = None;
            }
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
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
    pub(super) fn parse(body: &[u8], started: Instant) -> Option<(Self, Option<Secret>)> {
        let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let token = given(answer.token).or(given(answer.access_token)).map(Secret::from)?;
        // It goes into a header; anything else in it would be an attack or an accident.
        if !token.expose().bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
            return None;
        }
        let life = answer.expires_in.and_then(|number| number.as_u64()).filter(|life| *life > 0);
        let life = Duration::from_secs(life.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE));
        // A body that begins shortly before the end would be refused on the way.
        let margin = (life / 10).min(Duration::from_secs(30));
        let header = Secret::new(format!("Bearer {}", token.expose()));
        Some((
            Self { header, fresh_until: started + life - margin },
            given(answer.refresh_token).map(Secret::from),
        ))
    }
}

fn basic_header(username: &str, password: &Secret) -> Secret {
    // Each step on the way is a secret as well.
    let both = Secret::new(format!("{username}:{}", password.expose()));
    let encoded = Secret::new(STANDARD.encode(both.expose()));
    Secret::new(format!("Basic {}", encoded.expose()))
}

/// Refuses token servers that a registry has no business to send us to.
///
/// A token server elsewhere is normal; private addresses are too. But a registry that we reach over https must not
/// have our password sent in the clear, and one that is not on this machine (or link) must not aim us at it.
/// Source: the advisories about `realm` in oras-go, go-containerregistry and regclient.
fn check_realm(registry: &Origin, realm: &Url, task: &Task) -> Result<(), RegistryError> {
    let problem = if registry.scheme == super::url::Scheme::Https && !realm.is_https() {
        "over plain http"
    } else if !may_aim_at(registry, realm.origin()) {
        "on this machine or link"
    } else {
        return Ok(());
    };
    Err(RegistryError::Protocol {
        task: Box::new(task.clone()),
        problem: format!(
            "registry `{registry}` names a token server {problem}, `{realm}`, which is not followed"
        ),
    })
}

/// Tells whether an answer from `from` may lead us to `to`: not to this machine or link, unless it is there itself.
pub(super) fn may_aim_at(from: &Origin, to: &Origin) -> bool {
    let link_local = |origin: &Origin| match origin.address() {
        Some(IpAddr::V4(address)) => address.is_link_local(),
        Some(IpAddr::V6(address)) => address.is_unicast_link_local(),
        None => false,
    };
    let nowhere = to.address().is_some_and(|address| address.is_unspecified());
    !nowhere && (!to.is_loopback() || from.is_loopback()) && (!link_local(to) || link_local(from))
}

#[cfg(test)]
mod tests {
    use super::super::error::Verb;
    use super::*;

    #[test]
    fn token_answers_are_read_and_their_life_is_bounded() {
        let started = Instant::now();
        let life = |body: &str| {
            Token::parse(body.as_bytes(), started).map(|(token, refresh)| {
                let text = format!("{} {}", token.header.expose(), (token.fresh_until - started).as_secs());
                (text, refresh.is_some())
            })
        };
        for (body, expected) in [
            (r#"{"token":"a"}"#, Some(("Bearer a 54", false))),
            (r#"{"access_token":"b","expires_in":300}"#, Some(("Bearer b 270", false))),
            (r#"{"token":"","access_token":"b","expires_in":3600}"#, Some(("Bearer b 3570", false))),
            (r#"{"token":"a","expires_in":300000000000}"#, Some(("Bearer a 86370", false))),
            (r#"{"token":"a","expires_in":-5}"#, Some(("Bearer a 54", false))),
            (r#"{"token":"a","expires_in":1.5}"#, Some(("Bearer a 54", false))),
            (r#"{"token":"a","expires_in":0,"refresh_token":"r"}"#, Some(("Bearer a 54", true))),
            (r#"{"token":"a\r\nX: y"}"#, None),
            (r#"{"expires_in":300}"#, None),
            ("not json", None),
        ] {
            assert_eq!(life(body), expected.map(|(text, refresh)| (text.to_owned(), refresh)), "{body}");
        }
    }

    #[test]
    fn realms_are_followed_only_where_that_is_safe() {
        let task = Task { host: "h".into(), repository: "r".into(), verb: Verb::Read, object: "x".into() };
        for (registry, realm, allowed) in [
            ("https://reg.example/", "https://auth.example/token", true),
            ("https://reg.example/", "http://auth.example/token", false),
            ("https://10.0.0.1:5000/", "https://10.0.0.1:5001/token", true),
            ("https://reg.example/", "https://10.0.0.1/token", true),
            ("https://reg.example/", "https://127.0.0.1/token", false),
            ("https://reg.example/", "https://localhost/token", false),
            ("https://reg.example/", "https://169.254.169.254/latest", false),
            ("https://reg.example/", "https://[::1]/token", false),
            ("https://reg.example/", "https://0.0.0.0/token", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true),
            ("http://127.0.0.1:5000/", "http://localhost:5001/token", true),
            ("http://127.0.0.1:5000/", "http://169.254.169.254/token", false),
        ] {
            let origin = Url::parse(registry).unwrap().origin().clone();
            let result = check_realm(&origin, &Url::parse(realm).unwrap(), &task);
            assert_eq!(result.is_ok(), allowed, "{registry} -> {realm}");
        }
    }

    #[test]
    fn scopes_cover_their_parts() {
        let repository: Repository = "reg.example/a/b".parse().unwrap();
        let scopes = Scopes::new(&repository, "pull,push");
        assert!(scopes.covers("repository:a/b:pull") && scopes.covers("repository:a/b:push,pull"));
        assert!(!scopes.covers("repository:a/b:delete") && !scopes.covers("repository:a:pull"));
        let from: Repository = "reg.example/c".parse().unwrap();
        assert_eq!(scopes.and_pull(&from).key(), "repository:a/b:pull,push repository:c:pull");
    }
}
