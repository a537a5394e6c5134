//! Turns errors of the TLS library into messages. Without I/O.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as E, OtherError};

use super::error::TrustProblem;

/// Tells what is wrong with a certificate, or `None` when the failure is not about trust.
pub(super) fn trust_problem(error: &rustls::Error) -> Option<TrustProblem> {
    Some(match error {
        E::InvalidCertificate(problem) => certificate_problem(problem),
        E::NoCertificatesPresented => TrustProblem::Other("it shows no certificate".to_owned()),
        E::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::AccessDenied
            | Alert::UnsupportedCertificate,
        ) => TrustProblem::ClientCertificate,
        _ => return None,
    })
}

#[expect(deprecated, reason = "rustls still converts some errors of webpki to the variants without context")]
fn certificate_problem(problem: &Bad) -> TrustProblem {
    let text = match problem {
        Bad::UnknownIssuer => return TrustProblem::UnknownAuthority,
        Bad::NotValidForName => return TrustProblem::WrongName { names: Vec::new() },
        Bad::NotValidForNameContext { presented, .. } => {
            return TrustProblem::WrongName {
                names: presented.iter().map(|name| plain_name(name)).collect(),
            };
        }
        Bad::Expired | Bad::ExpiredContext { .. } => return TrustProblem::Expired,
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => return TrustProblem::NotYetValid,
        Bad::BadEncoding => "its certificate cannot be decoded",
        Bad::Revoked => "its certificate is revoked",
        Bad::UnhandledCriticalExtension => "its certificate has a critical extension that is not supported",
        Bad::UnknownRevocationStatus
        | Bad::ExpiredRevocationList
        | Bad::ExpiredRevocationListContext { .. } => "it is not known whether its certificate is revoked",
        Bad::BadSignature => "the signature on its certificate is wrong",
        Bad::UnsupportedSignatureAlgorithm
        | Bad::UnsupportedSignatureAlgorithmContext { .. }
        | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            return TrustProblem::Unsupported(
                "its certificate uses a key or a signature that is not supported \
                 (RSA below 2048 bits, SHA-1, P-521 or another curve)"
                    .to_owned(),
            );
        }
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => {
            "its certificate is not for servers (extended key usage)"
        }
        Bad::InvalidOcspResponse => "the OCSP response for its certificate is not valid",
        Bad::ApplicationVerificationFailure => "its certificate was refused",
        Bad::Other(other) => return other_problem(other),
        _ => "its certificate is not valid",
    };
    TrustProblem::Other(text.to_owned())
}

/// Sorts errors of webpki by their names, which are all that rustls passes on.
fn other_problem(other: &OtherError) -> TrustProblem {
    let name = format!("{:?}", other.0);
    let name = name.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
    let text = match name {
        "CaUsedAsEndEntity" => return TrustProblem::SelfSigned,
        "UnsupportedCertVersion" => {
            return TrustProblem::Unsupported("its certificate is not of X.509 version 3".to_owned());
        }
        "ShortKey" => {
            return TrustProblem::Unsupported(
                "its certificate, or one that signed it, has an RSA key below 2048 bits, which is not supported"
                    .to_owned(),
            );
        }
        "EndEntityUsedAsCa" => "its certificate is signed with one that is not an authority's",
        "PathLenConstraintViolated" | "MaximumPathDepthExceeded" => {
            "there are more authorities between its certificate and a trusted one than allowed"
        }
        "NameConstraintViolation"
        | "MaximumNameConstraintComparisonsExceeded"
        | "MalformedNameConstraint" => {
            "the authority of its certificate may not issue certificates for this name"
        }
        "MaximumSignatureChecksExceeded" | "MaximumPathBuildCallsExceeded" => {
            "it sends too many certificates to check"
        }
        "EmptyEkuExtension"
        | "ExtensionValueInvalid"
        | "MalformedExtensions"
        | "MalformedDnsIdentifier"
        | "InvalidNetworkMaskConstraint" => "its certificate has an extension that is not valid",
        "InvalidSerialNumber" => "its certificate has a serial number that is not valid",
        "SignatureAlgorithmMismatch" => "its certificate names two signature algorithms",
        "CertDistrusted" => "its certificate is distrusted",
        _ => return TrustProblem::Other(format!("its certificate is not valid ({name})")),
    };
    TrustProblem::Other(text.to_owned())
}

/// What a signature is reported as that cannot be checked because the key is too short; rustls says that it is wrong.
#[derive(Debug, thiserror::Error)]
#[error("an RSA key has less than 2048 bits")]
pub(super) struct ShortKey;

/// Names the cause where a signature counts as wrong because one of these keys is too short to be used.
pub(super) fn or_short_key<'a>(
    error: E,
    certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>,
) -> E {
    match error {
        E::InvalidCertificate(Bad::BadSignature) if certificates.into_iter().any(has_short_key) => {
            E::InvalidCertificate(Bad::Other(OtherError(Arc::new(ShortKey))))
        }
        other => other,
    }
}

/// Tells whether a certificate has an RSA key below 2048 bits, by the length of its SubjectPublicKeyInfo.
fn has_short_key(certificate: &CertificateDer<'_>) -> bool {
    /// Object identifier 1.2.840.113549.1.1.1, rsaEncryption, as DER.
    const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    /// That of an RSA key of 2048 bits, whose exponent is 1 byte at least.
    const SHORTEST: usize = 292;
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return false };
    let key = certificate.subject_public_key_info();
    let head = key.get(..RSA.len() + 8).unwrap_or_default();
    head.windows(RSA.len()).any(|window| window == RSA) && key.len() < SHORTEST
}

/// Describes a TLS failure that is not about trust.
pub(super) fn describe(error: &rustls::Error) -> String {
    match error {
        E::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity)
        | E::PeerIncompatible(_) => {
            "the host and this program have no TLS version, cipher or kind of key in common (supported are TLS 1.2 and \
             1.3, RSA of 2048 bits or more, P-256, P-384 and Ed25519; a host whose key is P-521 ends the connection so)"
                .to_owned()
        }
        E::AlertReceived(Alert::UnrecognisedName) => "the host knows no certificate for this name".to_owned(),
        E::AlertReceived(Alert::NoApplicationProtocol) | E::NoApplicationProtocol => {
            "the host speaks no HTTP on this port".to_owned()
        }
        E::AlertReceived(alert) => format!("the host ended the TLS connection ({})", name_of(alert)),
        E::DecryptError => "TLS failed: a record was damaged on the way".to_owned(),
        E::PeerSentOversizedRecord => "TLS failed: the host sent a record that is too large".to_owned(),
        E::InappropriateMessage { .. } | E::InappropriateHandshakeMessage { .. } | E::PeerMisbehaved(_) => {
            "TLS failed: the host does not keep to the protocol".to_owned()
        }
        E::FailedToGetCurrentTime => "TLS failed: this machine's clock cannot be read".to_owned(),
        E::FailedToGetRandomBytes => "TLS failed: this machine gives no random numbers".to_owned(),
        E::HandshakeNotComplete => "TLS failed: the handshake was not completed".to_owned(),
        _ => "TLS failed".to_owned(),
    }
}

/// Returns the name of an alert as RFC 8446 has it, in one word.
fn name_of(alert: &Alert) -> String {
    format!("{alert:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// `DnsName("a.example")`, as rustls presents it, without its wrapping.
fn plain_name(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(presented);
    inner.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error with a name as webpki's have.
    #[derive(Debug)]
    enum Named {
        CaUsedAsEndEntity,
        UnsupportedCertVersion,
        NameConstraintViolation,
        Future,
    }
    impl std::fmt::Display for Named {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }
    impl std::error::Error for Named {}

    #[test]
    fn certificate_errors_have_words_of_ours() {
        let other = |error| E::InvalidCertificate(Bad::Other(OtherError(Arc::new(error))));
        for (error, expected) in [
            (other(Named::CaUsedAsEndEntity), "its certificate is a self-signed CA certificate"),
            (other(Named::UnsupportedCertVersion), "its certificate is not of X.509 version 3"),
            (
                other(Named::NameConstraintViolation),
                "the authority of its certificate may not issue certificates for this name",
            ),
            (other(Named::Future), "its certificate is not valid (Future)"),
            (E::InvalidCertificate(Bad::Revoked), "its certificate is revoked"),
            (E::InvalidCertificate(Bad::BadSignature), "the signature on its certificate is wrong"),
            (
                E::InvalidCertificate(Bad::InvalidPurpose),
                "its certificate is not for servers (extended key usage)",
            ),
            (
                E::AlertReceived(Alert::CertificateRequired),
                "it asks for a client certificate that it accepts",
            ),
        ] {
            assert_eq!(trust_problem(&error).map(|problem| problem.to_string()).as_deref(), Some(expected));
        }
        assert_eq!(trust_problem(&E::DecryptError), None);
    }

    #[test]
    fn tls_failures_show_no_names_of_types() {
        for (error, expected) in [
            (
                E::AlertReceived(Alert::HandshakeFailure),
                "the host and this program have no TLS version, cipher or kind of key in common (supported are TLS 1.2 \
                 and 1.3, RSA of 2048 bits or more, P-256, P-384 and Ed25519; a host whose key is P-521 ends the \
                 connection so)",
            ),
            (E::AlertReceived(Alert::InternalError), "the host ended the TLS connection (InternalError)"),
            (E::AlertReceived(Alert::UnrecognisedName), "the host knows no certificate for this name"),
            (E::DecryptError, "TLS failed: a record was damaged on the way"),
            (E::General("x".into()), "TLS failed"),
        ] {
            assert_eq!(describe(&error), expected);
        }
    }
}
