//! Layers with `urls`: a layer that a registry or tar lacks is fetched from a URL and verified by digest.

use serde_json::json;
use testkit::cloud::{FakeService, Tunnel};
use testkit::fault::{Access, FaultRegistry};
use testkit::registry::Registry;
use testkit::tarball::Tarball;

use crate::concourse::step;
use crate::lab::lab;
use crate::layouts::{CONFIG, Layout, MANIFEST, descriptor, hex};

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const INCLUDE: &str = "--include-non-distributable-layers";

/// An image whose only layer is at a URL: configuration, manifest.
fn image(layer: &[u8], url: &str) -> [Vec<u8>; 2] {
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))]}});
    let config = config.to_string().into_bytes();
    let mut foreign = descriptor(FOREIGN, layer);
    foreign["urls"] = json!([url]);
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config),
        "layers": [foreign]});
    [config, manifest.to_string().into_bytes()]
}

#[test]
fn copy_in_and_pull_fetch_a_layer_from_its_urls() {
    // Debian's registry refuses a manifest whose layer it does not have.
    let start = || FaultRegistry::start(Access::Open, vec![]);
    let (lab, elsewhere, registry, target) = (lab(), Registry::start(), start(), start());
    let layer = Tarball::new().file("from-url", "x").finish();
    let digest = format!("sha256:{}", hex(&layer));
    elsewhere.put_blob("layers", &layer);
    let url = format!("http://{}/v2/layers/blobs/{digest}", elsewhere.host());
    let [config, manifest] = image(&layer, &url);
    registry.put_blob("win", &format!("sha256:{}", hex(&config)), &config);
    let version = format!("sha256:{}", hex(&manifest));
    registry.put_manifest("win", "v1", &version, MANIFEST, &manifest);
    let from = format!("{}/win@{version}", registry.host());
    let to = format!("{}/copy:v1", target.host());
    let _ = lab.run(&["copy", "-i", &from, "--to-repo", &to, INCLUDE]).succeeds();
    assert_eq!(target.check_image("copy", "v1"), Ok(()));
    let _ = lab.run(&["copy", "-i", &from, "--to-oci-tar", "whole.tar", INCLUDE]).succeeds();
    let _ = lab.run(&["verify", "--tar", "whole.tar"]).succeeds();
    let _ = lab.run(&["pull", "-i", &from, "-o", "out"]).succeeds();
    assert_eq!(lab.read("out/from-url"), b"x");
    std::fs::create_dir(lab.path("get")).unwrap();
    let source = json!({"repository": format!("{}/win", registry.host()), "tag": "v1"});
    let request = json!({"source": source, "version": {"tag": "v1", "digest": version}});
    let _ = step(&lab, "in", &request).succeeds();
    assert_eq!(lab.read("get/rootfs/from-url"), b"x");
}

#[test]
fn copy_of_a_tar_without_origin_fetches_a_layer_that_it_lacks_from_its_urls() {
    let lab = lab();
    let layer = "the layer's bytes";
    let [config, manifest] = image(layer.as_bytes(), "http://layers.example/layer");
    let mut layout = Layout::default();
    let _ = layout.blob(CONFIG, config);
    let entry = layout.blob(MANIFEST, manifest);
    layout.entries.push(entry);
    lab.write("thin.tar", layout.tar());
    let service = FakeService::start(move |request| match request.target.as_str() {
        "/layer" if request.header("authorization").is_none() => Ok((200, layer.to_owned())),
        _ => Err(format!("{request:?}")),
    });
    let tunnel = Tunnel::start("layers.example", &service.host());
    let copy = |more: &[&str]| {
        let words = ["copy", "--tar", "thin.tar", "--to-oci-tar", "whole.tar", INCLUDE];
        lab.command(&[&words[..], more].concat())
            .env("HTTP_PROXY", tunnel.url())
            .env("HTTPS_PROXY", tunnel.url())
            .run()
    };
    let refused = copy(&[]).fails(
        1,
        &[
            "from `thin.tar`: it is not held there, and its `urls` cannot be used",
            "`http://layers.example/layer`: plain http is not allowed",
        ],
    );
    assert!(!lab.path("whole.tar").exists(), "{refused}");
    let _ = copy(&["--registry-insecure"]).succeeds();
    let _ = lab.run(&["verify", "--tar", "whole.tar"]).succeeds();
    assert_eq!(service.requests(), ["GET /layer"]);
}
