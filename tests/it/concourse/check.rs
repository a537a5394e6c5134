//! `check`: which versions it returns, in which order, with how many requests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::fault::{Access, Fault, FaultRegistry, Thing, on};
use testkit::registry::Registry;

use crate::concourse::{source, step};
use crate::lab::lab;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes an image with a creation time of its own, under tags; returns its digest.
fn image(registry: &Registry, created: &str, tags: &[&str]) -> String {
    let config = json!({"architecture": "amd64", "os": "linux", "created": created, "rootfs": {"type": "layers", "diff_ids": []}});
    let config = config.to_string();
    let digest = registry.put_blob("team/app", config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
    })
    .to_string();
    let mut digest = String::new();
    for tag in tags {
        digest = registry.put_manifest("team/app", tag, MANIFEST, manifest.as_bytes());
    }
    digest
}

fn check(source: &Value, version: &Value) -> Vec<(String, String)> {
    let lab = lab();
    let answer = step(&lab, "check", &json!({"source": source, "version": version})).succeeds().json();
    let text = |version: &Value, key: &str| version[key].as_str().unwrap().to_owned();
    answer.as_array().unwrap().iter().map(|version| (text(version, "tag"), text(version, "digest"))).collect()
}

fn tags(source: &Value, version: &Value) -> Vec<String> {
    check(source, version).into_iter().map(|(tag, _)| tag).collect()
}

#[test]
fn semver_versions_come_in_order_with_the_best_tag_of_each_image() {
    let registry = Registry::start();
    let one = image(&registry, "2024-01-01T00:00:00Z", &["1.0.0", "1.0", "1"]);
    let _ = image(&registry, "2024-01-02T00:00:00Z", &["1.10.0", "1.10"]);
    let two = image(&registry, "2024-01-03T00:00:00Z", &["1.9.0", "v1.9"]);
    let _ = image(&registry, "2024-01-04T00:00:00Z", &["2.0.0-rc.1"]);
    let _ = image(&registry, "2024-01-05T00:00:00Z", &["2.0.0-alpine"]);
    let _ = image(&registry, "2024-01-06T00:00:00Z", &["latest", "unrelated"]);
    let plain = source(&registry, &json!({}));
    assert_eq!(tags(&plain, &Value::Null), ["1.0.0", "1.9.0", "1.10.0", "latest"]);
    let with = |extra: Value| tags(&source(&registry, &extra), &Value::Null);
    assert_eq!(with(json!({"pre_releases": true})), ["1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1", "latest"]);
    assert_eq!(with(json!({"variant": "alpine"})), ["2.0.0-alpine"]);
    assert_eq!(with(json!({"semver_constraint": "~1.9 || >= 3"})), ["1.9.0"]);
    // From the cursor on.
    assert_eq!(tags(&plain, &json!({"tag": "1.9.0", "digest": two})), ["1.9.0", "1.10.0", "latest"]);
    // A cursor whose tag moved is ignored.
    assert_eq!(tags(&plain, &json!({"tag": "1.9.0", "digest": one})), ["1.0.0", "1.9.0", "1.10.0", "latest"]);
}

#[test]
fn latest_on_an_older_release_is_no_version_of_its_own() {
    let registry = Registry::start();
    let _ = image(&registry, "2024-01-01T00:00:00Z", &["1.9.0", "latest"]);
    let two = image(&registry, "2024-01-02T00:00:00Z", &["2.0.0"]);
    let plain = source(&registry, &json!({}));
    let cursor = json!({"tag": "2.0.0", "digest": two});
    assert_eq!(tags(&plain, &Value::Null), ["1.9.0", "2.0.0"]);
    assert_eq!(tags(&plain, &cursor), ["2.0.0"], "`latest` is what `1.9.0` is");
    let _ = image(&registry, "2024-01-03T00:00:00Z", &["latest"]);
    assert_eq!(tags(&plain, &cursor), ["2.0.0", "latest"]);
    // If the cursor is the newest version, no request is sent for older ones.
    let _ = image(&registry, "2024-01-02T00:00:00Z", &["latest"]);
    registry.forget_requests();
    assert_eq!(tags(&plain, &cursor), ["2.0.0"]);
    let requests = registry.requests();
    assert!(!requests.iter().any(|request| request.path.ends_with("/manifests/1.9.0")), "{requests:#?}");
}

#[test]
fn tag_regex_lists_tags_in_registry_order_or_by_created_at_sort() {
    let registry = Registry::start();
    let late = image(&registry, "2024-03-01T00:00:00Z", &["dev-a"]);
    let early = image(&registry, "2024-03-01T00:30:00+01:00", &["dev-b"]);
    let _ = image(&registry, "2024-02-01T00:00:00Z", &["prod"]);
    let plain = source(&registry, &json!({"tag_regex": "^dev-"}));
    let versions = check(&plain, &Value::Null);
    assert_eq!(versions, [("dev-a".to_owned(), late.clone()), ("dev-b".to_owned(), early.clone())]);
    let sorted = source(&registry, &json!({"tag_regex": "^dev-", "created_at_sort": true}));
    assert_eq!(tags(&sorted, &Value::Null), ["dev-b", "dev-a"]);
    // A tag that moved: the cursor's version comes first as long as the registry has it.
    let moved = image(&registry, "2024-04-01T00:00:00Z", &["dev-b"]);
    let versions = check(&plain, &json!({"tag": "dev-b", "digest": early}));
    let expected = [("dev-b", early), ("dev-a", late), ("dev-b", moved)];
    assert_eq!(versions, expected.map(|(tag, digest)| (tag.to_owned(), digest)));
}

#[test]
fn check_with_tag_keeps_the_given_version_while_its_image_exists() {
    let registry = Registry::start();
    let source = source(&registry, &json!({"tag": "edge"}));
    let old = image(&registry, "2024-01-01T00:00:00Z", &["edge"]);
    let new = image(&registry, "2024-01-02T00:00:00Z", &["edge"]);
    let digests =
        |version: &Value| check(&source, version).into_iter().map(|(_, digest)| digest).collect::<Vec<_>>();
    assert_eq!(digests(&Value::Null), std::slice::from_ref(&new));
    assert_eq!(digests(&json!({"tag": "edge", "digest": old})), [old, new.clone()]);
    let gone = format!("sha256:{}", "0".repeat(64));
    assert_eq!(digests(&json!({"tag": "edge", "digest": gone})), [new]);
    assert_eq!(
        registry
            .requests()
            .iter()
            .filter(|request| request.method == "GET" && request.path.contains("manifests"))
            .count(),
        0
    );
}

#[test]
fn check_with_a_version_without_digest_gives_the_current_version() {
    let registry = Registry::start();
    let digest = image(&registry, "2024-01-01T00:00:00Z", &["1.2.0"]);
    for extra in [json!({"tag": "1.2.0"}), json!({}), json!({"tag_regex": "^1"})] {
        let source = source(&registry, &extra);
        for version in [json!({"tag": "1.2.0"}), json!({"tag": "1.2.0", "digest": "sha256:12"})] {
            assert_eq!(check(&source, &version), [("1.2.0".to_owned(), digest.clone())], "{extra} {version}");
        }
    }
}

#[test]
fn check_reports_errors_with_source_field_names() {
    let registry = Registry::start();
    let lab = lab();
    let request = |source: Value| json!({"source": source});
    let host = registry.host();
    for (request, code, expected) in [
        (json!({}), 2, "`source` is missing"),
        (request(json!({"repository": "a b"})), 2, "`source.repository`: repository `a b` is not valid"),
        (request(json!({"repository": "a", "tagg": 1})), 2, "hint: did you mean `source.tag`?"),
        (
            request(json!({"repository": "a", "content_trust": {}})),
            2,
            "`source.content_trust`: signing by Notary v1",
        ),
        (
            request(json!({"repository": "a", "aws_region": "x"})),
            2,
            "`source.repository`: `a` has no registry",
        ),
    ] {
        let output = step(&lab, "check", &request).ends_with(code);
        assert!(output.stderr.contains(expected), "{output}");
        assert_eq!(output.stdout, "", "{output}");
    }
    let output = lab.command(&[] as &[&str]).named("in").stdin("{}").run().ends_with(2);
    assert!(output.stderr.contains("no folder was given, expected `in FOLDER`"), "{output}");
    // A repository that does not exist yet: the first put creates it.
    for extra in
        [json!({}), json!({"tag": "v1"}), json!({"tag_regex": "x"}), json!({"semver_constraint": ">1"})]
    {
        let mut never_pushed = source(&registry, &extra);
        never_pushed["repository"] = json!(format!("{host}/never/pushed"));
        assert_eq!(step(&lab, "check", &request(never_pushed)).succeeds().stdout, "[]\n", "{extra}");
    }
    // The same with the command line.
    let one = json!({"source": {"repository": format!("{host}/team/app"), "tag": "v1"}});
    assert_eq!(lab.command(&["check"]).stdin(one.to_string()).run().succeeds().stdout, "[]\n");
    let capital = json!({"Source": {"Repository": format!("{host}/team/app"), "Tag": "v1"}, "Version": null});
    assert_eq!(step(&lab, "check", &capital).succeeds().stdout, "[]\n");
}

#[test]
fn check_retries_and_falls_back_from_head_to_get() {
    for fault in [
        Fault::Response(503, vec![], String::new()),
        Fault::Response(429, vec![("retry-after", "0".to_owned())], String::new()),
        Fault::Response(405, vec![], String::new()),
        Fault::Header("docker-content-digest", None),
    ] {
        let registry = FaultRegistry::start(Access::Open, vec![on("HEAD", Thing::Manifest, fault)]);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":0}}}}"#,
            "0".repeat(64)
        );
        let digest = testkit::fault::digest_of(manifest.as_bytes());
        registry.put_manifest("team/app", "v1", &digest, MANIFEST, manifest.as_bytes());
        let source = json!({"repository": format!("{}/team/app", registry.host()), "tag": "v1"});
        assert_eq!(check(&source, &Value::Null), [("v1".to_owned(), digest)]);
    }
}

#[test]
fn check_takes_a_manifest_by_its_digest_of_any_content() {
    let refused = || on("HEAD", Thing::Manifest, Fault::Response(405, vec![], String::new())).always();
    let nameless = || on("GET", Thing::Manifest, Fault::Header("docker-content-digest", None)).always();
    let under = |bytes: &[u8]| {
        let registry = FaultRegistry::start(Access::Open, vec![refused(), nameless()]);
        let digest = testkit::fault::digest_of(bytes);
        registry.put_manifest("team/app", "v1", &digest, MANIFEST, bytes);
        let source = json!({"repository": format!("{}/team/app", registry.host()), "tag": "v1"});
        (registry, json!({"source": source}), digest)
    };
    let (_registry, request, digest) = under(br#"{"fake":"manifest"}"#);
    assert_eq!(check(&request["source"], &Value::Null), [("v1".to_owned(), digest)]);
    // A proxy's error page is no version.
    let (_registry, request, _) = under(b"<html></html>");
    let page = step(&lab(), "check", &request).ends_with(1);
    assert!(page.stdout.is_empty() && page.stderr.contains("not a JSON object"), "{page}");
}

/// How many requests for tags the resource sends at the same time.
const TOGETHER: usize = 16;

/// Counters of a registry with 500 tags.
#[derive(Default)]
struct Seen {
    connections: usize,
    /// Requests of any kind, and those for one tag.
    requests: usize,
    tags: usize,
    /// Requests for tags that wait for the others of their round.
    waiting: usize,
    most_waiting: usize,
    rounds: usize,
}

/// A registry with 500 tags that answers requests for tags only when the allowed number of them waits together.
///
/// With slow responses the time of a check is proportional to the number of rounds; this counts them without a clock.
struct Rounds {
    host: String,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Rounds {
    fn start(together: usize, expected: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::<(Mutex<Seen>, Condvar)>::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || Self::serve(stream, &shared, together, expected));
            }
        });
        Self { host, seen }
    }

    fn serve(
        stream: TcpStream,
        shared: &(Mutex<Seen>, Condvar),
        together: usize,
        expected: usize,
    ) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        let mut fresh = true;
        loop {
            let mut first = String::new();
            // A TLS ClientHello is no text, and ends here.
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut line = String::new();
            while reader.read_line(&mut line)? > 2 {
                line.clear();
            }
            let path = first.split(' ').nth(1).unwrap_or("");
            let tag = path.split_once("/manifests/").map(|(_, tag)| tag);
            {
                let mut seen = shared.0.lock().unwrap();
                seen.requests += 1;
                seen.connections += usize::from(std::mem::take(&mut fresh));
            }
            let answer = if path.contains("/tags/list") {
                let tags: Vec<String> = (0..500).map(|number| format!("1.0.{number}")).collect();
                let body = json!({"name": "a", "tags": tags}).to_string();
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            } else if let Some(tag) = tag {
                Self::wait_for_the_others(shared, together, expected);
                let digest = testkit::digest::of(tag.as_bytes());
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {MANIFEST}\r\ncontent-length: 7\r\ndocker-content-digest: {digest}\r\n\r\n"
                )
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned()
            };
            stream.write_all(answer.as_bytes())?;
        }
    }

    fn wait_for_the_others((seen, changed): &(Mutex<Seen>, Condvar), together: usize, expected: usize) {
        let mut seen = seen.lock().unwrap();
        seen.tags += 1;
        seen.waiting += 1;
        seen.most_waiting = seen.most_waiting.max(seen.waiting);
        if seen.waiting == together || seen.tags == expected {
            seen.waiting = 0;
            seen.rounds += 1;
            changed.notify_all();
            return;
        }
        let round = seen.rounds;
        // A client that sends one request after the other gets its responses too, in more rounds.
        let patience = Duration::from_secs(5);
        let (mut seen, late) =
            changed.wait_timeout_while(seen, patience, |seen| seen.rounds == round).unwrap();
        if late.timed_out() {
            seen.waiting = 0;
            seen.rounds += 1;
            changed.notify_all();
        }
    }
}

#[test]
fn check_requests_five_hundred_tags_in_parallel_and_only_newer_ones_with_a_cursor() {
    for extra in [json!({}), json!({"tag_regex": "^1[.]"})] {
        let registry = Rounds::start(TOGETHER, 500);
        let mut source = json!({"repository": format!("{}/team/app", registry.host)});
        source.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let versions = check(&source, &Value::Null);
        assert_eq!(versions.len(), 500);
        assert_eq!(versions[499], ("1.0.499".to_owned(), testkit::digest::of(b"1.0.499")));
        let seen = registry.seen.0.lock().unwrap();
        // With 10 ms for each response this takes 0.33 s; one request after the other would take 5 s.
        assert_eq!((seen.tags, seen.most_waiting, seen.rounds), (500, TOGETHER, 32));
        assert!(seen.requests <= 502, "{} requests", seen.requests);
        // Connections are used again: a login and a TLS handshake for each would cost more than the requests.
        assert!(seen.connections <= TOGETHER + 1, "{} connections", seen.connections);
    }
    let registry = Rounds::start(1, 3);
    let source = json!({"repository": format!("{}/team/app", registry.host)});
    let cursor = json!({"tag": "1.0.497", "digest": testkit::digest::of(b"1.0.497")});
    assert_eq!(tags(&source, &cursor), ["1.0.497", "1.0.498", "1.0.499"]);
    assert!(registry.seen.0.lock().unwrap().requests <= 6);
}

#[test]
fn certificates_of_a_source_that_are_none_are_named_with_index_and_cause() {
    let lab = lab();
    let line = "-----BEGIN CERTIFICATE-----";
    let end = "-----END CERTIFICATE-----";
    for (text, expected) in [
        (format!("{line} aGVsbG8= {end}"), "has no line breaks, which PEM needs"),
        (format!("{line}\\naGVsbG8=\\n{end}"), "has `\\n` as two characters where line breaks are expected"),
        (
            "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n".to_owned(),
            "holds a private key, expected certificates",
        ),
        ("aGVsbG8=".to_owned(), "holds no PEM certificate"),
    ] {
        let source = json!({"repository": "127.0.0.1:1/a", "ca_certs": [text]});
        let output = step(&lab, "check", &json!({"source": source, "version": null}));
        assert!(output.code.is_some_and(|code| code != 0), "{output}");
        let _ = output.says(&format!("`source.ca_certs[0]` {expected}"));
    }
}
