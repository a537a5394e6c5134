//! A claim: the content of a signature about an image, and the check of its key.
//!
//! A claim that was read is not verified; [`Claim::check`] verifies it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::list::quoted_list;
use crate::model::{Digest, DigestError, Reference};

use super::public_key::PublicKey;
use super::statement::Statement;

/// How a claim is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimForm {
    /// A layer under cosign's tag `sha256-<hex>.sig`.
    SimpleSigning,
    /// An envelope under cosign's tag `sha256-<hex>.att`.
    Envelope,
    /// A Sigstore bundle that refers to the image.
    Bundle,
}

impl ClaimForm {
    /// Returns its name for users.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleSigning => "simplesigning",
            Self::Envelope => "dsse",
            Self::Bundle => "bundle",
        }
    }
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// The signer approves the image.
    Signature,
    /// A statement about the image.
    Attestation {
        /// The kind of the statement, a URI.
        predicate_type: String,
    },
}

/// One signature of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// The bytes, in the algorithm's own form.
    pub(super) signature: Vec<u8>,
    /// [`PublicKey::hint`] of the key, if the form has it. It is not signed, so it is not trusted.
    pub(super) hint: Option<String>,
}

/// The content of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How it is stored.
    pub form: ClaimForm,
    /// What is claimed.
    pub kind: ClaimKind,
    /// The images that are signed.
    pub subjects: Vec<Digest>,
    /// The name under which the image is published, if the form has one.
    pub identity: Option<String>,
    /// Annotations of the signer.
    pub annotations: BTreeMap<String, Value>,
    /// The signed bytes.
    pub(super) message: Vec<u8>,
    /// The signatures; any of them is enough.
    pub(super) signatures: Vec<Signed>,
    /// It was made with a certificate instead of a key.
    pub(super) by_certificate: bool,
}

/// Why a stored signature cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// There are more signatures than the limit.
    #[error("{found} signatures are in one manifest or envelope, at most {limit} are read")]
    TooMany {
        /// How many there are.
        found: usize,
        /// Most allowed.
        limit: usize,
    },
    /// A part is larger than the limit.
    #[error("{what} has {found} bytes, at most {limit} are read")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        found: u64,
        /// Most bytes allowed.
        limit: u64,
    },
    /// A manifest or envelope without a signature.
    #[error("{what} has no signature")]
    Unsigned {
        /// What it is.
        what: &'static str,
    },
    /// A text is not base64.
    #[error("{what} is not base64 in its usual form")]
    Base64 {
        /// What it is.
        what: &'static str,
    },
    /// JSON that is not in the format, or that readers read differently.
    #[error("{what} cannot be read: {problem}")]
    Json {
        /// What it is.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Another type than expected.
    #[error("{what} has type `{found}`, expected `{expected}`")]
    Type {
        /// What it is.
        what: &'static str,
        /// Its type.
        found: String,
        /// The type that is read.
        expected: &'static str,
    },
    /// A digest is not valid.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The statement names no image.
    #[error("the statement names no image by a digest that can be verified")]
    NoSubject,
    /// A layer of a signature manifest has another type.
    #[error("a layer has type `{found}`, which is none of a signature")]
    Layer {
        /// Its type.
        found: String,
    },
}

/// Why a claim is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// It is about another image.
    #[error("it is about {}, not about this image", quoted_list(found))]
    OtherImage {
        /// The images that it is about.
        found: Vec<Digest>,
    },
    /// It names one of the user's keys, but that key did not make it.
    #[error("it does not verify with key {key}: another key made it, or it was changed")]
    Wrong {
        /// Which key it names.
        key: String,
    },
    /// It names a key that is not one of the user's.
    #[error("it was made with another key (hint `{hint}`)")]
    OtherKey {
        /// The hint.
        hint: String,
    },
    /// It names no key, and none of the user's keys made it.
    #[error("it was made with another key, or was changed")]
    NoKey,
    /// It was made with a certificate of Sigstore.
    #[error("it was made with a certificate, and only keys are verified")]
    Certificate,
    /// It is for another name.
    #[error("it is for {}, expected `{expected}`", named(found.as_deref()))]
    Identity {
        /// The name, if it has one.
        found: Option<String>,
        /// The required name.
        expected: String,
    },
}

impl Doubt {
    /// Tells whether the claim is invalid; a claim with another signer's key is not.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::OtherImage { .. } | Self::Wrong { .. })
    }
}

fn named(identity: Option<&str>) -> String {
    identity.map_or_else(|| "no name".to_owned(), |name| format!("`{name}`"))
}

impl Claim {
    /// Accepts the claim if it is about this image, was made with one of the keys, and has the name.
    ///
    /// An `identity` with a tag is compared as a whole, one without a tag as a repository; `None` accepts any.
    /// Errors: the first [`Doubt`], in this order: image, key, name.
    pub fn check<'k>(
        &self,
        image: &Digest,
        keys: &'k [PublicKey],
        identity: Option<&Reference>,
    ) -> Result<&'k PublicKey, Doubt> {
        if !self.subjects.contains(image) {
            return Err(Doubt::OtherImage { found: self.subjects.clone() });
        }
        let made = |key: &&PublicKey| {
            self.signatures.iter().any(|signed| key.verifies(&self.message, &signed.signature))
        };
        let Some(key) = keys.iter().find(made) else { return Err(self.doubt_of_key(keys)) };
        match identity {
            Some(expected) if !self.is_for(expected) => {
                Err(Doubt::Identity { found: self.identity.clone(), expected: expected.to_string() })
            }
            _ => Ok(key),
        }
    }

    /// Returns the hint of the signature's key, for descriptions.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.signatures.iter().find_map(|signed| signed.hint.as_deref())
    }

    /// Tells whether this statement is the signed message.
    #[must_use]
    pub fn says(&self, statement: &Statement<'_>) -> bool {
        self.message == statement.message()
    }

    fn doubt_of_key(&self, keys: &[PublicKey]) -> Doubt {
        if self.by_certificate {
            return Doubt::Certificate;
        }
        let hints = || self.signatures.iter().filter_map(|signed| signed.hint.as_deref());
        match (keys.iter().find(|key| hints().any(|hint| hint == key.hint())), hints().next()) {
            (Some(key), _) => Doubt::Wrong { key: key.name().to_owned() },
            (None, Some(hint)) => Doubt::OtherKey { hint: hint.chars().take(100).collect() },
            (None, None) => Doubt::NoKey,
        }
    }

    fn is_for(&self, expected: &Reference) -> bool {
        let Some(found) = self.identity.as_deref().and_then(|text| text.parse::<Reference>().ok()) else {
            return false;
        };
        found.repository == expected.repository && (expected.tag.is_none() || found.tag == expected.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SignatureManifest, SigningKey};
    use super::*;
    use crate::model::{Annotations, Descriptor};
    use crate::sign::payload::Payload;

    fn image() -> Digest {
        Digest::sha256_of(b"image")
    }

    fn key(text: &str) -> SigningKey {
        SigningKey::parse(text.as_bytes(), "`k`", None).unwrap()
    }

    /// A signature as it is stored: the layer and its payload.
    fn stored(key: &SigningKey, digest: Digest) -> (Descriptor, Vec<u8>) {
        let identity = "reg.example/team/app:v1".to_owned();
        let payload = Payload { identity, digest, annotations: BTreeMap::new() }.to_json();
        let signature = key.sign(&payload).unwrap();
        let made = SignatureManifest::with(None, &payload, &signature, key.public());
        (made.manifest.manifest().unwrap().layers[0].clone(), payload)
    }

    fn claim(layer: &Descriptor, payload: &[u8]) -> Result<Claim, String> {
        let layer = super::super::SignatureLayer { descriptor: layer.clone() };
        layer.claim(payload.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_signature_is_accepted_for_its_image_its_key_and_its_name_only() {
        let own = key(include_str!("../../tests/keys/p256.key"));
        let other = key(include_str!("../../tests/keys/ed25519.key"));
        let keys = |keys: &[&SigningKey]| keys.iter().map(|key| key.public().clone()).collect::<Vec<_>>();
        let (layer, payload) = stored(&own, image());
        let good = claim(&layer, &payload).unwrap();
        let check = |claim: &Claim, image: &Digest, trusted: &[&SigningKey], name: Option<&str>| {
            let name = name.map(|name| name.parse::<Reference>().unwrap());
            claim.check(image, &keys(trusted), name.as_ref()).map(|_| ()).map_err(|doubt| doubt.to_string())
        };
        for name in [None, Some("reg.example/team/app"), Some("reg.example/team/app:v1")] {
            assert_eq!(check(&good, &image(), &[&other, &own], name), Ok(()), "{name:?}");
        }
        let said = |result: Result<(), String>| result.unwrap_err();
        let elsewhere = Digest::sha256_of(b"other");
        assert_eq!(
            said(check(&good, &elsewhere, &[&own], None)),
            format!("it is about `{}`, not about this image", image())
        );
        assert_eq!(
            said(check(&good, &image(), &[&other], None)),
            format!("it was made with another key (hint `{}`)", own.public().hint())
        );
        for name in ["reg.example/team/app:v2", "reg.example/team/other"] {
            assert_eq!(
                said(check(&good, &image(), &[&own], Some(name))),
                format!("it is for `reg.example/team/app:v1`, expected `{name}`")
            );
        }
        // Another payload, with the annotations of the real one.
        let changed = String::from_utf8(payload.clone()).unwrap().replace(":v1", ":v2");
        let changed = claim(&layer, changed.as_bytes()).unwrap();
        assert_eq!(
            said(check(&changed, &image(), &[&own], None)),
            "it does not verify with key `k`: another key made it, or it was changed"
        );
        let mut plain = layer;
        plain.annotations.retain(|key, _| key.ends_with("/signature"));
        let unknown = claim(&plain, &payload).unwrap();
        assert_eq!(
            said(check(&unknown, &image(), &[&other], None)),
            "it was made with another key, or was changed"
        );
        assert_eq!(check(&unknown, &image(), &[&own], None), Ok(()));
        plain.annotations.insert("dev.sigstore.cosign/certificate".into(), "x".into());
        let keyless = claim(&plain, &payload).unwrap();
        assert!(said(check(&keyless, &image(), &[&other], None)).contains("made with a certificate"));
        assert_eq!(said(check(&good, &image(), &[], None)), said(check(&good, &image(), &[&other], None)));
    }

    #[test]
    fn a_signature_in_another_form_of_base64_is_refused() {
        let own = key(include_str!("../../tests/keys/ed25519.key"));
        let (layer, payload) = stored(&own, image());
        let name = "dev.cosignproject.cosign/signature";
        let good = layer.annotations[name].clone();
        for (text, expected) in [
            (String::new(), "a layer of a signature manifest has no signature"),
            (good.trim_end_matches('=').to_owned(), "the signature is not base64 in its usual form"),
            (format!("{good}\n"), "the signature is not base64 in its usual form"),
            (format!(" {good}"), "the signature is not base64 in its usual form"),
            (format!("{good}===="), "the signature is not base64 in its usual form"),
            ("__--".to_owned(), "the signature is not base64 in its usual form"),
        ] {
            let annotations: Annotations = [(name.to_owned(), text.clone())].into();
            let error = claim(&Descriptor { annotations, ..layer.clone() }, &payload);
            assert_eq!(error.unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn only_another_image_and_a_failed_check_of_a_named_key_are_wrong() {
        let text = || "x".to_owned();
        for (doubt, wrong) in [
            (Doubt::OtherImage { found: vec![image()] }, true),
            (Doubt::Wrong { key: text() }, true),
            (Doubt::OtherKey { hint: text() }, false),
            (Doubt::NoKey, false),
            (Doubt::Certificate, false),
            (Doubt::Identity { found: None, expected: text() }, false),
        ] {
            assert_eq!(doubt.is_wrong(), wrong, "{doubt}");
        }
    }

    #[test]
    fn a_claim_without_a_name_is_for_no_name() {
        let own = key(include_str!("../../tests/keys/ed25519.key"));
        let (layer, payload) = stored(&own, image());
        let named = |identity: Option<&str>| {
            let identity = identity.map(str::to_owned);
            let claim = Claim { identity, ..claim(&layer, &payload).unwrap() };
            let expected: Reference = "reg.example/team/app:v1".parse().unwrap();
            let checked = claim.check(&image(), std::slice::from_ref(own.public()), Some(&expected));
            checked.map(|_| ()).map_err(|doubt| doubt.to_string())
        };
        assert_eq!(named(Some("reg.example/team/app:v1")), Ok(()));
        for (identity, found) in [
            (None, "no name"),
            (Some("reg.example/team/app"), "`reg.example/team/app`"),
            (Some("not a name"), "`not a name`"),
        ] {
            let expected = format!("it is for {found}, expected `reg.example/team/app:v1`");
            assert_eq!(named(identity), Err(expected));
        }
    }

    #[test]
    fn a_claim_says_the_statement_that_was_signed_and_no_other() {
        use crate::sign::{StatementForm, dsse::read_envelope};
        let own = key(include_str!("../../tests/keys/ed25519.key"));
        let predicate = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
        let image = image();
        let about = |predicate_type| Statement {
            form: StatementForm::V1,
            image: &image,
            name: "",
            predicate_type,
            predicate: &predicate,
        };
        let (signed, other) = (about("https://example.com/a"), about("https://example.com/b"));
        let claim = read_envelope(&signed.sign(&own).unwrap(), ClaimForm::Bundle, None).unwrap();
        assert_eq!((claim.says(&signed), claim.says(&other)), (true, false));
    }

    #[test]
    fn forms_of_storage_have_their_names() {
        let names = [ClaimForm::SimpleSigning, ClaimForm::Envelope, ClaimForm::Bundle].map(ClaimForm::name);
        assert_eq!(names, ["simplesigning", "dsse", "bundle"]);
    }
}
