//! Errors of a registry, one variant for each case in which a caller acts differently.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::model::list::quoted_list;
use crate::model::{DocumentError, Repository};
use crate::stream::Mismatch;

/// What was being done, for messages: `` upload blob `sha256:…` to `reg.example/team/app` ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The registry, as the user writes it.
    pub host: String,
    /// The repository inside the registry; empty for the registry itself.
    pub repository: String,
    /// What is done.
    pub verb: Verb,
    /// On what: `` blob `sha256:…` ``, `` manifest `v1` ``.
    pub object: String,
}

impl Task {
    pub(super) fn new(repository: &Repository, verb: Verb, object: String) -> Self {
        Self {
            host: repository.registry().to_string(),
            repository: repository.name().to_owned(),
            verb,
            object,
        }
    }
}

/// What can be done with a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reading.
    Read,
    /// Asking whether it is there.
    Find,
    /// Writing.
    Upload,
    /// Deleting.
    Delete,
    /// Listing.
    List,
    /// Getting credentials for it.
    LogIn,
}

impl Verb {
    /// Returns what a registry refuses when it refuses this.
    fn noun(self) -> &'static str {
        match self {
            Self::Read | Self::Find | Self::List | Self::LogIn => "the pull from",
            Self::Upload => "the push to",
            Self::Delete => "the deletion in",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, preposition) = match self.verb {
            Verb::Read => ("read", "from"),
            Verb::Find => ("look for", "in"),
            Verb::Upload => ("upload", "to"),
            Verb::Delete => ("delete", "from"),
            Verb::List => ("list", "of"),
            Verb::LogIn => ("get", "for"),
        };
        write!(f, "{verb} {} {preposition} `{}", self.object, self.host)?;
        if !self.repository.is_empty() {
            write!(f, "/{}", self.repository)?;
        }
        f.write_str("`")
    }
}

/// The credentials that a refused request carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// None are known for the registry.
    None,
    /// None: the credentials belong to the registries that the user named, and this is another one.
    Withheld,
    /// Some, which the registry did not accept.
    Given,
}

/// Why a certificate is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustProblem {
    /// Its authority is not among the trusted ones.
    UnknownAuthority,
    /// It is for other names.
    WrongName {
        /// The names it is for.
        names: Vec<String>,
    },
    /// It is no longer valid.
    Expired,
    /// It is not valid yet; often the clock of this machine is wrong.
    NotYetValid,
    /// It is a CA certificate that the server uses as its own, as `openssl req -x509` makes, and is not trusted.
    SelfSigned,
    /// Its key, signature or version is not supported; it could only be used without checking.
    Unsupported(String),
    /// The registry did not accept our certificate, or wants one.
    ClientCertificate,
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for TrustProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAuthority => f.write_str("its certificate is signed by an unknown authority"),
            Self::WrongName { names } if names.is_empty() => {
                f.write_str("its certificate is for another name")
            }
            Self::WrongName { names } => {
                write!(f, "its certificate is for {}", quoted_list(names))
            }
            Self::Expired => f.write_str("its certificate has expired"),
            Self::NotYetValid => f.write_str("its certificate is not valid yet"),
            Self::ClientCertificate => f.write_str("it asks for a client certificate that it accepts"),
            Self::SelfSigned => f.write_str("its certificate is a self-signed CA certificate"),
            Self::Unsupported(text) | Self::Other(text) => f.write_str(text),
        }
    }
}

/// What a registry said about a refusal, made safe to print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerMessage {
    /// Its error code: `DENIED`, `NAME_UNKNOWN`; empty when the response was not in the protocol's form.
    pub code: String,
    /// Its words; control characters escaped, cut to a sane length.
    pub text: String,
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

/// Status with code, as `403 DENIED`.
fn status_code(status: u16, message: &ServerMessage) -> String {
    if message.code.is_empty() { status.to_string() } else { format!("{status} {}", message.code) }
}

/// Rounds a duration for a sentence.
fn in_words(elapsed: Duration) -> String {
    if elapsed.as_secs() >= 10 {
        format!("{} s", elapsed.as_secs())
    } else {
        format!("{:.1} s", elapsed.as_secs_f64())
    }
}

/// Why something could not be done with a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Wrong, missing or insufficient credentials.
    #[error(
        "registry `{}` refused {} `{}` ({}){message}",
        task.host, task.verb.noun(), task.repository, status_code(*status, message)
    )]
    Refused {
        /// What was refused.
        task: Box<Task>,
        /// 401 or 403.
        status: u16,
        /// Whether credentials were sent.
        credentials: Credentials,
        /// What the registry said.
        message: ServerMessage,
    },
    /// The object, its repository or the registry's API is not there.
    #[error("`{}` has no {}{message}", location(task), task.object)]
    NotFound {
        /// What was requested.
        task: Box<Task>,
        /// What the registry said.
        message: ServerMessage,
    },
    /// The registry refused the request.
    #[error("registry `{}` rejected {} for `{}` ({}){message}", task.host, task.object, task.repository, status_code(*status, message))]
    Rejected {
        /// What was requested.
        task: Box<Task>,
        /// The status.
        status: u16,
        /// What the registry said.
        message: ServerMessage,
    },
    /// The registry could not be reached, or kept failing.
    #[error("cannot {task} after {attempts} {} in {}: {cause}", if *attempts == 1 { "attempt" } else { "attempts" }, in_words(*elapsed))]
    Unreachable {
        /// What was tried.
        task: Box<Task>,
        /// How often.
        attempts: u32,
        /// How long in all.
        elapsed: Duration,
        /// What went wrong last.
        cause: String,
    },
    /// The certificate of a host is not trusted.
    #[error("cannot trust `{host}`: {problem}")]
    Trust {
        /// The host.
        host: String,
        /// Why.
        problem: TrustProblem,
    },
    /// A credential helper program is missing or failed.
    #[error("{problem}")]
    CredentialHelper {
        /// Which one, and what is wrong.
        problem: String,
    },
    /// Our configuration cannot work: an unreadable certificate, an invalid proxy.
    #[error("{problem}")]
    Configuration {
        /// What is wrong, with the name of the setting's source.
        problem: String,
    },
    /// This machine gives no more threads or memory; the registry is not the cause.
    #[error("cannot connect to `{host}`: {problem}")]
    System {
        /// What it was for.
        host: String,
        /// What is missing.
        problem: String,
    },
    /// A registry named a host whose address it may not name.
    #[error("host `{host}`, named by a registry's response, {problem}, and is not connected to")]
    ForbiddenAddress {
        /// The host.
        host: String,
        /// Where the address is.
        problem: String,
    },
    /// What was received is not what was requested.
    #[error("`{}` sent other bytes than requested: {mismatch}", location(task))]
    Mismatch {
        /// What was requested.
        task: Box<Task>,
        /// Expected and found.
        mismatch: Mismatch,
    },
    /// A manifest or index is not valid.
    #[error("`{}` sent an invalid document: {source}", location(task))]
    Document {
        /// What was requested.
        task: Box<Task>,
        /// Why.
        source: DocumentError,
    },
    /// Something is larger than allowed.
    #[error("{} of `{}` has more than {limit} bytes, which is not accepted", task.object, location(task))]
    TooLarge {
        /// What was requested.
        task: Box<Task>,
        /// Most bytes allowed.
        limit: u64,
    },
    /// A response that the protocol, or our rules for safety, do not allow.
    #[error("cannot {task}: {problem}")]
    Protocol {
        /// What was tried.
        task: Box<Task>,
        /// What the response was and what was expected.
        problem: String,
    },
    /// A layer that the registry, or the tar, does not hold could not be fetched from its `urls` either.
    #[error("cannot {task}: it is not held there, and its `urls` cannot be used: {problems}")]
    LayerUrls {
        /// What was tried.
        task: Box<Task>,
        /// Each URL with the reason.
        problems: String,
    },
    /// The response is a web page and not one of a registry.
    #[error("cannot {task}: `{host}` answered with a web page, not as a registry")]
    WebPage {
        /// What was tried.
        task: Box<Task>,
        /// The host that sent the page.
        host: String,
    },
    /// What was to be uploaded could not be read.
    #[error("cannot {task}: reading it failed: {error}")]
    Source {
        /// What was tried.
        task: Box<Task>,
        /// Why.
        error: io::Error,
    },
    /// The user stopped the work.
    #[error("stopped by a signal")]
    Cancelled,
}

/// Returns `host/repository`.
fn location(task: &Task) -> String {
    if task.repository.is_empty() { task.host.clone() } else { format!("{}/{}", task.host, task.repository) }
}

impl RegistryError {
    /// Finds the error inside an I/O error that a stream of [`Client::open_blob`](super::Client::open_blob) returned.
    #[must_use]
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// Tells whether the object is simply not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(verb: Verb, object: &str) -> Box<Task> {
        let (host, repository) = ("reg.example".into(), "team/app".into());
        Box::new(Task { host, repository, verb, object: object.into() })
    }

    #[test]
    fn messages_name_host_object_attempts_and_time() {
        let message = ServerMessage { code: "DENIED".into(), text: "no push for you".into() };
        let cases = [
            (
                RegistryError::Refused {
                    task: task(Verb::Upload, "blob `sha256:5f2c`"),
                    status: 403,
                    credentials: Credentials::Given,
                    message,
                },
                "registry `reg.example` refused the push to `team/app` (403 DENIED): no push for you",
            ),
            (
                RegistryError::Unreachable {
                    task: task(Verb::Upload, "blob `sha256:5f2c`"),
                    attempts: 4,
                    elapsed: Duration::from_secs(31),
                    cause: "connection closed while sending the body".into(),
                },
                "cannot upload blob `sha256:5f2c` to `reg.example/team/app` after 4 attempts in 31 s: \
                 connection closed while sending the body",
            ),
            (
                RegistryError::NotFound {
                    task: task(Verb::Read, "manifest `v1`"),
                    message: ServerMessage::default(),
                },
                "`reg.example/team/app` has no manifest `v1`",
            ),
            (
                RegistryError::Trust {
                    host: "reg.example".into(),
                    problem: TrustProblem::WrongName { names: vec!["a.example".into(), "b.example".into()] },
                },
                "cannot trust `reg.example`: its certificate is for `a.example`, `b.example`",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }
}
