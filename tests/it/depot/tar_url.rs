//! Tars at URLs: read in parts from nginx with TLS, by a presigned URL of SeaweedFS, and from servers with faults.

use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::bucket::{ACCESS_KEY, BUCKET, BucketServer, Kind, SECRET_KEY};
use testkit::certificates::certificates;
use testkit::fake_bucket::{FakeBucket, answer};
use testkit::http::Received;
use testkit::lab::Output;
use testkit::tools::{checker, run};
use testkit::web::{Program, WebServer};

use super::folder::{digest_of, pack};
use crate::lab::{Lab, lab};

/// Packs an image of layers of one size; returns its digest.
pub(super) fn pack_layers(lab: &Lab, tar: &str, layers: u8, size: usize) -> String {
    let mut words: Vec<String> =
        ["push", "-i", "registry.example/team/app:v1", "--compression", "none", "--to-oci-tar", tar]
            .map(str::to_owned)
            .to_vec();
    for number in 0..layers {
        lab.write(&format!("layers/{number}"), vec![number; size]);
        words.extend(["-f".to_owned(), format!("layers/{number}:/data/{number}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    digest_of(lab.run(&words).succeeds().one_line())
}

/// Returns what rclone calls an object of a server.
pub(super) fn remote(server: &BucketServer, key: &str) -> String {
    let keys = format!("access_key_id={ACCESS_KEY},secret_access_key={SECRET_KEY}");
    format!(":s3,provider=Other,{keys},endpoint='{}':{BUCKET}/{key}", server.url())
}

/// Runs rclone, and returns what it printed.
pub(super) fn rclone(words: &[&str]) -> String {
    run(checker("rclone").args(["--config", "/dev/null"]).args(words)).success().stdout
}

/// Returns what a command printed, without the command.
fn said(output: &Output) -> String {
    format!("{}{}", output.stdout, output.stderr)
}

/// Answers a request with the part of a file that it asks for.
pub(super) fn part(request: &Received, file: &[u8], etag: &str) -> Vec<u8> {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (first, last) = range.expect("each request has a range");
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let last = last.min(file.len() - 1);
    let range = format!("bytes {first}-{last}/{}", file.len());
    answer("206 X", &[("content-range", &range), ("etag", etag)], &file[first..=last])
}

#[test]
fn a_tar_on_a_web_server_is_read_in_parts_without_a_copy() {
    let lab = lab();
    lab.write("ca.pem", &certificates().ca);
    lab.write("web/page.html", "<html></html>");
    let digest = pack_layers(&lab, "web/app.tar", 12, 300_000);
    let size = std::fs::metadata(lab.path("web/app.tar")).unwrap().len();
    let url = |server: &WebServer, name: &str| format!("{}/{name}?X-Amz-Signature=hunter2", server.url());
    let ask = |words: &[&str]| {
        let output = lab.run(&[words, &["--debug", "--registry-ca-cert-path", "ca.pem"]].concat());
        assert!(!said(&output).contains("hunter2"), "{output}");
        output
    };
    let requests = |words: &[&str]| {
        let server = WebServer::start(Program::Nginx, &lab.path("web"));
        let url = url(&server, "app.tar");
        let words: Vec<&str> =
            words.iter().map(|word| if *word == "URL" { url.as_str() } else { *word }).collect();
        let output = ask(&words).succeeds();
        let sent = output.stderr.matches("GET https://").count();
        assert!(!output.stderr.contains("HEAD "), "a presigned URL is for GET only: {output}");
        (sent, output)
    };
    let (count, output) = requests(&["describe", "--tar", "URL"]);
    assert!(output.stdout.contains(&digest), "{output}");
    assert!(count <= 15, "the headers behind twelve layers took {count} requests");
    let (count, _) = requests(&["cat", "--tar", "URL", "/data/7"]);
    assert!(count <= 27, "{count} requests");
    let (count, output) = requests(&["copy", "--tar", "URL", "--to-oci-tar", "out.tar"]);
    assert_eq!(digest_of(output.one_line()), digest);
    assert!(count <= 27, "twelve headers and twelve layers took {count} requests");
    assert_eq!(lab.read("out.tar"), lab.read("web/app.tar"));
    let (_, output) = requests(&["verify", "--tar", "URL", "--expected-digest", &digest]);
    assert!(output.stdout.contains("/app.tar?…"), "{output}");
    let _ = requests(&["diff", "URL", "--tar", "out.tar"]);
    let _ = requests(&["ls", "--tar", "URL"]);
    let _ = requests(&["pull", "--tar", "URL", "-o", "out"]);
    assert_eq!(lab.read("out/data/3"), vec![3; 300_000]);
    assert!(size > 12 * 300_000);

    // A compressed tar is unpacked into a temporary file.
    lab.write("web/app.tar.gz", crate::layouts::gzip(&lab.read("web/app.tar")));
    let server = WebServer::start(Program::Nginx, &lab.path("web"));
    assert!(ask(&["verify", "--tar", &url(&server, "app.tar.gz")]).succeeds().stdout.contains(&digest));
    let _ = ask(&["verify", "--tar", &url(&server, "none.tar")]).fails(1, &["/none.tar?…` (404)"]);
    let _ = lab.run(&["verify", "--tar", &url(&server, "app.tar")]).fails(1, &["is not trusted"]);
    let _ = ask(&["verify", "--tar", &url(&server, "page.html")]).fails(1, &["is not an image archive"]);
    for words in [["sign", "--key", "k"], ["attach", "--type", "x"]] {
        let tar = url(&server, "app.tar");
        let _ = ask(&[&words[..], &["--tar", &tar]].concat()).fails(2, &[]);
    }
    let _ = ask(&["verify", "--oci-tar", &url(&server, "app.tar")]).fails(2, &["is read with `--tar URL`"]);
    let secret = url(&server, "app.tar").replace("https://", "https://me:hunter2@");
    let _ = ask(&["verify", "--tar", &secret]).fails(2, &["the URL has a user name in it"]);
}

#[test]
fn a_server_that_sends_whole_files_only_is_refused_with_the_way_out() {
    let lab = lab();
    let _ = pack(&lab, "app.tar", "one");
    let server = WebServer::start(Program::Python, &lab.work());
    let url = format!("{}/app.tar", server.url());
    let _ = lab
        .run(&["copy", "--tar", &url, "--to-oci-tar", "out.tar"])
        .fails(1, &["does not send parts of `http://127.0.0.1:", "pipe it to `--tar -`"]);
    assert!(!lab.path("out.tar").exists());
}

#[test]
fn a_job_hands_a_tar_over_by_a_presigned_url() {
    let (lab, server) = (lab(), BucketServer::start(Kind::Weed));
    let digest = pack_layers(&lab, "app.tar", 12, 300_000);
    let remote = remote(&server, "app.tar");
    let _ = rclone(&["copyto", lab.path("app.tar").to_str().unwrap(), &remote]);
    let url = rclone(&["link", "--expire", "1h", &remote]).trim().to_owned();
    assert!(url.contains("X-Amz-Signature="), "{url}");
    let secret = url.rsplit_once("X-Amz-Signature=").unwrap().1.to_owned();
    let copied = lab.run(&["copy", "--tar", &url, "--to-oci-tar", "out.tar", "--debug"]).succeeds();
    assert_eq!(digest_of(copied.one_line()), digest);
    assert!(!said(&copied).contains(&secret), "{copied}");
    assert_eq!(lab.read("out.tar"), lab.read("app.tar"));
    let wrong = lab.run(&["describe", "--tar", &url.replace(&secret, &"0".repeat(64))]);
    let wrong = wrong.fails(1, &["could not read `http://127.0.0.1:", "(403", "valid for a limited time"]);
    assert!(!said(&wrong).contains(&"0".repeat(64)), "{wrong}");
}

#[test]
fn a_connection_that_is_cut_is_continued_where_it_ended() {
    let lab = lab();
    let digest = pack_layers(&lab, "app.tar", 12, 300_000);
    let file = lab.read("app.tar");
    let cuts = AtomicUsize::new(0);
    let server = FakeBucket::start(move |request, _| {
        let whole = part(request, &file, "\"one\"");
        // Every response of more than 100 kB is cut, until a part of it is requested.
        let is_cut = whole.len() > 200_000 && cuts.fetch_add(1, Ordering::SeqCst) < 5;
        Some(if is_cut { whole[..100_000].to_vec() } else { whole })
    });
    let url = format!("{}/app.tar", server.url());
    let copied = lab.run(&["copy", "--tar", &url, "--to-oci-tar", "out.tar"]).succeeds();
    assert_eq!(digest_of(copied.one_line()), digest);
    assert_eq!(copied.stderr.matches("trying again").count(), 5, "{copied}");
    let _ = lab.run(&["verify", "--tar", "out.tar"]).succeeds();
    assert!(server.requests().iter().skip(1).all(|(_, headers)| {
        headers.iter().any(|(name, value)| name == "if-match" && value == "\"one\"")
    }));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let lab = lab();
    let _ = pack_layers(&lab, "app.tar", 12, 300_000);
    let file = lab.read("app.tar");
    // One server compares the validator, another one sends the new file.
    for refuses in [true, false] {
        let file = file.clone();
        let server = FakeBucket::start(move |request, number| {
            Some(match number {
                0..4 => part(request, &file, "\"one\""),
                _ if refuses => answer("412 X", &[], b""),
                _ => part(request, &file, "\"two\""),
            })
        });
        let url = format!("{}/app.tar?token=hunter2", server.url());
        let failed = lab.run(&["copy", "--tar", &url, "--to-oci-tar", "out.tar"]);
        let failed = failed.fails(1, &["/app.tar?…` changed while it was read", "run the command again"]);
        assert!(!said(&failed).contains("hunter2") && !lab.path("out.tar").exists(), "{failed}");
    }
}

#[test]
fn a_redirect_is_followed_without_the_query_and_not_to_plain_http_elsewhere() {
    let lab = lab();
    let digest = pack(&lab, "app.tar", "one");
    let file = lab.read("app.tar");
    let storage = FakeBucket::start(move |request, _| Some(part(request, &file, "\"one\"")));
    let to = format!("{}/stored", storage.url());
    let server = FakeBucket::start(move |_, _| Some(answer("302 X", &[("location", &to)], b"")));
    let url = format!("{}/app.tar?token=hunter2", server.url());
    assert!(lab.run(&["verify", "--tar", &url]).succeeds().stdout.contains(&digest));
    for (line, headers) in storage.requests() {
        assert_eq!(line, "GET /stored");
        let shown = format!("{headers:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("authorization"), "{shown}");
    }
    for (location, expected) in [
        ("http://files.example/x?sig=hunter2", "a redirect to plain http, `http://files.example/x?…`"),
        ("/app.tar", "more than 10 redirects"),
        ("ftp://x/y", "a redirect to a URL that does not begin with"),
    ] {
        let server = FakeBucket::start(move |_, _| Some(answer("302 X", &[("location", location)], b"")));
        let failed = lab.run(&["verify", "--tar", &format!("{}/app.tar", server.url())]);
        let failed = failed.fails(1, &[expected]);
        assert!(!said(&failed).contains("hunter2"), "{failed}");
    }
}

#[test]
fn answers_that_are_no_parts_of_the_file_are_refused() {
    let lab = lab();
    for (headers, expected) in [
        (vec![("content-range", "bytes 5-9/10")], "the response's range is `bytes 5-9/10`"),
        (vec![("content-range", "bytes 0-4/*")], "the response's range is `bytes 0-4/*`"),
        (vec![("content-range", "bytes 0-4/5"), ("content-encoding", "gzip")], "it is sent as `gzip`"),
        (vec![], "does not send parts"),
    ] {
        let server = FakeBucket::start(move |_, _| Some(answer("206 X", &headers, b"12345")));
        let _ = lab.run(&["verify", "--tar", &format!("{}/app.tar", server.url())]).fails(1, &[expected]);
    }
    // A tar whose headers say that it goes on after its end.
    let tar = testkit::tarball::Tarball::new().file("index.json", vec![b' '; 5000]).finish();
    let server = FakeBucket::start(move |request, _| Some(part(request, &tar[..1024], "\"one\"")));
    let url = format!("{}/app.tar", server.url());
    let _ = lab.run(&["verify", "--tar", &url]).fails(1, &["inside the data of `index.json`"]);
}

#[test]
fn a_store_or_url_where_a_file_is_expected_is_refused_with_the_way_out() {
    let lab = lab();
    lab.write("f", "x");
    let url = "https://files.example/a.tar?sig=hunter2";
    let push = ["push", "-i", "reg.example/a:v1", "-f", "f:/f", "--to-oci-tar", "x.tar"];
    for (words, expected) in [
        (&["verify", "--tar", "file:///s/app:v1"] as &[&str], "is read with `--store URL:TAG`"),
        (&["sign", "--tar", "s3://images/app:v1", "--key", "k"], "copy it with `--to-store URL:TAG`"),
        (&["sign", "--tar", url, "--key", "k"], "a tar at a URL cannot be changed"),
        (&["sign", "--store", "s3://images/app:v1", "--key", "k"], "copy it with `--to-store URL:TAG`"),
        (&[&push[..], &["--base-tar", url]].concat(), "a URL was given, expected a file"),
        (
            &[&push[..], &["--base", "s3://images/app:v1"]].concat(),
            "`--store URL:TAG` and `--to-oci-tar FILE`",
        ),
        (&["describe", url], "unexpected argument `https://files.example/a.tar?…`"),
    ] {
        let failed = lab.run(words).fails(2, &[expected]);
        assert!(!said(&failed).contains("hunter2"), "{failed}");
    }
}

#[test]
fn an_index_is_joined_from_stores() {
    let lab = lab();
    let store = super::folder::url(&lab);
    lab.write("f", "x");
    for platform in ["linux/amd64", "linux/arm64"] {
        let tag = platform.rsplit_once('/').unwrap().1;
        let to = format!("{store}:{tag}");
        let words = ["push", "-i", "-f", "f:/f", "--platform", platform, "--to-store", &to];
        let _ = lab.run(&words).succeeds();
    }
    let [amd, arm] = ["amd64", "arm64"].map(|tag| format!("{store}:{tag}"));
    let words = ["index", "--store", &amd, "--store", &arm, "--require-platform", "linux/amd64,linux/arm64"];
    let _ = lab.run(&[&words[..], &["--to-oci-tar", "all.tar"]].concat()).succeeds();
    let described = lab.run(&["describe", "--tar", "all.tar"]).succeeds();
    assert!(described.stdout.contains("linux/amd64") && described.stdout.contains("linux/arm64"));
}
