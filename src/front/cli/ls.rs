//! `ls`: the files of an image as a container would see them, a line for each.

use super::look_args::LsArgs;
use super::looking::{look, mode_text, place_of, shown};
use super::printing::Printer;
use super::resolve;
use crate::front::context::Context;
use crate::front::failure::{Failure, message};
use crate::front::flag::Flag;
use crate::front::outcome::Outcome;
use crate::front::text;
use crate::model::time;
use crate::tar::{Node, NodeKind};
use crate::transfer::ImageListing;

pub(in crate::front) fn run(context: &Context<'_>, args: &LsArgs, json: bool) -> Result<Outcome, Failure> {
    let options = resolve::ls(args)?;
    look(context, &options.image, |listing, place, _| {
        let mut rows = rows(listing, place, &options.path)?;
        if let Some(number) = options.layer {
            if number > listing.layers.len() {
                let has = text::counted(listing.layers.len() as u64, "layer");
                return Err(Failure::refused(message!(
                    Flag::LAYER.with(number.to_string()),
                    format!(": the image in `{place}` has {has}")
                )));
            }
            rows.retain(|row| row.node.layer as usize + 1 == number);
        }
        if let Some(count) = options.largest {
            rows.retain(|row| row.node.kind == NodeKind::File);
            rows.sort_by_key(|row| std::cmp::Reverse(row.node.content.size));
            rows.truncate(count);
        }
        if json { print_json(context, listing, &rows) } else { print_lines(context, &rows) }
    })?;
    Ok(Outcome::Printed)
}

/// A file with its path.
struct Row<'a> {
    path: &'a [u8],
    node: &'a Node,
}

/// Returns the entry of a path and everything below it, folders before their entries.
fn rows<'a>(listing: &'a ImageListing, place: &str, path: &[u8]) -> Result<Vec<Row<'a>>, Failure> {
    let found = place_of(&listing.tree, place, path)?;
    let itself = listing.tree.entry(&found).map(|(path, node)| Row { path, node });
    let below = listing.tree.below(&found).map(|(path, node)| Row { path, node });
    let mut rows: Vec<Row<'_>> = itself.into_iter().chain(below).collect();
    rows.sort_by(|one, other| {
        one.path.split(|byte| *byte == b'/').cmp(other.path.split(|byte| *byte == b'/'))
    });
    Ok(rows)
}

fn print_lines(context: &Context<'_>, rows: &[Row<'_>]) -> Result<(), Failure> {
    let width = |of: fn(&Node) -> u64| {
        rows.iter().map(|row| of(row.node)).max().unwrap_or_default().to_string().len()
    };
    let users = width(|node| node.owner.uid.into());
    let groups = width(|node| node.owner.gid.into());
    let sizes = width(|node| node.content.size);
    let layers = width(|node| u64::from(node.layer) + 1);
    let mut printer = Printer::new(&context.ui);
    for Row { path, node } in rows {
        let target = match &node.kind {
            NodeKind::Link(target) => format!(" -> {}", shown(target)),
            NodeKind::HardLink(target) => format!(" link to {}, which is not there", shown(target)),
            _ => String::new(),
        };
        printer.line(&format!(
            "{} {:>users$} {:>groups$} {:>sizes$} {} {:>layers$} /{}{target}",
            mode_text(node),
            node.owner.uid,
            node.owner.gid,
            node.content.size,
            minute(node.mtime),
            format!("#{}", node.layer + 1),
            shown(path),
            layers = layers + 1,
        ))?;
    }
    printer.finish()
}

/// Returns a time as `ls` prints it, in UTC.
fn minute(seconds: i64) -> String {
    let text = u64::try_from(seconds).ok().and_then(time::format_rfc3339);
    let minute = text.as_deref().and_then(|text| text.get(..16)).unwrap_or("before 1970     ");
    minute.replace('T', " ")
}

fn print_json(context: &Context<'_>, listing: &ImageListing, rows: &[Row<'_>]) -> Result<(), Failure> {
    let layers: Vec<serde_json::Value> = listing
        .layers
        .iter()
        .zip(1..)
        .map(|(layer, number)| {
            serde_json::json!({
                "number": number,
                "digest": layer.digest.to_string(),
                "mediaType": layer.media_type,
                "size": layer.size,
            })
        })
        .collect();
    let mut printer = Printer::new(&context.ui);
    let digest = listing.manifest.digest().to_string();
    printer.json_open(&[("digest", digest.into()), ("layers", layers.into())], "files")?;
    for Row { path, node } in rows {
        printer.json_item(&super::looking::file_json(path, node))?;
    }
    printer.json_close()?;
    printer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_and_of_one_width() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00"),
            (1_700_000_000, "2023-11-14 22:13"),
            (-1, "before 1970     "),
            (i64::MAX, "before 1970     "),
        ] {
            assert_eq!(minute(seconds), expected);
        }
    }
}
