//! The distribution protocol's client: manifests, blobs, tags and referrers of a registry.
//!
//! Floor 2. Synchronous; safe to use from many threads at once, which then share connections, tokens and
//! back-off. Each request decides about credentials, redirects and repetition by the same rules ([`Client`]'s
//! verbs → `requests` → `http`). Knows nothing of files and archives, and never prints.
//!
//! Source: OCI distribution-spec 1.1; distribution "Token Authentication Specification".

mod auth;
mod challenge;
mod client;
mod cloud;
mod download;
mod error;
mod error_body;
#[doc(hidden)]
pub mod fuzzing;
mod helper;
mod http;
mod keychain;
mod options;
mod paging;
mod proxy;
mod redaction;
mod referrers;
mod requests;
mod resolver;
mod retry;
mod secret;
mod tls;
mod transport;
mod upload;
mod upload_session;
mod url;

pub use client::{Client, PushOutcome};
pub use cloud::{
    AppService, AwsEndpoints, AwsKeys, AwsLogin, AzureLogin, Clock, CloudLogin, CloudLogins,
    ContainerCredentials, GitHubLogin, GoogleFederation, GoogleLogin, WebIdentity,
};
pub use error::{Credentials, RegistryError, ServerMessage, Task, TrustProblem, Verb};
pub use helper::{CredentialHelpers, HelperError, ProcessHelpers};
pub use keychain::{Credential, CredentialSource, DockerConfig, DockerConfigError, HostCredential, Keychain};
pub use options::{
    ClientEvents, ClientIdentity, ClientOptions, Mirror, NoEvents, PlainHttp, Proxies, RequestRecord,
    RetryRecord, SystemTrust, Timeouts, TlsOptions,
};
pub use secret::Secret;
pub use upload::{BlobBody, PushStart};
