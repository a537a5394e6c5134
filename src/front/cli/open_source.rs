//! Opens a command's source and gathers the images that belong to it.

use std::collections::BTreeMap;
use std::path::Path;

use super::resolve::{RegistryOptions, Source};
use super::stores::{
    about_version, complete, open_depot_image, open_oci, open_store, open_tar_url, read_lock,
};
use crate::depot::Version;
use crate::front::context::Context;
use crate::front::failure::{Failure, Kind, message};
use crate::front::flag::Flag;
use crate::front::main_image::{choose_one, main_member, stored_roots};
use crate::front::registries;
use crate::lock::{BundleLock, ImagesLock};
use crate::model::{Digest, Reference, Tag, Target};
use crate::registry::Client;
use crate::store::{ImageName, LeftOut, Root, Selector, Store, StoreKind};
use crate::transfer::events::Observer;
use crate::transfer::{
    self, Attached, Collection, Gathering, ImageLocator, ImageSource as _, Member, Role, TransferError,
};

/// An opened source; its images are not gathered yet.
pub(super) struct OpenedSource {
    wanted: Wanted,
    store: Option<Store>,
    /// The version of an image store's tag.
    version: Option<Version>,
    /// The selected image of a store, and what belongs to it.
    selected: Option<Vec<Root>>,
    client: Option<Client>,
}

/// The requested source.
enum Wanted {
    Bundle(Reference),
    Image(Reference),
    BundleLock(BundleLock),
    ImagesLock(ImagesLock),
    Store,
}

/// Which further images are gathered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    /// The images that bundles name, from registries.
    pub(super) thick: bool,
    /// Also for a tar: its images' origins may be asked.
    pub(super) inflate: bool,
    /// Manifests attached to each image.
    pub(super) attached: Attached,
    /// Accept a bundle for `--image`.
    pub(super) bundles_as_images: bool,
}

impl OpenedSource {
    /// Opens a source; `remote` tells whether registries are needed for anything.
    pub(super) fn open(
        context: &Context<'_>,
        source: &Source,
        registry: &RegistryOptions,
        remote: bool,
    ) -> Result<Self, Failure> {
        let (mut store, mut version) = (None, None);
        let wanted = match source {
            Source::Bundle(reference) => Wanted::Bundle(reference.clone()),
            Source::Image(reference) => Wanted::Image(reference.clone()),
            Source::Lock(path) => lock(path)?,
            Source::Tar(path) => {
                store = Some(open_store(context, path)?);
                Wanted::Store
            }
            Source::OciTar(path) => {
                store = Some(open_oci(context, path)?);
                Wanted::Store
            }
            Source::WebTar(url) => {
                store = Some(open_tar_url(context, url, registry)?);
                Wanted::Store
            }
            Source::Store(reference) => {
                let opened = open_depot_image(context, reference, registry)?;
                (store, version) = (Some(opened.store), opened.version);
                Wanted::Store
            }
        };
        let client = match remote || store.is_none() {
            true => Some(registries::client(registry, context.env, &context.ui)?),
            false => None,
        };
        Ok(Self { wanted, store, version, selected: None, client })
    }

    /// Reduces a store to the selected image and what belongs to it.
    pub(super) fn select(self, selector: Option<&Selector>) -> Result<Self, Failure> {
        self.select_expected(selector, None)
    }

    /// As [`OpenedSource::select`]; the digest that the image has to have may select it, too.
    pub(super) fn select_expected(
        mut self,
        selector: Option<&Selector>,
        expected: Option<&Digest>,
    ) -> Result<Self, Failure> {
        if let Some(store) = &self.store
            && let Some(selector) = transfer::selector_for(store, selector, expected)
        {
            self.selected = Some(transfer::select(store, &selector)?);
        }
        Ok(self)
    }

    /// Reads the blobs that a tar lacks from other sources.
    pub(super) fn complete(
        mut self,
        context: &Context<'_>,
        bases: &[Source],
        registry: &RegistryOptions,
    ) -> Result<Self, Failure> {
        match &mut self.store {
            Some(store) => complete(context, store, bases, registry).map(|()| self),
            None => Ok(self),
        }
    }

    /// Returns the blobs that a tar lacks and that none of its bases has.
    pub(super) fn lacking(&self) -> BTreeMap<Digest, &LeftOut> {
        let lacking = self.store.iter().flat_map(|store| store.lacking());
        lacking.map(|blob| (blob.digest.clone(), blob)).collect()
    }

    /// Chooses the main image; with `exactly` another one is an error.
    pub(super) fn main_member<'a>(
        &self,
        collection: &'a Collection,
        locator: &ImageLocator<'_>,
        exactly: bool,
    ) -> Result<&'a Member, Failure> {
        main_member(collection, &locator.label(), exactly).map_err(|failure| match self.is_store() {
            true => failure.hint(choose_one()),
            false => failure,
        })
    }

    /// Returns the client; it is there when the source was opened as remote or is a registry.
    pub(super) fn client(&self) -> Result<&Client, Failure> {
        let what = "a source without a registry was asked for its client";
        self.client.as_ref().ok_or_else(|| TransferError::Internal { what }.into())
    }

    /// Tells whether the source is a tar that imgpkg wrote.
    pub(super) fn is_imgpkg_tar(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.kind() == StoreKind::ImgpkgTar)
    }

    /// Tells whether the source is a tar or folder.
    pub(super) fn is_store(&self) -> bool {
        self.store.is_some()
    }

    /// Returns the ImagesLock, if the source is one.
    pub(super) fn images_lock(&self) -> Option<&ImagesLock> {
        match &self.wanted {
            Wanted::ImagesLock(lock) => Some(lock),
            _ => None,
        }
    }

    /// Returns the source as one place.
    pub(super) fn locator(&self) -> Result<ImageLocator<'_>, Failure> {
        match &self.store {
            Some(store) => Ok(ImageLocator::over(store, self.client.as_ref())),
            None => Ok(ImageLocator::remote(self.client()?)),
        }
    }

    /// Runs work with the source as one place.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&ImageLocator<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let locator = self.locator()?;
        work(&locator).map_err(|failure| match &self.version {
            Some(version) if failure.kind == Kind::Difference => about_version(failure, version),
            _ => failure,
        })
    }

    /// Gathers the images.
    ///
    /// Errors: a bundle for `--image`, an image for `--bundle`.
    pub(super) fn gather(
        &self,
        locator: &ImageLocator<'_>,
        depth: Depth,
        registry: &RegistryOptions,
        observer: &dyn Observer,
    ) -> Result<Collection, Failure> {
        let may_ask = !self.is_store() || depth.inflate;
        let names_others = !matches!(self.wanted, Wanted::Image(_) | Wanted::ImagesLock(_));
        let gathering = Gathering {
            thick: may_ask && names_others && (depth.thick || depth.inflate),
            attached: if may_ask { depth.attached } else { Attached::default() },
            concurrency: registry.concurrency,
        };
        let roots = self.roots(locator, registry.concurrency)?;
        let collection = transfer::gather(locator, roots, &gathering, observer)?;
        self.check_kinds(&collection, depth)?;
        Ok(collection)
    }

    fn roots(&self, locator: &ImageLocator<'_>, concurrency: usize) -> Result<Vec<Member>, Failure> {
        match &self.wanted {
            Wanted::Bundle(reference) | Wanted::Image(reference) => {
                Ok(vec![remote_root(locator, reference, reference.tag.clone())?])
            }
            Wanted::BundleLock(lock) => Ok(vec![remote_root(locator, &lock.image, lock.tag.clone())?]),
            Wanted::ImagesLock(lock) => {
                let root = |image: &crate::lock::LockedImage| {
                    let document = locator.fetch(&image.image.repository, &image.image.target())?;
                    let origin = Some(image.image.clone());
                    let (mut descriptor, names) = (document.descriptor(), Vec::new());
                    image.write_annotations(&mut descriptor.annotations);
                    Ok(Member { descriptor, names, origin, role: Role::Root, bundle: None })
                };
                let roots = transfer::parallel_map(&lock.images, concurrency, root)?;
                if roots.is_empty() {
                    return Err(Failure::refused(
                        "the ImagesLock names no image, so there is nothing to copy",
                    ));
                }
                Ok(roots)
            }
            Wanted::Store => {
                let all = self.store.as_ref().map(|store| store.roots());
                Ok(stored_roots(self.selected.as_deref().or(all).unwrap_or_default()))
            }
        }
    }

    fn check_kinds(&self, collection: &Collection, depth: Depth) -> Result<(), Failure> {
        let first = collection.members.first();
        let is_bundle = first.is_some_and(|member| member.bundle.is_some());
        let kind = match first.is_some_and(|member| member.descriptor.is_index()) {
            true => "an index",
            false => "a plain image",
        };
        match &self.wanted {
            Wanted::Bundle(reference) if !is_bundle => Err(Failure::refused(format!(
                "`{reference}` is {kind}, expected a bundle"
            ))
            .hint(message!("use ", Flag::IMAGE.kind(), " for images"))),
            Wanted::BundleLock(lock) if !is_bundle => {
                Err(Failure::refused(format!("`{}` is {kind}, expected a bundle", lock.image)))
            }
            Wanted::Image(reference) if is_bundle && !depth.bundles_as_images => Err(Failure::refused(
                format!("`{reference}` is a bundle, expected a plain image"),
            )
            .hint(message!(
                "use ",
                Flag::BUNDLE.kind(),
                " for bundles; with ",
                Flag::THIN,
                " without the images they name"
            ))),
            Wanted::ImagesLock(_) => match collection.members.iter().find(|member| member.bundle.is_some()) {
                Some(member) => Err(TransferError::BundleInLock { image: member.label() }.into()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Finds the requested image in its repository.
fn remote_root(
    locator: &ImageLocator<'_>,
    reference: &Reference,
    tag: Option<Tag>,
) -> Result<Member, TransferError> {
    let target = reference.target();
    let document = locator.fetch(&reference.repository, &target)?;
    // Without tag and digest `latest` was meant, and is kept.
    let tag = match target {
        Target::Tag(tag) => Some(tag),
        Target::Digest(_) => tag,
    };
    let digest = document.digest().clone();
    let name = match &tag {
        Some(tag) => reference.repository.with_tag(tag.clone()),
        None => reference.repository.with_digest(digest.clone()),
    };
    Ok(Member {
        descriptor: document.descriptor(),
        names: vec![ImageName { tag, reference: Some(name) }],
        origin: Some(reference.repository.with_digest(digest)),
        role: Role::Root,
        bundle: None,
    })
}

/// Reads a lock file of either kind.
fn lock(path: &Path) -> Result<Wanted, Failure> {
    let text = read_lock(path)?;
    let invalid = |kind: &str, error: &dyn std::fmt::Display| {
        Failure::misuse(format!("`{}` is not a valid {kind}: {error}", path.display()))
    };
    // Each kind's own parser explains best what is wrong with a file that says it is of that kind.
    if text.lines().any(|line| {
        line.split_once(':').is_some_and(|(key, value)| {
            key.trim() == "kind" && value.trim().trim_matches(['"', '\'']) == "ImagesLock"
        })
    }) {
        return ImagesLock::parse(&text)
            .map(Wanted::ImagesLock)
            .map_err(|error| invalid("ImagesLock", &error));
    }
    BundleLock::parse(&text).map(Wanted::BundleLock).map_err(|error| invalid("BundleLock", &error))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use testkit::scratch::Scratch;

    use super::*;
    use crate::front::cli::resolve;
    use crate::front::env::Env;
    use crate::front::ui::Settings;
    use crate::front::ui::tests::captured;
    use crate::pack::{ImageOptions, LayerOptions, MediaTypes, PackageChecks, Profile};
    use crate::serve::{Contents, Naming, Server, Service};
    use crate::store::layout::LayoutTarget;
    use crate::transfer::events::Silent;
    use crate::transfer::{PackRequest, pack_to_layout};

    const LOCK: &str = "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\n";

    /// A folder with `image.tar` (`team/app:v1`) and `bundle.tar` (`team/bundle:v1`).
    struct Room {
        scratch: Scratch,
        env: Env,
        image: Digest,
        bundle: Digest,
    }

    impl Room {
        fn new(name: &str) -> Self {
            let scratch = Scratch::new(name);
            scratch.write("app/a.txt", "a");
            scratch.write("config/.imgpkg/images.yml", LOCK);
            let pack = |folder: &str, profile, tar: &str, name: &str| {
                let request = PackRequest {
                    roots: vec![scratch.join(folder)],
                    profile: Some(profile),
                    layer: LayerOptions::default(),
                    image: ImageOptions {
                        media_types: MediaTypes::Oci,
                        platform: None,
                        labels: BTreeMap::new(),
                        annotations: BTreeMap::new(),
                    },
                    expected_digest: None,
                    package_checks: PackageChecks::Off,
                };
                let target = LayoutTarget::File(scratch.join(tar));
                let packed = pack_to_layout(&request, &target, &[name.parse().unwrap()], &Silent).unwrap();
                packed.manifest.digest().clone()
            };
            let image = pack("app", Profile::IMAGE, "image.tar", "reg.example/team/app:v1");
            let bundle = pack("config", Profile::BUNDLE, "bundle.tar", "reg.example/team/bundle:v1");
            Self { env: Env::default(), image, bundle, scratch }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.scratch.join(name)
        }

        fn open(&self, source: &Source, remote: bool) -> Result<OpenedSource, Failure> {
            let context = Context { env: &self.env, ui: Arc::new(captured(&Settings::default()).0) };
            OpenedSource::open(&context, source, &registry(), remote)
        }

        /// Gathers a source's images with a registry that serves both tars; each as `role digest names`.
        fn gathered(&self, source: impl Fn(&str) -> Source, depth: Depth) -> Result<Vec<String>, String> {
            let stores = ["image.tar", "bundle.tar"]
                .map(|tar| crate::store::open(&self.path(tar), self.scratch.path()).unwrap());
            let service = Service::new(Contents::of(stores.into(), &Naming::Recorded).unwrap(), None);
            let server = Server::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
            let host = server.address().to_string();
            std::thread::scope(|scope| {
                std::thread::Builder::new()
                    .spawn_scoped(scope, || server.run(&service, &|_| {}))
                    .expect("the test has threads");
                let found = self.gather(&source(&host), depth).map_err(|failure| said(&failure));
                server.stop();
                Ok(found?.into_iter().map(|line| line.replace(&host, "HOST")).collect())
            })
            .map_err(|error: String| error.replace(&host, "HOST"))
        }

        fn gather(&self, source: &Source, depth: Depth) -> Result<Vec<String>, Failure> {
            let opened = self.open(source, false)?;
            opened.with(|locator| {
                let collection = opened.gather(locator, depth, &registry(), &Silent)?;
                let line = |member: &Member| {
                    let names: Vec<String> = member
                        .names
                        .iter()
                        .map(|name| name.reference.as_ref().map(ToString::to_string).unwrap_or_default())
                        .collect();
                    let kind = if member.bundle.is_some() { "bundle" } else { "image" };
                    format!("{kind} {:?} {} {}", member.role, member.descriptor.digest, names.join(" "))
                };
                Ok(collection.members.iter().map(line).collect())
            })
        }
    }

    fn registry() -> RegistryOptions {
        resolve::registry(&resolve::tests::args(&["--registry-retry-count=1"])).unwrap()
    }

    /// Only the images themselves.
    fn alone() -> Depth {
        Depth { thick: false, inflate: false, attached: Attached::default(), bundles_as_images: false }
    }

    /// The message of a failure and its hints, as the command line shows them.
    fn said(failure: &Failure) -> String {
        failure.render(false)
    }

    #[test]
    fn a_tar_is_opened_without_a_registry_unless_one_is_needed() {
        let room = Room::new("open-tar");
        let tar = Source::Tar(room.path("image.tar"));
        let opened = room.open(&tar, false).unwrap();
        assert!(opened.is_store() && !opened.is_imgpkg_tar() && opened.images_lock().is_none());
        assert!(opened.client().is_err(), "no client is made");
        assert!(opened.lacking().is_empty());
        assert!(room.open(&tar, true).unwrap().client().is_ok());
        let members = room.gather(&tar, alone()).unwrap();
        assert_eq!(members, [format!("image Root {} reg.example/team/app:v1", room.image)]);
        assert!(room.open(&Source::Tar(room.path("gone.tar")), false).is_err());
        let text = room.scratch.write("text", "no archive");
        assert!(room.open(&Source::OciTar(text), false).is_err());
    }

    #[test]
    fn select_reduces_a_tar_to_one_image_or_says_what_it_holds() {
        let room = Room::new("open-select");
        let opened = || room.open(&Source::Tar(room.path("image.tar")), false).unwrap();
        for text in ["v1", "@0", "reg.example/team/app:v1", &room.image.to_string()] {
            let selected = opened().select(Some(&text.parse().unwrap())).unwrap();
            assert_eq!(selected.selected.unwrap()[0].image.descriptor.digest, room.image, "{text}");
        }
        assert!(opened().select(None).unwrap().selected.is_none());
        assert!(opened().select(Some(&"v2".parse().unwrap())).is_err());
        let expected = opened().select_expected(None, Some(&room.image)).unwrap();
        assert!(expected.selected.is_none(), "only a digest inside of a list of platforms selects");
    }

    #[test]
    fn a_reference_is_found_in_its_registry_and_keeps_its_tag() {
        let room = Room::new("open-reference");
        let image =
            |text: &'static str| move |host: &str| Source::Image(text.replace("HOST", host).parse().unwrap());
        let (id, name) = (&room.image, "HOST/team/app");
        assert_eq!(
            room.gathered(image("HOST/team/app:v1"), alone()).unwrap(),
            [format!("image Root {id} {name}:v1")]
        );
        let digest = id.to_string();
        let by_digest = |host: &str| Source::Image(format!("{host}/team/app@{digest}").parse().unwrap());
        assert_eq!(room.gathered(by_digest, alone()).unwrap(), [format!("image Root {id} {name}@{id}")]);
        let both = |host: &str| Source::Image(format!("{host}/team/app:v7@{digest}").parse().unwrap());
        assert_eq!(
            room.gathered(both, alone()).unwrap(),
            [format!("image Root {id} {name}:v7")],
            "the digest finds it, the tag is its name"
        );
        let error = room.gathered(image("HOST/team/app"), alone()).unwrap_err();
        assert!(
            error.contains("`HOST/team/app` has no manifest `latest`"),
            "without a tag `latest` is meant: {error}"
        );
    }

    #[test]
    fn a_bundle_for_image_and_an_image_for_bundle_are_refused_with_the_other_flag() {
        let room = Room::new("open-kinds");
        let bundle = |host: &str| format!("{host}/team/bundle:v1").parse::<Reference>().unwrap();
        let image = |host: &str| format!("{host}/team/app:v1").parse::<Reference>().unwrap();
        let error = room.gathered(|host| Source::Bundle(image(host)), alone()).unwrap_err();
        assert!(error.contains("`HOST/team/app:v1` is a plain image, expected a bundle"), "{error}");
        let error = room.gathered(|host| Source::Image(bundle(host)), alone()).unwrap_err();
        assert!(error.contains("`HOST/team/bundle:v1` is a bundle, expected a plain image"), "{error}");
        let expected = [format!("bundle Root {} HOST/team/bundle:v1", room.bundle)];
        assert_eq!(room.gathered(|host| Source::Bundle(bundle(host)), alone()).unwrap(), expected);
        let thick = Depth { thick: true, ..alone() };
        assert_eq!(room.gathered(|host| Source::Bundle(bundle(host)), thick).unwrap(), expected);
        let either = Depth { bundles_as_images: true, ..alone() };
        let found = room.gathered(|host| Source::Image(bundle(host)), either).unwrap();
        assert_eq!(found, expected, "a command that takes both");
    }

    #[test]
    fn a_lock_file_names_one_bundle_or_any_number_of_images() {
        let room = Room::new("open-lock");
        let write = |host: &str, kind: &str, rest: &str| {
            let text = format!("apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: {kind}\n{rest}");
            Source::Lock(room.scratch.write("lock.yml", text.replace("HOST", host)))
        };
        let (image, bundle) = (&room.image, &room.bundle);
        let of_image = format!("images:\n- image: HOST/team/app@{image}\n");
        assert_eq!(
            room.gathered(|host| write(host, "ImagesLock", &of_image), alone()).unwrap(),
            [format!("image Root {image} ")],
            "an image of a lock has no tag"
        );
        let of_bundle = format!("images:\n- image: HOST/team/bundle@{bundle}\n");
        let error = room.gathered(|host| write(host, "\"ImagesLock\"", &of_bundle), alone()).unwrap_err();
        assert!(error.contains("HOST/team/bundle"), "a bundle is no image of a lock: {error}");
        let error = room.gathered(|host| write(host, "ImagesLock", ""), alone()).unwrap_err();
        assert!(error.contains("the ImagesLock names no image, so there is nothing to copy"), "{error}");
        let of = |repository: &str, digest: &Digest| {
            format!("bundle:\n  image: HOST/team/{repository}@{digest}\n  tag: v1\n")
        };
        assert_eq!(
            room.gathered(|host| write(host, "BundleLock", &of("bundle", bundle)), alone()).unwrap(),
            [format!("bundle Root {bundle} HOST/team/bundle:v1")]
        );
        let error = room.gathered(|host| write(host, "BundleLock", &of("app", image)), alone()).unwrap_err();
        assert!(error.contains(" is a plain image, expected a bundle"), "{error}");
    }

    #[test]
    fn a_lock_file_is_explained_as_the_kind_that_it_says() {
        let room = Room::new("open-lock-kind");
        let error = |text: &str| {
            let path = room.scratch.write("lock.yml", text);
            room.open(&Source::Lock(path), false).err().map(|failure| said(&failure)).unwrap()
        };
        let images = error("kind: 'ImagesLock'\nimages: 7\n");
        assert!(images.contains("lock.yml` is not a valid ImagesLock: "), "{images}");
        for text in ["kind: BundleLock\n", "kind: Other\n", "# kind: ImagesLock\n", "name: ImagesLock\n"] {
            let bundle = error(text);
            assert!(bundle.contains("lock.yml` is not a valid BundleLock: "), "{text}: {bundle}");
        }
    }
}
