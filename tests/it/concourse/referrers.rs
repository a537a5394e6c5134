//! Signatures, attestations and SBOMs in a pipeline: cosign's tags, and referrers in registries without the referrers
//! API (docker-registry), where an index under a tag is the list.

use serde_json::{Value, json};
use testkit::lab::Lab;
use testkit::registry::{Registry, Request, uploads};
use testkit::tools::{run, tool};
use testkit::{digest, oracle};

use crate::concourse::{room, source, step};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Pushes an artifact without the client under test, and returns its descriptor.
fn artifact(
    registry: &Registry,
    tag: Option<&str>,
    kind: &str,
    content: &str,
    subject: Option<&Value>,
) -> Value {
    let config = registry.put_blob("team/app", b"{}");
    let layer = registry.put_blob("team/app", content.as_bytes());
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
        "config": {"mediaType": EMPTY, "digest": config, "size": 2},
        "layers": [{"mediaType": kind, "digest": layer, "size": content.len()}],
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject.clone();
    }
    let bytes = manifest.to_string();
    let digest = digest::of(bytes.as_bytes());
    let _ = registry.put_manifest("team/app", tag.unwrap_or(&digest), MANIFEST, bytes.as_bytes());
    json!({"mediaType": MANIFEST, "digest": digest, "size": bytes.len(), "artifactType": kind})
}

/// Writes the list of referrers under the fallback tag of the distribution specification.
fn list(registry: &Registry, subject: &str, descriptor: &Value) {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}).to_string();
    let _ = registry.put_manifest("team/app", &subject.replace(':', "-"), INDEX, index.as_bytes());
}

fn raw(registry: &Registry, repository: &str, reference: &str) -> Option<Vec<u8>> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = registry.ask("GET", &path, &[("Accept", &format!("{MANIFEST}, {INDEX}"))], &[]);
    (answer.status == 200).then_some(answer.body)
}

/// A registry with an image, cosign's signature and attestation, an SBOM as referrer, and a signature of the SBOM.
struct Signed {
    registry: Registry,
    digest: String,
    sbom: String,
    signature_of_sbom: String,
}

fn signed(lab: &Lab, image: &str) -> Signed {
    let registry = Registry::start();
    let request =
        json!({"source": source(&registry, &json!({"tag": "v1"})), "params": {"image": "image/image.tar"}});
    let _ = step(lab, "out", &request).succeeds();
    let size = raw(&registry, "team/app", "v1").unwrap().len();
    let subject = json!({"mediaType": MANIFEST, "digest": image, "size": size});
    let tag = |what: &str| format!("{}.{what}", image.replace(':', "-"));
    let _ = artifact(
        &registry,
        Some(&tag("sig")),
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "sig",
        None,
    );
    let _ = artifact(&registry, Some(&tag("att")), "application/vnd.dsse.envelope.v1+json", "att", None);
    let sbom = artifact(&registry, None, "application/spdx+json", "{\"sbom\":1}", Some(&subject));
    list(&registry, image, &sbom);
    let sbom_digest = sbom["digest"].as_str().unwrap().to_owned();
    let nested = artifact(&registry, None, "application/vnd.cncf.notary.signature", "n", Some(&sbom));
    list(&registry, &sbom_digest, &nested);
    let signature_of_sbom = nested["digest"].as_str().unwrap().to_owned();
    Signed { registry, digest: image.to_owned(), sbom: sbom_digest, signature_of_sbom }
}

impl Signed {
    /// Returns which of these manifests another repository has; each must be the same byte for byte.
    fn there(&self, registry: &Registry, repository: &str) -> Vec<&'static str> {
        let tag = |what: &str| format!("{}.{what}", self.digest.replace(':', "-"));
        let mut found = Vec::new();
        for (name, reference) in [
            ("image", self.digest.clone()),
            ("sig", tag("sig")),
            ("att", tag("att")),
            ("sbom", self.sbom.clone()),
            ("signature of sbom", self.signature_of_sbom.clone()),
        ] {
            if let Some(bytes) = raw(registry, repository, &reference) {
                assert_eq!(bytes, raw(&self.registry, "team/app", &reference).unwrap(), "{name}");
                found.push(name);
            }
        }
        found
    }
}

const ALL: [&str; 5] = ["image", "sig", "att", "sbom", "signature of sbom"];

#[test]
fn get_and_put_with_referrers_move_them_to_another_registry() {
    let (lab, digest) = room();
    let signed = signed(&lab, &digest);
    let version = json!({"tag": "v1", "digest": digest});
    let get = |params: Value| {
        let _ = std::fs::remove_dir_all(lab.path("get"));
        let source = source(&signed.registry, &json!({"tag": "v1"}));
        step(&lab, "in", &json!({"source": source, "version": version, "params": params}))
    };
    let got = get(json!({"format": "oci-tar", "referrers": true})).succeeds();
    assert!(got.stderr.contains("with 4 referrers"), "{got}");
    oracle::validate_layout(lab.path("get/image.tar"));
    let _ = std::fs::remove_dir_all(lab.path("put"));
    std::fs::rename(lab.path("get"), lab.path("put")).unwrap();

    let other = Registry::start();
    let put = |repository: &str, params: &Value| {
        let source =
            source(&other, &json!({"repository": format!("{}/{repository}", other.host()), "tag": "x"}));
        step(&lab, "out", &json!({"source": source, "params": params})).succeeds()
    };
    // With `referrers: false` only the image is pushed, with a warning.
    let alone = put("alone/app", &json!({"image": "image.tar", "referrers": false}));
    assert!(
        alone.stderr.contains("holds 4 referrers") && alone.stderr.contains("`referrers: false` leaves out"),
        "{alone}"
    );
    assert_eq!(alone.json()["version"]["digest"], digest.as_str());
    assert_eq!(signed.there(&other, "alone/app"), ["image"]);
    // By default everything that is attached is copied.
    let params = json!({"image": "image.tar", "expected_digest": digest});
    let all = put("all/app", &params).json();
    assert_eq!(all["version"], json!({"tag": "x", "digest": digest}));
    assert_eq!(signed.there(&other, "all/app"), ALL);
    for (subject, referrer) in [(&digest, &signed.sbom), (&signed.sbom, &signed.signature_of_sbom)] {
        let index = raw(&other, "all/app", &subject.replace(':', "-")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(index["manifests"][0]["digest"], referrer.as_str(), "{index}");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
    }
    // The second time nothing is sent, and no list grows.
    other.forget_requests();
    assert_eq!(put("all/app", &params).json(), all);
    assert_eq!(uploads(&other.requests()), Vec::<&Request>::new());
    other.storage().assert_sound();
    // The same from a folder, as other tools unpack it.
    let mut tar = tool("tar");
    std::fs::create_dir(lab.path("put/folder")).unwrap();
    let _ =
        run(tar.arg("-xf").arg(lab.path("put/image.tar")).arg("-C").arg(lab.path("put/folder"))).success();
    let _ = put("folder/app", &json!({"image": "folder", "referrers": true}));
    assert_eq!(signed.there(&other, "folder/app"), ALL);
    // And with the command line, under a new name.
    let to = format!("{}/hand/app:new", other.host());
    let _ = lab.run(&["copy", "--tar", "put/image.tar", "--to-repo", &to]).succeeds();
    assert_eq!(signed.there(&other, "hand/app"), ALL);
    assert!(raw(&other, "hand/app", "new").is_some());
}

#[test]
fn referrers_are_not_requested_without_the_flag() {
    let (lab, digest) = room();
    let signed = signed(&lab, &digest);
    let from = source(&signed.registry, &json!({"tag": "v1"}));
    let version = json!({"tag": "v1", "digest": digest});
    signed.registry.forget_requests();
    let request = json!({"source": from, "version": version, "params": {"format": "oci-tar"}});
    let _ = step(&lab, "in", &request).succeeds();
    let asked = signed.registry.requests();
    assert!(
        asked.iter().all(|request| !request.path.contains("referrers") && !request.path.contains(".sig"))
    );
    for format in ["rootfs", "oci", "oci-layout", "files"] {
        let request =
            json!({"source": from, "version": version, "params": {"format": format, "referrers": true}});
        let refused = step(&lab, "in", &request).ends_with(2);
        assert!(refused.stderr.contains("`params.referrers`: it works with"), "{refused}");
    }
    let files = json!({"files": "image", "kind": "image", "referrers": true});
    let refused = step(&lab, "out", &json!({"source": from, "params": files})).ends_with(2);
    assert!(refused.stderr.contains("`params.referrers`: it belongs to `params.image`"), "{refused}");
}
