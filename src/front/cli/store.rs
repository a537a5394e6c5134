//! `store list` and `store gc`: the versions in an image store, and deleting what is no longer used.

use std::fmt::Write as _;

use super::resolve;
use super::store_args::{StoreGcArgs, StoreListArgs};
use super::stores::objects;
use crate::depot::{Depot, Version};
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::{Outcome, TextDocument};
use crate::front::text;

pub(in crate::front) fn list(context: &Context<'_>, args: &StoreListArgs) -> Result<Outcome, Failure> {
    let (store, registry) = resolve::store_list(args)?;
    let depot = Depot::open(objects(context, &store.address, &registry)?)?;
    let versions = match &store.tag {
        Some(tag) => depot.history(tag, &|_| false)?,
        None => depot.newest_of_all()?,
    };
    let mut text = String::new();
    for version in &versions {
        writeln!(text, "{}\t{}\t{}", version.tag, version.digest, version.pushed)
            .expect("writing to a String cannot fail");
    }
    let json = serde_json::json!({ "store": depot.label(), "versions": rows(&versions) });
    Ok(Outcome::Document(TextDocument::new(text, json)))
}

fn rows(versions: &[Version]) -> Vec<serde_json::Value> {
    let row = |version: &Version| {
        serde_json::json!({
            "tag": version.tag.as_str(),
            "digest": version.digest,
            "pushed": version.pushed.to_string(),
        })
    };
    versions.iter().map(row).collect()
}

pub(in crate::front) fn collect(context: &Context<'_>, args: &StoreGcArgs) -> Result<Outcome, Failure> {
    let (address, request, registry) = resolve::store_gc(args)?;
    let depot = Depot::open(objects(context, &address, &registry)?)?;
    let collected = depot.collect(&request)?;
    if collected.is_busy {
        context.ui.warning("another `store gc` is deleting; blobs were left alone");
    }
    let verb = if request.dry_run { "would be " } else { "" };
    let mut text = String::new();
    for version in &collected.versions {
        writeln!(text, "{verb}removed\t{}\t{}\t{}", version.tag, version.digest, version.pushed)
            .expect("writing to a String cannot fail");
    }
    let (blobs, bytes) = (text::counted(collected.blobs, "unused blob"), text::bytes(collected.bytes));
    let waiting = text::counted(collected.waiting, "unused blob");
    writeln!(text, "{blobs} of {bytes} {verb}deleted; {waiting} until the grace is over")
        .expect("writing to a String cannot fail");
    let json = serde_json::json!({
        "store": depot.label(),
        "removed": rows(&collected.versions),
        "deleted": collected.blobs,
        "size": collected.bytes,
        "waiting": collected.waiting,
        "dryRun": request.dry_run,
        "busy": collected.is_busy,
    });
    Ok(Outcome::Document(TextDocument::new(text, json)))
}
