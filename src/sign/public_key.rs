//! Reads public keys from PEM texts, and verifies signatures with them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{agreement, digest, rand, signature};

use super::der::{self, Reader, element};
use super::key_error::{KeyError, KeyProblem};
use super::pem;

const LABEL: &str = "PUBLIC KEY";
const EXPECTED: &str = "P-256, Ed25519 or RSA";

/// Contents of the object identifiers of key types.
pub(super) mod oid {
    pub(in crate::sign) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    pub(in crate::sign) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    pub(in crate::sign) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    pub(in crate::sign) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    /// Names of others, for messages.
    pub(in crate::sign) const OTHERS: [(&[u8], &str); 8] = [
        (&[0x2b, 0x81, 0x04, 0x00, 0x22], "P-384"),
        (&[0x2b, 0x81, 0x04, 0x00, 0x23], "P-521"),
        (&[0x2b, 0x81, 0x04, 0x00, 0x0a], "secp256k1"),
        (&[0x2b, 0x65, 0x71], "Ed448"),
        (&[0x2b, 0x65, 0x6e], "X25519"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a], "RSASSA-PSS"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], "DSA"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x03, 0x01], "DH"),
    ];
}

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 over SHA-256, signatures in DER.
    P256,
    /// Ed25519.
    Ed25519,
    /// RSA, PKCS #1 v1.5 over SHA-256.
    Rsa,
}

impl KeyAlgorithm {
    /// Returns its usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        }
    }
}

/// A public key, checked when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    algorithm: KeyAlgorithm,
    /// SubjectPublicKeyInfo, DER.
    spki: Vec<u8>,
    /// The key in ring's form: a point, or RSA's two numbers.
    key: Vec<u8>,
}

impl PublicKey {
    /// Reads every key of a PEM text, at least one.
    ///
    /// `name` is the text's name in messages: `` `cosign.pub` ``.
    /// Errors: [`KeyError`], also for a private key.
    pub fn parse_all(text: &[u8], name: &str) -> Result<Vec<Self>, KeyError> {
        let failed = |problem| KeyError::new(name, problem);
        let blocks = pem::blocks(text, LABEL).map_err(failed)?;
        let read = |block: &pem::Block<'_>| match block.label {
            LABEL => Self::of_spki(block.bytes()?.expose(), name),
            other => Err(wrong_label(other)),
        };
        blocks.iter().map(|block| read(block).map_err(failed)).collect()
    }

    /// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    fn of_spki(spki: &[u8], name: &str) -> Result<Self, KeyProblem> {
        const FORM: &str = "a SubjectPublicKeyInfo";
        let (algorithm, key) = split_spki(spki).ok_or(KeyProblem::Malformed { expected: FORM })?;
        match algorithm.as_slice() {
            [oid::EC, oid::P256] => check_point(key)?,
            [oid::ED25519] => check_ed25519(key)?,
            [oid::RSA, ..] => check_rsa(key)?,
            other => return Err(KeyProblem::Algorithm { found: name_of(other), expected: EXPECTED }),
        }
        let algorithm = match algorithm.first() {
            Some(&oid::EC) => KeyAlgorithm::P256,
            Some(&oid::ED25519) => KeyAlgorithm::Ed25519,
            _ => KeyAlgorithm::Rsa,
        };
        Ok(Self { name: name.to_owned(), algorithm, spki: spki.to_vec(), key: key.to_vec() })
    }

    /// Makes the public part of a private key.
    pub(super) fn of_private(algorithm: KeyAlgorithm, key: &[u8], name: &str) -> Self {
        let identifier = match algorithm {
            KeyAlgorithm::P256 => [element(der::OID, oid::EC), element(der::OID, oid::P256)].concat(),
            KeyAlgorithm::Ed25519 => element(der::OID, oid::ED25519),
            KeyAlgorithm::Rsa => [element(der::OID, oid::RSA), vec![0x05, 0x00]].concat(),
        };
        let bits = [&[0], key].concat();
        let parts = [element(der::SEQUENCE, &identifier), element(der::BIT_STRING, &bits)].concat();
        let spki = element(der::SEQUENCE, &parts);
        Self { name: name.to_owned(), algorithm, spki, key: key.to_vec() }
    }

    /// Returns its origin, as a phrase: `` `cosign.pub` ``.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Returns the hint by which Sigstore bundles name a key: base64 of the SHA-256 over its DER form.
    #[must_use]
    pub fn hint(&self) -> String {
        STANDARD.encode(digest::digest(&digest::SHA256, &self.spki))
    }

    /// Returns the key as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let body = STANDARD.encode(&self.spki);
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN {LABEL}-----\n{}\n-----END {LABEL}-----\n", lines.join("\n"))
    }

    /// Tells whether a message was signed by this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm {
            KeyAlgorithm::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            KeyAlgorithm::Ed25519 => &signature::ED25519,
            KeyAlgorithm::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        signature::UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }
}

/// Makes the error for another block.
fn wrong_label(label: &str) -> KeyProblem {
    const PUBLIC: &str = "`PUBLIC KEY`";
    if label.ends_with("PRIVATE KEY") {
        return KeyProblem::PrivateKey;
    }
    let expected = match label {
        "RSA PUBLIC KEY" => "`PUBLIC KEY` (`openssl rsa -RSAPublicKey_in -pubout` converts it)",
        "CERTIFICATE" => "`PUBLIC KEY` (`openssl x509 -pubkey -noout` takes it out of the certificate)",
        _ => PUBLIC,
    };
    KeyProblem::Label { found: label.chars().take(60).collect(), expected }
}

/// Splits a key into the object identifiers of its algorithm and its bits.
fn split_spki(spki: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let mut outer = Reader::new(spki);
    let mut inner = outer.sequence()?;
    let identifiers = identifiers(&mut inner)?;
    let bits = inner.bits()?;
    (outer.is_empty() && inner.is_empty()).then_some((identifiers, bits))
}

/// Takes an AlgorithmIdentifier: its object identifier, and the one that is its parameter.
pub(super) fn identifiers<'a>(reader: &mut Reader<'a>) -> Option<Vec<&'a [u8]>> {
    const NULL: u8 = 0x05;
    let mut algorithm = reader.sequence()?;
    let mut found = vec![algorithm.take(der::OID)?];
    match algorithm.tag() {
        None => {}
        Some(der::OID) => found.push(algorithm.take(der::OID)?),
        Some(NULL) => {
            algorithm.take(NULL).filter(|null| null.is_empty())?;
        }
        // Parameters of algorithms that are refused later.
        Some(tag) => {
            algorithm.take(tag)?;
        }
    }
    algorithm.is_empty().then_some(found)
}

/// Returns the name of an unsupported algorithm.
pub(super) fn name_of(identifiers: &[&[u8]]) -> String {
    let known = |id: &&[u8]| oid::OTHERS.iter().find(|(other, _)| other == id).map(|(_, name)| *name);
    match identifiers.iter().rev().find_map(known) {
        Some(name) => name.to_owned(),
        None => "an unknown algorithm".to_owned(),
    }
}

fn check_point(point: &[u8]) -> Result<(), KeyProblem> {
    match (point, point.len()) {
        ([2 | 3, ..], 33) => return Err(KeyProblem::Compressed),
        ([4, ..], 65) => {}
        _ => return Err(KeyProblem::Malformed { expected: "a point of P-256" }),
    }
    // ring checks a point only when it verifies, and then reports only that the signature is wrong.
    let random = rand::SystemRandom::new();
    let own = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &random)
        .map_err(|_| KeyProblem::NoRandomness)?;
    let theirs = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
    agreement::agree_ephemeral(own, &theirs, |_| ()).map_err(|_| KeyProblem::NotOnCurve)
}

/// The encodings of the points of low order, without the sign bit: with such a key a signature is valid for any
/// message.
///
/// Source: libsodium `ge25519_has_small_order`; RFC 7748 section 6.1 has the same list for X25519.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    low(1, 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    low(0xec, 0xff, 0x7f),
    low(0xed, 0xff, 0x7f),
    low(0xee, 0xff, 0x7f),
];

/// Makes an encoding with equal bytes in the middle.
const fn low(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

fn check_ed25519(key: &[u8]) -> Result<(), KeyProblem> {
    let mut bytes: [u8; 32] =
        key.try_into().map_err(|_| KeyProblem::Malformed { expected: "an Ed25519 key of 32 bytes" })?;
    bytes[31] &= 0x7f;
    if LOW_ORDER.contains(&bytes) { Err(KeyProblem::LowOrder) } else { Ok(()) }
}

fn check_rsa(key: &[u8]) -> Result<(), KeyProblem> {
    let numbers = || {
        let mut outer = Reader::new(key);
        let mut inner = outer.sequence()?;
        let numbers = (inner.positive()?, inner.positive()?);
        (outer.is_empty() && inner.is_empty()).then_some(numbers)
    };
    let (modulus, exponent) = numbers().ok_or(KeyProblem::Malformed { expected: "an RSA key" })?;
    // With 1 every message is its own signature.
    if exponent == [1] || exponent.last().is_some_and(|last| last % 2 == 0) {
        return Err(KeyProblem::RsaExponent);
    }
    let unused = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = modulus.len() * 8 - unused;
    if (2048..=8192).contains(&bits) { Ok(()) } else { Err(KeyProblem::RsaSize { bits }) }
}

#[cfg(test)]
mod tests {
    use super::super::SigningKey;
    use super::*;

    const P256: &str = include_str!("../../tests/keys/p256.pub");
    const ED25519: &str = include_str!("../../tests/keys/ed25519.pub");
    const RSA: &str = include_str!("../../tests/keys/rsa.pub");

    fn parse(text: &str) -> Result<Vec<PublicKey>, String> {
        PublicKey::parse_all(text.as_bytes(), "`k.pub`").map_err(|error| error.to_string())
    }

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    #[test]
    fn keys_of_openssl_are_read_and_written_again() {
        for (text, algorithm) in
            [(P256, KeyAlgorithm::P256), (ED25519, KeyAlgorithm::Ed25519), (RSA, KeyAlgorithm::Rsa)]
        {
            let [key] = <[PublicKey; 1]>::try_from(parse(text).unwrap()).unwrap();
            assert_eq!((key.algorithm(), key.name()), (algorithm, "`k.pub`"));
            assert_eq!(key.to_pem(), text, "{}", algorithm.name());
        }
        assert_eq!(parse(&format!("{P256}text between\n{ED25519}")).unwrap().len(), 2);
        // openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64
        assert_eq!(parse(P256).unwrap()[0].hint(), "JwDgU2pljktciMi6xNF8UaPpuC5ZrCKQ3bm7QgkcMyw=");
    }

    #[test]
    fn a_private_key_has_the_public_key_that_openssl_gives() {
        for (private, public) in [
            (include_str!("../../tests/keys/p256.key"), P256),
            (include_str!("../../tests/keys/ed25519.key"), ED25519),
        ] {
            let key = SigningKey::parse(private.as_bytes(), "`k`", None).unwrap();
            assert_eq!(key.public().to_pem(), public);
            let signature = key.sign(b"message").unwrap();
            let read = parse(public).unwrap();
            assert!(read[0].verifies(b"message", &signature));
            assert!(!read[0].verifies(b"massage", &signature));
            assert!(!read[0].verifies(b"message", &signature[1..]));
            assert!(!parse(RSA).unwrap()[0].verifies(b"message", &signature));
        }
    }

    #[test]
    fn an_unusable_public_key_is_refused_with_the_reason() {
        let certificate = P256.replace("PUBLIC KEY", "CERTIFICATE");
        let many = P256.repeat(limits_keys() + 1);
        for (text, expected) in [
            ("", "`k.pub` is empty, expected a key in PEM form"),
            ("hello", "`k.pub` holds no PEM block, expected `-----BEGIN PUBLIC KEY-----`"),
            ("0Y0\u{13}", "is in DER form, expected PEM"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "has a `BEGIN` line without its `END` line"),
            ("-----BEGIN A-----\n-----END B-----\n", "has a `BEGIN` line without its `END` line"),
            (include_str!("../../tests/keys/p256.key"), "holds a private key, expected a public key"),
            (&certificate, "holds `CERTIFICATE`, expected `PUBLIC KEY` (`openssl x509 -pubkey"),
            (
                include_str!("../../tests/keys/p384.pub"),
                "holds a key of type P-384, expected P-256, Ed25519 or RSA",
            ),
            (
                include_str!("../../tests/keys/rsa1024.pub"),
                "holds an RSA key of 1024 bits, expected 2048 to 8192",
            ),
            (include_str!("../../tests/keys/p256-compressed.pub"), "holds a P-256 key in compressed form"),
            (&P256.replacen('M', "!", 1), "its base64 cannot be decoded"),
            (&pem(&[0x30, 0x00]), "its contents are not a SubjectPublicKeyInfo"),
            (&many, "holds more than 100 keys"),
            (&"x".repeat(300_000), "has more than 262144 bytes"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    fn limits_keys() -> usize {
        crate::model::limits::KEYS
    }

    #[test]
    fn a_key_that_proves_nothing_is_refused() {
        let start = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        for point in LOW_ORDER {
            for sign in [0, 0x80] {
                let mut point = point;
                point[31] |= sign;
                let error = parse(&pem(&[&start[..], &point].concat())).unwrap_err();
                assert!(
                    error.contains("of low order, for which signatures can be forged"),
                    "{point:02x?}: {error}"
                );
            }
        }
        for exponent in [&[1][..], &[2], &[1, 0, 0]] {
            let modulus = [&[0, 0x80][..], &[1; 255]].concat();
            let numbers = [element(der::INTEGER, &modulus), element(der::INTEGER, exponent)].concat();
            let key =
                PublicKey::of_private(KeyAlgorithm::Rsa, &element(der::SEQUENCE, &numbers), "`k`").to_pem();
            let error = parse(&key).unwrap_err();
            assert!(error.ends_with("whose exponent is 1 or even, expected an odd number from 3"), "{error}");
        }
        // The point with 2 in every byte has another order.
        assert!(parse(&pem(&[&start[..], &[2; 32]].concat())).is_ok());
        let good = parse(P256).unwrap().remove(0);
        let mut off = good.spki;
        *off.last_mut().unwrap() ^= 1;
        assert_eq!(
            parse(&pem(&off)).unwrap_err(),
            "`k.pub` holds a P-256 key that is not a point of the curve"
        );
    }

    /// Reads an RSA key of these two numbers, with bytes after them and after the whole.
    fn rsa(modulus: &[u8], exponent: &[u8], behind: [&[u8]; 2]) -> Result<(), String> {
        let numbers = [element(der::INTEGER, modulus), element(der::INTEGER, exponent)].concat();
        let key = element(der::SEQUENCE, &[&numbers, behind[0]].concat());
        let key = [&key, behind[1]].concat();
        parse(&PublicKey::of_private(KeyAlgorithm::Rsa, &key, "`k`").to_pem()).map(|_| ())
    }

    #[test]
    fn an_rsa_key_has_2048_to_8192_bits() {
        let modulus = |start: &[u8], more: usize| [start, &vec![0x11; more]].concat();
        for (modulus, bits) in [
            (modulus(&[0x7f], 255), 2047),
            (modulus(&[0x01], 256), 2049),
            (modulus(&[0x00, 0x80], 255), 2048),
            (modulus(&[0x00, 0x80], 1023), 8192),
            (modulus(&[0x01], 1024), 8193),
        ] {
            let expected = match bits {
                2048..=8192 => Ok(()),
                _ => Err(format!("`k.pub` holds an RSA key of {bits} bits, expected 2048 to 8192")),
            };
            assert_eq!(rsa(&modulus, &[1, 0, 1], [b"", b""]), expected, "{bits}");
        }
    }

    #[test]
    fn an_rsa_key_is_two_positive_numbers_and_nothing_behind_them() {
        let modulus = [&[0x00, 0x80][..], &[0x11; 255]].concat();
        assert_eq!(rsa(&modulus, &[3], [b"", b""]), Ok(()));
        let malformed = || Err("`k.pub` is damaged: its contents are not an RSA key".to_owned());
        for behind in [[&[0x05, 0x00][..], b""], [b"", &[0x05, 0x00]], [b"", b"x"], [b"x", b""]] {
            assert_eq!(rsa(&modulus, &[3], behind), malformed(), "{behind:02x?}");
        }
        assert_eq!(rsa(&modulus[1..], &[3], [b"", b""]), malformed(), "a negative modulus");
        assert_eq!(rsa(&modulus, &[0], [b"", b""]), malformed(), "an exponent of zero");
    }

    #[test]
    fn nothing_is_behind_the_parts_of_a_public_key() {
        let good = parse(ED25519).unwrap().remove(0).spki;
        assert_eq!(good.len(), 44);
        // The outer length counts one byte more, which is after the key.
        let inside = [&[0x30, 0x2b], &good[2..], b"x"].concat();
        // The same after the object identifier of the algorithm.
        let algorithm = [&[0x30, 0x2b, 0x30, 0x06], &good[4..9], b"x", &good[9..]].concat();
        let outside = [&good, &b"x"[..]].concat();
        for der in [inside, algorithm, outside] {
            let expected = "`k.pub` is damaged: its contents are not a SubjectPublicKeyInfo";
            assert_eq!(parse(&pem(&der)).unwrap_err(), expected, "{der:02x?}");
        }
    }

    #[test]
    fn parameters_of_an_algorithm_are_an_identifier_nothing_or_an_empty_null() {
        for (parameter, expected) in [
            (&[][..], Some(vec![oid::ED25519])),
            (&[0x05, 0x00], Some(vec![oid::ED25519])),
            (&[0x05, 0x01, 0x00], None),
            (&[0x06, 0x01, 0x2a], Some(vec![oid::ED25519, &[0x2a]])),
            (&[0x30, 0x01, 0x00], Some(vec![oid::ED25519])),
            (&[0x05, 0x00, 0x05, 0x00], None),
        ] {
            let parts = [&element(der::OID, oid::ED25519), parameter].concat();
            let whole = element(der::SEQUENCE, &parts);
            assert_eq!(identifiers(&mut Reader::new(&whole)), expected, "{parameter:02x?}");
        }
    }

    #[test]
    fn a_point_of_p256_has_65_bytes_from_4_on() {
        let good = parse(P256).unwrap().remove(0);
        assert_eq!(check_point(&good.key), Ok(()));
        let changed = |first: u8, length: usize| {
            let mut point = good.key.clone();
            point[0] = first;
            point.resize(length, 1);
            check_point(&point)
        };
        let malformed = Err(KeyProblem::Malformed { expected: "a point of P-256" });
        for (first, length) in [(4, 64), (4, 66), (4, 33), (1, 65), (2, 65), (2, 34), (5, 33)] {
            assert_eq!(changed(first, length), malformed, "{first} and {length} bytes");
        }
        assert_eq!(changed(2, 33), Err(KeyProblem::Compressed));
        assert_eq!(changed(3, 33), Err(KeyProblem::Compressed));
    }

    #[test]
    fn other_blocks_and_algorithms_are_named_with_what_converts_them() {
        for (label, expected) in [
            ("EC PRIVATE KEY", "holds a private key, expected a public key"),
            (
                "RSA PUBLIC KEY",
                "holds `RSA PUBLIC KEY`, expected `PUBLIC KEY` (`openssl rsa -RSAPublicKey_in -pubout` converts it)",
            ),
            ("PGP MESSAGE", "holds `PGP MESSAGE`, expected `PUBLIC KEY`"),
        ] {
            assert_eq!(wrong_label(label).to_string(), expected);
        }
        for (identifiers, expected) in [
            (vec![oid::EC, &[0x2b, 0x81, 0x04, 0x00, 0x22][..]], "P-384"),
            (vec![oid::EC, &[0x2b, 0x81, 0x04, 0x00, 0x0a]], "secp256k1"),
            (vec![&[0x2b, 0x65, 0x6e][..]], "X25519"),
            (vec![oid::EC, &[0x2a]], "an unknown algorithm"),
            (vec![], "an unknown algorithm"),
        ] {
            assert_eq!(name_of(&identifiers), expected, "{identifiers:02x?}");
        }
        let names = [KeyAlgorithm::P256, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa].map(KeyAlgorithm::name);
        assert_eq!(names, ["P-256", "Ed25519", "RSA"]);
    }
}
