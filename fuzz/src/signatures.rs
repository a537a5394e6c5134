//! Keys and signatures: what is accepted says one thing only, and no key that was made up has signed it.

use imgrelay::model::{Descriptor, Digest};
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
