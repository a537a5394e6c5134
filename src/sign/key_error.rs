//! Why a key cannot be used: the name of the file or setting, and the problem. Never contains the key.

use crate::model::limits;
use crate::model::pem::PemFault;

/// A key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {problem}")]
pub struct KeyError {
    /// Its origin, as a phrase: `` `cosign.key` ``, ``variable `KEY` ``.
    pub name: String,
    /// What is wrong.
    pub problem: KeyProblem,
}

impl KeyError {
    pub(super) fn new(name: &str, problem: KeyProblem) -> Self {
        Self { name: name.to_owned(), problem }
    }
}

/// The problem of a key; written after its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyProblem {
    /// The file is empty.
    #[error("is empty, expected a key in PEM form")]
    Empty,
    /// More bytes than a key file has.
    #[error("has more than {} bytes, expected a key in PEM form", limits::KEY_FILE_BYTES)]
    TooLarge,
    /// There are more keys than the limit.
    #[error("holds more than {} keys", limits::KEYS)]
    TooMany,
    /// Binary instead of text.
    #[error("is in DER form, expected PEM (`openssl pkey -inform der` converts it)")]
    BinaryForm,
    /// A text without a PEM block.
    #[error("holds no PEM block, expected `-----BEGIN {expected}-----`")]
    NotPem {
        /// The label that was expected.
        expected: &'static str,
    },
    /// The lines of a PEM block are not valid.
    #[error(transparent)]
    Lines(PemFault),
    /// The text between the lines is not base64.
    #[error("is not valid PEM: its base64 cannot be decoded")]
    Base64,
    /// A private key where a public one is expected.
    #[error("holds a private key, expected a public key")]
    PrivateKey,
    /// A public key where a private one is expected.
    #[error("holds a public key, expected a private key")]
    IsPublicKey,
    /// Another kind of PEM block.
    #[error("holds `{found}`, expected {expected}")]
    Label {
        /// The label.
        found: String,
        /// The expected label, and how to get it.
        expected: &'static str,
    },
    /// The bytes do not have the structure of the label.
    #[error("is damaged: its contents are not {expected}")]
    Malformed {
        /// What they should be.
        expected: &'static str,
    },
    /// An algorithm that is not supported.
    #[error("holds a key of type {found}, expected {expected}")]
    Algorithm {
        /// Its name.
        found: String,
        /// The supported ones.
        expected: &'static str,
    },
    /// A private key of RSA.
    #[error("holds an RSA key: signatures by RSA are verified, but not made; sign with P-256 or Ed25519")]
    RsaSigning,
    /// An RSA key of a size that is not accepted.
    #[error("holds an RSA key of {bits} bits, expected 2048 to 8192")]
    RsaSize {
        /// Bits of the modulus.
        bits: usize,
    },
    /// An RSA key with an exponent for which signatures can be forged, or never verified.
    #[error("holds an RSA key whose exponent is 1 or even, expected an odd number from 3")]
    RsaExponent,
    /// A key for which signatures can be made without the private key.
    #[error("holds an Ed25519 key of low order, for which signatures can be forged")]
    LowOrder,
    /// A point that is not on the curve.
    #[error("holds a P-256 key that is not a point of the curve")]
    NotOnCurve,
    /// A point in the compressed form.
    #[error("holds a P-256 key in compressed form, expected the uncompressed form")]
    Compressed,
    /// A private key of P-256 without its public key.
    #[error(
        "holds a P-256 key without its public part (`openssl ec -in FILE | openssl pkcs8 -topk8 -nocrypt` adds it)"
    )]
    NoPublicPart,
    /// The private and the public part do not belong together.
    #[error("is damaged: its private and public parts do not belong together")]
    Inconsistent,
    /// The JSON of an encrypted key is not what cosign writes.
    #[error("is damaged: the encrypted key is not the JSON that cosign writes: {problem}")]
    Sealed {
        /// What is wrong.
        problem: String,
    },
    /// Another way to derive the key from the password, or another cipher.
    #[error("is encrypted with `{found}`, expected `{expected}`")]
    Cipher {
        /// Its name.
        found: String,
        /// The supported one.
        expected: &'static str,
    },
    /// Parameters of scrypt that would take too much memory or time.
    #[error("requires scrypt with N={n}, r={r}, p={p}, which is not accepted: {problem}")]
    Scrypt {
        /// Cost.
        n: u64,
        /// Block size.
        r: u64,
        /// Parallelisation.
        p: u64,
        /// Which bound it breaks.
        problem: &'static str,
    },
    /// No password was given.
    #[error("is encrypted, and no password was given")]
    NoPassword,
    /// The password does not decrypt it.
    #[error("cannot be decrypted: the password is wrong, or the file was changed")]
    WrongPassword,
    /// The operating system returned no random numbers.
    #[error("cannot be used: the operating system gives no random numbers")]
    NoRandomness,
}
