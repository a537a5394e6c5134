//! PEM texts: certificates and keys out of files and settings, and what is wrong with them.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::wire_options::{CaCertificates, ClientIdentity};

const BEGIN: &str = "-----BEGIN ";
const CERTIFICATE: &str = "CERTIFICATE";

/// Reads every certificate of a PEM text.
///
/// Errors: the text's name, the number of the certificate, and the cause; never the text itself.
pub(super) fn parse_certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if let Some(problem) = wrong_form(pem) {
        return Err(format!("{name} {problem}"));
    }
    let mut found = Vec::new();
    let certificates = pem_blocks(pem).into_iter().filter(|block| label(block) == Some(CERTIFICATE));
    for (index, block) in certificates.enumerate() {
        let which = format!("certificate {} of {name}", index + 1);
        let certificate = CertificateDer::from_pem_slice(block)
            .map_err(|_| format!("{which} is not valid PEM: its base64 cannot be decoded"))?;
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| format!("{which} is no X.509 certificate: its contents cannot be decoded"))?;
        found.push(certificate.into_owned());
    }
    Ok(found)
}

/// Reads a CA setting.
pub(super) fn parse_ca(ca: &CaCertificates) -> Result<Vec<CertificateDer<'static>>, String> {
    parse_certificates(&ca.pem, &ca.name)
}

/// Says what a text is if it is not a PEM text with certificates.
fn wrong_form(pem: &[u8]) -> Option<String> {
    if pem.trim_ascii().is_empty() {
        return Some("is empty, expected PEM certificates".to_owned());
    }
    if matches!(pem, [0x30, 0x80..=0x84, ..]) {
        return Some("is in DER form, expected PEM (`openssl x509 -inform der` converts it)".to_owned());
    }
    let text = String::from_utf8_lossy(pem);
    if text.contains(BEGIN) && !text.trim().contains(['\n', '\r']) {
        return Some(if text.contains("\\n") {
            "has `\\n` as two characters where line breaks are expected".to_owned()
        } else {
            "has no line breaks, which PEM needs after `-----BEGIN CERTIFICATE-----` and before the end line"
                .to_owned()
        });
    }
    let blocks = pem_blocks(pem);
    let labels: Vec<&str> = blocks.iter().filter_map(|block| label(block)).collect();
    if labels.contains(&CERTIFICATE) {
        return None;
    }
    Some(match labels.first() {
        Some(label) if label.ends_with("PRIVATE KEY") => {
            "holds a private key, expected certificates".to_owned()
        }
        Some(&"CERTIFICATE REQUEST" | &"NEW CERTIFICATE REQUEST") => {
            "holds a certificate request, expected certificates".to_owned()
        }
        Some(&"TRUSTED CERTIFICATE") => {
            "holds OpenSSL's trusted form (`TRUSTED CERTIFICATE`), expected `CERTIFICATE` (`openssl x509` converts it)"
                .to_owned()
        }
        Some(_) => "holds no certificate, expected `-----BEGIN CERTIFICATE-----`".to_owned(),
        None if text.contains(BEGIN) => "has a `BEGIN` line without its `END` line".to_owned(),
        None => "holds no PEM certificate (`-----BEGIN CERTIFICATE-----`)".to_owned(),
    })
}

/// Returns the label of a block: `CERTIFICATE`.
fn label(block: &[u8]) -> Option<&str> {
    let line = block.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().strip_prefix(BEGIN)?.strip_suffix("-----")
}

/// Returns the parts of a file from each `BEGIN` line to its `END` line.
pub(super) fn pem_blocks(pem: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    let (mut begin, mut at) = (None, 0);
    for line in pem.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(BEGIN.as_bytes()) {
            begin = Some(at);
        }
        at += line.len();
        if line.starts_with(b"-----END ")
            && let Some(block) = begin.take().and_then(|begin| pem.get(begin..at))
        {
            blocks.push(block.trim_ascii_end());
        }
    }
    blocks
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
                "`ca.pem` has no line breaks, which PEM needs after `-----BEGIN CERTIFICATE-----` and before the end line",
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
