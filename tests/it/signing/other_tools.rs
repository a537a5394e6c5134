//! What skopeo and oras of Debian 13 say about signatures and attachments that were made here.

use std::process::Command;

use serde_json::{Value, json};
use testkit::registry::Registry;
use testkit::tools::{Ran, debian_13, run};

use super::keys;
use crate::lab::{Lab, lab};
use crate::samples::digest_in;

const PAGE: &str = include_str!("../../../docs/how-to/signed-air-gap.md");

/// Packs a file as an image, signs it for its name with this key, and pushes it; returns its digest.
fn published(lab: &Lab, image: &str, key: Option<&str>) -> String {
    lab.write("app/file", image);
    let output = lab.run(&["push", "-i", image, "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    let digest = digest_in(output.one_line()).to_owned();
    if let Some(key) = key {
        let _ = lab.run(&["sign", "--tar", "app.tar", "--key", &format!("{key}.key")]).succeeds();
    }
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", image]).succeeds();
    digest
}

/// Writes the policy of the documentation for this repository and key.
fn policy(lab: &Lab, repository: &str, key: &str) -> String {
    let block = PAGE.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let text = block.expect("the page has a policy");
    assert!(text.contains("registry.example/far") && text.contains("/etc/containers/sign.pub"), "{text}");
    let path = lab.path(key).display().to_string();
    let text = text.replace("registry.example/far", repository).replace("/etc/containers/sign.pub", &path);
    let name = format!("policy-{key}.json");
    lab.write(&name, text);
    name
}

#[test]
fn skopeo_accepts_what_was_signed_here_by_the_policy_of_the_documentation() {
    let (lab, registry) = (lab(), Registry::start());
    let test = "skopeo_accepts_what_was_signed_here_by_the_policy_of_the_documentation";
    if debian_13("skopeo-13", test).is_none() {
        return;
    }
    keys::put(&lab);
    let far = format!("{}/far", registry.host());
    let attachments = json!({"docker": {registry.host(): {"use-sigstore-attachments": true}}});
    lab.write("registries.d/far.yaml", attachments.to_string());
    let copy = |image: &str, key: &str| -> Ran {
        let mut command: Command = debian_13("skopeo-13", test).expect("it was there");
        command.current_dir(lab.work()).env("HOME", lab.work());
        command.arg("--policy").arg(policy(&lab, &far, key)).args(["--registries.d", "registries.d", "copy"]);
        command.args(["--src-tls-verify=false", &format!("docker://{image}"), "dir:out"]);
        run(&mut command)
    };
    let app = format!("{far}/app:v1");
    let digest = published(&lab, &app, Some("p256"));
    let _ = copy(&app, "p256.pub").success();
    let manifest = lab.read("out/manifest.json");
    assert_eq!(format!("sha256:{}", crate::layouts::hex(&manifest)), digest);
    let edwards = format!("{far}/edwards:v1");
    let _ = published(&lab, &edwards, Some("ed25519"));
    let _ = copy(&edwards, "ed25519.pub").success();
    // The same signature under another name, another key, and no signature.
    let moved = format!("{far}/moved:v1");
    let _ = published(&lab, &app, Some("p256"));
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &moved]).succeeds();
    let bare = format!("{far}/bare:v1");
    let _ = published(&lab, &bare, None);
    for (image, key, expected) in [
        (&moved, "p256.pub", format!("Signature for identity \\\"{app}\\\" is not accepted")),
        (&app, "ed25519.pub", "cryptographic signature verification failed".to_owned()),
        (&bare, "p256.pub", "A signature was required, but no signature exists".to_owned()),
    ] {
        let ran = copy(image, key);
        assert!(ran.code != Some(0) && ran.stderr.contains(&expected), "{expected}: {ran:?}");
    }
}

#[test]
fn oras_discovers_and_pulls_what_was_attached_here() {
    let (lab, registry) = (lab(), Registry::start());
    let test = "oras_discovers_and_pulls_what_was_attached_here";
    if debian_13("oras", test).is_none() {
        return;
    }
    keys::put(&lab);
    let oras = |words: &[&str]| {
        let mut command = debian_13("oras", test).expect("it was there");
        run(command.args(words).current_dir(lab.work()).env("HOME", lab.work())).success().stdout
    };
    let image = format!("{}/app:v1", registry.host());
    let _ = published(&lab, &image, None);
    lab.write("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    let attach = ["attach", "sbom.json", "--tar", "app.tar", "--type", "cyclonedx"];
    let _ = lab.run(&attach).succeeds();
    let _ =
        lab.run(&[&attach[..], &["--key", "p256.key", "--signature-format", "bundle"]].concat()).succeeds();
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &image]).succeeds();
    let found: Value =
        serde_json::from_str(&oras(&["discover", "--plain-http", "--format", "json", &image])).unwrap();
    let mut kinds: Vec<&str> = found["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["artifactType"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["application/vnd.cyclonedx+json", "application/vnd.dev.sigstore.bundle.v0.3+json"],
        "{found:#}"
    );
    let is_sbom = |one: &&Value| one["artifactType"] == "application/vnd.cyclonedx+json";
    let sbom = found["manifests"].as_array().unwrap().iter().find(is_sbom).unwrap();
    let _ = oras(&["pull", "--plain-http", "-o", "pulled", sbom["reference"].as_str().unwrap()]);
    assert_eq!(lab.read("pulled/sbom.json"), lab.read("sbom.json"));
}
