//! Credentials by registry: explicit ones, those of docker's and podman's configuration, and helper programs.
//!
//! Everything arrives here as values; reading the environment and files is the front's work.
//! Source: docker "config.json"; containers-auth.json(5); imgpkg's `IMGPKG_REGISTRY_*`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use crate::model::{Malformed, Registry, Repository};
use crate::stream::{cancel, lock};

use super::cloud::{CloudClient, CloudLogins};
use super::credential::{Credential, basic};
use super::helper::{CredentialHelpers, HelperError, ProcessHelpers};
use super::retry;
use super::sanitize::sanitize;

/// The key under which docker keeps Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Credentials for one host, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCredential {
    /// `host[:port][/path]`; each label of the host may be a glob (`*.example.com`), as imgpkg allows.
    pub pattern: String,
    /// The credentials.
    pub credential: Credential,
}

/// One place to look, in order.
#[derive(Clone, Debug)]
pub enum CredentialSource {
    /// For every registry: no login anywhere.
    Everywhere(Credential),
    /// For the registries that the user named, and no others: flags and variables without a host.
    Named {
        /// The registries.
        registries: Vec<Registry>,
        /// The credentials.
        credential: Credential,
    },
    /// For named hosts.
    Hosts(Vec<HostCredential>),
    /// A docker or podman configuration file.
    File(DockerConfig),
    /// Logins of cloud providers.
    Cloud(Arc<CloudLogins>),
}

/// All credentials, looked up per repository; the first source with credentials is used.
pub struct Keychain {
    sources: Vec<CredentialSource>,
    helpers: Arc<dyn CredentialHelpers>,
    asked: Mutex<HashMap<(String, String), Option<Credential>>>,
    /// Helper programs that are not installed, by the server they were wanted for.
    missing: Mutex<HashMap<Registry, HelperError>>,
}

impl Default for Keychain {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keychain").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Keychain {
    /// Makes a keychain that runs helper programs.
    #[must_use]
    pub fn new(sources: Vec<CredentialSource>) -> Self {
        Self::with_helpers(sources, Arc::new(ProcessHelpers::default()))
    }

    /// Makes a keychain that asks helpers in another way.
    #[must_use]
    pub fn with_helpers(sources: Vec<CredentialSource>, helpers: Arc<dyn CredentialHelpers>) -> Self {
        Self { sources, helpers, asked: Mutex::default(), missing: Mutex::default() }
    }

    /// Returns the credentials for a repository, without asking cloud providers.
    ///
    /// Errors: a helper that fails other than by knowing nothing. One that is not installed counts as knowing nothing.
    pub fn lookup(&self, repository: &Repository) -> Result<Option<Credential>, HelperError> {
        self.lookup_with(repository, None)
    }

    /// Returns which helper program a registry's credentials would have come from, if it is not installed.
    pub(super) fn missing_helper(&self, registry: &Registry) -> Option<HelperError> {
        lock(&self.missing).get(registry).cloned()
    }

    /// Tells whether there are credentials for named registries, of which this is none.
    pub(super) fn withholds_from(&self, registry: &Registry) -> bool {
        self.sources.iter().any(|source| match source {
            CredentialSource::Named { registries, .. } => !registries.contains(registry),
            _ => false,
        })
    }

    /// Returns the credentials for a repository; cloud providers are asked through it.
    pub(super) fn lookup_with(
        &self,
        repository: &Repository,
        client: Option<&dyn CloudClient>,
    ) -> Result<Option<Credential>, HelperError> {
        for source in &self.sources {
            let found = match source {
                CredentialSource::Everywhere(credential) => Some(credential.clone()),
                CredentialSource::Named { registries, credential } => {
                    registries.contains(repository.registry()).then(|| credential.clone())
                }
                CredentialSource::Hosts(hosts) => longest_host_match(hosts, repository),
                CredentialSource::File(config) => self.lookup_in_file(config, repository)?,
                CredentialSource::Cloud(logins) => match client {
                    Some(client) => logins.credential(repository.registry(), client)?,
                    None => None,
                },
            };
            match found {
                Some(Credential::Anonymous) => return Ok(None),
                Some(credential) => return Ok(Some(credential)),
                None => {}
            }
        }
        Ok(None)
    }

    fn lookup_in_file(
        &self,
        config: &DockerConfig,
        repository: &Repository,
    ) -> Result<Option<Credential>, HelperError> {
        let helper =
            longest_match(config.helpers.iter().map(|(key, helper)| (key.as_str(), helper)), repository);
        if let Some(helper) = helper
            && let Some(found) = self.ask(helper, repository.registry(), &config.config_path)?
        {
            return Ok(Some(found));
        }
        let entry = longest_match(config.auths.iter().map(|(key, entry)| (key.as_str(), entry)), repository);
        if let Some(credential) = entry {
            return Ok(Some(credential.clone()));
        }
        match &config.store {
            Some(store) => self.ask(store, repository.registry(), &config.config_path),
            None => Ok(None),
        }
    }

    /// Asks a helper; one that fails is tried again.
    fn ask_again(&self, helper: &str, server: &str) -> Result<Option<Credential>, HelperError> {
        let mut attempt = 1;
        loop {
            match self.helpers.get(helper, server) {
                Err(HelperError::Failed { .. }) if attempt < HELPER_ATTEMPTS && !cancel::is_cancelled() => {
                    retry::sleep(retry::delay_before(HELPER_DELAY, attempt))
                        .map_err(|_| HelperError::Cancelled)?;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Asks a helper once per registry.
    fn ask(
        &self,
        helper: &str,
        registry: &Registry,
        config_path: &str,
    ) -> Result<Option<Credential>, HelperError> {
        let server = if registry.is_docker_hub() { HUB_KEY } else { registry.as_str() };
        let key = (helper.to_owned(), server.to_owned());
        let mut asked = lock(&self.asked);
        if let Some(response) = asked.get(&key) {
            return Ok(response.clone());
        }
        let response = match self.ask_again(helper, server) {
            // Many registries ask for no login; the error is returned only if this one does.
            Err(error @ HelperError::Missing { .. }) => {
                lock(&self.missing).insert(registry.clone(), error.configured_in(config_path));
                None
            }
            other => other?,
        };
        asked.insert(key, response.clone());
        Ok(response)
    }
}

/// Attempts at a helper that fails: some talk to a daemon or a service that is busy for a moment.
const HELPER_ATTEMPTS: u32 = 4;
/// First delay before a helper is tried again; it doubles.
const HELPER_DELAY: Duration = Duration::from_millis(250);

/// A docker or podman configuration, as far as credentials are concerned.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    /// Where it came from, for messages.
    pub config_path: String,
    auths: BTreeMap<String, Credential>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{config_path}` is not a valid registry configuration: {problem}")]
pub struct DockerConfigError {
    /// The file or variable.
    pub config_path: String,
    /// What is wrong; never shows values.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConfig {
    #[serde(default)]
    auths: Option<BTreeMap<String, RawAuth>>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
struct RawAuth {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

impl DockerConfig {
    /// Parses `config.json`, `.dockerconfigjson` or `auth.json`; or `.dockercfg`, which is only its `auths`.
    pub fn parse(text: &[u8], config_path: &str) -> Result<Self, DockerConfigError> {
        let failed = |problem: String| DockerConfigError { config_path: config_path.to_owned(), problem };
        let json = |error: serde_json::Error| failed(Malformed::without_values(&error).to_string());
        let value: BTreeMap<String, serde_json::Value> = serde_json::from_slice(text).map_err(json)?;
        let known = ["auths", "credsStore", "credHelpers"].iter().any(|key| value.contains_key(*key));
        let looks_old = !known && value.values().any(|entry| entry.get("auth").is_some());
        let raw = if looks_old {
            let auths = serde_json::from_slice(text).map_err(json)?;
            RawConfig { auths: Some(auths), creds_store: None, cred_helpers: None }
        } else {
            serde_json::from_slice(text).map_err(json)?
        };
        let mut auths = BTreeMap::new();
        for (key, entry) in raw.auths.unwrap_or_default() {
            let entry = entry.credential();
            let credential =
                entry.map_err(|problem| failed(format!("`auths` entry `{}`: {problem}", sanitize(&key))))?;
            if let Some(credential) = credential {
                auths.insert(normalise(&key), credential);
            }
        }
        let helpers = raw.cred_helpers.unwrap_or_default();
        let helpers = helpers.into_iter().map(|(key, helper)| (normalise(&key), helper)).collect();
        let store = raw.creds_store.filter(|store| !store.is_empty());
        Ok(Self { config_path: config_path.to_owned(), auths, helpers, store })
    }
}

impl RawAuth {
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        let given = |value: Option<String>| value.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token.into())));
        }
        if let Some(token) = given(self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token.into())));
        }
        if let Some(auth) = given(self.auth) {
            return decode_auth(&auth).map(Some);
        }
        match (given(self.username), given(self.password)) {
            (Some(username), Some(password)) => Ok(Some(basic(username, password))),
            // `docker login` with a store leaves an empty entry behind.
            (None, None) => Ok(None),
            _ => Err("only one of `username` and `password` is given"),
        }
    }
}

/// Decodes base64 of `user:password`; the password may hold further colons.
///
/// `base64` breaks its lines, and other readers of the file accept that.
fn decode_auth(auth: &str) -> Result<Credential, &'static str> {
    let line: String = auth.split_ascii_whitespace().collect();
    let bytes = STANDARD
        .decode(&line)
        .or_else(|_| STANDARD_NO_PAD.decode(&line))
        .map_err(|_| "`auth` is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "`auth` is not text")?;
    let (username, password) = text.split_once(':').ok_or("`auth` has no `:` between user and password")?;
    // Old docker padded with NULs.
    Ok(basic(username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Brings a key of `auths` into the form `host[:port][/path]`, with one name for Docker Hub.
fn normalise(key: &str) -> String {
    let key = key.trim().trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = match key.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (key, None),
    };
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    };
    path.map_or(host.clone(), |path| format!("{host}/{path}"))
}

/// Returns the entry whose key is the longest path prefix of the repository, component by component.
fn longest_match<'a, T>(
    entries: impl Iterator<Item = (&'a str, &'a T)>,
    repository: &Repository,
) -> Option<&'a T> {
    let full = repository.to_string();
    let fits =
        |key: &str| full.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    entries
        .filter(|(key, _)| !key.is_empty() && fits(key))
        .max_by_key(|(key, _)| key.len())
        .map(|(_, value)| value)
}

/// Returns the credentials whose pattern fits, the longest path first.
fn longest_host_match(hosts: &[HostCredential], repository: &Repository) -> Option<Credential> {
    let fits = |host: &&HostCredential| {
        let pattern = normalise(&host.pattern);
        let (pattern_host, path) = pattern.split_once('/').unwrap_or((&pattern, ""));
        let name = repository.name();
        let path_fits = path.is_empty()
            || name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        path_fits && glob_host(pattern_host, repository.registry())
    };
    let found = hosts.iter().filter(fits).max_by_key(|host| host.pattern.len());
    found.map(|host| host.credential.clone())
}

/// Compares label by label; the port must be the same.
fn glob_host(pattern: &str, registry: &Registry) -> bool {
    let (pattern_host, pattern_port) = match pattern.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port))
        }
        _ => (pattern, None),
    };
    let host = registry.as_str();
    let bare = match registry.port() {
        Some(port) => host.strip_suffix(&format!(":{port}")).unwrap_or(host),
        None => host,
    };
    if pattern_port.map(str::to_owned) != registry.port().map(|port| port.to_string()) {
        return false;
    }
    let (wanted, labels): (Vec<&str>, Vec<&str>) =
        (pattern_host.split('.').collect(), bare.split('.').collect());
    wanted.len() == labels.len()
        && wanted.iter().zip(labels).all(|(pattern, label)| glob_label(pattern, label))
}

fn glob_label(pattern: &str, label: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = label.strip_prefix(pieces.next().unwrap_or("")) else { return false };
    let Some(last) = pattern.rsplit_once('*').map(|(_, last)| last) else { return rest.is_empty() };
    let middle: Vec<&str> = pieces.collect();
    for piece in middle.iter().take(middle.len().saturating_sub(1)) {
        let Some(at) = rest.find(piece) else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or("");
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(text: &str) -> Repository {
        text.parse().unwrap()
    }

    fn password(keychain: &Keychain, of: &str) -> Option<String> {
        keychain.lookup(&repository(of)).unwrap().map(|credential| match credential {
            Credential::Basic { username, password } => format!("{username}:{}", password.expose()),
            Credential::IdentityToken(token) => format!("identity {}", token.expose()),
            Credential::RegistryToken(token) => format!("registry {}", token.expose()),
            Credential::Anonymous => "anonymous".into(),
        })
    }

    /// A helper that knows one server.
    struct Fake;
    impl CredentialHelpers for Fake {
        fn get(&self, helper: &str, server: &str) -> Result<Option<Credential>, HelperError> {
            match (helper, server) {
                ("known", "reg.example") => Ok(Some(basic("helper".into(), "h".into()))),
                ("known", HUB_KEY) => Ok(Some(basic("<token>".into(), "hub-token".into()))),
                ("known", _) => Ok(None),
                _ => Err(HelperError::Missing { helper: helper.to_owned(), config_path: String::new() }),
            }
        }
    }

    #[test]
    fn every_key_form_of_a_configuration_is_found() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOmh1Yg=="},
            "reg.example": {"username": "host", "password": "a:b:c"},
            "reg.example/team": {"auth": "dGVhbTp4"},
            "reg.example/team/app": {"identitytoken": "id"},
            "https://port.example:5000/v2/": {"registrytoken": "reg"},
            "empty.example": {},
            "null.example": {"auth": ""},
            "nopad.example": {"auth": "dTpwdw"}
        }}"#;
        let config = DockerConfig::parse(text.as_bytes(), "config.json").unwrap();
        let keychain = Keychain::new(vec![CredentialSource::File(config)]);
        for (name, expected) in [
            ("busybox", Some("hub:hub")),
            ("docker.io/team/app", Some("hub:hub")),
            ("registry-1.docker.io/x/y", Some("hub:hub")),
            ("reg.example/other", Some("host:a:b:c")),
            ("reg.example/teammate/app", Some("host:a:b:c")),
            ("reg.example/team/other", Some("team:x")),
            ("reg.example/team/app", Some("identity id")),
            ("reg.example/team/app/sub", Some("identity id")),
            ("port.example:5000/x", Some("registry reg")),
            ("port.example/x", None),
            ("empty.example/x", None),
            ("null.example/x", None),
            ("nopad.example/x", Some("u:pw")),
            ("xreg.example/x", None),
        ] {
            assert_eq!(password(&keychain, name).as_deref(), expected, "{name}");
        }
        let old = DockerConfig::parse(
            br#"{"https://reg.example/v1/": {"auth": "dTpw\ndw==\n", "email": "x"}}"#,
            ".dockercfg",
        );
        let keychain = Keychain::new(vec![CredentialSource::File(old.unwrap())]);
        assert_eq!(password(&keychain, "reg.example/x").as_deref(), Some("u:pw"));
    }

    #[test]
    fn bad_configurations_are_refused_without_showing_values() {
        for (text, expected) in [
            ("", "it is empty"),
            ("{", "it is not valid JSON at line 1"),
            ("[]", "it is JSON of another form than expected at line 1"),
            (r#"{"auths": {"reg.example": {"auth": "***hunter2"}}}"#, "`auth` is not base64"),
            (r#"{"auths": {"reg.example": {"auth": "aHVudGVyMg=="}}}"#, "`auth` has no `:`"),
            (r#"{"auths": {"reg.example": {"username": "hunter2"}}}"#, "only one of"),
            (r#"{"auths": {"reg.example": "hunter2"}}"#, "it is JSON of another form"),
        ] {
            let error = DockerConfig::parse(text.as_bytes(), "x/config.json").unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("`x/config.json`"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn helpers_are_asked_for_their_hosts_and_a_missing_one_is_remembered() {
        let chain = |text: &str| {
            let config = DockerConfig::parse(text.as_bytes(), "config.json").unwrap();
            Keychain::with_helpers(vec![CredentialSource::File(config)], Arc::new(Fake))
        };
        let keychain = chain(r#"{"credHelpers": {"reg.example": "known", "bad.example": "absent"}}"#);
        assert_eq!(password(&keychain, "reg.example/x").as_deref(), Some("helper:h"));
        assert_eq!(password(&keychain, "other.example/x"), None);
        assert_eq!(password(&keychain, "bad.example/x"), None);
        let missing = |host: &str| keychain.missing_helper(&host.parse().unwrap());
        let error = missing("bad.example").unwrap().to_string();
        assert!(error.contains("docker-credential-absent") && error.contains("config.json"), "{error}");
        assert_eq!(missing("reg.example"), None);
        let keychain = chain(r#"{"credsStore": "known", "auths": {"file.example": {"auth": "dTpwdw=="}}}"#);
        assert_eq!(password(&keychain, "busybox").as_deref(), Some("identity hub-token"));
        assert_eq!(password(&keychain, "file.example/x").as_deref(), Some("u:pw"));
        assert_eq!(password(&keychain, "other.example/x"), None);
    }

    #[test]
    fn host_patterns_are_globs_per_label_with_the_same_port() {
        let entry = |pattern: &str, name: &str| HostCredential {
            pattern: pattern.into(),
            credential: basic(name.into(), "p".into()),
        };
        let keychain = Keychain::new(vec![CredentialSource::Hosts(vec![
            entry("*.example.com", "wild"),
            entry("*.0.0.1:15043", "port"),
            entry("reg.example.com/team", "team"),
            entry("https://index.docker.io/v1/", "hub"),
            entry("a*b*c.test", "many"),
        ])]);
        for (name, expected) in [
            ("x.example.com/a", Some("wild:p")),
            ("x.y.example.com/a", None),
            ("127.0.0.1:15043/a", Some("port:p")),
            ("127.0.0.1:15044/a", None),
            ("reg.example.com/team/app", Some("team:p")),
            ("reg.example.com/teamx/app", Some("wild:p")),
            ("x.example.com:443/a", None),
            ("busybox", Some("hub:p")),
            ("axxbyyc.test/a", Some("many:p")),
            ("axxc.test/a", None),
        ] {
            assert_eq!(password(&keychain, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn credentials_for_named_registries_go_to_no_other() {
        let registries = ["reg.example:5000", "docker.io"].map(|text| text.parse().unwrap()).to_vec();
        let named = CredentialSource::Named { registries, credential: basic("named".into(), "p".into()) };
        let file = DockerConfig::parse(br#"{"auths": {"file.example": {"auth": "dTpwdw=="}}}"#, "f").unwrap();
        let keychain = Keychain::new(vec![named, CredentialSource::File(file)]);
        for (name, expected, withheld) in [
            ("reg.example:5000/x", Some("named:p"), false),
            ("busybox", Some("named:p"), false),
            ("index.docker.io/library/busybox", Some("named:p"), false),
            ("reg.example/x", None, true),
            ("reg.example:5001/x", None, true),
            ("sub.reg.example:5000/x", None, true),
            ("file.example/x", Some("u:pw"), true),
        ] {
            assert_eq!(password(&keychain, name).as_deref(), expected, "{name}");
            assert_eq!(keychain.withholds_from(repository(name).registry()), withheld, "{name}");
        }
        assert!(!Keychain::default().withholds_from(repository("reg.example/x").registry()));
    }

    #[test]
    fn the_first_source_with_credentials_is_used() {
        let file = DockerConfig::parse(br#"{"auths": {"reg.example": {"auth": "dTpwdw=="}}}"#, "f").unwrap();
        let hosts = CredentialSource::Hosts(vec![HostCredential {
            pattern: "other.example".into(),
            credential: Credential::Anonymous,
        }]);
        let everywhere = CredentialSource::Everywhere(basic("all".into(), "p".into()));
        let keychain = Keychain::new(vec![hosts, CredentialSource::File(file), everywhere]);
        assert_eq!(password(&keychain, "reg.example/x").as_deref(), Some("u:pw"));
        assert_eq!(password(&keychain, "third.example/x").as_deref(), Some("all:p"));
        assert_eq!(password(&keychain, "other.example/x"), None, "explicitly no credential");
        assert!(!format!("{keychain:?}").contains("pw"), "secrets are not printed");
    }
}
