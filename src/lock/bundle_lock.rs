//! `BundleLock`: one bundle by digest, with the tag it was found under.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::{Reference, Tag};

use super::API_VERSION;
use super::yaml::{self, LockError};

const KIND: &str = "BundleLock";

/// A bundle fixed by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleLock {
    /// The reference; always with a digest, never with a tag.
    pub image: Reference,
    /// The tag it was pushed or found under; none when it was given by digest.
    pub tag: Option<Tag>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    bundle: RawBundle,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBundle {
    image: Spanned<String>,
    #[serde(default)]
    tag: Option<Spanned<String>>,
}

impl BundleLock {
    /// Parses the document; see [`LockError`] for what is refused.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let raw: Raw = yaml::read(text)?;
        yaml::check_header(&raw.api_version, &raw.kind, KIND)?;
        let image = yaml::digest_reference(&raw.bundle.image.value, raw.bundle.image.referenced.line())?;
        let tag = match raw.bundle.tag {
            Some(tag) if !tag.value.is_empty() => {
                let line = tag.referenced.line();
                Some(tag.value.parse().map_err(|source| LockError::Reference { line, source })?)
            }
            _ => None,
        };
        Ok(Self { image, tag })
    }

    /// Writes the document: `---`, keys in alphabetical order, as imgpkg does.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!("  tag: {}\n", yaml::scalar(tag.as_str())));
        format!(
            "---\napiVersion: {API_VERSION}\nbundle:\n  image: {}\n{}kind: {KIND}\n",
            yaml::image_name(&self.image),
            tag.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_lock_is_written_as_imgpkg_writes_it_and_read_again() {
        let image: Reference = format!("reg.example/app@sha256:{HEX}").parse().unwrap();
        let lock = BundleLock { image, tag: Some("v1".parse().unwrap()) };
        let text = lock.to_yaml();
        assert_eq!(
            text,
            format!(
                "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nbundle:\n  image: reg.example/app@sha256:{HEX}\n  \
                 tag: v1\nkind: BundleLock\n"
            )
        );
        assert_eq!(BundleLock::parse(&text).unwrap(), lock);
        let numeric = BundleLock { tag: Some("1.10".parse().unwrap()), ..lock };
        assert!(numeric.to_yaml().contains("  tag: \"1.10\"\n"));
        assert_eq!(BundleLock::parse(&numeric.to_yaml()).unwrap(), numeric);
    }

    #[test]
    fn a_tag_in_place_of_a_digest_is_refused() {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nbundle:\n  image: reg.example/app:v1\n");
        let error = BundleLock::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("line 4: `image` must be a digest reference"), "{error}");
    }
}
