//! Secrets are planted wherever the program accepts them, and searched for in everything that it prints and writes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use testkit::fault::{Access, Fault, FaultRegistry, Rule, Thing, on};
use testkit::lab::{Lab, Output};

use crate::lab::lab;
use crate::layouts::Layout;

const PASSWORD: &str = "pl4nted-pass/w0rd+x";
/// Secrets that the test registry puts into upload locations, token responses and redirects.
const SERVERS: [&str; 4] = ["secret%2B", "secret+", "token-", "pl4nted-signature"];

/// Every form in which a secret could be shown.
fn planted() -> Vec<String> {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut all: Vec<String> = SERVERS.map(str::to_owned).to_vec();
    all.push(PASSWORD.to_owned());
    all.push(encode(&format!("ci:{PASSWORD}")));
    all.push(encode(PASSWORD));
    all.push(PASSWORD.replace('/', "%2F").replace('+', "%2B"));
    all.push(PASSWORD.replace('+', "%2B"));
    all
}

/// Fails if a secret is in the output of a run or in a file that it wrote.
#[track_caller]
fn keeps_quiet(lab: &Lab, output: &Output, about: &str) {
    let mut texts =
        vec![("stdout".to_owned(), output.stdout.clone()), ("stderr".to_owned(), output.stderr.clone())];
    let mut folders = vec![lab.work()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.components().any(|part| part.as_os_str() == "given") {
                let bytes = std::fs::read(&path).unwrap();
                texts.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    for secret in planted() {
        for (place, text) in &texts {
            assert!(!text.contains(&secret), "{about}: `{secret}` is in {place}\n{output}");
        }
    }
}

/// Its name, flags and variables.
type Way = (&'static str, Vec<String>, Vec<(String, String)>);

/// The ways to pass credentials: flags and variables, with files in `given/`.
fn ways(lab: &Lab, host: &str) -> Vec<Way> {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("ci:{PASSWORD}"));
    let config = format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#);
    let authfile = lab.write("given/auth.json", &config).display().to_string();
    lab.write("given/docker/config.json", &config);
    let helper = lab.write(
        "given/bin/docker-credential-planted",
        format!("#!/bin/sh\nread server\nprintf '{{\"Username\":\"ci\",\"Secret\":\"{PASSWORD}\"}}'\n"),
    );
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let helpers = lab.write("given/helpers.json", r#"{"credsStore":"planted"}"#).display().to_string();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let path = format!("{}:/usr/bin:/bin", lab.path("given/bin").display());
    vec![
        ("flags", words(&["--registry-username", "ci", "--registry-password", PASSWORD]), vec![]),
        (
            "variables",
            vec![],
            vec![pair("IMGRELAY_REGISTRY_USERNAME", "ci"), pair("IMGRELAY_REGISTRY_PASSWORD", PASSWORD)],
        ),
        ("authfile", words(&["--authfile", &authfile]), vec![]),
        ("DOCKER_AUTH_CONFIG", vec![], vec![pair("DOCKER_AUTH_CONFIG", &config)]),
        (
            "DOCKER_CONFIG",
            vec![],
            vec![pair("DOCKER_CONFIG", &lab.path("given/docker").display().to_string())],
        ),
        ("helper", words(&["--authfile", &helpers]), vec![pair("PATH", &path)]),
    ]
}

fn operations(name: &str) -> Vec<Vec<String>> {
    let lines = [
        format!("push -i {name} -f source --result json:result.json --result dotenv:result.env"),
        format!("pull -i {name} -o out --force"),
        format!("copy -i {name} --to-oci-tar out.tar"),
        format!("copy -i {name} --to-repo {name}-copy"),
        format!("describe -i {name}"),
        format!("tag list -i {}", name.trim_end_matches(":v1")),
    ];
    lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn bearer() -> Access {
    Access::Bearer { user: "ci", password: PASSWORD, expires_in: Some(300), challenges: vec![] }
}

fn image_in(registry: &FaultRegistry) {
    let layout = Layout::simple();
    let hex = |blob: &[u8]| format!("sha256:{}", crate::layouts::hex(blob));
    let (manifest, blobs) = layout.blobs.split_last().unwrap();
    blobs.iter().for_each(|blob| registry.put_blob("team/app", &hex(blob), blob));
    registry.put_manifest("team/app", "v1", &hex(manifest), crate::layouts::MANIFEST, manifest);
}

#[test]
fn no_source_of_credentials_shows_them_in_any_output() {
    for access in [Access::Basic("ci", PASSWORD), bearer()] {
        let registry = FaultRegistry::start(access.clone(), vec![]);
        image_in(&registry);
        let name = format!("{}/team/app:v1", registry.host());
        let lab = lab().tree(&["f source/a 'x'"]);
        for (way, flags, variables) in ways(&lab, &registry.host()) {
            for operation in operations(&name) {
                for more in [&["--debug", "--json"][..], &["--debug", "--progress", "plain"], &["-q"]] {
                    let words: Vec<&str> = operation
                        .iter()
                        .chain(&flags)
                        .map(String::as_str)
                        .chain(more.iter().copied())
                        .collect();
                    let command = lab.command(&words);
                    let output =
                        variables.iter().fold(command, |command, (key, value)| command.env(key, value)).run();
                    let output = output.succeeds();
                    keeps_quiet(&lab, &output, way);
                }
            }
        }
        assert_eq!(registry.leaks(), Vec::<String>::new());
    }
}

#[test]
fn no_failure_shows_a_secret() {
    let answer = |status: u16| Fault::Response(status, vec![], "no".into());
    let signed = |registry: &str| format!("http://{registry}/nowhere/{{}}?X-Amz-Signature=pl4nted-signature");
    let faults: Vec<(&str, Rule)> = vec![
        ("refused", on("GET", Thing::Token, answer(401)).always()),
        ("token server down", on("GET", Thing::Token, answer(500)).always()),
        (
            "token response is no JSON",
            on("GET", Thing::Token, Fault::Body(b"token-x, pl4nted".to_vec())).always(),
        ),
        ("upload lost", on("PUT", Thing::Session, answer(500)).always()),
        ("upload cut", on("PUT", Thing::Session, Fault::CutRequest(3)).always()),
        ("upload refused", on("PUT", Thing::Session, answer(400)).always()),
        (
            "session location elsewhere",
            on("POST", Thing::Uploads, Fault::LocationAt("http://127.0.0.1:1".into())).always(),
        ),
        ("manifest refused", on("PUT", Thing::Manifest, answer(403)).always()),
        ("blob redirected", on("GET", Thing::Blob, Fault::Redirect(307, signed("127.0.0.1:1"))).always()),
        ("blob redirected to no host", on("GET", Thing::Blob, Fault::Redirect(307, signed("-"))).always()),
        ("blob damaged", on("GET", Thing::Blob, Fault::FlipBit).always()),
        ("manifest is no JSON", on("GET", Thing::Manifest, Fault::Body(b"\x1b[2Jx".to_vec())).always()),
    ];
    for (what, rule) in faults {
        let lab = lab().tree(&["f source/a 'x'"]);
        let registry = FaultRegistry::start(bearer(), vec![rule]);
        image_in(&registry);
        let name = format!("{}/team/app:v1", registry.host());
        let mut failed = 0;
        for operation in &operations(&name)[..2] {
            for more in [&["--debug", "--json"][..], &[]] {
                let mut words: Vec<&str> = operation.iter().map(String::as_str).collect();
                words.extend(["--registry-retry-count", "2", "--registry-response-header-timeout", "2s"]);
                words.extend(more);
                let output = lab
                    .command(&words)
                    .env("IMGRELAY_REGISTRY_USERNAME", "ci")
                    .env("IMGRELAY_REGISTRY_PASSWORD", PASSWORD)
                    .run();
                failed += i32::from(output.code != Some(0));
                keeps_quiet(&lab, &output, what);
                assert!(!output.stderr.contains('\x1b'), "{what}: {output}");
            }
        }
        assert!(failed > 0, "{what}: nothing failed");
    }
}

/// Servers and proxies that echo requests in errors, warnings and locations.
#[test]
fn secrets_that_a_server_echoes_are_redacted() {
    const PUSH: usize = 0;
    const PULL: usize = 1;
    const LIST: usize = 5;
    let basic = || Access::Basic("ci", PASSWORD);
    let echo = |method, thing, status| on(method, thing, Fault::Echo(status)).always();
    let signed = "{foreign}/storage/{}?X-Amz-Signature=pl4nted-signature".to_owned();
    let signed = on("GET", Thing::Blob, Fault::Redirect(307, signed)).always();
    let cases: Vec<(&str, Access, usize, Vec<Rule>)> = vec![
        ("password, refused", basic(), PUSH, vec![echo("POST", Thing::Uploads, 403)]),
        ("password, not taken", basic(), PUSH, vec![echo("POST", Thing::Uploads, 400)]),
        ("password, failed", basic(), PUSH, vec![echo("POST", Thing::Uploads, 500)]),
        ("password, led to metadata", basic(), PUSH, vec![echo("POST", Thing::Uploads, 202)]),
        ("password, redirected", basic(), PULL, vec![echo("GET", Thing::Blob, 307)]),
        ("password, no document", basic(), PULL, vec![echo("GET", Thing::Manifest, 200)]),
        ("password, list refused", basic(), LIST, vec![echo("GET", Thing::Tags, 403).nth(2)]),
        ("password, no such list", basic(), LIST, vec![echo("GET", Thing::Tags, 404).nth(2)]),
        ("password, at the token server", bearer(), PUSH, vec![echo("GET", Thing::Token, 401)]),
        ("password, at a failing token server", bearer(), PUSH, vec![echo("GET", Thing::Token, 500)]),
        ("password, at a strange token server", bearer(), PUSH, vec![echo("GET", Thing::Token, 418)]),
        ("identity token", bearer(), PUSH, vec![echo("POST", Thing::Token, 401)]),
        ("token and state, body refused", bearer(), PUSH, vec![echo("PUT", Thing::Session, 403)]),
        ("token and state, end refused", bearer(), PUSH, vec![echo("PUT", Thing::Session, 409)]),
        ("token and state, end failed", bearer(), PUSH, vec![echo("PUT", Thing::Session, 503)]),
        ("token, manifest refused", bearer(), PUSH, vec![echo("PUT", Thing::Manifest, 400)]),
        ("signed address", bearer(), PULL, vec![signed.clone(), echo("GET", Thing::Storage, 403)]),
        ("signed address, failed", bearer(), PULL, vec![signed.clone(), echo("GET", Thing::Storage, 500)]),
        ("signed address, other range", bearer(), PULL, vec![signed, echo("GET", Thing::Storage, 206)]),
    ];
    for (what, access, operation, rules) in cases {
        let lab = lab().tree(&["f source/a 'x'"]);
        let registry = FaultRegistry::start(access, rules);
        image_in(&registry);
        let name = format!("{}/team/app:v1", registry.host());
        let mut shown = false;
        for more in [&["--debug", "--json"][..], &[]] {
            let mut words = operations(&name).swap_remove(operation);
            words.extend(["--registry-retry-count", "2"].map(str::to_owned));
            words.extend(more.iter().map(|word| (*word).to_owned()));
            let run = lab.command(&words);
            let run = if what == "identity token" {
                let auths =
                    format!(r#"{{"auths":{{"{}":{{"identitytoken":"{PASSWORD}"}}}}}}"#, registry.host());
                run.env("DOCKER_AUTH_CONFIG", auths)
            } else {
                run.env("IMGRELAY_REGISTRY_USERNAME", "ci").env("IMGRELAY_REGISTRY_PASSWORD", PASSWORD)
            };
            let output = run.run();
            assert_ne!(output.code, Some(0), "{what}: {output}");
            shown |= output.stderr.contains("***");
            keeps_quiet(&lab, &output, what);
        }
        // The error about an invalid document does not quote it.
        let quoted = !what.ends_with(", no document");
        assert!(shown || !quoted, "{what}: the server's words are shown, without the secret");
    }
}

#[test]
fn misuse_with_a_secret_does_not_repeat_it() {
    let lab = lab();
    let config =
        lab.write("given/bad.json", format!(r#"{{"auths":{{"reg.example":{{"auth":"{PASSWORD}"}}}}}}"#));
    let config = config.display().to_string();
    for words in [
        &["pull", "-i", "reg.example/a", "-o", "out", "--registry-password", PASSWORD][..],
        &["pull", "-i", "reg.example/a", "-o", "out", "--registry-token", "pl4nted-pass/w0rd+x\nx"],
        &["pull", "-i", "reg.example/a", "-o", "out", "--authfile", &config],
    ] {
        let output = lab.run(words).ends_with(2);
        keeps_quiet(&lab, &output, "misuse");
    }
    let bad = format!(r#"{{"auths":{{"reg.example":{{"auth":["{PASSWORD}"]}}}}}}"#);
    let output =
        lab.command(&["pull", "-i", "reg.example/a", "-o", "out"]).env("DOCKER_AUTH_CONFIG", bad).run();
    keeps_quiet(&lab, &output.ends_with(2), "a variable that is no configuration");
}

/// Helpers get the name of the server on standard input, and no secret in their arguments.
#[test]
fn no_secret_is_in_the_arguments_of_a_process() {
    let registry = FaultRegistry::start(Access::Basic("ci", PASSWORD), vec![]);
    image_in(&registry);
    let lab = lab();
    let name = format!("{}/team/app:v1", registry.host());
    let (_, flags, variables) = ways(&lab, &registry.host()).pop().unwrap();
    let words = ["pull", "-i", &name, "-o", "out"];
    let words: Vec<&str> = words.into_iter().chain(flags.iter().map(String::as_str)).collect();
    let command = lab.command(&words).traced("execve");
    let output =
        variables.iter().fold(command, |command, (key, value)| command.env(key, value)).run().succeeds();
    assert!(output.trace.contains("docker-credential-planted"), "{}", output.trace);
    assert!(output.trace.contains("\"get\"]"), "{}", output.trace);
    for secret in planted() {
        assert!(!output.trace.contains(&secret), "{}", output.trace);
    }
}

/// The search finds a planted secret.
#[test]
fn a_secret_that_is_printed_or_written_is_found() {
    for script in
        [format!("echo {PASSWORD}"), format!("echo {PASSWORD} >&2"), format!("echo {PASSWORD} > file")]
    {
        let found = std::panic::catch_unwind(|| {
            let lab = Lab::new(Path::new("/bin/sh"));
            let output = lab.run(&["-c", &script]);
            keeps_quiet(&lab, &output, "x");
        });
        assert!(found.is_err(), "{script}");
    }
}
