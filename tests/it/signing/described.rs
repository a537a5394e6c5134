//! `describe` lists what is said about an image below it, wherever the image is.

use serde_json::{Value, json};
use testkit::readers::gnu_untar;
use testkit::registry::Registry;
use testkit::tarball::Tarball;

use super::keys;
use crate::lab::lab;
use crate::layouts::{CONTAINERD_NAME, INDEX, Layout, REF_NAME, named};

/// `openssl pkey -pubin -in p256.pub -outform DER | openssl dgst -sha256 -binary | base64`
const P256_HINT: &str = "JwDgU2pljktciMi6xNF8UaPpuC5ZrCKQ3bm7QgkcMyw=";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

#[test]
fn describe_lists_signatures_and_attestations_with_key_hint_identity_and_predicate_type() {
    let (lab, registry) = (lab(), Registry::start());
    keys::put(&lab);
    lab.write("slsa.json", r#"{"buildDefinition":{"buildType":"x"},"runDetails":{"builder":{"id":"y"}}}"#);
    lab.write("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    let image = format!("{}/team/app:v1", registry.host());
    lab.write("app/file", "content\n");
    let _ = lab.run(&["push", "-i", &image, "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    let key = ["--tar", "app.tar", "--key", "p256.key", "--signature-format", "both"];
    let _ = lab.run(&[&["sign"], &key[..]].concat()).succeeds();
    let _ = lab.run(&[&["attach", "slsa.json", "--type", "slsaprovenance1"], &key[..]].concat()).succeeds();
    let _ = lab.run(&["attach", "--tar", "app.tar", "--type", "cyclonedx", "sbom.json"]).succeeds();
    gnu_untar(&lab.path("app.tar"), &lab.path("folder"));
    let store = format!("file://{}:v1", lab.path("store").display());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-store", &store]).succeeds();
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &image]).succeeds();
    let said = [
        format!("\n  Signature: signature 1 of sha256:HEX\n    for {image}\n    key {P256_HINT}\n"),
        format!("\n  Signature: bundle sha256:HEX\n    key {P256_HINT}\n"),
        format!(
            "\n  Attestation: attestation 1 of sha256:HEX\n    for {image}\n    type {PROVENANCE}\n    key {P256_HINT}\n"
        ),
        format!("\n  Attestation: bundle sha256:HEX\n    type {PROVENANCE}\n    key {P256_HINT}\n"),
        "\n  Referrer: sha256:HEX, type application/vnd.cyclonedx+json\n".to_owned(),
    ];
    for place in [["--tar", "app.tar"], ["--tar", "folder"], ["--store", &store], ["-i", &image]] {
        let output = lab.run(&[&["describe"], &place[..]].concat()).succeeds();
        let text = without_digests(&output.stdout);
        for line in &said {
            assert!(text.contains(line), "{place:?} has no `{line}`\n{output}");
        }
        // Each manifest that holds one is named by what it holds.
        let kind = |kind: &str| text.lines().filter(|line| *line == format!("{kind} sha256:HEX")).count();
        let kinds = ["Image", "Signature", "Attestation", "Artifact"].map(kind);
        assert_eq!(kinds, [1, 2, 2, 1], "{place:?} {output}");
        let json = lab.run(&[&["describe", "--json"], &place[..]].concat()).succeeds().json();
        let found = json["images"][0]["signatures"].as_array().unwrap();
        assert_eq!(found.len(), 5, "{place:?}");
        let attestation = found.iter().find(|one| one["form"] == "dsse").unwrap();
        assert_eq!(
            (&attestation["kind"], &attestation["predicateType"]),
            (&json!("attestation"), &json!(PROVENANCE))
        );
        assert_eq!((&attestation["keyHint"], &attestation["identity"]), (&json!(P256_HINT), &json!(image)));
    }
}

#[test]
fn describe_lists_what_is_said_about_an_image_of_an_index_below_that_image() {
    let lab = lab();
    keys::put(&lab);
    let mut layout = Layout::default();
    let child = layout.image(&[Tarball::new().file("one", "1").finish()]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]});
    let index = layout.blob(INDEX, index.to_string());
    layout.entries.push(named(index, &[(REF_NAME, "v1"), (CONTAINERD_NAME, "reg.example/app:v1")]));
    lab.write("all.tar", layout.tar());
    let _ = lab.run(&["sign", "--tar", "all.tar", "--key", "p256.key", "--recursive"]).succeeds();
    let json = lab.run(&["describe", "--tar", "all.tar", "--json"]).succeeds().json();
    let root = &json["images"][0];
    for one in [root, &root["manifests"][0]] {
        let signatures = one["signatures"].as_array().map(Vec::as_slice).unwrap_or_default();
        let kinds: Vec<&Value> = signatures.iter().map(|signature| &signature["keyHint"]).collect();
        assert_eq!(kinds, [&json!(P256_HINT)], "{json:#}");
    }
}

/// Replaces digests, which are other ones each time.
fn without_digests(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        out + "sha256:HEX" + part.trim_start_matches(|digit: char| digit.is_ascii_hexdigit())
    })
}
