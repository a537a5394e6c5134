//! Private keys: PKCS#8 in PEM as openssl writes it, and cosign's encrypted ones.
//!
//! The bytes of a key are overwritten after their last use; ring's own copy is not.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use crate::model::Secret;

use super::der::{self, Reader};
use super::key_error::{KeyError, KeyProblem};
use super::public_key::{KeyAlgorithm, PublicKey, identifiers, name_of, oid};
use super::{encrypted_key, pem};

const PKCS8: &str = "PRIVATE KEY";
/// cosign's label, and its label before version 2.
const SEALED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
const EXPECTED: &str = "P-256 or Ed25519";

/// A private key that signs.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    /// Shows the public part only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads the one key of a PEM text; `name` is the text's name in messages.
    ///
    /// Errors: [`KeyError`]; [`KeyProblem::NoPassword`] if the key is encrypted and no password is given.
    /// Cost: an encrypted key takes a fifth of a second and 64 MiB.
    pub fn parse(text: &[u8], name: &str, password: Option<&Secret>) -> Result<Self, KeyError> {
        Self::read(text, name, password).map_err(|problem| KeyError::new(name, problem))
    }

    fn read(text: &[u8], name: &str, password: Option<&Secret>) -> Result<Self, KeyProblem> {
        let blocks = pem::blocks(text, PKCS8)?;
        // openssl puts the parameters of a curve in front of its keys.
        let mut keys = blocks.iter().filter(|block| block.label != "EC PARAMETERS");
        let (Some(block), None) = (keys.next(), keys.next()) else {
            return Err(KeyProblem::Malformed { expected: "one private key" });
        };
        if SEALED.contains(&block.label) {
            let password = password.ok_or(KeyProblem::NoPassword)?;
            return Self::of_pkcs8(encrypted_key::open(block.bytes()?.expose(), password)?.expose(), name);
        }
        match block.label {
            PKCS8 => Self::of_pkcs8(block.bytes()?.expose(), name),
            other => Err(wrong_label(other)),
        }
    }

    /// Reads a PrivateKeyInfo (RFC 5958).
    fn of_pkcs8(bytes: &[u8], name: &str) -> Result<Self, KeyProblem> {
        const FORM: KeyProblem = KeyProblem::Malformed { expected: "a PKCS#8 key" };
        let (algorithm, key) = split_pkcs8(bytes).ok_or(FORM)?;
        let (algorithm, pair) = match algorithm.as_slice() {
            [oid::EC, oid::P256] => (KeyAlgorithm::P256, Pair::P256(p256(bytes, key)?)),
            [oid::ED25519] => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes);
                (KeyAlgorithm::Ed25519, Pair::Ed25519(pair.map_err(|_| FORM)?))
            }
            [oid::RSA, ..] => return Err(KeyProblem::RsaSigning),
            other => return Err(KeyProblem::Algorithm { found: name_of(other), expected: EXPECTED }),
        };
        let public = match &pair {
            Pair::P256(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        };
        let public = PublicKey::of_private(algorithm, public, name);
        Ok(Self { pair, public })
    }

    /// Returns the public part.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    ///
    /// ECDSA takes fresh random numbers, so the same message gets another signature each time.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => match pair.sign(&SystemRandom::new(), message) {
                Ok(signature) => Ok(signature.as_ref().to_vec()),
                Err(_) => Err(KeyError::new(self.public.name(), KeyProblem::NoRandomness)),
            },
        }
    }
}

/// Makes the error for another block, with the openssl command that converts it.
fn wrong_label(label: &str) -> KeyProblem {
    let expected = match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return KeyProblem::IsPublicKey,
        "RSA PRIVATE KEY" => return KeyProblem::RsaSigning,
        "EC PRIVATE KEY" => "`PRIVATE KEY` (`openssl pkcs8 -topk8 -nocrypt` converts it)",
        "ENCRYPTED PRIVATE KEY" => {
            "cosign's encrypted key, or `PRIVATE KEY` without a password (`openssl pkey` decrypts it)"
        }
        _ => "`PRIVATE KEY` or cosign's `ENCRYPTED SIGSTORE PRIVATE KEY`",
    };
    KeyProblem::Label { found: label.chars().take(60).collect(), expected }
}

/// Splits a key into the object identifiers of its algorithm and the key in the algorithm's own format.
fn split_pkcs8(bytes: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let mut outer = Reader::new(bytes);
    let mut inner = outer.sequence()?;
    inner.take(der::INTEGER)?;
    let identifiers = identifiers(&mut inner)?;
    let key = inner.take(der::OCTET_STRING)?;
    outer.is_empty().then_some((identifiers, key))
}

fn p256(bytes: &[u8], key: &[u8]) -> Result<EcdsaKeyPair, KeyProblem> {
    if !has_public_part(key) {
        return Err(KeyProblem::NoPublicPart);
    }
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes, &SystemRandom::new())
        .map_err(|_| KeyProblem::Inconsistent)
}

/// Tells whether an ECPrivateKey (RFC 5915) has its public key, which ring requires.
fn has_public_part(key: &[u8]) -> bool {
    const PARAMETERS: u8 = 0xa0;
    const PUBLIC: u8 = 0xa1;
    let find = || {
        let mut inner = Reader::new(key).sequence()?;
        inner.take(der::INTEGER)?;
        inner.take(der::OCTET_STRING)?;
        if inner.tag() == Some(PARAMETERS) {
            inner.take(PARAMETERS)?;
        }
        inner.take(PUBLIC)
    };
    find().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256: &str = include_str!("../../tests/keys/p256.key");

    fn parse(text: &str, password: Option<&str>) -> Result<SigningKey, String> {
        let password = password.map(Secret::new);
        SigningKey::parse(text.as_bytes(), "`k`", password.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_unusable_private_key_is_refused_with_the_reason() {
        let sealed = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\ne30=\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
        let openssh = P256.replace("PRIVATE", "OPENSSH PRIVATE");
        for (text, expected) in [
            ("", "`k` is empty"),
            (include_str!("../../tests/keys/p256.pub"), "holds a public key, expected a private key"),
            (
                include_str!("../../tests/keys/rsa.key"),
                "holds an RSA key: signatures by RSA are verified, but not made",
            ),
            (
                include_str!("../../tests/keys/p256-sec1.key"),
                "holds `EC PRIVATE KEY`, expected `PRIVATE KEY` (`openssl pkcs8",
            ),
            (
                include_str!("../../tests/keys/p256-encrypted.key"),
                "holds `ENCRYPTED PRIVATE KEY`, expected cosign's",
            ),
            (include_str!("../../tests/keys/p256-nopub.key"), "holds a P-256 key without its public part"),
            (&openssh, "holds `OPENSSH PRIVATE KEY`, expected `PRIVATE KEY` or cosign's"),
            (&P256.repeat(2), "its contents are not one private key"),
            (sealed, "is encrypted, and no password was given"),
        ] {
            let error = parse(text, None).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let error = parse(sealed, Some("x")).unwrap_err();
        assert!(error.contains("is not the JSON that cosign writes: missing field `kdf`"), "{error}");
    }

    #[test]
    fn keys_that_cosign_encrypted_are_opened_with_their_password_only() {
        // cosign 2.5.0 generate-key-pair, with COSIGN_PASSWORD=geheim and with an empty one.
        let sealed = include_str!("../../tests/keys/cosign.key");
        let key = parse(sealed, Some("geheim")).unwrap();
        assert_eq!(key.public().to_pem(), include_str!("../../tests/keys/cosign.pub"));
        assert!(key.public().verifies(b"m", &key.sign(b"m").unwrap()));
        let older = sealed.replace("SIGSTORE", "COSIGN");
        assert!(parse(&older, Some("geheim")).is_ok());
        let wrong = "`k` cannot be decrypted: the password is wrong, or the file was changed";
        assert_eq!(parse(sealed, Some("geheim ")).unwrap_err(), wrong);
        let empty = include_str!("../../tests/keys/cosign-empty.key");
        assert!(parse(empty, Some("")).is_ok());
        assert_eq!(parse(empty, Some("x")).unwrap_err(), wrong);
    }

    #[test]
    fn a_private_key_whose_parts_do_not_fit_is_refused() {
        let other = include_str!("../../tests/keys/ed25519.key");
        let key = parse(P256, None).unwrap();
        assert_eq!(format!("{key:?}").matches("ONL9HFVp").count(), 0, "the key is not shown");
        assert!(parse(other, None).is_ok());
        // The last bytes are those of the public part.
        let body: String = P256.lines().filter(|line| !line.starts_with("-----")).collect();
        use base64::Engine as _;
        let mut der = base64::engine::general_purpose::STANDARD.decode(&body).unwrap();
        *der.last_mut().unwrap() ^= 1;
        let changed = base64::engine::general_purpose::STANDARD.encode(der);
        let text = format!("-----BEGIN PRIVATE KEY-----\n{changed}\n-----END PRIVATE KEY-----\n");
        assert_eq!(
            parse(&text, None).unwrap_err(),
            "`k` is damaged: its private and public parts do not belong together"
        );
    }

    #[test]
    fn a_private_key_is_never_shown() {
        let key = SigningKey::parse(P256.as_bytes(), "`p256.key`", None).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.starts_with("SigningKey { public: "), "{shown}");
    }
}
