//! `pull`: the contents of an image or bundle into a folder.

use super::Context;
use super::args::PullArgs;
use super::resolve::{self, PullOptions, Source};
use super::sources::{Opened, check_expected, is_bundle, only_root, tags_of};
use crate::front::failure::Failure;
use crate::front::outputs::{self, ImageKind, ImageOutcome, Outcome};
use crate::front::reporter::{self, Wording};
use crate::front::system;
use crate::stream::Overwrite;
use crate::transfer::{self, Graph};

pub(super) fn run(context: &Context<'_>, args: &PullArgs) -> Result<Outcome, Failure> {
    let options = resolve::pull(args, context.env)?;
    outputs::produce(&options.results, || {
        let opened = Opened::open(context, &options.source, &options.registry)?;
        opened.with(|source, roots| {
            let root = only_root(&source.place(), roots)?;
            check_expected(options.expected_digest.as_ref(), &root.descriptor.digest)?;
            let bundle = is_bundle(source, &root.descriptor)?;
            check_kind(&options, bundle)?;
            let pull = transfer::PullOptions {
                target: options.output.clone(),
                overwrite: if options.force { Overwrite::Replace } else { Overwrite::Refuse },
                platform: options.platform.clone(),
                umask: system::umask(),
                include: Vec::new(),
            };
            let report = reporter::watch(&context.ui, Wording::Fetched, |observer| {
                transfer::pull_contents(source, &root.descriptor, &pull, observer)
            })?;
            let repository = match &options.source {
                Source::Bundle(reference) | Source::Image(reference) => Some(reference.repository.clone()),
                _ => None,
            };
            Ok(ImageOutcome {
                kind: if bundle == Some(true) { ImageKind::Bundle } else { ImageKind::Image },
                digest: report.manifest.digest().clone(),
                media_type: report.manifest.media_type().to_owned(),
                size: Graph::of(source, &report.manifest.descriptor())?.size(),
                layers: report.manifest.manifest().map(|manifest| manifest.layers.len()),
                repository,
                tags: tags_of(root),
                path: Some(options.output.clone()),
            })
        })
    })
}

/// Refuses a bundle that was asked for as an image, because its lock file would not be looked at.
fn check_kind(options: &PullOptions, bundle: Option<bool>) -> Result<(), Failure> {
    match (&options.source, bundle) {
        (Source::Image(reference), Some(true)) if options.refuse_bundle_as_image => {
            Err(Failure::refused(format!("`{reference}` is a bundle, expected a plain image"))
                .hint("use `-b` for bundles, or `--image-is-bundle-check=false` to pull it as an image"))
        }
        _ => Ok(()),
    }
}
