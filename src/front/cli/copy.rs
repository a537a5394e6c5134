//! `copy`: copies images, and bundles with all images they name, from any source to any sink, byte for byte.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use super::args::CopyArgs;
use super::open_source::{Depth, OpenedSource};
use super::push::LOCK_MODE;
use super::resolve::{self, CopyOptions, Sink, TarTarget};
use super::stores::open_oci;
use super::tar_output::{layout_target, send_to_stdout};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::main_image::main_member;
use crate::front::outcome::{ImageKind, ImageOutcome, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::result_file;
use crate::lock::{BundleLock, ImagesLock, LockedImage};
use crate::model::{Digest, Platform, Repository, Tag};
use crate::store::{ImageName, NamedImage};
use crate::stream::AtomicFile;
use crate::transfer::events::{Event, Observer, Warning};
use crate::transfer::{
    self, ArchiveRequest, Collection, CollectionRequest, CombinedSource, DefaultTags, Graph, ImageLocator,
    ImageSource, LayoutRequest, Member, PushRequest, ResumeCache, Role,
};

pub(in crate::front) fn run(context: &Context<'_>, args: &CopyArgs) -> Result<Outcome, Failure> {
    let options = resolve::copy(args, context.env)?;
    let target = match &options.sink {
        Sink::OciTar(target) | Sink::ImgpkgTar(target) | Sink::DockerTar(target) => Some(target),
        Sink::Registry { .. } => None,
    };
    target.map_or(Ok(()), TarTarget::check)?;
    let remote =
        options.inflate || options.include_non_distributable || matches!(options.sink, Sink::Registry { .. });
    result_file::produce(&options.results, target.map(TarTarget::path), || {
        let opened = OpenedSource::open(context, &options.source, &options.registry, remote)?;
        let wording = match &options.sink {
            Sink::Registry { .. } => Wording::Uploaded,
            _ => Wording::Written,
        };
        opened.with(|locator| {
            reporter::watch(&context.ui, wording, |observer| {
                let copy = Copy { context, options: &options, opened: &opened, locator, observer };
                copy.run()
            })
        })
    })
}

#[derive(Clone)]
struct Copy<'a> {
    context: &'a Context<'a>,
    options: &'a CopyOptions,
    opened: &'a OpenedSource,
    locator: &'a ImageLocator<'a>,
    observer: &'a dyn Observer,
}

impl Copy<'_> {
    fn run(&self) -> Result<ImageOutcome, Failure> {
        let options = self.options;
        let depth = Depth {
            thick: !options.thin,
            inflate: options.inflate,
            attached: options.attached,
            bundles_as_images: false,
        };
        let collection = self.opened.gather(self.locator, depth, &options.registry, self.observer)?;
        let exactly = options.expected_digest.is_some();
        let main = main_member(&collection, &self.locator.label(), exactly)?.descriptor.digest.clone();
        transfer::check_expected(options.expected_digest.as_ref(), &main)?;
        self.warn_of_missing(&collection);
        self.remember_locations(&collection)?;
        match (options.platforms.as_slice(), &options.sink) {
            ([], _) | (_, Sink::DockerTar(_)) => self.write(collection, &main),
            (platforms, _) => self.write_platforms(&collection, &main, platforms),
        }
    }

    /// Writes an index, or an image, of some platforms of the one that was read.
    fn write_platforms(
        &self,
        collection: &Collection,
        main: &Digest,
        platforms: &[Platform],
    ) -> Result<ImageOutcome, Failure> {
        let roots: Vec<&Member> =
            collection.members.iter().filter(|member| member.role == Role::Root).collect();
        let [root] = roots.as_slice() else {
            let (label, found) = (self.locator.label(), roots.len());
            return Err(Failure::refused(message!(
                format!("`{label}` holds {found} images, and "),
                Flag::PLATFORM,
                " chooses platforms of one"
            )));
        };
        if root.bundle.is_some() {
            return Err(Failure::misuse(message!(Flag::PLATFORM, " cannot be used with a bundle"))
                .hint("a bundle has one platform; the images that it names keep all of theirs"));
        }
        let made = transfer::narrow_root(self.locator, collection, &root.descriptor, platforms)?;
        if made.root.digest == *main {
            return self.write(collection.clone(), main);
        }
        self.observer.event(Event::Warning(&Warning::IndexNarrowed {
            from: main.clone(),
            to: made.root.digest.clone(),
            left_behind: made.left_behind.len(),
        }));
        let source = CombinedSource::new(self.locator.label(), vec![self.locator]).with(made.document);
        let locator = ImageLocator::over(&source, self.locator.client());
        let narrowed = Member { descriptor: made.root.clone(), origin: None, ..(*root).clone() };
        let members = std::iter::once(narrowed).chain(made.attached).collect();
        let copy = Copy { locator: &locator, ..self.clone() };
        copy.write(Collection { members }, &made.root.digest)
    }

    fn write(&self, mut collection: Collection, main: &Digest) -> Result<ImageOutcome, Failure> {
        let options = self.options;
        match &options.sink {
            Sink::Registry { repository, tag } => {
                let roots = collection.members.iter().filter(|member| member.role == Role::Root).count();
                if tag.is_some() && roots > 1 {
                    let message = message!(
                        Flag::TO_REPO,
                        format!(" has a tag, but `{}` holds {roots} images", self.locator.label())
                    );
                    return Err(
                        Failure::misuse(message).hint("leave the tag out: the recorded tags are kept")
                    );
                }
                for member in collection.members.iter_mut().filter(|member| member.descriptor.digest == *main)
                {
                    name_at_registry(member, repository, tag.as_ref(), &options.tags);
                }
                self.to_registry(&collection, repository)?;
                if let Some(path) = &options.lock_output {
                    let lock = self.lock(&collection, repository)?;
                    AtomicFile::write_whole(path, lock.as_bytes(), LOCK_MODE)?;
                }
                self.outcome(&collection, main, Some(repository), None)
            }
            Sink::OciTar(target) | Sink::ImgpkgTar(target) | Sink::DockerTar(target) => {
                for member in collection.members.iter_mut().filter(|member| member.descriptor.digest == *main)
                {
                    name_further(member, &options.tags)?;
                }
                let spool = match &options.sink {
                    Sink::OciTar(_) => self.to_tar(&collection, target)?,
                    _ => self.to_archive(&collection, target, main)?,
                };
                if let Some(spool) = spool {
                    send_to_stdout(spool)?;
                }
                self.outcome(&collection, main, None, Some(target.path()))
            }
        }
    }

    /// A tar may hold a bundle alone; its images are then wherever its lock file says.
    fn warn_of_missing(&self, collection: &Collection) {
        if self.options.thin {
            return;
        }
        let images: Vec<String> = collection.missing().iter().map(ToString::to_string).collect();
        if !images.is_empty() {
            self.observer.event(Event::Warning(&Warning::ImagesMissing { images }));
        }
    }

    /// Remembers where a tar's images came from: layers that may not be distributed may be missing in the tar only.
    fn remember_locations(&self, collection: &Collection) -> Result<(), Failure> {
        if !self.options.include_non_distributable || !self.opened.is_store() {
            return Ok(());
        }
        for member in &collection.members {
            let named = || member.names.iter().find_map(|name| name.reference.clone());
            let Some(origin) = member.origin.clone().or_else(named) else { continue };
            let mut blobs = Graph::of(self.locator, &member.descriptor)?.blobs;
            blobs.retain(|blob| blob.is_non_distributable() && !self.locator.holds(&blob.digest));
            self.locator.remember_location(&origin, &blobs);
        }
        Ok(())
    }

    fn to_registry(&self, collection: &Collection, repository: &Repository) -> Result<(), Failure> {
        let client = self.opened.client()?;
        let concurrency = self.options.registry.concurrency;
        let include_non_distributable = self.options.include_non_distributable;
        let as_imgpkg = !self.opened.is_store() || self.opened.is_imgpkg_tar() || collection.has_bundles();
        if !as_imgpkg && !self.options.repo_based_tags {
            // Plain images from elsewhere get the tags they have, and nothing of Carvel's. Signatures come before
            // the image has a tag, so that a reader who finds the image finds them.
            let (attached, images): (Vec<&Member>, Vec<&Member>) =
                collection.members.iter().partition(|member| member.role == Role::Attached);
            for image in images.iter().filter(|image| self.opened.is_store() && image.tags().is_empty()) {
                let digest = image.descriptor.digest.clone();
                self.observer.event(Event::Warning(&Warning::PushedWithoutTag { digest }));
            }
            let roots =
                attached.into_iter().chain(images).map(|member| (member.descriptor.clone(), member.tags()));
            let request = PushRequest {
                repository: repository.clone(),
                roots: roots.collect(),
                sent: BTreeSet::new(),
                concurrency,
                include_non_distributable,
            };
            transfer::push_to_registry(self.locator, client, &request, self.observer)?;
            return Ok(());
        }
        let default_tags = match self.options.repo_based_tags {
            true => DefaultTags::ByRepository,
            false => DefaultTags::ByDigest,
        };
        let request = CollectionRequest {
            repository: repository.clone(),
            default_tags,
            concurrency,
            include_non_distributable,
        };
        transfer::push_collection(self.locator, client, collection, &request, self.observer)?;
        Ok(())
    }

    fn to_tar(&self, collection: &Collection, target: &TarTarget) -> Result<Option<File>, Failure> {
        let request = LayoutRequest {
            target: layout_target(self.context, target),
            roots: collection.named(),
            concurrency: self.options.registry.concurrency,
            include_non_distributable: self.options.include_non_distributable,
        };
        let existing = match (self.options.append, target) {
            (true, TarTarget::File(path)) if path.exists() => Some(open_oci(self.context, path)?),
            _ => None,
        };
        let Some(existing) = existing else {
            return self.write_layout(self.locator, &request, target);
        };
        let both = CombinedSource::new(self.locator.label(), vec![&existing, self.locator]);
        let new = collection.named_with_origins();
        let roots = appended(existing.roots().iter().map(|root| root.image.clone()).collect(), new)?;
        self.write_layout(&both, &LayoutRequest { roots, ..request }, target)
    }

    fn write_layout(
        &self,
        source: &dyn ImageSource,
        request: &LayoutRequest,
        target: &TarTarget,
    ) -> Result<Option<File>, Failure> {
        if !self.options.resume {
            return Ok(transfer::copy_to_layout(source, request, self.observer)?.spool);
        }
        let cache = ResumeCache::beside(target.path(), source)?;
        let report = transfer::copy_to_layout(&cache, request, self.observer)?;
        cache.remove()?;
        Ok(report.spool)
    }

    /// Writes an archive of another tool.
    fn to_archive(
        &self,
        collection: &Collection,
        target: &TarTarget,
        main: &Digest,
    ) -> Result<Option<File>, Failure> {
        let request = ArchiveRequest {
            target: layout_target(self.context, target),
            concurrency: self.options.registry.concurrency,
            include_non_distributable: self.options.include_non_distributable,
            platform: self.options.platforms.first().cloned(),
            resume: self.options.resume.then(|| target.path().to_owned()),
        };
        let written = match (&self.options.sink, collection.member(main)) {
            (Sink::DockerTar(_), Some(member)) => {
                let of_role = |attached: bool| {
                    collection
                        .members
                        .iter()
                        .filter(move |one| (one.role == Role::Attached) == attached)
                        .count()
                };
                let (images, attached) = (of_role(false), of_role(true));
                if images > 1 {
                    let message = format!("a docker tar holds one image, found {images}");
                    return Err(Failure::refused(message).hint(message!(
                        "use ",
                        Flag::TO_OCI_TAR,
                        ", or ",
                        Flag::THIN,
                        " for a bundle"
                    )));
                }
                if attached > 0 {
                    let warning = Warning::AttachedLeftOut { count: attached };
                    self.observer.event(Event::Warning(&warning));
                }
                transfer::copy_to_docker_tar(self.locator, member, &request, self.observer)?
            }
            _ => transfer::copy_to_imgpkg_tar(self.locator, collection, &request, self.observer)?,
        };
        Ok(written.spool)
    }

    /// Makes the lock with the new places: of the bundle, if the collection is about one, else of all images.
    fn lock(&self, collection: &Collection, repository: &Repository) -> Result<String, Failure> {
        if let Some(root) = collection.root_bundle() {
            let image = repository.with_digest(root.descriptor.digest.clone());
            return Ok(BundleLock { image, tag: root.tags().first().cloned() }.to_yaml());
        }
        if collection.has_bundles() {
            return Err(Failure::refused(format!(
                "`{}` holds several bundles, and `--lock-output` writes a lock for one",
                self.locator.label()
            ))
            .hint(message!("copy the bundle you want with ", Flag::BUNDLE.mention().short())));
        }
        let at = |image: &LockedImage| {
            let image_there = image.image.digest.clone().map(|digest| repository.with_digest(digest));
            LockedImage {
                image: image_there.unwrap_or_else(|| image.image.clone()),
                annotations: image.annotations.clone(),
            }
        };
        if let Some(lock) = self.opened.images_lock() {
            return Ok(ImagesLock { images: lock.images.iter().map(at).collect() }.to_yaml());
        }
        // Attached artifacts are copied with their image.
        let mut members: Vec<&Member> =
            collection.members.iter().filter(|member| member.role != Role::Attached).collect();
        members.sort_by_key(|member| member.label());
        let image = |member: &&Member| LockedImage {
            image: repository.with_digest(member.descriptor.digest.clone()),
            annotations: Default::default(),
        };
        Ok(ImagesLock { images: members.iter().map(image).collect() }.to_yaml())
    }

    fn outcome(
        &self,
        collection: &Collection,
        main: &Digest,
        repository: Option<&Repository>,
        path: Option<&Path>,
    ) -> Result<ImageOutcome, Failure> {
        let member = collection.member(main).ok_or(transfer::TransferError::Internal {
            what: "the image that a result is about is not among those copied",
        })?;
        let document = self.locator.read_document(&member.descriptor)?;
        let kind = match (document.manifest(), &member.bundle) {
            (None, _) => ImageKind::Index,
            (_, Some(_)) => ImageKind::Bundle,
            (_, None) => ImageKind::Image,
        };
        let graph = Graph::of_present(self.locator, &member.descriptor)?;
        Ok(ImageOutcome {
            kind,
            digest: main.clone(),
            media_type: document.media_type().to_owned(),
            size: graph.size(),
            layers: document.manifest().map(|manifest| manifest.layers.len()),
            platforms: transfer::platform_rows(&graph, main),
            repository: repository.cloned(),
            tags: member.tags(),
            path: path.map(Path::to_owned),
        })
    }
}

/// Adds roots to those a tar has; an image that is there already only gets its further names.
fn appended(mut roots: Vec<NamedImage>, new: Vec<NamedImage>) -> Result<Vec<NamedImage>, Failure> {
    for mut root in new {
        let taken = |name: &ImageName| {
            roots
                .iter()
                .any(|old| old.descriptor.digest != root.descriptor.digest && old.names.contains(name))
        };
        if let Some(name) = root.names.iter().find(|name| name.tag.is_some() && taken(name)) {
            let text = match (&name.reference, &name.tag) {
                (Some(reference), _) => reference.to_string(),
                (None, Some(tag)) => tag.to_string(),
                (None, None) => String::new(),
            };
            return Err(Failure::refused(format!(
                "the tar already has another image with the name `{text}`"
            ))
            .hint("name the new image by digest, or write a new tar"));
        }
        match roots.iter_mut().find(|old| old.descriptor.digest == root.descriptor.digest) {
            Some(old) => {
                root.names.retain(|name| !old.names.contains(name));
                old.names.append(&mut root.names);
            }
            None => roots.push(root),
        }
    }
    Ok(roots)
}

/// Gives an image the tags it is to have: the one asked for in place of the recorded ones, and further ones.
fn name_at_registry(member: &mut Member, repository: &Repository, tag: Option<&Tag>, further: &[Tag]) {
    if tag.is_some() {
        member.names.clear();
    }
    for tag in tag.into_iter().chain(further) {
        if !member.tags().contains(tag) {
            let reference = Some(repository.with_tag(tag.clone()));
            member.names.push(ImageName { tag: Some(tag.clone()), reference });
        }
    }
}

/// Gives an image in a tar the tags of `--tag` besides its own; they belong to the repository it has a name in.
fn name_further(member: &mut Member, tags: &[Tag]) -> Result<(), Failure> {
    let Some(tag) = tags.first() else { return Ok(()) };
    let repository =
        member.names.iter().find_map(|name| name.reference.as_ref()).map(|name| name.repository.clone());
    let Some(repository) = repository else {
        return Err(Failure::tag_without_repository(tag).hint(message!(
            "the image has no recorded name; give the tag when it is copied with ",
            Flag::TO_REPO
        )));
    };
    for tag in tags.iter().filter(|tag| !member.tags().contains(tag)).collect::<Vec<_>>() {
        let reference = Some(repository.with_tag(tag.clone()));
        member.names.push(ImageName { tag: Some(tag.clone()), reference });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Descriptor;

    fn image(content: &str, names: &[&str]) -> NamedImage {
        let descriptor = Descriptor::of_bytes("a/b", content.as_bytes());
        let names = names.iter().map(|name| ImageName::of(name.parse().unwrap())).collect();
        NamedImage { descriptor, names, origin: None }
    }

    fn member(names: &[&str]) -> Member {
        let NamedImage { descriptor, names, origin } = image("a", names);
        Member { descriptor, names, origin, role: Role::Root, bundle: None }
    }

    fn tags(words: &[&str]) -> Vec<Tag> {
        words.iter().map(|tag| tag.parse().unwrap()).collect()
    }

    #[test]
    fn append_adds_names_to_an_image_that_is_there_and_refuses_a_name_of_another() {
        let old = || vec![image("a", &["r.io/a:1"]), image("b", &["r.io/b:1"])];
        let roots = appended(old(), vec![image("a", &["r.io/a:1", "r.io/a:2"]), image("c", &[])]).unwrap();
        assert_eq!(roots, [image("a", &["r.io/a:1", "r.io/a:2"]), old()[1].clone(), image("c", &[])]);
        let failure = appended(old(), vec![image("c", &["r.io/b:1"])]).unwrap_err();
        assert_eq!(failure.message, "the tar already has another image with the name `r.io/b:1`");
    }

    #[test]
    fn a_tag_of_to_repo_replaces_the_recorded_ones_and_tag_adds_to_them() {
        let repository: Repository = "r.io/new".parse().unwrap();
        let named = |tag: &[&str], further: &[&str]| {
            let mut member = member(&["r.io/a:1"]);
            name_at_registry(&mut member, &repository, tags(tag).first(), &tags(further));
            member.tags()
        };
        assert_eq!(named(&[], &[]), tags(&["1"]));
        assert_eq!(named(&[], &["2", "1"]), tags(&["1", "2"]));
        assert_eq!(named(&["3"], &["2", "3"]), tags(&["3", "2"]));
    }

    #[test]
    fn tag_needs_a_recorded_name_in_a_tar() {
        let mut known = member(&["r.io/a:1"]);
        name_further(&mut known, &tags(&["2", "1"])).unwrap();
        assert_eq!(known.tags(), tags(&["1", "2"]));
        assert!(name_further(&mut member(&[]), &[]).is_ok());
        let failure = name_further(&mut member(&[]), &tags(&["2"])).unwrap_err();
        assert_eq!(failure.message, "tag `2` has no repository it could belong to");
    }
}
