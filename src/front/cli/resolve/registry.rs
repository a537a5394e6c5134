//! The checked values of the `--registry-*` flags.

use std::path::PathBuf;
use std::time::Duration;

use super::{given, given_path, is_on, parsed, parsed_list, wrong};
use crate::front::cli::args::RegistryArgs;
use crate::front::cli::values;
use crate::front::credentials::CredentialFlags;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::model::{ReferenceError, Registry, Repository, limits};
use crate::registry::{Encryption, Mirror, Secret};

const ATTEMPTS_DEFAULT: u32 = 5;
const CONCURRENCY_DEFAULT: usize = 16;
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const RESPONSE_HEADER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How registries are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOptions {
    /// CA certificates to trust besides the system's, PEM.
    pub ca_files: Vec<PathBuf>,
    /// Whether the server's certificate is checked.
    pub verify_certificates: bool,
    /// Whether plain http is allowed beyond this machine.
    pub allow_http: bool,
    /// Credentials given by flags, and the file that comes before the usual ones.
    pub credentials: CredentialFlags,
    /// Registries that are read from another place first.
    pub mirrors: Vec<Mirror>,
    /// Attempts per request, at least one.
    pub attempts: u32,
    /// Longest wait for the headers of a response.
    pub response_header_timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence while a body moves.
    pub idle_timeout: Duration,
    /// Blobs moved at the same time, at least one.
    pub concurrency: usize,
    /// How the server of a bucket encrypts what is written.
    pub encryption: Option<Encryption>,
}

impl RegistryOptions {
    /// Adds the registries of the command line's references to those that get the credentials of the flags.
    #[must_use]
    pub fn naming<'a>(mut self, named: impl IntoIterator<Item = &'a Repository>) -> Self {
        let registries = &mut self.credentials.registries;
        for registry in named.into_iter().map(Repository::registry) {
            if !registries.contains(registry) {
                registries.push(registry.clone());
            }
        }
        self
    }
}

/// Resolves the registry flags; what a command names is added with [`RegistryOptions::naming`].
pub fn registry(args: &RegistryArgs) -> Result<RegistryOptions, Failure> {
    let attempts = parsed(Flag::REGISTRY_RETRY_COUNT, args.registry_retry_count.as_deref(), |text| {
        match text.parse::<u32>() {
            // 0 is one attempt, as in imgpkg.
            Ok(number @ 0..=100) => Ok(number.max(1)),
            _ => Err(format!("`{text}` is not a number from 1 to 100")),
        }
    })?;
    let concurrency =
        parsed(Flag::CONCURRENCY, args.concurrency.as_deref(), |text| match text.parse::<usize>() {
            Ok(number) if (1..=limits::CONCURRENCY).contains(&number) => Ok(number),
            _ => Err(format!("`{text}` is not a number from 1 to {}", limits::CONCURRENCY)),
        })?;
    let timeout = |flag, typed: &Option<String>, default: Duration| {
        let parse = |text: &str| match values::duration(text)? {
            // Go's meaning of 0 is "no limit"; a wait without end is what the flag is there to prevent.
            Duration::ZERO => Err("expected more than 0".to_owned()),
            duration => Ok(duration),
        };
        parsed(flag, typed.as_deref(), parse).map(|given| given.unwrap_or(default))
    };
    let ca_files =
        args.registry_ca_cert_path.iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect();
    let mirrors = mirrors(args)?;
    let mut credentials = credentials(args)?;
    credentials.registries.extend(mirrors.iter().map(|mirror| mirror.at.clone()));
    Ok(RegistryOptions {
        ca_files,
        verify_certificates: is_on(args.registry_verify_certs, true),
        allow_http: is_on(args.registry_insecure, false),
        credentials,
        mirrors,
        attempts: attempts.unwrap_or(ATTEMPTS_DEFAULT),
        response_header_timeout: timeout(
            Flag::REGISTRY_RESPONSE_HEADER_TIMEOUT,
            &args.registry_response_header_timeout,
            RESPONSE_HEADER_TIMEOUT_DEFAULT,
        )?,
        connect_timeout: timeout(
            Flag::REGISTRY_CONNECT_TIMEOUT,
            &args.registry_connect_timeout,
            CONNECT_TIMEOUT_DEFAULT,
        )?,
        idle_timeout: timeout(
            Flag::REGISTRY_IDLE_TIMEOUT,
            &args.registry_idle_timeout,
            IDLE_TIMEOUT_DEFAULT,
        )?,
        concurrency: concurrency.unwrap_or(CONCURRENCY_DEFAULT),
        encryption: None,
    })
}

/// Reads `REGISTRY=MIRROR`.
fn mirrors(args: &RegistryArgs) -> Result<Vec<Mirror>, Failure> {
    let mirror = |text: &String| {
        let (of, at) = values::key_value(text).map_err(|problem| format!("`{text}`: {problem}"))?;
        let registry = |text: &str| text.parse().map_err(|error: ReferenceError| error.to_string());
        Ok(Mirror { of: registry(&of)?, at: registry(&at)? })
    };
    let given = args.registry_mirror.iter().filter(|text| !text.is_empty());
    given.map(mirror).collect::<Result<_, String>>().map_err(|problem| wrong(Flag::REGISTRY_MIRROR, &problem))
}

/// Sets the credentials, unless half of a pair is missing.
fn credentials(args: &RegistryArgs) -> Result<CredentialFlags, Failure> {
    let secret = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.is_empty());
    let username = given(args.registry_username.as_deref()).map(str::to_owned);
    let password = secret(&args.registry_password);
    match (&username, &password) {
        (Some(_), None) => Err(Failure::misuse(message!(
            Flag::REGISTRY_USERNAME,
            " is given without ",
            Flag::REGISTRY_PASSWORD
        ))
        .hint(message!("set the ", Flag::REGISTRY_PASSWORD.by_variable()))),
        (None, Some(_)) => Err(Failure::misuse(message!(
            Flag::REGISTRY_PASSWORD,
            " is given without ",
            Flag::REGISTRY_USERNAME
        ))),
        _ => Ok(CredentialFlags {
            username,
            password,
            token: secret(&args.registry_token),
            anonymous: is_on(args.registry_anon, false),
            authfile: given_path(args.authfile.as_ref()).map(Into::into),
            keychains: args.activate_keychain.iter().filter(|name| !name.is_empty()).cloned().collect(),
            registries: parsed_list(
                Flag::REGISTRY_CREDENTIALS_FOR,
                &args.registry_credentials_for,
                str::parse::<Registry>,
            )?,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::args;
    use super::*;

    fn resolve(words: &[&str]) -> Result<RegistryOptions, Failure> {
        registry(&args(words))
    }

    #[test]
    fn defaults_are_imgpkgs() {
        let expected = RegistryOptions {
            ca_files: Vec::new(),
            verify_certificates: true,
            allow_http: false,
            credentials: CredentialFlags::default(),
            mirrors: Vec::new(),
            attempts: 5,
            response_header_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            concurrency: 16,
            encryption: None,
        };
        assert_eq!(resolve(&[]), Ok(expected.clone()));
        // What templates pass for everything that was left out.
        let empty = [
            "--registry-ca-cert-path=",
            "--tls-verify=",
            "--registry-insecure=",
            "--registry-username=",
            "--registry-password=",
            "--registry-token=",
            "--registry-anon=",
            "--authfile=",
            "--activate-keychain=",
            "--registry-credentials-for=",
            "--registry-mirror=",
            "--registry-retry-count=",
            "--registry-response-header-timeout=",
            "--registry-connect-timeout=",
            "--registry-idle-timeout=",
            "--concurrency=",
        ];
        assert_eq!(resolve(&empty), Ok(expected));
    }

    #[test]
    fn concurrency_retry_count_and_time_outs_have_bounds() {
        for (flag, good, bad) in [
            ("--concurrency", ["1", "64"], ["0", "65"]),
            ("--registry-retry-count", ["0", "100"], ["101", "-1"]),
            ("--registry-response-header-timeout", ["1ms", "1m30s"], ["0s", "30"]),
            ("--registry-connect-timeout", ["1ms", "1m30s"], ["0s", "30"]),
            ("--registry-idle-timeout", ["1ms", "1m30s"], ["0s", "30"]),
        ] {
            for value in good {
                assert!(resolve(&[&format!("{flag}={value}")]).is_ok(), "{flag} {value}");
            }
            for value in bad {
                let failure = resolve(&[&format!("{flag}={value}")]).unwrap_err();
                assert!(
                    failure.message.to_string().starts_with(&format!("`{flag}`: ")),
                    "{}",
                    failure.message
                );
            }
        }
        assert_eq!(resolve(&["--registry-retry-count=0"]).unwrap().attempts, 1);
    }

    #[test]
    fn mirrors_are_two_registries() {
        let mirrors = |text: &str| {
            let found = resolve(&[&format!("--registry-mirror={text}")])?.mirrors;
            Ok::<_, Failure>(
                found.iter().map(|mirror| format!("{} {}", mirror.of, mirror.at)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(mirrors("docker.io=mirror.example:5000,a.example=b.example").unwrap().len(), 2);
        assert_eq!(mirrors("a.example=b.example").unwrap(), ["a.example b.example"]);
        for wrong in ["a.example", "a.example=", "=b.example", "a.example=b/c", "a b=c"] {
            let failure = mirrors(wrong).unwrap_err();
            assert!(failure.message.to_string().starts_with("`--registry-mirror`: "), "{wrong}: {failure:?}");
        }
    }

    #[test]
    fn credentials_are_for_the_registries_that_are_named() {
        let named = ["a.example/x", "b.example:5000/y", "a.example/z"].map(|text| text.parse().unwrap());
        let words =
            ["--registry-credentials-for=c.example,d.example", "--registry-mirror=a.example=m.example"];
        let found = resolve(&words).unwrap().naming(&named).credentials.registries;
        let found: Vec<_> = found.iter().map(Registry::as_str).collect();
        assert_eq!(found, ["c.example", "d.example", "m.example", "a.example", "b.example:5000"]);
        let failure = resolve(&["--registry-credentials-for=https://a.example"]).unwrap_err();
        assert!(failure.message.to_string().starts_with("`--registry-credentials-for`: "), "{failure:?}");
    }

    #[test]
    fn registry_username_needs_a_password_and_neither_is_shown() {
        let credentials = |words: &[&str]| resolve(words).map(|options| options.credentials);
        let found = credentials(&["--registry-username=u", "--registry-password=hunter2"]).unwrap();
        assert_eq!(found.password.as_ref().map(Secret::expose), Some("hunter2"));
        assert!(!format!("{found:?}").contains("hunter2"));
        let token = credentials(&["--registry-token=t", "--authfile=a.json"]).unwrap();
        assert_eq!(token.token.as_ref().map(Secret::expose), Some("t"));
        assert_eq!(token.authfile, Some("a.json".into()));
        assert!(credentials(&["--registry-anon"]).unwrap().anonymous);
        assert_eq!(credentials(&["--registry-anon=false"]), Ok(CredentialFlags::default()));
        for half in ["--registry-username=u", "--registry-password=hunter2"] {
            let failure = credentials(&[half]).unwrap_err();
            assert!(failure.message.to_string().contains("is given without"), "{failure:?}");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
    }
}
