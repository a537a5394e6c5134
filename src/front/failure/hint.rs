//! Advice for the user about a failure.
//!
//! Advice that doors give in different words is a variant of its own; all other advice is a [`Message`].

use std::fmt;

use super::message::{CommandLine, FlagNames, Message, message};
use crate::front::failure::MessagePart;
use crate::front::flag::Flag;
use crate::registry::TrustProblem;
use crate::tree::SymlinkPolicy;

/// The words of one door.
pub trait Vocabulary: FlagNames {
    /// Returns this door's text for a hint; `None` for the usual text.
    fn instead(&self, _hint: &Hint) -> Option<String> {
        None
    }
}

impl Vocabulary for CommandLine {}

/// A piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// No credentials for this registry were found.
    LogIn {
        /// The registry's host.
        host: String,
    },
    /// The given credentials are for other registries.
    Withheld {
        /// The registry's host.
        host: String,
    },
    /// The registry did not accept the credentials.
    CheckLogin {
        /// The registry's host.
        host: String,
        /// The requested repository.
        repository: String,
    },
    /// A credential helper program could not be used.
    CredentialHelper,
    /// The registry's certificate is signed by an authority that is not trusted.
    TrustCa,
    /// The registry requires a client certificate.
    ClientCertificate,
    /// One platform has to be chosen.
    ChoosePlatform,
    /// A tar has to be written with the layers that may not be distributed.
    WriteAllLayers,
    /// A plain image has to be made, no bundle.
    KindImage,
    /// A bundle has to be made, no plain image.
    KindBundle,
    /// Anything else; doors that lack a flag it mentions leave it out.
    Text(Message),
}

impl Hint {
    /// Writes the advice in a door's words; `None` if it is about something that the door does not have.
    #[must_use]
    pub fn render(&self, vocabulary: &dyn Vocabulary) -> Option<String> {
        vocabulary.instead(self).or_else(|| self.usual()?.render_whole(vocabulary))
    }

    /// Returns the usual text.
    fn usual(&self) -> Option<Message> {
        Some(match self {
            Self::LogIn { host } => message!(
                format!("no credentials for `{host}` were found: use `docker login {host}`, "),
                Flag::AUTHFILE,
                ", or ",
                Flag::REGISTRY_USERNAME,
                format!(" with the variable `{}`", Flag::REGISTRY_PASSWORD.variable()),
            ),
            Self::Withheld { host } => message!(
                format!(
                    "the given user name, password or token goes only to the registries that the command line names, and `{host}` is not one of them: use `docker login {host}`, "
                ),
                Flag::AUTHFILE,
                ", the variables `IMGPKG_REGISTRY_HOSTNAME_0`, `IMGPKG_REGISTRY_USERNAME_0` and `IMGPKG_REGISTRY_PASSWORD_0`, or ",
                Flag::REGISTRY_CREDENTIALS_FOR.with(host.clone()),
            ),
            // Token servers issue tokens without the requested rights, so a missing right is possible too.
            Self::CheckLogin { host, repository } => Message::from(format!(
                "check the user name and password or token for `{host}`, and that the account may use `{repository}`"
            )),
            Self::CredentialHelper => return None,
            Self::TrustCa => {
                message!("name the authority's certificate with ", Flag::REGISTRY_CA_CERT_PATH.with("FILE"))
            }
            Self::ClientCertificate => {
                "put `client.cert` and `client.key` into `/etc/containers/certs.d/<registry>/`".into()
            }
            Self::ChoosePlatform => message!("choose one with ", Flag::PLATFORM),
            Self::WriteAllLayers => {
                message!("the tar needs ", Flag::INCLUDE_NON_DISTRIBUTABLE_LAYERS, " when it is written")
            }
            Self::KindImage => message!("use ", Flag::IMAGE.kind(), " to make a plain image"),
            Self::KindBundle => message!("use ", Flag::BUNDLE.kind(), " to push a bundle"),
            Self::Text(text) => text.clone(),
        })
    }

    /// Makes the hint about links that cannot be packed, without flags that are set already.
    pub fn links(policy: SymlinkPolicy) -> Self {
        let out = message!(
            "change the links, or leave them out: these with ",
            Flag::FILE_EXCLUSION,
            ", all with ",
            Flag::SYMLINKS.with("omit"),
        );
        let copied =
            message!("; ", Flag::SYMLINKS.with("copy"), " packs the targets of links inside the folder");
        Self::Text(match policy {
            SymlinkPolicy::Copy => out,
            SymlinkPolicy::Refuse => out.then(copied),
            _ => out.then(copied).then(message!(
                "; in a plain image ",
                Flag::SYMLINKS.with("verbatim"),
                " keeps every link"
            )),
        })
    }

    /// Makes a hint with a command between other words.
    pub fn command(before: &str, command: impl Into<String>, after: &str) -> Self {
        Self::Text(Message::new(vec![before.into(), MessagePart::Command(command.into()), after.into()]))
    }
}

impl fmt::Display for Hint {
    /// Writes the advice in the command line's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&CommandLine).unwrap_or_default())
    }
}

impl From<Message> for Hint {
    fn from(text: Message) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// Tests compare texts as the command line writes them.
/// Returns the advice about a certificate that is not trusted.
pub(super) fn trust_hint(problem: &TrustProblem) -> Option<Hint> {
    match problem {
        TrustProblem::UnknownAuthority | TrustProblem::SelfSigned => Some(Hint::TrustCa),
        TrustProblem::Unsupported(_) => Some("use a certificate of version 3 at the registry with RSA of 2048 bits or more, P-256, P-384 or Ed25519".into()),
        TrustProblem::NotYetValid => Some("check the clock of this machine".into()),
        TrustProblem::WrongName { .. } => Some("use one of the names that the certificate is for".into()),
        TrustProblem::ClientCertificate => Some(Hint::ClientCertificate),
        TrustProblem::Expired | TrustProblem::Other(_) => None,
    }
}

#[cfg(test)]
impl PartialEq<&str> for Hint {
    fn eq(&self, text: &&str) -> bool {
        self.to_string().as_str() == *text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_text_is_that_of_the_command_line() {
        let host = "reg.example".to_owned();
        assert_eq!(
            Hint::LogIn { host },
            "no credentials for `reg.example` were found: use `docker login reg.example`, `--authfile`, or \
             `--registry-username` with the variable `IMGRELAY_REGISTRY_PASSWORD`"
        );
        assert_eq!(Hint::TrustCa, "name the authority's certificate with `--registry-ca-cert-path FILE`");
        assert_eq!(Hint::KindImage, "use `-i` to make a plain image");
        assert_eq!(Hint::command("", "imgrelay version", " tells it"), "`imgrelay version` tells it");
        assert_eq!(Hint::CredentialHelper.render(&CommandLine), None);
    }
}
