//! `check` and `in` of a store between jobs.
//!
//! A version has the time of its push besides tag and digest, so that a tag which goes back to an earlier image is a
//! new version. The list of a tag's entries has all three: a check reads no object.

use std::path::Path;
use std::sync::Arc;

use super::access;
use super::check::candidate;
use super::get;
use super::output::{Output, write};
use super::protocol::{Metadata, Request, Response, Version};
use super::source::Tags;
use super::store_source::StoreSource;
use crate::depot::{self, Depot, Objects};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::main_image::stored_roots;
use crate::front::ui::Ui;
use crate::front::verification;
use crate::model::{SemanticVersion, Tag};
use crate::store::ImageName;
use crate::stream::FileError;
use crate::transfer::events::Silent;
use crate::transfer::{self, Attached, Gathering, ImageLocator};

/// Lists the versions, oldest first.
///
/// Before the first push there is no store and no version: the first put creates the store.
pub(super) fn check(
    source: &StoreSource,
    cursor: Option<&Version>,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<Vec<Version>, Failure> {
    let Some(depot) = Depot::find(source.objects(true, env, ui)?)? else { return Ok(Vec::new()) };
    let is_cursor = |version: &depot::Version| cursor.is_some_and(|cursor| *cursor == version_of(version));
    let found = match &source.tags {
        Tags::One(tag) => match cursor {
            None => depot.newest(tag)?.into_iter().collect(),
            Some(_) => {
                let history = depot.history(tag, &is_cursor)?;
                match history.last() {
                    Some(last) if is_cursor(last) => history.into_iter().rev().collect(),
                    // The cursor's entry was removed.
                    _ => history.into_iter().take(1).collect(),
                }
            }
        },
        Tags::Matching { regex, .. } => {
            let mut all = depot.newest_of_all()?;
            all.retain(|version| regex.is_match(version.tag.as_str().as_bytes()));
            all.sort_by_key(|version| version.pushed);
            from_cursor(all, &is_cursor)
        }
        Tags::Versions(rule) => {
            let all = depot.newest_of_all()?.into_iter();
            let mut all: Vec<(SemanticVersion, depot::Version)> = all
                .filter_map(|version| {
                    Some((candidate(version.tag.as_str(), source.variant.as_deref(), rule)?, version))
                })
                .collect();
            all.sort_by(|(one, _), (two, _)| one.precedence(two));
            from_cursor(all.into_iter().map(|(_, version)| version).collect(), &is_cursor)
        }
    };
    Ok(found.iter().map(version_of).collect())
}

/// Removes the versions before the cursor, if the cursor is in the list.
fn from_cursor(all: Vec<depot::Version>, is_cursor: &dyn Fn(&depot::Version) -> bool) -> Vec<depot::Version> {
    let from = all.iter().position(is_cursor).unwrap_or(0);
    all.into_iter().skip(from).collect()
}

/// Makes the version for Concourse.
pub(super) fn version_of(version: &depot::Version) -> Version {
    let pushed = Some(version.pushed.to_string());
    Version { pushed, ..Version::new(version.tag.as_str(), version.digest.clone()) }
}

/// Fetches a version.
pub(super) fn get(
    source: &StoreSource,
    request: Request,
    folder: &Path,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<Response, Failure> {
    let Some(version) = request.version else { return Err(Failure::misuse("`version` is missing")) };
    let version = version.complete()?;
    let params = get::Params::parse_of(request.params, &source.platform, &source.verify_keys)?;
    std::fs::create_dir_all(folder).map_err(|error| FileError::io("create", folder, error))?;
    let depot = Depot::open(source.objects(false, env, ui)?)?;
    let opened = open(&depot, &version)?;
    let store = &opened.store;
    let place = depot.label();
    let Some(root) = store.roots().first().map(|root| root.image.descriptor.clone()) else {
        return Err(Failure::refused(format!("`{place}` holds no image")));
    };
    let locator = ImageLocator::over(store, None);
    let gathering =
        Gathering { thick: false, attached: Attached::default(), concurrency: access::TRANSFER_CONCURRENCY };
    let collection = transfer::gather(&locator, stored_roots(store.roots()), &gathering, &Silent)?;
    verification::demand(&locator, &collection, params.trust())?;
    if params.trust().is_some() {
        ui.note(&format!("{place}@{} is signed by a given key", version.digest));
    }
    if !params.skip_download {
        ui.note(&format!("fetching {place}@{}", version.digest));
        let tag = version.tag();
        let output = Output {
            format: params.format,
            platform: &params.platform,
            folder,
            ui,
            names: vec![ImageName { tag, reference: None }],
        };
        let goes_along = params.referrers || params.trust().is_some();
        output.write(store, &root, goes_along.then_some((&locator, &collection)))?;
    }
    let tag = version.tag.clone().unwrap_or_default();
    let digest = version.digest.to_string();
    for (name, content) in [("store", place.as_str()), ("tag", &tag), ("digest", &digest)] {
        write(folder, name, content.as_bytes())?;
    }
    let mut metadata = vec![Metadata::new("store", place), Metadata::new("tag", tag)];
    metadata.extend(version.pushed.clone().map(|pushed| Metadata::new("pushed", pushed)));
    Ok(Response { version, metadata })
}

/// Opens a version: its entry, or, without a time, the newest entry with its digest.
fn open(depot: &Depot, version: &Version) -> Result<depot::OpenedImage, Failure> {
    let tag = version.tag();
    let pushed = version.pushed.as_deref().and_then(|pushed| pushed.parse().ok());
    if let (Some(tag), Some(pushed)) = (&tag, pushed) {
        let (tag, digest) = (tag.clone(), version.digest.clone());
        return Ok(depot.open_version(depot::Version { tag, digest, pushed })?);
    }
    Ok(depot.open_image(tag.as_ref(), Some(&version.digest))?)
}

/// Returns the tags of a store; none if there is no store yet.
pub(super) fn tags_there(objects: Arc<dyn Objects>) -> Result<Vec<String>, Failure> {
    match Depot::find(objects)? {
        Some(depot) => Ok(depot.tags()?.iter().map(Tag::to_string).collect()),
        None => Ok(Vec::new()),
    }
}
