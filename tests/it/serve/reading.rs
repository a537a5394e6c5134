//! The rows of the distribution specification's conformance tests for pull and discovery, and further needs of clients.

use serde_json::{Value, json};
use testkit::http::Response;

use super::{Served, referrers, two_images};
use crate::lab::lab;
use crate::layouts::{CONTAINERD_NAME, Layout, MANIFEST, REF_NAME, named};

const NOWHERE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The expected response.
enum Expected<'a> {
    /// This status, and these fields.
    Has(u16, &'a [(&'a str, &'a str)]),
    /// 200 and these bytes under this digest.
    Content(&'a str, &'a [u8]),
    /// 200 and this document.
    Json(Value),
    /// This status and this code of the protocol.
    Error(u16, &'a str),
}

fn check(row: &str, method: &str, response: &Response, expected: &Expected<'_>) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{row}: {what}: {response:?}"));
    match expected {
        Expected::Has(status, fields) => {
            if response.status != *status {
                return fail(&format!("expected {status}"));
            }
            for (name, value) in *fields {
                if response.header(name) != Some(value) {
                    return fail(&format!("expected `{name}: {value}`"));
                }
            }
        }
        Expected::Content(digest, bytes) => {
            let length = bytes.len().to_string();
            let fields = [("docker-content-digest", *digest), ("content-length", length.as_str())];
            check(row, method, response, &Expected::Has(200, &fields))?;
            if method == "GET" && response.body != *bytes {
                return fail("other bytes");
            }
        }
        Expected::Json(value) => {
            let found: Value = serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
            if response.status != 200 || found != *value {
                return fail(&format!("expected {value}"));
            }
        }
        Expected::Error(status, code) => {
            check(row, method, response, &Expected::Has(*status, &[]))?;
            if method == "GET" {
                let found: Value =
                    serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
                if found["errors"][0]["code"] != *code {
                    return fail(&format!("expected {code}"));
                }
            }
        }
    }
    if method == "HEAD" && !response.body.is_empty() {
        return fail("an response to HEAD has no body");
    }
    Ok(())
}

#[test]
fn pull_and_discovery_answer_as_the_specification_says() {
    let lab = lab();
    let (layout, image, referrer) = two_images();
    lab.write("app.tar", layout.tar());
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let bytes_of = |digest: &str| {
        let found =
            layout.blobs.iter().find(|blob| format!("sha256:{}", crate::layouts::hex(blob)) == digest);
        found.unwrap().clone()
    };
    let manifest = bytes_of(&image);
    let document: Value = serde_json::from_slice(&manifest).unwrap();
    let layer = document["layers"][0]["digest"].as_str().unwrap();
    let config = document["config"]["digest"].as_str().unwrap();
    let (layer_bytes, config_bytes) = (bytes_of(layer), bytes_of(config));
    let by_tag = "/v2/team/app/manifests/v1".to_owned();
    let by_digest = format!("/v2/team/app/manifests/{image}");
    let rows: Vec<(&str, &str, String, Expected<'_>)> = vec![
        (
            "base",
            "GET",
            "/v2/".into(),
            Expected::Has(200, &[("docker-distribution-api-version", "registry/2.0")]),
        ),
        ("base without a slash", "GET", "/v2".into(), Expected::Has(200, &[])),
        (
            "pull: no blob",
            "HEAD",
            format!("/v2/team/app/blobs/{NOWHERE}"),
            Expected::Error(404, "BLOB_UNKNOWN"),
        ),
        (
            "pull: no blob",
            "GET",
            format!("/v2/team/app/blobs/{NOWHERE}"),
            Expected::Error(404, "BLOB_UNKNOWN"),
        ),
        ("pull: blob", "HEAD", format!("/v2/team/app/blobs/{layer}"), Expected::Content(layer, &layer_bytes)),
        ("pull: blob", "GET", format!("/v2/team/app/blobs/{layer}"), Expected::Content(layer, &layer_bytes)),
        (
            "pull: configuration",
            "GET",
            format!("/v2/team/app/blobs/{config}"),
            Expected::Content(config, &config_bytes),
        ),
        (
            "pull: manifest as a blob",
            "GET",
            format!("/v2/team/app/blobs/{image}"),
            Expected::Content(&image, &manifest),
        ),
        (
            "pull: a digest that is none",
            "GET",
            "/v2/team/app/blobs/sha256:1".into(),
            Expected::Error(400, "DIGEST_INVALID"),
        ),
        (
            "pull: no manifest",
            "HEAD",
            "/v2/team/app/manifests/none".into(),
            Expected::Error(404, "MANIFEST_UNKNOWN"),
        ),
        (
            "pull: no manifest",
            "GET",
            "/v2/team/app/manifests/none".into(),
            Expected::Error(404, "MANIFEST_UNKNOWN"),
        ),
        (
            "pull: no manifest of a digest",
            "GET",
            format!("/v2/team/app/manifests/{NOWHERE}"),
            Expected::Error(404, "MANIFEST_UNKNOWN"),
        ),
        (
            "pull: a layer is no manifest",
            "GET",
            format!("/v2/team/app/manifests/{layer}"),
            Expected::Error(404, "MANIFEST_UNKNOWN"),
        ),
        ("pull: manifest by digest", "HEAD", by_digest.clone(), Expected::Content(&image, &manifest)),
        ("pull: manifest by digest", "GET", by_digest.clone(), Expected::Content(&image, &manifest)),
        ("pull: manifest by tag", "HEAD", by_tag.clone(), Expected::Content(&image, &manifest)),
        ("pull: manifest by tag", "GET", by_tag.clone(), Expected::Content(&image, &manifest)),
        ("pull: its type", "HEAD", by_tag, Expected::Has(200, &[("content-type", MANIFEST)])),
        ("pull: no repository", "GET", "/v2/none/manifests/v1".into(), Expected::Error(404, "NAME_UNKNOWN")),
        (
            "pull: no repository",
            "GET",
            format!("/v2/none/blobs/{layer}"),
            Expected::Error(404, "NAME_UNKNOWN"),
        ),
        (
            "pull: a name that is none",
            "GET",
            "/v2/Team/manifests/v1".into(),
            Expected::Error(400, "NAME_INVALID"),
        ),
        (
            "discovery: tags",
            "GET",
            "/v2/team/app/tags/list".into(),
            Expected::Json(json!({"name": "team/app", "tags": ["v1", "v2"]})),
        ),
        (
            "discovery: tags, n",
            "GET",
            "/v2/team/app/tags/list?n=1".into(),
            Expected::Json(json!({"name": "team/app", "tags": ["v1"]})),
        ),
        (
            "discovery: tags, n, Link",
            "HEAD",
            "/v2/team/app/tags/list?n=1".into(),
            Expected::Has(200, &[("link", "</v2/team/app/tags/list?n=1&last=v1>; rel=\"next\"")]),
        ),
        (
            "discovery: tags, last",
            "GET",
            "/v2/team/app/tags/list?n=1&last=v1".into(),
            Expected::Json(json!({"name": "team/app", "tags": ["v2"]})),
        ),
        (
            "discovery: tags, n is 0",
            "GET",
            "/v2/team/app/tags/list?n=0".into(),
            Expected::Json(json!({"name": "team/app", "tags": []})),
        ),
        (
            "discovery: tags, n is none",
            "GET",
            "/v2/team/app/tags/list?n=x".into(),
            Expected::Error(400, "PAGINATION_NUMBER_INVALID"),
        ),
        (
            "discovery: no repository",
            "GET",
            "/v2/none/tags/list".into(),
            Expected::Error(404, "NAME_UNKNOWN"),
        ),
        (
            "discovery: catalog",
            "GET",
            "/v2/_catalog".into(),
            Expected::Json(json!({"repositories": ["team/app", "team/other"]})),
        ),
        (
            "discovery: catalog, n",
            "HEAD",
            "/v2/_catalog?n=1".into(),
            Expected::Has(200, &[("link", "</v2/_catalog?n=1&last=team%2Fapp>; rel=\"next\"")]),
        ),
        (
            "discovery: referrers, a digest that is none",
            "GET",
            "/v2/team/app/referrers/v1".into(),
            Expected::Error(400, "DIGEST_INVALID"),
        ),
        ("management: read-only", "DELETE", by_digest, Expected::Error(405, "UNSUPPORTED")),
        (
            "push: read-only",
            "POST",
            "/v2/team/app/blobs/uploads/".into(),
            Expected::Error(405, "UNSUPPORTED"),
        ),
        ("no endpoint", "GET", "/v2/team/app/x/y".into(), Expected::Has(404, &[])),
        ("no endpoint", "GET", "/etc/passwd".into(), Expected::Has(404, &[])),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(row, method, target, expected)| {
            check(
                &format!("{row} ({method} {target})"),
                method,
                &served.ask(method, target, &[], b""),
                expected,
            )
            .err()
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let list = |query: &str| served.get(&format!("/v2/team/app/referrers/{image}{query}"));
    let entry = (referrer, "test/sbom".to_owned());
    assert_eq!(referrers(&list("")), std::slice::from_ref(&entry));
    assert_eq!(list("").header("oci-filters-applied"), None);
    assert_eq!(referrers(&list("?artifactType=test/sbom")), [entry]);
    let none = list("?artifactType=test%2Fother");
    assert_eq!(referrers(&none), []);
    assert_eq!(none.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(referrers(&served.get(&format!("/v2/team/app/referrers/{NOWHERE}"))), []);
    let _ = served.stop().succeeds();
}

#[test]
fn ranges_of_a_blob_are_sent_and_others_refused() {
    let lab = lab();
    let mut layout = Layout::default();
    let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let config = layout.blob("application/vnd.oci.empty.v1+json", "{}");
    let layer = layout.blob("text/plain", text.clone());
    let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let image = layout.blob(MANIFEST, document.to_string());
    layout.entries.push(named(image, &[(REF_NAME, "v1")]));
    lab.write("data.tar", layout.tar());
    let served = Served::start(&lab, &["--tar", "data.tar"]);
    let digest = layer["digest"].as_str().unwrap();
    let target = format!("/v2/data/blobs/{digest}");
    let ask = |fields: &[(&str, &str)]| served.ask("GET", &target, fields, b"");
    let size = text.len();
    for (range, status, part) in [
        ("bytes=0-9", 206, 0..10),
        ("bytes=399990-", 206, 399_990..size),
        ("bytes=-7", 206, size - 7..size),
        ("bytes=5-99999999", 206, 5..size),
        ("bytes=0-1,5-6", 200, 0..size),
        ("lines=0-1", 200, 0..size),
    ] {
        let response = ask(&[("Range", range)]);
        assert_eq!(response.status, status, "{range}");
        assert!(response.body == text[part.clone()], "{range}");
        let content = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(response.header("content-range"), (status == 206).then_some(content.as_str()), "{range}");
    }
    let behind = ask(&[("Range", "bytes=400000-")]);
    assert_eq!((behind.status, behind.header("content-range")), (416, Some("bytes */400000")));
    let tag = format!("\"{digest}\"");
    assert_eq!(ask(&[("Range", "bytes=0-9"), ("If-Range", &tag)]).status, 206);
    assert_eq!(ask(&[("Range", "bytes=0-9"), ("If-Range", "\"other\"")]).body.len(), size);
    assert_eq!(ask(&[("If-None-Match", &tag)]).status, 304);
    let _ = served.stop().succeeds();
}

#[test]
fn one_image_answers_to_any_name_and_name_narrows() {
    let lab = lab();
    lab.write("app.tar", Layout::simple().tar());
    let status = |served: &Served<'_>, target: &str| served.ask("HEAD", target, &[], b"").status;
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    for (target, expected) in [
        ("/v2/team/app/manifests/v1", 200),
        ("/v2/any/name/at/all/manifests/v1", 200),
        ("/v2/app/manifests/latest", 200),
        ("/v2/team/app/manifests/latest", 200),
        ("/v2/app/manifests/v2", 404),
    ] {
        assert_eq!(status(&served, target), expected, "{target}");
    }
    let output = served.stop().succeeds();
    assert!(output.stderr.contains("/team/app:v1 (sha256:"), "{output}");
    assert!(output.stderr.contains("serves the same image under any other repository name"), "{output}");
    let served = Served::start(&lab, &["--tar", "app.tar", "--name", "x/y"]);
    for (target, expected) in
        [("/v2/x/y/manifests/v1", 200), ("/v2/team/app/manifests/v1", 404), ("/v2/x/y/manifests/latest", 404)]
    {
        assert_eq!(status(&served, target), expected, "{target}");
    }
    let _ = served.stop().succeeds();
}

#[test]
fn every_kind_of_tar_and_folder_is_served_and_names_do_not_meet() {
    let lab = lab();
    let other = |name: &str| {
        let mut layout = Layout::default();
        let image = layout.image(&[name.as_bytes().repeat(512)]);
        layout.entries.push(named(image, &[(REF_NAME, "v1")]));
        layout
    };
    lab.write("dist/one.tar", other("a").tar());
    lab.write("dist/two.tar.gz", crate::layouts::gzip(&other("b").tar()));
    lab.write("dist/notes.txt", "no image");
    lab.write("named.tar", Layout::simple().tar());
    let mut old = other("d");
    old.entries[0]["annotations"][CONTAINERD_NAME] = json!("reg.example/old:v3");
    lab.write("oci.tar", old.tar());
    let _ = lab.run(&["copy", "-q", "--tar", "oci.tar", "--to-docker-tar", "docker.tar"]).succeeds();
    let _ = lab.run(&["copy", "-q", "--tar", "dist/one.tar", "--to-tar", "imgpkg.tar"]).succeeds();
    let words = ["--tar", "dist", "--tar", "named.tar", "--tar", "docker.tar", "--tar", "imgpkg.tar"];
    let served = Served::start(&lab, &words);
    for (repository, tags) in
        [("one", ["v1"]), ("two", ["v1"]), ("team/app", ["v1"]), ("old", ["v3"]), ("imgpkg", ["v1"])]
    {
        let found: Value =
            serde_json::from_slice(&served.get(&format!("/v2/{repository}/tags/list")).body).unwrap();
        assert_eq!(found["tags"], json!(tags), "{repository}");
    }
    assert_eq!(served.get("/v2/any/tags/list").status, 404, "several images have only their own names");
    let _ = served.stop().succeeds();
    // Two images with the same name are ambiguous.
    let mut twice = other("c");
    twice.entries[0]["annotations"][CONTAINERD_NAME] = json!("reg.example/team/app:v1");
    lab.write("twice.tar", twice.tar());
    let _ = lab
        .run(&["serve", "--tar", "named.tar", "--tar", "twice.tar", "--", "true"])
        .fails(1, &["`team/app:v1` is the name of two images", "hint: "]);
}

#[test]
fn fifty_parallel_pulls_get_every_byte_and_memory_stays_flat() {
    const LAYER: u64 = 3_000_000;
    let lab = lab().tree(&[&format!("f root/data random:{LAYER}:3")]);
    crate::samples::pack(
        &lab,
        &["-i", crate::samples::NAME, "-f", "root", "--compression", "none"],
        "app.tar",
    );
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let manifest: Value = serde_json::from_slice(&served.get("/v2/team/app/manifests/v1").body).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let target = format!("/v2/team/app/blobs/{layer}");
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let response = served.get(&target);
                assert_eq!(response.status, 200);
                assert_eq!(testkit::digest::of(&response.body), layer, "{} bytes", response.body.len());
            });
        }
    });
    // Fifty blobs in memory would be 150 MB; each connection has buffers, and a busy machine has all of them open at once.
    let peak = served.peak_kib();
    println!("peak {peak} KiB");
    assert!(peak < 90 * 1024, "{peak} KiB");
    let _ = served.stop().succeeds();
}
