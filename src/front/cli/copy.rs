//! `copy`: images from a tar or registry to a registry or tar, byte for byte.

use std::path::Path;

use super::Context;
use super::args::CopyArgs;
use super::push::{layout_target, send_to_stdout};
use super::resolve::{self, CopyOptions, Sink, TarTarget};
use super::sources::{Opened, check_expected, is_bundle, only_root, tags_of};
use crate::front::failure::Failure;
use crate::front::outputs::{self, ImageKind, ImageOutcome, Outcome};
use crate::front::registries;
use crate::front::reporter::{self, Wording};
use crate::model::{Repository, Tag};
use crate::store::Root;
use crate::transfer::{self, Graph, ImageSource, LayoutRequest, Named, PushRequest};

pub(super) fn run(context: &Context<'_>, args: &CopyArgs) -> Result<Outcome, Failure> {
    let options = resolve::copy(args, context.env)?;
    outputs::produce(&options.results, || {
        let opened = Opened::open(context, &options.source, &options.registry)?;
        opened.with(|source, roots| {
            // With several images in a tar the first one is what the result names.
            let first =
                only_root(&source.place(), roots).or_else(|error| match &options.expected_digest {
                    Some(_) => Err(error),
                    None => roots.first().ok_or(error),
                })?;
            check_expected(options.expected_digest.as_ref(), &first.descriptor.digest)?;
            match &options.sink {
                Sink::Registry { repository, tag } => {
                    to_registry(context, &options, (source, roots, first), repository, tag.as_ref())
                }
                Sink::OciTar(target) => to_tar(context, &options, (source, roots, first), target),
            }
        })
    })
}

type Images<'a> = (&'a dyn ImageSource, &'a [Root], &'a Root);

fn to_registry(
    context: &Context<'_>,
    options: &CopyOptions,
    (source, roots, first): Images<'_>,
    repository: &Repository,
    tag: Option<&Tag>,
) -> Result<ImageOutcome, Failure> {
    let chosen = tag.into_iter().chain(&options.tags).cloned();
    let mut wanted: Vec<(_, Vec<Tag>)> =
        roots.iter().map(|root| (root.descriptor.clone(), tags_of(root))).collect();
    if tag.is_some() && roots.len() > 1 {
        return Err(Failure::misuse(format!(
            "`--to-repo` has a tag, but {} holds {} images",
            source.place(),
            roots.len()
        ))
        .hint("leave the tag out: the recorded tags are kept"));
    }
    for (descriptor, tags) in &mut wanted {
        if descriptor.digest == first.descriptor.digest {
            // A tag that was asked for takes the place of the recorded ones; `--tag` adds to them.
            if tag.is_some() {
                tags.clear();
            }
            for tag in chosen.clone() {
                if !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
        }
    }
    let tags: Vec<Tag> = wanted
        .iter()
        .find(|(descriptor, _)| descriptor.digest == first.descriptor.digest)
        .map(|(_, tags)| tags.clone())
        .unwrap_or_default();
    let client = registries::client(&options.registry, context.env, &context.ui)?;
    let request = PushRequest {
        repository: repository.clone(),
        roots: wanted,
        mount_from: Vec::new(),
        concurrency: options.registry.concurrency,
        include_non_distributable: options.include_non_distributable,
    };
    reporter::watch(&context.ui, Wording::Uploaded, |observer| {
        transfer::push_to_registry(source, &client, &request, observer)
    })?;
    outcome(source, first, tags, Some(repository), None)
}

fn to_tar(
    context: &Context<'_>,
    options: &CopyOptions,
    (source, roots, first): Images<'_>,
    target: &TarTarget,
) -> Result<ImageOutcome, Failure> {
    target.check()?;
    let mut roots = transfer::named_roots(roots);
    for root in roots.iter_mut().filter(|root| root.descriptor.digest == first.descriptor.digest) {
        name_further(root, &options.tags)?;
    }
    let request = LayoutRequest {
        target: layout_target(context, target),
        roots,
        concurrency: options.registry.concurrency,
        include_non_distributable: options.include_non_distributable,
    };
    let mut report = reporter::watch(&context.ui, Wording::Written, |observer| {
        transfer::copy_to_layout(source, &request, observer)
    })?;
    if let Some(spool) = report.spool.take() {
        send_to_stdout(spool)?;
    }
    let mut tags = tags_of(first);
    tags.extend(options.tags.iter().filter(|tag| !tags_of(first).contains(tag)).cloned());
    outcome(source, first, tags, None, Some(target.path()))
}

/// Gives a root the tags of `--tag` besides its own; they belong to the repository it has a name in.
fn name_further(root: &mut Named, tags: &[Tag]) -> Result<(), Failure> {
    let Some(tag) = tags.first() else { return Ok(()) };
    let repository =
        root.names.iter().find_map(|name| name.reference.as_ref()).map(|name| name.repository.clone());
    let Some(repository) = repository else {
        return Err(Failure::misuse(format!("tag `{tag}` has no repository it could belong to"))
            .hint("the image has no recorded name; give the tag when it is copied with `--to-repo`"));
    };
    let further = tags.iter().map(|tag| repository.with_tag(tag.clone()));
    root.names.extend(Named::new(root.descriptor.clone(), &further.collect::<Vec<_>>()).names);
    Ok(())
}

fn outcome(
    source: &dyn ImageSource,
    root: &Root,
    tags: Vec<Tag>,
    repository: Option<&Repository>,
    path: Option<&Path>,
) -> Result<ImageOutcome, Failure> {
    let graph = Graph::of(source, &root.descriptor)?;
    let document = source.read_document(&root.descriptor)?;
    let kind = match is_bundle(source, &root.descriptor)? {
        None => ImageKind::Index,
        Some(true) => ImageKind::Bundle,
        Some(false) => ImageKind::Image,
    };
    Ok(ImageOutcome {
        kind,
        digest: root.descriptor.digest.clone(),
        media_type: document.media_type().to_owned(),
        size: graph.size(),
        layers: document.manifest().map(|manifest| manifest.layers.len()),
        repository: repository.cloned(),
        tags,
        path: path.map(Path::to_owned),
    })
}
