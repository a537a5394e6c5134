//! `index`: one multi-platform image of the images that several jobs built.

use std::collections::BTreeSet;

use super::index_args::IndexArgs;
use super::open_source::{Depth, OpenedSource};
use super::push::{layout_target, send_to_stdout};
use super::resolve::{self, IndexOptions, IndexSink, TarTarget};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::outcome::{ImageKind, ImageOutcome, Outcome};
use crate::front::packing::references;
use crate::front::registries;
use crate::front::reporter::{self, Wording};
use crate::front::result_file;
use crate::model::{Descriptor, Reference};
use crate::store::ImageName;
use crate::transfer::events::{Event, Observer, Warning};
use crate::transfer::{
    self, Collection, CombinedSource, Graph, ImageLocator, ImageSource, JoinSource, LayoutRequest, MadeIndex,
    Member, PushRequest, Role,
};

pub(in crate::front) fn run(context: &Context<'_>, args: &IndexArgs) -> Result<Outcome, Failure> {
    let options = resolve::index(args, context.env)?;
    let target = options.sink.target();
    target.map_or(Ok(()), TarTarget::check)?;
    result_file::produce(&options.results, target.map(TarTarget::path), || {
        let open = |source| OpenedSource::open(context, source, &options.registry, false);
        let sources = options.sources.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let places = sources.iter().map(OpenedSource::locator).collect::<Result<Vec<_>, _>>()?;
        let wording = if target.is_some() { Wording::Written } else { Wording::Uploaded };
        reporter::watch(&context.ui, wording, |observer| {
            let join = Join { context, options: &options, sources: &sources, places: &places, observer };
            join.run()
        })
    })
}

struct Join<'a> {
    context: &'a Context<'a>,
    options: &'a IndexOptions,
    sources: &'a [OpenedSource],
    places: &'a [ImageLocator<'a>],
    observer: &'a dyn Observer,
}

impl Join<'_> {
    fn run(&self) -> Result<ImageOutcome, Failure> {
        let depth =
            Depth { thick: false, inflate: false, attached: self.options.attached, bundles_as_images: true };
        let gather = |(source, places): (&OpenedSource, &ImageLocator<'_>)| {
            source.gather(places, depth, &self.options.registry, self.observer)
        };
        let collections =
            self.sources.iter().zip(self.places).map(gather).collect::<Result<Vec<Collection>, _>>()?;
        let joined = self.places.iter().zip(&collections);
        let joined: Vec<JoinSource<'_>> =
            joined.map(|(places, collection)| JoinSource { source: places, collection }).collect();
        let made = transfer::join_index(&joined, &self.options.join)?;
        transfer::check_expected(self.options.expected_digest.as_ref(), &made.root.digest)?;
        if !made.left_behind.is_empty() {
            let count = made.left_behind.len();
            self.observer.event(Event::Warning(&Warning::AttachedToReplacedIndex { count }));
        }
        let names = self.names(&collections)?;
        self.write(made, &names)
    }

    /// Returns the names of the index: those of the flags, else the name that the sources have in common.
    fn names(&self, collections: &[Collection]) -> Result<Vec<Reference>, Failure> {
        let further = &self.options.tags;
        match &self.options.sink {
            IndexSink::Registry { repository, tag: Some(tag) } => {
                Ok(references(&repository.with_tag(tag.clone()), further))
            }
            IndexSink::Registry { repository, tag: None } => {
                let tag = match further.as_slice() {
                    [] => common_name(collections)?.and_then(|name| name.tag),
                    _ => None,
                };
                Ok(tag.iter().chain(further).map(|tag| repository.with_tag(tag.clone())).collect())
            }
            IndexSink::OciTar { name: Some(name), .. } => Ok(references(name, further)),
            IndexSink::OciTar { name: None, .. } => match (common_name(collections)?, further.first()) {
                (Some(name), _) => Ok(references(&name, further)),
                (None, Some(tag)) => {
                    Err(Failure::misuse(format!("tag `{tag}` has no repository it could belong to"))
                        .hint(message!("name the index with ", Flag::NAME.with("REFERENCE"))))
                }
                (None, None) => Ok(Vec::new()),
            },
        }
    }

    fn write(&self, made: MadeIndex, names: &[Reference]) -> Result<ImageOutcome, Failure> {
        let sources = self.places.iter().map(|places| -> &dyn ImageSource { places }).collect();
        let source = CombinedSource::new("the index".to_owned(), sources).with(made.document);
        let root = Member {
            descriptor: made.root.clone(),
            names: names.iter().cloned().map(ImageName::of).collect(),
            origin: None,
            role: Role::Root,
            bundle: None,
        };
        let mut members = vec![root];
        members.extend(made.attached);
        let collection = Collection { members };
        let concurrency = self.options.registry.concurrency;
        let graph = Graph::of(&source, &made.root)?;
        // What a source holds goes along; asking for such layers where there are none would only warn.
        let include_non_distributable = graph.blobs.iter().any(Descriptor::is_non_distributable);
        let mut outcome = ImageOutcome {
            kind: ImageKind::Index,
            digest: made.root.digest.clone(),
            media_type: made.root.media_type,
            size: graph.size(),
            layers: None,
            repository: None,
            tags: names.iter().filter_map(|name| name.tag.clone()).collect(),
            path: None,
        };
        match &self.options.sink {
            IndexSink::Registry { repository, .. } => {
                let client = registries::client(&self.options.registry, self.context.env, &self.context.ui)?;
                // What is attached comes first, so that the index has its signatures when it gets its tag.
                let attached = collection.members.iter().skip(1);
                let members = attached.chain(collection.members.first());
                let request = PushRequest {
                    repository: repository.clone(),
                    roots: members.map(|member| (member.descriptor.clone(), member.tags())).collect(),
                    sent: BTreeSet::new(),
                    concurrency,
                    include_non_distributable,
                };
                transfer::push_to_registry(&source, &client, &request, self.observer)?;
                outcome.repository = Some(repository.clone());
            }
            IndexSink::OciTar { target, .. } => {
                let request = LayoutRequest {
                    target: layout_target(self.context, target),
                    roots: collection.named(),
                    concurrency,
                    include_non_distributable,
                };
                let report = transfer::copy_to_layout(&source, &request, self.observer)?;
                if let Some(spool) = report.spool {
                    send_to_stdout(spool)?;
                }
                outcome.path = Some(target.path().to_owned());
            }
        }
        Ok(outcome)
    }
}

/// Returns the one name that all named images of the sources have; `None` where none has a name.
///
/// Errors: images with different names, which leave open what the index is to be called.
fn common_name(collections: &[Collection]) -> Result<Option<Reference>, Failure> {
    let all: Vec<&Collection> = collections.iter().collect();
    let names: Vec<Reference> = transfer::names_of_roots(&all)
        .into_iter()
        .filter_map(|name| name.reference.filter(|reference| reference.tag.is_some()))
        .collect();
    match names.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let list = crate::model::list::quoted_list(several.iter().map(ToString::to_string));
            Err(Failure::refused(format!("the images have different names: {list}")).hint(message!(
                "name the index with ",
                Flag::NAME.with("REFERENCE"),
                ", or with a tag in ",
                Flag::TO_REPO.with("REPOSITORY:TAG")
            )))
        }
    }
}
