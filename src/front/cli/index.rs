//! `index`: joins the images that several jobs built into one multi-platform image.

use super::index_args::IndexArgs;
use super::open_source::{Depth, OpenedSource};
use super::resolve::{self, IndexOptions, IndexSink, TarTarget};
use super::tar_output::{layout_target, send_to_stdout};
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::joining::JoinedIndex;
use crate::front::keys;
use crate::front::outcome::{ImageOutcome, Outcome};
use crate::front::packing::references;
use crate::front::registries;
use crate::front::reporter::{self, Wording};
use crate::front::result_file;
use crate::front::verification;
use crate::model::{Reference, Tag};
use crate::transfer::events::Observer;
use crate::transfer::signatures::Trust;
use crate::transfer::{self, Collection, ImageLocator};

pub(in crate::front) fn run(context: &Context<'_>, args: &IndexArgs) -> Result<Outcome, Failure> {
    let options = resolve::index(args, context.env)?;
    let trust = keys::trust(Flag::VERIFY_KEY, &options.verify_keys, context.env)?;
    let target = options.sink.target();
    target.map_or(Ok(()), TarTarget::check)?;
    result_file::produce(&options.results, target.map(TarTarget::path), || {
        let open = |source| {
            OpenedSource::open(context, source, &options.registry, false)?.select(options.select.as_ref())
        };
        let sources = options.sources.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let places = sources.iter().map(OpenedSource::locator).collect::<Result<Vec<_>, _>>()?;
        let wording = if target.is_some() { Wording::Written } else { Wording::Uploaded };
        reporter::watch(&context.ui, wording, |observer| {
            let (sources, places, trust) = (&sources, &places, trust.as_ref());
            let join = Join { context, options: &options, sources, places, trust, observer };
            join.run()
        })
    })
}

struct Join<'a> {
    context: &'a Context<'a>,
    options: &'a IndexOptions,
    sources: &'a [OpenedSource],
    places: &'a [ImageLocator<'a>],
    trust: Option<&'a Trust>,
    observer: &'a dyn Observer,
}

impl Join<'_> {
    fn run(&self) -> Result<ImageOutcome, Failure> {
        let attached = verification::attached(self.options.attached, self.trust);
        let depth = Depth { thick: false, inflate: false, attached, bundles_as_images: true };
        let gather = |(source, places): (&OpenedSource, &ImageLocator<'_>)| {
            let collection = source.gather(places, depth, &self.options.registry, self.observer)?;
            verification::demand(places, &collection, self.trust)?;
            Ok::<_, Failure>(collection)
        };
        let collections =
            self.sources.iter().zip(self.places).map(gather).collect::<Result<Vec<Collection>, _>>()?;
        let (join, expected) = (&self.options.join, self.options.expected_digest.as_ref());
        let joined = JoinedIndex::of(self.places, &collections, join, expected, self.observer)?;
        let names = self.names(&collections)?;
        self.write(&joined, &names)
    }

    /// Returns the names of the index: those of the flags, else the common name of the sources.
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
                (None, Some(tag)) => Err(Failure::misuse(format!("tag `{tag}` has no repository"))
                    .hint(message!("name the index with ", Flag::NAME.with("REFERENCE")))),
                (None, None) => Ok(Vec::new()),
            },
        }
    }

    fn write(&self, joined: &JoinedIndex<'_>, names: &[Reference]) -> Result<ImageOutcome, Failure> {
        let concurrency = self.options.registry.concurrency;
        let tags: Vec<Tag> = names.iter().filter_map(|name| name.tag.clone()).collect();
        match &self.options.sink {
            IndexSink::Registry { repository, .. } => {
                let client = registries::client(&self.options.registry, self.context.env, &self.context.ui)?;
                joined.push(&client, repository, &tags, concurrency, self.observer)?;
                Ok(joined.outcome(tags, Some(repository), None))
            }
            IndexSink::OciTar { target, .. } => {
                let layout = layout_target(self.context, target);
                if let Some(spool) = joined.write(layout, names, concurrency, self.observer)? {
                    send_to_stdout(spool)?;
                }
                Ok(joined.outcome(tags, None, Some(target.path())))
            }
        }
    }
}

/// Returns the one name that all named images of the sources have; `None` where none has a name.
///
/// Errors: images with different names.
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
