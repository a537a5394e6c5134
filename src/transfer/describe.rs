//! Describes a root and everything below it as values in a stable order.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::lock::cosign_subject;
use crate::model::{
    Annotations, Descriptor, Digest, Document, ImageManifest, Platform, Tag, keys, limits, media_type,
};
use crate::store::ImageName;

use super::collection::read_images_lock;
use super::platform_table::{image_parts, predicate_types};
use super::run_description::RunDescription;
use super::sparse::lacking;
use super::{
    AttestationRow, Collection, ImageLocator, ImageSource, Member, PlatformRow, Role, TransferError,
    signatures, workers,
};

/// What a document is for its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentKind {
    /// A Carvel bundle.
    Bundle,
    /// An image with file system layers.
    Image,
    /// A Cloud Foundry source image; nothing in it says so, only a user who asks for one.
    Source,
    /// A list of images.
    Index,
    /// Anything else: attestation, chart.
    Artifact,
    /// Signatures of an image, under cosign's tag or as a referrer.
    Signature,
    /// Statements about an image: those of BuildKit in an index, or signed ones beside it.
    Attestation,
    /// imgpkg's own image with the locations of a bundle's images.
    Internal,
}

/// One layer or other blob of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerDescription {
    /// Digest as stored.
    pub digest: Digest,
    /// Digest before compression, if the configuration names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    /// Media type.
    pub media_type: String,
    /// Bytes as stored.
    pub size: u64,
}

/// An image that a bundle's lock file names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockedDescription {
    /// The reference in the lock file.
    #[serde(rename = "ref")]
    pub image: String,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Its description, if it was found; for a bundle with the images it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Box<Description>>,
}

/// A document and everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// Digest of the document.
    pub digest: Digest,
    /// What it is.
    pub kind: DocumentKind,
    /// Media type of the document.
    pub media_type: String,
    /// Bytes of the document and all it points at, as stored.
    pub size: u64,
    /// The tar holds other images of the same index, but not this one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// Names that the source has for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Where it came from, as the lock file that names it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Platform, from the index or the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Type of an artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image that this says something about, for signatures, attestations and SBOMs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Types of the in-toto statements that it holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub predicate_types: Vec<String>,
    /// Annotations of the document.
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// Labels of the configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Digest of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Digest>,
    /// When the configuration says it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What a container runs with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunDescription>,
    /// Layers, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerDescription>,
    /// Images that the bundle's lock file names, in file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<LockedDescription>,
    /// Images of an index with their attestations: what `manifests` says in full, as a table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<PlatformRow>,
    /// Members of an index, in document order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Description>,
    /// Signatures, attestations and other referrers, as [`signatures::describe`] writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<serde_json::Value>,
}

/// Describes a root.
///
/// Errors: what is missing or not valid; nothing is left out silently.
/// Cost: reads manifests and configurations; for a bundle also its layer.
pub fn describe(
    source: &dyn ImageSource,
    root: &Descriptor,
    names: Vec<String>,
) -> Result<Description, TransferError> {
    let mut description = node(source, root, 0, &mut BTreeMap::new())?;
    description.names = names;
    Ok(description)
}

/// Describes a collection: its roots, and below each bundle the images it names.
///
/// Shape: roots in order, then members that no bundle names: signatures, images that were added. Images are in the
/// order of the lock files; one image may be described below several bundles.
/// Errors: as [`describe`].
pub fn describe_collection(
    locator: &ImageLocator<'_>,
    collection: &Collection,
    concurrency: usize,
) -> Result<Vec<Description>, TransferError> {
    let plain = workers::parallel_map(&collection.members, concurrency, |member| {
        let mut description = described(locator, member)?;
        if member.role != Role::Attached {
            add_statements(locator, collection, &mut description)?;
        }
        Ok(description)
    })?;
    let known: BTreeMap<&Digest, &Description> = plain.iter().map(|one| (&one.digest, one)).collect();
    let named: BTreeSet<String> =
        plain.iter().flat_map(|one| &one.images).filter_map(|image| digest_of(&image.image)).collect();
    let tops = collection.members.iter().zip(&plain);
    let tops =
        tops.filter(|(member, one)| member.role == Role::Root || !named.contains(&one.digest.to_string()));
    tops.map(|(_, one)| filled(one, &known, 0)).collect()
}

/// Adds what is stored about an image, and about each image of an index.
fn add_statements(
    locator: &ImageLocator<'_>,
    collection: &Collection,
    description: &mut Description,
) -> Result<(), TransferError> {
    let found = signatures::statements(locator, &collection.members, &description.digest)?;
    description.signatures = found.iter().map(signatures::describe).collect();
    let images = description.manifests.iter_mut().filter(|child| child.kind != DocumentKind::Attestation);
    images.into_iter().try_for_each(|child| add_statements(locator, collection, child))
}

fn digest_of(reference: &str) -> Option<String> {
    reference.split_once('@').map(|(_, digest)| digest.to_owned())
}

fn described(locator: &ImageLocator<'_>, member: &Member) -> Result<Description, TransferError> {
    let mut description = node(locator, &member.descriptor, 0, &mut BTreeMap::new())?;
    let name = |name: &ImageName| match (&name.reference, &name.tag) {
        (Some(reference), _) => Some(reference.to_string()),
        (None, tag) => tag.as_ref().map(ToString::to_string),
    };
    description.names = member.names.iter().filter_map(name).collect();
    description.origin = match member.role {
        Role::Root => None,
        Role::Referenced | Role::Attached => member.origin.as_ref().map(ToString::to_string),
    };
    let is_internal = |tag: &Tag| tag.as_str().ends_with(".image-locations.imgpkg");
    let about = member.tags().iter().find_map(|tag| cosign_subject(tag.as_str()));
    if about.is_some() || member.role == Role::Attached {
        let counts = signatures::count(locator, [member])?;
        description.kind = match (counts.signatures, counts.attestations) {
            (0, 0) if about.is_some() => DocumentKind::Artifact,
            (0, 0) => description.kind,
            (0, _) => DocumentKind::Attestation,
            _ => DocumentKind::Signature,
        };
        description.subject = description.subject.or(about);
    }
    if member.tags().iter().any(is_internal) {
        description.kind = DocumentKind::Internal;
    }
    Ok(description)
}

/// Adds the descriptions of a bundle's images below the bundle.
fn filled(
    one: &Description,
    known: &BTreeMap<&Digest, &Description>,
    depth: usize,
) -> Result<Description, TransferError> {
    if depth > limits::NESTING {
        let (subject, what) = (format!("bundle `{}`", one.digest), "levels of nested bundles");
        return Err(TransferError::TooMany { subject, what, limit: limits::NESTING });
    }
    let mut filled_one = one.clone();
    for image in &mut filled_one.images {
        let digest = digest_of(&image.image).and_then(|digest| digest.parse::<Digest>().ok());
        if let Some(content) = digest.and_then(|digest| known.get(&digest).copied()) {
            image.content = Some(Box::new(filled(content, known, depth + 1)?));
        }
    }
    Ok(filled_one)
}

/// Describes a document; it and what it points at are added to `parts`, with the bytes of each.
fn node(
    source: &dyn ImageSource,
    descriptor: &Descriptor,
    depth: usize,
    parts: &mut BTreeMap<Digest, u64>,
) -> Result<Description, TransferError> {
    if depth > limits::NESTING {
        let limit = limits::NESTING;
        return Err(TransferError::TooMany {
            subject: format!("`{}`", source.label()),
            what: "levels of nested indexes",
            limit,
        });
    }
    if !descriptor.is_index() && !descriptor.is_manifest() {
        parts.insert(descriptor.digest.clone(), descriptor.size);
        return Ok(foreign(descriptor));
    }
    let document = source.read_document(descriptor)?;
    let mut own = BTreeMap::from([(document.digest().clone(), document.bytes().len() as u64)]);
    let mut description = Description {
        annotations: document.document().annotations().clone(),
        media_type: document.media_type().to_owned(),
        ..foreign(descriptor)
    };
    match document.document() {
        Document::Index(index) => {
            description.kind = DocumentKind::Index;
            let lacking: BTreeSet<&Digest> =
                lacking(source, index).into_iter().map(|child| &child.digest).collect();
            for entry in &index.manifests {
                if lacking.contains(&entry.digest) {
                    let subject = entry.attested_image();
                    let kind = match &subject {
                        Some(_) => DocumentKind::Attestation,
                        None if entry.is_index() => DocumentKind::Index,
                        None => DocumentKind::Image,
                    };
                    description.manifests.push(Description { kind, subject, absent: true, ..foreign(entry) });
                    continue;
                }
                let mut child = node(source, entry, depth + 1, &mut own)?;
                if let Some(image) = entry.attested_image() {
                    // Its platform is `unknown/unknown`, and its configuration says nothing.
                    child = Description {
                        kind: DocumentKind::Attestation,
                        subject: Some(image),
                        platform: None,
                        artifact_type: None,
                        ..child
                    };
                }
                description.manifests.push(child);
            }
            description.platforms = platform_rows_of(&description.manifests);
        }
        Document::Manifest(manifest) => {
            description.subject = manifest.subject.as_ref().map(|subject| subject.digest.clone());
            own = image_parts(&document, manifest);
            image(source, manifest, &mut description)?;
        }
    }
    // Layers that several images share are stored once.
    description.size = own.values().sum();
    // `append` rebuilds the whole map, which for thousands of images takes longer than all else.
    parts.extend(own);
    Ok(description)
}

/// Returns the table of an index whose members are described.
fn platform_rows_of(members: &[Description]) -> Vec<PlatformRow> {
    let about = |image: &Description| -> Vec<AttestationRow> {
        let of_index = members.iter().filter(|member| member.kind == DocumentKind::Attestation);
        let about = of_index.filter(|member| member.subject.as_ref() == Some(&image.digest));
        let row = |member: &Description| AttestationRow {
            digest: member.digest.clone(),
            predicate_types: member.predicate_types.clone(),
        };
        about.map(row).collect()
    };
    let mut rows = Vec::new();
    for member in members {
        match member.kind {
            DocumentKind::Attestation => {}
            DocumentKind::Index => rows.extend(member.platforms.iter().cloned()),
            _ => rows.push(PlatformRow {
                platform: member.platform.clone(),
                digest: member.digest.clone(),
                size: member.size,
                absent: member.absent,
                attestations: about(member),
            }),
        }
    }
    rows
}

/// Describes a descriptor without reading what it points at.
fn foreign(descriptor: &Descriptor) -> Description {
    Description {
        digest: descriptor.digest.clone(),
        kind: DocumentKind::Artifact,
        media_type: descriptor.media_type.clone(),
        size: descriptor.size,
        absent: false,
        names: Vec::new(),
        origin: None,
        platform: descriptor.platform.as_ref().map(Platform::to_string),
        artifact_type: descriptor.artifact_type.clone(),
        annotations: Annotations::new(),
        labels: BTreeMap::new(),
        config: None,
        created: None,
        run: None,
        layers: Vec::new(),
        subject: None,
        predicate_types: Vec::new(),
        images: Vec::new(),
        platforms: Vec::new(),
        manifests: Vec::new(),
        signatures: Vec::new(),
    }
}

fn image(
    source: &dyn ImageSource,
    manifest: &ImageManifest,
    description: &mut Description,
) -> Result<(), TransferError> {
    let config = source.read_config(manifest)?;
    let diff_ids = config.as_ref().map(|config| config.rootfs.diff_ids.clone()).unwrap_or_default();
    let layers = manifest.layers.iter().enumerate().map(|(number, layer)| LayerDescription {
        digest: layer.digest.clone(),
        diff_id: diff_ids.get(number).cloned(),
        media_type: layer.media_type.clone(),
        size: layer.size,
    });
    description.layers = layers.collect();
    description.predicate_types = predicate_types(manifest);
    description.config = Some(manifest.config.digest.clone());
    description.artifact_type = manifest.artifact_type.clone();
    if let Some(config) = config {
        let has_layers = manifest.layers.iter().all(|layer| media_type::is_layer(&layer.media_type));
        description.kind = if has_layers { DocumentKind::Image } else { DocumentKind::Artifact };
        if description.platform.is_none() && !config.os.is_empty() {
            let variant = config.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
            description.platform = Some(format!("{}/{}{variant}", config.os, config.architecture));
        }
        if config.config.labels.contains_key(keys::BUNDLE_LABEL) {
            description.kind = DocumentKind::Bundle;
            let lock = read_images_lock(source, manifest)?.unwrap_or_default();
            description.images = lock
                .images
                .into_iter()
                .map(|item| LockedDescription {
                    image: item.image.to_string(),
                    annotations: item.annotations,
                    content: None,
                })
                .collect();
        }
        description.created.clone_from(&config.created);
        description.run = RunDescription::of(&config);
        description.labels = config.config.labels;
    } else if description.artifact_type.is_none() {
        description.artifact_type = Some(manifest.config.media_type.clone());
    }
    Ok(())
}
