//! Which image of a store is meant: by a recorded name, a tag, a digest or its position.

use std::fmt;
use std::str::FromStr;

use crate::model::{Digest, Reference};

use super::listed::listed_root;
use super::{ImageName, Root, Store, StoreError};

/// How one image of several is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The image with this digest, also one that an index lists.
    Digest(Digest),
    /// The image at this place of `index.json` or `manifest.json`; the first one is 0, as skopeo counts.
    Position(usize),
    /// A recorded name, with or without its tag, or a tag alone.
    Name(String),
}

/// Why a text selects no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing was written.
    #[error("it is empty, expected a name, a tag, a digest or a position such as `@0`")]
    Empty,
    /// What follows the `@` is not a number.
    #[error("position `{found}` is not `@` and a number; the first image is `@0`")]
    Position {
        /// The text.
        found: String,
    },
    /// It begins like a digest and is not valid.
    #[error(transparent)]
    Digest(#[from] crate::model::DigestError),
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        if let Some(number) = text.strip_prefix('@') {
            if number.starts_with("sha256:") || number.starts_with("sha512:") {
                return Ok(Self::Digest(number.parse()?));
            }
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let position = number.parse().ok().filter(|_| digits);
            let wrong = || SelectorError::Position { found: text.chars().take(32).collect() };
            return position.map(Self::Position).ok_or_else(wrong);
        }
        if text.starts_with("sha256:") || text.starts_with("sha512:") {
            return Ok(Self::Digest(text.parse()?));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Position(position) => write!(f, "@{position}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Selector {
    /// Finds the image that is meant.
    ///
    /// Errors: [`StoreError::NotSelected`] where none or more than one is meant, with all that there are.
    pub fn find(&self, store: &Store) -> Result<Root, StoreError> {
        let chosen: Vec<&Root> = match self {
            Self::Position(position) => store.roots().get(*position).into_iter().collect(),
            Self::Digest(digest) => {
                let has = |root: &&Root| root.image.descriptor.digest == *digest;
                store.roots().iter().filter(has).collect()
            }
            Self::Name(name) => {
                let means = means(name);
                let has = |root: &&Root| root.image.names.iter().any(&means);
                store.roots().iter().filter(has).collect()
            }
        };
        let listed = match (chosen.as_slice(), self) {
            ([], Self::Digest(digest)) => listed_root(store, digest),
            _ => None,
        };
        match (chosen.as_slice(), listed) {
            ([only], _) => Ok((*only).clone()),
            (_, Some(listed)) => Ok(listed),
            (found, None) => Err(StoreError::NotSelected {
                path: store.path().to_owned(),
                selector: self.to_string(),
                found: found.len(),
                images: image_labels(store.roots()),
            }),
        }
    }
}

/// Returns what tells whether a recorded name is the one that was written: whole, without its tag, or its tag alone.
fn means(text: &str) -> impl Fn(&ImageName) -> bool {
    let text = text.to_owned();
    let written: Option<Reference> = text.parse().ok();
    move |name| {
        let recorded = name.reference.as_ref();
        let tag = name.tag.as_ref().or_else(|| recorded.and_then(|reference| reference.tag.as_ref()));
        let by_name = recorded.zip(written.as_ref()).is_some_and(|(recorded, written)| {
            recorded.repository == written.repository
                && (written.tag.is_none() || written.tag == recorded.tag)
                && (written.digest.is_none() || written.digest == recorded.digest)
        });
        tag.is_some_and(|tag| tag.as_str() == text) || by_name
    }
}

/// Names the images of a store for a message, each as [`image_label`] does.
#[must_use]
pub fn image_labels(roots: &[Root]) -> Vec<String> {
    let images = roots.iter().map(|root| &root.image).enumerate();
    images.map(|(at, image)| image_label(&image.names, at, &image.descriptor.digest)).collect()
}

/// Names an image by its first name, its position and its digest: `` `reg.example/app:v1` (`@0`, `sha256:…`) ``.
#[must_use]
pub fn image_label(names: &[ImageName], position: usize, digest: &Digest) -> String {
    let full = |name: &ImageName| name.reference.as_ref().map(ToString::to_string);
    let tag = |name: &ImageName| name.tag.as_ref().map(ToString::to_string);
    match names.iter().find_map(full).or_else(|| names.iter().find_map(tag)) {
        Some(name) => format!("`{name}` (`@{position}`, `{digest}`)"),
        None => format!("`@{position}` (`{digest}`)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_text_is_a_position_a_digest_or_a_name() {
        let name = |text: &str| Ok(Selector::Name(text.to_owned()));
        let digest = || Ok(Selector::Digest(A.parse().unwrap()));
        for (text, expected) in [
            ("@0", Ok(Selector::Position(0))),
            ("@17", Ok(Selector::Position(17))),
            (A, digest()),
            (&format!("@{A}"), digest()),
            ("v1", name("v1")),
            ("reg.example/team/app:v1", name("reg.example/team/app:v1")),
            ("0", name("0")),
            ("", Err(SelectorError::Empty)),
        ] {
            assert_eq!(text.parse::<Selector>(), expected, "{text}");
        }
        for text in ["@", "@x", "@-1", "@+1", "@1 ", "@99999999999999999999999"] {
            let error = text.parse::<Selector>().unwrap_err();
            assert!(matches!(error, SelectorError::Position { .. }), "{text}: {error}");
        }
        for text in ["sha256:12ab", "@sha256:12ab", "sha512:"] {
            let error = text.parse::<Selector>().unwrap_err();
            assert!(matches!(error, SelectorError::Digest(_)), "{text}: {error}");
        }
        for text in ["@3", A, "team/app:v1"] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_name_is_meant_whole_without_its_tag_or_by_its_tag() {
        let name = ImageName::of("reg.example/team/app:v1".parse().unwrap());
        let hub = ImageName::of("app:v1".parse().unwrap());
        let bare = ImageName { tag: Some("v1".parse().unwrap()), reference: None };
        for (text, expected) in [
            ("reg.example/team/app:v1", [true, false, false]),
            ("reg.example/team/app", [true, false, false]),
            ("reg.example/team/app:v2", [false, false, false]),
            ("v1", [true, true, true]),
            ("app:v1", [false, true, false]),
            ("docker.io/library/app", [false, true, false]),
            ("team/app:v1", [false, false, false]),
            ("V1", [false, false, false]),
        ] {
            assert_eq!([&name, &hub, &bare].map(means(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_written_digest_or_tag_has_to_be_the_recorded_one() {
        let b = format!("sha256:{}", "b".repeat(64));
        let name = |text: &str| ImageName::of(text.parse().unwrap());
        let recorded = [name(&format!("reg.example/app:v1@{A}")), name("reg.example/app:v1")];
        for (text, expected) in [
            ("reg.example/app".to_owned(), [true, true]),
            (format!("reg.example/app@{A}"), [true, false]),
            (format!("reg.example/app@{b}"), [false, false]),
            (format!("reg.example/app:v1@{A}"), [true, false]),
            (format!("reg.example/app:v2@{A}"), [false, false]),
            ("reg.example/app:v1".to_owned(), [true, true]),
            (format!("reg.example/other@{A}"), [false, false]),
        ] {
            assert_eq!([&recorded[0], &recorded[1]].map(means(&text)), expected, "{text}");
        }
    }
}
