//! The fault registry without a fault behaves like Debian's `docker-registry`: requests and responses are the same.

use serde_json::{Value, json};
use testkit::fault::{Access, FaultRegistry, digest_of};
use testkit::http::{Response, Transport, ask};
use testkit::registry::{PASSWORD, Registry, USER};

use crate::concourse::step;
use crate::lab::Lab;
use crate::registry::cli::room;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

/// A request without the client under test: method, target, headers, body.
type Ask<'a> = &'a dyn Fn(&str, &str, &[(&str, &str)], &[u8]) -> Response;

/// The parts of a response that clients use. Of names and sessions, which differ, only the presence is compared.
fn told(what: &str, answer: &Response) -> String {
    let mut line = format!("{what}: {}", answer.status);
    if answer.header("location").is_some() {
        line.push_str(", location");
    }
    for name in ["range", "content-range", "docker-content-digest"] {
        if let Some(value) = answer.header(name) {
            line.push_str(&format!(", {name} {value}"));
        }
    }
    if answer.status >= 400 {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        line.push_str(&format!(", {}", body["errors"][0]["code"]));
    }
    line
}

/// Path and query of the location, which may be absolute.
fn location(answer: &Response) -> String {
    let location = answer.header("location").unwrap_or_else(|| panic!("no location in {answer:?}"));
    location[location.find("/v2/").expect("it is in the registry")..].to_owned()
}

/// Every kind of request of the client under test, and the refusals that it handles.
fn conversation(ask: Ask<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |what: &str, answer: Response| {
        lines.push(told(what, &answer));
        answer
    };
    let (blob, config) = (&b"0123456789"[..], &b"{}"[..]);
    let digest = digest_of(blob);
    let with = |target: &str, digest: &str| format!("{target}&digest={digest}");
    let uploads = "/v2/team/app/blobs/uploads/";
    let path = format!("/v2/team/app/blobs/{digest}");
    say("the registry", ask("GET", "/v2/", &[], b""));
    say("a blob that is not there", ask("HEAD", &path, &[], b""));
    say("reading it", ask("GET", &path, &[], b""));
    let opened = say("opening", ask("POST", uploads, &[], b""));
    let whole = say("the whole", ask("PATCH", &location(&opened), &[OCTETS], blob));
    say("how far", ask("GET", &location(&whole), &[], b""));
    say("the end", ask("PUT", &with(&location(&whole), &digest), &[], b""));
    let lost = ask("PATCH", &location(&whole), &[OCTETS], blob);
    assert_eq!(lost.status, 404, "a session that has ended is gone");
    let opened = ask("POST", uploads, &[], b"");
    let ranged = |range| [OCTETS, ("content-range", range)];
    let first = say("a first part", ask("PATCH", &location(&opened), &ranged("0-3"), &blob[..4]));
    // docker-registry 2.8 does not check where a chunk begins, so a chunk after the end is not compared.
    let second = say("a second part", ask("PATCH", &location(&first), &ranged("4-9"), &blob[4..]));
    say("the end of parts", ask("PUT", &with(&location(&second), &digest), &[], b""));
    let opened = ask("POST", uploads, &[], b"");
    say("all at once", ask("PUT", &with(&location(&opened), &digest_of(config)), &[OCTETS], config));
    let opened = ask("POST", uploads, &[], b"");
    say("another digest", ask("PUT", &with(&location(&opened), &digest_of(b"x")), &[OCTETS], config));
    let opened = ask("POST", uploads, &[], b"");
    say("giving up", ask("DELETE", &location(&opened), &[], b""));
    let mount = format!("/v2/team/other/blobs/uploads/?mount={digest}&from=team/app");
    say("a mount", ask("POST", &mount, &[], b""));
    let mount = format!("/v2/team/other/blobs/uploads/?mount={}&from=team/app", digest_of(b"y"));
    say("a mount of nothing", ask("POST", &mount, &[], b""));
    say("a blob that is there", ask("HEAD", &path, &[], b""));
    let read = say("reading it", ask("GET", &path, &[], b""));
    assert_eq!(read.body, blob);
    let rest = say("reading its end", ask("GET", &path, &[("range", "bytes=4-")], b""));
    assert_eq!(rest.body, &blob[4..]);
    say("reading behind it", ask("GET", &path, &[("range", "bytes=10-")], b""));
    let manifest = |layer: &str| {
        let layer =
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 10});
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": 2});
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}).to_string()
    };
    let good = manifest(&digest);
    let tag = "/v2/team/app/manifests/v1";
    let kind = [("content-type", MANIFEST)];
    let accept = [("accept", MANIFEST)];
    say("a tag that is not there", ask("HEAD", tag, &accept, b""));
    say("reading it", ask("GET", tag, &accept, b""));
    say("a manifest without its blobs", ask("PUT", tag, &kind, manifest(&digest_of(b"z")).as_bytes()));
    say("no manifest", ask("PUT", tag, &kind, b"{"));
    say("a manifest", ask("PUT", tag, &kind, good.as_bytes()));
    say("the tag", ask("HEAD", tag, &accept, b""));
    let read = say("reading it", ask("GET", tag, &accept, b""));
    assert_eq!((read.text(), read.header("content-type")), (good.clone(), Some(MANIFEST)));
    for name in ["v2", "v3"] {
        ask("PUT", &format!("/v2/team/app/manifests/{name}"), &kind, good.as_bytes());
    }
    let list = say("tags", ask("GET", "/v2/team/app/tags/list?n=1000", &[], b""));
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    lines.push(list.to_string());
    let referrers = ask("GET", &format!("/v2/team/app/referrers/{digest}"), &[], b"");
    lines.push(format!("referrers: {}", referrers.status));
    lines
}

#[test]
fn without_faults_the_fault_server_answers_like_docker_registry() {
    let fault = FaultRegistry::start(Access::Open, Vec::new());
    let docker = Registry::start();
    let host = fault.host();
    let found = conversation(&|method, target, headers, body| {
        ask(&host, Transport::Plain, method, target, headers, body).unwrap()
    });
    let expected = conversation(&|method, target, headers, body| docker.ask(method, target, headers, body));
    assert!(expected.len() > 25, "{expected:#?}");
    assert_eq!(found, expected);
}

/// Method and path, without values that the registry makes up.
fn plain(method: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap_or("");
    match path.split_once("/blobs/uploads/") {
        Some((before, session)) if !session.is_empty() => format!("{method} {before}/blobs/uploads/…"),
        _ => format!("{method} {path}"),
    }
}

/// Pushes, pushes again, pulls, copies and checks; returns the requests of each step.
fn used(lab: &Lab, host: &str, asked: &dyn Fn() -> Vec<String>) -> Vec<Vec<String>> {
    let (app, copy) = (format!("{host}/team/app:v1"), format!("{host}/team/copy:v1"));
    let mut all = Vec::new();
    for words in [
        ["copy", "--tar", "app.tar", "--to-repo", &app],
        ["copy", "--tar", "app.tar", "--to-repo", &app],
        ["copy", "-i", &app, "--to-oci-tar", "out.tar"],
        ["copy", "-i", &app, "--to-repo", &copy],
    ] {
        let run = lab.command(&[&words[..], &["--concurrency=1", "--progress=plain"]].concat());
        let _ = run
            .env("IMGRELAY_REGISTRY_USERNAME", USER)
            .env("IMGRELAY_REGISTRY_PASSWORD", PASSWORD)
            .run()
            .succeeds();
        all.push(asked());
    }
    let source = json!({"repository": format!("{host}/team/app"), "tag_regex": "^v", "username": USER, "password": PASSWORD});
    let _ = step(lab, "check", &json!({"source": source, "version": Value::Null})).succeeds();
    all.push(asked());
    all
}

#[test]
fn without_faults_the_fault_server_gets_the_requests_docker_registry_gets() {
    for (access, mode) in
        [(Access::Open, Registry::with()), (Access::Basic(USER, PASSWORD), Registry::with().htpasswd())]
    {
        let access_is_open = matches!(access, Access::Open);
        let (fault, docker) = (FaultRegistry::start(access, Vec::new()), mode.start());
        let lab = room();
        let seen = std::cell::Cell::new(0);
        let found = used(&lab, &fault.host(), &|| {
            let log = fault.log();
            let before = seen.replace(log.len());
            log[before..].iter().map(|entry| plain(&entry.method, &entry.path)).collect()
        });
        let lab = room();
        let expected = used(&lab, docker.host(), &|| {
            let requests = docker.requests();
            docker.forget_requests();
            requests.iter().map(|request| plain(&request.method, &request.path)).collect()
        });
        assert_eq!(found, expected);
        if access_is_open {
            assert_eq!(found[1], ["HEAD /v2/team/app/manifests/v1"], "a push again costs one HEAD per tag");
        }
        docker.storage().assert_sound();
    }
}

#[test]
#[should_panic(expected = "unexpected requests: [\"TRACE /v2/\"]")]
fn an_unexpected_request_fails_the_test() {
    let registry = FaultRegistry::start(Access::Open, Vec::new());
    let answer = ask(&registry.host(), Transport::Plain, "TRACE", "/v2/", &[], b"").unwrap();
    assert_eq!(answer.status, 404);
}
