//! Extracts an image into a folder: layers are verified, applied in order, and the folder appears when it is complete.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::model::{Config, Descriptor, Document, ImageManifest, Platform, RawDocument, limits, media_type};
use crate::registry::shown_url;
use crate::stream::{Overwrite, Published, StagedFolder};
use crate::tar::{Extractor, Ownership, Policy, StrayLinks, Summary};

use super::events::{Event, Observer, Warning};
use super::listed_platform::{own_platform, read_listed};
use super::unpacking::Layers;
use super::{ImageSource, TransferError};

/// How contents are pulled.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The folder that is to hold them.
    pub target: PathBuf,
    /// What to do with a folder that is not empty.
    pub overwrite: Overwrite,
    /// Which image of an index; `linux/amd64`, or the only one there is, when not given.
    pub platform: Option<Platform>,
    /// The umask, as a value.
    pub umask: u32,
    /// Only these paths and what is below them; everything when empty.
    pub include: Vec<Vec<u8>>,
    /// Most blobs moved at the same time; at most three layers at once are extracted.
    pub concurrency: usize,
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct PullReport {
    /// The manifest whose layers were extracted.
    pub manifest: RawDocument,
    /// Its configuration, if it is that of an image.
    pub config: Option<Config>,
    /// What was written.
    pub summary: Summary,
}

/// [`resolve_manifest`] returns manifests only.
pub(super) const NO_MANIFEST: TransferError =
    TransferError::Internal { what: "an index was resolved to a document that is no manifest" };

/// Finds the manifest that a root stands for: itself, or the image of an index that serves the platform.
///
/// Errors: [`TransferError::NoPlatform`]; [`TransferError::OtherPlatform`] for an image that is listed for a platform
/// which is not its configuration's.
/// Cost: reads the documents on the way, and the configuration of an image that is listed for a platform.
pub fn resolve_manifest(
    source: &dyn ImageSource,
    root: &Descriptor,
    platform: Option<&Platform>,
) -> Result<RawDocument, TransferError> {
    let (entry, document) = find_listed(source, root, platform)?;
    if let Some(manifest) = document.manifest().filter(|_| entry.platform.is_some()) {
        read_listed(source, &entry, manifest)?;
    }
    Ok(document)
}

/// As [`resolve_manifest`], without a look at the configuration: for what is only listed, and never taken.
pub fn find_manifest(
    source: &dyn ImageSource,
    root: &Descriptor,
    platform: Option<&Platform>,
) -> Result<RawDocument, TransferError> {
    Ok(find_listed(source, root, platform)?.1)
}

/// Returns a manifest and the entry that lists it.
fn find_listed(
    source: &dyn ImageSource,
    root: &Descriptor,
    platform: Option<&Platform>,
) -> Result<(Descriptor, RawDocument), TransferError> {
    let mut document = source.read_document(root)?;
    let mut entry = root.clone();
    for _ in 0..limits::NESTING {
        let Document::Index(index) = document.document() else { return Ok((entry, document)) };
        let wanted = platform.cloned().unwrap_or_else(Platform::linux_amd64);
        // Attestations sit in an index under the platform `unknown/unknown`.
        let is_image =
            |child: &&Descriptor| child.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
        let listed: Vec<&Descriptor> = index.manifests.iter().filter(is_image).collect();
        // docker and skopeo write tars with the images of some platforms only.
        let there: Vec<&Descriptor> =
            listed.iter().copied().filter(|child| !source.lacks(&child.digest)).collect();
        let mut images = if there.is_empty() { listed } else { there };
        let mut seen = HashSet::new();
        images.retain(|child| seen.insert(&child.digest));
        let serves = |child: &Descriptor| child.platform.as_ref().is_some_and(|has| has.serves(&wanted));
        let chosen = match (images.iter().find(|child| serves(child)), images.as_slice()) {
            (Some(chosen), _) => (*chosen).clone(),
            (None, [only]) if platform.is_none() || only.platform.is_none() => (*only).clone(),
            (None, _) => chosen_by_configuration(source, &images, wanted)?,
        };
        document = source.read_document(&chosen)?;
        entry = chosen;
    }
    let limit = limits::NESTING;
    Err(TransferError::TooMany {
        subject: format!("`{}`", source.label()),
        what: "levels of nested indexes",
        limit,
    })
}

/// Finds the image of a platform in an index whose entries need not say theirs: the member is optional.
///
/// Errors: [`TransferError::NoPlatform`], also for several images of the platform, which are then named by digest.
fn chosen_by_configuration(
    source: &dyn ImageSource,
    images: &[&Descriptor],
    wanted: Platform,
) -> Result<Descriptor, TransferError> {
    let mut platforms = Vec::with_capacity(images.len());
    for child in images {
        platforms.push(match &child.platform {
            Some(platform) => Some(platform.clone()),
            None => configured_platform(source, child)?,
        });
    }
    let serves = |platform: &Option<Platform>| platform.as_ref().is_some_and(|own| own.serves(&wanted));
    let fitting: Vec<_> = images.iter().zip(&platforms).filter(|(_, own)| serves(own)).collect();
    if let [(only, _)] = fitting.as_slice() {
        return Ok((**only).clone());
    }
    let show = |(child, own): (&&Descriptor, &Option<Platform>)| match own {
        Some(own) if fitting.is_empty() => own.to_string(),
        _ => child.digest.short(),
    };
    let has = images.iter().zip(&platforms).map(show).collect();
    Err(TransferError::NoPlatform { place: source.label(), wanted: Box::new(wanted), has })
}

fn configured_platform(
    source: &dyn ImageSource,
    image: &Descriptor,
) -> Result<Option<Platform>, TransferError> {
    if !image.is_manifest() {
        return Ok(None);
    }
    let document = source.read_document(image)?;
    let Some(manifest) = document.manifest() else { return Ok(None) };
    own_platform(source, manifest)
}

/// As [`resolve_manifest`], for a platform that was requested: an image alone has to be for it.
///
/// An image whose configuration names no platform, as imgpkg's, is for every one.
/// Errors: [`TransferError::NoPlatform`] for an image of another platform.
pub fn resolve_for(
    source: &dyn ImageSource,
    root: &Descriptor,
    platform: Option<&Platform>,
) -> Result<RawDocument, TransferError> {
    let (entry, document) = find_listed(source, root, platform)?;
    let Some(manifest) = document.manifest() else { return Ok(document) };
    let listed = entry.platform.as_ref().filter(|listed| listed.is_complete());
    if platform.is_none() && listed.is_none() {
        return Ok(document);
    }
    let own = read_listed(source, &entry, manifest)?.and_then(|config| config.platform());
    if let (Some(wanted), Some(has)) = (platform, listed.or(own.as_ref()))
        && !has.serves(wanted)
    {
        let (place, wanted, has) = (source.label(), Box::new(wanted.clone()), vec![has.to_string()]);
        return Err(TransferError::NoPlatform { place, wanted, has });
    }
    Ok(document)
}

/// Extracts an image into a folder; links that are absolute or lead out are created as they are.
///
/// Every layer's digest and size and its `diff_id` are verified before the folder appears under its name.
/// Errors: [`crate::stream::FileError::NotEmpty`]; after any error the target is as it was and nothing else is left.
pub fn pull_contents(
    source: &dyn ImageSource,
    root: &Descriptor,
    options: &PullRequest,
    observer: &dyn Observer,
) -> Result<PullReport, TransferError> {
    let policy = Policy {
        include: options.include.clone(),
        stray_links: StrayLinks::Keep,
        ..Policy::contents(options.umask)
    };
    pull(source, root, options, &policy, observer)
}

/// Extracts an image as the root file system of a container: owners, modes, times, links, pipes; no devices.
///
/// Everything else is as in [`pull_contents`]; the umask applies to the folder itself only.
pub fn pull_rootfs(
    source: &dyn ImageSource,
    root: &Descriptor,
    options: &PullRequest,
    ownership: Ownership,
    observer: &dyn Observer,
) -> Result<PullReport, TransferError> {
    let policy = Policy { include: options.include.clone(), ..Policy::rootfs(ownership) };
    pull(source, root, options, &policy, observer)
}

fn pull(
    source: &dyn ImageSource,
    root: &Descriptor,
    options: &PullRequest,
    policy: &Policy,
    observer: &dyn Observer,
) -> Result<PullReport, TransferError> {
    let manifest = resolve_manifest(source, root, options.platform.as_ref())?;
    pull_staged(source, manifest, options, policy, observer, &|_| Ok(()))
}

/// Extracts a manifest's layers into a folder; `more` runs before the folder appears under its name.
pub(super) fn pull_staged(
    source: &dyn ImageSource,
    manifest: RawDocument,
    options: &PullRequest,
    policy: &Policy,
    observer: &dyn Observer,
    more: &dyn Fn(&OwnedFd) -> Result<(), TransferError>,
) -> Result<PullReport, TransferError> {
    let document = manifest.manifest().cloned().ok_or(NO_MANIFEST)?;
    let attempt = || {
        let staging = StagedFolder::create(&options.target, options.overwrite, options.umask)?;
        let (summary, config) =
            extract(source, &document, staging.open()?, policy.clone(), options.concurrency, observer)?;
        if !summary.unmatched.is_empty() {
            return Err(TransferError::NotIncluded { place: source.label(), paths: summary.unmatched });
        }
        more(&staging.open()?)?;
        warn_of_left_behind(&staging.publish()?, observer);
        Ok((summary, config))
    };
    let (summary, config) = match attempt() {
        // A mismatch may be a fault of the network, so a registry is asked once more.
        Err(error) if error.is_mismatch() && source.repository_of(manifest.digest()).is_some() => attempt()?,
        result => result?,
    };
    Ok(PullReport { manifest, config, summary })
}

/// Sends a warning event for old content of a folder that could not be removed.
pub(super) fn warn_of_left_behind(published: &Published, observer: &dyn Observer) {
    if let Some(error) = &published.left_behind {
        observer.event(Event::Warning(&Warning::LeftBehind { problem: error.to_string() }));
    }
}

pub(super) fn extract(
    source: &dyn ImageSource,
    manifest: &ImageManifest,
    folder: OwnedFd,
    policy: Policy,
    concurrency: usize,
    observer: &dyn Observer,
) -> Result<(Summary, Option<Config>), TransferError> {
    let config = source.read_config(manifest)?;
    let diff_ids = config.as_ref().map(|config| config.rootfs.diff_ids.as_slice()).unwrap_or_default();
    if !diff_ids.is_empty() && diff_ids.len() != manifest.layers.len() {
        let (layers, diff_ids) = (manifest.layers.len(), diff_ids.len());
        return Err(TransferError::LayerCount { place: source.label(), layers, diff_ids });
    }
    if let Some(other) = manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type)) {
        let found = format!("its content has type `{}`", other.media_type);
        return Err(TransferError::NotAnImage { place: source.label(), found });
    }
    check_layers_held(source, &manifest.layers)?;
    let mut extractor = Extractor::new(folder, policy);
    observer.event(Event::Planned {
        blobs: manifest.layers.len() as u64,
        bytes: manifest.layers.iter().map(|layer| layer.size).sum(),
    });
    let layers = Layers { source, layers: &manifest.layers, diff_ids, concurrency, observer };
    layers.for_each(|tar| extractor.layer(tar, &mut |bytes| observer.event(Event::Extracted { bytes })))?;
    let last = manifest.layers.last().unwrap_or(&manifest.config);
    let finished =
        extractor.finish().map_err(|source| TransferError::Extract { layer: last.digest.clone(), source });
    Ok((finished?, config))
}

/// Checks that none of the layers was left out of a tar because it may not be distributed.
///
/// Errors: [`TransferError::NonDistributableLeftOut`].
pub(super) fn check_layers_held(
    source: &dyn ImageSource,
    layers: &[Descriptor],
) -> Result<(), TransferError> {
    let is_left_out = |layer: &&Descriptor| layer.is_non_distributable() && source.lacks(&layer.digest);
    match layers.iter().find(is_left_out) {
        None => Ok(()),
        Some(layer) => Err(TransferError::NonDistributableLeftOut {
            layer: layer.digest.clone(),
            place: source.place_of(&layer.digest),
            urls: layer.urls.iter().take(limits::LAYER_URLS).map(|url| shown_url(url)).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_memory::{InMemory, blob, image, index, with_config};
    use super::*;

    /// Resolves for a platform (empty for none) and returns the digest, or the platforms that there are.
    fn resolve(
        source: &InMemory,
        root: &RawDocument,
        platform: &str,
    ) -> Result<crate::model::Digest, Vec<String>> {
        let platform = (!platform.is_empty()).then(|| platform.parse().unwrap());
        match find_manifest(source, &root.descriptor(), platform.as_ref()) {
            Ok(document) => Ok(document.digest().clone()),
            Err(TransferError::NoPlatform { has, .. }) => Err(has),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_index_stands_for_its_image_of_the_platform() {
        let (amd, arm, statement) = (image(&["amd"]), image(&["arm"]), image(&["statement"]));
        let all = index(&[(&statement, "unknown/unknown"), (&arm, "linux/arm64"), (&amd, "linux/amd64")]);
        let source = InMemory::of(&[&amd, &arm, &statement, &all]);
        for (platform, expected) in [
            ("", Ok(amd.digest())),
            ("linux/amd64", Ok(amd.digest())),
            ("linux/arm64", Ok(arm.digest())),
            ("linux/s390x", Err(vec!["linux/arm64".to_owned(), "linux/amd64".to_owned()])),
        ] {
            assert_eq!(resolve(&source, &all, platform), expected.cloned(), "{platform}");
        }
        assert_eq!(resolve(&source, &arm, "linux/s390x"), Ok(arm.digest().clone()), "it is a manifest");
        let outer = index(&[(&all, "")]);
        let source = InMemory::of(&[&amd, &arm, &statement, &all, &outer]);
        assert_eq!(resolve(&source, &outer, "linux/arm64"), Ok(arm.digest().clone()));
    }

    #[test]
    fn a_lone_image_is_taken_unless_another_platform_was_asked_for() {
        let (arm, statement) = (image(&["arm"]), image(&["statement"]));
        let all = index(&[(&arm, "linux/arm64"), (&statement, "unknown/unknown")]);
        let source = InMemory::of(&[&arm, &statement, &all]);
        assert_eq!(resolve(&source, &all, ""), Ok(arm.digest().clone()));
        assert_eq!(resolve(&source, &all, "linux/amd64"), Err(vec!["linux/arm64".to_owned()]));
        let unnamed = index(&[(&arm, "")]);
        let source = InMemory::of(&[&arm, &unnamed]);
        assert_eq!(resolve(&source, &unnamed, "linux/amd64"), Ok(arm.digest().clone()));
    }

    #[test]
    fn images_that_the_source_lacks_are_not_chosen_while_it_has_others() {
        let (amd, arm) = (image(&["amd"]), image(&["arm"]));
        let all = index(&[(&amd, "linux/amd64"), (&arm, "linux/arm64")]);
        let source = InMemory::of(&[&arm, &all]);
        assert_eq!(resolve(&source, &all, ""), Ok(arm.digest().clone()));
        assert_eq!(resolve(&source, &all, "linux/amd64"), Err(vec!["linux/arm64".to_owned()]));
    }

    #[test]
    fn a_platform_that_was_asked_for_is_that_of_the_configuration() {
        let configured = |os: &str, architecture: &str| {
            let text = format!(
                r#"{{"os":"{os}","architecture":"{architecture}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#
            );
            let config = blob(media_type::OCI_CONFIG, text.as_bytes());
            (with_config(&config.0, &[]), config)
        };
        let [amd, unsaid] = [configured("linux", "amd64"), configured("", "")];
        let right = index(&[(&amd.0, "linux/amd64"), (&unsaid.0, "linux/arm64")]);
        let wrong = index(&[(&amd.0, "linux/arm64"), (&unsaid.0, "linux/s390x")]);
        let without = index(&[(&amd.0, "")]);
        let source = InMemory {
            blobs: vec![amd.1, unsaid.1],
            ..InMemory::of(&[&amd.0, &unsaid.0, &right, &wrong, &without])
        };
        for (root, platform, expected) in [
            (&right, "linux/amd64", Ok(&amd.0)),
            (&right, "linux/arm64", Ok(&unsaid.0)),
            (
                &wrong,
                "linux/arm64",
                Err("is listed for `linux/arm64`, but its configuration says `linux/amd64`"),
            ),
            (&wrong, "linux/s390x", Ok(&unsaid.0)),
            (&amd.0, "linux/amd64", Ok(&amd.0)),
            (&amd.0, "linux/arm64", Err("no image for `linux/arm64` in `memory`; it has `linux/amd64`")),
            (&without, "linux/arm64", Err("no image for `linux/arm64` in `memory`; it has `linux/amd64`")),
            (&unsaid.0, "linux/arm64", Ok(&unsaid.0)),
            (&amd.0, "", Ok(&amd.0)),
        ] {
            let platform = (!platform.is_empty()).then(|| platform.parse().unwrap());
            let found = resolve_for(&source, &root.descriptor(), platform.as_ref());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.digest(), expected.digest()),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, _) => panic!("{platform:?}: {found:?}"),
            }
        }
        // What a Concourse step is given: an image that is no index is taken.
        let arm = "linux/arm64".parse().unwrap();
        assert!(resolve_manifest(&source, &amd.0.descriptor(), Some(&arm)).is_ok());
        let error = resolve_manifest(&source, &wrong.descriptor(), Some(&arm)).unwrap_err();
        assert!(matches!(error, TransferError::OtherPlatform { .. }), "{error}");
        let listed = Descriptor { platform: Some(arm), ..amd.0.descriptor() };
        assert!(resolve_manifest(&source, &listed, None).is_err(), "an entry of `index.json`");
    }

    #[test]
    fn indexes_nested_too_deeply_are_refused() {
        let limit = limits::NESTING;
        let mut documents = vec![image(&["x"])];
        for _ in 0..=limit {
            let inner = documents.last().expect("at least the image");
            documents.push(index(&[(inner, "")]));
        }
        let source = InMemory { documents: documents.clone(), ..InMemory::default() };
        let error = resolve_manifest(&source, &documents[limit + 1].descriptor(), None).unwrap_err();
        assert!(matches!(error, TransferError::TooMany { .. }), "{error}");
        assert!(resolve_manifest(&source, &documents[limit - 1].descriptor(), None).is_ok());
    }
}
