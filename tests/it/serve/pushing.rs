//! `--collect`: the conformance rows for push and management, and the resulting tar.

use serde_json::{Value, json};
use testkit::http::Response;
use testkit::oracle::validate_layout;

use super::{Served, referrers};
use crate::lab::{Lab, lab};
use crate::layouts::{CONFIG, INDEX, LAYER_GZIP, Layout, MANIFEST, descriptor, gzip, hex};
use crate::samples::{blob, entry};

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn collecting(lab: &Lab) -> Served<'_> {
    Served::start(lab, &["--collect", "out.tar", "--as", "reg.example/team"])
}

/// The path of an upload session.
#[track_caller]
fn begin(served: &Served<'_>, repository: &str) -> String {
    let response = served.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
    assert_eq!(response.status, 202, "{response:?}");
    response.header("location").unwrap().to_owned()
}

#[track_caller]
fn push_blob(served: &Served<'_>, repository: &str, bytes: &[u8]) -> String {
    let (place, digest) = (begin(served, repository), digest(bytes));
    let response = served.ask("PUT", &format!("{place}?digest={digest}"), &[], bytes);
    assert_eq!(response.status, 201, "{response:?}");
    digest
}

fn put(served: &Served<'_>, repository: &str, reference: &str, kind: &str, document: &Value) -> Response {
    let target = format!("/v2/{repository}/manifests/{reference}");
    served.ask("PUT", &target, &[("Content-Type", kind)], document.to_string().as_bytes())
}

/// Pushes the blobs of an image and returns its manifest.
fn image(served: &Served<'_>, repository: &str, text: &str) -> Value {
    let tar = testkit::tarball::Tarball::new().file("f", text).finish();
    let layer = gzip(&tar);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]}})
    .to_string();
    let _ = push_blob(served, repository, &layer);
    let _ = push_blob(served, repository, config.as_bytes());
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config.as_bytes()),
        "layers": [descriptor(LAYER_GZIP, &layer)]})
}

fn code(response: &Response) -> (u16, String) {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    (response.status, body["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn blobs_are_pushed_as_the_specification_says() {
    let lab = lab();
    let served = collecting(&lab);
    let bytes = b"0123456789";
    let id = digest(bytes);
    let ask = |method: &str, target: &str, body: &[u8]| served.ask(method, target, &[], body);
    let found = |repository: &str, id: &str| ask("HEAD", &format!("/v2/{repository}/blobs/{id}"), b"").status;
    assert_eq!(found("a", &id), 404);
    // POST and PUT.
    let place = begin(&served, "a");
    let response = ask("PUT", &format!("{place}?digest={id}"), bytes);
    assert_eq!(response.status, 201);
    assert_eq!(response.header("location"), Some(format!("/v2/a/blobs/{id}").as_str()));
    assert_eq!(response.header("docker-content-digest"), Some(id.as_str()));
    assert_eq!(ask("GET", &format!("/v2/a/blobs/{id}"), b"").body, bytes);
    // One POST.
    let other = digest(b"other");
    let response = ask("POST", &format!("/v2/a/blobs/uploads/?digest={other}"), b"other");
    assert_eq!((response.status, found("a", &other)), (201, 200));
    // Chunks, with and without a last one in the PUT; out of order they are refused and the session goes on.
    let place = begin(&served, "b");
    let chunk = |range: &str, body: &[u8]| {
        served.ask(
            "PATCH",
            &place,
            &[("Content-Range", range), ("Content-Type", "application/octet-stream")],
            body,
        )
    };
    let first = chunk("0-2", b"abc");
    assert_eq!((first.status, first.header("range")), (202, Some("0-2")));
    let early = chunk("5-6", b"fg");
    assert_eq!((early.status, early.header("range")), (416, Some("0-2")));
    assert_eq!(chunk("x", b"d").status, 400);
    let status = ask("GET", &place, b"");
    assert_eq!((status.status, status.header("range")), (204, Some("0-2")));
    assert_eq!(chunk("3-4", b"de").status, 202);
    let id = digest(b"abcdefg");
    assert_eq!(ask("PUT", &format!("{place}?digest={id}"), b"fg").status, 201);
    assert_eq!(ask("GET", &format!("/v2/b/blobs/{id}"), b"").body, b"abcdefg");
    // A mount, and a mount of an absent blob.
    assert_eq!(ask("POST", &format!("/v2/c/blobs/uploads/?mount={id}&from=b"), b"").status, 201);
    let none = digest(b"none");
    assert_eq!(ask("POST", &format!("/v2/c/blobs/uploads/?mount={none}&from=b"), b"").status, 202);
    // The end of a session, and requests without a session.
    let place = begin(&served, "a");
    assert_eq!(ask("DELETE", &place, b"").status, 204);
    for (row, response, expected) in [
        ("cancelled", ask("PATCH", &place, b"x"), (404, "BLOB_UPLOAD_UNKNOWN")),
        (
            "unknown",
            ask("PUT", &format!("/v2/a/blobs/uploads/0f?digest={id}"), b""),
            (404, "BLOB_UPLOAD_UNKNOWN"),
        ),
        (
            "of another repository",
            ask("GET", &begin(&served, "a").replace("/a/", "/b/"), b""),
            (404, "BLOB_UPLOAD_UNKNOWN"),
        ),
        ("no digest", ask("PUT", &begin(&served, "a"), b"x"), (400, "DIGEST_INVALID")),
        (
            "a digest that is none",
            ask("PUT", &format!("{}?digest=sha256:1", begin(&served, "a")), b"x"),
            (400, "DIGEST_INVALID"),
        ),
        (
            "a wrong digest",
            ask("PUT", &format!("{}?digest={id}", begin(&served, "a")), b"x"),
            (400, "DIGEST_INVALID"),
        ),
        (
            "a wrong digest at once",
            ask("POST", &format!("/v2/a/blobs/uploads/?digest={id}"), b"x"),
            (400, "DIGEST_INVALID"),
        ),
        ("a name that is none", ask("POST", "/v2/A/blobs/uploads/", b""), (400, "NAME_INVALID")),
    ] {
        assert_eq!(code(&response), (expected.0, expected.1.to_owned()), "{row}: {response:?}");
    }
    let sha512 = "sha512:4dff4ea340f0a823f15d3f4f01ab62eae0e5da579ccb851f8db9dfe84c58b2b37b89903a740e1ee172da793a6e79d560e5f7f9bd058a12a280433ed6fa46510a";
    assert_eq!(ask("POST", &format!("/v2/a/blobs/uploads/?digest={sha512}"), b"a").status, 400);
    let _ = served.stop().ends_with(1).says("no image was pushed; `out.tar` was not written");
    assert!(!lab.path("out.tar").exists());
}

#[test]
fn manifests_tags_and_referrers_are_pushed_and_deleted_as_the_specification_says() {
    let lab = lab();
    let served = collecting(&lab);
    let manifest = image(&served, "app", "one");
    let id = digest(manifest.to_string().as_bytes());
    let response = put(&served, "app", "v1", MANIFEST, &manifest);
    assert_eq!((response.status, response.header("docker-content-digest")), (201, Some(id.as_str())));
    assert_eq!(response.header("location"), Some(format!("/v2/app/manifests/{id}").as_str()));
    assert_eq!(put(&served, "app", &id, MANIFEST, &manifest).status, 201);
    assert_eq!(put(&served, "app", "v2", "", &manifest).status, 201, "the document says its type");
    for (row, response, expected) in [
        ("a wrong digest", put(&served, "app", &digest(b"x"), MANIFEST, &manifest), (400, "DIGEST_INVALID")),
        ("another type", put(&served, "app", "v3", INDEX, &manifest), (400, "MANIFEST_INVALID")),
        ("no manifest", put(&served, "app", "v3", MANIFEST, &json!([])), (400, "MANIFEST_INVALID")),
        ("a tag that is none", put(&served, "app", ".v3", MANIFEST, &manifest), (404, "MANIFEST_UNKNOWN")),
    ] {
        assert_eq!(code(&response), (expected.0, expected.1.to_owned()), "{row}: {response:?}");
    }
    let about = json!({"mediaType": MANIFEST, "digest": id, "size": manifest.to_string().len()});
    let mut note = image(&served, "app", "note");
    note["subject"] = about;
    note["artifactType"] = json!("test/note");
    let pushed = put(&served, "app", &digest(note.to_string().as_bytes()), MANIFEST, &note);
    assert_eq!((pushed.status, pushed.header("oci-subject")), (201, Some(id.as_str())));
    let note_id = digest(note.to_string().as_bytes());
    let list = served.get(&format!("/v2/app/referrers/{id}"));
    assert_eq!(referrers(&list), [(note_id.clone(), "test/note".to_owned())]);
    // A subject that is not pushed yet is no error.
    let mut early = image(&served, "app", "early");
    early["subject"] = json!({"mediaType": MANIFEST, "digest": digest(b"later"), "size": 5});
    assert_eq!(put(&served, "app", &digest(early.to_string().as_bytes()), MANIFEST, &early).status, 201);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, manifest.to_string().as_bytes())]});
    assert_eq!(put(&served, "all", "v1", INDEX, &index).status, 201);
    // Management.
    let ask = |method: &str, target: &str| served.ask(method, target, &[], b"").status;
    assert_eq!(ask("DELETE", "/v2/app/manifests/v2"), 202);
    assert_eq!(ask("DELETE", "/v2/app/manifests/v2"), 404);
    assert_eq!(ask("GET", "/v2/app/manifests/v1"), 200, "the other tag stays");
    let gone = image(&served, "gone", "gone");
    let gone_id = digest(gone.to_string().as_bytes());
    assert_eq!(put(&served, "gone", "v1", MANIFEST, &gone).status, 201);
    assert_eq!(ask("DELETE", &format!("/v2/gone/manifests/{gone_id}")), 202);
    assert_eq!(ask("GET", "/v2/gone/manifests/v1"), 404);
    let unused = push_blob(&served, "app", b"unused");
    assert_eq!(ask("DELETE", &format!("/v2/app/blobs/{unused}")), 202);
    assert_eq!(ask("HEAD", &format!("/v2/app/blobs/{unused}")), 404);
    let tags: Value = serde_json::from_slice(&served.get("/v2/app/tags/list").body).unwrap();
    assert_eq!(tags, json!({"name": "app", "tags": ["v1"]}));
    let _ = served.stop().succeeds();
    validate_layout(lab.path("out.tar"));
    let tar = lab.read("out.tar");
    let index: Value = serde_json::from_slice(entry(&tar, "index.json")).unwrap();
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["annotations"]["io.containerd.image.name"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(names, ["reg.example/team/all:v1", "reg.example/team/app:v1", "-", "-"]);
    assert!(!blob(&tar, &note_id).is_empty());
    assert!(!tar.windows(gone_id.len() - 7).any(|window| window == &gone_id.as_bytes()[7..]), "deleted");
}

#[test]
fn an_image_without_its_blobs_leaves_no_tar_and_neither_does_a_failed_command() {
    let lab = lab();
    lab.write("out.tar", "old");
    let served = collecting(&lab);
    let whole = image(&served, "app", "whole");
    assert_eq!(put(&served, "app", "v1", MANIFEST, &whole).status, 201);
    let mut part = whole;
    part["layers"] = json!([descriptor(LAYER_GZIP, b"never pushed")]);
    assert_eq!(code(&put(&served, "app", "v2", MANIFEST, &part)), (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    let _ = served.stop().ends_with(1).says("was pushed without").says("`out.tar` was not written");
    assert_eq!(lab.read("out.tar"), b"old");
    lab.write("app.tar", Layout::simple().tar());
    let program = env!("CARGO_BIN_EXE_imgrelay");
    let script = format!("{program} copy -q --tar app.tar --to-repo \"$SERVED_REGISTRY/app\" && exit 9");
    let words = ["serve", "--collect", "out.tar", "--", "sh", "-c", &script];
    let _ = lab.run(&words).ends_with(9).says("`sh` ended with exit code 9");
    assert_eq!(lab.read("out.tar"), b"old");
    let _ =
        lab.run(&["serve", "--collect", "no/folder/out.tar", "--", "touch", "ran"]).fails(1, &["no/folder"]);
    assert!(!lab.path("ran").exists(), "a tar that cannot be written is told before the command runs");
}

#[test]
fn chunks_of_http_and_permission_to_send_work_and_a_missing_length_is_refused() {
    let lab = lab();
    let served = collecting(&lab);
    let place = begin(&served, "a");
    let id = digest(b"hello world");
    let chunked = format!(
        "PATCH {place} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n\
         PUT {place}?digest={id} HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let answers = served.raw(chunked.as_bytes());
    assert!(answers.contains("202 Accepted") && answers.contains("201 Created"), "{answers}");
    let id = digest(b"x");
    let asked = format!(
        "POST /v2/a/blobs/uploads/?digest={id} HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nx"
    );
    let answers = served.raw(asked.as_bytes());
    assert!(answers.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created"), "{answers}");
    let place = begin(&served, "a");
    for request in [format!("PATCH {place} HTTP/1.1"), "PUT /v2/a/manifests/v1 HTTP/1.1".to_owned()] {
        let response = served.raw(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(response.starts_with("HTTP/1.1 411 "), "{request}: {response}");
    }
    // The received part of an interrupted body is kept, and the client resumes after it.
    let half = format!("PATCH {place} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\nX\r\n");
    assert!(served.raw(half.as_bytes()).starts_with("HTTP/1.1 400 "));
    let status = served.get(&place);
    assert_eq!((status.status, status.header("range")), (204, Some("0-5")));
    let _ = served.stop().ends_with(1).says("no image was pushed");
}

#[test]
fn one_blob_pushed_by_many_at_once_is_there_once_and_whole() {
    let lab = lab();
    let served = collecting(&lab);
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let id = digest(&bytes);
    std::thread::scope(|scope| {
        for at in 0..8 {
            let (served, bytes, id) = (&served, &bytes, &id);
            scope.spawn(move || {
                let repository = format!("app{at}");
                let place = begin(served, &repository);
                let (first, rest) = bytes.split_at(1_000_000 + at);
                assert_eq!(served.ask("PATCH", &place, &[], first).status, 202);
                assert_eq!(served.ask("PUT", &format!("{place}?digest={id}"), &[], rest).status, 201);
            });
        }
    });
    assert!(served.get(&format!("/v2/app3/blobs/{id}")).body == bytes);
    let _ = served.stop().ends_with(1).says("no image was pushed");
}

#[test]
fn a_full_disk_is_reported_to_the_client_and_leaves_no_tar() {
    let lab = lab();
    let disk = lab.path("disk");
    let words = ["serve", "--collect", "out.tar", "--ready-file", "ready"];
    let run = lab.command(&words).small_disk(&disk, "2m").env("TMPDIR", &disk);
    let served = Served::of(&lab, run.spawn());
    let small = push_blob(&served, "a", b"small");
    let place = begin(&served, "a");
    let bytes = vec![7; 8 << 20];
    let response = served.ask("PUT", &format!("{place}?digest={}", digest(&bytes)), &[], &bytes);
    assert_eq!(response.status, 507, "{response:?}");
    assert!(response.text().contains("cannot be stored"), "{response:?}");
    assert_eq!(served.get(&format!("/v2/a/blobs/{small}")).body, b"small", "the server goes on");
    drop(served);
    assert!(!lab.path("out.tar").exists());
}

#[test]
fn a_password_is_required_and_print_config_names_mirrors() {
    let lab = lab();
    lab.write("app.tar", Layout::simple().tar());
    lab.write("password", "a b\n");
    let served =
        Served::start(&lab, &["--tar", "app.tar", "--username", "ci", "--password-file", "password"]);
    let asked = served.get("/v2/");
    assert_eq!((asked.status, asked.header("www-authenticate")), (401, Some("Basic realm=\"imgrelay\"")));
    let with = |value: &str| served.ask("GET", "/v2/x/manifests/v1", &[("Authorization", value)], b"").status;
    assert_eq!(with("Basic Y2k6YSBi"), 200);
    assert_eq!(with("Basic Y2k6YSBj"), 401);
    let name = format!("{}/team/app:v1", served.host());
    let copy = ["copy", "-q", "-i", &name, "--to-oci-tar", "copied.tar"];
    let _ = lab.run(&copy).fails(1, &["401"]);
    let words = [&copy[..], &["--registry-username", "ci", "--registry-password", "a b"]].concat();
    let _ = lab.run(&words).succeeds();
    let _ = served.stop().succeeds();
    // skopeo finds the image under its real name.
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    let words = ["serve", "--tar", "app.tar", "--listen", served.host(), "--print-config", "containers"];
    let config = lab.run(&words).succeeds().stdout;
    let config = lab.write("registries.conf", config);
    let mut skopeo = testkit::tools::tool("skopeo");
    skopeo.arg("--registries-conf").arg(config).args([
        "inspect",
        "--raw",
        "docker://reg.example/team/app:v1",
    ]);
    let found = testkit::tools::run(&mut skopeo).success();
    assert_eq!(found.stdout.trim_end().as_bytes(), Layout::simple().blobs[2], "its manifest");
    let _ = served.stop().succeeds();
}
