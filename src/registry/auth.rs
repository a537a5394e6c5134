//! Registry authentication: the scheme is remembered per registry, tokens are fetched once and kept while they are
//! valid.
//!
//! Credentials belong to the registry's origin. They are sent to the registry and to the token server it names if
//! `check_realm` allows that server; they do not follow a redirect or an upload location to another origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::{Method, Repository, limits};
use crate::stream::{lock, read_bounded};

use super::challenge::{self, Challenge};
use super::classify;
use super::cloud::HttpCloudClient;
use super::credential::Credential;
use super::error::{Credentials, RegistryError, ServerMessage, Task, Verb};
use super::error_body;
use super::helper::HelperError;
use super::http::{Http, Payload, Request, Response};
use super::keychain::Keychain;
use super::reach::HostSource;
use super::retry::{RetryBudget, RetryPolicy};
use super::token::{Scopes, Token, is_token};
use super::url::{Origin, Url, encode};
use crate::model::Secret;

/// The client's name for OAuth2 token servers.
const CLIENT_ID: &str = "imgrelay";
/// How often one request may be challenged: without a token, with an expired one, with one of too few scopes.
const ROUNDS: u32 = 3;

/// The auth scheme that the registry asked for.
#[derive(Clone, Debug, Default)]
enum AuthScheme {
    /// The registry has sent no challenge yet.
    #[default]
    Unknown,
    Basic,
    Bearer {
        realm: Url,
        /// Who named the realm's host: a registry at this place.
        named_by: HostSource,
        service: Option<String>,
    },
}

/// Auth scheme and tokens of one registry.
#[derive(Default)]
pub(super) struct HostAuth {
    scheme: Mutex<AuthScheme>,
    tokens: Mutex<HashMap<String, Arc<Mutex<Option<Token>>>>>,
    /// A refresh token that a token server gave in place of the stored one.
    refreshed: Mutex<Option<Secret>>,
    /// Whether `/v2/` was asked for a challenge that other paths do not send.
    base_asked: Mutex<bool>,
}

/// State of the authentication of one request.
#[derive(Default)]
pub(super) struct AuthProgress {
    rounds: u32,
    sent: Option<Secret>,
    wider: Vec<String>,
}

impl AuthProgress {
    /// The registry accepted a request; challenges of later requests are counted from 0.
    pub(super) fn accepted(&mut self) {
        self.rounds = 0;
    }
}

/// Reads the challenges of a 401, in order.
fn challenges(response: &Response) -> Vec<Challenge> {
    let headers = response.headers.get_all("www-authenticate").iter();
    challenge::parse(headers.filter_map(|value| value.to_str().ok()))
}

/// Makes the form that exchanges a refresh token (OAuth2).
fn refresh_form(token: &Secret, service: Option<&str>, scopes: &[String]) -> Secret {
    let mut form = format!(
        "grant_type=refresh_token&client_id={CLIENT_ID}&refresh_token={}&scope={}",
        encode(token.expose()),
        encode(&scopes.join(" "))
    );
    if let Some(service) = service {
        form.push_str(&format!("&service={}", encode(service)));
    }
    Secret::new(form)
}

/// What one request authenticates for.
pub(super) struct Subject<'a> {
    pub(super) host: &'a HostAuth,
    pub(super) repository: &'a Repository,
    pub(super) scopes: &'a Scopes,
    pub(super) task: &'a Task,
}

/// A token server and what is requested from it.
struct TokenRequest<'a> {
    realm: &'a Url,
    named_by: HostSource,
    service: Option<&'a str>,
    credential: Option<&'a Credential>,
}

/// Finds credentials, answers challenges and fetches tokens.
pub(super) struct Authenticator {
    http: Arc<Http>,
    credentials: Arc<Keychain>,
    cloud: HttpCloudClient,
    policy: RetryPolicy,
}

impl Authenticator {
    pub(super) fn new(
        http: Arc<Http>,
        credentials: Arc<Keychain>,
        cloud: HttpCloudClient,
        policy: RetryPolicy,
    ) -> Self {
        Self { http, credentials, cloud, policy }
    }

    /// Returns the credentials for a repository.
    fn credential(&self, repository: &Repository) -> Result<Option<Credential>, RegistryError> {
        let found = self.credentials.lookup_with(repository, Some(&self.cloud));
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
        self.refused(repository, task, status, credential.as_ref(), message)
    }

    /// Makes the error for a request that stays refused.
    fn refused(
        &self,
        repository: &Repository,
        task: &Task,
        status: u16,
        credential: Option<&Credential>,
        message: ServerMessage,
    ) -> RegistryError {
        if credential.is_none()
            && let Some(error) = self.credentials.missing_helper(repository.registry())
        {
            return RegistryError::CredentialHelper { problem: error.to_string() };
        }
        let credentials = match credential {
            Some(_) => Credentials::Given,
            None if self.credentials.withholds_from(repository.registry()) => Credentials::Withheld,
            None => Credentials::None,
        };
        RegistryError::Refused { task: Box::new(task.clone()), status, credentials, message }
    }

    /// Returns the `Authorization` header for a request to the registry, if it is known to need one.
    pub(super) fn authorization(
        &self,
        subject: &Subject<'_>,
        progress: &mut AuthProgress,
    ) -> Result<Option<Secret>, RegistryError> {
        let credential = self.credential(subject.repository)?;
        if let Some(Credential::RegistryToken(token)) = &credential {
            if !is_token(token.expose()) {
                let host = &subject.task.host;
                let problem = format!("the token for `{host}` has characters that a token cannot have");
                return Err(RegistryError::Configuration { problem });
            }
            progress.sent = Some(Secret::new(format!("Bearer {}", token.expose())));
            return Ok(progress.sent.clone());
        }
        let scheme = lock(&subject.host.scheme).clone();
        let header = match (scheme, &credential) {
            (AuthScheme::Basic, Some(Credential::Basic { username, password })) => {
                Some(basic_header(username, password))
            }
            (AuthScheme::Bearer { realm, named_by, service }, _) => {
                let scopes = subject.scopes.with(&progress.wider);
                let request = TokenRequest {
                    realm: &realm,
                    named_by,
                    service: service.as_deref(),
                    credential: credential.as_ref(),
                };
                Some(self.token(subject, &request, &scopes)?)
            }
            _ => None,
        };
        progress.sent.clone_from(&header);
        Ok(header)
    }

    /// Takes a 401 from the registry: `Ok` when the request is worth sending again with other credentials.
    pub(super) fn challenged(
        &self,
        subject: &Subject<'_>,
        response: Response,
        progress: &mut AuthProgress,
    ) -> Result<(), RegistryError> {
        let credential = self.credential(subject.repository)?;
        let mut challenges = challenges(&response);
        let url = response.url.clone();
        let message = error_body::message(response);
        if challenges.is_empty() {
            challenges = self.base_challenges(subject, &url)?;
        }
        progress.rounds += 1;
        let give_up =
            || self.refused(subject.repository, subject.task, 401, credential.as_ref(), message.clone());
        if progress.rounds >= ROUNDS || matches!(credential, Some(Credential::RegistryToken(_))) {
            return Err(give_up());
        }
        let bearer = challenges.into_iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope, .. } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            let realm = url.join(&realm).map_err(|problem| RegistryError::Protocol {
                task: Box::new(subject.task.clone()),
                problem: format!("the registry names a token server whose URL {problem}"),
            })?;
            let named_by = self.http.led_by(url.origin());
            check_realm(url.origin(), named_by, &realm, subject.task)?;
            *lock(&subject.host.scheme) = AuthScheme::Bearer { realm, named_by, service };
            progress.wider.extend(scope.into_iter().filter(|scope| !subject.scopes.covers(scope)));
            if let Some(sent) = &progress.sent {
                subject.host.forget(sent);
            }
            return Ok(());
        }
        // A 401 without a challenge, or with one we cannot read, is how some registries ask for Basic.
        let was_basic = progress.sent.is_some();
        if matches!(credential, Some(Credential::Basic { .. })) && !was_basic {
            *lock(&subject.host.scheme) = AuthScheme::Basic;
            return Ok(());
        }
        Err(give_up())
    }

    /// Asks `/v2/` for the challenge that a 401 elsewhere did not carry, once for each registry.
    ///
    /// Source: distribution-spec, "Determining Support"; docker, crane and skopeo begin there.
    fn base_challenges(&self, subject: &Subject<'_>, from: &Url) -> Result<Vec<Challenge>, RegistryError> {
        // The lock is held during the request, so that other threads use its result.
        let mut asked = lock(&subject.host.base_asked);
        if *asked {
            return Ok(match &*lock(&subject.host.scheme) {
                AuthScheme::Bearer { realm, service, .. } => vec![Challenge::Bearer {
                    realm: realm.expose(),
                    service: service.clone(),
                    scope: Vec::new(),
                    error: None,
                }],
                AuthScheme::Basic | AuthScheme::Unknown => Vec::new(),
            });
        }
        let url = Url::new(from.origin().clone(), "/v2/");
        let named_by = self.http.led_by(from.origin());
        let sent = self.http.send(Request {
            method: Method::Get,
            url: &url,
            named_by: HostSource::User,
            headers: Vec::new(),
            authorization: None,
            payload: Payload::None,
            closing: None,
            attempt: 1,
        });
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                // The 401 stands; without a challenge Basic is tried.
                classify::wire_error(error, &subject.task.host)?;
                return Ok(Vec::new());
            }
        };
        let found = if response.status == 401 { challenges(&response) } else { Vec::new() };
        response.drain();
        *asked = true;
        if let Some(Challenge::Bearer { realm, service, .. }) =
            found.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }))
            && let Ok(realm) = url.join(realm)
            && check_realm(url.origin(), named_by, &realm, subject.task).is_ok()
        {
            *lock(&subject.host.scheme) = AuthScheme::Bearer { realm, named_by, service: service.clone() };
        }
        Ok(found)
    }

    /// Returns a token for the scopes, fetched by one thread at a time.
    fn token(
        &self,
        subject: &Subject<'_>,
        request: &TokenRequest<'_>,
        scopes: &Scopes,
    ) -> Result<Secret, RegistryError> {
        let slot = Arc::clone(lock(&subject.host.tokens).entry(scopes.key()).or_default());
        let mut slot = lock(&slot);
        if let Some(token) = slot.as_ref().filter(|token| Instant::now() < token.fresh_until) {
            return Ok(token.header.clone());
        }
        let fetch = |scopes: &[String]| self.fetch_token(subject, request, scopes);
        let token = match fetch(&scopes.0) {
            // Some servers refuse the whole request for one scope of several; ask for the most important one.
            Err(RegistryError::Refused { .. }) if scopes.0.len() > 1 => {
                fetch(scopes.0.get(..1).expect("there are several scopes"))?
            }
            other => other?,
        };
        let header = token.header.clone();
        *slot = Some(token);
        Ok(header)
    }

    fn fetch_token(
        &self,
        subject: &Subject<'_>,
        request: &TokenRequest<'_>,
        scopes: &[String],
    ) -> Result<Token, RegistryError> {
        let (task, started) = (subject.task, Instant::now());
        let TokenRequest { realm, named_by, credential, .. } = *request;
        let get = |authorization: Option<Secret>| {
            let query = request.service.map(|service| ("service", service)).into_iter();
            let query = query.chain(scopes.iter().map(|scope| ("scope", scope.as_str())));
            let url = query.fold(realm.clone(), |url, (key, value)| url.with_query(key, value));
            self.ask_token_server(&url, named_by, authorization.as_ref(), None, task)
        };
        let response = match credential {
            Some(Credential::IdentityToken(stored)) => {
                let token = lock(&subject.host.refreshed).clone().unwrap_or_else(|| stored.clone());
                let form = refresh_form(&token, request.service, scopes);
                let response = self.ask_token_server(realm, named_by, None, Some(form.expose()), task)?;
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
                400 | 401 | 403 => self.refused(subject.repository, task, status, credential, message),
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
            .map_err(|_| problem("sent a response that could not be read"))?;
        let (token, refresh) = Token::parse(&body, started)
            .map_err(|found| problem(&self.http.redactor.redact(&format!("sent no token: {found}"))))?;
        if refresh.is_some() && matches!(credential, Some(Credential::IdentityToken(_))) {
            *lock(&subject.host.refreshed) = refresh;
        }
        Ok(token)
    }

    /// Sends one request to a token server and retries it; follows redirects to the same server only.
    fn ask_token_server(
        &self,
        url: &Url,
        named_by: HostSource,
        authorization: Option<&Secret>,
        form: Option<&str>,
        task: &Task,
    ) -> Result<Response, RegistryError> {
        let mut tries = RetryBudget::new();
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
                named_by,
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
                Ok(response) => match classify::response(&self.http, response) {
                    Ok(response) => return Ok(response),
                    Err(later) => later,
                },
                Err(failure) => classify::wire_error(failure, &target.origin().to_string())?,
            };
            let later = later.about(&format!("token server `{}`", target.origin()));
            tries.failed(&self.policy, None, task, later)?;
        }
    }
}

impl HostAuth {
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

fn basic_header(username: &str, password: &Secret) -> Secret {
    // Each intermediate form is a secret as well.
    let both = Secret::new(format!("{username}:{}", password.expose()));
    let encoded = Secret::new(STANDARD.encode(both.expose()));
    Secret::new(format!("Basic {}", encoded.expose()))
}

/// Refuses token servers that a registry may not name.
///
/// A token server elsewhere is normal; private addresses are too. But a registry that we reach over https must not
/// make us send our password in plain text, and one that is not on this machine (or its link) must not send us there.
/// Source: the advisories about `realm` in oras-go, go-containerregistry and regclient.
fn check_realm(
    registry: &Origin,
    named_by: HostSource,
    realm: &Url,
    task: &Task,
) -> Result<(), RegistryError> {
    let problem = if registry.scheme == super::url::Scheme::Https && !realm.is_https() {
        "over plain http"
    } else if !realm.origin().may_be_named_by(named_by) {
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

#[cfg(test)]
mod tests {
    use super::super::error::Verb;
    use super::super::reach::{NetworkPlace, place};
    use super::super::scripted::{Exchange, Scripted, body, client_with, on};
    use super::*;

    #[test]
    fn a_401_without_a_challenge_asks_the_base_path_once_for_each_host() {
        let bare = || on("GET /v2/a/tags/list", &body("401 Unauthorized", "", ""));
        let list = |header| Exchange {
            header,
            ..on("GET /v2/a/tags/list", &body("200 OK", "", "{\"tags\":[\"v1\"]}"))
        };
        let bearer = "www-authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\n";
        let challenge = body("401 Unauthorized", bearer, "");
        let token = |name: &str| body("200 OK", "", &format!("{{\"token\":\"{name}\"}}"));
        let server = Scripted::start(vec![
            bare(),
            Exchange { header: "!authorization", ..on("GET /v2/", &challenge) },
            Exchange {
                header: "authorization: Basic Y2k6aHVudGVyMg==",
                ..on("GET /token?service=s&scope=repository:a:pull", &token("one"))
            },
            list("authorization: Bearer one"),
            // The token is refused later, again without a challenge: `/v2/` is not asked a second time.
            bare(),
            on("GET /token", &token("two")),
            list("authorization: Bearer two"),
        ]);
        let client = server.client();
        for _ in 0..2 {
            assert_eq!(client.list_tags(&server.repository()).unwrap(), ["v1"]);
        }
    }

    #[test]
    fn a_401_without_any_challenge_is_taken_for_basic() {
        let bare = |path: &str| on(path, &body("401 Unauthorized", "", ""));
        let ok = body("200 OK", "", "{\"tags\":[]}");
        let basic = "authorization: Basic Y2k6aHVudGVyMg==";
        let server = Scripted::start(vec![
            bare("GET /v2/a/tags/list"),
            bare("GET /v2/"),
            Exchange { header: basic, ..on("GET /v2/a/tags/list", &ok) },
        ]);
        server.client().list_tags(&server.repository()).unwrap();
        let server = Scripted::start(vec![bare("GET /v2/a/tags/list"), bare("GET /v2/")]);
        let error = client_with(Vec::new()).list_tags(&server.repository()).unwrap_err();
        assert!(
            matches!(error, RegistryError::Refused { status: 401, credentials: Credentials::None, .. }),
            "{error}"
        );
    }

    #[test]
    fn token_responses_are_read_and_their_life_is_bounded() {
        let started = Instant::now();
        let life = |body: &str| {
            Token::parse(body.as_bytes(), started).ok().map(|(token, refresh)| {
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
    fn a_token_server_that_sends_no_token_is_described_without_values() {
        for (body, expected) in [
            ("", "the response is empty"),
            ("<html>s3cret</html>", "the response is a web page or XML, expected JSON"),
            ("s3cret", "the response is 6 bytes that are not JSON"),
            (r#"["s3cret"]"#, "the response is an array, expected an object with `token` or `access_token`"),
            ("{}", "the response is an empty object"),
            (
                r#"{"jwt":"s3cret","expires":1}"#,
                "the response has `expires`, `jwt`, expected `token` or `access_token`",
            ),
            (r#"{"token":17}"#, "`token` is a number"),
            (r#"{"token":""}"#, "`token` is an empty text"),
            (r#"{"access_token":{"value":"s3cret"}}"#, "`access_token` is an object"),
            (r#"{"token":"s3c ret"}"#, "its token has characters that a token cannot have"),
        ] {
            assert_eq!(Token::parse(body.as_bytes(), Instant::now()).unwrap_err(), expected, "{body}");
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
            ("https://reg.example/", "https://[::ffff:127.0.0.1]/token", false),
            ("https://reg.example/", "https://127.1/token", false),
            ("https://reg.example/", "https://2130706433/token", false),
            ("https://reg.example/", "https://0x7f000001/token", false),
            ("https://reg.example/", "https://0/token", false),
            ("https://reg.example/", "https://localhost./token", false),
            ("https://reg.example/", "https://a.localhost/token", false),
            ("https://reg.example/", "https://100.100.100.200/token", false),
            ("https://reg.example/", "https://0.0.0.0/token", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true),
            ("http://127.0.0.1:5000/", "http://localhost:5001/token", true),
            ("http://127.0.0.1:5000/", "http://169.254.169.254/token", false),
        ] {
            let origin = Url::parse(registry).unwrap().origin().clone();
            let from = origin.address().map_or(NetworkPlace::Elsewhere, place);
            let result =
                check_realm(&origin, HostSource::ResponseFrom(from), &Url::parse(realm).unwrap(), &task);
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
