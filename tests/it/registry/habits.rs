//! Requirements of correct registries and their users: `Retry-After` is respected, nothing is sent twice, certificates
//! are read at run time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use imgrelay::model::{Repository, Target};
use imgrelay::registry::{Client, ClientEvents, ClientOptions, RetryRecord, Timeouts, WireOptions};
use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::lab::Lab;
use testkit::registry::{Registry, text};
use testkit::tarball::Tarball;
use testkit::tree;

use crate::lab::lab;
use crate::layouts::{CONTAINERD_NAME, Layout, REF_NAME, hex, named};
use crate::registry::faults::{Image, bytes, options};
use crate::samples::{NAME, digest_in, pack, packed};

/// The delays in the client's events.
#[derive(Default)]
struct Delays(Mutex<Vec<Duration>>);

impl ClientEvents for Delays {
    fn retry(&self, record: &RetryRecord<'_>) {
        self.0.lock().unwrap().push(record.delay);
    }
}

#[test]
fn retry_after_pauses_all_workers() {
    let second = Duration::from_secs(1);
    let seconds = || vec![("retry-after", "1".to_owned())];
    let date = || {
        vec![
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
            ("retry-after", "Sun, 06 Nov 1994 08:49:38 GMT".to_owned()),
        ]
    };
    for (status, headers) in [(429, seconds()), (503, seconds()), (429, date()), (503, date())] {
        let name = format!("{status} with {headers:?}");
        let refusal = Fault::Response(status, headers, String::new());
        let registry = FaultRegistry::start(Access::Open, vec![on("POST", Thing::Uploads, refusal)]);
        let delays = Arc::new(Delays::default());
        let patient = ClientOptions {
            wire: WireOptions { timeouts: Timeouts::default(), ..options().wire },
            ..options()
        };
        let client = Client::new(ClientOptions {
            wire: WireOptions { events: delays.clone(), ..patient.wire.clone() },
            ..patient
        })
        .unwrap();
        let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                while delays.0.lock().unwrap().is_empty() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // The other uploads know of the refused one now.
                std::thread::sleep(Duration::from_millis(200));
                let tag = Target::Tag("other".parse().unwrap());
                assert!(client.head_manifest(&repository, &tag).unwrap().is_none());
            });
            Image::new().push(&client, &repository).unwrap();
            other.join().unwrap();
        });
        assert_eq!(*delays.0.lock().unwrap(), [second], "{name}");
        let log = registry.log();
        let refused = log.iter().position(|entry| entry.method == "POST").unwrap();
        let (at, after) = (log[refused].at, &log[refused + 1..]);
        assert!(after.iter().any(|entry| entry.path.ends_with("/manifests/other")), "{name}");
        for entry in after {
            assert!(entry.at >= at + second, "{name}: {} {} came too early", entry.method, entry.path);
        }
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()), "{name}");
    }
}

#[test]
fn a_session_is_ended_also_when_the_token_for_that_is_gone() {
    let access =
        Access::Bearer { user: "ci", password: "s3cret", expires_in: Some(300), challenges: Vec::new() };
    let gone = |method| on(method, Thing::Session, Fault::RevokeTokens);
    let registry = FaultRegistry::start(access, vec![gone("PATCH"), gone("DELETE")]);
    let client = Client::new(ClientOptions {
        wire: WireOptions { timeouts: Timeouts::default(), ..options().wire },
        ..options()
    })
    .unwrap();
    let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
    Image::new().push(&client, &repository).unwrap();
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
    assert_eq!(registry.count("DELETE", Thing::Session), 2, "refused, then with a new token");
}

#[test]
fn a_rate_limit_without_retry_after_is_respected() {
    let lab = lab();
    let mut layout = Layout::default();
    let layers: Vec<Vec<u8>> =
        (0..30).map(|number| Tarball::new().file("own", format!("{number}")).finish()).collect();
    let image = layout.image(&layers);
    layout.entries.push(named(image, &[(REF_NAME, "v1")]));
    lab.write("app.tar", layout.tar());
    let registry = FaultRegistry::start(Access::Open, Vec::new()).with_rate_limit(25);
    let to = format!("{}/team/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &to]).succeeds();
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
    // Two for each blob, four for tag and manifest, eight HEAD requests for blobs.
    let (needed, made) = (31 * 2 + 4 + 8, registry.log().len());
    println!("{made} requests, {needed} needed");
    assert!(made > needed, "with {made} requests the limit was never reached");
    // Workers whose requests are sent together are refused together, each once.
    assert!(made < needed * 2, "{made} requests, of which {} were refused", made - needed);
}

#[test]
fn an_unchanged_push_sends_one_request_for_each_tag() {
    let lab = lab().tree(&["f app/a 'one'"]);
    let _ = pack(&lab, &["-i", NAME, "-f", "app", "--tag", "v2,v3"], "app.tar");
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let copy = ["copy", "--tar", "app.tar", "--to-repo", &place];
    let first = lab.run(&copy).succeeds();
    registry.forget_requests();
    let again = lab.run(&copy).succeeds();
    assert_eq!(again.one_line(), first.one_line());
    let mut asked: Vec<String> =
        registry.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    asked.sort();
    let expected = ["v1", "v2", "v3"].map(|tag| format!("HEAD /v2/team/app/manifests/{tag}"));
    assert_eq!(asked, expected);
}

#[test]
fn a_blob_that_several_images_need_is_sent_once() {
    let lab = lab();
    let mut layout = Layout::default();
    let shared = Tarball::new().file("shared", bytes(9, 1_000_000)).finish();
    for name in ["a", "b", "c"] {
        let image = layout.image(&[shared.clone(), Tarball::new().file("own", name).finish()]);
        let full = format!("reg.example/team/app:{name}");
        layout.entries.push(named(image, &[(REF_NAME, name), (CONTAINERD_NAME, &full)]));
    }
    let mut seen = std::collections::BTreeSet::new();
    layout.blobs.retain(|blob| seen.insert(hex(blob)));
    lab.write("three.tar", layout.tar());
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "three.tar", "--to-repo", &place]).succeeds();
    let storage = registry.storage();
    storage.assert_sound();
    assert_eq!(storage.tags("team/app").len(), 3);
    let sent = |method: &str| registry.requests().iter().filter(|request| request.method == method).count();
    // The shared layer, and of each image its own layer and its configuration; then one manifest each.
    // Only the shared layer is too large for one PUT.
    assert_eq!((sent("PATCH"), sent("POST"), sent("PUT")), (1, 7, 7 + 3));
}

/// An index of ten images of twelve layers, three of which are in all: 103 blobs, 11 documents.
fn index_of_ten() -> Vec<u8> {
    let mut layout = Layout::default();
    let layer = |name: String| Tarball::new().file(&name, vec![b'x'; 20_000]).finish();
    let shared: Vec<Vec<u8>> = (0..3).map(|number| layer(format!("shared-{number}"))).collect();
    let images = (0..10).map(|image| {
        let own = (0..9).map(|number| layer(format!("{image}-{number}")));
        layout.image(&shared.iter().cloned().chain(own).collect::<Vec<_>>())
    });
    let images: Vec<serde_json::Value> = images.collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": images});
    let index = layout.blob(kind, index.to_string());
    layout.entries.push(named(index, &[(REF_NAME, "v1")]));
    let mut seen = std::collections::BTreeSet::new();
    layout.blobs.retain(|blob| seen.insert(hex(blob)));
    layout.tar()
}

#[test]
fn a_large_index_costs_few_requests_in_a_safe_order() {
    let lab = lab();
    lab.write("many.tar", index_of_ten());
    let registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let asked = || {
        let requests = registry.requests();
        registry.forget_requests();
        requests
    };
    let count = |requests: &[testkit::registry::Request], method: &str, part: &str| {
        let is_counted = |request: &&testkit::registry::Request| {
            request.method == method && format!("{}?{}", request.path, request.query).contains(part)
        };
        requests.iter().filter(is_counted).count()
    };
    let push = ["copy", "--tar", "many.tar", "--to-repo", &place];
    let _ = lab.run(&push).succeeds();
    let requests = asked();
    assert_eq!(count(&requests, "HEAD", "/blobs/"), 8, "a sample; nothing else is there");
    assert_eq!(count(&requests, "POST", "/blobs/"), 103);
    assert_eq!((count(&requests, "PUT", "/blobs/"), count(&requests, "PATCH", "")), (103, 0));
    assert_eq!(count(&requests, "PUT", "/manifests/sha256:"), 10);
    assert_eq!(requests.len(), 228, "and for the tag two HEADs before, one PUT, one HEAD after");
    let last = |method: &str, part: &str| {
        requests.iter().rposition(|request| request.method == method && request.path.contains(part)).unwrap()
    };
    let first_document = requests
        .iter()
        .position(|request| request.method == "PUT" && request.path.contains("/manifests/"))
        .unwrap();
    assert!(last("PUT", "/blobs/") < first_document, "blobs come before documents");
    assert!(
        last("PUT", "/manifests/sha256:") < last("PUT", "/manifests/v1"),
        "images come before their index"
    );
    registry.storage().assert_sound();

    let _ = lab.run(&push).succeeds();
    assert_eq!(asked().len(), 1, "unchanged: one HEAD for the tag");
    let _ = lab.run(&["copy", "-i", &format!("{place}:v1"), "--to-oci-tar", "back.tar"]).succeeds();
    let requests = asked();
    assert_eq!((count(&requests, "GET", ""), requests.len()), (114, 114));

    // Blobs are mounted without a HEAD request for each.
    let other = format!("{}/team/other", registry.host());
    let _ = lab.run(&["copy", "-i", &format!("{place}:v1"), "--to-repo", &other]).succeeds();
    let requests = asked();
    assert_eq!((count(&requests, "POST", "mount="), count(&requests, "PUT", "/blobs/")), (103, 0));
    assert!(requests.len() <= 137, "{}", requests.len());
}

#[test]
fn blobs_that_are_there_are_asked_for_and_not_sent_again() {
    let registry = FaultRegistry::start(Access::Open, Vec::new());
    let lab = lab();
    lab.write("many.tar", index_of_ten());
    let to = format!("{}/team/app", registry.host());
    let push = ["copy", "--tar", "many.tar", "--to-repo", &to];
    let _ = lab.run(&push).succeeds();
    registry.forget_manifests();
    let before = registry.log().len();
    let _ = lab.run(&push).succeeds();
    let log = registry.log();
    let sent = |method: &str, part: &str| {
        log[before..].iter().filter(|entry| entry.method == method && entry.path.contains(part)).count()
    };
    assert_eq!((sent("HEAD", "/blobs/"), sent("POST", ""), sent("PUT", "/blobs/")), (103, 0, 0));
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
}

#[test]
fn a_registry_that_takes_bytes_with_the_post_gets_them_so() {
    let lab = lab();
    lab.write("many.tar", index_of_ten());
    let push = |registry: &FaultRegistry, concurrency: &str| {
        let to = format!("{}/team/app", registry.host());
        let copy = ["copy", "--tar", "many.tar", "--to-repo", &to, "--concurrency", concurrency];
        let _ = lab.run(&copy).succeeds();
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
        let log = registry.log();
        let count = |method: &str, part: &str| {
            log.iter().filter(|entry| entry.method == method && entry.path.contains(part)).count()
        };
        (count("POST", "digest="), count("POST", "/uploads/"), count("PUT", "/uploads/"))
    };
    let found = push(&FaultRegistry::start(Access::Open, Vec::new()).with_single_posts(), "1");
    assert_eq!(found, (103, 103, 0), "one request for each blob");
    let found = push(&FaultRegistry::start(Access::Open, Vec::new()), "16");
    assert_eq!(found, (1, 103, 103), "tried once; the session that it opened instead is used");
    let refusal = on("POST", Thing::Uploads, Fault::Response(405, Vec::new(), String::new()));
    let found = push(&FaultRegistry::start(Access::Open, vec![refusal]), "1");
    assert_eq!(found, (1, 104, 103), "a refusal is no failure");
}

#[test]
fn a_registry_that_knows_only_sessions_in_parts_is_asked_so_from_then_on() {
    let lab = lab();
    lab.write("many.tar", index_of_ten());
    let registry = FaultRegistry::start(Access::Open, Vec::new()).without_monolithic_uploads();
    let to = format!("{}/team/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "many.tar", "--to-repo", &to, "--concurrency", "2"]).succeeds();
    assert_eq!(registry.check_image("team/app", "v1"), Ok(()));
    let refused = registry.count("PUT", Thing::Session) - 103;
    assert!((1..=2).contains(&refused), "{refused}: at most one for each worker");
    assert_eq!(registry.count("PATCH", Thing::Session), 103);
}

#[test]
fn a_registry_that_only_reads_serves_and_refuses() {
    let (lab, digest) = packed();
    let mut registry = Registry::start();
    let place = format!("{}/team/app", registry.host());
    let copy = ["copy", "--tar", "app.tar", "--to-repo", &place];
    let _ = lab.run(&copy).succeeds();
    registry.set_read_only(true);
    let _ = lab.run(&["pull", "-b", &format!("{place}:v1"), "-o", "out"]).succeeds();
    assert_eq!(tree::list_contents(&lab.path("out")), tree::list_contents(&lab.path("app")));
    let again = lab.run(&copy).succeeds();
    assert_eq!(digest_in(again.one_line()), digest, "nothing is to be written, so nothing is refused");
    lab.write("app/new", "new");
    let before = lab.list();
    let push = ["push", "-b", &format!("{place}:v2"), "-f", "app"];
    let _ = lab.run(&push).fails(1, &[registry.host(), "team/app", "(405", "hint: "]);
    assert_eq!(lab.list(), before);
    assert!(!registry.storage().tags("team/app").contains_key("v2"));
}

/// Runs `tag resolve`, which needs the registry's certificate to be trusted.
fn resolve(lab: &Lab, image: &str, variable: &str, value: &str) -> testkit::lab::Output {
    lab.command(&["tag", "resolve", "-i", image]).env(variable, value).run()
}

#[test]
fn system_ca_certificates_are_read_at_run_time() {
    let (lab, digest) = packed();
    let registry = Registry::with().tls().start();
    let image = format!("{}/team/app:v1", registry.host());
    let ca = registry.ca_path();
    let to = ["copy", "--tar", "app.tar", "--to-repo", &image, "--registry-ca-cert-path", text(&ca)];
    let _ = lab.run(&to).succeeds();
    for folder in ["empty", "authorities", "other"] {
        std::fs::create_dir(lab.path(folder)).unwrap();
    }
    std::fs::copy(&ca, lab.path("authorities/private.pem")).unwrap();
    // A file without a certificate does not stop the others from being read.
    lab.write("authorities/README", "not a certificate");
    let [empty, authorities] = ["empty", "authorities"].map(|name| text(&lab.path(name)).to_owned());
    for (variable, value) in [
        ("SSL_CERT_FILE", text(&ca).to_owned()),
        ("SSL_CERT_DIR", authorities.clone()),
        ("SSL_CERT_DIR", format!("/does/not/exist:{empty}:{authorities}")),
    ] {
        let output = resolve(&lab, &image, variable, &value).succeeds();
        assert_eq!(digest_in(output.one_line()), digest, "{variable}={value}");
    }
    for (variable, value) in [("SSL_CERT_DIR", empty.as_str()), ("SSL_CERT_FILE", "/does/not/exist")] {
        let _ = resolve(&lab, &image, variable, value).fails(1, &[registry.host(), "certificate", "hint: "]);
    }
}

#[test]
fn copying_an_image_takes_constant_memory() {
    let lab = lab();
    let mut layout = Layout::default();
    // Several that are large enough for read-ahead, and more than are moved at the same time.
    let noise = bytes(7, 1_000_000);
    let layers =
        [37, 36, 35, 34, 5, 4, 3].map(|times| Tarball::new().file("own", noise.repeat(times)).finish());
    let image = layout.image(&layers);
    layout.entries.push(named(image, &[(REF_NAME, "v1")]));
    lab.write("app.tar", layout.tar());
    let size = lab.read("app.tar").len();
    assert!(size > 154_000_000, "noise does not get smaller");
    for registry in [Registry::start(), Registry::with().tls().start()] {
        let place = format!("{}/team/app", registry.host());
        let tagged = format!("{place}:v1");
        let ca = registry.ca_path();
        let peak = |words: &[&str]| {
            let words = [words, &["--registry-ca-cert-path", text(&ca)]].concat();
            lab.command(&words).measured().run().succeeds().peak_kib.expect("it was measured")
        };
        let push = peak(&["copy", "--tar", "app.tar", "--to-repo", &place]);
        let pull = peak(&["copy", "-i", &tagged, "--to-oci-tar", "back.tar"]);
        let asking = peak(&["tag", "resolve", "-i", &tagged]);
        let name = registry.url();
        println!("{name}: {asking} KiB, push {push}, pull {pull}");
        for (way, found) in [("push", push), ("pull", pull)] {
            // On a busy machine all workers have a block at the same time.
            assert!(found <= asking + 6 * 1024, "{name}: {way} took {found} KiB, a question {asking}");
        }
        assert!(lab.read("back.tar").len() + 100_000 > size);
    }
}
