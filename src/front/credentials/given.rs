//! Credentials from flags and files, and the errors in them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::front::flag::Flag;
use crate::model::{Registry, limits};
use crate::registry::{DockerConfigError, Secret};
use crate::stream::{FileError, read_file};

/// Prefix of imgpkg's variables for single registries.
pub(super) const PER_HOST: &str = "IMGPKG_REGISTRY_";
/// What may follow it, before an optional `_` and suffix.
pub(super) const PER_HOST_FIELDS: [&str; 5] =
    ["HOSTNAME", "USERNAME", "PASSWORD", "IDENTITY_TOKEN", "REGISTRY_TOKEN"];
/// Credentials from the command line (or a `source`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFlags {
    /// `--registry-username`.
    pub username: Option<String>,
    /// `--registry-password`.
    pub password: Option<Secret>,
    /// `--registry-token`: a bearer token.
    pub token: Option<Secret>,
    /// `--registry-anon`: send no credentials, even if some are configured.
    pub anonymous: bool,
    /// `--authfile`.
    pub authfile: Option<PathBuf>,
    /// `--activate-keychain`.
    pub keychains: Vec<String>,
    /// The registries for `username`, `password` and `token`: those named on the command line, and those of
    /// `--registry-credentials-for`.
    pub registries: Vec<Registry>,
}

/// Where a credential was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSetting {
    /// A flag, which each door names in its own words.
    Flag(Flag),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for CredentialSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{}", flag.long()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Why configured credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file or variable is not a valid configuration.
    #[error(transparent)]
    Config(#[from] DockerConfigError),
    /// A variable has imgpkg's prefix, but is none of its variables.
    #[error("unknown variable `{name}`: after `{PER_HOST}` comes one of {}, then `_` and any suffix", PER_HOST_FIELDS.map(|field| format!("`{field}`")).join(", "))]
    UnknownVariable {
        /// Its name.
        name: String,
    },
    /// A cloud login of this name does not exist.
    #[error("`{setting}`: there is no login `{name}`; there are {known}")]
    UnknownKeychain {
        /// The given name.
        name: String,
        /// The flag or variable.
        setting: CredentialSetting,
        /// The names of all logins.
        known: String,
    },
    /// A key file of Google has a kind that registries do not accept.
    #[error("`{}` (`GOOGLE_APPLICATION_CREDENTIALS`) is of type `{found}`, expected the key of a `service_account` or an `external_account`", path.display())]
    KeyKind {
        /// The file.
        path: PathBuf,
        /// Its type; empty when it has none.
        found: String,
    },
    /// A file about a foreign identity cannot be used.
    #[error("`{}` (`GOOGLE_APPLICATION_CREDENTIALS`): {problem}", path.display())]
    Federation {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problem: String,
    },
    /// One value of a pair is missing.
    #[error("`{given}` is set, but `{missing}` is not")]
    Incomplete {
        /// The given one.
        given: CredentialSetting,
        /// The missing one.
        missing: CredentialSetting,
    },
}

/// Reads a text file; `None` if it does not exist.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, CredentialsError> {
    Ok(read_if_present(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Reads a small file; `None` if it does not exist.
pub(super) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, CredentialsError> {
    match read_file(path, limits::CREDENTIALS_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.io_error().map(io::Error::kind) {
            Some(ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            _ => Err(error.into()),
        },
    }
}
