//! What an honest registry and its users count on: waits that are kept, nothing sent twice, trust read at run time.

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

/// The delays that were announced.
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
        let refusal = Fault::Answer(status, headers, String::new());
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
                // The refused upload has informed the others by now.
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
        assert_eq!(registry.judge("team/app", "v1"), Ok(()), "{name}");
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
    assert_eq!(registry.judge("team/app", "v1"), Ok(()));
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
    assert_eq!(registry.judge("team/app", "v1"), Ok(()));
    // Four for each blob, and four for tag and manifest.
    let (needed, made) = (31 * 4 + 4, registry.log().len());
    println!("{made} requests, {needed} needed");
    assert!(made > needed, "with {made} requests the limit was never reached");
    assert!(made < needed * 3 / 2, "{made} requests, of which {} were refused", made - needed);
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
    let shared = Tarball::new().file("shared", vec![b's'; 5_000_000]).finish();
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
    assert_eq!((sent("PATCH"), sent("PUT")), (7, 7 + 3));
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
    // What is no certificate does not keep others from being read.
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
    // Several that are worth a thread that reads ahead, and more than are moved at the same time.
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
            assert!(found <= asking + 4 * 1024, "{name}: {way} took {found} KiB, a question {asking}");
        }
        assert!(lab.read("back.tar").len() + 100_000 > size);
    }
}
