//! From planned files to a composed image, and from one base to another.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::scratch::Scratch;

use super::*;
use crate::model::{Annotations, Descriptor, Digest, Platform, media_type};
use crate::pack::{LayerEncoding, MediaTypes};
use crate::stream::CompressionLevel;
use crate::tar::{FileTree, Node, NodeKind};
use crate::tree::{Filter, SymlinkPolicy};

fn placed(root: PathBuf, destination: &str) -> PlacedFiles {
    PlacedFiles { roots: vec![(0, root)], destination: destination.into() }
}

/// `path kind size` of each entry of a layer.
fn written(layer: &LayerPlan) -> Result<Vec<String>, String> {
    let mut bytes = Vec::new();
    let encoding = LayerEncoding { compression: CompressionLevel::None, ..LayerEncoding::default() };
    layer.pack(encoding, &mut bytes, &|_| {}).map_err(|error| error.to_string())?;
    Ok(testkit::oracle_crates::lines(&bytes, &["path", "kind", "size", "link"]))
}

fn plan(layers: &[PlacedFiles], options: &PlanOptions, tree: &mut FileTree) -> Result<Plan, String> {
    plan_layers(layers, options, tree).map_err(|error| error.to_string())
}

#[test]
fn a_plan_writes_what_was_listed_or_fails() {
    let scratch = Scratch::new("plan-pack");
    scratch.write("root/a", "content");
    std::os::unix::fs::symlink("a", scratch.join("root/link")).unwrap();
    let files = placed(scratch.join("root"), "/app");
    let plan = plan(&[files], &PlanOptions::default(), &mut FileTree::default()).unwrap();
    assert_eq!(written(&plan.layers[0]).unwrap(), ["app folder 0", "app/a file 7", "app/link symlink 0 a"]);
    std::fs::remove_file(scratch.join("root/a")).unwrap();
    scratch.write("root/a", "changed");
    let error = written(&plan.layers[0]).unwrap_err();
    assert!(error.contains("root/a"), "{error}");
}

#[test]
fn programs_links_and_exclusions_of_a_plan_are_known() {
    let scratch = Scratch::new("plan-facts");
    let program = std::fs::read("/proc/self/exe").unwrap();
    scratch.write("root/tool", &program);
    scratch.write("root/left", "x");
    std::os::unix::fs::symlink("tool", scratch.join("root/link")).unwrap();
    // A root that is a link is the file that it leads to.
    std::os::unix::fs::symlink("root/tool", scratch.join("by-link")).unwrap();
    let options = PlanOptions {
        filter: Filter::exact(["left"]),
        symlinks: SymlinkPolicy::Omit,
        ..PlanOptions::default()
    };
    let layers = [placed(scratch.join("root"), "/bin"), placed(scratch.join("by-link"), "/opt/")];
    let plan = plan(&layers, &options, &mut FileTree::default()).unwrap();
    assert_eq!(plan.links_left_out, 1);
    let paths: Vec<_> = plan.programs.iter().map(|program| program.path.as_slice()).collect();
    assert_eq!(paths[0], b"bin/tool");
    assert_eq!(plan.layers.len(), 2);
    assert!(written(&plan.layers[1]).unwrap()[1].ends_with(&format!(" file {}", program.len())));
}

#[test]
fn a_base_that_was_not_read_keeps_its_folders_and_hides_no_link() {
    let scratch = Scratch::new("plan-unread");
    scratch.write("root/a", "x");
    let options = PlanOptions { listing: BaseListing::Unread, ..PlanOptions::default() };
    let plan_at = |destination: &str| {
        plan(&[placed(scratch.join("root/a"), destination)], &options, &mut FileTree::default())
    };
    let layers = plan_at("/opt/deep/a").unwrap().layers;
    assert_eq!(written(&layers[0]).unwrap(), ["opt/deep/a file 1"], "no folder above it is written");
    for place in ["/bin/a", "/lib64/x/a", "/var/run/a"] {
        let error = plan_at(place).unwrap_err();
        assert!(error.contains("which is a link in many bases"), "{place}: {error}");
    }
    assert!(plan_at("/binary/a").is_ok() && plan_at("/var/lib/a").is_ok());
}

#[test]
fn places_that_cannot_be_are_refused_with_both_sides() {
    let scratch = Scratch::new("plan-places");
    scratch.write("root/d/a", "x");
    scratch.write("root/.wh.b", "x");
    let mut tree = FileTree::default();
    tree.put(b"one", Node { kind: NodeKind::Link(b"two".to_vec()), ..Node::IMPLIED });
    tree.put(b"two", Node { kind: NodeKind::Link(b"one".to_vec()), ..Node::IMPLIED });
    tree.put(b"file", Node { kind: NodeKind::File, ..Node::IMPLIED });
    for (root, destination, expected) in [
        ("root/d", "/one", "links of the base lead in a circle"),
        ("root/d/a", "/one/a", "links of the base lead in a circle"),
        ("root/d", "/file", "would put a folder at `/file`, where a file is, which is in the base"),
        ("root", "/x", "root/.wh.b` would act as a whiteout"),
    ] {
        let files = placed(scratch.join(root), destination);
        let error = plan(&[files], &PlanOptions::default(), &mut tree).unwrap_err();
        assert!(error.contains(expected), "{destination}: {error}");
    }
}

fn config(layers: &[&str], steps: &[&str]) -> Vec<u8> {
    let ids: Vec<String> =
        layers.iter().map(|layer| Digest::sha256_of(layer.as_bytes()).to_string()).collect();
    let history: Vec<Value> = steps.iter().map(|step| json!({ "created_by": step })).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "unknown": { "b": 1, "a": [2] },
        "rootfs": { "type": "layers", "diff_ids": ids }, "history": history,
    });
    config.to_string().into_bytes()
}

fn layers(names: &[&str]) -> Vec<Descriptor> {
    let of = |name: &&str| Descriptor::new(media_type::OCI_LAYER, Digest::sha256_of(name.as_bytes()), 1);
    names.iter().map(of).collect()
}

#[test]
fn a_rebase_exchanges_the_layers_and_the_history_of_the_base() {
    let image = (config(&["a", "b", "own"], &["A", "B", "OWN"]), layers(&["a", "b", "own"]));
    let old = (config(&["a", "b"], &["A", "B"]), layers(&["a", "b"]));
    let new = (config(&["c"], &["C"]), layers(&["c"]));
    fn of((config, layers): &(Vec<u8>, Vec<Descriptor>)) -> Layered<'_> {
        Layered { config, layers }
    }
    let start = rebase(of(&image), of(&old), of(&new), MediaTypes::Oci).unwrap();
    assert_eq!(start.layers, layers(&["c", "own"]));
    let found: Value = serde_json::from_slice(&start.config).unwrap();
    let expected: Value = serde_json::from_slice(&config(&["c", "own"], &["C", "OWN"])).unwrap();
    assert_eq!(found, expected);
    for (base, expected) in [
        ((config(&["x"], &[]), layers(&["x"])), "layer 1 of the old base is "),
        ((config(&["a", "b", "own", "d"], &[]), layers(&[])), "layer 4 of the old base is "),
    ] {
        let error = rebase(of(&image), of(&base), of(&new), MediaTypes::Oci).unwrap_err().to_string();
        assert!(error.starts_with(expected) && error.ends_with("so the image was not made on it"), "{error}");
    }
    let broken = (b"[]".to_vec(), Vec::new());
    assert!(rebase(of(&broken), of(&old), of(&new), MediaTypes::Oci).is_err());
}

#[test]
fn a_composed_image_has_the_layers_of_its_start_first() {
    let scratch = Scratch::new("compose");
    scratch.write("root/a", "x");
    let files = placed(scratch.join("root"), "/app");
    let plan = plan(&[files], &PlanOptions::default(), &mut FileTree::default()).unwrap();
    let layer = plan.layers[0].pack(LayerEncoding::default(), &mut std::io::sink(), &|_| {}).unwrap();
    let platform: Platform = "linux/arm64".parse().unwrap();
    let scratch_start = Start::scratch(&platform, MediaTypes::Oci);
    let start = Start { layers: layers(&["base"]), ..scratch_start };
    let edits = ConfigEdits { entrypoint: Some(vec!["/app/a".to_owned()]), ..ConfigEdits::default() };
    let annotations = Annotations::from([("k".to_owned(), "v".to_owned())]);
    let steps = [(layer.clone(), b"/app".to_vec())];
    let composed = compose_runnable(&start, &steps, &edits, &annotations).unwrap();
    let manifest = composed.image.manifest.manifest().unwrap();
    assert_eq!(manifest.layers, [layers(&["base"]), vec![layer.descriptor]].concat());
    assert_eq!(manifest.annotations, annotations);
    assert_eq!(manifest.config, Descriptor::of_bytes(media_type::OCI_CONFIG, &composed.image.config));
    let config: Value = serde_json::from_slice(&composed.image.config).unwrap();
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["config"]["Entrypoint"], json!(["/app/a"]));
    assert_eq!(config["rootfs"]["diff_ids"], json!([layer.diff_id.to_string()]));
    assert_eq!(composed.dropped_cmd, None);
}
