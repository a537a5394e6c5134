//! Cloud Foundry source images with the resource and the task: packed, pushed, and pushed again.

use serde_json::{Value, json};
use testkit::lab::Lab;
use testkit::registry::{Registry, Request, uploads};
use testkit::{kpack, oracle, readers, tree};

use crate::concourse::{source, step};
use crate::lab::lab;

/// An input with an app large enough for several layers.
fn app() -> Lab {
    let mut lines = vec![
        "f put/app/package.json 'v1'".to_owned(),
        "f put/app/index.js 'x'".to_owned(),
        "f put/app/.cfignore 'secret.txt'".to_owned(),
        "f put/app/secret.txt 'x'".to_owned(),
        "d image".to_owned(),
    ];
    for package in 0..100 {
        for file in 0..5 {
            let seed = package * 5 + file;
            lines.push(format!("f put/app/node_modules/p{package}/f{file}.js random:10000:{seed}"));
        }
    }
    lab().tree(&lines)
}

fn put(lab: &Lab, source: &Value, params: &Value) -> Value {
    step(lab, "out", &json!({"source": source, "params": params})).succeeds().json()
}

/// Blobs that were sent.
fn sent(requests: &[Request]) -> usize {
    let is_blob = |request: &&&Request| request.method == "PUT" && request.path.contains("/blobs/");
    uploads(requests).iter().filter(is_blob).count()
}

/// Extracts a tar as kpack does, and lists it.
fn extracted(lab: &Lab, tar: &str) -> String {
    let into = lab.path("extracted");
    let _ = std::fs::remove_dir_all(&into);
    kpack::extract(&lab.path(tar), &into);
    tree::list(&into)
}

fn copied(lab: &Lab, registry: &Registry, tag: &str) -> String {
    let _ = std::fs::remove_file(lab.path("back.tar"));
    let from = format!("docker://{}/team/app:{tag}", registry.host());
    let to = format!("oci-archive:{}", lab.path("back.tar").display());
    let _ = readers::skopeo_copy(&from, &to, &["--src-tls-verify=false"]).success();
    extracted(lab, "back.tar")
}

#[test]
fn a_put_makes_an_app_image_of_a_folder_or_a_zip() {
    let lab = app();
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "v1"}));
    let params = json!({"files": "app", "kind": "source", "labels": {"org.example.team": "blue, green"}});
    let first = put(&lab, &source, &params);
    let by_hand = ["push", "-s", "-f", "put/app", "--to-oci-tar", "hand.tar", "-l", "org.example.team=blue"];
    let _ = lab.run(&by_hand).succeeds();
    let list = copied(&lab, &registry, "v1");
    assert_eq!(list, extracted(&lab, "hand.tar"));
    assert!(list.contains("index.js") && !list.contains("secret.txt"), "{list}");
    let zip = ["-c", "import shutil; shutil.make_archive('put/zipped/app', 'zip', 'put/app')"];
    std::fs::create_dir(lab.path("put/zipped")).unwrap();
    let mut python = testkit::tools::tool("python3");
    let _ = testkit::tools::run(python.args(zip).current_dir(lab.path("."))).success();
    let zipped =
        json!({"files": "zipped/*.zip", "kind": "source", "labels": {"org.example.team": "blue, green"}});
    registry.forget_requests();
    assert_eq!(put(&lab, &source, &zipped)["version"], first["version"]);
    assert_eq!(uploads(&registry.requests()), Vec::<&Request>::new());
    let wrong =
        json!({"files": "app", "kind": "source", "expected_digest": format!("sha256:{}", "0".repeat(64))});
    let refused = step(&lab, "out", &json!({"source": source, "params": wrong})).ends_with(3);
    assert!(refused.stderr.contains("sha256:000"), "{refused}");
    assert_eq!(uploads(&registry.requests()), Vec::<&Request>::new());
}

#[test]
fn putting_an_app_again_sends_only_changed_layers() {
    let lab = app();
    let registry = Registry::start();
    let edge = source(&registry, &json!({"tag": "edge"}));
    let plain = source(&registry, &json!({}));
    let params = json!({"files": ["app"], "kind": "source", "layers": "auto"});
    let first = put(&lab, &edge, &params);
    registry.forget_requests();
    let mut again = params;
    again["compression"] = json!("gzip:1");
    assert_eq!(put(&lab, &edge, &again)["version"], first["version"], "layers stay at every level");
    assert_eq!(uploads(&registry.requests()), Vec::<&Request>::new());
    lab.write("put/app/node_modules/p3/f3.js", "edited");
    let edited = put(&lab, &edge, &again);
    assert_eq!(sent(&registry.requests()), 2, "a layer and the configuration");
    assert!(copied(&lab, &registry, "edge").contains("node_modules/p3/f3.js 644 6 "));
    // With a version instead of a tag the layers of the newest version are used, which `latest` names.
    let release = |version: &str| {
        let mut params = again.clone();
        params["version"] = json!(version);
        params["bump_aliases"] = json!(true);
        params
    };
    let one = put(&lab, &plain, &release("1.0.0"));
    assert_eq!(one["version"]["tag"], "1.0.0");
    lab.write("put/app/index.js", "y");
    registry.forget_requests();
    let two = put(&lab, &plain, &release("1.1.0"));
    assert_eq!(two["metadata"][1]["value"], "1.1.0 latest 1 1.1");
    assert_eq!(sent(&registry.requests()), 2, "a layer and the configuration");
    // An earlier image from another step.
    let version = json!({"source": edge, "version": edited["version"], "params": {"format": "oci-tar"}});
    let _ = step(&lab, "in", &version).succeeds();
    std::fs::rename(lab.path("get"), lab.path("put/earlier")).unwrap();
    let mut based = again.clone();
    based["base"] = json!("earlier/*.tar");
    registry.forget_requests();
    let _ = put(&lab, &edge, &based);
    assert_eq!(sent(&registry.requests()), 0, "the other put has sent it");
    registry.storage().assert_sound();
}

#[test]
fn the_task_makes_app_images_and_reuses_earlier_layers() {
    let lab = app();
    let task = |params: &[(&str, &str)]| {
        let all = [&[("FILES", "put/app"), ("KIND", "source")], params].concat();
        all.iter().fold(lab.command(&["task"]), |run, (name, value)| run.env(name, value)).run()
    };
    let _ = task(&[]).succeeds();
    oracle::validate_layout(lab.path("image/image.tar"));
    let one_layer = extracted(&lab, "image/image.tar");
    let _ = task(&[("LAYERS", "auto"), ("COMPRESSION", "gzip:1")]).succeeds();
    assert_eq!(extracted(&lab, "image/image.tar"), one_layer);
    let first = lab.read("image/digest");
    std::fs::copy(lab.path("image/image.tar"), lab.path("earlier.tar")).unwrap();
    let _ = task(&[("LAYERS", "auto"), ("BASE", "earlier.tar")]).succeeds();
    assert_eq!(lab.read("image/digest"), first, "the layers are the old ones, at their old level");
    let _ = task(&[("LAYERS", "auto")]).succeeds();
    assert_ne!(lab.read("image/digest"), first);
}

#[test]
fn params_that_fit_no_app_image_are_refused_with_their_names() {
    let lab = app();
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "v1"}));
    std::fs::create_dir(lab.path("put/other")).unwrap();
    let app = |more: Value| {
        let mut params = json!({"files": "app", "kind": "source"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    for (params, expected) in [
        (app(json!({"files": ["app", "other"]})), "a source image has one `params.files`, found 2"),
        (
            app(json!({"symlinks": "keep"})),
            "`params.symlinks: keep` cannot be used with `params.kind: source`",
        ),
        (app(json!({"base": "app"})), "`params.base` works with `params.layers: auto` only"),
        (app(json!({"base": "none"})), "`params.base`: `none` finds nothing"),
        (app(json!({"layers": "auto", "base": "*"})), "`params.base`: `*` finds 2 files, expected one"),
        (
            app(json!({"kind": "image", "layers": "auto"})),
            "`params.layers: auto` works with `params.kind: source` only",
        ),
        (
            app(json!({"kind": "bundle", "size_limit": "1GiB"})),
            "`params.size_limit` works with `params.kind: source` only",
        ),
        (app(json!({"size_limit": "much"})), "`params.size_limit`"),
        (
            json!({"image": "app", "layers": "auto"}),
            "`params.layers`: it belongs to `params.files`, which is not given",
        ),
    ] {
        let output = step(&lab, "out", &json!({"source": source, "params": params})).ends_with(2);
        assert!(output.stderr.contains(expected), "{params}: {output}");
        assert!(!output.stderr.contains("--"), "{params}: {output}");
    }
    let small = json!({"files": "app", "kind": "source", "size_limit": "1KiB"});
    let refused = step(&lab, "out", &json!({"source": source, "params": small})).ends_with(1);
    assert!(!refused.stderr.contains("--"), "{refused}");
    assert_eq!(registry.requests(), [], "no request at all");
}
