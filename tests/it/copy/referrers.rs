//! Attached manifests are copied on request: referrers by `subject`, signatures by cosign's tags.
//!
//! docker-registry has no referrers API, so the list is under the fallback tag; the tests write it at the source and
//! read it at the target. openssl makes and verifies the signatures, as in cosign's specification.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use serde_json::{Value, json};
use testkit::oracle::validate_layout;
use testkit::registry::{Registry, manifests_written};
use testkit::tools::{run, tool};

use crate::carvel::kinds::index;
use crate::carvel::{bundle, bundle_folder, dashed, digest, image};
use crate::lab::{Lab, lab};
use crate::layouts::{INDEX, MANIFEST, descriptor};

/// The referrers in a repository: the subject's digest with the digests of its referrers.
type Attached = BTreeMap<String, BTreeSet<String>>;

/// Pushes a referrer without the program under test.
fn attach(registry: &Registry, repository: &str, subject: &str, what: &str) -> String {
    let config = b"{}";
    let empty = "application/vnd.oci.empty.v1+json";
    let content = format!("{what} of {subject}");
    let subject_bytes = registry.storage().manifest(repository, subject).unwrap();
    let kind: Value = serde_json::from_slice(&subject_bytes).unwrap();
    let subject_kind = kind["mediaType"].as_str().unwrap();
    registry.put_blob(repository, config);
    registry.put_blob(repository, content.as_bytes());
    let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": format!("test/{what}"),
        "config": descriptor(empty, config), "layers": [descriptor("text/plain", content.as_bytes())],
        "subject": descriptor(subject_kind, &subject_bytes), "annotations": {"about": what}})
    .to_string();
    let digest = crate::layouts::hex(document.as_bytes());
    let digest = format!("sha256:{digest}");
    assert_eq!(registry.put_manifest(repository, &digest, MANIFEST, document.as_bytes()), digest);
    // distribution-spec, "Referrers Tag Schema": the client writes the list.
    let tag = subject.replace(':', "-");
    let list = registry.storage().manifest(repository, &tag);
    let mut list: Value = list.map_or_else(
        || json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}),
        |bytes| serde_json::from_slice(&bytes).unwrap(),
    );
    let mut entry = descriptor(MANIFEST, document.as_bytes());
    entry["artifactType"] = json!(format!("test/{what}"));
    entry["annotations"] = json!({"about": what});
    list["manifests"].as_array_mut().unwrap().push(entry);
    let _ = registry.put_manifest(repository, &tag, INDEX, list.to_string().as_bytes());
    digest
}

/// Reads every list of referrers in a repository, and checks that each listed manifest is there with its subject.
fn attached(registry: &Registry, repository: &str) -> Attached {
    let storage = registry.storage();
    let mut found = Attached::new();
    for (tag, _) in storage.tags(repository) {
        let Some(hex) = tag.strip_prefix("sha256-").filter(|hex| hex.len() == 64) else { continue };
        let subject = format!("sha256:{hex}");
        let list: Value = serde_json::from_slice(&storage.manifest(repository, &tag).unwrap()).unwrap();
        assert_eq!(list["mediaType"], INDEX);
        for entry in list["manifests"].as_array().unwrap() {
            let digest = entry["digest"].as_str().unwrap().to_owned();
            let document = storage.manifest(repository, &digest).unwrap_or_else(|| panic!("no {digest}"));
            let document: Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(document["subject"]["digest"], json!(subject));
            assert_eq!(entry["artifactType"], document["artifactType"], "{entry}");
            assert_eq!(entry["annotations"], document["annotations"], "{entry}");
            assert!(found.entry(subject.clone()).or_default().insert(digest), "twice: {list}");
        }
    }
    storage.assert_sound();
    found
}

/// A bundle of an index, with referrers of the bundle, the index, a child, a grandchild, and of a referrer.
fn scene(lab: &Lab, source: &Registry) -> (String, Attached) {
    let (multi, digests) = index(lab, source);
    let all = bundle(lab, &format!("{}/src/b:v1", source.host()), "b", &[&multi]);
    let multi = digest(&multi).to_owned();
    let mut expected = Attached::new();
    let mut add = |repository: &str, subject: &str, what: &str| {
        let new = attach(source, repository, subject, what);
        expected.entry(subject.to_owned()).or_default().insert(new.clone());
        new
    };
    let sbom = add("src/index", &multi, "sbom");
    let _ = add("src/index", &multi, "provenance");
    let _ = add("src/index", &digests[0], "sbom");
    let _ = add("src/index", &digests[2], "scan");
    let _ = add("src/index", &sbom, "signature");
    let _ = add("src/b", digest(&all), "signature");
    (all, expected)
}

#[test]
fn include_referrers_copies_referrers_of_bundles_indexes_and_children() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    let (all, expected) = scene(&lab, &source);
    assert_eq!(expected.values().map(BTreeSet::len).sum::<usize>(), 6);
    let to = |repository: &str| format!("{}/{repository}", target.host());
    let _ = lab.run(&["copy", "-b", &all, "--to-repo", &to("without")]).succeeds();
    assert_eq!(attached(&target, "without"), Attached::new());
    let words = ["copy", "-b", &all, "--to-repo", &to("direct"), "--referrers"];
    let _ = lab.run(&words).succeeds();
    assert_eq!(attached(&target, "direct"), expected);
    // The second time nothing is listed twice.
    let _ = lab.run(&words).succeeds();
    assert_eq!(attached(&target, "direct"), expected);

    let name = all.split_once('@').unwrap().0.to_owned();
    let _ = lab.run(&["copy", "-b", &all, "--to-oci-tar", "thick.tar", "--referrers"]).succeeds();
    let _ = lab.run(&["copy", "-b", &all, "--to-tar", "imgpkg.tar", "--referrers"]).succeeds();
    // The folder gives the same bundle, so the referrers of the pushed one apply to it.
    let words = ["push", "-b", &name, "-f", "b", "--to-oci-tar", "inflated.tar", "--inflate", "--referrers"];
    let _ = lab.run(&words).succeeds();
    source.stop();
    for tar in ["thick.tar", "inflated.tar"] {
        validate_layout(lab.path(tar));
    }
    let without_bundles_own = |found: &Attached| {
        let mut found = found.clone();
        let _ = found.remove(digest(&all));
        found
    };
    for tar in ["thick.tar", "imgpkg.tar", "inflated.tar"] {
        let repository = tar.trim_end_matches(".tar");
        let _ = lab.run(&["copy", "--tar", tar, "--to-repo", &to(repository)]).succeeds();
        let found = attached(&target, repository);
        // A newly packed bundle is in no registry that could have referrers.
        let expected = if tar == "inflated.tar" { without_bundles_own(&expected) } else { expected.clone() };
        assert_eq!(found, expected, "{tar}");
    }
}

#[test]
fn many_referrers_of_one_image_are_all_listed() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    let one = image(&lab, &format!("{}/app", source.host()), "one");
    let expected: BTreeSet<String> =
        (0..24).map(|number| attach(&source, "app", digest(&one), &format!("n{number}"))).collect();
    let to = format!("{}/app", target.host());
    let _ = lab.run(&["copy", "-i", &one, "--to-repo", &to, "--referrers", "--concurrency", "16"]).succeeds();
    assert_eq!(attached(&target, "app")[digest(&one)], expected);
}

/// Makes the signing key.
fn key(lab: &Lab) {
    let key = lab.path("key.pem");
    let _ =
        run(tool("openssl").args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(&key))
            .success();
    let _ =
        run(tool("openssl").args(["ec", "-pubout", "-in"]).arg(&key).arg("-out").arg(lab.path("key.pub")))
            .success();
}

/// Signs an image as cosign does, with openssl, and pushes the signature under cosign's tag.
///
/// Source: sigstore/cosign specs/SIGNATURE_SPEC.md ("Simple Signing", "Storage").
fn sign(lab: &Lab, registry: &Registry, repository: &str, subject: &str) {
    let payload = json!({"critical": {
        "identity": {"docker-reference": format!("{}/{repository}", registry.host())},
        "image": {"docker-manifest-digest": subject}, "type": "cosign container image signature"},
        "optional": null})
    .to_string();
    lab.write("payload", &payload);
    let signature = lab.path("signature");
    let _ = run(tool("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(lab.path("key.pem"))
        .arg("-out")
        .arg(&signature)
        .arg(lab.path("payload")))
    .success();
    let signature = base64::engine::general_purpose::STANDARD.encode(std::fs::read(signature).unwrap());
    let mut layer = descriptor("application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes());
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    let config = json!({"architecture": "", "config": {}, "created": "0001-01-01T00:00:00Z", "history": [],
        "os": "", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}})
    .to_string();
    registry.put_blob(repository, payload.as_bytes());
    registry.put_blob(repository, config.as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()), "layers": [layer]})
    .to_string();
    let tag = format!("{}.sig", subject.replace(':', "-"));
    let _ = registry.put_manifest(repository, &tag, MANIFEST, manifest.as_bytes());
}

/// Verifies a signature as `cosign verify --key` does: finds it by tag, and checks the key and the digest.
fn verify(lab: &Lab, registry: &Registry, repository: &str, subject: &str) {
    let storage = registry.storage();
    let tag = format!("{}.sig", subject.replace(':', "-"));
    let manifest = storage.manifest(repository, &tag).unwrap_or_else(|| panic!("no {repository}:{tag}"));
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layer = &manifest["layers"][0];
    let payload = storage.blob(layer["digest"].as_str().unwrap()).unwrap();
    let about: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(about["critical"]["image"]["docker-manifest-digest"], json!(subject));
    assert!(storage.manifest(repository, subject).is_some(), "what was signed is there");
    let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    lab.write("found.sig", base64::engine::general_purpose::STANDARD.decode(signature).unwrap());
    lab.write("found", payload);
    let checked = run(tool("openssl")
        .args(["dgst", "-sha256", "-verify"])
        .arg(lab.path("key.pub"))
        .arg("-signature")
        .arg(lab.path("found.sig"))
        .arg(lab.path("found")))
    .success();
    assert!(checked.stdout.contains("Verified OK"), "{checked:?}");
}

#[test]
fn signatures_verify_after_every_way_of_copying() {
    let (lab, mut source, target) = (lab(), Registry::start(), Registry::start());
    key(&lab);
    let (multi, digests) = index(&lab, &source);
    let inner = bundle(&lab, &format!("{}/src/inner:v1", source.host()), "inner", &[&multi]);
    let outer = bundle(&lab, &format!("{}/src/outer:v1", source.host()), "outer", &[&inner]);
    // Bundles, an index, and with `--recursive` one of its children.
    let signed = [
        ("src/index", digest(&multi)),
        ("src/index", digests[1].as_str()),
        ("src/inner", digest(&inner)),
        ("src/outer", digest(&outer)),
    ];
    for (repository, subject) in signed {
        sign(&lab, &source, repository, subject);
        verify(&lab, &source, repository, subject);
    }
    let to = |repository: &str| format!("{}/{repository}", target.host());
    let flag = "--cosign-signatures";
    let _ = lab.run(&["copy", "-b", &outer, "--to-repo", &to("direct"), flag]).succeeds();
    for sink in ["--to-oci-tar", "--to-tar"] {
        let _ = lab.run(&["copy", "-b", &outer, sink, sink.trim_start_matches('-'), flag]).succeeds();
    }
    // A bundle that is in no registry includes the signatures of its images.
    bundle_folder(&lab, "fresh", &[&inner]);
    let _ =
        lab.run(&["push", "-b", "-f", "fresh", "--to-oci-tar", "fresh.tar", "--inflate", flag]).succeeds();
    source.stop();
    for tar in ["to-oci-tar", "to-tar", "fresh.tar"] {
        let _ = lab.run(&["copy", "--tar", tar, "--to-repo", &to(tar.trim_end_matches(".tar"))]).succeeds();
    }
    for repository in ["direct", "to-oci-tar", "to-tar", "fresh"] {
        for (_, subject) in signed.iter().filter(|(from, _)| repository != "fresh" || *from != "src/outer") {
            verify(&lab, &target, repository, subject);
        }
        assert!(target.storage().tags(repository).contains_key(&format!("{}.sig", dashed(&inner))));
    }
}

#[test]
fn an_image_keeps_its_signature_through_a_tar() {
    let (lab, source, target) = (lab(), Registry::start(), Registry::start());
    key(&lab);
    let one = image(&lab, &format!("{}/src/one", source.host()), "one");
    sign(&lab, &source, "src/one", digest(&one));
    let from = format!("{}/src/one:latest", source.host());
    let _ = lab.run(&["copy", "-i", &from, "--to-oci-tar", "one.tar", "--cosign-signatures"]).succeeds();
    let to = format!("{}/one:new", target.host());
    let words = ["copy", "--tar", "one.tar", "--to-repo", &to, "--lock-output", "lock.yml"];
    let _ = lab.run(&words).succeeds();
    verify(&lab, &target, "one", digest(&one));
    // A client that reads the tag as soon as it exists finds the signature too.
    let requests = target.requests();
    let written = manifests_written(&requests);
    assert_eq!(written, [digest(&one), &format!("{}.sig", dashed(&one)), "new"]);
    // A signature is no image of the list.
    let lock = String::from_utf8(lab.read("lock.yml")).unwrap();
    let image = format!("- image: {}/one@{}\n", target.host(), digest(&one));
    assert_eq!(lock.matches("image: ").count(), 1, "{lock}");
    assert!(lock.contains(&image), "{lock}");
    // docker's tar cannot hold it.
    let output = lab.run(&["copy", "--tar", "one.tar", "--to-docker-tar", "d.tar"]).succeeds();
    let _ = output.says("1 signature left out, because docker's tar cannot hold them");
    let described = lab.run(&["describe", "--tar", "d.tar", "--json"]).succeeds().json();
    assert_eq!(described["images"].as_array().map(Vec::len), Some(1));
}
