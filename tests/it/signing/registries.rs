//! `sign` and `attach` in a registry, and `--verify-key` of every command that writes: only signed images arrive.

use serde_json::{Value, json};
use testkit::oracle::validate_layout;
use testkit::registry::{Registry, manifests_written};
use testkit::tarball::Tarball;

use super::keys::{self, Tar, prints, refused};
use crate::carvel::{bundle, digest, image};
use crate::lab::{Lab, lab};
use crate::layouts::{CONTAINERD_NAME, Layout, REF_NAME, named};

/// An image in a registry, by digest.
fn published(lab: &Lab, registry: &Registry) -> String {
    keys::put(lab);
    image(lab, &format!("{}/src/one", registry.host()), "one")
}

#[test]
fn a_signature_made_in_a_registry_travels_through_a_tar_with_verify_key() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let one = published(&lab, &source);
    let to = |name: &str| format!("{}/{name}", target.host());
    let copy = |more: &[&str]| lab.run(&[&["copy", "-i", &one, "--verify-key", "p256.pub"], more].concat());
    let nothing = format!("image `{}` has no signature", digest(&one));
    refused(copy(&["--to-oci-tar", "one.tar"]), 3, &[&nothing]);
    refused(copy(&["--to-repo", &to("one")]), 3, &[&nothing]);
    refused(lab.run(&["pull", "-i", &one, "-o", "out", "--verify-key", "p256.pub"]), 3, &[&nothing]);
    assert!(!lab.path("one.tar").exists() && !lab.path("out").exists());
    assert!(target.storage().repositories().is_empty());

    let sign = |key: &str| lab.run(&["sign", "-i", &one, "--key", key]).succeeds();
    assert!(sign("p256.key").one_line().ends_with(": signed"));
    assert!(sign("p256.key").one_line().ends_with(": signed already"));
    assert!(sign("ed25519.key").one_line().ends_with(": signed"), "beside the other one");
    let _ = lab.run(&["pull", "-i", &one, "-o", "out", "--verify-key", "ed25519.pub"]).succeeds();
    let _ = copy(&["--to-oci-tar", "one.tar"]).succeeds();
    validate_layout(lab.path("one.tar"));
    source.stop();
    let path = lab.path("one.tar");
    assert_eq!(Tar(&path).signatures(digest(&one)).len(), 2);
    // The image by digest, its signature, and the tag last.
    let words = ["copy", "--tar", "one.tar", "--to-repo", &to("one:new"), "--verify-key", "p256.pub"];
    let output = lab.run(&words).succeeds();
    let _ = output.says("and the image is pushed to").says("podman, CRI-O and skopeo compare the two names");
    let requests = target.requests();
    let signature = format!("{}.sig", digest(&one).replace(':', "-"));
    assert_eq!(manifests_written(&requests), [digest(&one), &signature, "new"]);
    target.forget_requests();
    let other = ["copy", "--tar", "one.tar", "--to-repo", &to("two"), "--verify-key", "rsa.pub"];
    refused(lab.run(&other), 3, &["has no signature that is accepted"]);
    assert_eq!(target.requests().len(), 0, "the registry was not even asked");
    // A key as text, as a variable of a CI system holds it.
    let run = lab.command(&["copy", "--tar", "one.tar", "--to-repo", &to("three:v1")]);
    let _ = run.env("IMGRELAY_VERIFY_KEY", keys::FILES[1].1).run().succeeds();
    let run = lab.command(&["copy", "--tar", "one.tar", "--to-repo", &to("four:v1")]);
    refused(
        run.env("IMGRELAY_VERIFY_KEY", keys::FILES[5].1).run(),
        3,
        &["has no signature that is accepted"],
    );
}

#[test]
fn verify_key_refuses_what_would_get_a_tag_beside_the_signed_image() {
    let (lab, target) = (lab(), Registry::start());
    keys::put(&lab);
    let base = Layout::simple();
    let digest = base.entries[0]["digest"].as_str().unwrap().to_owned();
    lab.write("good.tar", base.tar());
    let _ = lab.run(&["sign", "--tar", "good.tar", "--key", "p256.key"]).succeeds();
    let path = lab.path("good.tar");
    let entries = Tar(&path).json("index.json")["manifests"].as_array().unwrap().clone();
    let signature: Value = serde_json::from_slice(&Tar(&path).blob(&entries[1])).unwrap();
    // The attacker's image has the good one as its `subject`, or is beside it and the good one is marked.
    for marked in [false, true] {
        let mut layout = base.clone();
        for blob in [&signature["config"], &signature["layers"][0], &entries[1]] {
            let bytes = Tar(&path).blob(blob);
            layout.blobs.push(bytes);
        }
        let evil = layout.image(&[Tarball::new().file("evil", "x").finish()]);
        let manifest = layout.blobs.pop().unwrap();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        if !marked {
            manifest["subject"] = json!({"mediaType": base.entries[0]["mediaType"], "digest": digest, "size": base.entries[0]["size"]});
        }
        let evil = layout.blob(evil["mediaType"].as_str().unwrap(), manifest.to_string());
        let name = [(REF_NAME, "latest"), (CONTAINERD_NAME, "reg.example/team/app:latest")];
        layout.entries = vec![base.entries[0].clone(), entries[1].clone(), named(evil.clone(), &name)];
        if marked {
            layout.entries[0]["annotations"]["dev.imgrelay.root"] = json!("true");
        }
        lab.write("evil.tar", layout.tar());
        let to = format!("{}/app", target.host());
        let output = lab.run(&["copy", "--tar", "evil.tar", "--to-repo", &to, "--verify-key", "p256.pub"]);
        let evil = evil["digest"].as_str().unwrap();
        refused(output, 3, &[&format!("image `{evil}` has no signature")]);
        assert!(target.storage().repositories().is_empty(), "marked: {marked}");
    }
}

#[test]
fn verify_key_of_a_bundle_covers_what_it_names_and_index_checks_every_source() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let one = published(&lab, &source);
    let all = bundle(&lab, &format!("{}/src/b:v1", source.host()), "b", &[&one]);
    let by_digest = format!("{}/src/b@{}", source.host(), digest(&all));
    let to = format!("{}/b", target.host());
    let copy = |words: &[&str]| lab.run(&[words, &["--verify-key", "p256.pub"]].concat());
    refused(copy(&["copy", "-b", &all, "--to-repo", &to]), 3, &["has no signature"]);
    let _ = lab.run(&["sign", "-i", &by_digest, "--key", "p256.key"]).succeeds();
    let _ = copy(&["copy", "-b", &all, "--to-repo", &to]).succeeds();
    let _ = copy(&["pull", "-b", &format!("{to}@{}", digest(&all)), "-o", "out"]).succeeds();
    refused(copy(&["index", "-i", &one, "--to-oci-tar", "index.tar"]), 3, &["has no signature"]);
    assert!(!lab.path("index.tar").exists());
}

#[test]
fn attach_adds_sboms_and_attestations_that_verify_can_require() {
    let lab = lab();
    keys::put(&lab);
    let layout = Layout::simple();
    let digest = layout.entries[0]["digest"].as_str().unwrap().to_owned();
    lab.write("app.tar", layout.tar());
    lab.write("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    lab.write("slsa.json", r#"{"buildDefinition":{"buildType":"x"},"runDetails":{"builder":{"id":"y"}}}"#);
    let attach = |words: &[&str]| lab.run(&[&["attach", "--tar", "app.tar"], words].concat());
    for state in ["attached", "attached already"] {
        let output = attach(&["--type", "cyclonedx", "sbom.json"]).succeeds();
        assert_eq!(output.one_line(), format!("app.tar@{digest}: {state}"));
        for format in ["simplesigning", "bundle"] {
            let words = ["--type", "slsaprovenance1", "--key", "p256.key", "--signature-format", format];
            let output = attach(&[&words[..], &["slsa.json"]].concat()).succeeds();
            assert_eq!(output.one_line(), format!("app.tar@{digest}: {state}"), "{format}");
        }
        let output =
            lab.run(&["sign", "--tar", "app.tar", "--key", "p256.key", "--signature-format", "both"]);
        let state = state.replace("attached", "signed");
        assert_eq!(output.succeeds().one_line(), format!("app.tar@{digest}: {state}"));
    }
    validate_layout(lab.path("app.tar"));
    let path = lab.path("app.tar");
    let index = Tar(&path).json("index.json");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(6), "image, SBOM, .att, two bundles, .sig");
    let manifests: Vec<Value> = index["manifests"].as_array().unwrap()[1..]
        .iter()
        .map(|entry| serde_json::from_slice(&Tar(&path).blob(entry)).unwrap())
        .collect();
    let sbom = &manifests[0];
    assert_eq!(sbom["artifactType"], "application/vnd.cyclonedx+json");
    assert_eq!(sbom["subject"]["digest"], digest.as_str());
    assert_eq!(sbom["layers"][0]["annotations"]["org.opencontainers.image.title"], "sbom.json");
    let bundles =
        manifests.iter().filter(|one| one["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json");
    assert_eq!(bundles.count(), 2);
    let verify =
        |words: &[&str]| lab.run(&[&["verify", "--tar", "app.tar", "--key", "p256.pub"], words].concat());
    let all = ["--require", "signature", "--require", "attestation:slsaprovenance1"];
    prints(verify(&all), "attestation of type `https://slsa.dev/provenance/v1`: accepted");
    prints(verify(&all), "referrer of type `application/vnd.cyclonedx+json`: not signed");
    refused(
        verify(&["--require", "attestation:cyclonedx"]),
        3,
        &["has no attestation of type `https://cyclonedx.org/bom`\n"],
    );
    refused(
        lab.run(&[
            "verify",
            "--tar",
            "app.tar",
            "--key",
            "ed25519.pub",
            "--require",
            "attestation:slsaprovenance1",
        ]),
        3,
        &[
            "has no attestation of type `https://slsa.dev/provenance/v1` that is accepted",
            "it was made with another key",
        ],
    );
    // The registry that the tar is pushed to has all of it.
    let target = Registry::start();
    let to = format!("{}/app:v1", target.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &to, "--verify-key", "p256.pub"]).succeeds();
    let hex = digest.replace(':', "-");
    let tags: Vec<String> = target.storage().tags("app").into_keys().collect();
    assert_eq!(tags, [hex.clone(), format!("{hex}.att"), format!("{hex}.sig"), "v1".to_owned()]);
    let list: Value = serde_json::from_slice(&target.storage().manifest("app", &hex).unwrap()).unwrap();
    assert_eq!(list["manifests"].as_array().map(Vec::len), Some(3));
    let pulled = lab.run(&["pull", "-i", &to, "-o", "out", "--verify-key", "p256.pub"]);
    let _ = pulled.succeeds();
}

#[test]
fn attach_refuses_what_it_cannot_attach_and_leaves_the_tar_as_it_was() {
    let lab = lab();
    keys::put(&lab);
    lab.write("app.tar", Layout::simple().tar());
    lab.write("text", "no JSON");
    lab.write("twice.json", r#"{"a":1,"a":2}"#);
    lab.write("slsa.json", r#"{"buildDefinition":{}}"#);
    lab.write("cyclonedx.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    lab.write("spdx.json", r#"{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT"}"#);
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicate": {},
        "predicateType": "https://slsa.dev/provenance/v1"});
    lab.write("statement.json", statement.to_string());
    let before = lab.read("app.tar");
    for (words, code, expected) in [
        (&["--type", "cyclonedx", "text"][..], 1, "`text` is not valid JSON"),
        (&["--type", "spdx", "twice.json"], 1, "member `a` is there twice"),
        (
            &["--type", "slsaprovenance1", "slsa.json"],
            1,
            "has no object `runDetails`, which SLSA provenance has",
        ),
        (
            &["--type", "spdx", "cyclonedx.json"],
            1,
            "`cyclonedx.json` is a CycloneDX document, expected an SPDX document\n",
        ),
        (&["--type", "spdx", "cyclonedx.json"], 1, "hint: attach it with `--type cyclonedx`"),
        (
            &["--type", "application/vnd.cyclonedx+json", "spdx.json"],
            1,
            "`spdx.json` is an SPDX document, expected a CycloneDX document\n",
        ),
        (
            &["--type", "https://spdx.dev/Document", "--key", "p256.key", "cyclonedx.json"],
            1,
            "`cyclonedx.json` is a CycloneDX document, expected an SPDX document\n",
        ),
        (
            &["--type", "slsaprovenance1", "--key", "p256.key", "statement.json"],
            1,
            "`statement.json` is a whole in-toto statement of type `https://slsa.dev/provenance/v1`, expected the predicate",
        ),
        (
            &["--type", "https://example.com/scan", "--key", "p256.key", "statement.json"],
            1,
            "hint: give its predicate alone; a statement around it is made here where one is needed",
        ),
        (&["--type", "text/plain", "--key", "p256.key", "text"], 2, "`--type`: `text/plain` is not known"),
        (
            &["--type", "sbom", "text"],
            2,
            "expected one of `spdx`, `cyclonedx`, `slsaprovenance1` or a media type",
        ),
        (&["text"], 2, "no kind of file to attach was given"),
        (&["--type", "spdx"], 2, "no file to attach was given"),
        (&["--type", "spdx", "missing"], 1, "cannot read `missing`"),
        (&["--type", "spdx", "--identity", "r.io/a", "text"], 2, "`--identity` works with `--key` only"),
    ] {
        refused(lab.run(&[&["attach", "--tar", "app.tar"], words].concat()), code, &[expected]);
    }
    assert_eq!(lab.read("app.tar"), before);
    let _ = lab.run(&["attach", "--tar", "app.tar", "--type", "text/plain", "text"]).succeeds();
    // A statement is what this type is.
    let words = ["--type", "application/vnd.in-toto+json", "statement.json"];
    let _ = lab.run(&[&["attach", "--tar", "app.tar"], &words[..]].concat()).succeeds();
    let words =
        ["sign", "--tar", "app.tar", "--key", "p256.key", "--signature-format", "bundle", "-a", "x=y"];
    refused(lab.run(&words), 2, &["`--annotation` works with `--signature-format simplesigning` only"]);
}

#[test]
fn verify_of_an_image_in_a_registry_verifies_its_signatures() {
    let (lab, registry) = (lab(), Registry::start());
    let one = published(&lab, &registry);
    let verify = |words: &[&str]| lab.run(&[&["verify", "-i", &one], words].concat());
    refused(verify(&[]), 2, &["`--image` works with `--key` only"]);
    refused(verify(&["--key", "p256.pub"]), 3, &[&format!("image `{}` has no signature", digest(&one))]);
    let _ = lab.run(&["sign", "-i", &one, "--key", "p256.key"]).succeeds();
    prints(verify(&["--key", "p256.pub"]), &format!("/src/one@{}: verified", digest(&one)));
    refused(verify(&["--key", "ed25519.pub"]), 3, &["it was made with another key"]);
    refused(verify(&["--key", "p256.pub", "--identity", "reg.example/b"]), 3, &["expected `reg.example/b`"]);
    let wrong = format!("sha256:{}", "0".repeat(64));
    refused(verify(&["--key", "p256.pub", "--expected-digest", &wrong]), 3, &[&wrong]);
    let json = verify(&["--key", "p256.pub", "--json"]).succeeds().json();
    assert_eq!(json["digest"], digest(&one));
    assert_eq!(json["signatures"][0]["statements"][0]["verdict"], "accepted");
}

#[test]
fn sign_recursive_in_a_registry_signs_the_images_that_a_bundle_names() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let one = published(&lab, &source);
    let all = bundle(&lab, &format!("{}/src/b:v1", source.host()), "b", &[&one]);
    let elsewhere = format!("{}/src/b@{}", source.host(), digest(&all));
    let sign = |image: &str| lab.run(&["sign", "-i", image, "--key", "p256.key", "--recursive"]);
    // The image is in another repository, so verifiers would not look for its signature beside the bundle.
    refused(sign(&elsewhere), 1, &["which the bundle names, is not in", "imgrelay copy -b"]);
    let to = format!("{}/b", target.host());
    let _ = lab.run(&["copy", "-b", &all, "--to-repo", &to]).succeeds();
    let output = sign(&format!("{to}@{}", digest(&all))).succeeds();
    for image in [&all, &one] {
        assert!(output.stdout.contains(&format!("{}: signed", digest(image))), "{output}");
        let there = format!("{to}@{}", digest(image));
        prints(lab.run(&["verify", "-i", &there, "--key", "p256.pub", "--identity", &to]), ": verified");
    }
}
