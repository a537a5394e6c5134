//! What a new image starts from: nothing, each platform of a base, or an image that moves to another base.

use crate::model::{Config, Descriptor, Digest, Document, ImageManifest, Platform, limits, media_type};
use crate::pack::{IndexParts, Layered, MediaTypes, Start, rebase};
use crate::transfer::listed_platform::check_listed;
use crate::transfer::{AttachedCounts, ImageSource, TransferError};

/// An image in a tar or registry that is a base.
#[derive(Clone)]
pub struct BaseRoot<'a> {
    /// Where it is read from.
    pub source: &'a dyn ImageSource,
    /// Its manifest or index.
    pub root: Descriptor,
    /// Its name with the registry, for the annotation of the result.
    pub name: Option<String>,
    /// How many signatures and other referrers of it were found.
    pub attached: AttachedCounts,
}

impl std::fmt::Debug for BaseRoot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseRoot").field("root", &self.root).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What new images start from.
#[derive(Clone, Debug)]
pub enum RunnableOrigin<'a> {
    /// Nothing.
    Scratch,
    /// A base.
    Base(Box<BaseRoot<'a>>),
    /// An image whose base is replaced.
    Rebase {
        /// The image.
        image: Box<BaseRoot<'a>>,
        /// Its old base.
        old: Box<BaseRoot<'a>>,
        /// Its new base.
        new: Box<BaseRoot<'a>>,
    },
}

impl<'a> RunnableOrigin<'a> {
    /// Returns the base of the result, if there is one.
    #[must_use]
    pub fn base(&self) -> Option<&BaseRoot<'a>> {
        match self {
            Self::Scratch => None,
            Self::Base(base) => Some(base),
            Self::Rebase { new, .. } => Some(new),
        }
    }

    /// Returns the images from which blobs are taken.
    pub(super) fn sources(&self) -> Vec<&'a dyn ImageSource> {
        match self {
            Self::Scratch => Vec::new(),
            Self::Base(base) => vec![base.source],
            Self::Rebase { image, new, .. } => vec![image.source, new.source],
        }
    }
}

/// What the image of one platform starts from.
pub(super) struct PlatformStart {
    pub(super) platform: Platform,
    pub(super) start: Start,
}

/// The starts, and the platforms of the base that are left out because no files can be added to them.
#[derive(Default)]
pub(super) struct Starts {
    pub(super) images: Vec<PlatformStart>,
    pub(super) left_out: Vec<Platform>,
}

/// Finds what the images start from.
///
/// `wanted` are the requested platforms; if empty, all of the base, or one for scratch.
/// Errors: a platform that the base does not have; a base for Windows; a base that is no image.
pub(super) fn starts(
    origin: &RunnableOrigin<'_>,
    wanted: &[Platform],
    media_types: Option<MediaTypes>,
) -> Result<Starts, TransferError> {
    match origin {
        RunnableOrigin::Scratch => {
            let platforms = if wanted.is_empty() { vec![Platform::linux_amd64()] } else { wanted.to_vec() };
            let start = |platform: Platform| {
                let start = Start::scratch(&platform, media_types.unwrap_or_default());
                PlatformStart { platform, start }
            };
            Ok(Starts { images: platforms.into_iter().map(start).collect(), left_out: Vec::new() })
        }
        RunnableOrigin::Base(base) => {
            let starts = of_base(base, wanted)?;
            for image in &starts.images {
                check_media_types(image.start.media_types, media_types)?;
            }
            Ok(starts)
        }
        RunnableOrigin::Rebase { image, old, new } => {
            let mut starts = of_base(image, wanted)?;
            for PlatformStart { platform, start } in &mut starts.images {
                let on = std::slice::from_ref(&*platform);
                let [old, new] = [only(of_base(old, on)?, old)?, only(of_base(new, on)?, new)?];
                check_media_types(new.media_types, Some(start.media_types))?;
                check_media_types(new.media_types, media_types)?;
                let rebased = rebase(layered(start), layered(&old), layered(&new), start.media_types);
                *start = rebased.map_err(|error| TransferError::Rebase {
                    place: image.source.label(),
                    source: Box::new(error),
                })?;
            }
            Ok(starts)
        }
    }
}

fn layered(start: &Start) -> Layered<'_> {
    Layered { config: &start.config, layers: &start.layers }
}

fn only(starts: Starts, base: &BaseRoot<'_>) -> Result<Start, TransferError> {
    let none = || no_base(base, "it has no image for the platform".to_owned());
    starts.images.into_iter().next().map(|image| image.start).ok_or_else(none)
}

fn no_base(base: &BaseRoot<'_>, problem: String) -> TransferError {
    TransferError::NoBase { place: base.source.label(), problem }
}

fn check_media_types(found: MediaTypes, asked: Option<MediaTypes>) -> Result<(), TransferError> {
    match asked {
        Some(asked) if asked != found => {
            Err(TransferError::MediaTypesOfBase { found: found.name(), asked: asked.name() })
        }
        _ => Ok(()),
    }
}

/// A manifest of a base with the platform that the index gives it.
type Listed = (Descriptor, Option<Platform>);

fn of_base(base: &BaseRoot<'_>, wanted: &[Platform]) -> Result<Starts, TransferError> {
    let mut listed = Vec::new();
    list(base, &base.root, 0, &mut listed)?;
    let mut starts = Starts::default();
    let mut has = Vec::new();
    for (descriptor, platform) in &listed {
        let document = base.source.read_document(descriptor)?;
        let Some(manifest) = document.manifest() else { continue };
        let (config, bytes) = read_config(base, manifest, &document.digest().clone())?;
        let platform = platform.clone().filter(Platform::is_complete).or_else(|| config.platform());
        let platform = platform.unwrap_or_else(Platform::linux_amd64);
        has.push(platform.clone());
        if !wanted.is_empty() && !wanted.iter().any(|wanted| platform.serves(wanted)) {
            continue;
        }
        if platform.os == "windows" {
            if listed.len() == 1 || !wanted.is_empty() {
                let problem = "it is for Windows, whose layers have another form";
                return Err(no_base(base, problem.to_owned()));
            }
            starts.left_out.push(platform);
            continue;
        }
        check_listed(base.source, descriptor, &config.stated_platform())?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(TransferError::LayerCount { place: base.source.label(), layers, diff_ids });
        }
        let is_docker = document.media_type() == media_type::DOCKER_MANIFEST;
        let media_types = if is_docker { MediaTypes::Docker } else { MediaTypes::Oci };
        let start = Start { config: bytes, layers: manifest.layers.clone(), media_types };
        starts.images.push(PlatformStart { platform, start });
    }
    let missing = wanted.iter().find(|wanted| !has.iter().any(|has| has.serves(wanted)));
    match missing.cloned().or_else(|| starts.images.is_empty().then(Platform::linux_amd64)) {
        None => Ok(starts),
        Some(wanted) => Err(TransferError::NoPlatform {
            place: base.source.label(),
            wanted: Box::new(wanted),
            has: has.iter().map(ToString::to_string).collect(),
        }),
    }
}

/// Lists the images below a root; flattens nested indexes, leaves out attestations.
fn list(
    base: &BaseRoot<'_>,
    descriptor: &Descriptor,
    depth: usize,
    found: &mut Vec<Listed>,
) -> Result<(), TransferError> {
    let (subject, what) = (format!("`{}`", base.source.label()), "levels of nested indexes");
    if depth > limits::NESTING {
        return Err(TransferError::TooMany { subject, what, limit: limits::NESTING });
    }
    let document = base.source.read_document(descriptor)?;
    let Document::Index(index) = document.document() else {
        found.push((descriptor.clone(), descriptor.platform.clone()));
        return Ok(());
    };
    if found.len() + index.manifests.len() > limits::DOCUMENTS {
        return Err(TransferError::TooMany { subject, what: "images", limit: limits::DOCUMENTS });
    }
    for child in IndexParts::of(index).images {
        let is_unknown = child.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        if !is_unknown && (child.is_index() || child.is_manifest()) {
            list(base, child, depth + 1, found)?;
        }
    }
    Ok(())
}

fn read_config(
    base: &BaseRoot<'_>,
    manifest: &ImageManifest,
    digest: &Digest,
) -> Result<(Config, Vec<u8>), TransferError> {
    if !media_type::is_runnable_config(&manifest.config.media_type) {
        let problem = format!(
            "`{digest}` has a configuration of type `{}`, so it is no image",
            manifest.config.media_type
        );
        return Err(no_base(base, problem));
    }
    let bytes = base.source.read_config_bytes(&manifest.config)?;
    let config = Config::parse(&bytes).map_err(|source| TransferError::Config {
        place: base.source.label(),
        digest: manifest.config.digest.clone(),
        source,
    })?;
    Ok((config, bytes))
}
