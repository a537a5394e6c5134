//! What a registry accepts as proof of identity.

use crate::model::Secret;

/// Credentials of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password, or a token in its place.
        password: Secret,
    },
    /// A refresh token that token servers exchange (OAuth2).
    IdentityToken(Secret),
    /// A finished bearer token.
    RegistryToken(Secret),
    /// Explicitly no login; later sources are not asked.
    Anonymous,
}

/// Makes credentials of what a helper or file gives; the user `<token>` marks an identity token.
pub(super) fn basic(username: String, password: String) -> Credential {
    if username == "<token>" {
        Credential::IdentityToken(password.into())
    } else {
        Credential::Basic { username, password: password.into() }
    }
}
