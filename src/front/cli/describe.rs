//! `describe`: what is inside, as a stable tree.

use std::fmt::Write as _;

use super::Context;
use super::args::DescribeArgs;
use super::resolve::{self, DescribeForm};
use super::sources::Opened;
use crate::front::failure::Failure;
use crate::front::outputs::{Document, Outcome};
use crate::front::text;
use crate::store::Root;
use crate::transfer::{self, Description, NodeKind};

pub(super) fn run(context: &Context<'_>, args: &DescribeArgs, json: bool) -> Result<Outcome, Failure> {
    let options = resolve::describe(args, json)?;
    let opened = Opened::open(context, &options.source, &options.registry)?;
    let images = opened.with(|source, roots| {
        let describe =
            |root: &Root| transfer::describe(source, &root.descriptor, names(root)).map_err(Failure::from);
        roots.iter().map(describe).collect::<Result<Vec<Description>, Failure>>()
    })?;
    let json = serde_json::json!({ "images": images });
    let text = match options.form {
        DescribeForm::Text => images.iter().map(|image| tree(image, 0)).collect::<Vec<_>>().join("\n"),
        DescribeForm::Json => format!("{json:#}\n"),
        DescribeForm::Yaml => yaml(&json, 0),
    };
    Ok(Outcome::Document(Document { text, json, failure: None }))
}

fn names(root: &Root) -> Vec<String> {
    let name = |name: &crate::store::RootName| match (&name.reference, &name.tag) {
        (Some(reference), _) => Some(reference.to_string()),
        (None, Some(tag)) => Some(tag.to_string()),
        (None, None) => None,
    };
    root.names.iter().filter_map(name).collect()
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Bundle => "Bundle",
        NodeKind::Image => "Image",
        NodeKind::Index => "Index",
        NodeKind::Artifact => "Artifact",
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
        line(format!("  Refers to: {}", image.image));
        for (key, value) in &image.annotations {
            line(format!("    Annotation: {key}={value}"));
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
