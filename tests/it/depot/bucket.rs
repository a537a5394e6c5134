//! Stores in buckets: two real servers, and faults of a server.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::bucket::{ACCESS_KEY, BUCKET, BucketServer, Kind, SECRET_KEY};
use testkit::certificates::certificates;
use testkit::cloud::{AwsKey, FakeService, check_signature};
use testkit::lab::{Output, Run};
use testkit::readers::skopeo_digest;

use super::folder::{digest_of, pack};
use crate::lab::{Lab, lab};

/// Adds endpoint and keys of a bucket to the environment.
fn with_keys<'lab>(run: Run<'lab>, endpoint: &str) -> Run<'lab> {
    run.env("AWS_ENDPOINT_URL_S3", endpoint)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

pub(super) fn with(lab: &Lab, endpoint: &str, words: &[&str]) -> Output {
    with_keys(lab.command(words), endpoint).run()
}

fn store(prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}")
}

/// Copies one image, another, and the first again into a store of one server, and reads the versions.
fn hand_over(server: &BucketServer) {
    let (lab, at) = (lab(), server.url());
    let to = format!("{}:candidate", store("team/app"));
    let one = pack(&lab, "one.tar", "one");
    let put = with(&lab, &at, &["copy", "--tar", "one.tar", "--to-store", &to, "--json"]).succeeds().json();
    assert_eq!((&put["store"], &put["reused"]), (&store("team/app").as_str().into(), &0.into()));
    let again = with(&lab, &at, &["copy", "--tar", "one.tar", "--to-store", &to, "--json"]).succeeds().json();
    assert_eq!((&again["sent"], &again["pushed"]), (&0.into(), &put["pushed"]));
    let two = pack(&lab, "two.tar", "two");
    let _ = with(&lab, &at, &["copy", "--tar", "two.tar", "--to-store", &to]).succeeds();
    let _ = with(&lab, &at, &["copy", "--tar", "one.tar", "--to-store", &to, "--tag", "v1"]).succeeds();
    let listed = with(&lab, &at, &["store", "list", &to, "--json"]).succeeds().json();
    let versions = listed["versions"].as_array().unwrap();
    let digests: Vec<&str> = versions.iter().map(|version| version["digest"].as_str().unwrap()).collect();
    assert_eq!(digests, [one.as_str(), &two, &one]);
    let all = with(&lab, &at, &["store", "list", &store("team/app"), "--json"]).succeeds().json();
    assert_eq!(all["versions"].as_array().unwrap().len(), 2);

    let line = with(&lab, &at, &["copy", "--store", &to, "--to-oci-tar", "out.tar"]).succeeds();
    assert_eq!(digest_of(line.one_line()), one);
    let _ = lab.run(&["verify", "--tar", "out.tar"]).succeeds();
    let old = format!("{to}@{two}");
    let _ = with(&lab, &at, &["pull", "--store", &old, "-o", "out"]).succeeds();
    assert_eq!(lab.read("out/content"), b"two");
    let _ = with(&lab, &at, &["verify", "--store", &store("team/app")]).succeeds();
    let none = format!("{}:none", store("team/app"));
    let texts = ["has no image `none`; it has `candidate`, `v1`"];
    let _ = with(&lab, &at, &["verify", "--store", &none]).fails(1, &texts);
    let _ = with(&lab, &at, &["verify", "--store", &store("other")]).fails(1, &["is not an image store"]);

    served(&lab, &at);

    let wrong = lab.command(&["verify", "--store", &to]).env("AWS_ENDPOINT_URL_S3", &at);
    let wrong = wrong.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "other").run();
    let _ = wrong.fails(1, &["refused to read `team/app/oci-layout` (403", "s3:GetObject"]);
    let bucket = "s3://no-such-bucket/app:a";
    let missing = with(&lab, &at, &["verify", "--store", bucket]);
    assert_eq!(missing.code, Some(1), "{missing}");

    // Large blobs are uploaded in parts and read back.
    let large: Vec<u8> =
        (0..70_u32 << 18).flat_map(|at| (at.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    lab.write("large/blob", &large);
    let words = [
        "push",
        "-i",
        "registry.example/large:v1",
        "-f",
        "large",
        "--compression",
        "none",
        "--to-oci-tar",
        "large.tar",
    ];
    let digest = digest_of(lab.run(&words).succeeds().one_line());
    let to = format!("{}:v1", store("large"));
    let _ = with(&lab, &at, &["copy", "--tar", "large.tar", "--to-store", &to]).succeeds();
    let line = with(&lab, &at, &["verify", "--store", &to]).succeeds();
    assert!(line.stdout.contains(&digest), "{line}");
}

/// Serves the bucket as a registry: skopeo copies from it, and a part of a blob is requested.
fn served(lab: &Lab, at: &str) {
    let serve = |store: &str, script: &str| {
        with(lab, at, &["serve", "--store", store, "--", "sh", "-euc", script]).succeeds()
    };
    let script = "skopeo copy -q --src-tls-verify=false \"docker://$SERVED_REGISTRY/any/name:v1\" oci-archive:served.tar\n\
                  layer=$(curl -sSf \"http://$SERVED_REGISTRY/v2/x/manifests/v1\" | jq -r '.layers[0].digest')\n\
                  curl -sSf -o whole \"http://$SERVED_REGISTRY/v2/x/blobs/$layer\"\n\
                  curl -sSf -o part -r 5-20 \"http://$SERVED_REGISTRY/v2/x/blobs/$layer\"";
    let _ = serve(&store("team/app"), script);
    let _ = lab.run(&["verify", "--tar", "served.tar"]).succeeds();
    assert_eq!(lab.read("part"), lab.read("whole")[5..=20]);
}

#[test]
fn an_image_goes_through_a_bucket_of_seaweedfs() {
    hand_over(&BucketServer::start(Kind::Weed));
}

#[test]
fn an_image_goes_through_a_bucket_of_rclone_and_other_tools_read_the_objects() {
    let server = BucketServer::start(Kind::Rclone);
    hand_over(&server);
    let folder = server.folder().join("team/app");
    let digest = skopeo_digest(&format!("oci:{}:candidate", folder.display()), &[]);
    // The server's files are a valid store in a folder, too.
    let lab = lab();
    let url = format!("file://{}:candidate", folder.display());
    assert_eq!(
        digest_of(lab.run(&["copy", "--store", &url, "--to-oci-tar", "x.tar"]).succeeds().one_line()),
        digest
    );
    let entries: Vec<PathBuf> =
        std::fs::read_dir(folder.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let blob = entries.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(blob).unwrap();
    bytes[0] ^= 1;
    std::fs::write(blob, bytes).unwrap();
    let store = store("team/app");
    let damaged = with(&lab, &server.url(), &["verify", "--store", &store]);
    assert_eq!(damaged.code, Some(3), "{damaged}");
}

#[test]
fn a_bucket_behind_tls_is_trusted_by_its_authority_only() {
    let (lab, server) = (lab(), BucketServer::start(Kind::RcloneTls));
    let _ = pack(&lab, "one.tar", "one");
    let to = format!("{}:a", store("app"));
    let words = ["copy", "--tar", "one.tar", "--to-store", &to];
    let _ = with(&lab, &server.url(), &words).fails(1, &["is not trusted"]);
    lab.write("ca.pem", &certificates().ca);
    let trusted = [&words[..], &["--registry-ca-cert-path", "ca.pem"]].concat();
    let _ = with(&lab, &server.url(), &trusted).succeeds();
}

/// A server with one object, `app/oci-layout`, that answers the first requests with something else.
fn fault(first: &'static [(u16, &'static str)]) -> (FakeService, &'static AtomicUsize) {
    let count: &'static AtomicUsize = Box::leak(Box::default());
    let service = FakeService::start(move |request| {
        let key = AwsKey { id: ACCESS_KEY, secret: SECRET_KEY, session: None };
        check_signature(request, key, "us-east-1", "s3")?;
        let at = count.fetch_add(1, Ordering::SeqCst);
        if let Some((status, body)) = first.get(at) {
            return Ok((*status, (*body).to_owned()));
        }
        let target = request.target.as_str();
        let list = |keys: &str| {
            format!("<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>")
        };
        match target {
            "/ci-images/app/oci-layout" => Ok((200, r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned())),
            target if target.starts_with("/ci-images/?") && target.contains("prefix=app%2Ftags%2F") => {
                Ok((200, list("")))
            }
            _ => Err("unexpected".to_owned()),
        }
    });
    (service, count)
}

#[test]
fn answers_that_go_away_are_asked_for_again_and_others_are_named() {
    const SLOW: &str =
        "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    const INTERNAL: &str = "<Error><Code>InternalError</Code><Message>We</Message></Error>";
    let lab = lab();
    let list = |service: &FakeService, more: &[&str]| {
        with(&lab, &service.url(), &[&["store", "list", "s3://ci-images/app"], more].concat())
    };
    const AGAIN: [&[(u16, &str)]; 3] = [&[(503, SLOW)], &[(500, INTERNAL)], &[(400, SLOW), (502, "")]];
    for first in AGAIN {
        let (service, count) = fault(first);
        let _ = list(&service, &[]).succeeds();
        assert_eq!(count.load(Ordering::SeqCst), first.len() + 2, "{first:?}");
    }
    let (service, _) = fault(&[(503, SLOW)]);
    let texts = ["after 1 attempts", "503 SlowDown: Please reduce your request rate."];
    let _ = list(&service, &["--registry-retry-count", "1"]).fails(4, &texts);
    const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no\u{1b}[31m</Message></Error>";
    for (status, body, code, text) in [
        (403, DENIED, 1, "refused to read `app/oci-layout` (403 AccessDenied: no\\u{1b}[31m)"),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", 1, "bucket `ci-images` does not exist"),
        (404, "<Error><Code>NoSuchKey</Code></Error>", 1, "it has no `oci-layout`"),
        (
            501,
            "<Error><Code>NotImplemented</Code></Error>",
            1,
            "could not read `app/oci-layout` (501 NotImplemented)",
        ),
        (409, "<!DOCTYPE a [<!ENTITY b \"c\">]><Error/>", 1, "could not read `app/oci-layout` (409)"),
    ] {
        let first: &'static [(u16, &str)] = Box::leak(Box::new([(status, body)]));
        let (service, _) = fault(first);
        let _ = list(&service, &[]).fails(code, &[text]);
    }
    const LAYOUT: (u16, &str) = (200, r#"{"imageLayoutVersion":"1.0.0"}"#);
    const CUT: &str = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    for (page, text) in [
        ("<ListBucketResult><Contents>", "it ends inside of an element"),
        (CUT, "it is incomplete and does not say how to continue"),
        ("<html></html>", "it is no list of keys"),
        ("<!DOCTYPE a><a></a>", "it has a document type"),
    ] {
        let first: &'static [(u16, &str)] = Box::leak(Box::new([LAYOUT, (200, page)]));
        let (service, _) = fault(first);
        let _ = list(&service, &[]).fails(1, &["cannot list `app/tags/`", text]);
    }
    // An error after the status of a success is an error.
    let first: &'static [(u16, &str)] = Box::leak(Box::new([LAYOUT, (200, INTERNAL)]));
    let (service, count) = fault(first);
    let _ = list(&service, &[]).succeeds();
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn without_keys_nothing_is_sent_unless_a_bucket_is_public() {
    let lab = lab();
    let service =
        FakeService::start(|request| match (request.target.as_str(), request.header("authorization")) {
            ("/ci-images/app/oci-layout", None) => Ok((200, r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned())),
            (target, None) if target.starts_with("/ci-images/?") => {
                Ok((200, "<ListBucketResult></ListBucketResult>".to_owned()))
            }
            _ => Err("unexpected".to_owned()),
        });
    let words = ["store", "list", "s3://ci-images/app"];
    let run = |words: &[&str]| {
        let run = lab.command(words).env("AWS_ENDPOINT_URL_S3", service.url());
        run.env("AWS_EC2_METADATA_DISABLED", "true").run()
    };
    let _ = run(&words).fails(2, &["cannot get keys for `127.0.0.1:", "AWS_ACCESS_KEY_ID"]);
    assert!(service.requests().is_empty());
    let _ = run(&[&words[..], &["--registry-anon"]].concat()).succeeds();
}

#[test]
fn the_region_and_the_time_are_taken_from_the_response() {
    let lab = lab();
    let region = |region: &str, home: &'static str| {
        let service = FakeService::start(move |request| {
            let authorization = request.header("authorization").unwrap_or_default();
            if !authorization.contains(&format!("/{home}/s3/")) {
                return Ok((
                    301,
                    format!("<Error><Code>PermanentRedirect</Code><Region>{home}</Region></Error>"),
                ));
            }
            match request.target.as_str() {
                "/ci-images/app/oci-layout" => Ok((200, r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned())),
                _ => Ok((200, "<ListBucketResult></ListBucketResult>".to_owned())),
            }
        });
        let words = ["store", "list", "s3://ci-images/app"];
        with_keys(lab.command(&words), &service.url()).env("AWS_REGION", region).run()
    };
    let _ = region("eu-west-1", "eu-central-1").succeeds();
    let _ = region("eu-central-1", "eu-central-1").succeeds();
}
