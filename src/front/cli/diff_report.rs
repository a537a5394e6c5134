//! The differences of two images in words and as JSON.

use serde_json::{Value, json};

use super::looking::{kind_name, node_json, path_json, shown};
use super::printing::Printer;
use crate::front::failure::Failure;
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::{Descriptor, Digest, RawDocument};
use crate::tar::{Node, NodeKind};
use crate::transfer::{Aspect, FieldChange, FileChange, FilesDiff, ImageDiff, ImagePair};

/// Everything that was found.
pub(super) struct Comparison {
    /// Place and digest of the older and the newer image.
    pub(super) places: [(String, Digest); 2],
    /// Annotations of two indexes that differ.
    pub(super) index: Vec<FieldChange>,
    /// The images of each platform.
    pub(super) pairs: Vec<ImagePair>,
}

/// Returns the name of a pair.
pub(super) fn name_of(pair: &ImagePair) -> String {
    pair.platform.as_ref().map_or_else(|| "the image".to_owned(), |platform| format!("`{platform}`"))
}

/// Returns a growth in percent, with its sign.
pub(super) fn percent(old: u64, new: u64) -> String {
    if old == 0 {
        return "from nothing".to_owned();
    }
    let per_mille = (i128::from(new) - i128::from(old)) * 1000 / i128::from(old);
    let sign = if new < old { '-' } else { '+' };
    let per_mille = per_mille.unsigned_abs();
    format!("{sign}{}.{} %", per_mille / 10, per_mille % 10)
}

/// Returns a number of bytes with its sign.
fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    format!("{sign}{}", text::bytes(bytes.unsigned_abs()))
}

/// Prints the differences as text, with a limited number of changed files for each image.
pub(super) fn print_text(ui: &Ui, found: &Comparison, largest: Option<usize>) -> Result<(), Failure> {
    let mut printer = Printer::new(ui);
    for ((place, digest), word) in found.places.iter().zip(["old", "new"]) {
        printer.line(&format!("{word}: {}@{digest}", text::escaped(place)))?;
    }
    for change in &found.index {
        printer.line(&field_line("annotation of the index", change))?;
    }
    for pair in &found.pairs {
        print_pair(&mut printer, pair, largest)?;
    }
    printer.finish()
}

fn print_pair(printer: &mut Printer<'_>, pair: &ImagePair, largest: Option<usize>) -> Result<(), Failure> {
    let name = pair.platform.as_deref().unwrap_or("image").to_owned();
    let name = text::escaped(&name);
    let (old, new) = match pair.sizes() {
        [Some(old), Some(new)] => (old, new),
        [Some(old), None] => {
            return printer.line(&format!("{name}: only the old index has it ({})", text::bytes(old)));
        }
        [None, new] => {
            let size = text::bytes(new.unwrap_or_default());
            return printer.line(&format!("{name}: only the new index has it ({size})"));
        }
    };
    let Some(diff) = &pair.diff else {
        return printer.line(&format!("{name}: the same, {} as stored", text::bytes(new)));
    };
    let (before, after) = (text::bytes(old), text::bytes(new));
    printer.line(&format!("{name}: {before} -> {after} as stored ({})", percent(old, new)))?;
    let layers = |layers: &[Descriptor]| {
        let size = layers.iter().map(|layer| layer.size).sum();
        if layers.is_empty() { "0".to_owned() } else { format!("{} ({})", layers.len(), text::bytes(size)) }
    };
    let (shared, removed, added) = (layers(&diff.shared), layers(&diff.removed), layers(&diff.added));
    printer.line(&format!("  layers: {shared} shared, {removed} removed, {added} added"))?;
    if let Some(files) = &diff.files {
        let sums = Sums::of(files);
        let part = |(count, bytes): (u64, i64)| {
            if count == 0 { "0".to_owned() } else { format!("{count} ({})", signed(bytes)) }
        };
        printer.line(&format!(
            "  files: {} added, {} removed, {} changed",
            part(sums.added),
            part(sums.removed),
            part(sums.changed)
        ))?;
        if !files.shared_read {
            printer.line(
                "  the shared layers were not read: a file that is in them too counts as added or removed",
            )?;
        }
    }
    for (sign, layers) in [('-', &diff.removed), ('+', &diff.added)] {
        for layer in layers {
            let size = text::bytes(layer.size);
            let digest = text::digest_in("  - layer  ()".len() + size.len(), &layer.digest);
            printer.line(&format!("  {sign} layer {digest} ({size})"))?;
        }
    }
    for change in &diff.configuration {
        printer.line(&field_line("config", change))?;
    }
    for change in &diff.annotations {
        printer.line(&field_line("annotation", change))?;
    }
    print_files(printer, diff, largest)
}

fn print_files(printer: &mut Printer<'_>, diff: &ImageDiff, largest: Option<usize>) -> Result<(), Failure> {
    let changes = diff.files.as_ref().map_or(&[][..], |files| &files.changes);
    let most = largest.unwrap_or(usize::MAX);
    for change in changes.iter().take(most) {
        printer.line(&file_line(change))?;
    }
    let more = changes.len().saturating_sub(most);
    if more > 0 {
        printer.line(&format!("  … and {} more", text::counted(more as u64, "file")))?;
    }
    Ok(())
}

fn field_line(what: &str, change: &FieldChange) -> String {
    let name = text::escaped(&change.field);
    let value = |value: &Option<Value>| {
        value.as_ref().map(|value| text::escaped(&value.to_string()).into_owned()).unwrap_or_default()
    };
    match (&change.old, &change.new) {
        (None, _) => format!("  + {what} {name}: {}", value(&change.new)),
        (_, None) => format!("  - {what} {name}: {}", value(&change.old)),
        _ => format!("  ~ {what} {name}: {} -> {}", value(&change.old), value(&change.new)),
    }
}

fn file_line(change: &FileChange) -> String {
    let (path, growth) = (shown(&change.path), change.growth());
    let (sign, node) = match (&change.old, &change.new) {
        (_, None) => ('-', &change.old),
        (None, _) => ('+', &change.new),
        _ => ('~', &change.new),
    };
    let kind = node.as_ref().map(|node| kind_name(&node.kind)).unwrap_or_default();
    let size = if growth == 0 { String::new() } else { format!(" {}", signed(growth)) };
    let aspects: Vec<String> = match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            change.aspects().iter().map(|aspect| aspect_text(*aspect, old, new)).collect()
        }
        _ => Vec::new(),
    };
    let aspects = if aspects.is_empty() { String::new() } else { format!(" ({})", aspects.join(", ")) };
    format!("  {sign} {kind} /{path}{size}{aspects}")
}

fn aspect_text(aspect: Aspect, old: &Node, new: &Node) -> String {
    let target = |node: &Node| match &node.kind {
        NodeKind::Link(target) | NodeKind::HardLink(target) => shown(target),
        _ => String::new(),
    };
    match aspect {
        Aspect::Type => format!("was {}", kind_name(&old.kind)),
        Aspect::Content => "content".to_owned(),
        Aspect::Mode => format!("mode {:04o} -> {:04o}", old.mode, new.mode),
        Aspect::Owner => {
            let owner = |node: &Node| format!("{}:{}", node.owner.uid, node.owner.gid);
            format!("owner {} -> {}", owner(old), owner(new))
        }
        Aspect::Target => format!("target {} -> {}", target(old), target(new)),
    }
}

/// How many files changed in which way, and by how many bytes together.
#[derive(Default)]
struct Sums {
    added: (u64, i64),
    removed: (u64, i64),
    changed: (u64, i64),
}

impl Sums {
    fn of(files: &FilesDiff) -> Self {
        let mut sums = Self::default();
        for change in &files.changes {
            let sum = match (&change.old, &change.new) {
                (None, _) => &mut sums.added,
                (_, None) => &mut sums.removed,
                _ => &mut sums.changed,
            };
            sum.0 += 1;
            sum.1 = sum.1.saturating_add(change.growth());
        }
        sums
    }
}

/// Prints the differences as JSON, with the failure that they stand for.
pub(super) fn print_json(ui: &Ui, found: &Comparison, failure: Option<&Failure>) -> Result<(), Failure> {
    let mut printer = Printer::new(ui);
    let [old, new] = &found.places;
    let place = |(place, digest): &(String, Digest)| json!({"place": place, "digest": digest.to_string()});
    let mut head = vec![
        ("identical", json!(old.1 == new.1)),
        ("old", place(old)),
        ("new", place(new)),
        ("annotations", fields_json(&found.index)),
    ];
    head.extend(failure.map(|failure| ("error", ui.error_json(failure))));
    printer.json_open(&head, "images")?;
    for pair in &found.pairs {
        pair_json(&mut printer, pair)?;
    }
    printer.json_close()?;
    printer.finish()
}

fn pair_json(printer: &mut Printer<'_>, pair: &ImagePair) -> Result<(), Failure> {
    let status = match (&pair.old, &pair.new, &pair.diff) {
        (None, ..) => "added",
        (_, None, _) => "removed",
        (.., None) => "same",
        _ => "changed",
    };
    let side = |document: &Option<RawDocument>, size: Option<u64>| match document {
        Some(document) => json!({"digest": document.digest().to_string(), "size": size}),
        None => Value::Null,
    };
    let [old_size, new_size] = pair.sizes();
    let mut members = vec![
        ("platform", json!(pair.platform)),
        ("status", json!(status)),
        ("old", side(&pair.old, old_size)),
        ("new", side(&pair.new, new_size)),
    ];
    let mut changes = &[][..];
    if let Some(diff) = &pair.diff {
        let layers = |layers: &[Descriptor]| -> Vec<Value> {
            layers
                .iter()
                .map(|layer| json!({"digest": layer.digest.to_string(), "size": layer.size}))
                .collect()
        };
        members.push(("configuration", fields_json(&diff.configuration)));
        members.push(("annotations", fields_json(&diff.annotations)));
        let (shared, removed, added) = (layers(&diff.shared), layers(&diff.removed), layers(&diff.added));
        members.push(("layers", json!({"shared": shared, "removed": removed, "added": added})));
        if let Some(files) = &diff.files {
            let sums = Sums::of(files);
            let sum = |(count, bytes): (u64, i64)| json!({"count": count, "bytes": bytes});
            members.push((
                "files",
                json!({"added": sum(sums.added), "removed": sum(sums.removed), "changed": sum(sums.changed),
                    "sharedLayersRead": files.shared_read}),
            ));
            changes = &files.changes;
        }
    }
    printer.json_open(&members, "changes")?;
    for change in changes {
        printer.json_item(&change_json(change))?;
    }
    printer.json_close()
}

fn fields_json(changes: &[FieldChange]) -> Value {
    let field = |change: &FieldChange| json!({"field": change.field, "old": change.old, "new": change.new});
    changes.iter().map(field).collect()
}

fn change_json(change: &FileChange) -> Value {
    let kind = match (&change.old, &change.new) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let aspect = |aspect: &Aspect| match aspect {
        Aspect::Type => "type",
        Aspect::Content => "content",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Target => "target",
    };
    let node = |node: &Option<std::sync::Arc<Node>>| node.as_ref().map(|node| node_json(node));
    json!({
        "path": path_json(&change.path),
        "change": kind,
        "growth": change.growth(),
        "what": change.aspects().iter().map(aspect).collect::<Vec<_>>(),
        "old": node(&change.old),
        "new": node(&change.new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growths_have_a_sign() {
        for (old, new, expected) in [
            (1000, 1031, "+3.1 %"),
            (1000, 969, "-3.1 %"),
            (1000, 1000, "+0.0 %"),
            (10_000, 9_999, "-0.0 %"),
            (0, 5, "from nothing"),
        ] {
            assert_eq!(percent(old, new), expected);
        }
        assert_eq!((signed(2048), signed(-3), signed(0)), ("+2.0 KiB".into(), "-3 B".into(), "+0 B".into()));
    }
}
