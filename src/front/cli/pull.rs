//! `pull`: extracts the contents of an image or bundle into a folder.

use super::args::PullArgs;
use super::open_source::{Depth, OpenedSource};
use super::resolve::{self, PullOptions, Source};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::keys;
use crate::front::outcome::{ImageKind, ImageOutcome, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::result_file;
use crate::front::system;
use crate::front::verification;
use crate::stream::Overwrite;
use crate::transfer::events::Observer;
use crate::transfer::signatures::Trust;
use crate::transfer::{self, Attached, Graph, ImageLocator};

pub(in crate::front) fn run(context: &Context<'_>, args: &PullArgs) -> Result<Outcome, Failure> {
    let options = resolve::pull(args, context.env)?;
    let trust = keys::trust(Flag::VERIFY_KEY, &options.verify_keys, context.env)?;
    result_file::produce(&options.results, Some(&options.output), || {
        let opened = OpenedSource::open(context, &options.source, &options.registry, false)?
            .select_expected(options.select.as_ref(), options.expected_digest.as_ref())?;
        if opened.images_lock().is_some() {
            return Err(Failure::misuse(message!(Flag::LOCK, " names an ImagesLock, expected a BundleLock"))
                .hint(message!("pull each of its images with ", Flag::IMAGE.mention().short())));
        }
        opened.with(|locator| {
            reporter::watch(&context.ui, Wording::Fetched, |observer| {
                pull(&options, &opened, locator, trust.as_ref(), observer)
            })
        })
    })
}

fn pull(
    options: &PullOptions,
    opened: &OpenedSource,
    locator: &ImageLocator<'_>,
    trust: Option<&Trust>,
    observer: &dyn Observer,
) -> Result<ImageOutcome, Failure> {
    let depth = Depth {
        thick: options.recursive,
        inflate: false,
        attached: verification::attached(Attached::default(), trust),
        bundles_as_images: true,
    };
    let collection = opened.gather(locator, depth, &options.registry, observer)?;
    let root = opened.main_member(&collection, locator, true)?;
    transfer::check_expected(options.expected_digest.as_ref(), &root.descriptor.digest)?;
    verification::demand(locator, &collection, trust)?;
    if let (Source::Image(reference), true, true) =
        (&options.source, root.bundle.is_some(), options.refuse_bundle_as_image)
    {
        return Err(Failure::refused(format!("`{reference}` is a bundle, expected a plain image")).hint(
            message!(
                "use ",
                Flag::BUNDLE.kind(),
                " for bundles, or ",
                Flag::IMAGE_IS_BUNDLE_CHECK.with("false"),
                " to pull it as an image"
            ),
        ));
    }
    let pull = transfer::PullRequest {
        target: options.output.clone(),
        overwrite: if options.force { Overwrite::Replace } else { Overwrite::Refuse },
        platform: options.platform.clone(),
        umask: system::umask(),
        include: options.include.iter().map(|path| path.clone().into_bytes()).collect(),
        concurrency: options.registry.concurrency,
    };
    let as_bundle = root.bundle.is_some() && !matches!(options.source, Source::Image(_));
    let report = if as_bundle {
        let nested = match options.recursive {
            true => collection.clone(),
            false => transfer::Collection { members: vec![root.clone()] },
        };
        transfer::pull_bundle(locator, &nested, root, &pull, observer)?
    } else {
        let image = transfer::resolve_for(locator, &root.descriptor, options.platform.as_ref())?;
        transfer::pull_contents(locator, &image.descriptor(), &pull, observer)?
    };
    let repository = match &options.source {
        Source::Bundle(reference) | Source::Image(reference) => Some(reference.repository.clone()),
        _ => None,
    };
    Ok(ImageOutcome {
        kind: match (root.bundle.is_some(), options.is_app) {
            (true, _) => ImageKind::Bundle,
            (false, true) => ImageKind::App,
            (false, false) => ImageKind::Image,
        },
        digest: report.manifest.digest().clone(),
        media_type: report.manifest.media_type().to_owned(),
        size: Graph::of(locator, &report.manifest.descriptor())?.size(),
        layers: report.manifest.manifest().map(|manifest| manifest.layers.len()),
        platforms: Vec::new(),
        repository,
        tags: root.tags(),
        path: Some(options.output.clone()),
        store: None,
    })
}
