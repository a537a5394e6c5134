//! The distribution protocol's client: manifests, blobs, tags and referrers of a registry; beside it [`Bucket`], which
//! shares its connections' rules, trust, proxies and cloud logins.
//!
//! Floor 2. Synchronous; safe to use from many threads at once, which then share connections, tokens and
//! back-off. Each request decides about credentials, redirects and repetition by the same rules ([`Client`]'s
//! verbs → `requests` → `http`). Knows nothing of files and archives, and never prints.
//!
//! Source: OCI distribution-spec 1.1; distribution "Token Authentication Specification".

mod at_once;
mod auth;
mod blob_body;
mod challenge;
mod classify;
mod client;
mod cloud;
mod credential;
mod download;
mod error;
mod error_body;
mod events;
#[doc(hidden)]
#[doc(hidden)]
pub mod fuzzing;
mod helper;
mod http;
mod keychain;
mod layer_urls;
mod options;
mod pace;
mod paging;
mod pem;
mod proxy;
mod reach;
mod redaction;
mod referrers;
mod requests;
mod resolver;
mod resuming;
mod retry;
mod s3;
mod sanitize;
#[cfg(test)]
mod scripted;
mod tls;
mod tls_errors;
mod token;
mod transport;
mod trust_files;
mod upload;
mod upload_plan;
mod upload_session;
mod url;
mod wire_error;
mod wire_options;

pub use crate::model::Secret;
pub use blob_body::BlobBody;
pub use client::{Client, TagState};
pub use cloud::{
    AppService, AwsEndpoints, AwsKeys, AwsLogin, AzureLogin, Clock, CloudLogin, CloudLogins,
    ContainerCredentials, GitHubLogin, GoogleFederation, GoogleLogin, WebIdentity,
};
pub use credential::Credential;
pub use error::{Credentials, RegistryError, ServerMessage, Task, TrustProblem, Verb};
pub use events::{ClientEvents, NoEvents, RequestRecord, RetryRecord};
pub use helper::{CredentialHelpers, HelperError, ProcessHelpers};
pub use keychain::{CredentialSource, DockerConfig, DockerConfigError, HostCredential, Keychain};
pub use layer_urls::shown_url;
pub use options::{ClientOptions, Mirror, PlainHttp};
pub use s3::{Bucket, BucketError, BucketOptions, Encryption, WebFile};
pub use upload::{PushOutcome, PushStart};
pub use wire_options::{
    CaCertificates, ClientIdentity, Proxies, SystemTrust, Timeouts, TlsOptions, WireOptions,
};
