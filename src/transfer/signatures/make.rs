//! Makes signatures for the roots of a collection, and on request for everything below them.

use std::collections::{BTreeMap, HashSet};

use crate::lock::cosign_tag;
use serde_json::value::RawValue;

use crate::model::{Annotations, Descriptor, Digest, RawDocument, Reference, Tag, limits};
use crate::sign::{
    Claim, ClaimForm, ClaimKind, Payload, Referrer, SIGN_PREDICATE, SignatureManifest, SigningKey, Statement,
    StatementForm, envelope_layers, sign_bundle,
};

use super::super::{Collection, Graph, ImageSource, Member, Role, TransferError};
use super::stored::{StatementContent, statements};

/// How signatures and attestations are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureFormat {
    /// Under cosign's tags, as cosign 2 and 3, containers/image and Kyverno read them.
    #[default]
    SimpleSigning,
    /// As a Sigstore bundle that refers to the image, cosign 3's default.
    Bundle,
    /// Both.
    Both,
}

impl SignatureFormat {
    fn has_tag(self) -> bool {
        self != Self::Bundle
    }

    fn has_bundle(self) -> bool {
        self != Self::SimpleSigning
    }
}

/// A request to sign.
#[derive(Debug)]
pub struct SignRequest<'a> {
    /// The key.
    pub key: &'a SigningKey,
    /// The image name in the signatures; `None` takes the recorded one.
    pub identity: Option<Reference>,
    /// Annotations that are signed with the image.
    pub annotations: BTreeMap<String, String>,
    /// Also sign the children of indexes and the images of bundles.
    pub recursive: bool,
    /// The form.
    pub format: SignatureFormat,
}

/// A manifest to be stored beside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// The image.
    pub image: Digest,
    /// The manifest that it replaces.
    pub replaced: Option<Digest>,
    /// Its tag; `None` if readers find it by its `subject`.
    pub tag: Option<Tag>,
    /// The manifest.
    pub manifest: RawDocument,
    /// The blobs that it points at.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
}

/// Signs the roots of a collection; an image that the key has signed already gets no second signature.
///
/// Shape: one addition for each image that gets a signature, in the order of the collection, parents first.
/// Errors: [`TransferError::NoIdentity`] for an image without a name if `identity` is `None`.
pub fn sign(
    source: &dyn ImageSource,
    collection: &Collection,
    request: &SignRequest<'_>,
) -> Result<Vec<Addition>, TransferError> {
    let mut additions = Vec::new();
    for (image, identity) in images(source, collection, request)? {
        let known = claims(source, collection, &image.digest)?;
        if request.format.has_tag() {
            additions.extend(signed(source, collection, request, &known, &image.digest, identity)?);
        }
        if request.format.has_bundle() {
            additions.extend(bundled(request, &known, &image)?);
        }
    }
    Ok(additions)
}

/// Lists the images to sign, each once, with its name.
fn images(
    source: &dyn ImageSource,
    collection: &Collection,
    request: &SignRequest<'_>,
) -> Result<Vec<(Descriptor, String)>, TransferError> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let wanted = |member: &&Member| match member.role {
        Role::Root => true,
        Role::Referenced => request.recursive,
        Role::Attached => false,
    };
    for member in collection.members.iter().filter(wanted) {
        let identity = match (&request.identity, recorded(member)) {
            (Some(identity), _) => identity.to_string(),
            (None, Some(recorded)) => recorded,
            (None, None) => {
                let image = member.descriptor.digest.clone();
                return Err(TransferError::NoIdentity { place: source.label(), image });
            }
        };
        let mut images = vec![member.descriptor.clone()];
        if request.recursive && member.descriptor.is_index() {
            let below = Graph::of(source, &member.descriptor)?;
            images.extend(below.documents.iter().map(RawDocument::descriptor));
        }
        images.retain(|image| seen.insert(image.digest.clone()));
        found.extend(images.into_iter().map(|image| (image, identity.clone())));
    }
    Ok(found)
}

/// Returns the recorded name of an image: a full reference, or the repository of its origin.
fn recorded(member: &Member) -> Option<String> {
    let named = member.names.iter().find_map(|name| name.reference.clone());
    let named = named.or_else(|| member.origin.clone())?;
    // The signature already has the digest.
    Some(Reference { digest: None, ..named }.to_string())
}

/// Returns the readable claims about an image.
fn claims(
    source: &dyn ImageSource,
    collection: &Collection,
    image: &Digest,
) -> Result<Vec<Claim>, TransferError> {
    let claim = |content| match content {
        StatementContent::Claim(claim) => Some(*claim),
        StatementContent::Unreadable(_) | StatementContent::Other { .. } => None,
    };
    let found = statements(source, &collection.members, image)?;
    Ok(found.into_iter().filter_map(|statement| claim(statement.content)).collect())
}

/// Finds the manifest under one of cosign's tags, to which a signature is added.
fn existing(
    source: &dyn ImageSource,
    collection: &Collection,
    tag: &Tag,
    count: impl Fn(&crate::model::ImageManifest) -> Result<usize, crate::sign::ClaimError>,
) -> Result<Option<RawDocument>, TransferError> {
    let member = collection.members.iter().find(|member| member.tags().contains(tag));
    let Some(document) = member.map(|member| source.read_document(&member.descriptor)).transpose()? else {
        return Ok(None);
    };
    // The manifest has to be readable and below the limit.
    if let Some(manifest) = document.manifest()
        && count(manifest)? >= limits::SIGNATURES
    {
        let subject = format!("`{tag}` in `{}`", source.label());
        let (what, limit) = ("signatures less one", limits::SIGNATURES - 1);
        return Err(TransferError::TooMany { subject, what, limit });
    }
    Ok(Some(document))
}

/// Makes a signature under cosign's tag.
fn signed(
    source: &dyn ImageSource,
    collection: &Collection,
    request: &SignRequest<'_>,
    known: &[Claim],
    image: &Digest,
    identity: String,
) -> Result<Option<Addition>, TransferError> {
    let annotations = request.annotations.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
    let payload = Payload { identity, digest: image.clone(), annotations: annotations.collect() };
    let keys = [request.key.public().clone()];
    let is_same = |claim: &Claim| {
        claim.form == ClaimForm::SimpleSigning
            && claim.identity.as_ref() == Some(&payload.identity)
            && claim.annotations == payload.annotations
            && claim.check(image, &keys, None).is_ok()
    };
    if known.iter().any(is_same) {
        return Ok(None);
    }
    let bytes = payload.to_json();
    let signature = request.key.sign(&bytes)?;
    let tag = cosign_tag(image, "sig");
    let existing = existing(source, collection, &tag, |manifest| {
        SignatureManifest::layers(manifest).map(|layers| layers.len())
    })?;
    let manifest = existing.as_ref().and_then(RawDocument::manifest);
    let made = SignatureManifest::with(manifest, &bytes, &signature, request.key.public());
    let document = made.manifest.manifest();
    let config = document.map(|manifest| manifest.config.clone());
    let layer = document.and_then(|manifest| manifest.layers.last().cloned());
    let blobs = layer.map(|layer| (layer, bytes)).into_iter().chain(config.map(|one| (one, made.config)));
    Ok(Some(Addition {
        image: image.clone(),
        replaced: existing.map(|document| document.digest().clone()),
        tag: Some(tag),
        blobs: blobs.collect(),
        manifest: made.manifest,
    }))
}

/// Makes a signature as a bundle.
fn bundled(
    request: &SignRequest<'_>,
    known: &[Claim],
    image: &Descriptor,
) -> Result<Option<Addition>, TransferError> {
    let keys = [request.key.public().clone()];
    let is_same = |claim: &Claim| {
        claim.form == ClaimForm::Bundle
            && claim.kind == ClaimKind::Signature
            && claim.check(&image.digest, &keys, None).is_ok()
    };
    if known.iter().any(is_same) {
        return Ok(None);
    }
    let predicate: &RawValue = serde_json::from_str("{}")
        .map_err(|_| TransferError::Internal { what: "an empty object is JSON" })?;
    let statement = Statement {
        form: StatementForm::V1,
        image: &image.digest,
        name: "",
        predicate_type: SIGN_PREDICATE,
        predicate,
    };
    let bundle = sign_bundle(&statement, request.key)?;
    let made = Referrer::of_bundle(image, bundle, SIGN_PREDICATE);
    Ok(Some(addition(image, None, None, made)))
}

fn addition(image: &Descriptor, replaced: Option<Digest>, tag: Option<Tag>, made: Referrer) -> Addition {
    Addition { image: image.digest.clone(), replaced, tag, manifest: made.manifest, blobs: made.blobs }
}

/// A request to attach content to an image.
#[derive(Debug)]
pub struct AttachRequest<'a> {
    /// Media type of the content, for an unsigned referrer.
    pub artifact_type: &'a str,
    /// Predicate type, for a signed statement.
    pub predicate_type: &'a str,
    /// Name of the file.
    pub title: Option<&'a str>,
    /// The content.
    pub content: &'a [u8],
    /// The key; none attaches it unsigned.
    pub key: Option<&'a SigningKey>,
    /// The image name in a signed statement; `None` takes the recorded one.
    pub identity: Option<Reference>,
    /// The form, if it is signed.
    pub format: SignatureFormat,
}

/// Attaches content to one image of a collection; content that is attached already is not attached again.
///
/// Errors: [`TransferError::NotJson`] if the content of a signed statement is not JSON.
pub fn attach(
    source: &dyn ImageSource,
    collection: &Collection,
    member: &Member,
    request: &AttachRequest<'_>,
) -> Result<Vec<Addition>, TransferError> {
    let image = &member.descriptor;
    let Some(key) = request.key else {
        let (artifact_type, bytes) = (request.artifact_type, request.content.to_vec());
        let made = Referrer::of_file(image, artifact_type, request.title, bytes, Annotations::new());
        let there = collection.member(made.manifest.digest()).is_some();
        return Ok(if there { Vec::new() } else { vec![addition(image, None, None, made)] });
    };
    let predicate: &RawValue = serde_json::from_slice(request.content)
        .map_err(|source| TransferError::NotJson { what: "the statement", source: source.into() })?;
    let name = request.identity.as_ref().map(ToString::to_string).or_else(|| recorded(member));
    let statement = |form| Statement {
        form,
        image: &image.digest,
        name: name.as_deref().unwrap_or_default(),
        predicate_type: request.predicate_type,
        predicate,
    };
    let known = claims(source, collection, &image.digest)?;
    let keys = [key.public().clone()];
    let is_there = |form: ClaimForm, statement: &Statement<'_>| {
        let mut same = known.iter().filter(|claim| claim.form == form && claim.says(statement));
        same.any(|claim| claim.check(&image.digest, &keys, None).is_ok())
    };
    let mut additions = Vec::new();
    let legacy = statement(StatementForm::V01);
    if request.format.has_tag() && !is_there(ClaimForm::Envelope, &legacy) {
        let tag = cosign_tag(&image.digest, "att");
        let existing = existing(source, collection, &tag, |manifest| {
            envelope_layers(manifest).map(<[Descriptor]>::len)
        })?;
        let manifest = existing.as_ref().and_then(RawDocument::manifest);
        let made = Referrer::with_envelope(manifest, legacy.sign(key)?, request.predicate_type, key.public());
        let replaced = existing.as_ref().map(|document| document.digest().clone());
        additions.push(addition(image, replaced, Some(tag), made));
    }
    let bundled = statement(StatementForm::V1);
    if request.format.has_bundle() && !is_there(ClaimForm::Bundle, &bundled) {
        let made = Referrer::of_bundle(image, sign_bundle(&bundled, key)?, request.predicate_type);
        additions.push(addition(image, None, None, made));
    }
    Ok(additions)
}
