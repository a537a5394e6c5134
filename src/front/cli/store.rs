//! `store list`: the versions in an image store.

use std::fmt::Write as _;

use super::resolve;
use super::store_args::StoreListArgs;
use super::stores::objects;
use crate::depot::Depot;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::{Document, Outcome};

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
    let rows: Vec<serde_json::Value> = versions
        .iter()
        .map(|version| {
            serde_json::json!({
                "tag": version.tag.as_str(),
                "digest": version.digest,
                "pushed": version.pushed.to_string(),
            })
        })
        .collect();
    let json = serde_json::json!({ "store": depot.label(), "versions": rows });
    Ok(Outcome::Document(Document::new(text, json)))
}
