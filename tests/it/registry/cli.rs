//! The real executable with a faulty registry: exit codes, messages, and times.

use std::time::{Duration, Instant};

use crate::lab::{Lab, lab};
use testkit::fault::{Access, Fault, FaultRegistry, Rule, Thing, on};
use testkit::lab::{Output, Run};
use testkit::oracle;
use testkit::random::Random;

const MIB: usize = 1024 * 1024;

/// A lab with an image of 2.5 MB, which does not compress, in `app.tar`.
pub(crate) fn room() -> Lab {
    let lab = lab();
    lab.write("app/noise.bin", Random::new(7).bytes(2_500_000));
    lab.write("app/hello.txt", "hello");
    let _ = lab.run(&["push", "-i", "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    lab
}

/// Settings for short tests: time-outs of half a second, three attempts.
pub(crate) fn hasty<'lab>(lab: &'lab Lab, words: &[&str]) -> Run<'lab> {
    let flags = [
        "--registry-response-header-timeout=500ms",
        "--registry-idle-timeout=500ms",
        "--registry-connect-timeout=2s",
        "--registry-retry-count=3",
        "--progress=plain",
    ];
    lab.command(&[words, &flags].concat())
}

fn upload(lab: &Lab, registry: &FaultRegistry) -> Output {
    let to = format!("{}/team/app:v1", registry.host());
    hasty(lab, &["copy", "--tar", "app.tar", "--to-repo", &to]).run()
}

fn download(lab: &Lab, registry: &FaultRegistry) -> Output {
    let from = format!("{}/team/app:v1", registry.host());
    hasty(lab, &["copy", "-i", &from, "--to-oci-tar", "out.tar"]).run()
}

fn answer(status: u16) -> Fault {
    Fault::Response(status, Vec::new(), String::new())
}

fn denied() -> Fault {
    Fault::Response(403, Vec::new(), r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#.into())
}

#[test]
fn copies_into_a_registry_survive_one_fault_of_each_class() {
    let again = "trying again ";
    let cases: Vec<(&str, Rule, &str)> = vec![
        ("503 on a body", on("PATCH", Thing::Session, answer(503)), again),
        ("reset in a body", on("PATCH", Thing::Session, Fault::CutRequest(MIB)), again),
        ("lost closing response", on("PUT", Thing::Session, Fault::LoseResponse), again),
        ("silence after a body", on("PATCH", Thing::Session, Fault::Silence), "timed out after 500 ms"),
        ("lost session", on("PUT", Thing::Session, Fault::ForgetSession), again),
        ("429 on the manifest", on("PUT", Thing::Manifest, answer(429)), "too many requests"),
        ("HEAD refused", on("HEAD", Thing::Blob, answer(403)).always(), "done in "),
    ];
    let lab = room();
    for (name, rule, text) in cases {
        println!("copy to registry: {name}");
        let registry = FaultRegistry::start(Access::Open, vec![rule]);
        let output = upload(&lab, &registry).succeeds().says(text);
        let digest = registry.tag("team/app", "v1").unwrap_or_default();
        assert_eq!(output.one_line(), format!("{}/team/app@{digest}", registry.host()), "{name}");
        assert_eq!(registry.check_image("team/app", "v1"), Ok(()), "{name}");
        if text == again {
            assert!(output.stderr.contains("1 retry"), "the summary counts it: {output}");
        }
    }
}

#[test]
fn copies_into_a_registry_end_with_the_documented_code_and_the_reason() {
    let object = "upload blob `sha256:";
    let cases: Vec<(&str, Access, Rule, i32, Vec<&str>)> = vec![
        (
            "503 for ever",
            Access::Open,
            on("PATCH", Thing::Session, answer(503)).always(),
            4,
            vec![object, "after 3 attempts in ", "the response was 503", "hint: ", "try again later"],
        ),
        (
            "silence for ever",
            Access::Open,
            on("POST", Thing::Uploads, Fault::Silence).always(),
            4,
            vec![
                object,
                "after 2 attempts in ",
                "timed out after 500 ms waiting for response headers",
                "hint: ",
            ],
        ),
        (
            "cut for ever",
            Access::Open,
            on("PATCH", Thing::Session, Fault::CutRequest(MIB)).always(),
            4,
            vec![object, "after 3 attempts in ", "connection closed while sending the body"],
        ),
        (
            "denied",
            Access::Open,
            on("POST", Thing::Uploads, denied()).always(),
            1,
            vec!["refused the push to `team/app` (403 DENIED): read only", "hint: no credentials for"],
        ),
        (
            "wrong password",
            Access::Basic("ci", "other"),
            on("HEAD", Thing::Manifest, Fault::Status(401)),
            1,
            vec!["(401 UNAUTHORIZED)", "hint: "],
        ),
        (
            "manifest rejected",
            Access::Open,
            on("PUT", Thing::Manifest, answer(400)).always(),
            1,
            vec!["rejected manifest ", "(400)"],
        ),
    ];
    let lab = room();
    for (name, access, rule, code, texts) in cases {
        println!("hopeless copy to registry: {name}");
        let registry = FaultRegistry::start(access, vec![rule]);
        let started = Instant::now();
        let output = upload(&lab, &registry).fails(code, &texts).says(&registry.host());
        assert!(started.elapsed() < Duration::from_secs(10), "{name}: {:?}", started.elapsed());
        assert!(!output.stderr.contains("secret"), "{name}: {output}");
        assert!(registry.tag("team/app", "v1").is_none(), "{name}: nothing is tagged");
    }
}

#[test]
fn copies_out_of_a_registry_survive_or_leave_no_file() {
    let lab = room();
    let blob = |fault| on("GET", Thing::Blob, fault);
    let survived: Vec<(&str, Rule)> = vec![
        ("503 on a blob", blob(answer(503))),
        ("cut in a blob", blob(Fault::CutResponse(MIB))),
        ("stall in a blob", blob(Fault::StallResponse(MIB))),
        ("silence before a blob", blob(Fault::Silence)),
        ("manifest 502", on("GET", Thing::Manifest, answer(502))),
        ("a flipped bit", blob(Fault::FlipBit)),
    ];
    for (name, rule) in survived {
        println!("copy from registry: {name}");
        let registry = FaultRegistry::start(Access::Open, vec![]);
        let _ = upload(&lab, &registry).succeeds();
        registry.rule(rule);
        let output = download(&lab, &registry).succeeds();
        let digest = registry.tag("team/app", "v1").unwrap_or_default();
        assert!(output.one_line().ends_with(&digest), "{name}: {output}");
        oracle::validate_layout(lab.path("out.tar"));
        std::fs::remove_file(lab.path("out.tar")).unwrap();
    }
    let hopeless: Vec<(&str, Rule, i32, Vec<&str>)> = vec![
        ("503 for ever", blob(answer(503)).always(), 4, vec!["after 3 attempts in ", "read blob `sha256:"]),
        (
            "stall for ever",
            blob(Fault::StallResponse(1000)).always(),
            4,
            vec!["after 2 attempts in ", "nothing moved for 500 ms while receiving the body"],
        ),
        ("flipped for ever", blob(Fault::FlipBit).always(), 3, vec!["does not match", "hint: "]),
        ("blob gone", blob(answer(404)).always(), 1, vec!["has no blob `sha256:"]),
        ("denied", on("GET", Thing::Manifest, denied()).always(), 1, vec!["(403 DENIED): read only"]),
        ("no such tag", on("GET", Thing::Manifest, answer(404)).always(), 1, vec!["has no manifest `v1`"]),
    ];
    for (name, rule, code, texts) in hopeless {
        println!("hopeless copy from registry: {name}");
        let registry = FaultRegistry::start(Access::Open, vec![]);
        let _ = upload(&lab, &registry).succeeds();
        registry.rule(rule);
        let _ = download(&lab, &registry).fails(code, &texts).says(&registry.host());
        assert!(!lab.path("out.tar").exists(), "{name}: no half file");
    }
}

/// A lab with an image of several layers in `many.tar`, and a registry that has it under the returned name.
fn layers_in_a_registry() -> (Lab, FaultRegistry, String) {
    let files = (0..120).map(|file| format!("f many/node_modules/p{file}/f.js random:60000:{file}"));
    let lab = lab().tree(&files.collect::<Vec<_>>());
    let words = ["push", "-s", "-f", "many", "--layers", "auto", "--to-oci-tar", "many.tar", "--json"];
    let layers = lab.run(&words).succeeds().json()["layers"].as_u64().unwrap();
    assert!(layers > 3, "{layers} layers");
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let image = format!("{}/team/app:latest", registry.host());
    let _ = hasty(&lab, &["copy", "--tar", "many.tar", "--to-repo", &image]).run().succeeds();
    (lab, registry, image)
}

#[test]
fn a_pull_asks_for_the_next_layers_while_it_waits_for_one() {
    let (lab, registry, image) = layers_in_a_registry();
    // The configuration is the first blob to be read, a layer the second.
    registry.rule(on("GET", Thing::Blob, Fault::Silence).nth(2));
    let before = registry.log().len();
    let _ = hasty(&lab, &["pull", "-i", &image, "-o", "out"]).run().succeeds();
    let log = registry.log();
    let layers: Vec<&str> = log[before..]
        .iter()
        .filter(|request| request.thing == Thing::Blob)
        .skip(1)
        .map(|request| request.path.as_str())
        .collect();
    let again = (0..layers.len()).find(|at| layers[..*at].contains(&layers[*at]));
    assert!(again >= Some(3), "three are requested before one is requested again: {layers:#?}");
    assert_eq!(std::fs::read_dir(lab.path("out/node_modules")).unwrap().count(), 120);
}

#[test]
fn a_layer_ahead_that_is_not_there_is_named_and_nothing_is_left() {
    let (lab, registry, image) = layers_in_a_registry();
    let described = lab.run(&["describe", "--tar", "many.tar", "--json"]).succeeds().json();
    let layers = described["images"][0]["layers"].as_array().unwrap();
    let gone = layers[1]["digest"].as_str().unwrap();
    registry.forget_blob("team/app", gone);
    let before = std::fs::read_dir(lab.path(".")).unwrap().count();
    let output = hasty(&lab, &["pull", "-i", &image, "-o", "out"]).run().fails(1, &[gone, "has no blob"]);
    assert!(!output.stderr.contains("broken pipe"), "{output}");
    assert!(!lab.path("out").exists());
    assert_eq!(std::fs::read_dir(lab.path(".")).unwrap().count(), before, "no folder half done");
}

#[test]
fn a_push_or_pull_ends_within_a_second_of_a_signal() {
    let silence = |method, thing| on(method, thing, Fault::Silence).always();
    let stall = || on("GET", Thing::Blob, Fault::StallResponse(1000)).always();
    let cases: [(&str, &str, Thing, Rule); 6] = [
        ("push", "HEAD", Thing::Manifest, silence("HEAD", Thing::Manifest)),
        ("push", "POST", Thing::Uploads, silence("POST", Thing::Uploads)),
        ("push", "PATCH", Thing::Session, silence("PATCH", Thing::Session)),
        ("pull", "GET", Thing::Manifest, silence("GET", Thing::Manifest)),
        ("pull", "GET", Thing::Blob, silence("GET", Thing::Blob)),
        ("pull", "GET", Thing::Blob, stall()),
    ];
    let lab = room();
    for (number, (way, method, thing, rule)) in cases.into_iter().enumerate() {
        let registry = FaultRegistry::start(Access::Open, vec![]);
        if way == "pull" {
            let _ = upload(&lab, &registry).succeeds();
        }
        registry.rule(rule);
        let name = format!("{}/team/app:v1", registry.host());
        // The default of 30 s is too long for this test.
        let words = match way {
            "push" => ["copy", "--tar", "app.tar", "--to-repo", &name],
            _ => ["copy", "-i", &name, "--to-oci-tar", "out.tar"],
        };
        let (signal, code) = if number % 2 == 0 { ("INT", 130) } else { ("TERM", 143) };
        // On a busy machine one attempt may be late, but not all.
        let in_time = (0..3).any(|_| {
            let before = registry.count(method, thing);
            let mut running = lab.command(&words).spawn();
            running.wait_until("the silent request", |_| registry.count(method, thing) > before);
            let started = Instant::now();
            running.signal(signal);
            let _ = running.wait().fails(code, &[&format!("stopped by SIG{signal}")]);
            assert!(!lab.path("out.tar").exists(), "no half file");
            started.elapsed() <= Duration::from_secs(1)
        });
        assert!(in_time, "{way}, {method} {thing:?}: later than a second each time");
    }
}

#[test]
fn a_peer_that_takes_connections_and_says_nothing_is_reported() {
    // The kernel accepts connections; no program reads from them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let lab = lab();
    let image = format!("{host}/team/app:v1");
    let words = [
        "tag",
        "resolve",
        "-i",
        &image,
        "--registry-connect-timeout=300ms",
        "--registry-response-header-timeout=300ms",
    ];
    let started = Instant::now();
    let _ = lab.run(&words).fails(4, &[&host, "manifest `v1`", "after 2 attempts in ", "300 ms"]);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn silence_within_the_response_header_timeout_is_reported() {
    let registry =
        FaultRegistry::start(Access::Open, vec![on("HEAD", Thing::Manifest, Fault::Silence).always()]);
    let lab = lab();
    let image = format!("{}/team/app:v1", registry.host());
    let words = ["tag", "resolve", "-i", &image, "--registry-response-header-timeout=11s"];
    let mut running = lab.command(&words).spawn();
    running.wait_for_stderr(&format!("waiting for `{}` to respond for 10", registry.host()));
    running.signal("TERM");
    let _ = running.wait().ends_with(143);
}

#[test]
fn debug_prints_every_request_with_its_outcome_and_no_secret() {
    let lab = room();
    let access = Access::Bearer { user: "ci", password: "hunter2", expires_in: None, challenges: Vec::new() };
    let registry = FaultRegistry::start(access, vec![on("PATCH", Thing::Session, Fault::CutRequest(MIB))]);
    let to = format!("{}/team/app:v1", registry.host());
    let output = hasty(&lab, &["copy", "--tar", "app.tar", "--to-repo", &to, "--debug"])
        .env("IMGRELAY_REGISTRY_USERNAME", "ci")
        .env("IMGRELAY_REGISTRY_PASSWORD", "hunter2")
        .run()
        .succeeds();
    let lines: Vec<&str> = output.stderr.lines().filter_map(|line| line.strip_prefix("debug: ")).collect();
    let log = registry.log();
    for method in ["HEAD", "POST", "PATCH", "PUT", "GET"] {
        let shown = lines.iter().filter(|line| line.starts_with(&format!("{method} http://"))).count();
        let sent = log.iter().filter(|entry| entry.method == method).count();
        assert_eq!(shown, sent, "{method}: {output}");
    }
    let find = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(find(&["PATCH ", "_state=***", " -> 202, sent ", " ms, attempt 2"]), "{output}");
    assert!(find(&["PATCH ", " -> 202, sent 2.4 MiB, "]), "{output}");
    assert!(find(&["PATCH ", " -> failed: connection closed while sending the body", " ms"]), "{output}");
    assert!(find(&["GET ", "/token?service=test&scope=repository:team/app:pull,push -> 200"]), "{output}");
    assert!(output.stderr.contains("1 blob restarted, 1 retry"), "{output}");
    let _ = output.never_says("hunter2").never_says("secret%2B").never_says("token-");
}

#[test]
fn a_mirror_is_read_first_and_skipped_when_it_fails() {
    let lab = room();
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let mirror = FaultRegistry::start(Access::Open, vec![]);
    for place in [&registry, &mirror] {
        let _ = upload(&lab, place).succeeds();
    }
    let read = || {
        let from = format!("{}/team/app:v1", registry.host());
        let pair = format!("{}={}", registry.host(), mirror.host());
        hasty(&lab, &["pull", "-i", &from, "-o", "out", "--force", "--registry-mirror", &pair]).run()
    };
    let before = registry.count("GET", Thing::Blob);
    let _ = read().succeeds();
    assert_eq!(registry.count("GET", Thing::Blob), before, "all blobs came from the mirror");
    mirror.rule(on("GET", Thing::Manifest, answer(403)).always());
    let _ = read().succeeds().says("the mirror is left out");
    assert!(registry.count("GET", Thing::Blob) > before);
}
