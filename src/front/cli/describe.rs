//! `describe`: the images of a source as a stable tree.

use std::fmt::Write as _;

use super::args::DescribeArgs;
use super::choices::DescribeForm;
use super::open_source::{Depth, OpenedSource};
use super::resolve::{self, DescribeOptions, Source};
use super::without::needed;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::{ImageOutcome, Outcome, ReportedPlace, TextDocument};
use crate::front::result_file;
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::invisible::{escape_in_json, escape_in_yaml};
use crate::store::LeftOut;
use crate::transfer::events::{Event, Observer};
use crate::transfer::{
    self, Attached, Description, DocumentKind, LayerDescription, PlatformRow, RunDescription,
};

pub(in crate::front) fn run(
    context: &Context<'_>,
    args: &DescribeArgs,
    json: bool,
) -> Result<Outcome, Failure> {
    let options = resolve::describe(args, json, context.env)?;
    let to = match &options.source {
        Source::Tar(path) | Source::OciTar(path) => Some(path.as_path()),
        _ => None,
    };
    result_file::report(&options.results, to, || described(context, &options))
}

fn described(context: &Context<'_>, options: &DescribeOptions) -> Result<TextDocument, Failure> {
    let opened = OpenedSource::open(context, &options.source, &options.registry, false)?
        .select(options.select.as_ref())?;
    let mut images = opened.with(|locator| {
        let depth = Depth {
            thick: true,
            inflate: false,
            attached: Attached { cosign: options.cosign, referrers: options.cosign, locations: true },
            bundles_as_images: true,
        };
        let found = Found { ui: &context.ui };
        let collection = opened.gather(locator, depth, &options.registry, &found)?;
        Ok(transfer::describe_collection(locator, &collection, options.registry.concurrency)?)
    })?;
    if options.is_app {
        images.iter_mut().filter(|image| image.kind == DocumentKind::Image).for_each(|image| {
            image.kind = DocumentKind::Source;
        });
    }
    let image = main_image(&images, options).map(Box::new);
    if !options.layers {
        images.iter_mut().for_each(without_layers);
    }
    let needs: Vec<LeftOut> = opened.lacking().into_values().cloned().collect();
    let mut json = serde_json::json!({ "images": images });
    if !needs.is_empty() {
        json["needs"] = serde_json::json!(needs);
    }
    let text = match options.form {
        DescribeForm::Text => {
            let images = images.iter().map(|image| tree(image, 0)).collect::<Vec<_>>().join("\n");
            if needs.is_empty() { images } else { format!("Needs {}\n\n{images}", needed(&needs)) }
        }
        DescribeForm::Json => escape_in_json(&format!("{json:#}\n")),
        // All strings with such characters are in double quotes.
        DescribeForm::Yaml => escape_in_yaml(&yaml(&json, 0)),
    };
    Ok(TextDocument { image, ..TextDocument::new(text, json) })
}

/// Returns the one image of the source; attached manifests do not count.
fn main_image(images: &[Description], options: &DescribeOptions) -> Option<ImageOutcome> {
    let mut own = images.iter().filter(|image| {
        !matches!(image.kind, DocumentKind::Signature | DocumentKind::Attestation | DocumentKind::Internal)
            && image.subject.is_none()
    });
    let (Some(image), None) = (own.next(), own.next()) else { return None };
    let place = match &options.source {
        Source::Bundle(reference) | Source::Image(reference) => {
            ReportedPlace::Registry(reference.repository.clone())
        }
        Source::Tar(path) | Source::OciTar(path) | Source::Lock(path) => ReportedPlace::Tar(path.clone()),
        Source::WebTar(_) | Source::Store(_) => ReportedPlace::Store,
    };
    Some(ImageOutcome::of_description(image, place))
}

/// Leaves out the layers of an image and of everything below it.
fn without_layers(description: &mut Description) {
    description.layers.clear();
    description.manifests.iter_mut().for_each(without_layers);
    let named = description.images.iter_mut().filter_map(|image| image.content.as_deref_mut());
    named.for_each(without_layers);
}

/// Prints how many images were read, so that a user sees progress on a large bundle.
struct Found<'a> {
    ui: &'a Ui,
}

impl Observer for Found<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Gathering { images } = event {
            self.ui.note(&format!("found {}", text::counted(images, "image")));
        }
    }
}

fn kind_name(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Bundle => "Bundle",
        DocumentKind::Image => "Image",
        DocumentKind::Source => "Source",
        DocumentKind::Index => "Index",
        DocumentKind::Artifact => "Artifact",
        DocumentKind::Signature => "Signature",
        DocumentKind::Attestation => "Attestation",
        DocumentKind::Internal => "Internal",
    }
}

/// Returns the platforms of an index as lines of a table, in columns.
fn platform_lines(rows: &[PlatformRow]) -> Vec<String> {
    let cells: Vec<[String; 4]> = rows.iter().map(platform_cells).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let line = |[platform, digest, size, attestations]: &[String; 4]| {
        let [first, second, third] = widths;
        format!("{platform:first$}  {digest:second$}  {size:>third$}  {attestations}").trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

fn platform_cells(row: &PlatformRow) -> [String; 4] {
    let digest = text::short_digest(&row.digest);
    let platform = row.platform.clone().unwrap_or_else(|| "no platform".to_owned());
    let mut kinds: Vec<&str> = Vec::new();
    for kind in row.attestations.iter().flat_map(|attestation| &attestation.predicate_types) {
        let kind = statement_name(kind);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let attestations = match (row.attestations.len(), kinds.is_empty()) {
        (0, _) => String::new(),
        (count, true) => text::counted(count as u64, "attestation"),
        (_, false) => kinds.join(", "),
    };
    let size = if row.absent { "not in the tar".to_owned() } else { text::bytes(row.size) };
    [platform, digest, size, attestations]
}

/// Returns a short name for a type of statement; an unknown one stays as it is.
fn statement_name(predicate_type: &str) -> &str {
    match predicate_type {
        kind if kind.starts_with("https://slsa.dev/provenance/") => "provenance",
        "https://spdx.dev/Document" | "https://cyclonedx.org/bom" => "SBOM",
        other => other,
    }
}

/// Returns a short name for the type of a layer; an unknown one stays as it is.
fn layer_name(media_type: &str) -> &str {
    let known = ["application/vnd.oci.image.layer.v1.", "application/vnd.docker.image.rootfs.diff."];
    known.iter().find_map(|start| media_type.strip_prefix(start)).unwrap_or(media_type)
}

/// Returns a digest, a size and a type for each layer, in columns.
fn layer_lines(layers: &[LayerDescription]) -> Vec<String> {
    let width = layers.iter().map(|layer| text::bytes(layer.size).len()).max().unwrap_or_default();
    let line = |layer: &LayerDescription| {
        let (digest, size) = (text::short_digest(&layer.digest), text::bytes(layer.size));
        format!("{digest}  {size:>width$}  {}", layer_name(&layer.media_type))
    };
    layers.iter().map(line).collect()
}

/// Returns what a container runs with, a line for each setting.
fn run_lines(run: &RunDescription) -> Vec<String> {
    let list = |words: &[String]| serde_json::to_string(words).expect("texts are always JSON");
    let mut lines = Vec::new();
    for (name, words) in [("Entrypoint", &run.entrypoint), ("Cmd", &run.cmd)] {
        lines.extend((!words.is_empty()).then(|| format!("{name}: {}", list(words))));
    }
    for (name, text) in [("User", &run.user), ("Workdir", &run.workdir), ("Stop signal", &run.stop_signal)] {
        lines.extend(text.as_ref().map(|text| format!("{name}: {text}")));
    }
    for (name, texts) in [("Env", &run.env), ("Port", &run.ports), ("Volume", &run.volumes)] {
        lines.extend(texts.iter().map(|text| format!("{name}: {text}")));
    }
    lines
}

/// Writes one node and what is below it, indented; text from outside is escaped.
fn tree(node: &Description, depth: usize) -> String {
    let mut out = String::new();
    let indent = "  ".repeat(depth);
    let mut line = |text: String| {
        writeln!(out, "{indent}{}", text::escaped(&text)).expect("writing to a String cannot fail");
    };
    let kind = kind_name(node.kind);
    line(format!("{kind} {}", text::digest_in(indent.len() + kind.len() + 1, &node.digest)));
    if node.absent {
        line("  Not in the tar: it holds other images of this index only".to_owned());
    }
    line(format!("  Media type: {}", node.media_type));
    line(format!("  Size: {}", text::bytes(node.size)));
    for name in &node.names {
        line(format!("  Name: {name}"));
    }
    if let Some(origin) = &node.origin {
        line(format!("  Origin: {origin}"));
    }
    if !node.platforms.is_empty() {
        line("  Platforms:".to_owned());
        platform_lines(&node.platforms).into_iter().for_each(|row| line(format!("    {row}")));
    }
    // Images that are the same every time were made in the year 1, or in no year.
    let created = node.created.as_ref().filter(|created| !created.starts_with("0001-"));
    for (name, text) in [("Platform", node.platform.as_ref()), ("Created", created)] {
        text.iter().for_each(|text| line(format!("  {name}: {text}")));
    }
    if let Some(subject) = &node.subject {
        line(format!("  Of: {}", text::digest_in(indent.len() + "  Of: ".len(), subject)));
    }
    for kind in &node.predicate_types {
        line(format!("  Statement: {kind}"));
    }
    if let Some(kind) = &node.artifact_type {
        line(format!("  Artifact type: {kind}"));
    }
    for row in node.run.iter().flat_map(run_lines) {
        line(format!("  {row}"));
    }
    for (key, value) in &node.annotations {
        line(format!("  Annotation: {key}={value}"));
    }
    for (key, value) in &node.labels {
        line(format!("  Label: {key}={value}"));
    }
    for row in layer_lines(&node.layers) {
        line(format!("  Layer: {row}"));
    }
    for signature in &node.signatures {
        statement(signature, indent.len()).into_iter().for_each(&mut line);
    }
    for image in &node.images {
        let mut line = |text: String| {
            writeln!(out, "{indent}{}", text::escaped(&text)).expect("writing to a String cannot fail");
        };
        line(format!("  Refers to: {}", image.image));
        for (key, value) in &image.annotations {
            line(format!("    Annotation: {key}={value}"));
        }
        if let Some(content) = &image.content {
            out.push_str(&tree(content, depth + 2));
        }
    }
    for child in &node.manifests {
        out.push_str(&tree(child, depth + 1));
    }
    out
}

/// Writes one signature, attestation or other referrer: on a line, or where it is too long, each part on a line.
fn statement(value: &serde_json::Value, indent: usize) -> Vec<String> {
    let text = |name: &str| value[name].as_str();
    let kind = match text("kind") {
        Some("signature") => "Signature",
        Some("attestation") => "Attestation",
        Some("referrer") => "Referrer",
        _ => "Unreadable signature",
    };
    let words = text("place").unwrap_or_default().split(' ').map(|word| word.trim_matches('`'));
    let short = |word: &str| word.parse().map_or(word.to_owned(), |digest| text::short_digest(&digest));
    let place = words.map(short).collect::<Vec<_>>().join(" ");
    let details = [
        ("identity", "for"),
        ("predicateType", "type"),
        ("artifactType", "type"),
        ("keyHint", "key"),
        ("problem", "problem"),
    ];
    let details = details.iter().filter_map(|(name, shown)| Some(format!("{shown} {}", text(name)?)));
    let mut lines = vec![format!("  {kind}: {place}")];
    lines.extend(details);
    let line = lines.join(", ");
    if indent + line.chars().count() <= text::COLUMNS {
        return vec![line];
    }
    lines.iter_mut().skip(1).for_each(|detail| detail.insert_str(0, "    "));
    lines
}

/// Writes JSON as block YAML; strings are in double quotes as in JSON, which YAML reads the same.
fn yaml(value: &serde_json::Value, depth: usize) -> String {
    use serde_json::Value;
    let indent = "  ".repeat(depth);
    let nested = |value: &Value| match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    let mut out = String::new();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = serde_json::to_string(key).expect("a string is always JSON");
                let key = key.trim_matches('"');
                let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
                let key = if plain { key.to_owned() } else { format!("\"{key}\"") };
                if nested(value) {
                    out.push_str(&format!("{indent}{key}:\n{}", yaml(value, depth + 1)));
                } else {
                    out.push_str(&format!("{indent}{key}: {value}\n"));
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if nested(item) {
                    let block = yaml(item, depth + 1);
                    let body = block.strip_prefix(&"  ".repeat(depth + 1)).unwrap_or(&block);
                    out.push_str(&format!("{indent}- {body}"));
                } else {
                    out.push_str(&format!("{indent}- {item}\n"));
                }
            }
        }
        other => out.push_str(&format!("{indent}{other}\n")),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_one_line_or_where_that_is_too_long_a_line_for_each_part() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let place = format!("signature 1 of `{digest}`");
        let value = serde_json::json!({"kind": "signature", "place": place, "keyHint": "0123456789"});
        assert_eq!(statement(&value, 0), ["  Signature: signature 1 of sha256:aaaaaaaaaaaa, key 0123456789"]);
        assert_eq!(
            statement(&value, 20),
            ["  Signature: signature 1 of sha256:aaaaaaaaaaaa", "    key 0123456789"]
        );
    }
    use crate::transfer::AttestationRow;

    #[test]
    fn platforms_are_lined_up_and_fit_80_columns() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64)).parse().unwrap();
        let row = |platform: &str, digit: &str, size, kinds: &[&str]| PlatformRow {
            platform: Some(platform.to_owned()),
            digest: digest(digit),
            size,
            absent: false,
            attestations: kinds
                .iter()
                .map(|kind| AttestationRow { digest: digest("f"), predicate_types: vec![(*kind).to_owned()] })
                .collect(),
        };
        let lines = platform_lines(&[
            row("linux/amd64", "1", 1234, &["https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document"]),
            row("linux/arm64/v8", "2", 12, &[]),
            row("linux/riscv64", "3", 5_000_000, &["https://example.com/scan"]),
        ]);
        assert_eq!(
            lines,
            [
                "linux/amd64     sha256:111111111111  1.2 KiB  provenance, SBOM",
                "linux/arm64/v8  sha256:222222222222     12 B",
                "linux/riscv64   sha256:333333333333  4.8 MiB  https://example.com/scan",
            ]
        );
        assert!(lines.iter().all(|line| line.len() + 4 <= 80));
    }
}
