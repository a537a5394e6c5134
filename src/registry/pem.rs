//! Certificates and keys out of PEM texts of files and settings, and what is wrong with them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::model::pem::{self, PemBlock, PemFault, PemText};

use super::wire_options::{CaCertificates, ClientIdentity};

const CERTIFICATE: &str = "CERTIFICATE";

/// Reads every certificate of a PEM text.
///
/// Errors: the text's name, the number of the certificate, and the cause; never the text itself.
pub(super) fn parse_certificates(text: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = pem::read(text);
    let certificates: Vec<&PemBlock<'_>> =
        found.blocks.iter().filter(|block| block.label == CERTIFICATE).collect();
    if certificates.is_empty() {
        return Err(format!("{name} {}", wrong_form(&found)));
    }
    let parse = |(index, block): (usize, &PemBlock<'_>)| {
        let which = format!("certificate {} of {name}", index + 1);
        let text: Vec<u8> = block.lines().flatten().copied().collect();
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| format!("{which} is not valid PEM: its base64 cannot be decoded"))?;
        let certificate = CertificateDer::from(bytes);
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| format!("{which} is no X.509 certificate: its contents cannot be decoded"))?;
        Ok(certificate)
    };
    certificates.into_iter().enumerate().map(parse).collect()
}

/// Reads a CA setting.
pub(super) fn parse_ca(ca: &CaCertificates) -> Result<Vec<CertificateDer<'static>>, String> {
    parse_certificates(&ca.pem, &ca.name)
}

/// Says what a text without certificates is.
fn wrong_form(found: &PemText<'_>) -> String {
    let text = match (found.blocks.first().map(|block| block.label), found.fault) {
        (Some(label), _) if label.ends_with("PRIVATE KEY") => "holds a private key, expected certificates",
        (Some("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST"), _) => {
            "holds a certificate request, expected certificates"
        }
        (Some("TRUSTED CERTIFICATE"), _) => {
            "holds OpenSSL's trusted form (`TRUSTED CERTIFICATE`), expected `CERTIFICATE` (`openssl x509` converts it)"
        }
        (Some(_), _) => "holds no certificate, expected `-----BEGIN CERTIFICATE-----`",
        (None, Some(PemFault::Empty)) => "is empty, expected PEM certificates",
        (None, Some(PemFault::Der)) => {
            "is in DER form, expected PEM (`openssl x509 -inform der` converts it)"
        }
        (None, None | Some(PemFault::NoBlock)) => "holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)",
        (None, Some(fault)) => return fault.to_string(),
    };
    text.to_owned()
}

/// A client certificate with its chain, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn parse_identity(identity: &ClientIdentity, what: &str) -> Result<Identity, String> {
    let chain = parse_certificates(&identity.certificates, what)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes())
        .map_err(|_| format!("the key of {what} is not an unencrypted PEM private key"))?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_text_that_cannot_be_used_is_named_with_index_and_cause() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, expected) in [
            ("", "`ca.pem` is empty, expected PEM certificates"),
            (" \n", "`ca.pem` is empty, expected PEM certificates"),
            ("hello", "`ca.pem` holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)"),
            (key, "`ca.pem` holds a private key, expected certificates"),
            (
                &key.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
                "`ca.pem` holds a private key, expected certificates",
            ),
            (
                &key.replace("PRIVATE KEY", "CERTIFICATE REQUEST"),
                "`ca.pem` holds a certificate request, expected certificates",
            ),
            (
                &key.replace("PRIVATE KEY", "TRUSTED CERTIFICATE"),
                "`ca.pem` holds OpenSSL's trusted form (`TRUSTED CERTIFICATE`), expected `CERTIFICATE` \
                 (`openssl x509` converts it)",
            ),
            (
                &noise.replace('\n', "\\n"),
                "`ca.pem` has `\\n` as two characters where line breaks are expected",
            ),
            (
                &noise.replace('\n', " "),
                "`ca.pem` has no line breaks, which PEM needs after its `BEGIN` line and before its `END` line",
            ),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "`ca.pem` has a `BEGIN` line without its `END` line"),
            (noise, "certificate 1 of `ca.pem` is no X.509 certificate: its contents cannot be decoded"),
            (
                &noise.replace("AAAA", "A!AA"),
                "certificate 1 of `ca.pem` is not valid PEM: its base64 cannot be decoded",
            ),
            (
                &format!("{key}{noise}"),
                "certificate 1 of `ca.pem` is no X.509 certificate: its contents cannot be decoded",
            ),
        ] {
            assert_eq!(parse_certificates(text.as_bytes(), "`ca.pem`").unwrap_err(), expected, "{text:?}");
        }
        let der = parse_certificates(&[0x30, 0x82, 1, 2, 3], "`ca.crt`").unwrap_err();
        assert_eq!(der, "`ca.crt` is in DER form, expected PEM (`openssl x509 -inform der` converts it)");
    }
}
