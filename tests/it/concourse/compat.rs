//! Features that pipelines for `registry-image` need: keys in both spellings, empty fields, mirrors, unusual
//! registries, the exact manifest of docker's archives, steps that are stopped and run again.

use serde_json::{Value, json};
use testkit::cloud::Tunnel;
use testkit::digest;
use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::lab::Lab;
use testkit::registry::{PASSWORD, Registry, USER};
use testkit::tarball::Tarball;
use testkit::tools::{run, tool};

use crate::concourse::{prepared, room, source, step};
use crate::lab::lab;

const IMAGE: &str = "image/image.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn put(lab: &Lab, source: &Value, params: &Value) -> Value {
    step(lab, "out", &json!({"source": source, "params": params})).succeeds().json()
}

#[test]
fn keys_may_be_capitals_and_empty_values_are_ignored() {
    let (lab, digest) = room();
    let registry = Registry::start();
    let repository = format!("{}/team/app", registry.host());
    let source = json!({"Repository": repository, "Tag": 42.10, "Insecure": false, "Debug": false, "username": "",
                        "password": "", "ca_certs": null, "platform": null, "registry_mirror": null});
    // Written by hand, because numbers must keep their form, and this JSON library changes it.
    let text = |request: Value| request.to_string().replace("42.1", "42.10");
    let params = json!({"Image": IMAGE, "version": "", "additional_tags": "", "tag_prefix": "", "bump_aliases": false});
    let run = |name: &str, request: Value| {
        prepared(&lab, name, &json!({})).stdin(text(request)).run().succeeds().json()
    };
    let answer = run("out", json!({"Source": source, "Params": params}));
    let version = json!({"tag": "42.10", "digest": digest});
    assert_eq!(answer["version"], version);
    assert_eq!(run("check", json!({"Source": source, "Version": null})), json!([version]));
    let params = json!({"skip_download": false, "format": "", "platform": null});
    let answer =
        run("in", json!({"Source": source, "Params": params, "Version": {"Tag": "x42.1", "Digest": digest}}));
    assert_eq!(answer["version"]["digest"], digest.as_str());
    assert_eq!(lab.read("get/rootfs/etc/app.conf"), b"a=1");
}

#[test]
fn documents_are_recognised_by_content_not_by_content_type() {
    for kind in ["text/plain", "dummy"] {
        let (lab, digest) = room();
        let registry = FaultRegistry::start(Access::Open, vec![]);
        let source = json!({"repository": format!("{}/team/app", registry.host()), "tag": "v1"});
        let _ = put(&lab, &source, &json!({"image": IMAGE}));
        // HEAD is not supported either.
        registry.rule(on("HEAD", Thing::Manifest, Fault::Response(405, vec![], String::new())).always());
        registry
            .rule(on("GET", Thing::Manifest, Fault::Header("content-type", Some(kind.to_owned()))).always());
        let version = json!({"tag": "v1", "digest": digest});
        assert_eq!(
            step(&lab, "check", &json!({"source": source})).succeeds().json(),
            json!([version]),
            "{kind}"
        );
        let _ = step(&lab, "in", &json!({"source": source, "version": version})).succeeds();
        assert_eq!(lab.read("get/digest"), digest.as_bytes());
    }
}

#[test]
fn dockers_archive_gives_the_manifest_that_go_containerregistry_makes() {
    let lab = lab().tree(&["d put/image"]);
    std::fs::write(lab.path("layer.tar"), Tarball::new().file("a", "content").finish()).unwrap();
    let _ = run(tool("gzip").args(["-n"]).arg(lab.path("layer.tar"))).success();
    let layer = lab.read("layer.tar.gz");
    let diff_id = digest::of(&Tarball::new().file("a", "content").finish());
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = config.to_string();
    let (config_digest, layer_digest) = (digest::of(config.as_bytes()), digest::of(&layer));
    let config_name = format!("{}.json", config_digest.trim_start_matches("sha256:"));
    let layer_name = format!("{}.tar.gz", layer_digest.trim_start_matches("sha256:"));
    let table =
        json!([{"Config": config_name, "RepoTags": ["team/app:v1"], "Layers": [layer_name]}]).to_string();
    let tar =
        Tarball::new().file(&config_name, &config).file(&layer_name, &layer).file("manifest.json", table);
    lab.write("put/image/docker.tar", tar.finish());
    let registry = Registry::start();
    let answer = put(&lab, &source(&registry, &json!({"tag": "v1"})), &json!({"image": "image/docker.tar"}));
    let expected = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":{{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"size\":{},\"digest\":\"{config_digest}\"}},\"layers\":[{{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"size\":{},\"digest\":\"{layer_digest}\"}}]}}",
        config.len(),
        layer.len()
    );
    let stored = registry.storage().manifest("team/app", "v1").unwrap();
    assert_eq!(String::from_utf8(stored).unwrap(), expected);
    assert_eq!(answer["version"]["digest"], digest::of(expected.as_bytes()));
}

#[test]
fn registry_mirror_is_read_first_and_never_pushed_to() {
    let (lab, digest) = room();
    let hub = FaultRegistry::start(Access::Open, vec![]);
    let tunnel = Tunnel::start("registry-1.docker.io", &hub.host());
    let mirror = Registry::with().htpasswd().start();
    let login = json!({"host": mirror.host(), "username": USER, "password": PASSWORD});
    let plain = json!({"repository": "team/app", "tag": "v1", "insecure": true, "registry_mirror": login});
    let step = |name: &str, mut request: Value, source: &Value| {
        request["source"] = source.clone();
        let run =
            prepared(&lab, name, &request).env("http_proxy", tunnel.url()).env("https_proxy", tunnel.url());
        run.env("no_proxy", "127.0.0.1").run().succeeds().never_says(PASSWORD)
    };
    let version = json!({"tag": "v1", "digest": digest});
    // A put goes to the hub only. Reading asks the mirror first, which has nothing, and then the hub.
    let answer = step("out", json!({"params": {"image": IMAGE}}), &plain).json();
    assert_eq!(answer["version"], version);
    assert_eq!(mirror.requests(), [], "no request at all");
    let output = step("check", json!({}), &plain);
    assert_eq!(output.json(), json!([version]));
    assert!(output.stderr.contains("asking the registry itself"), "{output}");
    assert!(!mirror.requests().is_empty());
    let _ = step("in", json!({"version": version}), &plain);
    assert_eq!(lab.read("get/repository"), b"team/app");
    // Now the mirror has it too, and the hub gets no request.
    let there = json!({"repository": format!("{}/team/app", mirror.host()), "tag": "v1", "username": USER, "password": PASSWORD});
    let _ = step("out", json!({"params": {"image": IMAGE}}), &there);
    let before = hub.log().len();
    assert_eq!(step("check", json!({}), &plain).json(), json!([version]));
    let _ = std::fs::remove_dir_all(lab.path("get"));
    let got = step("in", json!({"version": version, "params": {"format": "oci-tar"}}), &plain);
    assert_eq!(got.json()["metadata"][0]["value"], "team/app");
    assert_eq!(hub.log().len(), before, "the hub is left alone");
    // The name in the tar is the image's, not the mirror's.
    let described = lab.run(&["describe", "--tar", "get/image.tar"]).succeeds();
    assert!(!described.stdout.contains(mirror.host()), "{described}");
}

#[test]
fn insecure_is_needed_for_plain_http_to_other_hosts() {
    let hub = FaultRegistry::start(Access::Open, vec![]);
    let tunnel = Tunnel::start("registry.corp.example", &hub.host());
    let lab = lab();
    let check = |extra: Value| {
        let mut source = json!({"repository": "registry.corp.example/team/app", "tag": "v1"});
        source.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let run = prepared(&lab, "check", &json!({"source": source}));
        run.env("http_proxy", tunnel.url()).env("https_proxy", tunnel.url()).run()
    };
    let refused = check(json!({}));
    assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{refused}");
    assert_eq!(hub.log().len(), 0, "nothing was said without TLS");
    let allowed = check(json!({"insecure": true, "debug": true})).succeeds();
    assert_eq!(allowed.stdout, "[]\n");
    assert!(allowed.stderr.contains("HEAD "), "{allowed}");
}

#[test]
fn pre_release_prefixes_select_versions_and_annotations_become_metadata() {
    let lab = lab().tree(&["f src/a 'a'"]);
    let registry = Registry::start();
    let repository = format!("{}/team/app", registry.host());
    for tag in ["1.0.0", "1.1.0-beta.1", "1.1.0-dev.3", "1.1.0-x-y"] {
        let annotation = format!("org.example.tag={tag}");
        let words = ["push", "-i", &format!("{repository}:{tag}"), "-f", "src", "--annotation", &annotation];
        let _ = lab.run(&words).succeeds();
    }
    let tags = |extra: Value| -> Vec<String> {
        let answer = step(&lab, "check", &json!({"source": source(&registry, &extra)})).succeeds().json();
        let tags = answer.as_array().unwrap().iter();
        tags.map(|version| version["tag"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tags(json!({})), ["1.0.0"]);
    assert_eq!(tags(json!({"pre_releases": true})), ["1.0.0", "1.1.0-beta.1"]);
    let prefixes = json!({"pre_releases": true, "pre_release_prefixes": ["dev"]});
    assert_eq!(tags(prefixes), ["1.0.0", "1.1.0-beta.1", "1.1.0-dev.3"]);
    let source = source(&registry, &json!({"tag": "1.0.0", "annotation_regex": "example\\.tag$"}));
    let version = step(&lab, "check", &json!({"source": source})).succeeds().json()[0].clone();
    let answer = step(&lab, "in", &json!({"source": source, "version": version})).succeeds().json();
    assert_eq!(answer["metadata"][2], json!({"name": "org.example.tag", "value": "1.0.0"}));
}

#[test]
fn put_survives_a_failing_response() {
    let answer = |status| Fault::Response(status, vec![("retry-after", "0".to_owned())], String::new());
    for (number, faults) in [
        vec![on("POST", Thing::Uploads, answer(503)), on("GET", Thing::Blob, answer(503))],
        vec![on("PUT", Thing::Session, answer(500)), on("GET", Thing::Manifest, answer(502))],
        vec![on("PUT", Thing::Session, answer(504)), on("GET", Thing::Blob, Fault::CutResponse(10))],
        vec![on("PUT", Thing::Session, Fault::CutRequest(10)), on("GET", Thing::Manifest, answer(429))],
        vec![on("PUT", Thing::Manifest, Fault::LoseResponse), on("GET", Thing::Blob, answer(429))],
        vec![on("HEAD", Thing::Blob, answer(503)), on("GET", Thing::Manifest, Fault::CutResponse(10))],
    ]
    .into_iter()
    .enumerate()
    {
        let (lab, digest) = room();
        let registry = FaultRegistry::start(Access::Open, faults);
        let source = json!({"repository": format!("{}/team/app", registry.host()), "tag": "v1"});
        let version = json!({"tag": "v1", "digest": digest});
        let put = step(&lab, "out", &json!({"source": source, "params": {"image": IMAGE}})).succeeds();
        let got = step(&lab, "in", &json!({"source": source, "version": version})).succeeds();
        for ended in [put, got] {
            assert_eq!(ended.json()["version"], version, "{number}");
            assert!(ended.stderr.contains("trying again"), "{number}: {ended}");
        }
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()), "{number}");
        assert_eq!(lab.read("get/rootfs/etc/app.conf"), b"a=1", "{number}");
    }
}

#[test]
fn a_stopped_put_leaves_no_tag_and_running_it_again_completes_it() {
    let (lab, digest) = room();
    let registry = FaultRegistry::start(Access::Open, vec![on("PUT", Thing::Manifest, Fault::Silence)]);
    let source = json!({"repository": format!("{}/team/app", registry.host()), "tag": "v1"});
    let request = json!({"source": source, "params": {"image": IMAGE}});
    let mut running = prepared(&lab, "out", &request).spawn();
    running.wait_until("the manifest is sent", |_| registry.count("PUT", Thing::Manifest) > 0);
    running.signal("TERM");
    let stopped = running.wait().ends_with(143);
    assert!(stopped.stdout.is_empty() && stopped.stderr.contains("stopped by SIGTERM"), "{stopped}");
    assert_eq!(registry.tag("team/app", "v1"), None);
    assert_eq!(put(&lab, &source, &json!({"image": IMAGE}))["version"]["digest"], digest.as_str());
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
}

#[test]
fn get_writes_the_same_files_each_time() {
    let (lab, digest) = room();
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "v1"}));
    let _ = put(&lab, &source, &json!({"image": IMAGE}));
    let version = json!({"tag": "v1", "digest": digest});
    for format in ["rootfs", "oci", "oci-layout", "oci-tar", "files"] {
        let mut seen = Vec::new();
        for (build, moved) in [("1", false), ("2", true)] {
            if moved {
                // The tag names another image now.
                let _ = lab
                    .run(&["push", "-i", &format!("{}/team/app:v1", registry.host()), "-f", "put"])
                    .succeeds();
            }
            let _ = std::fs::remove_dir_all(lab.path("get"));
            let request = json!({"source": source, "version": version, "params": {"format": format}});
            let run = prepared(&lab, "in", &request).env("BUILD_ID", build).env("BUILD_NAME", build);
            let run = run.env("ATC_EXTERNAL_URL", "https://ci.example").env("TRACEPARENT", build);
            let answer = run.run().succeeds().stdout;
            seen.push((answer, testkit::tree::list(&lab.path("get"))));
        }
        assert_eq!(seen[0], seen[1], "{format}");
        let _ = registry.put_manifest(
            "team/app",
            "v1",
            MANIFEST,
            &registry.storage().manifest("team/app", &digest).unwrap(),
        );
    }
}
