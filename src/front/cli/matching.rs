//! `match`: lists the files of a request that an earlier source image has; JSON in and out.

use super::args::MatchArgs;
use super::resolve::{self, Source};
use super::stores::{open_depot_image, open_oci, open_store, open_tar_url};
use crate::front::context::Context;
use crate::front::failure::{Failure, Kind};
use crate::front::main_image::{choose_one, only_root};
use crate::front::outcome::{Outcome, TextDocument};
use crate::front::reporter::{self, Wording};
use crate::front::{registries, system};
use crate::model::limits;
use crate::pack::MatchRequest;
use crate::store::{Selector, Store};
use crate::stream::{TooLarge, read_bounded};
use crate::transfer::events::Observer;
use crate::transfer::{self, FileList, file_list};

pub(in crate::front) fn run(context: &Context<'_>, args: &MatchArgs) -> Result<Outcome, Failure> {
    let options = resolve::match_resources(args)?;
    let request = read_request()?;
    let select = options.select.as_ref();
    let files = reporter::watch(&context.ui, Wording::Fetched, |observer| match &options.source {
        Source::Tar(path) => files_of_store(open_store(context, path)?, select),
        Source::OciTar(path) => files_of_store(open_oci(context, path)?, select),
        Source::WebTar(url) => files_of_store(open_tar_url(context, url, &options.registry)?, select),
        Source::Store(reference) => {
            files_of_store(open_depot_image(context, reference, &options.registry)?.store, select)
        }
        Source::Image(reference) | Source::Bundle(reference) => {
            let client = registries::client(&options.registry, context.env, &context.ui)?;
            let concurrency = options.registry.concurrency.min(system::threads());
            // Before the first push there is no image, so no file matches.
            match transfer::earlier_image(&client, reference)? {
                Some((source, root)) => {
                    Ok(file_list(&source, &root, concurrency, observer as &dyn Observer)?)
                }
                None => Ok(FileList::default()),
            }
        }
        Source::Lock(_) => Ok(FileList::default()),
    })?;
    let response = request.response(|sum| files.has(sum));
    let json = serde_json::from_str(&response).unwrap_or_default();
    Ok(Outcome::Document(TextDocument::new(format!("{response}\n"), json)))
}

fn files_of_store(mut store: Store, select: Option<&Selector>) -> Result<FileList, Failure> {
    if let Some(selector) = select {
        let root = selector.find(&store)?;
        store.keep_only(root);
    }
    let root = only_root(&store).map_err(|failure| failure.hint(choose_one()))?;
    Ok(FileList::read(&store, &root.image.descriptor, system::threads())?)
}

/// Reads the request from standard input.
///
/// Errors: misuse, so that a program that runs this command can tell a bad request from another error.
fn read_request() -> Result<MatchRequest, Failure> {
    let bytes = read_bounded(std::io::stdin().lock(), limits::MATCH_BYTES).map_err(|error| match error {
        TooLarge::Io(error) => Failure::refused(format!("cannot read standard input: {error}")),
        TooLarge::Limit { limit } => Failure::misuse(format!("the request has more than {limit} bytes")),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::misuse("the request is not UTF-8 text"))?;
    MatchRequest::parse(&text).map_err(|error| Failure::of(Kind::Misuse, &error))
}
