//! `copy`: copies images, and bundles with all images they name, from any source to any sink, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use super::args::CopyArgs;
use super::copied_lock::lock_of;
use super::copy_to_store::ToStore;
use super::deltas::{Completion, refuse_incomplete};
use super::naming::{appended, name_at_registry, name_further};
use super::open_source::{Depth, OpenedSource};
use super::placing::Placing;
use super::push::LOCK_MODE;
use super::resolve::{self, CopyOptions, Sink, TarTarget};
use super::stores::{self, open_oci};
use super::tar_output::{layout_target, send_to_stdout};
use super::without::{layers_of_others, tell_left_out};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::keys;
use crate::front::main_image::choose_one;
use crate::front::outcome::{ImageKind, ImageOutcome, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::result_file;
use crate::front::verification;
use crate::lock::LockedImage;
use crate::model::{Descriptor, Digest, Platform, Reference, Repository};
use crate::stream::{AtomicFile, FileLock};
use crate::transfer::events::{Event, Observer, Warning};
use crate::transfer::signatures::{self, Trust};
use crate::transfer::{
    self, ArchiveRequest, AttachedCounts, Collection, CollectionRequest, CombinedSource, DefaultTags, Graph,
    ImageLocator, ImageSource, LayoutRequest, Member, PushRequest, ResumeCache, Role,
};

pub(in crate::front) fn run(context: &Context<'_>, args: &CopyArgs) -> Result<Outcome, Failure> {
    let options = resolve::copy(args, context.env)?;
    let target = match &options.sink {
        Sink::OciTar(target) | Sink::ImgpkgTar(target) | Sink::DockerTar(target) => Some(target),
        Sink::Registry { .. } | Sink::Store(_) => None,
    };
    target.map_or(Ok(()), TarTarget::check)?;
    let trust = keys::trust(Flag::VERIFY_KEY, &options.verify_keys, context.env)?;
    let remote =
        options.inflate || options.include_non_distributable || matches!(options.sink, Sink::Registry { .. });
    result_file::produce(&options.results, target.map(TarTarget::path), || {
        let _held = hold(context, &options, target)?;
        let opened = OpenedSource::open(context, &options.source, &options.registry, remote)?
            .complete(context, &options.bases, &options.registry)?
            .select_expected(options.select.as_ref(), options.expected_digest.as_ref())?;
        let wording = match &options.sink {
            Sink::Registry { .. } | Sink::Store(_) => Wording::Uploaded,
            _ => Wording::Written,
        };
        opened.with(|locator| {
            reporter::watch(&context.ui, wording, |observer| {
                let trust = trust.as_ref();
                let copy = Copy { context, options: &options, opened: &opened, locator, trust, observer };
                copy.run()
            })
        })
    })
}

/// Locks a tar from before it is read until it is replaced, so that two copies that add to it do not lose an image.
fn hold(
    context: &Context<'_>,
    options: &CopyOptions,
    target: Option<&TarTarget>,
) -> Result<Option<FileLock>, Failure> {
    let Some(TarTarget::File(path)) = target.filter(|_| options.append || options.resume) else {
        return Ok(None);
    };
    stores::hold(context, path)
}

#[derive(Clone)]
struct Copy<'a> {
    context: &'a Context<'a>,
    options: &'a CopyOptions,
    opened: &'a OpenedSource,
    locator: &'a ImageLocator<'a>,
    trust: Option<&'a Trust>,
    observer: &'a dyn Observer,
}

impl Copy<'_> {
    fn run(&self) -> Result<ImageOutcome, Failure> {
        let options = self.options;
        let depth = Depth {
            thick: !options.thin,
            inflate: options.inflate,
            attached: verification::attached(options.attached, self.trust),
            bundles_as_images: false,
        };
        let collection = self.opened.gather(self.locator, depth, &options.registry, self.observer)?;
        let exactly = options.expected_digest.is_some();
        let main = self.opened.main_member(&collection, self.locator, exactly)?.descriptor.digest.clone();
        transfer::check_expected(options.expected_digest.as_ref(), &main)?;
        verification::demand(self.locator, &collection, self.trust)?;
        self.warn_of_missing(&collection);
        self.remember_locations(&collection)?;
        match (options.platforms.as_slice(), &options.sink) {
            (platforms, Sink::DockerTar(_)) => self.write_for_docker(collection, &main, platforms.first()),
            ([], _) => self.write(collection, &main),
            (platforms, _) => self.write_platforms(&collection, &main, platforms),
        }
    }

    /// Writes the image of one platform into docker's tar, which holds one image; the result is about that image.
    fn write_for_docker(
        &self,
        mut collection: Collection,
        main: &Digest,
        platform: Option<&Platform>,
    ) -> Result<ImageOutcome, Failure> {
        let mut images = collection.members.iter_mut().filter(|member| member.role != Role::Attached);
        if let (Some(image), None) = (images.next(), images.next()) {
            let chosen = transfer::resolve_for(self.locator, &image.descriptor, platform)?;
            if chosen.digest() != main {
                let (from, to) = (main.clone(), chosen.digest().clone());
                self.observer.event(Event::Warning(&Warning::IndexNarrowed {
                    from,
                    to,
                    left_behind: AttachedCounts::default(),
                }));
                image.descriptor = chosen.descriptor();
            }
            return self.write(collection, chosen.digest());
        }
        let found = collection.members.iter().filter(|member| member.role != Role::Attached).count();
        Err(Failure::refused(format!("a docker tar holds one image, found {found}")).hint(message!(
            "use ",
            Flag::TO_OCI_TAR,
            ", or ",
            Flag::THIN,
            " for a bundle"
        )))
    }

    /// Writes some platforms of the source: an index, or one image.
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
            left_behind: made.left_behind,
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
                let placing = self.placing(&collection, repository)?;
                if tag.is_some() && roots > 1 {
                    let message = message!(
                        Flag::TO_REPO,
                        format!(" has a tag, but `{}` holds {roots} images", self.locator.label())
                    );
                    let failure =
                        Failure::misuse(message).hint("leave the tag out: the recorded tags are kept");
                    return Err(match self.opened.is_store() {
                        true => failure.hint(choose_one()),
                        false => failure,
                    });
                }
                for member in collection.members.iter_mut().filter(|member| member.descriptor.digest == *main)
                {
                    match placing {
                        Placing::Into(_) => {
                            name_at_registry(member, repository, tag.as_ref(), &options.tags);
                        }
                        Placing::Below(_) => name_further(member, &options.tags)?,
                    }
                }
                placing.refuse_shared_tags(&collection)?;
                self.to_registry(&collection, placing)?;
                if let Some(path) = &options.lock_output {
                    let lock = lock_of(self.opened, self.locator, &collection, placing)?;
                    AtomicFile::write_whole(path, lock.as_bytes(), LOCK_MODE)?;
                }
                let member = collection.member(main);
                let place = member.map(|member| placing.first(&collection, member)).transpose()?;
                self.outcome(&collection, main, place.as_ref(), None)
            }
            Sink::Store(store) => {
                let (context, source, lacking) = (self.context, self.locator, self.opened.lacking());
                let to = ToStore { context, source, store, options, lacking };
                let (stored, tags) = to.copy(&collection, main, self.observer)?;
                let outcome = self.outcome(&collection, main, None, None)?;
                Ok(ImageOutcome { tags, store: Some(stored), ..outcome })
            }
            Sink::OciTar(target) | Sink::ImgpkgTar(target) | Sink::DockerTar(target) => {
                for member in collection.members.iter_mut().filter(|member| member.descriptor.digest == *main)
                {
                    name_further(member, &options.tags)?;
                }
                refuse_incomplete(self.locator, &collection, &self.opened.lacking())?;
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

    /// A tar may hold only the bundle; its images are then at the references of its lock file.
    fn warn_of_missing(&self, collection: &Collection) {
        if self.options.thin {
            return;
        }
        let images: Vec<String> = collection.missing().iter().map(ToString::to_string).collect();
        if !images.is_empty() {
            self.observer.event(Event::Warning(&Warning::ImagesMissing { images }));
        }
    }

    /// Records the origins of a tar's images: the tar may lack non-distributable layers that the origin has.
    fn remember_locations(&self, collection: &Collection) -> Result<(), Failure> {
        if !self.options.include_non_distributable || !self.opened.is_store() {
            return Ok(());
        }
        Ok(self.locator.remember_missing(&collection.members)?)
    }

    /// containers/image compares the name in a signature with the name that the image is pulled by.
    fn warn_of_names(&self, collection: &Collection, repository: &Repository) {
        if !self.opened.is_store() {
            return;
        }
        // A later step reports a signature that cannot be read.
        for name in signatures::names(self.locator, collection).unwrap_or_default() {
            if name.parse::<Reference>().is_ok_and(|name| name.repository != *repository) {
                let to = repository.to_string();
                self.observer.event(Event::Warning(&Warning::SignedForOther { name, to }));
            }
        }
    }

    /// Returns the target of images at the registry.
    fn placing<'r>(
        &self,
        collection: &Collection,
        repository: &'r Repository,
    ) -> Result<Placing<'r>, Failure> {
        if !self.options.keep_names {
            return Ok(Placing::Into(repository));
        }
        if collection.has_bundles() {
            return Err(Failure::refused(message!(
                Flag::KEEP_NAMES,
                " cannot be used with a bundle, whose images are in the repository of the bundle"
            )));
        }
        Ok(Placing::Below(repository))
    }

    fn to_registry(&self, collection: &Collection, placing: Placing<'_>) -> Result<(), Failure> {
        let client = self.opened.client()?;
        let concurrency = self.options.registry.concurrency;
        let include_non_distributable = self.options.include_non_distributable;
        let as_imgpkg = !self.opened.is_store() || self.opened.is_imgpkg_tar() || collection.has_bundles();
        if let Placing::Into(repository) = placing {
            self.warn_of_names(collection, repository);
        }
        let repository = match placing {
            Placing::Into(repository) if as_imgpkg || self.options.repo_based_tags => repository,
            // Plain images from other tools keep their tags, and get no tags of imgpkg.
            _ => {
                let mut pushes = self.plain_pushes(collection, placing)?;
                let mut completion = Completion::new(self.locator, client, self.options, self.opened);
                for push in &mut pushes {
                    let images = push.roots.iter().chain(&push.attached).map(|(root, _)| root);
                    push.sent = completion.ask(&push.repository, &images.collect::<Vec<_>>())?;
                }
                completion.finish()?;
                for request in pushes {
                    transfer::push_to_registry(self.locator, client, &request, self.observer)?;
                }
                return Ok(());
            }
        };
        let default_tags = match (self.options.imgpkg_tags, self.options.repo_based_tags) {
            (false, _) => DefaultTags::None,
            (true, true) => DefaultTags::ByRepository,
            (true, false) => DefaultTags::ByDigest,
        };
        let mut completion = Completion::new(self.locator, client, self.options, self.opened);
        let images: Vec<&Descriptor> = collection.members.iter().map(|member| &member.descriptor).collect();
        let present = completion.ask(repository, &images)?;
        completion.finish()?;
        let request = CollectionRequest {
            present,
            repository: repository.clone(),
            default_tags,
            concurrency,
            include_non_distributable,
        };
        transfer::push_collection(self.locator, client, collection, &request, self.observer)?;
        Ok(())
    }

    /// Makes one push for each repository, attached manifests first, and warns about images without a tag.
    fn plain_pushes(
        &self,
        collection: &Collection,
        placing: Placing<'_>,
    ) -> Result<Vec<PushRequest>, Failure> {
        let (attached, images): (Vec<&Member>, Vec<&Member>) =
            collection.members.iter().partition(|member| member.role == Role::Attached);
        let mut pushes: Vec<PushRequest> = Vec::new();
        for member in attached.into_iter().chain(images) {
            let places = placing.of(collection, member)?;
            let untagged = self.opened.is_store() && places.iter().all(|(_, tags)| tags.is_empty());
            if untagged && member.role != Role::Attached {
                let digest = member.descriptor.digest.clone();
                self.observer.event(Event::Warning(&Warning::PushedWithoutTag { digest }));
            }
            for (repository, tags) in places {
                let known = pushes.iter().position(|push| push.repository == repository);
                let known = known.unwrap_or_else(|| {
                    pushes.push(PushRequest {
                        repository,
                        roots: Vec::new(),
                        attached: Vec::new(),
                        sent: BTreeSet::new(),
                        concurrency: self.options.registry.concurrency,
                        include_non_distributable: self.options.include_non_distributable,
                    });
                    pushes.len() - 1
                });
                if let Some(push) = pushes.get_mut(known) {
                    let list =
                        if member.role == Role::Attached { &mut push.attached } else { &mut push.roots };
                    list.push((member.descriptor.clone(), tags));
                }
            }
        }
        Ok(pushes)
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
            let others =
                layers_of_others(self.context, self.options, self.locator, collection, self.observer)?;
            return self.write_layout(self.locator, &request, &others, target);
        };
        let both = CombinedSource::new(self.locator.label(), vec![&existing, self.locator]);
        let new = collection.named_with_origins();
        let roots = appended(existing.roots().iter().map(|root| root.image.clone()).collect(), new)?;
        // A delta tar stays one: what it was written without is on the other side.
        let others = existing.lacking().map(|blob| (blob.digest.clone(), blob.from.clone())).collect();
        self.write_layout(&both, &LayoutRequest { roots, ..request }, &others, target)
    }

    fn write_layout(
        &self,
        source: &dyn ImageSource,
        request: &LayoutRequest,
        others: &BTreeMap<Digest, String>,
        target: &TarTarget,
    ) -> Result<Option<File>, Failure> {
        let report = if self.options.resume {
            let cache = ResumeCache::beside(target.path(), source)?;
            let report = transfer::copy_delta_to_layout(&cache, request, others, self.observer)?;
            cache.remove()?;
            report
        } else {
            transfer::copy_delta_to_layout(source, request, others, self.observer)?
        };
        if !self.options.without.is_empty() {
            tell_left_out(self.context, &report.left_out, self.observer);
        }
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
            resume: self.options.resume.then(|| target.path().to_owned()),
        };
        let written = match (&self.options.sink, collection.member(main)) {
            (Sink::DockerTar(_), Some(member)) => {
                let attached = collection.members.iter().filter(|one| one.role == Role::Attached);
                let counts = signatures::count(self.locator, attached)?;
                if counts.total() > 0 {
                    self.observer.event(Event::Warning(&Warning::AttachedLeftOut { counts }));
                }
                transfer::copy_to_docker_tar(self.locator, member, &request, self.observer)?
            }
            _ => {
                let has_some = |member: &&Member| {
                    !LockedImage::read_annotations(&member.descriptor.annotations).is_empty()
                };
                let images = collection.members.iter().filter(has_some).count();
                if images > 0 {
                    self.observer.event(Event::Warning(&Warning::LockAnnotationsLost { images }));
                }
                transfer::copy_to_imgpkg_tar(self.locator, collection, &request, self.observer)?
            }
        };
        Ok(written.spool)
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
            store: None,
        })
    }
}
