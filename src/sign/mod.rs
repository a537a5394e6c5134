//! Signatures and attestations as values and bytes: keys, claims, and the envelopes that store them.
//!
//! Floor 0. Keys only: no certificates, no transparency log, no clock, no network. `transfer` finds and stores
//! signatures. Formats: `docs/formats/signatures.md`.

mod bundle;
mod claim;
mod der;
mod dsse;
mod encrypted_key;
mod key_error;
mod payload;
mod pem;
mod public_key;
mod referrer;
mod secretbox;
mod signature_manifest;
mod signing_key;
mod statement;

pub use bundle::{BUNDLE, sign_bundle};
pub use claim::{Claim, ClaimError, ClaimForm, ClaimKind, Doubt};
pub use key_error::{KeyError, KeyProblem};
pub use payload::{Payload, SIMPLE_SIGNING};
pub use public_key::{KeyAlgorithm, PublicKey};
pub use referrer::{Referrer, bundle_claim, bundle_layer, bundle_signs, envelope_claim, envelope_layers};
pub use signature_manifest::{SignatureLayer, SignatureManifest};
pub use signing_key::SigningKey;
pub use statement::{DSSE_ENVELOPE, INTOTO, SIGN_PREDICATE, Statement, StatementForm};
