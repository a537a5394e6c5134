//! Warnings of `verify`: facts about an undamaged store that some readers refuse or that may surprise a user.
//!
//! Each behaviour was observed (docker 20.10 to 28.5, podman 4.3 to 5.8, containerd 1.6 to 2.1; 2026-11).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::lock::cosign_subject;
use crate::model::Digest;
use crate::model::list::quoted_list;
use crate::store::{Remark, Store, StoreKind};
use crate::stream::Compression;

/// A fact that a user should know about a store, and that is no damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Advice {
    /// An entry has a tag but no full reference.
    BareTag {
        /// The tag.
        tag: String,
    },
    /// An image has no name.
    NoName {
        /// The image.
        digest: Digest,
    },
    /// The tar is compressed as a whole.
    Wrapped {
        /// Name of the compression.
        compression: &'static str,
    },
    /// `index.json` lists several images side by side.
    SeveralImages {
        /// How many.
        count: usize,
    },
    /// There is no `manifest.json` for old readers.
    NoDockerManifest,
    /// The tar has no end mark.
    NoEndMark,
    /// `index.json` lists something that is no image.
    ForeignRoot {
        /// What.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// Names are neither a tag nor a reference.
    InvalidNames {
        /// How many.
        count: usize,
        /// The first ten, each once.
        names: Vec<String>,
    },
    /// Files below `blobs/` are not named by a digest.
    StrayBlobs {
        /// How many.
        count: usize,
        /// The first ten.
        names: Vec<String>,
    },
    /// Blobs that nothing refers to; only their digests were checked.
    Unreferenced {
        /// How many.
        count: usize,
        /// Their bytes together.
        bytes: u64,
        /// The first ten.
        blobs: Vec<Digest>,
    },
    /// The tag and the full name of an image have different tags.
    NamesDisagree {
        /// The tag, from `org.opencontainers.image.ref.name`.
        tag: String,
        /// The full name, from `io.containerd.image.name`.
        name: String,
    },
    /// docker cannot read `manifest.json`.
    UnreadableDockerManifest {
        /// Why.
        reason: String,
    },
    /// Facts that do not agree with each other or with a specification, but that no two readers read as two images.
    Inconsistent {
        /// The document.
        blob: Digest,
        /// The rule.
        fact: &'static str,
        /// What was found.
        detail: String,
    },
    /// The store holds some images of an index only.
    PlatformsAbsent {
        /// How many are not there.
        count: usize,
        /// The platforms of the first ten.
        platforms: Vec<String>,
    },
    /// Non-distributable layers are left out.
    NonDistributableAbsent {
        /// How many.
        count: usize,
        /// The first ten.
        blobs: Vec<Digest>,
    },
}

/// Longest list in a warning.
const NAMED: usize = 10;

pub(super) fn about(store: &Store, unreferenced: &BTreeSet<Digest>, absent: &[Digest]) -> Vec<Advice> {
    let mut advice = Vec::new();
    let is_layout = matches!(store.kind(), StoreKind::OciLayoutTar | StoreKind::OciLayoutDirectory);
    if is_layout || store.kind() == StoreKind::DockerArchive {
        let nameless = store.roots().iter().filter(|root| root.image.names.is_empty());
        advice.extend(nameless.map(|root| Advice::NoName { digest: root.image.descriptor.digest.clone() }));
    }
    if is_layout {
        for root in store.roots() {
            for name in &root.image.names {
                if let (Some(tag), Some(name)) = (&name.tag, &name.reference)
                    && name.tag.as_ref().is_some_and(|own| own != tag)
                {
                    advice.push(Advice::NamesDisagree { tag: tag.to_string(), name: name.to_string() });
                }
            }
            for name in root.image.names.iter().filter(|name| name.reference.is_none()) {
                let tag = name.tag.as_ref().map(ToString::to_string).unwrap_or_default();
                // A signature has no other name, and no reader loads it.
                if cosign_subject(&tag).is_some() {
                    continue;
                }
                advice.push(Advice::BareTag { tag });
            }
        }
        if store.roots().len() > 1 {
            advice.push(Advice::SeveralImages { count: store.roots().len() });
        }
    }
    let mut stray = Vec::new();
    for remark in store.remarks() {
        match remark {
            Remark::Wrapped(Compression::Zstd) => advice.push(Advice::Wrapped { compression: "zstd" }),
            Remark::Wrapped(_) => advice.push(Advice::Wrapped { compression: "gzip" }),
            Remark::NoEndMark => advice.push(Advice::NoEndMark),
            Remark::NoDockerManifest => advice.push(Advice::NoDockerManifest),
            Remark::ForeignRoot(descriptor) => advice.push(Advice::ForeignRoot {
                digest: descriptor.digest.clone(),
                media_type: descriptor.media_type.clone(),
            }),
            Remark::EntryTwice(digest) => advice.push(Advice::Inconsistent {
                blob: digest.clone(),
                fact: "entry-twice",
                detail: format!("`index.json` lists `{digest}` twice"),
            }),
            Remark::InvalidNames { count, names } => {
                advice.push(Advice::InvalidNames { count: *count, names: names.clone() });
            }
            Remark::StrayBlob(name) => stray.push(name.clone()),
            Remark::UnreadableDockerManifest(reason) => {
                advice.push(Advice::UnreadableDockerManifest { reason: reason.clone() });
            }
            // Those are problems.
            Remark::Contradiction { .. } => {}
        }
    }
    if !stray.is_empty() {
        let count = stray.len();
        stray.truncate(NAMED);
        advice.push(Advice::StrayBlobs { count, names: stray });
    }
    if !unreferenced.is_empty() {
        advice.push(Advice::Unreferenced {
            count: unreferenced.len(),
            bytes: unreferenced.iter().filter_map(|digest| store.blob_size(digest)).sum(),
            blobs: unreferenced.iter().take(NAMED).cloned().collect(),
        });
    }
    if !absent.is_empty() {
        let blobs = absent.iter().take(NAMED).cloned().collect();
        advice.push(Advice::NonDistributableAbsent { count: absent.len(), blobs });
    }
    advice
}

impl Advice {
    /// Makes the warning about images that are not in the store, if there are any.
    pub(super) fn of_sparse(mut platforms: Vec<String>) -> Option<Self> {
        let count = platforms.len();
        platforms.truncate(NAMED);
        (count > 0).then_some(Self::PlatformsAbsent { count, platforms })
    }

    /// Returns in a few words what some readers refuse; `docs/formats/consumers.md` says more.
    #[must_use]
    pub fn short(&self) -> String {
        match self {
            Self::BareTag { .. } => "a name that is only a tag".to_owned(),
            Self::NoName { .. } => "an image without a name".to_owned(),
            Self::Wrapped { compression } => format!("a tar that {compression} compressed as a whole"),
            Self::SeveralImages { count } => format!("{count} images side by side"),
            Self::NoDockerManifest => "no `manifest.json`".to_owned(),
            Self::UnreadableDockerManifest { .. } => "a `manifest.json` of another form".to_owned(),
            Self::NamesDisagree { .. } => "two names that differ".to_owned(),
            other => other.to_string(),
        }
    }

    /// Returns the readers that refuse such a store, or read something else from it.
    #[must_use]
    pub fn readers(&self) -> &'static [&'static str] {
        match self {
            Self::BareTag { .. } => &["docker", "podman"],
            Self::NoName { .. } | Self::Wrapped { .. } => &["containerd"],
            Self::SeveralImages { .. } => &["docker", "podman", "skopeo"],
            Self::PlatformsAbsent { .. } => &["podman", "skopeo"],
            Self::NoDockerManifest | Self::UnreadableDockerManifest { .. } => &["docker"],
            Self::NamesDisagree { .. } => &["podman", "containerd"],
            Self::NoEndMark
            | Self::ForeignRoot { .. }
            | Self::Inconsistent { .. }
            | Self::InvalidNames { .. }
            | Self::StrayBlobs { .. }
            | Self::Unreferenced { .. }
            | Self::NonDistributableAbsent { .. } => &[],
        }
    }
}

/// Serialises warnings with the readers that they concern and the text for users.
pub(super) fn told<S: Serializer>(warnings: &[Advice], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Told<'a> {
        #[serde(flatten)]
        advice: &'a Advice,
        readers: &'static [&'static str],
        text: String,
    }
    let told =
        warnings.iter().map(|advice| Told { advice, readers: advice.readers(), text: advice.to_string() });
    serializer.collect_seq(told)
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareTag { tag } => write!(
                f,
                "the only name of an image is the tag `{tag}`: docker with the containerd store loads it under a \
                 name it cannot use, podman calls it `localhost/{tag}`"
            ),
            Self::NoName { digest } => {
                write!(f, "image `{digest}` has no name: `ctr images import` (containerd) imports nothing")
            }
            Self::Wrapped { compression } => write!(
                f,
                "the tar is {compression}-compressed as a whole: containerd 1.6 and 1.7 refuse it, \
                 and its layers are compressed already"
            ),
            Self::SeveralImages { count } => write!(
                f,
                "`index.json` lists {count} images side by side: podman and skopeo refuse `oci-archive:` with more \
                 than one image, docker names only the first"
            ),
            Self::NoDockerManifest => write!(
                f,
                "there is no `manifest.json`: `docker load` before version 25, and later without the containerd \
                 store, refuses the tar"
            ),
            Self::NoEndMark => write!(f, "the tar has no end mark; it may have been cut between two entries"),
            Self::ForeignRoot { digest, media_type } => {
                write!(
                    f,
                    "`index.json` lists `{digest}` of type `{}`, which is no image",
                    media_type.escape_debug()
                )
            }
            Self::InvalidNames { count: 1, names } => {
                write!(f, "the name {} is neither a tag nor a reference", quoted_list(names))
            }
            Self::InvalidNames { count, names } => {
                write!(f, "{count} names are neither a tag nor a reference: {}", quoted_list(names))
            }
            Self::NamesDisagree { tag, name } => write!(
                f,
                "an image is named `{tag}` and `{name}`: podman and skopeo use the first, containerd the second"
            ),
            Self::UnreadableDockerManifest { reason } => {
                write!(f, "docker cannot read `manifest.json`: {reason}")
            }
            Self::Inconsistent { detail, .. } => f.write_str(detail),
            Self::StrayBlobs { count, names } => {
                write!(f, "{count} files below `blobs/` are not named by a digest: {}", names.join(", "))
            }
            Self::Unreferenced { count, bytes, .. } => {
                write!(f, "nothing refers to {count} of the blobs ({bytes} bytes)")
            }
            Self::PlatformsAbsent { count, platforms } => write!(
                f,
                "{count} images that an index lists are not in the tar, others of it are: {}",
                quoted_list(platforms)
            ),
            Self::NonDistributableAbsent { count, .. } => {
                write!(f, "{count} non-distributable layers are not in the archive")
            }
        }
    }
}
