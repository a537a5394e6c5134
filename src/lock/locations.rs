//! `ImageLocations`: the images of a bundle that are in the bundle's repository, in imgpkg's format.
//!
//! The document is the one file of an ordinary image with the tag [`locations_tag`]. Its presence means that every
//! image the bundle names is in the same repository.

use std::fmt::Write as _;

use crate::model::{Digest, Reference, Tag};

use super::API_VERSION;
use super::yaml;

/// Name of the file in the image.
pub const LOCATIONS_FILE: &str = "image-locations.yml";

const KIND: &str = "ImageLocations";

/// The images a bundle names directly, with their original references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageLocations {
    images: Vec<(Reference, bool)>,
}

impl ImageLocations {
    /// Lists references, each with whether it is a bundle; the order does not matter.
    #[must_use]
    pub fn new(mut images: Vec<(Reference, bool)>) -> Self {
        images.sort_by_key(|(reference, _)| yaml::image_name(reference));
        images.dedup_by(|one, other| one.0 == other.0);
        Self { images }
    }

    /// Writes the document: `---`, keys in alphabetical order, images sorted, as imgpkg does.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = format!("---\napiVersion: {API_VERSION}\n");
        out.push_str(if self.images.is_empty() { "images: null\n" } else { "images:\n" });
        for (reference, is_bundle) in &self.images {
            writeln!(out, "- image: {}\n  isBundle: {is_bundle}", yaml::image_name(reference))
                .expect("writing to a String cannot fail");
        }
        writeln!(out, "kind: {KIND}").expect("writing to a String cannot fail");
        out
    }
}

/// Returns the tag that imgpkg gives an image by digest, so that a clean-up of untagged images keeps it.
#[must_use]
pub fn default_tag(digest: &Digest) -> Tag {
    tag(digest, "imgpkg")
}

/// Returns the tag of the image that holds the [`ImageLocations`] of a bundle.
#[must_use]
pub fn locations_tag(bundle: &Digest) -> Tag {
    tag(bundle, "image-locations.imgpkg")
}

/// Returns cosign's tag for a signature (`sig`), an attestation (`att`) or an SBOM (`sbom`) of an image.
#[must_use]
pub fn cosign_tag(digest: &Digest, what: &str) -> Tag {
    tag(digest, what)
}

/// Returns the image that a tag of cosign's is about: `sha256-<hex>.sig`, `.att` or `.sbom`.
#[must_use]
pub fn cosign_subject(tag: &str) -> Option<Digest> {
    let (digest, what) = tag.split_once('.')?;
    let known = ["sig", "att", "sbom"].contains(&what);
    digest.replacen('-', ":", 1).parse().ok().filter(|_| known)
}

fn tag(digest: &Digest, end: &str) -> Tag {
    // A SHA-512 digest with an ending is longer than a tag may be.
    let hex: String = digest.hex().chars().take(64).collect();
    format!("{}-{hex}.{end}", digest.algorithm().name())
        .parse()
        .expect("letters, dashes, dots and hex are a tag")
}

/// Returns the tag that imgpkg writes with `--repo-based-tags`: the end of the repository's name, and the digest.
#[must_use]
pub fn repository_based_tag(repository: &str, digest: &Digest) -> Tag {
    const NAME: usize = 49;
    let usable = |text: String| -> String {
        let first = |c: &char| !(c.is_ascii_alphanumeric() || *c == '_');
        text.chars()
            .skip_while(first)
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            .collect()
    };
    let name = usable(repository.replace('/', "-"));
    let name = usable(name.chars().skip(name.chars().count().saturating_sub(NAME)).collect());
    let by_digest = default_tag(digest);
    if name.is_empty() {
        return by_digest;
    }
    format!("{name}-{by_digest}").parse().unwrap_or(by_digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn digest() -> Digest {
        format!("sha256:{HEX}").parse().unwrap()
    }

    #[test]
    fn locations_are_written_as_imgpkg_does() {
        let reference = |text: &str| format!("{text}@sha256:{HEX}").parse::<Reference>().unwrap();
        let list = vec![
            (reference("reg.example/z"), true),
            (reference("nginx"), false),
            (reference("reg.example/a"), false),
        ];
        let expected = format!(
            "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages:\n\
             - image: index.docker.io/library/nginx@sha256:{HEX}\n  isBundle: false\n\
             - image: reg.example/a@sha256:{HEX}\n  isBundle: false\n\
             - image: reg.example/z@sha256:{HEX}\n  isBundle: true\nkind: ImageLocations\n"
        );
        assert_eq!(ImageLocations::new(list).to_yaml(), expected);
        let none = "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nimages: null\nkind: ImageLocations\n";
        assert_eq!(ImageLocations::default().to_yaml(), none);
    }

    #[test]
    fn tags_are_those_of_imgpkg() {
        assert_eq!(default_tag(&digest()).as_str(), format!("sha256-{HEX}.imgpkg"));
        assert_eq!(locations_tag(&digest()).as_str(), format!("sha256-{HEX}.image-locations.imgpkg"));
        let long = "a".repeat(60);
        for (name, expected) in [
            ("src/img1", "src-img1-".to_owned()),
            ("a/b.c_d/e", "a-b.c_d-e-".into()),
            (long.as_str(), format!("{}-", "a".repeat(49))),
            // The text is cut at the slash; characters that a tag may not begin with are removed.
            (&format!("x/{}", "b".repeat(48)), format!("{}-", "b".repeat(48))),
        ] {
            assert_eq!(
                repository_based_tag(name, &digest()).as_str(),
                format!("{expected}sha256-{HEX}.imgpkg")
            );
        }
    }
}
