//! Shared by `sign` and `attach`: reads an image with what is attached to it, and attaches more in place.

use std::fmt::Write as _;

use super::open_source::{Depth, OpenedSource};
use super::resolve::{RegistryOptions, SignTarget, Source};
use super::stores::{hold, open_oci};
use crate::front::context::Context;
use crate::front::failure::{Failure, Hint, message};
use crate::front::flag::Flag;
use crate::front::main_image::stored_roots;
use crate::front::outcome::{ImageOutcome, Outcome, ReportedPlace, TextDocument};
use crate::front::reporter::{self, Wording};
use crate::front::result_file::{self, ResultFile};
use crate::front::text;
use crate::model::{Reference, Repository};
use crate::store::{Remark, StoreKind};
use crate::transfer::events::Silent;
use crate::transfer::signatures::{self, Addition};
use crate::transfer::{
    self, Attached, Collection, Gathering, ImageLocator, ImageSource as _, Role, TransferError,
};

/// An addition to what is stored beside images.
pub(super) struct Change<'a> {
    /// The place of the images.
    pub(super) target: &'a SignTarget,
    /// How registries are reached.
    pub(super) registry: &'a RegistryOptions,
    /// Result files.
    pub(super) results: &'a [ResultFile],
    /// Words of the result: for what was added, and for what was there already.
    pub(super) words: [&'static str; 2],
    /// Whether the images that a bundle names are included.
    pub(super) reach: Reach,
}

/// Which images are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The given images, and everything below them.
    Named,
    /// Also the images that bundles among them name.
    Bundles,
}

/// Makes additions; the last parameter is the place, for messages.
pub(super) type Make<'a> =
    dyn Fn(&ImageLocator<'_>, &Collection, &str) -> Result<Vec<Addition>, Failure> + Sync + 'a;

impl Change<'_> {
    /// Reads the images, and writes what `make` adds to them.
    pub(super) fn run(&self, context: &Context<'_>, make: &Make<'_>) -> Result<Outcome, Failure> {
        let to = match self.target {
            SignTarget::Layout(path) => Some(path.as_path()),
            SignTarget::Image(_) => None,
        };
        result_file::report(self.results, to, || match self.target {
            SignTarget::Layout(path) => self.in_layout(context, path, make),
            SignTarget::Image(reference) => self.in_registry(context, reference, make),
        })
    }

    fn in_layout(
        &self,
        context: &Context<'_>,
        path: &std::path::Path,
        make: &Make<'_>,
    ) -> Result<TextDocument, Failure> {
        let _held = hold(context, path)?;
        let store = open_oci(context, path)?;
        if store.remarks().iter().any(|remark| matches!(remark, Remark::Wrapped(_))) {
            let path = path.display();
            return Err(Failure::refused(format!(
                "`{path}` is compressed as a whole, and cannot be changed in place"
            ))
            .hint(message!("copy it to a plain one first, with ", Flag::TO_OCI_TAR.with("FILE"))));
        }
        let place = store.path().display().to_string();
        let locator = ImageLocator::over(&store, None);
        let concurrency = self.registry.concurrency;
        let gathering = Gathering { thick: false, attached: Attached::default(), concurrency };
        reporter::watch(&context.ui, Wording::Written, |observer| {
            let collection = transfer::gather(&locator, stored_roots(store.roots()), &gathering, observer)?;
            let additions = make(&locator, &collection, &place)?;
            match store.kind() {
                _ if additions.is_empty() => {}
                StoreKind::OciLayoutDirectory => signatures::add_to_folder(&store, &additions)?,
                _ => signatures::add_to_layout(&store, &additions, concurrency, observer)?,
            }
            let reported = ReportedPlace::Tar(path.to_owned());
            let image = main_image(&locator, &collection, reported)?;
            Ok(TextDocument { image, ..self.report(&place, &collection, &additions) })
        })
    }

    fn in_registry(
        &self,
        context: &Context<'_>,
        reference: &Reference,
        make: &Make<'_>,
    ) -> Result<TextDocument, Failure> {
        let source = match self.reach {
            Reach::Bundles if self.is_bundle(context, reference)? => Source::Bundle(reference.clone()),
            Reach::Bundles | Reach::Named => Source::Image(reference.clone()),
        };
        let origin = OpenedSource::open(context, &source, self.registry, true)?;
        let depth = Depth {
            thick: matches!(source, Source::Bundle(_)),
            inflate: false,
            attached: Attached { cosign: true, referrers: true, locations: false },
            bundles_as_images: true,
        };
        origin.with(|locator| {
            reporter::watch(&context.ui, Wording::Uploaded, |observer| {
                let mut collection = origin.gather(locator, depth, self.registry, observer)?;
                move_to(&reference.repository, locator, &mut collection)?;
                let place = reference.repository.to_string();
                let additions = make(locator, &collection, &place)?;
                signatures::add_to_registry(origin.client()?, &reference.repository, &additions, observer)?;
                let reported = ReportedPlace::Registry(reference.repository.clone());
                let image = main_image(locator, &collection, reported)?;
                Ok(TextDocument { image, ..self.report(&place, &collection, &additions) })
            })
        })
    }

    fn is_bundle(&self, context: &Context<'_>, reference: &Reference) -> Result<bool, Failure> {
        let source = Source::Image(reference.clone());
        let opened = OpenedSource::open(context, &source, self.registry, true)?;
        let attached = Attached::default();
        let depth = Depth { thick: false, inflate: false, attached, bundles_as_images: true };
        let collection = opened.with(|locator| opened.gather(locator, depth, self.registry, &Silent))?;
        Ok(collection.has_bundles())
    }

    /// Reports for each root, and for each other image with an addition, what was done.
    fn report(&self, place: &str, collection: &Collection, additions: &[Addition]) -> TextDocument {
        let roots = collection.members.iter().filter(|member| member.role == Role::Root);
        let mut images: Vec<_> = roots.map(|member| member.descriptor.digest.clone()).collect();
        for addition in additions {
            if !images.contains(&addition.image) {
                images.push(addition.image.clone());
            }
        }
        let (mut lines, mut json) = (String::new(), Vec::new());
        for image in images {
            let made: Vec<&Addition> = additions.iter().filter(|addition| addition.image == image).collect();
            let word = if made.is_empty() { self.words[1] } else { self.words[0] };
            writeln!(lines, "{}@{image}: {word}", text::escaped(place))
                .expect("writing to a String cannot fail");
            let added = made.iter().map(|made| {
                serde_json::json!({
                    "digest": made.manifest.digest(),
                    "tag": made.tag.as_ref().map(ToString::to_string),
                })
            });
            json.push(serde_json::json!({ "digest": image, "added": added.collect::<Vec<_>>() }));
        }
        let json = match self.target {
            SignTarget::Layout(_) => serde_json::json!({ "path": place, "images": json }),
            SignTarget::Image(_) => serde_json::json!({ "image": place, "images": json }),
        };
        TextDocument::new(lines, json)
    }
}

/// Sets the repository of the images that a bundle names: their signatures are stored there.
///
/// Errors: an image that is not in the bundle's repository: verifiers would not find a signature there.
fn move_to(
    repository: &Repository,
    locator: &ImageLocator<'_>,
    collection: &mut Collection,
) -> Result<(), Failure> {
    for member in collection.members.iter_mut().filter(|member| member.role == Role::Referenced) {
        let digest = &member.descriptor.digest;
        if locator.repository_of(digest).as_ref() != Some(repository) {
            return Err(Failure::refused(format!(
                "`{}`, which the bundle names, is not in `{repository}`",
                member.label()
            ))
            .hint(Hint::command(
                "",
                "imgrelay copy -b",
                " copies a bundle with its images into one repository",
            )));
        }
        member.origin = Some(repository.with_digest(digest.clone()));
    }
    Ok(())
}

/// Returns the one image that was changed; `None` for a tar with several.
fn main_image(
    locator: &ImageLocator<'_>,
    collection: &Collection,
    place: ReportedPlace,
) -> Result<Option<Box<ImageOutcome>>, Failure> {
    let mut roots = collection.members.iter().filter(|member| member.role == Role::Root);
    let (Some(root), None) = (roots.next(), roots.next()) else { return Ok(None) };
    let names = root.tags().iter().map(ToString::to_string).collect();
    let image = transfer::describe(locator, &root.descriptor, names)?;
    Ok(Some(Box::new(ImageOutcome::of_description(&image, place))))
}

/// Adds the hints that only these commands have.
pub(super) fn advised(error: TransferError) -> Failure {
    let failure = |error| Failure::from(error);
    match error {
        TransferError::NoIdentity { .. } => failure(error).hint(message!(
            "give the name under which the image will be published with ",
            Flag::IDENTITY.with("REFERENCE")
        )),
        TransferError::Claim(_) => {
            failure(error).hint(Hint::command("", "imgrelay describe", " lists what is attached to an image"))
        }
        error => error.into(),
    }
}
