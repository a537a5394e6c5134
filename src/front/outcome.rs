//! The result of a command, with its one line and its JSON document.
//!
//! Standard output gets the result once (see [`super::ui`]); [`super::result_file`] writes it for other programs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::failure::Failure;
use super::text;
use crate::model::invisible::escape_in_json;
use crate::model::{Digest, Reference, Repository, Tag};
use crate::pack::Profile;
use crate::transfer::{self, Description, DocumentKind, MadeRunnable, PackedImage, PlatformRow};

/// The result of a command.
#[derive(Debug)]
pub enum Outcome {
    /// An image that was pushed, copied, packed or pulled.
    Image(Box<ImageOutcome>),
    /// A text to read.
    Document(TextDocument),
    /// The command has printed its result already.
    Printed,
}

/// A text to read: a description, a report, a list.
#[derive(Debug)]
pub struct TextDocument {
    /// For users; lines, each ended.
    pub text: String,
    /// The same as JSON.
    pub json: serde_json::Value,
    /// The failure that the document reports, for the exit code; `None` for success.
    pub failure: Option<Failure>,
    /// The one image that it is about, for result files and the outputs of CI systems.
    pub image: Option<Box<ImageOutcome>>,
}

impl TextDocument {
    /// Makes a document of a success that is about no single image.
    #[must_use]
    pub fn new(text: String, json: serde_json::Value) -> Self {
        Self { text, json, failure: None, image: None }
    }
}

impl Outcome {
    /// Returns the image that a success is about.
    #[must_use]
    pub fn image(&self) -> Option<&ImageOutcome> {
        match self {
            Self::Image(image) => Some(image),
            Self::Document(document) if document.failure.is_none() => document.image.as_deref(),
            Self::Document(_) | Self::Printed => None,
        }
    }
}

/// The kind of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// A Carvel bundle.
    Bundle,
    /// A plain image.
    Image,
    /// A Cloud Foundry source image.
    #[serde(rename = "source")]
    App,
    /// Several images under one digest.
    Index,
}

impl ImageKind {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Image => "image",
            Self::App => "source",
            Self::Index => "index",
        }
    }
}

/// Where an image is that a command reports about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReportedPlace {
    /// In a repository.
    Registry(Repository),
    /// In a tar or folder.
    Tar(PathBuf),
    /// In an image store.
    Store,
}

/// An image that a command wrote to a registry, a tar or a folder.
#[derive(Clone, Debug)]
pub struct ImageOutcome {
    /// Its kind.
    pub kind: ImageKind,
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// Media type of its manifest or index.
    pub media_type: String,
    /// Bytes as stored: manifests, configurations and layers together.
    pub size: u64,
    /// Number of its layers; `None` for an index.
    pub layers: Option<usize>,
    /// The images of an index; none for one image.
    pub platforms: Vec<PlatformRow>,
    /// The repository, if it is in a registry.
    pub repository: Option<Repository>,
    /// Its tags: those written in the registry, or those recorded in the tar.
    pub tags: Vec<Tag>,
    /// The tar or folder, if it is in one; `-` is standard output.
    pub path: Option<PathBuf>,
    /// The image store, if it is in one.
    pub store: Option<StoredImage>,
}

/// An image that a command wrote to an image store.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// The store's URL.
    pub place: String,
    /// When its newest version was pushed.
    pub pushed: String,
    /// Bytes that were written.
    pub sent: u64,
    /// Bytes that the store had already.
    pub reused: u64,
}

/// The result as JSON; names are those of the outputs of the GitHub action.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    kind: ImageKind,
    digest: String,
    media_type: &'a str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<usize>,
    #[serde(skip_serializing_if = "<[PlatformRow]>::is_empty")]
    platforms: &'a [PlatformRow],
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    tags: Vec<&'a str>,
    refs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<u64>,
}

impl ImageOutcome {
    /// Makes the outcome of packing, without place and tags.
    pub(super) fn of_packed(packed: &PackedImage) -> Self {
        Self {
            kind: match packed.profile {
                Profile::BUNDLE => ImageKind::Bundle,
                Profile::APP => ImageKind::App,
                _ => ImageKind::Image,
            },
            digest: packed.manifest.digest().clone(),
            media_type: packed.manifest.media_type().to_owned(),
            size: packed.size,
            layers: Some(packed.layers.len()),
            platforms: Vec::new(),
            repository: None,
            tags: Vec::new(),
            path: None,
            store: None,
        }
    }

    /// Makes the outcome of an image that runs, without place and tags.
    pub(super) fn of_made(made: &MadeRunnable<'_>) -> Self {
        Self {
            kind: if made.layers.is_some() { ImageKind::Image } else { ImageKind::Index },
            digest: made.root.digest().clone(),
            media_type: made.root.media_type().to_owned(),
            size: made.graph.size(),
            layers: made.layers,
            platforms: transfer::platform_rows(&made.graph, made.root.digest()),
            repository: None,
            tags: Vec::new(),
            path: None,
            store: None,
        }
    }

    /// Makes the outcome of a command that reports about an image: `place` is its repository or its tar.
    pub(super) fn of_description(image: &Description, place: ReportedPlace) -> Self {
        let (repository, path) = match place {
            ReportedPlace::Registry(repository) => (Some(repository), None),
            ReportedPlace::Tar(path) => (None, Some(path)),
            ReportedPlace::Store => (None, None),
        };
        let named = image.names.iter().filter_map(|name| {
            let reference = name.parse::<Reference>().ok().and_then(|reference| reference.tag);
            reference.or_else(|| name.parse().ok())
        });
        Self {
            kind: match image.kind {
                DocumentKind::Bundle => ImageKind::Bundle,
                DocumentKind::Index => ImageKind::Index,
                DocumentKind::Source => ImageKind::App,
                _ => ImageKind::Image,
            },
            digest: image.digest.clone(),
            media_type: image.media_type.clone(),
            size: image.size,
            layers: (image.kind != DocumentKind::Index).then_some(image.layers.len()),
            platforms: image.platforms.clone(),
            repository,
            tags: named.collect(),
            path,
            store: None,
        }
    }

    /// Returns the line for standard output: `<where>@<digest>`.
    #[must_use]
    pub fn line(&self) -> String {
        if let Some(store) = &self.store {
            return format!("{}@{}", text::escaped(&store.place), self.digest);
        }
        match (&self.repository, &self.path) {
            (Some(repository), _) => format!("{repository}@{}", self.digest),
            (None, Some(path)) => format!("{}@{}", text::escaped(&path.to_string_lossy()), self.digest),
            (None, None) => self.digest.to_string(),
        }
    }

    /// Returns the JSON document, on one line and without a line break at its end.
    #[must_use]
    pub fn json(&self) -> String {
        let json = Json {
            kind: self.kind,
            digest: self.digest.to_string(),
            media_type: &self.media_type,
            size: self.size,
            layers: self.layers,
            platforms: &self.platforms,
            image: self.repository.as_ref().map(ToString::to_string),
            reference: self.reference(),
            tags: self.tags.iter().map(Tag::as_str).collect(),
            refs: self.refs(),
            path: self.path_text(),
            store: self.store.as_ref().map(|store| store.place.as_str()),
            pushed: self.store.as_ref().map(|store| store.pushed.as_str()),
            sent: self.store.as_ref().map(|store| store.sent),
            reused: self.store.as_ref().map(|store| store.reused),
        };
        escape_in_json(&serde_json::to_string(&json).expect("strings and numbers are always JSON"))
    }

    /// Tells whether the tar went to standard output, so that no result can be printed there.
    #[must_use]
    pub fn is_on_stdout(&self) -> bool {
        self.path.as_deref() == Some(Path::new("-"))
    }

    pub(super) fn reference(&self) -> Option<String> {
        self.repository.as_ref().map(|repository| format!("{repository}@{}", self.digest))
    }

    pub(super) fn refs(&self) -> Vec<String> {
        let Some(repository) = &self.repository else { return Vec::new() };
        self.tags.iter().map(|tag| format!("{repository}:{tag}")).collect()
    }

    /// Returns `repository:tag` with the first tag, or the repository alone if there is none.
    pub(super) fn url(&self) -> Option<String> {
        let repository = self.repository.as_ref()?;
        Some(self.refs().into_iter().next().unwrap_or_else(|| repository.to_string()))
    }

    pub(super) fn path_text(&self) -> Option<String> {
        self.path.as_ref().map(|path| path.to_string_lossy().into_owned())
    }

    /// Returns the platforms of an index, in the order of its images.
    pub(super) fn platform_names(&self) -> Vec<&str> {
        self.platforms.iter().filter_map(|row| row.platform.as_deref()).collect()
    }

    pub(super) fn tags_joined(&self, separator: &str) -> Option<String> {
        let tags: Vec<&str> = self.tags.iter().map(Tag::as_str).collect();
        (!tags.is_empty()).then(|| tags.join(separator))
    }
}

#[cfg(test)]
pub(in crate::front) mod tests {
    use super::*;

    pub(in crate::front) const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    pub(in crate::front) fn pushed() -> ImageOutcome {
        ImageOutcome {
            kind: ImageKind::Bundle,
            digest: format!("sha256:{HEX}").parse().unwrap(),
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: 1234,
            layers: Some(1),
            platforms: Vec::new(),
            repository: Some("reg.example/team/app".parse().unwrap()),
            tags: vec!["v1".parse().unwrap(), "latest".parse().unwrap()],
            path: None,
            store: None,
        }
    }

    pub(in crate::front) fn packed(path: &str) -> ImageOutcome {
        ImageOutcome { repository: None, tags: Vec::new(), path: Some(path.into()), ..pushed() }
    }

    #[test]
    fn the_line_is_the_place_and_the_digest() {
        assert_eq!(pushed().line(), format!("reg.example/team/app@sha256:{HEX}"));
        assert_eq!(packed("out/app.tar").line(), format!("out/app.tar@sha256:{HEX}"));
        assert_eq!(packed("a\nb").line(), format!("a\\nb@sha256:{HEX}"));
        assert!(packed("-").is_on_stdout());
    }

    #[test]
    fn json_has_the_names_of_the_github_outputs() {
        assert_eq!(
            pushed().json(),
            format!(
                "{{\"kind\":\"bundle\",\"digest\":\"sha256:{HEX}\",\
                 \"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"size\":1234,\"layers\":1,\
                 \"image\":\"reg.example/team/app\",\"ref\":\"reg.example/team/app@sha256:{HEX}\",\
                 \"tags\":[\"v1\",\"latest\"],\
                 \"refs\":[\"reg.example/team/app:v1\",\"reg.example/team/app:latest\"]}}"
            )
        );
        assert!(packed("app.tar").json().ends_with("\"tags\":[],\"refs\":[],\"path\":\"app.tar\"}"));
    }
}
