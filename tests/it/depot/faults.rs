//! A bucket whose server fails in ways that real servers do, but not on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::fake_bucket::{FakeBucket, answer};

use super::bucket::with;
use super::folder::{digest_of, pack};
use crate::lab::lab;

const STORE: &str = "s3://ci-images/app:v1";

/// Counts the requests that a response was replaced for, up to a number.
fn once() -> (Arc<AtomicUsize>, impl Fn() -> bool) {
    let count = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&count);
    (count, move || own.fetch_add(1, Ordering::SeqCst) == 0)
}

#[test]
fn a_body_that_is_cut_is_continued_with_a_range() {
    let lab = lab();
    let digest = pack(&lab, "app.tar", &"one two ".repeat(20_000));
    let (cut, is_first) = once();
    let server = FakeBucket::start(move |request, _| {
        let is_layer = request.method == "GET" && request.target.contains("/blobs/");
        // Of the first document only a part comes, and the connection is closed.
        (is_layer && is_first()).then(|| {
            b"200 X\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n384\r\n{\"sche".to_vec()
        })
    });
    let _ = with(&lab, &server.url(), &["copy", "--tar", "app.tar", "--to-store", STORE]).succeeds();
    let words = ["copy", "--store", STORE, "--to-oci-tar", "out.tar"];
    assert_eq!(digest_of(with(&lab, &server.url(), &words).succeeds().one_line()), digest);
    assert!(cut.load(Ordering::SeqCst) > 1);
    let ranges = server.requests().into_iter().filter_map(|(_, headers)| {
        headers.into_iter().find(|(name, _)| name == "range").map(|(_, value)| value)
    });
    assert_eq!(ranges.collect::<Vec<_>>(), ["bytes=6-"]);
    let _ = lab.run(&["verify", "--tar", "out.tar"]).succeeds();
}

#[test]
fn a_clock_that_is_wrong_is_repaired_once_with_the_date_of_the_response() {
    let lab = lab();
    let _ = pack(&lab, "app.tar", "one");
    // The server's clock is in the year 2031.
    let server = FakeBucket::start(|request, _| {
        let is_right = request.header("x-amz-date").is_some_and(|date| date.starts_with("20310506T07"));
        let skewed = b"<Error><Code>RequestTimeTooSkewed</Code></Error>";
        let date = [("date", "Tue, 06 May 2031 07:08:09 GMT")];
        (!is_right).then(|| answer("403 X", &date, skewed))
    });
    let _ = with(&lab, &server.url(), &["copy", "--tar", "app.tar", "--to-store", STORE]).succeeds();
    let wrong = server.requests().into_iter().filter(|(_, headers)| {
        headers.iter().any(|(name, value)| name == "x-amz-date" && !value.starts_with("2031"))
    });
    assert_eq!(wrong.count(), 1, "the first request only");
}

#[test]
fn a_large_blob_goes_in_parts_and_an_error_after_the_status_is_one() {
    let lab = lab();
    let file = std::fs::File::create(lab.write("files/large", "")).unwrap();
    file.set_len(70 << 20).unwrap();
    let words = [
        "push",
        "-i",
        "-f",
        "files",
        "--compression",
        "none",
        "--to-store",
        STORE,
        "--server-side-encryption",
    ];
    let words = [&words[..], &["aws:kms", "--sse-kms-key-id", "key/1"]].concat();
    const INTERNAL: &[u8] = b"<Error><Code>InternalError</Code></Error>";
    let (_, is_first) = once();
    let server = FakeBucket::start(move |request, _| {
        let completes = request.method == "POST" && request.target.contains("?uploadId=");
        (completes && is_first()).then(|| answer("200 X", &[], INTERNAL))
    });
    let digest = digest_of(with(&lab, &server.url(), &words).succeeds().one_line());
    assert!(with(&lab, &server.url(), &["verify", "--store", STORE]).succeeds().stdout.contains(&digest));
    let requests = server.requests();
    let parts = requests.iter().filter(|(line, _)| line.contains("partNumber="));
    assert_eq!(parts.count(), 9, "70 MiB in parts of 8 MiB");
    for (line, headers) in &requests {
        let has = |name: &str| headers.iter().any(|(other, _)| other == name);
        let begins = (line.starts_with("PUT") && !line.contains("partNumber")) || line.contains("?uploads");
        let of_kms = "x-amz-server-side-encryption-aws-kms-key-id";
        assert_eq!((has("x-amz-server-side-encryption"), has(of_kms)), (begins, begins), "{line}");
    }
    // An error that does not go away: the upload is taken back, and there is no version.
    const INVALID: &[u8] = b"<Error><Code>InvalidPart</Code></Error>";
    let server = FakeBucket::start(|request, _| {
        let completes = request.method == "POST" && request.target.contains("?uploadId=");
        completes.then(|| answer("200 X", &[], INVALID))
    });
    let _ = with(&lab, &server.url(), &words).fails(1, &["(200 InvalidPart)"]);
    assert!(
        server.requests().iter().any(|(line, _)| line.starts_with("DELETE") && line.contains("uploadId="))
    );
    assert!(!server.keys().iter().any(|key| key.contains("/tags/")), "{:?}", server.keys());
    let failing = ["--server-side-encryption", "des"];
    let _ = with(&lab, &server.url(), &[&["copy", "--tar", "x", "--to-store", STORE], &failing[..]].concat())
        .fails(2, &["`des` is unknown, expected `AES256`, `aws:kms` or `aws:kms:dsse`"]);
}

#[test]
fn a_server_that_changes_what_it_stores_is_found_by_verify_upload() {
    let lab = lab();
    let _ = pack(&lab, "app.tar", "one");
    let server = FakeBucket::start(|request, _| {
        let is_blob = request.method == "GET" && request.target.contains("/blobs/");
        is_blob.then(|| answer("200 X", &[], b"something else"))
    });
    let words = ["copy", "--tar", "app.tar", "--to-store", STORE];
    let verified = with(&lab, &server.url(), &[&words[..], &["--verify-upload"]].concat());
    let _ = verified.fails(1, &["was written to `s3://ci-images/app`, but reading it back failed"]);
    assert!(!server.keys().iter().any(|key| key.contains("/tags/")), "{:?}", server.keys());
    assert!(server.requests().iter().any(|(line, _)| line.starts_with("DELETE /ci-images/app/blobs/")));
    let _ = with(&lab, &server.url(), &words).succeeds();
}

#[test]
fn a_list_that_is_behind_is_caught_up_with_and_one_without_order_is_refused() {
    let lab = lab();
    let _ = pack(&lab, "app.tar", "one");
    const EMPTY: &[u8] = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let is_stale = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let own = Arc::clone(&is_stale);
    let server = FakeBucket::start(move |request, _| {
        let lists = request.target.contains("prefix=app%2Ftags%2F");
        (lists && own.load(Ordering::SeqCst)).then(|| answer("200 X", &[], EMPTY))
    });
    let words = ["copy", "--tar", "app.tar", "--to-store", STORE];
    let _ = with(&lab, &server.url(), &words).succeeds();
    is_stale.store(false, Ordering::SeqCst);
    let again = with(&lab, &server.url(), &[&words[..], &["--json"]].concat()).succeeds().json();
    assert_eq!(again["sent"], 0);
    let listed = with(&lab, &server.url(), &["store", "list", STORE, "--json"]).succeeds().json();
    assert_eq!(listed["versions"].as_array().unwrap().len(), 1);
    let _ = with(&lab, &server.url(), &["verify", "--store", STORE]).succeeds();

    let keys = |names: [&str; 2]| {
        let keys = names.map(|name| format!("<Contents><Key>app/tags/v1/{name}</Key></Contents>"));
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>", keys.concat())
    };
    let wrong = keys(["2", "1"]);
    let server = FakeBucket::start(move |request, _| match request.target.as_str() {
        "/ci-images/app/oci-layout" => Some(answer("200 X", &[], br#"{"imageLayoutVersion":"1.0.0"}"#)),
        _ => Some(answer("200 X", &[], wrong.as_bytes())),
    });
    let _ = with(&lab, &server.url(), &["store", "list", STORE])
        .fails(1, &["`tags/v1/1` comes after `tags/v1/2`"]);
}

#[test]
fn a_page_that_is_too_large_is_refused_at_once() {
    let lab = lab();
    let server = FakeBucket::start(|request, _| {
        let is_list = request.target.contains("list-type=2");
        let page = || format!("<ListBucketResult>{}</ListBucketResult>", "<Key>x</Key>".repeat(800_000));
        is_list.then(|| answer("200 X", &[], page().as_bytes()))
    });
    let _ = pack(&lab, "app.tar", "one");
    let failed = with(&lab, &server.url(), &["copy", "--tar", "app.tar", "--to-store", STORE]);
    let _ = failed.fails(1, &["is not valid: it has more than 8388608 bytes"]);
    let lists = server.requests().into_iter().filter(|(line, _)| line.contains("list-type=2"));
    assert_eq!(lists.count(), 1);
}
