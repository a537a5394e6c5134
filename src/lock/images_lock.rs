//! `ImagesLock`: the images a bundle refers to, each by digest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::{Annotations, Reference, keys};

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

impl LockedImage {
    /// Adds the annotations to those of an entry in `index.json`, as one text, so that no key of theirs is taken for ours.
    pub fn write_annotations(&self, entry: &mut Annotations) {
        if !self.annotations.is_empty() {
            let text = serde_json::to_string(&self.annotations).expect("a map of texts is always JSON");
            entry.insert(keys::LOCK_ANNOTATIONS.to_owned(), text);
        }
    }

    /// Reads what [`LockedImage::write_annotations`] wrote; text in another form gives none.
    #[must_use]
    pub fn read_annotations(entry: &Annotations) -> BTreeMap<String, String> {
        let text = entry.get(keys::LOCK_ANNOTATIONS);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
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

    #[test]
    fn annotations_are_kept_as_one_text() {
        let image = LockedImage {
            image: format!("reg.example/a@sha256:{HEX}").parse().unwrap(),
            annotations: [("kbld.carvel.dev/id".to_owned(), "a: \"b\"\n".to_owned())].into(),
        };
        let mut entry = Annotations::new();
        image.write_annotations(&mut entry);
        assert_eq!(entry[keys::LOCK_ANNOTATIONS], r#"{"kbld.carvel.dev/id":"a: \"b\"\n"}"#);
        assert_eq!(LockedImage::read_annotations(&entry), image.annotations);
        for other in ["", "[]", r#"{"a":1}"#] {
            let entry = [(keys::LOCK_ANNOTATIONS.to_owned(), other.to_owned())].into();
            assert_eq!(LockedImage::read_annotations(&entry), BTreeMap::new(), "{other}");
        }
    }

    #[test]
    fn a_marker_at_the_end_begins_no_second_document() {
        let text = document(&format!("images:\n- image: reg.example/a@sha256:{HEX}\n"));
        let expected = ImagesLock::parse(&text).unwrap();
        for end in ["---", "---\n", "...\n---\n\n", "\n---\n---\n"] {
            assert_eq!(ImagesLock::parse(&format!("{text}{end}")).as_ref(), Ok(&expected), "{end:?}");
        }
        let two = ImagesLock::parse(&format!("{text}---\n{text}")).unwrap_err().to_string();
        assert!(two.contains("a second YAML document begins here"), "{two}");
        assert!(ImagesLock::parse(&format!("{text}x---\n")).is_err());
    }
}
