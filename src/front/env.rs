//! The process environment: read once, here, and carried as a value.
//!
//! An empty variable counts as unset, everywhere: CI systems pass an empty text for a value that was not given.
//! Variables of flags (`IMGRELAY_<FLAG>`) are made from the flags themselves, see [`super::cli`]; the others are
//! constants below. `docs/environment.md` lists both and is checked by a test.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Start of every variable that stands for a flag.
pub const PREFIX: &str = "IMGRELAY_";

/// A variable that is read and belongs to no flag.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name; `*` at the end stands for any rest.
    pub name: &'static str,
    /// What it changes, in one line.
    pub meaning: &'static str,
}

macro_rules! variables {
    ($($(#[$doc:meta])* $ident:ident = $name:literal: $meaning:literal;)+) => {
        $(#[doc = $meaning] pub const $ident: &str = $name;)+
        /// Every variable that is read and belongs to no flag.
        pub const VARIABLES: &[Variable] = &[$(Variable { name: $name, meaning: $meaning }),+];
    };
}

variables! {
    NO_COLOR = "NO_COLOR": "any text: no colours unless `--color` turns them on (no-color.org)";
    TERM = "TERM": "`dumb`: no colours and no bars";
    GITHUB_OUTPUT = "GITHUB_OUTPUT": "file that `--result github` without a path appends to";
    GITHUB_WORKSPACE = "GITHUB_WORKSPACE": "`imgrelay github`: the folder of the job; paths below it are made relative to it";
    GITHUB_STEP_SUMMARY = "GITHUB_STEP_SUMMARY": "`imgrelay github`: file that the step's summary is appended to";
    GITHUB_ARTIFACTS = "GITHUB_ARTIFACTS": "`imgrelay github`: file that declared artifacts are appended to";
    RUNNER_TEMP = "RUNNER_TEMP": "`imgrelay github`: the runner's temporary folder, which inputs may name";
    RUNNER_DEBUG = "RUNNER_DEBUG": "`imgrelay github`: `1` stands for `--debug`";
    INPUT = "INPUT_*": "`imgrelay github`: the action's inputs, see `docs/github-actions.md`";
    SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH": "seconds since 1970 for `--created source-date-epoch`; not read otherwise";
    TMPDIR = "TMPDIR": "folder for temporary files without a name (default `/tmp`)";
    HOME = "HOME": "home folder; `$HOME/.docker/config.json` holds credentials";
    DOCKER_CONFIG = "DOCKER_CONFIG": "folder with `config.json`, `.dockerconfigjson` or `.dockercfg`";
    DOCKER_AUTH_CONFIG = "DOCKER_AUTH_CONFIG": "the text of a `config.json`, as GitLab passes it";
    REGISTRY_AUTH_FILE = "REGISTRY_AUTH_FILE": "credentials file, as podman's; `--authfile` beats it";
    XDG_RUNTIME_DIR = "XDG_RUNTIME_DIR": "`containers/auth.json` below it holds podman's credentials";
    PATH = "PATH": "where credential helpers (`docker-credential-*`) are looked for";
    SSL_CERT_FILE = "SSL_CERT_FILE": "file with trusted certificates, instead of the system's";
    SSL_CERT_DIR = "SSL_CERT_DIR": "folder with trusted certificates, instead of the system's";
    HTTPS_PROXY = "HTTPS_PROXY": "proxy for https, also in lower case, which comes first";
    HTTP_PROXY = "HTTP_PROXY": "proxy for plain http, also in lower case, which comes first";
    NO_PROXY = "NO_PROXY": "hosts that are reached without a proxy, also in lower case, which comes first";
    IMGPKG_USERNAME = "IMGPKG_USERNAME": "user name, when `--registry-username` is not given, as imgpkg";
    IMGPKG_PASSWORD = "IMGPKG_PASSWORD": "password, when `--registry-password` is not given, as imgpkg";
    IMGPKG_TOKEN = "IMGPKG_TOKEN": "token, when `--registry-token` is not given, as imgpkg";
    IMGPKG_ANON = "IMGPKG_ANON": "no credentials, when `--registry-anon` is not given, as imgpkg";
    IMGPKG_REGISTRY = "IMGPKG_REGISTRY_*": "credentials per registry, as imgpkg: `…_HOSTNAME`, `…_USERNAME`, `…_PASSWORD`, `…_IDENTITY_TOKEN`, `…_REGISTRY_TOKEN`, each with any suffix such as `_0`";
    IMGPKG_ENABLE_IAAS_AUTH = "IMGPKG_ENABLE_IAAS_AUTH": "`true`: log in to cloud registries with all logins, as imgpkg";
    IMGPKG_ACTIVE_KEYCHAINS = "IMGPKG_ACTIVE_KEYCHAINS": "logins to cloud registries, as imgpkg: `gke`, `ecr`, `aks`, `github`, joined by commas";
    AWS_ACCESS_KEY_ID = "AWS_ACCESS_KEY_ID": "ECR, buckets: access key";
    AWS_SECRET_ACCESS_KEY = "AWS_SECRET_ACCESS_KEY": "ECR, buckets: secret access key";
    AWS_SESSION_TOKEN = "AWS_SESSION_TOKEN": "ECR, buckets: session token of temporary keys";
    AWS_REGION = "AWS_REGION": "ECR, buckets: region of STS (default: the registry's), and of the bucket (default: from its server)";
    AWS_DEFAULT_REGION = "AWS_DEFAULT_REGION": "ECR, buckets: the same, when `AWS_REGION` is not set";
    AWS_PROFILE = "AWS_PROFILE": "ECR, buckets: profile in the shared credentials file (default `default`)";
    AWS_SHARED_CREDENTIALS_FILE = "AWS_SHARED_CREDENTIALS_FILE": "ECR, buckets: shared credentials file (default `$HOME/.aws/credentials`)";
    AWS_WEB_IDENTITY_TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE": "ECR, buckets: token file that STS exchanges for the role `AWS_ROLE_ARN`";
    AWS_ROLE_ARN = "AWS_ROLE_ARN": "ECR, buckets: role for the token of `AWS_WEB_IDENTITY_TOKEN_FILE`";
    AWS_ROLE_SESSION_NAME = "AWS_ROLE_SESSION_NAME": "ECR, buckets: name under which a role's use is logged (default `imgrelay`)";
    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "ECR, buckets: path of the container's role, as ECS sets it";
    AWS_CONTAINER_CREDENTIALS_FULL_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI": "ECR, buckets: URL of the container's role, as EKS sets it";
    AWS_CONTAINER_AUTHORIZATION_TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN": "ECR, buckets: authorization for that URL";
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "ECR, buckets: file with the authorization for that URL";
    AWS_EC2_METADATA_DISABLED = "AWS_EC2_METADATA_DISABLED": "ECR, buckets: `true`: no requests to the machine's metadata service";
    AWS_EC2_METADATA_SERVICE_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT": "ECR, buckets: URL of the machine's metadata service (default `http://169.254.169.254`)";
    AWS_ENDPOINT_URL_S3 = "AWS_ENDPOINT_URL_S3": "buckets: another server than Amazon's, such as `https://s3.example`";
    AWS_ENDPOINT_URL = "AWS_ENDPOINT_URL": "buckets: the same, when `AWS_ENDPOINT_URL_S3` is not set";
    AWS_ENDPOINT_URL_ECR = "AWS_ENDPOINT_URL_ECR": "ECR: another URL of the service";
    AWS_ENDPOINT_URL_ECR_PUBLIC = "AWS_ENDPOINT_URL_ECR_PUBLIC": "ECR: another URL of the public registry's service";
    AWS_ENDPOINT_URL_STS = "AWS_ENDPOINT_URL_STS": "ECR, buckets: another URL of STS";
    GOOGLE_APPLICATION_CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS": "Google: file with the key of a service account";
    CLOUDSDK_AUTH_ACCESS_TOKEN = "CLOUDSDK_AUTH_ACCESS_TOKEN": "Google: an access token";
    GCE_METADATA_HOST = "GCE_METADATA_HOST": "Google: host of the machine's metadata service (default `metadata.google.internal`)";
    AZURE_CLIENT_ID = "AZURE_CLIENT_ID": "ACR: the application's or managed identity's id";
    AZURE_TENANT_ID = "AZURE_TENANT_ID": "ACR: the directory";
    AZURE_CLIENT_SECRET = "AZURE_CLIENT_SECRET": "ACR: the application's secret";
    AZURE_FEDERATED_TOKEN_FILE = "AZURE_FEDERATED_TOKEN_FILE": "ACR: file with the application's federated token";
    AZURE_AUTHORITY_HOST = "AZURE_AUTHORITY_HOST": "ACR: URL of the directory (default: the cloud's own)";
    AZURE_POD_IDENTITY_AUTHORITY_HOST = "AZURE_POD_IDENTITY_AUTHORITY_HOST": "ACR: URL of the machine's metadata service (default `http://169.254.169.254`)";
    IDENTITY_ENDPOINT = "IDENTITY_ENDPOINT": "ACR: URL of App Service's token endpoint";
    IDENTITY_HEADER = "IDENTITY_HEADER": "ACR: secret for that endpoint";
    GITHUB_TOKEN = "GITHUB_TOKEN": "`ghcr.io`: the token of the workflow";
    GITHUB_ACTOR = "GITHUB_ACTOR": "`ghcr.io`: the user of that token";
    COSIGN_PASSWORD = "COSIGN_PASSWORD": "`sign`: the password of an encrypted private key, as cosign's (default: none)";
}

/// Tells whether a variable has the form of Kubernetes' variables for a Service: `NAME_PORT`, `NAME_SERVICE_HOST`,
/// `NAME_PORT_80_TCP_ADDR`.
///
/// Source: Kubernetes, "Accessing the Service", environment variables; every pod of the namespace has them.
#[must_use]
pub fn is_service_link(name: &str) -> bool {
    if name.ends_with("_PORT") || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    // NAME_PORT_<number>_<protocol>, alone or with `_ADDR`, `_PORT` or `_PROTO`.
    let Some((_, rest)) = name.rsplit_once("_PORT_") else { return false };
    let mut parts = rest.split('_');
    let is_number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
    let is_protocol = parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part));
    let about = parts.next().is_none_or(|part| ["ADDR", "PORT", "PROTO"].contains(&part));
    is_number && is_protocol && about && parts.next().is_none()
}

/// The environment of this run; empty variables are not in it.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<OsString, OsString>);

impl Env {
    /// Reads the environment of the process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os())
    }

    /// Makes an environment from names and values.
    pub fn from_pairs<K: Into<OsString>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Returns the environment with one variable changed; an empty value removes it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        let value = value.into();
        if value.is_empty() {
            self.0.remove(OsStr::new(name));
        } else {
            self.0.insert(name.into(), value);
        }
        self
    }

    /// Returns a variable's value.
    #[must_use]
    pub fn os(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Returns a variable's value if it is UTF-8, without line breaks at its end, which a file it was read from leaves.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.os(name).and_then(OsStr::to_str).map(|text| text.trim_end_matches(['\n', '\r']));
        text.filter(|text| !text.is_empty())
    }

    /// Returns a variable's value as a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.os(name).map(PathBuf::from)
    }

    /// Returns the names of the variables for this program only, which other programs do not need.
    ///
    /// Shape: flags, imgpkg's variables, inputs of the action, the password and the key as cosign names them.
    #[must_use]
    pub fn own(&self) -> Vec<OsString> {
        const BEGINNINGS: [&str; 3] = [PREFIX, "IMGPKG_", "INPUT_"];
        let is_own = |name: &&OsString| {
            let begins = |beginning: &str| name.as_encoded_bytes().starts_with(beginning.as_bytes());
            BEGINNINGS.iter().any(|beginning| begins(beginning))
                || [COSIGN_PASSWORD, "COSIGN_PRIVATE_KEY"].iter().any(|own| name.as_os_str() == *own)
        };
        self.0.keys().filter(is_own).cloned().collect()
    }

    /// Returns names and values, in the byte order of names; names that are not UTF-8 are left out.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.0.iter().filter_map(|(name, value)| Some((name.to_str()?, value.as_os_str())))
    }
}

impl std::fmt::Debug for Env {
    /// Shows names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_unset_and_values_are_not_shown() {
        let env = Env::from_pairs([("A", "hunter2"), ("B", "")]);
        assert_eq!(env.text("A"), Some("hunter2"));
        assert_eq!(env.os("B"), None);
        let broken = Env::from_pairs([("A", "a\r\n"), ("B", "\n")]);
        assert_eq!((broken.text("A"), broken.text("B")), (Some("a"), None));
        assert_eq!(format!("{env:?}"), "{\"A\"}");
        assert_eq!(env.iter().count(), 1);
        let env = env.with("B", "b").with("A", "");
        assert_eq!(format!("{env:?}"), "{\"B\"}");
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_known_by_their_form() {
        for name in [
            "IMGRELAY_PORT",
            "IMGRELAY_SERVICE_HOST",
            "IMGRELAY_SERVICE_PORT",
            "IMGRELAY_SERVICE_PORT_HTTP",
            "IMGRELAY_PORT_80_TCP",
            "IMGRELAY_PORT_80_TCP_ADDR",
            "IMGRELAY_PORT_53_UDP_PROTO",
            "IMGRELAY_WEB_PORT_8080_TCP_PORT",
            "IMGPKG_REGISTRY_SERVICE_HOST",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in [
            "IMGRELAY_PORTS",
            "IMGRELAY_PORT_X_TCP",
            "IMGRELAY_PORT_80_TCP_X",
            "IMGRELAY_TAG",
            "IMGRELAY_PORT_80",
        ] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
