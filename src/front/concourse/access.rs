//! Makes the registry client of a `source`.
//!
//! Credentials come from the pipeline only: the output of `in` must not depend on the worker. Trust and proxies are the
//! worker's, as Concourse sets them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::Fields;
use super::source::{self, Login, Source};
use crate::front::env::{self, Env};
use crate::front::failure::Failure;
use crate::front::ui::Ui;
use crate::front::{registries, system};
use crate::model::Repository;
use crate::registry::{
    Client, ClientOptions, Credential, CredentialSource, HostCredential, Keychain, PlainHttp, TlsOptions,
    WireOptions,
};
use crate::sign::PublicKey;
use crate::transfer::signatures::Trust;

/// Requests of a `check` at the same time: 500 tags at 10 ms each take a third of a second.
pub(super) const CHECK_CONCURRENCY: usize = 16;
/// Blobs that are moved at the same time.
pub(super) const TRANSFER_CONCURRENCY: usize = 16;
/// Retries of a request of a `check`; the next `check` comes in a minute anyway.
pub(super) const CHECK_RETRIES: u32 = 3;
/// Retries of a request of `in` and `out`, about a minute in all: a shorter outage must not fail a build.
pub(super) const TRANSFER_RETRIES: u32 = 8;

/// The purpose of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Many small requests.
    Check,
    /// Moving images.
    Transfer,
}

/// Returns the folder for large temporary files: `TMPDIR` if it is set, else `/scratch`, which every Concourse
/// container has.
pub(super) fn temporary_folder(env: &Env) -> PathBuf {
    const SCRATCH: &str = "/scratch";
    match env.path(env::TMPDIR) {
        None if Path::new(SCRATCH).is_dir() => PathBuf::from(SCRATCH),
        _ => system::temporary_folder(env),
    }
}

/// Makes a client for a source; sends no request.
pub(super) fn client(source: &Source, purpose: Purpose, env: &Env, ui: &Arc<Ui>) -> Result<Client, Failure> {
    let mut hosts = Vec::new();
    hosts.extend(source.login.as_ref().map(|login| credential(&source.repository, login)));
    if let Some(mirror) = &source.mirror {
        hosts.extend(mirror.login.as_ref().map(|login| credential(&mirror.repository, login)));
    }
    let mut credentials = vec![CredentialSource::Hosts(hosts)];
    if let Some(cloud) = &source.cloud {
        credentials.push(cloud.credentials(&source.repository, env)?);
    }
    let surroundings = registries::surroundings(env, ui);
    let (concurrency, retries) = match purpose {
        Purpose::Check => (CHECK_CONCURRENCY, CHECK_RETRIES),
        Purpose::Transfer => (TRANSFER_CONCURRENCY, TRANSFER_RETRIES),
    };
    let wire = WireOptions {
        tls: TlsOptions {
            ca_certificates: source::certificates(&source.ca_certificates),
            ..surroundings.tls
        },
        concurrency,
        ..surroundings
    };
    Ok(Client::new(ClientOptions {
        wire,
        plain_http: if source.insecure { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly },
        credentials: Arc::new(Keychain::new(credentials)),
        retries,
        ..ClientOptions::default()
    })?)
}

/// Returns the keys of `params.verify_key`, else those of the source; `None` does not verify signatures.
pub(super) fn trust(of_source: &[PublicKey], params: &mut Fields) -> Result<Option<Trust>, Failure> {
    let mut keys = source::verify_keys(params)?;
    if keys.is_empty() {
        of_source.clone_into(&mut keys);
    }
    Ok((!keys.is_empty()).then(|| Trust::of(keys)))
}

fn credential(repository: &Repository, login: &Login) -> HostCredential {
    HostCredential {
        pattern: repository.registry().to_string(),
        credential: Credential::Basic { username: login.username.clone(), password: login.password.clone() },
    }
}
