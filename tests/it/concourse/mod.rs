//! The Concourse protocol with the real executable under its three names and real registries: requests and responses of
//! each step.

pub(crate) mod app;
pub(crate) mod check;
pub(crate) mod cloud;
pub(crate) mod compat;
pub(crate) mod container;
pub(crate) mod multi_platform;
pub(crate) mod pipelines;
pub(crate) mod put;
pub(crate) mod put_again;
pub(crate) mod referrers;
pub(crate) mod store;
pub(crate) mod task;

use serde_json::{Value, json};
use testkit::lab::{Lab, Output, Run};
use testkit::registry::{PASSWORD, Registry, TokenOptions, USER};
use testkit::{oracle, registry};

use crate::lab::lab;

/// Runs a step as Concourse does.
pub(crate) fn step(lab: &Lab, name: &str, request: &Value) -> Output {
    prepared(lab, name, request).run()
}

/// Prepares a step as Concourse does: by name, in `/`, one JSON document on standard input, no `HOME`.
pub(crate) fn prepared<'lab>(lab: &'lab Lab, name: &str, request: &Value) -> Run<'lab> {
    let folder = lab.path(match name {
        "in" => "get",
        _ => "put",
    });
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.to_str().unwrap().to_owned();
    let words: &[&str] = if name == "check" { &[] } else { &[&folder] };
    lab.command(words).named(name).in_folder("/").env_remove("HOME").stdin(request.to_string())
}

/// A lab with an image tar as a task's output, made without a registry, and its digest.
pub(crate) fn room() -> (Lab, String) {
    let lab = lab().tree(&["f src/bin/run 755 '#!/bin/sh'", "f src/etc/app.conf 'a=1'", "d put/image"]);
    let line = lab
        .run(&[
            "push",
            "-i",
            "--file",
            "src",
            "-l",
            "org.example.team=blue",
            "--to-oci-tar",
            "put/image/image.tar",
        ])
        .succeeds()
        .one_line()
        .to_owned();
    let at = line.find("sha256:").unwrap_or_else(|| panic!("no digest in `{line}`"));
    let digest = line[at..].split_whitespace().next().unwrap().to_owned();
    (lab, digest)
}

/// The `source` of a repository in a registry, with all required fields.
pub(crate) fn source(registry: &Registry, extra: &Value) -> Value {
    let mut source = json!({"repository": format!("{}/team/app", registry.host())});
    if registry.url().starts_with("https") {
        source["ca_certs"] = json!([std::fs::read_to_string(registry.ca_path()).unwrap()]);
    }
    for (key, value) in extra.as_object().unwrap() {
        source[key] = value.clone();
    }
    source
}

fn put(lab: &Lab, source: &Value, params: &Value) -> Value {
    step(lab, "out", &json!({"source": source, "params": params})).succeeds().json()
}

fn check(lab: &Lab, source: &Value, version: &Value) -> Value {
    step(lab, "check", &json!({"source": source, "version": version})).succeeds().json()
}

/// Gets a version into an empty folder.
fn get(lab: &Lab, source: &Value, params: &Value, version: &Value) -> Value {
    let _ = std::fs::remove_dir_all(lab.path("get"));
    step(lab, "in", &json!({"source": source, "params": params, "version": version})).succeeds().json()
}

const IMAGE: &str = "image/image.tar";

#[test]
fn put_check_and_get_agree_on_the_digest_at_every_kind_of_registry() {
    let user = json!({"tag": "v1", "username": USER, "password": PASSWORD});
    for (registry, extra) in [
        (Registry::start(), json!({"tag": "v1"})),
        (Registry::with().tls().start(), json!({"tag": "v1"})),
        (Registry::with().tls().htpasswd().start(), user.clone()),
        (Registry::with().tls().tokens(TokenOptions::default()).start(), user),
    ] {
        let (lab, digest) = room();
        let source = source(&registry, &extra);
        let version = json!({"tag": "v1", "digest": digest});
        assert_eq!(check(&lab, &source, &Value::Null), json!([]), "a tag that is not there is no error");
        let put = put(&lab, &source, &json!({"image": IMAGE}));
        assert_eq!(put["version"], version);
        assert_eq!(
            put["metadata"],
            json!([{"name": "repository", "value": source["repository"]}, {"name": "tags", "value": "v1"}])
        );
        assert_eq!(check(&lab, &source, &Value::Null), json!([version]));
        assert_eq!(check(&lab, &source, &version), json!([version]));
        let got = get(&lab, &source, &json!({}), &version);
        assert_eq!(got["version"], version);
        assert_eq!(lab.read("get/digest"), digest.as_bytes());
        assert_eq!(lab.read("get/tag"), b"v1");
        assert_eq!(lab.read("get/repository"), source["repository"].as_str().unwrap().as_bytes());
        assert_eq!(lab.read("get/rootfs/etc/app.conf"), b"a=1");
        assert_eq!(
            lab.read("get/metadata.json"),
            b"{\"cmd\":null,\"entrypoint\":null,\"env\":null,\"user\":\"\"}\n"
        );
        assert_eq!(lab.read("get/labels.json"), b"{\"org.example.team\":\"blue\"}\n");
    }
}

#[test]
fn putting_the_same_again_sends_nothing() {
    let (lab, _) = room();
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "v1"}));
    let first = put(&lab, &source, &json!({"image": IMAGE}));
    registry.forget_requests();
    assert_eq!(put(&lab, &source, &json!({"image": IMAGE})), first);
    let requests = registry.requests();
    assert_eq!(registry::uploads(&requests).len(), 0, "{requests:#?}");
    assert!(
        requests.iter().all(|request| request.method == "HEAD" || request.path == "/v2/"),
        "{requests:#?}"
    );
}

#[test]
fn every_format_of_get_is_valid_and_can_be_put_with_its_digest() {
    let (lab, digest) = room();
    let registry = Registry::start();
    let first = source(&registry, &json!({"tag": "v1"}));
    let _ = put(&lab, &first, &json!({"image": IMAGE}));
    let version = json!({"tag": "v1", "digest": digest});
    for (format, image) in [("oci", "image.tar"), ("oci-tar", "image.tar"), ("oci-layout", "oci")] {
        let _ = get(&lab, &first, &json!({"format": format}), &version);
        // registry-image adds this file to the layout.
        let known = "warning: `single-image-digest` does not belong into a layout";
        let expected: &[&str] = if format == "oci-layout" { &[known] } else { &[] };
        assert_eq!(oracle::layout_problems(lab.path("get").join(image)), expected, "{format}");
        let _ = std::fs::remove_dir_all(lab.path("put/again"));
        std::fs::rename(lab.path("get"), lab.path("put/again")).unwrap();
        let again = source(
            &registry,
            &json!({"repository": format!("{}/again/{format}", registry.host()), "tag": "x"}),
        );
        let put = put(&lab, &again, &json!({"image": format!("again/{image}")}));
        assert_eq!(put["version"]["digest"], digest.as_str(), "{format}");
        let reference = format!("docker://{}/again/{format}:x", registry.host());
        assert_eq!(testkit::readers::skopeo_digest(&reference, &["--tls-verify=false"]), digest, "{format}");
    }
    let _ = get(&lab, &first, &json!({"format": "files"}), &version);
    assert_eq!(lab.read("get/files/etc/app.conf"), b"a=1");
    registry.forget_requests();
    let _ = get(&lab, &first, &json!({"skip_download": true}), &version);
    let mut names: Vec<_> =
        std::fs::read_dir(lab.path("get")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["digest", "repository", "tag"]);
    let asked = |registry: &Registry| -> Vec<String> {
        let requests = registry.requests().into_iter().filter(|request| request.path != "/v2/");
        let mut asked: Vec<String> =
            requests.map(|request| format!("{} {}", request.method, request.path)).collect();
        asked.sort();
        asked
    };
    // The manifest by its digest, and for a download its configuration and layer: no request is sent twice.
    let manifest = format!("GET /v2/team/app/manifests/{digest}");
    assert_eq!(asked(&registry), [&*manifest]);
    registry.forget_requests();
    let _ = get(&lab, &first, &json!({}), &version);
    let asked = asked(&registry);
    assert!(asked.len() == 3 && asked[2] == manifest && asked[0] != asked[1], "{asked:#?}");
}
