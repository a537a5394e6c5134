//! Logging in to the registries of cloud providers without helper programs.
//!
//! Each login knows which registries are its own by their host names, collects what the environment offers (keys,
//! identities of containers and machines; all given as values), and exchanges it for the registry's user name and
//! password. Responses are cached until shortly before they expire. Certificates of providers are always checked,
//! also where registries are allowed more.

mod aws;
mod azure;
mod client;
mod clock;
mod google;
mod google_federation;
mod login;
mod sigv4;

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use crate::model::Registry;
use crate::stream::lock;

use super::credential::Credential;
use super::helper::HelperError;
use crate::model::Secret;

pub use aws::{AwsEndpoints, AwsLogin, ContainerCredentials, WebIdentity};
pub use azure::{AppService, AzureLogin};
use login::Granted;

pub(super) use client::{CloudClient, HttpCloudClient};
pub use clock::Clock;
pub use google::GoogleLogin;
pub use google_federation::GoogleFederation;
pub(super) use login::LoginError;
pub use sigv4::AwsKeys;
pub(super) use sigv4::{Scope, sign_hashed};

/// Credentials are renewed so long before they expire: a body that is being sent needs them to the end.
const MARGIN: u64 = 300;
/// How long the absence of an identity is cached, seconds.
const ABSENT_FOR: u64 = 600;

/// Reads a response as each provider's, and returns what was made of it, as it shows in a log: for the fuzz targets.
pub(super) fn read_every_response(body: &[u8]) -> Vec<String> {
    let mut read = aws::read_every_response(body);
    read.extend(azure::read_every_response(body));
    read.push(
        google::read_token(body)
            .map_or_else(|| "none".to_owned(), |(token, life)| format!("{token:?} {life}")),
    );
    read.push(client::reason(body, &super::sanitize::sanitize));
    read
}

/// One provider's way to log in.
#[derive(Clone, Debug)]
pub enum CloudLogin {
    /// Amazon ECR, also public.
    Aws(Box<AwsLogin>),
    /// Google Artifact Registry and Container Registry.
    Google(GoogleLogin),
    /// Azure Container Registry.
    Azure(Box<AzureLogin>),
    /// GitHub's registry.
    GitHub(GitHubLogin),
}

/// GitHub's registry takes the token that each workflow has.
#[derive(Clone, Debug)]
pub struct GitHubLogin {
    /// `GITHUB_ACTOR`; the registry accepts any.
    pub actor: Option<String>,
    /// `GITHUB_TOKEN`.
    pub token: Secret,
}

/// All logins, asked in order.
pub struct CloudLogins {
    logins: Vec<CloudLogin>,
    clock: Clock,
    kept: Mutex<HashMap<Registry, CachedCredential>>,
}

impl fmt::Debug for CloudLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudLogins").field("logins", &self.logins).finish_non_exhaustive()
    }
}

/// What a login gave.
#[derive(Clone)]
struct CachedCredential {
    credential: Option<Credential>,
    fresh_until: u64,
}

impl CloudLogins {
    /// Prepares; sends no request.
    #[must_use]
    pub fn new(logins: Vec<CloudLogin>, clock: Clock) -> Self {
        Self { logins, clock, kept: Mutex::default() }
    }

    /// Returns the credentials for a registry, if one of the logins is for it and has something to log in with.
    pub(super) fn credential(
        &self,
        registry: &Registry,
        client: &dyn CloudClient,
    ) -> Result<Option<Credential>, HelperError> {
        // Held while a provider is asked: the other workers need the same response.
        let mut kept = lock(&self.kept);
        let now = (self.clock)();
        if let Some(kept) = kept.get(registry).filter(|kept| now < kept.fresh_until) {
            return Ok(kept.credential.clone());
        }
        for login in self.logins.iter().filter(|login| login.is_for(registry)) {
            let given = match login.ask(registry, now, client) {
                Ok(given) => given,
                Err(LoginError::Absent) if login.is_required() => {
                    let problem = LoginError::Refused(login.nothing_found().to_owned());
                    return Err(login.error(registry, problem));
                }
                Err(LoginError::Absent) => continue,
                Err(problem) => return Err(login.error(registry, problem)),
            };
            let fresh_until = given.expires.map_or(u64::MAX, |expires| {
                // Half of a very short life, so that it is not asked for again with each request.
                expires.saturating_sub(MARGIN).max(now + expires.saturating_sub(now) / 2)
            });
            kept.insert(
                registry.clone(),
                CachedCredential { credential: Some(given.credential.clone()), fresh_until },
            );
            return Ok(Some(given.credential));
        }
        kept.insert(registry.clone(), CachedCredential { credential: None, fresh_until: now + ABSENT_FOR });
        Ok(None)
    }
}

impl CloudLogin {
    /// Returns its name, as `IMGPKG_ACTIVE_KEYCHAINS` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Aws(_) => "ecr",
            Self::Google(_) => "gke",
            Self::Azure(_) => "aks",
            Self::GitHub(_) => "github",
        }
    }

    fn is_for(&self, registry: &Registry) -> bool {
        match self {
            Self::Aws(login) => login.is_for(registry),
            Self::Google(_) => google::is_google(registry),
            Self::Azure(login) => login.is_for(registry),
            Self::GitHub(_) => registry.as_str() == "ghcr.io",
        }
    }

    /// Tells whether the user asked for this login, so that its failure is an error.
    fn is_required(&self) -> bool {
        match self {
            Self::Aws(login) => login.required,
            Self::Azure(login) => login.required,
            Self::Google(_) | Self::GitHub(_) => false,
        }
    }

    fn nothing_found(&self) -> &'static str {
        match self {
            Self::Aws(_) => {
                "there are no access keys, no web identity, no profile, and no role of a container or machine"
            }
            _ => "there is no client secret, no federated token, and no managed identity",
        }
    }

    fn ask(&self, registry: &Registry, now: u64, client: &dyn CloudClient) -> Result<Granted, LoginError> {
        match self {
            Self::Aws(login) => login.ask(registry, now, client),
            Self::Google(login) => login.ask(now, client),
            Self::Azure(login) => login.ask(registry, now, client),
            Self::GitHub(login) => {
                let username = login.actor.clone().unwrap_or_else(|| "imgrelay".to_owned());
                let password = login.token.clone();
                Ok(Granted { credential: Credential::Basic { username, password }, expires: None })
            }
        }
    }

    fn error(&self, registry: &Registry, problem: LoginError) -> HelperError {
        let (login, host) = (self.name().to_owned(), registry.to_string());
        match problem {
            LoginError::Unreachable { attempts, elapsed, cause } => {
                HelperError::CloudUnreachable { login, host, attempts, elapsed, cause }
            }
            LoginError::Cancelled => HelperError::Cancelled,
            LoginError::Refused(problem) => HelperError::CloudRefused { login, host, problem },
            LoginError::Absent => {
                HelperError::CloudRefused { login, host, problem: "nothing to log in with".into() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::client::{CloudRequest, CloudResponse};
    use super::login::basic;
    use super::*;

    struct NoService;
    impl CloudClient for NoService {
        fn send(&self, _: &CloudRequest) -> Result<CloudResponse, LoginError> {
            Err(LoginError::Absent)
        }
    }

    #[test]
    fn github_tokens_are_for_github_only() {
        let login = GitHubLogin { actor: Some("octocat".into()), token: Secret::new("t") };
        let logins = CloudLogins::new(vec![CloudLogin::GitHub(login)], Arc::new(|| 1000));
        let ask = |host: &str| logins.credential(&host.parse().unwrap(), &NoService).unwrap();
        assert_eq!(ask("ghcr.io"), Some(basic("octocat", "t")));
        for other in ["ghcr.io.evil.example", "xghcr.io", "ghcr.io:8443", "docker.io"] {
            assert_eq!(ask(other), None, "{other}");
        }
        assert!(!format!("{logins:?}").contains("\"t\""));
    }

    #[test]
    fn a_login_that_was_asked_for_must_find_something() {
        let login = |required| CloudLogin::Aws(Box::new(AwsLogin { required, ..AwsLogin::default() }));
        let host: Registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
        let ask = |required| {
            CloudLogins::new(vec![login(required)], Arc::new(|| 1000)).credential(&host, &NoService)
        };
        assert_eq!(ask(false), Ok(None));
        assert!(ask(true).unwrap_err().to_string().contains("there are no access keys"));
    }
}
