//! `diff`: reports the differences of two images: a summary, then the changes, largest first.

use super::diff_args::DiffArgs;
use super::looking::ALONE;
use super::open_source::OpenedSource;
use super::resolve::{self, DiffRequest, Source};
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::Outcome;
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Verbosity;
use crate::model::Descriptor;
use crate::store::Selector;
use crate::transfer::events::Observer;
use crate::transfer::{DiffSide, ImageLocator, ImagePair, compare_pair, pair_images};

use super::diff_report::{self, Comparison};

pub(in crate::front) fn run(context: &Context<'_>, args: &DiffArgs, json: bool) -> Result<Outcome, Failure> {
    let quiet = context.ui.verbosity() == Verbosity::Quiet;
    let request = resolve::diff(args, quiet, json)?;
    let [old, new] = &request.sides;
    let [old, new] = [open(context, &request, old)?, open(context, &request, new)?];
    let (old_place, new_place) = (old.locator()?, new.locator()?);
    let found = reporter::watch(&context.ui, Wording::Fetched, |observer| {
        let old_root = root(&old, &old_place, &request, observer)?;
        let new_root = root(&new, &new_place, &request, observer)?;
        let sides = [
            DiffSide { source: &old_place, root: &old_root },
            DiffSide { source: &new_place, root: &new_root },
        ];
        compare(&sides, &request, observer)
    })?;
    let failure = difference_failure(&found, &request);
    if !request.quiet {
        match json {
            true => diff_report::print_json(&context.ui, &found, failure.as_ref())?,
            false => diff_report::print_text(&context.ui, &found, request.largest)?,
        }
    }
    failure.map_or(Ok(Outcome::Printed), Err)
}

fn open(
    context: &Context<'_>,
    request: &DiffRequest,
    (source, selector): &(Source, Option<Selector>),
) -> Result<OpenedSource, Failure> {
    OpenedSource::open(context, source, &request.registry, false)?.select(selector.as_ref())
}

fn root(
    opened: &OpenedSource,
    place: &ImageLocator<'_>,
    request: &DiffRequest,
    observer: &dyn Observer,
) -> Result<Descriptor, Failure> {
    let collection = opened.gather(place, ALONE, &request.registry, observer)?;
    Ok(opened.main_member(&collection, place, true)?.descriptor.clone())
}

fn compare(
    sides: &[DiffSide<'_>; 2],
    request: &DiffRequest,
    observer: &dyn Observer,
) -> Result<Comparison, Failure> {
    let [old, new] = *sides;
    let mut pairs = pair_images(old, new, request.compare.platform.as_ref())?;
    for pair in &mut pairs {
        if !request.quiet {
            compare_pair(old, new, pair, &request.compare, observer)?;
        }
    }
    let places = [old, new].map(|side| (side.source.label(), side.root.digest.clone()));
    let index = match (old.source.read_document(old.root)?, new.source.read_document(new.root)?) {
        (old, new) if old.manifest().is_none() && new.manifest().is_none() => {
            crate::transfer::annotation_changes(&old, &new)
        }
        _ => Vec::new(),
    };
    Ok(Comparison { places, index, pairs })
}

/// Returns the failure for the exit code, if the differences are one.
fn difference_failure(found: &Comparison, request: &DiffRequest) -> Option<Failure> {
    let Some(most) = request.max_growth else {
        let is_same = match request.compare.platform {
            None => found.places[0].1 == found.places[1].1,
            Some(_) => found.pairs.iter().all(ImagePair::is_same),
        };
        return (!is_same).then(|| Failure::difference("the images differ"));
    };
    let grown = |pair: &&ImagePair| match pair.sizes() {
        [Some(old), Some(new)] => most.is_exceeded(old, new),
        _ => false,
    };
    let pair = found.pairs.iter().find(grown)?;
    let [old, new] = pair.sizes().map(Option::unwrap_or_default);
    let (name, by) = (diff_report::name_of(pair), text::bytes(new.saturating_sub(old)));
    let percent = diff_report::percent(old, new);
    Some(Failure::difference(format!("{name} grew by {by} ({percent}), at most {most} is accepted")))
}
