//! `ImagesLock`: the images a bundle refers to, each by digest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::Reference;

use super::API_VERSION;
use super::yaml::{self, LockError};

const KIND: &str = "ImagesLock";

/// One image of an [`ImagesLock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedImage {
    /// The reference; always with a digest, never with a tag.
    pub image: Reference,
    /// Annotations of other tools, in key order.
    pub annotations: BTreeMap<String, String>,
}

/// The list of images of a bundle, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagesLock {
    /// The images; an image, an index or another bundle each.
    pub images: Vec<LockedImage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    #[serde(default)]
    images: Option<Vec<RawImage>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawImage {
    image: Spanned<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl ImagesLock {
    /// Parses the document; see [`LockError`] for what is refused.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let raw: Raw = yaml::read(text)?;
        yaml::check_header(&raw.api_version, &raw.kind, KIND)?;
        let mut images = Vec::new();
        for item in raw.images.unwrap_or_default() {
            let line = item.image.referenced.line();
            let image = yaml::digest_reference(&item.image.value, line)?;
            images.push(LockedImage { image, annotations: item.annotations.unwrap_or_default() });
        }
        Ok(Self { images })
    }

    /// Writes the document: `---`, keys in alphabetical order, as imgpkg does.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = format!("---\napiVersion: {API_VERSION}\n");
        if self.images.is_empty() {
            out.push_str("images: []\n");
        } else {
            out.push_str("images:\n");
        }
        for item in &self.images {
            let mut lead = "- ";
            if !item.annotations.is_empty() {
                out.push_str("- annotations:\n");
                for (key, value) in &item.annotations {
                    writeln!(out, "    {}: {}", yaml::scalar(key), yaml::scalar(value))
                        .expect("writing to a String cannot fail");
                }
                lead = "  ";
            }
            writeln!(out, "{lead}image: {}", yaml::image_name(&item.image))
                .expect("writing to a String cannot fail");
        }
        writeln!(out, "kind: {KIND}").expect("writing to a String cannot fail");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn document(rest: &str) -> String {
        format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{rest}")
    }

    #[test]
    fn images_and_annotations_are_read_and_written_again() {
        let text = document(&format!(
            "images:\n- image: ubuntu:22.04@sha256:{HEX}\n  annotations: {{kbld.carvel.dev/id: u, n: 1}}\n- image: reg.example/a@sha256:{HEX}\n"
        ));
        let lock = ImagesLock::parse(&text).unwrap();
        assert_eq!(lock.images[0].image.to_string(), format!("docker.io/library/ubuntu@sha256:{HEX}"));
        assert_eq!(lock.images[0].annotations["n"], "1");
        let written = lock.to_yaml();
        assert_eq!(
            written,
            format!(
                "---\napiVersion: {API_VERSION}\nimages:\n- annotations:\n    kbld.carvel.dev/id: u\n    \"n\": \"1\"\n  \
                 image: index.docker.io/library/ubuntu@sha256:{HEX}\n- image: reg.example/a@sha256:{HEX}\nkind: ImagesLock\n"
            )
        );
        assert_eq!(ImagesLock::parse(&written).unwrap(), lock);
        for empty in ["", "images:\n", "images: []\n", "images: null\n"] {
            assert_eq!(ImagesLock::parse(&document(empty)).unwrap(), ImagesLock::default(), "{empty:?}");
        }
    }

    #[test]
    fn what_imgpkg_refuses_is_refused_with_line_and_field() {
        let cases = [
            (document("images:\n- image: nginx:1.25\n"), "line 4: `image` must be a digest reference"),
            (
                document("images:\n- image: nginx@sha256:12\n"),
                "line 4: `image`: digest `sha256:12` has 2 hex",
            ),
            (
                document(&format!("images:\n- image: a@sha256:{HEX}\n  annotation: {{}}\n")),
                "line 5: unknown field `annotation`",
            ),
            (document("images:\n- {}\n"), "line 4: missing field `image`"),
            (document("pictures: []\n"), "line 3: unknown field `pictures`"),
            (document("images: x\n"), "line 3: "),
            (document("images: []\n---\nkind: x\n"), "line 5: a second YAML document begins here"),
            (
                format!("apiVersion: v1\nkind: {KIND}\n"),
                "line 1: `apiVersion` is `v1`, expected `imgpkg.carvel.dev/v1alpha1`",
            ),
            (
                format!("apiVersion: {API_VERSION}\nkind: Bundle\n"),
                "line 2: `kind` is `Bundle`, expected `ImagesLock`",
            ),
            (format!("kind: {KIND}\n"), "missing field `apiVersion`"),
            ("{{{".into(), "line 1: "),
            (String::new(), "line "),
        ];
        for (text, expected) in cases {
            let error = ImagesLock::parse(&text).expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}\n  gave: {error}\n  wanted: {expected}");
        }
    }
}
