//! One index over finished images: every platform once, each followed by its attestations.
//!
//! Floor 3. Reads and writes nothing: descriptors in, a document out. The images are not changed, so their digests
//! are the ones that were built, tested and signed. An index made here is complete and has one level: readers and
//! registries refuse indexes that name what is not there, and many do not follow an index inside an index.
//! Source: image-spec image-index.md; BuildKit, docs/attestations/attestation-storage.md.

use crate::model::{Annotations, Descriptor, Digest, ImageIndex, Platform, RawDocument, media_type};

/// An image that is to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexImage {
    /// The manifest; its annotations are kept, its platform is replaced by `platform`.
    pub descriptor: Descriptor,
    /// The platform, from the configuration or from the index that listed the image.
    pub platform: Platform,
    /// Where the image comes from, for messages: `arm64/image.tar`.
    pub label: String,
}

/// A manifest that says something about an image of the same index (BuildKit's provenance and SBOM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexAttestation {
    /// The manifest, as it was listed.
    pub descriptor: Descriptor,
    /// The image that it is about.
    pub image: Digest,
    /// Where it comes from, for messages.
    pub label: String,
}

/// Why images cannot be listed in one index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// There is nothing to list.
    #[error("there is no image to list in the index")]
    Empty,
    /// Two different images are for one platform.
    #[error(
        "`{first_label}` and `{second_label}` both hold an image for `{platform}`: `{first}` and `{second}`"
    )]
    PlatformTwice {
        /// The platform.
        platform: Box<Platform>,
        /// Where the first image comes from.
        first_label: String,
        /// Its digest.
        first: Digest,
        /// Where the second image comes from.
        second_label: String,
        /// Its digest.
        second: Digest,
    },
    /// An attestation is about an image that is not listed.
    #[error(
        "attestation `{attestation}` in `{label}` is about image `{image}`, which is not among the images"
    )]
    ImageOfAttestationMissing {
        /// The attestation.
        attestation: Digest,
        /// Where it comes from.
        label: String,
        /// The image it is about.
        image: Digest,
    },
    /// A platform that was required or chosen is not there.
    #[error("no image for {}; {}", platform_list(.missing), present_list(.present))]
    PlatformsMissing {
        /// The platforms without an image.
        missing: Vec<Platform>,
        /// The platforms that have one.
        present: Vec<Platform>,
    },
}

fn present_list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "no entry of the index says for which platform it is".to_owned(),
        some => format!("there is one for {}", platform_list(some)),
    }
}

fn platform_list(platforms: &[Platform]) -> String {
    let quoted: Vec<String> = platforms.iter().map(|platform| format!("`{platform}`")).collect();
    quoted.join(", ")
}

/// The images and the attestations of an index, separated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexParts<'a> {
    /// Images and nested indexes.
    pub images: Vec<&'a Descriptor>,
    /// Attestations, each with the digest of its image.
    pub attestations: Vec<(&'a Descriptor, Digest)>,
}

impl<'a> IndexParts<'a> {
    /// Separates the images and the attestations of an index.
    #[must_use]
    pub fn of(index: &'a ImageIndex) -> Self {
        let mut parts = Self::default();
        for child in &index.manifests {
            match child.attested_image() {
                Some(image) => parts.attestations.push((child, image)),
                None => parts.images.push(child),
            }
        }
        parts
    }
}

/// Makes the index.
///
/// Shape: images sorted by operating system, architecture, variant and OS version, so that the order of the sources
/// changes no byte; after each image its attestations, sorted by digest. An image that comes twice with one digest
/// is listed once, with the annotations of both. Docker's manifest list where every image is of Docker's type and
/// the index has no annotations, which that list cannot hold; else an OCI index.
/// Errors: see [`IndexError`].
pub fn compose_index(
    images: Vec<IndexImage>,
    mut attestations: Vec<IndexAttestation>,
    annotations: Annotations,
) -> Result<RawDocument, IndexError> {
    let images = each_once(images)?;
    if images.is_empty() {
        return Err(IndexError::Empty);
    }
    for attestation in &attestations {
        if !images.iter().any(|image| image.descriptor.digest == attestation.image) {
            return Err(IndexError::ImageOfAttestationMissing {
                attestation: attestation.descriptor.digest.clone(),
                label: attestation.label.clone(),
                image: attestation.image.clone(),
            });
        }
    }
    attestations.sort_by_key(|attestation| attestation.descriptor.digest.to_string());
    attestations.dedup_by(|a, b| a.descriptor.digest == b.descriptor.digest);
    let all_docker = images.iter().all(|image| image.descriptor.media_type == media_type::DOCKER_MANIFEST);
    let of_docker = all_docker && annotations.is_empty() && attestations.is_empty();
    let mut manifests = Vec::new();
    for image in images {
        let digest = image.descriptor.digest.clone();
        manifests.push(Descriptor { platform: Some(image.platform), ..image.descriptor });
        let of_image = attestations.iter().filter(|attestation| attestation.image == digest);
        manifests.extend(of_image.map(|attestation| attestation.descriptor.clone()));
    }
    let media_type = if of_docker { media_type::DOCKER_INDEX } else { media_type::OCI_INDEX };
    Ok(RawDocument::of_index(ImageIndex {
        schema_version: 2,
        media_type: Some(media_type.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations,
    }))
}

/// Sorts the images, and leaves those with one digest in once.
fn each_once(mut images: Vec<IndexImage>) -> Result<Vec<IndexImage>, IndexError> {
    images.sort_by(|a, b| {
        let digest = |image: &IndexImage| image.descriptor.digest.to_string();
        (a.platform.sort_key(), digest(a), &a.label).cmp(&(b.platform.sort_key(), digest(b), &b.label))
    });
    let mut once: Vec<IndexImage> = Vec::new();
    for image in images {
        match once.last_mut() {
            Some(last) if last.descriptor.digest == image.descriptor.digest => {
                for (key, value) in image.descriptor.annotations {
                    last.descriptor.annotations.entry(key).or_insert(value);
                }
            }
            Some(last) if last.platform.sort_key() == image.platform.sort_key() => {
                return Err(IndexError::PlatformTwice {
                    platform: Box::new(image.platform),
                    first_label: last.label.clone(),
                    first: last.descriptor.digest.clone(),
                    second_label: image.label,
                    second: image.descriptor.digest,
                });
            }
            _ => once.push(image),
        }
    }
    Ok(once)
}

/// Checks that an index has an image for each of these platforms.
///
/// Errors: [`IndexError::PlatformsMissing`] with all that are missing.
pub fn require_platforms(index: &ImageIndex, required: &[Platform]) -> Result<(), IndexError> {
    let present: Vec<Platform> =
        IndexParts::of(index).images.iter().filter_map(|image| image.platform.clone()).collect();
    let missing: Vec<Platform> =
        required.iter().filter(|wanted| !present.iter().any(|has| has.serves(wanted))).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(IndexError::PlatformsMissing { missing, present }) }
}

/// An index narrowed to some platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one lives for each command; a box would only get in the way")]
pub enum Narrowed {
    /// The index has only these platforms already.
    Same,
    /// One image is left; it needs no index.
    Image(Descriptor),
    /// Several are left, in a new index with their attestations.
    Index(RawDocument),
}

/// Narrows an index to some platforms.
///
/// Shape: the entries that are kept stay as they are and in their order; so do the index's annotations and types.
/// Errors: [`IndexError::PlatformsMissing`] for a platform that the index does not have.
pub fn narrow_index(index: &ImageIndex, wanted: &[Platform]) -> Result<Narrowed, IndexError> {
    require_platforms(index, wanted)?;
    let parts = IndexParts::of(index);
    let is_wanted = |image: &&&Descriptor| {
        let has = image.platform.as_ref();
        has.is_some_and(|has| wanted.iter().any(|wanted| has.serves(wanted)))
    };
    let kept: Vec<&Descriptor> = parts.images.iter().filter(is_wanted).copied().collect();
    if kept.len() == parts.images.len() {
        return Ok(Narrowed::Same);
    }
    if let [only] = kept.as_slice() {
        return Ok(Narrowed::Image((*only).clone()));
    }
    let stays = |entry: &&Descriptor| {
        let digest = entry.attested_image().unwrap_or_else(|| entry.digest.clone());
        kept.iter().any(|image| image.digest == digest)
    };
    let manifests = index.manifests.iter().filter(stays).cloned().collect();
    Ok(Narrowed::Index(RawDocument::of_index(ImageIndex { manifests, ..index.clone() })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Document, keys};

    fn image(platform: &str, content: &str, label: &str) -> IndexImage {
        IndexImage {
            descriptor: Descriptor::of_bytes(media_type::OCI_MANIFEST, content.as_bytes()),
            platform: platform.parse().unwrap(),
            label: label.to_owned(),
        }
    }

    fn attestation(of: &IndexImage, content: &str) -> IndexAttestation {
        let mut descriptor = Descriptor::of_bytes(media_type::OCI_MANIFEST, content.as_bytes());
        let image = of.descriptor.digest.clone();
        descriptor.annotations = [
            (keys::REFERENCE_TYPE.to_owned(), keys::ATTESTATION_MANIFEST.to_owned()),
            (keys::REFERENCE_DIGEST.to_owned(), image.to_string()),
        ]
        .into();
        descriptor.platform = Some("unknown/unknown".parse().unwrap());
        IndexAttestation { descriptor, image, label: of.label.clone() }
    }

    fn index(document: &RawDocument) -> &ImageIndex {
        match document.document() {
            Document::Index(index) => index,
            Document::Manifest(_) => panic!("not an index"),
        }
    }

    fn listed(document: &RawDocument) -> Vec<String> {
        let platform = |entry: &Descriptor| entry.platform.as_ref().map(ToString::to_string);
        index(document).manifests.iter().map(|entry| platform(entry).unwrap_or_default()).collect()
    }

    #[test]
    fn the_order_of_the_sources_changes_no_byte_and_attestations_follow_their_image() {
        let (amd, arm) = (image("linux/amd64", "a", "a.tar"), image("linux/arm64", "b", "b.tar"));
        let attestations = vec![attestation(&arm, "2"), attestation(&amd, "1"), attestation(&amd, "3")];
        let compose = |images: [&IndexImage; 2], attestations: Vec<IndexAttestation>| {
            compose_index(images.map(Clone::clone).into(), attestations, Annotations::new()).unwrap()
        };
        let one = compose([&amd, &arm], attestations.clone());
        let other = compose([&arm, &amd], attestations.into_iter().rev().collect());
        assert_eq!(one.bytes(), other.bytes());
        assert_eq!(one.media_type(), media_type::OCI_INDEX);
        let expected =
            ["linux/amd64", "unknown/unknown", "unknown/unknown", "linux/arm64", "unknown/unknown"];
        assert_eq!(listed(&one), expected);
    }

    #[test]
    fn one_platform_with_two_digests_is_refused_and_with_one_digest_listed_once() {
        for (one, other) in [
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/amd64", "linux/amd64/v1"),
            ("linux/amd64", "linux/amd64"),
        ] {
            let images = vec![image(one, "a", "a.tar"), image(other, "b", "b.tar")];
            let error = compose_index(images, vec![], Annotations::new()).unwrap_err().to_string();
            assert!(error.contains("a.tar") && error.contains("b.tar"), "{error}");
        }
        let images = vec![image("linux/amd64", "a", "b.tar"), image("linux/amd64", "a", "a.tar")];
        assert_eq!(listed(&compose_index(images, vec![], Annotations::new()).unwrap()), ["linux/amd64"]);
        let images = vec![image("linux/arm/v6", "a", "a.tar"), image("linux/arm", "b", "b.tar")];
        let listed = listed(&compose_index(images, vec![], Annotations::new()).unwrap());
        assert_eq!(listed, ["linux/arm/v6", "linux/arm"]);
    }

    #[test]
    fn an_attestation_without_its_image_is_refused() {
        let (amd, arm) = (image("linux/amd64", "a", "a.tar"), image("linux/arm64", "b", "b.tar"));
        let error = compose_index(vec![amd], vec![attestation(&arm, "1")], Annotations::new()).unwrap_err();
        assert!(matches!(error, IndexError::ImageOfAttestationMissing { .. }), "{error}");
        assert_eq!(compose_index(vec![], vec![], Annotations::new()), Err(IndexError::Empty));
    }

    #[test]
    fn docker_images_alone_give_dockers_list() {
        let docker = |platform: &str| {
            let mut image = image(platform, platform, "x.tar");
            image.descriptor.media_type = media_type::DOCKER_MANIFEST.to_owned();
            image
        };
        let both = || vec![docker("linux/amd64"), docker("linux/arm64")];
        let made = |images, annotations| compose_index(images, vec![], annotations).unwrap();
        assert_eq!(made(both(), Annotations::new()).media_type(), media_type::DOCKER_INDEX);
        let annotated = Annotations::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(made(both(), annotated).media_type(), media_type::OCI_INDEX);
        let mixed = vec![docker("linux/amd64"), image("linux/arm64", "b", "b.tar")];
        assert_eq!(made(mixed, Annotations::new()).media_type(), media_type::OCI_INDEX);
    }

    #[test]
    fn required_platforms_are_all_named_when_they_are_missing() {
        let made =
            compose_index(vec![image("linux/amd64", "a", "a.tar")], vec![], Annotations::new()).unwrap();
        let required = |texts: &[&str]| {
            let required: Vec<Platform> = texts.iter().map(|text| text.parse().unwrap()).collect();
            require_platforms(index(&made), &required)
        };
        assert_eq!(required(&["linux/amd64"]), Ok(()));
        assert_eq!(
            required(&["linux/arm64", "linux/amd64", "linux/s390x"]).unwrap_err().to_string(),
            "no image for `linux/arm64`, `linux/s390x`; there is one for `linux/amd64`"
        );
    }

    #[test]
    fn narrowing_keeps_the_attestations_of_what_stays_and_makes_no_index_of_one() {
        let images: Vec<IndexImage> =
            ["linux/amd64", "linux/arm64", "linux/s390x"].map(|p| image(p, p, "x.tar")).into();
        let attestations = images.iter().map(|image| attestation(image, &image.label)).take(1).collect();
        let whole = compose_index(images.clone(), attestations, Annotations::new()).unwrap();
        let narrow = |texts: &[&str]| {
            let wanted: Vec<Platform> = texts.iter().map(|text| text.parse().unwrap()).collect();
            narrow_index(index(&whole), &wanted)
        };
        match narrow(&["linux/arm64/v8", "linux/amd64"]).unwrap() {
            Narrowed::Index(made) => {
                assert_eq!(listed(&made), ["linux/amd64", "unknown/unknown", "linux/arm64"]);
            }
            other => panic!("{other:?}"),
        }
        match narrow(&["linux/s390x"]).unwrap() {
            Narrowed::Image(only) => assert_eq!(only.digest, images[2].descriptor.digest),
            other => panic!("{other:?}"),
        }
        assert_eq!(narrow(&["linux/s390x", "linux/amd64", "linux/arm64"]), Ok(Narrowed::Same));
        assert!(matches!(narrow(&["windows/amd64"]), Err(IndexError::PlatformsMissing { .. })));
    }
}
