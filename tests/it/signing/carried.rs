//! Signatures and attestations travel with their image; a sink without room for them says how many it leaves out.

use super::keys;
use crate::copy::index::lab_with_tars;
use crate::lab::{Lab, lab};
use crate::layouts::Layout;

/// Signs the image of a tar and attaches a signed statement to it.
fn signed(lab: &Lab, tar: &str) {
    keys::put(lab);
    lab.write("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    let _ = lab.run(&["sign", "--tar", tar, "--key", "p256.key"]).succeeds();
    let attach = ["attach", "--tar", tar, "--type", "cyclonedx", "--key", "p256.key", "sbom.json"];
    let _ = lab.run(&attach).succeeds();
}

#[test]
fn what_is_left_out_is_counted_by_kind() {
    let lab = lab();
    lab.write("app.tar", Layout::simple().tar());
    signed(&lab, "app.tar");
    let docker = |expected: &str| {
        let output = lab.run(&["copy", "--tar", "app.tar", "--to-docker-tar", "docker.tar"]).succeeds();
        let _ = output.says(&format!("{expected} left out, because docker's tar cannot hold them"));
    };
    docker("1 signature and 1 attestation");
    let _ = lab.run(&["sign", "--tar", "app.tar", "--key", "ed25519.key"]).succeeds();
    let bundle = ["sign", "--tar", "app.tar", "--key", "p256.key", "--signature-format", "bundle"];
    let _ = lab.run(&bundle).succeeds();
    for kind in ["cyclonedx", "text/plain"] {
        let _ = lab.run(&["attach", "--tar", "app.tar", "--type", kind, "sbom.json"]).succeeds();
    }
    docker("3 signatures, 1 attestation, 1 SBOM and 1 referrer");
    // An image on this base is another one.
    lab.write("files/x", "x");
    let words = ["push", "-i", "reg.example/new:v1", "--base-tar", "app.tar", "-f", "files:/x"];
    let output = lab.run(&[&words[..], &["--to-oci-tar", "new.tar"]].concat()).succeeds();
    let _ = output
        .says("3 signatures, 1 attestation, 1 SBOM and 1 referrer of the base do not cover the new image");
}

#[test]
fn index_of_one_signed_index_keeps_its_signature_and_another_index_leaves_it_out() {
    let lab = lab_with_tars();
    let index = |tars: &[&str], to: &str| {
        let words = [&["index", "--tar"][..], tars, &["--to-oci-tar", to]].concat();
        lab.run(&words).succeeds()
    };
    let digest = |line: String| line.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    let first = digest(index(&["amd64.tar"], "all.tar").one_line().to_owned());
    signed(&lab, "all.tar");
    let again = index(&["all.tar"], "again.tar").never_says("left out");
    assert_eq!(digest(again.one_line().to_owned()), first);
    let verify = ["verify", "--tar", "again.tar", "--key", "p256.pub", "--require", "signature"];
    let words = [&verify[..], &["--require", "attestation:cyclonedx"]].concat();
    let _ = lab.run(&words).succeeds();
    let both = index(&["all.tar", "arm64.tar"], "both.tar");
    let _ = both.says("1 signature and 1 attestation left out, because they are about an index that another");
    // Narrowing an index replaces it too.
    let _ = index(&["amd64.tar", "arm64.tar"], "both.tar");
    signed(&lab, "both.tar");
    let words = ["copy", "--tar", "both.tar", "--platform", "linux/arm64", "--to-oci-tar", "arm.tar"];
    let _ = lab.run(&words).succeeds().says("` replaces `").says("1 signature and 1 attestation of `");
}
