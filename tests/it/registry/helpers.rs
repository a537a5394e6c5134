//! Credential helpers as real processes on the search path.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use testkit::fault::{Access, FaultRegistry, Thing};
use testkit::lab::Run;

use crate::lab::{Lab, lab};

/// Puts `docker-credential-<name>` on the lab's search path.
fn helper(lab: &Lab, name: &str, script: &str) {
    let path = lab.write(&format!("bin/docker-credential-{name}"), format!("#!/bin/sh\n{script}"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Lists a repository's tags with a configuration.
fn list<'lab>(lab: &'lab Lab, registry: &FaultRegistry, config: &str) -> Run<'lab> {
    lab.write("docker/config.json", config.replace("HOST", &registry.host()));
    let image = format!("{}/team/app", registry.host());
    lab.command(&["tag", "list", "-i", &image, "--debug"])
        .env("DOCKER_CONFIG", lab.path("docker"))
        .env("PATH", format!("{}:/usr/bin:/bin", lab.path("bin").display()))
}

fn basic() -> FaultRegistry {
    FaultRegistry::start(Access::Basic("ci", "hunter2"), vec![])
}

#[test]
fn credential_helpers_get_the_host_on_standard_input() {
    let lab = lab();
    let script = r#"test "$1" = get || exit 9; read -r host; test "$host" = "$EXPECTED" || { echo "$host?"; exit 8; }
echo '{"ServerURL":"x","Username":"ci","Secret":"hunter2"}'"#;
    helper(&lab, "lab", script);
    for config in [r#"{"credsStore": "lab"}"#, r#"{"credHelpers": {"HOST": "lab"}, "credsStore": "absent"}"#]
    {
        let registry = basic();
        let run = list(&lab, &registry, config).env("EXPECTED", registry.host());
        let _ = run.run().succeeds().never_says("hunter2");
        let run = list(&lab, &registry, config).env("EXPECTED", "another");
        let said = format!("exit status: 8: {}?", registry.host());
        let _ = run.run().fails(2, &["credential helper `docker-credential-lab` failed for", &said]);
    }
}

#[test]
fn credential_helpers_get_the_environment_without_the_variables_that_are_for_this_program() {
    let lab = lab();
    helper(&lab, "lab", "env >seen\necho '{\"Username\":\"ci\",\"Secret\":\"hunter2\"}'");
    let registry = basic();
    let mut run = list(&lab, &registry, r#"{"credsStore": "lab"}"#);
    let withheld = [
        // For another registry, so that the helper is run.
        ("IMGPKG_REGISTRY_HOSTNAME_0", "reg.example"),
        ("IMGPKG_REGISTRY_USERNAME_0", "ci"),
        ("IMGPKG_REGISTRY_PASSWORD_0", "withheld-1"),
        ("IMGRELAY_TAG", "withheld-2"),
        ("INPUT_PASSWORD", "withheld-3"),
        ("COSIGN_PASSWORD", "withheld-4"),
        ("COSIGN_PRIVATE_KEY", "withheld-5"),
    ];
    for (name, value) in withheld.into_iter().chain([("AWS_SECRET_ACCESS_KEY", "needed"), ("HOME", "/h")]) {
        run = run.env(name, value);
    }
    let _ = run.run().succeeds();
    let seen = String::from_utf8(lab.read("seen")).unwrap();
    assert!(!seen.contains("withheld") && !seen.contains("IMGPKG_"), "{seen}");
    assert!(seen.contains("AWS_SECRET_ACCESS_KEY=needed\n") && seen.contains("HOME=/h\n"), "{seen}");
}

#[test]
fn the_user_token_means_an_identity_token() {
    let lab = lab();
    helper(&lab, "lab", r#"echo '{"Username":"<token>","Secret":"hunter2"}'"#);
    let access =
        Access::Bearer { user: "ci", password: "hunter2", expires_in: Some(300), challenges: Vec::new() };
    let registry = FaultRegistry::start(access, vec![]);
    let _ = list(&lab, &registry, r#"{"credsStore": "lab"}"#).run().succeeds().never_says("hunter2");
    assert_eq!(registry.count("POST", Thing::Token), 1, "it is exchanged, not sent as a password");
}

#[test]
fn a_missing_credential_helper_is_named_with_the_config_file() {
    let lab = lab();
    let registry = basic();
    let config = lab.path("docker/config.json").display().to_string();
    let _ = list(&lab, &registry, r#"{"credHelpers": {"HOST": "absent"}}"#).run().fails(
        2,
        &[&format!(
            "`{config}` names the credential helper `absent`, but the program `docker-credential-absent` is not in \
             the search path"
        )],
    );
}

#[test]
fn a_credential_helper_that_fails_is_run_again() {
    let lab = lab();
    let script = r#"n=$(cat count 2>/dev/null || echo 0); echo $((n + 1)) >count
test "$n" -ge 2 || { echo "the daemon is busy"; exit 1; }
echo '{"Username":"ci","Secret":"hunter2"}'"#;
    helper(&lab, "flaky", script);
    let registry = basic();
    let _ = list(&lab, &registry, r#"{"credsStore": "flaky"}"#).run().succeeds();
    assert_eq!(lab.read("count"), b"3\n", "asked until it answered, then never again");
    helper(&lab, "dead", "echo x >>calls; echo 'the daemon is gone'; exit 1");
    let _ = list(&lab, &registry, r#"{"credsStore": "dead"}"#).run().fails(2, &["the daemon is gone"]);
    assert_eq!(lab.read("calls"), b"x\nx\nx\nx\n");
}

#[test]
fn a_credential_helper_without_an_entry_leaves_the_registry_to_the_next_keychain() {
    let lab = lab();
    helper(&lab, "empty", "echo x >>calls; echo 'credentials not found in native keychain'; exit 1");
    let registry = FaultRegistry::start(Access::Open, vec![]);
    let _ = list(&lab, &registry, r#"{"credsStore": "empty"}"#).run().succeeds();
    assert_eq!(lab.read("calls"), b"x\n", "that is a response, not a failure");
}

#[test]
fn what_a_credential_helper_writes_to_standard_error_is_shown_without_its_secret() {
    let lab = lab();
    let script = r#"echo first >&2; echo 'cannot unlock: hunter2 is old' >&2
echo '{"Username":"ci","Secret":"hunter2"}'; exit 1"#;
    helper(&lab, "locked", script);
    let registry = basic();
    let output = list(&lab, &registry, r#"{"credsStore": "locked"}"#).run();
    let _ = output.fails(2, &["exit status: 1: cannot unlock: *** is old"]).never_says("hunter2");
}

#[test]
fn what_a_credential_helper_assigns_to_names_of_secrets_is_hidden() {
    let lab = lab();
    helper(&lab, "chatty", "echo 'cannot log in: password=swordfish token: \"abcdef\"' >&2; exit 1");
    let output = list(&lab, &basic(), r#"{"credsStore": "chatty"}"#).run();
    let output = output.fails(2, &["cannot log in: password=*** token: \"***\""]);
    let _ = output.never_says("swordfish").never_says("abcdef");
}

#[test]
fn an_absent_credential_helper_is_an_error_only_if_the_registry_asks_for_a_login() {
    let lab = lab();
    let config = r#"{"auths": {}, "credsStore": "desktop"}"#;
    let open = FaultRegistry::start(Access::Open, vec![]);
    let _ = list(&lab, &open, config).run().succeeds().never_says("error");
    let _ = list(&lab, &basic(), config).run().fails(2, &["`docker-credential-desktop`"]);
}

#[test]
fn a_credential_helper_that_leaves_a_process_behind_has_answered() {
    let lab = lab();
    // The remaining process holds both outputs open.
    let script = r#"sleep 60 & echo $! >left; echo '{"Username":"ci","Secret":"hunter2"}'"#;
    helper(&lab, "agent", script);
    let registry = basic();
    let started = Instant::now();
    let _ = list(&lab, &registry, r#"{"credsStore": "agent"}"#).run().succeeds();
    assert!(started.elapsed() < Duration::from_secs(55), "waited for the process that stays");
    let left = String::from_utf8(lab.read("left")).expect("a process number");
    let _ = std::process::Command::new("kill").arg(left.trim()).status();
}
