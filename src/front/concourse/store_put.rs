//! `out` into a store between jobs: an archive that a task wrote, or files that the put packs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::access::{self, TRANSFER_CONCURRENCY};
use super::protocol::{Metadata, Request, Response};
use super::put::{Params, PutContent, aliases, each_once, tag_of};
use super::store::{tags_there, version_of};
use super::store_source::StoreSource;
use super::upload::{self, Chosen};
use crate::depot::{CollectRequest, Depot};
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::packing::{PackWork, open_places, origin};
use crate::front::reporter::{self, Wording};
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::{Descriptor, Tag};
use crate::store;
use crate::transfer::signatures::Trust;
use crate::transfer::{self, Collection, DepotReport, DepotRequest, ImageLocator, ImageSource};

/// How long a blob stays after it was found unused.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Pushes, and returns the result.
pub(super) fn run(
    source: &StoreSource,
    request: Request,
    folder: &Path,
    env: &Env,
    ui: &Arc<Ui>,
) -> Result<Response, Failure> {
    let params = Params::parse(request.params, folder, env)?;
    let trust = params.trust(&source.verify_keys)?;
    let mut tags: Vec<Tag> = source.tag.iter().cloned().collect();
    if let Some(version) = &params.version {
        tags.push(tag_of(&version.to_string(), source.variant.as_deref())?);
        if params.bump_aliases && !version.is_pre_release() {
            let there = tags_there(source.objects(false, env, ui)?)?;
            tags.extend(aliases(&there, source.variant.as_deref(), source.bare_tag(), version)?);
        }
    }
    tags.extend(params.additional_tags.iter().cloned());
    let tags = each_once(&tags);
    if tags.is_empty() {
        return Err(Failure::misuse(
            "no tag to push: none of `source.tag`, `params.version` and `params.additional_tags` is given",
        ));
    }
    let temporary = access::temporary_folder(env);
    let put = Put { source, params: &params, tags: &tags, env, ui };
    let report = match &params.content {
        PutContent::Image(patterns) => put.found(folder, patterns, trust.as_ref(), &temporary)?,
        PutContent::Files(work) => match work.as_ref() {
            PackWork::Plain(request) => {
                let (packed, image) = reporter::watch(ui, Wording::Written, |observer| {
                    transfer::pack_to_spool(request, &temporary, observer)
                })?;
                put.alone(&image, packed.manifest.descriptor())?
            }
            PackWork::Runnable { request, places } => {
                let stores = open_places(places, &temporary)?;
                let origin = origin(&stores)?;
                let made = reporter::watch(ui, Wording::Written, |observer| {
                    transfer::make_runnable(request, &origin, &temporary, observer)
                })?;
                put.alone(&made.source, made.root.descriptor())?
            }
            PackWork::App { .. } => {
                return Err(Failure::misuse("`params.kind: source` cannot be pushed into a store")
                    .hint("pack it in a task, and push the tar with `params.image`"));
            }
        },
    };
    let Some(version) = report.versions.first() else {
        return Err(transfer::TransferError::Internal { what: "a push made no version" }.into());
    };
    let listed: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    Ok(Response {
        version: version_of(version),
        metadata: vec![
            Metadata::new("store", source.address.to_string()),
            Metadata::new("tags", listed.join(" ")),
            Metadata::new("sent", text::bytes(report.sent)),
            Metadata::new("reused", text::bytes(report.reused)),
        ],
    })
}

/// A prepared push.
struct Put<'a> {
    source: &'a StoreSource,
    params: &'a Params,
    tags: &'a [Tag],
    env: &'a Env,
    ui: &'a Arc<Ui>,
}

impl Put<'_> {
    /// Pushes the one archive of earlier steps.
    fn found(
        &self,
        folder: &Path,
        patterns: &[String],
        trust: Option<&Trust>,
        temporary: &Path,
    ) -> Result<DepotReport, Failure> {
        let paths = upload::find(folder, patterns)?;
        let [path] = paths.as_slice() else {
            let found = paths.len();
            return Err(Failure::misuse(format!("`params.image` finds {found} archives, expected one"))
                .hint("join them in a task with `imgrelay index`, and push that tar"));
        };
        let label = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let store = store::open(path, temporary)?;
        let expected = self.params.expected_digest.as_ref();
        let mut chosen = Chosen::of(&store, &label, self.params.select.as_ref(), expected)?;
        chosen.require(&self.params.platforms_required)?;
        chosen.demand(trust)?;
        if !self.params.referrers && trust.is_none() {
            upload::note_left_out(self.ui, &format!("`{label}` also holds"), chosen.without_attached());
        }
        let digest = chosen.digest().clone();
        transfer::check_expected(expected, &digest)?;
        let collection = chosen.tagged(self.tags);
        self.push(&ImageLocator::over(&chosen, None), &collection)
    }

    /// Pushes a newly made image.
    fn alone(&self, image: &dyn ImageSource, root: Descriptor) -> Result<DepotReport, Failure> {
        self.push(image, &Collection { members: vec![upload::alone(root)] })
    }

    fn push(&self, image: &dyn ImageSource, collection: &Collection) -> Result<DepotReport, Failure> {
        let images = collection
            .for_depot(image, &|_| self.tags.to_vec())?
            .map_err(|digest| Failure::misuse(format!("image `{digest}` has no tag")))?;
        let place = self.source.address.to_string();
        let shown = text::quoted_list(self.tags.iter().map(Tag::as_str));
        self.ui.note(&format!("pushing to {place} as {shown}"));
        let depot = Depot::create(self.source.objects(false, self.env, self.ui)?)?;
        let concurrency = TRANSFER_CONCURRENCY;
        let request =
            DepotRequest { images, concurrency, include_non_distributable: false, verify_upload: false };
        let report = reporter::watch(self.ui, Wording::Uploaded, |observer| {
            transfer::copy_to_depot(image, &depot, &request, observer)
        })?;
        if let Some(keep) = self.source.keep {
            self.tidy(&depot, keep);
        }
        Ok(report)
    }

    /// Removes versions beyond `source.keep`. The image was pushed before, so that a failure here does not fail the put.
    fn tidy(&self, depot: &Depot, keep: usize) {
        let request = CollectRequest {
            tags: self.tags.to_vec(),
            keep: Some(keep),
            keep_for: None,
            grace: GRACE,
            dry_run: false,
        };
        match depot.collect(&request) {
            Ok(collected) if collected.versions.is_empty() && collected.blobs == 0 => {}
            Ok(collected) => self.ui.note(&format!(
                "removed {}, and {} of {}",
                text::counted(collected.versions.len() as u64, "old version"),
                text::counted(collected.blobs, "unused blob"),
                text::bytes(collected.bytes)
            )),
            Err(error) => self.ui.warning(&format!(
                "the image was pushed, but old versions were not removed (`source.keep`): {error}"
            )),
        }
    }
}
