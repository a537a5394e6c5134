//! Keys and signatures: what is accepted says one thing only, and no key that was made up has signed it.

use imgrelay::model::{Descriptor, Digest, Secret};
use imgrelay::sign::{Claim, DSSE_ENVELOPE, Payload, PublicKey, SigningKey, bundle_claim, envelope_claim};

const KEY: &[u8] = include_bytes!("../../tests/keys/ed25519.pub");

/// A claim that arbitrary bytes make is about at least one image, and is not believed.
fn doubted(claim: &Claim) {
    assert!(!claim.subjects.is_empty());
    let keys = PublicKey::parse_all(KEY, "the key").unwrap();
    for image in claim.subjects.iter().chain([&Digest::sha256_of(b"another image")]) {
        assert!(claim.check(image, &keys, None).is_err(), "{claim:?}");
        assert!(claim.check(image, &[], None).is_err());
    }
}

/// What is accepted is written again as the same thing.
pub(super) fn payload(data: &[u8]) {
    if let Ok(payload) = Payload::parse(data) {
        assert_eq!(Payload::parse(&payload.to_json()).as_ref(), Ok(&payload));
    }
}

pub(super) fn envelope(data: &[u8]) {
    let layer = Descriptor::of_bytes(DSSE_ENVELOPE, data);
    if let Ok(claim) = envelope_claim(&layer, data) {
        doubted(&claim);
    }
}

pub(super) fn bundle(data: &[u8]) {
    if let Ok(claim) = bundle_claim(data) {
        doubted(&claim);
    }
}

/// A public key is written again as the same key; an encrypted private key needs a password first.
pub(super) fn key_file(data: &[u8]) {
    for key in PublicKey::parse_all(data, "the key").unwrap_or_default() {
        let again = PublicKey::parse_all(key.to_pem().as_bytes(), "the key").unwrap();
        assert_eq!((again.len(), again[0].hint()), (1, key.hint()));
    }
    if let Ok(key) = SigningKey::parse(data, "the key", None) {
        assert!(key.public().verifies(b"x", &key.sign(b"x").unwrap()));
    }
}

/// Most memory that a key may ask for here: the bound itself has tests, and would take all the time.
const CHEAP_BYTES: u64 = 1 << 20;

/// The JSON inside cosign's encrypted private keys: no key comes out without the password, and no message has it.
pub(super) fn encrypted_key(data: &[u8]) {
    let json: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let param = |name: &str| json["kdf"]["params"][name].as_u64().unwrap_or_default();
    let bytes = param("N").saturating_mul(param("r")).saturating_mul(128).saturating_mul(param("p"));
    if bytes > CHEAP_BYTES {
        return;
    }
    let block = base64(data);
    let pem = format!(
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n{block}\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
    );
    let password = "correct horse battery staple";
    let error = SigningKey::parse(pem.as_bytes(), "the key", Some(&Secret::new(password))).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(password));
}

/// Encodes as PEM blocks are encoded.
fn base64(data: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quad = |chunk: &[u8]| {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |at: usize| match at <= chunk.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]),
            false => '=',
        };
        [0, 1, 2, 3].map(letter)
    };
    data.chunks(3).flat_map(quad).collect()
}
