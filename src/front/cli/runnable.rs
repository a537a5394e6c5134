//! `push -i` of an image that runs: opens the base, makes the images, sends or writes them.

use std::collections::BTreeSet;
use std::path::Path;

use super::push_to_store::ToStore;
use super::resolve::{Destination, ImagePlace, PushOptions, RunnableOptions, TarTarget};
use super::stores::open_store;
use super::tar_output::{layout_target, send_to_stdout};
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::ImageOutcome;
use crate::front::packing::{base_image, origin_of, references, runnable_request};
use crate::front::reporter::{self, Wording};
use crate::front::{registries, system};
use crate::lock::default_tag;
use crate::model::{Descriptor, Reference, Tag};
use crate::registry::Client;
use crate::store::Store;
use crate::store::layout::LayoutTarget;
use crate::transfer::events::{Observer, Silent};
use crate::transfer::{
    self, Attached, AttachedCounts, BaseRoot, Collection, Gathering, ImageLocator, MadeRunnable, Member,
    PushRequest, RegistrySource, Role, signatures,
};

/// An image that is read, before its source borrows it.
enum Opened<'a> {
    Store(Store),
    Registry(RegistrySource<'a>, Reference, &'a Client),
}

impl<'a> Opened<'a> {
    fn open(context: &Context<'_>, place: &ImagePlace, client: Option<&'a Client>) -> Result<Self, Failure> {
        match (place, client) {
            (ImagePlace::Registry(reference), Some(client)) => {
                let source = RegistrySource::new(client, reference.repository.clone());
                Ok(Self::Registry(source, reference.clone(), client))
            }
            (ImagePlace::Tar(path), _) => Ok(Self::Store(open_store(context, path)?)),
            (ImagePlace::Registry(_), None) => {
                let what = "a base in a registry was opened without a client";
                Err(transfer::TransferError::Internal { what }.into())
            }
        }
    }

    /// Finds the image; resolves a tag only once.
    fn image(&self) -> Result<BaseRoot<'_>, Failure> {
        match self {
            Self::Registry(source, reference, client) => {
                let root = source.resolve(&reference.target())?;
                // Docker's rule: a name without tag and digest means `latest`.
                let name = match (&reference.tag, &reference.digest) {
                    (None, None) => reference.repository.with_tag(Tag::latest()),
                    _ => reference.clone(),
                };
                let attached = count_attached(source, &root, client);
                Ok(BaseRoot { source, root, name: Some(name.to_string()), attached })
            }
            Self::Store(store) => base_image(store),
        }
    }
}

/// Counts what is attached to an image in a registry; 0 of each kind if the request fails.
fn count_attached(source: &RegistrySource<'_>, root: &Descriptor, client: &Client) -> AttachedCounts {
    let locator = ImageLocator::over(source, Some(client));
    let root =
        Member { descriptor: root.clone(), names: Vec::new(), origin: None, role: Role::Root, bundle: None };
    let attached = Attached { cosign: true, referrers: true, ..Attached::default() };
    let gathering = Gathering { thick: false, attached, concurrency: 1 };
    let found = transfer::gather(&locator, vec![root], &gathering, &Silent);
    let is_attached = |member: &&Member| member.role == Role::Attached;
    let count = |found: Collection| signatures::count(&locator, found.members.iter().filter(is_attached));
    found.and_then(count).unwrap_or_default()
}

/// Makes the image and pushes or writes it.
pub(super) fn run(
    context: &Context<'_>,
    options: &PushOptions,
    runnable: &RunnableOptions,
) -> Result<ImageOutcome, Failure> {
    let target = match &options.destination {
        Destination::Registry(_) | Destination::Store { .. } => None,
        Destination::OciTar { target, .. } => Some(target),
    };
    target.map_or(Ok(()), TarTarget::check)?;
    let store = match &options.destination {
        Destination::Store { store, tags, .. } => Some(ToStore { context, options, store, tags }),
        _ => None,
    };
    store.as_ref().map_or(Ok(()), ToStore::refuse_itself)?;
    let places = runnable.places();
    let is_remote = |place: &&ImagePlace| matches!(place, ImagePlace::Registry(_));
    let needs_client =
        matches!(options.destination, Destination::Registry(_)) || places.iter().any(is_remote);
    let client = match needs_client {
        true => Some(registries::client(&options.registry, context.env, &context.ui)?),
        false => None,
    };
    let layout = target.map(|target| layout_target(context, target));
    let request = runnable_request(options, runnable, layout.as_ref())?;
    let open = |place: &&ImagePlace| Opened::open(context, place, client.as_ref());
    let opened = places.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let origin = origin_of(opened.iter().map(Opened::image).collect::<Result<_, _>>()?)?;
    let folder = match &layout {
        Some(layout) => layout.folder().to_owned(),
        None => system::temporary_folder(context.env),
    };
    let wording = if layout.is_some() { Wording::Written } else { Wording::Uploaded };
    reporter::watch(&context.ui, wording, |observer| {
        let made = transfer::make_runnable(&request, &origin, &folder, observer)?;
        let send = Send { options, made: &made, observer };
        match (&options.destination, &layout, &client) {
            (Destination::Store { tags, .. }, _, _) => match &store {
                Some(store) => {
                    let stored = store.push(&made.source, made.root.descriptor(), observer)?;
                    Ok(ImageOutcome { store: Some(stored), ..send.outcome(tags.clone(), None, None) })
                }
                None => Err(transfer::TransferError::Internal { what: "an image has no store" }.into()),
            },
            (Destination::OciTar { target, name }, Some(layout), _) => {
                send.write(layout, target.path(), name.as_ref())
            }
            (Destination::Registry(name), _, Some(client)) => send.push(client, name),
            _ => Err(transfer::TransferError::Internal { what: "an image has no destination" }.into()),
        }
    })
}

/// An image and its destination.
struct Send<'a> {
    options: &'a PushOptions,
    made: &'a MadeRunnable<'a>,
    observer: &'a dyn Observer,
}

impl Send<'_> {
    fn write(
        &self,
        layout: &LayoutTarget,
        path: &Path,
        name: Option<&Reference>,
    ) -> Result<ImageOutcome, Failure> {
        let names = name.map(|name| references(name, &self.options.tags)).unwrap_or_default();
        let concurrency = self.options.registry.concurrency;
        let report = transfer::write_runnable(self.made, layout, &names, concurrency, self.observer)?;
        if let Some(spool) = report.spool {
            send_to_stdout(spool)?;
        }
        let tags = names.into_iter().filter_map(|name| name.tag).collect();
        Ok(self.outcome(tags, None, Some(path)))
    }

    fn push(&self, client: &Client, name: &Reference) -> Result<ImageOutcome, Failure> {
        let root = self.made.root.descriptor();
        let tags: Vec<Tag> =
            references(name, &self.options.tags).into_iter().filter_map(|name| name.tag).collect();
        // As for every packed image: the tag by digest protects it, and the user's own tag is written last.
        let mut all = vec![default_tag(&root.digest)];
        all.extend(tags.iter().cloned());
        let request = PushRequest {
            repository: name.repository.clone(),
            roots: vec![(root, all)],
            attached: Vec::new(),
            sent: BTreeSet::new(),
            concurrency: self.options.registry.concurrency,
            include_non_distributable: true,
        };
        transfer::push_to_registry(&self.made.source, client, &request, self.observer)?;
        Ok(self.outcome(tags, Some(name), None))
    }

    fn outcome(&self, tags: Vec<Tag>, name: Option<&Reference>, path: Option<&Path>) -> ImageOutcome {
        ImageOutcome {
            repository: name.map(|name| name.repository.clone()),
            tags,
            path: path.map(Path::to_owned),
            ..ImageOutcome::of_made(self.made)
        }
    }
}
