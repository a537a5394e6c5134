//! A server that begins to fail, at each of the requests of a command: exit code 4 and the server's error, also from
//! `verify`, which calls nothing damaged that it could not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::bucket::{ACCESS_KEY, SECRET_KEY};
use testkit::fake_bucket::{FakeBucket, answer};
use testkit::http::Received;
use testkit::lab::Output;

use super::tar_url::{pack_layers, part};
use crate::lab::{Lab, lab};

/// How the server fails.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Unavailable,
    /// Its answers end in the middle of the body.
    Cut,
}

/// Passes the first requests, and fails at all others.
#[derive(Clone)]
struct Patience(Arc<AtomicUsize>);

impl Patience {
    fn endless() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }

    fn set(&self, requests: usize) {
        self.0.store(requests, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

/// What the commands do with an image; `SOURCE` is the flag that names it and its value.
const COMMANDS: [&[&str]; 7] = [
    &["verify"],
    &["describe"],
    &["ls"],
    &["cat", "/data/2"],
    &["pull", "-o", "out"],
    &["copy", "--to-oci-tar", "out.tar"],
    &["copy", "--to-store", "file:///STORE:v1"],
];

fn run(lab: &Lab, words: &[&str], source: [&str; 2], endpoint: &str) -> Output {
    let target = format!("file://{}:v1", lab.path("target").display());
    let words = words.iter().map(|word| if word.contains("STORE") { target.as_str() } else { word });
    let words: Vec<&str> = words.collect();
    let (command, rest) = words.split_first().unwrap();
    let words = [&[*command], &source[..], rest, &["--registry-retry-count", "1"]].concat();
    let run = lab.command(&words).env("AWS_ENDPOINT_URL_S3", endpoint);
    let output = run.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).run();
    for name in ["out", "target"] {
        let _ = std::fs::remove_dir_all(lab.path(name));
    }
    let _ = std::fs::remove_file(lab.path("out.tar"));
    output
}

/// Runs a command once without faults, and once for each of its requests with a server that fails from there on.
fn fail_at_each(lab: &Lab, server: &FakeBucket, patience: &Patience, words: &[&str], source: [&str; 2]) {
    patience.set(usize::MAX);
    let before = server.requests().len();
    let _ = run(lab, words, source, &server.url()).succeeds();
    let requests = server.requests().len() - before;
    assert!(requests > 3, "{words:?}: {requests} requests");
    for passed in 0..requests {
        patience.set(passed);
        let failed = run(lab, words, source, &server.url());
        assert_eq!(failed.code, Some(4), "{words:?} after {passed} of {requests} requests: {failed}");
        let text = format!("{}{}", failed.stdout, failed.stderr);
        let is_told = text.contains(" after 1 attempts in 0 s: ") && !text.contains("damaged");
        assert!(is_told, "{words:?} after {passed}: {failed}");
        assert!(!lab.path("out").exists() && !lab.path("out.tar").exists(), "{failed}");
    }
}

#[test]
fn a_tar_at_a_url_whose_server_begins_to_fail_is_exit_code_4() {
    let lab = lab();
    let _ = pack_layers(&lab, "app.tar", 3, 300_000);
    for (how, cause) in [
        (Failing::Unavailable, "the response was 503"),
        (Failing::Cut, "connection closed while receiving the body"),
    ] {
        let (file, patience) = (lab.read("app.tar"), Patience::endless());
        let own = patience.clone();
        let server = FakeBucket::start(move |request, _| {
            let whole = part(request, &file, "\"one\"");
            Some(match (own.is_over(), how) {
                (false, _) => whole,
                (true, Failing::Unavailable) => answer("503 X", &[], b""),
                (true, Failing::Cut) => whole[..whole.len() - 700].to_vec(),
            })
        });
        let url = format!("{}/app.tar?token=hunter2", server.url());
        for words in COMMANDS {
            fail_at_each(&lab, &server, &patience, words, ["--tar", &url]);
        }
        // Attempts are counted and take time; the message says both.
        patience.set(5);
        let failed = lab.run(&["verify", "--tar", &url, "--registry-retry-count", "2"]);
        let failed = failed.fails(4, &["/app.tar?…` at `127.0.0.1:", " after 2 attempts in ", cause]);
        assert!(failed.stderr.contains("trying again"), "{failed}");
    }
}

#[test]
fn a_store_in_a_bucket_whose_server_begins_to_fail_is_exit_code_4() {
    let lab = lab();
    let _ = pack_layers(&lab, "app.tar", 3, 300_000);
    for how in [Failing::Unavailable, Failing::Cut] {
        let patience = Patience::endless();
        let own = patience.clone();
        let server = FakeBucket::start(move |_: &Received, _| {
            own.is_over().then(|| match how {
                Failing::Unavailable => answer("503 X", &[], b""),
                Failing::Cut => b"200 X\r\nconnection: close\r\ncontent-length: 900\r\n\r\n{\"sche".to_vec(),
            })
        });
        let store = ["--store", "s3://ci-images/app:v1"];
        let sent = ["copy", "--to-store", store[1]];
        let _ = run(&lab, &sent, ["--tar", "app.tar"], &server.url()).succeeds();
        for words in COMMANDS.iter().filter(|words| !matches!(words[0], "ls" | "cat")) {
            fail_at_each(&lab, &server, &patience, words, store);
        }
    }
}
