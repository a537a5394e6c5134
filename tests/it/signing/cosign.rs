//! cosign verifies imgrelay's signatures, and imgrelay verifies cosign's.

use testkit::registry::Registry;
use testkit::tools::{Ran, cosign, run};

use super::keys::{self, prints, refused};
use crate::lab::{Lab, lab};
use crate::samples::digest_in;
use crate::serve::Served;

/// cosign in a lab, with the password of the lab's key; `None` if it is not installed.
struct Cosign<'a> {
    lab: &'a Lab,
    test: &'static str,
}

impl<'a> Cosign<'a> {
    fn of(lab: &'a Lab, test: &'static str) -> Option<Self> {
        let _ = cosign(test)?;
        keys::put(lab);
        Some(Self { lab, test })
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = cosign(self.test).expect("it was there");
        command.args(words).current_dir(self.lab.work());
        command.env("HOME", self.lab.work()).env("COSIGN_PASSWORD", keys::PASSWORD);
        run(&mut command)
    }

    /// Verifies with a key and without a transparency log.
    #[track_caller]
    fn verifies(&self, words: &[&str], image: &str) {
        let ran = self.run(&[words, &["--insecure-ignore-tlog=true", image]].concat()).success();
        assert!(
            ran.stderr.contains("The signatures were verified against the specified public key"),
            "{ran:?}"
        );
    }
}

/// Packs a file as an image of a registry's repository `app`, in `app.tar`; returns its digest.
fn packed(lab: &Lab, registry: &Registry) -> String {
    lab.write("app/file", "content\n");
    let name = format!("{}/app:v1", registry.host());
    let output = lab.run(&["push", "-i", &name, "-f", "app", "--to-oci-tar", "app.tar"]).succeeds();
    digest_in(output.one_line()).to_owned()
}

/// Runs with the password of cosign's key.
#[track_caller]
fn with_password(lab: &Lab, words: &[&str]) {
    let _ = lab.command(words).env("COSIGN_PASSWORD", keys::PASSWORD).run().succeeds();
}

#[test]
fn cosign_verifies_what_was_signed_in_a_tar_and_pushed() {
    let (lab, registry) = (lab(), Registry::start());
    let Some(cosign) = Cosign::of(&lab, "cosign_verifies_what_was_signed_in_a_tar_and_pushed") else {
        return;
    };
    let _ = packed(&lab, &registry);
    lab.write("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    // Keys of cosign, of openssl on P-256, and of openssl on Ed25519.
    for key in ["cosign", "p256", "ed25519"] {
        with_password(
            &lab,
            &["sign", "--tar", "app.tar", "--key", &format!("{key}.key"), "-a", "commit=12ab"],
        );
    }
    let attach = ["attach", "--tar", "app.tar", "--type", "cyclonedx", "--key", "cosign.key", "sbom.json"];
    with_password(&lab, &attach);
    let to = format!("{}/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &to, "--verify-key", "cosign.pub"]).succeeds();
    let image = format!("{to}:v1");
    for key in ["cosign", "p256", "ed25519"] {
        cosign.verifies(&["verify", "-a", "commit=12ab", "--key", &format!("{key}.pub")], &image);
    }
    cosign.verifies(&["verify-attestation", "--type", "cyclonedx", "--key", "cosign.pub"], &image);
    let other = cosign.run(&["verify", "--key", "rsa.pub", "--insecure-ignore-tlog=true", &image]);
    assert!(other.code != Some(0), "{other:?}");
    let tree = cosign.run(&["tree", &image]).success();
    assert!(
        tree.stdout.contains("Signatures for an image tag") && tree.stdout.contains("Attestations"),
        "{tree:?}"
    );

    // imgrelay reads the folder of `cosign save`, also without the registry.
    let _ = cosign.run(&["save", "--dir", "saved", &image]).success();
    prints(lab.run(&["verify", "--tar", "saved", "--key", "p256.pub"]), "accepted, key `p256.pub`");
    let again = format!("{}/again", registry.host());
    let words = ["copy", "--tar", "saved", "--to-repo", &again, "--tag", "v2", "--verify-key", "cosign.pub"];
    let _ = lab.run(&words).succeeds();
    cosign.verifies(&["verify", "--key", "cosign.pub"], &format!("{again}:v2"));
}

#[test]
fn cosign_verifies_and_signs_what_is_served() {
    let (lab, registry) = (lab(), Registry::start());
    let Some(cosign) = Cosign::of(&lab, "cosign_verifies_and_signs_what_is_served") else { return };
    let digest = packed(&lab, &registry);
    lab.write("sbom.json", r#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#);
    let _ = lab.run(&["sign", "--tar", "app.tar", "--key", "p256.key"]).succeeds();
    let attach = ["attach", "--tar", "app.tar", "--type", "cyclonedx", "--key", "p256.key", "sbom.json"];
    let _ = lab.run(&attach).succeeds();
    let served = Served::start(&lab, &["--tar", "app.tar"]);
    // Beside the image, under the name that is recorded and under any other one.
    for name in ["app:v1", "team/other:v1", &format!("app@{digest}")] {
        let image = format!("{}/{name}", served.host());
        cosign.verifies(&["verify", "--key", "p256.pub"], &image);
        cosign.verifies(&["verify-attestation", "--type", "cyclonedx", "--key", "p256.pub"], &image);
    }
    let _ = served.stop().succeeds();
    // What cosign signs there is in the tar.
    let served = Served::start(&lab, &["--tar", "app.tar", "--collect", "out.tar"]);
    let image = format!("{}/app@{digest}", served.host());
    let _ = cosign.run(&["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", &image]).success();
    cosign.verifies(&["verify", "--key", "cosign.pub"], &image);
    let _ = served.stop().succeeds();
    let collected = lab.run(&["describe", "--tar", "out.tar", "--json"]).succeeds().json();
    let tag = format!("sha256-{}.sig", digest.strip_prefix("sha256:").unwrap());
    assert!(collected.to_string().contains(&tag), "{collected}");
}

#[test]
fn cosign_loads_and_verifies_a_layout_that_was_signed_here() {
    let (lab, registry) = (lab(), Registry::start());
    let Some(cosign) = Cosign::of(&lab, "cosign_loads_and_verifies_a_layout_that_was_signed_here") else {
        return;
    };
    let digest = packed(&lab, &registry);
    // A tar, unpacked, and a folder that is signed in place.
    for (order, folder) in [(0, "from-tar"), (1, "in-place")] {
        let unpack = || testkit::readers::gnu_untar(&lab.path("app.tar"), &lab.path(folder));
        let tar = if order == 0 { "app.tar" } else { folder };
        if order == 1 {
            let _ = packed(&lab, &registry);
            unpack();
        }
        let _ = lab.run(&["sign", "--tar", tar, "--key", "p256.key"]).succeeds();
        if order == 0 {
            unpack();
        }
        cosign.verifies(&["verify", "--key", "p256.pub", "--local-image"], folder);
        let to = format!("{}/{folder}:v1", registry.host());
        let _ = cosign.run(&["load", "--dir", folder, &to]).success();
        assert_eq!(registry.storage().tags(folder)["v1"], digest);
        cosign.verifies(&["verify", "--key", "p256.pub"], &to);
        prints(lab.run(&["verify", "-i", &to, "--key", "p256.pub"]), &format!("@{digest}: verified"));
    }
}

#[test]
fn what_cosign_signs_is_accepted_with_its_own_keys_and_with_openssls() {
    let (lab, registry) = (lab(), Registry::start());
    let Some(cosign) = Cosign::of(&lab, "what_cosign_signs_is_accepted_with_its_own_keys_and_with_openssls")
    else {
        return;
    };
    let digest = packed(&lab, &registry);
    let image = format!("{}/app@{digest}", registry.host());
    let _ =
        lab.run(&["copy", "--tar", "app.tar", "--to-repo", &format!("{}/app", registry.host())]).succeeds();
    lab.write("slsa.json", r#"{"buildDefinition":{"buildType":"x"},"runDetails":{"builder":{"id":"y"}}}"#);
    refused(lab.run(&["verify", "-i", &image, "--key", "cosign.pub"]), 3, &["has no signature"]);
    // A key that cosign makes, and a key of openssl that cosign imports.
    let _ = cosign.run(&["generate-key-pair", "--output-key-prefix", "made"]).success();
    let _ = cosign
        .run(&["import-key-pair", "--yes", "--key", "ed25519.key", "--output-key-prefix", "taken"])
        .success();
    for key in ["made", "taken"] {
        let private = format!("{key}.key");
        let words = ["sign", "--yes", "--tlog-upload=false", "--key", &private, "-a", "a=b", &image];
        let _ = cosign.run(&words).success();
        prints(lab.run(&["verify", "-i", &image, "--key", &format!("{key}.pub")]), "accepted");
    }
    prints(lab.run(&["verify", "-i", &image, "--key", "ed25519.pub"]), "accepted");
    let attest = ["attest", "--yes", "--tlog-upload=false", "--key", "made.key", "--type", "slsaprovenance1"];
    let _ = cosign.run(&[&attest[..], &["--predicate", "slsa.json", &image]].concat()).success();
    let words = ["copy", "-i", &image, "--to-oci-tar", "signed.tar", "--verify-key", "made.pub"];
    let _ = lab.run(&words).succeeds();
    let words = ["verify", "--tar", "signed.tar", "--key", "made.pub", "--require", "signature"];
    prints(
        lab.run(&[&words[..], &["--require", "attestation:slsaprovenance1"]].concat()),
        "attestation of type",
    );
    // imgrelay signs with cosign's key, and cosign accepts the signature.
    with_password(&lab, &["sign", "-i", &image, "--key", "taken.key", "-a", "c=d"]);
    cosign.verifies(&["verify", "--key", "taken.pub", "-a", "c=d"], &image);
}

#[test]
fn cosign_verifies_what_signature_format_bundle_wrote() {
    let (lab, registry) = (lab(), Registry::start());
    let Some(cosign) = Cosign::of(&lab, "cosign_verifies_what_signature_format_bundle_wrote") else { return };
    let _ = packed(&lab, &registry);
    let sign = ["sign", "--tar", "app.tar", "--key", "p256.key", "--signature-format", "bundle"];
    let _ = lab.run(&sign).succeeds();
    let to = format!("{}/app", registry.host());
    let _ = lab.run(&["copy", "--tar", "app.tar", "--to-repo", &to, "--verify-key", "p256.pub"]).succeeds();
    lab.write("root.json", r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#);
    let words =
        ["verify-attestation", "--new-bundle-format", "--trusted-root", "root.json", "--key", "p256.pub"];
    let kind = ["--type", "https://sigstore.dev/cosign/sign/v1"];
    cosign.verifies(&[&words[..], &kind].concat(), &format!("{to}:v1"));
}
