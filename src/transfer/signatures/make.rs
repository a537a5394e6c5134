//! Signatures, made: for the roots of a collection, and with it for all that hangs below them.

use std::collections::{BTreeMap, HashSet};

use crate::lock::cosign_tag;
use crate::model::{Descriptor, Digest, RawDocument, Reference, Tag};
use crate::sign::{Payload, SignatureManifest, SigningKey};

use super::super::{Collection, Graph, ImageSource, Member, Role, TransferError};
use super::stored::{Content, statements};

/// What is to be signed, and how.
#[derive(Debug)]
pub struct SignRequest<'a> {
    /// The key.
    pub key: &'a SigningKey,
    /// The name that signatures are for; none takes the recorded one.
    pub identity: Option<Reference>,
    /// What is signed besides.
    pub annotations: BTreeMap<String, String>,
    /// Sign the children of indexes and the images of bundles too.
    pub recursive: bool,
}

/// A manifest to be put beside an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// The image.
    pub image: Digest,
    /// The manifest that it takes the place of.
    pub replaced: Option<Digest>,
    /// The tag it is found by; none is found by its `subject`.
    pub tag: Option<Tag>,
    /// The manifest.
    pub manifest: RawDocument,
    /// What it points at.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
}

/// Signs the roots of a collection; what the key has signed already is left as it is.
///
/// Shape: one addition for each image that gets a signature, in the order of the collection, parents first.
/// Errors: [`TransferError::NoIdentity`] for an image without a name where none was given.
pub fn sign(
    source: &dyn ImageSource,
    collection: &Collection,
    request: &SignRequest<'_>,
) -> Result<Vec<Addition>, TransferError> {
    let mut additions = Vec::new();
    for (image, identity) in images(source, collection, request)? {
        additions.extend(signed(source, collection, request, image, identity)?);
    }
    Ok(additions)
}

/// Lists what is to be signed, each once, with its name.
fn images(
    source: &dyn ImageSource,
    collection: &Collection,
    request: &SignRequest<'_>,
) -> Result<Vec<(Digest, String)>, TransferError> {
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
        let mut digests = vec![member.descriptor.digest.clone()];
        if request.recursive && member.descriptor.is_index() {
            let below = Graph::of(source, &member.descriptor)?;
            digests.extend(below.documents.iter().map(|document| document.digest().clone()));
        }
        digests.retain(|digest| seen.insert(digest.clone()));
        found.extend(digests.into_iter().map(|digest| (digest, identity.clone())));
    }
    Ok(found)
}

/// Returns the name that an image is known by: a full one, or the repository that it came from.
fn recorded(member: &Member) -> Option<String> {
    let named = member.names.iter().find_map(|name| name.reference.clone());
    let named = named.or_else(|| member.origin.clone())?;
    // A digest says no more than the signature does.
    Some(Reference { digest: None, ..named }.to_string())
}

fn signed(
    source: &dyn ImageSource,
    collection: &Collection,
    request: &SignRequest<'_>,
    image: Digest,
    identity: String,
) -> Result<Option<Addition>, TransferError> {
    let annotations = request.annotations.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
    let payload = Payload { identity, digest: image.clone(), annotations: annotations.collect() };
    let keys = [request.key.public().clone()];
    let is_same = |content: &Content| match content {
        Content::Claim(claim) => {
            claim.identity.as_ref() == Some(&payload.identity)
                && claim.annotations == payload.annotations
                && claim.check(&image, &keys, None).is_ok()
        }
        _ => false,
    };
    if statements(source, &collection.members, &image)?.iter().any(|known| is_same(&known.content)) {
        return Ok(None);
    }
    let bytes = payload.to_json();
    let signature = request.key.sign(&bytes)?;
    let tag = cosign_tag(&image, "sig");
    let existing = collection.members.iter().find(|member| member.tags().contains(&tag));
    let existing = existing.map(|member| source.read_document(&member.descriptor)).transpose()?;
    let manifest = existing.as_ref().and_then(RawDocument::manifest);
    if let Some(manifest) = manifest {
        // What is added to has to be readable, and has to have room.
        let room = SignatureManifest::layers(manifest)?.len() < crate::model::limits::SIGNATURES;
        if !room {
            let subject = format!("signature manifest `{tag}` in `{}`", source.label());
            let limit = crate::model::limits::SIGNATURES;
            return Err(TransferError::TooMany { subject, what: "signatures", limit });
        }
    }
    let made = SignatureManifest::with(manifest, &bytes, &signature, request.key.public());
    let document = made.manifest.manifest();
    let config = document.map(|manifest| manifest.config.clone());
    let layer = document.and_then(|manifest| manifest.layers.last().cloned());
    let blobs = layer.map(|layer| (layer, bytes)).into_iter().chain(config.map(|one| (one, made.config)));
    Ok(Some(Addition {
        replaced: existing.map(|document| document.digest().clone()),
        tag: Some(tag),
        blobs: blobs.collect(),
        manifest: made.manifest,
        image,
    }))
}
