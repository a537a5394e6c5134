//! `out`: tags, errors that are found before anything is sent, and every kind of image.

use serde_json::{Value, json};
use testkit::fault::{Access, FaultRegistry};
use testkit::lab::Lab;
use testkit::registry::{PASSWORD, Registry, USER, uploads};
use testkit::{oracle, readers, tools};

use crate::concourse::{room, source, step};

fn put(lab: &Lab, source: &Value, params: &Value) -> Value {
    step(lab, "out", &json!({"source": source, "params": params})).succeeds().json()
}

fn metadata(answer: &Value, name: &str) -> String {
    let all = answer["metadata"].as_array().unwrap();
    let found =
        all.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no `{name}`: {answer}"));
    found["value"].as_str().unwrap().to_owned()
}

const IMAGE: &str = "image/image.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn put_tags_come_from_source_version_bump_aliases_and_additional_tags() {
    let (lab, digest) = room();
    lab.write("put/meta/tags", "a\nb  c\n");
    let registry = Registry::start();
    let put = |source_extra: Value, params: Value| {
        let answer = put(&lab, &source(&registry, &source_extra), &params);
        assert_eq!(answer["version"]["digest"], digest.as_str());
        (answer["version"]["tag"].as_str().unwrap().to_owned(), metadata(&answer, "tags"))
    };
    let both = |first: &str, all: &str| (first.to_owned(), all.to_owned());
    let bump = |version: &str| json!({"image": IMAGE, "version": version, "bump_aliases": true});
    assert_eq!(put(json!({"tag": "edge"}), json!({"image": IMAGE})), both("edge", "edge"));
    assert_eq!(put(json!({}), bump("v1.2")), both("1.2.0", "1.2.0 latest 1 1.2"));
    assert_eq!(put(json!({}), bump("1.1.5")), both("1.1.5", "1.1.5 1.1"), "newer ones keep their aliases");
    assert_eq!(put(json!({}), bump("2.0.0-rc.1")), both("2.0.0-rc.1", "2.0.0-rc.1"));
    assert_eq!(
        put(json!({"variant": "slim"}), bump("1.0.0")),
        both("1.0.0-slim", "1.0.0-slim slim 1-slim 1.0-slim")
    );
    let file = json!({"image": IMAGE, "additional_tags": "meta/tags", "tag_prefix": "p-"});
    assert_eq!(put(json!({"tag": "edge"}), file), both("edge", "edge p-a p-b p-c"));
    let same = json!({"image": IMAGE, "version": "1.2.3", "bump_aliases": true});
    assert_eq!(put(json!({"tag": "latest"}), same), both("latest", "latest 1.2.3 1 1.2"), "each tag once");
    for tag in ["1", "latest", "slim", "p-c"] {
        let reference = format!("docker://{}/team/app:{tag}", registry.host());
        assert_eq!(readers::skopeo_digest(&reference, &["--tls-verify=false"]), digest, "{tag}");
    }
}

#[test]
fn put_sends_nothing_when_the_request_is_invalid() {
    let (lab, _) = room();
    lab.write("put/meta/tags", "good bad!");
    lab.write("put/meta/digest", format!("sha256:{}", "0".repeat(64)));
    lab.write("put/image/second.tar", "x");
    let registry = Registry::start();
    let tagged = source(&registry, &json!({"tag": "v1"}));
    let plain = source(&registry, &json!({}));
    for (source, params, code, expected) in [
        (&tagged, json!({}), 2, "neither `params.image` nor `params.files`"),
        (&tagged, json!({"image": IMAGE, "imag": 1}), 2, "unknown field `params.imag`"),
        (&tagged, json!({"image": IMAGE, "files": "image"}), 2, "exclude each other"),
        (&plain, json!({"image": IMAGE}), 2, "no tag to push"),
        (&tagged, json!({"image": "image/*.tar"}), 1, "image/second.tar` is not an image archive"),
        (&tagged, json!({"image": "image/none.tar"}), 2, "here are `image/image.tar`"),
        (&tagged, json!({"image": "image/second.tar"}), 1, "is not an image archive"),
        (&tagged, json!({"image": IMAGE, "version": "one"}), 2, "`params.version`: `one` is not a version"),
        (&tagged, json!({"image": IMAGE, "version": "1.2.3+b5"}), 2, "tags cannot have a `+`"),
        (
            &tagged,
            json!({"image": IMAGE, "additional_tags": "meta/tags"}),
            2,
            "`params.additional_tags`: `meta/tags`: tag `bad!` is not valid",
        ),
        (
            &tagged,
            json!({"image": IMAGE, "additional_tags": "meta/none"}),
            2,
            "`params.additional_tags`: cannot read",
        ),
        (&tagged, json!({"image": IMAGE, "tag_prefix": "x"}), 2, "`params.tag_prefix`: it belongs to"),
        (&tagged, json!({"image": IMAGE, "expected_digest": "meta/digest"}), 3, "expected `sha256:000"),
        (
            &tagged,
            json!({"image": IMAGE, "kind": "bundle"}),
            2,
            "`params.kind`: it belongs to `params.files`",
        ),
        (&tagged, json!({"files": "none"}), 2, "`params.files`: `none` finds nothing"),
        (&tagged, json!({"files": "image", "kind": "chart"}), 2, "`params.kind`: `chart` is no kind"),
        (&tagged, json!({"files": "image", "compression": "lzma"}), 2, "`params.compression`: "),
    ] {
        let output = step(&lab, "out", &json!({"source": source, "params": params})).ends_with(code);
        assert!(output.stderr.contains(expected), "{params}: {output}");
        assert_eq!(output.stdout, "");
    }
    assert_eq!(registry.requests(), [], "no request at all");
}

#[test]
fn files_are_packed_and_pushed_in_one_step() {
    let (lab, _) = room();
    lab.write(
        "put/src/.imgpkg/images.yml",
        "apiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImagesLock\nimages: []\n",
    );
    lab.write("put/src/config.yml", "a: 1\n");
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "v1"}));
    let params = json!({"files": ["src"], "kind": "bundle", "labels": {"org.example.team": "blue, green"}});
    let answer = put(&lab, &source, &params);
    // The same as with the command line.
    let line = lab.run(&["push", "-b", "--file", "put/src", "--to-oci-tar", "hand.tar"]).succeeds();
    assert_ne!(line.one_line(), "", "{line}");
    let version = &answer["version"];
    let _ = step(&lab, "in", &json!({"source": source, "version": version, "params": {"format": "files"}}))
        .succeeds();
    assert_eq!(lab.read("get/files/config.yml"), b"a: 1\n");
    let described = lab.run(&["describe", "-b", &format!("{}/team/app:v1", registry.host()), "-o", "json"]);
    let described = described.succeeds();
    assert!(described.stdout.contains("blue, green"), "{described}");
    // The second put returns the same version and sends nothing.
    registry.forget_requests();
    assert_eq!(put(&lab, &source, &params), answer);
    assert_eq!(uploads(&registry.requests()).len(), 0);
}

#[test]
fn an_index_goes_through_every_form_with_its_digest() {
    let (lab, digest) = room();
    let registry = Registry::start();
    let first = source(&registry, &json!({"tag": "v1"}));
    let _ = put(&lab, &first, &json!({"image": IMAGE}));
    let reference = format!("{}/team/app:arm", registry.host());
    let _ = lab.run(&["push", "-i", &reference, "-f", "src", "--platform", "linux/arm64"]).succeeds();
    let kind = "application/vnd.oci.image.index.v1+json";
    let child = |tag: &str, architecture: &str| {
        let path = format!("/v2/team/app/manifests/{tag}");
        let raw = registry.ask("GET", &path, &[("Accept", MANIFEST)], &[]).body;
        json!({"mediaType": MANIFEST, "digest": testkit::digest::of(&raw), "size": raw.len(),
               "platform": {"architecture": architecture, "os": "linux"}})
    };
    let (amd, arm) = (child("v1", "amd64"), child("arm", "arm64"));
    assert_eq!(amd["digest"], digest.as_str());
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [amd, arm]}).to_string();
    let index_digest = registry.put_manifest("team/app", "multi", kind, index.as_bytes());
    let version = json!({"tag": "multi", "digest": index_digest});
    for (format, image) in [("oci-layout", "oci"), ("oci-tar", "image.tar")] {
        let _ = std::fs::remove_dir_all(lab.path("get"));
        let request = json!({"source": first, "version": version, "params": {"format": format}});
        let _ = step(&lab, "in", &request).succeeds();
        if format == "oci-layout" {
            assert_eq!(lab.read("get/oci/index.json"), index.as_bytes(), "byte for byte");
        }
        oracle::validate_layout(lab.path("get").join(image));
        let _ = std::fs::remove_dir_all(lab.path("put/again"));
        std::fs::rename(lab.path("get"), lab.path("put/again")).unwrap();
        let again = source(
            &registry,
            &json!({"repository": format!("{}/multi/{format}", registry.host()), "tag": "x"}),
        );
        let answer = put(&lab, &again, &json!({"image": format!("again/{image}")}));
        assert_eq!(answer["version"]["digest"], index_digest.as_str(), "{format}");
    }
    // `rootfs` has the requested platform.
    let request = |architecture: &str| json!({"source": first, "version": version, "params": {"platform": {"architecture": architecture}}});
    let _ = step(&lab, "in", &request("arm64")).succeeds();
    let refused = step(&lab, "in", &request("s390x")).ends_with(1);
    assert!(refused.stderr.contains("no image for `linux/s390x`"), "{refused}");
    assert!(
        refused.stderr.contains("hint: choose another one with `platform` in `source` or `params`"),
        "{refused}"
    );
}

#[test]
fn archives_of_other_tools_are_taken() {
    let (lab, digest) = room();
    let registry = Registry::start();
    let image = lab.path("put/image/image.tar");
    std::fs::create_dir_all(lab.path("put/other")).unwrap();
    let from = format!("oci-archive:{}", image.display());
    let _ = readers::skopeo_copy(&from, &format!("oci:{}:v1", lab.path("put/other/layout").display()), &[])
        .success();
    let mut skopeo = tools::tool("skopeo");
    let docker = format!("docker-archive:{}:team/app:v1", lab.path("put/other/docker.tar").display());
    let _ = tools::run(skopeo.args(["--insecure-policy", "copy", "--quiet", &from, &docker])).success();
    let mut gzip = tools::tool("gzip");
    let _ = tools::run(gzip.args(["--keep", "--force"]).arg(&image)).success();
    std::fs::rename(lab.path("put/image/image.tar.gz"), lab.path("put/other/image.tar.gz")).unwrap();
    for (path, expected) in
        [("other/layout", Some(&digest)), ("other/image.tar.gz", Some(&digest)), ("other/docker.tar", None)]
    {
        let source = source(&registry, &json!({"tag": "v1"}));
        let answer = put(&lab, &source, &json!({"image": path}));
        if let Some(expected) = expected {
            assert_eq!(answer["version"]["digest"], expected.as_str(), "{path}");
        }
        let request = json!({"source": source, "version": answer["version"], "params": {"format": "files"}});
        let _ = std::fs::remove_dir_all(lab.path("get"));
        let _ = step(&lab, "in", &request).succeeds();
        assert_eq!(lab.read("get/files/etc/app.conf"), b"a=1", "{path}");
    }
}

#[test]
fn labels_and_annotations_become_metadata() {
    let (lab, digest) = room();
    let registry = Registry::start();
    let _ = put(&lab, &source(&registry, &json!({"tag": "v1"})), &json!({"image": IMAGE}));
    let source = source(&registry, &json!({"tag": "v1", "label_regex": "^org\\.example\\."}));
    let version = json!({"tag": "v1", "digest": digest});
    let request = json!({"source": source, "version": version, "params": {"skip_download": true}});
    let answer = step(&lab, "in", &request).succeeds().json();
    assert_eq!(metadata(&answer, "org.example.team"), "blue");
    assert_eq!(metadata(&answer, "tag"), "v1");
}

#[test]
fn a_version_that_is_gone_or_damaged_leaves_nothing_behind() {
    let (lab, _) = room();
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "v1"}));
    let gone = json!({"tag": "v1", "digest": format!("sha256:{}", "1".repeat(64))});
    for params in [json!({}), json!({"skip_download": true})] {
        let output =
            step(&lab, "in", &json!({"source": source, "version": gone, "params": params})).ends_with(1);
        assert!(output.stderr.contains("has no manifest"), "{output}");
        assert_eq!(std::fs::read_dir(lab.path("get")).unwrap().count(), 0);
    }
    let (source, version) = damaged();
    for format in ["rootfs", "oci", "oci-layout", "oci-tar", "files"] {
        let request = json!({"source": source.0, "version": version, "params": {"format": format}});
        let output = step(&lab, "in", &request).ends_with(3);
        assert_eq!(output.stdout, "", "{format}: {output}");
        assert_eq!(std::fs::read_dir(lab.path("get")).unwrap().count(), 0, "{format}");
    }
}

/// An image with one wrong byte in its layer, in a registry that does not check it.
fn damaged() -> ((Value, FaultRegistry), Value) {
    let registry = FaultRegistry::start(Access::Open, Vec::new());
    let mut layer = testkit::tarball::Tarball::new().file("a", "content").finish();
    let (digest, size) = (testkit::digest::of(&layer), layer.len());
    layer[515] ^= 1;
    registry.put_blob("team/app", &digest, &layer);
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}});
    let config = config.to_string();
    let config_digest = testkit::digest::of(config.as_bytes());
    registry.put_blob("team/app", &config_digest, config.as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}],
    })
    .to_string();
    let manifest_digest = testkit::digest::of(manifest.as_bytes());
    registry.put_manifest("team/app", "v1", &manifest_digest, kind, manifest.as_bytes());
    let source = json!({"repository": format!("{}/team/app", registry.host()), "tag": "v1"});
    ((source, registry), json!({"tag": "v1", "digest": manifest_digest}))
}

#[test]
fn put_params_may_have_credentials_of_their_own() {
    let (lab, digest) = room();
    let registry = Registry::with().tls().htpasswd().start();
    let put = |user: Value, more: Value| {
        let mut params = json!({"image": "image/image.tar"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step(&lab, "out", &json!({"source": source(&registry, &user), "params": params})).never_says(PASSWORD)
    };
    let other = json!({"tag": "v1", "username": "stranger", "password": "wrong"});
    let own = json!({"username": USER, "password": PASSWORD});
    let _ = put(other.clone(), json!({"username": "", "password": ""})).ends_with(1);
    assert_eq!(put(other, own.clone()).succeeds().json()["version"]["digest"], digest.as_str());
    assert_eq!(put(json!({"tag": "v2"}), own).succeeds().json()["version"]["tag"], "v2");
}

#[test]
fn put_selects_one_image_of_an_archive() {
    let (lab, registry) = (crate::lab::lab(), Registry::start());
    let digests = crate::copy::select::several(&lab);
    std::fs::create_dir_all(lab.path("put/image")).unwrap();
    std::fs::rename(lab.path("all.tar"), lab.path("put/image/image.tar")).unwrap();
    let source = source(&registry, &json!({"tag": "edge"}));
    for (select, digest) in [("@2", &digests[2]), ("registry.example/b:v1", &digests[1])] {
        let answer = put(&lab, &source, &json!({"image": IMAGE, "select": select}));
        assert_eq!(answer["version"], json!({"tag": "edge", "digest": digest}), "{select}");
        assert_eq!(registry.storage().tags("team/app")["edge"], **digest);
    }
    let fails = |params: &Value, code: i32, texts: &[&str]| {
        drop(step(&lab, "out", &json!({"source": source, "params": params})).fails(code, texts));
    };
    let texts = ["holds 3 images, expected one: `registry.example/a:v1` (`@0`", "with `params.select`"];
    fails(&json!({"image": IMAGE}), 1, &texts);
    fails(&json!({"image": IMAGE, "select": "v1"}), 1, &["holds 2 images that are `v1`"]);
    fails(&json!({"image": IMAGE, "select": "@x"}), 2, &["`params.select`: position `@x`"]);
    fails(&json!({"files": "image", "select": "@0"}), 2, &["`params.select`: it belongs to `params.image`"]);
}

#[test]
fn put_of_files_on_a_base_sends_an_image_that_runs() {
    let (lab, _) = room();
    let _ = crate::run::base(&lab);
    lab.write("put/app/run", "#!/bin/sh");
    std::fs::create_dir_all(lab.path("put/base")).unwrap();
    std::fs::rename(lab.path("base.tar"), lab.path("put/base/image.tar")).unwrap();
    let registry = Registry::start();
    let params = json!({
        "files": ["app/run:/bin/", "app:/srv/app"], "base": "base/image.tar", "entrypoint": ["/bin/run", "-v"],
        "env": {"PORT": "8080"}, "run_user": "web", "ports": ["8080"], "volumes": "/data", "stop_signal": "SIGINT",
        "mode": "0755",
    });
    let answer = put(&lab, &source(&registry, &json!({"tag": "v1"})), &params);
    let storage = registry.storage();
    assert_eq!(storage.tags("team/app")["v1"], answer["version"]["digest"].as_str().unwrap());
    let reference = format!("docker://{}/team/app:v1", registry.host());
    let shown =
        tools::run(tools::tool("skopeo").args(["inspect", "--tls-verify=false", "--config", &reference]));
    let shown: Value = serde_json::from_str(&shown.success().stdout).unwrap();
    let config = &shown["config"];
    assert_eq!(config["Entrypoint"], json!(["/bin/run", "-v"]));
    assert_eq!((&config["User"], &config["StopSignal"]), (&json!("33:34"), &json!("SIGINT")));
    assert_eq!(config["Env"], json!(["PATH=/usr/bin", "LANG=C", "PORT=8080"]));
    assert_eq!(
        (&config["Volumes"], &config["ExposedPorts"]),
        (&json!({"/data": {}}), &json!({"8080/tcp": {}}))
    );
    assert_eq!(shown["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
    storage.assert_sound();
}
