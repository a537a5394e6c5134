//! `describe`: the images of a source as a stable tree.

use std::fmt::Write as _;

use super::args::DescribeArgs;
use super::choices::DescribeForm;
use super::open_source::{Depth, OpenedSource};
use super::resolve;
use crate::front::context::Context;
use crate::front::failure::Failure;
use crate::front::outcome::{Document, Outcome};
use crate::front::text;
use crate::front::ui::Ui;
use crate::model::invisible::{escape_in_json, escape_in_yaml};
use crate::transfer::events::{Event, Observer};
use crate::transfer::{self, Attached, Description, NodeKind};

pub(in crate::front) fn run(
    context: &Context<'_>,
    args: &DescribeArgs,
    json: bool,
) -> Result<Outcome, Failure> {
    let options = resolve::describe(args, json)?;
    let opened = OpenedSource::open(context, &options.source, &options.registry, false)?;
    let images = opened.with(|locator| {
        let depth = Depth {
            thick: true,
            inflate: false,
            attached: Attached { cosign: options.cosign, referrers: false, locations: true },
            bundles_as_images: true,
        };
        let found = Found { ui: &context.ui };
        let collection = opened.gather(locator, depth, &options.registry, &found)?;
        Ok(transfer::describe_collection(locator, &collection, options.registry.concurrency)?)
    })?;
    let json = serde_json::json!({ "images": images });
    let text = match options.form {
        DescribeForm::Text => images.iter().map(|image| tree(image, 0)).collect::<Vec<_>>().join("\n"),
        DescribeForm::Json => escape_in_json(&format!("{json:#}\n")),
        // All strings with such characters are in double quotes.
        DescribeForm::Yaml => escape_in_yaml(&yaml(&json, 0)),
    };
    Ok(Outcome::Document(Document { text, json, failure: None }))
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

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Bundle => "Bundle",
        NodeKind::Image => "Image",
        NodeKind::Index => "Index",
        NodeKind::Artifact => "Artifact",
        NodeKind::Signature => "Signature",
        NodeKind::Internal => "Internal",
    }
}

/// Writes one node and what is below it, indented; text from outside is escaped.
fn tree(node: &Description, depth: usize) -> String {
    let mut out = String::new();
    let indent = "  ".repeat(depth);
    let mut line = |text: String| {
        writeln!(out, "{indent}{}", text::escaped(&text)).expect("writing to a String cannot fail");
    };
    line(format!("{} {}", kind_name(node.kind), node.digest));
    line(format!("  Media type: {}", node.media_type));
    line(format!("  Size: {}", text::bytes(node.size)));
    for name in &node.names {
        line(format!("  Name: {name}"));
    }
    if let Some(origin) = &node.origin {
        line(format!("  Origin: {origin}"));
    }
    if let Some(platform) = &node.platform {
        line(format!("  Platform: {platform}"));
    }
    if let Some(kind) = &node.artifact_type {
        line(format!("  Artifact type: {kind}"));
    }
    for (key, value) in &node.annotations {
        line(format!("  Annotation: {key}={value}"));
    }
    for (key, value) in &node.labels {
        line(format!("  Label: {key}={value}"));
    }
    for layer in &node.layers {
        line(format!("  Layer: {} ({}, {})", layer.digest, text::bytes(layer.size), layer.media_type));
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
