//! Unit tests of reading: objects of a bucket, and files of a web server in parts, from a server with faults.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

use testkit::fake_bucket::{FakeBucket, answer};
use testkit::http::Received;

use super::{Bucket, BucketError, BucketOptions, WebFile};
use crate::registry::wire_options::WireOptions;
use crate::stream::ReadAt as _;

fn options(server: &FakeBucket) -> BucketOptions {
    BucketOptions {
        wire: WireOptions::default(),
        allow_http: false,
        retries: 2,
        retry_delay: Duration::from_millis(1),
        endpoint: Some(server.url()),
        region: None,
        login: None,
        encryption: None,
        clock: Arc::new(|| 0),
    }
}

/// Reads the object `key`, from a position; an error as text.
fn read(server: &FakeBucket, from: u64) -> Result<Option<Vec<u8>>, String> {
    let bucket = Bucket::new("ci-images", "team", options(server)).unwrap();
    let Some(mut reader) = bucket.open("key", from).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map(|_| Some(bytes)).map_err(|error| error.to_string())
}

/// Returns the value of a header of each request, empty where a request has none.
fn sent(server: &FakeBucket, header: &str) -> Vec<String> {
    let value = |headers: Vec<(String, String)>| headers.into_iter().find(|(name, _)| name == header);
    server.requests().into_iter().map(|(_, headers)| value(headers).unwrap_or_default().1).collect()
}

/// Answers with a body that is cut after `bytes`.
fn cut(status: &str, headers: &[(&str, &str)], body: &[u8], bytes: usize) -> Vec<u8> {
    let whole = answer(status, headers, body);
    whole[..whole.len() - body.len() + bytes].to_vec()
}

const ETAG: (&str, &str) = ("etag", "\"one\"");

#[test]
fn the_rest_of_an_object_is_asked_for_under_the_condition_that_it_is_the_same() {
    type Answer = fn(&Received) -> Vec<u8>;
    let whole: [(Answer, &str); 4] = [
        (|_| answer("206 X", &[ETAG, ("content-range", "bytes 4-7/8")], b"efgh"), "a part"),
        (|_| answer("206 X", &[ETAG], b"efgh"), "a part that does not say which"),
        (|_| answer("200 X", &[ETAG, ("content-range", "bytes 4-7/8")], b"efgh"), "rclone 1.75"),
        (|_| answer("200 X", &[ETAG], b"abcdefgh"), "ranges are ignored"),
    ];
    for (rest, name) in whole {
        let server = FakeBucket::start(move |request, number| match number {
            0 => Some(cut("200 X", &[ETAG], b"abcdefgh", 4)),
            _ => Some(rest(request)),
        });
        assert_eq!(read(&server, 0), Ok(Some(b"abcdefgh".to_vec())), "{name}");
        assert_eq!(sent(&server, "range"), ["", "bytes=4-"], "{name}");
        assert_eq!(sent(&server, "if-match"), ["", "\"one\""], "{name}");
    }
}

#[test]
fn another_object_is_never_continued() {
    type Answer = fn() -> Vec<u8>;
    let changed = "`team/key` changed while it was read";
    let cases: [(Answer, &str); 6] = [
        (|| answer("412 X", &[], b""), changed),
        (|| answer("404 X", &[], b"<Error><Code>NoSuchKey</Code></Error>"), changed),
        (|| answer("206 X", &[("etag", "\"two\""), ("content-range", "bytes 4-7/8")], b"efgh"), changed),
        (|| answer("206 X", &[ETAG, ("content-range", "bytes 4-8/9")], b"efghi"), changed),
        (|| answer("200 X", &[ETAG], b"abcdefghi"), changed),
        (
            || answer("206 X", &[ETAG, ("content-range", "bytes 5-7/8")], b"fgh"),
            "it begins at byte 5, expected 4",
        ),
    ];
    for (rest, expected) in cases {
        let server = FakeBucket::start(move |_, number| match number {
            0 => Some(cut("200 X", &[ETAG], b"abcdefgh", 4)),
            _ => Some(rest()),
        });
        let error = read(&server, 0).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_object_is_given_up_with_attempts_and_time_and_bytes_one_by_one_are_no_progress() {
    let server = FakeBucket::start(|_, number| {
        let rest = &b"abcdefgh"[number..];
        let range = format!("bytes {number}-7/8");
        Some(cut("206 X", &[ETAG, ("content-range", &range)], rest, 1))
    });
    let error = read(&server, 0).unwrap_err();
    let host = server.url().replace("http://", "");
    let expected = format!(
        "cannot read `team/key` at `{host}` after 3 attempts in 0 s: connection closed while receiving the body"
    );
    assert_eq!(error, expected);
    assert_eq!(sent(&server, "range"), ["", "bytes=1-", "bytes=2-"]);
}

#[test]
fn an_object_is_read_from_a_position_or_is_not_there() {
    let object = |status: &'static str, headers: &'static [(&str, &str)], body: &'static [u8]| {
        FakeBucket::start(move |_, _| Some(answer(status, headers, body)))
    };
    let part = object("206 X", &[("content-range", "bytes 6-7/8")], b"gh");
    assert_eq!(read(&part, 6), Ok(Some(b"gh".to_vec())));
    assert_eq!(sent(&part, "range"), ["bytes=6-"]);
    assert_eq!(read(&object("200 X", &[], b"abcdefgh"), 6), Ok(Some(b"gh".to_vec())));
    assert_eq!(read(&object("404 X", &[], b""), 0), Ok(None));
    let error = read(&object("404 X", &[], b"<Error><Code>NoSuchBucket</Code></Error>"), 0).unwrap_err();
    assert!(error.starts_with("bucket `ci-images` does not exist"), "{error}");
}

/// Serves a file of zeroes in parts.
fn zeroes(size: u64) -> FakeBucket {
    FakeBucket::start(move |request, _| {
        let (first, last) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let last = last.min(size - 1);
        let body = vec![0; usize::try_from(last - first + 1).ok()?];
        Some(answer("206 X", &[ETAG, ("content-range", &format!("bytes {first}-{last}/{size}"))], &body))
    })
}

#[test]
fn a_tar_whose_headers_are_far_apart_takes_a_bounded_number_of_requests() {
    let server = zeroes(1 << 40);
    let url = format!("{}/app.tar?token=hunter2", server.url());
    let file = WebFile::open_at_most(&url, options(&server), 20).unwrap();
    let mut buffer = [7; 512];
    for number in 1..=20 {
        assert_eq!(file.read_at(&mut buffer, number << 30).unwrap(), 512);
    }
    // What came with a request takes no other.
    assert_eq!(file.read_at(&mut buffer, (20 << 30) + 60_000).unwrap(), 512);
    let error = file.read_at(&mut buffer, 21 << 30).unwrap_err();
    let error = error.downcast::<BucketError>().unwrap();
    assert!(matches!(error, BucketError::Scattered { limit: 20, .. }), "{error}");
    let (shown, text) =
        (url.replace("token=hunter2", "…"), "take more than 20 requests, which is not accepted");
    assert_eq!(error.to_string(), format!("the headers and small files of `{shown}` {text}"));
    assert_eq!(server.requests().len(), 21, "the first one is for the size");
    // A large blob is one request, which is not counted.
    assert_eq!(io::copy(&mut file.part(30 << 30, 300_000), &mut io::sink()).unwrap(), 300_000);
    assert_eq!(server.requests().len(), 22);
}

#[test]
fn headers_that_are_near_each_other_share_requests() {
    let server = zeroes(1 << 30);
    let file = WebFile::open(&format!("{}/app.tar", server.url()), options(&server)).unwrap();
    let mut buffer = [7; 512];
    for number in 0..1000 {
        assert_eq!(file.read_at(&mut buffer, number * 100_000).unwrap(), 512);
    }
    let count = server.requests().len();
    assert!((90..120).contains(&count), "{count} requests for a thousand headers 100 kB apart");
}
